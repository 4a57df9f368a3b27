"""Calls on what went wrong: deliveries and things received, and another try with them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web

from handlers.console.calls import MOST, Context, Routes, bad, is_id, missing, text_of, unfit
from handlers.console.gate import VISITOR
from handlers.console.rights import reader_of
from handlers.http import query_number
from handlers.turns import refused
from service.core.model import Channel, DeliveryId, Refusal
from service.core.states import DeliveryState, InboxState
from service.core.text import clean
from service.engine.replays import Replays
from service.errors import BadInput
from service.store import deliveries, inbox

_LONGEST_KEY = 1000


@dataclass(frozen=True, slots=True)
class Replaying:
    """Lists deliveries and things received, and tries them again."""

    context: Context
    replays: Replays

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("GET", "/api/deliveries", self.list_deliveries),
            ("POST", "/api/deliveries/{delivery}/replay", self.replay_delivery),
            ("GET", "/api/inbox", self.list_inbox),
            ("POST", "/api/inbox/replay", self.replay_received),
        ]

    async def list_deliveries(self, request: web.Request) -> web.Response:
        """The newest deliveries, of one state when `state` names it; `next` is a cursor."""
        state = _choice(request, "state", DeliveryState)
        limit = query_number(request, "limit", default=50, most=MOST)
        before = request.query.get("cursor")
        if before is not None and not is_id(before):
            raise bad('cursor takes what "next" of the page before said')
        found = await self.context.database.read(
            deliveries.newest,
            state=state,
            limit=limit,
            before=before,
            reader=reader_of(request[VISITOR]),
        )
        following = found[-1]["delivery"] if found and len(found) == limit else None
        return web.json_response({"deliveries": found, "next": following})

    async def replay_delivery(self, request: web.Request) -> web.Response:
        """Send a failed or uncertain delivery again: 202 with the new one."""
        given = request.match_info["delivery"]
        if not is_id(given):
            raise missing("delivery")
        confirm = (await self.context.object_or_nothing(request, "confirm")).get("confirm", False)
        if not isinstance(confirm, bool):
            raise bad("confirm: true or false is needed")
        new = await self.replays.deliver(
            DeliveryId(given), confirmed=confirm, by=request[VISITOR].name
        )
        if isinstance(new, Refusal):
            return refused(new)
        return web.json_response({"delivery": new, "replaces": given}, status=202)

    async def list_inbox(self, request: web.Request) -> web.Response:
        """The newest things received, of one state when `state` names it."""
        state = _choice(request, "state", InboxState)
        limit = query_number(request, "limit", default=50, most=MOST)
        found = await self.context.database.read(
            inbox.newest, state=state, limit=limit, reader=reader_of(request[VISITOR])
        )
        return web.json_response({"inbox": found})

    async def replay_received(self, request: web.Request) -> web.Response:
        """Try again what is in quarantine; what it became, 422 when it is still not understood."""
        body = await self.context.object(request, "channel", "source", "event_key")
        names = [one.value for one in Channel]
        if body.get("channel") not in names:
            raise bad(f"channel: one of {', '.join(names)} is needed")
        source, key = (
            clean(text_of(body, name, most=_LONGEST_KEY)) for name in ("source", "event_key")
        )
        try:
            outcome = await self.replays.receive(
                Channel(body["channel"]), source, key, by=request[VISITOR].name
            )
        except BadInput as error:
            raise unfit(f"it still cannot be understood: {error}") from error
        if isinstance(outcome, Refusal):
            return refused(outcome)
        return web.json_response(
            {"state": outcome.state.value, "reason": outcome.reason, "turn": outcome.turn}
        )


def _choice(request: web.Request, name: str, states: type[StrEnum]) -> str | None:
    given = request.query.get(name)
    known = [state.value for state in states]
    if given is not None and given not in known:
        raise bad(f"{name} takes one of {', '.join(known)}")
    return given
