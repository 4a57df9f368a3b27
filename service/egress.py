"""The one client for URLs that somebody else chose: it checks the address it really connects to."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from aiohttp.typedefs import LooseHeaders
from multidict import CIMultiDictProxy
from yarl import URL

from service.core import network
from service.errors import AddressGone, ChannelDown, ChannelError

# Enough to see why; a receiver's page is not ours to keep.
_BODY_BYTES = 4096
# Unpacked by nobody: a small body could otherwise become a huge one.
_HEADERS: LooseHeaders = {"User-Agent": "Ringback", "Accept-Encoding": "identity"}
_PIECE = 16_384
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# They mean different things to different readers of URLs; who wants them can write them as %XX.
_AMBIGUOUS = frozenset("\\\x7f") | {chr(number) for number in range(33)}

_SECURE = frozenset({"https"})
_SCHEMES = _SECURE | {"http"}
# ValueError is how some names that no name server could know are refused.
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError)

Judge = Callable[[str], str | None]
"""Why an address must not be reached, or None; see `core.network.forbidden`."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `body` is what came in time of its first 4 KiB, still packed if it was."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """What stands at a URL, wherever it led."""

    url: str
    """The last one, after all redirects."""
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    """Unpacked, and no longer than was asked for."""
    whole: bool
    """Whether that is all of it."""


class Forbidden(OSError):
    """The name leads to an address that must not be reached."""


class Egress:
    """Calls URLs over connections whose real address was checked when they were made.

    Proxies of the environment are not used, cookies and connections not kept. A name is looked up
    once per request and connected to as it was checked, so an answer that changes in between has
    no effect.
    """

    def __init__(
        self,
        resolver: AbstractResolver | None = None,
        *,
        judge: Judge = network.forbidden,
        connect: timedelta = timedelta(seconds=5),
        total: timedelta = timedelta(seconds=15),
    ) -> None:
        self._resolver = resolver
        self._judge = judge
        self._timeout = aiohttp.ClientTimeout(
            total=total.total_seconds(), connect=connect.total_seconds()
        )
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions = {}

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], allow_private: bool
    ) -> Response:
        """Post `body`; any status is an answer, also when the rest of it never comes.

        Redirects are not followed. Raises AddressGone for what must not be reached, ChannelDown for
        everything that may pass.
        After ChannelDown the body may have arrived: give it an id that makes a repeat harmless.
        """
        target = _usable(url, _SCHEMES if allow_private else _SECURE)
        try:
            response = await self._session(allow_private).post(
                target, data=body, headers=headers, allow_redirects=False
            )
        except _FAILURES as error:
            raise _translated(target, error) from error
        try:
            return Response(response.status, response.headers, await _beginning(response))
        finally:
            response.close()

    async def get(
        self, url: str, *, longest: int, redirects: int, accept: str, allow_private: bool
    ) -> Page:
        """Fetch what stands at `url`: at most `longest` bytes of it, once it is unpacked.

        At most so many redirects are followed; the address of each is checked like the first, and
        http:// will do for any. Any other status is an answer. Each request has the whole deadline.
        Raises AddressGone for what must not be reached, ChannelDown for what may pass, and another
        ChannelError for an answer that leads or reads nowhere.
        """
        if not _AMBIGUOUS.isdisjoint(url):
            raise AddressGone("the URL must not hold spaces, control characters or backslashes")
        target = _usable(url, _SCHEMES)
        headers = {"Accept": accept, "Accept-Encoding": "gzip, deflate"}
        for left in range(redirects, -1, -1):
            try:
                async with self._session(allow_private).get(
                    target, headers=headers, allow_redirects=False
                ) as response:
                    location = _location(response)
                    if location is None:
                        body, whole = await _unpacked(response, longest)
                        status = response.status
                        return Page(str(target), status, response.headers, body, whole)
            except _FAILURES as error:
                raise _translated(target, error) from error
            if left:
                target = _usable(_joined(target, location), _SCHEMES)
        raise ChannelError(f"it was redirected more than {redirects} times")

    def _session(self, allow_private: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(allow_private)
        if session is None:
            session = aiohttp.ClientSession(
                connector=self._connector(allow_private),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers=_HEADERS,
            )
            self._sessions[allow_private] = session
        return session

    def _connector(self, allow_private: bool) -> aiohttp.TCPConnector:
        resolver = self._resolver or ThreadedResolver()
        if allow_private:
            return aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
        return aiohttp.TCPConnector(
            resolver=_CheckedResolver(resolver, self._judge),
            socket_factory=_CheckedSocket(self._judge),
            use_dns_cache=False,
            force_close=True,
        )


class _CheckedResolver(AbstractResolver):
    """Refuses a name when any of its addresses is forbidden, so that none is left to chance."""

    def __init__(self, inner: AbstractResolver, judge: Judge) -> None:
        self._inner = inner
        self._judge = judge

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve; raises Forbidden."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if reason := self._judge(one["host"]):
                raise Forbidden(f"it leads to {one['host']}, which is {reason}")
        return found

    async def close(self) -> None:
        """Close the resolver inside."""
        await self._inner.close()


@dataclass(frozen=True, slots=True)
class _CheckedSocket:
    """Makes sockets for allowed addresses only; addresses written into a URL meet no resolver."""

    judge: Judge

    def __call__(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        host = str(address[0])
        if reason := self.judge(host):
            raise Forbidden(f"{host} is {reason}")
        return socket.socket(family, kind, protocol)


def _usable(url: str, schemes: frozenset[str]) -> URL:
    try:
        target = URL(url)
    except ValueError as error:
        raise AddressGone("this is no URL that can be called") from error
    if target.scheme not in schemes:
        names = " and ".join(f"{scheme}://" for scheme in sorted(schemes))
        raise AddressGone(f"only {names} may be called")
    if not target.raw_host or target.user is not None or target.password is not None:
        raise AddressGone("the URL must name a host, and no user or password")
    return target


def _location(response: aiohttp.ClientResponse) -> str | None:
    """Where the answer leads instead; None when it is one itself."""
    if response.status not in _REDIRECTS:
        return None
    return response.headers.get("Location")


def _joined(base: URL, location: str) -> str:
    try:
        return str(base.join(URL(location)))
    except ValueError as error:
        raise AddressGone("it redirects to what is no URL") from error


async def _unpacked(response: aiohttp.ClientResponse, longest: int) -> tuple[bytes, bool]:
    """The body up to so many bytes, and whether that is all of it."""
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    unpack = _UNPACKERS.get(packing)
    if unpack is None:
        raise ChannelError("it answers in a packing that nobody asked for")
    body = b""
    state = unpack()
    try:
        while len(body) <= longest and (piece := await response.content.read(_PIECE)):
            body += state.decompress(piece, longest + 1 - len(body))
    except zlib.error as error:
        raise ChannelError("its answer cannot be unpacked") from error
    return body[:longest], len(body) <= longest


class _Plain:
    """Unpacks what is not packed."""

    def decompress(self, data: bytes, _: int, /) -> bytes:
        """Return it."""
        return data


class _Deflate:
    """Unpacks both of what servers call "deflate": with the header of zlib, and without."""

    def __init__(self) -> None:
        self._inner: Any = None

    def decompress(self, data: bytes, longest: int, /) -> bytes:
        """Return the next bytes, at most so many."""
        if self._inner is None:
            with_header = data[0] & 0x0F == zlib.DEFLATED
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if with_header else -zlib.MAX_WBITS)
        unpacked: bytes = self._inner.decompress(data, longest)
        return unpacked


def _gzip() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


_UNPACKERS: Mapping[str, Callable[[], Any]] = {
    "": _Plain,
    "identity": _Plain,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _Deflate,
}


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    try:
        while len(body) < _BODY_BYTES and (
            piece := await response.content.read(_BODY_BYTES - len(body))
        ):
            body += piece
    except (aiohttp.ClientError, TimeoutError, OSError):
        # The status is the answer; calling again because of its page would repeat the post.
        return body
    return body


def _translated(target: URL, error: BaseException) -> ChannelError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Forbidden):
            return AddressGone(f"{target.host} must not be reached: {cause}")
        cause = cause.__cause__
    # Errors of certificates are both.
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return AddressGone("this is no URL that can be called")
    if isinstance(error, TimeoutError):
        return ChannelDown(f"{target.host} did not answer in time")
    return ChannelDown(f"{target.host} cannot be reached: {reason(error)}")


def reason(error: BaseException) -> str:
    """Why there is no connection, without what the library says around it: no URL, no object."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "nobody vouches for its certificate"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "TLS failed"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it hung up without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "it broke off in the middle of its answer"
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if not isinstance(inner, OSError):
        return type(inner).__name__
    # What the system says, not asyncio's version of it; names that are not found count below zero.
    number = inner.errno or 0
    return os.strerror(number) if number > 0 else inner.strerror or type(inner).__name__
