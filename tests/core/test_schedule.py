"""Cron schedules: what is accepted, what is due, what was missed, also around clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from service.core.schedule import Schedule, missed
from service.errors import BadInput

# Zone, the days around whose clock change everything is compared.
CHANGES = [
    ("Europe/Berlin", ("2026-03-29", "2026-10-25")),
    ("America/New_York", ("2026-03-08", "2026-11-01")),
    ("Australia/Lord_Howe", ("2026-04-04", "2026-10-03")),
    ("Pacific/Apia", ("2011-12-30",)),
    ("Pacific/Chatham", ("2026-04-04",)),
    ("Africa/Cairo", ("2026-04-24", "2026-10-29")),
    ("America/Havana", ("2026-03-08", "2026-11-01")),
    ("Asia/Beirut", ("2026-03-29",)),
    ("Africa/Casablanca", ("2026-02-15", "2026-03-22")),
    ("Antarctica/Troll", ("2026-03-29", "2026-10-25")),
    ("Europe/Dublin", ("2026-03-29",)),
    ("America/St_Johns", ("2026-03-08", "2026-11-01")),
    ("Asia/Kathmandu", ("2026-03-08",)),
]
EXPRESSIONS = [
    "30 2 * * *",
    "30 1 * * *",
    "0 0 * * *",
    "*/20 * * * *",
    "0 */2 * * *",
    "5 1-3 * * *",
    "*/15 2 * * *",
    "0 3 * * *",
    "0 12 * * *",
    "59 23 * * *",
    "* * * * *",
    "0 2 * * 0",
    "15,45 0-3 * * *",
    "0 0 29 3 *",
]
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(("zone", "days"), CHANGES, ids=str)
def test_clock_changes_follow_the_rule_minute_by_minute(zone: str, days: tuple[str, ...]) -> None:
    """Every schedule is due exactly when a walk over all minutes of the wall clock says so."""
    for day in days:
        change = datetime.fromisoformat(day).replace(tzinfo=UTC)
        start, end = change - timedelta(hours=30), change + timedelta(hours=36)
        walls = _walk(ZoneInfo(zone), start, end)
        for expression in EXPRESSIONS:
            schedule = Schedule.parse(expression, zone)

            found = []
            at = start
            while (at := schedule.after(at)) <= end:
                found.append(at)

            assert (day, expression, found) == (day, expression, _due(expression, walls))


@pytest.mark.parametrize(
    ("expression", "because"),
    [
        ("* * * * * *", "has 6 fields"),
        ("* * * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("R R * * *", "cannot be 'r'"),
        ("H 0 * * *", "cannot be 'h'"),
        ("0 0 30 2 *", "is never due"),
        ("60 * * * *", "is not between 0 and 59"),
        ("0 24 * * *", "is not between 0 and 23"),
        ("5-1 * * * *", "runs backwards"),
        ("0 0 * nov-feb *", "runs backwards"),
        ("59/15 * * * *", "has two readings"),
        ("*/0 * * * *", "never moves on"),
        ("0 0 L * *", "cannot be 'l'"),
        ("0 0 * * 5#3", "cannot be '5#3'"),
        ("@reboot", "is unknown"),
        ("TZ=UTC * * * *", "cannot be 'tz=utc'"),
        ("0 0 * * mo", "cannot be 'mo'"),
        ("٣ * * * *", "cannot be"),
        ("1," * 200 + "1 * * * *", "at most 255"),
    ],
)
def test_what_croniter_would_misread_is_refused(expression: str, because: str) -> None:
    """The message names the field and the reason."""
    with pytest.raises(BadInput) as caught:
        Schedule.parse(expression, "UTC")

    assert because in str(caught.value)


def test_an_unknown_zone_is_refused() -> None:
    """With an example of one that exists."""
    with pytest.raises(BadInput, match="Europe/Berlin"):
        Schedule.parse("* * * * *", "Mars/Olympus")


@pytest.mark.parametrize(
    ("expression", "next_one"),
    [
        ("@daily", "2026-01-02T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("0 0 * * fri-sun", "2026-01-02T00:00"),
        ("0 0 13 * fri", "2026-01-02T00:00"),
        ("30 12 * jan mon-fri", "2026-01-01T12:30"),
        ("*/7 * * * *", "2026-01-01T00:07"),
        ("58-59 23 31 dec *", "2026-12-31T23:58"),
        ("0 3-3 * * *", "2026-01-01T03:00"),
        ("5-5/2 * * * *", "2026-01-01T00:05"),
        ("0 0 * feb-feb *", "2026-02-01T00:00"),
        ("0 0 * * sun-sun", "2026-01-04T00:00"),
        ("0 0 * * 7-7", "2026-01-04T00:00"),
    ],
)
def test_the_next_instant(expression: str, next_one: str) -> None:
    """Aliases, names, ranges, steps, and the rule that either day field may match."""
    schedule = Schedule.parse(expression, "UTC")

    found = schedule.after(datetime(2026, 1, 1, tzinfo=UTC))

    assert found == datetime.fromisoformat(next_one).replace(tzinfo=UTC)


def test_of_missed_instants_the_last_one_runs() -> None:
    """The others are recorded with the reason."""
    hourly = Schedule.parse("0 * * * *", "UTC")
    now = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)

    found = missed(hourly, since=now - timedelta(hours=3.5), now=now, window=timedelta(hours=1))

    assert found.run == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert [one.hour for one in found.skipped] == [9, 10, 11]


def test_nothing_runs_after_the_window() -> None:
    """A morning greeting at night helps nobody; it is recorded as skipped."""
    daily = Schedule.parse("0 8 * * *", "UTC")
    now = datetime(2026, 1, 1, 23, tzinfo=UTC)

    found = missed(daily, since=now.replace(hour=8), now=now, window=timedelta(hours=1))

    assert found.run is None
    assert found.skipped == (now.replace(hour=8),)
    assert "catch-up window" in found.reason


def test_an_instant_exactly_as_old_as_the_window_still_runs() -> None:
    """Also when it is not the first one that was missed."""
    hourly = Schedule.parse("0 * * * *", "UTC")
    now = datetime(2026, 1, 1, 12, 59, tzinfo=UTC)

    found = missed(hourly, since=now.replace(hour=9, minute=0), now=now, window=59 * MINUTE)

    assert found.run == now.replace(minute=0)


def test_an_instant_that_is_due_right_now_is_not_missed() -> None:
    """Also without any window."""
    minutely = Schedule.parse("* * * * *", "UTC")
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    found = missed(minutely, since=now, now=now, window=timedelta())

    assert (found.run, found.skipped) == (now, ())


def test_a_long_outage_is_recorded_in_bounds() -> None:
    """A month of minutes is not listed one by one, and the reason says so."""
    minutely = Schedule.parse("* * * * *", "UTC")
    now = datetime(2026, 2, 1, tzinfo=UTC)

    found = missed(minutely, since=now - timedelta(days=30), now=now, window=timedelta(minutes=5))

    assert found.run == now
    assert len(found.skipped) == 1000
    assert "so were all later ones" in found.reason


def _walk(zone: ZoneInfo, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Every minute as an instant and as the wall clock shows it."""
    minutes = int((end - start) / MINUTE)
    instants = [start + place * MINUTE for place in range(minutes + 1)]
    return [(one, one.astimezone(zone).replace(tzinfo=None)) for one in instants]


def _due(expression: str, walls: list[tuple[datetime, datetime]]) -> list[datetime]:
    """The rule, told without cron: fixed times once per day and never lost, others as shown."""
    fields = expression.split()
    fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
    due = []
    seen: set[datetime] = set()
    before: datetime | None = None
    for instant, wall in walls:
        skipped = _between(before, wall) if before is not None and fixed else []
        hit = any(_matches(fields, one) for one in skipped)
        if _matches(fields, wall) and not (fixed and wall in seen):
            hit = True
        seen.add(wall)
        if hit and before is not None:
            due.append(instant)
        before = wall
    return due


def _between(before: datetime, wall: datetime) -> list[datetime]:
    """The minutes that the clock jumped over."""
    missing = int((wall - before) / MINUTE) - 1
    return [before + (place + 1) * MINUTE for place in range(max(missing, 0))]


def _matches(fields: list[str], wall: datetime) -> bool:
    weekday = wall.isoweekday() % 7
    values = (wall.minute, wall.hour, wall.day, wall.month, weekday)
    ranges = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    hits = [
        value in _set(field, *bounds)
        for field, value, bounds in zip(fields, values, ranges, strict=True)
    ]
    return all(hits)


def _set(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (int(first), int(last or first))
        found.update(range(begin, end + 1, int(step or 1)))
    return found
