"""PostgreSQL: read-only transactions that are always rolled back, fetched piece by piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import structlog

from service.agents.data import source
from service.agents.data.source import Column, Table
from service.agents.data.table import Found, Taking
from service.config import Data
from service.errors import BadInput

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_AT_ONCE = 2
_IDLE_SECONDS = 60.0
_CONNECTING_SECONDS = 4.0
_CLOSING_SECONDS = 2.0
_LONGEST_LOCK_WAIT = 2.0
_FIRST_PIECE = 4
_LARGEST_PIECE = 200
_FLOATS = frozenset({"float4", "float8", "numeric"})
_NO_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})

_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.InvalidAuthorizationSpecificationError,
    asyncpg.exceptions.InvalidCatalogNameError,
)
_UNKNOWN = (
    asyncpg.exceptions.UndefinedTableError,
    asyncpg.exceptions.UndefinedColumnError,
    asyncpg.exceptions.AmbiguousColumnError,
    asyncpg.exceptions.InvalidSchemaNameError,
)

_TABLES = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind IN ('v', 'm') AS view,
       CASE WHEN c.relkind IN ('r', 'm') AND c.reltuples >= 0 THEN c.reltuples::bigint END AS rows,
       obj_description(c.oid, 'pg_class') AS comment, columns.found AS columns
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT json_agg(json_build_array(
        a.attname,
        format_type(a.atttypid, a.atttypmod),
        a.attnotnull,
        EXISTS (
            SELECT 1 FROM pg_index i
            WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey)
        ),
        (
            SELECT f.confrelid::regclass::text || '.' || b.attname
            FROM pg_constraint f
            JOIN pg_attribute b ON b.attrelid = f.confrelid
                AND b.attnum = f.confkey[array_position(f.conkey, a.attnum)]
            WHERE f.conrelid = c.oid AND f.contype = 'f' AND a.attnum = ANY (f.conkey)
            ORDER BY f.conname LIMIT 1
        ),
        left(col_description(c.oid, a.attnum), 500)
    ) ORDER BY a.attnum) AS found
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
) columns
WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY array_position($1::text[], n.nspname::text), c.relname
LIMIT $2
"""


class Postgresql:
    """Implements `Source`. Connections are made when they are needed, and left when idle."""

    dialect: source.Dialect = "postgresql"

    def __init__(self, name: str, settings: Data) -> None:
        self._name = name
        self._settings = settings
        self._seconds = settings.timeout.total_seconds()
        self._pool: asyncpg.Pool | None = None

    async def query(self, sql: str) -> Found:
        """Implement `Source`."""
        async with self._transaction() as connection:
            # First as it stands, so that what is wrong is said of what the model wrote.
            statement = await connection.prepare(sql)
            columns = statement.get_attributes()
            if not columns:
                raise BadInput("The statement selects no columns. Name those you need.")
            if len(columns) > source.MOST_COLUMNS:
                raise source.too_wide()
            types = [column.type.name for column in columns]
            taking = Taking(
                (column.name for column in columns),
                rows=self._settings.rows,
                size=self._settings.bytes,
            )
            cursor = await connection.cursor(_in_lines(sql, types, self._settings.bytes))
            await _take(cursor, types, taking)
        return taking.found()

    async def tables(self) -> Sequence[Table]:
        """Implement `Source`."""
        schemas = list(self._settings.schemas)
        async with self._transaction() as connection:
            found = await connection.fetch(_TABLES, schemas, source.MOST_TABLES)
        return [_table(row, schemas[0]) for row in found]

    async def close(self) -> None:
        """Implement `Source`."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A transaction that reads and is rolled back, all within the timeout."""
        try:
            async with self._connection() as connection, asyncio.timeout(self._seconds):
                transaction = connection.transaction(readonly=True)
                await transaction.start()
                await connection.execute(self._limits())
                yield connection
                await transaction.rollback()
        # Of these the first one is also an OSError.
        except (TimeoutError, asyncpg.QueryCanceledError) as error:
            raise source.too_late(self._seconds) from error
        except _LOST as error:
            # Their words may tell the address and the user.
            log.warning("data.unreachable", source=self._name, reason=type(error).__name__)
            raise source.unreachable(self._name, _reason(error)) from error
        except asyncpg.PostgresError as error:
            raise self._problem(error) from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        """One of the pool; it is closed, and what runs on it is cancelled, if anything fails."""
        pool = await self._opened()
        try:
            async with asyncio.timeout(min(self._seconds, _CONNECTING_SECONDS)):
                connection = await pool.acquire()
        except TimeoutError as error:
            raise source.unreachable(self._name, "it is busy, or does not answer") from error
        try:
            yield connection
        except BaseException:
            await asyncio.shield(_closed(connection))
            raise
        finally:
            await pool.release(connection, timeout=_CLOSING_SECONDS)

    async def _opened(self) -> asyncpg.Pool:
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                self._settings.url,
                min_size=0,
                max_size=_AT_ONCE,
                max_inactive_connection_lifetime=_IDLE_SECONDS,
                # What is prepared once is seldom asked again, and poolers do not like it.
                statement_cache_size=0,
                server_settings={"application_name": f"ringback data {self._name}"},
            )
        return await self._pool

    def _limits(self) -> str:
        path = ", ".join(f'"{one.replace(chr(34), chr(34) * 2)}"' for one in self._settings.schemas)
        within = max(1, round(self._seconds * 1000))
        waits = min(within, round(_LONGEST_LOCK_WAIT * 1000))
        return (
            f"SET LOCAL statement_timeout = {within}; SET LOCAL lock_timeout = {waits}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {within + 5000}; "
            f"SET LOCAL search_path = {path}; SET LOCAL standard_conforming_strings = on; "
            "SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'"
        )

    def _problem(self, error: asyncpg.PostgresError) -> BadInput:
        told = str(getattr(error, "message", None) or type(error).__name__)
        if hint := getattr(error, "hint", None):
            told = f"{told} ({str(hint).rstrip('.')})"
        if isinstance(error, _UNKNOWN):
            return source.unknown_name(self._name, f"The database refused it: {told}")
        if isinstance(error, asyncpg.exceptions.ReadOnlySQLTransactionError):
            return BadInput(f"The database refused it: {told}. It is only read here.")
        if isinstance(error, asyncpg.exceptions.LockNotAvailableError):
            return BadInput("A table is locked by somebody who changes it. Try again later.")
        return BadInput(f"The database refused it: {told}. Correct the statement.")


def _in_lines(sql: str, types: Sequence[str], longest: int) -> str:
    """The same query as lines of JSON, without those that are longer than a result may be.

    So every type has a form, and no value that is too large ever leaves the database.
    """
    names = [f"c{number}" for number in range(len(types))]
    shown = ", ".join(map(_shown, names, types))
    # OFFSET 0 keeps it a query of its own: each line is made once. What it wraps was checked.
    return f"""SELECT CASE WHEN octet_length(line) <= {longest * 2} THEN line END FROM (
        SELECT row_to_json(shown)::text AS line FROM (
            SELECT {shown} FROM (
{sql}
            ) AS found({", ".join(names)})
        ) AS shown OFFSET 0
    ) AS lines"""  # noqa: S608


def _shown(name: str, kind: str) -> str:
    return f"'[' || octet_length({name}) || ' bytes]' AS {name}" if kind == "bytea" else name


async def _take(cursor: Any, types: Sequence[str], taking: Taking) -> None:
    piece = _FIRST_PIECE
    while lines := await cursor.fetch(piece):
        longest = 1
        for (line,) in lines:
            if line is None or not taking.add(_values(line, types)):
                if not taking.count:
                    raise source.too_large(1)
                taking.cut()
                return
            longest = max(longest, len(line))
        # Not more at once than could still be taken.
        piece = max(1, min(_LARGEST_PIECE, taking.left // longest + 1))


def _values(line: str, types: Sequence[str]) -> list[Any]:
    try:
        values = json.loads(line, parse_float=Decimal).values()
    except RecursionError as error:
        raise BadInput("A JSON value is nested too deeply; select it as text: value::text") from (
            error
        )
    return [
        None if kind in _FLOATS and isinstance(value, str) and value in _NO_NUMBERS else value
        for value, kind in zip(values, types, strict=True)
    ]


def _table(row: Any, first: str) -> Table:
    name = row["name"] if row["schema"] == first else f"{row['schema']}.{row['name']}"
    columns = tuple(Column(*one) for one in json.loads(row["columns"] or "[]"))
    return Table(name, columns, row["view"], row["rows"], row["comment"])


async def _closed(connection: asyncpg.Connection) -> None:
    """Cancel what runs on it, and end it; by force when the server does not answer."""
    try:
        await connection.close(timeout=_CLOSING_SECONDS)
    except (Exception, asyncio.CancelledError):
        connection.terminate()


def _reason(error: BaseException) -> str:
    match error:
        case (
            asyncpg.exceptions.InvalidAuthorizationSpecificationError()
            | asyncpg.exceptions.InvalidCatalogNameError()
        ):
            return "it does not let this service in"
        case asyncpg.exceptions.InsufficientResourcesError():
            return "it has no room left for this"
        case _:
            return "the connection failed"
