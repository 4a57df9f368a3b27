"""Who did, or tried to do, what to somebody's session; kept when the session is gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import SessionId
from service.store.ids import new_id
from service.store.tables import audit


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt."""

    id: str
    at: datetime
    principal: str
    action: str
    session: SessionId | None
    allowed: bool
    detail: Mapping[str, Any]


def note(
    conn: sa.Connection,
    principal: str,
    action: str,
    *,
    session: SessionId | None,
    allowed: bool,
    at: datetime,
    **detail: Any,
) -> None:
    """Write an attempt down, in the transaction that carries it out or refuses it."""
    conn.execute(
        audit.insert().values(
            id=new_id(),
            at=at,
            principal=principal,
            action=action,
            session_id=session,
            allowed=allowed,
            detail=detail,
        )
    )


def newest(conn: sa.Connection, *, limit: int, before: str | None = None) -> list[Entry]:
    """The newest attempts; `before` is the id of the last one of the page before."""
    query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    return [
        Entry(
            row.id,
            row.at,
            row.principal,
            row.action,
            SessionId(row.session_id) if row.session_id else None,
            row.allowed,
            row.detail,
        )
        for row in conn.execute(query)
    ]
