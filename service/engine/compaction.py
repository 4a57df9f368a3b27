"""When a conversation is summed up, what is asked for then, and what of it stays word by word."""

from __future__ import annotations

from collections.abc import Sequence

from service.core.model import Message, Role
from service.engine.endings import Compacted

REQUEST = (
    "[Sum up this conversation for yourself, in three to ten sentences: who wants what, what was "
    "found out and decided, names and numbers that matter, and what is still open. The summary "
    "will stand in its place. Write nothing else.]"
)
# Summing up begins before the budget is used up, so that nothing has to be left out before.
_FULL = 0.75
_KEPT = 2


def is_due(messages: Sequence[Message], answer: str, *, characters: int) -> bool:
    """Whether the conversation is so near this budget that it should be summed up."""
    size = sum(len(message.text) for message in messages) + len(answer)
    return size > characters * _FULL and len(messages) > 2 * _KEPT


def compacted(summary: str, messages: Sequence[Message], *, turn: int) -> Compacted:
    """A summary of `messages`; the last questions and their answers stay word by word."""
    asked = [one.number for one in messages if one.role in (Role.USER, Role.EVENT)]
    # A message's number is one below that of its turn.
    kept = asked[-_KEPT] if len(asked) > _KEPT else turn
    return Compacted(summary, kept)
