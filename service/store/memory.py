"""What sessions remember between their turns: state and knobs, one row per name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from service.core.model import SessionId
from service.store.sql import insert_many
from service.store.tables import session_state

Kind = Literal["state", "knob"]


@dataclass(frozen=True, slots=True)
class Remembered:
    """State and knobs of one session; a knob that was never turned is missing."""

    state: Mapping[str, Any]
    knobs: Mapping[str, Any]


def read(conn: sa.Connection, session: SessionId) -> Remembered:
    """Everything the session remembers."""
    found: dict[str, dict[str, Any]] = {"state": {}, "knob": {}}
    query = sa.select(session_state).where(session_state.c.session_id == session)
    for row in conn.execute(query.order_by(session_state.c.name)):
        found[row.kind][row.name] = row.value
    return Remembered(found["state"], found["knob"])


def write(
    conn: sa.Connection,
    session: SessionId,
    kind: Kind,
    changes: Mapping[str, Any | None],
    *,
    at: datetime,
) -> None:
    """Store changed values; None removes one."""
    if not changes:
        return
    forget(conn, session, kind, changes)
    insert_many(
        conn,
        session_state,
        [
            {
                "session_id": session,
                "kind": kind,
                "name": name,
                "value": value,
                "updated_at": at,
            }
            for name, value in changes.items()
            if value is not None
        ],
    )


def forget(conn: sa.Connection, session: SessionId, kind: Kind, names: Collection[str]) -> None:
    """Remove values."""
    conn.execute(
        session_state.delete().where(
            session_state.c.session_id == session,
            session_state.c.kind == kind,
            session_state.c.name.in_(list(names)),
        )
    )
