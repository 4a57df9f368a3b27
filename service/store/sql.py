"""What the two databases spell differently: the clock, instants, JSON and insert-if-new."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class Instant(sa.TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite keeps it as text that sorts like the instants do."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[datetime | None], Any]:
        """Check for a zone; on SQLite write the text."""
        return _checked if dialect.name == "postgresql" else _to_text

    def result_processor(
        self,
        dialect: sa.Dialect,
        coltype: object,  # noqa: ARG002 - the base class names it
    ) -> Callable[[Any], datetime | None] | None:
        """Give the zone back that SQLite's text does not have."""
        return None if dialect.name == "postgresql" else _from_text


def _checked(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise ValueError("instants must be aware")
    return value


# One transaction writes the same instant into many rows.
@lru_cache(maxsize=256)
def _to_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError("instants must be aware")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _from_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)


Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
OrderedJson = sa.JSON(none_as_null=True)
"""JSON whose keys stay in their order: what people wrote comes back as they wrote it."""


class _Now(FunctionElement[datetime]):
    """The database's clock, some seconds from now."""

    type = Instant()
    inherit_cache = True


@compiles(_Now, "postgresql")
def _now_postgresql(element: _Now, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(statement_timestamp() + make_interval(secs => {seconds}))"


@compiles(_Now, "sqlite")
def _now_sqlite(element: _Now, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    # Three digits of a second and three zeros: the text SQLAlchemy writes has six.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"


def now(seconds: float = 0.0) -> sa.ColumnElement[datetime]:
    """The instant `seconds` from now by the database's clock, so that replicas agree."""
    return _Now(sa.bindparam(None, float(seconds), type_=sa.Double()))


def insert_new(
    conn: sa.Connection, table: sa.Table, *returning: sa.Column[Any]
) -> sa.sql.dml.ReturningInsert[Any] | sa.Insert:
    """An insert that leaves existing rows alone and returns columns of the new ones only."""
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).on_conflict_do_nothing()
    return statement.returning(*returning) if returning else statement


def insert_many(conn: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, which all have the same keys; nothing happens when there are none."""
    for statement, values in _batches(conn, table, rows, ""):
        conn.exec_driver_sql(statement, values)


def insert_fresh(
    conn: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *key: sa.Column[Any]
) -> list[tuple[Any, ...]]:
    """Insert those of `rows` whose key is not there yet; return the keys that were new."""
    names = ", ".join(column.name for column in key)
    tail = f" ON CONFLICT DO NOTHING RETURNING {names}"
    stored: list[tuple[Any, ...]] = []
    for statement, values in _batches(conn, table, rows, tail):
        stored.extend(tuple(row) for row in conn.exec_driver_sql(statement, values))
    return stored


# Many rows go in by one statement (docs/decisions/0006): on PostgreSQL as one array per column, on
# SQLite, which has no arrays, as lists of places for powers of two of rows. Both make few different
# texts, which the servers keep prepared.
_LARGEST_BATCH = 64


def _batches(
    conn: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], tail: str
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if not rows:
        return
    names = tuple(rows[0])
    processors = _processors(conn.dialect, table, names)
    if conn.dialect.name == "postgresql":
        arrays = tuple(
            [row[name] if process is None else process(row[name]) for row in rows]
            for name, process in processors
        )
        yield _from_arrays(conn.dialect, table, names) + tail, arrays
        return
    start = 0
    while start < len(rows):
        size = min(_LARGEST_BATCH, 1 << ((len(rows) - start).bit_length() - 1))
        values = tuple(
            row[name] if process is None else process(row[name])
            for row in rows[start : start + size]
            for name, process in processors
        )
        yield _from_values(table.name, names, size) + tail, values
        start += size


@lru_cache(maxsize=256)
def _from_arrays(dialect: sa.Dialect, table: sa.Table, names: tuple[str, ...]) -> str:
    arrays = ", ".join(
        f"${number}::{table.c[name].type.compile(dialect)}[]"
        for number, name in enumerate(names, start=1)
    )
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays})"  # noqa: S608 - our own names


@lru_cache(maxsize=1024)
def _from_values(table: str, names: tuple[str, ...], size: int) -> str:
    row = f"({', '.join('?' for _ in names)})"
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * size)}"  # noqa: S608 - our own names


@lru_cache(maxsize=256)
def _processors(
    dialect: sa.Dialect, table: sa.Table, names: tuple[str, ...]
) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    return tuple(
        (name, table.c[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in names
    )
