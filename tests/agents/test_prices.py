"""What a response costs, by whose word."""

from __future__ import annotations

import pytest

from service.agents.prices import cost_micros
from service.config import Price
from service.core.model import Usage

USAGE = Usage(input_tokens=1_000_000, output_tokens=100_000)


def test_the_configured_price_comes_first() -> None:
    """Also before what the provider says and what the table knows."""
    usage = USAGE + Usage(cost_micros=7)

    cost = cost_micros(usage, Price(input=0.5, output=2), "openai", "gpt-4o")

    assert cost == 700_000


def test_a_price_of_nothing_is_a_price() -> None:
    """Who runs the model at home pays nobody."""
    assert cost_micros(USAGE, Price(input=0, output=0), "openai", "gpt-4o") == 0


def test_the_word_of_the_provider_comes_second() -> None:
    """It knows its discounts."""
    assert cost_micros(USAGE + Usage(cost_micros=7), None, "openrouter", "openai/gpt-4o") == 7


@pytest.mark.parametrize(
    ("kind", "model", "cost"),
    [
        ("openai", "gpt-4o", 3_500),
        ("anthropic", "claude-sonnet-4-5", 4_500),
        ("google", "gemini-2.5-flash", 550),
        ("openrouter", "openai/gpt-4o", 3_500),
    ],
)
def test_the_table_comes_last(kind: str, model: str, cost: int) -> None:
    """Well-known models have well-known prices."""
    usage = Usage(input_tokens=1_000, output_tokens=100)

    assert cost_micros(usage, None, kind, model) == cost


@pytest.mark.parametrize(
    ("kind", "model"),
    [("openai", "my-own"), ("ollama", "llama3"), ("offline", "echo"), ("openai", ""), ("", "")],
)
def test_what_nobody_knows_costs_nothing(kind: str, model: str) -> None:
    """No price is invented."""
    assert cost_micros(USAGE, None, kind, model) == 0


def test_no_tokens_cost_nothing() -> None:
    """Without even a look into the table."""
    assert cost_micros(Usage(), None, "openai", "gpt-4o") == 0
