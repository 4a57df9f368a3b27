"""Trying again what went wrong: deliveries that did not arrive, and what nobody understood."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from service.core.model import Channel, DeliveryId, Refusal, RefusalReason, TurnId
from service.core.states import InboxState
from service.core.text import clean
from service.errors import BadInput, StoreError
from service.store import audit, deliveries, inbox
from service.store.database import Database
from service.store.deliveries import Replaying
from service.store.inbox import Kept, Key

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Retry = Callable[[str, str, bytes], Awaitable[str | Refusal]]
"""Tries something received again, by its source, key and body, and stores what it becomes.

It returns the key that is stored under, and raises BadInput when it still cannot be understood.
"""

_NOT_REPLAYED: Mapping[Replaying, Refusal] = {
    Replaying.UNKNOWN: Refusal(RefusalReason.UNKNOWN, "there is no such delivery"),
    Replaying.NOT_OVER: Refusal(
        RefusalReason.FORBIDDEN, "it is still under way; wait until it has failed or arrived"
    ),
    Replaying.ARRIVED: Refusal(RefusalReason.FORBIDDEN, "it has arrived; nothing to send again"),
    Replaying.AGAIN: Refusal(RefusalReason.FORBIDDEN, "it was sent again before; replay that one"),
    Replaying.UNCONFIRMED: Refusal(
        RefusalReason.FORBIDDEN,
        "it may have arrived, at least in part, and would come twice; "
        'send {"confirm": true} to send it all the same',
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of something received once it was tried again."""

    state: InboxState
    reason: str | None
    turn: TurnId | None


class Replays:
    """Tries again on an operator's word; each attempt is written down.

    `retries` are those of the channels that can; `wake` is called when there is something to send.
    """

    def __init__(
        self, database: Database, retries: Mapping[Channel, Retry], *, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._retries = retries
        self._wake = wake

    async def deliver(
        self, delivery: DeliveryId, *, confirmed: bool, by: str
    ) -> DeliveryId | Refusal:
        """Send a failed or uncertain delivery again; the new one's id.

        What may have arrived, wholly or in part, is sent again only when that is `confirmed`.
        """
        outcome, new = await self._database.write(_deliver, delivery, confirmed, by)
        if new is None:
            return _NOT_REPLAYED[outcome]
        self._wake()
        return new

    async def receive(
        self, channel: Channel, source: str, event_key: str, *, by: str
    ) -> Outcome | Refusal:
        """Try again what is in quarantine. Raises BadInput when it cannot be understood now."""
        key = (channel.value, source, event_key)
        kept = await self._database.read(inbox.get, key)
        if kept is None:
            return Refusal(RefusalReason.UNKNOWN, "nothing was received under this key")
        retry = self._retries.get(channel)
        if kept.state is not InboxState.QUARANTINED or retry is None:
            return _not_in_quarantine(kept)
        stored = await self._retried(retry, key, kept)
        if isinstance(stored, Refusal):
            return stored
        became = await self._database.write(_release, key, stored, by)
        return became or _not_in_quarantine(kept)

    async def _retried(self, retry: Retry, key: Key, kept: Kept) -> str | Refusal:
        channel, source, event_key = key
        try:
            return await retry(source, event_key, kept.body)
        except (BadInput, StoreError):
            raise
        except Exception as error:
            # Whatever was wrong with it the first time may be wrong with us still.
            log.exception("replays.unreadable", channel=channel, event_key=event_key)
            raise BadInput(f"{type(error).__name__} while reading it") from error


def _deliver(
    conn: sa.Connection, delivery: DeliveryId, confirmed: bool, by: str
) -> tuple[Replaying, DeliveryId | None]:
    at = datetime.now(UTC)
    outcome, new = deliveries.replay(conn, delivery, confirmed=confirmed, at=at)
    if outcome is not Replaying.UNKNOWN:
        audit.note(
            conn,
            by,
            "delivery.replay",
            session=None,
            allowed=new is not None,
            at=at,
            delivery=delivery,
            outcome=outcome.value,
            new=new,
        )
    return outcome, new


def _release(conn: sa.Connection, key: Key, stored: str, by: str) -> Outcome | None:
    """Let what was tried again be as what it became; None when somebody else did so."""
    channel, source, event_key = key
    became = inbox.get(conn, (channel, source, clean(stored)))
    if became is None or not inbox.release(conn, key, became):
        return None
    audit.note(
        conn,
        by,
        "inbox.replay",
        session=None,
        allowed=True,
        at=datetime.now(UTC),
        channel=channel,
        source=source,
        event_key=event_key,
        state=became.state.value,
    )
    return Outcome(became.state, became.reason, became.turn)


def _not_in_quarantine(kept: Kept) -> Refusal:
    told = f"it is {kept.state.value}" if kept.state is not InboxState.QUARANTINED else "it is not"
    return Refusal(RefusalReason.FORBIDDEN, f"only what is in quarantine can be tried; {told}")
