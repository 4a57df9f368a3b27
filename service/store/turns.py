"""Turns: stored once, claimed at the head of their session, written only by the lease holder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from service.core.model import (
    Address,
    Busy,
    Channel,
    Ended,
    OccurrenceId,
    Origin,
    SessionId,
    Turn,
    TurnId,
    TurnKind,
    Usage,
    VoiceId,
)
from service.core.states import TURN_ACTIVE, TURN_MOVES, TurnState
from service.errors import Fenced
from service.store.sql import now
from service.store.tables import turns

_ACTIVE = tuple(sorted(state.value for state in TURN_ACTIVE))


# Made once: an alias costs more than the statement it is for.
_turn_alias, _older = turns.alias("turn"), turns.alias("older")


def claim(conn: sa.Connection, *, owner: str, lease: timedelta, limit: int) -> list[Turn]:
    """Take up to `limit` due turns, each the oldest unfinished one of its session.

    The claim counts as an attempt.
    """
    turn, older = _turn_alias, _older
    head = (
        sa.select(turn.c.id)
        .where(
            turn.c.state == TurnState.QUEUED.value,
            turn.c.due_at <= now(),
            turn.c.joined_id.is_(None),
            ~sa.exists().where(
                older.c.session_id == turn.c.session_id,
                older.c.number < turn.c.number,
                older.c.state.in_(_ACTIVE),
            ),
        )
        .order_by(turn.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=turn)
    )
    rows = conn.execute(
        turns.update()
        .where(turns.c.id.in_(head), turns.c.state == TurnState.QUEUED.value)
        .values(
            state=TurnState.RUNNING.value,
            owner=owner,
            lease_until=now(lease.total_seconds()),
            epoch=turns.c.epoch + 1,
            attempt=turns.c.attempt + 1,
            started_at=sa.func.coalesce(turns.c.started_at, now()),
        )
        .returning(*turns.c)
    )
    return [_turn(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Asked:
    """What people asked of a running turn."""

    stop: bool
    interrupted_by: str | None


def fence(conn: sa.Connection, turn: TurnId, epoch: int) -> Asked:
    """Lock a turn that is still ours and say what was asked of it. Raises Fenced."""
    held = fence_many(conn, {turn: epoch})
    if turn not in held:
        raise Fenced("the turn has another holder")
    return held[turn]


def fence_many(conn: sa.Connection, epochs: dict[TurnId, int]) -> dict[TurnId, Asked]:
    """Lock those turns that still have this epoch, in id order; what was asked of each.

    Turns with another holder are missing from the answer.
    """
    rows = conn.execute(
        sa.select(turns.c.id, turns.c.epoch, turns.c.stop_requested_at, turns.c.interrupt_by)
        .where(turns.c.id.in_(list(epochs)), turns.c.state == TurnState.RUNNING.value)
        .order_by(turns.c.id)
        .with_for_update()
    )
    return {
        TurnId(row.id): Asked(row.stop_requested_at is not None, row.interrupt_by)
        for row in rows
        if row.epoch == epochs[TurnId(row.id)]
    }


def renew(conn: sa.Connection, held: dict[TurnId, int], *, lease: timedelta) -> dict[TurnId, bool]:
    """Extend leases that are still ours; return stop requests by turn for those that are."""
    if not held:
        return {}
    rows = conn.execute(
        turns.update()
        .where(
            sa.tuple_(turns.c.id, turns.c.epoch).in_(list(held.items())),
            turns.c.state == TurnState.RUNNING.value,
        )
        .values(lease_until=now(lease.total_seconds()))
        .returning(turns.c.id, turns.c.stop_requested_at)
    )
    return {TurnId(row.id): row.stop_requested_at is not None for row in rows}


_BEGUN = (TurnState.RUNNING, TurnState.WAITING)


def move(conn: sa.Connection, turn: TurnId, *, to: TurnState, **values: object) -> bool:
    """Move a turn that this transaction has locked; False when that is no legal move."""
    legal = [state.value for state in TurnState if to in TURN_MOVES[state]]
    result = conn.execute(
        turns.update()
        .where(turns.c.id == turn, turns.c.state.in_(legal))
        .values(state=to.value, owner=None, lease_until=None, **values)
    )
    return result.rowcount == 1


def wait(conn: sa.Connection, turn: TurnId, *, processing: timedelta, usage: Usage) -> None:
    """Let a turn that this transaction has fenced wait for a person; no worker has it then."""
    move(
        conn,
        turn,
        to=TurnState.WAITING,
        processing_ms=_milliseconds(processing),
        usage=asdict(usage),
        epoch=turns.c.epoch + 1,
    )


def go_on(conn: sa.Connection, turn: TurnId, *, at: datetime) -> bool:
    """Queue a turn that waited; its attempts are counted anew. False when it does not wait."""
    result = conn.execute(
        turns.update()
        .where(turns.c.id == turn, turns.c.state == TurnState.WAITING.value)
        .values(state=TurnState.QUEUED.value, attempt=0, due_at=at)
    )
    return result.rowcount == 1


def decide(conn: sa.Connection, turn: TurnId, voices: Sequence[VoiceId], *, directed: bool) -> None:
    """Note who answers a turn first, so that everybody who goes on with it finds the same."""
    conn.execute(
        turns.update().where(turns.c.id == turn).values(voices=list(voices), directed=directed)
    )


def join(conn: sa.Connection, running: Turn) -> list[Turn]:
    """Let queued messages that are meant to steer join the running turn of their session.

    The turn's reply answers them along with its own; they end when it does. Words of somebody who
    may do less than the turn wait for a turn of their own: here they would borrow its rights.
    """
    rows = conn.execute(
        turns.update()
        .where(
            turns.c.session_id == running.session,
            turns.c.state == TurnState.QUEUED.value,
            turns.c.busy == Busy.STEER.value,
            turns.c.kind == TurnKind.MESSAGE.value,
            turns.c.origin.in_((running.origin.value, Origin.PERSON.value)),
            turns.c.number > running.number,
            turns.c.joined_id.is_(None),
        )
        .values(joined_id=running.id)
        .returning(*turns.c)
    )
    return sorted((_turn(row) for row in rows), key=_number)


def end_joined(
    conn: sa.Connection,
    turn: TurnId,
    *,
    state: TurnState,
    error: str | None,
    ended: Ended | None,
    at: datetime,
) -> list[Turn]:
    """End the turns whose messages steered this one the way it ends."""
    _check(TurnState.QUEUED, state)
    rows = conn.execute(
        turns.update()
        .where(turns.c.joined_id == turn, turns.c.state == TurnState.QUEUED.value)
        .values(
            state=state.value,
            error=error,
            ended=ended.value if ended else None,
            started_at=sa.func.coalesce(turns.c.started_at, at),
            finished_at=at,
        )
        .returning(*turns.c)
    )
    return sorted((_turn(row) for row in rows), key=_number)


def request_interrupt(conn: sa.Connection, turn: TurnId, *, by: str, at: datetime) -> bool:
    """Ask a begun turn to pause at its next boundary; False when it was asked before."""
    result = conn.execute(
        turns.update()
        .where(
            turns.c.id == turn,
            turns.c.state.in_([state.value for state in _BEGUN]),
            turns.c.interrupt_requested_at.is_(None),
        )
        .values(interrupt_requested_at=at, interrupt_by=by)
    )
    return result.rowcount == 1


def insert_compaction(
    conn: sa.Connection,
    turn: TurnId,
    session: SessionId,
    *,
    number: int,
    author: str,
    at: datetime,
) -> None:
    """Queue a turn that sums a session up and answers nobody."""
    conn.execute(
        turns.insert().values(
            id=turn,
            session_id=session,
            number=number,
            state=TurnState.QUEUED.value,
            kind=TurnKind.COMPACT.value,
            origin=Origin.SCHEDULE.value,
            channel=Channel.CONSOLE.value,
            trigger_name=author,
            author=author,
            answer_to=[],
            attempt=0,
            epoch=0,
            due_at=at,
            processing_ms=0,
            created_at=at,
        )
    )


def begun(conn: sa.Connection, session: SessionId) -> Turn | None:
    """Lock the turn of a session that runs or waits."""
    row = conn.execute(
        sa.select(turns)
        .where(
            turns.c.session_id == session,
            turns.c.state.in_([state.value for state in _BEGUN]),
        )
        .with_for_update()
    ).first()
    return _turn(row) if row else None


def is_followed(conn: sa.Connection, turn: Turn) -> bool:
    """Whether another message of the session waits already."""
    query = sa.select(turns.c.id).where(
        turns.c.session_id == turn.session,
        turns.c.number > turn.number,
        turns.c.state == TurnState.QUEUED.value,
        turns.c.joined_id.is_(None),
        turns.c.kind == TurnKind.MESSAGE.value,
    )
    return conn.execute(query.limit(1)).first() is not None


def lock_begun(conn: sa.Connection, sessions: Sequence[SessionId]) -> dict[SessionId, Turn]:
    """Lock the turns of these sessions that run or wait, in id order."""
    rows = conn.execute(
        sa.select(turns)
        .where(
            turns.c.session_id.in_(list(sessions)),
            turns.c.state.in_([state.value for state in _BEGUN]),
        )
        .order_by(turns.c.id)
        .with_for_update()
    )
    return {SessionId(row.session_id): _turn(row) for row in rows}


def lock(conn: sa.Connection, turn: TurnId) -> Turn | None:
    """Lock one turn, whatever its state."""
    row = conn.execute(sa.select(turns).where(turns.c.id == turn).with_for_update()).first()
    return _turn(row) if row else None


def _number(turn: Turn) -> int:
    return turn.number


def finish(
    conn: sa.Connection,
    turn: TurnId,
    *,
    state: TurnState,
    error: str | None,
    ended: Ended | None,
    processing: timedelta,
    usage: Usage,
    at: datetime,
) -> None:
    """End a turn that this transaction has locked."""
    move(
        conn,
        turn,
        to=state,
        error=error,
        ended=ended.value if ended else None,
        processing_ms=_milliseconds(processing),
        usage=asdict(usage),
        finished_at=at,
    )


def hand_over(conn: sa.Connection, turn: TurnId, epoch: int, *, processing: timedelta) -> None:
    """Put a running turn back for the next holder without spending the attempt."""
    conn.execute(
        turns.update()
        .where(
            turns.c.id == turn,
            turns.c.epoch == epoch,
            turns.c.state == TurnState.RUNNING.value,
        )
        .values(
            state=TurnState.QUEUED.value,
            owner=None,
            lease_until=None,
            epoch=turns.c.epoch + 1,
            attempt=turns.c.attempt - 1,
            processing_ms=_milliseconds(processing),
        )
    )


def lapsed(conn: sa.Connection, *, limit: int) -> list[Turn]:
    """Lock running turns whose holder's lease is over."""
    return _lock_running(conn, turns.c.lease_until < now(), limit)


def orphaned(conn: sa.Connection, *, limit: int) -> list[Turn]:
    """Lock every running turn: for a process that knows it is the only one."""
    return _lock_running(conn, sa.true(), limit)


def _lock_running(conn: sa.Connection, which: sa.ColumnElement[bool], limit: int) -> list[Turn]:
    rows = conn.execute(
        sa.select(turns)
        .where(turns.c.state == TurnState.RUNNING.value, which)
        .order_by(turns.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [_turn(row) for row in rows]


def put_back(conn: sa.Connection, turn: TurnId) -> None:
    """Rescue: queue a turn that lost its holder, and outdate that holder."""
    move(conn, turn, to=TurnState.QUEUED, epoch=turns.c.epoch + 1)


def request_stop(conn: sa.Connection, turn: TurnId, *, by: str, at: datetime) -> bool:
    """Note who wants an unfinished turn stopped; its holder, if any, finds it there."""
    result = conn.execute(
        turns.update()
        .where(turns.c.id == turn, turns.c.state.in_(_ACTIVE))
        .values(
            stop_requested_at=sa.func.coalesce(turns.c.stop_requested_at, at),
            stop_by=sa.func.coalesce(turns.c.stop_by, by),
        )
    )
    return result.rowcount == 1


def active(conn: sa.Connection, session: SessionId) -> list[Turn]:
    """Lock the unfinished turns of a session, oldest first."""
    rows = conn.execute(
        sa.select(turns)
        .where(turns.c.session_id == session, turns.c.state.in_(_ACTIVE))
        .order_by(turns.c.number)
        .with_for_update()
    )
    return [_turn(row) for row in rows]


def queued_counts(conn: sa.Connection, sessions: Sequence[SessionId]) -> dict[SessionId, int]:
    """How many turns wait in each of these sessions."""
    if not sessions:
        return {}
    rows = conn.execute(
        sa.select(turns.c.session_id, sa.func.count())
        .where(turns.c.session_id.in_(sessions), turns.c.state == TurnState.QUEUED.value)
        .group_by(turns.c.session_id)
    )
    return {SessionId(row[0]): row[1] for row in rows}


def get(conn: sa.Connection, turn: TurnId) -> Turn | None:
    """One turn, or None when there is none."""
    row = conn.execute(sa.select(turns).where(turns.c.id == turn)).first()
    return _turn(row) if row else None


def counts(conn: sa.Connection) -> dict[str, int]:
    """How many turns are queued, running and waiting."""
    rows = conn.execute(
        sa.select(turns.c.state, sa.func.count())
        .where(turns.c.state.in_(_ACTIVE))
        .group_by(turns.c.state)
    )
    return {row[0]: row[1] for row in rows}


def next_due(conn: sa.Connection) -> datetime | None:
    """When the next queued turn that waits for its time is due."""
    query = sa.select(sa.func.min(turns.c.due_at)).where(
        turns.c.state == TurnState.QUEUED.value, turns.c.due_at > now()
    )
    due: datetime | None = conn.scalar(query)
    return due


def spent(conn: sa.Connection, session: SessionId) -> tuple[timedelta, Usage]:
    """Processing time and usage of all turns of a session."""
    # Added up in the database: a long session would have a thousand texts to parse here.
    counts = [
        sa.func.sum(sa.cast(turns.c.usage[one.name].as_string(), sa.BigInteger)).label(one.name)
        for one in fields(Usage)
    ]
    total = sa.func.sum(turns.c.processing_ms)
    milliseconds, *found = conn.execute(
        sa.select(total, *counts).where(turns.c.session_id == session)
    ).one()
    usage = Usage(*(int(one or 0) for one in found))
    return timedelta(milliseconds=int(milliseconds or 0)), usage


def _check(old: TurnState, new: TurnState) -> None:
    if new not in TURN_MOVES[old]:
        raise ValueError(f"a turn cannot go from {old} to {new}")


def _milliseconds(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)


def _usage(stored: dict[str, Any] | None) -> Usage:
    return Usage(**stored) if stored else Usage()


def _turn(row: sa.Row[Any]) -> Turn:
    return Turn(
        id=TurnId(row.id),
        session=SessionId(row.session_id),
        number=row.number,
        state=TurnState(row.state),
        channel=Channel(row.channel),
        trigger=row.trigger_name,
        author=row.author,
        attempt=row.attempt,
        epoch=row.epoch,
        created_at=row.created_at,
        answer_to=tuple(Address(Channel(channel), spot) for channel, spot in row.answer_to),
        occurrence=OccurrenceId(row.occurrence_id) if row.occurrence_id else None,
        started_at=row.started_at,
        finished_at=row.finished_at,
        error=row.error,
        processing=timedelta(milliseconds=row.processing_ms),
        usage=_usage(row.usage),
        stop_requested=row.stop_requested_at is not None,
        kind=TurnKind(row.kind),
        origin=Origin(row.origin),
        busy=Busy(row.busy),
        interrupted_by=row.interrupt_by,
        joined=TurnId(row.joined_id) if row.joined_id else None,
        ended=Ended(row.ended) if row.ended else None,
        voices=None if row.voices is None else tuple(VoiceId(one) for one in row.voices),
        directed=row.directed,
    )
