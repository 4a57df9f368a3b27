"""How the local Bot API server slows a bot down: buckets per bot and per chat."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.demo.bot_api.chats import Refused

_LONGEST = 7200.0
_SHORTEST = 3.0
_STRIKE = 1.5


@dataclass
class _Bucket:
    """Room for `size` calls that comes back at `rate` per second."""

    size: float
    rate: float
    level: float
    at: float

    def take(self, now: float) -> float:
        """Take one call's room; seconds until there is some, 0 when there was."""
        self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.rate


@dataclass
class Flood:
    """The limits the field has measured; off unless a test wants them.

    30 calls a second over all chats, one a second in a private chat after a burst of five, 20 a
    minute in a group. Whoever calls while frozen waits half as long again.
    """

    on: bool = False
    clock: Callable[[], float] = time.monotonic
    strikes: int = 0
    _buckets: dict[int, _Bucket] = field(default_factory=dict)
    _frozen_until: dict[int, float] = field(default_factory=dict)

    def check(self, chat: int) -> None:
        """Count one call to a chat. Raises Refused 429."""
        if not self.on:
            return
        now = self.clock()
        frozen = self._frozen_until.get(chat, 0.0) - now
        if frozen > 0:
            self._refuse(chat, now, min(frozen * _STRIKE, _LONGEST))
        for key, size, rate in ((0, 30, 30.0), (chat, *_limits(chat))):
            bucket = self._buckets.setdefault(key, _Bucket(size, rate, size, now))
            if (wait := bucket.take(now)) > 0:
                self._refuse(chat, now, max(wait, _SHORTEST))

    def _refuse(self, chat: int, now: float, seconds: float) -> None:
        self.strikes += 1
        self._frozen_until[chat] = now + seconds
        whole = math.ceil(seconds)
        raise Refused(429, f"Too Many Requests: retry after {whole}", retry_after=whole)


def _limits(chat: int) -> tuple[float, float]:
    return (5, 1.0) if chat > 0 else (20, 20 / 60)
