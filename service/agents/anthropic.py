"""Anthropic's messages, through pydantic-ai. Import it only when such a provider is configured."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
from pydantic_ai import models
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.settings import ModelSettings

from service.agents.direct import NO_KEY, TIMEOUT, DirectProvider, http_client
from service.config import Provider

_BASE_URL = "https://api.anthropic.com"
# This API wants to be told a limit always.
_SETTINGS = ModelSettings(max_tokens=8192)


class MessagesProvider(DirectProvider):
    """Anthropic, or a server that speaks as it does."""

    insists_on_tools = True

    def __init__(self, name: str, settings: Provider, *, timeout: httpx2.Timeout = TIMEOUT) -> None:
        self._client = anthropic.AsyncAnthropic(
            base_url=settings.base_url or _BASE_URL,
            api_key=settings.api_key.reveal() if settings.api_key else NO_KEY,
            # The service retries by its own rules, and says so in the feed.
            max_retries=0,
            timeout=timeout,
            http_client=http_client(timeout),
            open_telemetry=False,
        )
        # Taken from the environment, and told to whatever provider is configured.
        self._client._custom_headers = {}  # noqa: SLF001 -- there is no other way to have none
        super().__init__(name, settings)

    async def close(self) -> None:
        """Close the HTTP client."""
        await self._client.close()

    def _open(self, name: str) -> models.Model[Any]:
        provider = AnthropicProvider(anthropic_client=self._client)
        return AnthropicModel(name, provider=provider, settings=_SETTINGS)
