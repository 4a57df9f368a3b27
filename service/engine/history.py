"""What a voice is told of the conversation so far."""

from __future__ import annotations

from collections.abc import Sequence

from service.core.model import Message, Role
from service.ports import Said

_CUT_SHORT = "\n\n[This answer was stopped before it was complete.]"
_FAILED = "\n\n[This answer failed before it was complete.]"
_NOTES = {"partial": _CUT_SHORT, "error": _FAILED}


def said(messages: Sequence[Message], *, characters: int) -> list[Said]:
    """Return the newest messages that fit into `characters`, oldest first.

    The last one, which is to be answered, is always there; a history never begins with an
    answer whose question was cut off.
    """
    kept: list[Said] = []
    room = characters
    for message in reversed(messages):
        one = _said(message)
        room -= len(one.text)
        if kept and room < 0:
            break
        kept.append(one)
    while len(kept) > 1 and kept[-1].role == "assistant":
        kept.pop()
    return kept[::-1]


def _said(message: Message) -> Said:
    if message.role is Role.VOICE:
        return Said("assistant", message.text + _NOTES.get(message.status, ""))
    return Said("user", message.text)
