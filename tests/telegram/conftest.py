"""A Bot API server, a client for it, and an engine on a database file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from handlers.telegram.client import Client
from service.store import schema
from service.store.database import Database
from tests.telegram.server import TOKEN, Server, serving


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    """A Bot API server of its own for each test."""
    async with serving() as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncGenerator[Client]:
    """The real client, at that server."""
    client = Client(TOKEN, api_base_url=server.url, answer_within=timedelta(seconds=1))
    yield client
    await client.close()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    """An empty database: which one makes no difference to this channel."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/ringback.db")
    await database.open()
    await schema.migrate(database)
    yield database
    await database.close()
