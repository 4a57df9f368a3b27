"""Calls on templates: files to make projects from, and projects saved as such files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from handlers.console.gate import VISITOR
from handlers.console.projects import project_json
from handlers.console.rings import scan_of
from handlers.console.shapes import receipt_of
from handlers.forms import as_download
from handlers.http import idempotency_key, parse_text, problem, read_body
from handlers.turns import Telling, refused
from service.core.model import ProjectId, Refusal, SessionId
from service.core.project import read_name
from service.core.template import Problem, TemplateProblems
from service.core.text import clean
from service.engine.feed import Feed
from service.engine.intake import Intake
from service.engine.templates import Templates, TemplateView
from service.store import projects

_MARKDOWN = "text/markdown"
_ONE = "/api/templates/{template}"


@dataclass(frozen=True, slots=True)
class Templating:
    """Lists, stores, checks and removes templates, and makes projects of them."""

    context: Context
    templates: Templates
    feed: Feed
    intake: Intake
    telling: Telling

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("GET", "/api/templates", self.list_all),
            ("POST", "/api/templates/check", self.check),
            ("GET", _ONE, self.one),
            ("PUT", _ONE, self.put),
            ("DELETE", _ONE, self.remove),
            ("GET", f"{_ONE}/file", self.file),
            ("POST", f"{_ONE}/instantiate", self.instantiate),
            ("POST", f"{_ONE}/scan", self.scan),
            ("POST", "/api/projects/{project}/template", self.save),
        ]

    async def list_all(self, _request: web.Request) -> web.Response:
        """Every template by name."""
        found = await self.templates.all()
        return web.json_response({"templates": [template_json(one) for one in found]})

    async def check(self, request: web.Request) -> web.Response:
        """What is wrong with a file, and how it would be laid out."""
        checked = await self.templates.check(await self._source(request))
        errors = _errors(checked.problems)
        shown = {"errors": errors, "formatted": checked.formatted, "name": checked.name}
        return web.json_response(shown)

    async def one(self, request: web.Request) -> web.Response:
        """One template with its file."""
        return web.json_response(_whole(await self._found(request)))

    async def put(self, request: web.Request) -> web.Response:
        """Store a file under its name: 201, or 200 in place of another; 422 with its errors."""
        name, by = request.match_info["template"], request[VISITOR].name
        try:
            stored = await self.templates.put(name, await self._source(request), by=by)
        except TemplateProblems as refusal:
            return _unreadable(refusal)
        return _stored(stored)

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a template; projects that were made from it stay: 204."""
        name = request.match_info["template"]
        refusal = await self.templates.drop(name, by=request[VISITOR].name)
        return web.Response(status=204) if refusal is None else refused(refusal)

    async def file(self, request: web.Request) -> web.Response:
        """The file to be saved."""
        found = await self._found(request)
        headers = as_download(f"{found.stored.name}.md", _MARKDOWN)
        headers["Content-Type"] = f"{_MARKDOWN}; charset=utf-8"
        return web.Response(body=found.stored.source.encode(), headers=headers)

    async def instantiate(self, request: web.Request) -> web.Response:
        """Make a project of a template: 201; a number follows its name when that is taken."""
        visitor = request[VISITOR]
        body = await self.context.object_or_nothing(request, "name")
        called = read_name(body["name"]) if body.get("name") is not None else None
        try:
            made = await self.templates.make_project(
                request.match_info["template"], called=called, by=visitor.name
            )
        except TemplateProblems as refusal:
            return _unreadable(refusal)
        if isinstance(made, Refusal):
            return refused(made)
        # They are no events of their own; whoever looks at the project is told.
        sessions = await self.context.database.read(projects.held, made.id)
        self.feed.announce({SessionId(one): () for one in sessions})
        found = await self.context.database.read(projects.figures, made.id)
        if found is None:
            raise missing("project")
        where = {"Location": f"/api/projects/{made.id}"}
        return web.json_response(project_json(*found, visitor), status=201, headers=where)

    async def scan(self, request: web.Request) -> web.StreamResponse:
        """Run a template from end to end, in a project of its own, and tell as messages do."""
        found = await self._found(request)
        body = await self.context.object_or_nothing(request, "text")
        name = found.stored.name
        text = text_of(body, "text", most=LONGEST_TEXT) if "text" in body else f"Run {name}"
        ring = scan_of(name, clean(text), by=request[VISITOR].name, key=idempotency_key(request))
        outcome = await self.intake.accept(ring)
        if isinstance(outcome, Refusal):
            return refused(outcome)
        return await self.telling.tell(request, receipt_of(outcome))

    async def save(self, request: web.Request) -> web.Response:
        """Store a project as a template: 201, or 200 in place of another."""
        project = request.match_info["project"]
        if not is_id(project):
            raise missing("project")
        name = (await self.context.object(request, "name")).get("name")
        saved = await self.templates.save(ProjectId(project), name, by=request[VISITOR].name)
        return _stored(saved)

    async def _source(self, request: web.Request) -> str:
        """The file that came, plain or as `source` of a JSON object."""
        if request.content_type == _MARKDOWN:
            return parse_text(await read_body(request, self.context.limits))
        source = (await self.context.object(request, "source")).get("source")
        if not isinstance(source, str):
            raise bad(f"source: a text is needed, or send the file itself as {_MARKDOWN}")
        return source

    async def _found(self, request: web.Request) -> TemplateView:
        found = await self.templates.get(request.match_info["template"])
        if found is None:
            raise missing("template")
        return found


def template_json(view: TemplateView) -> dict[str, Any]:
    """A template as the API tells it."""
    template = view.template
    return {
        "template": view.stored.name,
        "made_by": view.stored.made_by,
        "updated_at": instant(view.stored.updated_at),
        "sessions": len(template.sessions) if template else 0,
        "description": template.description if template else "",
    }


def _whole(view: TemplateView) -> dict[str, Any]:
    return {**template_json(view), "source": view.stored.source}


def _stored(stored: tuple[TemplateView, bool] | Refusal) -> web.Response:
    if isinstance(stored, Refusal):
        return refused(stored)
    view, is_new = stored
    return web.json_response(_whole(view), status=201 if is_new else 200)


def _unreadable(refusal: TemplateProblems) -> web.Response:
    errors = _errors(refusal.problems)
    return problem(422, "Unprocessable content", str(refusal), errors=errors)


def _errors(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [{"line": one.line, "message": one.message} for one in problems]
