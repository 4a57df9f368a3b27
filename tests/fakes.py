"""Fakes of ports: a scripted model and a sender that remembers. Nothing of ours is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from service.core.knobs import Knob
from service.core.model import Delivery, Voice
from service.core.reply import TurnView
from service.core.state import State
from service.core.states import TurnState
from service.errors import TurnWaits
from service.ports import (
    Caller,
    Finished,
    Journal,
    Limits,
    ModelEvent,
    Prompt,
    Receipt,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
)

Script = Sequence[ModelEvent | Exception | asyncio.Event]
"""What a model does: say something, fail, or wait for an event."""


@dataclass
class ScriptedAgents:
    """Agents whose model follows scripts, one per request; the last one repeats."""

    scripts: list[Script] = field(default_factory=lambda: [[TextDelta("Hello."), Finished()]])
    limits_: Limits = field(default_factory=Limits)
    tools_: Sequence[ToolSpec] = ()
    on_call: Callable[[ToolCall], str] = lambda call: f"{call.tool} ran"
    on_work: Callable[[ToolCall, Caller], Awaitable[str]] | None = None
    """Like `on_call`, for what takes time or changes the session's state."""
    knobs_: Mapping[str, Knob] = field(default_factory=dict)
    section: Callable[[State, State], str] = lambda _state, _knobs: ""
    media_types: frozenset[str] = frozenset()
    prompts: list[Prompt] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)

    def model(self, voice: Voice) -> ScriptedAgents:
        """Itself, whatever the voice."""
        return self

    def limits(self, voice: Voice) -> Limits:
        """The same limits for everybody."""
        return self.limits_

    def tools(self, voice: Voice) -> Sequence[ToolSpec]:
        """The same tools for everybody."""
        return self.tools_

    async def call(self, call: ToolCall, caller: Caller) -> ToolResult:
        """Note the call and answer as told."""
        self.calls.append(call)
        self.callers.append(caller)
        text = await self.on_work(call, caller) if self.on_work else self.on_call(call)
        return ToolResult(call.id, call.tool, text)

    def knobs(self, voice: Voice) -> Mapping[str, Knob]:
        """The same knobs for everybody."""
        return self.knobs_

    def sections(self, voice: Voice, state: State, knobs: State) -> str:
        """What `section` makes of them."""
        return self.section(state, knobs)

    def takes(self, voice: Voice, media_type: str) -> bool:
        """Whether it was told so."""
        return media_type in self.media_types

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Follow the next script."""
        place = min(len(self.prompts), len(self.scripts) - 1)
        self.prompts.append(prompt)
        for step in self.scripts[place]:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                raise step
            else:
                yield step


@dataclass
class RememberingSender:
    """A sender that keeps what it was given and fails as told."""

    live: bool = False
    failures: list[Exception] = field(default_factory=list)
    seen: list[tuple[Delivery, list[TurnView]]] = field(default_factory=list)

    async def deliver(
        self, delivery: Delivery, views: AsyncIterator[TurnView], journal: Journal
    ) -> Receipt:
        """Keep every view."""
        if self.failures:
            raise self.failures.pop(0)
        collected: list[TurnView] = []
        self.seen.append((delivery, collected))
        async for view in views:
            journal.check()
            collected.append(view)
            if view.state is TurnState.WAITING:
                raise TurnWaits("the turn waits for a person")
        return Receipt((f"receipt-{delivery.id}",))
