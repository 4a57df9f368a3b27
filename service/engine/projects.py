"""Projects: made, changed, shared, ordered and deleted, and what new sessions of them are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from service.core import project as reading
from service.core.briefing import Section
from service.core.dependency import Dependency, check, in_order
from service.core.disposition import Schema
from service.core.model import (
    Binding,
    Channel,
    ProjectId,
    Refusal,
    RefusalReason,
    SessionId,
    Source,
    TurnId,
)
from service.core.project import LONGEST_NAME, MOST_MEMBERS, Project, Share
from service.core.template import parse
from service.core.text import clean, numbered, title_of
from service.engine.controls import Controls
from service.engine.scenes import preview
from service.errors import BadInput
from service.ports import Agents
from service.store import audit, investigations, sessions
from service.store import projects as store
from service.store.database import Database
from service.store.ids import new_id
from service.store.investigations import Investigation
from service.store.projects import Figures
from service.store.sessions import NewSession

MOST = 1000
"""Projects there can be."""
LONGEST_TITLE = 200
LONGEST_REQUEST = 200_000
PRIVATE = "private"
"""The template of everybody's own project, if there is one of this name."""
_STAYING = "prompt_user"
_DATA = "data:"
_TRIES = 3
_UNKNOWN = Refusal(RefusalReason.UNKNOWN, "there is no such project")


class Projects:
    """Keeps projects. Who may do what is for others to ask; what was done is written down."""

    def __init__(
        self, database: Database, controls: Controls, agents: Mapping[str, Binding]
    ) -> None:
        self._database = database
        self._controls = controls
        self._agents = agents

    @property
    def tools(self) -> list[str]:
        """The names of the tools that a project may be narrowed to."""
        return sorted({tool for one in self._agents.values() for tool in one.tools})

    async def all(self, *, reader: str | None = None) -> list[tuple[Project, Figures]]:
        """All of them, or those that `reader` may see; the most recently active first."""
        return await self._database.read(store.every, reader=reader)

    async def get(self, project: ProjectId) -> tuple[Project, Figures] | None:
        """One project and how it stands."""
        return await self._database.read(store.figures, project)

    async def make(self, given: Mapping[str, Any], *, by: str) -> Project | Refusal:
        """Make a project of somebody's. Raises BadInput with every problem."""
        found = self._read({"name": None, **given}, owner=by)
        at = datetime.now(UTC)
        new = Project(
            **{"owner": by, **found},
            id=ProjectId(new_id()),
            created_at=at,
            updated_at=at,
        )
        return await self._database.write(_insert, new, by) or new

    async def change(
        self, project: ProjectId, given: Mapping[str, Any], *, by: str
    ) -> Project | Refusal:
        """Change what is given; `members` are all there are then. Raises BadInput with all.

        Whoever hands it over by `owner` stays an editor, unless `members` says otherwise.
        """
        found = await self._database.read(store.get, project)
        if found is None:
            return _UNKNOWN
        changes = self._read(given, owner=found.owner)
        return await self._database.write(_change, project, changes, by)

    async def share(
        self, project: ProjectId, name: str, share: Share | None, *, by: str
    ) -> Project | Refusal:
        """Let somebody edit or see a project, or with None no more. Raises BadInput."""
        return await self._database.write(_share, project, reading.read_name(name), share, by)

    async def order(self, project: ProjectId, given: object) -> Refusal | None:
        """Put the sessions of a project in this order. Raises BadInput."""
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise BadInput("sessions: a list of ids is needed")
        return await self._database.write(_order, project, given)

    async def delete(
        self, project: ProjectId, *, by: str, with_sessions: bool = False
    ) -> Refusal | None:
        """Delete a project for good; one that has sessions only together with all of them.

        A scan that goes on in it is stopped first: it would make its project anew.
        """
        for _ in range(_TRIES):
            held = await self._database.read(_from_the_end, project)
            if held and not with_sessions:
                return _not_empty(len(held))
            scan = await self._database.read(store.scan_of, project)
            if scan is not None:
                async with self._controls.steps() as command:
                    await command.stop_turn(scan, by=by)
            for session in held:
                await self._controls.delete(session, by=by, dependants=True)
            refusal = await self._database.write(_forget, project, by)
            if refusal is None or refusal.reason is RefusalReason.UNKNOWN:
                return refusal
        # Somebody goes on making sessions meanwhile.
        return refusal

    async def private(self, person: str) -> Project | Refusal:
        """The own project of somebody, made if there is none yet. Raises BadInput.

        BadInput: the template that it is to be made from cannot be used.
        """
        found = await self._database.read(store.private_of, person)
        if found is not None:
            return found
        return await self._database.write(_private, person, self._agents)

    async def add(
        self,
        project: ProjectId,
        new: NewInvestigation,
        *,
        by: str,
        agent: str | None = None,
        key: str | None = None,
    ) -> SessionId | Refusal:
        """Make a session of somebody's in a project; the same `key` makes no other one.

        Raises BadInput with every problem.
        """
        return await self._database.write(self._add, project, new, by, agent, key)

    def _add(
        self,
        conn: sa.Connection,
        project: ProjectId,
        new: NewInvestigation,
        by: str,
        agent: str | None,
        key: str | None,
    ) -> SessionId | Refusal:
        found = store.lock(conn, project)
        if found is None:
            return _UNKNOWN
        if key is not None and (known := sessions.by_key(conn, key)) is not None:
            return known.id
        name = agent or found.agent or next(iter(self._agents))
        binding = self._agents.get(name)
        if binding is None:
            raise BadInput(f"agent: there is no {name!r}; there are: {', '.join(self._agents)}")
        at = datetime.now(UTC)
        return add_session(conn, found, new, binding=binding, owner=by, at=at, key=key)

    async def sketch(
        self,
        project: ProjectId,
        new: NewInvestigation,
        agents: Agents,
        *,
        by: str,
        agent: str | None = None,
    ) -> list[Section] | Refusal:
        """What a new session would be told before the conversation; nothing of it is kept.

        Raises BadInput as adding it would.
        """
        return await self._database.write(self._sketch, project, new, agents, by, agent)

    def _sketch(
        self,
        conn: sa.Connection,
        project: ProjectId,
        new: NewInvestigation,
        agents: Agents,
        by: str,
        agent: str | None,
    ) -> list[Section] | Refusal:
        # Made and taken back, so that it is told exactly what it would be told.
        sketched = conn.begin_nested()
        try:
            made = self._add(conn, project, new, by, agent, None)
            return made if isinstance(made, Refusal) else preview(conn, agents, made)
        finally:
            sketched.rollback()

    def _read(self, given: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
        return reading.read(given, owner=owner, tools=self.tools, agents=self._agents)


# -- transactions ---------------------------------------------------------------------------------


def _insert(conn: sa.Connection, new: Project, by: str) -> Refusal | None:
    if (refusal := _no_room(conn) or _taken(conn, new.name)) is not None:
        return refusal
    if not store.insert(conn, new):
        return _is_taken(new.name)
    _note(conn, by, "create project", new)
    return None


def _change(
    conn: sa.Connection, project: ProjectId, changes: Mapping[str, Any], by: str
) -> Project | Refusal:
    found = store.lock(conn, project)
    if found is None:
        return _UNKNOWN
    if found.private_to is not None and {"owner", "members"} & changes.keys():
        return _is_private(found)
    name = changes.get("name", found.name)
    if (refusal := _taken(conn, name, besides=project)) is not None:
        return refusal
    owner = changes.get("owner", found.owner)
    members = _members(found, changes, owner)
    if len(members) > MOST_MEMBERS:
        raise BadInput(f"members: at most {MOST_MEMBERS}")
    new = replace(
        found, **{**changes, "owner": owner, "members": members}, updated_at=datetime.now(UTC)
    )
    if not store.update(conn, new):
        return _is_taken(name)
    if owner != found.owner:
        store.hand_over(conn, project, owner)
        _note(conn, by, "hand over project", new, owner=owner)
    for one in {**found.members, **members}:
        if found.members.get(one) != members.get(one):
            _set_member(conn, new, one, members.get(one), by)
    return new


def _members(found: Project, changes: Mapping[str, Any], owner: str) -> dict[str, Share]:
    """Who is in it from now on besides its owner."""
    if "members" in changes:
        return dict(changes["members"])
    members = {name: share for name, share in found.members.items() if name != owner}
    return members if owner == found.owner else {**members, found.owner: Share.EDITOR}


def _share(
    conn: sa.Connection, project: ProjectId, name: str, share: Share | None, by: str
) -> Project | Refusal:
    found = store.lock(conn, project)
    if found is None:
        return _UNKNOWN
    if found.private_to is not None:
        return _is_private(found)
    if name == found.owner:
        raise BadInput("name: this is the owner; hand the project over first")
    if share is None and name not in found.members:
        return Refusal(RefusalReason.UNKNOWN, f"{name!r} is no member of the project")
    if len({*found.members, name}) > MOST_MEMBERS:
        raise BadInput(f"members: at most {MOST_MEMBERS}")
    _set_member(conn, found, name, share, by)
    members = {one: kept for one, kept in found.members.items() if one != name}
    return replace(found, members=members if share is None else {**members, name: share})


def _set_member(
    conn: sa.Connection, project: Project, name: str, share: Share | None, by: str
) -> None:
    store.set_member(conn, project.id, name, share)
    _note(conn, by, "share project", project, member=name, share=share.value if share else None)


def _order(conn: sa.Connection, project: ProjectId, given: Sequence[str]) -> Refusal | None:
    if store.lock(conn, project) is None:
        return _UNKNOWN
    held = store.order(conn, project)
    if sorted(given) != sorted(held):
        foreign = sorted(set(given) - set(held))
        detail = f"; {clean(foreign[0])!r} is none of them" if foreign else ""
        raise BadInput(f"sessions: every session of the project is needed once{detail}")
    store.set_order(conn, given)
    return None


def _from_the_end(conn: sa.Connection, project: ProjectId) -> list[SessionId]:
    """The sessions of a project, those that wait for others before these."""
    held = [SessionId(one) for one in store.held(conn, project)]
    waiting = investigations.dependencies_of(conn, held)
    edges = {one: [edge.upstream for edge in waiting.get(one, ())] for one in held}
    return in_order(edges)[::-1]


def _forget(conn: sa.Connection, project: ProjectId, by: str) -> Refusal | None:
    found = store.lock(conn, project)
    if found is None:
        return _UNKNOWN
    if not store.delete(conn, project):
        return _not_empty(len(store.held(conn, project)))
    _note(conn, by, "delete project", found)
    return None


def _private(conn: sa.Connection, person: str, agents: Mapping[str, Binding]) -> Project | Refusal:
    found = store.private_of(conn, person)
    if found is not None:
        return found
    if (refusal := _no_room(conn)) is not None:
        return refusal
    name = numbered(f"Private: {person}"[: LONGEST_NAME - 5], store.names(conn).values())
    try:
        made = _make_private(conn, person, name, agents)
    except BadInput as error:
        made = None
        # Two at once: the other one was quicker. Anything else is told.
        if store.private_of(conn, person) is None:
            raise BadInput(f"the template {PRIVATE!r} cannot be used: {error}") from error
    if made is None:
        return store.private_of(conn, person) or _is_taken(name)
    _note(conn, person, "create project", made)
    return made


def _make_private(
    conn: sa.Connection, person: str, name: str, agents: Mapping[str, Binding]
) -> Project | None:
    at = datetime.now(UTC)
    template = store.template(conn, PRIVATE)
    if template is not None:
        # It needs what is said here about new sessions.
        from service.engine.templates import instantiate

        made: Project = instantiate(
            conn,
            parse(template.source),
            name=name,
            owner=person,
            bindings=agents,
            at=at,
            private_to=person,
        )
        return made
    new = Project(ProjectId(new_id()), name, person, at, at, private_to=person)
    return new if store.insert(conn, new) else None


def _no_room(conn: sa.Connection) -> Refusal | None:
    if store.count(conn) < MOST:
        return None
    return Refusal(RefusalReason.FORBIDDEN, f"there are {MOST} projects; delete some first")


def _taken(conn: sa.Connection, name: str, *, besides: ProjectId | None = None) -> Refusal | None:
    others = [one for id_, one in store.names(conn).items() if id_ != besides]
    return _is_taken(name) if _is_among(name, others) else None


def _is_taken(name: str) -> Refusal:
    detail = f"name: there is a project {name!r} already; capital letters make no difference"
    return Refusal(RefusalReason.FORBIDDEN, detail)


def _is_private(project: Project) -> Refusal:
    detail = f"this project is {project.private_to}'s own; make another one to share"
    return Refusal(RefusalReason.FORBIDDEN, detail)


def _not_empty(held: int) -> Refusal:
    detail = f"the project has {held} sessions; delete them with it by ?sessions=delete"
    return Refusal(RefusalReason.FORBIDDEN, detail)


def _note(conn: sa.Connection, by: str, action: str, project: Project, **detail: object) -> None:
    audit.note(
        conn,
        by,
        action,
        session=None,
        allowed=True,
        at=datetime.now(UTC),
        project=project.id,
        name=project.name,
        **detail,
    )


# -- new sessions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewInvestigation:
    """What a new session of a project is to find out, and what has to come first."""

    title: str | None = None
    request: str | None = None
    """What it begins with; None when whatever is said first does."""
    schema: Schema | None = None
    dependencies: tuple[Dependency, ...] = ()


def bound(project: Project, binding: Binding) -> Binding:
    """An agent as it works in a project: with those of its tools that are used there.

    Data tools stay, and so does the tool that asks people.
    """
    if project.tools is None:
        return binding
    return replace(binding, tools=tuple(one for one in binding.tools if _stays(project.tools, one)))


def _stays(tools: Collection[str], name: str) -> bool:
    return name in tools or name == _STAYING or name.startswith(_DATA)


def add_session(
    conn: sa.Connection,
    project: Project,
    new: NewInvestigation,
    *,
    binding: Binding,
    owner: str,
    at: datetime,
    origin: Channel = Channel.CONSOLE,
    scan: TurnId | None = None,
    key: str | None = None,
) -> SessionId:
    """Store a session at the end of a project, whose row is locked. Raises BadInput with all.

    A `key` must be free.
    """
    problems = _text_problems(new)
    titles = store.titles(conn, project.id)
    title = None if problems else _title(new, titles)
    if title is not None and new.title is not None and _is_among(title, titles):
        problems.append(f"title: there is a session {title!r} in this project already")
    wanted: Sequence[Dependency] = ()
    try:
        wanted = _checked(conn, project, new)
    except BadInput as error:
        problems.append(str(error))
    if problems:
        raise BadInput("\n".join(problems))
    return _store_session(
        conn,
        NewSession(
            id=SessionId(new_id()),
            binding=bound(project, binding),
            owner=owner,
            source=Source.MANUAL if origin is Channel.CONSOLE else Source.TRIGGER,
            origin=origin,
            key=key,
            title=title,
            titled=new.title is not None,
            busy=binding.busy,
            project=project.id,
            investigated=True,
        ),
        new,
        wanted,
        at=at,
        position=store.next_position(conn, project.id),
        scan=scan,
    )


def _store_session(
    conn: sa.Connection,
    row: NewSession,
    new: NewInvestigation,
    wanted: Sequence[Dependency],
    *,
    at: datetime,
    position: int,
    scan: TurnId | None,
) -> SessionId:
    sessions.insert(conn, [row], at=at, last_event=0)
    request = clean(new.request) if new.request is not None else None
    investigations.insert(
        conn,
        Investigation(row.id, position=position, request=request, schema=new.schema, scan=scan),
    )
    investigations.depend(conn, row.id, wanted)
    return row.id


def _checked(conn: sa.Connection, project: Project, new: NewInvestigation) -> list[Dependency]:
    """What it depends on, each with the title it has now. Raises BadInput."""
    if not new.dependencies:
        return []
    siblings = investigations.siblings(conn, project.id)
    check(None, new.dependencies, siblings=siblings, edges={})
    return [replace(one, title=siblings[one.upstream].title) for one in new.dependencies]


def _text_problems(new: NewInvestigation) -> list[str]:
    problems = []
    if new.title is not None:
        title = _one_line(new.title)
        if not 1 <= len(title) <= LONGEST_TITLE:
            problems.append(f"title: a text of 1 to {LONGEST_TITLE} characters is needed")
    if new.request is not None:
        if not new.request.strip():
            problems.append("request: a text that is not empty is needed, or nothing")
        elif len(new.request) > LONGEST_REQUEST:
            problems.append(f"request: at most {LONGEST_REQUEST} characters")
    return problems


def _title(new: NewInvestigation, taken: Collection[str]) -> str | None:
    """The title that was given, or one of the request that nobody has; None until it begins."""
    if new.title is not None:
        return _one_line(new.title)
    title = title_of(new.request) if new.request is not None else None
    return None if title is None else numbered(title, taken)


def _is_among(title: str, taken: Collection[str]) -> bool:
    return title.casefold() in {one.casefold() for one in taken}


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())


# -- what people want a session to be -------------------------------------------------------------

_OF_A_SESSION = ("title", "request", "schema", "dependencies")
# What is told of one besides may come back with it. A condition that is misspelt may not get lost.
_OF_A_DEPENDENCY = ("session", "field", "value", "title", "unmet")


def read_investigation(given: Mapping[str, Any]) -> NewInvestigation:
    """What somebody wants to be found out, as JSON tells it. Raises BadInput with all."""
    found: dict[str, Any] = {}
    problems = []
    for name in _OF_A_SESSION:
        try:
            found[name] = _READERS[name](given.get(name))
        except BadInput as error:
            problems += str(error).splitlines()
    if problems:
        raise BadInput("\n".join(problems))
    return NewInvestigation(**found)


def read_dependencies(given: object) -> tuple[Dependency, ...]:
    """What a session is to depend on, {session, field?, value?} each. Raises BadInput with all."""
    if given is None:
        return ()
    if not isinstance(given, list):
        raise BadInput("dependencies: a list of {session, field?, value?} is needed")
    problems = []
    for place, one in enumerate(given):
        fields = one if isinstance(one, Mapping) else {}
        problems += [
            f"dependencies.{place}: there is no {name[:60]!r}; give session, field and value"
            for name in fields
            if name not in _OF_A_DEPENDENCY
        ]
        condition = (fields.get("field"), fields.get("value"))
        if not isinstance(fields.get("session"), str):
            problems.append(f"dependencies.{place}: session, the id of one, is needed")
        elif condition != (None, None) and not all(isinstance(two, str) for two in condition):
            problems.append(f"dependencies.{place}: give field and value as texts, or neither")
    if problems:
        raise BadInput("\n".join(problems))
    return tuple(
        Dependency(SessionId(one["session"]), one.get("field"), one.get("value")) for one in given
    )


def _read_title(given: object) -> str | None:
    return _maybe_text("title", given)


def _read_request(given: object) -> str | None:
    return _maybe_text("request", given)


def _read_schema(given: object) -> Schema | None:
    return None if given is None else Schema.parse(given)


def _maybe_text(name: str, given: object) -> str | None:
    if given is not None and not isinstance(given, str):
        raise BadInput(f"{name}: a text is needed, or nothing")
    return given


_READERS: Mapping[str, Callable[[object], object]] = {
    "title": _read_title,
    "request": _read_request,
    "schema": _read_schema,
    "dependencies": read_dependencies,
}
