"""What the two databases spell differently: the clock, instants, JSON and insert-if-new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def insert_many(conn: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert `rows`, which all have the same keys; nothing happens when there are none."""
    if rows:
        conn.execute(table.insert(), rows)
