"""How fast a chat may be written to, and when a growing reply is worth another edit.

Instants are readings of a steady clock, given as the time since its origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

_NOTHING = timedelta()


@dataclass(frozen=True, slots=True)
class Pace:
    """What one kind of chat stands."""

    refill: timedelta
    """One more request is allowed this often, in the long run."""
    burst: int
    """So many requests may come at once after a rest."""
    edit: timedelta
    """The shortest time between two edits of a growing reply."""
    slowest_edit: timedelta
    """Edits of long replies are rarer, but not rarer than this."""
    worthwhile: tuple[int, int, int]
    """New characters that are worth an edit while a reply is short, longer, and long."""
    patience: timedelta = timedelta(seconds=4)
    """After this time any change is worth an edit."""
    cool_down: timedelta = timedelta(seconds=60)
    """For so long after the chat asked us to slow down, everything takes twice the time."""


PRIVATE = Pace(
    refill=timedelta(seconds=1),
    burst=3,
    edit=timedelta(seconds=1.2),
    slowest_edit=timedelta(seconds=5),
    worthwhile=(25, 45, 90),
)
# 18 a minute, where the channel promises 20; a forum is one chat for all its topics.
GROUP = Pace(
    refill=timedelta(seconds=60 / 18),
    burst=5,
    edit=timedelta(seconds=3.2),
    slowest_edit=timedelta(seconds=5),
    worthwhile=(50, 90, 180),
)

# A reply is "longer" and "long" from these lengths on, in characters.
_LONGER, _LONG = 500, 2000
# A reply that has grown by this many characters is edited at half the rate.
_GROWTH = 3000


@dataclass(frozen=True, slots=True)
class Line:
    """What a chat has had to take lately."""

    full_until: timedelta = _NOTHING
    """When all of the burst is available again."""
    frozen_until: timedelta = _NOTHING
    """The chat asked for silence until then."""
    slow_until: timedelta = _NOTHING
    """The chat was asked for too much: half the pace until then."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reader has in front of them."""

    at: timedelta
    """When it was last changed."""
    characters: int = 0
    steps: int = 0
    """How many tool calls had begun or ended."""


@dataclass(frozen=True, slots=True)
class EditNow:
    """The reply is to be shown as it is now."""


@dataclass(frozen=True, slots=True)
class EditAt:
    """It is too early; look again then, or when the reply changed."""

    at: timedelta


def ready_at(line: Line, pace: Pace, *, now: timedelta) -> timedelta:
    """Return the earliest instant at which the chat takes another request; `now` when it does."""
    refill = _stretched(pace.refill, line, now)
    room = line.full_until - refill * (pace.burst - 1)
    return max(now, room, line.frozen_until)


def after_request(line: Line, pace: Pace, *, now: timedelta) -> Line:
    """Return `line` after one request."""
    refill = _stretched(pace.refill, line, now)
    return replace(line, full_until=max(line.full_until, now) + refill)


def after_flood(line: Line, pace: Pace, *, now: timedelta, retry_after: timedelta) -> Line:
    """Return `line` after the chat said that it wants nothing for `retry_after`."""
    frozen_until = max(line.frozen_until, now + retry_after)
    return replace(line, frozen_until=frozen_until, slow_until=frozen_until + pace.cool_down)


def plan_edit(
    line: Line, pace: Pace, *, shown: Shown, characters: int, steps: int = 0, now: timedelta
) -> EditNow | EditAt:
    """Decide when a reply that changed since it was `shown` is shown again.

    A reply that only grew by little waits for more until the reader's patience is over.
    """
    interval = min(pace.edit * (1 + characters / _GROWTH), pace.slowest_edit)
    due = shown.at + _stretched(interval, line, now)
    grown = characters - shown.characters
    if steps == shown.steps and 0 <= grown < _worthwhile(pace, characters):
        due = max(due, shown.at + pace.patience)
    due = max(due, ready_at(line, pace, now=now))
    return EditNow() if due <= now else EditAt(due)


def _worthwhile(pace: Pace, characters: int) -> int:
    short, longer, long = pace.worthwhile
    if characters < _LONGER:
        return short
    return longer if characters < _LONG else long


def _stretched(duration: timedelta, line: Line, now: timedelta) -> timedelta:
    return duration * 2 if now < line.slow_until else duration
