"""What a response costs: by the configured price, or by the table that pydantic-ai brings along."""

from __future__ import annotations

from decimal import Decimal

from service.config import Price
from service.core.model import Usage

_MICROS = 1_000_000


def cost_micros(usage: Usage, price: Price | None, provider_kind: str, model: str) -> int:
    """Return millionths of a US dollar for one response; 0 when nobody knows.

    A configured price wins over what the provider reported, and that over the table. The table is
    as old as this installation: nothing is ever asked of the network. It knows that long requests
    cost more per token, hence one response at a time; what a provider takes off for cached tokens
    is not seen.
    """
    if price is not None:
        # Dollars per million tokens are millionths of a dollar per token.
        return round(usage.input_tokens * price.input + usage.output_tokens * price.output)
    if usage.cost_micros:
        return usage.cost_micros
    return _by_table(usage, provider_kind, model)


def _by_table(usage: Usage, provider_kind: str, model: str) -> int:
    if not (usage.input_tokens or usage.output_tokens):
        return 0
    # Half a second of imports that a service with prices of its own does not need.
    import genai_prices

    tokens = genai_prices.Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    try:
        found = genai_prices.calc_price(tokens, model, provider_id=provider_kind)
    except (LookupError, ValueError):
        return 0
    return round(Decimal(found.total_price) * _MICROS)
