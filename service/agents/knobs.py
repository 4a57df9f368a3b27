"""Knobs as a model meets them: what they are set to, and the tool that turns them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.agents.tools import Arguments, Outcome, Tool
from service.core.knobs import Knob
from service.errors import BadInput
from service.ports import Caller, ToolSpec

SET_KNOB = "set_knob"


def values(knobs: Mapping[str, Knob], stored: Mapping[str, Any]) -> dict[str, Any]:
    """What every knob is set to; its default where nothing, or nothing that fits, is stored."""
    return {name: _value(knob, stored) for name, knob in knobs.items()}


def section(knobs: Mapping[str, Knob], stored: Mapping[str, Any]) -> str:
    """One line for each knob: what it is set to, what it is for, and what it takes."""
    return "\n".join(
        f"- {name} is {told(value)} (takes {knobs[name].takes}{_whose(knobs[name])})"
        f": {knobs[name].description}"
        for name, value in values(knobs, stored).items()
    )


def set_knob(knobs: Mapping[str, Knob]) -> Tool | None:
    """Make the tool that turns the knobs a model may turn; None when there is none."""
    turned = {name: knob for name, knob in knobs.items() if knob.model_may_set}
    if not turned:
        return None
    takes = "; ".join(f"{name} takes {knob.takes}" for name, knob in turned.items())
    spec = ToolSpec(
        SET_KNOB,
        f"Change a setting of this conversation: {takes}.",
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "enum": list(turned)},
                # Not narrower: what each knob takes is its own to say, also words such as "on".
                "value": {"anyOf": [{"type": one} for one in ("boolean", "number", "string")]},
            },
            "required": ["name", "value"],
            "additionalProperties": False,
        },
        idempotent=True,
    )
    return Tool(spec, _Turn(turned))


def told(value: Any) -> str:
    """A value in the words people use for it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if value != "" else "empty"


class _Turn:
    """Sets one knob of the caller's session."""

    def __init__(self, knobs: Mapping[str, Knob]) -> None:
        self._knobs = knobs

    def __call__(self, arguments: Arguments, caller: Caller) -> Outcome:
        name = arguments["name"]
        value = self._knobs[name].check(arguments["value"])
        caller.knobs[name] = value
        return Outcome(f"{name} is {told(value)} now.", {name: value})


def _value(knob: Knob, stored: Mapping[str, Any]) -> Any:
    try:
        return knob.check(stored[knob.name])
    except (KeyError, BadInput):
        return knob.default


def _whose(knob: Knob) -> str:
    return "" if knob.model_may_set else "; only people may change it"
