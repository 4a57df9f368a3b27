"""Rings: how many are accepted per second, and how soon the first words come."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import statistics
import time
from pathlib import Path

import aiohttp

from bench.ground import BACKENDS, Ground, child, say, serving
from bench.load import Load, post

_KEY = b"a key of 24 bytes or more"
_SECRET = {"BENCH_SECRET": "whsec_" + base64.b64encode(_KEY).decode()}
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
auth = { scheme = "standard-webhooks", secret = "env:BENCH_SECRET" }
prompt = "{{ payload.issue.title }}"
"""
# The process accepts and nothing else: what answering costs is no part of accepting.
_ACCEPTING = "[limits]\nturns_at_once = 0\nqueue_per_session = 1000000\n"


async def rings(ground: Ground) -> None:
    """Print how many rings are accepted per second, beside a server that only answers."""
    say(f"# Accepted rings per second: durable, signature checked, {_CONNECTIONS} connections")
    for backend in BACKENDS:
        async with child("bench.floor") as server:
            floor = await _load(int(server.line))
        config = ground.config(await ground.database(backend), _HOOK + _ACCEPTING)
        async with serving(config, _SECRET) as (_, base):
            load = await _load(int(base.rpartition(":")[2]))
        say(
            f"{backend:11} {load.per_second:7.0f}/s   floor {floor.per_second:7.0f}/s   "
            f"{load.per_second / floor.per_second:5.1%} of it   failed {load.failed}"
        )


async def words(ground: Ground) -> None:
    """Print how soon the first words of an answer come."""
    say("# From acceptance to the first words, offline agent without latency")
    for backend in BACKENDS:
        times = await _first_words(ground.config(await ground.database(backend), _HOOK))
        say(
            f"{backend:11} median {statistics.median(times):5.1f} ms   "
            f"p95 {statistics.quantiles(times, n=20)[-1]:5.1f} ms"
        )


async def _load(port: int) -> Load:
    await post(port, _request, connections=_CONNECTIONS, seconds=_WARM_UP)
    return await post(
        port,
        lambda number: _request(number + 10**9),
        connections=_CONNECTIONS,
        seconds=_SECONDS,
    )


async def _first_words(config: Path) -> list[float]:
    """Milliseconds from the answer's head, which comes after the commit, to the first words."""
    times = []
    async with serving(config, _SECRET) as (_, base), aiohttp.ClientSession(base) as session:
        for number in range(_REQUESTS):
            headers = {**_signed(f"first-{number}"), "Accept": "text/event-stream"}
            async with session.post("/hooks/bench", data=_BODY, headers=headers) as response:
                began = time.perf_counter()
                async for line in response.content:
                    if line == b"event: text\n":
                        times.append((time.perf_counter() - began) * 1000)  # noqa: PERF401
                await response.read()
    return times[_REQUESTS // 10 :]


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
