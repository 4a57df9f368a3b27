"""Tasks as stored: when each rings next, and what those made while the service ran do."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import Address, Channel, Json, SessionId
from service.store import projects
from service.store.sessions import home_address
from service.store.sql import insert_new, now
from service.store.tables import sessions
from service.store.tables import tasks as table

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Definition:
    """What a task that was made while the service ran does."""

    cron: str
    timezone: str
    agent: str
    prompt: str
    deliver: Address | None = None
    session: str | None = None
    """The key of the session it rings into; None is the one it was made in, if any."""
    once: bool = False
    key: str | None = None
    """Names the call that made it, so that a repeated one finds it."""


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task's row; without a definition the task is one of the configuration."""

    name: str
    schedule: str
    next_at: datetime | None
    enabled: bool
    """The switch people turn while the service runs."""
    definition: Definition | None = None
    made_by: str | None = None
    made_in: SessionId | None = None


def stored(conn: sa.Connection, *, reader: str | None = None) -> dict[str, StoredTask]:
    """Every task by name; with `reader` without those made in sessions hidden from them."""
    query = sa.select(table).order_by(table.c.name)
    if reader is not None:
        query = query.where(~projects.hidden_from(reader, table.c.made_in))
    return {row.name: _task(row) for row in conn.execute(query)}


def is_name(given: str) -> bool:
    """Whether it can be one: PostgreSQL refuses some characters."""
    return _NAME.fullmatch(given) is not None


def get(conn: sa.Connection, name: str) -> StoredTask | None:
    """One task, or None when there is none."""
    if not is_name(name):
        return None
    row = conn.execute(sa.select(table).where(table.c.name == name)).first()
    return _task(row) if row else None


def lock(conn: sa.Connection, name: str) -> None:
    """Let nobody else record an occurrence of the task until the transaction ends."""
    conn.execute(sa.select(table.c.name).where(table.c.name == name).with_for_update())


def due(conn: sa.Connection) -> tuple[datetime, list[StoredTask]]:
    """The database's clock, and the tasks whose next instant has come by it."""
    at = conn.execute(sa.select(now())).scalar_one()
    rows = conn.execute(sa.select(table).where(table.c.next_at <= at).order_by(table.c.next_at))
    return at, [_task(row) for row in rows]


def next_instant(conn: sa.Connection, configured: Collection[str]) -> datetime | None:
    """When the first of the tasks `configured`, and of those made meanwhile, is due."""
    mine = sa.or_(table.c.definition.is_not(None), table.c.name.in_(list(configured)))
    found: datetime | None = conn.scalar(sa.select(sa.func.min(table.c.next_at)).where(mine))
    return found


def define(
    conn: sa.Connection,
    name: str,
    *,
    schedule: str,
    next_at: datetime | None,
    enabled: bool,
) -> None:
    """Store a task as the configuration has it now."""
    values = {"schedule": schedule, "next_at": next_at, "enabled": enabled}
    if conn.execute(table.update().where(table.c.name == name).values(**values)).rowcount == 0:
        conn.execute(insert_new(conn, table), [{"name": name, **values}])


def make(conn: sa.Connection, task: StoredTask) -> bool:
    """Store a task that is made now; False when its name is taken."""
    assert task.definition is not None
    values = {
        "name": task.name,
        "schedule": task.schedule,
        "next_at": task.next_at,
        "enabled": task.enabled,
        "definition": _as_json(task.definition),
        "made_by": task.made_by,
        "made_in": task.made_in,
    }
    return conn.execute(insert_new(conn, table, table.c.name), [values]).first() is not None


def count_made(conn: sa.Connection, *, by: str | None = None) -> int:
    """How many tasks were made while the service ran, by everybody or by one author."""
    query = sa.select(sa.func.count()).where(table.c.definition.is_not(None))
    if by is not None:
        query = query.where(table.c.made_by == by)
    return conn.execute(query).scalar_one()


def made_with(conn: sa.Connection, key: str, *, by: str) -> StoredTask | None:
    """The task that a call of this author made."""
    rows = conn.execute(
        sa.select(table).where(table.c.definition.is_not(None), table.c.made_by == by)
    )
    # Read through, because the two databases look into JSON in different ways; an author's are few.
    return next((_task(row) for row in rows if row.definition["key"] == key), None)


def drop(conn: sa.Connection, names: Collection[str]) -> None:
    """Forget tasks; their occurrences stay."""
    if names:
        conn.execute(table.delete().where(table.c.name.in_(list(names))))


def rename(conn: sa.Connection, old: str, new: str) -> None:
    """Give a task another name, which must be free."""
    conn.execute(table.update().where(table.c.name == old).values(name=new))


def advance(conn: sa.Connection, name: str, *, seen: datetime, next_at: datetime | None) -> bool:
    """Move a task on from the instant `seen`; False when somebody else did."""
    result = conn.execute(
        table.update().where(table.c.name == name, table.c.next_at == seen).values(next_at=next_at)
    )
    return result.rowcount == 1


def switch(conn: sa.Connection, name: str, *, enabled: bool, next_at: datetime | None) -> None:
    """Turn a task on or off; off has no next instant."""
    conn.execute(
        table.update().where(table.c.name == name).values(enabled=enabled, next_at=next_at)
    )


def readdress(conn: sa.Connection, old: Address, new: Address) -> None:
    """Let made tasks say their answers where an address has moved."""
    for row in conn.execute(sa.select(table).where(table.c.definition.is_not(None))).all():
        definition = _definition(row.definition)
        if definition.deliver == old:
            moved = _as_json(replace(definition, deliver=new))
            conn.execute(table.update().where(table.c.name == row.name).values(definition=moved))


def home_of(conn: sa.Connection, session: SessionId) -> Address | None:
    """The chat a session lives at, if it does."""
    home: str | None = conn.scalar(sa.select(sessions.c.home).where(sessions.c.id == session))
    return home_address(home)


def _as_json(definition: Definition) -> Json:
    deliver = definition.deliver
    return {
        "cron": definition.cron,
        "timezone": definition.timezone,
        "agent": definition.agent,
        "prompt": definition.prompt,
        "deliver": {"channel": deliver.channel.value, "spot": deliver.spot} if deliver else None,
        "session": definition.session,
        "once": definition.once,
        "key": definition.key,
    }


def _definition(stored_: Json) -> Definition:
    deliver = stored_["deliver"]
    return Definition(
        cron=stored_["cron"],
        timezone=stored_["timezone"],
        agent=stored_["agent"],
        prompt=stored_["prompt"],
        deliver=Address(Channel(deliver["channel"]), deliver["spot"]) if deliver else None,
        session=stored_["session"],
        once=stored_["once"],
        key=stored_["key"],
    )


def _task(row: sa.Row[Any]) -> StoredTask:
    return StoredTask(
        name=row.name,
        schedule=row.schedule,
        next_at=row.next_at,
        enabled=row.enabled,
        definition=_definition(row.definition) if row.definition is not None else None,
        made_by=row.made_by,
        made_in=SessionId(row.made_in) if row.made_in else None,
    )
