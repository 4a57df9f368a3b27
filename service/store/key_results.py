"""Key results: tool results by name, those with a title for people to see.

Their data is the tool call's own, byte for byte; it is read and never written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import ReplyId, SessionId, TurnId
from service.store.sql import Instant, insert_new
from service.store.tables import key_results, tool_calls


@dataclass(frozen=True, slots=True)
class KeyResult:
    """A tool result under a name, without its data."""

    session: SessionId
    name: str
    turn: TurnId
    reply: ReplyId
    iteration: int
    ordinal: int
    tool: str
    created_at: datetime
    title: str | None = None
    """None while it is a candidate."""
    description: str = ""
    chart: Mapping[str, Any] | None = None
    display: str = "both"
    promoted_at: datetime | None = None
    promoted_by: str | None = None
    arguments: str = ""
    """What the tool was called with."""


def add(conn: sa.Connection, new: Sequence[KeyResult]) -> None:
    """Store candidates; one that is there already stays as it is."""
    for one in new:
        conn.execute(
            insert_new(conn, key_results).values(
                session_id=one.session,
                name=one.name,
                turn_id=one.turn,
                reply_id=one.reply,
                iteration=one.iteration,
                ordinal=one.ordinal,
                tool=one.tool,
                title=one.title,
                description=one.description,
                chart=one.chart,
                display=one.display,
                created_at=one.created_at,
            )
        )


def of_session(
    conn: sa.Connection, session: SessionId, *, promoted: bool = False
) -> list[KeyResult]:
    """The results of a session: promoted ones in that order, then candidates, the oldest first."""
    query = _query().where(key_results.c.session_id == session)
    if promoted:
        query = query.where(key_results.c.title.is_not(None))
    rows = conn.execute(
        query.order_by(
            key_results.c.promoted_at.is_(None), key_results.c.promoted_at, key_results.c.name
        )
    )
    found = [_result(row) for row in rows]
    shown = [one for one in found if one.promoted_at is not None]
    rest = sorted((one for one in found if one.promoted_at is None), key=_made)
    return [*shown, *rest]


def get(conn: sa.Connection, session: SessionId, name: str) -> KeyResult | None:
    """One result of a session, None when it has none of this name."""
    query = _query().where(key_results.c.session_id == session, key_results.c.name == name)
    row = conn.execute(query).first()
    return None if row is None else _result(row)


def data(conn: sa.Connection, session: SessionId, name: str) -> str | None:
    """The JSON of a result, byte for byte as the tool's output was stored."""
    query = (
        sa.select(tool_calls.c.data)
        .select_from(key_results.join(tool_calls, _same_call()))
        .where(key_results.c.session_id == session, key_results.c.name == name)
    )
    found: str | None = conn.scalar(query)
    return found


def show(
    conn: sa.Connection,
    session: SessionId,
    name: str,
    *,
    title: str | None,
    description: str,
    chart: Mapping[str, Any] | None,
    display: str,
    by: str,
    at: datetime,
) -> None:
    """Store how a result is shown; without a title it is a candidate again, and keeps its data."""
    mine = sa.and_(key_results.c.session_id == session, key_results.c.name == name)
    shown = title is not None
    since = key_results.c.promoted_at
    conn.execute(
        key_results.update()
        .where(mine)
        .values(
            title=title,
            description=description if shown else "",
            chart=chart if shown else None,
            display=display if shown else "both",
            promoted_at=sa.func.coalesce(since, sa.literal(at, Instant)) if shown else None,
            promoted_by=by if shown else None,
        )
    )


def counts(conn: sa.Connection, ids: Iterable[SessionId]) -> dict[SessionId, int]:
    """How many promoted results sessions have; those without any are not in."""
    query = (
        sa.select(key_results.c.session_id, sa.func.count().label("found"))
        .where(key_results.c.session_id.in_(list(ids)), key_results.c.title.is_not(None))
        .group_by(key_results.c.session_id)
    )
    return {SessionId(row.session_id): row.found for row in conn.execute(query)}


def _same_call() -> sa.ColumnElement[bool]:
    return sa.and_(
        tool_calls.c.reply_id == key_results.c.reply_id,
        tool_calls.c.iteration == key_results.c.iteration,
        tool_calls.c.ordinal == key_results.c.ordinal,
    )


def _query() -> sa.Select[Any]:
    return sa.select(key_results, tool_calls.c.arguments).join(tool_calls, _same_call())


def _made(one: KeyResult) -> tuple[datetime, int, int]:
    return one.created_at, one.iteration, one.ordinal


def _result(row: sa.Row[Any]) -> KeyResult:
    return KeyResult(
        session=SessionId(row.session_id),
        name=row.name,
        turn=TurnId(row.turn_id),
        reply=ReplyId(row.reply_id),
        iteration=row.iteration,
        ordinal=row.ordinal,
        tool=row.tool,
        created_at=row.created_at,
        title=row.title,
        description=row.description,
        chart=row.chart,
        display=row.display,
        promoted_at=row.promoted_at,
        promoted_by=row.promoted_by,
        arguments=row.arguments,
    )
