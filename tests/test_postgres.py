"""The PostgreSQL of the tests: found, new enough, empty for each test, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa

from service.store.database import Database
from service.store.tables import settings
from tests import postgres

ROOT = Path(__file__).parent.parent

# A run of the tests as it may end: in the middle.
ENDLESS = """
from tests import postgres
with postgres.server() as folder:
    print(folder, flush=True)
    input()
"""
# Starts a server as an ordinary user, which root becomes for it.
ORDINARY = """
import os, pwd, tempfile
from pathlib import Path
from tests import postgres
programs = postgres.binaries()
with tempfile.TemporaryDirectory(dir="/tmp") as copies:
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(copies, nobody.pw_uid, nobody.pw_gid)
        programs = postgres.runnable(programs, Path(copies), nobody)
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    with postgres.server(programs) as folder:
        print(os.getuid() != 0 and Path(folder, ".s.PGSQL.5432").is_socket())
"""


async def test_the_server_is_new_enough(postgresql_server: str) -> None:
    """Ringback promises PostgreSQL 15 and later."""
    version = await _version(postgresql_server)

    assert version >= 15


async def test_the_wheel_serves_where_nothing_is_installed() -> None:
    """Its programs run, wherever they lie and whoever runs the tests."""
    with postgres.server(postgres.wheel_binaries()) as folder:
        version = await _version(folder)

    assert version == 18


def test_an_ordinary_user_runs_a_server() -> None:
    """Nothing of it needs root."""
    done = subprocess.run(
        [sys.executable, "-c", ORDINARY], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "True\n"


@pytest.mark.parametrize("test", ["first", "second"])
async def test_a_database_belongs_to_one_test(database: Database, test: str) -> None:
    """What one test stores, no other sees."""
    before = await database.read(_keys)

    await database.write(_store, test)

    assert before == []
    assert await database.read(_keys) == [test]


def test_a_finished_run_leaves_nothing() -> None:
    """The server and its folder are gone."""
    with postgres.server() as folder:
        assert Path(folder).exists()

    assert not Path(folder).exists()


def test_a_killed_run_leaves_nothing() -> None:
    """The server stops and its folder goes, although nobody is left to ask for it."""
    run = subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    folder = Path(run.stdout.readline().strip())
    existed = folder.exists()

    run.kill()
    # Whoever cleans up has our end of stderr until it is done.
    run.communicate()

    assert existed
    assert not folder.exists()


def test_a_wrong_pg_bindir_is_named() -> None:
    """A slip in $PG_BINDIR does not silently test another PostgreSQL."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests import postgres; postgres.binaries()"],
        cwd=ROOT,
        env={**os.environ, "PG_BINDIR": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "PG_BINDIR=/nowhere holds no initdb; unset it or correct it" in done.stderr


async def _version(folder: str) -> int:
    connection = await asyncpg.connect(host=folder, user="postgres", database="postgres")
    version: int = connection.get_server_version().major
    await connection.close()
    return version


def _keys(conn: sa.Connection) -> list[str]:
    return list(conn.execute(sa.select(settings.c.key)).scalars())


def _store(conn: sa.Connection, key: str) -> None:
    conn.execute(settings.insert().values(key=key, value=1))
