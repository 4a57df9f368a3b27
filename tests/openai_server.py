"""A local server that speaks OpenAI's chat completions as providers do, from scripts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

from aiohttp import web

from tests.providers.server import (
    KEY,
    Answer,
    Body,
    Cut,
    Hang,
    Line,
    ProviderServer,
    Refusal,
    Script,
    Stream,
    result,
    sealed,
)

__all__ = ["KEY", "MODEL", "Body", "Cut", "Hang", "OpenAIServer", "Refusal", "Script", "Stream"]

MODEL = "test/model-1"
_FINISH = {"stop": "stop", "length": "length", "filter": "content_filter"}


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


def signed_thoughts(*texts: str) -> list[bytes]:
    """Thoughts as routers pass them on: they have to come back unchanged."""
    kind = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    details = [
        *({**kind, "text": text} for text in texts),
        {**kind, "text": "", "signature": sealed("".join(texts))},
    ]
    return [chunk({"reasoning": one["text"], "reasoning_details": [one]}) for one in details]


def call(name: str, *arguments: str, place: int = 0, call_id: str | None = None) -> list[bytes]:
    """A tool call whose arguments come in pieces."""
    start = {
        "index": place,
        "id": call_id or f"call_{place}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    pieces = [{"index": place, "function": {"arguments": piece}} for piece in arguments]
    return [chunk({"tool_calls": [one]}) for one in (start, *pieces)]


def end(
    finish: str = "stop", *, tokens: tuple[int, int] = (7, 3), cost: float | None = None
) -> list[bytes]:
    """How a whole stream ends: the reason, the usage, the mark."""
    usage = {
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "total_tokens": sum(tokens),
        **({} if cost is None else {"cost": cost}),
    }
    return [chunk(finish=finish), chunk(usage=usage), b"data: [DONE]\n\n"]


def answer(*texts: str) -> list[bytes]:
    """A whole answer in words."""
    return [*words(*texts), *end()]


class OpenAIServer(ProviderServer):
    """OpenAI's chat completions, with the thoughts as one kind of provider has them."""

    model = MODEL
    path = "/v1/chat/completions"
    root = "/v1"

    def __init__(self, kind: str = "openai") -> None:
        self._kind = kind
        super().__init__()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the newest request."""
        messages: list[dict[str, Any]] = self.requests[-1]["messages"]
        return messages

    def tell(self, answer: Answer) -> list[bytes]:
        finish = "tool_calls" if answer.calls and answer.finish == "stop" else answer.finish
        calls = [
            piece
            for place, one in enumerate(answer.calls)
            for piece in call(one.tool, *one.pieces, place=place, call_id=one.id)
        ]
        return [
            *words(),
            *self._thoughts(answer.thoughts),
            *words(*answer.words)[1:],
            *calls,
            *end(_FINISH.get(finish, finish), tokens=answer.tokens),
        ]

    def lines(self, body: Body) -> list[Line]:
        return [line for message in body["messages"] for line in _lines(message)]

    def told_failure(self, status: int, message: str) -> bytes:
        error = {"message": message, "code": status}
        return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"

    def overflow(self) -> Refusal:
        text = "This model's maximum context length is 8 tokens."
        return Refusal(400, text, "context_length_exceeded")

    def broke(self) -> Refusal:
        return Refusal(429, "You exceeded your current quota.", "insufficient_quota")

    def _thoughts(self, texts: Sequence[str]) -> list[bytes]:
        if self._kind == "openrouter":
            return signed_thoughts(*texts) if texts else []
        name = "reasoning" if self._kind == "ollama" else "reasoning_content"
        return thoughts(*texts, name=name)

    def _withholds(self, body: Body, event: bytes) -> bool:
        wanted = (body.get("stream_options") or {}).get("include_usage")
        return not wanted and b'"prompt_tokens"' in event

    def _problem(self, request: web.Request, body: Body) -> Refusal | None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return Refusal(401, "Incorrect API key provided.", "invalid_api_key")
        if body.get("model") != MODEL:
            text = f"The model {body.get('model')!r} does not exist."
            return Refusal(404, text, "model_not_found")
        if body.get("stream") is not True:
            return Refusal(400, "This server only streams.")
        problem = _problem(body.get("messages") or [])
        return Refusal(400, problem) if problem else None

    def _error(self, refusal: Refusal) -> Body:
        return {
            "error": {
                "message": refusal.message,
                "type": "invalid_request_error" if refusal.status < 500 else "server_error",
                "param": None,
                "code": refusal.code,
            }
        }


def _lines(message: Body) -> Iterator[Line]:
    if message["role"] == "tool":
        yield result(message["tool_call_id"], message["content"])
        return
    if thought := message.get("reasoning_content") or message.get("reasoning"):
        yield (message["role"], "thought", thought)
    elif details := message.get("reasoning_details"):
        assert details[0]["signature"] == sealed(details[0]["text"])
        yield (message["role"], "thought", details[0]["text"])
    content = message.get("content") or []
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        yield _line(message["role"], part)
    for one in message.get("tool_calls") or ():
        function = one["function"]
        yield ("assistant", "call", (one["id"], function["name"], function["arguments"]))


def _line(who: str, part: Body) -> Line:
    if part["type"] == "text":
        return (who, "text", part["text"])
    head, _, data = part["image_url"]["url"].partition(";base64,")
    return (who, head.removeprefix("data:"), base64.b64decode(data))


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
