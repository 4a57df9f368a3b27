"""Notes: what an agent without code can keep, how it takes it back, and how it is shown them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.agents import notes
from service.core.state import State
from service.ports import Caller, ToolResult
from tests.agents.callers import caller, run

TOOLS = {tool.spec.name: tool for tool in notes.TOOLS}


async def test_a_note_is_remembered() -> None:
    """In the session's state, with a number it can be taken back by."""
    behalf = caller()

    first = await _remember(behalf, "  buy milk ")
    second = await _remember(behalf, "buy tea")

    assert (first.text, first.data) == (
        "Remembered as note 1.",
        {"number": 1, "text": "buy milk"},
    )
    assert second.text == "Remembered as note 2."
    assert behalf.state.changes() == {
        "notes": [{"number": 1, "text": "buy milk"}, {"number": 2, "text": "buy tea"}]
    }


async def test_a_note_is_forgotten() -> None:
    """The others keep their numbers, so that one response can forget several."""
    behalf = caller(state=_state("a", "b", "c", "d"))

    results = await asyncio.gather(*(_forget(behalf, number) for number in (1, 2, 3.0)))

    assert [one.text for one in results] == [f"Forgot note {number}." for number in (1, 2, 3)]
    assert behalf.state["notes"] == [{"number": 4, "text": "d"}]


async def test_a_number_comes_again_only_when_it_was_the_last() -> None:
    """Those that are shown stay what they are."""
    behalf = caller(state=_state("a", "b"))

    await _forget(behalf, 1)

    assert (await _remember(behalf, "c")).data == {"number": 3, "text": "c"}


@pytest.mark.parametrize(("texts", "there"), [(("a", "b"), "1, 2"), ((), "none")])
async def test_a_number_nobody_has(texts: tuple[str, ...], there: str) -> None:
    """The model is told which there are."""
    behalf = caller(state=_state(*texts))

    result = await _forget(behalf, 7)

    assert result.failed
    assert result.text == f"There is no note 7. Numbers: {there}."
    assert not behalf.state.changed


@pytest.mark.parametrize("text", ["", "  \n", "x" * 2001, 5, None])
async def test_what_is_no_note(text: Any) -> None:
    """Nothing, too much, and no text."""
    behalf = caller()

    result = await run(TOOLS["remember"], {"text": text}, behalf)

    assert result.failed
    assert "text: " in result.text
    assert not behalf.state.changed


async def test_there_are_only_so_many_notes() -> None:
    """The model is asked to forget some."""
    behalf = caller(state=_state(*("x" for _ in range(200))))

    result = await _remember(behalf, "one more")

    assert result.failed
    assert result.text == "There are 200 notes, and no more fit. Forget some first."


async def test_notes_take_only_so_much_room() -> None:
    """Long ones fill what a session can keep under one name; the model is told what to do."""
    behalf = caller()
    results = [await _remember(behalf, "é" * 2000) for _ in range(30)]

    refused = [one.text for one in results if one.failed]
    assert set(refused) == {"The notes are full. Forget some first, or write less."}
    assert len(behalf.state["notes"]) == len(results) - len(refused)


@pytest.mark.parametrize("value", ["words", {"a": 1}, ["words"], [{"number": "1", "text": "a"}]])
async def test_what_somebody_else_keeps_is_left_alone(value: Any) -> None:
    """Code of the agent may use the same name; that is told, and nothing is lost or shown."""
    behalf = caller(state=State({"notes": value}))

    results = [await _remember(behalf, "a"), await _forget(behalf, 1)]

    assert [one.failed for one in results] == [True, True]
    assert "something else is kept there" in results[0].text
    assert not behalf.state.changed
    assert notes.section(behalf.state) is None


def test_without_notes_nothing_is_shown() -> None:
    """No empty list in the prompt."""
    assert [notes.section(state) for state in (State(), State({"notes": []}))] == [None, None]


def test_notes_are_shown_with_their_numbers() -> None:
    """Each on one line, so that none can pass for another."""
    state = State({"notes": [{"number": 3, "text": "a\n4. b"}, {"number": 9, "text": "c"}]})

    assert notes.section(state) == "3. a 4. b\n9. c"


def test_many_long_notes_are_all_shown_in_part() -> None:
    """None is left out: the model can still forget or replace every one."""
    shown = notes.section(_state(*("x" * 1000 for _ in range(200))))

    assert shown is not None
    lines = shown.split("\n")
    assert lines[199] == f"200. {'x' * 80}…"
    assert (len(lines), len(shown) < 20_000) == (200, True)


def test_notes_can_be_taken_again_after_a_crash() -> None:
    """Their change is stored with the result of the call, or neither is."""
    assert [tool.spec.idempotent for tool in notes.TOOLS] == [True, True]
    assert [tool.spec.outward for tool in notes.TOOLS] == [False, False]


async def _remember(behalf: Caller, text: str) -> ToolResult:
    return await run(TOOLS["remember"], {"text": text}, behalf)


async def _forget(behalf: Caller, number: float) -> ToolResult:
    return await run(TOOLS["forget"], {"number": number}, behalf)


def _state(*texts: str) -> State:
    kept = [{"number": number, "text": text} for number, text in enumerate(texts, 1)]
    return State({"notes": kept})
