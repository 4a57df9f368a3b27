"""Calls to URLs that somebody else chose: what is reached, what is not, and what counts as said."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from service.egress import Egress, Page, reason
from service.errors import AddressGone, ChannelDown, ChannelError

HERE = "127.0.0.1"
OUTSIDE = "127.0.0.2"
"""Stands for an address on the internet: on this machine, but `outside` lets it pass."""

UNTRUSTED = Path(__file__).parent / "fixtures" / "untrusted.pem"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHORT = timedelta(milliseconds=300)


class Listener:
    """A server on loopback that gives every connection the same bytes and remembers requests."""

    def __init__(
        self,
        answer: bytes = OK,
        *,
        host: str = HERE,
        hangs: bool = False,
        endless: bool = False,
        tls: bool = False,
    ) -> None:
        self.reached: list[str] = []
        self.requests: list[bytes] = []
        self._answer = answer
        self._host = host
        self._hangs = hangs
        self._endless = endless
        self._tls = tls
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server((host, 0))

    @property
    def connections(self) -> int:
        """How many were made."""
        return len(self.reached)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Its address, for who may reach private ones."""
        return f"http://{self._host}:{self.port}/hook"

    async def __aenter__(self) -> Listener:
        self._server = await asyncio.start_server(self._connected, sock=self._socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        self._server.close()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.reached.append(writer.get_extra_info("sockname")[0])
        try:
            if self._tls:
                # By hand, so that a connection counts before its handshake.
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(UNTRUSTED)
                await writer.start_tls(context)
            self.requests.append(await _request(reader))
            writer.write(self._answer)
            await writer.drain()
            while self._endless:
                writer.write(bytes(65_536))
                await writer.drain()
            if self._hangs:
                await self._over.wait()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class Names(AbstractResolver):
    """A resolver whose every answer is written down beforehand; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.lookups = 0
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.lookups += 1
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if not addresses:
            raise OSError("no such name")
        return [
            ResolveResult(
                hostname=host,
                host=one,
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for one in addresses
        ]

    async def close(self) -> None:
        pass


def outside(address: str) -> str | None:
    """A judge for whom OUTSIDE is the internet and all else is not."""
    return None if address == OUTSIDE else "inside"


@pytest.fixture
async def opened() -> AsyncGenerator[Callable[[Egress], Egress]]:
    """Closes at the end what a test opened."""
    async with AsyncExitStack() as stack:
        yield partial(_closing, stack)


def _closing(stack: AsyncExitStack, egress: Egress) -> Egress:
    stack.push_async_callback(egress.close)
    return egress


Open = Callable[[Egress], Egress]


async def test_a_post_brings_its_body_and_headers(opened: Open) -> None:
    """And gets status, headers and body; nothing is asked to be packed."""
    async with Listener() as receiver:
        egress = opened(Egress())

        response = await egress.post(
            receiver.url, body=b'{"a":1}', headers={"webhook-id": "d1"}, allow_private=True
        )

    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    assert (response.status, response.body) == (200, b"ok")
    assert response.headers["Content-Length"] == "2"
    assert body == b'{"a":1}'
    assert b"webhook-id: d1" in head
    assert b"Accept-Encoding: identity" in head


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 404, 410, 500, 503])
async def test_any_status_is_an_answer_and_no_redirect_is_followed(
    opened: Open, status: int
) -> None:
    """Where a redirect leads is never asked."""
    async with Listener() as elsewhere:
        answer = f"HTTP/1.1 {status} X\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n"
        async with Listener(answer.encode()) as receiver:
            response = await opened(Egress()).post(
                receiver.url, body=b"", headers={}, allow_private=True
            )

    assert response.status == status
    assert (receiver.connections, elsewhere.connections) == (1, 0)


async def test_cookies_are_not_kept(opened: Open) -> None:
    """A receiver cannot recognise us by one."""
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: who=us\r\nContent-Length: 0\r\n\r\n"
    async with Listener(answer) as receiver:
        egress = opened(Egress())

        for _ in range(2):
            await egress.post(receiver.url, body=b"", headers={}, allow_private=True)

    assert b"cookie" not in b"".join(receiver.requests).lower()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127。0。0。1",
        "①②⑦.⓪.⓪.①",
        "0.0.0.0",
        "0",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "[::1%25lo]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
    ],
)
async def test_no_spelling_of_a_private_address_is_reached(opened: Open, host: str) -> None:
    """Decimal, hex, octal, short, Unicode and every IPv6 form; not even a connection is made."""
    async with Listener() as canary:
        with pytest.raises(AddressGone):
            await opened(Egress()).post(
                f"https://{host}:{canary.port}/", body=b"", headers={}, allow_private=False
            )

    assert canary.connections == 0


async def test_a_name_that_changes_its_address_is_checked_every_time(opened: Open) -> None:
    """One lookup per post, and the connection goes to what that lookup said."""
    async with Listener(host="0.0.0.0", tls=True) as receiver:
        names = Names([OUTSIDE], [HERE])
        egress = opened(Egress(names, judge=outside))
        url = f"https://receiver.example:{receiver.port}/"

        # Its certificate is refused, so reaching it is as far as this goes.
        with pytest.raises(ChannelDown):
            await egress.post(url, body=b"", headers={}, allow_private=False)
        with pytest.raises(AddressGone, match=r"receiver\.example must not be reached"):
            await egress.post(url, body=b"", headers={}, allow_private=False)

    assert receiver.reached == [OUTSIDE]
    assert names.lookups == 2


@pytest.mark.parametrize("addresses", [[OUTSIDE, HERE], [HERE, OUTSIDE]])
async def test_one_forbidden_address_refuses_the_name(opened: Open, addresses: list[str]) -> None:
    """Which of several addresses is tried first must not matter."""
    async with Listener(host=OUTSIDE) as receiver:
        with pytest.raises(AddressGone):
            await opened(Egress(Names(addresses), judge=outside)).post(
                f"https://receiver.example:{receiver.port}/",
                body=b"",
                headers={},
                allow_private=False,
            )

    assert receiver.connections == 0


async def test_a_private_target_lends_nothing_to_a_public_one(opened: Open) -> None:
    """Having been allowed to call an address once does not let the next caller reach it."""
    async with Listener() as receiver:
        egress = opened(Egress(Names([HERE])))
        url = f"://receiver.example:{receiver.port}/"
        await egress.post(f"http{url}", body=b"", headers={}, allow_private=True)

        with pytest.raises(AddressGone):
            await egress.post(f"https{url}", body=b"", headers={}, allow_private=False)

    assert receiver.connections == 1


@pytest.mark.parametrize(
    ("url", "allow_private"),
    [
        ("http://example.org/", False),
        ("ftp://example.org/", True),
        ("file:///etc/passwd", True),
        ("gopher://127.0.0.1/", True),
        ("//example.org/", True),
        ("example.org", True),
        ("", True),
        ("https://", True),
        ("https:///path", True),
        ("https://[::1", True),
        ("https://example.org:99999/", True),
        ("https://user:password@example.org/", True),
        ("https://user@example.org/", True),
        ("https://127.0.0.1\\@example.org/", False),
    ],
)
async def test_a_url_that_cannot_be_called_is_refused(
    opened: Open, url: str, allow_private: bool
) -> None:
    """For good: calling it again would change nothing; the text shows no password."""
    egress = opened(Egress(Names([])))

    with pytest.raises(AddressGone) as caught:
        await egress.post(url, body=b"", headers={}, allow_private=allow_private)

    assert "password@" not in str(caught.value)


async def test_a_certificate_nobody_vouches_for_is_refused(opened: Open) -> None:
    """Before a byte of the request is sent."""
    async with Listener(host=OUTSIDE, tls=True) as receiver:
        with pytest.raises(ChannelDown, match="nobody vouches for its cert"):
            await opened(Egress(Names([OUTSIDE]), judge=outside)).post(
                f"https://receiver.example:{receiver.port}/",
                body=b"secret",
                headers={},
                allow_private=False,
            )

    assert receiver.connections == 1
    assert receiver.requests == []


async def test_what_may_pass_is_down(opened: Open) -> None:
    """A closed port, a name without address, a connection that is cut before the status."""
    with socket.create_server((HERE, 0)) as taken:
        closed = f"http://{HERE}:{taken.getsockname()[1]}/"
    async with Listener(b"") as cutting:
        for egress, url, why in (
            (opened(Egress()), closed, "127.0.0.1 cannot be reached: Connection refused"),
            (opened(Egress(Names([]))), "https://nobody.example/", "nobody.example cannot be"),
            (opened(Egress()), cutting.url, "it hung up without an answer"),
        ):
            with pytest.raises(ChannelDown, match=why):
                await egress.post(url, body=b"", headers={}, allow_private=True)


async def test_an_answer_that_breaks_off_is_told_in_words() -> None:
    """Terminals say the same as deliveries of why there is no connection any more."""
    async with (
        Listener(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") as cutting,
        aiohttp.ClientSession() as client,
        client.get(cutting.url) as answer,
    ):
        with pytest.raises(aiohttp.ClientPayloadError) as caught:
            await answer.read()

    assert reason(caught.value) == "it broke off in the middle of its answer"


async def test_silence_is_down_after_the_deadline(opened: Open) -> None:
    """A receiver that takes the post and says nothing."""
    async with Listener(b"", hangs=True) as receiver:
        with pytest.raises(ChannelDown, match="did not answer in time"):
            await opened(Egress(total=SHORT)).post(
                receiver.url, body=b"", headers={}, allow_private=True
            )

    assert receiver.connections == 1


async def test_of_a_huge_body_only_the_beginning_is_read(opened: Open) -> None:
    """However much the receiver goes on to send."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n"
    async with Listener(head, endless=True) as receiver:
        response = await opened(Egress()).post(
            receiver.url, body=b"", headers={}, allow_private=True
        )

    assert (response.status, len(response.body)) == (200, 4096)


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_slow_or_cut_body_does_not_undo_the_status(opened: Open, hangs: bool) -> None:
    """The receiver said 200: posting again because of its page would be a repeat."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
    async with Listener(head, hangs=hangs) as receiver:
        response = await opened(Egress(total=SHORT)).post(
            receiver.url, body=b"", headers={}, allow_private=True
        )

    assert (response.status, response.body) == (200, b"part")


async def test_a_packed_body_stays_packed(opened: Open) -> None:
    """Nobody can make us unpack a bomb."""
    packed = gzip.compress(bytes(10_000_000))
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
    ).encode()
    async with Listener(head + packed) as receiver:
        response = await opened(Egress()).post(
            receiver.url, body=b"", headers={}, allow_private=True
        )

    assert response.body == packed[:4096]


async def test_a_page_is_fetched(opened: Open) -> None:
    """Over plain HTTP, too; any status is an answer."""
    async with Listener(b"HTTP/1.1 418 Tea\r\nA: b\r\nContent-Length: 2\r\n\r\nok") as site:
        url = site.url
        page = await _got(opened, site)

    assert (page.url, page.status, page.body, page.whole) == (url, 418, b"ok", True)
    assert page.headers["A"] == "b"
    assert site.requests[0].startswith(b"GET /hook HTTP/1.1\r\n")


@pytest.mark.parametrize("status", [300, 304, 305, 302])
async def test_a_status_that_leads_nowhere_is_an_answer(opened: Open, status: int) -> None:
    """No redirect, or one that does not say where to."""
    answer = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"
    async with Listener(answer.encode()) as site:
        page = await _got(opened, site)

    assert page.status == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_page_that_moved_is_fetched_there(opened: Open, status: int) -> None:
    """As a GET, whatever the kind of redirect, and without what the first answer set."""
    async with Listener() as there:
        url = there.url
        answer = (
            f"HTTP/1.1 {status} X\r\nLocation: {url}\r\nSet-Cookie: a=b\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        async with Listener(answer.encode()) as here:
            page = await _got(opened, here)

    assert (page.url, page.body) == (url, b"ok")
    assert there.requests[0].startswith(b"GET ")
    assert b"cookie" not in there.requests[0].lower()


@pytest.mark.parametrize(("longest", "whole"), [(9, False), (10, True), (11, True)])
@pytest.mark.parametrize("packing", ["identity", "gzip", "X-GZIP", "deflate", "bare"])
async def test_a_page_is_unpacked_up_to_its_longest(
    opened: Open, packing: str, longest: int, whole: bool
) -> None:
    """Not a byte more, however it is packed; also as the servers do that get "deflate" wrong."""
    packed = {
        "identity": b"0123456789",
        "deflate": zlib.compress(b"0123456789"),
        "bare": zlib.compress(b"0123456789")[2:-4],
    }
    body = packed.get(packing, gzip.compress(b"0123456789"))
    name = "deflate" if packing == "bare" else packing
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with Listener(head.encode() + body) as site:
        page = await _got(opened, site, longest=longest)

    assert (page.body, page.whole) == (b"0123456789"[:longest], whole)


@pytest.mark.parametrize(
    ("headers", "body", "problem"),
    [
        ("Content-Encoding: br\r\n", b"ok", "in a packing that nobody asked for"),
        ("Content-Encoding: gzip, gzip\r\n", b"ok", "in a packing that nobody asked for"),
        ("Content-Encoding: gzip\r\n", b"ok", "cannot be unpacked"),
        ("Content-Encoding: deflate\r\n", b"ok", "cannot be unpacked"),
    ],
)
async def test_a_page_that_cannot_be_unpacked(
    opened: Open, headers: str, body: bytes, problem: str
) -> None:
    """Is no page, and fetching it again is no use."""
    head = f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    async with Listener(head.encode() + body) as site:
        with pytest.raises(ChannelError, match=problem) as caught:
            await _got(opened, site)

    assert caught.value.permanent


async def test_of_an_endless_page_only_the_beginning_is_read(opened: Open) -> None:
    """However much the server goes on to send."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n"
    async with Listener(head, endless=True) as site:
        page = await _got(opened, site, longest=100_000)

    assert (len(page.body), page.whole) == (100_000, False)


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_page_that_breaks_off_is_down(opened: Open, hangs: bool) -> None:
    """Half a page is none: unlike a post it can simply be fetched again."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
    async with Listener(head, hangs=hangs) as site:
        with pytest.raises(ChannelDown):
            await _got(opened, site)


async def test_too_many_redirects(opened: Open) -> None:
    """The last one is not followed."""
    answer = b"HTTP/1.1 302 X\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"
    async with Listener(answer) as site:
        with pytest.raises(ChannelError, match="redirected more than 2 times"):
            await _got(opened, site)

    assert site.connections == 3


async def test_a_name_no_name_server_could_know_is_refused(opened: Open) -> None:
    """For a post as for a page: calling it again would change nothing."""
    egress = opened(Egress())
    name = f"https://{'a' * 64}.example/"

    with pytest.raises(AddressGone):
        await egress.post(name, body=b"", headers={}, allow_private=False)
    with pytest.raises(AddressGone):
        await egress.get(name, longest=1, redirects=0, accept="*/*", allow_private=False)


async def _got(opened: Open, site: Listener, *, longest: int = 1000) -> Page:
    return await opened(Egress(total=SHORT)).get(
        site.url, longest=longest, redirects=2, accept="*/*", allow_private=True
    )


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    return head + await reader.readexactly(sum(lengths))
