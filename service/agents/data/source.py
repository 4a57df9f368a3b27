"""What the tools need of a database, and how its tables are described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from service.agents.data.table import Found
from service.errors import BadInput

Dialect = Literal["sqlite", "postgresql"]

MOST_COLUMNS = 300
"""Of one result."""
MOST_TABLES = 2_000
"""That are looked at in one database."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    type: str
    required: bool = False
    """Whether it is never NULL."""
    key: bool = False
    """Whether it belongs to the primary key."""
    references: str | None = None
    """The column it points to, as `table.column`."""
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view that may be read."""

    name: str
    """With its schema, unless that is the first one that is searched."""
    columns: tuple[Column, ...]
    view: bool = False
    rows: int | None = None
    """About how many there are."""
    comment: str | None = None


class Source(Protocol):
    """A database. Every failure is a BadInput for the model; being cancelled ends the query."""

    @property
    def dialect(self) -> Dialect:
        """The SQL it speaks."""

    async def query(self, sql: str) -> Found:
        """Run a statement that was checked."""

    async def tables(self) -> Sequence[Table]:
        """All tables that may be read, by name."""

    async def close(self) -> None:
        """End what runs, and every connection."""


def too_late(seconds: float) -> BadInput:
    """The statement was ended by the timeout."""
    return BadInput(
        f"The query was ended: it did not finish within {seconds:g} s. Filter earlier, join on "
        "keys, aggregate less, or end a recursion with a condition and LIMIT."
    )


def too_wide() -> BadInput:
    """The result has more columns than anybody reads."""
    return BadInput(f"The result has more than {MOST_COLUMNS} columns. Name those you need.")


def too_large(rows: int) -> BadInput:
    """One row is larger than a whole result may be."""
    return BadInput(
        f"Row {rows:,} of the result is too large. Select fewer columns, or the beginning of long "
        "ones, such as substr(column, 1, 500)."
    )


def unreachable(name: str, reason: str) -> BadInput:
    """The database does not answer; whoever runs the service has to see to that."""
    return BadInput(
        f"The database {name} cannot be read just now ({reason}). Your statement is not at fault: "
        "try once more later, and tell the person if that fails, too."
    )


def unknown_name(name: str, message: str) -> BadInput:
    """The statement names something that is not there."""
    return BadInput(f"{message}. {name}_tables tells which tables and columns there are.")
