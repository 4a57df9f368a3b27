"""Named leases: at most one holder of a name at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from service.store.sql import insert_new, now
from service.store.tables import leases

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def acquire(conn: sa.Connection, name: str, *, owner: str, lease: timedelta) -> int | None:
    """Take the lease when it is free or over; return its epoch, None when somebody holds it."""
    conn.execute(
        insert_new(conn, leases),
        [{"name": name, "owner": "", "epoch": 0, "lease_until": _LONG_AGO}],
    )
    row = conn.execute(
        leases.update()
        .where(
            leases.c.name == name,
            sa.or_(leases.c.lease_until < now(), leases.c.owner == owner),
        )
        .values(
            owner=owner,
            epoch=leases.c.epoch + 1,
            lease_until=now(lease.total_seconds()),
        )
        .returning(leases.c.epoch)
    ).first()
    return row.epoch if row else None


def renew(conn: sa.Connection, name: str, *, epoch: int, lease: timedelta) -> bool:
    """Extend a lease that is still ours; False when it is not."""
    result = conn.execute(
        leases.update()
        .where(leases.c.name == name, leases.c.epoch == epoch)
        .values(lease_until=now(lease.total_seconds()))
    )
    return result.rowcount == 1


def release(conn: sa.Connection, name: str, *, epoch: int) -> None:
    """Let go of a lease; nothing happens when it is not ours any more."""
    conn.execute(
        leases.update()
        .where(leases.c.name == name, leases.c.epoch == epoch)
        .values(owner="", lease_until=now(-1))
    )


def release_all(conn: sa.Connection) -> None:
    """Let go of every lease: nobody else can hold this database."""
    conn.execute(leases.update().values(owner="", lease_until=_LONG_AGO))
