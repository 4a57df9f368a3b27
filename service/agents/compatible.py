"""OpenAI-compatible providers, through pydantic-ai. Import it only when one is configured."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import openai
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
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.openrouter import OpenRouterModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.providers.openrouter import OpenRouterProvider

from service.agents import transcript
from service.agents.failures import Failures
from service.config import Provider
from service.core.model import Usage
from service.errors import ProviderGone, ProviderRefused
from service.ports import Finished, ModelEvent, Prompt, TextDelta, ThinkingDelta, ToolCall

_BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "ollama": "http://127.0.0.1:11434/v1",
}
# Silence has no limit here: how long a model may be silent is the engine's to decide.
_TIMEOUT = openai.Timeout(None, connect=10.0)
# A stream without a finish reason was cut, whatever the transport says; by default it passes as
# whole.
_PROFILE = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)


class CompatibleProvider:
    """One configured provider: one HTTP client for all its models."""

    def __init__(
        self, name: str, settings: Provider, *, timeout: openai.Timeout = _TIMEOUT
    ) -> None:
        self.name = name
        key = settings.api_key.reveal() if settings.api_key else None
        self._failures = Failures(name, key)
        self._settings = settings
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url or _BASE_URLS[settings.kind],
            api_key=key or "none",
            # The service retries by its own rules, and says so in the feed.
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAioHttpClient(),
        )
        # Taken from the environment otherwise, and told to whatever provider is configured.
        self._client.organization = None
        self._client.project = None
        self._models: dict[str, CompatibleModel] = {}
        # The first model of a process loads tables for 0.2 s: at the start, not in somebody's turn.
        self._chat_model("any/model")

    def model(self, name: str) -> CompatibleModel:
        """One of its models. Raises ProviderRefused when it can have none of that name."""
        if name not in self._models:
            try:
                chat = self._chat_model(name)
            except UserError as error:
                raise self._failures.translate(error, model=name) from None
            self._models[name] = CompatibleModel(chat, self._failures)
        return self._models[name]

    async def close(self) -> None:
        """Close the HTTP client."""
        await self._client.close()

    def _chat_model(self, name: str) -> OpenAIChatModel:
        client = self._client
        match self._settings.kind:
            case "openrouter":
                router = OpenRouterProvider(openai_client=client)
                return OpenRouterModel(name, provider=router, profile=_PROFILE)
            case "ollama":
                ollama = OllamaProvider(openai_client=client)
                return OllamaModel(name, provider=ollama, profile=_PROFILE)
            case _ if self._settings.base_url is None:
                return OpenAIChatModel(
                    name, provider=OpenAIProvider(openai_client=client), profile=_PROFILE
                )
            case _:
                # It must not be sent what only OpenAI's own servers understand.
                other = OpenAICompatibleProvider(self.name, openai_client=client)
                return OpenAIChatModel(name, provider=other, profile=_PROFILE)


class CompatibleModel:
    """A model behind an OpenAI-compatible API."""

    def __init__(self, model: OpenAIChatModel, failures: Failures) -> None:
        self._model = model
        self._failures = failures

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Yield one response; every failure of the provider is a ProviderError."""
        try:
            async with model_request_stream(
                self._model,
                transcript.messages(prompt),
                model_request_parameters=transcript.parameters(prompt),
                instrument=False,
            ) as stream:
                async for event in stream:
                    if (delta := _delta(event)) is not None:
                        yield delta
                response = stream.get()
        except Exception as error:
            # Not chained: the client's own errors quote the provider, which may quote the key.
            raise self._failures.translate(error, model=self._model.model_name) from None
        self._check(response)
        for part in response.tool_calls:
            # As the model wrote it: what is wrong with it is for the tool to say.
            written = part.args if isinstance(part.args, str) else part.args_as_json_str()
            yield ToolCall(part.tool_call_id, part.tool_name, written or "{}")
        usage = Usage(response.usage.input_tokens, response.usage.output_tokens)
        yield Finished(usage, transcript.metadata(response))

    def _check(self, response: ModelResponse) -> None:
        """Raise unless the response is whole and says something."""
        name = self._failures.provider
        if (response.provider_details or {}).get("finish_reason") == "error":
            raise ProviderGone(f"The provider {name} failed in mid-answer.")
        if response.finish_reason == "content_filter":
            raise ProviderRefused(f"The provider {name} filtered the answer.")
        if not (response.text or "").strip() and not response.tool_calls:
            raise ProviderGone(f"The provider {name} answered nothing.")


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
