"""What a dead or suspended holder leaves behind is taken over, and it writes nothing more."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from service.core.model import NewEvent, Usage
from service.core.states import DeliveryState, TurnState
from service.engine.holds import Hold, trusted_until, uptime
from service.errors import ChannelDown, ChannelError, ChannelUncertain, Fenced
from service.ports import Caller, Finished, TextDelta, ToolCall, ToolSpec
from service.store import spending, tables
from service.store.database import Database
from tests.engine.engine import CHAT, Engine, running
from tests.fakes import RememberingSender, ScriptedAgents

DICE = ToolSpec("dice", "Roll a dice.", {"type": "object"})
CLOCK = ToolSpec("clock", "Tell the time.", {"type": "object"}, idempotent=True)


def stuck() -> ScriptedAgents:
    """A model that says half a sentence and no more."""
    return ScriptedAgents([[TextDelta("Half a sen"), asyncio.Event()]])


async def abandon(engine: Engine) -> None:
    """Vanish like a killed process: no drain, nothing handed over."""
    for workers in (engine.lanes, engine.posts):
        tasks = [*workers._loops, *workers._tasks]  # noqa: SLF001 - a kill asks nobody
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def let_leases_lapse(database: Database) -> None:
    """Let the time pass after which others may take over."""
    await database.write(_lapse)


def _lapse(conn: sa.Connection) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    for table in (tables.turns, tables.deliveries):
        conn.execute(
            table.update().where(table.c.lease_until.is_not(None)).values(lease_until=past)
        )


async def said(engine: Engine, text: str) -> None:
    """Wait until a text event with these words is in the feed of the one session."""
    async with asyncio.timeout(60):
        while True:
            found = await engine.database.read(
                lambda conn: conn.execute(sa.select(tables.events.c.data)).scalars().all()
            )
            if any(one.get("text") == text for one in found):
                return
            await asyncio.sleep(0.01)


async def test_what_an_abandoned_turn_took_is_counted(database: Database) -> None:
    """As far as it is stored: a turn that is given up has cost what it has cost."""
    cost = Usage(10, 5, 0, 20_000)
    agents = ScriptedAgents(
        [[TextDelta("So far."), ToolCall("c", "dice", "{}"), Finished(cost)], [asyncio.Event()]],
        tools_=[DICE],
    )
    first = Engine(database, agents, RememberingSender())
    first.start()
    accepted = await first.accept()
    while len(agents.prompts) < 2:
        await asyncio.sleep(0.01)
    await abandon(first)

    second = Engine(database, agents, RememberingSender())
    await second.turns.rescue(attempts=1, alone=True)

    result = await second.result(accepted.turn)
    [spent] = await database.read(spending.by_day, date(2020, 1, 1))
    assert (result.turn.state, result.turn.usage) == (TurnState.FAILED, Usage(10, 5, 1, 20_000))
    assert (spent.agent, spent.turns, spent.usage) == ("assistant", 1, result.turn.usage)


async def test_a_killed_holders_turn_is_taken_over(database: Database) -> None:
    """The next holder begins again from the last boundary; the attempt counts."""
    first = Engine(database, stuck(), RememberingSender())
    first.start()
    accepted = await first.accept()
    await said(first, "Half a sen")
    await abandon(first)
    await let_leases_lapse(database)

    async with running(database) as second:
        rescued = await second.turns.rescue(attempts=3)
        second.wake()
        result = await second.result(accepted.turn)

    assert rescued == 1
    assert (result.text, result.turn.attempt) == ("Hello.", 2)


async def test_a_turn_that_kills_every_holder_ends_visibly(database: Database) -> None:
    """After its last attempt it fails with a sentence, and what was said is kept."""
    first = Engine(database, stuck(), RememberingSender())
    first.start()
    accepted = await first.accept(answer_to=(CHAT,))
    await said(first, "Half a sen")
    await abandon(first)
    await let_leases_lapse(database)
    second = Engine(database, stuck(), RememberingSender())

    await second.turns.rescue(attempts=1)
    result = await second.result(accepted.turn)

    assert result.turn.state is TurnState.FAILED
    assert "interrupted 1 times" in (result.turn.error or "")
    assert result.text == "Half a sen"


async def test_a_stop_asked_of_a_dead_holder_is_kept(database: Database) -> None:
    """The rescue settles the turn as stopped instead of beginning it again."""
    first = Engine(database, stuck(), RememberingSender())
    first.start()
    accepted = await first.accept()
    await said(first, "Half a sen")
    await abandon(first)
    second = Engine(database, stuck(), RememberingSender())
    async with second.controls.steps() as command:
        await command.stop_session(accepted.session, by="operator")
    await let_leases_lapse(database)

    await second.turns.rescue(attempts=3)
    result = await second.result(accepted.turn)

    assert (result.turn.state, result.text) == (TurnState.STOPPED, "Half a sen")


@pytest.mark.parametrize(("tool", "runs"), [(DICE, 0), (CLOCK, 1)])
async def test_a_tool_that_a_crash_interrupted(
    database: Database, tool: ToolSpec, runs: int
) -> None:
    """It is repeated only when that does no harm; otherwise the model learns that nobody knows."""
    first_agents = ScriptedAgents([[ToolCall("c", tool.name, "{}"), Finished()]], tools_=[tool])
    first = Engine(database, first_agents, RememberingSender())
    hang = asyncio.Event()

    async def never(call: ToolCall, caller: Caller) -> str:
        hang.set()
        await asyncio.Event().wait()
        return ""

    first_agents.on_work = never
    first.start()
    accepted = await first.accept()
    await hang.wait()
    await abandon(first)
    await let_leases_lapse(database)
    heir = ScriptedAgents([[TextDelta("done"), Finished()]], tools_=[tool])

    async with running(database, heir) as second:
        await second.turns.rescue(attempts=3)
        second.wake()
        await second.result(accepted.turn)

    results = heir.prompts[0].steps[0].results
    assert len(heir.calls) == runs
    assert results[0].text.startswith("Outcome unknown") == (runs == 0)


async def test_an_outdated_holder_writes_nothing(database: Database) -> None:
    """Whoever was rescued from is fenced at its next write, whatever it believes."""
    first = Engine(database, stuck(), RememberingSender())
    first.start()
    accepted = await first.accept()
    await said(first, "Half a sen")
    await let_leases_lapse(database)
    second = Engine(database, ScriptedAgents(), RememberingSender())
    await second.turns.rescue(attempts=3)

    with pytest.raises(Fenced):
        await first.feed.append(
            accepted.session, accepted.turn, 1, [NewEvent("text", {"reply": "r", "text": "late"})]
        )
    await abandon(first)


async def test_a_holder_that_slept_too_long_stops_by_itself() -> None:
    """Its own clock tells it, before it asks anybody."""
    hold = Hold("turn", 1, trusted_until(uptime() - 26))

    with pytest.raises(Fenced):
        hold.check()


async def test_a_delivery_that_failed_is_tried_again(database: Database) -> None:
    """What may pass is retried; what was sent is not sent again."""
    sender = RememberingSender(failures=[ChannelDown("no route")])

    async with running(database, sender=sender) as engine:
        await engine.accept(answer_to=(CHAT,))
        rows = await _settled(engine)

    assert [(row.state, row.attempt) for row in rows] == [("sent", 2)]
    assert len(sender.seen) == 1


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ChannelError("the chat is gone"), DeliveryState.FAILED),
        (ChannelUncertain("no answer came"), DeliveryState.UNCERTAIN),
    ],
)
async def test_a_delivery_that_cannot_be_repeated_ends(
    database: Database, error: ChannelError, state: DeliveryState
) -> None:
    """A refusal is final; so is doubt."""
    sender = RememberingSender(failures=[error])

    async with running(database, sender=sender) as engine:
        await engine.accept(answer_to=(CHAT,))
        rows = await _settled(engine)

    assert [(row.state, row.error) for row in rows] == [(state.value, str(error))]
    assert sender.seen == []


async def _settled(engine: Engine) -> list[sa.Row[tuple[object, ...]]]:
    """The deliveries, once none is left to send."""
    async with asyncio.timeout(60):
        while True:
            rows = await engine.database.read(
                lambda conn: list(conn.execute(sa.select(tables.deliveries)))
            )
            if rows and all(row.finished_at is not None for row in rows):
                return rows
            await asyncio.sleep(0.02)
