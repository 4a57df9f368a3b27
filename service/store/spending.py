"""What agents took, by day: turns, tokens, money and time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.core.model import Usage
from service.store.tables import spending

_SLOTS = 16
_SUMS = (
    "turns",
    "requests",
    "input_tokens",
    "output_tokens",
    "cost_micros",
    "processing_ms",
)


@dataclass(frozen=True, slots=True)
class Spent:
    """What one agent took on one day (UTC)."""

    day: date
    agent: str
    turns: int
    usage: Usage
    processing: timedelta


def add(
    conn: sa.Connection, taken: Mapping[str, Usage], processing: timedelta, *, at: datetime
) -> None:
    """Count a turn that ended: what each agent took, and itself and its time to the first one."""
    if not taken:
        return
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(spending)
    grown = {name: spending.c[name] + statement.excluded[name] for name in _SUMS}
    first = next(iter(taken))
    slot = random.randrange(_SLOTS)  # noqa: S311 - spreads load, hides nothing
    conn.execute(
        statement.on_conflict_do_update(index_elements=["day", "agent", "slot"], set_=grown),
        [
            {
                "day": _day(at),
                "agent": agent,
                "slot": slot,
                "turns": int(agent == first),
                "requests": usage.requests,
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cost_micros": usage.cost_micros,
                "processing_ms": (
                    round(processing.total_seconds() * 1000) if agent == first else 0
                ),
            }
            # Always in the same order, so that turns that end together do not lock each other out.
            for agent, usage in sorted(taken.items())
        ],
    )


def cost_today(conn: sa.Connection, agent: str, *, at: datetime) -> int:
    """Millionths of a US dollar that the agent's turns cost on the day of `at`."""
    query = sa.select(sa.func.sum(spending.c.cost_micros)).where(
        spending.c.day == _day(at), spending.c.agent == agent
    )
    return int(conn.scalar(query) or 0)


def by_day(conn: sa.Connection, since: date) -> list[Spent]:
    """What each agent took on each day since then, newest day first."""
    sums = [sa.func.sum(spending.c[name]).label(name) for name in _SUMS]
    rows = conn.execute(
        sa.select(spending.c.day, spending.c.agent, *sums)
        .where(spending.c.day >= since.isoformat())
        .group_by(spending.c.day, spending.c.agent)
        .order_by(spending.c.day.desc(), spending.c.agent)
    )
    return [
        Spent(
            date.fromisoformat(row.day),
            row.agent,
            int(row.turns),
            Usage(
                int(row.input_tokens),
                int(row.output_tokens),
                int(row.requests),
                int(row.cost_micros),
            ),
            timedelta(milliseconds=int(row.processing_ms)),
        )
        for row in rows
    ]


def _day(at: datetime) -> str:
    return at.astimezone(UTC).date().isoformat()
