"""Compositions that were made while the service runs, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.store.sql import insert_new
from service.store.tables import compositions as table


@dataclass(frozen=True, slots=True)
class StoredComposition:
    """A made composition; `definition` is what was checked when it was stored."""

    name: str
    definition: Mapping[str, Any]
    archived: bool
    updated_at: datetime


def every(conn: sa.Connection) -> list[StoredComposition]:
    """All of them by name."""
    return [_composition(row) for row in conn.execute(sa.select(table).order_by(table.c.name))]


def get(conn: sa.Connection, name: str) -> StoredComposition | None:
    """One of them; None when there is none."""
    row = conn.execute(sa.select(table).where(table.c.name == name)).first()
    return _composition(row) if row else None


def count(conn: sa.Connection) -> int:
    """How many there are."""
    return conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def insert(conn: sa.Connection, new: StoredComposition) -> bool:
    """Store one; False when its name is taken."""
    return conn.execute(insert_new(conn, table, table.c.name), [_row(new)]).first() is not None


def replace(conn: sa.Connection, name: str, new: StoredComposition) -> bool:
    """Let one be as told, also under another name, which must be free; False when it is gone."""
    return conn.execute(table.update().where(table.c.name == name).values(_row(new))).rowcount == 1


def delete(conn: sa.Connection, name: str) -> bool:
    """Drop one; False when there was none. Sessions made of it have their own copy."""
    return conn.execute(table.delete().where(table.c.name == name)).rowcount == 1


def _row(new: StoredComposition) -> dict[str, Any]:
    return {
        "name": new.name,
        "definition": dict(new.definition),
        "archived": new.archived,
        "updated_at": new.updated_at,
    }


def _composition(row: sa.Row[Any]) -> StoredComposition:
    return StoredComposition(row.name, row.definition, row.archived, row.updated_at)
