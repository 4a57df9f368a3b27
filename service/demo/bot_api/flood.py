"""How the local Bot API server slows a bot down: buckets per bot and per chat."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from service.demo.bot_api.refusal import Refused

_LONGEST = 7200.0
_SHORTEST = 3.0
_STRIKE = 1.5
_EVERYWHERE = 0


class Family(Enum):
    """Calls that share their limits."""

    MESSAGE = "message"  # sends, edits and deletes
    ACTION = "action"  # typing
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Limit:
    """So many calls at once; then their room comes back at `per_second`."""

    burst: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What the field has measured."""

    bot: Limit = Limit(30, 30.0)
    private: Limit = Limit(5, 1.0)
    group: Limit = Limit(20, 20 / 60)
    actions: tuple[Limit, ...] = (Limit(20, 20 / 5), Limit(40, 40 / 30))
    webhook: Limit = Limit(1, 1.0)


@dataclass
class _Bucket:
    limit: Limit
    level: float
    at: float

    def take(self, now: float) -> float:
        """Take one call's room; seconds until there is some, 0 when there was."""
        came_back = (now - self.at) * self.limit.per_second
        self.level = min(self.limit.burst, self.level + came_back)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.limit.per_second


_Key = tuple[int, Family]


@dataclass
class Flood:
    """The limits; off unless a test wants them.

    Whoever goes on calling while refused waits half as long again, up to two hours. Typing has
    limits of its own and never has to wait for long.
    """

    on: bool = False
    clock: Callable[[], float] = time.monotonic
    strikes: int = 0
    """How many calls were refused."""
    limits: Limits = field(default_factory=Limits)
    _buckets: dict[tuple[_Key, int], _Bucket] = field(default_factory=dict)
    _frozen_until: dict[_Key, float] = field(default_factory=dict)

    def check(self, chat: int, family: Family = Family.MESSAGE) -> None:
        """Count one call to a chat. Raises Refused 429."""
        if not self.on:
            return
        now = self.clock()
        for key in ((_EVERYWHERE, family), (chat, family)):
            frozen = self._frozen_until.get(key, 0.0) - now
            if frozen > 0:
                self._refuse(key, now, min(frozen * _STRIKE, _LONGEST))
        for key, index, limit in self._limits(chat, family):
            bucket = self._buckets.setdefault((key, index), _Bucket(limit, limit.burst, now))
            if (wait := bucket.take(now)) > 0:
                self._refuse(key, now, wait)

    def _limits(self, chat: int, family: Family) -> Iterator[tuple[_Key, int, Limit]]:
        match family:
            case Family.MESSAGE:
                yield (_EVERYWHERE, family), 0, self.limits.bot
                yield (chat, family), 0, self.limits.private if chat > 0 else self.limits.group
            case Family.ACTION:
                for index, limit in enumerate(self.limits.actions):
                    yield (chat, family), index, limit
            case Family.WEBHOOK:
                yield (_EVERYWHERE, family), 0, self.limits.webhook

    def _refuse(self, key: _Key, now: float, seconds: float) -> None:
        self.strikes += 1
        match key[1]:
            case Family.MESSAGE:
                seconds = max(seconds, _SHORTEST)
            case Family.ACTION:
                seconds = _SHORTEST
            case Family.WEBHOOK:
                pass
        self._frozen_until[key] = now + seconds
        raise Refused(429, retry_after=math.ceil(seconds))
