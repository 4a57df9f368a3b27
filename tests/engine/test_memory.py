"""What a session remembers: state, knobs, context; saved with the turn, shown to the model."""

from __future__ import annotations

import asyncio

import pytest

from service.core.knobs import Select, Toggle
from service.core.model import Busy, Line, Role, TurnKind
from service.core.state import State
from service.core.states import TurnState
from service.engine.questions import PROMPT_USER
from service.engine.steering import Interrupting
from service.errors import BadInput, ProviderRefused
from service.ports import Caller, Finished, Limits, TextDelta, ToolCall, ToolSpec
from service.store import memory, sessions
from service.store.database import Database
from tests.engine.engine import Engine, running
from tests.fakes import Script, ScriptedAgents

NOTE = ToolSpec("note", "Note it.", {"type": "object"})
CALL = ToolCall("n", "note", '{"text": "buy milk"}')
BRIEF = Toggle(name="brief", description="Answer in one sentence.")
TONE = Select(name="tone", description="How to speak.", options=("plain", "warm"), default="plain")
ONCE = Toggle(name="once", description="For this turn only.", momentary=True)


async def take_note(call: ToolCall, caller: Caller) -> str:
    """A tool that adds to the notes."""
    caller.state["notes"] = [*caller.state.get("notes", []), f"note {caller.key[-3:]}"]
    caller.knobs["once"] = True
    return "noted"


def shown(state: State, knobs: State) -> str:
    """A section that is there only when there are notes, and one for the knobs."""
    notes = "Notes: " + ", ".join(state["notes"]) if "notes" in state else ""
    turned = "Once." if knobs.get("once") else ""
    return "\n".join(part for part in (notes, turned) if part)


def notepad(*scripts: object, limits: Limits = Limits()) -> ScriptedAgents:  # noqa: B008
    """Agents with a notepad."""
    return ScriptedAgents(
        list(scripts),  # type: ignore[arg-type]
        tools_=[NOTE],
        on_work=take_note,
        knobs_={one.name: one for one in (BRIEF, TONE, ONCE)},
        section=shown,
        limits_=limits,
    )


DONE: Script = [TextDelta("Done."), Finished()]


async def test_a_note_of_turn_one_is_seen_in_turn_two_and_after_a_restart(
    database: Database,
) -> None:
    """Also within the turn, from the next model call on; never an empty section."""
    agents = notepad([CALL, Finished()], DONE, DONE)
    async with running(database, agents) as engine:
        await engine.result((await engine.accept("note")).turn)
        await engine.result((await engine.accept("what?")).turn)
    heir = notepad(DONE)
    async with running(database, heir) as engine:
        await engine.result((await engine.accept("still?")).turn)

    systems = [prompt.system for prompt in (*agents.prompts, *heir.prompts)]

    assert systems[0] == "Be brief."
    assert systems[1] == "Be brief.\n\nNotes: note 0.0\nOnce."
    assert systems[2] == systems[3] == "Be brief.\n\nNotes: note 0.0"


async def test_state_is_saved_with_the_result_of_its_tool(database: Database) -> None:
    """A process that dies in the next model call has lost neither, and runs the tool only once."""
    stuck = notepad([CALL, Finished()], [asyncio.Event()])
    async with running(database, stuck) as first:
        accepted = await first.accept()
        while len(stuck.prompts) < 2:
            await asyncio.sleep(0.01)
    heir = notepad(DONE)

    async with running(database, heir) as second:
        await second.turns.rescue(attempts=3, alone=True)
        await second.result(accepted.turn)

    assert heir.calls == []
    assert "Notes: note 0.0" in heir.prompts[0].system


async def test_momentary_knobs_go_back_when_the_turn_ends(database: Database) -> None:
    """The others stay as they were turned."""
    agents = notepad([CALL, Finished()], DONE)

    async with running(database, agents) as engine:
        accepted = await engine.accept(knobs={"tone": "warm"})
        await engine.result(accepted.turn)
        kept = await database.read(memory.read, accepted.session)

    assert kept.knobs == {"tone": "warm"}
    assert agents.callers[0].knobs["tone"] == "warm"


async def test_people_turn_knobs_by_words_and_are_told_what_fits(database: Database) -> None:
    """Every wrong value names the right ones; the model's next call sees what was set."""
    agents = notepad(DONE)

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await engine.result(accepted.turn)
        async with engine.controls.steps() as command:
            kept = await command.set_knob(accepted.session, "brief", "on")
            await command.set_state(accepted.session, "notes", ["by hand"])
            with pytest.raises(BadInput, match="one of plain, warm"):
                await command.set_knob(accepted.session, "tone", "loud")
            with pytest.raises(BadInput, match="there are: brief, once, tone"):
                await command.set_knob(accepted.session, "volume", 3)
        async with engine.controls.steps() as command:
            seen = await command.memory(accepted.session)
        await engine.result((await engine.accept()).turn)

    assert kept is True
    assert seen is not None
    assert [(knob.name, knob.value) for knob in seen.knobs] == [
        ("brief", True),
        ("tone", "plain"),
        ("once", False),
    ]
    assert "Notes: by hand" in agents.prompts[-1].system


async def test_a_change_by_a_person_is_seen_at_the_next_boundary(database: Database) -> None:
    """And the tool's own change of the same turn is kept beside it."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slow(call: ToolCall, caller: Caller) -> str:
        caller.state["mine"] = 1
        inside.set()
        await go_on.wait()
        return "ok"

    agents = notepad([CALL, Finished()], DONE)
    agents.on_work = slow

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await inside.wait()
        async with engine.controls.steps() as command:
            await command.set_state(accepted.session, "notes", ["by hand"])
        go_on.set()
        await engine.result(accepted.turn)
        kept = await database.read(memory.read, accepted.session)

    assert kept.state == {"mine": 1, "notes": ["by hand"]}
    assert "by hand" in agents.prompts[1].system


async def test_render_runs_without_a_message(database: Database) -> None:
    """The model goes on from the state; nothing is added to what was said but its answer."""
    agents = notepad(DONE, [TextDelta("Rendered."), Finished()])

    async with running(database, agents) as engine:
        first = await engine.accept("hello")
        await engine.result(first.turn)
        rendered = await engine.accept("", kind=TurnKind.RENDER)
        result = await engine.result(rendered.turn)
        events = await engine.events(rendered)
        messages = await database.read(sessions.history, first.session, after=0, limit=9)

    assert [one.text for one in messages] == ["hello", "Done.", "Rendered."]
    assert result.text == "Rendered."
    assert events[0].kind == "turn.queued"
    told = agents.prompts[1].history
    assert [said.role for said in told] == ["user", "assistant", "user"]
    assert "Nothing new was said" in told[-1].text


async def test_a_conversation_is_brought_along(database: Database) -> None:
    """The agent goes on from it, as also in later turns, and answers the message alone."""
    agents = ScriptedAgents([DONE, DONE])
    lines = (Line(Role.USER, "Call me Ann."), Line(Role.VOICE, "Gladly."), Line(Role.EVENT, "Ping"))

    async with running(database, agents) as engine:
        first = await engine.accept("Who am I?", before=lines)
        await engine.result(first.turn)
        second = await engine.accept("And now?")
        await engine.result(second.turn)
        events = await engine.events(first)
        messages = await database.read(sessions.history, first.session, after=0, limit=9)

    heard = [[(said.role, said.text) for said in prompt.history] for prompt in agents.prompts]
    brought = [("user", "Call me Ann."), ("assistant", "Gladly."), ("user", "Ping")]
    asked = [*brought, ("user", "Who am I?")]
    assert heard == [asked, [*asked, ("assistant", "Done."), ("user", "And now?")]]
    assert [(one.role.value, one.author) for one in messages[:4]] == [
        ("user", "telegram:7"),
        ("voice", "assistant"),
        ("event", "telegram:7"),
        ("user", "telegram:7"),
    ]
    assert (events[0].number, events[0].kind) == (first.number, "message.added")
    assert events[0].data["text"] == "Who am I?"


async def test_who_brings_a_conversation_along_has_a_turn_of_their_own(database: Database) -> None:
    """It neither steers what runs nor answers its question: both have their conversation."""
    ask = ToolCall("q", "prompt_user", '{"question": "Which one?"}')
    agents = ScriptedAgents([[ask, Finished()], DONE, DONE], tools_=[PROMPT_USER])

    async with running(database, agents) as engine:
        asking = await engine.accept("do it")
        await engine.until(asking, "question.asked")
        while engine.lanes.busy:
            await asyncio.sleep(0.01)
        later = await engine.accept(
            "Who am I?",
            before=(Line(Role.USER, "Call me Ann."),),
            busy=Busy.STEER,
        )
        answer = await engine.accept("this one")
        await engine.result(asking.turn)
        result = await engine.result(later.turn)

    assert (later.answered, answer.answered) == (False, True)
    assert result.turn.busy is Busy.QUEUE
    assert [said.text for said in agents.prompts[-1].history][-2:] == ["Call me Ann.", "Who am I?"]


async def test_clear_draws_a_line(database: Database) -> None:
    """The model sees nothing from before it; people still do."""
    agents = notepad(DONE)

    async with running(database, agents) as engine:
        accepted = await engine.accept("the secret is 42")
        await engine.result(accepted.turn)
        async with engine.controls.steps() as command:
            await command.clear(accepted.session, by="telegram:7")
        await engine.result((await engine.accept("what is it?")).turn)
        messages = await database.read(sessions.history, accepted.session, after=0, limit=9)

    assert [said.text for said in agents.prompts[-1].history] == ["what is it?"]
    assert [one.role for one in messages] == [
        Role.USER,
        Role.VOICE,
        Role.SYSTEM,
        Role.USER,
        Role.VOICE,
    ]


async def test_compact_puts_a_summary_in_the_place_of_what_was_said(database: Database) -> None:
    """The last two exchanges stay word by word, and everything stays in the history."""
    answers = [[TextDelta(f"answer {n}"), Finished()] for n in range(4)]
    agents = notepad(*answers, [TextDelta("They counted to four."), Finished()], DONE)

    async with running(database, agents) as engine:
        for number in range(4):
            accepted = await engine.accept(f"question {number}")
            await engine.result(accepted.turn)
        compacting = await engine.accept("", kind=TurnKind.COMPACT)
        summary = await engine.result(compacting.turn)
        await engine.result((await engine.accept("go on")).turn)
        kept = await database.read(sessions.history, accepted.session, after=0, limit=50)

    assert summary.text == "They counted to four."
    assert agents.prompts[4].tools == ()
    told = [said.text for said in agents.prompts[5].history]
    assert told[0].endswith("They counted to four.")
    assert told[1:] == ["question 2", "answer 2", "question 3", "answer 3", "go on"]
    assert len(kept) == 11


@pytest.mark.parametrize("failing", [[ProviderRefused("no")], [Finished(cut=True)]])
async def test_a_summary_that_fails_changes_nothing(database: Database, failing: Script) -> None:
    """Also one of which the output budget left no word: the conversation is told as before."""
    agents = notepad(DONE, failing, DONE)

    async with running(database, agents) as engine:
        await engine.result((await engine.accept("one")).turn)
        failed = await engine.result((await engine.accept("", kind=TurnKind.COMPACT)).turn)
        await engine.result((await engine.accept("two")).turn)

    assert failed.turn.state is TurnState.FAILED
    assert [said.text for said in agents.prompts[-1].history] == ["one", "Done.", "two"]


async def test_summing_up_is_not_interrupted(database: Database) -> None:
    """It has nothing to ask; what was said to interrupt is answered with the summary, after it."""
    gate = asyncio.Event()
    agents = notepad(DONE, [TextDelta("They greet."), gate, Finished()], DONE)

    async with running(database, agents) as engine:
        await engine.result((await engine.accept("one")).turn)
        compacting = await engine.accept("", kind=TurnKind.COMPACT)
        await engine.until(compacting, "text")
        async with engine.controls.steps() as command:
            outcome = await command.interrupt(compacting.session, by="telegram:7")
        cutting_in = await engine.accept("two", busy=Busy.INTERRUPT)
        gate.set()
        summary = await engine.result(compacting.turn)
        await engine.result(cutting_in.turn)

    assert outcome is Interrupting.IDLE
    assert (summary.text, summary.turn.ended) == ("They greet.", None)
    told = [said.text for said in agents.prompts[-1].history]
    assert told[0].endswith("They greet.")
    assert told[-1] == "two"


async def test_a_summary_that_was_stopped_is_no_part_of_the_talk(database: Database) -> None:
    """Neither stands it in the place of what was said, nor is it taken for an answer."""
    agents = notepad(DONE, [TextDelta("They gr"), asyncio.Event()], DONE)

    async with running(database, agents) as engine:
        await engine.result((await engine.accept("one")).turn)
        compacting = await engine.accept("", kind=TurnKind.COMPACT)
        await engine.until(compacting, "text")
        async with engine.controls.steps() as command:
            await command.stop_turn(compacting.turn, by="telegram:7")
        await engine.result(compacting.turn)
        await engine.result((await engine.accept("two")).turn)

    assert [said.text for said in agents.prompts[-1].history] == ["one", "Done.", "two"]


async def test_a_conversation_near_its_budget_is_summed_up_by_itself(database: Database) -> None:
    """Before anything has to be left out, and without a word to anybody."""
    agents = notepad(
        *[[TextDelta("x" * 100), Finished()]] * 3,
        [TextDelta("Many x."), Finished()],
        DONE,
        limits=Limits(history_characters=400),
    )

    async with running(database, agents) as engine:
        for number in range(3):
            accepted = await engine.accept(f"{number}")
            await engine.result(accepted.turn)
        while (await _summary(engine, accepted.session)) is None:
            await asyncio.sleep(0.01)
        await engine.result((await engine.accept("and?")).turn)

    told = [said.text for said in agents.prompts[4].history]
    assert told[0].endswith("Many x.")
    assert told[1:] == ["1", "x" * 100, "2", "x" * 100, "and?"]


async def _summary(engine: Engine, session: str) -> str | None:
    found = await engine.database.read(sessions.get, session)  # type: ignore[arg-type]
    assert found is not None
    return found.summary
