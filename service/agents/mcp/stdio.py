"""Servers that are child processes and speak on their standard streams.

The SDK has such a transport, too. Ours bounds what a child may say, keeps the service's environment
to itself, reads the child's stderr, and ends children sooner.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from service.agents.mcp.connection import Broken
from service.agents.mcp.line import BYTES_PER_SECOND, LONGEST_MESSAGE, Line
from service.agents.mcp.pace import Murmur, Pace
from service.config import Mcp

_INHERITED = ("PATH", "HOME", "LANG")
_CHUNK = 4096
_MOST_UNREAD = 4 * 1024 * 1024
_GRACE_SECONDS = 0.4
_TERMINATE_SECONDS = 0.6
_KILL_SECONDS = 0.4


@asynccontextmanager
async def line(name: str, settings: Mcp) -> AsyncGenerator[Line]:
    """Run the server for as long as the context lasts. Raises `Broken` when it cannot start."""
    child = await _start(settings)
    murmur = Murmur(name)
    listening = asyncio.create_task(child.listen(murmur))
    spoken = Spoken(child.stdout, murmur)
    try:
        yield Line(spoken, Written(child.stdin), lambda: spoken.problem)
    finally:
        try:
            await child.end()
        finally:
            listening.cancel()


async def _start(settings: Mcp) -> Child:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    configured = {name: value.reveal() for name, value in settings.env.items()}
    loop = asyncio.get_running_loop()
    # What create_subprocess_exec does, but it keeps the transport, the only way to close the pipes
    # of a child whose own children hold them.
    factory = partial(_Streams, limit=LONGEST_MESSAGE, loop=loop)
    try:
        transport, protocol = await loop.subprocess_exec(
            factory,
            *settings.command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=inherited | configured,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Broken(f"cannot be started: {reason}") from error
    return Child(transport, Process(transport, protocol, loop), protocol.exited)


class _Streams(SubprocessStreamProtocol):
    """Also tells when the process exited. `Process.wait` waits for its pipes, too."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


class Child:
    """A running server and its process group."""

    def __init__(
        self, transport: asyncio.SubprocessTransport, process: Process, exited: asyncio.Event
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self._transport = transport
        self._process = process
        self._exited = exited

    async def listen(self, murmur: Murmur) -> None:
        """Take what the child writes to its stderr, so that it never waits for us."""
        assert self._process.stderr is not None
        pace = Pace(BYTES_PER_SECOND)
        while chunk := await self._process.stderr.read(_CHUNK):
            await pace.take(len(chunk))
            for text in chunk.decode(errors="replace").splitlines():
                murmur.note("mcp.stderr", text)

    async def end(self) -> None:
        """Let the child end, make it end, and kill what is left of its group."""
        try:
            self.stdin.close()
            if not await self._ends_within(_GRACE_SECONDS):
                self._signal(signal.SIGTERM)
                await self._ends_within(_TERMINATE_SECONDS)
        finally:
            self._signal(signal.SIGKILL)
            await self._ends_within(_KILL_SECONDS)
            self._transport.close()

    async def _ends_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        except TimeoutError:
            return False
        return True

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class Spoken:
    """The messages on a child's stdout; lines that are none are left out."""

    def __init__(self, stdout: asyncio.StreamReader, murmur: Murmur) -> None:
        self._stdout = stdout
        self._murmur = murmur
        self._pace = Pace(BYTES_PER_SECOND)
        self.problem = ""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        while line := await self._line():
            await self._pace.take(len(line))
            try:
                return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValueError:
                self._murmur.note("mcp.stdout", line[:_CHUNK].decode(errors="replace"))
        self.problem = self.problem or "the server's process ended"
        raise StopAsyncIteration

    async def _line(self) -> bytes:
        try:
            return await self._stdout.readline()
        except ValueError:
            # It is not known which call this was the answer to, so it breaks off all of them.
            self.problem = f"the server sent more than {LONGEST_MESSAGE} bytes at once"
        except OSError as error:
            self.problem = type(error).__name__
        return b""


class Written:
    """A child's stdin, as the SDK's write stream. It never waits, so nothing can hang on it."""

    def __init__(self, stdin: asyncio.StreamWriter) -> None:
        self._stdin = stdin
        self._closed = False

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message."""
        if self._closed or self._stdin.is_closing():
            raise anyio.ClosedResourceError
        if self._stdin.transport.get_write_buffer_size() > _MOST_UNREAD:
            raise anyio.BrokenResourceError
        text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        self._stdin.write(text.encode() + b"\n")

    async def aclose(self) -> None:
        """Take no more messages."""
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
