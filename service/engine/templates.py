"""Templates: stored, checked, saved from projects, and made into projects."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from service.core.dependency import Dependency
from service.core.model import (
    Binding,
    Channel,
    ProjectId,
    Refusal,
    RefusalReason,
    SessionId,
    TurnId,
)
from service.core.project import LONGEST_NAME as LONGEST_PROJECT_NAME
from service.core.project import Project, Share
from service.core.template import (
    LONGEST_TITLE,
    Problem,
    Template,
    TemplateDependency,
    TemplateProblems,
    TemplateSession,
    name_line,
    name_problem,
    parse,
    tidy_line,
    tidy_text,
)
from service.core.template import format as written
from service.core.text import clean, title_of
from service.engine.projects import MOST as MOST_PROJECTS
from service.engine.projects import NewInvestigation, add_session
from service.errors import BadInput
from service.store import audit, investigations, sessions, turns
from service.store import projects as store
from service.store.database import Database
from service.store.ids import new_id
from service.store.investigations import Investigation
from service.store.projects import StoredTemplate
from service.store.sessions import Session

MOST = 500
"""Templates there can be."""
_TRIES = 10


@dataclass(frozen=True, slots=True)
class TemplateView:
    """A template as people see it."""

    stored: StoredTemplate
    template: Template | None
    """None when it was stored by a release that took what this one does not."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What there is to say of a file."""

    name: str | None = None
    formatted: str | None = None
    """The same in the one layout; None when there are problems."""
    problems: Sequence[Problem] = field(default=())


class Templates:
    """Keeps templates. They are everybody's: who may call this is for others to ask."""

    def __init__(self, database: Database, bindings: Mapping[str, Binding]) -> None:
        self._database = database
        self._bindings = bindings

    async def all(self) -> list[TemplateView]:
        """Every template by name."""
        found = await self._database.read(store.templates_all)
        return await asyncio.to_thread(_views, found)

    async def get(self, name: str) -> TemplateView | None:
        """One template, None when there is none."""
        # What cannot be stored cannot have been: PostgreSQL refuses some characters.
        if name != clean(name):
            return None
        found = await self._database.read(store.template, name)
        return None if found is None else _view(found)

    async def check(self, source: str) -> Checked:
        """What is wrong with a file, or how it would be laid out."""
        try:
            template = await asyncio.to_thread(parse, source)
        except TemplateProblems as refused:
            return Checked(problems=refused.problems)
        return Checked(template.name, written(template))

    async def put(self, name: str, source: str, *, by: str) -> tuple[TemplateView, bool] | Refusal:
        """Store a file under the name that stands in it, in place of the one there is.

        Also says whether there was none. Raises TemplateProblems with all.
        """
        template = await asyncio.to_thread(parse, source)
        if template.name != name:
            told = (
                f"this template is called “{template.name}”; the address says “{clean(name)}”: "
                "write the same name in both"
            )
            raise TemplateProblems([Problem(name_line(source), told)])
        return await self._put(template, clean(source), by)

    async def drop(self, name: str, *, by: str) -> Refusal | None:
        """Forget a template; the projects that were made from it stay."""
        if name != clean(name):
            return _unknown(name)
        return await self._database.write(_drop, name, by)

    async def save(
        self, project: ProjectId, name: object, *, by: str
    ) -> tuple[TemplateView, bool] | Refusal:
        """Store what a project is now, without what came of it, as a template of this name.

        Also says whether there was none. Raises BadInput with all that stands in the way.
        """
        if not isinstance(name, str) or name_problem(name) is not None:
            raise BadInput(f"name: {name_problem(name)}")
        template = await self._database.read(_snapshot, project, name, self._bindings)
        if template is None:
            return Refusal(RefusalReason.UNKNOWN, "there is no such project")
        source = written(template)
        checked = await self.check(source)
        if checked.problems:
            # Lines of a file that nobody has seen would help nobody.
            raise BadInput("\n".join(one.message for one in checked.problems))
        return await self._put(template, source, by)

    async def make_project(self, name: str, *, called: str | None, by: str) -> Project | Refusal:
        """Make a project of somebody's from a template. Raises BadInput with every problem."""
        if name != clean(name):
            return _unknown(name)
        return await self._database.write(_make_project, name, called, self._bindings, by)

    async def _put(
        self, template: Template, source: str, by: str
    ) -> tuple[TemplateView, bool] | Refusal:
        stored = StoredTemplate(template.name, source, by, datetime.now(UTC))
        made = await self._database.write(_put, stored, by)
        return made if isinstance(made, Refusal) else (TemplateView(stored, template), made)


def _views(found: Sequence[StoredTemplate]) -> list[TemplateView]:
    return [_view(one) for one in found]


def _view(stored: StoredTemplate) -> TemplateView:
    try:
        return TemplateView(stored, parse(stored.source))
    except TemplateProblems:
        return TemplateView(stored, None)


def _unknown(name: str) -> Refusal:
    return Refusal(RefusalReason.UNKNOWN, f"there is no template {name!r}")


# -- transactions ---------------------------------------------------------------------------------


def _put(conn: sa.Connection, new: StoredTemplate, by: str) -> bool | Refusal:
    names = {one.name for one in store.templates_all(conn)}
    if new.name not in names:
        folded = {one.casefold(): one for one in names}
        if (other := folded.get(new.name.casefold())) is not None:
            detail = f"there is a template {other!r} already; capital letters make no difference"
            return Refusal(RefusalReason.FORBIDDEN, detail)
        if len(names) >= MOST:
            return Refusal(RefusalReason.FORBIDDEN, f"at most {MOST} templates; delete some first")
    made = store.put_template(conn, new)
    _note(conn, by, "store template", name=new.name)
    return made


def _drop(conn: sa.Connection, name: str, by: str) -> Refusal | None:
    if not store.drop_template(conn, name):
        return _unknown(name)
    _note(conn, by, "delete template", name=name)
    return None


def _make_project(
    conn: sa.Connection,
    name: str,
    called: str | None,
    bindings: Mapping[str, Binding],
    by: str,
) -> Project | Refusal:
    found = store.template(conn, name)
    if found is None:
        return _unknown(name)
    made = instantiate(
        conn,
        parse(found.source),
        name=called or name,
        owner=by,
        bindings=bindings,
        at=datetime.now(UTC),
    )
    _note(conn, by, "create project", project=made.id, name=made.name, template=name)
    return made


def _note(conn: sa.Connection, by: str, action: str, **detail: object) -> None:
    audit.note(conn, by, action, session=None, allowed=True, at=datetime.now(UTC), **detail)


# -- from a project -------------------------------------------------------------------------------


def _snapshot(
    conn: sa.Connection, project: ProjectId, name: str, bindings: Mapping[str, Binding]
) -> Template | None:
    """What a project is now. Raises BadInput when that cannot be told in a template."""
    found = store.get(conn, project)
    if found is None:
        return None
    ids = [SessionId(one) for one in store.order(conn, project)]
    held = {one: session for one in ids if (session := sessions.get(conn, one)) is not None}
    asked = investigations.of_many(conn, held)
    titles = _titles(held, asked)
    edges = investigations.dependencies_of(conn, held)
    requests = {one: _request(conn, one, asked[one]) for one in held}
    problems = [
        f"“{titles[one]}” has no request yet; write down what it is to begin with"
        for one in held
        if not requests[one]
    ]
    problems += [
        f"“{titles[one]}” depends on “{edge.title}”, which was deleted; edit its dependencies"
        for one in held
        for edge in edges.get(one, ())
        if edge.upstream not in titles
    ]
    if problems:
        raise BadInput("\n".join(problems))
    usual = found.agent or next(iter(bindings), "")
    return Template(
        name=name,
        description=tidy_text(found.description),
        domain=tidy_line(found.domain),
        prompt=tidy_text(found.prompt),
        agent=found.agent,
        tools=found.tools,
        sessions=tuple(
            TemplateSession(
                title=titles[one],
                request=requests[one],
                schema=asked[one].schema,
                dependencies=_by_title(edges.get(one, ()), titles),
                agent=session.agent if session.agent != usual else None,
            )
            for one, session in held.items()
        ),
    )


def _titles(
    held: Mapping[SessionId, Session], asked: Mapping[SessionId, Investigation]
) -> dict[SessionId, str]:
    """What sessions are called in their template, in the order of the project."""
    titles: dict[SessionId, str] = {}
    for one, session in held.items():
        title = tidy_line(session.title or title_of(asked[one].request or "") or "") or "Untitled"
        titles[one] = _free(title, titles.values(), most=LONGEST_TITLE)
    return titles


def _request(conn: sa.Connection, session: SessionId, asked: Investigation) -> str:
    """What a session begins with, or began with."""
    if asked.request is not None:
        return tidy_text(asked.request)
    first = sessions.history(conn, session, after=0, limit=1)
    return tidy_text(first[0].text) if first else ""


def _by_title(
    edges: Sequence[Dependency], titles: Mapping[SessionId, str]
) -> tuple[TemplateDependency, ...]:
    """The same dependencies by title, in the order of the project."""
    wanted = {one.upstream: one for one in edges}
    return tuple(
        TemplateDependency(title, wanted[one].field, wanted[one].value)
        for one, title in titles.items()
        if one in wanted
    )


# -- to a project ---------------------------------------------------------------------------------


def instantiate(
    conn: sa.Connection,
    template: Template,
    *,
    name: str,
    owner: str,
    bindings: Mapping[str, Binding],
    at: datetime,
    scan: TurnId | None = None,
    private_to: str | None = None,
    members: Mapping[str, Share] | None = None,
) -> Project:
    """Store the project of a template that was read, with its sessions; none of them is begun.

    It is called `name`, or `name 2` and so on when that is taken. With `scan` it is made once:
    the project that is there already is returned. Raises BadInput with every problem.
    """
    if scan is not None and (there := store.of_scan(conn, scan)) is not None:
        return there
    _check(conn, template, bindings)
    new = Project(
        id=ProjectId(new_id()),
        name=name,
        owner=owner,
        created_at=at,
        updated_at=at,
        domain=template.domain,
        description=template.description,
        prompt=template.prompt,
        tools=template.tools,
        agent=template.agent,
        private_to=private_to,
        template=template.name,
        members=members or {},
    )
    project = _insert(conn, new, scan)
    if project.id == new.id:
        _add_sessions(conn, project, template, bindings, at=at, scan=scan)
    return project


def _check(conn: sa.Connection, template: Template, bindings: Mapping[str, Binding]) -> None:
    """Raise BadInput with every reason why the template makes no project here."""
    problems = []
    there_are = f"there are: {', '.join(bindings) or 'none'}"
    named = [("agent", template.agent)]
    named += [(f"“{one.title}”: agent", one.agent) for one in template.sessions]
    for place, agent in named:
        if agent is not None and agent not in bindings:
            problems.append(f"{place}: there is no {agent!r}; {there_are}")
    if template.sessions and not bindings:
        problems.append("agent: none is configured")
    tools = {tool for one in bindings.values() for tool in one.tools}
    problems += [
        f"tools: no agent has {one!r}; there are: {', '.join(sorted(tools)) or 'none'}"
        for one in template.tools or ()
        if one not in tools
    ]
    if store.count(conn) >= MOST_PROJECTS:
        problems.append(f"there are {MOST_PROJECTS} projects; delete some first")
    if problems:
        raise BadInput("\n".join(problems))


def _insert(conn: sa.Connection, new: Project, scan: TurnId | None) -> Project:
    """Store a project under the first name that is free, or get the one of its scan.

    Raises BadInput.
    """
    for _ in range(_TRIES):
        taken = store.names(conn).values()
        named = replace(new, name=_free(new.name, taken, most=LONGEST_PROJECT_NAME))
        if store.insert(conn, named, scan=scan):
            return named
        # Somebody was quicker: by its name, its scan or its person.
        there = store.of_scan(conn, scan) if scan is not None else None
        if there is not None:
            return there
        if new.private_to is not None and store.private_of(conn, new.private_to) is not None:
            raise BadInput(f"{new.private_to!r} has a private project already")
    raise BadInput(f"name: too many projects are called {new.name!r} just now; try again")


def _free(name: str, taken: Collection[str], *, most: int) -> str:
    """The first of `name`, `name 2`, `name 3` … that is not taken, cut so that it fits."""
    folded = {one.casefold() for one in taken}
    found, number = name[:most].rstrip(), 1
    while found.casefold() in folded:
        number += 1
        after = f" {number}"
        found = name[: most - len(after)].rstrip() + after
    return found


def _add_sessions(
    conn: sa.Connection,
    project: Project,
    template: Template,
    bindings: Mapping[str, Binding],
    *,
    at: datetime,
    scan: TurnId | None,
) -> None:
    """Store the sessions of a project that was just made."""
    made = {
        one.title: add_session(
            conn,
            project,
            NewInvestigation(one.title, one.request, one.schema),
            binding=bindings[one.agent or template.agent or next(iter(bindings))],
            owner=project.owner,
            at=at,
            origin=_origin(conn, scan),
            scan=scan,
        )
        for one in template.sessions
    }
    # What a file says of them was checked when it was read.
    for one in template.sessions:
        wanted = [
            Dependency(made[two.title], two.field, two.value, two.title) for two in one.dependencies
        ]
        investigations.depend(conn, made[one.title], wanted)


def _origin(conn: sa.Connection, scan: TurnId | None) -> Channel:
    """By which way the sessions came to be."""
    turn = turns.get(conn, scan) if scan is not None else None
    return Channel.CONSOLE if turn is None else turn.channel
