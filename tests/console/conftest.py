"""A site on each kind of database."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from service.store.database import Database
from tests.console.site import Site, serving


@pytest.fixture
async def site(database: Database) -> AsyncGenerator[Site]:
    """A site whose model says Hello."""
    async with serving(database) as site:
        yield site
