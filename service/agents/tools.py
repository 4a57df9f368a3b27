"""The tools that ship with the service, and how a call from a model is checked and run."""

from __future__ import annotations

import inspect
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog

from service.errors import BadInput
from service.ports import ToolCall, ToolResult, ToolSpec

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_LONGEST_RESULT = 50_000
_LONGEST_PROBLEM = 500


@dataclass(frozen=True)
class Tool:
    """A tool: what the model is told, and the function that does it.

    The function takes the checked arguments and returns text; it raises BadInput for what the
    model can mend.
    """

    spec: ToolSpec
    function: Callable[..., str | Awaitable[str]]

    @cached_property
    def _validator(self) -> Any:
        # jsonschema takes 50 ms to import; a service whose agents call no tools goes without.
        from jsonschema import Draft202012Validator

        return Draft202012Validator(dict(self.spec.parameters))

    async def run(self, call: ToolCall) -> ToolResult:
        """Check the arguments and run; every mistake is a result that tells the model the fix."""
        try:
            arguments = self._arguments(call.arguments)
            made = self.function(**arguments)
            text = await made if inspect.isawaitable(made) else made
        except BadInput as error:
            return _failed(call, str(error))
        except Exception as error:
            log.exception("tools.broken", tool=call.tool)
            return _failed(call, f"{call.tool} failed inside: {type(error).__name__}")
        return ToolResult(call.id, call.tool, text[:_LONGEST_RESULT])

    def _arguments(self, text: str) -> Mapping[str, Any]:
        try:
            arguments = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise BadInput(f"The arguments are not JSON: {error}. Call it again.") from error
        problems = sorted(_problem(error) for error in self._validator.iter_errors(arguments))
        if problems:
            raise BadInput("Invalid arguments. " + "; ".join(problems) + ". Call it again.")
        checked: Mapping[str, Any] = arguments
        return checked


async def run(call: ToolCall, tools: Mapping[str, Tool]) -> ToolResult:
    """Run a call with the tools there are."""
    tool = tools.get(call.tool)
    if tool is None:
        return _failed(call, f"There is no tool {call.tool!r}. Tools: {', '.join(sorted(tools))}.")
    return await tool.run(call)


def _failed(call: ToolCall, text: str) -> ToolResult:
    return ToolResult(call.id, call.tool, text[:_LONGEST_RESULT], failed=True)


def _problem(error: Any) -> str:
    """Where in the arguments it is, and what is wrong there; the message quotes what was given."""
    path = ".".join(str(part) for part in error.absolute_path)
    return f"{path or 'arguments'}: {error.message[:_LONGEST_PROBLEM]}"


def _clock(zone: str = "UTC") -> str:
    try:
        now = datetime.now(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput(
            f"zone: {zone!r} is no IANA time zone; use one such as Europe/Berlin"
        ) from error
    offset = now.astimezone(UTC).strftime("%H:%M UTC")
    return f"{now:%A, %d %B %Y, %H:%M} in {zone} ({offset})"


def _dice(sides: float = 6) -> str:
    # To JSON Schema 6.0 is an integer, too.
    return str(secrets.randbelow(int(sides)) + 1)


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
