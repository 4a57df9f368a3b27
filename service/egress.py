"""The one client for URLs that somebody else chose: it checks the address it really connects to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from multidict import CIMultiDictProxy
from yarl import URL

from service.core.network import forbidden
from service.errors import AddressGone, ChannelDown, ChannelError

_CONNECT_SECONDS = 5.0
_TOTAL_SECONDS = 15.0
# Enough to see why; a receiver's page is not ours to keep.
_BODY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `body` is its first 4 KiB."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Forbidden(OSError):
    """The name leads to an address that must not be reached."""


class Egress:
    """Posts to URLs over connections whose resolved address was checked when they were made.

    Redirects are not followed, proxies of the environment not used, cookies not kept. There are
    two pools, because a connection made for a private target must not serve another one.
    """

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions = {}

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], allow_private: bool
    ) -> Response:
        """Post `body`; any status is an answer.

        Raises AddressGone for an address that must not be reached, ChannelDown for everything
        that may pass. After ChannelDown the body may have arrived: give it an id that makes a
        repeat harmless.
        """
        target = URL(url)
        if target.scheme != "https" and not allow_private:
            raise AddressGone("only https:// may be called")
        host = target.host or ""
        if not allow_private and (reason := _literal(host)):
            raise AddressGone(f"{host} must not be reached: {reason}")
        try:
            async with self._session(allow_private).post(
                target, data=body, headers=dict(headers), allow_redirects=False
            ) as response:
                return Response(
                    response.status, response.headers, await response.content.read(_BODY_BYTES)
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _translated(host, error) from error

    def _session(self, allow_private: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(allow_private)
        if session is None:
            resolver = self._resolver or ThreadedResolver()
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=resolver if allow_private else _CheckedResolver(resolver),
                    use_dns_cache=False,
                    limit=50,
                ),
                timeout=aiohttp.ClientTimeout(total=_TOTAL_SECONDS, connect=_CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": "Ringback"},
            )
            self._sessions[allow_private] = session
        return session


class _CheckedResolver(AbstractResolver):
    """Gives out only addresses that may be reached; the connector connects to exactly these."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve and refuse the name when any of its addresses is forbidden."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if reason := forbidden(one["host"]):
                raise Forbidden(f"{host} leads to {one['host']}, which is {reason}")
        return found

    async def close(self) -> None:
        """Close the resolver inside."""
        await self._inner.close()


def _literal(host: str) -> str | None:
    """Why a host that is an address in any spelling must not be reached; None for names."""
    try:
        # inet_aton also reads 127.1, 0x7f000001 and 2130706433, as the system does.
        return forbidden(socket.inet_ntoa(socket.inet_aton(host)))
    except OSError:
        pass
    return forbidden(host) if ":" in host else None


def _translated(host: str, error: BaseException) -> ChannelError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Forbidden):
            return AddressGone(f"{host} must not be reached: {cause}")
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return ChannelDown(f"{host} did not answer in time")
    return ChannelDown(f"{host} cannot be reached: {type(error).__name__}")
