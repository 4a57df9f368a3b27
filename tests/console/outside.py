"""The ways in as the console meets them: real webhooks and a real receiver of a Telegram bot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handlers.console.outside import Bot, Outside
from handlers.http import BodyLimits
from handlers.telegram.markup import Rich
from handlers.telegram.receive import Receiver, Rules
from handlers.telegram.spot import Spot
from handlers.telegram.strangers import stranger
from handlers.telegram.translate import Me
from handlers.webhook.by_hand import ByHand
from handlers.webhook.hook import compile_hook
from handlers.webhook.receive import Webhooks
from service import config
from service.config import Secret
from service.core.model import Binding, Channel
from service.engine.allowed import Allowed
from service.engine.replays import Replays
from service.engine.tokens import TurnTokens
from service.store.database import Database
from tests.engine.engine import Engine
from tests.telegram.updates import ANN, BOT, USERNAME, Raw

HOOK_SECRET = "correct horse battery staple"
HOOKS: Mapping[str, Mapping[str, Any]] = {
    "notes": {"auth": "none", "reply": "wait"},
    "keyed": {
        "auth": {"scheme": "bearer", "secret": Secret(HOOK_SECRET)},
        "prompt": "{{ payload.who }} says {{ payload.what }}",
        "session": "{{ payload.who }}",
        "permit": ["dice"],
    },
    "headers": {"auth": "none", "prompt": "{{ headers.x }} {{ body }}"},
}
TELEGRAM = config.Telegram(
    token=Secret(f"{BOT}:{'A' * 35}"), agent="assistant", allow=frozenset({ANN})
)
ME = Me(BOT, USERNAME)


@dataclass(frozen=True)
class Ways:
    """What the console is given, and what posts and updates come in by."""

    outside: Outside
    webhooks: Webhooks
    receiver: Receiver

    async def update(self, raw: Raw, number: int) -> None:
        """Let Telegram bring an update."""
        numbered = {**raw, "update_id": number}
        await self.receiver.receive(numbered, json.dumps(numbered).encode(), ME)


async def open_ways(
    database: Database, engine: Engine, agents: Mapping[str, Binding], limits: BodyLimits
) -> Ways:
    """The ways in of a site; each call makes those of another replica."""
    allowed = Allowed(database)
    settings = {name: config.Webhook(agent="assistant", **one) for name, one in HOOKS.items()}
    hooks = {
        name: compile_hook(name, one, agents["assistant"], ()) for name, one in settings.items()
    }
    by_hand = ByHand(hooks, engine.intake, limits, engine.controls)
    receiver = Receiver(
        Rules(TELEGRAM.allow, "mention", "assistant", agents),
        bot=TELEGRAM.bot,
        intake=engine.intake,
        controls=engine.controls,
        answer=_answer,
        edit=_edit,
        allowed=allowed.ids,
    )
    retries = {Channel.WEBHOOK: by_hand.retry, Channel.TELEGRAM: _Again(receiver).retry}
    outside = Outside(
        by_hand.ring,
        Replays(database, retries, wake=engine.wake),
        allowed,
        webhooks=settings,
        telegram=TELEGRAM,
        public_url="https://bot.example.org/",
        bot=Bot(_identity, stranger),
    )
    tokens = await TurnTokens.load(database)
    webhooks = Webhooks(
        hooks,
        engine.intake,
        engine.feed,
        engine.results,
        tokens,
        limits,
        controls=engine.controls,
    )
    return Ways(outside, webhooks, receiver)


@dataclass(frozen=True)
class _Again:
    receiver: Receiver

    async def retry(self, _source: str, key: str, body: bytes) -> str:
        return await self.receiver.retry(key, body, ME)


def _identity() -> tuple[str | None, bool]:
    return USERNAME, True


async def _answer(_query: str, _words: str) -> None:
    return


async def _edit(_spot: Spot, _message: str, _rich: Rich) -> None:
    return
