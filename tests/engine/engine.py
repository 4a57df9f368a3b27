"""A whole engine on a real database, with scripted models, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

from service.core.access import Policy
from service.core.model import (
    Accepted,
    Address,
    Binding,
    Channel,
    Event,
    Origin,
    Refusal,
    Ring,
    TurnId,
)
from service.core.states import TurnState
from service.engine.controls import Controls
from service.engine.feed import Feed
from service.engine.intake import Intake
from service.engine.metrics import Metrics
from service.engine.outbox import Outbox
from service.engine.results import Result, Results
from service.engine.scanning import Scans
from service.engine.turns import Turns
from service.engine.workers import Workers
from service.ports import Files
from service.store.database import Database
from tests.fakes import RememberingSender, ScriptedAgents

BINDING = Binding("assistant", "offline", "echo", "Be brief.", ())
_PATIENCE = timedelta(seconds=60)
_numbers = count(1)


@dataclass
class Engine:
    """The parts of one replica, as the service wires them."""

    database: Database
    agents: ScriptedAgents
    sender: RememberingSender
    policies: Mapping[tuple[Channel, str], Policy] = field(default_factory=dict)
    files: Mapping[Channel, Files] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    binding: Binding = BINDING
    """Who answers in the sessions of scans."""
    scans: Scans | None = None

    def __post_init__(self) -> None:
        owner = f"test-{next(_numbers)}"
        live = frozenset({Channel.TELEGRAM}) if self.sender.live else frozenset()
        self.feed = Feed(self.database)
        self.outbox = Outbox(
            self.database, self.feed, {Channel.TELEGRAM: self.sender}, self.metrics, owner=owner
        )
        self.posts = Workers(
            "outbox",
            claim=self.outbox.claim,
            work=self.outbox.work,
            renew=self.outbox.renew,
            at_once=8,
        )
        self.turns = Turns(
            self.database,
            self.feed,
            self.agents,
            self.metrics,
            owner=owner,
            live=live,
            wake=self.wake,
            policies=self.policies,
            files=self.files,
            scans=self.scans or Scans(self.database, self._ring, {BINDING.agent: self.binding}),
        )
        self.lanes = Workers(
            "lanes",
            claim=self.turns.claim,
            work=self.turns.work,
            renew=self.turns.renew,
            at_once=8,
        )
        self.intake = Intake(
            self.database, self.feed, self.metrics, queue_limit=5, wake=self.lanes.wake
        )
        self._live = live
        self.controls = self.controls_with(stopping=self.lanes.stop)
        self.results = Results(self.database, self.feed)

    def controls_with(self, *, stopping: Callable[[TurnId], object]) -> Controls:
        """Controls that tell of stops elsewhere."""
        return Controls(
            self.database,
            self.feed,
            self.agents,
            self.metrics,
            live=self._live,
            stopping=stopping,
            stopping_voice=self.turns.stop_voice,
            wake=self.wake,
        )

    def wake(self) -> None:
        """Look for turns and deliveries."""
        self.lanes.wake()
        self.posts.wake()

    def start(self) -> None:
        """Begin to claim."""
        self.lanes.start()
        self.posts.start()

    async def stop(self, grace: timedelta = timedelta()) -> None:
        """Drain as the service does."""
        await self.lanes.drain(grace=grace)
        await self.posts.drain(grace=grace)

    async def accept(self, text: str = "hi", **fields: object) -> Accepted:
        """Ring; the ring must not be refused."""
        outcome = await self.intake.accept(ring(text, **fields))
        assert isinstance(outcome, Accepted), outcome
        return outcome

    async def _ring(self, ring: Ring) -> Accepted | Refusal:
        """Ring as scans do; the door is made after them."""
        return await self.intake.accept(ring)

    async def result(self, turn: TurnId) -> Result:
        """The result of a turn, once it is final."""
        result = await self.results.wait(turn, timeout=_PATIENCE)
        assert result is not None
        assert result.final, f"the turn is still {result.turn.state}"
        return result

    async def events(self, accepted: Accepted) -> list[Event]:
        """Every event of a turn, once it is over."""
        following = self.feed.follow(
            accepted.session, after=accepted.number - 1, turn=accepted.turn
        )
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            return [event async for event in following]

    async def until(self, accepted: Accepted, kind: str, **data: object) -> Event:
        """The first event of a turn that is of this kind and has this data."""
        following = self.feed.follow(
            accepted.session, after=accepted.number - 1, turn=accepted.turn
        )
        async with asyncio.timeout(_PATIENCE.total_seconds()), aclosing(following):
            async for event in following:
                if event.kind == kind and data.items() <= dict(event.data).items():
                    return event
        raise AssertionError(f"the turn ended without {kind} {data}")

    async def state(self, turn: TurnId) -> TurnState:
        """Where a turn is."""
        result = await self.results.get(turn)
        assert result is not None
        return result.turn.state


@asynccontextmanager
async def running(
    database: Database,
    agents: ScriptedAgents | None = None,
    sender: RememberingSender | None = None,
    **options: Any,
) -> AsyncGenerator[Engine]:
    """An engine that claims; drained at the end."""
    engine = Engine(database, agents or ScriptedAgents(), sender or RememberingSender(), **options)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def ring(text: str = "hi", **fields: object) -> Ring:
    """A ring like a Telegram message; every field can be set."""
    values: dict[str, object] = {
        "channel": Channel.TELEGRAM,
        "source": "1",
        "event_key": f"key-{next(_numbers)}",
        "text": text,
        "binding": BINDING,
        "author": "telegram:7",
        "session_key": "telegram:1:7",
        "origin": Origin.PERSON,
        **fields,
    }
    return Ring(**values)  # type: ignore[arg-type]


CHAT = Address(Channel.TELEGRAM, "1:7")
