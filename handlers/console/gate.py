"""The gate before every call of the API: who asks, from which page, and whether they may."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum, auto
from functools import partial
from urllib.parse import urlsplit

from aiohttp import web

from handlers.console.watch import Watch
from handlers.http import HttpProblem, bearer
from handlers.proxies import Proxies
from service.core.access import OPERATOR, Operator, UserRole, identify, least_role, may_call
from service.core.forwarding import Network
from service.store import tokens, users
from service.store.database import Database
from service.store.users import Holder, SignIn

_LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?")
SAFE = frozenset({"GET", "HEAD"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOBODY = "send an operator's token: Authorization: Bearer …; make one: ringback token create NAME"
_OVER = "the sign-in is over; sign in again"
_INSECURE = (
    "a sign-in needs https, or a browser on this very machine: put a proxy with TLS in front and "
    'set server.public_url = "https://…", or open it under http://127.0.0.1 or http://localhost, '
    "with no proxy between"
)


# -- our own pages --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where browsers find the console. What proxies say about it counts for nothing."""

    public_url: str | None = None
    loopback: bool = True
    """Whether only this machine can connect."""
    trusted_proxies: tuple[Network, ...] = ()
    """Those are believed about who asks, and about nothing else."""

    @property
    def secure(self) -> bool:
        """Whether browsers come by https."""
        return self.public_url is not None and urlsplit(self.public_url).scheme == "https"

    @property
    def cookie(self) -> str:
        """The name of the cookie; with the prefix nobody but this very host can set it."""
        return "__Host-ringback" if self.secure else "ringback"

    def origins(self, host: str) -> Collection[str]:
        """The origins our own pages have in a browser that asks this host."""
        found = set()
        public = _origin(self.public_url) if self.public_url else None
        if public is not None and (self.secure or _LOOPBACK.fullmatch(public[len("http://") :])):
            found.add(public)
        if self.is_here(host):
            found.add(f"http://{host}")
        return found

    def is_here(self, host: str) -> bool:
        """Whether what connects is on this machine, and knows it by that name."""
        return self.loopback and _LOOPBACK.fullmatch(host) is not None


def _origin(url: str) -> str | None:
    """The origin of a URL as browsers write it; None when they would not open it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        host = f"[{host}]" if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        return None
    usual = parts.port in (None, _DEFAULT_PORTS.get(parts.scheme))
    return f"{parts.scheme}://{host}" if usual else f"{parts.scheme}://{host}:{parts.port}"


def require_own_page(request: web.Request, place: Place, *, socket: bool = False) -> None:
    """Raise HttpProblem 403 unless one of our own pages asks.

    Reading is free of an Origin, as browsers send none then. A socket is not, although it is
    opened by GET: the answer of one can be read by any page.
    """
    if _is_foreign(request, place.origins(_host(request)), socket=socket):
        detail = (
            "this came from another page, or does not say from which: the header Origin must name "
            "this console; behind a proxy set server.public_url to the address browsers use"
        )
        raise HttpProblem(403, "Forbidden", detail)


def _host(request: web.Request) -> str:
    return request.headers.get("Host", "")


def _is_foreign(request: web.Request, own: Collection[str], *, socket: bool) -> bool:
    origins = request.headers.getall("Origin", ())
    sites = request.headers.getall("Sec-Fetch-Site", ())
    reads = request.method in SAFE and not socket
    if len(origins) > 1 or len(sites) > 1:
        return True
    if sites and sites[0] != "same-origin" and not (reads and sites[0] == "none"):
        return True
    if origins:
        return origins[0] not in own
    return not reads and (socket or not sites)


Over = Callable[[Callable[[], object]], AbstractContextManager[object]]
"""Calls what it is given should something cease to hold inside of its block."""


# -- whoever asks ---------------------------------------------------------------------------------


class By(StrEnum):
    """What somebody showed."""

    CONFIG = auto()  # a token of the configuration, or this process's own
    TOKEN = auto()  # an issued token
    COOKIE = auto()


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who was let in."""

    name: str
    role: UserRole
    by: By
    digest: bytes
    """Of what was shown."""


VISITOR = web.RequestKey("visitor", Visitor)


class Gate:
    """Lets in whoever shows a token or the cookie of a sign-in, and may do what they ask."""

    def __init__(
        self,
        database: Database,
        tokens_: tuple[str, ...],
        place: Place,
        *,
        lasts: timedelta = timedelta(hours=12),
    ) -> None:
        self.database = database
        self.place = place
        self.proxies = Proxies(place.trusted_proxies)
        self.lasts = lasts
        self.watch = Watch(self._alive)
        self._tokens = tuple(token for token in tokens_ if token)
        self._configured = {_beginning(token) for token in self._tokens}

    async def admit(self, request: web.Request, *, socket: bool = False) -> Visitor:
        """Return who asks, and write it into the request. Raises HttpProblem 400, 401 or 403."""
        visitor = await self.visitor(request, socket=socket)
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else request.path
        require_role(visitor, request.method, path)
        request[VISITOR] = visitor
        return visitor

    async def require_operator(self, request: web.Request) -> None:
        """Raise HttpProblem unless an operator asks."""
        visitor = await self.visitor(request)
        if visitor.role is UserRole.VIEWER:
            raise HttpProblem(403, "Forbidden", "this is for operators")

    async def require_operator_or_here(self, request: web.Request) -> None:
        """Raise HttpProblem unless an operator asks, or this very machine without a proxy.

        A proxy that adds no header and calls us by a name of this machine cannot be told from it.
        """
        if self.proxies.is_between(request) or not self.place.is_here(_host(request)):
            await self.require_operator(request)

    def require_safe_line(self, request: web.Request) -> None:
        """Raise HttpProblem 403 where others could read what is sent, such as a cookie."""
        place = self.place
        straight = place.secure or not self.proxies.is_between(request)
        if not straight or not place.origins(_host(request)):
            raise HttpProblem(403, "Forbidden", _INSECURE)

    async def knows(self, request: web.Request) -> bool:
        """Whether somebody asks who may see the console."""
        try:
            await self.visitor(request)
        except HttpProblem:
            return False
        return True

    async def visitor(self, request: web.Request, *, socket: bool = False) -> Visitor:
        """Return who asks, whatever for. Raises HttpProblem 400, 401 or 403."""
        token, cookie = self.shown(request)
        if cookie is not None:
            require_own_page(request, self.place, socket=socket)
            return await self._by_cookie(users.digest(cookie))
        if token is None:
            raise nobody(_NOBODY)
        holder = await self.holder(token)
        if holder is None:
            raise nobody(_NOBODY)
        by = By.CONFIG if holder.kind == "config" else By.TOKEN
        return Visitor(called(holder), UserRole.ADMIN, by, tokens.digest(token))

    def shown(self, request: web.Request) -> tuple[str | None, str | None]:
        """The token and the cookie of a request. Raises HttpProblem 400 for more than one."""
        cookies = _cookies(request, self.place.cookie)
        token = bearer(request)
        headers = len(request.headers.getall("Authorization", ()))
        if headers > 1 or len(cookies) + (token is not None) > 1:
            detail = "show one credential only: a bearer token or the cookie of a sign-in"
            raise HttpProblem(400, "Bad request", detail)
        return token, cookies[0] if cookies else None

    async def holder(self, token: str) -> Holder | None:
        """Whose token this is, None when it is nobody's."""
        if isinstance(identify(token, tokens=self._tokens), Operator):
            return Holder("config", _beginning(token))
        # Our own tokens are told by their beginning, so that noise costs no query.
        if not token.startswith(tokens.PREFIX):
            return None
        name = await self.database.read(tokens.name_of, token)
        return None if name is None else Holder("token", name)

    async def again(self, visitor: Visitor) -> Visitor:
        """Let a visitor do one more thing. Raises HttpProblem 401 when that is over."""
        if visitor.by is By.COOKIE:
            return await self._by_cookie(visitor.digest)
        if visitor.by is By.TOKEN and not await self._alive([visitor.digest]):
            raise nobody(_NOBODY)
        return visitor

    @asynccontextmanager
    async def held(
        self, request: web.Request, visitor: Visitor, *others: Over
    ) -> AsyncGenerator[None]:
        """Cut the connection should what the visitor showed cease to hold inside of the block.

        Or anything else that `others` watch over.
        """
        limit = asyncio.timeout(None)
        watches: tuple[Over, ...] = (partial(self.watched, visitor), *others)
        try:
            async with limit:
                with ExitStack() as watched:
                    for over in watches:
                        watched.enter_context(over(partial(_expire, limit)))
                    yield
        except TimeoutError:
            if not limit.expired():
                raise
            if request.transport is not None:
                # The head of the answer may be out.
                request.transport.abort()
            raise nobody(_OVER) from None

    def watched(
        self, visitor: Visitor, end: Callable[[], object]
    ) -> AbstractContextManager[object]:
        """Call `end` should what the visitor showed cease to hold inside of the block."""
        if visitor.by is By.CONFIG:
            # The configuration is read once.
            return nullcontext()
        return self.watch.over(visitor.digest, end)

    async def _by_cookie(self, digest: bytes) -> Visitor:
        at = datetime.now(UTC)
        found = await self.database.read(users.find, digest, at=at)
        if found is None or not self._holds(found):
            raise nobody(_OVER)
        if users.is_due(found, at=at, lasts=self.lasts):
            await self.database.write(users.slide, digest, at=at, lasts=self.lasts)
        return Visitor(called(found.holder), found.role, By.COOKIE, digest)

    def _holds(self, sign_in: SignIn) -> bool:
        holder = sign_in.holder
        return holder.kind != "config" or holder.name in self._configured

    async def _alive(self, digests: Collection[bytes]) -> Collection[bytes]:
        return await self.database.read(users.alive, list(digests), at=datetime.now(UTC))


def require_role(visitor: Visitor, method: str, path: str) -> None:
    """Raise HttpProblem 403 unless the visitor may call this."""
    if not may_call(visitor.role, method, path):
        least = least_role(method, path)
        detail = f"this takes the role {least}; yours is {visitor.role}"
        raise HttpProblem(403, "Forbidden", detail)


def nobody(detail: str) -> HttpProblem:
    """Nobody we know asks."""
    return HttpProblem(401, "Unauthorized", detail, {"WWW-Authenticate": "Bearer"})


def called(holder: Holder) -> str:
    """What somebody is called at the console."""
    return OPERATOR if holder.kind == "config" else holder.name


def _beginning(token: str) -> str:
    """What is stored of a configured token, to know whether it is still one."""
    return tokens.digest(token).hex()[:32]


def _cookies(request: web.Request, name: str) -> list[str]:
    """Every value of a cookie: one that stands there twice is nobody's."""
    pairs = [
        pair.strip().partition("=")
        for header in request.headers.getall("Cookie", ())
        for pair in header.split(";")
    ]
    return [value for found, _, value in pairs if found == name and value]


def _expire(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())
