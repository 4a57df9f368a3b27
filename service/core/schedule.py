"""Cron schedules in a time zone: which instants are due, also around clock changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter

from service.errors import BadInput

_ALIASES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES: Mapping[int, Mapping[str, int]] = {
    3: {name: place for place, name in enumerate(_MONTHS, start=1)},
    4: {name: place for place, name in enumerate(_DAYS)},
}
_FIELD_NAMES = ("minute", "hour", "day of month", "month", "day of week")
_PART = re.compile(r"(?:(\*)|([0-9]+|[a-z]{3})(?:-([0-9]+|[a-z]{3}))?)(?:/([0-9]+))?")
_LONGEST = 255
# 29 February is at most eight years away: 1900 and 2100 are no leap years.
_YEARS = 9
# Two changes of a zone that cancel each other out are never less than six days apart.
_PROBE = timedelta(days=5)
_MOMENT = timedelta(microseconds=1)
_SOME_DAY = datetime(2024, 1, 1)  # noqa: DTZ001 - wall-clock time has no zone
# Missed instants are listed one by one up to here.
_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a zone; at clock changes it keeps the rule of Vixie cron.

    With a fixed minute and hour it fires once in a repeated hour, and once right after the change
    for a skipped one. With a wildcard it fires at every wall-clock minute there really is.
    """

    expression: str
    zone: ZoneInfo
    fixed_time: bool

    @classmethod
    def parse(cls, expression: str, zone: str) -> Schedule:
        """Read five fields and an IANA zone name. Raises BadInput, which says what to change."""
        fields = _fields(expression)
        text = " ".join(_checked(place, field) for place, field in enumerate(fields))
        if zone not in _zones():
            raise BadInput(f"timezone: {zone!r} is no IANA zone; write one such as Europe/Berlin")
        if _next_wall(text, _SOME_DAY) is None:
            raise BadInput(f"cron: {expression!r} is never due; that day does not exist")
        fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
        return cls(text, ZoneInfo(zone), fixed)

    def __str__(self) -> str:
        return f"{self.expression} {self.zone.key}"

    def after(self, instant: datetime) -> datetime:
        """The first due instant strictly after `instant`, in UTC."""
        at = instant.astimezone(UTC)
        # The time line is cut at the zone's clock changes, so that croniter only ever sees wall
        # clocks that run evenly: its own handling of changes loses and invents instants.
        while True:
            match = self._next_at_offset(at, _offset(self.zone, at))
            change = _first_change(self.zone, at, match)
            if change is None:
                return match
            if self._is_due_at_change(change):
                return change
            at = change

    def latest(self, until: datetime, *, window: timedelta) -> datetime | None:
        """The last due instant in (until - window, until], in UTC; None when there is none."""
        back = min(timedelta(minutes=1), window)
        while True:
            found = None
            due = self.after(until - back)
            while due <= until:
                found, due = due, self.after(due)
            if found is not None or back == window:
                return found
            back = min(back * 2, window)

    def _next_at_offset(self, at: datetime, offset: timedelta) -> datetime:
        """The next match after `at` if the offset never changed, repeated hours left out."""
        wall = (at + offset).replace(tzinfo=None)
        while True:
            found = _next_wall(self.expression, wall)
            if found is None:
                raise BadInput(f"cron: {self.expression!r} is never due")
            if not self._repeats(found, offset):
                return found.replace(tzinfo=UTC) - offset
            wall = found

    def _repeats(self, wall: datetime, offset: timedelta) -> bool:
        """Whether this is the second time the clock shows `wall`, and once was enough."""
        if not self.fixed_time:
            return False
        first = wall.replace(tzinfo=self.zone).utcoffset()
        second = wall.replace(tzinfo=self.zone, fold=1).utcoffset()
        if first is None or second is None:
            return False
        return first > second and offset == second

    def _is_due_at_change(self, change: datetime) -> bool:
        before = (change + _offset(self.zone, change - _MOMENT)).replace(tzinfo=None)
        offset = _offset(self.zone, change)
        after = (change + offset).replace(tzinfo=None)
        if _next_wall(self.expression, after - _MOMENT) == after:
            return not self._repeats(after, offset)
        if not self.fixed_time or after < before:
            return False
        skipped = _next_wall(self.expression, before - _MOMENT)
        return skipped is not None and skipped < after


@dataclass(frozen=True, slots=True)
class Missed:
    """What to do about instants that went by: at most one still runs."""

    run: datetime | None
    skipped: tuple[datetime, ...]
    reason: str


def missed(schedule: Schedule, *, since: datetime, now: datetime, window: timedelta) -> Missed:
    """Decide about the due instants from `since`, which is one itself, up to `now`.

    The most recent one runs when it is at most `window` old; the others are listed as skipped, up
    to 1000 of them, and the reason says when there were more.
    """
    # The moment more makes both ends count: at the very instant a window of nothing is enough.
    last = schedule.latest(now, window=window + _MOMENT) or since
    run = last if now - last <= window and last >= since else None
    skipped: list[datetime] = []
    due = since
    while due <= now and len(skipped) < _LISTED:
        if due != run:
            skipped.append(due)
        due = schedule.after(due)
    reason = "missed while the service was not running"
    if run is None:
        reason += "; the catch-up window was over"
    if due <= now and due != run:
        reason += f"; so were all later ones before {now.isoformat()}"
    return Missed(run, tuple(skipped), reason)


def _fields(expression: str) -> list[str]:
    if len(expression) > _LONGEST:
        raise BadInput(f"cron: at most {_LONGEST} characters")
    text = expression.strip().lower()
    if text.startswith("@") and text not in _ALIASES:
        raise BadInput(f"cron: {expression!r} is unknown; there are {', '.join(_ALIASES)}")
    fields = _ALIASES.get(text, text).split()
    if len(fields) != len(_FIELD_NAMES):
        raise BadInput(
            f"cron: {expression!r} has {len(fields)} fields; write five: "
            "minute hour day-of-month month day-of-week"
        )
    return fields


def _checked(place: int, field: str) -> str:
    """Return a field as croniter reads it alike in every release; raise BadInput otherwise."""
    return ",".join(_checked_part(place, part) for part in field.split(","))


def _checked_part(place: int, part: str) -> str:
    where = f"cron: the {_FIELD_NAMES[place]} field"
    match = _PART.fullmatch(part)
    if match is None:
        raise BadInput(f"{where} cannot be {part!r}; use *, numbers, names, a-b, lists and /steps")
    star, first, last, step = match.groups()
    if step is not None and int(step) == 0:
        raise BadInput(f"{where}: a step of 0 never moves on")
    if star:
        return part
    low, high = _number(where, place, first), _number(where, place, last or first)
    if place == 4 and high == 0 and low > 0:
        high = 7  # Sunday ends a week as well as it begins one
    if low > high:
        raise BadInput(f"{where}: {part!r} runs backwards; write two ranges with a comma")
    if step is not None and last is None:
        raise BadInput(f"{where}: {part!r} has two readings; write {first}-{{end}}/{step}")
    if low == high:
        return f"{low}"  # croniter takes a range of one for the whole cycle
    span = f"{low}-{high}"
    return span if step is None else f"{span}/{step}"


_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _number(where: str, place: int, word: str) -> int:
    if word.isdigit() and len(word) <= 3:
        number = int(word)
    elif word in _NAMES.get(place, {}):
        number = _NAMES[place][word]
    else:
        raise BadInput(f"{where} cannot be {word!r}")
    low, high = _RANGES[place]
    if not low <= number <= high:
        raise BadInput(f"{where}: {number} is not between {low} and {high}")
    return number


def _next_wall(expression: str, wall: datetime) -> datetime | None:
    """The first match after a wall-clock time without a zone; None when there is none in years."""
    try:
        # A copy, because asking moves it on.
        found: datetime = copy(_compiled(expression)).get_next(datetime, start_time=wall)
    except ValueError:  # croniter's own errors are ValueErrors
        return None
    return found


@lru_cache(maxsize=256)
def _compiled(expression: str) -> croniter:
    return croniter(expression, _SOME_DAY, max_years_between_matches=_YEARS)


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _first_change(zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The first clock change in (after, until], to the second; None when there is none."""
    before = after
    offset = _offset(zone, after)
    while before < until:
        probe = min(before + _PROBE, until)
        if _offset(zone, probe) != offset:
            return _bisect(zone, before, probe, offset)
        before = probe
    return None


def _bisect(zone: ZoneInfo, low: datetime, high: datetime, offset: timedelta) -> datetime:
    start = int(low.timestamp())
    end = int(high.timestamp())
    while end - start > 1:
        middle = (start + end) // 2
        if _offset(zone, datetime.fromtimestamp(middle, UTC)) == offset:
            start = middle
        else:
            end = middle
    return datetime.fromtimestamp(end, UTC)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
