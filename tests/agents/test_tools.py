"""The tools: what they do, and what the model is told when it calls them wrongly."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from service.agents import tools
from service.agents.tools import Tool
from service.ports import ToolCall, ToolResult, ToolSpec


async def test_the_clock_tells_the_time_in_a_zone() -> None:
    """With the zone's name, so that the model cannot mix it up."""
    result = await _run("clock", '{"zone": "Asia/Tokyo"}')

    assert not result.failed
    assert " in Asia/Tokyo (" in result.text
    assert result.text.endswith("UTC)")


@pytest.mark.parametrize("arguments", ["", "{}"])
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
    result = await tools.run(ToolCall("call-7", "dice", "{}"), tools.BUILT_IN)

    assert (result.id, result.tool) == ("call-7", "dice")


async def test_an_unknown_tool_is_answered_with_those_there_are() -> None:
    """The model can then call one of them."""
    result = await _run("oracle", "{}")

    assert result.failed
    assert result.text == "There is no tool 'oracle'. Tools: clock, dice."


@pytest.mark.parametrize(
    "arguments", ["{not json", "{", "'zone'", "[" * 100_000, "1" * 5_000 + "x"]
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


async def test_a_broken_tool_is_a_result_too() -> None:
    """The turn goes on; the error is in the log, not in front of the model."""
    with capture_logs() as entries:
        result = await tools.run(ToolCall("a", "odd", "{}"), {"odd": Tool(_spec("odd"), _broken)})

    assert result == ToolResult("a", "odd", "odd failed inside: ZeroDivisionError", failed=True)
    assert [one["event"] for one in entries] == ["tools.broken"]


async def test_a_tool_may_take_its_time() -> None:
    """A function that waits is waited for."""
    result = await tools.run(ToolCall("a", "slow", "{}"), {"slow": Tool(_spec("slow"), _waiting)})

    assert result == ToolResult("a", "slow", "done")


async def test_a_result_has_a_longest_length() -> None:
    """A tool that says too much does not fill the prompt."""
    result = await tools.run(
        ToolCall("a", "chatty", "{}"), {"chatty": Tool(_spec("chatty"), _chatty)}
    )

    assert len(result.text) == 50_000


async def _run(tool: str, arguments: str) -> ToolResult:
    return await tools.run(ToolCall("call-1", tool, arguments), tools.BUILT_IN)


def _spec(name: str) -> ToolSpec:
    return ToolSpec(name, "For a test.", {"type": "object"})


def _broken() -> str:
    return str(1 // 0)


async def _waiting() -> str:
    return "done"


def _chatty() -> str:
    return "x" * 60_000
