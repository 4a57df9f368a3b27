"""A ring becomes a turn, the turn a reply: in order, once, with every ending people can meet."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from service.core.model import Accepted, Ended, Refusal, RefusalReason
from service.core.states import TurnState
from service.errors import ProviderBusy, ProviderGone, ProviderRefused
from service.ports import Caller, Finished, Limits, TextDelta, ToolCall, ToolSpec
from service.store import sessions
from service.store.database import Database
from tests.engine.engine import CHAT, Engine, ring, running
from tests.fakes import RememberingSender, ScriptedAgents

DICE = ToolSpec("dice", "Roll a dice.", {"type": "object"})
SOON = timedelta(milliseconds=1)


async def test_a_turn_leaves_its_whole_story_in_the_feed(database: Database) -> None:
    """The feed tells every step in order, and its numbers have no gap."""
    agents = ScriptedAgents(
        [
            [TextDelta("Rolling."), ToolCall("c1", "dice", "{}"), Finished()],
            [TextDelta("A six."), Finished()],
        ],
        tools_=[DICE],
    )

    async with running(database, agents) as engine:
        events = await engine.events(await engine.accept("roll"))

    assert [event.kind for event in events] == [
        "message.added",
        "turn.queued",
        "turn.started",
        "round.started",
        "reply.started",
        "text",
        "tool.started",
        "tool.finished",
        "text",
        "reply.finished",
        "message.added",
        "turn.finished",
    ]
    assert [event.number for event in events] == list(range(1, 13))
    assert events[-2].data["text"] == "Rolling.\n\nA six."


async def test_a_session_of_its_own_counts_its_message(database: Database) -> None:
    """Whichever way a session begins, the list knows that something was said in it."""
    async with running(database) as engine:
        alone = await engine.accept(session_key=None)
        keyed = await engine.accept()
        await engine.result(alone.turn)
        await engine.result(keyed.turn)
        found = [await database.read(sessions.get, one) for one in (alone.session, keyed.session)]
        said = [
            await database.read(sessions.history, one, after=0, limit=9)
            for one in (alone.session, keyed.session)
        ]

    assert [one.last_message for one in found if one] == [list_[-1].number for list_ in said]


async def test_joined_deltas_equal_the_stored_text(database: Database) -> None:
    """What a follower joins is byte for byte what is stored, whatever the model sends."""
    deltas = ["Grüße ", "\ud83d", "👋🏽", " \x00end", "\n", "  "]
    agents = ScriptedAgents([[*map(TextDelta, deltas), Finished()]])

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        events = await engine.events(accepted)
        result = await engine.result(accepted.turn)

    assert result.text == "".join(e.data["text"] for e in events if e.kind == "text")


async def test_messages_of_a_session_are_answered_in_order_one_at_a_time(
    database: Database,
) -> None:
    """A message that arrives while a turn runs waits for it, and its answer sees that turn."""
    gate = asyncio.Event()
    agents = ScriptedAgents(
        [[gate, TextDelta("first answer"), Finished()], [TextDelta("second"), Finished()]]
    )

    async with running(database, agents) as engine:
        first = await engine.accept("one")
        second = await engine.accept("two")
        while not agents.prompts:
            await asyncio.sleep(0.01)
        assert await engine.state(second.turn) is TurnState.QUEUED
        gate.set()
        await engine.result(second.turn)

    assert first.session == second.session
    assert [said.text for said in agents.prompts[1].history] == ["one", "first answer", "two"]


@pytest.mark.parametrize("times", [2, 100])
async def test_one_event_key_makes_one_turn(database: Database, times: int) -> None:
    """The same key offered many times at once, and again later, gets the same turn back."""
    async with running(database) as engine:
        same = ring(event_key="same")
        outcomes = await asyncio.gather(*(engine.intake.accept(same) for _ in range(times)))
        await engine.result(outcomes[0].turn)  # type: ignore[union-attr]
        outcomes.append(await engine.intake.accept(same))

    accepted = [one for one in outcomes if isinstance(one, Accepted)]
    assert len(accepted) == times + 1
    assert {one.turn for one in accepted} == {accepted[0].turn}
    assert [one.duplicate for one in accepted].count(False) == 1


async def test_a_key_with_another_body_is_refused_when_asked(database: Database) -> None:
    """An idempotency key that comes back with another body is a mistake of the sender."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    await engine.intake.accept(ring(event_key="k", body=b"a", strict_body=True))

    outcome = await engine.intake.accept(ring(event_key="k", body=b"b", strict_body=True))

    assert isinstance(outcome, Refusal)
    assert outcome.reason is RefusalReason.KEY_REUSED


async def test_a_full_queue_refuses_and_forgets_the_key(database: Database) -> None:
    """A refused ring leaves no trace, so that the sender's retry is taken for new."""
    engine = Engine(database, ScriptedAgents(), RememberingSender())
    for _ in range(5):
        await engine.accept()
    late = ring(event_key="late")

    refused = await engine.intake.accept(late)
    engine.start()
    while isinstance(outcome := await engine.intake.accept(late), Refusal):
        await asyncio.sleep(0.01)
    await engine.stop()

    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.QUEUE_FULL
    assert not outcome.duplicate


async def test_a_provider_that_recovers_is_asked_again(database: Database) -> None:
    """Words of a broken attempt are taken back; the answer is that of the whole one."""
    agents = ScriptedAgents(
        [
            [ProviderBusy("slow down", SOON)],
            [TextDelta("half an ans"), ProviderGone("cut")],
            [TextDelta("whole"), Finished()],
        ]
    )

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        events = await engine.events(accepted)
        result = await engine.result(accepted.turn)

    assert result.turn.state is TurnState.SUCCEEDED
    assert result.text == "whole"
    assert result.turn.usage.requests == 3
    assert [e.data["text"] for e in events if e.kind == "reply.reset"] == [""]


async def test_a_provider_that_refuses_fails_the_turn_with_its_sentence(
    database: Database,
) -> None:
    """What will not pass is not tried again; what was said already is kept."""
    agents = ScriptedAgents([[TextDelta("I was sayi"), ProviderRefused("Your key is wrong.")]])

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    assert result.turn.state is TurnState.FAILED
    assert (result.turn.error, result.text) == ("Your key is wrong.", "I was sayi")
    assert len(agents.prompts) == 1


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(first_token=timedelta(milliseconds=30), retries=0), "silent for 0.03 seconds"),
        (Limits(total=timedelta(milliseconds=30), retries=0), "longer than 0.03 seconds"),
    ],
)
async def test_a_silent_provider_ends_visibly(
    database: Database, limits: Limits, sentence: str
) -> None:
    """Silence has a limit, and the sentence says which one."""
    agents = ScriptedAgents([[asyncio.Event()]], limits_=limits)

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    assert result.turn.error is not None
    assert sentence in result.turn.error


@pytest.mark.parametrize("script", [[Finished()], [TextDelta("  "), Finished()], []])
async def test_an_empty_or_unfinished_answer_is_a_failure(
    database: Database, script: list[TextDelta | Finished]
) -> None:
    """An answer without words is none."""
    agents = ScriptedAgents([script], limits_=Limits(retries=0))

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    assert result.turn.state is TurnState.FAILED


async def test_stop_keeps_what_was_said_and_the_next_message_sees_it(database: Database) -> None:
    """Stopping cuts the running turn and the waiting ones; partial text stays."""
    agents = ScriptedAgents([[TextDelta("So far"), asyncio.Event()], [TextDelta("ok"), Finished()]])

    async with running(database, agents) as engine:
        first, second = await engine.accept("one"), await engine.accept("two")
        following = engine.feed.follow(first.session, after=0, turn=first.turn)
        async for event in following:
            if event.kind == "text":
                break
        await following.aclose()
        async with engine.controls.steps() as command:
            stopped = await command.stop(key="telegram:1:7", by="telegram:7")
        results = [await engine.result(one.turn) for one in (first, second)]
        await engine.result((await engine.accept("three")).turn)

    assert stopped == 2
    assert [one.turn.state for one in results] == [TurnState.STOPPED, TurnState.STOPPED]
    assert [one.text for one in results] == ["So far", ""]
    told = [said.text for said in agents.prompts[-1].history]
    assert told[0] == "one"
    assert told[1].startswith("So far\n\n[This answer was stopped")


async def test_only_five_tools_of_one_response_run(database: Database) -> None:
    """The sixth call is answered with an error, in the order the model asked."""
    calls = [ToolCall(f"c{n}", "dice", "{}") for n in range(6)]
    agents = ScriptedAgents([[*calls, Finished()], [TextDelta("ok"), Finished()]], tools_=[DICE])

    async with running(database, agents) as engine:
        await engine.result((await engine.accept()).turn)

    results = agents.prompts[1].steps[0].results
    assert len(agents.calls) == 5
    assert [one.failed for one in results] == [False] * 5 + [True]


class Meeting:
    """A tool whose calls wait until so many of them run at the same time."""

    def __init__(self, calls: int) -> None:
        self._all = asyncio.Barrier(calls)

    async def __call__(self, call: ToolCall, caller: Caller) -> str:
        async with asyncio.timeout(60):
            await self._all.wait()
        return f"{call.id} ran"


async def test_tools_of_one_response_run_at_the_same_time(database: Database) -> None:
    """Each is an entry of its own; the results come in the order the model asked."""
    calls = [ToolCall(f"c{n}", "dice", json.dumps({"sides": n})) for n in range(5)]
    agents = ScriptedAgents(
        [[*calls, Finished()], [TextDelta("ok"), Finished()]], tools_=[DICE], on_work=Meeting(5)
    )

    async with running(database, agents) as engine:
        events = await engine.events(await engine.accept())

    results = agents.prompts[1].steps[0].results
    assert [one.text for one in results] == [f"c{n} ran" for n in range(5)]
    for kind in ("tool.started", "tool.finished"):
        entries = [event.data["call"] for event in events if event.kind == kind]
        assert entries == ["0.0", "0.1", "0.2", "0.3", "0.4"]


async def test_a_tool_that_is_not_offered_does_not_run(database: Database) -> None:
    """A model that makes a tool up is told which ones there are."""
    agents = ScriptedAgents(
        [[ToolCall("c", "rm", "{}"), Finished()], [TextDelta("ok"), Finished()]], tools_=[DICE]
    )

    async with running(database, agents) as engine:
        await engine.result((await engine.accept()).turn)

    assert agents.calls == []
    assert "dice" in agents.prompts[1].steps[0].results[0].text


async def test_a_model_that_calls_a_tool_for_ever_is_told_of(database: Database) -> None:
    """The calls of its last response do not run, and people read why nothing more comes."""
    agents = ScriptedAgents(
        [[ToolCall("c", "dice", "{}"), Finished()]], tools_=[DICE], limits_=Limits(iterations=3)
    )

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    assert (len(agents.prompts), len(agents.calls)) == (3, 2)
    assert result.text == "[The steps of this answer are used up.]"
    assert (result.turn.state, result.turn.ended) == (TurnState.SUCCEEDED, Ended.ITERATIONS)


async def test_the_last_iteration_has_no_tools(database: Database) -> None:
    """A model that never comes to an end is told to, and at last cannot ask for tools."""
    agents = ScriptedAgents(
        [[TextDelta("again"), ToolCall("c", "dice", "{}"), Finished()]],
        tools_=[DICE],
        limits_=Limits(iterations=5),
    )

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    assert [bool(prompt.tools) for prompt in agents.prompts] == [True] * 4 + [False]
    assert [("steps are left" in prompt.system) for prompt in agents.prompts] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert "Only 3 more steps are left" in agents.prompts[1].system
    assert "ask the person how to go on" in agents.prompts[1].system
    assert result.turn.state is TurnState.SUCCEEDED


async def test_a_drain_hands_the_turn_over_without_spending_the_attempt(
    database: Database,
) -> None:
    """The next process goes on from the last boundary; readers are told to go back to it."""
    stuck = ScriptedAgents(
        [
            [TextDelta("Rolling."), ToolCall("c", "dice", "{}"), Finished()],
            [TextDelta("half a sen"), asyncio.Event()],
        ],
        tools_=[DICE],
    )
    async with running(database, stuck) as engine:
        accepted = await engine.accept()
        following = engine.feed.follow(accepted.session, after=0, turn=accepted.turn)
        async for event in following:
            if event.data.get("text") == "\n\nhalf a sen":
                break
        await following.aclose()
    heir = ScriptedAgents([[TextDelta("A six."), Finished()]], tools_=[DICE])

    async with running(database, heir) as engine:
        events = await engine.events(accepted)
        result = await engine.result(accepted.turn)

    assert result.turn.attempt == 1
    assert result.text == "Rolling.\n\nA six."
    assert [e.data["text"] for e in events if e.kind == "reply.reset"] == ["Rolling."]
    assert [len(prompt.steps) for prompt in heir.prompts] == [1]
    assert heir.calls == []


async def test_a_reply_is_delivered_once_to_each_address(database: Database) -> None:
    """A live sender sees the reply grow and its end; the receipt is stored."""
    sender = RememberingSender(live=True)
    agents = ScriptedAgents([[TextDelta("One."), Finished()]])

    async with running(database, agents, sender) as engine:
        await engine.result((await engine.accept(answer_to=(CHAT, CHAT))).turn)
        await engine.stop(grace=timedelta(seconds=5))

    assert len(sender.seen) == 1
    views = sender.seen[0][1]
    assert views[-1].final
    assert views[-1].text == "One."
