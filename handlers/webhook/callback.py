"""Callbacks: the result of a turn, posted and signed, to a URL of the configuration."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from service.config import Callback
from service.core.model import Delivery
from service.core.reply import TurnView
from service.core.signature import sign_standard
from service.egress import Egress, Response
from service.engine.results import Results
from service.errors import AddressGone, ChannelBusy, ChannelDown, ChannelError
from service.ports import Clock, Journal, Receipt, SystemClock

_LONGEST_PAUSE = timedelta(days=1)
_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class CallbackSender:
    """Posts results; repeating a post is harmless, because its webhook-id stays the same."""

    targets: Mapping[str, Callback]
    egress: Egress
    results: Results
    live: bool = False
    clock: Clock = SystemClock()

    async def deliver(
        self, delivery: Delivery, views: AsyncIterator[TurnView], journal: Journal
    ) -> Receipt:
        """Post the result once the turn is final. Raises a ChannelError unless a 2xx came."""
        target = self.targets.get(delivery.address.spot)
        if target is None:
            raise AddressGone("the configuration has no callback for this any more")
        async for _ in views:
            pass
        result = await self.results.get(delivery.turn) if delivery.turn else None
        if result is None:
            raise AddressGone("the turn of this callback is gone")
        now = self.clock.now()
        data = result.as_json()
        # When it happened, not when it is told: every attempt says the same.
        content = {"type": "turn.finished", "timestamp": data["finished_at"], "data": data}
        body = json.dumps(content, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "webhook-id": delivery.id}
        if target.secret is not None:
            headers.update(sign_standard(target.secret.reveal(), delivery.id, now, body))
        journal.check()
        response = await self.egress.post(
            target.url, body=body, headers=headers, allow_private=target.allow_private
        )
        if 200 <= response.status < 300:
            return Receipt((str(response.status),))
        raise _failure(response, now)


def _failure(response: Response, now: datetime) -> ChannelError:
    status = response.status
    if status == 410:
        return AddressGone("the receiver answered 410: it wants no more callbacks")
    pause = _retry_after(response.headers.get("Retry-After"), now)
    if status in (429, 503) and pause is not None:
        return ChannelBusy(f"the receiver answered {status}", pause)
    return ChannelDown(f"the receiver answered {status}")


def _retry_after(value: str | None, now: datetime) -> timedelta | None:
    """The pause a header asks for: seconds or a date; None when it is neither."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        return min(timedelta(seconds=int(value)), _LONGEST_PAUSE)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        return None
    return min(max(at - now, timedelta()), _LONGEST_PAUSE)
