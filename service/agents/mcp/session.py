"""A session with a server, by the SDK; imported only when a server is configured."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import mcp_types as types
import structlog
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from pydantic import BaseModel, ValidationError

from service.agents.mcp import http, results, stdio
from service.agents.mcp.connection import Answer, Broken, Listed, Rejected
from service.agents.mcp.line import Line
from service.agents.mcp.pace import Pace
from service.config import Mcp
from service.core.text import clean

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_INITIALISE_SECONDS = 10.0
_PING_SECONDS = 3.0
_MOST_PAGES = 32
_MOST_ENTRIES = 1024
_LONGEST_REASON = 500
_MESSAGES_PER_SECOND = 2_000
_CLIENT = types.Implementation(name="ringback", version="1")
_Result = TypeVar("_Result", bound=BaseModel)
_CLOSED = (anyio.BrokenResourceError, anyio.ClosedResourceError)

# They tell of every oddity of a server, with a traceback and as often as the server likes. What
# matters of it reaches our log as the reason why a connection ended.
for _logger in ("mcp", "client"):
    logging.getLogger(_logger).setLevel(logging.CRITICAL)


@asynccontextmanager
async def connect(name: str, settings: Mcp) -> AsyncGenerator[Session]:
    """Connect to a server and initialise. Raises `Broken`, also when the connection ends."""
    try:
        async with _line(name, settings) as line:
            heard = Heard(line)
            async with ClientSession(heard, line.write, client_info=_CLIENT) as client:
                session = Session(client, heard, line)
                await session.initialise()
                yield session
    except Exception as error:
        # The SDK's task groups wrap whatever passes through them.
        raise Broken(_reason(error)) from error


def _line(name: str, settings: Mcp) -> AbstractAsyncContextManager[Line]:
    return stdio.line(name, settings) if settings.command else http.line(settings)


def _reason(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return _reason(error.exceptions[0])
    if isinstance(error, Broken):
        return str(error)
    if not isinstance(error, (MCPError, *_CLOSED)):
        log.error("mcp.unexpected", exc_info=error)
    return type(error).__name__


def _words(text: str) -> str:
    return clean(text[:_LONGEST_REASON])


class Session:
    """Implements `Connection`."""

    def __init__(self, client: ClientSession, heard: Heard, line: Line) -> None:
        self._client = client
        self._heard = heard
        self._line = line

    async def initialise(self) -> None:
        """Agree on a version. Raises `Broken`."""
        try:
            async with asyncio.timeout(_INITIALISE_SECONDS):
                await self._client.initialize()
        except TimeoutError as error:
            raise Broken(f"did not initialise within {_INITIALISE_SECONDS:g} s") from error
        except (MCPError, RuntimeError, ValidationError) as error:
            raise self._broken(error) from error

    async def pages(self) -> AsyncIterator[Sequence[Listed]]:
        """Implement `Connection`."""
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor)
            page = await self._ask(types.ListToolsRequest(params=params), types.ListToolsResult)
            yield [Listed(one.name, one.description or "", one.input_schema) for one in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                return

    async def call(self, tool: str, arguments: Mapping[str, Any], *, data: bool = False) -> Answer:
        """Implement `Connection`."""
        # Not the SDK's call_tool: it checks the result against a schema of the server's, with
        # regular expressions that may take for ever, and lists the tools again in between.
        params = types.CallToolRequestParams(name=tool, arguments=dict(arguments))
        result = await self._ask(types.CallToolRequest(params=params), types.CallToolResult)
        if data:
            # Much data takes too long for the event loop.
            return await asyncio.to_thread(results.answer, result, data=True)
        return results.answer(result)

    def doubt(self) -> None:
        """Implement `Connection`."""
        self._heard.stirred.set()

    async def watch(self) -> None:
        """Implement `Connection`."""
        while not self._heard.over:
            await self._heard.stirred.wait()
            self._heard.stirred.clear()
            await self._ping()
        raise Broken(self._line.problem() or "the server ended the connection")

    async def _ping(self) -> None:
        if self._heard.over:
            return
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await self._client.send_ping()
        except TimeoutError as error:
            raise Broken(f"did not answer a ping within {_PING_SECONDS:g} s") from error
        except ValidationError:
            return
        except MCPError as error:
            # Any answer is a sign of life.
            if self._is_lost(error):
                raise self._broken(error) from error

    async def _ask(self, request: types.ClientRequest, kind: type[_Result]) -> _Result:
        try:
            return await self._client.send_request(request, kind)
        except MCPError as error:
            if self._is_lost(error):
                raise self._broken(error) from error
            raise Rejected(_words(error.message)) from error
        except ValidationError as error:
            raise Rejected("the server's answer is not what the protocol asks for") from error

    def _is_lost(self, error: MCPError) -> bool:
        """Whether nobody knows what became of the request."""
        closed = error.code == types.CONNECTION_CLOSED
        return closed or self._heard.over

    def _broken(self, error: Exception) -> Broken:
        said = _words(error.message) if isinstance(error, MCPError) else type(error).__name__
        return Broken(self._line.problem() or said)


class Heard:
    """What the session hears of its server: answers, and nothing else.

    We offer no sampling, no elicitation and no roots, follow no progress and no log: so requests
    of the server are answered right here, one after the other, and its notifications dropped.
    A server that talks too much waits, and the SDK never starts a task for what it says.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._pace = Pace(_MESSAGES_PER_SECOND)
        self.stirred = asyncio.Event()
        """Set when the connection ended, or is in doubt."""
        self.over = False

    async def receive(self) -> SessionMessage | Exception:
        """The next answer. Implements the SDK's read stream, like everything below."""
        try:
            return await anext(self)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    async def aclose(self) -> None:
        """Nothing more will be read."""
        self._end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            async for item in self._line.read:
                await self._pace.take(1)
                if isinstance(item, SessionMessage) and await self._is_answer(item):
                    return item
        except _CLOSED:
            pass
        self._end()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.over = True
        self.stirred.set()

    async def _is_answer(self, item: SessionMessage) -> bool:
        match item.message:
            case types.JSONRPCRequest(id=number, method=method):
                with suppress(*_CLOSED):
                    await self._line.write.send(SessionMessage(_reply(number, method)))
                return False
            case types.JSONRPCNotification():
                return False
            case types.JSONRPCResponse(result=result):
                _shorten(result)
        return True


def _reply(number: types.RequestId, method: str) -> types.JSONRPCMessage:
    if method == "ping":
        return types.JSONRPCResponse(jsonrpc="2.0", id=number, result={})
    error = types.ErrorData(code=types.METHOD_NOT_FOUND, message="this client offers only tools")
    return types.JSONRPCError(jsonrpc="2.0", id=number, error=error)


def _shorten(result: dict[str, Any]) -> None:
    """Drop what is beyond any use before the SDK makes objects of it, which takes long."""
    for name in ("tools", "content"):
        entries = result.get(name)
        if isinstance(entries, list):
            del entries[_MOST_ENTRIES:]
