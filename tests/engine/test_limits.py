"""What an agent may take: each limit ends a turn in a way people can see, and is counted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from service.core.model import Attachment, Channel, Ended, NewAttachment, Usage
from service.core.states import TurnState
from service.errors import ChannelDown, ChannelError
from service.ports import Finished, Limits, TextDelta, ThinkingDelta, ToolCall, ToolSpec
from service.store import sessions, spending, turns
from service.store.database import Database
from tests.engine.engine import running
from tests.fakes import Script, ScriptedAgents

DICE = ToolSpec("dice", "Roll a dice.", {"type": "object"})
CALL = ToolCall("c", "dice", "{}")
CENT = 10_000


def costing(*cents: int, limits: Limits) -> ScriptedAgents:
    """A model that calls a tool at these costs, the last time answering."""
    scripts: list[Script] = [
        [TextDelta(f"step {n}"), CALL, Finished(Usage(10, 5, cost_micros=cost * CENT))]
        for n, cost in enumerate(cents)
    ]
    scripts[-1] = [TextDelta("done"), Finished(Usage(10, 5, cost_micros=cents[-1] * CENT))]
    return ScriptedAgents(scripts, tools_=[DICE], limits_=limits)


async def test_a_turn_ends_when_it_costs_too_much(database: Database) -> None:
    """At the first boundary beyond, with what it said so far and a sentence about it."""
    agents = costing(6, 6, 6, limits=Limits(turn_cost=0.10))

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    assert (result.turn.state, result.turn.ended) == (TurnState.FAILED, Ended.COST)
    assert "$0.1" in str(result.turn.error)
    assert result.text == "step 0\n\nstep 1"
    assert result.turn.usage.cost_micros == 12 * CENT


async def test_an_agent_s_day_ends_when_its_money_is_spent(database: Database) -> None:
    """No model is asked any more; the next day it answers again."""
    agents = costing(3, limits=Limits(day_cost=0.05))

    async with running(database, agents) as engine:
        first = await engine.result((await engine.accept()).turn)
        second = await engine.result((await engine.accept()).turn)
        third = await engine.result((await engine.accept()).turn)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    spent = await database.read(spending.cost_today, "assistant", at=tomorrow)

    assert [one.turn.state for one in (first, second)] == [TurnState.SUCCEEDED] * 2
    assert (third.turn.state, third.turn.ended) == (TurnState.FAILED, Ended.COST)
    assert "today" in str(third.turn.error)
    assert len(agents.prompts) == 2
    assert spent == 0


async def test_what_turns_take_is_counted_by_day_and_agent(database: Database) -> None:
    """Turns, requests, tokens and money, whichever way the turn ended."""
    agents = costing(1, 2, limits=Limits())

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        result = await engine.result(accepted.turn)
        await engine.result((await engine.accept()).turn)
    rows = await database.read(spending.by_day, date(2020, 1, 1))
    processing, usage = await database.read(turns.spent, accepted.session)

    assert result.turn.usage == Usage(20, 10, 2, 3 * CENT)
    assert [(row.agent, row.turns, row.usage) for row in rows] == [
        ("assistant", 2, Usage(30, 15, 3, 5 * CENT))
    ]
    assert usage == rows[0].usage
    assert abs(processing - rows[0].processing) < timedelta(milliseconds=5)


async def test_an_answer_cut_at_the_output_budget_says_so(database: Database) -> None:
    """The budget reaches the model, and people see that something is missing."""
    agents = ScriptedAgents(
        [[TextDelta("A long st"), Finished(cut=True)]], limits_=Limits(output_tokens=3)
    )

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    assert agents.prompts[0].output_tokens == 3
    assert result.text == "A long st\n\n[The answer was cut at its limit of 3 tokens.]"
    assert (result.turn.state, result.turn.ended) == (TurnState.SUCCEEDED, Ended.LENGTH)


async def test_a_budget_spent_before_the_first_word_is_told(database: Database) -> None:
    """A model that thinks can; asking it the same again would only cost the same again."""
    agents = ScriptedAgents(
        [[ThinkingDelta("Hm. " * 9), Finished(Usage(10, 3), cut=True)]],
        limits_=Limits(output_tokens=3),
    )

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    assert result.text == "[The answer was cut at its limit of 3 tokens.]"
    assert (result.turn.state, result.turn.ended) == (TurnState.SUCCEEDED, Ended.LENGTH)
    assert (len(agents.prompts), result.turn.usage) == (1, Usage(10, 3, 1))


async def test_iterations_count_per_session_when_the_agent_says_so(database: Database) -> None:
    """A session that used them up answers without tools, and says why it ended."""
    agents = ScriptedAgents(
        [[CALL, Finished()], [CALL, Finished()], [TextDelta("Enough."), Finished()]],
        tools_=[DICE],
        limits_=Limits(iterations=3, iterations_per="session"),
    )

    async with running(database, agents) as engine:
        first = await engine.result((await engine.accept()).turn)
        second = await engine.result((await engine.accept()).turn)

    assert [bool(prompt.tools) for prompt in agents.prompts] == [True, True, False, False]
    assert (first.turn.ended, second.turn.ended) == (Ended.ITERATIONS, Ended.ITERATIONS)


# -- files ----------------------------------------------------------------------------------------


class Shelf:
    """A channel that keeps files, and fails as told."""

    def __init__(self, *failures: ChannelError) -> None:
        self.failures = list(failures)
        self.asked: list[str] = []

    async def fetch(self, remote: str, *, limit: int) -> bytes:
        """The bytes behind `remote`."""
        self.asked.append(remote)
        if self.failures:
            raise self.failures.pop(0)
        return f"bytes of {remote}".encode()


PHOTO = NewAttachment("cat.jpg", "image/jpeg", remote="file-1", size=9)
INLINE = NewAttachment("dog.jpg", "image/jpeg", data=b"woof")


def seeing(*scripts: object) -> ScriptedAgents:
    """Agents whose model takes pictures."""
    given = list(scripts) or [[TextDelta("A cat."), Finished()]]
    return ScriptedAgents(given, media_types=frozenset({"image/jpeg"}))  # type: ignore[arg-type]


async def test_a_file_is_fetched_once_and_given_to_the_model(database: Database) -> None:
    """Also in later turns, from the database; the same content is stored once."""
    agents, shelf = seeing(), Shelf()

    async with running(database, agents, files={Channel.TELEGRAM: shelf}) as engine:
        accepted = await engine.accept("what is this?", attachments=(PHOTO, INLINE))
        await engine.result(accepted.turn)
        await engine.result((await engine.accept("and now?")).turn)
        messages = await database.read(sessions.history, accepted.session, after=0, limit=9)

    first, second = agents.prompts
    assert [one.data for one in first.history[0].media] == [b"bytes of file-1", b"woof"]
    assert second.history[0].media == first.history[0].media
    assert shelf.asked == ["file-1"]
    assert [(one.name, one.size) for one in messages[0].attachments] == [
        ("cat.jpg", 15),
        ("dog.jpg", 4),
    ]


async def test_a_file_that_cannot_be_had_now_is_tried_again(database: Database) -> None:
    """The model is told that there was one; a file that is gone for good is not asked for again."""
    agents, shelf = seeing(), Shelf(ChannelDown("later"), ChannelError("it is gone"))

    async with running(database, agents, files={Channel.TELEGRAM: shelf}) as engine:
        for words in ("one", "two", "three"):
            files = (PHOTO,) if words == "one" else ()
            await engine.result((await engine.accept(words, attachments=files)).turn)

    assert [prompt.history[0].media for prompt in agents.prompts] == [(), (), ()]
    assert "cat.jpg" in agents.prompts[0].history[0].text
    assert "it is gone" in agents.prompts[2].history[0].text
    assert shelf.asked == ["file-1", "file-1"]


async def test_a_model_that_sees_nothing_is_not_asked_about_pictures(database: Database) -> None:
    """With words it is told that a file came; without, the person gets a clear sentence."""
    agents = ScriptedAgents()

    async with running(database, agents) as engine:
        alone = await engine.result((await engine.accept("", attachments=(INLINE,))).turn)
        await engine.result((await engine.accept("see?", attachments=(INLINE,))).turn)

    assert alone.text == "I cannot be shown pictures here. Write to me in words, please."
    assert len(agents.prompts) == 1
    assert "dog.jpg" in agents.prompts[0].history[-1].text
    assert agents.prompts[0].history[-1].text.endswith("see?")


async def test_files_stay_within_their_session(database: Database) -> None:
    """Another session with the same file has its own entry, and none of the first one's."""
    agents = seeing()

    async with running(database, agents) as engine:
        one = await engine.accept("x", attachments=(INLINE,), session_key="telegram:1:7")
        two = await engine.accept("y", session_key="telegram:1:8")
        await engine.result(one.turn)
        await engine.result(two.turn)
        found = await database.read(sessions.history, two.session, after=0, limit=9)

    assert [message.attachments for message in found] == [(), ()]
    assert isinstance(
        (await database.read(sessions.history, one.session, after=0, limit=1))[0].attachments[0],
        Attachment,
    )
