"""A local server that speaks OpenAI's responses, from scripts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from tests.providers.server import (
    KEY,
    Answer,
    Body,
    Call,
    Line,
    ProviderServer,
    Refusal,
    result,
    sealed,
    unanswered,
)

_REASONS = {"length": "max_output_tokens", "filter": "content_filter"}


class ResponsesServer(ProviderServer):
    """OpenAI's responses: events with numbers, items with ids, sealed reasoning."""

    model = "gpt-5-mini"
    path = "/v1/responses"
    root = "/v1"

    def tell(self, answer: Answer) -> list[bytes]:
        items = [*_reasoning(answer), *_message(answer), *map(_call, answer.calls)]
        kind, status = ("completed", "completed")
        details = None
        if answer.finish != "stop":
            kind, status = ("incomplete", "incomplete")
            details = {"reason": _REASONS[answer.finish]}
        started = _response(self.model, "in_progress")
        ended = _response(
            self.model,
            status,
            output=[item for item, _ in items],
            incomplete_details=details,
            usage=_usage(answer),
        )
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": started},
            {"type": "response.in_progress", "response": started},
        ]
        for place, (_, told) in enumerate(items):
            events += [{**one, "output_index": place} for one in told]
        events.append({"type": f"response.{kind}", "response": ended})
        return [event({**one, "sequence_number": n}) for n, one in enumerate(events)]

    def lines(self, body: Body) -> list[Line]:
        told = [("system", "text", body["instructions"])] if body.get("instructions") else []
        return [*told, *(line for item in body["input"] for line in _lines(item))]

    def told_failure(self, status: int, message: str) -> bytes:
        code = {429: "rate_limit_exceeded", 500: "server_error"}[status]
        data = {"type": "error", "code": code, "message": message, "param": None}
        return event({**data, "sequence_number": 9})

    def overflow(self) -> Refusal:
        text = "Your input exceeds the context window of this model."
        return Refusal(400, text, "context_length_exceeded")

    def broke(self) -> Refusal:
        return Refusal(429, "You exceeded your current quota.", "insufficient_quota")

    def _problem(self, request: web.Request, body: Body) -> Refusal | None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return Refusal(401, "Incorrect API key provided.", "invalid_api_key")
        if body.get("model") != self.model:
            text = f"The model {body.get('model')!r} does not exist."
            return Refusal(404, text, "model_not_found")
        if body.get("stream") is not True or body.get("store") is not False:
            return Refusal(400, "This server only streams, and stores nothing.")
        problem = unanswered(self.lines(body)) or _unsealed(body)
        return Refusal(400, problem) if problem else None

    def _error(self, refusal: Refusal) -> Body:
        kind = "invalid_request_error" if refusal.status < 500 else "server_error"
        error = {"message": refusal.message, "type": kind, "param": None, "code": refusal.code}
        return {"error": error}


def event(data: Body) -> bytes:
    """One event, with its type twice."""
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def _response(model: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "medium", "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
        **more,
    }


def _usage(answer: Answer) -> Body:
    return {
        "input_tokens": answer.tokens[0],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answer.tokens[1],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": sum(answer.tokens),
    }


_Item = tuple[dict[str, Any], list[dict[str, Any]]]
"""An item as it is in the end, and the events that told it."""


def _reasoning(answer: Answer) -> Iterator[_Item]:
    if not answer.thoughts:
        return
    text = "".join(answer.thoughts)
    begun = {"id": "rs_1", "type": "reasoning", "summary": []}
    part = {"type": "summary_text", "text": text}
    item = {**begun, "summary": [part], "encrypted_content": answer.seal}
    at = {"item_id": "rs_1", "summary_index": 0}
    empty = {**part, "text": ""}
    yield (
        item,
        [
            {"type": "response.output_item.added", "item": begun},
            {"type": "response.reasoning_summary_part.added", **at, "part": empty},
            *(
                {"type": "response.reasoning_summary_text.delta", **at, "delta": one}
                for one in answer.thoughts
            ),
            {"type": "response.reasoning_summary_text.done", **at, "text": text},
            {"type": "response.reasoning_summary_part.done", **at, "part": part},
            {"type": "response.output_item.done", "item": item},
        ],
    )


def _message(answer: Answer) -> Iterator[_Item]:
    if not answer.words:
        return
    text = "".join(answer.words)
    begun = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {**begun, "status": "completed", "content": [part]}
    at = {"item_id": "msg_1", "content_index": 0}
    empty = {**part, "text": ""}
    yield (
        item,
        [
            {"type": "response.output_item.added", "item": {**begun, "status": "in_progress"}},
            {"type": "response.content_part.added", **at, "part": empty},
            *(
                {"type": "response.output_text.delta", **at, "delta": one, "logprobs": []}
                for one in answer.words
            ),
            {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **at, "part": part},
            {"type": "response.output_item.done", "item": item},
        ],
    )


def _call(call: Call) -> _Item:
    item = {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.tool,
        "arguments": call.arguments,
    }
    begun = {**item, "status": "in_progress", "arguments": ""}
    at = {"item_id": item["id"]}
    written = {"arguments": call.arguments, "name": call.tool}
    return (
        item,
        [
            {"type": "response.output_item.added", "item": begun},
            *(
                {"type": "response.function_call_arguments.delta", **at, "delta": piece}
                for piece in call.pieces
            ),
            {"type": "response.function_call_arguments.done", **at, **written},
            {"type": "response.output_item.done", "item": item},
        ],
    )


def _lines(item: Body) -> Iterator[Line]:
    match item.get("type", "message"):
        case "reasoning":
            yield ("assistant", "thought", "".join(one["text"] for one in item["summary"]))
        case "function_call":
            yield ("assistant", "call", (item["call_id"], item["name"], item["arguments"]))
        case "function_call_output":
            yield result(item["call_id"], item["output"])
        case _:
            content = item["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            yield from (_line(item["role"], part) for part in parts)


def _line(who: str, part: Body) -> Line:
    if part["type"] != "input_image":
        return (who, "text", part["text"])
    head, _, data = part["image_url"].partition(";base64,")
    return (who, head.removeprefix("data:"), base64.b64decode(data))


def _unsealed(body: Body) -> str | None:
    """What is wrong with the reasoning that came back: nothing of it is stored here."""
    for item in body["input"]:
        if item.get("type") == "reasoning":
            text = "".join(one["text"] for one in item["summary"])
            if item.get("encrypted_content") != sealed(text):
                return f"The encrypted content for item {item['id']} could not be verified."
    return None
