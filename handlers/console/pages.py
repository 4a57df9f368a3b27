"""The web console's pages and files, under a policy that lets them reach nothing but ourselves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from aiohttp import web

from handlers.http import HttpProblem

SignedIn = Callable[[web.Request], Awaitable[bool]]
"""Whether a request comes from somebody who has signed in."""

HOME = "/console/"
SIGN_IN = "/console/signin"
_STATIC = Path(__file__).parent / "static"
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Asked about every time and seldom sent again: after an upgrade no old module meets a new one.
    "Cache-Control": "no-cache",
}
_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FROM_OTHERS = ("cross-site", "same-site")
# No part begins with a dot, so no name leads out of the directory.
_NAME = re.compile(r"(?:[a-z0-9_-]{1,64}/){0,4}[a-z0-9_-]{1,64}(\.[a-z]{2,4})")


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent."""

    content: bytes
    type: str
    tag: str


@dataclass(frozen=True, slots=True)
class Pages:
    """The console as browsers see it; what it shows comes from the API."""

    signed_in: SignedIn

    def routes(self) -> list[web.RouteDef]:
        """The routes to serve."""
        return [
            web.get("/", self.home),
            web.get("/console", self.home),
            web.get(SIGN_IN, self.sign_in),
            web.get("/console/static/{name:.*}", self.static),
            web.get("/console/{page:.*}", self.page),
        ]

    async def home(self, _request: web.Request) -> NoReturn:
        """Lead to the console."""
        raise web.HTTPFound(HOME)

    async def sign_in(self, request: web.Request) -> web.Response:
        """The page to sign in at."""
        return _answer(request, "signin.html")

    async def page(self, request: web.Request) -> web.Response:
        """The shell of every page, which its script fills; the sign-in page comes first."""
        if not await self.signed_in(request):
            raise web.HTTPSeeOther(_sign_in_from(request), headers={"Cache-Control": "no-store"})
        return _answer(request, "index.html")

    async def static(self, request: web.Request) -> web.Response:
        """A script, a style or a picture; they hold no secrets and need no sign-in."""
        return _answer(request, request.match_info["name"])


def _sign_in_from(request: web.Request) -> str:
    """The address to sign in at, which leads back afterwards."""
    found = f"{SIGN_IN}?next={quote(request.path_qs, safe='/')}"
    # Behind a link on another site the browser keeps the cookie to itself, and behind one on
    # another port of this machine we take none: our own page looks again.
    return f"{found}&look=1" if request.headers.get("Sec-Fetch-Site") in _FROM_OTHERS else found


def _answer(request: web.Request, name: str) -> web.Response:
    """The file, or 304 when the browser has it."""
    file = _find(name)
    headers = {**_HEADERS, "ETag": f'"{file.tag}"'}
    if any(one.value in (file.tag, "*") for one in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.content, headers={**headers, "Content-Type": file.type})


def _find(name: str) -> _File:
    """The file of a name below `static`. Raises HttpProblem 404."""
    fits = _NAME.fullmatch(name)
    path = _STATIC / name
    if fits is None or fits[1] not in _TYPES or not path.is_file():
        raise HttpProblem(404, "Not found", "the console has no such file; reload the page")
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=128)
def _read(path: Path, _changed: int) -> _File:
    """Read a file once for every time it was changed."""
    content = path.read_bytes()
    return _File(content, _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:32])
