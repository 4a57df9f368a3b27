"""A load generator that costs little: keep-alive connections, prepared requests, raw bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Load:
    """How many requests were answered, and how fast."""

    answered: int
    seconds: float
    failed: int

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds


async def post(
    port: int, make: Callable[[int], bytes], *, connections: int, seconds: float
) -> Load:
    """Post what `make` makes over `connections` for `seconds`; each waits for its answer."""
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    counts = await asyncio.gather(
        *(_connection(port, make, place, connections, until) for place in range(connections))
    )
    took = time.perf_counter() - began
    return Load(sum(good for good, _ in counts), took, sum(bad for _, bad in counts))


async def _connection(
    port: int, make: Callable[[int], bytes], first: int, step: int, until: float
) -> tuple[int, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    good = bad = 0
    number = first
    while time.perf_counter() < until:
        writer.write(make(number))
        number += step
        if await _status(reader) == 202:
            good += 1
        else:
            bad += 1
    writer.close()
    return good, bad


async def _status(reader: asyncio.StreamReader) -> int:
    """Read one answer to its end; return its status."""
    head = await reader.readuntil(_HEAD_END)
    length = 0
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            length = int(line[15:])
    if length:
        await reader.readexactly(length)
    return int(head[9:12])
