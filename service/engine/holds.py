"""What this process holds by lease: how long it may trust that, and why it should let go."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto

from service.errors import Fenced
from service.failpoints import LEASE_SECONDS

LEASE = timedelta(seconds=LEASE_SECONDS)
BEAT = LEASE / 3
# A holder stops trusting its lease before others may take over.
_MARGIN = LEASE / 6


class Interruption(Enum):
    """Why work on something is cut short."""

    STOP = auto()  # somebody asked for it
    DRAIN = auto()  # this process shuts down
    LOST = auto()  # somebody else has it now


def uptime() -> float:
    """Seconds on a clock that no suspension and no clock change can stop."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(eq=False, slots=True)
class Hold:
    """One turn or delivery that is ours under `epoch`, and the task that works on it."""

    id: str
    epoch: int
    trusted_until: float
    interruption: Interruption | None = None
    task: asyncio.Task[object] | None = field(default=None, repr=False)

    def check(self) -> None:
        """Raise Fenced when the lease is lost or may have run out unnoticed."""
        if self.interruption is Interruption.LOST or uptime() > self.trusted_until:
            raise Fenced("the lease ran out")

    def extend(self, asked_at: float) -> None:
        """Trust a lease that was renewed by a request made at `asked_at`."""
        self.trusted_until = trusted_until(asked_at)

    def interrupt(self, why: Interruption) -> None:
        """Cut the work short; a lost lease outranks every other reason."""
        if self.interruption is None or why is Interruption.LOST:
            self.interruption = why
        if self.task is not None:
            self.task.cancel()

    def lose(self) -> None:
        """Note that somebody else has it now, and cut the work short."""
        self.interrupt(Interruption.LOST)

    def work(self, task: asyncio.Task[object]) -> None:
        """Let `task` be what an interruption cancels, also one that came before."""
        self.task = task
        if self.interruption is not None:
            task.cancel()


def trusted_until(asked_at: float) -> float:
    """Until when a lease asked for at `asked_at` may be trusted."""
    return asked_at + (LEASE - _MARGIN).total_seconds()
