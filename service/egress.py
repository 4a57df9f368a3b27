"""The one client for URLs that somebody else chose: it checks the address it really connects to."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

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

Judge = Callable[[str], str | None]
"""Why an address must not be reached, or None; see `core.network.forbidden`."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `body` is what came in time of its first 4 KiB, still packed if it was."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Forbidden(OSError):
    """The name leads to an address that must not be reached."""


class Egress:
    """Posts to URLs over connections whose real address was checked when they were made.

    Redirects are not followed, proxies of the environment not used, cookies and connections not
    kept. A name is looked up once per post and connected to as it was checked, so an answer that
    changes in between has no effect.
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

        Raises AddressGone for what must not be reached, ChannelDown for everything that may pass.
        After ChannelDown the body may have arrived: give it an id that makes a repeat harmless.
        """
        target = _usable(url, allow_private)
        try:
            response = await self._session(allow_private).post(
                target, data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _translated(target, error) from error
        try:
            return Response(response.status, response.headers, await _beginning(response))
        finally:
            response.close()

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


def _usable(url: str, allow_private: bool) -> URL:
    try:
        target = URL(url)
    except ValueError as error:
        raise AddressGone("this is no URL that can be called") from error
    if target.scheme != "https" and not (allow_private and target.scheme == "http"):
        raise AddressGone("only https:// may be called")
    if not target.raw_host or target.user is not None or target.password is not None:
        raise AddressGone("the URL must name a host, and no user or password")
    return target


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
    if isinstance(error, aiohttp.InvalidURL):
        return AddressGone("this is no URL that can be called")
    if isinstance(error, TimeoutError):
        return ChannelDown(f"{target.host} did not answer in time")
    return ChannelDown(f"{target.host} cannot be reached: {type(error).__name__}")
