"""Servers over streamable HTTP, by the SDK's transport on a client that bounds what it takes."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED

from service.agents.mcp.connection import Broken
from service.agents.mcp.line import BYTES_PER_SECOND, LONGEST_MESSAGE, Line
from service.agents.mcp.pace import Pace
from service.config import Mcp

_EVENTS = "text/event-stream"
_LAST_EVENT = "last-event-id"
_MOST_CONNECTIONS = 32
_CONNECT_SECONDS = 10.0
# An answer that nobody waits for any more is read for so long, then its connection is closed.
_LATE_SECONDS = 10.0
_FAREWELL = httpx2.Timeout(1.0)


@asynccontextmanager
async def line(settings: Mcp) -> AsyncGenerator[Line]:
    """Reach the server for as long as the context lasts."""
    assert settings.url is not None
    longest = settings.timeout.total_seconds() + _LATE_SECONDS
    try:
        client = httpx2.AsyncClient(
            transport=Carrier(longest),
            # A small answer that unpacks to a huge one would pass every other bound.
            headers={**_revealed(settings), "accept-encoding": "identity"},
            timeout=httpx2.Timeout(_CONNECT_SECONDS, read=longest),
            trust_env=False,
        )
    except ValueError as error:
        # Its text would show the value.
        raise Broken("a configured header cannot be sent; use plain ASCII") from error
    streams = streamable_http_client(
        settings.url, http_client=client, max_sse_event_size=LONGEST_MESSAGE
    )
    async with client, streams as (read, write):
        yield Line(aiter(read), write)


def _revealed(settings: Mcp) -> dict[str, str]:
    return {name: value.reveal() for name, value in settings.headers.items()}


class Carrier(httpx2.AsyncBaseTransport):
    """Sends requests, and bounds what comes back.

    A request that fails is answered with an error of the protocol that says why. Otherwise the SDK
    would end the session, and every other call with it, or not tell the reason.
    """

    def __init__(self, longest: float) -> None:
        """`longest` is how many seconds one answer may take."""
        self._longest = longest
        limits = httpx2.Limits(max_connections=_MOST_CONNECTIONS)
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False, limits=limits)
        self._pace = Pace(BYTES_PER_SECOND)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        if request.method == "GET" and _LAST_EVENT not in request.headers:
            # A channel for what the server says unasked, and we drop all of that.
            return httpx2.Response(405)
        if request.method == "DELETE":
            request.extensions["timeout"] = _FAREWELL.as_dict()
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            return _failed(type(error).__name__)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            return _failed("the server sends compressed answers")
        if request.method == "POST" and response.status_code >= 400:
            await response.aclose()
            return _failed(f"HTTP {response.status_code}")
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=self._bounded(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    def _bounded(self, response: httpx2.Response) -> Bounded:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        # The SDK bounds the events of a stream one by one.
        events = response.headers.get("content-type", "").lower().startswith(_EVENTS)
        most = None if events else LONGEST_MESSAGE
        return Bounded(response.stream, self._pace, most, time.monotonic() + self._longest)


def _failed(problem: str) -> httpx2.Response:
    error = {"code": CONNECTION_CLOSED, "message": problem}
    return httpx2.Response(503, json={"jsonrpc": "2.0", "id": None, "error": error})


class Bounded(httpx2.AsyncByteStream):
    """A body that comes no faster than it should, and ends with an error where it is too long.

    It is an error that the SDK takes for one of this body alone.
    """

    def __init__(
        self, inner: httpx2.AsyncByteStream, pace: Pace, most: int | None, until: float
    ) -> None:
        self._inner = inner
        self._pace = pace
        self._most = most
        self._until = until

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._inner:
                size += len(chunk)
                if self._most is not None and size > self._most:
                    raise httpx2.StreamError(f"it is longer than {self._most} bytes")
                if time.monotonic() > self._until:
                    raise httpx2.StreamError("it took too long")
                await self._pace.take(len(chunk))
                yield chunk
        except httpx2.TransportError as error:
            raise httpx2.StreamError(type(error).__name__) from error

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._inner.aclose()
