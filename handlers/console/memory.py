"""Calls on what is remembered: state and knobs, files, what was spent, who tried what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from handlers.console.calls import (
    MOST,
    Context,
    Routes,
    as_object,
    bad,
    is_id,
    missing,
    no_session,
    unfit,
    writable,
)
from handlers.console.gate import VISITOR
from handlers.console.shapes import entry_json, memory_json, spent_json
from handlers.forms import as_download
from handlers.http import query_number
from service.core.model import AttachmentId, SessionId
from service.engine.controls import Command, Controls
from service.engine.memory import Memory
from service.errors import BadInput
from service.store import attachments, audit, spending

_MOST_DAYS = 366


@dataclass(frozen=True, slots=True)
class Remembered:
    """What sessions remember, and what the service has written down."""

    context: Context
    controls: Controls

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("GET", "/api/sessions/{session}/state", self.state),
            ("PATCH", "/api/sessions/{session}/state", self.change_state),
            ("POST", "/api/sessions/{session}/clear", self.clear),
            ("GET", "/api/attachments/{attachment}", self.attachment),
            ("GET", "/api/usage", self.usage),
            ("GET", "/api/audit", self.audit),
        ]

    # -- of a session ------------------------------------------------------------------------

    async def state(self, request: web.Request) -> web.Response:
        """The state of a session, its knobs and its summary."""
        session = await self.context.session(request)
        async with self.controls.steps() as command:
            found = await command.memory(session.id)
        return web.json_response(memory_json(_there(found)))

    async def change_state(self, request: web.Request) -> web.Response:
        """Merge into state and knobs, all or nothing; null takes a value away, a knob's too."""
        session = writable(await self.context.session(request))
        body = await self.context.object(request, "state", "knobs")
        state = as_object(body.get("state", {}), "state")
        knobs = as_object(body.get("knobs", {}), "knobs")
        try:
            async with self.controls.steps() as command:
                found = await _change(command, session.id, state, knobs)
        except BadInput as error:
            raise unfit(str(error)) from error
        return web.json_response(memory_json(found))

    async def clear(self, request: web.Request) -> web.Response:
        """Let what the model is told begin anew; everything that was said is kept."""
        session = writable(await self.context.session(request))
        async with self.controls.steps() as command:
            await command.clear(session.id, by=request[VISITOR].name)
        return web.Response(status=204)

    # -- of the service ----------------------------------------------------------------------

    async def attachment(self, request: web.Request) -> web.Response:
        """The bytes of a file, to be saved and never to be shown as a page."""
        given = request.match_info["attachment"]
        found = None
        if is_id(given):
            found = await self.context.database.read(attachments.get, AttachmentId(given))
        if found is None:
            raise missing("attachment")
        file, data, _ = found
        if data is None:
            raise missing("attachment here: its bytes are still with its channel, or never came")
        return web.Response(body=data, headers=as_download(file.name, file.media_type))

    async def usage(self, request: web.Request) -> web.Response:
        """What agents took on each of the last days (UTC), newest day first."""
        days = query_number(request, "days", default=30, most=_MOST_DAYS)
        if days == 0:
            raise bad(f"days takes a whole number from 1 to {_MOST_DAYS}")
        since = (datetime.now(UTC) - timedelta(days=days - 1)).date()
        found = await self.context.database.read(spending.by_day, since)
        shown = [spent_json(one) for one in found]
        return web.json_response({"since": since.isoformat(), "usage": shown})

    async def audit(self, request: web.Request) -> web.Response:
        """Who tried what, newest first; `next` is the cursor of the page after."""
        limit = query_number(request, "limit", default=50, most=MOST)
        before = request.query.get("cursor")
        if before is not None and not is_id(before):
            raise bad('cursor takes what "next" of the page before said')
        found: Sequence[audit.Entry] = await self.context.database.read(
            audit.newest, limit=limit, before=before
        )
        following = found[-1].id if found and len(found) == limit else None
        shown = [entry_json(one) for one in found]
        return web.json_response({"audit": shown, "next": following})


async def _change(
    command: Command, session: SessionId, state: Mapping[str, Any], knobs: Mapping[str, Any]
) -> Memory:
    before = _there(await command.memory(session))
    defaults = {knob.name: knob.default for knob in before.knobs}
    for name, value in knobs.items():
        await command.set_knob(session, name, defaults.get(name) if value is None else value)
    for name, value in state.items():
        await command.set_state(session, name, value)
    return _there(await command.memory(session))


def _there(found: Memory | None) -> Memory:
    if found is None:
        raise no_session()
    return found
