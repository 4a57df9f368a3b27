"""The browser tests would notice: what goes wrong in a page does not stay unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from tests.browser.page import Page
from tests.webhook.site import listening

_POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:"
_HTML = """<!doctype html><title>A page</title><link rel="icon" href="data:,">
<h1>Hello</h1>
<form><label>Name <input name="name"></label>
<label><input type="checkbox"> Loud</label>
<label>File <input type="file"></label>
<button>Greet</button></form><p id="told"></p>
<p><a href="/file" download>Download</a></p>
<script src="/script.js"></script>"""
_SCRIPT = """document.querySelector("form").onsubmit = (event) => { event.preventDefault();
  const [name, loud, file] = event.target.querySelectorAll("input");
  setTimeout(() => { document.querySelector("#told").textContent =
    `Hello ${name.value}${loud.checked ? "!" : ""}${file.files.length}`; }, 50); };"""


@pytest_asyncio.fixture(loop_scope="session")
async def home() -> AsyncGenerator[str]:
    """The address of a page with a form, a script and a strict policy."""
    application = web.Application()
    application.router.add_get("/", _page)
    application.router.add_get("/script.js", _script)
    application.router.add_get("/file", _file)
    async with listening(application) as port:
        yield f"http://127.0.0.1:{port}/"


async def test_a_form_is_filled_with_pointer_and_keys(
    page: Page, home: str, tmp_path: Path
) -> None:
    """Fields are found by their labels; the answer that comes later is waited for."""
    await page.open(home)
    await page.find("heading", "Hello")
    await (await page.css("input[type=file]")).choose_files(Path(__file__))
    await page.click("checkbox", "Loud")
    await page.fill("Name", "Ann")
    await page.press("Enter")

    await page.reads("Hello Ann!1")

    ticked = await page.find("checkbox", "Loud")
    assert ticked.states["checked"] == "true"
    await page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


async def test_keys_move_the_focus(page: Page, home: str) -> None:
    """Tab goes from field to field, and Space ticks a box."""
    await page.open(home)

    await page.press("Tab")
    await page.write("Bob")
    await page.press("Tab", " ", "Shift+Tab", "Enter")

    await page.reads("Hello Bob!0")


async def test_a_file_is_downloaded(page: Page, home: str, downloads: Path) -> None:
    """It is where the test looks for it."""
    await page.open(home)

    await page.click("link", "Download")

    assert await page.until(lambda: _first(downloads), "a file") == "four"


async def test_without_a_network_nothing_is_fetched(page: Page, home: str) -> None:
    """Until it is back."""
    await page.open(home)
    await page.offline(True)
    failed = await page.js("fetch('/').then(() => 'reached', () => 'failed')")
    await page.offline(False)

    reached = await page.js("fetch('/').then(() => 'reached', () => 'failed')")

    assert (failed, reached) == ("failed", "reached")
    page.forgive("ERR_INTERNET_DISCONNECTED")


@pytest.mark.parametrize(
    ("breaking", "told"),
    [
        ("console.error('broken')", "console: ['broken']"),
        ("setTimeout(() => { throw new Error('thrown') })", "exception: Error: thrown"),
        ("void Promise.reject(new Error('lost'))", "exception: Error: lost"),
        ("alert('boo')", "dialog alert: boo"),
        ("document.body.innerHTML = '<img src=/x onerror=alert(1)>'", "policy"),
        ("void fetch('/nothing')", "404"),
    ],
)
async def test_what_goes_wrong_is_noticed(page: Page, home: str, breaking: str, told: str) -> None:
    """In the console, in a promise, in a dialog, by the policy, on the network."""
    await page.open(home)
    await page.js(breaking)

    await page.until(lambda: _noticed(page, told), told)

    page.problems.clear()


async def _noticed(page: Page, told: str) -> bool:
    return any(told in problem for problem in page.problems)


async def _first(folder: Path) -> str | None:
    done = folder / "four.txt"
    return await asyncio.to_thread(done.read_text, "utf-8") if done.exists() else None


async def _page(_: web.Request) -> web.Response:
    headers = {"Content-Security-Policy": _POLICY}
    return web.Response(text=_HTML, content_type="text/html", headers=headers)


async def _script(_: web.Request) -> web.Response:
    return web.Response(text=_SCRIPT, content_type="text/javascript")


async def _file(_: web.Request) -> web.Response:
    headers = {"Content-Disposition": "attachment; filename=four.txt"}
    return web.Response(text="four", headers=headers)
