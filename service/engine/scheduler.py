"""Decides what is due, records every due instant once, and rings for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import sqlalchemy as sa
import structlog

from service.core.model import (
    Accepted,
    Address,
    Binding,
    Channel,
    OccurrenceId,
    Refusal,
    RefusalReason,
    Ring,
    Role,
    Source,
)
from service.core.schedule import Missed, Schedule, missed
from service.core.states import OccurrenceState
from service.engine.holds import uptime
from service.engine.intake import Intake
from service.engine.metrics import Metrics
from service.failpoints import reach
from service.store import occurrences as store
from service.store.database import Database
from service.store.occurrences import Occurrence, StoredTask

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# An occurrence that has no turn after this long lost its process between two commits.
_LEFT_BEHIND = timedelta(seconds=5)
_LONGEST_SLEEP = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Task:
    """A cron trigger, compiled from the configuration."""

    name: str
    schedule: Schedule
    binding: Binding
    prompt: str
    sticky: bool
    catch_up: timedelta
    overlap: Literal["skip", "queue"]
    enabled: bool
    answer_to: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as people see it."""

    task: Task
    next_at: datetime | None
    last: Occurrence | None


class Scheduler:
    """Records and rings the due instants of the configured tasks; any number of replicas may."""

    def __init__(
        self, database: Database, intake: Intake, metrics: Metrics, tasks: Mapping[str, Task]
    ) -> None:
        self._database = database
        self._intake = intake
        self._metrics = metrics
        self._tasks = tasks
        self.checked_at = 0.0

    async def define(self) -> None:
        """Make the stored tasks those of the configuration; a changed schedule starts anew."""
        await self._database.write(_define, self._tasks, await self._database.now())
        self.checked_at = uptime()

    async def ring_due(self) -> timedelta:
        """Record and ring everything that is due; return how long nothing else will be.

        Raises StoreError; whatever was recorded before is rung by the next call, here or on
        another replica.
        """
        now = await self._database.now()
        stored = await self._database.read(store.stored_tasks)
        for name, task in self._tasks.items():
            row = stored.get(name)
            if row is not None and row.next_at is not None and row.next_at <= now:
                await self._record(task, row.next_at, now)
        waiting = await self._ring_left_behind(now)
        self.checked_at = uptime()
        pause = await self._until_next(now)
        return min(pause, _LEFT_BEHIND) if waiting else pause

    async def run(self, name: str, *, by: str) -> Accepted | Refusal:
        """Run a task now, whatever its schedule says; recorded as a manual occurrence."""
        task = self._tasks.get(name)
        if task is None:
            return Refusal(RefusalReason.UNKNOWN, f"there is no task {name!r}")
        now = datetime.now(UTC)
        occurrence = await self._database.write(
            store.record, name, now, state=OccurrenceState.DUE, at=now, manual=True
        )
        assert occurrence is not None
        log.info("scheduler.manual", task=name, by=by)
        return await self._ring(task, occurrence, now, manual=True)

    async def tasks(self) -> Sequence[TaskView]:
        """Every configured task with its next instant and its newest occurrence."""
        return await self._database.read(_views, self._tasks)

    async def occurrences(self, name: str, *, limit: int = 50) -> Sequence[Occurrence]:
        """The newest occurrences of a task, newest first."""
        return await self._database.read(store.newest, name, limit=limit)

    async def _record(self, task: Task, seen: datetime, now: datetime) -> None:
        due = missed(task.schedule, since=seen, now=now, window=task.catch_up)
        occurrence = await self._database.write(_record, task, seen, due, now)
        reach("scheduler.recorded")
        skipped = len(due.skipped)
        if skipped:
            self._metrics.skipped.labels(task.name).inc(skipped)
            log.warning("scheduler.skipped", task=task.name, missed=skipped)
        if occurrence is not None and due.run is not None:
            self._metrics.lateness_seconds.observe(max((now - due.run).total_seconds(), 0))
            await self._ring(task, occurrence, due.run)

    async def _ring_left_behind(self, now: datetime) -> bool:
        """Ring what was recorded and never rung; whether some of it is too fresh to tell."""
        waiting = False
        for one in await self._database.read(store.due):
            task = self._tasks.get(one.task)
            if one.created_at > now - _LEFT_BEHIND:
                waiting = True
            elif task is None:
                await self._skip(one.id, "the task was removed")
            else:
                await self._ring(task, one.id, one.scheduled_at, manual=one.manual)
        return waiting

    async def _ring(
        self, task: Task, occurrence: OccurrenceId, at: datetime, *, manual: bool = False
    ) -> Accepted | Refusal:
        instant = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        outcome = await self._intake.accept(
            Ring(
                channel=Channel.CRON,
                source=task.name,
                event_key=f"manual:{occurrence}" if manual else instant,
                text=task.prompt,
                binding=task.binding,
                author=f"task:{task.name}",
                session_key=f"task:{task.name}" if task.sticky else None,
                session_source=Source.SCHEDULED,
                role=Role.EVENT,
                answer_to=task.answer_to,
                sticky=task.sticky,
                title=task.name,
                occurrence=occurrence,
            )
        )
        reach("scheduler.rang")
        if isinstance(outcome, Refusal) and outcome.reason is RefusalReason.QUEUE_FULL:
            await self._skip(occurrence, outcome.detail)
        return outcome

    async def _skip(self, occurrence: OccurrenceId, reason: str) -> None:
        await self._database.write(store.skip, occurrence, reason=reason, at=datetime.now(UTC))

    async def _until_next(self, now: datetime) -> timedelta:
        stored = await self._database.read(store.stored_tasks)
        upcoming = [
            row.next_at
            for name, row in stored.items()
            if name in self._tasks and row.next_at is not None
        ]
        if not upcoming:
            return _LONGEST_SLEEP
        return min(max(min(upcoming) - now, timedelta()), _LONGEST_SLEEP)


def _define(conn: sa.Connection, tasks: Mapping[str, Task], now: datetime) -> None:
    stored = store.stored_tasks(conn)
    store.drop(conn, [name for name in stored if name not in tasks])
    for name, task in tasks.items():
        next_at = _first(stored.get(name), task, now)
        store.define(conn, name, schedule=str(task.schedule), next_at=next_at, enabled=task.enabled)


def _first(row: StoredTask | None, task: Task, now: datetime) -> datetime | None:
    """The next instant: kept while the schedule is the same, so that missed ones are noticed."""
    if not task.enabled:
        return None
    if row is not None and row.schedule == str(task.schedule) and row.next_at is not None:
        return row.next_at
    return task.schedule.after(now)


def _record(
    conn: sa.Connection, task: Task, seen: datetime, due: Missed, now: datetime
) -> OccurrenceId | None:
    """Move the task on and record its due instants; None when there is nothing to ring."""
    if not store.advance(conn, task.name, seen=seen, next_at=task.schedule.after(now)):
        return None
    for instant in due.skipped:
        store.record(
            conn, task.name, instant, state=OccurrenceState.SKIPPED, at=now, reason=due.reason
        )
    if due.run is None:
        return None
    if task.overlap == "skip" and store.under_way(conn, task.name):
        store.record(
            conn,
            task.name,
            due.run,
            state=OccurrenceState.SKIPPED,
            at=now,
            reason="the previous occurrence was still running",
        )
        return None
    return store.record(conn, task.name, due.run, state=OccurrenceState.DUE, at=now)


def _views(conn: sa.Connection, tasks: Mapping[str, Task]) -> list[TaskView]:
    stored = store.stored_tasks(conn)
    views = []
    for name, task in tasks.items():
        row, last = stored.get(name), store.newest(conn, name, limit=1)
        views.append(TaskView(task, row.next_at if row else None, last[0] if last else None))
    return views
