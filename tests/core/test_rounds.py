"""Who speaks: mentions, targets, and when voices go on by themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.rounds import (
    Continuation,
    Mode,
    Speaker,
    Spoke,
    first_round,
    mentioned,
    next_round,
    roster,
)

ADA = Speaker("1", "Ada")
BOB = Speaker("2", "Bob")
MARY_ANN = Speaker("3", "Mary Ann")
MARY = Speaker("4", "Mary")
ALL = [ADA, BOB, MARY_ANN, MARY]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("@Ada hello", "Ada"),
        ("hello @ada", "Ada"),
        ("hello @ADA, how are you", "Ada"),
        ("@Bob and @Ada", "Bob"),
        ("@Mary Ann, please", "Mary Ann"),
        ("@Mary please", "Mary"),
        ("what do you think, @Bob?", "Bob"),
        ("line\n@Bob: go", "Bob"),
        ("@Bob!", "Bob"),
        ("@Bob.", "Bob"),
        ("@Adam", None),
        ("mail@Ada", None),
        ("x@Ada y", None),
        ("@ Ada", None),
        ("(@Ada)", None),
        ("", None),
        ("Ada", None),
    ],
)
def test_who_is_mentioned(text: str, name: str | None) -> None:
    """By @name, at the start or after white space, the first one; longest names first."""
    found = mentioned(text, ALL)

    assert (found.name if found else None) == name


@given(st.text(max_size=20), st.text(max_size=40))
def test_a_name_is_no_pattern(name: str, text: str) -> None:
    """Whatever characters it has, it is taken literally."""
    odd = Speaker("9", name + "(.*)+[")

    assert mentioned(f"@{odd.name} {text}", [odd]) == odd


def test_a_resting_voice_is_not_mentioned() -> None:
    """It is not there to answer."""
    assert mentioned("@Ada", [Speaker("1", "Ada", active=False), BOB]) is None


def test_a_broadcast_goes_to_all_who_speak() -> None:
    """And to nobody else, whoever is picked in the panel."""
    resting = Speaker("5", "Eve", active=False)

    assert first_round([ADA, resting, BOB], mode=Mode.BROADCAST, target=None, text="hi") == [
        ADA,
        BOB,
    ]


@pytest.mark.parametrize(
    ("target", "text", "wanted"),
    [(None, "hi", []), ("2", "hi", [BOB]), ("2", "@Ada hi", [ADA]), ("7", "hi", [])],
)
def test_a_conducted_message_goes_to_one(
    target: str | None, text: str, wanted: list[Speaker]
) -> None:
    """To whom it names, else to the one picked, else to nobody."""
    assert first_round([ADA, BOB], mode=Mode.CONDUCTOR, target=target, text=text) == wanted


def test_with_one_voice_nobody_has_to_be_named() -> None:
    """There is no doubt who is meant."""
    assert first_round([ADA], mode=Mode.CONDUCTOR, target=None, text="hi") == [ADA]


def spoke(speaker: Speaker, rounds: int, text: str = "…", *, well: bool = True) -> Spoke:
    """How a voice set to so many further rounds came out of one."""
    return Spoke(Speaker(speaker.id, speaker.name, rounds=rounds), text, well)


def names(speakers: list[Speaker]) -> list[str]:
    """Their names."""
    return [one.name for one in speakers]


@pytest.mark.parametrize(
    ("number", "wanted"), [(1, ["Ada", "Bob"]), (2, ["Ada"]), (3, ["Ada"]), (4, [])]
)
def test_each_voice_goes_on_as_often_as_it_is_set_to(number: int, wanted: list[str]) -> None:
    """At most three further rounds."""
    came = [spoke(ADA, 3), spoke(BOB, 1)]

    assert names(next_round(number, came, policy=Continuation.NONE, directed=False)) == wanted


def test_who_failed_or_was_stopped_does_not_go_on() -> None:
    """The others do."""
    came = [spoke(ADA, 3, well=False), spoke(BOB, 3)]

    assert names(next_round(1, came, policy=Continuation.AUTO, directed=False)) == ["Bob"]


@pytest.mark.parametrize(
    ("policy", "wanted"), [(Continuation.NONE, []), (Continuation.AUTO, ["Ada"])]
)
def test_a_directed_message_goes_on_only_with_a_policy(
    policy: Continuation, wanted: list[str]
) -> None:
    """And then only for the voice it was for."""
    assert names(next_round(1, [spoke(ADA, 2)], policy=policy, directed=True)) == wanted


def test_a_mention_between_voices_narrows_the_round_and_ends_the_chain() -> None:
    """In auto mode; only those who were called go on, once."""
    came = [spoke(ADA, 3, "over to @Bob"), spoke(BOB, 3), spoke(MARY, 3)]

    second = next_round(1, came, policy=Continuation.AUTO, directed=False)
    third = next_round(2, [spoke(BOB, 3)], policy=Continuation.AUTO, directed=False, reached={"2"})

    assert names(second) == ["Bob"]
    assert third == []


def test_a_voice_knows_its_company_only_when_it_has_some() -> None:
    """Its own name, the others who speak, and the rules of the mode."""
    assert roster(ADA, [ADA], Mode.BROADCAST) == ""
    told = roster(ADA, [ADA, BOB], Mode.CONDUCTOR)
    assert "You are Ada" in told
    assert "Bob" in told
    assert "only when you are addressed" in told
