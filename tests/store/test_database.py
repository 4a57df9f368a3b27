"""The way to the database: whole transactions, one writer on SQLite, another try on PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.errors import DatabaseBusy, StoreError
from service.store.database import Database
from service.store.tables import settings, voices

ROOT = Path(__file__).parent.parent.parent
OPEN = """
import asyncio, sys
from service.store.database import Database
asyncio.run(Database(sys.argv[1]).open())
"""


@pytest.fixture
async def file(sqlite_url: str) -> AsyncGenerator[Database]:
    """An open SQLite file."""
    database = Database(sqlite_url)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def server(postgresql_url: str) -> AsyncGenerator[Database]:
    """An open database of a server."""
    database = Database(postgresql_url)
    await database.open()
    yield database
    await database.close()


async def test_writes_of_a_file_come_one_after_the_other(file: Database) -> None:
    """What a write has read is still so when it writes."""
    await file.write(_set, "counter", 0)

    await asyncio.gather(*(file.write(_count) for _ in range(20)))

    assert await file.read(_get, "counter") == 20


async def test_a_write_has_the_file_from_its_first_moment(file: Database) -> None:
    """A transaction that reads first and writes later never finds the file taken meanwhile."""
    error = await file.write(_write_beside, file.url.database or "")

    assert error == "database is locked"


async def test_a_second_process_is_refused(file: Database) -> None:
    """It is told whom to stop, and what to use instead."""
    second = await asyncio.to_thread(_open_in_a_process, str(file.url))

    assert second.returncode == 1
    assert "is in use by another Ringback process; stop that one, or use PostgreSQL" in (
        second.stderr
    )


async def test_a_second_opening_is_refused_until_the_first_is_closed(sqlite_url: str) -> None:
    """The file is free again without any cleaning up."""
    first, second = Database(sqlite_url), Database(sqlite_url)
    await first.open()
    with pytest.raises(DatabaseBusy):
        await second.open()
    await first.close()

    await second.open()
    await second.write(_set, "key", 1)

    assert await second.read(_get, "key") == 1
    await second.close()


async def test_a_small_command_may_write_beside_the_service(
    file: Database, sqlite_url: str
) -> None:
    """A shared opening does not take the file."""
    command = Database(sqlite_url)
    await command.open(shared=True)
    await command.write(_set, "key", 1)
    await command.close()

    assert await file.read(_get, "key") == 1


async def test_a_commit_of_a_file_is_on_the_disk(file: Database) -> None:
    """WAL and FULL: what was committed survives the loss of power."""
    assert await file.write(_pragma, "journal_mode") == "wal"
    assert await file.write(_pragma, "synchronous") == 2


async def test_a_row_without_its_parent_is_refused(database: Database) -> None:
    """Foreign keys hold on both databases."""
    with pytest.raises(StoreError):
        await database.write(_add_orphan)


async def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    """All or nothing."""
    with pytest.raises(ZeroDivisionError):
        await database.write(_set_and_fail)

    assert await database.read(_get, "key") is None


async def test_steps_of_a_transaction_are_stored_together(database: Database) -> None:
    """A failure between two steps undoes the first."""
    with pytest.raises(ZeroDivisionError):
        await _two_steps(database, 0)
    failed = await database.read(_get, "first")

    await _two_steps(database, 1)

    assert failed is None
    assert await database.read(_get, "first") == 1
    assert await database.read(_get, "second") == 1


async def test_a_cancelled_write_does_not_harm_the_next(database: Database) -> None:
    """Its transaction is ended before another one begins."""
    gone = asyncio.create_task(database.write(_set, "key", 1))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone

    await database.write(_set, "other", 2)

    assert await database.read(_get, "other") == 2
    assert await database.read(_get, "key") in {None, 1}


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_a_conflict_runs_the_whole_transaction_again(server: Database, code: str) -> None:
    """Serialization failures and deadlocks are nobody's fault."""
    tries: list[str] = []

    await server.write(_fail_at_first, tries, code, times=3)

    assert len(tries) == 4
    assert await server.read(_get, "try 4") == 1
    assert await server.read(_get, "try 3") is None


@pytest.mark.parametrize(("code", "tries_made"), [("40001", 4), ("23505", 1)])
async def test_trying_again_has_an_end(server: Database, code: str, tries_made: int) -> None:
    """Four tries at a conflict; one at what will not get better."""
    tries: list[str] = []

    with pytest.raises(StoreError):
        await server.write(_fail_at_first, tries, code, times=9)

    assert len(tries) == tries_made


async def test_a_connection_that_the_server_closed_is_noticed_by_nobody(
    server: Database, postgresql_url: str
) -> None:
    """Neither by who reads nor by who writes: it is done once more on another one."""
    other = Database(postgresql_url)
    await other.open()

    await other.write(_hang_up_on_others)
    await server.write(_set, "key", 1)
    await other.write(_hang_up_on_others)
    found = await server.read(_get, "key")
    await other.close()

    assert found == 1


def _hang_up_on_others(conn: sa.Connection) -> None:
    mine = "datname = current_database() AND pid <> pg_backend_pid()"
    query = f"SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE {mine}"
    assert conn.scalar(sa.text(query)), "nobody was connected"


def _set(conn: sa.Connection, key: str, value: int) -> None:
    conn.execute(settings.insert().values(key=key, value=value))


def _get(conn: sa.Connection, key: str) -> int | None:
    return conn.execute(sa.select(settings.c.value).where(settings.c.key == key)).scalar()


def _count(conn: sa.Connection) -> None:
    value = _get(conn, "counter") or 0
    conn.execute(settings.update().values(value=value + 1))


def _write_beside(_conn: sa.Connection, path: str) -> str:
    with closing(sqlite3.connect(path, timeout=0)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return str(error)
    return "free"


def _open_in_a_process(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OPEN, url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _pragma(conn: sa.Connection, name: str) -> object:
    return conn.exec_driver_sql(f"PRAGMA {name}").scalar()


def _add_orphan(conn: sa.Connection) -> None:
    conn.execute(
        voices.insert().values(
            id="v1",
            session_id="nowhere",
            position=0,
            name="assistant",
            agent="assistant",
            provider="offline",
            model="echo",
            prompt="",
            tools=[],
            created_at=datetime(2026, 3, 1, tzinfo=UTC),
        )
    )


def _set_and_fail(conn: sa.Connection) -> None:
    _set(conn, "key", 1)
    raise ZeroDivisionError


async def _two_steps(database: Database, divisor: int) -> None:
    async with database.transaction() as transaction:
        await transaction.run(_set, "first", 1)
        await transaction.run(_set, "second", 1 // divisor)


def _fail_at_first(conn: sa.Connection, tries: list[str], code: str, *, times: int) -> None:
    tries.append(code)
    _set(conn, f"try {len(tries)}", 1)
    if len(tries) <= times:
        conn.exec_driver_sql(f"DO $$ BEGIN RAISE 'conflict' USING ERRCODE = '{code}'; END $$")
