"""The two directions of a connection, whatever carries them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp.client._transport import WriteStream
    from mcp.shared.message import SessionMessage

LONGEST_MESSAGE = 4 * 1024 * 1024
BYTES_PER_SECOND = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """A carrier of messages."""

    read: AsyncIterator[SessionMessage | Exception]
    write: WriteStream[SessionMessage]
    problem: Callable[[], str] = str
    """Says why it ended, if it knows more than the failed requests do; without secrets."""
