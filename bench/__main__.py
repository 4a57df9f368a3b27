"""`make bench`: what the service does per second, how soon, in how much memory, beside floors."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import uvloop

from bench.load import Load, post
from service.demo.bot_api.server import BotApi
from tests import postgres
from tests.process import service

_KEY = b"a key of 24 bytes or more"
_BODY = json.dumps(
    {"issue": {"title": "Disk almost full", "number": 17}, "text": "x" * 160}
).encode()
_CONNECTIONS = 256
_SECONDS = 6.0
_WARM_UP = 2.0
_REQUESTS = 200
_HOOK = """
[webhooks.bench]
agent = "assistant"
auth = {{ scheme = "standard-webhooks", secret = "env:BENCH_SECRET" }}
prompt = "{{{{ payload.issue.title }}}}"
"""


async def main() -> None:
    """Measure and print one line per figure."""
    _say("# Accepted rings per second: durable, signature checked, 256 connections")
    with postgres.server() as folder, tempfile.TemporaryDirectory() as directory:
        for name in ("sqlite", "postgresql"):
            floor = await _floor()
            url = await _database(name, folder, Path(directory))
            load = await _accepts(url, Path(directory))
            _say(
                f"{name:11} {load.per_second:7.0f}/s   floor {floor.per_second:7.0f}/s   "
                f"{load.per_second / floor.per_second:5.1%} of it   failed {load.failed}"
            )
        _say("\n# From acceptance to the first words, offline agent without latency")
        for name in ("sqlite", "postgresql"):
            url = await _database(name, folder, Path(directory))
            times = await _first_words(url, Path(directory))
            _say(
                f"{name:11} median {statistics.median(times):5.1f} ms   "
                f"p95 {statistics.quantiles(times, n=20)[-1]:5.1f} ms"
            )
        _say("\n# Idle: SQLite, Telegram, one task")
        url = await _database("sqlite", folder, Path(directory))
        seconds, megabytes = await _idle(url, Path(directory))
        bare_seconds, bare_megabytes = await _bare()
        _say(f"start to ready {seconds:5.2f} s    bare aiohttp server {bare_seconds:5.2f} s")
        _say(f"memory (RSS)   {megabytes:5.0f} MB   bare aiohttp server {bare_megabytes:5.0f} MB")


async def _accepts(url: str, folder: Path) -> Load:
    # This process accepts and nothing else: what answering costs is no part of accepting.
    config = _config(folder, url, "[limits]\nturns_at_once = 0\nqueue_per_session = 1000000\n")
    async with _serving(config) as base:
        port = int(base.rpartition(":")[2])
        await post(port, _request, connections=_CONNECTIONS, seconds=_WARM_UP)
        return await post(
            port,
            lambda number: _request(number + 10**9),
            connections=_CONNECTIONS,
            seconds=_SECONDS,
        )


async def _floor() -> Load:
    async with _bare_server() as port:
        await post(port, _request, connections=_CONNECTIONS, seconds=_WARM_UP)
        return await post(port, _request, connections=_CONNECTIONS, seconds=_SECONDS)


async def _first_words(url: str, folder: Path) -> list[float]:
    """Milliseconds from the answer's head, which comes after the commit, to the first words."""
    times = []
    async with _serving(_config(folder, url)) as base, aiohttp.ClientSession(base) as session:
        for number in range(_REQUESTS):
            headers = {**_signed(f"first-{number}"), "Accept": "text/event-stream"}
            async with session.post("/hooks/bench", data=_BODY, headers=headers) as response:
                began = time.perf_counter()
                async for line in response.content:
                    if line == b"event: text\n":
                        times.append((time.perf_counter() - began) * 1000)  # noqa: PERF401
                await response.read()
    return times[_REQUESTS // 10 :]


async def _idle(url: str, folder: Path) -> tuple[float, float]:
    async with BotApi() as telegram:
        (folder / "token").write_text(telegram.token, "utf-8")
        config = _config(
            folder,
            url,
            f'[telegram]\ntoken = "file:{folder}/token"\nagent = "assistant"\n'
            f'api_base_url = "{telegram.url}"\nallow = [1]\n'
            '[tasks.daily]\ncron = "0 8 * * *"\nagent = "assistant"\nprompt = "Good morning"\n',
        )
        async with service(config, environ=_secret()) as once:
            await once.ready()
        began = time.perf_counter()
        async with service(config, environ=_secret()) as process:
            await process.ready()
            took = time.perf_counter() - began
            await asyncio.sleep(3)
            return took, _rss(process.pid)


async def _bare() -> tuple[float, float]:
    began = time.perf_counter()
    async with _bare_process() as (process, _):
        return time.perf_counter() - began, _rss(process.pid)


async def _database(name: str, folder: str, directory: Path) -> str:
    number = time.monotonic_ns()
    if name == "sqlite":
        return f"sqlite+aiosqlite:///{directory}/bench-{number}.db"
    connection = await asyncpg.connect(host=folder, user="postgres", database="postgres")
    await connection.execute(f'CREATE DATABASE "bench_{number}"')
    await connection.close()
    return postgres.url(folder, f"bench_{number}")


def _config(folder: Path, url: str, more: str = "") -> Path:
    path = folder / "bench.toml"
    path.write_text(
        f'[server]\nport = 0\ndrain = "1s"\n[log]\nformat = "json"\n'
        f"[database]\nurl = {json.dumps(url)}\n{_HOOK.format()}\n{more}",
        "utf-8",
    )
    return path


@asynccontextmanager
async def _serving(config: Path) -> AsyncGenerator[str]:
    async with service(config, environ=_secret()) as process:
        yield await process.ready()


@asynccontextmanager
async def _bare_server() -> AsyncGenerator[int]:
    async with _bare_process() as (_, port):
        yield port


@asynccontextmanager
async def _bare_process() -> AsyncGenerator[tuple[asyncio.subprocess.Process, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.floor", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


def _request(number: int) -> bytes:
    head = [
        "POST /hooks/bench HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(_BODY)}",
        *(f"{name}: {value}" for name, value in _signed(f"msg-{number}").items()),
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + _BODY


def _signed(id_: str) -> dict[str, str]:
    timestamp = str(int(time.time()))
    mac = hmac.digest(_KEY, f"{id_}.{timestamp}.".encode() + _BODY, hashlib.sha256)
    return {
        "webhook-id": id_,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        "Content-Type": "application/json",
    }


def _secret() -> dict[str, str]:
    return {"BENCH_SECRET": "whsec_" + base64.b64encode(_KEY).decode()}


def _rss(pid: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
