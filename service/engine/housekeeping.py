"""Keeps the house: takes over what the dead left, ends waits in vain, prunes and puts away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from service.core.model import Event, SessionId
from service.engine import keeping
from service.engine.metrics import Metrics
from service.engine.turns import Turns
from service.errors import StoreError
from service.store import attachments, deliveries, feed, inbox, leases
from service.store.database import Database

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SWEEP = timedelta(seconds=5)
_PRUNE = timedelta(hours=1)
_AT_ONCE = 500
_ARCHIVED_AT_ONCE = 100


class Housekeeping:
    """Rescues, prunes and archives.

    `wake` is called when a rescue left something to claim, `announce` with what was told in
    sessions. Sessions are archived that nobody used for `archive_after`; with no time at all, none.
    """

    def __init__(
        self,
        database: Database,
        turns: Turns,
        metrics: Metrics,
        *,
        attempts: int,
        keep_events: timedelta,
        keep_bodies: timedelta,
        archive_after: timedelta,
        wake: Callable[[], None],
        announce: Callable[[Mapping[SessionId, Sequence[Event]]], None],
    ) -> None:
        self._database = database
        self._turns = turns
        self._metrics = metrics
        self._attempts = attempts
        self._keep_events = keep_events
        self._keep_bodies = keep_bodies
        self._archive_after = archive_after
        self._wake = wake
        self._announce = announce

    async def take_over(self) -> None:
        """Rescue at start-up what the last process left: at once where no other can be alive."""
        if self._database.is_sqlite:
            await self._turns.rescue(attempts=self._attempts, alone=True)
            self._count_deliveries(await self._database.write(deliveries.rescue_all))
            await self._database.write(leases.release_all)
        else:
            await self.sweep()

    async def run(self) -> None:
        """Sweep, prune and archive until cancelled; an outage of the database only delays it."""
        pruned_at = datetime.now(UTC)
        while True:
            await asyncio.sleep(SWEEP.total_seconds())
            try:
                await self.sweep()
                if datetime.now(UTC) - pruned_at > _PRUNE:
                    await self.prune()
                    await self.archive()
                    pruned_at = datetime.now(UTC)
            except StoreError as error:
                log.warning("housekeeping.failed", error=str(error))

    async def sweep(self) -> None:
        """Take over turns and deliveries whose lease is over; close questions nobody answered."""
        turns = await self._turns.rescue(attempts=self._attempts)
        turns += await self._turns.expire()
        found = await self._database.write(deliveries.rescue, limit=_AT_ONCE)
        self._count_deliveries(found)
        if turns or found:
            self._wake()

    async def prune(self) -> None:
        """Drop events and raw bodies that are older than the configuration keeps them."""
        now = datetime.now(UTC)
        events = bodies = 0
        while gone := await self._database.write(
            feed.prune, before=now - self._keep_events, limit=_AT_ONCE
        ):
            events += gone
        while gone := await self._database.write(
            inbox.drop_bodies, before=now - self._keep_bodies, limit=_AT_ONCE
        ):
            bodies += gone
        blobs = await self._database.write(attachments.prune, before=now - _PRUNE, limit=_AT_ONCE)
        log.info("housekeeping.pruned", events=events, bodies=bodies, blobs=blobs)

    async def archive(self) -> None:
        """Archive sessions that nobody has used for as long as the configuration says."""
        if not self._archive_after:
            return
        before = datetime.now(UTC) - self._archive_after
        archived = 0
        while told := await self._database.write(
            keeping.archive_idle, before=before, limit=_ARCHIVED_AT_ONCE
        ):
            self._announce(told)
            archived += len(told)
        if archived:
            log.info("housekeeping.archived", sessions=archived)

    def _count_deliveries(self, found: int) -> None:
        if found:
            self._metrics.rescued.labels("delivery").inc(found)
            log.warning("outbox.rescued", deliveries=found)
