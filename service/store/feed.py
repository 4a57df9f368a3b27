"""A session's numbered events: append under the session's row lock, read after a cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import Event, NewEvent, Role, SessionId, TurnId
from service.store.sql import insert_many
from service.store.tables import events, sessions, turns

# Far fewer than a statement takes parameters on either database.
_AT_ONCE = 1000


def append(
    conn: sa.Connection, new: Mapping[SessionId, Sequence[NewEvent]], *, at: datetime
) -> dict[SessionId, list[Event]]:
    """Number and store `new` events of several sessions; locks the sessions in id order."""
    newest = lock(conn, new)
    appended = {session: number(new[session], newest[session], at) for session in newest}
    advance(conn, appended, at=at)
    store(conn, appended)
    return appended


def record(
    conn: sa.Connection,
    session: SessionId,
    new: Sequence[NewEvent],
    *,
    newest: int,
    at: datetime,
) -> list[Event]:
    """Number and store events of a session that is locked and whose newest number is known."""
    numbered = number(new, newest, at)
    advance(conn, {session: numbered}, at=at)
    store(conn, {session: numbered})
    return numbered


def lock(conn: sa.Connection, ids: Mapping[SessionId, object]) -> dict[SessionId, int]:
    """Lock the rows of sessions that exist, in id order; return the newest number of each."""
    rows = conn.execute(
        sa.select(sessions.c.id, sessions.c.last_event)
        .where(sessions.c.id.in_(list(ids)))
        .order_by(sessions.c.id)
        .with_for_update()
    )
    return {SessionId(row.id): row.last_event for row in rows}


def number(new: Sequence[NewEvent], newest: int, at: datetime) -> list[Event]:
    """Give events the numbers that follow `newest`."""
    return [
        Event(newest + place, event.kind, event.turn, event.data, at)
        for place, event in enumerate(new, start=1)
    ]


def advance(
    conn: sa.Connection, numbered: Mapping[SessionId, Sequence[Event]], *, at: datetime
) -> None:
    """Note the newest event, and the newest message, of sessions whose rows are locked."""
    rows = [
        {
            "session": session,
            "newest": list_[-1].number,
            "message": _newest_message(list_),
            "said": _newest_message(list_, said=True),
        }
        for session, list_ in numbered.items()
        if list_
    ]
    if rows:
        message = sa.bindparam("message", type_=sa.BigInteger)
        said = sa.bindparam("said", type_=sa.BigInteger)
        # A session does not begin with what we remark ourselves.
        counts = sa.and_(message > 0, sa.or_(said > 0, sessions.c.last_message > 0))
        conn.execute(
            sessions.update()
            .where(sessions.c.id == sa.bindparam("session"))
            .values(
                last_event=sa.bindparam("newest"),
                last_message=sa.case((counts, message), else_=sessions.c.last_message),
                active_at=at,
            ),
            rows,
        )


def _newest_message(numbered: Sequence[Event], *, said: bool = False) -> int:
    """The number of the newest message, or of the newest that somebody said; 0 without one."""
    messages = [one for one in numbered if one.kind == "message.added"]
    if said:
        messages = [one for one in messages if one.data.get("role") != Role.SYSTEM.value]
    return max((one.number for one in messages), default=0)


def store(conn: sa.Connection, numbered: Mapping[SessionId, Sequence[Event]]) -> None:
    """Store events that have their numbers."""
    insert_many(
        conn,
        events,
        [
            {
                "session_id": session,
                "number": event.number,
                "turn_id": event.turn,
                "kind": event.kind,
                "data": event.data,
                "at": event.at,
            }
            for session, list_ in numbered.items()
            for event in list_
        ],
    )


def read(
    conn: sa.Connection,
    session: SessionId,
    *,
    after: int,
    turn: TurnId | None = None,
    limit: int = 500,
) -> list[Event]:
    """The events after number `after`, oldest first, at most `limit`."""
    query = (
        sa.select(events)
        .where(events.c.session_id == session, events.c.number > after)
        .order_by(events.c.number)
        .limit(limit)
    )
    if turn is not None:
        query = query.where(events.c.turn_id == turn)
    return [_event(row) for row in conn.execute(query)]


def of_turn(conn: sa.Connection, session: SessionId, turn: TurnId) -> list[Event]:
    """Every event of a turn that is still there, oldest first."""
    query = (
        sa.select(events)
        .where(events.c.session_id == session, events.c.turn_id == turn)
        .order_by(events.c.number)
    )
    return [_event(row) for row in conn.execute(query)]


def _event(row: sa.Row[Any]) -> Event:
    turn = TurnId(row.turn_id) if row.turn_id else None
    return Event(row.number, row.kind, turn, row.data, row.at)


def newest(conn: sa.Connection, session: SessionId, turn: TurnId) -> int:
    """The number of the turn's newest event; 0 when it has none."""
    query = sa.select(sa.func.max(events.c.number)).where(
        events.c.session_id == session, events.c.turn_id == turn
    )
    return conn.scalar(query) or 0


def newest_of(conn: sa.Connection, ids: Sequence[SessionId]) -> dict[SessionId, int]:
    """The number of the newest event of each of these sessions; without those that are gone."""
    found: dict[SessionId, int] = {}
    for first in range(0, len(ids), _AT_ONCE):
        part = sessions.c.id.in_(ids[first : first + _AT_ONCE])
        rows = conn.execute(sa.select(sessions.c.id, sessions.c.last_event).where(part))
        found |= {SessionId(row.id): row.last_event for row in rows}
    return found


def pruned_to(conn: sa.Connection, session: SessionId) -> int:
    """The newest number whose event is gone; 0 when all are there."""
    return conn.scalar(sa.select(sessions.c.pruned_to).where(sessions.c.id == session)) or 0


def prune(conn: sa.Connection, *, before: datetime, limit: int) -> int:
    """Drop old events of sessions at rest, at most `limit`; return how many went."""
    old = (
        sa.select(events.c.session_id, sa.func.max(events.c.number).label("newest"))
        .where(events.c.at < before)
        .group_by(events.c.session_id)
        .limit(limit)
    )
    gone = 0
    for row in conn.execute(old).all():
        if not _at_rest(conn, row.session_id):
            continue
        conn.execute(
            sessions.update()
            .where(sessions.c.id == row.session_id, sessions.c.pruned_to < row.newest)
            .values(pruned_to=row.newest)
        )
        gone += conn.execute(
            events.delete().where(
                events.c.session_id == row.session_id, events.c.number <= row.newest
            )
        ).rowcount
    return gone


def _at_rest(conn: sa.Connection, session: str) -> bool:
    active = sa.select(turns.c.id).where(
        turns.c.session_id == session,
        turns.c.state.in_(("queued", "running", "waiting")),
    )
    return conn.execute(active.limit(1)).first() is None
