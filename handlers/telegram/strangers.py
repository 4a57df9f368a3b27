"""Who wrote to the bot and was refused, as far as the stored update tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_EXCERPT = 80


def stranger(body: bytes) -> dict[str, str]:
    """What helps people to recognise whoever sent an update: `name`, `username`, `title`, `text`.

    All of it is what strangers chose to be called; only the id can be relied on.
    """
    try:
        update = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    query = _inner(update, "callback_query")
    message = _inner(update, "message") or _inner(query, "message")
    sender = _inner(query, "from") or _inner(message, "from")
    names = (_text(sender, "first_name"), _text(sender, "last_name"))
    found = {
        "name": " ".join(one for one in names if one),
        "username": _text(sender, "username"),
        "title": _text(_inner(message, "chat"), "title"),
        "text": "" if query else _text(message, "text") or _text(message, "caption"),
    }
    return {key: value for key, value in found.items() if value}


def _inner(value: Any, key: str) -> Mapping[str, Any]:
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        return ""
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else f"{line[: _EXCERPT - 1]}…"
