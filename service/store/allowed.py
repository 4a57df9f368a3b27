"""Who may write to the Telegram bot besides those of the configuration."""

from __future__ import annotations

import sqlalchemy as sa

from service.store.sql import insert_new
from service.store.tables import settings

_KEY = "telegram.allowed"


def ids(conn: sa.Connection) -> frozenset[int]:
    """The people and groups that were allowed while the service ran."""
    return _ids(conn.scalar(sa.select(settings.c.value).where(settings.c.key == _KEY)))


def add(conn: sa.Connection, one: int, *, most: int) -> bool | None:
    """Allow one; whether that is new, None when there are `most` already."""
    known = _locked(conn)
    if one in known:
        return False
    if len(known) >= most:
        return None
    _store(conn, known | {one})
    return True


def drop(conn: sa.Connection, one: int) -> bool:
    """Allow one no longer; whether it was allowed."""
    known = _locked(conn)
    if one in known:
        _store(conn, known - {one})
    return one in known


def _locked(conn: sa.Connection) -> frozenset[int]:
    """Those that are allowed; nobody else changes them until the transaction is over."""
    conn.execute(insert_new(conn, settings), [{"key": _KEY, "value": []}])
    query = sa.select(settings.c.value).where(settings.c.key == _KEY).with_for_update()
    return _ids(conn.scalar(query))


def _store(conn: sa.Connection, allowed: frozenset[int]) -> None:
    conn.execute(settings.update().where(settings.c.key == _KEY).values(value=sorted(allowed)))


def _ids(stored: object) -> frozenset[int]:
    return frozenset(stored) if isinstance(stored, list) else frozenset()
