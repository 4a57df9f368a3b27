"""What a streamed token costs: the whole service beside its client library and a bare reader."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from functools import partial

from bench.ground import BACKENDS, Ground, child, say
from bench.streams import FLOORS, Cost, Shape, followed, of_floor

_SATURATED = Shape(streams=1, tokens=4000)
_ROUNDS = 3
# Slow enough for one core in each of the processes.
_STEADY = Shape(streams=25, tokens=250, every=0.02)

Measure = Callable[[Shape], Awaitable[Cost]]


async def tokens(ground: Ground) -> None:
    """Print the CPU per token of one fast stream, and how many steady streams a core carries."""
    fast: dict[str, float] = {}
    steady: dict[str, float] = {}
    async with child("bench.provider") as provider:
        for kind, name in FLOORS.items():
            await _measure(name, partial(of_floor, kind, provider.line), fast, steady)
        for backend in BACKENDS:
            async with followed(ground, backend, provider.line) as measure:
                await _measure(f"service, {backend}", measure, fast, steady)
    say(f"# CPU per streamed token: one stream of {_SATURATED.tokens}, as fast as they come")
    raw, library = (fast[name] for name in FLOORS.values())
    for name, seconds in fast.items():
        say(
            f"{name:20} {seconds * 1e6:6.1f} us   {seconds / raw:5.1f} x bare   "
            f"{seconds / library:5.2f} x library"
        )
    say(
        f"\n# Streams of {1 / _STEADY.every:.0f} tokens/s that one core carries, "
        f"from {_STEADY.streams} at once"
    )
    raw, library = (steady[name] for name in FLOORS.values())
    for name, streams in steady.items():
        say(
            f"{name:20} {streams:6.0f}      {streams / raw:6.1%} of bare   "
            f"{streams / library:6.1%} of library"
        )


async def _measure(
    name: str, measure: Measure, fast: dict[str, float], steady: dict[str, float]
) -> None:
    costs = [await measure(_SATURATED) for _ in range(_ROUNDS)]
    fast[name] = statistics.median(cost.cpu for cost in costs) / _SATURATED.tokens
    cost = await measure(_STEADY)
    steady[name] = _STEADY.streams * cost.seconds / cost.cpu
