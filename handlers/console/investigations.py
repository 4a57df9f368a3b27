"""Calls on what a session is to come to, what it waits for, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from handlers.console.calls import (
    Context,
    Routes,
    as_object,
    checked,
    instant,
    no_session,
    session_id,
    unfit,
)
from handlers.console.gate import VISITOR
from handlers.console.rights import forbidden
from handlers.console.rings import Wish
from handlers.console.shapes import receipt_of
from handlers.console.shapes_investigations import investigation_json, need_json, preview_json
from handlers.console.steer import Steering
from handlers.http import HttpProblem
from handlers.turns import refused
from service.core.access import UserRole
from service.core.model import Refusal, SessionId
from service.engine.investigating import Investigations
from service.engine.investigations import View
from service.engine.projects import read_dependencies
from service.engine.scenes import preview
from service.ports import Agents
from service.store.sessions import Session

_ONE = "/api/sessions/{session}"


@dataclass(frozen=True, slots=True)
class Investigating:
    """Shows and changes investigations, starts them and allows them more."""

    context: Context
    investigations: Investigations
    steering: Steering
    agents: Agents

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("GET", f"{_ONE}/investigation", self.one),
            ("PATCH", f"{_ONE}/investigation", self.change),
            ("GET", f"{_ONE}/preview", self.preview),
            ("POST", f"{_ONE}/start", self.start),
            ("POST", f"{_ONE}/extend", self.extend),
            ("GET", f"{_ONE}/dependencies", self.dependencies),
            ("PUT", f"{_ONE}/dependencies", self.depend),
            ("GET", f"{_ONE}/disposition", self.disposition),
            ("PUT", f"{_ONE}/disposition", self.determine),
            ("POST", f"{_ONE}/disposition/confirm", self.confirm),
        ]

    # -- what it is to come to ---------------------------------------------------------------

    async def one(self, request: web.Request) -> web.Response:
        """How a session stands; also one that is to come to nothing."""
        return web.json_response(whole_json(await self._view(request)))

    async def change(self, request: web.Request) -> web.Response:
        """Change title, request and schema, all of it or nothing."""
        session = session_id(request)
        body = await self.context.object(request)
        return await self._after(
            request,
            await checked(self.investigations.change(session, body, by=_who(request))),
        )

    async def preview(self, request: web.Request) -> web.Response:
        """What its agent would be told before the conversation, as of now."""
        view = await self._view(request)
        sections = await self.context.database.read(preview, self.agents, view.session)
        return web.json_response(preview_json(sections, view.request))

    # -- going on ----------------------------------------------------------------------------

    async def start(self, request: web.Request) -> web.StreamResponse:
        """Begin a session with its request, once, and tell as messages do."""
        view = await self._view(request)
        if view.request is None:
            raise HttpProblem(
                409, "Conflict", "the session has no request to start with; say something instead"
            )
        visitor = request[VISITOR]
        ring = Wish(view.request).ring(
            view.session,
            next(iter(self.steering.agents.values())),
            author=visitor.name,
            admin=visitor.role is UserRole.ADMIN,
        )
        # Whoever starts it a second time, with whichever key, gets the same turn.
        ring = replace(ring, event_key=f"start:{view.session}", starts=True)
        outcome = await self.steering.intake.accept(ring)
        if isinstance(outcome, Refusal):
            return refused(outcome)
        return await self.steering.telling.tell(request, receipt_of(outcome))

    async def extend(self, request: web.Request) -> web.Response:
        """Allow a session further iterations, which in projects is its owner's to do."""
        visitor = request[VISITOR]
        outcome = await self.investigations.extend(
            session_id(request), by=visitor.name, operator=visitor.role is UserRole.ADMIN
        )
        if isinstance(outcome, Session):
            raise forbidden(
                f"only {outcome.owner}, who owns this session, and admins may extend it"
            )
        return await self._after(request, outcome)

    # -- what it waits for -------------------------------------------------------------------

    async def dependencies(self, request: web.Request) -> web.Response:
        """What a session depends on, and what of it does not hold yet."""
        view = await self._view(request)
        return web.json_response({"dependencies": [need_json(one) for one in view.dependencies]})

    async def depend(self, request: web.Request) -> web.Response:
        """Let a session depend on these and no others."""
        session = session_id(request)
        body = await self.context.object(request, "dependencies")
        if not isinstance(body.get("dependencies"), list):
            raise unfit("dependencies: a list of {session, field?, value?} is needed")
        refusal = await checked(self._depend(session, body["dependencies"], _who(request)))
        return refused(refusal) if refusal is not None else await self.dependencies(request)

    async def _depend(self, session: SessionId, given: object, by: str) -> Refusal | None:
        return await self.investigations.depend(session, read_dependencies(given), by=by)

    # -- what it came to ---------------------------------------------------------------------

    async def disposition(self, request: web.Request) -> web.Response:
        """What a session came to, by which schema and whom."""
        return web.json_response(disposition_json(await self._view(request)))

    async def determine(self, request: web.Request) -> web.Response:
        """Set the disposition, or correct it."""
        session = session_id(request)
        body = await self.context.object(request, "values")
        values = as_object(body.get("values"), "values")
        refusal = await checked(self.investigations.determine(session, values, by=_who(request)))
        return refused(refusal) if refusal is not None else await self.disposition(request)

    async def confirm(self, request: web.Request) -> web.Response:
        """Agree to the disposition there is."""
        refusal = await self.investigations.confirm(session_id(request), by=_who(request))
        return refused(refusal) if refusal is not None else await self.disposition(request)

    # -- shared ------------------------------------------------------------------------------

    async def _view(self, request: web.Request) -> View:
        found = await self.investigations.view(session_id(request))
        if found is None:
            raise no_session()
        return found

    async def _after(self, request: web.Request, refusal: Refusal | None) -> web.Response:
        return refused(refusal) if refusal is not None else await self.one(request)


def _who(request: web.Request) -> str:
    name: str = request[VISITOR].name
    return name


def whole_json(view: View) -> dict[str, Any]:
    """A session as one asks for it alone."""
    return {**investigation_json(view), "project": view.project}


def disposition_json(view: View) -> dict[str, Any]:
    """What a session came to."""
    return {
        "values": None if view.disposition is None else dict(view.disposition),
        "schema": view.schema.as_json() if view.schema else None,
        "stale": view.stale,
        "by": view.disposition_by,
        "at": instant(view.disposition_at),
        "confirmed_by": view.confirmed_by,
        "confirmed_at": instant(view.confirmed_at),
    }
