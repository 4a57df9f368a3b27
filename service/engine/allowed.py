"""Who may write to the Telegram bot besides those of the configuration: allowed by an operator."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from service.core.model import Refusal, RefusalReason
from service.store import allowed as store
from service.store import audit
from service.store.database import Database

MOST = 1000
"""People and groups that can be allowed while the service runs."""

_FRESH = timedelta(seconds=1)


class Allowed:
    """Allows people and groups, and tells who is; a change is known to all replicas in seconds.

    `clock` counts seconds; it need not tell the time.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._known: frozenset[int] = frozenset()
        self._read_at: float | None = None

    async def ids(self) -> frozenset[int]:
        """Who is allowed, as it was a second ago at the earliest. Raises StoreError."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= _FRESH.total_seconds():
            self._known = await self._database.read(store.ids)
            self._read_at = now
        return self._known

    async def add(self, one: int, *, by: str) -> bool | Refusal:
        """Allow a person or group; whether that is new."""
        new = await self._database.write(_add, one, by)
        self._read_at = None
        if new is None:
            detail = f"at most {MOST} can be allowed here; put them into telegram.allow"
            return Refusal(RefusalReason.FORBIDDEN, detail)
        return new

    async def drop(self, one: int, *, by: str) -> bool:
        """Allow somebody no longer; whether they were allowed here."""
        was = await self._database.write(_drop, one, by)
        self._read_at = None
        return was


def _add(conn: sa.Connection, one: int, by: str) -> bool | None:
    new = store.add(conn, one, most=MOST)
    if new is not False:
        at = datetime.now(UTC)
        done = new is True
        audit.note(conn, by, "telegram.allow", session=None, allowed=done, at=at, id=one)
    return new


def _drop(conn: sa.Connection, one: int, by: str) -> bool:
    was = store.drop(conn, one)
    if was:
        at = datetime.now(UTC)
        audit.note(conn, by, "telegram.disallow", session=None, allowed=True, at=at, id=one)
    return was
