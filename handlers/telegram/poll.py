"""Long polling: fetch raw updates, store each, and only then let Telegram forget them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from handlers.telegram.client import AnotherPoller, Client
from handlers.telegram.receive import Receiver
from handlers.telegram.translate import Me, update_id
from service.engine.leases import Lease, Leases
from service.errors import ChannelBusy, ChannelDown, ChannelError, StoreError
from service.failpoints import reach

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_NUMBER = re.compile(rb'"update_id"\s*:\s*(\d{1,18})')


@dataclass(frozen=True, slots=True)
class PollTimes:
    """How long the poller waits for what."""

    answer: timedelta = timedelta(seconds=30)
    """Telegram holds a fetch open for so long when there is nothing."""
    beat: timedelta = timedelta(seconds=10)
    """The lease is renewed this often."""
    standby: timedelta = timedelta(seconds=5)
    """While another process polls, we look this often whether it stopped."""
    first_retry: timedelta = timedelta(seconds=1)
    last_retry: timedelta = timedelta(seconds=30)
    goodbye: timedelta = timedelta(seconds=3)
    """The last confirmation may take this long."""


class Poller:
    """Fetches the updates of one bot while it holds the lease of that bot.

    `identify` returns who the bot is, from Telegram; it may fail like any other call.
    """

    def __init__(
        self,
        client: Client,
        receiver: Receiver,
        leases: Leases,
        *,
        bot: str,
        identify: Callable[[], Awaitable[Me]],
        times: PollTimes | None = None,
    ) -> None:
        self._client = client
        self._receiver = receiver
        self._leases = leases
        self._name = f"telegram:{bot}"
        self._identify = identify
        self._times = times or PollTimes()
        self._stopping = asyncio.Event()
        self._failures = 0
        self._offset: int | None = None
        self.trouble: str | None = None
        """Why updates do not come in right now; None when they do."""

    async def run(self) -> None:
        """Poll until `stop`: hold the lease or wait for it, whatever fails."""
        while not self._stopping.is_set():
            try:
                lease = await self._leases.acquire(self._name)
            except StoreError as error:
                await self._failed(error)
                continue
            if lease is None:
                self.trouble = None
                await self._pause(self._times.standby)
                continue
            try:
                await self._hold(lease)
            except Exception as error:
                # A defect of ours must not leave the bot deaf until somebody restarts it.
                log.exception("telegram.poll_broken")
                self.trouble = f"{type(error).__name__} in the poll loop"
                await self._pause(self._times.last_retry)

    def stop(self) -> None:
        """Ask `run` to end: what was fetched is still stored and confirmed."""
        self._stopping.set()

    async def _hold(self, lease: Lease) -> None:
        """Poll as long as the lease is ours."""
        polling = asyncio.create_task(self._poll(), name="telegram poll")
        beating = asyncio.create_task(self._beat(lease), name="telegram poll lease")
        try:
            await asyncio.wait({polling, beating}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (polling, beating):
                task.cancel()
            await asyncio.wait({polling, beating})
        try:
            await self._leases.release(lease)
        except StoreError as error:
            log.warning("telegram.lease_kept", reason=str(error))
        _raise_defects(polling, beating)

    async def _beat(self, lease: Lease) -> None:
        """Renew the lease; return when it is lost."""
        failed = 0
        while failed < 2:
            await asyncio.sleep(self._times.beat.total_seconds())
            try:
                if not await self._leases.renew(lease):
                    break
                failed = 0
            except StoreError:
                # Twice without an answer, and another process may already think it is free.
                failed += 1
        log.warning("telegram.lease_lost", lease=lease.name)

    async def _poll(self) -> None:
        """Fetch and store until `stop`."""
        me: Me | None = None
        self._offset = None
        while not self._stopping.is_set():
            try:
                if me is None:
                    me = await self._begin()
                await self._fetch(me)
            except (ChannelError, StoreError) as error:
                if isinstance(error, AnotherPoller):
                    # A webhook that somebody set has to go before polling can work.
                    me = None
                await self._failed(error)
            else:
                self._failures, self.trouble = 0, None
        await self._confirm()

    async def _begin(self) -> Me:
        me = await self._identify()
        await self._client.delete_webhook()
        return me

    async def _fetch(self, me: Me, *, limit: int = 100) -> None:
        """Store one batch. What is not stored is not confirmed and comes again."""
        body = await self._unless_stopping(
            self._client.updates(offset=self._offset, wait=self._times.answer, limit=limit)
        )
        if body is None:
            return
        updates = _updates(body)
        if updates is not None:
            await self._store(updates, me)
        elif limit > 1:
            # One of them cannot even be read: take them one by one.
            await self._fetch(me, limit=1)
        else:
            await self._set_aside(body)

    async def _store(self, updates: Sequence[object], me: Me) -> None:
        if not updates:
            # Everything up to the offset is forgotten by now. Without it we also see updates
            # whose numbers began anew lower down, as they do after a week of silence.
            self._offset = None
            return
        moved = False
        for raw in updates:
            await self._receiver.receive(raw, json.dumps(raw).encode(), me)
            reach("telegram.stored")
            number = update_id(raw)
            if number is not None:
                self._offset, moved = number + 1, True
        if not moved:
            raise ChannelDown("updates without numbers cannot be confirmed")

    async def _set_aside(self, body: bytes) -> None:
        match = _NUMBER.search(body)
        if match is None:
            raise ChannelDown("getUpdates was answered with something that is not JSON")
        number = int(match[1])
        await self._receiver.quarantine(body, "the update is not JSON", key=str(number))
        self._offset = number + 1

    async def _confirm(self) -> None:
        """Let Telegram forget what is stored, so that nobody has to fetch it again."""
        if self._offset is None:
            return
        try:
            async with asyncio.timeout(self._times.goodbye.total_seconds()):
                await self._client.updates(offset=self._offset, wait=timedelta(), limit=1)
        except (ChannelError, TimeoutError):
            # They come again and are recognised.
            return

    async def _failed(self, error: ChannelError | StoreError) -> None:
        self.trouble = str(error)
        log.warning("telegram.poll_failed", reason=str(error), failures=self._failures)
        wait = min(self._times.first_retry * 2**self._failures, self._times.last_retry)
        if isinstance(error, ChannelBusy):
            wait = error.retry_after
        self._failures = min(self._failures + 1, 10)
        await self._pause(wait)

    async def _pause(self, duration: timedelta) -> None:
        try:
            async with asyncio.timeout(duration.total_seconds()):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _unless_stopping(self, fetching: Awaitable[bytes]) -> bytes | None:
        """Wait for a fetch, but not when the service wants to stop: None then."""
        fetch = asyncio.ensure_future(fetching)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({fetch, stop}, return_when=asyncio.FIRST_COMPLETED)
            if fetch.done():
                return fetch.result()
            return None
        finally:
            for task in (fetch, stop):
                task.cancel()
            await asyncio.wait({fetch, stop})


def _updates(body: bytes) -> Sequence[object] | None:
    """The updates in an answer of getUpdates; None when it cannot be read."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    result = answer.get("result") if isinstance(answer, Mapping) else None
    return result if isinstance(result, list) else None


def _raise_defects(*tasks: asyncio.Task[None]) -> None:
    """A loop that ended by anything but our own errors is a defect of ours: say so."""
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
