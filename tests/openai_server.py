"""A local server that speaks OpenAI's chat completions as providers do, from scripts.

It checks what clients get wrong (key, model, order of tool messages), streams server-sent events
in the chunks it is told, remembers every request, and breaks in the ways providers break.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

KEY = "sk-test-0123456789abcdef"
MODEL = "test/model-1"

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


def chunk(
    delta: Body | None = None, *, finish: str | None = None, usage: Body | None = None
) -> bytes:
    """One event of a stream."""
    choices = [] if usage else [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return event({"choices": choices, "usage": usage})


def event(data: Body) -> bytes:
    """One event with the fields that every chunk has."""
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        **data,
    }
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


def words(*texts: str) -> list[bytes]:
    """Parts of the answer, after the chunk that every answer begins with."""
    start = chunk({"role": "assistant", "content": ""})
    return [start, *(chunk({"content": text}) for text in texts)]


def thoughts(*texts: str, name: str = "reasoning_content") -> list[bytes]:
    """Parts of what the model thinks aloud."""
    return [chunk({name: text}) for text in texts]


def signed_thoughts(text: str, signature: str) -> list[bytes]:
    """A thought as routers pass it on: it has to come back unchanged."""
    kind = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    details = [{**kind, "text": text}, {**kind, "text": "", "signature": signature}]
    return [chunk({"reasoning": one["text"], "reasoning_details": [one]}) for one in details]


def call(name: str, *arguments: str, place: int = 0) -> list[bytes]:
    """A tool call whose arguments come in pieces."""
    start = {
        "index": place,
        "id": f"call_{place}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    pieces = [{"index": place, "function": {"arguments": piece}} for piece in arguments]
    return [chunk({"tool_calls": [one]}) for one in (start, *pieces)]


def end(finish: str = "stop", *, tokens: tuple[int, int] = (7, 3)) -> list[bytes]:
    """How a whole stream ends: the reason, the usage, the mark."""
    usage = {
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "total_tokens": sum(tokens),
    }
    return [chunk(finish=finish), chunk(usage=usage), b"data: [DONE]\n\n"]


def answer(*texts: str) -> list[bytes]:
    """A whole answer in words."""
    return [*words(*texts), *end()]


class OpenAIServer:
    """Answers with its scripts in turn; the last one repeats."""

    def __init__(self) -> None:
        self.scripts: list[Script] = [answer("Hello", " there", ".")]
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.connections = 0
        self.left = asyncio.Event()
        """Set when a client went away in the middle of a stream."""
        self._transports: set[object] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
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

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the newest request."""
        messages: list[dict[str, Any]] = self.requests[-1]["messages"]
        return messages

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        if request.transport not in self._transports:
            self._transports.add(request.transport)
            self.connections += 1
        body = await request.json()
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        refusal = script if isinstance(script, Refusal) else _refusal(request, body)
        if refusal is not None:
            return _refuse(refusal)
        stream = script(body) if callable(script) else script
        assert not isinstance(stream, Refusal)
        return await self._stream(request, body, stream)

    async def _stream(self, request: web.Request, body: Body, stream: Stream) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with_usage = (body.get("stream_options") or {}).get("include_usage")
        try:
            for step in stream:
                if isinstance(step, Cut):
                    assert request.transport is not None
                    request.transport.close()
                    return response
                if isinstance(step, Hang):
                    await asyncio.Event().wait()
                elif with_usage or b'"prompt_tokens"' not in step:
                    await response.write(step)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        await response.write_eof()
        return response


def _refuse(refusal: Refusal) -> web.Response:
    if refusal.body is not None:
        return web.Response(
            status=refusal.status,
            body=refusal.body,
            headers=refusal.headers,
            content_type="text/html",
        )
    error = {
        "message": refusal.message,
        "type": "invalid_request_error" if refusal.status < 500 else "server_error",
        "param": None,
        "code": refusal.code,
    }
    return web.json_response({"error": error}, status=refusal.status, headers=refusal.headers)


def _refusal(request: web.Request, body: Body) -> Refusal | None:
    """What a real provider would find wrong with this request."""
    if request.headers.get("Authorization") != f"Bearer {KEY}":
        return Refusal(401, "Incorrect API key provided.", "invalid_api_key")
    if body.get("model") != MODEL:
        return Refusal(404, f"The model {body.get('model')!r} does not exist.", "model_not_found")
    if body.get("stream") is not True:
        return Refusal(400, "This server only streams.")
    problem = _problem(body.get("messages") or [])
    return Refusal(400, problem) if problem else None


def _problem(messages: Sequence[Body]) -> str | None:
    """What is wrong with the order of the messages."""
    if not messages:
        return "messages must not be empty"
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return "a tool message must follow the call it answers"
            open_calls.remove(message["tool_call_id"])
        elif open_calls:
            return f"these calls have no answer: {sorted(open_calls)}"
        open_calls |= {one["id"] for one in message.get("tool_calls") or ()}
    return f"these calls have no answer: {sorted(open_calls)}" if open_calls else None
