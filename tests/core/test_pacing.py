"""How fast a chat is written to: budgets, floods, and edits worth making."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.core.pacing import (
    GROUP,
    PRIVATE,
    EditAt,
    EditNow,
    Line,
    Pace,
    Shown,
    after_flood,
    after_request,
    plan_edit,
    ready_at,
)


def at(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def busy(pace: Pace, requests: int, *, now: timedelta) -> Line:
    line = Line()
    for _ in range(requests):
        line = after_request(line, pace, now=now)
    return line


def test_a_rested_chat_takes_a_burst_at_once() -> None:
    """As many requests as the burst allows need not wait."""
    line = busy(PRIVATE, PRIVATE.burst - 1, now=at(100))

    assert at(100) == ready_at(line, PRIVATE, now=at(100))


def test_after_the_burst_each_request_waits_for_its_refill() -> None:
    """The next request waits for one refill, not for the whole burst."""
    line = busy(PRIVATE, PRIVATE.burst, now=at(100))

    assert at(101) == ready_at(line, PRIVATE, now=at(100))


@pytest.mark.parametrize(("pace", "most"), [(PRIVATE, 60 + 3), (GROUP, 18 + 5)])
def test_a_minute_holds_no_more_than_the_chat_stands(pace: Pace, most: int) -> None:
    """Whoever always asks when it is ready stays below what is published for such chats."""
    line, now, sent = Line(), at(0), 0
    while (now := ready_at(line, pace, now=now)) < at(60):
        line = after_request(line, pace, now=now)
        sent += 1

    assert sent <= most


def test_a_flood_freezes_the_chat_to_the_second() -> None:
    """Nothing goes before retry_after is over, and something may right then."""
    line = after_flood(Line(), PRIVATE, now=at(10), retry_after=at(7))

    assert at(17) == ready_at(line, PRIVATE, now=at(10))


def test_a_shorter_flood_does_not_thaw_a_longer_one() -> None:
    """Two answers that cross keep the later end."""
    line = after_flood(Line(), PRIVATE, now=at(10), retry_after=at(60))
    line = after_flood(line, PRIVATE, now=at(11), retry_after=at(1))

    assert at(70) == ready_at(line, PRIVATE, now=at(12))


def test_after_a_flood_everything_takes_twice_the_time() -> None:
    """Edits are rarer for a minute after the freeze."""
    line = after_flood(Line(), PRIVATE, now=at(0), retry_after=at(5))
    plan = plan_edit(line, PRIVATE, shown=Shown(at(10)), characters=300, now=at(10))

    assert EditAt(at(10) + PRIVATE.edit * 1.1 * 2) == plan


def test_the_pace_is_normal_again_when_the_flood_is_long_over() -> None:
    """A minute without a new flood, and it is forgotten."""
    line = after_flood(Line(), PRIVATE, now=at(0), retry_after=at(5))
    plan = plan_edit(line, PRIVATE, shown=Shown(at(70)), characters=300, now=at(70))

    assert EditAt(at(70) + PRIVATE.edit * 1.1) == plan


def test_text_that_arrives_too_early_gets_a_later_date() -> None:
    """Nothing is lost: the caller is told when to look again."""
    plan = plan_edit(Line(), GROUP, shown=Shown(at(0)), characters=60, now=at(1))

    assert EditAt(at(0) + GROUP.edit * 1.02) == plan


def test_an_edit_that_is_due_happens_now() -> None:
    """Enough new words after enough time are shown."""
    plan = plan_edit(Line(), PRIVATE, shown=Shown(at(0)), characters=60, now=at(2))

    assert EditNow() == plan


def test_a_few_new_words_wait_for_more() -> None:
    """Less than what is worth an edit waits until the reader's patience is over."""
    shown = Shown(at(0), characters=100)
    plan = plan_edit(Line(), PRIVATE, shown=shown, characters=110, now=at(2))

    assert EditAt(PRIVATE.patience) == plan


@pytest.mark.parametrize(("characters", "steps"), [(99, 0), (105, 1)])
def test_words_taken_back_and_tools_do_not_wait_for_more(characters: int, steps: int) -> None:
    """A reset, and a tool that begins or ends, are worth an edit by themselves."""
    shown = Shown(at(0), characters=100)
    plan = plan_edit(Line(), PRIVATE, shown=shown, characters=characters, steps=steps, now=at(2))

    assert EditNow() == plan


def test_long_replies_are_edited_less_often_but_still() -> None:
    """The interval grows with the text up to a limit."""
    plan = plan_edit(Line(), PRIVATE, shown=Shown(at(0)), characters=90_000, now=at(1))

    assert EditAt(PRIVATE.slowest_edit) == plan
