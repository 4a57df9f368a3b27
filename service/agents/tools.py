"""The tools that ship with the service, and how a call from a model is checked and run."""

from __future__ import annotations

import asyncio
import inspect
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from pydantic_core import to_jsonable_python

from service.config import MOST_DATA
from service.core.text import clean
from service.errors import BadInput
from service.ports import Caller, ToolCall, ToolResult, ToolSpec

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_LONGEST_RESULT = 50_000
_LONGEST_PROBLEM = 500
_LARGEST_DATA = 256 * 1024

Arguments = Mapping[str, Any]
"""What a call brings, by parameter, once it was checked."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool came to, for one whose words are not simply its data."""

    text: str
    data: Any = None
    """Plain JSON."""


@dataclass(frozen=True)
class Tool:
    """A tool: what the model is told, and the function that does it.

    The function takes the checked arguments and whom it runs for. It returns (or awaits) text, an
    `Outcome` or anything that can be told in JSON, and raises BadInput for what the model can mend.
    """

    spec: ToolSpec
    function: Callable[[Arguments, Caller], Any]
    check: Callable[[Any], Arguments] | None = None
    """Makes arguments of JSON, or raises BadInput; the JSON Schema does unless it is given."""

    async def run(self, call: ToolCall, caller: Caller) -> ToolResult:
        """Check the arguments and run; every mistake is a result that tells the model the fix."""
        limit = self.spec.timeout.total_seconds()
        timer = asyncio.timeout(limit)
        try:
            async with timer:
                made = self.function(self._arguments(call.arguments), caller)
                value = await made if inspect.isawaitable(made) else made
                if not self.spec.data:
                    return _result(call, value, _LARGEST_DATA)
                # Much data takes too long for the event loop.
                return await asyncio.to_thread(_result, call, value, MOST_DATA)
        except BadInput as error:
            return _failed(call, str(error))
        except asyncio.CancelledError as error:
            if _wanted():
                raise
            return _broken(call, error)
        # Not even a handler that wants to end the process does: a model must not be able to.
        except (Exception, SystemExit) as error:
            if timer.expired():
                return _failed(call, f"{call.tool} did not finish within {limit:g} s.")
            return _broken(call, error)

    def _arguments(self, text: str) -> Arguments:
        try:
            given = json.loads(text.strip() or "{}", parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"The arguments are not JSON: {error}. Call it again.") from error
        try:
            return (self.check or self._fitting)(_cleaned(given))
        except RecursionError as error:
            raise invalid(["arguments: they are nested too deeply"]) from error

    def _fitting(self, given: Any) -> Arguments:
        problems = sorted(_problem(error) for error in self._validator.iter_errors(given))
        if problems:
            raise invalid(problems)
        checked: Arguments = given
        return checked

    @cached_property
    def _validator(self) -> Any:
        # jsonschema takes 50 ms to import; a service whose agents call no tools goes without.
        from jsonschema import Draft202012Validator

        return Draft202012Validator(dict(self.spec.parameters))


async def run(call: ToolCall, caller: Caller, tools: Mapping[str, Tool]) -> ToolResult:
    """Run a call with the tools there are."""
    tool = tools.get(call.tool)
    return unknown(call, tools) if tool is None else await tool.run(call, caller)


def unknown(call: ToolCall, offered: Iterable[str]) -> ToolResult:
    """Tell the model which tools there are instead."""
    names = ", ".join(sorted(offered)) or "none"
    return _failed(call, f"There is no tool {call.tool!r}. Tools: {names}.")


def invalid(problems: Iterable[str]) -> BadInput:
    """All that is wrong with the arguments, at once."""
    told = "; ".join(one[:_LONGEST_PROBLEM] for one in problems)
    return BadInput(f"Invalid arguments. {told}. Call it again.")


def bounded(result: ToolResult, *, most_data: int = _LARGEST_DATA) -> ToolResult:
    """The same result, fit for the prompt and the database: clean, and not without end."""
    return replace(result, text=_shortened(clean(result.text)), data=_kept(result.data, most_data))


async def kept(result: ToolResult) -> ToolResult:
    """The same for the result of a data tool, which may have more data."""
    return await asyncio.to_thread(bounded, result, most_data=MOST_DATA)


def _result(call: ToolCall, value: Any, most_data: int) -> ToolResult:
    outcome = _outcome(value)
    made = ToolResult(call.id, call.tool, outcome.text, data=outcome.data)
    return bounded(made, most_data=most_data)


def _outcome(value: Any) -> Outcome:
    if isinstance(value, Outcome):
        return Outcome(value.text, _plain(value.data))
    if isinstance(value, str):
        return Outcome(value)
    if value is None:
        return Outcome("Done.")
    plain = _plain(value)
    return Outcome(json.dumps(plain, ensure_ascii=False, separators=(",", ":")), plain)


def _plain(value: Any) -> Any:
    """The value as plain JSON. Raises ValueError when it has no such form."""
    return to_jsonable_python(_cleaned(value), inf_nan_mode="null")


def _wanted() -> bool:
    """Whether somebody cancelled this task; otherwise the tool waited for a task that was."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _broken(call: ToolCall, error: BaseException) -> ToolResult:
    log.error("tools.broken", tool=call.tool, exc_info=error)
    return _failed(call, f"{call.tool} failed inside: {type(error).__name__}")


def _failed(call: ToolCall, text: str) -> ToolResult:
    return bounded(ToolResult(call.id, call.tool, text, failed=True))


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_RESULT:
        return text
    # The number of what is left out changes the length of the note by a few digits at most.
    kept = _LONGEST_RESULT - 100
    left_out = len(text) - kept
    return f"{text[:kept]}\n[{left_out} of {len(text)} characters were left out here]"


def _kept(data: Any, most: int) -> Any:
    if data is None:
        return None
    plain = _cleaned(data)
    try:
        size = len(json.dumps(plain, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError):
        # A number without an end, or one that no reader takes.
        return None
    return plain if size <= most else None


def _cleaned(value: Any) -> Any:
    """JSON without characters that no database stores; of other values what is plain in them."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {_cleaned(name): _cleaned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _problem(error: Any) -> str:
    """Where in the arguments it is, and what is wrong there; the message quotes what was given."""
    path = ".".join(str(part) for part in error.absolute_path)
    return f"{path or 'arguments'}: {error.message}"


def _clock(arguments: Arguments, _: Caller) -> str:
    zone = arguments.get("zone", "UTC")
    try:
        now = datetime.now(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput(
            f"zone: {zone!r} is no IANA time zone; use one such as Europe/Berlin"
        ) from error
    offset = now.astimezone(UTC).strftime("%H:%M UTC")
    return f"{now:%A, %d %B %Y, %H:%M} in {zone} ({offset})"


def _dice(arguments: Arguments, _: Caller) -> str:
    # To JSON Schema 6.0 is an integer, too.
    return str(secrets.randbelow(int(arguments.get("sides", 6))) + 1)


BUILT_IN: Mapping[str, Tool] = {
    tool.spec.name: tool
    for tool in (
        Tool(
            ToolSpec(
                "clock",
                "Tell the current date and time in a time zone.",
                {
                    "type": "object",
                    "properties": {
                        "zone": {"type": "string", "description": "IANA name; default UTC"}
                    },
                    "additionalProperties": False,
                },
                idempotent=True,
            ),
            _clock,
        ),
        Tool(
            ToolSpec(
                "dice",
                "Roll a dice.",
                {
                    "type": "object",
                    "properties": {"sides": {"type": "integer", "minimum": 2, "maximum": 1000}},
                    "additionalProperties": False,
                },
            ),
            _dice,
        ),
    )
}
