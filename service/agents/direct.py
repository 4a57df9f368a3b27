"""What all providers share: one HTTP client each, and pydantic-ai's streams as our model events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from decimal import Decimal
from typing import Any

import httpx2
from pydantic_ai import models
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
)
from pydantic_ai.settings import ModelSettings

from service.agents import transcript
from service.agents.failures import Failures
from service.config import Provider
from service.core.model import Usage
from service.errors import ProviderGone, ProviderRefused
from service.ports import Finished, ModelEvent, Prompt, TextDelta, ThinkingDelta, ToolCall

# Silence has no limit here: how long a model may be silent is the engine's to decide.
TIMEOUT = httpx2.Timeout(None, connect=10.0)
LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
NO_KEY = "none"
"""Sent to who wants no key; without any, the client libraries look for one in the environment."""


class DirectProvider(ABC):
    """One configured provider: one HTTP client for all its models."""

    insists_on_tools = False
    """Whether its API refuses what holds calls from before and defines no tools."""

    def __init__(self, name: str, settings: Provider) -> None:
        self.name = name
        key = settings.api_key.reveal() if settings.api_key else None
        self._failures = Failures(name, key)
        self._models: dict[str, DirectModel] = {}
        # The first model of a process loads tables for 0.2 s: at the start, not in somebody's turn.
        self._open("any/model")

    def model(self, name: str) -> DirectModel:
        """One of its models. Raises ProviderRefused when it can have none of that name."""
        if name not in self._models:
            try:
                opened = self._open(name)
            except UserError as error:
                raise self._failures.translate(error, model=name) from None
            self._models[name] = DirectModel(
                opened, self._failures, insists_on_tools=self.insists_on_tools
            )
        return self._models[name]

    @abstractmethod
    async def close(self) -> None:
        """Close the HTTP client."""

    @abstractmethod
    def _open(self, name: str) -> models.Model[Any]:
        """Make pydantic-ai's model of this name; its settings are what every request gets."""


class DirectModel:
    """A model behind any API that pydantic-ai speaks."""

    def __init__(
        self, model: models.Model[Any], failures: Failures, *, insists_on_tools: bool = False
    ) -> None:
        self._model = model
        self._failures = failures
        self._insists_on_tools = insists_on_tools

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Yield one response; every failure of the provider is a ProviderError."""
        called = any(step.calls for step in prompt.steps)
        # There have to be tools in the request, and none of them may be called.
        barred = self._insists_on_tools and called and not prompt.tools
        tools = transcript.parameters_of_calls if barred else transcript.parameters
        try:
            async with model_request_stream(
                self._model,
                transcript.messages(prompt),
                model_settings=_settings(prompt, barred=barred),
                model_request_parameters=tools(prompt),
                instrument=False,
            ) as stream:
                async for event in stream:
                    if (delta := _delta(event)) is not None:
                        yield delta
                response = stream.get()
        except Exception as error:
            # Not chained: the client's own errors quote the provider, which may quote the key.
            raise self._failures.translate(error, model=self._model.model_name) from None
        cut = response.finish_reason == "length"
        self._check(response, cut=cut)
        for part in response.tool_calls:
            # As the model wrote it: what is wrong with it is for the tool to say.
            written = part.args if isinstance(part.args, str) else part.args_as_json_str()
            yield ToolCall(part.tool_call_id, part.tool_name, written or "{}")
        yield Finished(_usage(response), transcript.metadata(response), cut)

    def _check(self, response: ModelResponse, *, cut: bool) -> None:
        """Raise unless the response is whole and says something."""
        name = self._failures.provider
        reason = _details(response).get("finish_reason")
        if response.finish_reason == "error" or reason == "error":
            raise ProviderGone(f"The provider {name} failed in mid-answer.")
        if response.finish_reason == "content_filter":
            raise ProviderRefused(f"The provider {name} filtered the answer.")
        if not reason:
            # Whatever the transport says: only the provider knows whether that was all.
            raise ProviderGone(f"The provider {name} broke off in mid-answer.")
        if not (cut or (response.text or "").strip() or response.tool_calls):
            raise ProviderGone(f"The provider {name} answered nothing.")


def http_client(timeout: httpx2.Timeout) -> httpx2.AsyncClient:
    """Make a client that knows nothing of the environment: no proxies, no netrc.

    Its timeout holds for every request, whatever the library that sends them asks for.
    """
    return httpx2.AsyncClient(
        trust_env=False,
        timeout=timeout,
        limits=LIMITS,
        event_hooks={"request": [_Deadlines(timeout)]},
    )


class _Deadlines:
    """Puts one timeout on every request of a client."""

    def __init__(self, timeout: httpx2.Timeout) -> None:
        self._timeout = timeout.as_dict()

    async def __call__(self, request: httpx2.Request) -> None:
        request.extensions = {**request.extensions, "timeout": self._timeout}


def _settings(prompt: Prompt, *, barred: bool) -> ModelSettings | None:
    settings = ModelSettings()
    if prompt.output_tokens is not None:
        settings["max_tokens"] = prompt.output_tokens
    if barred:
        settings["tool_choice"] = "none"
    return settings or None


def _delta(event: ModelResponseStreamEvent) -> TextDelta | ThinkingDelta | None:
    match event:
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)) if text:
            return TextDelta(text)
        case PartStartEvent(part=TextPart(content=text)) if text:
            return TextDelta(text)
        case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text)) if text:
            return ThinkingDelta(text)
        case PartStartEvent(part=ThinkingPart(content=text)) if text:
            return ThinkingDelta(text)
        case _:
            return None


def _usage(response: ModelResponse) -> Usage:
    """The tokens, and the cost when the provider itself tells it."""
    cost = _details(response).get("cost")
    micros = round(Decimal(str(cost)) * 1_000_000) if isinstance(cost, int | float) else 0
    return Usage(
        response.usage.input_tokens, response.usage.output_tokens, cost_micros=max(micros, 0)
    )


def _details(response: ModelResponse) -> Mapping[str, Any]:
    return response.provider_details or {}
