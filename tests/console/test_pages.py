"""The console's pages: what they are sent with, and what nobody gets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web

import handlers.console
from handlers.console.pages import Pages
from handlers.http import problems_middleware
from tests.webhook.site import Answer, listening

STATIC = Path(handlers.console.__file__).parent / "static"
MODULES = sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*.js"))
FILES = sorted(
    str(path.relative_to(STATIC))
    for path in STATIC.rglob("*")
    if path.suffix in (".js", ".css", ".html", ".svg")
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Console:
    """A server with nothing but the pages."""

    client: aiohttp.ClientSession
    port: int

    async def get(
        self, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET"
    ) -> Answer:
        """Ask for an address; redirects are not followed."""
        async with self.client.request(
            method, path, headers=headers, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def status(self, target: str) -> str:
        """The status of exactly this target, which no client has tidied up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(60):
            line = await reader.readline()
        writer.close()
        return line.decode().split()[1]


async def _known(_request: web.Request) -> bool:
    return True


async def _unknown(_request: web.Request) -> bool:
    return False


@asynccontextmanager
async def console(*, signed_in: bool = True) -> AsyncGenerator[Console]:
    """The pages for somebody who has signed in, or for a stranger."""
    application = web.Application(middlewares=[problems_middleware])
    application.add_routes(Pages(_known if signed_in else _unknown).routes())
    async with (
        listening(application) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", requote_redirect_url=False) as client,
    ):
        yield Console(client, port)


@pytest.mark.parametrize("path", ["/", "/console"])
async def test_short_addresses_lead_to_the_console(path: str) -> None:
    """Whoever opens the service in a browser comes to the console."""
    async with console() as site:
        answer = await site.get(path)

    assert (answer.status, answer.headers["Location"]) == (302, "/console/")


@pytest.mark.parametrize("path", ["/console/", "/console/tasks", "/console/sessions/x?message=3"])
async def test_every_page_is_the_shell(path: str) -> None:
    """All pages are one document; what it shows is up to its script."""
    async with console() as site:
        answer = await site.get(path)

    found = (answer.status, answer.headers["Content-Type"], b"js/app.js" in answer.body)
    assert found == (200, "text/html; charset=utf-8", True)


@pytest.mark.parametrize("path", ["/console/", "/console/signin", "/console/static/js/app.js"])
async def test_everything_comes_under_the_policy(path: str) -> None:
    """Pages and files reach nothing but ourselves, are not guessed at, and tell no referrer."""
    async with console() as site:
        answer = await site.get(path)

    expected = {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected


async def test_strangers_are_led_to_the_sign_in_page() -> None:
    """Without a sign-in no page is shown, and the address is kept for afterwards."""
    async with console(signed_in=False) as site:
        answer = await site.get("/console/sessions/x?message=3&y=1")

    to = urlsplit(answer.headers["Location"])
    found = (answer.status, to.path, parse_qs(to.query), answer.headers["Cache-Control"])
    kept = {"next": ["/console/sessions/x?message=3&y=1"]}
    assert found == (303, "/console/signin", kept, "no-store")


@pytest.mark.parametrize("fetch_site", ["cross-site", "same-site"])
async def test_a_link_from_elsewhere_is_looked_at_again(fetch_site: str) -> None:
    """No cookie counts behind a link of another site or port, so the page looks for itself."""
    async with console(signed_in=False) as site:
        answer = await site.get("/console/", {"Sec-Fetch-Site": fetch_site})

    assert answer.headers["Location"] == "/console/signin?next=/console/&look=1"


@pytest.mark.parametrize("fetch_site", ["same-origin", "none"])
async def test_an_address_of_our_own_is_not_looked_at_again(fetch_site: str) -> None:
    """Behind these the cookie was shown, if there is one."""
    async with console(signed_in=False) as site:
        answer = await site.get("/console/", {"Sec-Fetch-Site": fetch_site})

    assert answer.headers["Location"] == "/console/signin?next=/console/"


@pytest.mark.parametrize(
    "path", ["/console/signin", "/console/static/js/signin.js", "/console/static/css/theme.css"]
)
async def test_signing_in_needs_no_sign_in(path: str) -> None:
    """The page to sign in at is whole for strangers."""
    async with console(signed_in=False) as site:
        answer = await site.get(path)

    assert answer.status == 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("js/app.js", "text/javascript; charset=utf-8"),
        ("js/pages/session.js", "text/javascript; charset=utf-8"),
        ("css/base.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_files_have_their_types(name: str, expected: str) -> None:
    """Browsers that do not guess need to be told what a file is."""
    async with console() as site:
        answer = await site.get(f"/console/static/{name}")

    assert (answer.status, answer.headers["Content-Type"]) == (200, expected)


@pytest.mark.parametrize("name", FILES)
async def test_every_file_has_an_address(name: str) -> None:
    """No file of the console is called something that is not given out."""
    async with console() as site:
        answer = await site.get(f"/console/static/{name}")

    assert (answer.status, answer.body) == (200, (STATIC / name).read_bytes())


async def test_an_unchanged_file_is_not_sent_again() -> None:
    """A browser that shows the tag it has is told that nothing has changed."""
    async with console() as site:
        first = await site.get("/console/static/js/app.js")
        tag = first.headers["ETag"]
        again = await site.get("/console/static/js/app.js", {"If-None-Match": tag})

    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)


async def test_a_changed_file_is_sent_again() -> None:
    """Another tag than ours gets the file."""
    async with console() as site:
        answer = await site.get("/console/static/js/app.js", {"If-None-Match": '"old"'})

    assert (answer.status, len(answer.body) > 0) == (200, True)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "js",
        "js/",
        "js/none.js",
        "README.md",
        "../pages.py",
        "../../../pyproject.toml",
        "..%2fpages.py",
        "%2e%2e/%2e%2e/http.py",
        "js/..%2f..%2fpages.py",
        "js/../app.js%2f",
        "js%5c..%5capp.js",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "js/app.js%00.css",
        "js/app.js/",
        ".hidden.js",
        "a/" * 40 + "b.js",
        "x" * 300 + ".js",
    ],
)
async def test_nothing_else_is_given_out(name: str) -> None:
    """Only the console's own files have addresses, whatever is made of the path."""
    async with console() as site:
        status = await site.status(f"/console/static/{name}")

    assert status == "404"


@pytest.mark.parametrize("path", ["/console/", "/console/static/js/app.js"])
async def test_pages_are_only_read(path: str) -> None:
    """Other methods than GET and HEAD are refused and told so."""
    async with console() as site:
        answer = await site.get(path, method="POST")

    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_only_what_is_there(name: str) -> None:
    """There is no build that would find a missing module, so this does."""
    text = (STATIC / name).read_text(encoding="utf-8")
    targets = re.findall(r'(?:from|import\()\s*"([^"]+)"', text)

    missing = [one for one in targets if not (STATIC / name).parent.joinpath(one).is_file()]
    assert missing == []


@pytest.mark.parametrize("name", MODULES)
def test_text_never_becomes_markup(name: str) -> None:
    """What models and strangers write must not be able to become a part of the page."""
    text = (STATIC / name).read_text(encoding="utf-8")
    code = re.sub(r"(?m)^\s*(?://|\*|/\*).*$", "", text)

    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\(|new Function"
    assert re.findall(ways, code) == []


@pytest.mark.parametrize("name", ["index.html", "signin.html"])
def test_pages_keep_to_the_policy(name: str) -> None:
    """No script and no style within a page: the policy would not let them run."""
    text = (STATIC / name).read_text(encoding="utf-8")

    assert re.findall(r"\sstyle=|\son[a-z]+=|<style|<script>|javascript:", text) == []


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_fetched_from_elsewhere(name: str) -> None:
    """The console works without any other host."""
    text = (STATIC / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")

    ways = r"(?:src|href)=\"(?:https?:)?//|@import|url\((?!data:)|(?:fetch|import)\(\"https?:"
    assert re.findall(ways, text) == []
