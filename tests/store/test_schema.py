"""The schema: the same by migration and by definition, brought up to date once, never back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from service.errors import SchemaTooNew, StoreError
from service.store import schema
from service.store.database import Database
from service.store.tables import metadata, sessions, voices

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARTS = (
    "columns",
    "pk_constraint",
    "foreign_keys",
    "unique_constraints",
    "check_constraints",
    "indexes",
)


async def test_alembic_finds_nothing_to_migrate(database: Database) -> None:
    """A change of tables.py needs a migration."""
    changes = await database.read(_changes)

    assert changes == []


async def test_migrated_and_defined_tables_are_the_same(database: Database) -> None:
    """To the last CHECK and partial index, which alembic does not compare."""
    migrated = await database.read(_shape)
    defined = await database.write(_define_anew)

    assert migrated == defined


async def test_migrating_again_changes_nothing(database: Database) -> None:
    """Every start may migrate."""
    before = await database.read(_shape)

    revision = await schema.migrate(database)

    assert revision == schema.head() == await schema.current(database)
    assert before == await database.read(_shape)


async def test_an_empty_database_has_no_revision(database: Database) -> None:
    """That is how one is told from an old one."""
    await database.write(_clear)

    assert await schema.current(database) is None


async def test_a_newer_schema_is_refused(database: Database) -> None:
    """A release leaves what it does not understand alone, and says so."""
    await database.write(_set_revision, "9999")

    with pytest.raises(SchemaTooNew, match="has schema 9999, this release knows up to"):
        await schema.migrate(database)


async def test_replicas_that_start_together_take_turns(postgresql_url: str) -> None:
    """One migrates, the others find it done."""
    replicas = [Database(postgresql_url) for _ in range(4)]
    await replicas[0].write(_clear)

    revisions = await asyncio.gather(*(schema.migrate(replica) for replica in replicas))

    assert revisions == [schema.head()] * 4
    for replica in replicas:
        await replica.close()


@pytest.mark.parametrize("column", ["agent", "provider", "model", "prompt"])
async def test_a_voice_is_bound_for_life(database: Database, column: str) -> None:
    """The database itself refuses to change what a voice is bound to."""
    await database.write(_add_voice)

    with pytest.raises(StoreError, match="of a voice never change"):
        await database.write(_change_voice, column)


def _changes(conn: sa.Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(conn, opts=options), metadata))


def _shape(conn: sa.Connection) -> dict[tuple[str, str], list[str]]:
    """Everything the database knows about each part of each of our tables."""
    inspector = sa.inspect(conn)
    return {
        (table, part): _sorted(getattr(inspector, f"get_{part}")(table))
        for table in metadata.tables
        for part in PARTS
    }


def _sorted(found: object) -> list[str]:
    return sorted(map(_text, found)) if isinstance(found, list) else [_text(found)]


def _text(found: object) -> str:
    if isinstance(found, dict):
        return ", ".join(f"{key}: {_text(value)}" for key, value in found.items())
    return found.text if isinstance(found, sa.TextClause) else repr(found)


def _define_anew(conn: sa.Connection) -> dict[tuple[str, str], list[str]]:
    metadata.drop_all(conn)
    metadata.create_all(conn)
    return _shape(conn)


def _clear(conn: sa.Connection) -> None:
    metadata.drop_all(conn)
    conn.execute(sa.text("DROP TABLE alembic_version"))
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("DROP FUNCTION refuse_rebinding"))


def _set_revision(conn: sa.Connection, revision: str) -> None:
    conn.execute(sa.text("UPDATE alembic_version SET version_num = :new"), {"new": revision})


def _add_voice(conn: sa.Connection) -> None:
    conn.execute(
        sessions.insert().values(
            id="s1",
            agent="assistant",
            source="console",
            origin="console",
            owner="operator",
            sticky=False,
            last_event=0,
            created_at=NOW,
            active_at=NOW,
        )
    )
    conn.execute(
        voices.insert().values(
            id="v1",
            session_id="s1",
            position=0,
            name="assistant",
            agent="assistant",
            provider="offline",
            model="echo",
            prompt="Be kind.",
            tools=[],
            created_at=NOW,
        )
    )


def _change_voice(conn: sa.Connection, column: str) -> None:
    conn.execute(voices.update().values({column: "another"}))
