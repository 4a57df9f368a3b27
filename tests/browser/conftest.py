"""A browser and a service for each worker, and people with windows of their own for each test.

All of it lives in one event loop for the whole run, so that it need not start anew for each test.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.browser import chrome, install
from tests.browser.house import House, Houses, house
from tests.browser.page import Page, Person, person

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder in one event loop."""
    for item in items:
        if item.path.is_relative_to(_HERE) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    """The address of a running Chromium."""
    executable = install.chromium()
    if executable is None:
        pytest.fail(install.NEEDED, pytrace=False)
    with chrome.launched(executable) as address:
        yield address


@pytest_asyncio.fixture(scope="session", loop_scope="session")
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


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: chrome.Browser, downloads: Path) -> AsyncGenerator[Person]:
    """Somebody at a browser, in whose windows nothing may go wrong."""
    async with person(browser, downloads) as visitor:
        yield visitor
        assert [problem for page in visitor.pages for problem in page.problems] == []


@pytest_asyncio.fixture(loop_scope="session")
async def page(visitor: Person) -> Page:
    """An empty window."""
    return await visitor.page()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lasting_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[House]:
    """A service that runs all the time."""
    folder = tmp_path_factory.mktemp("house")
    async with house(folder, f"sqlite+aiosqlite:///{folder}/ringback.db") as home:
        yield home


@pytest_asyncio.fixture(loop_scope="session")
async def home(lasting_house: House) -> House:
    """A running service without a session."""
    await lasting_house.clear()
    return lasting_house


@pytest_asyncio.fixture(loop_scope="session")
async def house_of(tmp_path: Path, sqlite_url: str) -> AsyncGenerator[Houses]:
    """A running service of the test's own, with a configuration of its own."""
    async with AsyncExitStack() as stack:

        async def start(more: str) -> House:
            return await stack.enter_async_context(house(tmp_path, sqlite_url, more))

        yield start
