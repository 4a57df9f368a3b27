"""Cron schedules: what is accepted, what is due, what was missed, also around clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.core.schedule import Schedule, missed
from service.errors import BadInput


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

    found = missed(
        hourly, since=now.replace(hour=9, minute=0), now=now, window=59 * timedelta(minutes=1)
    )

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
