"""Decides what is due, records every due instant once, and rings for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog

from service.core.model import Accepted, Address, Binding, OccurrenceId, Refusal, RefusalReason
from service.core.schedule import Missed, Schedule, missed
from service.core.states import OccurrenceState
from service.engine.holds import uptime
from service.engine.intake import Intake
from service.engine.metrics import Metrics
from service.engine.tasks import (
    NewTask,
    Task,
    TaskView,
    compile_made,
    definition_of,
    free_name,
    schedule_of,
)
from service.errors import BadInput
from service.failpoints import reach
from service.store import occurrences, sessions
from service.store import tasks as store
from service.store.database import Database
from service.store.occurrences import Occurrence
from service.store.tasks import StoredTask

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# An occurrence that has no turn after this long lost its process between two commits.
_LEFT_BEHIND = timedelta(seconds=5)
# How long a task that another replica made or changed stays unknown here.
_LONGEST_SLEEP = timedelta(seconds=2)

Refused = Callable[[str, Address | None], Awaitable[Refusal | None]]
"""Why somebody may not ring at an address any more; None when they may."""

# How many instants of a task that takes longer than its interval wait for their turn.
_MOST_WAITING = 100
MOST_MADE = 500
MOST_MADE_BY_ONE = 50


class Scheduler:
    """Records and rings the due instants of the tasks; any number of replicas may.

    Tasks are those of the configuration and those that are made while the service runs. The
    latter are read anew whenever they matter, so that every replica knows all of them. They ring
    only while whoever made them is not `refused`.
    """

    def __init__(
        self,
        database: Database,
        intake: Intake,
        metrics: Metrics,
        tasks: Mapping[str, Task],
        agents: Mapping[str, Binding],
        *,
        refused: Refused | None = None,
    ) -> None:
        self._database = database
        self._intake = intake
        self._metrics = metrics
        self._tasks = tasks
        self._agents = agents
        self._refused = refused
        self.checked_at = 0.0

    # -- the clock ---------------------------------------------------------------------------

    async def define(self) -> None:
        """Make the stored tasks those of the configuration; a changed schedule starts anew."""
        renamed = await self._database.write(_define, self._tasks, await self._database.now())
        for old, new in renamed.items():
            log.warning("scheduler.renamed", task=old, now=new, reason="it is configured now")
        self.checked_at = uptime()

    async def ring_due(self) -> timedelta:
        """Record and ring everything that is due; return how long nothing else will be.

        Raises StoreError; whatever was recorded before is rung by the next call, here or on
        another replica.
        """
        now, rows = await self._database.read(store.due)
        for row in rows:
            task = self._of(row)
            if task is not None and row.next_at is not None:
                await self._record(task, row.next_at, now)
        recorded, upcoming = await self._database.read(_ahead, self._tasks)
        await self._ring_left_behind(recorded, now)
        self.checked_at = uptime()
        if upcoming is None:
            return _LONGEST_SLEEP
        return min(max(upcoming - now, timedelta()), _LONGEST_SLEEP)

    async def _record(self, task: Task, seen: datetime, now: datetime) -> None:
        due = missed(task.schedule, since=seen, now=now, window=task.catch_up)
        occurrence = await self._database.write(_record, task, seen, due, now)
        reach("scheduler.recorded")
        skipped = len(due.skipped)
        if skipped:
            # The names of made tasks come and go: as labels they would pile up.
            label = task.name if task.made_by is None else "made"
            self._metrics.skipped.labels(label).inc(skipped)
            log.warning("scheduler.skipped", task=task.name, missed=skipped)
        if occurrence is not None and due.run is not None:
            self._metrics.lateness_seconds.observe(max((now - due.run).total_seconds(), 0))
            await self._ring(task, occurrence, due.run)

    async def _ring_left_behind(self, recorded: Sequence[Occurrence], now: datetime) -> None:
        """Ring what was recorded and never rung, unless it is too fresh to tell."""
        for one in recorded:
            if one.created_at > now - _LEFT_BEHIND:
                continue
            task = await self._find(one.task)
            if task is None:
                await self._skip(one.id, "the task was removed")
            elif task.problem is not None:
                await self._skip(one.id, task.problem)
            else:
                await self._ring(task, one.id, one.scheduled_at, manual=one.manual)

    async def _ring(
        self, task: Task, occurrence: OccurrenceId, at: datetime, *, manual: bool = False
    ) -> Accepted | Refusal:
        if await self._database.read(occurrences.waits, occurrence):
            return _under_way(task.name)
        outcome = await self._refusal(task) or await self._intake.accept(
            task.ring(occurrence, at, manual=manual)
        )
        reach("scheduler.rang")
        if isinstance(outcome, Refusal) and outcome.reason is not RefusalReason.DRAINING:
            await self._skip(occurrence, outcome.detail)
        return outcome

    async def _refusal(self, task: Task) -> Refusal | None:
        """Why it must not ring though it is due: its maker may be let in again."""
        if self._refused is None or task.made_by is None:
            return None
        return await self._refused(task.made_by, next(iter(task.answer_to), None))

    async def _skip(self, occurrence: OccurrenceId, reason: str) -> None:
        at = datetime.now(UTC)
        await self._database.write(occurrences.skip, occurrence, reason=reason, at=at)

    # -- what people do ----------------------------------------------------------------------

    async def run(self, name: str, *, by: str) -> Accepted | Refusal:
        """Run a task now, whatever its schedule says; recorded as a manual occurrence.

        Refused while one of its occurrences is under way: no task overlaps itself.
        """
        task = await self._find(name)
        if task is None:
            return _unknown(name)
        if task.problem is not None:
            return Refusal(RefusalReason.FORBIDDEN, task.problem)
        now = datetime.now(UTC)
        occurrence = await self._database.write(_record_manual, name, now)
        log.info("scheduler.manual", task=name, by=by, allowed=occurrence is not None)
        if occurrence is None:
            return _under_way(name)
        outcome = await self._ring(task, occurrence, now, manual=True)
        if isinstance(outcome, Refusal) and outcome.reason is RefusalReason.UNDER_WAY:
            # Another one began in this moment: nobody waits for this one any more.
            await self._skip(occurrence, outcome.detail)
        return outcome

    async def add(self, new: NewTask) -> TaskView | Refusal:
        """Make a task; every replica knows it a moment later.

        Raises BadInput, which names the field and the fix.
        """
        schedule = schedule_of(new)
        now = await self._database.now()
        made = await self._database.write(_add, new, schedule, self._tasks, self._agents, now)
        if isinstance(made, Refusal):
            return made
        log.info("scheduler.made", task=made.name, by=new.author)
        found = await self.task(made.name)
        return found or _unknown(made.name)

    async def remove(self, name: str, *, by: str, operator: bool = False) -> Refusal | None:
        """Forget a made task, whose turns and occurrences stay; None when it is done.

        Only its author and operators may. One of the configuration is removed there.
        """
        refusal = await self._database.write(_remove, name, self._tasks, by, operator)
        log.info("scheduler.removed", task=name, by=by, allowed=refusal is None)
        return refusal

    async def enable(
        self, name: str, *, on: bool, by: str, operator: bool = False
    ) -> TaskView | Refusal:
        """Turn a task on or off until somebody turns it back, also over a restart.

        Only its author and operators may; of a configured task only operators. What the
        configuration itself turns off stays off.
        """
        task = await self._find(name)
        if task is None:
            return _unknown(name)
        now = await self._database.now()
        refusal = await self._database.write(_enable, task, on, now, by, operator)
        log.info("scheduler.switched", task=name, on=on, by=by, allowed=refusal is None)
        return refusal or await self.task(name) or _unknown(name)

    # -- what people see ---------------------------------------------------------------------

    async def tasks(self, *, reader: str | None = None) -> Sequence[TaskView]:
        """Every task with its next instant and newest occurrence, configured ones first.

        With `reader` without those made in sessions hidden from them.
        """
        rows, newest = await self._database.read(_everything, reader)
        made = [(row, self._of(row)) for row in rows.values() if row.name not in self._tasks]
        configured = [(rows.get(name), task) for name, task in self._tasks.items()]
        return [
            _view(row, task, newest.get(task.name))
            for row, task in (*configured, *made)
            if task is not None
        ]

    async def task(self, name: str) -> TaskView | None:
        """One task, or None when there is none."""
        row, last = await self._database.read(_one, name)
        task = self._tasks.get(name) or (self._of(row) if row else None)
        return None if task is None else _view(row, task, last)

    async def occurrences(self, name: str, *, limit: int = 50) -> Sequence[Occurrence]:
        """The newest occurrences of a task, newest first."""
        return await self._database.read(occurrences.newest, name, limit=limit)

    async def _find(self, name: str) -> Task | None:
        if name in self._tasks:
            return self._tasks[name]
        row = await self._database.read(store.get, name)
        return None if row is None else self._of(row)

    def _of(self, row: StoredTask) -> Task | None:
        """The task of a row; None for one that only another replica's configuration has."""
        return self._tasks.get(row.name) or compile_made(row, self._agents)


def _define(conn: sa.Connection, tasks: Mapping[str, Task], now: datetime) -> dict[str, str]:
    """Store the configured tasks; return the made ones that had to make way, by their new name."""
    stored = store.stored(conn)
    made = {name for name, row in stored.items() if row.definition is not None}
    store.drop(conn, [name for name in stored if name not in tasks and name not in made])
    taken = {*stored, *tasks}
    renamed: dict[str, str] = {}
    for name in made.intersection(tasks):
        renamed[name] = free_name(name, taken)
        taken.add(renamed[name])
        store.rename(conn, name, renamed[name])
    for name, task in tasks.items():
        row = None if name in made else stored.get(name)
        # What the configuration turns off forgets the switch, and starts anew when it is back.
        on = row is None or row.enabled or not task.enabled
        next_at = _first(row, task, now) if on and task.enabled else None
        store.define(conn, name, schedule=str(task.schedule), next_at=next_at, enabled=on)
    return renamed


def _first(row: StoredTask | None, task: Task, now: datetime) -> datetime:
    """The next instant: kept while the schedule is the same, so that missed ones are noticed."""
    if row is not None and row.schedule == str(task.schedule) and row.next_at is not None:
        return row.next_at
    return task.schedule.after(now)


def _record(
    conn: sa.Connection, task: Task, seen: datetime, due: Missed, now: datetime
) -> OccurrenceId | None:
    """Move the task on and record its due instants; None when there is nothing to ring."""
    next_at = None if task.once else task.schedule.after(now)
    if not store.advance(conn, task.name, seen=seen, next_at=next_at):
        return None
    if task.once:
        store.switch(conn, task.name, enabled=False, next_at=None)
    for instant in due.skipped:
        _skipped(conn, task, instant, due.reason, now)
    if due.run is None:
        return None
    if task.problem is not None:
        _skipped(conn, task, due.run, task.problem, now)
        return None
    waiting = occurrences.under_way(conn, task.name)
    if waiting and task.overlap == "skip":
        _skipped(conn, task, due.run, "the previous occurrence was still running", now)
        return None
    if waiting > _MOST_WAITING:
        _skipped(conn, task, due.run, f"{_MOST_WAITING} earlier occurrences wait already", now)
        return None
    return occurrences.record(conn, task.name, due.run, state=OccurrenceState.DUE, at=now)


def _record_manual(conn: sa.Connection, name: str, now: datetime) -> OccurrenceId | None:
    store.lock(conn, name)
    if occurrences.under_way(conn, name):
        return None
    return occurrences.record(conn, name, now, state=OccurrenceState.DUE, at=now, manual=True)


def _skipped(conn: sa.Connection, task: Task, instant: datetime, reason: str, at: datetime) -> None:
    occurrences.record(
        conn, task.name, instant, state=OccurrenceState.SKIPPED, at=at, reason=reason
    )


def _ahead(
    conn: sa.Connection, configured: Mapping[str, Task]
) -> tuple[list[Occurrence], datetime | None]:
    """What was recorded and has no turn yet, and when something is due again."""
    return occurrences.due(conn), store.next_instant(conn, configured)


def _add(
    conn: sa.Connection,
    new: NewTask,
    schedule: Schedule,
    configured: Mapping[str, Task],
    agents: Mapping[str, Binding],
    now: datetime,
) -> StoredTask | Refusal:
    # Before the key: a repeat that comes at the same time has committed by then, or takes the name.
    taken = {*configured, *store.stored(conn)}
    known = _made_with_key(conn, new)
    if known is not None:
        return known
    full = _full(conn, new.author)
    if full is not None:
        return full
    agent = _agent(conn, new, agents)
    home = None if new.made_in is None else store.home_of(conn, new.made_in)
    definition = definition_of(new, schedule, agent=agent, home=home)
    while True:
        row = StoredTask(
            name=free_name(new.name or new.prompt, taken),
            schedule=str(schedule),
            next_at=schedule.after(now),
            enabled=True,
            definition=definition,
            made_by=new.author,
            made_in=new.made_in,
        )
        # What a removed task has under way must not become the business of its namesake.
        if not occurrences.under_way(conn, row.name) and store.make(conn, row):
            return row
        known = _made_with_key(conn, new)
        if known is not None:
            return known
        taken.add(row.name)


def _made_with_key(conn: sa.Connection, new: NewTask) -> StoredTask | None:
    return None if new.key is None else store.made_with(conn, new.key, by=new.author)


def _full(conn: sa.Connection, author: str) -> Refusal | None:
    if store.count_made(conn, by=author) >= MOST_MADE_BY_ONE:
        detail = f"you have made {MOST_MADE_BY_ONE} tasks already; remove one first"
        return Refusal(RefusalReason.FORBIDDEN, detail)
    if store.count_made(conn) >= MOST_MADE:
        detail = f"{MOST_MADE} tasks are made already; an operator must remove some first"
        return Refusal(RefusalReason.FORBIDDEN, detail)
    return None


def _agent(conn: sa.Connection, new: NewTask, agents: Mapping[str, Binding]) -> str:
    """The agent that answers. Raises BadInput."""
    session = None if new.made_in is None else sessions.get(conn, new.made_in)
    if new.made_in is not None and session is None:
        raise BadInput("session: there is no such session")
    if session is not None and new.session_key is None and new.agent not in (None, session.agent):
        raise BadInput(f"agent: the session is bound to {session.agent!r}; leave agent out")
    agent = new.agent or (session.agent if session else next(iter(agents), ""))
    if agent not in agents:
        raise BadInput(f"agent: there is no {agent!r}; there are: {', '.join(agents)}")
    return agent


def _remove(
    conn: sa.Connection, name: str, configured: Mapping[str, Task], by: str, operator: bool
) -> Refusal | None:
    if name in configured:
        detail = f"the task {name!r} is one of the configuration; remove it there"
        return Refusal(RefusalReason.FORBIDDEN, detail)
    row = store.get(conn, name)
    if row is None or row.definition is None:
        return _unknown(name)
    if not operator and row.made_by != by:
        return _not_theirs(name)
    store.drop(conn, [name])
    return None


def _enable(
    conn: sa.Connection, task: Task, on: bool, now: datetime, by: str, operator: bool
) -> Refusal | None:
    row = store.get(conn, task.name)
    if row is None:
        return _unknown(task.name)
    if not operator and row.made_by != by:
        return _not_theirs(task.name)
    if on and task.made_by is None and not task.enabled:
        detail = f"tasks.{task.name}.enabled is false in the configuration; change it there"
        return Refusal(RefusalReason.FORBIDDEN, detail)
    if row.enabled is not on:
        next_at = task.schedule.after(now) if on else None
        store.switch(conn, task.name, enabled=on, next_at=next_at)
    return None


def _under_way(name: str) -> Refusal:
    detail = f"the task {name!r} has a run under way; wait until it is over, or stop it"
    return Refusal(RefusalReason.UNDER_WAY, detail)


def _unknown(name: str) -> Refusal:
    return Refusal(RefusalReason.UNKNOWN, f"there is no task {name!r}")


def _not_theirs(name: str) -> Refusal:
    return Refusal(RefusalReason.FORBIDDEN, f"the task {name!r} is not yours to change")


def _everything(
    conn: sa.Connection, reader: str | None
) -> tuple[dict[str, StoredTask], dict[str, Occurrence]]:
    return store.stored(conn, reader=reader), occurrences.newest_of_each(conn)


def _one(conn: sa.Connection, name: str) -> tuple[StoredTask | None, Occurrence | None]:
    row = store.get(conn, name)
    last = occurrences.newest(conn, name, limit=1) if row else []
    return row, last[0] if last else None


def _view(row: StoredTask | None, task: Task, last: Occurrence | None) -> TaskView:
    on = row is None or row.enabled
    return TaskView(task, task.enabled and on, row.next_at if row else None, last)
