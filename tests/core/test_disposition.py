"""Schemas of dispositions: read strictly, told as they were written, and what fits them."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service.core.disposition import Schema
from service.errors import BadInput

WHOLE = {
    "verdict": "FRAUD|ERROR|FINE",
    "amount": "Number",
    "reason": "String",
    "second_opinion": "optional YES|NO",
    "accounts": "list of String",
    "tags": "optional list of RED|BLUE",
}


def test_a_schema_comes_back_as_it_was_written() -> None:
    """In its order, every type in the same words."""
    assert list(Schema.parse(WHOLE).as_json().items()) == list(WHOLE.items())


def test_values_are_kept_in_the_schemas_order() -> None:
    """What is optional may be left out or null."""
    given = {"accounts": ["a"], "reason": "r", "amount": 2.5, "verdict": "FINE", "tags": None}

    kept = Schema.parse(WHOLE).check(given)

    assert list(kept) == ["verdict", "amount", "reason", "accounts"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"verdict": "fraud"}, "verdict: takes one of FRAUD, ERROR, FINE, not 'fraud'"),
        ({"verdict": ["FRAUD"]}, "verdict: takes one of"),
        ({"verdict": None}, "verdict: is missing; it takes FRAUD|ERROR|FINE"),
        ({"amount": "12"}, "amount: takes a number, not '12'"),
        ({"amount": True}, "amount: takes a number, not True"),
        ({"amount": float("nan")}, "amount: takes a number"),
        ({"reason": " "}, "reason: takes a text that is not empty"),
        ({"accounts": "a"}, "accounts: a list of 1 to 100 is needed"),
        ({"accounts": []}, "accounts: a list of 1 to 100 is needed"),
        ({"tags": ["GREEN"]}, "tags: takes one of RED, BLUE, not 'GREEN'"),
        ({"mood": 1}, "'mood': there is no such field; there are: verdict, amount"),
    ],
)
def test_values_that_do_not_fit_are_named(changed: dict[str, Any], told: str) -> None:
    """The field, what it takes and what was given."""
    given = {"verdict": "FRAUD", "amount": 1, "reason": "r", "accounts": ["a"], **changed}

    with pytest.raises(BadInput) as refused:
        Schema.parse(WHOLE).check(given)

    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({}, "an object of field names and types is needed"),
        ([], "an object of field names and types is needed"),
        ({"a": "Boolean"}, "schema.a: write A|B|C"),
        ({"a": 1}, "schema.a: write A|B|C"),
        ({"a": "X|"}, "schema.a: write A|B|C"),
        ({"a": "X|X"}, "schema.a: names a value twice"),
        ({"a": "X|Y]"}, "schema.a: a value is on one line"),
        ({"": "X|Y"}, "a field is called by"),
        ({"1st": "X|Y"}, "a field is called by"),
        ({"second opinion": "X|Y"}, "a field is called by"),
        ({"größe": "Number"}, "a field is called by"),
        ({f"f{n}": "Number" for n in range(31)}, "at most 30 fields"),
    ],
)
def test_a_schema_that_cannot_be_read_says_what_to_write(schema: Any, told: str) -> None:
    """With the field it is about."""
    with pytest.raises(BadInput) as refused:
        Schema.parse(schema)

    assert told in str(refused.value)


def test_models_are_told_the_same_rules() -> None:
    """Whatever is kept is valid against the JSON Schema of the tool."""
    schema = Schema.parse(WHOLE)
    kept = schema.check({"verdict": "FINE", "amount": 1, "reason": "r", "accounts": ["a"]})

    validator = Draft202012Validator(schema.parameters())

    assert validator.is_valid(kept)
    assert not validator.is_valid({**kept, "verdict": "NO"})


def test_only_single_choices_can_be_depended_on() -> None:
    """A list has no one value."""
    assert list(Schema.parse(WHOLE).enums()) == ["verdict", "second_opinion"]
