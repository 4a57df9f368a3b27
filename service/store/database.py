"""The one way to the database: whole transactions of plain functions, on either backend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.errors import StoreDown, StoreError
from service.store.sql import now
from service.store.sqlite import SqliteBackend, SqliteSteps

if TYPE_CHECKING:
    from service.store.postgresql import PostgresqlBackend, PostgresqlSteps

P = ParamSpec("P")
T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_TRIES = 4
# serialization_failure and deadlock_detected: the whole transaction may simply run again.
_AGAIN = frozenset({"40001", "40P01"})
_FAILURES = (DBAPIError, PoolTimeoutError, OSError)


class Database:
    """Runs functions of a connection as transactions.

    The functions are plain (not async): they see a `sqlalchemy.Connection`, run start to end in
    one transaction, on SQLite in a thread of its own, and must have no effect outside it, because
    a deadlock runs them again.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = sa.make_url(url)
        self._backend = _backend(self.url, pool_size)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a file that only one process may hold."""
        return isinstance(self._backend, SqliteBackend)

    @property
    def lock_path(self) -> Path | None:
        """Where a SQLite file is locked by its one process; None on PostgreSQL."""
        return self._backend.lock_path

    async def open(self, *, shared: bool = False) -> None:
        """Take the file or check that the server answers. Raises DatabaseBusy or StoreError.

        With `shared` a SQLite file is not taken: for a command that makes one small change beside
        the service, which SQLite's own locks keep apart.
        """
        try:
            await self._backend.open(shared=shared)
        except _FAILURES as error:
            raise _translated(error) from error

    async def close(self) -> None:
        """Close every connection and let go of the file."""
        await self._backend.close()

    async def write(
        self,
        work: Callable[Concatenate[sa.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work` in one transaction and return its result after the commit.

        Raises StoreError when nothing of it is stored, and StoreDown when the database is out:
        then, when the connection broke during the commit, it is unknown whether it is stored.
        """
        step = _bound(work, *args, **kwargs)
        for _ in range(_TRIES - 1):
            try:
                return await self._backend.write(step)
            except _FAILURES as error:
                if not _may_run_again(error):
                    raise _translated(error) from error
                log.info("store.again", reason=type(error).__name__)
        try:
            return await self._backend.write(step)
        except _FAILURES as error:
            raise _translated(error) from error

    async def migrate(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` once, in one transaction that may rebuild tables others refer to.

        It may take as long as it takes, unlike any other.
        """
        try:
            return await self._backend.migrate(work)
        except _FAILURES as error:
            raise _translated(error) from error

    async def read(
        self,
        work: Callable[Concatenate[sa.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work` on a snapshot that it must not change."""
        try:
            return await self._backend.read(_bound(work, *args, **kwargs))
        except _FAILURES as error:
            raise _translated(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """One write transaction over several steps; committed at the end unless it raised.

        Keep it short: on SQLite every other writer waits. Raises StoreError.
        """
        try:
            async with self._backend.transaction() as steps:
                yield Transaction(steps)
        except _FAILURES as error:
            raise _translated(error) from error

    async def now(self) -> datetime:
        """The database's clock, so that replicas with wrong clocks agree on what is due."""
        return await self.read(_clock)


class Transaction:
    """Runs plain functions of a connection inside one transaction."""

    def __init__(self, steps: SqliteSteps | PostgresqlSteps) -> None:
        self._steps = steps

    async def run(
        self,
        work: Callable[Concatenate[sa.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run one step and return its result."""
        return await self._steps.step(_bound(work, *args, **kwargs))


def _backend(url: sa.URL, pool_size: int) -> SqliteBackend | PostgresqlBackend:
    if url.get_backend_name() == "sqlite":
        return SqliteBackend(url)
    # asyncpg and SQLAlchemy's asyncio layer are not needed for SQLite.
    from service.store.postgresql import PostgresqlBackend

    return PostgresqlBackend(url, pool_size=pool_size)


def _bound(
    work: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> Callable[[sa.Connection], T]:
    """`work` with everything but the connection, which comes first."""
    return partial(_apply, work, args, kwargs)


def _apply(
    work: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object], conn: sa.Connection
) -> T:
    return work(conn, *args, **kwargs)


def _may_run_again(error: BaseException) -> bool:
    original = getattr(error, "orig", None)
    return getattr(original, "sqlstate", None) in _AGAIN


def _translated(error: Exception) -> StoreError:
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeoutError, OSError)):
        return StoreDown(f"the database cannot be reached: {getattr(error, 'orig', error)}")
    return StoreError(f"the database refused a statement: {error}")


def _clock(conn: sa.Connection) -> datetime:
    return conn.execute(sa.select(now())).scalar_one()
