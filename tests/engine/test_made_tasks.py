"""Tasks that are made while the service runs ring like configured ones, on every replica."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from service.core.model import Accepted, Address, Channel, Refusal, RefusalReason, SessionId
from service.core.states import OccurrenceState
from service.engine.scheduler import MOST_MADE, MOST_MADE_BY_ONE, Scheduler
from service.engine.tasks import NewTask, Task, TaskView
from service.errors import BadInput
from service.store import occurrences, tables, tasks
from service.store.database import Database
from service.store.tasks import Definition, StoredTask
from tests.engine.engine import BINDING, CHAT, Engine, running
from tests.engine.test_scheduler import last_hour, recorded, task
from tests.fakes import RememberingSender, ScriptedAgents

ANN = "telegram:7"
AGENTS = {BINDING.agent: BINDING}


def replica(engine: Engine, *configured: Task, agents: Mapping[str, Any] = AGENTS) -> Scheduler:
    """A scheduler of these tasks and all that are made."""
    known = {one.name: one for one in configured}
    return Scheduler(engine.database, engine.intake, engine.metrics, known, agents)


def idle(database: Database) -> Engine:
    """An engine that accepts and claims nothing."""
    return Engine(database, ScriptedAgents(), RememberingSender())


def new(**fields: Any) -> NewTask:
    """Water the plants, every hour."""
    return NewTask(**{"cron": "0 * * * *", "prompt": "Water the plants!", "author": ANN, **fields})


async def add(scheduler: Scheduler, **fields: Any) -> TaskView:
    """Make a task; it must not be refused."""
    made = await scheduler.add(new(**fields))
    assert isinstance(made, TaskView), made
    return made


async def be_due_since(database: Database, name: str, at: datetime) -> None:
    """Leave a task as a service that stopped before `at` would have."""
    await database.write(tasks.switch, name, enabled=True, next_at=at)


async def turns_of(database: Database) -> list[sa.Row[Any]]:
    """Every turn a task rang for."""
    query = sa.select(tables.turns).where(tables.turns.c.channel == Channel.CRON.value)
    return await database.read(lambda conn: list(conn.execute(query)))


async def the_view(scheduler: Scheduler, name: str) -> TaskView:
    """A task that there is."""
    view = await scheduler.task(name)
    assert view is not None
    return view


async def test_a_made_task_is_known_to_every_replica(database: Database) -> None:
    """With who made it and when it rings; one that does not configure anything rings it, too."""
    engine = idle(database)
    made = await add(replica(engine, task()))
    other = replica(engine)

    await be_due_since(database, made.task.name, last_hour())
    pause = await other.ring_due()

    (view,) = await other.tasks()
    assert (view.task.name, view.task.origin, view.task.made_by) == (
        "water-the-plants",
        "made",
        ANN,
    )
    assert (view.enabled, view.next_at) == (True, last_hour() + timedelta(hours=1))
    assert await recorded(database) == [("queued", None)]
    assert pause <= timedelta(seconds=2)


async def test_many_replicas_ring_a_made_task_once(database: Database) -> None:
    """However many look at once, and again later, there is one occurrence and one turn."""
    engine = idle(database)
    replicas = [replica(engine) for _ in range(10)]
    await add(replicas[0])
    await be_due_since(database, "water-the-plants", last_hour())

    await asyncio.gather(*(one.ring_due() for one in replicas))
    await asyncio.gather(*(one.ring_due() for one in replicas))

    assert (len(await recorded(database)), len(await turns_of(database))) == (1, 1)


async def test_it_rings_where_it_was_made(database: Database) -> None:
    """Into that session, in its author's name, and the answer goes to that chat."""
    engine = idle(database)
    scheduler = replica(engine)
    chat = await engine.accept(home=CHAT, answer_to=(CHAT,))
    await add(scheduler, made_in=chat.session)

    accepted = await scheduler.run("water-the-plants", by=ANN)

    assert isinstance(accepted, Accepted)
    (turn,) = await turns_of(database)
    assert (turn.session_id, turn.author, turn.answer_to) == (
        chat.session,
        ANN,
        [["telegram", CHAT.spot]],
    )
    assert (turn.trigger_name, turn.origin) == ("water-the-plants", "schedule")


async def test_it_may_answer_elsewhere(database: Database) -> None:
    """At an address of its own and in a session of its own, when it says so."""
    engine = idle(database)
    scheduler = replica(engine)
    chat = await engine.accept(home=CHAT)
    elsewhere = Address(Channel.TELEGRAM, "1:8")
    await add(scheduler, made_in=chat.session, deliver=elsewhere, session_key="plants")

    accepted = await scheduler.run("water-the-plants", by=ANN)

    assert isinstance(accepted, Accepted)
    assert accepted.session != chat.session
    assert (await turns_of(database))[0].answer_to == [["telegram", "1:8"]]


async def test_a_task_made_nowhere_rings_in_a_new_session_each_time(database: Database) -> None:
    """With the first configured agent."""
    async with running(database) as engine:
        scheduler = replica(engine)
        await add(scheduler)
        sessions = set()
        for _ in range(2):
            rung = await scheduler.run("water-the-plants", by=ANN)
            assert isinstance(rung, Accepted)
            await engine.result(rung.turn)
            sessions.add(rung.session)

    assert len(sessions) == 2


async def test_once_means_once(database: Database) -> None:
    """Its first due instant turns it off; turned on again it has another one."""
    scheduler = replica(idle(database))
    await add(scheduler, once=True)
    await be_due_since(database, "water-the-plants", last_hour())

    await scheduler.ring_due()
    await scheduler.ring_due()
    after = await the_view(scheduler, "water-the-plants")
    again = await scheduler.enable("water-the-plants", on=True, by=ANN)

    assert await recorded(database) == [("queued", None)]
    assert (after.enabled, after.next_at) == (False, None)
    assert isinstance(again, TaskView)
    assert (again.enabled, again.next_at) == (True, last_hour() + timedelta(hours=1))


@pytest.mark.parametrize(("late", "last"), [(5, "queued"), (30, "skipped")])
async def test_a_reminder_comes_late_rather_than_never(
    database: Database, late: int, last: str
) -> None:
    """Up to a day; after that it is over, and recorded as such."""
    scheduler = replica(idle(database))
    due = last_hour() - timedelta(hours=late)
    await add(scheduler, once=True, cron=f"{due.minute} {due.hour} {due.day} {due.month} *")
    await be_due_since(database, "water-the-plants", due)

    await scheduler.ring_due()

    assert [state for state, _ in await recorded(database)] == [last]
    assert not (await the_view(scheduler, "water-the-plants")).enabled


async def test_a_recorded_reminder_survives_its_process(database: Database) -> None:
    """Turned off already, and not rung yet: the next look rings it."""
    scheduler = replica(idle(database))
    await add(scheduler, once=True)
    await database.write(tasks.switch, "water-the-plants", enabled=False, next_at=None)
    await _leave_behind(database, "water-the-plants")

    await scheduler.ring_due()

    assert await recorded(database) == [("queued", None)]


async def test_a_task_whose_agent_left_is_skipped(database: Database) -> None:
    """With that reason, whether it is due, left behind or run by hand; it comes back with it."""
    engine = idle(database)
    await add(replica(engine))
    without = replica(engine, agents={})
    await be_due_since(database, "water-the-plants", last_hour())

    await without.ring_due()
    await _leave_behind(database, "water-the-plants", last_hour() - timedelta(hours=1))
    await without.ring_due()
    refused = await without.run("water-the-plants", by=ANN)
    view = await the_view(without, "water-the-plants")

    reason = "the agent 'assistant' is not configured any more"
    assert await recorded(database) == [("skipped", reason)] * 2
    assert refused == Refusal(RefusalReason.FORBIDDEN, reason)
    assert (view.enabled, view.next_at) == (True, last_hour() + timedelta(hours=1))


async def test_a_session_that_cannot_be_rung_skips(database: Database) -> None:
    """An archived one takes nothing; the occurrence says so and is not tried again."""
    engine = idle(database)
    scheduler = replica(engine)
    chat = await engine.accept(home=CHAT)
    await add(scheduler, made_in=chat.session)
    archive = tables.sessions.update().values(archived_at=datetime.now(UTC))
    await database.write(lambda conn: conn.execute(archive).rowcount)
    await be_due_since(database, "water-the-plants", last_hour())

    await scheduler.ring_due()

    assert await recorded(database) == [("skipped", "the session is archived; restore it first")]


async def test_a_zone_this_machine_does_not_know_skips(database: Database) -> None:
    """What another machine stored cannot stop the scheduler: it is said and moved on."""
    scheduler = replica(idle(database))
    definition = Definition("0 * * * *", "Mars/Olympus", "assistant", "Breathe!")
    row = StoredTask("breathe", "0 * * * * Mars/Olympus", last_hour(), True, definition, ANN)
    await database.write(tasks.make, row)

    pause = await scheduler.ring_due()

    assert pause > timedelta()
    ((state, reason),) = await recorded(database)
    assert state == "skipped"
    assert "Mars/Olympus" in str(reason)


@pytest.mark.parametrize(
    ("name", "prompt", "expected"),
    [
        ("Water the plants", "x", "water-the-plants"),
        (None, "Müll rausbringen!\nJeden Dienstag.", "mull-rausbringen-jeden-dienstag"),
        ("  --  ", "x", "task"),
        ("Напомни", "x", "task"),
        ("greet", "x", "greet-2"),
        ("word " * 20, "x", "word-word-word-word-word-word-word-word-word"),
        ("w" * 60, "x", "w" * 48),
    ],
)
async def test_names(database: Database, name: str | None, prompt: str, expected: str) -> None:
    """Made of what was given, as the configuration would write them, and none of its own."""
    scheduler = replica(idle(database), task())

    made = await add(scheduler, name=name, prompt=prompt)

    assert made.task.name == expected


async def test_names_that_are_taken_are_numbered(database: Database) -> None:
    """Within the same length."""
    scheduler = replica(idle(database))

    made = [await add(scheduler, name="w" * 60) for _ in range(3)]

    assert [one.task.name for one in made] == ["w" * 48, f"{'w' * 46}-2", f"{'w' * 46}-3"]


async def test_a_name_with_something_under_way_is_not_given_again(database: Database) -> None:
    """What the removed task rang for is not the business of its namesake."""
    scheduler = replica(idle(database))
    await add(scheduler)
    await scheduler.run("water-the-plants", by=ANN)
    await scheduler.remove("water-the-plants", by=ANN)

    made = await add(scheduler)

    assert made.task.name == "water-the-plants-2"


async def test_the_same_call_makes_one_task(database: Database) -> None:
    """Repeated after a crash it finds what it made; another author's is another one."""
    scheduler = replica(idle(database))

    made = [await add(scheduler, key="call-1") for _ in range(2)]
    others = await add(scheduler, key="call-1", author="telegram:8")

    assert [one.task.name for one in made] == ["water-the-plants"] * 2
    assert others.task.name == "water-the-plants-2"


async def test_an_author_makes_so_many(database: Database) -> None:
    """The next one is refused; other people still can, until there are too many of all."""
    scheduler = replica(idle(database))
    await database.write(_fill, [ANN] * MOST_MADE_BY_ONE)

    refused = await scheduler.add(new())
    other = await scheduler.add(new(author="telegram:8"))
    await database.write(_fill, [f"telegram:{100 + number}" for number in range(MOST_MADE)])
    nobody = await scheduler.add(new(author="telegram:8"))

    assert isinstance(refused, Refusal)
    assert "50 tasks already" in refused.detail
    assert isinstance(other, TaskView)
    assert isinstance(nobody, Refusal)
    assert "500 tasks" in nobody.detail


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cron": "every day"}, "cron: "),
        ({"cron": "61 * * * *"}, "cron: "),
        ({"timezone": "Atlantis"}, "timezone: "),
        ({"prompt": "  "}, "prompt: "),
        ({"prompt": "x" * 10_001}, "prompt: "),
        ({"agent": "nobody"}, "agent: "),
        ({"made_in": SessionId("0" * 36)}, "session: "),
    ],
)
async def test_what_cannot_be_names_its_field(
    database: Database, fields: dict[str, Any], named: str
) -> None:
    """And nothing is stored."""
    scheduler = replica(idle(database))

    with pytest.raises(BadInput, match=f"^{named}"):
        await scheduler.add(new(**fields))

    assert await scheduler.tasks() == []


async def test_a_session_keeps_its_agent(database: Database) -> None:
    """Naming another one is an error, because that one would not answer."""
    engine = idle(database)
    scheduler = replica(engine, agents={**AGENTS, "coder": BINDING})
    chat = await engine.accept()

    with pytest.raises(BadInput, match=r"^agent: .*assistant"):
        await scheduler.add(new(made_in=chat.session, agent="coder"))


async def test_removing_is_for_the_author(database: Database) -> None:
    """And for operators; what is configured, or not there, is not removed."""
    scheduler = replica(idle(database), task())
    await scheduler.define()
    await add(scheduler, name="mine")
    await add(scheduler, name="yours")

    refused = [
        await scheduler.remove("mine", by="telegram:8"),
        await scheduler.remove("greet", by="operator", operator=True),
        await scheduler.remove("nothing", by=ANN),
        await scheduler.remove("\0", by=ANN),
    ]
    done = [
        await scheduler.remove("mine", by=ANN),
        await scheduler.remove("yours", by="operator", operator=True),
    ]

    assert [one.reason.value for one in refused if one is not None] == [
        "forbidden",
        "forbidden",
        "unknown",
        "unknown",
    ]
    assert done == [None, None]
    assert [view.task.name for view in await scheduler.tasks()] == ["greet"]


async def test_what_a_removed_task_left_behind_is_skipped(database: Database) -> None:
    """Its occurrence stays on record with the reason."""
    scheduler = replica(idle(database))
    await add(scheduler)
    await _leave_behind(database, "water-the-plants")
    await scheduler.remove("water-the-plants", by=ANN)

    await scheduler.ring_due()

    assert await recorded(database) == [("skipped", "the task was removed")]


async def test_a_task_that_is_turned_off_does_not_ring(database: Database) -> None:
    """Only its author may; turning it on again leaves out what was in between."""
    scheduler = replica(idle(database))
    await add(scheduler)
    await be_due_since(database, "water-the-plants", last_hour())

    refused = await scheduler.enable("water-the-plants", on=False, by="telegram:8")
    await scheduler.enable("water-the-plants", on=False, by=ANN)
    await scheduler.ring_due()
    off = await the_view(scheduler, "water-the-plants")
    await scheduler.enable("water-the-plants", on=True, by=ANN)
    await scheduler.ring_due()
    on = await the_view(scheduler, "water-the-plants")

    assert isinstance(refused, Refusal)
    assert await recorded(database) == []
    assert (off.enabled, off.next_at) == (False, None)
    assert (on.enabled, on.next_at) == (True, last_hour() + timedelta(hours=1))


async def test_turning_on_what_is_on_forgets_no_instant(database: Database) -> None:
    """Doing it again does nothing."""
    scheduler = replica(idle(database))
    await add(scheduler)
    await be_due_since(database, "water-the-plants", last_hour())

    await scheduler.enable("water-the-plants", on=True, by=ANN)

    assert (await the_view(scheduler, "water-the-plants")).next_at == last_hour()


async def test_a_configured_task_is_switched_by_operators(database: Database) -> None:
    """It stays off over a restart; nobody else may, and the words of the configuration stay."""
    engine = idle(database)
    scheduler = replica(engine, task())
    await scheduler.define()

    refused = await scheduler.enable("greet", on=False, by=ANN)
    await scheduler.enable("greet", on=False, by="operator", operator=True)
    restarted = replica(engine, task())
    await restarted.define()
    off = await the_view(restarted, "greet")
    await restarted.enable("greet", on=True, by="operator", operator=True)
    on = await the_view(scheduler, "greet")

    assert isinstance(refused, Refusal)
    assert (off.enabled, off.next_at) == (False, None)
    assert (on.enabled, on.next_at) == (True, last_hour() + timedelta(hours=1))


async def test_the_configuration_turns_off_for_good(database: Database) -> None:
    """Nobody turns such a task on; once the configuration lets it, it rings again."""
    engine = idle(database)
    await replica(engine, task()).define()
    off = replica(engine, task(enabled=False))
    await off.define()

    refused = await off.enable("greet", on=True, by="operator", operator=True)
    view = await the_view(off, "greet")
    back = replica(engine, task())
    await back.define()

    assert isinstance(refused, Refusal)
    assert "tasks.greet.enabled" in refused.detail
    assert (view.enabled, view.next_at) == (False, None)
    assert (await the_view(back, "greet")).next_at is not None


async def test_a_configured_name_makes_a_made_task_move(database: Database) -> None:
    """The configuration has its name; the made one keeps ringing under another."""
    engine = idle(database)
    await add(replica(engine), name="greet", prompt="Water!")

    scheduler = replica(engine, task())
    await scheduler.define()

    names = {view.task.name: view.task.prompt for view in await scheduler.tasks()}
    assert names == {"greet": "Good hour!", "greet-2": "Water!"}


async def test_a_start_keeps_made_tasks(database: Database) -> None:
    """With the instants they missed meanwhile."""
    engine = idle(database)
    await add(replica(engine))
    await be_due_since(database, "water-the-plants", last_hour() - timedelta(hours=1))

    restarted = replica(engine, task())
    await restarted.define()
    await restarted.ring_due()

    assert sorted(state for state, _ in await recorded(database)) == ["queued", "skipped"]


async def _leave_behind(database: Database, name: str, at: datetime | None = None) -> None:
    """Record an occurrence as a process that died before it rang would have."""
    long_ago = datetime.now(UTC) - timedelta(minutes=1)
    await database.write(
        occurrences.record, name, at or last_hour(), state=OccurrenceState.DUE, at=long_ago
    )


def _fill(conn: sa.Connection, authors: list[str]) -> None:
    definition = Definition("0 * * * *", "UTC", "assistant", "x")
    for number, author in enumerate(authors):
        name = f"{author.replace(':', '-')}-{number}"
        assert tasks.make(conn, StoredTask(name, "x", None, True, definition, author))
