"""`make bench`: what the service does and what it costs, beside floors of the same run.

`python -m bench NAME ...` measures only those parts, and takes more time for each.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Mapping

import structlog
import uvloop

from bench.followers import followers
from bench.ground import Ground, ground, say
from bench.history import history
from bench.lists import lists
from bench.memory import idle, memory
from bench.rings import rings, words
from bench.stops import stops
from bench.tokens import tokens

_PARTS: Mapping[str, Callable[[Ground], Awaitable[None]]] = {
    part.__name__: part
    for part in (rings, words, idle, tokens, history, memory, stops, lists, followers)
}


async def main(names: list[str]) -> None:
    """Measure these parts, all when none is named, and print one line per figure."""
    unknown = [name for name in names if name not in _PARTS]
    if unknown:
        raise SystemExit(f"bench: no part {', '.join(unknown)}; there are {', '.join(_PARTS)}")
    # What runs in this process says nothing between the figures.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with ground(thorough=bool(names)) as prepared:
        for name in names or _PARTS:
            await _PARTS[name](prepared)
            say("")


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
