"""A provider that streams as many words as the last message asks for, as fast as it says.

It speaks OpenAI's chat completions; the last message begins with the number of tokens and the
seconds between two of them.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Mapping
from typing import Any

import uvloop
from aiohttp import web

from tests.openai_server import end, words

# A token is a word, and a sentence has fifteen of them.
_SENTENCE = (*(f" word{number:02}" for number in range(14)), " word14.")
_START, *_TOKENS = words(*_SENTENCE)
_requests = itertools.count()


async def _answer(request: web.Request) -> web.StreamResponse:
    tokens, every = _asked(await request.json())
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    # Streams that began together do not stay in step: the golden ratio spreads them evenly.
    began = asyncio.get_running_loop().time() + next(_requests) * 0.618 % 1 * every
    await response.write(_START)
    for number in range(tokens):
        if every:
            await _until(began + number * every)
        await response.write(_TOKENS[number % len(_TOKENS)])
    for piece in end(tokens=(7, tokens)):
        await response.write(piece)
    await response.write_eof()
    return response


def _asked(body: Mapping[str, Any]) -> tuple[int, float]:
    tokens, every, *_ = body["messages"][-1]["content"].split()
    return int(tokens), float(every)


async def _until(at: float) -> None:
    wait = at - asyncio.get_running_loop().time()
    if wait > 0:
        await asyncio.sleep(wait)


async def _serve() -> None:
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", _answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}/v1\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
