"""A site on SQLite, and one on each kind of database where that may make a difference."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from service.store.database import Database
from tests.console.site import Site, serving


@pytest.fixture
async def local_database(sqlite_url: str) -> AsyncGenerator[Database]:
    """An open SQLite file."""
    database = Database(sqlite_url)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def site(local_database: Database) -> AsyncGenerator[Site]:
    """A site whose model says Hello."""
    async with serving(local_database) as site:
        yield site


@pytest.fixture
async def each_site(database: Database) -> AsyncGenerator[Site]:
    """The same on each kind of database, one after the other."""
    async with serving(database) as site:
        yield site
