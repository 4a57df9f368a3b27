"""Notes: what an agent without code of its own can keep of a session, and how it is shown them."""

from __future__ import annotations

from typing import Any

from service.agents.tools import Arguments, Outcome, Tool
from service.core.state import State
from service.errors import BadInput
from service.ports import Caller, ToolSpec

NAME = "notes"
"""Of the tools in the configuration, of the section, and in the session's state."""
TITLE = "Notes"

_MOST = 200
_LONGEST = 2000
# What all notes together take of a prompt, and what is left of each when they are too many.
_SHOWN = 16_000
_SHOWN_AT_LEAST = 80


def section(state: State) -> str | None:
    """The notes with their numbers; shortened evenly when they are long."""
    try:
        notes = _notes(state)
    except BadInput:
        # Whoever calls a tool for notes is told.
        return None
    if not notes:
        return None
    whole = sum(len(note["text"]) for note in notes) <= _SHOWN
    longest = _LONGEST if whole else max(_SHOWN_AT_LEAST, _SHOWN // len(notes))
    return "\n".join(f"{note['number']}. {_shown(note['text'], longest)}" for note in notes)


def _shown(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}…"


def _remember(arguments: Arguments, caller: Caller) -> Outcome:
    text = arguments["text"].strip()
    notes = _notes(caller.state)
    if not text:
        raise BadInput("text: write what is to be remembered")
    if len(notes) >= _MOST:
        raise BadInput(f"There are {_MOST} notes, and no more fit. Forget some first.")
    number = max((note["number"] for note in notes), default=0) + 1
    note = {"number": number, "text": text}
    try:
        caller.state[NAME] = [*notes, note]
    except BadInput as error:
        raise BadInput("The notes are full. Forget some first, or write less.") from error
    return Outcome(f"Remembered as note {number}.", note)


def _forget(arguments: Arguments, caller: Caller) -> Outcome:
    number = arguments["number"]
    notes = _notes(caller.state)
    kept = [note for note in notes if note["number"] != number]
    if len(kept) == len(notes):
        there = ", ".join(str(note["number"]) for note in notes) or "none"
        raise BadInput(f"There is no note {int(number)}. Numbers: {there}.")
    caller.state[NAME] = kept
    return Outcome(f"Forgot note {int(number)}.", {"number": int(number)})


def _notes(state: State) -> list[dict[str, Any]]:
    """The notes as they were stored: their numbers stay the same until they are forgotten.

    Raises BadInput when code of the agent keeps something else under the name.
    """
    found = state.get(NAME, [])
    if not isinstance(found, list) or not all(_is_note(one) for one in found):
        raise BadInput("state.notes: something else is kept there; notes cannot be used with it")
    return found


def _is_note(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("number"), int)
        and isinstance(value.get("text"), str)
    )


# A note and the result of its call are stored together: after a crash neither is there.
TOOLS = (
    Tool(
        ToolSpec(
            "remember",
            "Write down a note that stays with this conversation. Notes are shown to you with "
            "their numbers.",
            {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "minLength": 1, "maxLength": _LONGEST},
                },
                "required": ["text"],
                "additionalProperties": False,
            },
            idempotent=True,
        ),
        _remember,
    ),
    Tool(
        ToolSpec(
            "forget",
            "Take back one note, by its number.",
            {
                "type": "object",
                "properties": {"number": {"type": "integer", "minimum": 1}},
                "required": ["number"],
                "additionalProperties": False,
            },
            idempotent=True,
        ),
        _forget,
    ),
)
