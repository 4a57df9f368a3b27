"""The parameters of a call: from the query, a form, a multipart form or a JSON body."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from service.demo.bot_api.refusal import Json, Refused

# In forms these are JSON inside a string; what the server says when they are not.
_NESTED = {
    "entities": "can't parse entities JSON object",
    "reply_markup": "can't parse reply keyboard markup JSON object",
    "reply_parameters": "can't parse reply parameters JSON object",
    "link_preview_options": "can't parse link preview options JSON object",
    "allowed_updates": "can't parse allowed updates JSON object",
    "commands": "can't parse commands list JSON object",
    "scope": "can't parse BotCommandScope JSON object",
    "reaction": "can't parse reaction type list JSON object",
}
_YES = frozenset({"true", "yes", "1"})


async def read(request: web.Request) -> Json:
    """Every parameter by name; files are told by name and size. Raises Refused."""
    params: Json = dict(request.query)
    if request.content_type == "application/json":
        return params | _object(await request.text())
    for name, value in (await request.post()).items():
        params[name] = _file(value) if isinstance(value, web.FileField) else value
    for name in _NESTED.keys() & params.keys():
        params[name] = _nested(name, params[name])
    return params


def integer(params: Json, name: str) -> int | None:
    """A whole number, which may come as a string; None when it was not given."""
    value = params.get(name)
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Refused(400, f"{name} must be an integer") from None


def flag(params: Json, name: str) -> bool:
    """Whether a switch is on; it may come as a string."""
    return str(params.get(name, "")).lower() in _YES


def strings(params: Json, name: str) -> list[str] | None:
    """A list of words; None when it was not given."""
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise Refused(400, f"{name} must be an array")
    return [str(one) for one in value]


def mapping(params: Json, name: str) -> Json:
    """A nested object; empty when it was not given."""
    value = params.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(400, f"object expected as {name.replace('_', ' ')}")
    return value


def _object(text: str) -> Json:
    try:
        given = json.loads(text or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Refused(400, "can't parse JSON object")
    return {name: value for name, value in given.items() if value is not None}


def _nested(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise Refused(400, _NESTED[name]) from None


def _file(field: web.FileField) -> Json:
    return {"file_name": field.filename, "file_size": len(field.file.read())}
