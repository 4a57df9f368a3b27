"""A Bot API server, a client for it, and an engine on a database file."""

from __future__ import annotations

import asyncio
import shutil
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


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("template") / "ringback.db"
    asyncio.run(_migrated(path))
    return path


@pytest.fixture
async def database(template: Path, tmp_path: Path) -> AsyncGenerator[Database]:
    """An empty database: which one makes no difference to this channel."""
    path = tmp_path / "ringback.db"
    shutil.copy(template, path)
    database = Database(f"sqlite+aiosqlite:///{path}")
    await database.open()
    yield database
    await database.close()


async def _migrated(path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{path}")
    await database.open()
    await schema.migrate(database)
    await database.close()
