"""What the local providers have in common: scripts, memory, and the ways in which they break.

Each of them speaks one API as the real one does, checks what clients get wrong (key, model, order
of tool messages, thoughts that were changed), remembers every request, and streams what it is told.
"""

from __future__ import annotations

import asyncio
import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

KEY = "sk-test-0123456789abcdef"

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with an error status instead of a stream."""

    status: int
    message: str = "no"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent as it is, in place of an error object."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Break the connection without a word."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Say nothing more until the client leaves."""


Stream = Sequence[bytes | Cut | Hang]
Script = Refusal | Stream | Callable[[Body], Stream]
"""What a request gets; a function is asked with the request."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call whose arguments come in pieces, where the API has pieces."""

    id: str
    tool: str
    pieces: tuple[str, ...] = ("{}",)

    @property
    def arguments(self) -> str:
        """All of them."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, in no API's words."""

    words: tuple[str, ...] = ()
    thoughts: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    finish: Literal["stop", "length", "filter"] = "stop"
    tokens: tuple[int, int] = (7, 3)

    @property
    def seal(self) -> str:
        """What a provider that seals thoughts wants back with them."""
        return sealed("".join(self.thoughts))


Line = tuple[str, str, object]
"""Something in a request, in no API's words: who, what kind of thing, and the thing.

("user", "text", words), ("user", media type, bytes), ("user", "result", (id, words, failed)),
("assistant", "thought", words), ("assistant", "call", (id, tool, arguments)), ("system", ...).
"""


def sealed(thought: str) -> str:
    """The seal of a thought: bytes in base64, as they all have it."""
    return base64.b64encode(b"sealed " + thought.encode()).decode()


class ProviderServer(ABC):
    """Answers with its scripts in turn; the last one repeats."""

    model = "test/model-1"
    path: str
    """Where it is asked."""
    root = ""
    """What of the path belongs to the base URL of a client."""

    def __init__(self) -> None:
        self.scripts: list[Script] = [self.tell(Answer(("Hello", " there", ".")))]
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.connections = 0
        self.left = asyncio.Event()
        """Set when a client went away in the middle of a stream."""
        self._transports: set[object] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**24)
        app.router.add_post(self.path, self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}{self.root}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def play(self, *scripts: Script) -> None:
        """Answer the requests from now on with these."""
        self.scripts = list(scripts)
        self.requests.clear()
        self.headers.clear()

    @property
    def open_connections(self) -> int:
        """How many clients are connected now."""
        assert self._runner is not None
        assert self._runner.server is not None
        return len(self._runner.server.connections)

    @abstractmethod
    def tell(self, answer: Answer) -> list[bytes]:
        """Put an answer into the events of this API."""

    @abstractmethod
    def lines(self, body: Body) -> list[Line]:
        """Put a request into no API's words."""

    @abstractmethod
    def told_failure(self, status: int, message: str) -> bytes:
        """Tell in the middle of a stream that it failed, as with this status."""

    @abstractmethod
    def overflow(self) -> Refusal:
        """Say that the conversation is longer than the model's memory."""

    @abstractmethod
    def broke(self) -> Refusal:
        """Say that nobody paid."""

    @property
    def heard(self) -> list[Line]:
        """The newest request."""
        return self.lines(self.requests[-1])

    @abstractmethod
    def _problem(self, request: web.Request, body: Body) -> Refusal | None:
        """What the real one would find wrong with this request."""

    @abstractmethod
    def _error(self, refusal: Refusal) -> Body:
        """The body of an error."""

    def _withholds(self, body: Body, event: bytes) -> bool:
        """Whether this request did not ask for such an event."""
        return False

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.transport not in self._transports:
            self._transports.add(request.transport)
            self.connections += 1
        body = await request.json()
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        refusal = script if isinstance(script, Refusal) else self._problem(request, body)
        if refusal is not None:
            return self._refuse(refusal)
        stream = script(body) if callable(script) else script
        assert not isinstance(stream, Refusal)
        return await self._stream(request, body, stream)

    async def _stream(self, request: web.Request, body: Body, stream: Stream) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for step in stream:
                if isinstance(step, Cut):
                    assert request.transport is not None
                    request.transport.close()
                    return response
                if isinstance(step, Hang):
                    await asyncio.Event().wait()
                elif not self._withholds(body, step):
                    await response.write(step)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        await response.write_eof()
        return response

    def _refuse(self, refusal: Refusal) -> web.Response:
        if refusal.body is None:
            error = self._error(refusal)
            return web.json_response(error, status=refusal.status, headers=refusal.headers)
        return web.Response(
            status=refusal.status,
            body=refusal.body,
            headers=refusal.headers,
            content_type="text/html",
        )


def unanswered(lines: Sequence[Line]) -> str | None:
    """What is wrong with the order of calls and results."""
    waiting: set[object] = set()
    for who, what, thing in lines:
        if what == "result":
            assert isinstance(thing, tuple)
            if thing[0] not in waiting:
                return "a result must follow the call it answers"
            waiting.remove(thing[0])
        elif what == "call":
            assert isinstance(thing, tuple)
            waiting.add(thing[0])
        elif waiting and who != "assistant":
            break
    return f"these calls have no result: {sorted(map(str, waiting))}" if waiting else None


def result(call: str, text: str) -> Line:
    """A result in words, of an API that has no other way to say that a tool failed."""
    failed = text.startswith('{"error":')
    return ("user", "result", (call, json.loads(text)["error"] if failed else text, failed))
