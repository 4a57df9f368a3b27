"""OpenAI, and who speaks as it does, through pydantic-ai. Import it only when one is configured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx2
import openai
from pydantic_ai import models
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import (
    OpenAIChatModel,
    OpenAIResponsesModel,
    OpenAIResponsesModelSettings,
)
from pydantic_ai.models.openrouter import OpenRouterModel, OpenRouterModelSettings
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.providers.openrouter import OpenRouterProvider

from service.agents.direct import LIMITS, NO_KEY, TIMEOUT, DirectProvider
from service.config import Provider

_BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "ollama": "http://127.0.0.1:11434/v1",
}
# A stream without a finish reason was cut, whatever the transport says; by default it passes as
# whole.
_PROFILE = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
_COSTS = OpenRouterModelSettings(openrouter_usage={"include": True})
# The conversation is ours to keep; what a model wants to see again comes back sealed instead.
_NOT_STORED = OpenAIResponsesModelSettings(openai_store=False)


class CompatibleProvider(DirectProvider):
    """OpenAI's chat completions or responses, OpenRouter, Ollama, or any server like them."""

    def __init__(self, name: str, settings: Provider, *, timeout: httpx2.Timeout = TIMEOUT) -> None:
        self._settings = settings
        # Whoever stands between may pass it on to one of Anthropic's models.
        self.insists_on_tools = settings.kind == "openrouter" or (
            settings.kind == "openai" and settings.base_url is not None
        )
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url or _BASE_URLS[settings.kind],
            api_key=settings.api_key.reveal() if settings.api_key else NO_KEY,
            # The service retries by its own rules, and says so in the feed.
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAioHttpClient(trust_env=False, limits=LIMITS),
        )
        _forget_environment(self._client)
        _send_as_given(self._client)
        super().__init__(name, settings)

    async def close(self) -> None:
        """Close the HTTP client."""
        await self._client.close()

    def _open(self, name: str) -> models.Model[Any]:
        client = self._client
        match self._settings.kind:
            case "openrouter":
                router = OpenRouterProvider(openai_client=client)
                return OpenRouterModel(name, provider=router, profile=_PROFILE, settings=_COSTS)
            case "ollama":
                ollama = OllamaProvider(openai_client=client)
                return OllamaModel(name, provider=ollama, profile=_PROFILE)
            case _ if self._settings.api == "responses":
                openai_provider = OpenAIProvider(openai_client=client)
                return OpenAIResponsesModel(name, provider=openai_provider, settings=_NOT_STORED)
            case _ if self._settings.base_url is None:
                openai_provider = OpenAIProvider(openai_client=client)
                return OpenAIChatModel(name, provider=openai_provider, profile=_PROFILE)
            case _:
                # It must not be sent what only OpenAI's own servers understand.
                other = OpenAICompatibleProvider(self.name, openai_client=client)
                return OpenAIChatModel(name, provider=other, profile=_PROFILE)


def _send_as_given(client: openai.AsyncOpenAI) -> None:
    """Let the client pass messages on as they are.

    They are plain JSON when it gets them, and it would still walk through every part of every
    message to see what may need changing: most of the time a long conversation takes, in one
    piece during which nothing else moves.
    """
    completions = client.chat.completions
    completions.create = partial(_create, completions.create)  # type: ignore[method-assign]


async def _create(create: Callable[..., Awaitable[Any]], **request: Any) -> Any:
    extra = {**(request.get("extra_body") or {}), "messages": request["messages"]}
    return await create(**{**request, "messages": [], "extra_body": extra})


def _forget_environment(client: openai.AsyncOpenAI) -> None:
    """Take from the client what it found in the environment and would tell any provider."""
    client.organization = None
    client.project = None
    client.admin_api_key = None
    client._custom_headers = {}  # noqa: SLF001 -- there is no other way to have none
