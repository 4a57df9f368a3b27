"""Calls on the ways in: webhooks and their trial, the Telegram bot and who may write to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from handlers.console.calls import LONGEST_TEXT, Context, Routes, bad, instant, missing, unfit
from handlers.console.gate import VISITOR
from handlers.console.outside import Outside
from handlers.console.shapes import receipt_of
from handlers.http import HttpProblem
from handlers.turns import acknowledge, refused
from service import config
from service.core.model import Accepted, Channel, Refusal
from service.errors import BadInput
from service.store import audit, inbox
from service.store.inbox import Refused, Rung

_LATELY = timedelta(days=7)
_LOOKED_THROUGH = 10_000
_MOST_PENDING = 20
_REFUSED = re.compile(r"the (person|group) (-?[0-9]{1,19}) is not in telegram\.allow")
# Telegram's ids have at most 52 bits.
_LARGEST_ID = 2**52
_NEVER = Rung(0, datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Triggers:
    """Shows the ways in without their secrets, tries them, and lets people in."""

    context: Context
    outside: Outside

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("GET", "/api/triggers", self.show),
            ("POST", "/api/webhooks/{webhook}/ring", self.ring),
            ("POST", "/api/telegram/allow", self.allow),
            ("DELETE", "/api/telegram/allow/{id}", self.disallow),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """The webhooks, and the bot with those who were refused lately."""
        hooks = self.outside.webhooks
        rung = await self.context.database.read(inbox.rings, Channel.WEBHOOK, list(hooks))
        base = (self.outside.public_url or f"{request.scheme}://{request.host}").rstrip("/")
        shown = [
            _webhook_json(name, one, f"{base}/hooks/{name}", rung.get(name, _NEVER))
            for name, one in hooks.items()
        ]
        return web.json_response({"webhooks": shown, "telegram": await self._telegram()})

    async def ring(self, request: web.Request) -> web.Response:
        """Try a webhook: no signature is needed, everything else is as if somebody had posted."""
        name = request.match_info["webhook"]
        if name not in self.outside.webhooks:
            raise missing("webhook")
        body, is_json = _trial(await self.context.object_or_nothing(request, "body", "text"))
        try:
            outcome = await self.outside.ring(name, body, is_json=is_json)
        except BadInput as error:
            raise unfit(str(error)) from error
        if isinstance(outcome, Refusal):
            return refused(outcome)
        await self._note(request[VISITOR].name, name, outcome)
        return acknowledge(receipt_of(outcome))

    async def allow(self, request: web.Request) -> web.Response:
        """Let a person or group write to the bot: 201, and 200 when they could already."""
        telegram = self._configured()
        one = _chat_id((await self.context.object(request, "id")).get("id"))
        if one in telegram.allow:
            return web.json_response({"id": one, "origin": "config"})
        new = await self.outside.allowed.add(one, by=request[VISITOR].name)
        if isinstance(new, Refusal):
            return refused(new)
        return web.json_response({"id": one, "origin": "made"}, status=201 if new else 200)

    async def disallow(self, request: web.Request) -> web.Response:
        """Let somebody write no longer who was allowed here."""
        telegram = self._configured()
        given = request.match_info["id"]
        one = _chat_id(int(given) if re.fullmatch(r"-?[0-9]{1,19}", given) else None)
        if one in telegram.allow:
            detail = f"{one} is allowed by the configuration; take it out of telegram.allow there"
            raise HttpProblem(409, "Conflict", detail)
        if not await self.outside.allowed.drop(one, by=request[VISITOR].name):
            raise HttpProblem(404, "Not found", f"{one} is not allowed")
        return web.Response(status=204)

    # -- shared ------------------------------------------------------------------------------

    def _configured(self) -> config.Telegram:
        if self.outside.telegram is None:
            raise HttpProblem(404, "Not found", "there is no [telegram] section; add one")
        return self.outside.telegram

    async def _note(self, by: str, webhook: str, accepted: Accepted) -> None:
        await self.context.database.write(_note, by, webhook, accepted)

    async def _telegram(self) -> dict[str, Any] | None:
        telegram, bot = self.outside.telegram, self.outside.bot
        if telegram is None:
            return None
        made = await self.outside.allowed.ids()
        username, healthy = bot.identity() if bot else (None, False)
        return {
            "bot": telegram.bot,
            "username": username,
            "healthy": healthy,
            "mode": telegram.mode,
            "agent": telegram.agent,
            "groups": telegram.groups,
            "allow": [
                *({"id": one, "origin": "config"} for one in sorted(telegram.allow)),
                *({"id": one, "origin": "made"} for one in sorted(made - telegram.allow)),
            ],
            "pending": await self._pending(telegram, telegram.allow | made),
        }

    async def _pending(
        self, telegram: config.Telegram, allowed: frozenset[int]
    ) -> list[dict[str, Any]]:
        """Each person and group once that was refused lately, the newest first."""
        found = await self.context.database.read(
            inbox.refused,
            source=telegram.bot,
            since=datetime.now(UTC) - _LATELY,
            most=_LOOKED_THROUGH,
        )
        pending: dict[int, dict[str, Any]] = {}
        for one in found:
            match = _REFUSED.search(one.reason)
            if match is None:
                continue
            number = int(match[2])
            if number in allowed or number in pending or len(pending) == _MOST_PENDING:
                continue
            line = _line({*telegram.allow, number})
            pending[number] = {"id": number, "kind": match[1], **self._told(one), "line": line}
        return list(pending.values())

    def _told(self, refused_: Refused) -> dict[str, Any]:
        known = self.outside.bot.stranger(refused_.body) if self.outside.bot else {}
        return {
            "name": known.get("name"),
            "username": known.get("username"),
            "title": known.get("title"),
            "text": known.get("text"),
            "at": instant(refused_.at),
        }


def _note(conn: sa.Connection, by: str, webhook: str, accepted: Accepted) -> None:
    audit.note(
        conn,
        by,
        "webhook.test",
        session=accepted.session,
        allowed=True,
        at=datetime.now(UTC),
        webhook=webhook,
        turn=accepted.turn,
    )


def _webhook_json(name: str, hook: config.Webhook, url: str, rung: Rung) -> dict[str, Any]:
    deliver = hook.deliver
    calls_back = hook.callback is not None or (deliver is not None and deliver.callback is not None)
    return {
        "name": name,
        "url": url,
        "auth": hook.auth.scheme,
        "agent": hook.agent,
        "composition": hook.composition,
        "reply": hook.reply,
        "session": hook.session,
        "prompt": hook.prompt,
        "callback": calls_back,
        "telegram": deliver.telegram if deliver is not None else None,
        "permit": sorted(hook.permit),
        "approve": sorted(hook.approve),
        "ask": hook.ask,
        "rings": rung.count,
        "last_ring_at": instant(rung.last_at) if rung.count else None,
    }


def _trial(given: Mapping[str, Any]) -> tuple[str, bool]:
    """The body to post, and whether it is JSON."""
    if "body" in given and "text" in given:
        raise bad("give body, which is any JSON, or text; not both")
    if "body" in given:
        return json.dumps(given["body"], ensure_ascii=False), True
    text = given.get("text")
    if not isinstance(text, str):
        raise bad("body: give any JSON here, or a text as text")
    if len(text) > LONGEST_TEXT:
        raise bad(f"text: at most {LONGEST_TEXT} characters")
    return text, False


def _chat_id(given: object) -> int:
    whole = isinstance(given, int) and not isinstance(given, bool)
    if not isinstance(given, int) or not whole or not 0 < abs(given) < _LARGEST_ID:
        raise bad("id: the number of a person or group is needed, such as 11111111")
    return given


def _line(ids: Iterable[int]) -> str:
    """The line of the configuration that lets these write."""
    return f"allow = [{', '.join(map(str, sorted(ids)))}]"
