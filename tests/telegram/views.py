"""A turn as its followers see it, made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

from service.core.model import ReplyId
from service.core.reply import ReplyView, ToolView, TurnView
from service.core.states import ReplyState, ToolState, TurnState

TURN = "018f0000-0000-7000-8000-000000000001"


def running(text: str = "", *, tools: tuple[str, ...] = ()) -> TurnView:
    """A reply in progress, with tools that run right now."""
    views = tuple(ToolView(f"call-{name}", name, ToolState.RUNNING) for name in tools)
    reply = ReplyView(ReplyId("r1"), "assistant", ReplyState.GENERATING, text, tools=views)
    return TurnView(TURN, TurnState.RUNNING, (reply,))


def waiting(text: str = "") -> TurnView:
    """A reply that waits for a person."""
    return replace(running(text, tools=("prompt_user",)), state=TurnState.WAITING)


def over(
    text: str, state: TurnState = TurnState.SUCCEEDED, *, error: str | None = None
) -> TurnView:
    """A reply at its end."""
    reply = ReplyView(ReplyId("r1"), "assistant", ReplyState.DONE, text)
    return TurnView(TURN, state, (reply,), error)


class Views:
    """A stream of views that the test feeds; it yields the newest one, as the outbox's does."""

    def __init__(self, *ready: TurnView) -> None:
        self._newest: TurnView | None = None
        self._changed = asyncio.Event()
        for view in ready:
            self.show(view)

    def show(self, view: TurnView) -> None:
        """Let the turn be like this from now on."""
        self._newest = view
        self._changed.set()

    async def stream(self) -> AsyncGenerator[TurnView]:
        """Yield the newest view whenever it changed, up to the final one."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            view = self._newest
            assert view is not None
            yield view
            if view.final:
                return
