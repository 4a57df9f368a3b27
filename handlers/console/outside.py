"""What the console needs of the other channels, which it does not know: the app ties them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from service import config
from service.core.model import Accepted, Refusal
from service.engine.allowed import Allowed
from service.engine.replays import Replays

Stranger = Callable[[bytes], Mapping[str, str]]
"""What helps to recognise whoever sent a stored update."""


class RingByHand(Protocol):
    """Rings a webhook with a body as if somebody had posted it."""

    def __call__(self, name: str, body: str, *, is_json: bool) -> Awaitable[Accepted | Refusal]:
        """Raises BadInput when the webhook's templates do not fit the body."""


@dataclass(frozen=True, slots=True)
class Bot:
    """The Telegram bot that runs in this process."""

    identity: Callable[[], tuple[str | None, bool]]
    """What it is called, None as long as Telegram has not told, and whether updates come in."""
    stranger: Stranger


@dataclass(frozen=True, slots=True)
class Outside:
    """The ways in, as they are configured, and what an operator can do about them."""

    ring: RingByHand
    replays: Replays
    allowed: Allowed
    webhooks: Mapping[str, config.Webhook] = field(default_factory=dict)
    telegram: config.Telegram | None = None
    agents: Mapping[str, config.Agent] = field(default_factory=dict)
    public_url: str | None = None
    bot: Bot | None = None
