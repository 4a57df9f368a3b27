"""What a connection to a server can do, without importing the SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from service.errors import RingbackError


class Broken(RingbackError):
    """The connection cannot be used (any more); the text says why, and holds no secret."""

    permanent = False


class Rejected(RingbackError):
    """The server answered a request with an error, or with something that is no answer."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool as its server describes it; nothing of it is checked yet."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to: cut to size, fit for storage."""

    text: str
    failed: bool = False
    data: Any = None


class Connection(Protocol):
    """An initialised session with a server. Its methods raise `Broken` and `Rejected`."""

    def pages(self) -> AsyncIterator[Sequence[Listed]]:
        """The server's list of tools; not more than so many pages of it."""

    async def call(self, tool: str, arguments: Mapping[str, Any], *, data: bool = False) -> Answer:
        """Call a tool, which may be one that finds `data`. Being cancelled tells the server."""

    def doubt(self) -> None:
        """Have whoever watches the connection find out whether it still works."""

    async def watch(self) -> None:
        """Wait until the connection has ended, and raise `Broken`."""
