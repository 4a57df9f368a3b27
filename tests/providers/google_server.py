"""A local server that speaks Google's Gemini API, from scripts."""

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
    Call,
    Line,
    ProviderServer,
    Refusal,
    sealed,
    unanswered,
)

_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "filter": "SAFETY"}
# The second one is what the API takes for a call that it did not make itself.
_SEALS = (b"sealed ", b"skip_thought_signature_validator")
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class GoogleServer(ProviderServer):
    """Google's Gemini API: whole responses in pieces, signatures on parts."""

    model = "gemini-3-flash-preview"
    path = "/v1beta/models/{model}:streamGenerateContent"

    def tell(self, answer: Answer) -> list[bytes]:
        parts: list[Body] = [
            *({"text": text, "thought": True} for text in answer.thoughts),
            *({"text": text} for text in answer.words),
            *_calls(answer),
        ]
        last: Body = {"text": ""}
        return [
            *(self._chunk(part, answer) for part in parts),
            self._chunk(last, answer, finish=_REASONS[answer.finish]),
        ]

    def lines(self, body: Body) -> list[Line]:
        system = (body.get("systemInstruction") or {}).get("parts", [])
        return [
            *(("system", "text", part["text"]) for part in system),
            *(
                _line("assistant" if content["role"] == "model" else "user", part)
                for content in body["contents"]
                for part in content["parts"]
            ),
        ]

    def told_failure(self, status: int, message: str) -> bytes:
        return event(self._error(Refusal(status, message)))

    def overflow(self) -> Refusal:
        text = "The input token count (2000000) exceeds the maximum number of tokens allowed (10)."
        return Refusal(400, text)

    def broke(self) -> Refusal:
        return Refusal(429, "You exceeded your current quota.", "per day")

    def _chunk(self, part: Body, answer: Answer, *, finish: str | None = None) -> bytes:
        candidate: dict[str, Any] = {
            "content": {"parts": [part], "role": "model"},
            "index": 0,
            **({"finishReason": finish} if finish else {}),
        }
        usage = {
            "promptTokenCount": answer.tokens[0],
            "totalTokenCount": sum(answer.tokens) if finish else answer.tokens[0],
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": answer.tokens[0]}],
            **({"candidatesTokenCount": answer.tokens[1]} if finish else {}),
        }
        return event(
            {
                "candidates": [candidate],
                "usageMetadata": usage,
                "modelVersion": self.model,
                "responseId": "resp_1",
            }
        )

    def _problem(self, request: web.Request, body: Body) -> Refusal | None:
        if request.headers.get("x-goog-api-key") != KEY:
            return Refusal(400, "API key not valid. Please pass a valid API key.", "key")
        if (model := request.match_info["model"]) != self.model:
            text = f"models/{model} is not found for API version v1beta, or is not supported."
            return Refusal(404, text)
        if request.query.get("alt") != "sse":
            return Refusal(400, "This server only streams events.")
        problem = unanswered(self.lines(body)) or _unsigned(body["contents"])
        return Refusal(400, problem) if problem else None

    def _error(self, refusal: Refusal) -> Body:
        error = {
            "code": refusal.status,
            "message": refusal.message,
            "status": _STATUSES.get(refusal.status, "UNKNOWN"),
            "details": _details(refusal.code),
        }
        return {"error": error}


def event(data: Body) -> bytes:
    """One event; the lines end as Google's do."""
    return f"data: {json.dumps(data)}\r\n\r\n".encode()


def _calls(answer: Answer) -> Iterator[Body]:
    """The calls; the seal of what was thought is on the first one."""
    for number, call in enumerate(answer.calls):
        part = {"functionCall": {"id": call.id, "name": call.tool, "args": _arguments(call)}}
        yield {**part, "thoughtSignature": answer.seal} if number == 0 else part


def _arguments(call: Call) -> object:
    return json.loads(call.arguments)


def _line(who: str, part: Body) -> Line:
    if call := part.get("functionCall"):
        arguments = json.dumps(call["args"], separators=(",", ":"))
        return (who, "call", (call["id"], call["name"], arguments))
    if given := part.get("functionResponse"):
        response = given["response"]
        text = response.get("error") or response.get("return_value") or response.get("output")
        return (who, "result", (given["id"], text, "error" in response))
    if data := part.get("inlineData"):
        # The API takes names in either form; the client library passes on how they were written.
        return (who, data.get("mimeType") or data["mime_type"], _bytes(data["data"]))
    return (who, "thought" if part.get("thought") else "text", part["text"])


def _unsigned(contents: Sequence[Body]) -> str | None:
    """Whether the first call of a message lost its signature, or has one that is not ours."""
    for content in contents:
        calls = [part for part in content["parts"] if "functionCall" in part]
        seal = calls[0].get("thoughtSignature", "") if calls else sealed("")
        if not _bytes(seal).startswith(_SEALS):
            return "Function call is missing a thought_signature in functionCall parts."
    return None


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/"))


def _details(code: str | None) -> list[Body]:
    """What Google says besides the message: machines read it."""
    match code:
        case "key":
            reason = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
            return [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **reason}]
        case "per day":
            quota = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
            kind = "type.googleapis.com/google.rpc.QuotaFailure"
            return [{"@type": kind, "violations": [quota]}]
        case str() if code.endswith("s"):
            return [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": code}]
        case _:
            return []
