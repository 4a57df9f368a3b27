"""A browser for each worker, and people with tabs of their own for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.browser import chrome, install
from tests.browser.house import House, Houses, house
from tests.browser.page import Page, Person, person


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    """The address of a running Chromium."""
    executable = install.chromium()
    if executable is None:
        pytest.fail(install.NEEDED, pytrace=False)
    with chrome.launched(executable) as address:
        yield address


@pytest.fixture
async def browser(chromium: str) -> AsyncGenerator[chrome.Browser]:
    """A connection to it."""
    async with chrome.connected(chromium) as browser:
        yield browser


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """Where what is downloaded goes."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


@pytest.fixture
async def visitor(browser: chrome.Browser, downloads: Path) -> AsyncGenerator[Person]:
    """Somebody at a browser, in whose tabs nothing may go wrong."""
    async with person(browser, downloads) as visitor:
        yield visitor
        assert [problem for page in visitor.pages for problem in page.problems] == []


@pytest.fixture
async def page(visitor: Person) -> Page:
    """An empty tab."""
    return await visitor.page()


@pytest.fixture
async def home(tmp_path: Path, sqlite_url: str) -> AsyncGenerator[House]:
    """A running service."""
    async with house(tmp_path, sqlite_url) as home:
        yield home


@pytest.fixture
async def house_of(tmp_path: Path, sqlite_url: str) -> AsyncGenerator[Houses]:
    """A running service with a configuration of the test's own."""
    async with AsyncExitStack() as stack:

        async def start(more: str) -> House:
            return await stack.enter_async_context(house(tmp_path, sqlite_url, more))

        yield start
