"""Claim by lease, work in tasks, keep the leases, drain: the loop turns and deliveries share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

import structlog

from service.engine.holds import BEAT, Hold, Interruption, uptime
from service.errors import StoreError

Item = TypeVar("Item")

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Wake-ups make this fast; polling makes it true.
_POLL_SECONDS = 1.0
_AFTER_ERROR_SECONDS = 1.0


class Workers(Generic[Item]):
    """Works on everything that can be claimed, `at_once` at a time.

    `claim(limit)` takes leases and returns items with their holds. `work` runs in a task per item
    and must be ready to be cancelled by its hold's interruption. `renew` extends leases and says
    of each that is still ours whether a stop was asked for.
    """

    def __init__(
        self,
        name: str,
        *,
        claim: Callable[[int], Awaitable[Sequence[tuple[Item, Hold]]]],
        work: Callable[[Item, Hold], Awaitable[None]],
        renew: Callable[[Mapping[str, int]], Awaitable[Mapping[str, bool]]],
        at_once: int,
    ) -> None:
        self._name = name
        self._claim = claim
        self._work = work
        self._renew = renew
        self._at_once = at_once
        self._wake = asyncio.Event()
        self._holds: dict[str, Hold] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._draining = False
        self.claimed_at = 0.0

    @property
    def busy(self) -> int:
        """How many items are worked on."""
        return len(self._tasks)

    def start(self) -> None:
        """Begin to claim and to beat."""
        self._loops = [
            asyncio.create_task(self._claim_loop(), name=f"{self._name}-claim"),
            asyncio.create_task(self._beat_loop(), name=f"{self._name}-beat"),
        ]

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    def stop(self, id_: str) -> bool:
        """Cut the work on one item short; False when it is not held here."""
        hold = self._holds.get(id_)
        if hold is None:
            return False
        hold.interrupt(Interruption.STOP)
        return True

    async def drain(self, *, grace: timedelta) -> None:
        """Claim nothing more, let the work end for `grace`, then cut the rest short and wait."""
        if not self._loops:
            return
        claiming, beating = self._loops
        self._draining = True
        self._wake.set()
        await asyncio.wait({claiming})
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace.total_seconds())
        for hold in list(self._holds.values()):
            hold.interrupt(Interruption.DRAIN)
        if self._tasks:
            await asyncio.wait(self._tasks)
        beating.cancel()
        await asyncio.wait({beating})
        self._loops = []

    async def _claim_loop(self) -> None:
        while not self._draining:
            self._wake.clear()
            try:
                more = await self._claim_some()
            except StoreError as error:
                log.warning(f"{self._name}.claim_failed", error=str(error))
                await asyncio.sleep(_AFTER_ERROR_SECONDS)
                continue
            if not more and not self._draining:
                await _set_or_timeout(self._wake, _POLL_SECONDS)

    async def _claim_some(self) -> bool:
        room = self._at_once - len(self._tasks)
        if room <= 0:
            return False
        claimed = await self._claim(room)
        self.claimed_at = uptime()
        for item, hold in claimed:
            self._holds[hold.id] = hold
            task = asyncio.create_task(self._run(item, hold), name=f"{self._name} {hold.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(claimed) == room

    async def _run(self, item: Item, hold: Hold) -> None:
        try:
            await self._work(item, hold)
        except StoreError as error:
            # The lease runs out and a rescue finds everything as it was stored.
            log.warning(f"{self._name}.abandoned", id=hold.id, error=str(error))
        except Exception:
            log.exception(f"{self._name}.broken", id=hold.id)
        finally:
            del self._holds[hold.id]
            self._wake.set()

    async def _beat_loop(self) -> None:
        while True:
            await asyncio.sleep(BEAT.total_seconds())
            try:
                await self._beat()
            except StoreError as error:
                log.warning(f"{self._name}.beat_failed", error=str(error))

    async def _beat(self) -> None:
        held = dict(self._holds)
        if not held:
            return
        asked_at = uptime()
        kept = await self._renew({id_: hold.epoch for id_, hold in held.items()})
        for id_, hold in held.items():
            # What ended meanwhile could not be renewed, and that is as it should be.
            if self._holds.get(id_) is not hold:
                continue
            if id_ not in kept:
                log.warning(f"{self._name}.lease_lost", id=id_)
                hold.lose()
                continue
            hold.extend(asked_at)
            if kept[id_]:
                hold.interrupt(Interruption.STOP)


async def _set_or_timeout(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
