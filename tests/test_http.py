"""What HTTP handlers share: strict bodies, problems for errors, headers and event streams."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request

from handlers.http import (
    BodyLimits,
    HttpProblem,
    accepts_events,
    bearer,
    cursor,
    parse_json,
    parse_text,
    preferred_wait,
    problems_middleware,
    query_number,
    read_body,
    sse_frame,
    stream_events,
)
from service.core.model import Event, TurnId
from service.errors import BadInput, StoreDown

LIMITS = BodyLimits(bytes=100_000, depth=8, read=timedelta(seconds=20))
HASTY = BodyLimits(bytes=100_000, depth=8, read=timedelta(milliseconds=200))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# -- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"null",
        b' [1, 2.5, -0, 1e3, "a"] ',
        b'{"a": {"b": [[[[[[]]]]]]}}',
        '"ä\u2028\U0001f600"'.encode(),
        b'"[[[[[[[[[[[[[[[[[["',
        rb'["\"[[[[[[[[[[[[[[[[[[", "\\"]',
        b"9" * 400,
    ],
)
def test_json_is_read_as_it_is_written(body: bytes) -> None:
    """Brackets in texts are no nesting, and a number may be long."""
    assert json.loads(body) == parse_json(body, LIMITS)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b"{} {}", "not JSON"),
        (b"'a'", "not JSON"),
        (b'"a\nb"', "not JSON"),
        (b'"\\x41"', "not JSON"),
        (b"\xff", r"not UTF-8 \(byte 0\)"),
        (b'"\xc3"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ('"ä"'.encode("latin-1"), "not UTF-8"),
        ('"a"'.encode("utf-16"), "not UTF-8"),
        ('"a"'.encode("utf-16-le"), "not JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"1e999", "too large"),
        (b"9" * 401, "400 digits"),
        (b"0." + b"9" * 401, "400 digits"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": 1, "\\u0061": 2}', "'a' stands twice"),
        (b'[{"x": {"\\ud800": 1, "\\ud800": 1}}]', "stands twice"),
        (b"[" * 9 + b"]" * 9, "deeper than 8"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "deeper than 8"),
        (b"[" * 90_000, "deeper than 8"),
    ],
)
def test_what_is_not_plain_json_is_refused(body: bytes, detail: str) -> None:
    """With the reason; nothing but a problem is ever raised."""
    with pytest.raises(HttpProblem) as caught:
        parse_json(body, LIMITS)

    assert caught.value.status == 400
    assert re.search(detail, caught.value.detail), caught.value.detail


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100 + b'"' + b'\\"' * 400_000,
        b"[" * 8 + b'"' + b'\\"' * 400_000,
        b"{" * 9 + b'"' * 999_999,
        b'"' + b"\\" * 999_999,
        b"[" + b"[]," * 300_000 + b"1]",
        b"{" + b",".join(b'"%d":1' % number for number in range(80_000)) + b',"7":1}',
        b"9" * 999_999,
        b"1e" + b"9" * 999_999,
        b"-" * 999_999,
    ],
)
def test_no_body_is_slow_to_refuse(body: bytes) -> None:
    """Time grows with the size of a body and with nothing else in it."""
    limits = BodyLimits(bytes=1_000_000, depth=64, read=timedelta(seconds=1))
    begun = time.process_time()
    with suppress(HttpProblem):
        parse_json(body, limits)

    # What grows with the square of it takes minutes.
    assert time.process_time() - begun < 10


def test_text_is_utf_8() -> None:
    """Half a character is a mistake of the sender, not a question mark for the agent."""
    with pytest.raises(HttpProblem):
        parse_text(b"caf\xe9")

    assert parse_text("café".encode()) == "café"


# -- bodies ---------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[int]:
    """A server that answers posts by one handler; its port."""
    application = web.Application(middlewares=[problems_middleware])
    application.router.add_post("/", handler)
    async with TestServer(application) as server:
        assert server.port is not None
        yield server.port


@asynccontextmanager
async def asking(
    handler: Handler, *, method: str = "POST"
) -> AsyncGenerator[aiohttp.ClientResponse]:
    """What a client gets from such a server."""
    async with (
        serving(handler) as port,
        aiohttp.ClientSession() as client,
        client.request(method, f"http://127.0.0.1:{port}/") as response,
    ):
        yield response


async def measure(request: web.Request) -> web.Response:
    """Answer with the number of bytes."""
    return web.json_response(len(await read_body(request, LIMITS)))


async def measure_quickly(request: web.Request) -> web.Response:
    """Answer with the number of bytes, or that they took too long."""
    return web.json_response(len(await read_body(request, HASTY)))


async def exchange(port: int, sent: bytes) -> tuple[int, Any]:
    """Write to a connection of its own; return status and JSON of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        return int(head.split()[1]), json.loads(body)
    finally:
        writer.close()


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        (POST + b"\r\n", 0),
        (POST + b"Content-Length: 5\r\n\r\nhello", 5),
        (POST + b"Content-Encoding: identity\r\nContent-Length: 1\r\n\r\nx", 1),
        (CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 3),
        (CHUNKED + b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n", 100_000),
    ],
)
async def test_a_body_is_read_whole(sent: bytes, size: int) -> None:
    """In one piece or in many, up to the limit."""
    async with serving(measure) as port:
        status, found = await exchange(port, sent)

    assert (status, found) == (200, size)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (POST + b"Content-Length: 100001\r\n\r\n", 413),
        (POST + b"Content-Length: 99999999999999\r\n\r\n", 413),
        (CHUNKED + b"186a1\r\n" + b"x" * 100_001 + b"\r\n0\r\n\r\n", 413),
        (CHUNKED + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 101, 413),
        (POST + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 415),
        (POST + b"Content-Encoding: GZIP, identity\r\nContent-Length: 0\r\n\r\n", 415),
    ],
)
async def test_a_body_that_is_too_much_is_refused(sent: bytes, status: int) -> None:
    """Too large or packed: a problem says which, before the rest has come."""
    async with serving(measure) as port:
        found, body = await exchange(port, sent)

    assert (found, body["status"]) == (status, status)
    assert body["detail"]


@pytest.mark.parametrize(
    "sent", [POST + b"Content-Length: 5\r\n\r\nhell", CHUNKED + b"5\r\nhell", CHUNKED]
)
async def test_a_body_that_does_not_come_is_not_awaited(sent: bytes) -> None:
    """The deadline is in the answer."""
    async with serving(measure_quickly) as port:
        status, body = await exchange(port, sent)

    assert (status, body["detail"]) == (408, "the body did not arrive within 0.2 s")


async def test_a_body_that_drips_meets_the_deadline() -> None:
    """Every byte that arrives does not buy another delay."""
    async with serving(measure_quickly) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"Content-Length: 10000\r\n\r\n")
        begun = time.monotonic()
        answer = asyncio.create_task(reader.readline())
        while not answer.done():
            writer.write(b"x")
            await asyncio.sleep(0.02)
        took = time.monotonic() - begun
        writer.close()

    assert answer.result().split()[1] == b"408"
    assert took >= HASTY.read.total_seconds()


# -- problems -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (HttpProblem(418, "Teapot", "short and stout"), 418, "short and stout"),
        (BadInput("name: too long"), 400, "name: too long"),
        (StoreDown("connection to host db failed"), 503, "the database does not answer; try again"),
        (web.HTTPNotFound(), 404, "there is nothing under this address"),
        (web.HTTPRequestEntityTooLarge(1, 2), 413, "the request is larger than this address takes"),
        (RuntimeError("password is hunter2"), 500, "the log of the service says more"),
    ],
)
async def test_every_error_is_a_problem(error: Exception, status: int, detail: str) -> None:
    """What people can mend is told; what is ours stays in the log."""

    async def fail(_request: web.Request) -> web.Response:
        raise error

    async with asking(fail) as response:
        body = await response.json(content_type="application/problem+json")

    assert {"status": status, "detail": detail} == {key: body[key] for key in ("status", "detail")}
    assert response.status == status
    assert ("Retry-After" in response.headers) == (status == 503)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_told_the_right_one(method: str) -> None:
    """405 with Allow."""
    async with asking(measure, method=method) as response:
        await response.read()

    assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert response.content_type == "application/problem+json"


# -- headers and queries --------------------------------------------------------------------------


def asked(query: str = "", **headers: str) -> web.Request:
    """A request with these headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request("GET", f"/{query}", headers=sent)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("abc", None),
        ("", None),
    ],
)
def test_a_bearer_token_is_found(header: str, token: str | None) -> None:
    """Whatever the case of the scheme; another scheme is none."""
    assert token == bearer(asked(Authorization=header))


def test_a_cursor_is_the_header_or_the_query() -> None:
    """Browsers send the header when they come back; curl users write the query."""
    places = [
        cursor(asked()),
        cursor(asked("?after=7")),
        cursor(asked("?after=7", Last_Event_ID="9")),
        cursor(asked(Last_Event_ID="0")),
    ]

    assert places == [0, 7, 9, 0]


@pytest.mark.parametrize(
    "place", ["-1", "1.5", "x", "0x1", " 1", "\u0663", "9" * 19, "1,2", "null"]
)
def test_a_place_that_is_no_number_is_refused(place: str) -> None:
    """Not understood as the beginning: that would repeat everything."""
    with pytest.raises(HttpProblem) as caught:
        cursor(asked(Last_Event_ID=place))

    assert caught.value.detail.startswith("Last-Event-ID and after take")


@pytest.mark.parametrize("given", ["-1", "61", "x", "", "1e1", "\u0663"])
def test_a_number_of_the_query_has_bounds(given: str) -> None:
    """Both are told."""
    with pytest.raises(HttpProblem) as caught:
        query_number(asked(f"?wait={given}"), "wait", default=0, most=60)

    assert caught.value.detail == "wait takes a whole number from 0 to 60"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("WAIT = 10", 10),
        ('respond-async, wait="10"', 10),
        ("foo; bar, wait=10; x=1", 10),
        ("wait=600", 60),
        ("wait=0", 0),
        ("await=10", None),
        ("wait=10x", None),
        ("wait=-1", None),
        ("wait=\u0663", None),
        ("wait", None),
        ("", None),
    ],
)
def test_a_wish_to_wait_is_understood(header: str, seconds: int | None) -> None:
    """As RFC 7240 writes it; what is no wish of this kind is ignored, as it wants."""
    wait = preferred_wait(asked(Prefer=header), timedelta(seconds=60))

    assert wait == (None if seconds is None else timedelta(seconds=seconds))


def test_a_stream_is_asked_for_by_its_type() -> None:
    """Among others too."""
    wanted = [accepts_events(asked(Accept=one)) for one in ("text/event-stream, */*", "*/*", "")]

    assert wanted == [True, False, False]


# -- event streams --------------------------------------------------------------------------------


def event(number: int, text: str = "a") -> Event:
    return Event(number, "text", TurnId("t"), {"text": text}, datetime(2026, 3, 1, tzinfo=UTC))


@dataclass
class Source:
    """Events as a test lets them come, and whether anybody still wants them."""

    events: list[Event | Exception] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    endless: bool = False

    async def follow(self) -> AsyncGenerator[Event]:
        """Yield the events; wait at the end when there is none."""
        try:
            for one in self.events:
                if isinstance(one, Exception):
                    raise one
                yield one
            if self.endless:
                await self.more.wait()
        finally:
            self.closed.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Stream them with a quick heartbeat."""
        return await stream_events(
            request,
            self.follow(),
            comment_every=timedelta(milliseconds=20),
            headers={"X-Extra": "1"},
        )


async def test_a_stream_is_made_of_frames() -> None:
    """The time to come back first, then each event with its number, kind and data."""
    source = Source([event(7, "a\r\nb\u2028ä")])
    async with asking(source.handle) as response:
        text = (await response.read()).decode()

    first, frame, rest = text.split("\n\n")
    lines = frame.split("\n")
    assert (first, rest) == ("retry: 2000", "")
    assert lines[:2] == ["id: 7", "event: text"]
    assert json.loads(lines[2].removeprefix("data: ")) == {
        "turn": "t",
        "at": "2026-03-01T00:00:00Z",
        "text": "a\r\nb\u2028ä",
    }
    assert (response.headers["Cache-Control"], response.headers["X-Extra"]) == ("no-store", "1")
    assert response.content_type == "text/event-stream"


def test_no_text_can_forge_a_frame() -> None:
    """Line breaks of any kind stay inside the data."""
    frame = sse_frame(event(1, "x\n\nid: 9\ndata: {}\n\n\r\r"))

    assert (frame.count(b"\n"), frame.count(b"\r")) == (4, 0)


async def test_silence_is_filled_with_comments() -> None:
    """Proxies and both ends see that the connection lives."""
    source = Source([event(1)], endless=True)
    async with asking(source.handle) as response, asyncio.timeout(60):
        for _ in range(3):
            await response.content.readuntil(b": still here\n\n")
        source.more.set()
        rest = await response.read()

    assert rest.replace(b": still here\n\n", b"") == b""


async def test_a_reader_who_leaves_ends_the_following() -> None:
    """Also when nothing happens any more: nobody is followed for nobody."""
    source = Source([event(1)], endless=True)
    async with serving(source.handle) as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"\r\n")
        await reader.readuntil(b"event: text")
        writer.close()
        await source.closed.wait()


@pytest.mark.parametrize("error", [StoreDown("gone"), RuntimeError("broken")])
async def test_a_stream_that_breaks_is_not_followed_by_another_answer(error: Exception) -> None:
    """The reader has whole events and comes back for the rest."""
    source = Source([event(1), error])
    async with asking(source.handle) as response:
        text = (await response.read()).decode()

    assert (response.status, text) == (200, "retry: 2000\n\n" + sse_frame(event(1)).decode())
    assert source.closed.is_set()
