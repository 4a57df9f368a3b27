"""Projects, who is in them, and the templates they are made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from service.core.model import ProjectId, TurnId
from service.core.project import Project, Share
from service.store.tables import (
    attachments,
    deliveries,
    investigations,
    key_results,
    project_members,
    projects,
    sessions,
    tasks,
    templates,
    turns,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """How a project stands in a list."""

    sessions: int
    results: int
    """Promoted ones."""
    active_at: datetime
    """Its newest session update, or its own."""


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A template as it is stored: Markdown that was read without a problem."""

    name: str
    source: str
    made_by: str
    updated_at: datetime


# -- projects -------------------------------------------------------------------------------------


def insert(conn: sa.Connection, new: Project, *, scan: TurnId | None = None) -> bool:
    """Store a project and its members; False when its name, person or scan is taken."""
    row = {
        "id": new.id,
        "owner": new.owner,
        "private_to": new.private_to,
        "template": new.template,
        "scan_id": scan,
        "created_at": new.created_at,
        **_values(new),
    }
    try:
        with conn.begin_nested():
            conn.execute(projects.insert().values(row))
    except IntegrityError:
        return False
    for name, share in new.members.items():
        set_member(conn, new.id, name, share)
    return True


def update(conn: sa.Connection, project: Project) -> bool:
    """Store its name, texts, tools and agent; False when the name is taken."""
    statement = projects.update().where(projects.c.id == project.id).values(_values(project))
    try:
        with conn.begin_nested():
            conn.execute(statement)
    except IntegrityError:
        return False
    return True


def _values(project: Project) -> dict[str, object]:
    return {
        "name": project.name,
        "domain": project.domain,
        "description": project.description,
        "prompt": project.prompt,
        "tools": None if project.tools is None else list(project.tools),
        "agent": project.agent,
        "updated_at": project.updated_at,
    }


def delete(conn: sa.Connection, project: ProjectId) -> bool:
    """Forget a project; False while it has sessions, which go first."""
    held = sa.exists().where(sessions.c.project_id == project)
    gone = conn.execute(projects.delete().where(projects.c.id == project, ~held))
    return gone.rowcount > 0


def lock(conn: sa.Connection, project: ProjectId) -> Project | None:
    """Lock a project: whoever changes its order or its dependencies does so first."""
    conn.execute(sa.select(projects.c.id).where(projects.c.id == project).with_for_update())
    return get(conn, project)


def get(conn: sa.Connection, project: ProjectId) -> Project | None:
    """One project, None when there is none."""
    return _one(conn, projects.c.id == project)


def by_name(conn: sa.Connection, name: str) -> Project | None:
    """The project of this name."""
    return _one(conn, projects.c.name == name)


def private_of(conn: sa.Connection, person: str) -> Project | None:
    """The private project of a person."""
    return _one(conn, projects.c.private_to == person)


def of_scan(conn: sa.Connection, scan: TurnId) -> Project | None:
    """The project that a scan has made."""
    return _one(conn, projects.c.scan_id == scan)


def scan_of(conn: sa.Connection, project: ProjectId) -> TurnId | None:
    """The scan that has made a project; None when somebody else has."""
    found = conn.scalar(sa.select(projects.c.scan_id).where(projects.c.id == project))
    return TurnId(found) if found else None


def count(conn: sa.Connection) -> int:
    """How many there are."""
    return conn.execute(sa.select(sa.func.count()).select_from(projects)).scalar_one()


def names(conn: sa.Connection) -> dict[str, str]:
    """The names of all projects by their ids."""
    return {row.id: row.name for row in conn.execute(sa.select(projects.c.id, projects.c.name))}


def hand_over(conn: sa.Connection, project: ProjectId, owner: str) -> None:
    """Make somebody the owner of a project; they are no member of it any more."""
    set_member(conn, project, owner, None)
    conn.execute(projects.update().where(projects.c.id == project).values(owner=owner))


def figures(conn: sa.Connection, project: ProjectId) -> tuple[Project, Figures] | None:
    """One project and how it stands, None when there is none."""
    found = _with_figures(conn, projects.c.id == project)
    return found[0] if found else None


def every(conn: sa.Connection, *, reader: str | None = None) -> list[tuple[Project, Figures]]:
    """All projects, or those that `reader` may see; the most recently active first."""
    found = _with_figures(conn, sa.true() if reader is None else seen_by(reader))
    return sorted(found, key=lambda one: one[1].active_at, reverse=True)


def _with_figures(
    conn: sa.Connection, which: sa.ColumnElement[bool]
) -> list[tuple[Project, Figures]]:
    number = (
        sa.select(sa.func.count())
        .where(sessions.c.project_id == projects.c.id)
        .correlate(projects)
        .scalar_subquery()
    )
    newest = (
        sa.select(sa.func.max(sessions.c.active_at))
        .where(sessions.c.project_id == projects.c.id)
        .correlate(projects)
        .scalar_subquery()
    )
    promoted = (
        sa.select(sa.func.count())
        .select_from(key_results.join(sessions, sessions.c.id == key_results.c.session_id))
        .where(sessions.c.project_id == projects.c.id, key_results.c.title.is_not(None))
        .correlate(projects)
        .scalar_subquery()
    )
    query = sa.select(
        projects, number.label("sessions"), newest.label("newest"), promoted.label("results")
    ).where(which)
    rows = conn.execute(query).all()
    shares = _members(conn, [row.id for row in rows])
    return [
        (
            _project(row, shares.get(row.id, {})),
            Figures(row.sessions, row.results, max(row.newest or row.updated_at, row.updated_at)),
        )
        for row in rows
    ]


def seen_by(reader: str) -> sa.ColumnElement[bool]:
    """Whether somebody may see a row of `projects`."""
    member = sa.exists().where(
        project_members.c.project_id == projects.c.id, project_members.c.name == reader
    )
    return sa.or_(projects.c.owner == reader, member)


def sessions_seen_by(reader: str) -> sa.ColumnElement[bool]:
    """Whether somebody may see a row of `sessions`: one of no project, or of theirs."""
    theirs = sa.select(projects.c.id).where(seen_by(reader))
    return sa.or_(sessions.c.project_id.is_(None), sessions.c.project_id.in_(theirs))


def hidden_from(reader: str, session: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether the session with this id is in a project that is nothing of theirs."""
    return sa.exists().where(sessions.c.id == session, ~sessions_seen_by(reader))


def of_many(conn: sa.Connection, ids: Collection[str]) -> dict[ProjectId, Project]:
    """These projects; those that are gone are not in."""
    shares = _members(conn, list(ids))
    rows = conn.execute(sa.select(projects).where(projects.c.id.in_(list(ids)))) if ids else ()
    return {ProjectId(row.id): _project(row, shares.get(row.id, {})) for row in rows}


@dataclass(frozen=True, slots=True)
class Standing:
    """A project, and what somebody has to do with it."""

    project: ProjectId
    share: Share | None
    """None when it is nothing of theirs."""


def standing(conn: sa.Connection, name: str, kind: str, given: str) -> Standing | None:
    """What somebody has to do with the project of a thing; None when it is in none.

    `kind` says what has the id `given`: project, session, turn, attachment or delivery; or task,
    which has a name, and is in the project of the session it was made in.
    """
    member = sa.and_(project_members.c.project_id == projects.c.id, project_members.c.name == name)
    query = (
        sa.select(projects.c.id, projects.c.owner, project_members.c.share)
        .select_from(projects.outerjoin(project_members, member))
        .where(projects.c.id == _project_id(kind, given))
    )
    row = conn.execute(query).first()
    if row is None:
        return None
    share = Share.OWNER if row.owner == name else Share(row.share) if row.share else None
    return Standing(ProjectId(row.id), share)


# By what it is named, and its session.
_HOLDERS: Mapping[str, tuple[sa.Column[str], sa.Column[str]]] = {
    "turn": (turns.c.id, turns.c.session_id),
    "attachment": (attachments.c.id, attachments.c.session_id),
    "delivery": (deliveries.c.id, deliveries.c.session_id),
    "task": (tasks.c.name, tasks.c.made_in),
}


def _project_id(kind: str, given: str) -> sa.ColumnElement[str] | str:
    if kind == "project":
        return given
    if kind == "session":
        mine = sessions.c.id == given
    else:
        name, session_id = _HOLDERS[kind]
        session = sa.select(session_id).where(name == given)
        mine = sessions.c.id == session.scalar_subquery()
    return sa.select(sessions.c.project_id).where(mine).scalar_subquery()


def set_member(conn: sa.Connection, project: ProjectId, name: str, share: Share | None) -> None:
    """Let somebody edit or see a project, or with None no more."""
    mine = sa.and_(project_members.c.project_id == project, project_members.c.name == name)
    conn.execute(project_members.delete().where(mine))
    if share is not None:
        values = {"project_id": project, "name": name, "share": share.value}
        conn.execute(project_members.insert().values(values))


def _one(conn: sa.Connection, which: sa.ColumnElement[bool]) -> Project | None:
    row = conn.execute(sa.select(projects).where(which)).first()
    return None if row is None else _project(row, _members(conn, [row.id]).get(row.id, {}))


def _members(conn: sa.Connection, ids: Sequence[str]) -> dict[str, dict[str, Share]]:
    found: dict[str, dict[str, Share]] = {}
    query = (
        sa.select(project_members)
        .where(project_members.c.project_id.in_(ids))
        .order_by(project_members.c.name)
    )
    for row in conn.execute(query) if ids else ():
        found.setdefault(row.project_id, {})[row.name] = Share(row.share)
    return found


def _project(row: sa.Row[Any], members: Mapping[str, Share]) -> Project:
    return Project(
        id=ProjectId(row.id),
        name=row.name,
        owner=row.owner,
        created_at=row.created_at,
        updated_at=row.updated_at,
        domain=row.domain,
        description=row.description,
        prompt=row.prompt,
        tools=None if row.tools is None else tuple(row.tools),
        agent=row.agent,
        private_to=row.private_to,
        template=row.template,
        members=members,
    )


# -- the sessions of a project --------------------------------------------------------------------


def order(conn: sa.Connection, project: ProjectId) -> list[str]:
    """The ids of a project's sessions in their manual order. Lock the project to change it."""
    query = (
        sa.select(sessions.c.id)
        .join(investigations, investigations.c.session_id == sessions.c.id)
        .where(sessions.c.project_id == project)
        .order_by(investigations.c.position, sessions.c.id)
    )
    return list(conn.scalars(query))


def next_position(conn: sa.Connection, project: ProjectId) -> int:
    """The place after the last session of a project, which is locked."""
    query = (
        sa.select(sa.func.max(investigations.c.position))
        .join(sessions, sessions.c.id == investigations.c.session_id)
        .where(sessions.c.project_id == project)
    )
    last = conn.scalar(query)
    return 0 if last is None else last + 1


def titles(conn: sa.Connection, project: ProjectId) -> list[str]:
    """The titles of a project's sessions; those that have none yet are left out."""
    query = sa.select(sessions.c.title).where(
        sessions.c.project_id == project, sessions.c.title.is_not(None)
    )
    return list(conn.scalars(query))


def held(conn: sa.Connection, project: ProjectId) -> list[str]:
    """The ids of a project's sessions as they were made, whether they are in its order or not."""
    query = sa.select(sessions.c.id).where(sessions.c.project_id == project)
    return list(conn.scalars(query.order_by(sessions.c.id)))


def set_order(conn: sa.Connection, ordered: Sequence[str]) -> None:
    """Store the manual order of a project's sessions, which is locked."""
    for position, session in enumerate(ordered):
        conn.execute(
            investigations.update()
            .where(
                investigations.c.session_id == session,
                investigations.c.position.is_distinct_from(position),
            )
            .values(position=position)
        )


# -- templates ------------------------------------------------------------------------------------


def templates_all(conn: sa.Connection) -> list[StoredTemplate]:
    """Every template by name."""
    rows = conn.execute(sa.select(templates).order_by(templates.c.name))
    return [_template(row) for row in rows]


def template(conn: sa.Connection, name: str) -> StoredTemplate | None:
    """One template, None when there is none."""
    row = conn.execute(sa.select(templates).where(templates.c.name == name)).first()
    return None if row is None else _template(row)


def put_template(conn: sa.Connection, new: StoredTemplate) -> bool:
    """Store a template in place of the one of its name; whether there was none."""
    values = {"source": new.source, "made_by": new.made_by, "updated_at": new.updated_at}
    changed = conn.execute(templates.update().where(templates.c.name == new.name).values(values))
    if changed.rowcount:
        return False
    try:
        with conn.begin_nested():
            conn.execute(templates.insert().values(name=new.name, **values))
    except IntegrityError:
        # Somebody was quicker: it is there now.
        return put_template(conn, new)
    return True


def drop_template(conn: sa.Connection, name: str) -> bool:
    """Forget a template; False when there was none."""
    return conn.execute(templates.delete().where(templates.c.name == name)).rowcount > 0


def _template(row: sa.Row[Any]) -> StoredTemplate:
    return StoredTemplate(row.name, row.source, row.made_by, row.updated_at)
