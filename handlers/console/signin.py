"""Sign in with a token, or with a name and password; sign out; who is signed in."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_network
from math import ceil
from urllib.parse import parse_qsl

import structlog
from aiohttp import web

from handlers.console.calls import Routes, as_object, bad
from handlers.console.gate import VISITOR, Gate, called, require_own_page
from handlers.http import BodyLimits, HttpProblem, parse_json, parse_text, read_body
from service.core.access import UserRole
from service.core.forwarding import Ip
from service.engine.holds import uptime
from service.store import users

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_MOST_BYTES = 16_384
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_FIELDS = frozenset({"token", "name", "password"})
# One hash takes 64 MiB for a moment.
_HASHES_AT_ONCE = 2
_WRONG = "that is no name and password, or no token, that we know"


class Attempts:
    """Failures of the last minute by whoever failed."""

    def __init__(
        self,
        *,
        most: int = 5,
        within: float = 60.0,
        kept: int = 10_000,
        clock: Callable[[], float] = uptime,
    ) -> None:
        self._most = most
        self._within = within
        self._kept = kept
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}

    def begin(self, *keys: str) -> float | None:
        """Count a failure ahead, so that a burst does not slip through; else seconds to wait."""
        at = self._clock()
        found = [self._of(key, at) for key in keys]
        waits = [one[0] + self._within - at for one in found if len(one) >= self._most]
        if waits:
            return max(waits)
        for one in found:
            one.append(at)
        return None

    def forgive(self, *keys: str) -> None:
        """Take the newest failure back: it was none."""
        for key in keys:
            failures = self._failures.get(key)
            if failures:
                failures.pop()

    def _of(self, key: str, at: float) -> deque[float]:
        failures = self._failures.pop(key, None)
        if failures is None:
            failures = deque()
            if len(self._failures) >= self._kept:
                # The one that nobody has asked about for the longest time.
                del self._failures[next(iter(self._failures))]
        while failures and failures[0] <= at - self._within:
            failures.popleft()
        self._failures[key] = failures
        return failures


class Passwords:
    """Compares passwords in threads, a few at once, with the same work for unknown people."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_HASHES_AT_ONCE)
        self._nobodys: str | None = None

    async def right(self, password: str, stored: str | None) -> bool:
        """Whether `password` is the stored one; None is the one of nobody."""
        async with self._slots:
            if self._nobodys is None:
                self._nobodys = await asyncio.to_thread(users.hashed, secrets.token_hex())
            compared = stored or self._nobodys
            right = await asyncio.to_thread(users.matches, password, compared)
        return right and stored is not None


@dataclass(frozen=True)
class SigningIn:
    """The calls around the cookie."""

    gate: Gate
    limits: BodyLimits
    attempts: Attempts = field(default_factory=Attempts)
    passwords: Passwords = field(default_factory=Passwords)

    def open_routes(self) -> list[web.RouteDef]:
        """The routes for those who are not signed in."""
        return [web.post("/signin", self.sign_in), web.post("/signout", self.sign_out)]

    def routes(self) -> Routes:
        """The calls for those who are."""
        return [("GET", "/api/me", self.me)]

    async def sign_in(self, request: web.Request) -> web.Response:
        """Take a token, or a name and password, as JSON or a form; answer with a cookie."""
        self.gate.require_safe_line(request)
        require_own_page(request, self.gate.place)
        _, before = self.gate.shown(request)
        given = await self._given(request)
        value, name, role = await self._begin(request, given)
        if before is not None:
            # A sign-in that somebody else may have begun here does not outlive this one.
            await self.gate.database.write(users.end, users.digest(before))
        answer = _done(request, {"name": name, "role": role.value})
        secure = self.gate.place.secure
        answer.set_cookie(
            self.gate.place.cookie, value, path="/", secure=secure, httponly=True, samesite="Strict"
        )
        log.info("signin.begun", name=name, role=role.value, client=self._client(request))
        return answer

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the sign-in of the cookie, if there is one."""
        require_own_page(request, self.gate.place)
        _, cookie = self.gate.shown(request)
        if cookie is not None:
            await self.gate.database.write(users.end, users.digest(cookie))
        answer = _done(request, {"name": None, "role": None})
        secure = self.gate.place.secure
        answer.del_cookie(
            self.gate.place.cookie, path="/", secure=secure, httponly=True, samesite="Strict"
        )
        return answer

    async def me(self, request: web.Request) -> web.Response:
        """Who asks, and what they may send along with a message."""
        visitor = request[VISITOR]
        limits = {
            "attachment_bytes": self.limits.file_bytes,
            "attachments_per_message": self.limits.files,
        }
        shown = {"name": visitor.name, "role": visitor.role.value, "limits": limits}
        return web.json_response(shown, headers={"Cache-Control": "no-store"})

    # -- steps -------------------------------------------------------------------------------

    def _client(self, request: web.Request) -> str | None:
        client = self.gate.proxies.client(request)
        return request.remote if client is None else str(client)

    async def _given(self, request: web.Request) -> Mapping[str, str]:
        body = await read_body(request, replace(self.limits, bytes=_MOST_BYTES))
        type_ = request.content_type
        if type_ == _FORM:
            given: Mapping[str, str] = _form(body)
        elif type_ == _JSON:
            given = as_object(parse_json(body, self.limits))
        else:
            raise HttpProblem(415, "Unsupported media type", f"send {_JSON} or {_FORM}")
        if set(given) not in ({"token"}, {"name", "password"}):
            raise bad("send either a token, or a name and password, and nothing else")
        for name, value in given.items():
            if not isinstance(value, str) or not 0 < len(value) <= users.LONGEST:
                raise bad(f"{name}: 1 to {users.LONGEST} characters are needed")
        return given

    async def _begin(
        self, request: web.Request, given: Mapping[str, str]
    ) -> tuple[str, str, UserRole]:
        """The value of the cookie, and who signed in. Raises HttpProblem 401 or 429."""
        keys = [f"client {_household(self.gate.proxies.client(request))}"]
        if "name" in given:
            keys.append(f"name {given['name']}")
        wait = self.attempts.begin(*keys)
        if wait is not None:
            detail = "too many failed sign-ins; try again later"
            retry = {"Retry-After": str(ceil(wait))}
            raise HttpProblem(429, "Too many requests", detail, retry)
        begun = await (self._token(given["token"]) if "token" in given else self._person(given))
        if begun is None:
            # Without the name: some type their password there.
            log.warning("signin.refused", client=self._client(request))
            raise HttpProblem(401, "Unauthorized", _WRONG)
        self.attempts.forgive(*keys)
        return begun

    async def _token(self, token: str) -> tuple[str, str, UserRole] | None:
        holder = await self.gate.holder(token)
        if holder is None:
            return None
        role = UserRole.ADMIN
        value = await self.gate.database.write(
            users.begin, holder, role, at=datetime.now(UTC), lasts=self.gate.lasts
        )
        return value, called(holder), role

    async def _person(self, given: Mapping[str, str]) -> tuple[str, str, UserRole] | None:
        name, database = given["name"], self.gate.database
        stored = await database.read(users.password_of, name) if users.is_name(name) else None
        if not await self.passwords.right(given["password"], stored) or stored is None:
            return None
        begun = await database.write(
            users.begin_user, name, stored, at=datetime.now(UTC), lasts=self.gate.lasts
        )
        return None if begun is None else (begun[0], name, begun[1])


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            parse_text(body),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=len(_FIELDS),
        )
    except ValueError as error:
        raise bad("the form cannot be read") from error
    if len(dict(pairs)) < len(pairs):
        raise bad("a field stands twice in the form")
    return dict(pairs)


def _done(request: web.Request, shown: Mapping[str, str | None]) -> web.Response:
    """An answer for programs; a form's page goes on to the console."""
    headers = {"Cache-Control": "no-store"}
    if request.content_type == _FORM:
        return web.Response(status=303, headers={**headers, "Location": "/"})
    return web.json_response(dict(shown), headers=headers)


def _household(client: Ip | None) -> str:
    """Who is counted as one: an address, or the network that one IPv6 customer has."""
    if isinstance(client, IPv6Address):
        return str(ip_network((client, 64), strict=False))
    return str(client)
