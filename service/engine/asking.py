"""One model response within an agent's limits: deadlines, and retries for what may pass."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from service.engine.holds import uptime
from service.engine.metrics import Metrics
from service.engine.writer import Speech
from service.errors import ProviderBusy, ProviderError, ProviderGone, ProviderTimeout
from service.ports import (
    Finished,
    Limits,
    Model,
    ModelEvent,
    Prompt,
    TextDelta,
    ThinkingDelta,
    ToolCall,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 20.0


@dataclass(slots=True)
class Response:
    """One whole model response; its words are in the speech already."""

    text: str = ""
    thinking: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    finished: Finished = field(default_factory=Finished)


class Asking:
    """Asks one model on behalf of one reply until a deadline."""

    def __init__(self, model: Model, limits: Limits, speech: Speech, metrics: Metrics) -> None:
        self._model = model
        self._limits = limits
        self._speech = speech
        self._metrics = metrics
        self._deadline = uptime() + limits.total.total_seconds()
        self.requests = 0

    async def ask(self, prompt: Prompt) -> Response:
        """Return one response whose words were handed to the writer as they came.

        What may pass is tried again within the retries and the budget of the limits, and words
        of a broken attempt are taken back. Raises the last ProviderError; then the words stay.
        """
        boundary = self._speech.text
        give_up_at = uptime() + self._limits.retry_budget.total_seconds()
        failures = 0
        while True:
            try:
                self.requests += 1
                return await self._attempt(prompt, boundary)
            except ProviderError as error:
                failures += 1
                pause = _pause(error, failures)
                over = uptime() + pause > min(give_up_at, self._deadline)
                if error.permanent or failures > self._limits.retries or over:
                    raise
                self._announce_retry(error, pause)
                await asyncio.sleep(pause)
                if self._speech.text != boundary:
                    self._speech.reset(boundary)

    def _announce_retry(self, error: ProviderError, pause: float) -> None:
        self._metrics.retries.inc()
        log.info("replies.retrying", reply=self._speech.reply, reason=str(error), seconds=pause)
        self._speech.add(
            "turn.retrying",
            {"turn": self._speech.turn, "reason": str(error), "wait_seconds": round(pause, 3)},
        )

    async def _attempt(self, prompt: Prompt, boundary: str) -> Response:
        response = Response()
        finished = False
        # Words after an earlier iteration begin a paragraph of their own.
        gap = "\n\n" if boundary else ""
        async with aclosing(self._model.stream(prompt)) as stream:
            async for event in self._timely(stream):
                match event:
                    case TextDelta(text):
                        self._speech.say(gap + text)
                        response.text += text
                        gap = ""
                    case ThinkingDelta(text):
                        self._speech.think(text)
                        response.thinking += text
                    case ToolCall():
                        response.calls.append(event)
                    case Finished():
                        response.finished = event
                        finished = True
        if not finished:
            raise ProviderGone("The provider broke off in the middle of its answer.")
        # A model can spend its whole output budget on thinking: asking the same again is no help.
        if not (response.finished.cut or response.text.strip() or response.calls):
            raise ProviderGone("The provider sent an empty answer.")
        return response

    async def _timely(self, stream: AsyncGenerator[ModelEvent]) -> AsyncGenerator[ModelEvent]:
        """Pass events on; raise ProviderTimeout when the next one takes longer than it may."""
        patience = self._limits.first_token
        while True:
            left = self._deadline - uptime()
            try:
                async with asyncio.timeout(min(patience.total_seconds(), left)):
                    event = await anext(stream, None)
            except TimeoutError:
                raise _too_slow(self._limits, patience, left) from None
            if event is None:
                return
            yield event
            patience = self._limits.stall


def _too_slow(limits: Limits, patience: timedelta, left: float) -> ProviderTimeout:
    if left < patience.total_seconds():
        return ProviderTimeout(f"The answer took longer than {_words(limits.total)}.")
    return ProviderTimeout(f"The provider was silent for {_words(patience)}.")


def _words(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"


def _pause(error: ProviderError, failures: int) -> float:
    """Seconds to wait: what the provider asked for, or twice as long each time, with jitter."""
    if isinstance(error, ProviderBusy) and error.retry_after is not None:
        return error.retry_after.total_seconds()
    backoff: float = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
    return backoff * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
