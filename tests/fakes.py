"""Fakes of ports: a scripted model and a sender that remembers. Nothing of ours is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from service.core.model import Delivery, Voice
from service.core.reply import TurnView
from service.ports import (
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
    prompts: list[Prompt] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def model(self, voice: Voice) -> ScriptedAgents:
        """Itself, whatever the voice."""
        return self

    def limits(self, voice: Voice) -> Limits:
        """The same limits for everybody."""
        return self.limits_

    def tools(self, voice: Voice) -> Sequence[ToolSpec]:
        """The same tools for everybody."""
        return self.tools_

    async def call(self, call: ToolCall) -> ToolResult:
        """Note the call and answer as told."""
        self.calls.append(call)
        return ToolResult(call.id, call.tool, self.on_call(call))

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
        return Receipt((f"receipt-{delivery.id}",))
