"""The due instants of tasks: one row each, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import OccurrenceId, SessionId, TurnId
from service.core.states import OCCURRENCE_MOVES, OccurrenceState
from service.store.ids import new_id
from service.store.sql import insert_new
from service.store.tables import occurrences, tasks, turns


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One due instant of a task and what became of it."""

    id: OccurrenceId
    task: str
    scheduled_at: datetime
    manual: bool
    state: OccurrenceState
    reason: str | None
    turn: TurnId | None
    session: SessionId | None
    created_at: datetime
    finished_at: datetime | None


def record(
    conn: sa.Connection,
    task: str,
    scheduled_at: datetime,
    *,
    state: OccurrenceState,
    at: datetime,
    reason: str | None = None,
    manual: bool = False,
) -> OccurrenceId | None:
    """Store an occurrence; None when that instant has one."""
    row = conn.execute(
        insert_new(conn, occurrences, occurrences.c.id),
        [
            {
                "id": new_id(),
                "task": task,
                "scheduled_at": scheduled_at,
                "manual": manual,
                "state": state.value,
                "reason": reason,
                "created_at": at,
                "finished_at": at if state is OccurrenceState.SKIPPED else None,
            }
        ],
    ).first()
    return OccurrenceId(row.id) if row else None


def move(
    conn: sa.Connection,
    occurrence: OccurrenceId,
    *,
    old: OccurrenceState,
    new: OccurrenceState,
    **values: object,
) -> bool:
    """Move an occurrence on; False when it is not in state `old`."""
    if new not in OCCURRENCE_MOVES[old]:
        raise ValueError(f"an occurrence cannot go from {old} to {new}")
    result = conn.execute(
        occurrences.update()
        .where(occurrences.c.id == occurrence, occurrences.c.state == old.value)
        .values(state=new.value, **values)
    )
    return result.rowcount == 1


def finish(
    conn: sa.Connection, occurrence: OccurrenceId, *, failed: str | None, at: datetime
) -> None:
    """Note that the turn of an occurrence ended; `failed` says why it did not succeed."""
    move(
        conn,
        occurrence,
        old=OccurrenceState.QUEUED,
        new=OccurrenceState.FAILED if failed else OccurrenceState.DONE,
        finished_at=at,
        reason=failed,
    )


def skip(conn: sa.Connection, occurrence: OccurrenceId, *, reason: str, at: datetime) -> None:
    """Note that an occurrence that was due gets no turn after all."""
    move(
        conn,
        occurrence,
        old=OccurrenceState.DUE,
        new=OccurrenceState.SKIPPED,
        finished_at=at,
        reason=reason,
    )


def get(conn: sa.Connection, occurrence: OccurrenceId) -> Occurrence | None:
    """One occurrence; None when there is none."""
    query = sa.select(occurrences).where(occurrences.c.id == occurrence)
    row = conn.execute(query).first()
    return None if row is None else _occurrence(row)


def due(conn: sa.Connection, *, limit: int = 100) -> list[Occurrence]:
    """Occurrences that were recorded and may get their turn now, oldest first."""
    rows = conn.execute(
        sa.select(occurrences)
        .where(occurrences.c.state == OccurrenceState.DUE.value, sa.not_(_behind_another()))
        .order_by(occurrences.c.scheduled_at, occurrences.c.id)
        .limit(limit)
    )
    return [_occurrence(row) for row in rows]


def under_way(conn: sa.Connection, task: str) -> int:
    """How many occurrences of the task are due, or have a turn that is not finished."""
    states = (OccurrenceState.QUEUED.value, OccurrenceState.DUE.value)
    query = sa.select(sa.func.count()).where(
        occurrences.c.task == task, occurrences.c.state.in_(states)
    )
    return conn.scalar(query) or 0


def waits(conn: sa.Connection, occurrence: OccurrenceId) -> bool:
    """Whether an occurrence must let another one of its task come to its end first."""
    query = sa.select(_behind_another()).where(occurrences.c.id == occurrence)
    return bool(conn.scalar(query))


def _behind_another() -> sa.ColumnElement[bool]:
    other = occurrences.alias("other")
    earlier = sa.and_(other.c.state == OccurrenceState.DUE.value, other.c.id < occurrences.c.id)
    running = other.c.state == OccurrenceState.QUEUED.value
    return sa.exists().where(
        other.c.task == occurrences.c.task, other.c.id != occurrences.c.id, running | earlier
    )


def newest(conn: sa.Connection, task: str, *, limit: int) -> list[Occurrence]:
    """The most recent occurrences of a task, newest first."""
    rows = conn.execute(
        sa.select(occurrences)
        .where(occurrences.c.task == task)
        .order_by(occurrences.c.scheduled_at.desc(), occurrences.c.id.desc())
        .limit(limit)
    )
    return [_occurrence(row) for row in rows]


def started(conn: sa.Connection, turns_: Collection[TurnId]) -> dict[TurnId, datetime]:
    """When the turns of occurrences were begun; those that were not are left out."""
    if not turns_:
        return {}
    rows = conn.execute(
        sa.select(turns.c.id, turns.c.started_at).where(
            turns.c.id.in_(list(turns_)), turns.c.started_at.is_not(None)
        )
    )
    return {TurnId(row.id): row.started_at for row in rows}


def newest_of_each(conn: sa.Connection) -> dict[str, Occurrence]:
    """The most recent occurrence of every task there is, by the task's name."""
    one = occurrences.alias("one")
    last = (
        sa.select(one.c.id)
        .where(one.c.task == tasks.c.name)
        .order_by(one.c.scheduled_at.desc(), one.c.id.desc())
        .limit(1)
        .correlate(tasks)
        .scalar_subquery()
    )
    each = sa.select(last).select_from(tasks)
    rows = conn.execute(sa.select(occurrences).where(occurrences.c.id.in_(each)))
    return {row.task: _occurrence(row) for row in rows}


def _occurrence(row: sa.Row[Any]) -> Occurrence:
    return Occurrence(
        id=OccurrenceId(row.id),
        task=row.task,
        scheduled_at=row.scheduled_at,
        manual=row.manual,
        state=OccurrenceState(row.state),
        reason=row.reason,
        turn=TurnId(row.turn_id) if row.turn_id else None,
        session=SessionId(row.session_id) if row.session_id else None,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
