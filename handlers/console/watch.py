"""Ends what goes on in somebody's name soon after the sign-in or token behind it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog

from service.errors import StoreError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Alive = Callable[[Collection[bytes]], Awaitable[Collection[bytes]]]
"""Says which of these digests still let somebody in."""


class Watch:
    """Asks about every digest in use, all in one question, for as long as any is in use.

    They are taken back in other processes, too (`ringback token revoke`), so nobody tells us.
    """

    def __init__(self, alive: Alive, *, every: timedelta = timedelta(seconds=1)) -> None:
        self._alive = alive
        self._every = every
        self._open: dict[bytes, list[Callable[[], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    @contextmanager
    def over(self, digest: bytes, end: Callable[[], object]) -> Iterator[None]:
        """Call `end`, once, should `digest` cease to hold inside of the block."""
        self._open.setdefault(digest, []).append(end)
        self._schedule()
        try:
            yield
        finally:
            ends = self._open.get(digest, [])
            if end in ends:
                ends.remove(end)
            if not ends:
                self._open.pop(digest, None)

    def _schedule(self) -> None:
        if self._timer is None and self._asking is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._every.total_seconds(), self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._open:
            self._asking = asyncio.create_task(self._ask(), name="watch of sign-ins")

    async def _ask(self) -> None:
        try:
            await self._end_those_gone()
        finally:
            self._asking = None
        if self._open:
            self._schedule()

    async def _end_those_gone(self) -> None:
        asked = tuple(self._open)
        try:
            alive = await self._alive(asked)
        except StoreError as error:
            # An outage is no revocation.
            log.warning("signin.not_checked", error=str(error))
            return
        for digest in set(asked) - set(alive):
            for end in self._open.pop(digest, []):
                end()
