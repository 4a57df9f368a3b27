"""The one way to the database: whole transactions, one writer on SQLite, a pool on PostgreSQL."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.errors import DatabaseBusy, StoreDown, StoreError
from service.store.sql import now

P = ParamSpec("P")
T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Below this release two connections of one WAL file can corrupt it (fixed in 3.51.3).
SAFE_SQLITE = (3, 51, 3)
_READERS = 4
_TRIES = 4
# serialization_failure and deadlock_detected: the whole transaction may simply run again.
_AGAIN = frozenset({"40001", "40P01"})


class Database:
    """Runs functions of a connection as transactions.

    The functions are plain (not async): they see a `sqlalchemy.Connection`, run start to end in
    one transaction and must have no effect outside it, because a deadlock runs them again.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = sa.make_url(url)
        self._lock_file: int | None = None
        self._writing = asyncio.Lock()
        self._writer: AsyncConnection | None = None
        if self.is_sqlite:
            self._engine = _sqlite_engine(self.url, readonly=False)
            self._readers = _sqlite_engine(self.url, readonly=True)
        else:
            self._engine = _postgresql_engine(self.url, pool_size)
            self._readers = self._engine

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a file that only one process may hold."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def lock_path(self) -> Path | None:
        """Where a SQLite file is locked by its one process; None on PostgreSQL and in memory."""
        if not self.is_sqlite or not self.url.database or self.url.database == ":memory:":
            return None
        return Path(f"{self.url.database}.lock")

    async def open(self, *, shared: bool = False) -> None:
        """Take the file or check that the server answers. Raises DatabaseBusy or StoreError.

        With `shared` the file is not taken: for a command that makes one small change beside the
        service, which SQLite's own locks keep apart.
        """
        if not self.is_sqlite:
            await self.read(_ping)
            return
        if not shared:
            self._take_file()
        if sqlite3.sqlite_version_info < SAFE_SQLITE:
            log.info("store.sqlite_old", version=sqlite3.sqlite_version, wanted="3.51.3")
        self._writer = await self._engine.connect()

    async def close(self) -> None:
        """Close every connection and let go of the file."""
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        if self._readers is not self._engine:
            await self._readers.dispose()
        await self._engine.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    async def write(
        self,
        work: Callable[Concatenate[sa.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work` in one transaction and return its result after the commit.

        Raises StoreError when the database is out; then nothing of it is stored, or (when the
        connection broke during the commit) it is unknown, which unique keys make harmless.
        """
        for _ in range(_TRIES - 1):
            try:
                return await self._write_once(work, *args, **kwargs)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _AGAIN:
                    raise _translated(error) from error
                log.info("store.again", reason=type(error.orig).__name__)
        try:
            return await self._write_once(work, *args, **kwargs)
        except DBAPIError as error:
            raise _translated(error) from error

    async def read(
        self,
        work: Callable[Concatenate[sa.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work` on a snapshot that it cannot change."""
        try:
            async with self._readers.connect() as conn:
                return await conn.run_sync(work, *args, **kwargs)
        except (DBAPIError, OSError) as error:
            raise _translated(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """One write transaction over several steps; committed at the end unless it raised.

        Keep it short: on SQLite every other writer waits. Raises StoreError.
        """
        try:
            if not self.is_sqlite:
                async with self._engine.begin() as conn:
                    yield Transaction(conn)
                return
            async with self._writing:
                if self._writer is None:
                    raise StoreError("the database is closed")
                async with self._writer.begin():
                    yield Transaction(self._writer)
        except (DBAPIError, OSError) as error:
            raise _translated(error) from error

    async def now(self) -> datetime:
        """The database's clock, so that replicas with wrong clocks agree on what is due."""
        return await self.read(_clock)

    async def _write_once(
        self,
        work: Callable[Concatenate[sa.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        if not self.is_sqlite:
            try:
                async with self._engine.begin() as conn:
                    return await conn.run_sync(work, *args, **kwargs)
            except OSError as error:
                raise StoreDown(f"the database cannot be reached: {error}") from error
        async with self._writing:
            if self._writer is None:
                raise StoreError("the database is closed")
            # Shielded: a transaction that was begun ends before the next one begins, also when
            # whoever asked for it is gone.
            return await _finish(self._transaction(self._writer, work, *args, **kwargs))

    async def _transaction(
        self,
        conn: AsyncConnection,
        work: Callable[Concatenate[sa.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        async with conn.begin():
            return await conn.run_sync(work, *args, **kwargs)

    def _take_file(self) -> None:
        path = self.lock_path
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_file)
            self._lock_file = None
            raise DatabaseBusy(
                f"{self.url.database} is in use by another Ringback process; stop that one, "
                "or use PostgreSQL to run several"
            ) from None


class Transaction:
    """Runs plain functions of a connection inside one transaction."""

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def run(
        self,
        work: Callable[Concatenate[sa.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run one step and return its result."""
        return await _finish(self._conn.run_sync(work, *args, **kwargs))


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end even when the caller is cancelled meanwhile, then be cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _translated(error: Exception) -> StoreError:
    if isinstance(error, (OperationalError, InterfaceError)):
        return StoreDown(f"the database cannot be reached: {error.orig}")
    return StoreError(f"the database refused a statement: {error}")


def _clock(conn: sa.Connection) -> datetime:
    return conn.execute(sa.select(now())).scalar_one()


def _ping(conn: sa.Connection) -> None:
    conn.execute(sa.text("SELECT 1"))


def _sqlite_engine(url: sa.URL, *, readonly: bool) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=_READERS if readonly else 1, max_overflow=0)
    begin = "BEGIN" if readonly else "BEGIN IMMEDIATE"

    @sa.event.listens_for(engine.sync_engine, "connect")
    def configure(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "busy_timeout=10000",
            "foreign_keys=ON",
            "mmap_size=0",
            f"query_only={'ON' if readonly else 'OFF'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def start(conn: sa.Connection) -> None:
        conn.exec_driver_sql(begin)

    return engine


def _postgresql_engine(url: sa.URL, pool_size: int) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args={
            "timeout": 5,
            "command_timeout": 15,
            "server_settings": {
                "application_name": "ringback",
                "statement_timeout": "15000",
                "lock_timeout": "5000",
                "idle_in_transaction_session_timeout": "30000",
            },
        },
    )
