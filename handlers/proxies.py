"""Reverse proxies in front of the service: whom a request is from, and whether it came straight."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
from aiohttp import web

from service.core.forwarding import Ip, Network, address_of, client_address, is_trusted

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_FORWARDED_FOR = "X-Forwarded-For"
_MARKS = frozenset({"forwarded", "via", "x-real-ip"})
_MARK_BEGINS = "x-forwarded-"


@dataclass(slots=True)
class Proxies:
    """The proxies that are believed about who asks.

    Nobody is let in for an address: it is counted by and logged, no more.
    """

    trusted: tuple[Network, ...] = ()
    _warned: bool = field(default=False, init=False)

    def client(self, request: web.Request) -> Ip | None:
        """The address that asks; None when there is none, as with a Unix socket."""
        self._warn(request)
        lines = request.headers.getall(_FORWARDED_FOR, ())
        return client_address(request.remote, lines, self.trusted)

    def is_between(self, request: web.Request) -> bool:
        """Whether a request came through a proxy, as far as it shows."""
        self._warn(request)
        return _is_marked(request) or self._is_from_trusted(request)

    def _is_from_trusted(self, request: web.Request) -> bool:
        return is_trusted(address_of(request.remote), self.trusted)

    def _warn(self, request: web.Request) -> None:
        """Say once that somebody forwards who is not believed: it may be a proxy of ours."""
        if self._warned or not _is_marked(request) or self._is_from_trusted(request):
            return
        self._warned = True
        hint = "if this is your reverse proxy, set server.trusted_proxies to its address"
        log.warning("http.proxy_not_trusted", peer=request.remote, hint=hint)


def _is_marked(request: web.Request) -> bool:
    """Whether a request has a header that proxies add, whoever wrote it."""
    names = (name.lower() for name in request.headers)
    return any(name in _MARKS or name.startswith(_MARK_BEGINS) for name in names)
