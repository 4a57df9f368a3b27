"""A real Chromium in a process of its own, spoken to in its DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp

_START_SECONDS = 60.0
_CALL_SECONDS = 30.0
_POLL_SECONDS = 0.03
_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--window-size=1280,900",
)
Json = Mapping[str, Any]
Hear = Callable[[str, Json], None]
"""Takes an event of a tab: its method and its parameters."""


@contextmanager
def launched(executable: Path) -> Iterator[str]:
    """Run a Chromium with a profile of its own; its DevTools address. Nothing of it is left."""
    profile = Path(tempfile.mkdtemp(prefix="ringback-chromium-"))
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    told = (str(executable), *_FLAGS, *root, f"--user-data-dir={profile}", "about:blank")
    # The shell ends the browser when its input closes: also when this process is killed.
    guard = ("sh", "-c", '"$@" & read -r _; kill $!; wait $!', "sh")
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen((*guard, *told), stdin=subprocess.PIPE, stdout=log, stderr=log)
    assert process.stdin is not None
    try:
        yield _address(profile)
    finally:
        process.stdin.close()
        process.wait(_CALL_SECONDS)
        shutil.rmtree(profile, ignore_errors=True)


def _address(profile: Path) -> str:
    """Wait until it tells its address and has opened its first window."""
    until = time.monotonic() + _START_SECONDS
    told = profile / "DevToolsActivePort"
    while time.monotonic() < until:
        if told.exists() and len(lines := told.read_text("utf-8").splitlines()) == 2:
            port, path = lines
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_CALL_SECONDS) as answer:
                if any(target["type"] == "page" for target in json.load(answer)):
                    return f"ws://127.0.0.1:{port}{path}"
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"Chromium did not start: {(profile / 'log').read_text('utf-8')[-2000:]}")


class ProtocolError(Exception):
    """Chromium refused a call."""


class Browser:
    """A connection to a running Chromium."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[Json]] = {}
        self._hearing: dict[str, Hear] = {}
        self._reading = asyncio.create_task(self._read())

    async def call(self, method: str, session: str | None = None, **params: object) -> Json:
        """Call a method of the protocol."""
        self._number += 1
        number = self._number
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        sent: dict[str, object] = {"id": number, "method": method, "params": params}
        await self._socket.send_json(sent | ({"sessionId": session} if session else {}))
        async with asyncio.timeout(_CALL_SECONDS):
            told = await answer
        if error := told.get("error"):
            raise ProtocolError(f"{method}: {error['message']}")
        result: Json = told["result"]
        return result

    async def attach(self, target: str, hear: Hear) -> str:
        """Take hold of a tab, to hear what happens in it; its session."""
        attached = await self.call("Target.attachToTarget", targetId=target, flatten=True)
        session: str = attached["sessionId"]
        self._hearing[session] = hear
        return session

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if answer := self._answers.pop(told.get("id"), None):
                if not answer.done():
                    answer.set_result(told)
            elif hear := self._hearing.get(told.get("sessionId")):
                hear(told["method"], told["params"])

    async def close(self) -> None:
        """Let go of the browser, which goes on."""
        await self._socket.close()
        await self._reading


@asynccontextmanager
async def connected(address: str) -> AsyncGenerator[Browser]:
    """Speak to a running Chromium."""
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(address, max_msg_size=0) as socket,
    ):
        browser = Browser(socket)
        try:
            yield browser
        finally:
            await browser.close()
