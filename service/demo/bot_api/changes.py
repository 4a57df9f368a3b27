"""Waiting for something to become true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Counts what happened and wakes those who wait for it."""

    def __init__(self) -> None:
        self.number = 0
        self._waiting: set[asyncio.Event] = set()

    def note(self) -> None:
        """Something happened: everybody looks again."""
        self.number += 1
        for event in self._waiting:
            event.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds; it is asked again after every change."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while not condition():
                event.clear()
                await event.wait()
        finally:
            self._waiting.discard(event)

    async def after(self, number: int) -> None:
        """Wait until more than `number` things have happened."""
        await self.until(lambda: self.number > number)
