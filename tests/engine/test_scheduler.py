"""Every due instant of a task is recorded once and rung once, whoever looks at the clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from service.core.model import Accepted, Refusal, RefusalReason, Source
from service.core.schedule import Schedule
from service.core.states import OccurrenceState
from service.engine.keeping import NotKept
from service.engine.scheduler import Scheduler
from service.engine.tasks import Task
from service.store import occurrences, sessions, tables, tasks
from service.store.database import Database
from service.store.sessions import Session
from tests.engine.engine import BINDING, Engine, running
from tests.fakes import RememberingSender, ScriptedAgents

HOURLY = Schedule.parse("0 * * * *", "UTC")


def task(**fields: Any) -> Task:
    """A task that greets every hour."""
    values: dict[str, Any] = {
        "name": "greet",
        "schedule": HOURLY,
        "binding": BINDING,
        "prompt": "Good hour!",
        "sticky": False,
        "catch_up": timedelta(hours=1),
        "overlap": "skip",
        "enabled": True,
        **fields,
    }
    return Task(**values)


def scheduler(engine: Engine, one: Task) -> Scheduler:
    """A scheduler of one task."""
    agents = {BINDING.agent: BINDING}
    return Scheduler(engine.database, engine.intake, engine.metrics, {one.name: one}, agents)


async def be_due_since(database: Database, at: datetime) -> None:
    """Leave the task as a service that stopped before `at` would have."""
    await database.write(tasks.define, "greet", schedule=str(HOURLY), next_at=at, enabled=True)


def last_hour() -> datetime:
    """The last full hour."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


async def recorded(database: Database) -> list[tuple[str, str | None]]:
    """State and reason of every occurrence, oldest first."""
    table = tables.occurrences
    rows = await database.read(
        lambda conn: conn.execute(sa.select(table).order_by(table.c.scheduled_at)).all()
    )
    return [(row.state, row.reason) for row in rows]


async def test_a_due_instant_becomes_a_turn(database: Database) -> None:
    """With its occurrence done when the turn is, and the next instant known."""
    async with running(database) as engine:
        one = scheduler(engine, task())
        await be_due_since(database, last_hour())
        await one.define()

        pause = await one.ring_due()
        view = (await one.tasks())[0]
        assert view.last is not None
        assert view.last.turn is not None
        result = await engine.result(view.last.turn)

    assert result.text == "Hello."
    assert pause <= timedelta(seconds=30)
    assert view.next_at == last_hour() + timedelta(hours=1)
    assert await recorded(database) == [("done", None)]


async def test_many_replicas_ring_once(database: Database) -> None:
    """However many look at once, and again later, there is one occurrence and one turn."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    schedulers = [scheduler(engine, task()) for _ in range(20)]
    await be_due_since(database, last_hour())

    await asyncio.gather(*(one.ring_due() for one in schedulers))
    await asyncio.gather(*(one.ring_due() for one in schedulers))

    turns = await database.read(
        lambda conn: conn.scalar(sa.select(sa.func.count()).select_from(tables.turns))
    )
    assert (len(await recorded(database)), turns) == (1, 1)


async def test_missed_instants_are_recorded(database: Database) -> None:
    """After an outage the last one runs, the others are skipped with the reason."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    await be_due_since(database, last_hour() - timedelta(hours=3))

    await scheduler(engine, task(catch_up=timedelta(minutes=61))).ring_due()

    found = await recorded(database)
    assert [state for state, _ in found] == ["skipped", "skipped", "skipped", "queued"]
    assert all("not running" in str(reason) for _, reason in found[:3])


@pytest.mark.parametrize(("overlap", "second"), [("skip", "skipped"), ("queue", "due")])
async def test_a_task_that_is_still_running(database: Database, overlap: str, second: str) -> None:
    """The next instant is skipped, or waits, as the task says; it does not overlap."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    one = scheduler(engine, task(overlap=overlap))
    await one.run("greet", by="operator")
    await be_due_since(database, last_hour())

    await one.ring_due()

    states = [state for state, _ in await recorded(database)]
    assert sorted(states) == sorted(["queued", second])


async def test_what_waits_rings_when_the_run_before_is_over(database: Database) -> None:
    """In the order in which it was due, one after the other."""
    async with running(database) as engine:
        one = scheduler(engine, task(overlap="queue"))
        await one.define()
        for hours in (2, 1):
            at = last_hour() - timedelta(hours=hours)
            await database.write(occurrences.record, "greet", at, state=OccurrenceState.DUE, at=at)
        await one.ring_due()
        first = [state for state, _ in await recorded(database)]
        await _end_of_runs(engine, one)
        await one.ring_due()
        await _end_of_runs(engine, one)

    assert first in (["queued", "due"], ["done", "due"])
    assert await recorded(database) == [("done", None), ("done", None)]


async def test_not_without_end_does_anything_wait(database: Database) -> None:
    """A task that takes longer than its interval falls behind no further."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    one = scheduler(engine, task(overlap="queue"))
    now = datetime.now(UTC)
    for hours in range(1, 102):
        at = last_hour() - timedelta(hours=hours)
        await database.write(occurrences.record, "greet", at, state=OccurrenceState.DUE, at=now)
    await be_due_since(database, last_hour())

    await one.ring_due()

    assert (await recorded(database))[-1] == ("skipped", "100 earlier occurrences wait already")


async def test_an_occurrence_whose_process_died_is_rung_later(database: Database) -> None:
    """Recorded and not rung: the next look finds it."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    one = scheduler(engine, task())
    await one.define()
    long_ago = datetime.now(UTC) - timedelta(minutes=1)
    await database.write(
        occurrences.record, "greet", last_hour(), state=OccurrenceState.DUE, at=long_ago
    )

    await one.ring_due()

    assert await recorded(database) == [("queued", None)]


async def test_a_manual_run_is_an_occurrence_of_its_own(database: Database) -> None:
    """It does not touch the schedule, and may be repeated, but not while it is under way."""
    async with running(database) as engine:
        one = scheduler(engine, task())
        await one.define()
        first = await _session_of_a_run(engine, one)
        second = await _session_of_a_run(engine, one)
    idle = scheduler(Engine(database, ScriptedAgents(), RememberingSender()), task())
    asked = [await idle.run("greet", by="operator") for _ in range(2)]
    unknown = await idle.run("nobody", by="operator")

    assert first.id != second.id
    assert [type(one) for one in asked] == [Accepted, Refusal]
    assert asked[1] == Refusal(
        RefusalReason.UNDER_WAY,
        "the task 'greet' has a run under way; wait until it is over, or stop it",
    )
    assert isinstance(unknown, Refusal)
    assert [one.manual for one in await idle.occurrences("greet")] == [True] * 3


async def test_of_two_who_run_it_at_once_one_is_refused(database: Database) -> None:
    """Whichever came first."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    one = scheduler(engine, task())
    await one.define()

    outcomes = await asyncio.gather(*(one.run("greet", by="operator") for _ in range(5)))

    states = [state for state, _ in await recorded(database)]
    assert sum(isinstance(outcome, Accepted) for outcome in outcomes) == 1
    assert states.count("queued") == 1
    assert set(states) <= {"queued", "skipped"}


async def test_a_sticky_task_goes_on_in_its_pinned_session(database: Database) -> None:
    """Until that is put away: then it pins another one."""
    async with running(database) as engine:
        one = scheduler(engine, task(sticky=True))
        await one.define()
        first, second = [await _session_of_a_run(engine, one) for _ in range(2)]
        async with engine.controls.steps() as command:
            refused = await command.archive(first.id, by="ann")
            await command.pin(first.id, sticky=False, by="ann")
            await command.archive(first.id, by="ann")
        third = await _session_of_a_run(engine, one)

    assert refused is NotKept.PINNED
    assert second.id == first.id != third.id
    assert [(made.source, made.task, made.sticky) for made in (first, third)] == [
        (Source.SCHEDULED, "greet", True)
    ] * 2


async def test_other_tasks_pin_nothing(database: Database) -> None:
    """Each of their occurrences has a session of its own."""
    async with running(database) as engine:
        one = scheduler(engine, task())
        await one.define()
        first, second = [await _session_of_a_run(engine, one) for _ in range(2)]

    assert first.id != second.id
    assert [(made.source, made.task, made.sticky) for made in (first, second)] == [
        (Source.SCHEDULED, "greet", False)
    ] * 2


async def _end_of_runs(engine: Engine, one: Scheduler) -> None:
    for run in await one.occurrences("greet"):
        if run.turn is not None:
            await engine.result(run.turn)


async def _session_of_a_run(engine: Engine, one: Scheduler) -> Session:
    accepted = await one.run("greet", by="operator")
    assert isinstance(accepted, Accepted)
    await engine.result(accepted.turn)
    found = await engine.database.read(sessions.get, accepted.session)
    assert found is not None
    return found


async def test_a_changed_schedule_starts_anew(database: Database) -> None:
    """What the old one would have missed is no business of the new one."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    await be_due_since(database, last_hour() - timedelta(days=3))
    daily = task(schedule=Schedule.parse("0 8 * * *", "Europe/Berlin"))

    one = scheduler(engine, daily)
    await one.define()
    await one.ring_due()

    assert await recorded(database) == []


async def test_a_task_that_left_the_configuration_is_forgotten(database: Database) -> None:
    """Its occurrences stay on record."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    await be_due_since(database, last_hour())
    await scheduler(engine, task()).ring_due()

    await Scheduler(database, engine.intake, engine.metrics, {}, {}).define()

    assert await database.read(tasks.stored) == {}
    assert len(await recorded(database)) == 1
