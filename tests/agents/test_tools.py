"""The tools: what they do, and what the model is told when it calls them wrongly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from service.agents import tools
from service.agents.tools import Arguments, Outcome, Tool
from service.errors import BadInput
from service.ports import Caller, ToolCall, ToolResult, ToolSpec
from tests.agents.callers import caller


async def test_the_clock_tells_the_time_in_a_zone() -> None:
    """With the zone's name, so that the model cannot mix it up."""
    result = await _run("clock", '{"zone": "Asia/Tokyo"}')

    assert not result.failed
    assert " in Asia/Tokyo (" in result.text
    assert result.text.endswith("UTC)")


@pytest.mark.parametrize("arguments", ["", " \n", "{}"])
async def test_the_clock_is_in_utc_by_default(arguments: str) -> None:
    """Models leave the arguments out when none is needed."""
    assert " in UTC (" in (await _run("clock", arguments)).text


@pytest.mark.parametrize(
    "zone", ["Atlantis", "", "../../etc/passwd", "/etc/localtime", "\0", "Europe"]
)
async def test_the_clock_names_a_zone_it_does_not_know(zone: str) -> None:
    """And says what one looks like; a path is no zone."""
    result = await _run("clock", json.dumps({"zone": zone}))

    assert result.failed
    assert "use one such as Europe/Berlin" in result.text


@pytest.mark.parametrize(
    ("arguments", "most"), [("{}", 6), ('{"sides": 2}', 2), ('{"sides": 2.0}', 2)]
)
async def test_the_dice_shows_one_of_its_sides(arguments: str, most: int) -> None:
    """From 1 to the number of sides."""
    shown = {(await _run("dice", arguments)).text for _ in range(50)}

    assert shown <= {str(number) for number in range(1, most + 1)}
    assert len(shown) > 1


def test_only_what_may_run_twice_says_so() -> None:
    """After a crash a tool that is not idempotent is not run again by itself."""
    assert [name for name, tool in tools.BUILT_IN.items() if tool.spec.idempotent] == ["clock"]


async def test_the_result_belongs_to_its_call() -> None:
    """By the id the model gave it."""
    result = await tools.run(ToolCall("call-7", "dice", "{}"), caller(), tools.BUILT_IN)

    assert (result.id, result.tool) == ("call-7", "dice")


async def test_an_unknown_tool_is_answered_with_those_there_are() -> None:
    """The model can then call one of them."""
    result = await _run("oracle", "{}")

    assert result.failed
    assert result.text == "There is no tool 'oracle'. Tools: clock, dice."


@pytest.mark.parametrize(
    "arguments",
    ["{not json", "{", "'zone'", "[" * 100_000, "1" * 5_000 + "x", "9" * 5_000, '{"zone": NaN}'],
)
async def test_arguments_that_are_no_json(arguments: str) -> None:
    """The model is told so and asked to call again; nothing breaks, however odd they are."""
    result = await _run("clock", arguments)

    assert result.failed
    assert result.text.startswith("The arguments are not JSON")
    assert result.text.endswith("Call it again.")


@pytest.mark.parametrize(
    ("tool", "arguments", "problem"),
    [
        ("dice", '{"sides": 1}', "sides: 1 is less than the minimum of 2"),
        ("dice", '{"sides": "six"}', "sides: 'six' is not of type 'integer'"),
        ("dice", '{"sides": true}', "sides: True is not of type 'integer'"),
        ("dice", '{"colour": "red"}', "arguments: Additional properties are not allowed"),
        ("clock", "[]", "arguments: [] is not of type 'object'"),
        ("clock", "null", "arguments: None is not of type 'object'"),
    ],
)
async def test_arguments_that_do_not_fit(tool: str, arguments: str, problem: str) -> None:
    """Each problem is named with its place."""
    result = await _run(tool, arguments)

    assert result.failed
    assert problem in result.text


async def test_a_problem_does_not_repeat_a_whole_document() -> None:
    """The message quotes what was given, but not without end."""
    result = await _run("dice", json.dumps({"sides": "six" * 10_000}))

    assert result.failed
    assert len(result.text) < 1_000


async def test_arguments_nested_without_end_are_refused() -> None:
    """As far as JSON can be read at all, and the check cannot follow."""
    deep = "[" * 900 + "]" * 900

    result = await _run("dice", f'{{"sides": {deep}}}')

    assert result.failed
    assert "sides" in result.text or "nested" in result.text


async def test_a_tool_gets_no_characters_that_cannot_be_stored() -> None:
    """Half a surrogate pair and U+0000 are replaced in names and values, however deep."""
    got: list[Arguments] = []
    tool = _tool(lambda arguments, _: got.append(arguments))

    await tool.run(ToolCall("a", "odd", r'{"a": ["\u0000", {"\ud800": "\ud83d\ude00"}]}'), caller())

    assert got == [{"a": ["\ufffd", {"\ufffd": "\U0001f600"}]}]


async def test_a_check_of_its_own_replaces_that_of_the_schema() -> None:
    """Python agents make dates and models of the arguments."""
    tool = Tool(_spec("odd"), lambda arguments, _: arguments["made"], check=lambda _: {"made": "x"})

    assert (await tool.run(ToolCall("a", "odd", "[]"), caller())).text == "x"


async def test_a_broken_tool_is_a_result_too() -> None:
    """The turn goes on; the error is in the log, not in front of the model."""
    with capture_logs() as entries:
        result = await _result(_broken)

    assert result == ToolResult("a", "odd", "odd failed inside: ZeroDivisionError", failed=True)
    assert [one["event"] for one in entries] == ["tools.broken"]


@pytest.mark.parametrize(
    "error", [SystemExit(1), TimeoutError(), StopIteration(), RecursionError()]
)
async def test_a_tool_can_neither_end_the_process_nor_pretend(error: BaseException) -> None:
    """Whatever it raises is its own failure: also a deadline that is not ours."""
    with capture_logs():
        result = await _result(_raising(error))

    assert result.text == f"odd failed inside: {type(error).__name__}"


async def test_what_the_model_can_mend_is_told_to_it() -> None:
    """In the words of the tool, and nothing is logged."""
    with capture_logs() as entries:
        result = await _result(_raising(BadInput("zone: there is no such zone")))

    assert result == ToolResult("a", "odd", "zone: there is no such zone", failed=True)
    assert entries == []


async def test_a_tool_may_take_its_time() -> None:
    """A function that waits is waited for."""
    assert await _result(_waiting) == ToolResult("a", "odd", "done")


async def test_a_tool_may_not_take_for_ever() -> None:
    """It is cancelled at its deadline, and the model is told how long it had."""
    tool = Tool(_spec("odd", timeout=timedelta(milliseconds=20)), _for_ever)

    result = await tool.run(ToolCall("a", "odd", "{}"), caller())

    assert result == ToolResult("a", "odd", "odd did not finish within 0.02 s.", failed=True)


async def test_an_error_at_the_deadline_is_the_deadline() -> None:
    """What a cancelled tool does in its last moments is not what went wrong."""
    tool = Tool(_spec("odd", timeout=timedelta(milliseconds=20)), _sulking)

    result = await tool.run(ToolCall("a", "odd", "{}"), caller())

    assert result.text == "odd did not finish within 0.02 s."


async def test_being_cancelled_from_outside_passes_through() -> None:
    """Whoever stops a turn stops its tools."""
    running = asyncio.Event()
    tool = _tool(_signalling(running))
    task = asyncio.create_task(tool.run(ToolCall("a", "odd", "{}"), caller()))
    await running.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_waiting_for_something_that_was_cancelled_is_a_failure() -> None:
    """It does not stop the turn: nobody cancelled that."""
    with capture_logs():
        result = await _result(_of_cancelled)

    assert result.text == "odd failed inside: CancelledError"


class Point(BaseModel):
    """Something to return."""

    x: int
    at: datetime


@dataclass
class Pair:
    """Something else to return."""

    left: str
    right: float


NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text", "data"),
    [
        ("words", "words", None),
        (None, "Done.", None),
        ({"a": [1, "é"]}, '{"a":[1,"é"]}', {"a": [1, "é"]}),
        ([], "[]", []),
        (0, "0", 0),
        (False, "false", False),
        ({1: {2}}, '{"1":[2]}', {"1": [2]}),
        (Pair("l", float("nan")), '{"left":"l","right":null}', {"left": "l", "right": None}),
        (
            Point(x=1, at=NOON),
            '{"x":1,"at":"2030-01-02T12:00:00Z"}',
            {"x": 1, "at": "2030-01-02T12:00:00Z"},
        ),
        (Outcome("One.", {"number": 1}), "One.", {"number": 1}),
        ("half \ud800, none \0", "half \ufffd, none \ufffd", None),
        ({"\ud800": "\0"}, '{"\ufffd":"\ufffd"}', {"\ufffd": "\ufffd"}),
    ],
)
async def test_what_a_tool_returns(value: Any, text: str, data: Any) -> None:
    """Words for the model, and the plain JSON beside them; nothing that no database stores."""
    assert await _result(lambda *_: value) == ToolResult("a", "odd", text, data=data)


@pytest.mark.parametrize("value", [object(), b"\xff", {"a": lambda: None}, Outcome("", object())])
async def test_what_cannot_be_told_is_a_failure(value: Any) -> None:
    """The turn goes on without it."""
    with capture_logs():
        result = await _result(lambda *_: value)

    assert result.failed
    assert result.text.startswith("odd failed inside: ")


async def test_a_circle_cannot_be_told() -> None:
    """It has no end."""
    circle: list[Any] = []
    circle.append(circle)
    with capture_logs():
        result = await _result(lambda *_: circle)

    assert result.failed


async def test_a_long_text_is_cut_and_says_so() -> None:
    """A tool that says too much does not fill the prompt; the model is told how much is gone."""
    result = await _result(lambda *_: "x" * 60_000)

    assert len(result.text) <= 50_000
    assert result.text.endswith("x\n[10100 of 60000 characters were left out here]")


async def test_a_text_that_just_fits_is_whole() -> None:
    """Nothing is added to it."""
    assert (await _result(lambda *_: "x" * 50_000)).text == "x" * 50_000


@pytest.mark.parametrize(("size", "kept"), [(256 * 1024 - 2, True), (256 * 1024 - 1, False)])
async def test_large_data_is_left_out(size: int, kept: bool) -> None:
    """What the model is told has the beginning of it."""
    result = await _result(lambda *_: Outcome("There.", "x" * size))

    assert (result.text, result.data is not None) == ("There.", kept)


async def _run(tool: str, arguments: str) -> ToolResult:
    return await tools.run(ToolCall("call-1", tool, arguments), caller(), tools.BUILT_IN)


async def _result(function: Callable[[Arguments, Caller], Any]) -> ToolResult:
    return await _tool(function).run(ToolCall("a", "odd", "{}"), caller())


def _tool(function: Callable[[Arguments, Caller], Any]) -> Tool:
    return Tool(_spec("odd"), function)


def _spec(name: str, *, timeout: timedelta = timedelta(seconds=10)) -> ToolSpec:
    return ToolSpec(name, "For a test.", {"type": "object"}, timeout=timeout)


def _raising(error: BaseException) -> Callable[[Arguments, Caller], Any]:
    def raising(*_: Any) -> str:
        raise error

    return raising


def _signalling(running: asyncio.Event) -> Callable[[Arguments, Caller], Any]:
    async def signalling(*_: Any) -> None:
        running.set()
        await asyncio.Event().wait()

    return signalling


def _broken(*_: Any) -> str:
    return str(1 // 0)


async def _waiting(*_: Any) -> str:
    return "done"


async def _for_ever(*_: Any) -> str:
    await asyncio.Event().wait()
    return "never"


async def _sulking(*_: Any) -> str:
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("not like this")
    return "never"


async def _of_cancelled(*_: Any) -> str:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    future.cancel()
    return await future


@pytest.mark.parametrize("data", [{"n": float("nan")}, {"n": 10**5000}])
def test_data_that_is_no_json_is_left_out(data: Any) -> None:
    """The words of the result stay; what is stored must be JSON that everybody can read."""
    result = tools.bounded(ToolResult("call-1", "measure", "Measured.", data=data))

    assert (result.text, result.data) == ("Measured.", None)
