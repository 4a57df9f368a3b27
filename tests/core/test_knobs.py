"""Knobs take what they say they take, from JSON as from words that people type."""

from __future__ import annotations

import math
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service.core.knobs import Knob, Number, Select, Text, Toggle, check_all
from service.errors import BadInput

BRIEF = Toggle(name="brief", description="")
LEVEL = Number(name="level", description="", default=2, minimum=1, maximum=3, step=0.5)
COUNT = Number(name="count", description="", step=5)
FINE = Number(name="fine", description="", step=0.1)
FREE = Number(name="free", description="")
TONE = Select(name="tone", description="", options=("plain", "warm"), default="plain")
NAME = Text(name="name", description="", max_length=5, pattern="[a-z]+")
WORDS = Text(name="words", description="", max_length=3)


@pytest.mark.parametrize(
    ("knob", "given", "kept"),
    [
        *((BRIEF, word, True) for word in (True, "on", " YES ", "true", "1")),
        *((BRIEF, word, False) for word in (False, "off", "No", "false", "0")),
        (LEVEL, 1, 1),
        (LEVEL, "2.5", 2.5),
        (LEVEL, 3.0, 3),
        (FINE, 12_345_678.9, 12_345_678.9),
        (COUNT, -15, -15),
        (COUNT, "0", 0),
        (FREE, "1e3", 1000),
        (TONE, "warm", "warm"),
        (TONE, " Plain ", "plain"),
        (NAME, "ann", "ann"),
        (WORDS, "äöü", "äöü"),
        (WORDS, "", ""),
    ],
)
def test_what_fits_is_kept(knob: Knob, given: Any, kept: Any) -> None:
    """As the value it stands for, which fits the knob's own schema and is taken again."""
    value = knob.check(given)

    assert (value, type(value)) == (kept, type(kept))
    assert knob.check(value) == value
    Draft202012Validator(knob.schema).validate(value)


@pytest.mark.parametrize(
    ("knob", "takes", "wrong"),
    [
        (BRIEF, "on or off", ["", "maybe", 1, 0, None, [True], {}]),
        (
            LEVEL,
            "a number from 1 up to 3 in steps of 0.5",
            [0.5, 3.5, 1.25, "x", "", None, True, [], math.nan, math.inf, "-inf", 10**400],
        ),
        (COUNT, "a number in steps of 5", [1, 7.5, "12", 10_000_000_002]),
        (FREE, "a number", ["nan", "infinity", False, {}]),
        (TONE, "one of plain, warm", ["loud", "", None, 1, ["warm"]]),
        (
            NAME,
            r"a text of at most 5 characters of the form \[a-z\]\+",
            ["annabelle", "Ann", "ann\n", "", None, 3, ["ann"]],
        ),
        (WORDS, "a text of at most 3 characters", ["long", None, 1]),
    ],
)
def test_what_does_not_fit_is_told_what_does(knob: Knob, takes: str, wrong: list[Any]) -> None:
    """With the name of the knob."""
    for one in wrong:
        with pytest.raises(BadInput, match=f"^{knob.name} takes {takes}$"):
            knob.check(one)


def test_several_are_kept_together() -> None:
    """Those that are not named are left out; one nobody has is told with those there are."""
    knobs = {one.name: one for one in (BRIEF, TONE)}

    assert check_all(knobs, {"brief": "on"}) == {"brief": True}
    with pytest.raises(BadInput, match=r"^knobs: there is no 'volume'; there are: brief, tone$"):
        check_all(knobs, {"brief": "on", "volume": 3})
    with pytest.raises(BadInput, match="there are: none"):
        check_all({}, {"brief": "on"})
