"""Calls on projects: who is in them, what is investigated there, and the one-box start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from handlers.console.calls import (
    LONGEST_TEXT,
    Context,
    Routes,
    bad,
    instant,
    is_id,
    missing,
    text_of,
)
from handlers.console.gate import VISITOR, Visitor
from handlers.console.rights import may_own, may_write, reader_of, require_owner
from handlers.console.rings import Wish
from handlers.console.shapes import receipt_of
from handlers.console.shapes_investigations import investigation_json, preview_json
from handlers.console.steer import Steering
from handlers.http import HttpProblem, idempotency_key
from handlers.turns import refused
from service.core.model import Accepted, ProjectId, Refusal, SessionId
from service.core.project import Project, read_share
from service.core.text import clean
from service.engine.investigations import view_of, views_of
from service.engine.projects import NewInvestigation, Projects, read_investigation
from service.ports import Agents
from service.store import users
from service.store.projects import Figures

_LONGEST_NAME = 255
_OF_A_SESSION = frozenset({"title", "request", "schema", "dependencies", "agent", "start"})
_ONE = "/api/projects/{project}"


@dataclass(frozen=True, slots=True)
class Projecting:
    """Lists, makes, changes, shares and deletes projects; begins sessions in them."""

    context: Context
    projects: Projects
    steering: Steering
    agents: Agents

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("GET", "/api/people", self.people),
            ("GET", "/api/projects", self.list_all),
            ("POST", "/api/projects", self.make),
            ("GET", _ONE, self.one),
            ("PATCH", _ONE, self.change),
            ("DELETE", _ONE, self.delete),
            ("PUT", f"{_ONE}/members/{{name}}", self.share),
            ("DELETE", f"{_ONE}/members/{{name}}", self.unshare),
            ("PUT", f"{_ONE}/order", self.order),
            ("POST", f"{_ONE}/sessions", self.add),
            ("POST", f"{_ONE}/preview", self.preview),
            ("POST", "/api/ask", self.ask),
        ]

    # -- looking -----------------------------------------------------------------------------

    async def people(self, _request: web.Request) -> web.Response:
        """The names of those who sign in with a password, to share projects with."""
        found = await self.context.database.read(users.everybody)
        return web.json_response({"people": [one.name for one in found]})

    async def list_all(self, request: web.Request) -> web.Response:
        """The projects one may see, the most recently active first."""
        visitor = request[VISITOR]
        found = await self.projects.all(reader=reader_of(visitor))
        shown = [project_json(one, figures, visitor) for one, figures in found]
        return web.json_response({"projects": shown})

    async def one(self, request: web.Request) -> web.Response:
        """One project with its sessions, and what one may do there."""
        visitor = request[VISITOR]
        project, figures = await self._found(request)
        shown = {
            **project_json(project, figures, visitor),
            "investigations": await self._investigations(project.id),
            "may_write": may_write(visitor, project),
            "may_own": may_write(visitor, project) and may_own(visitor, project),
            "available_tools": self.projects.tools,
        }
        return web.json_response(shown)

    # -- keeping -----------------------------------------------------------------------------

    async def make(self, request: web.Request) -> web.Response:
        """Make a project: 201. Every problem of it is told at once."""
        body = dict(await self.context.object(request))
        if "owner" in body:
            raise bad("owner: a new project is yours; hand it over afterwards")
        made = await self.projects.make(body, by=request[VISITOR].name)
        if isinstance(made, Refusal):
            return refused(made)
        where = {"Location": f"/api/projects/{made.id}"}
        return await self._shown(request, made.id, status=201, headers=where)

    async def change(self, request: web.Request) -> web.Response:
        """Change a project; who is in it and whose it is only its owner changes."""
        visitor = request[VISITOR]
        project, _ = await self._found(request)
        body = await self.context.object(request)
        if {"owner", "members"} & body.keys():
            require_owner(visitor, project)
        changed = await self.projects.change(project.id, body, by=visitor.name)
        return await self._after(request, project, changed)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a project for good: 204; with ?sessions=delete also all that is in it."""
        visitor = request[VISITOR]
        project, _ = await self._found(request)
        require_owner(visitor, project)
        given = request.query.get("sessions")
        if given not in (None, "delete"):
            raise bad("sessions takes delete, or nothing for a project that has none")
        refusal = await self.projects.delete(
            project.id, by=visitor.name, with_sessions=given is not None
        )
        return web.Response(status=204) if refusal is None else refused(refusal)

    async def share(self, request: web.Request) -> web.Response:
        """Let somebody edit or see a project."""
        visitor = request[VISITOR]
        project, _ = await self._found(request)
        require_owner(visitor, project)
        share = read_share((await self.context.object(request, "share")).get("share"))
        name = request.match_info["name"]
        changed = await self.projects.share(project.id, name, share, by=visitor.name)
        return await self._after(request, project, changed)

    async def unshare(self, request: web.Request) -> web.Response:
        """Let somebody see a project no more: 204."""
        visitor = request[VISITOR]
        project, _ = await self._found(request)
        require_owner(visitor, project)
        name = request.match_info["name"]
        changed = await self.projects.share(project.id, name, None, by=visitor.name)
        return refused(changed) if isinstance(changed, Refusal) else web.Response(status=204)

    async def order(self, request: web.Request) -> web.Response:
        """Put the sessions of a project in another order: 204."""
        project, _ = await self._found(request)
        body = await self.context.object(request, "sessions")
        refusal = await self.projects.order(project.id, body.get("sessions"))
        return web.Response(status=204) if refusal is None else refused(refusal)

    # -- sessions ----------------------------------------------------------------------------

    async def add(self, request: web.Request) -> web.Response:
        """Make a session in a project: 201; with `start` begin it if nothing has to come first."""
        project, _ = await self._found(request)
        body = await self.context.object(request)
        new, agent, start = _wanted(body)
        made = await self._made(request, project, new, agent=agent)
        if isinstance(made, Refusal):
            return refused(made)
        unstarted = None
        if start and new.request is not None:
            outcome = await self._begun(request, made, new.request)
            unstarted = outcome.detail if isinstance(outcome, Refusal) else None
        shown = await self._investigation(made)
        if unstarted is not None:
            shown["unstarted"] = unstarted
        return web.json_response(shown, status=201)

    async def preview(self, request: web.Request) -> web.Response:
        """What a new session would be told before the conversation; nothing is kept."""
        project, _ = await self._found(request)
        new, agent, _ = _wanted(await self.context.object(request))
        by = request[VISITOR].name
        found = await self.projects.sketch(project.id, new, self.agents, by=by, agent=agent)
        if isinstance(found, Refusal):
            return refused(found)
        return web.json_response(preview_json(found, new.request))

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Begin a session in one's own project with a text, and tell as messages do.

        With the same Idempotency-Key the same one.
        """
        body = await self.context.object(request, "text")
        text = clean(text_of(body, "text", most=LONGEST_TEXT))
        project = await self.projects.private(request[VISITOR].name)
        if isinstance(project, Refusal):
            return refused(project)
        key = idempotency_key(request)
        made = await self._made(request, project, NewInvestigation(request=text), key=key)
        if isinstance(made, Refusal):
            return refused(made)
        outcome = await self._begun(request, made, text, key=key)
        if isinstance(outcome, Refusal):
            return refused(outcome)
        receipt = receipt_of(outcome)
        told = replace(receipt, body={**receipt.body, "project": project.id})
        return await self.steering.telling.tell(request, told)

    async def _made(
        self,
        request: web.Request,
        project: Project,
        new: NewInvestigation,
        *,
        agent: str | None = None,
        key: str | None = None,
    ) -> SessionId | Refusal:
        by = request[VISITOR].name
        mine = None if key is None else f"ask:{by}:{key}"
        made = await self.projects.add(project.id, new, by=by, agent=agent, key=mine)
        if not isinstance(made, Refusal):
            # It is no event of its own; whoever looks at the project is told.
            self.steering.telling.feed.announce({made: ()})
        return made

    async def _begun(
        self, request: web.Request, session: SessionId, text: str, *, key: str | None = None
    ) -> Accepted | Refusal:
        return await self.steering.ring(session, Wish(clean(text)), by=request[VISITOR], key=key)

    # -- shared ------------------------------------------------------------------------------

    async def _found(self, request: web.Request) -> tuple[Project, Figures]:
        given = request.match_info["project"]
        found = await self.projects.get(ProjectId(given)) if is_id(given) else None
        if found is None:
            raise missing("project")
        return found

    async def _after(
        self, request: web.Request, project: Project, changed: Project | Refusal
    ) -> web.Response:
        if isinstance(changed, Refusal):
            return refused(changed)
        return await self._shown(request, project.id)

    async def _shown(
        self,
        request: web.Request,
        project: ProjectId,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> web.Response:
        found = await self.projects.get(project)
        if found is None:
            raise missing("project")
        shown = project_json(*found, request[VISITOR])
        return web.json_response(shown, status=status, headers=headers)

    async def _investigations(self, project: ProjectId) -> list[dict[str, Any]]:
        found = await self.context.database.read(views_of, self.agents, project)
        return [investigation_json(one) for one in found]

    async def _investigation(self, session: SessionId) -> dict[str, Any]:
        found = await self.context.database.read(view_of, self.agents, session)
        if found is None:
            raise HttpProblem(409, "Conflict", "the session was just removed")
        return investigation_json(found)


def project_json(project: Project, figures: Figures, visitor: Visitor) -> dict[str, Any]:
    """A project as the API tells it to somebody."""
    share = project.share_of(visitor.name)
    return {
        "project": project.id,
        "name": project.name,
        "domain": project.domain,
        "description": project.description,
        "prompt": project.prompt,
        "tools": None if project.tools is None else list(project.tools),
        "agent": project.agent,
        "owner": project.owner,
        "share": share.value if share else None,
        "private": project.private_to is not None,
        "template": project.template,
        "created_at": instant(project.created_at),
        "updated_at": instant(project.updated_at),
        "members": [{"name": name, "share": one.value} for name, one in project.members.items()],
        "sessions": figures.sessions,
        "results": figures.results,
        "active_at": instant(figures.active_at),
    }


def _wanted(body: Mapping[str, Any]) -> tuple[NewInvestigation, str | None, bool]:
    """What a new session is to be, its agent, and whether it is to begin. Raises HttpProblem."""
    if others := sorted(set(body) - _OF_A_SESSION):
        raise bad(f"{others[0]}: a new session takes {', '.join(sorted(_OF_A_SESSION))}")
    agent = text_of(body, "agent", most=_LONGEST_NAME) if body.get("agent") is not None else None
    start = body.get("start", False)
    if not isinstance(start, bool):
        raise bad("start: true or false is needed")
    new = read_investigation(body)
    if start and new.request is None:
        raise bad("request: what it is to begin with is needed to start it")
    return new, agent, start
