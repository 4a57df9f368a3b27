"""What becomes of the sessions of a scan: where each of them stands, and what they came to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, auto
from typing import Any

import sqlalchemy as sa

from service.core.dependency import unmet
from service.core.model import SessionId, TurnId
from service.core.states import TURN_ACTIVE, TurnState
from service.engine import findings
from service.store import deliveries, investigations, key_results, projects, turns
from service.store.investigations import Investigation
from service.store.tables import sessions as sessions_table
from service.store.tables import turns as turns_table

_ACTIVE = tuple(sorted(state.value for state in TURN_ACTIVE))
_ARCHIVED = "the session is archived"


class Standing(StrEnum):
    """Where a session of a scan is."""

    HELD = auto()  # something it depends on does not hold, or it was archived
    READY = auto()
    RUNNING = auto()
    COMPLETE = auto()  # it has a key result or a disposition
    ENDED = auto()  # it came to nothing
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Part:
    """One session of a scan."""

    session: SessionId
    title: str
    standing: Standing
    reason: str | None = None
    """Why it is held or has failed."""
    request: str = ""
    disposition: Mapping[str, Any] | None = None
    results: int = 0

    @property
    def over(self) -> bool:
        """Whether it has been run."""
        return self.standing in (Standing.COMPLETE, Standing.ENDED, Standing.FAILED)


def standing(conn: sa.Connection, scan: TurnId) -> list[Part]:
    """The sessions of a scan in their order."""
    found = investigations.of_scan(conn, scan)
    rows = {
        row["id"]: row
        for row in conn.execute(
            sa.select(
                sessions_table.c.id,
                sessions_table.c.title,
                sessions_table.c.completion,
                sessions_table.c.archived_at,
            ).where(sessions_table.c.id.in_(list(found)))
        ).mappings()
    }
    newest = _newest_turns(conn, list(found))
    results = key_results.counts(conn, found)
    running = {one for one, turn in newest.items() if turn["state"] in _ACTIVE}
    waiting = [one for one in found if one not in newest]
    archived = {one: _ARCHIVED for one in waiting if rows[one]["archived_at"] is not None}
    held = {**_held(conn, waiting, running), **archived}
    return [
        _part(one, rows[one.session], newest, held, results.get(one.session, 0))
        for one in found.values()
    ]


def _part(
    one: Investigation,
    row: sa.RowMapping,
    newest: Mapping[SessionId, sa.RowMapping],
    held: Mapping[SessionId, str],
    results: int,
) -> Part:
    turn = newest.get(one.session)
    reason = held.get(one.session)
    if turn is None:
        where = Standing.HELD if reason else Standing.READY
    elif turn["state"] in _ACTIVE:
        where = Standing.RUNNING
    elif row["completion"] == "complete":
        where = Standing.COMPLETE
    elif turn["state"] == TurnState.SUCCEEDED.value:
        where = Standing.ENDED
    else:
        where, reason = Standing.FAILED, turn["error"] or turn["state"]
    return Part(
        one.session, row["title"] or "", where, reason, one.request or "", one.disposition, results
    )


def _newest_turns(conn: sa.Connection, ids: Sequence[SessionId]) -> dict[SessionId, sa.RowMapping]:
    newest = (
        sa.select(turns_table.c.session_id, sa.func.max(turns_table.c.number).label("number"))
        .where(turns_table.c.session_id.in_(ids))
        .group_by(turns_table.c.session_id)
        .subquery()
    )
    query = sa.select(turns_table.c.session_id, turns_table.c.state, turns_table.c.error).join(
        newest,
        sa.and_(
            newest.c.session_id == turns_table.c.session_id,
            newest.c.number == turns_table.c.number,
        ),
    )
    return {SessionId(row["session_id"]): row for row in conn.execute(query).mappings()}


def _held(
    conn: sa.Connection, waiting: Sequence[SessionId], running: Collection[SessionId]
) -> dict[SessionId, str]:
    """Why sessions that were not begun cannot be.

    What they need may hold already while it is still worked on: they wait to be told all of it.
    """
    wanted = investigations.dependencies_of(conn, waiting)
    upstreams = investigations.upstreams(
        conn, {one.upstream for edges in wanted.values() for one in edges}
    )
    reasons = {
        session: [
            f"“{one.title}” is running"
            if one.upstream in running
            else unmet(one, upstreams.get(one.upstream))
            for one in edges
        ]
        for session, edges in wanted.items()
    }
    return {
        session: "; ".join(told)
        for session, found in reasons.items()
        if (told := [one for one in found if one is not None])
    }


def lock(conn: sa.Connection, session: SessionId) -> TurnId | None:
    """Lock the turn of the scan that a session is part of, if it is.

    Whoever ends something in the session does this first. The scan, which locks its own turn
    before it waits, either sees what happened or is woken.
    """
    found = investigations.get(conn, session)
    if found is None or found.scan is None:
        return None
    turns.lock(conn, found.scan)
    return found.scan


def wake(conn: sa.Connection, scan: TurnId, *, at: datetime) -> None:
    """Let a scan that waits, and is locked, look at its sessions again."""
    if turns.go_on(conn, scan, at=at):
        deliveries.go_on(conn, scan, at=at)


def active_in(conn: sa.Connection, scan: TurnId) -> list[SessionId]:
    """The sessions of a scan that have something to do."""
    found = list(investigations.of_scan(conn, scan))
    query = (
        sa.select(turns_table.c.session_id)
        .where(
            turns_table.c.session_id.in_(found),
            turns_table.c.state.in_(_ACTIVE),
        )
        .distinct()
    )
    return [SessionId(one) for one in conn.scalars(query)]


def told(conn: sa.Connection, scan: TurnId) -> dict[str, Any]:
    """A scan as the HTTP API and callbacks tell it, with what its sessions came to."""
    project = projects.of_scan(conn, scan)
    found = investigations.of_scan(conn, scan)
    left = findings.MOST_RESULT_BYTES
    parts = []
    for one in standing(conn, scan):
        results: list[dict[str, Any]] = []
        if one.results:
            results, left = findings.results_told(conn, one.session, most=left)
        parts.append(
            {
                "session": one.session,
                "title": one.title,
                "state": one.standing.value,
                "reason": one.reason,
                "disposition": findings.disposition_told(found.get(one.session)),
                "results": results,
            }
        )
    return {"project": None if project is None else project.id, "sessions": parts}


def summary(parts: Sequence[Part]) -> str:
    """What a scan came to, in Markdown."""
    complete = sum(one.standing is Standing.COMPLETE for one in parts)
    told = [f"**{complete} of {len(parts)} sessions came to a result.**"]
    told += [line(one) for one in parts if one.standing is Standing.HELD]
    return "\n".join(told)


def line(part: Part) -> str:
    """One session of a scan, in a line of Markdown."""
    name = _plain(part.title)
    match part.standing:
        case Standing.COMPLETE:
            return f"- {name}: {_came_to(part)}"
        case Standing.ENDED:
            return f"- {name}: ended without a result or a disposition"
        case Standing.FAILED:
            return f"- {name}: failed: {_plain(part.reason or '')}"
        case Standing.HELD:
            return f"- {name}: not run: {_plain(part.reason or '')}"
        case _:
            return f"- {name}: running"


def _came_to(part: Part) -> str:
    told = [f"{name} = {_value(value)}" for name, value in (part.disposition or {}).items()]
    if part.results:
        told.append(f"{part.results} key result{'' if part.results == 1 else 's'}")
    return _plain(", ".join(told))


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(text: str) -> str:
    """Words of models and people on one line, without mark-up."""
    return "".join(f"\\{one}" if one in "\\`*_[]<>#|~" else one for one in " ".join(text.split()))
