"""Who may ring: a table of everybody we know."""

from __future__ import annotations

import pytest

from service.core.access import (
    Operator,
    Principal,
    Stranger,
    TelegramPerson,
    authorise,
    identify,
)
from service.core.model import RefusalReason

ANN, BOB, GROUP, OTHER_GROUP = 501, 502, -1001, -1002
ALLOW = frozenset({ANN, GROUP})


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        (Operator(), True),
        (Stranger(), False),
        (TelegramPerson(ANN, ANN), True),
        (TelegramPerson(BOB, BOB), False),
        (TelegramPerson(BOB, GROUP), True),
        (TelegramPerson(GROUP, GROUP), True),
        (TelegramPerson(ANN, OTHER_GROUP), False),
        (TelegramPerson(OTHER_GROUP, OTHER_GROUP), False),
        (TelegramPerson(GROUP, OTHER_GROUP), False),
    ],
)
def test_only_who_is_listed_may_ring(principal: Principal, allowed: bool) -> None:
    """A person counts in private, a group for everybody in it, and neither for the other."""
    refusal = authorise(principal, allow=ALLOW)

    assert allowed == (refusal is None)


@pytest.mark.parametrize("person", [TelegramPerson(ANN, ANN), TelegramPerson(ANN, GROUP)])
def test_an_empty_list_means_nobody(person: TelegramPerson) -> None:
    """Nothing configured is not everything allowed."""
    refusal = authorise(person, allow=frozenset())

    assert refusal is not None


def test_a_refusal_says_what_to_configure() -> None:
    """The operator reads which number is missing where."""
    refusal = authorise(TelegramPerson(BOB, BOB), allow=ALLOW)

    assert refusal is not None
    assert (
        refusal.reason,
        refusal.detail,
    ) == (RefusalReason.IGNORED, "the person 502 is not in telegram.allow")


@pytest.mark.parametrize(
    ("token", "principal"),
    [
        ("second", Operator()),
        ("secon", Stranger()),
        ("", Stranger()),
        (None, Stranger()),
        ("ünïcode\udcff", Stranger()),
    ],
)
def test_a_token_makes_an_operator(token: str | None, principal: Principal) -> None:
    """Any of the tokens does, and nothing else, however odd its characters are."""
    assert principal == identify(token, tokens=["first", "second", ""])


def test_without_tokens_nobody_is_an_operator() -> None:
    """An empty token does not match an empty list."""
    assert Stranger() == identify("", tokens=[])
