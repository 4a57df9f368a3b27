"""The schema of the database: brought up to date, or refused when it is newer than the code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from service.errors import SchemaTooNew
from service.store.database import Database

if TYPE_CHECKING:
    # 60 ms and 8 MB that a service whose schema is up to date does without.
    from alembic.config import Config as AlembicConfig

# Any number, as long as every release uses the same: replicas that start together take turns.
_LOCK = 7_464_225
_HEAD = "0006"


def head() -> str:
    """The revision this release works with: that of the newest migration."""
    return _HEAD


async def migrate(database: Database) -> str:
    """Bring the schema to `head()`, in one transaction; return the revision.

    Replicas that start together wait for each other. Raises SchemaTooNew.
    """
    await database.migrate(_upgrade)
    return head()


async def current(database: Database) -> str | None:
    """The revision the database is at; None for an empty one."""
    return await database.read(_revision)


def _upgrade(conn: sa.Connection) -> None:
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    found = _revision(conn)
    if found == head():
        return
    from alembic import command
    from alembic.util.exc import CommandError

    try:
        command.upgrade(_alembic(conn), "head")
    except CommandError as error:
        raise SchemaTooNew(
            f"the database has schema {found}, this release knows up to {head()}; "
            "run the newer release, or restore a backup made before it"
        ) from error


def _revision(conn: sa.Connection) -> str | None:
    if not sa.inspect(conn).has_table("alembic_version"):
        return None
    found: str | None = conn.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _alembic(conn: sa.Connection) -> AlembicConfig:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = conn
    return config
