"""Cron schedules against an oracle that walks the wall clock minute by minute without croniter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.schedule import Schedule, missed

MINUTE = timedelta(minutes=1)
# How far a window reaches to both sides of a clock change.
REACH = timedelta(hours=15)
# Long enough to have seen the first of two equal readings of the clock.
MEMORY = timedelta(hours=3)

# Zone, instant of the change in UTC.
CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T01:00"),
    ("America/New_York", "2026-03-08T07:00"),
    ("America/New_York", "2026-11-01T06:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),  # 30 minutes back
    ("Australia/Lord_Howe", "2026-10-03T15:30"),
    ("Pacific/Chatham", "2026-04-04T14:00"),
    ("Pacific/Chatham", "2026-09-26T14:00"),
    ("Pacific/Apia", "2011-12-30T10:00"),  # a day that never was
    ("Africa/Cairo", "2026-04-23T22:00"),  # no midnight
    ("Africa/Cairo", "2026-10-29T21:00"),  # back over midnight
    ("Asia/Beirut", "2026-03-28T22:00"),
    ("Asia/Beirut", "2026-10-24T21:00"),
    ("America/Havana", "2026-03-08T05:00"),
    ("America/Havana", "2026-11-01T05:00"),  # two midnights
    ("Africa/Casablanca", "2026-02-15T02:00"),  # Ramadan
    ("Africa/Casablanca", "2026-03-22T02:00"),
    ("Antarctica/Troll", "2026-03-29T01:00"),  # two hours
    ("Antarctica/Troll", "2026-10-25T01:00"),
    ("Europe/Dublin", "2026-03-29T01:00"),  # winter is the exception there
    ("Europe/Dublin", "2026-10-25T01:00"),
    ("America/St_Johns", "2026-03-08T05:30"),
    ("America/St_Johns", "2010-11-07T02:31"),  # one minute after midnight
    ("Asia/Kathmandu", "1985-12-31T18:30"),  # 15 minutes, once and for all
    ("Asia/Pyongyang", "2015-08-14T15:00"),
]
EXPRESSIONS = [
    "* * * * *",
    "*/20 * * * *",
    "7 * * * *",
    "0 */2 * * *",
    "*/15 2 * * *",
    "0 0 * * *",
    "59 23 * * *",
    "30 1 * * *",
    "30 2 * * *",
    "15 0-3 * * *",
    "5,35 1-3 * * *",
    "0 3 * * *",
    "0 12 * * *",
    "45 2 * * sun",
    "30 1 1,25 * sat-sun",
    "0 0 */2 * fri",
    "10-50/20 2-2 * mar-nov *",
]
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
WORDS = {
    word: str(place)
    for words, first in (
        ("jan feb mar apr may jun jul aug sep oct nov dec", 1),
        ("sun mon tue wed thu fri sat", 0),
    )
    for place, word in enumerate(words.split(), start=first)
}


@dataclass(frozen=True, slots=True)
class Oracle:
    """The rule told minute by minute, with the fields as sets."""

    fields: tuple[frozenset[int], ...]
    fixed_time: bool
    either_day: bool

    @classmethod
    def of(cls, expression: str) -> Oracle:
        """Read an expression that is known to be well-formed."""
        words = expression.split()
        fields = tuple(_values(word, *bounds) for word, bounds in zip(words, BOUNDS, strict=True))
        fixed = not words[0].startswith("*") and not words[1].startswith("*")
        return cls(fields, fixed, words[2] != "*" and words[4] != "*")

    def shows(self, wall: datetime) -> bool:
        """Whether the expression names this wall-clock minute."""
        minutes, hours, days, months, weekdays = self.fields
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        day, weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return (day or weekday) if self.either_day else (day and weekday)

    def due(self, walk: Sequence[tuple[datetime, datetime]], after: datetime) -> list[datetime]:
        """The due instants of a walk that come after one."""
        found = []
        seen: set[datetime] = set()
        before = walk[0][1]
        for instant, wall in walk:
            hit = self.shows(wall)
            if self.fixed_time:
                hit = (hit and wall not in seen) or self._jumped_over(before, wall)
            if hit and instant > after:
                found.append(instant)
            seen.add(wall)
            before = wall
        return found

    def _jumped_over(self, before: datetime, wall: datetime) -> bool:
        skipped = int((wall - before) / MINUTE)
        return any(self.shows(before + place * MINUTE) for place in range(1, skipped))


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_the_table_names_real_clock_changes(zone: str, change: str) -> None:
    """Otherwise the comparison below would prove nothing."""
    at = _instant(change)

    assert _wall(at, zone) - _wall(at - MINUTE, zone) != MINUTE


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_what_is_due_around_a_clock_change(zone: str, change: str, expression: str) -> None:
    """Nothing twice, nothing lost, nothing invented."""
    start, end = _instant(change) - REACH, _instant(change) + REACH

    found = _due(Schedule.parse(expression, zone), start, end)

    assert Oracle.of(expression).due(_walk(zone, change), start) == found


@given(data=st.data())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_any_expression_from_any_moment(data: st.DataObject) -> None:
    """Also when the question is asked inside a skipped or repeated hour, at any second."""
    zone, change = data.draw(st.sampled_from(CHANGES))
    expression = " ".join(data.draw(_field(*bounds)) for bounds in BOUNDS[:2])
    expression += data.draw(st.sampled_from([" * * *", " 1-28/3 * *", " * * 0,5", " 25,29 * sun"]))
    away = data.draw(st.timedeltas(-timedelta(hours=4), timedelta(hours=4)))
    start, end = _instant(change) + away, _instant(change) + REACH

    found = _due(Schedule.parse(expression, zone), start, end)

    assert Oracle.of(expression).due(_walk(zone, change), start) == found


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_every_missed_instant_runs_or_is_skipped(data: st.DataObject) -> None:
    """The latest one runs if it is in the window; the others are skipped, none is forgotten."""
    zone, change = data.draw(st.sampled_from(CHANGES))
    expression = data.draw(st.sampled_from(EXPRESSIONS[1:]))
    window = data.draw(st.sampled_from([timedelta(), MINUTE, timedelta(hours=1), REACH]))
    start = _instant(change) - REACH
    expected = Oracle.of(expression).due(_walk(zone, change), start)
    if not expected:
        return
    since = data.draw(st.sampled_from(expected))
    now = since + data.draw(st.sampled_from([timedelta(), MINUTE, timedelta(hours=1), REACH / 2]))
    now = min(now, _instant(change) + REACH)
    due = [one for one in expected if since <= one <= now]
    run = due[-1] if now - due[-1] <= window else None

    found = missed(Schedule.parse(expression, zone), since=since, now=now, window=window)

    assert (run, [one for one in due if one != run]) == (found.run, list(found.skipped))


@st.composite
def _field(draw: st.DrawFn, low: int, high: int) -> str:
    """One field; hours stay early, where the clocks change."""
    high = 4 if high == 23 else high
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(1, 30))
    span = f"{first}-{last}"
    forms = ["*", f"*/{step}", f"{first}", f"{first},{last}", span, f"{span}/{step}"]
    return draw(st.sampled_from(forms))


def _due(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    found = []
    at = schedule.after(start)
    while at <= end:
        found.append(at)
        at = schedule.after(at)
    return found


@cache
def _walk(zone: str, change: str) -> tuple[tuple[datetime, datetime], ...]:
    """Every minute around a clock change, as an instant and as the wall clock shows it."""
    start = _instant(change) - REACH - MEMORY
    minutes = int((2 * REACH + MEMORY) / MINUTE)
    instants = [start + place * MINUTE for place in range(minutes + 1)]
    return tuple((one, _wall(one, zone)) for one in instants)


def _wall(at: datetime, zone: str) -> datetime:
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _values(field: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (WORDS.get(word, word) for word in span.partition("-"))
        begin, end = (low, high) if span == "*" else (int(first), int(last or first))
        # Sunday, written as the end of a week.
        end = 7 if high == 6 and end < begin else end
        found.update(value % 7 if high == 6 else value for value in _range(begin, end, step))
    return frozenset(found)


def _range(begin: int, end: int, step: str) -> range:
    return range(begin, end + 1, int(step or 1))
