"""The floors of a stream: its chunks read and parsed, and nothing else, in a process of its own.

`python -m bench.reader raw|library URL STREAMS TOKENS EVERY` prints what that took, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import aiohttp
import openai
import uvloop

from bench.streams import WARM_UP, Read, Shape, measured

_MODEL = "bench"


async def main(kind: str, url: str, shape: Shape) -> None:
    """Read streams in one way and print the cost."""
    if kind == "raw":
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await _report(Raw(session, url).read, shape)
    else:
        http = openai.DefaultAioHttpClient(trust_env=False)
        async with openai.AsyncOpenAI(
            base_url=url, api_key="none", max_retries=0, http_client=http
        ) as client:
            await _report(Library(client).read, shape)


async def _report(read: Read, shape: Shape) -> None:
    await read(WARM_UP)
    cost = await measured(os.getpid(), read, shape)
    sys.stdout.write(json.dumps(asdict(cost)) + "\n")


class Raw:
    """The HTTP client alone: split at the blank lines, parse the JSON."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url}/chat/completions"

    async def read(self, shape: Shape) -> int:
        """Read one stream; return the number of its words."""
        body = {
            "model": _MODEL,
            "messages": [{"role": "user", "content": shape.asked}],
            "stream": True,
        }
        found = 0
        rest = b""
        async with self._session.post(self._url, json=body) as response:
            async for data in response.content.iter_any():
                *events, rest = (rest + data).split(b"\n\n")
                found += sum(_has_words(event) for event in events)
        return found


class Library:
    """The client library that the service's own adapter is built on."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    async def read(self, shape: Shape) -> int:
        """Read one stream; return the number of its words."""
        found = 0
        async with await self._client.chat.completions.create(
            model=_MODEL,
            messages=[{"role": "user", "content": shape.asked}],
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            async for chunk in stream:
                found += bool(chunk.choices and chunk.choices[0].delta.content)
        return found


def _has_words(event: bytes) -> bool:
    data = event.removeprefix(b"data: ")
    if data == b"[DONE]":
        return False
    choices = json.loads(data)["choices"]
    return bool(choices and choices[0]["delta"].get("content"))


if __name__ == "__main__":
    _, kind, url, streams, tokens, every = sys.argv
    uvloop.run(main(kind, url, Shape(int(streams), int(tokens), float(every))))
