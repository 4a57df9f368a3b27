"""What nobody should send: each is refused by a problem, none breaks the site."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import shutil
import zlib
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from handlers.http import BodyLimits
from service.core.model import TurnId
from service.core.states import TurnState
from service.store.tables import messages
from tests.webhook.site import (
    LIMITS,
    SECRET,
    Site,
    closed,
    exchange,
    opened,
    serving,
    standard_headers,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "Content-Type: application/json"
TEXT = "Content-Type: text/plain"
BOMB = gzip.compress(b"0" * 10_000_000)


def post(
    body: bytes, *headers: str | bytes, to: str | bytes = "/hooks/open", method: str = "POST"
) -> bytes:
    """A request whose length is declared as it is."""
    return request(method, to, *headers, f"Content-Length: {len(body)}", body=body)


def read(to: str, *headers: str | bytes) -> bytes:
    """A request without a body."""
    return request("GET", to, *headers)


def request(
    method: str, to: str | bytes, *headers: str | bytes, body: bytes = b"", version: str = "1.1"
) -> bytes:
    """A request made of exactly these pieces."""
    lines = [
        method.encode() + b" " + _bytes(to) + f" HTTP/{version}".encode(),
        b"Host: localhost",
        b"Connection: close",
        *(_bytes(one) for one in headers),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, to: str = "/hooks/open") -> bytes:
    """A request that does not say how long it is."""
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return request("POST", to, TEXT, "Transfer-Encoding: chunked", body=framed)


def as_json(body: bytes) -> bytes:
    """A post that claims to be JSON."""
    return post(body, JSON)


def github(body: bytes, *headers: str | bytes) -> bytes:
    """A post to the webhook that takes GitHub's signatures."""
    return post(body, TEXT, *headers, to="/hooks/github")


def standard(body: bytes, **changed: str | bytes) -> bytes:
    """A well signed post to the webhook of Standard Webhooks, with some headers changed."""
    good: dict[str, str | bytes] = {**standard_headers(body)}
    given = {**good, **{name.replace("_", "-"): value for name, value in changed.items()}}
    lines = [name.encode() + b": " + _bytes(value) for name, value in given.items()]
    return post(body, TEXT, *lines, to="/hooks/standard")


def signed_id(id_: str) -> bytes:
    """A rightly signed post whose delivery id is this one."""
    lines = [f"{name}: {value}" for name, value in standard_headers(b"x", id_=id_).items()]
    return post(b"x", TEXT, *lines, to="/hooks/standard")


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


MAC = hmac.digest(SECRET.encode(), b"x", hashlib.sha256).hex()

REFUSED: Sequence[tuple[str, int, bytes]] = [
    # -- JSON that is none
    ("empty", 400, as_json(b"")),
    ("blank", 400, as_json(b" \r\n\t")),
    ("cut short", 400, as_json(b'{"a": ')),
    ("cut in a string", 400, as_json(b'{"a": "')),
    ("cut in an escape", 400, as_json(rb'"\u12')),
    ("unknown escape", 400, as_json(rb'"\q"')),
    ("trailing comma", 400, as_json(b"[1,]")),
    ("single quotes", 400, as_json(b"{'a': 1}")),
    ("two values", 400, as_json(b"{} {}")),
    ("a comment", 400, as_json(b"{} // done")),
    ("a bare word", 400, as_json(b"nonsense")),
    ("a form", 400, as_json(b"a=1&b=2")),
    ("leading zeros", 400, as_json(b"007")),
    ("hexadecimal", 400, as_json(b"0xff")),
    ("NUL after the value", 400, as_json(b"{}\x00")),
    ("NUL in a string", 400, as_json(b'"a\x00b"')),
    ("a control character in a string", 400, as_json(b'"a\x1bb"')),
    ("NaN", 400, as_json(b"NaN")),
    ("NaN inside", 400, as_json(b'{"a": [NaN]}')),
    ("Infinity", 400, as_json(b"[-Infinity]")),
    ("a number beyond doubles", 400, as_json(b"1e999")),
    ("an endless integer", 400, as_json(b"9" * 1000)),
    ("an endless fraction", 400, as_json(b"0." + b"1" * 1000)),
    ("a name twice", 400, as_json(b'{"a": 1, "a": 2}')),
    ("a name twice, escaped", 400, as_json(rb'{"a": 1, "\u0061": 2}')),
    ("a name twice, deep inside", 400, as_json(b'[{"x": {"": 1, "": 2}}]')),
    ("too deep", 400, as_json(b"[" * 17 + b"]" * 17)),
    ("much too deep", 400, as_json(b"[" * 4000)),
    ("deep in objects", 400, as_json(b'{"":' * 500)),
    ("deep, brackets in strings", 400, as_json(b'["]]]]]]]]]]", ' * 20 + b"1" + b"]" * 20)),
    ("strings that never end", 400, as_json(b'["\\"' * 1000)),
    # -- bytes that are no UTF-8
    ("Latin-1", 400, as_json('{"a": "Grüße"}'.encode("latin-1"))),
    ("Latin-1, declared", 400, post('"ü"'.encode("latin-1"), f"{JSON}; charset=latin-1")),
    ("UTF-16, declared", 400, post('"a"'.encode("utf-16"), f"{JSON}; charset=utf-16")),
    ("UTF-16 without a mark", 400, as_json('"a"'.encode("utf-16-le"))),
    ("UTF-32", 400, as_json('"a"'.encode("utf-32"))),
    ("a charset nobody knows", 400, post(b'"\xff"', f"{JSON}; charset=klingon")),
    ("a byte order mark", 400, as_json(b"\xef\xbb\xbf{}")),
    ("an overlong slash", 400, as_json(b'"\xc0\xaf"')),
    ("a surrogate in UTF-8", 400, as_json(b'"\xed\xa0\x80"')),
    ("a cut character", 400, as_json(b'"\xf0\x9f\x91"')),
    ("JSON by another name", 400, post(b"{", "Content-Type: application/vnd.x+json")),
    # -- bodies that are not what was agreed
    ("gzip", 415, post(gzip.compress(b"{}"), JSON, "Content-Encoding: gzip")),
    ("a gzip bomb", 415, post(BOMB[:4000], JSON, "Content-Encoding: gzip")),
    ("deflate", 415, post(zlib.compress(b"{}"), JSON, "Content-Encoding: deflate")),
    ("an unknown encoding", 415, post(b"x", TEXT, "Content-Encoding: rot13")),
    ("encodings in a row", 415, post(b"x", TEXT, "Content-Encoding: identity, gzip")),
    ("too large", 413, post(b"x" * 5000, TEXT)),
    ("too large by a byte", 413, post(b"x" * 4097, TEXT)),
    ("too large in chunks", 413, chunked(*[b"x" * 1000] * 5)),
    ("too large in one chunk", 413, chunked(b"x" * 100_000)),
    ("too large, said and not sent", 413, request("POST", "/hooks/open", "Content-Length: 99999")),
    (
        "a length beyond everything",
        413,
        request("POST", "/hooks/open", "Content-Length: " + "9" * 15),
    ),
    # -- proofs that prove nothing
    ("a bearer of bytes", 401, post(b"x", b"Authorization: Bearer \xff\xfe", to="/hooks/bearer")),
    ("a bearer of two", 401, post(b"x", "Authorization: Bearer a b c", to="/hooks/bearer")),
    (
        "an endless bearer",
        401,
        post(b"x", "Authorization: Bearer " + "a" * 7000, to="/hooks/bearer"),
    ),
    ("a signature of bytes", 401, github(b"x", b"X-Hub-Signature-256: sha256=\xff\xfe")),
    ("a signature of umlauts", 401, github(b"x", "X-Hub-Signature-256: sha256=üüü")),
    ("a signature in capitals", 401, github(b"x", f"X-Hub-Signature-256: sha256={MAC.upper()}")),
    ("half a signature", 401, github(b"x", f"X-Hub-Signature-256: sha256={MAC[:32]}")),
    ("a timestamp of words", 401, standard(b"x", webhook_timestamp="now")),
    ("a negative timestamp", 401, standard(b"x", webhook_timestamp="-1")),
    ("a timestamp with a point", 401, standard(b"x", webhook_timestamp="1e10")),
    ("an Arabic timestamp", 401, standard(b"x", webhook_timestamp="١٢٣")),
    ("an endless timestamp", 401, standard(b"x", webhook_timestamp="9" * 5000)),
    ("a signature of commas", 401, standard(b"x", webhook_signature="," * 5000)),
    ("many signatures", 401, standard(b"x", webhook_signature="v1,AAAA " * 900)),
    ("signature bytes", 401, standard(b"x", webhook_signature=b"v1,\xff\x80")),
    ("an id of bytes", 401, standard(b"x", webhook_id=b"\xff\x80")),
    # -- keys that are none
    ("an empty key", 400, post(b"x", TEXT, "Idempotency-Key:")),
    ("a key with a space", 400, post(b"x", TEXT, "Idempotency-Key: a b")),
    ("a key of umlauts", 400, post(b"x", TEXT, "Idempotency-Key: ü")),
    ("a key of bytes", 400, post(b"x", TEXT, b"Idempotency-Key: \xff")),
    ("a key too long", 400, post(b"x", TEXT, "Idempotency-Key: " + "a" * 256)),
    (
        "a delivery id of umlauts",
        400,
        github(b"x", f"X-Hub-Signature-256: sha256={MAC}", "X-GitHub-Delivery: ü"),
    ),
    # -- templates the post does not fit
    ("no object", 422, post(b"[]", JSON, to="/hooks/keyed")),
    ("not JSON at all", 422, post(b"x", TEXT, to="/hooks/keyed")),
    ("nothing but spaces", 422, post(b"   ", TEXT)),
    # -- addresses and methods
    ("GET", 405, read("/hooks/open")),
    ("PUT", 405, post(b"x", method="PUT")),
    ("DELETE", 405, post(b"", method="DELETE")),
    ("PATCH", 405, post(b"x", method="PATCH")),
    ("OPTIONS", 405, request("OPTIONS", "/hooks/open")),
    ("TRACE", 405, request("TRACE", "/hooks/open")),
    ("POST to a turn", 405, post(b"x", to="/hooks/open/turns/1")),
    ("no name", 404, post(b"x", to="/hooks/")),
    ("another's name", 404, post(b"x", to="/hooks/Open")),
    ("a name in two parts", 404, post(b"x", to="/hooks/open/open")),
    ("up and away", 404, post(b"x", to="/hooks/../../etc/passwd")),
    ("up and away, escaped", 404, post(b"x", to="/hooks/%2e%2e%2f%2e%2e%2fetc%2fpasswd")),
    ("up and away, escaped twice", 404, post(b"x", to="/hooks/%252e%252e%252fopen")),
    ("backslashes", 404, post(b"x", to="/hooks/..\\..\\open")),
    ("NUL in the name", 404, post(b"x", to="/hooks/open%00")),
    ("a line break in the name", 404, post(b"x", to="/hooks/open%0d%0aX-A:%20b")),
    ("no UTF-8 in the name", 404, post(b"x", to="/hooks/%ff%fe")),
    ("a surrogate in the name", 404, post(b"x", to="/hooks/%ed%a0%80")),
    ("half an escape", 404, post(b"x", to="/hooks/open%")),
    ("an endless name", 404, post(b"x", to="/hooks/" + "a" * 4000)),
    # -- reading
    ("no token", 401, read("/hooks/open/turns/1")),
    ("a wrong scheme", 401, read("/hooks/open/turns/1", "Authorization: Basic YTpi")),
    ("a wrong token", 404, read("/hooks/open/turns/1", "Authorization: Bearer x")),
    ("a token of bytes", 404, read("/hooks/open/turns/1", b"Authorization: Bearer \xff\x80")),
    ("no UTF-8 in the turn", 404, read("/hooks/open/turns/%ff", "Authorization: Bearer x")),
    (
        "a surrogate in the turn",
        404,
        read("/hooks/open/turns/%ed%a0%80", "Authorization: Bearer x"),
    ),
    ("NUL in the turn", 404, read("/hooks/open/turns/%00", "Authorization: Bearer x")),
    ("events, a wrong token", 404, read("/hooks/open/turns/1/events", "Authorization: Bearer x")),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Site]:
    """One site for all of it: whatever it was sent, it must take the next request."""
    path = tmp_path_factory.mktemp("target") / "ringback.db"
    shutil.copy(sqlite_template, path)
    async with opened(f"sqlite+aiosqlite:///{path}") as database, serving(database) as site:
        yield site


@pytest.mark.parametrize(
    ("status", "sent"),
    [pytest.param(status, sent, id=name) for name, status, sent in REFUSED],
)
async def test_what_is_malformed_is_refused_by_a_problem(
    target: Site, status: int, sent: bytes
) -> None:
    """It is always the sender's fault (4xx), said as a problem, and the site goes on."""
    answer = await exchange(target.port, sent)

    assert (answer.status, answer.type) == (status, "application/problem+json"), answer
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert (await target.post("open")).status == 202


@pytest.mark.parametrize("id_", ["a b", "a" * 256, "a\tb"])
async def test_a_signed_delivery_id_that_is_no_key_is_refused(target: Site, id_: str) -> None:
    """A right signature does not make a wrong id right."""
    answer = await exchange(target.port, signed_id(id_))

    assert (answer.status, answer.type) == (400, "application/problem+json")
    assert "delivery id" in answer.json["detail"]


BAD_PLACES = [
    "-1",
    "1.5",
    "1e3",
    "abc",
    "0x1",
    "\u0663",
    "\xff",
    "9" * 19,
    "9" * 5000,
    "1, 2",
    "NaN",
]


@pytest.mark.parametrize("place", BAD_PLACES)
async def test_a_place_that_is_no_number_of_an_event_is_refused(target: Site, place: str) -> None:
    """Last-Event-ID takes what an earlier stream gave out, and nothing else."""
    receipt = (await target.post("open")).json
    path = receipt["events_url"]
    headers = (f"Authorization: Bearer {receipt['token']}", b"Last-Event-ID: " + place.encode())

    answer = await exchange(target.port, read(path, *headers))

    assert (answer.status, answer.type) == (400, "application/problem+json")
    assert "whole number" in answer.json["detail"]


NOT_HTTP: Sequence[tuple[str, bytes]] = [
    ("a greeting", b"hello there\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ("only NUL", b"\x00" * 100 + b"\r\n\r\n"),
    ("a version to come", request("POST", "/hooks/open", version="9.9")),
    ("a method of its own", request("BREW", "/hooks/open")),
    ("bytes in the path", post(b"x", to=b"/hooks/\xff\xfe open")),
    ("a header without a colon", post(b"x", "Content-Type text/plain")),
    ("a header without a name", post(b"x", ": x")),
    ("a name of bytes", post(b"x", b"X-\xff\xfe: x")),
    ("a header with NUL", post(b"x", b"X-A: a\x00b")),
    ("an endless header", post(b"x", "X-A: " + "a" * 100_000)),
    ("an endless path", post(b"x", to="/hooks/" + "a" * 100_000)),
    ("two lengths", post(b"x", "Content-Length: 100")),
    ("a negative length", request("POST", "/hooks/open", "Content-Length: -1")),
    ("a length of words", request("POST", "/hooks/open", "Content-Length: many")),
    ("a length no machine can hold", request("POST", "/hooks/open", "Content-Length: " + "9" * 40)),
    ("a length and chunks", post(b"0\r\n\r\n", "Transfer-Encoding: chunked")),
    (
        "a chunk of words",
        request("POST", "/hooks/open", "Transfer-Encoding: chunked", body=b"many\r\nx\r\n"),
    ),
    ("an expectation nobody meets", post(b"x", TEXT, "Expect: the-spanish-inquisition")),
    ("br, which needs what is not there", post(b"x", TEXT, "Content-Encoding: br")),
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in NOT_HTTP])
async def test_what_is_no_http_gets_no_further_than_the_server(target: Site, sent: bytes) -> None:
    """The library under the routes refuses it in its own words (4xx), and the site goes on."""
    answer = await exchange(target.port, sent)

    assert 400 <= answer.status < 500, answer
    assert (await target.post("open")).status == 202


ODD: Sequence[tuple[str, bytes]] = [
    ("NUL in the text", post(b"a\x00b", TEXT)),
    ("only NUL", post(b"\x00", TEXT)),
    ("NUL in JSON", as_json(rb'{"a\u0000": "\u0000"}')),
    (
        "half a surrogate pair",
        post(rb'{"who": "\ud83d", "what": "\udc4b"}', JSON, to="/hooks/keyed"),
    ),
    ("control characters", post(b"\x01\x1b[31m\x7f", TEXT)),
    ("a type of nonsense", post(b"x", "Content-Type: ;;;")),
    ("a type of bytes", post(b"x", b"Content-Type: \xff/\xfe")),
    ("a charset of nonsense", post(b"{}", f"{JSON}; charset=klingon")),
    ("a file", post(b"x", "Content-Type: application/octet-stream")),
    ("as large as may be", post(b"x" * LIMITS.bytes, TEXT)),
    ("as deep as may be", as_json(b"[" * LIMITS.depth + b"]" * LIMITS.depth)),
    ("brackets in strings", as_json(json.dumps(["[" * 100, '\\"{{{' * 9]).encode())),
    ("a large number", as_json(b"9" * 400)),
    ("header bytes", post(b"x", TEXT, b"X-A: \xff\xfe\x80")),
    ("header bytes, shown", post(b"x", TEXT, b"X-A: \xff\xfe\x80", to="/hooks/headers?colour=1")),
    ("query bytes, shown", post(b"x", TEXT, to="/hooks/headers?colour=%ff%00%ed%a0%80")),
    ("an endless query", post(b"x", TEXT, to="/hooks/open?" + "a=1&" * 1500)),
    ("the same query twice", post(b"x", TEXT, to="/hooks/headers?colour=1&colour=2")),
    ("chunks", chunked(b"a", b"b" * 1000)),
    ("identity", post(b"x", TEXT, "Content-Encoding: identity")),
    *(
        (f"Prefer: {prefer[:20]}", post(b"x", TEXT, b"Prefer: " + prefer.encode()))
        for prefer in (
            "",
            "wait",
            "wait=",
            "wait=soon",
            "wait=-1",
            "wait=1.5",
            "wait=0x10",
            "wait=\u0663",
            "wait=" + "9" * 4000,
            "await=1",
            "wait=0",
            "wait=0;wait=1;" * 500,
            "respond-async",
            "\xff" * 100,
            "," * 5000,
        )
    ),
]


async def test_what_is_only_odd_is_taken(database_url: str) -> None:
    """What the rules allow becomes a turn on each kind of database, however strange it looks."""
    async with opened(database_url) as database, serving(database) as site:
        answers = await asyncio.gather(*(exchange(site.port, sent) for _, sent in ODD))
        turns = [TurnId(one.json["turn"]) for one in answers if one.status == 202]
        results = await asyncio.gather(*(site.engine.result(turn) for turn in turns))
        states = {result.turn.state for result in results}

    refused = [name for (name, _), one in zip(ODD, answers, strict=True) if one.status != 202]
    assert refused == []
    assert states == {TurnState.SUCCEEDED}


@pytest.mark.parametrize(
    "sent",
    [
        request("POST", "/hooks/open", TEXT, "Content-Length: 100", body=b"slow"),
        request("POST", "/hooks/open", TEXT, "Transfer-Encoding: chunked", body=b"5\r\nslow"),
        request("POST", "/hooks/standard", "Content-Length: 1"),
    ],
    ids=["length", "chunks", "nothing"],
)
async def test_a_body_that_drips_is_cut_off(sqlite_url: str, sent: bytes) -> None:
    """Whoever does not send the body in time loses the connection, and nobody else does."""
    limits = BodyLimits(bytes=4096, depth=16, read=timedelta(milliseconds=50))

    async with (
        opened(sqlite_url) as database,
        serving(database, limits=limits) as site,
        asyncio.timeout(60),
    ):
        drips = [exchange(site.port, sent) for _ in range(20)]
        *slow, quick = await asyncio.gather(*drips, site.post("open"))

    assert [answer.status for answer in slow] == [408] * 20
    assert {answer.type for answer in slow} == {"application/problem+json"}
    assert {answer.headers["Connection"] for answer in slow} == {"close"}
    assert quick.status == 202


async def test_after_a_problem_with_the_body_the_connection_is_closed(sqlite_url: str) -> None:
    """The server hangs up: it does not wait for ever for the rest of what it refused."""
    limits = BodyLimits(bytes=4096, depth=16, read=timedelta(milliseconds=50))
    sent = b"POST /hooks/open HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow"

    async with (
        opened(sqlite_url) as database,
        serving(database, limits=limits) as site,
        asyncio.timeout(60),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        try:
            writer.write(sent)
            everything = await reader.read()
        finally:
            await closed(writer)

    assert everything.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_breaks_off_starts_no_turn(target: Site) -> None:
    """Half a post is no post, whether anybody is left to be told or not."""
    sent = request("POST", "/hooks/fixed", TEXT, "Content-Length: 100", body=b"half")

    answer = await _hung_up(target, sent)
    whole = await target.post("fixed", "whole", {"Prefer": "wait=60"})

    assert answer in (b"", b"HTTP/1.1 400")
    assert await _texts(target, whole.json["session"]) == ["whole", "Hello."]


async def _hung_up(target: Site, sent: bytes) -> bytes:
    """Send and end our side; return the beginning of whatever is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(sent)
    writer.write_eof()
    try:
        return (await reader.read())[:12]
    finally:
        await closed(writer)


async def _texts(target: Site, session: str) -> list[str]:
    query = (
        sa.select(messages.c.text)
        .where(messages.c.session_id == session)
        .order_by(messages.c.number)
    )
    return await target.engine.database.read(lambda conn: list(conn.scalars(query)))
