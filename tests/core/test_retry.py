"""When failed deliveries are tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.core.model import Channel
from service.core.retry import GiveUp, Retry, after_failure
from service.errors import (
    AddressGone,
    ChannelBusy,
    ChannelDown,
    ChannelError,
    ChannelUncertain,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOWN = ChannelDown("the receiver answered 500")
BASES = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]


def decide(
    error: ChannelError = DOWN,
    *,
    channel: Channel = Channel.WEBHOOK,
    attempt: int = 1,
    seed: str = "delivery",
) -> Retry | GiveUp:
    return after_failure(error, channel=channel, attempt=attempt, seed=seed, now=NOW)


def pause(decision: Retry | GiveUp) -> float:
    assert isinstance(decision, Retry), decision
    return (decision.at - NOW).total_seconds()


@pytest.mark.parametrize(("attempt", "base"), list(enumerate(BASES, start=1)))
def test_callbacks_follow_the_schedule_for_three_days(attempt: int, base: int) -> None:
    """Ten attempts, each pause within a fifth of the advised one."""
    found = pause(decide(attempt=attempt))

    assert base * 0.8 <= found <= base * 1.2


def test_callbacks_are_given_up_after_the_tenth_attempt() -> None:
    """The reason keeps the last words of the receiver."""
    decision = decide(attempt=10)

    assert GiveUp("given up after 10 attempts: the receiver answered 500") == decision


def test_chats_are_tried_for_an_hour_or_so() -> None:
    """An answer in a chat is worth little the next day."""
    pauses = [pause(decide(channel=Channel.TELEGRAM, attempt=one)) for one in range(1, 12)]

    assert pauses[0] <= 1.2
    assert 1800 < sum(pauses) < 2 * 3600
    assert isinstance(decide(channel=Channel.TELEGRAM, attempt=12), GiveUp)


def test_the_jitter_is_the_same_for_whoever_decides() -> None:
    """A replica that takes over comes to the same instant; another delivery does not."""
    mine = [decide(attempt=one) for one in range(1, 10)]
    rescued = [decide(attempt=one) for one in range(1, 10)]
    other = [decide(attempt=one, seed="another") for one in range(1, 10)]

    assert mine == rescued
    assert mine != other


def test_deliveries_that_failed_together_come_back_apart() -> None:
    """A receiver that was down is not hit by everybody in one second."""
    found = {pause(decide(attempt=2, seed=str(number))) for number in range(100)}

    assert len(found) > 50


@pytest.mark.parametrize("attempt", [1, 3, 9])
@pytest.mark.parametrize("seconds", [0, 1, 17, 3600])
def test_a_pause_of_a_chat_is_kept_to_the_second(seconds: int, attempt: int) -> None:
    """Neither sooner nor later than Telegram said."""
    busy = ChannelBusy("flood", timedelta(seconds=seconds))

    assert seconds == pause(decide(busy, channel=Channel.TELEGRAM, attempt=attempt))


def test_a_receiver_that_asks_for_hours_gets_them() -> None:
    """Its pause is longer than the schedule's."""
    busy = ChannelBusy("the receiver answered 429", timedelta(hours=3))
    found = [pause(decide(busy, attempt=one)) for one in (2, 4)]

    assert found == [timedelta(hours=3).total_seconds()] * 2


def test_short_pauses_are_kept_but_do_not_use_up_the_patience() -> None:
    """Ten times "in a second" would otherwise be the end after ten seconds."""
    busy = ChannelBusy("the receiver answered 429", timedelta(seconds=1))
    found = [pause(decide(busy, attempt=one)) for one in range(1, 10)]

    assert found == [1, 1, 1, *(pause(decide(attempt=one)) for one in range(4, 10))]


def test_a_negative_pause_is_none() -> None:
    """Clocks differ; nothing is due in the past."""
    busy = ChannelBusy("flood", timedelta(seconds=-5))

    assert pause(decide(busy, channel=Channel.TELEGRAM)) == 0


@pytest.mark.parametrize(
    "error",
    [
        AddressGone("the receiver answered 410"),
        ChannelUncertain("no answer came"),
        ChannelError("refused"),
    ],
)
def test_what_cannot_succeed_is_not_repeated(error: ChannelError) -> None:
    """Nobody there, perhaps there already, or refused: once is enough."""
    decision = decide(error)

    assert GiveUp(str(error)) == decision


def test_channels_without_a_schedule_of_their_own_use_that_of_callbacks() -> None:
    """A new channel starts patient."""
    assert decide(channel=Channel.CONSOLE) == decide(channel=Channel.WEBHOOK)
