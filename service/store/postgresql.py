"""PostgreSQL: a pool of connections, any number of processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from service.errors import StoreDown

T = TypeVar("T")
_CONNECT_SECONDS = 5
_NAME = "ringback"

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class PostgresqlBackend:
    """Runs whole transactions on pooled asyncpg connections."""

    def __init__(self, url: sa.URL, *, pool_size: int) -> None:
        self._url = url
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=5,
            connect_args={
                "timeout": _CONNECT_SECONDS,
                "command_timeout": 15,
                "server_settings": {
                    "application_name": _NAME,
                    "statement_timeout": "15000",
                    "lock_timeout": "5000",
                    # No transaction of ours waits for anything but the database: a process that
                    # was suspended in one keeps its locks from the others no longer than this.
                    "idle_in_transaction_session_timeout": "10000",
                },
            },
        )

    lock_path = None

    async def open(self, *, shared: bool) -> None:  # noqa: ARG002 - nothing to take
        """See that the server answers."""
        await self.read(_ping)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one transaction."""
        return await _on_live(partial(self._write, work))

    async def migrate(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one transaction on a connection of its own, without limits of time.

        An index over millions of rows takes minutes, and whoever comes second waits for them.
        """
        settings = {
            "application_name": _NAME,
            "statement_timeout": "0",
            "lock_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
        }
        engine = create_async_engine(
            self._url,
            poolclass=NullPool,
            connect_args={"timeout": _CONNECT_SECONDS, "server_settings": settings},
        )
        async with engine.begin() as conn:
            return await conn.run_sync(work)

    async def _write(self, work: Callable[[sa.Connection], T]) -> T:
        committing = False
        try:
            async with self._engine.connect() as conn:
                transaction = await conn.begin()
                result = await conn.run_sync(work)
                committing = True
                await transaction.commit()
                return result
        except DBAPIError as error:
            if error.connection_invalidated and not committing:
                raise _Stale(str(error)) from error
            raise

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` on a connection whose changes are thrown away."""
        return await _on_live(partial(self._read, work))

    async def _read(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            async with self._engine.connect() as conn:
                return await conn.run_sync(work)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _Stale(str(error)) from error
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[PostgresqlSteps]:
        """One transaction over several steps."""
        async with self._engine.begin() as conn:
            yield PostgresqlSteps(conn)


class _Stale(Exception):
    """The connection was closed before anything could take effect."""


async def _on_live(run: Callable[[], Awaitable[T]]) -> T:
    """Run something, once more when it met a connection that the server had closed meanwhile.

    That is cheaper than to ask each connection before each transaction whether it lives.
    """
    try:
        return await run()
    except _Stale as stale:
        log.info("store.reconnecting", reason=str(stale.__cause__))
    try:
        return await run()
    except _Stale as stale:
        raise StoreDown(f"the database cannot be reached: {stale.__cause__}") from stale


class PostgresqlSteps:
    """The steps of one open transaction."""

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def step(self, work: Callable[[sa.Connection], T]) -> T:
        """Run one step."""
        return await _finish(self._conn.run_sync(work))


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end even when the caller is cancelled meanwhile, then be cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _ping(conn: sa.Connection) -> None:
    conn.execute(sa.text("SELECT 1"))
