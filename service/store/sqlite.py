"""SQLite: one file, one process, one writing thread; readers beside it see snapshots."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog

from service.errors import DatabaseBusy, StoreDown, StoreError

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Below this release two connections of one WAL file can corrupt it (fixed in 3.51.3).
SAFE_RELEASE = (3, 51, 3)
_READERS = 4
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=10000",
    "foreign_keys=ON",
    "mmap_size=0",
)


class SqliteBackend:
    """Runs whole transactions in threads, one hop each.

    An async driver would hop for every statement; see docs/decisions/0003.
    """

    def __init__(self, url: sa.URL) -> None:
        self._path = url.database or ""
        self._lock_file: int | None = None
        self._writing = asyncio.Lock()
        self._engine = _engine(self._path, readonly=False)
        self._readers = _engine(self._path, readonly=True)
        self._write_thread, self._read_threads = _threads()
        self._conn: sa.Connection | None = None
        self._closed = False

    @property
    def lock_path(self) -> Path:
        """The file whose lock says that a process holds the database."""
        return Path(f"{self._path}.lock")

    async def open(self, *, shared: bool) -> None:
        """Take the file, unless it is to be shared for one small change. Raises DatabaseBusy."""
        if not shared:
            self._take_file()
        if self._closed:
            self._write_thread, self._read_threads = _threads()
            self._closed = False
        if sqlite3.sqlite_version_info < SAFE_RELEASE:
            log.debug("store.sqlite_old", version=sqlite3.sqlite_version, wanted="3.51.3")
        self._conn = await self._in_writer(self._engine.connect)

    async def close(self) -> None:
        """Close every connection and let go of the file."""
        if self._closed:
            return
        if self._conn is not None:
            await self._in_writer(self._conn.close)
            self._conn = None
        await self._in_writer(self._engine.dispose)
        self._closed = True
        self._write_thread.shutdown()
        self._read_threads.shutdown()
        self._readers.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one transaction after the ones before it."""
        async with self._writing:
            return await self._in_writer(partial(self._transaction, work))

    async def migrate(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one transaction that may rebuild tables others refer to."""
        async with self._writing:
            return await self._in_writer(partial(self._rebuilding, work))

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` on a snapshot."""
        self._require_open()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_threads, partial(self._snapshot, work))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[SqliteSteps]:
        """One transaction over several steps; nobody else writes meanwhile."""
        async with self._writing:
            conn = self._opened()
            transaction = await self._in_writer(conn.begin)
            try:
                yield SqliteSteps(self, conn)
            except BaseException:
                await self._in_writer(transaction.rollback)
                raise
            await self._in_writer(transaction.commit)

    async def in_writer(self, work: Callable[[], T]) -> T:
        """Run `work` in the writing thread."""
        return await self._in_writer(work)

    async def _in_writer(self, work: Callable[[], T]) -> T:
        """Run in the writing thread, to the end even when the caller is cancelled meanwhile."""
        self._require_open()
        future = asyncio.get_running_loop().run_in_executor(self._write_thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            raise

    def _transaction(self, work: Callable[[sa.Connection], T]) -> T:
        conn = self._opened()
        with conn.begin():
            return work(conn)

    def _rebuilding(self, work: Callable[[sa.Connection], T]) -> T:
        # With references on, dropping the old form of a table takes the rows that refer to it
        # along. The switch does nothing inside a transaction.
        conn = self._opened()
        _switch_references(conn, "OFF")
        try:
            with conn.begin():
                result = work(conn)
                broken = conn.exec_driver_sql("PRAGMA foreign_key_check").first()
                if broken is not None:
                    raise StoreError(f"the migration broke references of {broken[0]}")
                return result
        finally:
            _switch_references(conn, "ON")

    def _snapshot(self, work: Callable[[sa.Connection], T]) -> T:
        with self._readers.connect() as conn:
            return work(conn)

    def _opened(self) -> sa.Connection:
        if self._conn is None:
            raise StoreDown("the database cannot be reached: it is closed")
        return self._conn

    def _require_open(self) -> None:
        if self._closed:
            raise StoreDown("the database cannot be reached: it is closed")

    def _take_file(self) -> None:
        self.lock_path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_file)
            self._lock_file = None
            raise DatabaseBusy(
                f"{self._path} is in use by another Ringback process; stop that one, "
                "or use PostgreSQL to run several"
            ) from None
        # Conversations are nobody else's business; what SQLite puts beside it has the same mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        # What an earlier holder said about itself is over.
        os.ftruncate(self._lock_file, 0)


class SqliteSteps:
    """The steps of one open transaction."""

    def __init__(self, backend: SqliteBackend, conn: sa.Connection) -> None:
        self._backend = backend
        self._conn = conn

    async def step(self, work: Callable[[sa.Connection], T]) -> T:
        """Run one step."""
        return await self._backend.in_writer(partial(work, self._conn))


def _switch_references(conn: sa.Connection, to: str) -> None:
    cursor = conn.connection.cursor()
    cursor.execute(f"PRAGMA foreign_keys={to}")
    cursor.close()


def _threads() -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
    """One thread that writes, some that read."""
    return (
        ThreadPoolExecutor(1, thread_name_prefix="sqlite-write"),
        ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-read"),
    )


def _casefold(text: str | None) -> str | None:
    return None if text is None else text.casefold()


def _engine(path: str, *, readonly: bool) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite+pysqlite", database=path),
        poolclass=sa.QueuePool,
        pool_size=_READERS if readonly else 1,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )
    begin = "BEGIN" if readonly else "BEGIN IMMEDIATE"

    @sa.event.listens_for(engine, "connect")
    def configure(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        # What SQLite itself folds are the letters of ASCII.
        dbapi.create_function("casefold", 1, _casefold, deterministic=True)
        for pragma in (*_PRAGMAS, f"query_only={'ON' if readonly else 'OFF'}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def start(conn: sa.Connection) -> None:
        conn.exec_driver_sql(begin)

    return engine
