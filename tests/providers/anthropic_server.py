"""A local server that speaks Anthropic's messages, from scripts."""

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
    Line,
    ProviderServer,
    Refusal,
    sealed,
    unanswered,
)

_REASONS = {"stop": "end_turn", "length": "max_tokens", "filter": "refusal"}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class AnthropicServer(ProviderServer):
    """Anthropic's messages: blocks that start and stop, signed thinking."""

    model = "claude-sonnet-4-6"
    path = "/v1/messages"

    def tell(self, answer: Answer) -> list[bytes]:
        blocks = [*_thinking(answer), *_text(answer), *_calls(answer)]
        return [
            event("message_start", message=self._begun(answer)),
            event("ping"),
            *(
                one
                for index, (block, deltas) in enumerate(blocks)
                for one in _block(index, block, deltas)
            ),
            event(
                "message_delta",
                delta={"stop_reason": _reason(answer), "stop_sequence": None},
                usage={"output_tokens": answer.tokens[1]},
            ),
            event("message_stop"),
        ]

    def lines(self, body: Body) -> list[Line]:
        system = body.get("system") or []
        blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
        return [
            *(("system", "text", block["text"]) for block in blocks),
            *(line for message in body["messages"] for line in _lines(message)),
        ]

    def told_failure(self, status: int, message: str) -> bytes:
        return event("error", error={"type": _TYPES[status], "message": message})

    def overflow(self) -> Refusal:
        return Refusal(400, "prompt is too long: 200001 tokens > 200000 maximum")

    def broke(self) -> Refusal:
        return Refusal(400, "Your credit balance is too low to access the Anthropic API.")

    def _begun(self, answer: Answer) -> Body:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": answer.tokens[0],
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 1,
            },
        }

    def _problem(self, request: web.Request, body: Body) -> Refusal | None:
        # The API takes it in either header; which one it is depends on the library's release.
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if request.headers.get("x-api-key", bearer) != KEY:
            return Refusal(401, "invalid x-api-key")
        if "anthropic-version" not in request.headers:
            return Refusal(400, "anthropic-version: header is required")
        if body.get("model") != self.model:
            return Refusal(404, f"model: {body.get('model')}")
        if not isinstance(body.get("max_tokens"), int):
            return Refusal(400, "max_tokens: Field required")
        if body.get("stream") is not True:
            return Refusal(400, "This server only streams.")
        problem = unanswered(self.lines(body)) or _unsigned(body) or _disorder(body)
        return Refusal(400, problem) if problem else None

    def _error(self, refusal: Refusal) -> Body:
        kind = _TYPES.get(refusal.status, "api_error")
        error = {"type": kind, "message": refusal.message}
        return {"type": "error", "error": error, "request_id": "req_1"}


def event(kind: str, **data: Any) -> bytes:
    """One event, with its type twice."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


_Block = tuple[Body, Sequence[Body]]
"""A block as it starts, and what is added to it."""


def _reason(answer: Answer) -> str:
    return "tool_use" if answer.calls and answer.finish == "stop" else _REASONS[answer.finish]


def _block(index: int, block: Body, deltas: Sequence[Body]) -> Iterator[bytes]:
    yield event("content_block_start", index=index, content_block=block)
    for delta in deltas:
        yield event("content_block_delta", index=index, delta=delta)
    yield event("content_block_stop", index=index)


def _thinking(answer: Answer) -> Iterator[_Block]:
    if answer.thoughts:
        deltas = [{"type": "thinking_delta", "thinking": text} for text in answer.thoughts]
        signature = {"type": "signature_delta", "signature": answer.seal}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature]


def _text(answer: Answer) -> Iterator[_Block]:
    if answer.words:
        deltas = [{"type": "text_delta", "text": text} for text in answer.words]
        yield {"type": "text", "text": ""}, deltas


def _calls(answer: Answer) -> Iterator[_Block]:
    for call in answer.calls:
        pieces = ["", *(piece for piece in call.pieces if call.arguments != "{}")]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        yield {"type": "tool_use", "id": call.id, "name": call.tool, "input": {}}, deltas


def _blocks(message: Body) -> list[Body]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _lines(message: Body) -> Iterator[Line]:
    who = message["role"]
    for block in _blocks(message):
        match block["type"]:
            case "text":
                yield (who, "text", block["text"])
            case "image":
                source = block["source"]
                yield (who, source["media_type"], base64.b64decode(source["data"]))
            case "thinking":
                yield (who, "thought", block["thinking"])
            case "tool_use":
                arguments = json.dumps(block["input"], separators=(",", ":"))
                yield (who, "call", (block["id"], block["name"], arguments))
            case "tool_result":
                said = block["content"]
                text = said if isinstance(said, str) else "".join(one["text"] for one in said)
                failed = bool(block.get("is_error"))
                yield (who, "result", (block["tool_use_id"], text, failed))


def _unsigned(body: Body) -> str | None:
    """What is wrong with the thoughts that came back."""
    for number, message in enumerate(body["messages"]):
        for block in _blocks(message):
            if block["type"] == "thinking" and block["signature"] != sealed(block["thinking"]):
                return f"messages.{number}.content.0: Invalid `signature` in `thinking` block"
    return None


def _disorder(body: Body) -> str | None:
    """Whether results are somewhere else than at the very beginning of a message."""
    for number, message in enumerate(body["messages"]):
        kinds = [block["type"] == "tool_result" for block in _blocks(message)]
        if kinds != sorted(kinds, reverse=True):
            return f"messages.{number}: tool_result blocks must come first"
    return None
