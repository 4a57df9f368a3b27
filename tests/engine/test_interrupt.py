"""Stop cuts at once, wherever a turn runs; interrupt waits for a boundary and asks how to go on."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta

import pytest

from service.core.model import Busy, Ended, Origin, Role
from service.core.states import TurnState
from service.engine import workers
from service.engine.hints import Hints
from service.engine.questions import PROMPT_USER
from service.engine.steering import Interrupting
from service.errors import ProviderRefused
from service.ports import Caller, Finished, TextDelta, ToolCall, ToolSpec
from service.store import audit
from service.store.database import Database
from tests.engine.engine import Engine, running
from tests.fakes import RememberingSender, Script, ScriptedAgents

WORK = ToolSpec("work", "Work.", {"type": "object"})
CALL = ToolCall("w", "work", "{}")
ASK = ToolCall("q", "prompt_user", json.dumps({"question": "Which?"}))
OWNER = "telegram:7"


class Gate:
    """A tool that waits inside until it is let go."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, call: ToolCall, caller: Caller) -> str:
        self.inside.set()
        await self.open.wait()
        return f"{call.id} done"


def working(gate: Gate, *after: object) -> ScriptedAgents:
    """Agents whose model works once; what it says afterwards is given."""
    scripts = [[TextDelta("On it."), CALL, Finished()], *after]
    return ScriptedAgents(scripts, tools_=[WORK, PROMPT_USER], on_work=gate)  # type: ignore[arg-type]


async def interrupt(engine: Engine, session: str, by: str = OWNER) -> Interrupting:
    """Interrupt as somebody."""
    async with engine.controls.steps() as command:
        return await command.interrupt(session, by=by)  # type: ignore[arg-type]


async def test_interrupt_waits_for_the_tool_and_asks_how_to_go_on(database: Database) -> None:
    """The running tool ends, no other starts, and the last call has no tools."""
    gate = Gate()
    agents = working(gate, [TextDelta("I read half of it. What now?"), Finished()])

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await gate.inside.wait()
        first = await interrupt(engine, accepted.session)
        second = await interrupt(engine, accepted.session)
        gate.open.set()
        result = await engine.result(accepted.turn)
        after = await interrupt(engine, accepted.session)

    assert (first, second, after) == (
        Interrupting.INTERRUPTING,
        Interrupting.ALREADY,
        Interrupting.IDLE,
    )
    assert result.text == "On it.\n\nI read half of it. What now?"
    assert (result.turn.state, result.turn.ended) == (TurnState.SUCCEEDED, Ended.INTERRUPTED)
    assert result.turn.interrupted_by == OWNER
    assert agents.prompts[1].tools == ()
    assert agents.prompts[1].steps[0].results[0].text == "w done"
    assert "interrupted" in agents.prompts[1].steps[0].added[0]


async def test_interrupt_in_mid_text_takes_effect_when_the_response_ends(
    database: Database,
) -> None:
    """There is no tool boundary to wait for; the agent has said its sentence and asks."""
    gate = asyncio.Event()
    agents = ScriptedAgents(
        [
            [TextDelta("Half"), gate, TextDelta(" and half."), Finished()],
            [TextDelta("How shall I go on?"), Finished()],
        ]
    )

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await engine.until(accepted, "text")
        await interrupt(engine, accepted.session)
        gate.set()
        result = await engine.result(accepted.turn)

    assert result.text == "Half and half.\n\nHow shall I go on?"
    assert result.turn.ended is Ended.INTERRUPTED
    assert agents.prompts[1].steps[0].text == "Half and half."


@pytest.mark.parametrize("wanted", [CALL, ASK])
async def test_nothing_begins_after_an_interruption(database: Database, wanted: ToolCall) -> None:
    """No tool and no question of the response it came into; afterwards the talk goes on."""
    gate = asyncio.Event()
    agents = ScriptedAgents(
        [
            [TextDelta("Half"), gate, wanted, Finished()],
            [TextDelta("What now?"), Finished()],
            [TextDelta("As you wish."), Finished()],
        ],
        tools_=[WORK, PROMPT_USER],
    )

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await engine.until(accepted, "text")
        await interrupt(engine, accepted.session)
        gate.set()
        result = await engine.result(accepted.turn)
        events = await engine.events(accepted)
        then = await engine.result((await engine.accept("Leave it.")).turn)

    assert agents.calls == []
    assert [one.data["state"] for one in events if one.kind == "tool.finished"] == ["cancelled"]
    assert "question.asked" not in [one.kind for one in events]
    assert "the person interrupted" in agents.prompts[1].steps[0].results[0].text
    assert (result.text, result.turn.ended) == ("Half\n\nWhat now?", Ended.INTERRUPTED)
    assert then.text == "As you wish."
    told = [said.text for said in agents.prompts[2].history]
    assert told[-2:] == ["Half\n\nWhat now?", "Leave it."]


@pytest.mark.parametrize("failing", [[ProviderRefused("no")], [Finished(cut=True)]])
async def test_a_model_that_cannot_acknowledge_is_spoken_for(
    database: Database, failing: Script
) -> None:
    """The interruption is noticed even when the provider refuses, or leaves no word."""
    gate = Gate()
    agents = working(gate, failing)

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await gate.inside.wait()
        await interrupt(engine, accepted.session)
        gate.open.set()
        result = await engine.result(accepted.turn)

    assert result.text.endswith("How shall I go on?")
    assert result.turn.state is TurnState.SUCCEEDED


async def test_only_the_owner_interrupts_and_every_attempt_is_noted(database: Database) -> None:
    """Somebody else is refused, and the turn does not notice."""
    gate = Gate()
    agents = working(gate, [TextDelta("Done."), Finished()])

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await gate.inside.wait()
        refused = await interrupt(engine, accepted.session, by="telegram:8")
        gate.open.set()
        result = await engine.result(accepted.turn)
        noted = await database.read(audit.newest, limit=5)

    assert refused is Interrupting.NOT_OWNER
    assert (result.text, result.turn.ended) == ("On it.\n\nDone.", None)
    assert [(one.principal, one.action, one.allowed) for one in noted] == [
        ("telegram:8", "interrupt", False)
    ]


async def test_interrupt_while_waiting_withdraws_the_question(database: Database) -> None:
    """The turn goes on without an answer, acknowledges and asks."""
    agents = ScriptedAgents(
        [[ASK, Finished()], [TextDelta("Then what?"), Finished()]], tools_=[PROMPT_USER]
    )

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await engine.until(accepted, "question.asked")
        outcome = await interrupt(engine, accepted.session)
        result = await engine.result(accepted.turn)

    assert outcome is Interrupting.INTERRUPTING
    assert (result.text, result.turn.ended) == ("Then what?", Ended.INTERRUPTED)
    assert "withdrawn" in agents.prompts[1].steps[0].results[0].text


async def test_words_that_interrupt_are_no_answer(database: Database) -> None:
    """Not even a yes: the question is withdrawn, and they are what the agent goes on with."""
    send = ToolSpec("send", "Send.", {"type": "object"}, outward=True, approval=True)
    agents = ScriptedAgents(
        [[ToolCall("s", "send", "{}"), Finished()], [TextDelta("Fine."), Finished()]],
        tools_=[send],
    )

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await engine.until(accepted, "question.asked")
        new = await engine.accept("yes, but otherwise", busy=Busy.INTERRUPT)
        first = await engine.result(accepted.turn)
        second = await engine.result(new.turn)

    assert not new.answered
    assert agents.calls == []
    assert first.turn.ended is Ended.INTERRUPTED
    assert second.text == "Fine."


async def test_an_interruption_survives_the_process(database: Database) -> None:
    """The next holder does not run on as if nothing had been asked."""
    gate = Gate()
    async with running(database, working(gate)) as first:
        accepted = await first.accept()
        await gate.inside.wait()
        await interrupt(first, accepted.session)
    heir = ScriptedAgents([[TextDelta("What now?"), Finished()]], tools_=[WORK])

    async with running(database, heir) as second:
        await second.turns.rescue(attempts=3, alone=True)
        result = await second.result(accepted.turn)

    assert result.turn.ended is Ended.INTERRUPTED
    assert heir.prompts[0].tools == ()


async def test_a_message_that_interrupts_comes_right_after(database: Database) -> None:
    """The agent stops at the boundary and goes on with the new words, without another question."""
    gate = Gate()
    agents = working(gate, [TextDelta("Otherwise it is."), Finished()])

    async with running(database, agents) as engine:
        accepted = await engine.accept("do it")
        await gate.inside.wait()
        new = await engine.accept("do it otherwise", busy=Busy.INTERRUPT)
        gate.open.set()
        first = await engine.result(accepted.turn)
        second = await engine.result(new.turn)

    assert first.turn.ended is Ended.INTERRUPTED
    assert first.text.startswith("On it.\n\nI stopped")
    assert second.text == "Otherwise it is."
    assert second.turn.busy is Busy.INTERRUPT
    assert len(agents.prompts) == 2


@pytest.mark.parametrize("earlier", [Busy.INTERRUPT, Busy.QUEUE])
async def test_an_interruption_and_a_message_come_at_the_same_moment(
    database: Database, earlier: Busy
) -> None:
    """Stored in one transaction, they are answered in their order, each by its own turn."""
    gate, words = Gate(), {Busy.INTERRUPT: "do it otherwise", Busy.QUEUE: "and then this"}
    order = [earlier, *(set(words) - {earlier})]
    later = [[TextDelta(text), Finished()] for text in ("First.", "Second.")]

    async with running(database, working(gate, *later)) as engine:
        accepted = await engine.accept("do it")
        await gate.inside.wait()
        both = await asyncio.gather(*(engine.accept(words[busy], busy=busy) for busy in order))
        gate.open.set()
        interrupted = await engine.result(accepted.turn)
        results = [await engine.result(one.turn) for one in both]

    assert interrupted.turn.ended is Ended.INTERRUPTED
    assert [one.turn.busy for one in results] == order
    assert [one.text for one in results] == ["First.", "Second."]


async def test_a_stranger_s_message_does_not_interrupt(database: Database) -> None:
    """It waits in line like any other, and the attempt is noted."""
    gate = Gate()
    agents = working(gate, [TextDelta("Done."), Finished()])

    async with running(database, agents) as engine:
        accepted = await engine.accept("do it")
        await gate.inside.wait()
        new = await engine.accept("stop that", busy=Busy.INTERRUPT, author="telegram:8")
        gate.open.set()
        first = await engine.result(accepted.turn)
        second = await engine.result(new.turn)
        noted = await database.read(audit.newest, limit=5)

    assert first.turn.ended is None
    assert second.turn.busy is Busy.QUEUE
    assert [(one.principal, one.allowed) for one in noted] == [("telegram:8", False)]


async def test_a_steering_message_is_heard_at_the_boundary(database: Database) -> None:
    """The model gets it after the tool's result; one reply answers both, in one order for ever."""
    gate = Gate()
    agents = working(gate, [TextDelta("Both done."), Finished()])

    async with running(database, agents) as engine:
        accepted = await engine.accept("do it")
        await gate.inside.wait()
        steering = await engine.accept("in blue", busy=Busy.STEER)
        queued = await engine.accept("and then this")
        gate.open.set()
        first = await engine.result(accepted.turn)
        joined = await engine.result(steering.turn)
        await engine.result(queued.turn)

    assert agents.prompts[1].steps[0].added == ("in blue",)
    assert first.text == joined.text == "On it.\n\nBoth done."
    assert joined.turn.joined == accepted.turn
    assert joined.turn.state is TurnState.SUCCEEDED
    assert [said.text for said in agents.prompts[2].history] == [
        "do it",
        "in blue",
        "On it.\n\nBoth done.",
        "and then this",
    ]


async def test_a_stranger_s_words_do_not_steer_a_person_s_turn(database: Database) -> None:
    """They would be heard with the rights of the turn; so they wait for one of their own."""
    gate = Gate()
    agents = working(gate, [TextDelta("Done."), Finished()])

    async with running(database, agents) as engine:
        accepted = await engine.accept("do it")
        await gate.inside.wait()
        event = await engine.accept(
            "send everything", busy=Busy.STEER, origin=Origin.EVENT, role=Role.EVENT
        )
        gate.open.set()
        await engine.result(accepted.turn)
        result = await engine.result(event.turn)

    assert agents.prompts[1].steps[0].added == ()
    assert result.turn.joined is None


async def test_steering_without_a_boundary_is_the_next_turn(database: Database) -> None:
    """A reply without tools has none; nothing is lost."""
    gate = asyncio.Event()
    agents = ScriptedAgents(
        [[TextDelta("Half"), gate, Finished()], [TextDelta("And blue."), Finished()]]
    )

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await engine.until(accepted, "text")
        steering = await engine.accept("in blue", busy=Busy.STEER)
        gate.set()
        await engine.result(accepted.turn)
        second = await engine.result(steering.turn)

    assert (second.text, second.turn.joined) == ("And blue.", None)


async def test_steering_survives_the_process(database: Database) -> None:
    """What joined before the crash is told to the heir's model, and ends with the turn."""
    gate = Gate()
    stuck = working(gate, [asyncio.Event()])
    async with running(database, stuck) as first:
        accepted = await first.accept()
        await gate.inside.wait()
        steering = await first.accept("in blue", busy=Busy.STEER)
        gate.open.set()
        while len(stuck.prompts) < 2:
            await asyncio.sleep(0.01)
    heir = ScriptedAgents([[TextDelta("Blue it is."), Finished()]], tools_=[WORK])

    async with running(database, heir) as second:
        await second.turns.rescue(attempts=3, alone=True)
        await second.result(accepted.turn)
        joined = await second.result(steering.turn)

    assert heir.prompts[0].steps[0].added == ("in blue",)
    assert joined.turn.state is TurnState.SUCCEEDED


# -- stop on another replica ----------------------------------------------------------------------


class Replica:
    """An engine with its own connections, and the hints that wake others."""

    def __init__(self, database: Database, agents: ScriptedAgents) -> None:
        self.engine = Engine(database, agents, RememberingSender())
        self.hints = Hints(
            database,
            owner=f"replica-{id(self)}",
            feed=self.engine.feed.poke,
            work=self.engine.wake,
            stop=self.engine.lanes.stop,
            stop_voice=self.engine.turns.stop_voice,
        )

    async def close(self) -> None:
        """Stop what was started."""
        await self.engine.stop()
        await self.hints.close()


@pytest.mark.parametrize("where", ["text", "tool"])
async def test_stop_on_another_replica_needs_no_beat(
    postgresql_url: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mid-text and mid-tool; partial text is kept."""
    monkeypatch.setattr(workers, "BEAT", timedelta(minutes=5))
    databases = [Database(postgresql_url), Database(postgresql_url)]
    for one in databases:
        await one.open()
    gate = Gate()
    hang = asyncio.Event()
    script = [CALL, Finished()] if where == "tool" else [hang]
    agents = ScriptedAgents([[TextDelta("Partial."), *script]], tools_=[WORK], on_work=gate)
    holder, other = (Replica(one, agents) for one in databases)
    holder.engine.start()
    holder.hints.start()
    other.hints.start()
    listening = asyncio.gather(holder.hints.listening.wait(), other.hints.listening.wait())
    await asyncio.wait_for(listening, 60)
    # As the service wires it: tell this process and the others.
    other.engine.controls = other.engine.controls_with(stopping=other.hints.stopping)

    accepted = await holder.engine.accept()
    await holder.engine.until(accepted, "tool.started" if where == "tool" else "text")
    async with other.engine.controls.steps() as command:
        await command.stop_turn(accepted.turn, by="operator")
    asked_at = time.monotonic()
    result = await other.engine.result(accepted.turn)
    took = timedelta(seconds=time.monotonic() - asked_at)

    assert (result.turn.state, result.text) == (TurnState.STOPPED, "Partial.")
    # A bound that only a missing wake-up breaks; bench/ has the figure.
    assert took < timedelta(seconds=30)
    for replica in (holder, other):
        await replica.close()
    for one in databases:
        await one.close()


async def test_a_stop_whose_hint_is_lost_is_found_by_the_next_words(database: Database) -> None:
    """Every append looks for it under the turn's lock."""
    words = [TextDelta(f"Word {n}.\n") for n in range(200)]
    pause = asyncio.Event()
    agents = ScriptedAgents([[words[0], pause, *words[1:], asyncio.Event()]])

    async with running(database, agents) as engine:
        deaf = engine.controls_with(stopping=lambda _: None)
        accepted = await engine.accept()
        await engine.until(accepted, "text")
        async with deaf.steps() as command:
            await command.stop_turn(accepted.turn, by="operator")
        pause.set()
        result = await engine.result(accepted.turn)

    assert result.turn.state is TurnState.STOPPED


async def test_stop_cancels_the_tool_that_runs(database: Database) -> None:
    """Nobody waits for what it would have come to; who reads along sees that it was cancelled."""
    gate = Gate()
    agents = working(gate)

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await gate.inside.wait()
        async with engine.controls.steps() as command:
            await command.stop_turn(accepted.turn, by=OWNER)
        result = await engine.result(accepted.turn)
        events = await engine.events(accepted)

    assert (result.turn.state, result.text) == (TurnState.STOPPED, "On it.")
    assert [one.data["state"] for one in events if one.kind == "tool.finished"] == ["cancelled"]


async def test_stop_beats_interrupt(database: Database) -> None:
    """Who asked to pause and then to stop gets the stop."""
    gate = Gate()
    agents = working(gate)

    async with running(database, agents) as engine:
        accepted = await engine.accept(role=Role.USER)
        await gate.inside.wait()
        await interrupt(engine, accepted.session)
        async with engine.controls.steps() as command:
            await command.stop_turn(accepted.turn, by=OWNER)
        result = await engine.result(accepted.turn)

    assert (result.turn.state, result.text) == (TurnState.STOPPED, "On it.")
    assert len(agents.prompts) == 1
