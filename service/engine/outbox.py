"""Brings deliveries to their addresses: claimed, followed live, retried, never blindly resent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from service.core.model import Address, Delivery, DeliveryId, Event, Part, Turn
from service.core.reply import TurnView, fold, view_of
from service.core.retry import GiveUp, Retry, after_failure
from service.core.states import TURN_FINAL, DeliveryState
from service.engine.feed import Feed
from service.engine.holds import LEASE, Hold, Interruption, trusted_until, uptime
from service.engine.metrics import Metrics
from service.errors import (
    AddressMoved,
    ChannelDown,
    ChannelError,
    ChannelUncertain,
    StoreDown,
    StoreError,
    TurnWaits,
)
from service.failpoints import reach
from service.ports import Receipt, Sender
from service.store import deliveries, replies, sessions, turns
from service.store.database import Database

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_RETRY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours and the parts an earlier holder noted."""

    delivery: Delivery
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What the database says of a turn right now."""

    turn: Turn
    view: TurnView


class Outbox:
    """Sends deliveries through the senders of their channels, for a pool of workers."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        senders: Mapping[str, Sender],
        metrics: Metrics,
        *,
        owner: str,
    ) -> None:
        self._database = database
        self._feed = feed
        self._senders = senders
        self._metrics = metrics
        self._owner = owner

    async def claim(self, limit: int) -> Sequence[tuple[Claimed, Hold]]:
        """Take leases on due deliveries of channels we can send to."""
        if not self._senders:
            return ()
        asked_at = uptime()
        claimed = await self._database.write(
            _claim, owner=self._owner, limit=limit, channels=list(self._senders)
        )
        if claimed:
            reach("outbox.claimed")
        return [
            (one, Hold(one.delivery.id, one.delivery.epoch, trusted_until(asked_at)))
            for one in claimed
        ]

    async def renew(self, held: Mapping[str, int]) -> Mapping[str, bool]:
        """Extend leases; nobody asks a delivery to stop."""
        epochs = {DeliveryId(id_): epoch for id_, epoch in held.items()}
        kept = await self._database.write(deliveries.renew, epochs, lease=LEASE)
        return dict.fromkeys(kept, False)

    async def work(self, claimed: Claimed, hold: Hold) -> None:
        """Bring one delivery to its address and store what came of it."""
        task = asyncio.create_task(
            self._deliver(claimed, hold), name=f"deliver {claimed.delivery.id}"
        )
        hold.work(task)
        try:
            await task
        except asyncio.CancelledError:
            if hold.interruption is not Interruption.DRAIN:
                task.cancel()
                raise
            await self._database.write(deliveries.hand_over, claimed.delivery.id, hold.epoch)

    async def _deliver(self, claimed: Claimed, hold: Hold) -> None:
        delivery = claimed.delivery
        sender = self._senders[delivery.address.channel]
        journal = _Journal(self._database, hold, claimed.parts)
        try:
            async with aclosing(self._views(delivery, sender, hold)) as views:
                receipt = await sender.deliver(delivery, views, journal)
        except TurnWaits:
            await self._park(delivery, hold)
        except ChannelError as error:
            await self._failed(delivery, hold, error)
        except StoreError:
            raise
        except Exception as error:
            log.exception("outbox.broken", delivery=delivery.id)
            await self._failed(delivery, hold, ChannelDown(f"{type(error).__name__} in the sender"))
        else:
            reach("outbox.sent")
            await self._settle(delivery, hold, DeliveryState.SENT, receipt=_stored(receipt))

    async def _park(self, delivery: Delivery, hold: Hold) -> None:
        """Put a delivery aside whose turn waits for a person: it takes no worker meanwhile."""
        assert delivery.turn is not None
        hold.check()
        await self._database.write(deliveries.park, delivery.id, hold.epoch, delivery.turn)
        log.info("outbox.parked", delivery=delivery.id, turn=delivery.turn)

    async def _failed(self, delivery: Delivery, hold: Hold, error: ChannelError) -> None:
        if isinstance(error, AddressMoved):
            await self._database.write(_move_address, delivery, hold.epoch, error.spot)
            return
        if isinstance(error, ChannelUncertain):
            await self._settle(delivery, hold, DeliveryState.UNCERTAIN, error=str(error))
            return
        match after_failure(
            error,
            channel=delivery.address.channel,
            attempt=delivery.attempt,
            seed=delivery.id,
            now=datetime.now(UTC),
        ):
            case Retry(at):
                log.info("outbox.retry", delivery=delivery.id, at=at.isoformat(), reason=str(error))
                await self._settle(
                    delivery, hold, DeliveryState.PENDING, due_at=at, error=str(error)
                )
            case GiveUp(reason):
                await self._settle(delivery, hold, DeliveryState.FAILED, error=reason)

    async def _settle(
        self, delivery: Delivery, hold: Hold, to: DeliveryState, **values: object
    ) -> None:
        if to is not DeliveryState.PENDING:
            values["finished_at"] = datetime.now(UTC)
        while True:
            hold.check()
            try:
                await self._database.write(deliveries.settle, delivery.id, hold.epoch, to, values)
                break
            except StoreDown as error:
                log.warning("outbox.settle_failed", delivery=delivery.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        self._metrics.deliveries.labels(delivery.address.channel.value, to.value).inc()
        if to in (DeliveryState.FAILED, DeliveryState.UNCERTAIN):
            log.warning(
                "outbox.undelivered",
                delivery=delivery.id,
                channel=delivery.address.channel.value,
                state=to.value,
                reason=values.get("error"),
            )

    async def _views(
        self, delivery: Delivery, sender: Sender, hold: Hold
    ) -> AsyncGenerator[TurnView]:
        """The newest state of the delivery's turn whenever it changed, up to the final one."""
        if delivery.turn is None:
            return
        snapshot = await self._database.read(_snapshot, delivery)
        if snapshot is None:
            return
        if snapshot.view.final:
            yield snapshot.view
            return
        turn = snapshot.turn
        watch = _Watch(TurnView(turn.id))
        events = self._feed.follow(turn.session, after=turn.number - 2, turn=turn.id)
        task = asyncio.create_task(watch.fold(events), name=f"watch {turn.id}")
        try:
            while True:
                await watch.changed.wait()
                watch.changed.clear()
                if task.done():
                    task.result()
                hold.check()
                view = watch.view
                if view.final or sender.live:
                    yield view
                if view.final:
                    return
        finally:
            task.cancel()


class _Watch:
    """The newest view of a turn, kept up to date while somebody is busy showing an older one."""

    def __init__(self, view: TurnView) -> None:
        self.view = view
        self.changed = asyncio.Event()

    async def fold(self, events: AsyncGenerator[Event]) -> None:
        """Apply events until they end; also wakes the reader when they break off."""
        try:
            async for event in events:
                self.view = fold(self.view, event)
                self.changed.set()
        finally:
            self.changed.set()
            await events.aclose()


class _Journal:
    """The parts of one delivery, stored under its epoch."""

    def __init__(self, database: Database, hold: Hold, parts: Sequence[Part]) -> None:
        self._database = database
        self._hold = hold
        self._delivery = DeliveryId(hold.id)
        self._parts = {part.number: part for part in parts}

    @property
    def parts(self) -> Sequence[Part]:
        """The messages of this delivery so far, by number."""
        return [self._parts[number] for number in sorted(self._parts)]

    def check(self) -> None:
        """Raise Fenced when the lease may have run out."""
        self._hold.check()

    async def opening(self, number: int) -> None:
        """Note the intention to open message `number`."""
        await self._database.write(deliveries.open_part, self._delivery, self._hold.epoch, number)
        self._parts[number] = Part(number, None)
        reach("outbox.opening")

    async def opened(self, number: int, external_id: str) -> None:
        """Note that message `number` exists."""
        reach("outbox.opened")
        await self._database.write(
            deliveries.opened_part, self._delivery, self._hold.epoch, number, external_id
        )
        self._parts[number] = Part(number, external_id)

    async def forget(self, number: int) -> None:
        """Note that message `number` was surely not opened."""
        await self._database.write(deliveries.forget_part, self._delivery, self._hold.epoch, number)
        self._parts.pop(number, None)


def _claim(
    conn: sa.Connection, *, owner: str, limit: int, channels: Sequence[str]
) -> list[Claimed]:
    taken = deliveries.claim(conn, owner=owner, lease=LEASE, limit=limit, channels=channels)
    return [Claimed(one, deliveries.parts(conn, one.id)) for one in taken]


def _snapshot(conn: sa.Connection, delivery: Delivery) -> _Snapshot | None:
    if delivery.turn is None:
        return None
    turn = turns.get(conn, delivery.turn)
    if turn is None:
        return None
    if turn.state not in TURN_FINAL:
        return _Snapshot(turn, TurnView(turn.id))
    names = {voice.id: voice.name for voice in sessions.voices_of(conn, turn.session)}
    # A turn that steered another one is answered by that one's reply.
    spoken = replies.of_turn(conn, turn.joined or turn.id)
    return _Snapshot(turn, view_of(turn, spoken, names))


def _move_address(conn: sa.Connection, delivery: Delivery, epoch: int, spot: str) -> None:
    """Send this and everything else still to come to where the address has moved."""
    now = datetime.now(UTC)
    deliveries.settle(conn, delivery.id, epoch, DeliveryState.PENDING, {"due_at": now})
    address = delivery.address
    deliveries.readdress(conn, address, Address(address.channel, spot))


def _stored(receipt: Receipt) -> dict[str, object]:
    return {"ids": list(receipt.ids)}
