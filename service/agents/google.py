"""Google's Gemini API, through pydantic-ai. Import it only when such a provider is configured."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import httpx2
from google import genai
from google.genai.client import DebugConfig
from google.genai.types import HttpOptions
from pydantic_ai import RunContext, models
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.google import GoogleModel, GoogleModelSettings
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.settings import ModelSettings

from service.agents.direct import NO_KEY, TIMEOUT, DirectProvider, http_client
from service.config import Provider

_BASE_URL = "https://generativelanguage.googleapis.com"
# Otherwise it takes a recording of answers from where the environment says.
_LIVE = DebugConfig(client_mode=None, replays_directory=None, replay_id=None)
_THOUGHTS = GoogleModelSettings(google_thinking_config={"include_thoughts": True})


class GeminiProvider(DirectProvider):
    """Google's Gemini API, or a server that speaks as it does."""

    def __init__(self, name: str, settings: Provider, *, timeout: httpx2.Timeout = TIMEOUT) -> None:
        self._http = http_client(timeout)
        self._http.event_hooks = {**self._http.event_hooks, "response": [_make_cuttable]}
        self._client = genai.Client(
            vertexai=False,
            api_key=settings.api_key.reveal() if settings.api_key else NO_KEY,
            debug_config=_LIVE,
            # Without retry options it asks only once: retrying is the engine's.
            http_options=HttpOptions(
                base_url=settings.base_url or _BASE_URL, httpx_async_client=self._http
            ),
        )
        super().__init__(name, settings)

    async def close(self) -> None:
        """Close the HTTP clients, also the one the library makes and nobody uses."""
        await self._http.aclose()
        self._client.close()

    def _open(self, name: str) -> models.Model[Any]:
        model = _LeavableModel(name, provider=GoogleProvider(client=self._client))
        if not model.profile.get("supports_thinking"):
            return model
        provider = GoogleProvider(client=self._client)
        return _LeavableModel(name, provider=provider, settings=_THOUGHTS)


class _LeavableModel(GoogleModel):
    """Lets go of the connection when a stream is left.

    The client library leaves that to the garbage collector, which may take minutes.
    """

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        bodies: list[_Body] = []
        _bodies.set(bodies)
        asking = super().request_stream(
            messages, model_settings, model_request_parameters, run_context
        )
        try:
            async with asking as stream:
                try:
                    yield stream
                finally:
                    await _end(stream, bodies)
        finally:
            for body in bodies:
                await body.aclose()


async def _end(stream: StreamedResponse, bodies: list[_Body]) -> None:
    """Let everything that still reads come to an end of its own."""
    for body in bodies:
        body.cut = True
    with suppress(Exception):
        async for _ in stream:
            pass


class _Body(httpx2.AsyncByteStream):
    """The bytes of a response; they end when it is cut."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self.cut = False

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        reading: Any = aiter(self._stream)
        async with aclosing(reading):
            async for chunk in reading:
                yield chunk
                if self.cut:
                    return

    async def aclose(self) -> None:
        await self._stream.aclose()


_bodies: ContextVar[list[_Body]] = ContextVar("bodies")
"""What the request that is being made adds its response to."""


async def _make_cuttable(response: httpx2.Response) -> None:
    bodies = _bodies.get(None)
    if bodies is not None and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Body(response.stream)
        bodies.append(response.stream)
