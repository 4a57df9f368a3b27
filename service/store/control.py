"""How a command on the same machine finds the process that holds a SQLite file."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """The process that holds the file, and what opens its API."""

    url: str
    token: str


def announce(lock: Path | None, *, url: str, token: str) -> None:
    """Write into the lock file, which only its owner can read, how we can be reached."""
    if lock is not None:
        lock.write_text(json.dumps({"url": url, "token": token, "pid": os.getpid()}), "utf-8")


def find(lock: Path | None) -> Running | None:
    """The process that holds the lock; None when nobody does, or it is not ready yet."""
    if lock is None or not lock.exists() or not _is_held(lock):
        return None
    try:
        said = json.loads(lock.read_text("utf-8"))
        return Running(said["url"], said["token"])
    except (ValueError, KeyError, TypeError):
        return None


def _is_held(lock: Path) -> bool:
    with lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
