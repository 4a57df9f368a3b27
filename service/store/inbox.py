"""What was received, once per event key: the rows that make a repeat harmless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import Channel, SessionId, TurnId
from service.core.states import InboxState
from service.store.sql import insert_fresh
from service.store.tables import inbox, turns

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Received:
    """One thing from outside, about to be stored."""

    channel: Channel
    source: str
    event_key: str
    state: InboxState
    digest: bytes
    body: bytes
    turn: TurnId | None = None
    reason: str | None = None

    @property
    def key(self) -> Key:
        """What must be unique."""
        return self.channel.value, self.source, self.event_key


@dataclass(frozen=True, slots=True)
class Known:
    """What became of something received earlier."""

    digest: bytes
    turn: TurnId | None
    session: SessionId | None
    number: int
    reason: str | None


def insert(conn: sa.Connection, received: Sequence[Received], *, at: datetime) -> list[bool]:
    """Store what is new; say for each, in order, whether it was."""
    rows = {
        one.key: {
            "channel": one.channel.value,
            "source": one.source,
            "event_key": one.event_key,
            "state": one.state.value,
            "reason": one.reason,
            "turn_id": one.turn,
            "digest": one.digest,
            "body": one.body,
            "received_at": at,
        }
        for one in reversed(received)
    }
    # Sorted, so that two replicas that offer the same keys wait for each other in one order.
    stored = set(
        insert_fresh(
            conn,
            inbox,
            [rows[key] for key in sorted(rows)],
            *(inbox.c.channel, inbox.c.source, inbox.c.event_key),
        )
    )
    new = []
    for one in received:
        new.append(one.key in stored)
        stored.discard(one.key)
    return new


def known(conn: sa.Connection, keys: Sequence[Key]) -> dict[Key, Known]:
    """What became of the things received under these keys."""
    if not keys:
        return {}
    rows = conn.execute(
        sa.select(inbox, turns.c.session_id, turns.c.number)
        .join(turns, turns.c.id == inbox.c.turn_id, isouter=True)
        .where(sa.tuple_(inbox.c.channel, inbox.c.source, inbox.c.event_key).in_(keys))
    )
    return {
        (row.channel, row.source, row.event_key): Known(
            digest=row.digest,
            turn=TurnId(row.turn_id) if row.turn_id else None,
            session=SessionId(row.session_id) if row.session_id else None,
            number=row.number or 0,
            reason=row.reason,
        )
        for row in rows
    }


def attribute(conn: sa.Connection, key: Key, turn: TurnId) -> None:
    """Note that a ring of this transaction became part of a turn that was there before."""
    channel, source, event_key = key
    conn.execute(
        inbox.update()
        .where(
            inbox.c.channel == channel,
            inbox.c.source == source,
            inbox.c.event_key == event_key,
        )
        .values(turn_id=turn)
    )


def forget(conn: sa.Connection, keys: Sequence[Key]) -> None:
    """Drop rows of this transaction whose rings were refused, so that a retry is new."""
    if keys:
        conn.execute(
            inbox.delete().where(
                sa.tuple_(inbox.c.channel, inbox.c.source, inbox.c.event_key).in_(keys)
            )
        )


def newest(conn: sa.Connection, *, state: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest things received as plain JSON without their bodies, of one state when given."""
    query = sa.select(inbox).order_by(inbox.c.received_at.desc()).limit(limit)
    if state is not None:
        query = query.where(inbox.c.state == state)
    return [
        {
            "channel": row.channel,
            "source": row.source,
            "event_key": row.event_key,
            "state": row.state,
            "reason": row.reason,
            "turn": row.turn_id,
            "bytes": len(row.body),
            "received_at": row.received_at.isoformat(),
        }
        for row in conn.execute(query)
    ]


def drop_bodies(conn: sa.Connection, *, before: datetime, limit: int) -> int:
    """Empty the bodies of rows received before `before`, at most `limit`.

    The rows stay: their keys are what makes a late repeat harmless. Quarantined ones keep their
    bodies, because nothing else holds what was in them.
    """
    old = (
        sa.select(inbox.c.channel, inbox.c.source, inbox.c.event_key)
        .where(
            inbox.c.received_at < before,
            inbox.c.body != b"",
            inbox.c.state != InboxState.QUARANTINED.value,
        )
        .limit(limit)
    )
    keys = [tuple(row) for row in conn.execute(old)]
    if keys:
        conn.execute(
            inbox.update()
            .where(sa.tuple_(inbox.c.channel, inbox.c.source, inbox.c.event_key).in_(keys))
            .values(body=b"")
        )
    return len(keys)
