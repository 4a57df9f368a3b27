"""How fast strangers may talk to us, and how much of it our log takes."""

from __future__ import annotations

import asyncio
import time

import structlog

from service.core.text import clean

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_LONGEST_NOTE = 500
_NOTES_PER_SECOND = 20


class Pace:
    """Lets `limit` units through in a second; whoever brings more has to wait."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._free_at = 0.0

    async def take(self, units: float) -> None:
        """Take `units`; always lets other tasks run, also when there is no need to wait."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 1.0) + units / self._limit
        await asyncio.sleep(max(0.0, self._free_at - now))


class Murmur:
    """What a server says besides its messages: some of it is logged, at debug."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._second = 0
        self._notes = 0

    def note(self, event: str, text: str) -> None:
        """Log a line, unless there were too many within this second."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._notes = second, 0
        self._notes += 1
        if self._notes <= _NOTES_PER_SECOND:
            log.debug(event, server=self._server, text=clean(text[:_LONGEST_NOTE]))
