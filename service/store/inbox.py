"""What was received, once per event key: the rows that make a repeat harmless."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import Channel, SessionId, TurnId
from service.core.states import InboxState
from service.store import projects
from service.store.sql import insert_fresh
from service.store.tables import inbox, turns

Key = tuple[str, str, str]
_MOST_REFUSED = 500


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


@dataclass(frozen=True, slots=True)
class Refused:
    """An update of somebody who may not use the bot."""

    reason: str
    body: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class Rung:
    """How often a source has rung, and when it did last."""

    count: int
    last_at: datetime


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
    conn.execute(inbox.update().where(*_is(key)).values(turn_id=turn))


def forget(conn: sa.Connection, keys: Sequence[Key]) -> None:
    """Drop rows of this transaction whose rings were refused, so that a retry is new."""
    if keys:
        conn.execute(
            inbox.delete().where(
                sa.tuple_(inbox.c.channel, inbox.c.source, inbox.c.event_key).in_(keys)
            )
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of something received."""

    state: InboxState
    reason: str | None
    turn: TurnId | None
    body: bytes


def get(conn: sa.Connection, key: Key) -> Kept | None:
    """What was received under a key; None when nothing was."""
    row = conn.execute(sa.select(inbox).where(*_is(key))).first()
    if row is None:
        return None
    turn = TurnId(row.turn_id) if row.turn_id else None
    return Kept(InboxState(row.state), row.reason, turn, row.body)


def release(conn: sa.Connection, key: Key, like: Kept) -> bool:
    """Let something leave quarantine as what it became; False when it was not there any more."""
    changed = conn.execute(
        inbox.update()
        .where(*_is(key), inbox.c.state == InboxState.QUARANTINED.value)
        .values(state=like.state.value, reason=like.reason, turn_id=like.turn)
    )
    return changed.rowcount == 1


def refused(conn: sa.Connection, *, source: str, since: datetime, most: int) -> list[Refused]:
    """The newest updates of a Telegram bot whose senders may not use it; reads at most `most`."""
    columns = (inbox.c.channel, inbox.c.source, inbox.c.event_key, inbox.c.reason)
    newest_ = (
        sa.select(*columns, inbox.c.received_at)
        .where(inbox.c.received_at >= since)
        .order_by(inbox.c.received_at.desc())
        .limit(most)
        .subquery()
    )
    rows = conn.execute(
        sa.select(newest_.c.reason, newest_.c.received_at, inbox.c.body)
        .join(
            inbox,
            sa.and_(
                inbox.c.channel == newest_.c.channel,
                inbox.c.source == newest_.c.source,
                inbox.c.event_key == newest_.c.event_key,
            ),
        )
        .where(
            newest_.c.channel == Channel.TELEGRAM.value,
            newest_.c.source == source,
            newest_.c.reason.like("%is not in telegram.allow"),
        )
        .order_by(newest_.c.received_at.desc())
        .limit(_MOST_REFUSED)
    )
    return [Refused(row.reason, row.body, row.received_at) for row in rows]


def rings(conn: sa.Connection, channel: Channel, sources: Collection[str]) -> dict[str, Rung]:
    """How often each source has rung, and when it did last; those that never rang are left out."""
    if not sources:
        return {}
    rows = conn.execute(
        sa.select(inbox.c.source, sa.func.count(), sa.func.max(inbox.c.received_at))
        .where(inbox.c.channel == channel.value, inbox.c.source.in_(list(sources)))
        .group_by(inbox.c.source)
    )
    return {row[0]: Rung(row[1], row[2]) for row in rows}


def newest(
    conn: sa.Connection, *, state: str | None, limit: int, reader: str | None = None
) -> list[dict[str, Any]]:
    """The newest things received as plain JSON without their bodies, of one state when given.

    With `reader` those are left out whose turns are in projects of others.
    """
    query = sa.select(inbox).order_by(inbox.c.received_at.desc()).limit(limit)
    if reader is not None:
        hidden = projects.hidden_from(reader, turns.c.session_id)
        query = query.where(~sa.exists().where(turns.c.id == inbox.c.turn_id, hidden))
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


def drop_bodies_of(conn: sa.Connection, session: SessionId) -> None:
    """Empty the bodies of everything that became part of a session, which is to be deleted.

    The rows stay here, too.
    """
    mine = sa.select(turns.c.id).where(turns.c.session_id == session)
    conn.execute(
        inbox.update().where(inbox.c.turn_id.in_(mine), inbox.c.body != b"").values(body=b"")
    )


def _is(key: Key) -> tuple[sa.ColumnElement[bool], ...]:
    channel, source, event_key = key
    return (
        inbox.c.channel == channel,
        inbox.c.source == source,
        inbox.c.event_key == event_key,
    )
