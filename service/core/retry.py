"""When a delivery that failed is tried again, and when it is given up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.core.model import Channel
from service.errors import ChannelBusy, ChannelError

# Callbacks: about three days, as Standard Webhooks advises. A chat is read by people: an answer
# that comes hours late is worth less than one that is listed as undelivered.
_PAUSES: Mapping[Channel, Sequence[int]] = {
    Channel.WEBHOOK: (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
    Channel.TELEGRAM: (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800),
}
_DEFAULT = _PAUSES[Channel.WEBHOOK]
_JITTER = 0.2
# A receiver that asks for short pauses more often than this is left to the schedule: ten times "in
# a second" would otherwise use up three days of patience in ten seconds.
_SHORT_PAUSES = 3


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at this instant."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not try again; the reason is for people."""

    reason: str


def after_failure(
    error: ChannelError, *, channel: Channel, attempt: int, seed: str, now: datetime
) -> Retry | GiveUp:
    """Decide after attempt number `attempt` (from 1) failed.

    A pause the channel asked for is kept to the second; only a callback's receiver that asks again
    and again must not shorten the schedule by it. The jitter depends on `seed` and attempt only, so
    that a rescue decides the same.
    """
    if error.permanent:
        return GiveUp(str(error))
    pauses = _PAUSES.get(channel, _DEFAULT)
    if attempt > len(pauses):
        return GiveUp(f"given up after {attempt} attempts: {error}")
    pause = timedelta(seconds=pauses[attempt - 1] * _spread(seed, attempt))
    if not isinstance(error, ChannelBusy):
        return Retry(now + pause)
    asked = max(error.retry_after, timedelta())
    obeyed = channel is Channel.TELEGRAM or attempt <= _SHORT_PAUSES
    return Retry(now + (asked if obeyed else max(asked, pause)))


def _spread(seed: str, attempt: int) -> float:
    """A factor between 1 - _JITTER and 1 + _JITTER."""
    digest = hashlib.sha256(f"{seed} {attempt}".encode()).digest()
    return 1 - _JITTER + 2 * _JITTER * digest[0] / 255
