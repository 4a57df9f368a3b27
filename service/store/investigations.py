"""What sessions are to find out, what they wait for and what they came to.

Whoever changes a row here has locked its session; whoever changes dependencies, its project.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.dependency import UNTITLED, Dependency, Upstream
from service.core.disposition import Schema
from service.core.model import ProjectId, SessionId, TurnId
from service.store.tables import dependencies, investigations, sessions


@dataclass(frozen=True, slots=True)
class Investigation:
    """What a session is to come to, as it is stored."""

    session: SessionId
    position: int | None = None
    request: str | None = None
    """What it begins with; None when whatever is said first does."""
    schema: Schema | None = None
    disposition: Mapping[str, Any] | None = None
    disposition_by: str | None = None
    """A voice's name, or a person's."""
    disposition_at: datetime | None = None
    confirmed_by: str | None = None
    confirmed_at: datetime | None = None
    stale: bool = False
    """Whether the schema has changed since the disposition was set."""
    iterations_added: int = 0
    """What its owner allowed beyond its agent's limit."""
    scan: TurnId | None = None
    """The turn of the scan it is part of."""


def insert(conn: sa.Connection, new: Investigation) -> None:
    """Store the investigation of a session, whose row says so (`investigated`)."""
    conn.execute(
        investigations.insert().values(
            session_id=new.session,
            position=new.position,
            request=new.request,
            schema=new.schema.as_json() if new.schema else None,
            stale=False,
            iterations_added=new.iterations_added,
            scan_id=new.scan,
        )
    )


def ensure(conn: sa.Connection, session: SessionId) -> Investigation:
    """The investigation of a session, made if it has none; its row says so from then on."""
    found = get(conn, session)
    if found is not None:
        return found
    new = Investigation(session)
    insert(conn, new)
    conn.execute(sessions.update().where(sessions.c.id == session).values(investigated=True))
    return new


def get(conn: sa.Connection, session: SessionId) -> Investigation | None:
    """One investigation, None when the session has none."""
    return of_many(conn, [session]).get(session)


def of_many(conn: sa.Connection, ids: Iterable[SessionId]) -> dict[SessionId, Investigation]:
    """The investigations of these sessions."""
    query = sa.select(investigations).where(investigations.c.session_id.in_(list(ids)))
    return {SessionId(row.session_id): _investigation(row) for row in conn.execute(query)}


def of_scan(conn: sa.Connection, scan: TurnId) -> dict[SessionId, Investigation]:
    """The investigations of a scan in their order."""
    query = (
        sa.select(investigations)
        .where(investigations.c.scan_id == scan)
        .order_by(investigations.c.position)
    )
    return {SessionId(row.session_id): _investigation(row) for row in conn.execute(query)}


def set_request(conn: sa.Connection, session: SessionId, request: str | None) -> None:
    """Store what a session begins with."""
    _update(conn, session, request=request)


def set_schema(conn: sa.Connection, session: SessionId, schema: Schema | None) -> None:
    """Store another schema; a disposition there is becomes stale."""
    _update(
        conn,
        session,
        schema=schema.as_json() if schema else None,
        stale=investigations.c.disposition_at.is_not(None),
    )


def set_disposition(
    conn: sa.Connection,
    session: SessionId,
    values: Mapping[str, Any],
    *,
    by: str,
    at: datetime,
    stale: bool = False,
) -> None:
    """Store a disposition that was checked, which nobody has confirmed yet.

    `stale` says that it was checked by another schema than the one that is stored.
    """
    _update(
        conn,
        session,
        disposition=dict(values),
        disposition_by=by,
        disposition_at=at,
        confirmed_by=None,
        confirmed_at=None,
        stale=stale,
    )


def confirm(conn: sa.Connection, session: SessionId, *, by: str, at: datetime) -> None:
    """Store who agreed to the disposition there is."""
    _update(conn, session, confirmed_by=by, confirmed_at=at)


def add_iterations(conn: sa.Connection, session: SessionId, more: int) -> None:
    """Allow a session further iterations."""
    _update(conn, session, iterations_added=investigations.c.iterations_added + more)


def complete(conn: sa.Connection, session: SessionId) -> bool:
    """Note that a session has come to something; False when it had before."""
    changed = conn.execute(
        sessions.update()
        .where(sessions.c.id == session, sessions.c.completion == "open")
        .values(completion="complete")
    )
    return changed.rowcount > 0


def _update(conn: sa.Connection, session: SessionId, **values: object) -> None:
    mine = investigations.c.session_id == session
    conn.execute(investigations.update().where(mine).values(values))


def _investigation(row: sa.Row[Any]) -> Investigation:
    return Investigation(
        session=SessionId(row.session_id),
        position=row.position,
        request=row.request,
        schema=Schema.parse(row.schema) if row.schema else None,
        disposition=row.disposition,
        disposition_by=row.disposition_by,
        disposition_at=row.disposition_at,
        confirmed_by=row.confirmed_by,
        confirmed_at=row.confirmed_at,
        stale=row.stale,
        iterations_added=row.iterations_added,
        scan=TurnId(row.scan_id) if row.scan_id else None,
    )


# -- dependencies ---------------------------------------------------------------------------------


def depend(conn: sa.Connection, session: SessionId, wanted: Sequence[Dependency]) -> None:
    """Store what a session depends on in place of what it did."""
    conn.execute(dependencies.delete().where(dependencies.c.session_id == session))
    for one in wanted:
        conn.execute(
            dependencies.insert().values(
                session_id=session,
                upstream_id=one.upstream,
                upstream_title=one.title,
                field=one.field,
                value=one.value,
            )
        )


def retitle(conn: sa.Connection, upstream: SessionId, title: str) -> None:
    """Store how a session is called now with those that depend on it."""
    theirs = dependencies.c.upstream_id == upstream
    conn.execute(dependencies.update().where(theirs).values(upstream_title=title))


def dependencies_of(
    conn: sa.Connection, ids: Iterable[SessionId]
) -> dict[SessionId, list[Dependency]]:
    """What sessions depend on, in the order of the upstream ids; also what was deleted."""
    query = (
        sa.select(dependencies)
        .where(dependencies.c.session_id.in_(list(ids)))
        .order_by(dependencies.c.upstream_id)
    )
    found: dict[SessionId, list[Dependency]] = {}
    for row in conn.execute(query):
        one = Dependency(SessionId(row.upstream_id), row.field, row.value, row.upstream_title)
        found.setdefault(SessionId(row.session_id), []).append(one)
    return found


def dependants_of(conn: sa.Connection, session: SessionId) -> list[tuple[SessionId, str | None]]:
    """The sessions that depend on one, and their titles."""
    query = (
        sa.select(sessions.c.id, sessions.c.title)
        .join(dependencies, dependencies.c.session_id == sessions.c.id)
        .where(dependencies.c.upstream_id == session)
        .order_by(sessions.c.id)
    )
    return [(SessionId(row.id), row.title) for row in conn.execute(query)]


def upstreams(conn: sa.Connection, ids: Iterable[SessionId]) -> dict[SessionId, Upstream]:
    """What there is to know of sessions that others depend on; those that are gone are not in."""
    query = (
        sa.select(
            sessions.c.id,
            sessions.c.title,
            sessions.c.completion,
            investigations.c.schema,
            investigations.c.disposition,
            investigations.c.stale,
        )
        .outerjoin(investigations, investigations.c.session_id == sessions.c.id)
        .where(sessions.c.id.in_(list(ids)))
    )
    rows = conn.execute(query).mappings()
    return {SessionId(row["id"]): _upstream(row) for row in rows}


def siblings(conn: sa.Connection, project: ProjectId) -> dict[SessionId, Upstream]:
    """The same of every session of a project."""
    mine = sa.select(sessions.c.id).where(sessions.c.project_id == project)
    return upstreams(conn, [SessionId(one) for one in conn.scalars(mine)])


def _upstream(row: sa.RowMapping) -> Upstream:
    return Upstream(
        session=SessionId(row["id"]),
        title=row["title"] or UNTITLED,
        complete=row["completion"] == "complete",
        schema=Schema.parse(row["schema"]) if row["schema"] else None,
        disposition=row["disposition"],
        stale=bool(row["stale"]),
    )
