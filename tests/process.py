"""The real service in a process of its own, to be rung, watched and killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from service.app import App, open_app
from service.config import load

_READY_SECONDS = 60.0
_ROOT = Path(__file__).parent.parent


class ServiceProcess:
    """One `ringback serve`; `url` is known once it is ready."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.log: list[Mapping[str, Any]] = []
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ready(self) -> str:
        """The URL, once rings are let in. Raises when the process ends before that."""
        async with asyncio.timeout(_READY_SECONDS):
            return await asyncio.shield(self._ready)

    async def died(self, *, seconds: float = 60.0) -> int:
        """Wait until the process is gone by itself; return its exit code."""
        async with asyncio.timeout(seconds):
            code = await self._process.wait()
            await self._reading
            return code

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End the process and wait for it."""
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.died()

    async def close(self) -> None:
        """Make sure that nothing is left."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            entry = _entry(line)
            self.log.append(entry)
            if entry.get("event") == "service.ready" and not self._ready.done():
                self._ready.set_result(entry["url"])
        if not self._ready.done():
            self._ready.set_exception(RuntimeError(f"the service did not start: {self.log[-3:]}"))


@asynccontextmanager
async def service(
    config: Path, *, kill_at: str | None = None, environ: Mapping[str, str] | None = None
) -> AsyncGenerator[ServiceProcess]:
    """Start the service on a configuration file; nothing of it is left afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "serve", "--config", str(config)),
        cwd=_ROOT,
        env=_environ(kill_at, environ or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    running = ServiceProcess(process)
    try:
        yield running
    finally:
        await running.close()


class ServiceHere:
    """The service in this process: what a killed one left is all in the database."""

    def __init__(self, app: App, stack: AsyncExitStack) -> None:
        self._app = app
        self._stack = stack

    async def ready(self) -> str:
        """The URL; rings are let in."""
        return self._app.url

    async def stop(self) -> None:
        """Drain it."""
        await self._stack.aclose()


@asynccontextmanager
async def service_again(config: Path) -> AsyncGenerator[ServiceHere]:
    """Start the service on a configuration file in this process, which takes half the time."""
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(open_app(load(config)))
        yield ServiceHere(app, stack)


def _environ(kill_at: str | None, extra: Mapping[str, str]) -> dict[str, str]:
    # Starting without cached byte code would take seconds.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **extra, **({"RINGBACK_KILL_AT": kill_at} if kill_at else {})}


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {"event": line.decode("utf-8", "replace")}
    return entry if isinstance(entry, dict) else {"event": str(entry)}
