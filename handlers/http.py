"""What HTTP handlers share: one strict body reader, problems, bearer tokens, event streams."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, NoReturn

import structlog
from aiohttp import web

from service.core.model import Event
from service.errors import BadInput, StoreError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STORE_OUT = 5
_SENTENCES = {
    404: "there is nothing under this address",
    405: "this address does not take that method; see the Allow header",
    413: "the request is larger than this address takes",
}
# Beyond this a number is an attack on the parser's time, and no double holds it anyway.
_LONGEST_NUMBER = 400
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)
# Strings are skipped whole, so that brackets in them do not count. One that never ends matches
# too, and nothing is tried twice: otherwise a crafted body would cost quadratic time.
_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,18}")
_CLOSE = {"Connection": "close"}
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# Files are larger than words and come over slower lines.
_SLOWER_WITH_FILES = 6


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What one request may carry."""

    bytes: int
    """Without files."""
    depth: int
    read: timedelta
    file_bytes: int = 10_485_760
    """Of each file."""
    files: int = 10

    def with_files(self, worth: int) -> BodyLimits:
        """The same for a body with files, which together may be as large as `worth` largest."""
        return replace(
            self,
            bytes=self.bytes + min(worth, self.files) * self.file_bytes,
            read=self.read * _SLOWER_WITH_FILES,
        )


@dataclass(eq=False)
class HttpProblem(Exception):
    """An answer other than success, as problem+json."""

    status: int
    title: str
    detail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(
    status: int,
    title: str,
    detail: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    **extra: object,
) -> web.Response:
    """A problem+json response (RFC 9457)."""
    body = {"status": status, "title": title, **({"detail": detail} if detail else {}), **extra}
    return web.json_response(
        body, status=status, headers=headers, content_type="application/problem+json"
    )


@web.middleware
async def problems_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn everything that is raised into a problem; what is unexpected is logged, not shown."""
    try:
        return await handler(request)
    except HttpProblem as error:
        answer = problem(error.status, error.title, error.detail, headers=error.headers)
        if error.headers.get("Connection") == "close":
            # The header alone would leave the connection open.
            answer.force_close()
        return answer
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        sentence = _SENTENCES.get(error.status, "")
        return problem(error.status, error.reason, sentence, headers=kept)
    except BadInput as error:
        return problem(400, "Bad request", str(error))
    except StoreError as error:
        log.warning("http.store_out", path=request.path, error=str(error))
        detail = "the database does not answer; try again"
        retry = {"Retry-After": str(_STORE_OUT)}
        return problem(503, "Service unavailable", detail, headers=retry)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("http.broken", path=request.path, method=request.method)
        return problem(500, "Internal error", "the log of the service says more")


async def careful_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Let nothing between us and the client keep or reinterpret what does not say that it may."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")


# -- bodies ---------------------------------------------------------------------------------------


async def read_body(request: web.Request, limits: BodyLimits) -> bytes:
    """The raw body. Raises HttpProblem: 415 compressed, 413 too large, 408 too slow, 400 cut."""
    encodings = request.headers.getall("Content-Encoding", ())
    if any(encoding.strip().lower() != "identity" for encoding in encodings):
        raise HttpProblem(
            415, "Unsupported media type", "Content-Encoding: send the body uncompressed", _CLOSE
        )
    if request.content_length is not None and request.content_length > limits.bytes:
        _too_large(limits)
    if request.content.is_eof():
        # It came with the head, as small bodies do: nothing to wait for.
        return _within(request.content.read_nowait(-1), limits)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(limits.read.total_seconds()):
            async for chunk in request.content.iter_chunked(65_536):
                size += len(chunk)
                if size > limits.bytes:
                    _too_large(limits)
                chunks.append(chunk)
    except TimeoutError:
        seconds = f"{limits.read.total_seconds():g} s"
        raise HttpProblem(
            408, "Request timeout", f"the body did not arrive within {seconds}", _CLOSE
        ) from None
    except web.RequestPayloadError as error:
        raise HttpProblem(400, "Bad request", "the body broke off", _CLOSE) from error
    return b"".join(chunks)


def _within(body: bytes, limits: BodyLimits) -> bytes:
    if len(body) > limits.bytes:
        _too_large(limits)
    return body


def _too_large(limits: BodyLimits) -> NoReturn:
    raise HttpProblem(
        413, "Content too large", f"the body may have at most {limits.bytes} bytes", _CLOSE
    )


def parse_json(body: bytes, limits: BodyLimits) -> Any:
    """The value of a JSON text, read strictly. Raises HttpProblem 400 for anything else.

    UTF-8 only, whatever charset is declared; no NaN and Infinity, no name twice in one object, no
    endless numbers, at most `limits.depth` levels.
    """
    text = parse_text(body)
    if text.startswith("\ufeff"):
        _bad("the body begins with a byte order mark; send plain UTF-8")
    _check_depth(text, limits.depth)
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_real,
        )
    except HttpProblem:
        raise
    except (ValueError, RecursionError) as error:
        _bad(f"the body is not JSON: {error}")


def parse_text(body: bytes) -> str:
    """The body as text. Raises HttpProblem 400 unless it is UTF-8."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        _bad(f"the body is not UTF-8 (byte {error.start})")


def _check_depth(text: str, most: int) -> None:
    if text.count("[") + text.count("{") <= most:
        return
    depth = 0
    for match in _STRUCTURE.finditer(text):
        found = match[0]
        if found in "[{":
            depth += 1
            if depth > most:
                _bad(f"the body is nested deeper than {most} levels")
        elif found in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        _bad(f"the name {twice[:80]!r} stands twice in one object")
    return value


def _no_constant(name: str) -> NoReturn:
    _bad(f"{name} is no JSON number")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        _bad(f"a number has more than {_LONGEST_NUMBER} digits")
    return int(digits)


def _real(digits: str) -> float:
    if len(digits) > _LONGEST_NUMBER:
        _bad(f"a number has more than {_LONGEST_NUMBER} digits")
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        _bad("a number is too large")
    return value


def _bad(detail: str) -> NoReturn:
    raise HttpProblem(400, "Bad request", detail)


# -- headers and queries --------------------------------------------------------------------------


def bearer(request: web.Request) -> str | None:
    """The bearer token of a request, if it has one; compare it in constant time."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def idempotency_key(request: web.Request) -> str | None:
    """What makes a repeat recognisable, if the client says so. Raises HttpProblem 400."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        _bad("Idempotency-Key takes 1 to 255 printable ASCII characters")
    return key


def cursor(request: web.Request) -> int:
    """The number after which events are wanted: Last-Event-ID, else `after`, else 0."""
    given = request.headers.get("Last-Event-ID") or request.query.get("after") or "0"
    if not _NUMBER.fullmatch(given):
        _bad("Last-Event-ID and after take the number of an event, a whole number from 0")
    return int(given)


def query_number(request: web.Request, name: str, *, default: int, most: int) -> int:
    """A whole number of the query, at most `most`. Raises HttpProblem 400."""
    given = request.query.get(name)
    if given is None:
        return default
    if not _NUMBER.fullmatch(given) or int(given) > most:
        _bad(f"{name} takes a whole number from 0 to {most}")
    return int(given)


def preferred_wait(request: web.Request, most: timedelta) -> timedelta | None:
    """How long `Prefer: wait=N` asks to wait, capped at `most`; None when it does not ask."""
    match = _PREFER_WAIT.search(", ".join(request.headers.getall("Prefer", ())))
    return min(timedelta(seconds=int(match[1])), most) if match else None


def accepts_events(request: web.Request) -> bool:
    """Whether the client asks for server-sent events."""
    return "text/event-stream" in request.headers.get("Accept", "").lower()


# -- event streams --------------------------------------------------------------------------------


async def stream_events(
    request: web.Request,
    events: AsyncGenerator[Event],
    *,
    retry: timedelta = timedelta(seconds=2),
    comment_every: timedelta = timedelta(seconds=15),
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Send events as server-sent events until they end or the client goes.

    The first frame carries `retry`; `id` is the event's number; a comment every 15 s shows dead
    connections to both sides. Backpressure is the socket's: a slow client reads the log later.
    Once the first byte is out there is no other answer: what breaks the stream ends it, and the
    client comes back with the last id it has.
    """
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            **(headers or {}),
        }
    )
    await response.prepare(request)
    try:
        async with aclosing(events), asyncio.TaskGroup() as group:
            await response.write(f"retry: {round(retry.total_seconds() * 1000)}\n\n".encode())
            beat = group.create_task(_beat(response, comment_every))
            async for event in events:
                await response.write(sse_frame(event))
            beat.cancel()
        await response.write_eof()
    except* ConnectionError:
        log.debug("http.client_left", path=request.path)
    except* StoreError as errors:
        log.warning("http.stream_broke", path=request.path, error=str(errors.exceptions[0]))
    except* Exception:
        log.exception("http.stream_broke", path=request.path)
    return response


async def _beat(response: web.StreamResponse, every: timedelta) -> NoReturn:
    """Write comments; the first one that finds nobody raises, which ends the stream."""
    while True:
        await asyncio.sleep(every.total_seconds())
        await response.write(b": still here\n\n")


def sse_frame(event: Event) -> bytes:
    """One event as a frame."""
    data = json.dumps(event_json(event), ensure_ascii=False, separators=(",", ":"))
    return f"id: {event.number}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def event_json(event: Event) -> dict[str, Any]:
    """One event as every surface tells it."""
    at = event.at.isoformat().replace("+00:00", "Z")
    return {"turn": event.turn, "at": at, **event.data}
