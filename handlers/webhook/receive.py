"""The webhook channel's routes: ring, read the result, follow the reply."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from aiohttp import web

from handlers.forms import (
    Form,
    check_files,
    declared_name,
    extension,
    is_form,
    new_file,
    parse_form,
)
from handlers.http import (
    BodyLimits,
    HttpProblem,
    bearer,
    cursor,
    idempotency_key,
    parse_json,
    parse_text,
    problem,
    query_number,
    read_body,
)
from handlers.turns import LONGEST_WAIT, Receipt, Telling, follow_turn, refused
from handlers.webhook.hook import Hook
from handlers.webhook.post import UNFIT, Post, directed, ring_of
from service.core.model import (
    Accepted,
    Channel,
    NewAttachment,
    Refusal,
    TurnId,
)
from service.core.signature import verify
from service.core.states import InboxState
from service.engine.controls import Controls
from service.engine.feed import Feed
from service.engine.intake import Intake
from service.engine.results import Result, Results
from service.engine.tokens import TurnTokens
from service.errors import BadInput, BadSignature
from service.failpoints import reach

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# What a template may see of the headers: nothing that proves who the sender is.
_HIDDEN_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_HIDDEN_PARTS = ("signature", "token", "secret", "key")
# A body of these types is no text: it is a file.
_FILE = re.compile(r"(?:image|audio)/.+|application/pdf")


@dataclass(frozen=True)
class Webhooks:
    """Answers posters; one instance for all webhooks."""

    hooks: Mapping[str, Hook]
    intake: Intake
    feed: Feed
    results: Results
    tokens: TurnTokens
    limits: BodyLimits
    public_url: str | None = None
    controls: Controls = field(kw_only=True)

    def routes(self) -> list[web.RouteDef]:
        """The routes to serve."""
        return [
            web.post("/hooks/{name}", self.ring),
            web.get("/hooks/{name}/turns/{turn}", self.result),
            web.get("/hooks/{name}/turns/{turn}/events", self.events),
        ]

    async def ring(self, request: web.Request) -> web.StreamResponse:
        """Verify, then parse, then accept; answer in the way the poster asked for."""
        hook = self._hook(request)
        if hook.scheme == "bearer":
            # The header says it all: strangers do not get to send a body.
            _verified(hook, request, b"")
        body = await read_body(request, self._limits_for(request))
        delivery = _verified(hook, request, body)
        reach("webhook.verified")
        key, strict = _event_key(request, delivery)
        if request.headers.get("X-GitHub-Event") == "ping":
            return await self._pong(hook, key, body)
        post = self._read(request, hook, body)
        try:
            ring = ring_of(hook, key, post, strict=strict)
            ring = await directed(hook, ring, post, self.controls)
        except BadInput as error:
            return await self._quarantine(hook, key, post.kept, str(error))
        outcome = await self.intake.accept(ring)
        reach("webhook.accepted")
        if isinstance(outcome, Refusal):
            return refused(outcome)
        return await Telling(self.feed, self.results).tell(
            request,
            self._receipt(hook, outcome),
            stream=hook.reply == "stream",
            wait=hook.wait if hook.reply == "wait" else None,
        )

    async def result(self, request: web.Request) -> web.StreamResponse:
        """The turn as it is, or once it is final when `wait` asks for that."""
        result = await self._own_turn(request)
        most = int(LONGEST_WAIT.total_seconds())
        seconds = query_number(request, "wait", default=0, most=most)
        if seconds and not result.final:
            waited = await self.results.wait(result.turn.id, timeout=timedelta(seconds=seconds))
            result = waited or result
        return web.json_response(result.as_json())

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The turn's events as SSE: 204 after the end, 410 when the place is gone."""
        result = await self._own_turn(request)
        return await follow_turn(request, self.feed, result, after=cursor(request))

    def _hook(self, request: web.Request) -> Hook:
        hook = self.hooks.get(request.match_info["name"])
        if hook is None:
            raise HttpProblem(404, "Not found", "there is no webhook of this name")
        return hook

    async def _own_turn(self, request: web.Request) -> Result:
        """The turn of the path, when the token is its own and it came through this webhook."""
        hook = self._hook(request)
        turn = TurnId(request.match_info["turn"])
        token = bearer(request)
        if token is None:
            raise HttpProblem(
                401,
                "Unauthorized",
                "send the turn's token: Authorization: Bearer …",
                {"WWW-Authenticate": "Bearer"},
            )
        result = await self.results.get(turn) if self.tokens.verify(turn, token) else None
        mine = result is not None and result.turn.channel is Channel.WEBHOOK
        if result is None or not mine or result.turn.trigger != hook.name:
            raise HttpProblem(404, "Not found", "there is no such turn, or the token is another's")
        return result

    def _limits_for(self, request: web.Request) -> BodyLimits:
        """Who posts is known only by what they post: strangers get room for one large file."""
        type_ = request.content_type
        return self.limits.with_files(1) if is_form(type_) or _is_file(type_) else self.limits

    def _read(self, request: web.Request, hook: Hook, body: bytes) -> Post:
        values: dict[str, Any] = {"webhook": hook.name}
        if "query" in hook.names:
            values["query"] = dict(request.query)
        if "headers" in hook.names:
            values["headers"] = _visible(request.headers)
        type_ = request.content_type
        if is_form(type_):
            form = parse_form(request.headers.get("Content-Type", ""), body, self.limits)
            payload = _payload(form)
            text = json.dumps(payload, ensure_ascii=False) if payload else ""
            return Post(body, {**values, "body": text, "payload": payload}, form.files)
        if _is_file(type_):
            files = [_file(request, hook, body)]
            check_files(files, self.limits)
            return Post(body, {**values, "body": ""}, tuple(files))
        values["body"] = parse_text(body)
        if _is_json(type_):
            values["payload"] = parse_json(body, self.limits)
        return Post(body, values)

    async def _pong(self, hook: Hook, key: str, body: bytes) -> web.Response:
        await self.intake.note(
            Channel.WEBHOOK,
            hook.name,
            key,
            state=InboxState.IGNORED,
            reason="GitHub's ping",
            body=body,
        )
        return web.json_response({"pong": True})

    async def _quarantine(self, hook: Hook, key: str, body: bytes, why: str) -> web.Response:
        """Keep a post the templates do not fit, and say so.

        Its own key stays free: once the template is mended, the same delivery is welcome.
        """
        await self.intake.note(
            Channel.WEBHOOK,
            hook.name,
            UNFIT + key,
            state=InboxState.QUARANTINED,
            reason=why,
            body=body,
        )
        return problem(422, "Unprocessable content", why, kept=True)

    def _receipt(self, hook: Hook, accepted: Accepted) -> Receipt:
        status_url = self._status_url(hook, accepted)
        token = self.tokens.issue(accepted.turn)
        body = {
            "turn": accepted.turn,
            "session": accepted.session,
            "token": token,
            "duplicate": accepted.duplicate,
            "status_url": status_url,
            "events_url": f"{status_url}/events",
        }
        headers = {
            "X-Ringback-Turn": accepted.turn,
            "X-Ringback-Session": accepted.session,
            "X-Ringback-Token": token,
            "Location": status_url,
        }
        return Receipt(accepted, body, headers)

    def _status_url(self, hook: Hook, accepted: Accepted) -> str:
        base = (self.public_url or "").rstrip("/")
        return f"{base}/hooks/{hook.name}/turns/{accepted.turn}"


def _verified(hook: Hook, request: web.Request, body: bytes) -> str | None:
    """The sender's delivery id, if it has one. Raises HttpProblem 401."""
    try:
        return verify(hook.scheme, hook.secrets, request.headers, body, now=datetime.now(UTC))
    except BadSignature as error:
        log.warning("webhook.refused", webhook=hook.name, reason=str(error))
        raise HttpProblem(
            401,
            "Unauthorized",
            f"this webhook takes requests signed with scheme {hook.scheme!r}; "
            "the signature, its time or the secret does not fit",
            {"WWW-Authenticate": "Bearer"} if hook.scheme == "bearer" else {},
        ) from error


def _event_key(request: web.Request, delivery: str | None) -> tuple[str, bool]:
    """What makes a repeat recognisable, and whether it must come with the same body.

    The sender's own delivery id, else `Idempotency-Key`, else nothing repeats.
    """
    if delivery is not None:
        if not _KEY.fullmatch(delivery):
            raise HttpProblem(
                400, "Bad request", "the delivery id must be 1 to 255 printable characters"
            )
        return delivery, False
    key = idempotency_key(request)
    return (str(uuid.uuid4()), False) if key is None else (f"key:{key}", True)


def _payload(form: Form) -> dict[str, str | Sequence[str]]:
    """The fields by name; those that come several times as lists."""
    found: dict[str, list[str]] = {}
    for name, value in form.fields:
        found.setdefault(name, []).append(value)
    return {name: one[0] if len(one) == 1 else one for name, one in found.items()}


def _file(request: web.Request, hook: Hook, body: bytes) -> NewAttachment:
    type_ = request.content_type
    name = declared_name(request.headers.get("Content-Disposition", ""))
    return new_file(name or f"{hook.name}{extension(type_)}", type_, body)


def _is_file(content_type: str) -> bool:
    return _FILE.fullmatch(content_type) is not None


def _visible(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() not in _HIDDEN_HEADERS
        and not any(part in name.lower() for part in _HIDDEN_PARTS)
    }


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")
