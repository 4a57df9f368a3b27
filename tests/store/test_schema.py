"""The schema: the same by migration and by definition, brought up to date once, never back."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.errors import SchemaTooNew, StoreError
from service.store import migrations, schema
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
# What searches read is beyond metadata: a virtual table of SQLite and the tables it lives in; a
# computed column of PostgreSQL and its index.
WORDS = re.compile(r"message_words(_\w+)?|words|ix_messages_words")


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


def test_the_head_is_the_newest_migration() -> None:
    """Written down, so that alembic is imported only when there is something to migrate."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))

    assert ScriptDirectory.from_config(config).get_heads() == [schema.head()]


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


async def test_a_migration_may_take_its_time(postgresql_url: str) -> None:
    """What people wait for is cut off by the server after seconds; millions of rows are not."""
    database = Database(postgresql_url)

    usual = await database.read(_limits)
    migrating = await database.migrate(_limits)
    await database.close()

    assert "0" not in usual
    assert migrating == ["0", "0", "0"]


async def test_what_an_old_database_holds_is_kept(database: Database) -> None:
    """Tables that others refer to are rebuilt on SQLite; nothing that refers to them goes along."""
    await database.write(_clear)
    await database.migrate(_upgrade_to_the_first)
    await database.write(_answer_once)

    await schema.migrate(database)

    assert await database.read(_count) == {"turns": 1, "replies": 1, "tool_calls": 1}
    with pytest.raises(StoreError):
        await database.write(_orphan_a_reply)


@pytest.mark.parametrize("column", ["agent", "provider", "model", "prompt"])
async def test_a_voice_is_bound_for_life(database: Database, column: str) -> None:
    """The database itself refuses to change what a voice is bound to."""
    await database.write(_add_voice)

    with pytest.raises(StoreError, match="of a voice never change"):
        await database.write(_change_voice, column)


def _limits(conn: sa.Connection) -> list[str | None]:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    return [conn.scalar(sa.text(f"SHOW {name}")) for name in names]


def _changes(conn: sa.Connection) -> list[object]:
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": _defined,
        "include_object": _is_defined,
    }
    return list(compare_metadata(MigrationContext.configure(conn, opts=options), metadata))


def _defined(name: str | None, _type: str, _parents: object) -> bool:
    return name is None or not WORDS.fullmatch(name)


def _is_defined(_item: object, name: str | None, *_others: object) -> bool:
    return name is None or not WORDS.fullmatch(name)


def _shape(conn: sa.Connection) -> dict[tuple[str, str], list[str]]:
    """Everything the database knows about each part of each of our tables."""
    inspector = sa.inspect(conn)
    return {
        (table, part): _sorted(_kept(getattr(inspector, f"get_{part}")(table)))
        for table in metadata.tables
        for part in PARTS
    }


def _kept(found: object) -> object:
    if not isinstance(found, list):
        return found
    return [one for one in found if _defined(one.get("name"), "", None)]


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
    else:
        conn.execute(sa.text("DROP TABLE message_words"))


def _upgrade_to_the_first(conn: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", next(iter(migrations.__path__)))
    config.attributes["connection"] = conn
    command.upgrade(config, "0001")


def _answer_once(conn: sa.Connection) -> None:
    """A session, a turn, a reply and a tool call, as the first release wrote them."""
    at = "'2026-03-01 12:00:00.000000'"
    if conn.dialect.name == "postgresql":
        at = "timestamptz '2026-03-01 12:00:00Z'"
    for statement in (
        "INSERT INTO sessions (id, agent, source, origin, owner, sticky, last_event, created_at, "
        f"active_at) VALUES ('s1', 'a', 'manual', 'console', 'o', false, 0, {at}, {at})",
        "INSERT INTO turns (id, session_id, number, state, channel, trigger_name, author, "
        "answer_to, attempt, epoch, due_at, processing_ms, created_at) VALUES "
        f"('t1', 's1', 2, 'succeeded', 'console', 'api', 'o', '[]', 1, 1, {at}, 5, {at})",
        "INSERT INTO replies (id, turn_id, voice_id, round, state, text, started_at) VALUES "
        f"('r1', 't1', 'v1', 1, 'done', 'Hello.', {at})",
        "INSERT INTO tool_calls (reply_id, iteration, ordinal, call_id, tool, arguments, state, "
        f"started_at) VALUES ('r1', 0, 0, 'c', 'dice', '{{}}', 'done', {at})",
    ):
        conn.execute(sa.text(statement))


def _count(conn: sa.Connection) -> dict[str, int]:
    return {
        name: conn.execute(sa.select(sa.func.count()).select_from(metadata.tables[name])).scalar()
        or 0
        for name in ("turns", "replies", "tool_calls")
    }


def _orphan_a_reply(conn: sa.Connection) -> None:
    conn.execute(sa.text("UPDATE replies SET turn_id = 'nowhere'"))


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
