"""What the figures stand on: databases, services on them, other processes, and what those cost."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests import postgres
from tests.process import service

BACKENDS = ("sqlite", "postgresql")
# How Linux names the clock of what a whole other process has computed.
_CLOCK_OF_PROCESS = 2


@dataclass(frozen=True, slots=True)
class Ground:
    """What a run has to itself."""

    directory: Path
    socket: str
    """The folder by which its PostgreSQL server is reached."""
    thorough: bool
    """Whether what takes minutes is to be measured as well."""

    async def database(self, backend: str) -> str:
        """Make an empty database and return its URL."""
        name = f"bench_{time.monotonic_ns()}"
        if backend == "sqlite":
            return f"sqlite+aiosqlite:///{self.directory}/{name}.db"
        connection = await asyncpg.connect(host=self.socket, user="postgres", database="postgres")
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()
        return postgres.url(self.socket, name)

    def config(self, url: str, more: str = "") -> Path:
        """Write a configuration on a database: any free port, a log for programs, and `more`."""
        path = self.directory / f"bench-{time.monotonic_ns()}.toml"
        path.write_text(
            f'[server]\nport = 0\ndrain = "1s"\n[log]\nformat = "json"\n'
            f"[database]\nurl = {json.dumps(url)}\n{more}",
            "utf-8",
        )
        return path


@dataclass(frozen=True, slots=True)
class Child:
    """A process of ours and the first line it wrote."""

    pid: int
    line: str


@contextmanager
def ground(*, thorough: bool) -> Iterator[Ground]:
    """Prepare a run; nothing of it is left afterwards."""
    with postgres.server() as socket, tempfile.TemporaryDirectory() as directory:
        yield Ground(Path(directory), socket, thorough)


@asynccontextmanager
async def serving(
    config: Path, environ: Mapping[str, str] | None = None
) -> AsyncGenerator[tuple[int, str]]:
    """Run the service; yield its process id and its URL."""
    async with service(config, environ=environ) as process:
        yield process.pid, await process.ready()


@asynccontextmanager
async def child(module: str, *arguments: object) -> AsyncGenerator[Child]:
    """Run a module of ours from its first line until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *map(str, arguments)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode().strip()
        if not line:
            raise RuntimeError(f"{module} ended without a word")
        yield Child(process.pid, line)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def cpu(pid: int) -> float:
    """Seconds that all threads of a process have computed."""
    return time.clock_gettime(~pid << 3 | _CLOCK_OF_PROCESS)


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
