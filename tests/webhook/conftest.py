"""Sites: on each kind of database, and on SQLite alone for what does not depend on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from service.store.database import Database
from tests.webhook.site import Site, opened, serving


@pytest.fixture
async def any_site(database: Database) -> AsyncGenerator[Site]:
    """A site whose model says Hello, on each kind of database."""
    async with serving(database) as site:
        yield site


@pytest.fixture
async def local_database(sqlite_url: str) -> AsyncGenerator[Database]:
    """An open SQLite file."""
    async with opened(sqlite_url) as database:
        yield database


@pytest.fixture
async def site(local_database: Database) -> AsyncGenerator[Site]:
    """A site whose model says Hello, on SQLite."""
    async with serving(local_database) as site:
        yield site
