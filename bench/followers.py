"""Followers: how soon after it was written an event is with everybody who follows its session.

The service stamps an event before the commit that makes it one, so its times hold the commit; what
many followers add is seen beside the line of a single one. Floors are stamped when they are sent.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from bench import past
from bench.ground import BACKENDS, Ground, child, cpu, say, serving

_FOLLOWERS = 200
_SECONDS, _FEW_SECONDS = 10, 3
_WORDS_PER_SECOND = 20
# Of an offline answer, besides the words it quotes.
_WORDS_OF_ANSWER = 33
_PATIENCE = 60.0
_SETTLED = 1.5
_SERVICE = f"[limits]\nturns_at_once = {_FOLLOWERS}\n"


@dataclass(frozen=True, slots=True)
class Heard:
    """What all followers of one run were sent, and what that took."""

    events: Sequence[float]
    """The seconds that each took to each follower."""
    others: int
    """Frames that were no events."""
    cpu: float
    """Seconds the server computed."""


@dataclass(frozen=True, slots=True)
class Floors:
    """The same of a server that has nothing to do but send."""

    alone: Heard
    together: Heard
    apart: Heard


async def followers(ground: Ground) -> None:
    """Print how late events are and what they cost, with many followers of one session and each."""
    seconds = _SECONDS if ground.thorough else _FEW_SECONDS
    say(
        f"# {_FOLLOWERS} followers by WebSocket: from an event's instant to its receipt, and the "
        "server's CPU per event and follower"
    )
    floors = Floors(
        await _floor(1, seconds, apart=False),
        await _floor(_FOLLOWERS, seconds, apart=False),
        await _floor(_FOLLOWERS, seconds, apart=True),
    )
    _say("bare server", "1 alone", floors.alone, floors.alone)
    _say("bare server", f"{_FOLLOWERS}, the same to all", floors.together, floors.together)
    _say("bare server", f"{_FOLLOWERS}, each its own", floors.apart, floors.apart)
    for backend in BACKENDS if ground.thorough else BACKENDS[:1]:
        await _of_backend(ground, backend, seconds, floors)


async def _of_backend(ground: Ground, backend: str, seconds: int, floors: Floors) -> None:
    url = await ground.database(backend)
    headers = {"Authorization": f"Bearer {await past.operator(url)}"}
    async with (
        serving(ground.config(url, _SERVICE)) as (pid, base),
        _client(base, headers) as client,
    ):
        crowd = Crowd(client, pid)
        await crowd.one_session(1, 1)
        _say(backend, "1 alone", await crowd.one_session(1, seconds), floors.alone)
        together = await crowd.one_session(_FOLLOWERS, seconds)
        _say(backend, f"{_FOLLOWERS} on one session", together, floors.together)
        apart = await crowd.own_sessions(seconds, talking=1)
        _say(backend, f"{_FOLLOWERS} on their own", apart, floors.apart)
        half = await crowd.own_sessions(seconds, talking=2)
        _say(backend, f"{_FOLLOWERS}, half of them idle", half, floors.apart)
        idle = await crowd.idle(seconds)
        say(f"{backend:11} {f'{_FOLLOWERS}, all of them idle':22} {idle:6.1%} of a core")


def _say(name: str, case: str, heard: Heard, floor: Heard) -> None:
    median, worst = statistics.median(heard.events), max(heard.events)
    each = heard.cpu / len(heard.events)
    bare = floor.cpu / len(floor.events)
    say(
        f"{name:11} {case:22} {len(heard.events):7,} events   median {median * 1e3:6.1f} ms "
        f"{median / statistics.median(floor.events):5.1f} x   worst {worst * 1e3:6.1f} ms   "
        f"CPU {each * 1e6:6.0f} us {each / bare:5.1f} x   {heard.others:6,} other frames"
    )


class Crowd:
    """Followers of a service, and the turns they hear of."""

    def __init__(self, client: aiohttp.ClientSession, pid: int) -> None:
        self._client = client
        self._pid = pid

    async def one_session(self, count: int, seconds: int) -> Heard:
        """Let so many follow one turn."""
        session = await self._session()
        async with self._following([session] * count) as lines:
            return await self._heard(lines, [session], seconds)

    async def own_sessions(self, seconds: int, *, talking: int) -> Heard:
        """Let everybody follow a session of their own; in one of `talking` there is a turn."""
        sessions = [await self._session() for _ in range(_FOLLOWERS)]
        async with self._following(sessions) as lines:
            return await self._heard(lines, sessions[::talking], seconds, talking=talking)

    async def idle(self, seconds: int) -> float:
        """Let everybody follow a session of their own in which nothing happens; the load of it."""
        sessions = [await self._session() for _ in range(_FOLLOWERS)]
        async with self._following(sessions):
            computed, began = cpu(self._pid), time.perf_counter()
            await asyncio.sleep(seconds)
            return (cpu(self._pid) - computed) / (time.perf_counter() - began)

    async def _heard(
        self, lines: Sequence[Line], sessions: Sequence[str], seconds: int, *, talking: int = 1
    ) -> Heard:
        computed = cpu(self._pid)
        hearing = [asyncio.create_task(line.hear()) for line in lines]
        await asyncio.gather(*(self._talk(session, seconds) for session in sessions))
        async with asyncio.timeout(seconds + _PATIENCE):
            await asyncio.gather(*hearing[::talking])
        heard = _result(lines, cpu(self._pid) - computed)
        for task in hearing:
            task.cancel()
        await asyncio.wait(hearing)
        return heard

    @asynccontextmanager
    async def _following(self, sessions: Sequence[str]) -> AsyncGenerator[Sequence[Line]]:
        async with AsyncExitStack() as stack:
            lines = []
            for session in sessions:
                socket = await stack.enter_async_context(self._client.ws_connect("/api/ws"))
                await socket.send_json({"do": "follow", "session": session})
                lines.append(Line(socket))
            await asyncio.gather(*(line.followed() for line in lines))
            # Lists are told of new sessions a little later.
            await asyncio.sleep(_SETTLED)
            yield lines

    async def _session(self) -> str:
        made = await self._post("/api/sessions", {})
        return str(made["session"])

    async def _talk(self, session: str, seconds: int) -> None:
        more = "word " * max(0, seconds * _WORDS_PER_SECOND - _WORDS_OF_ANSWER)
        text = f"slowly for {seconds} s {more}"
        await self._post(f"/api/sessions/{session}/messages", {"text": text})

    async def _post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        async with self._client.post(path, json=body) as response:
            response.raise_for_status()
            answer: dict[str, Any] = await response.json()
            return answer


class Line:
    """A follower's end of a socket. It only notes what comes: reading it would take time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.noted: list[tuple[float, str]] = []

    async def followed(self) -> None:
        """Wait until the session is followed. Raises RuntimeError when it cannot be."""
        while "done" not in (answer := await self._socket.receive_json()):
            if "error" in answer:
                raise RuntimeError(f"not followed: {answer}")

    async def hear(self) -> None:
        """Note what comes until a turn is over or the server closes."""
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                break
            self.noted.append((time.time(), message.data))
            if '"kind":"turn.finished"' in message.data:
                return
        if self._socket.close_code != aiohttp.WSCloseCode.OK:
            raise RuntimeError(f"a follower was sent away: {self._socket.close_code}")


def _result(lines: Sequence[Line], computed: float) -> Heard:
    noted = [(at, json.loads(text)) for line in lines for at, text in line.noted]
    events = [(at, frame["event"]) for at, frame in noted if "event" in frame]
    late = [at - datetime.fromisoformat(event["at"]).timestamp() for at, event in events]
    return Heard(late, len(noted) - len(events), computed)


@asynccontextmanager
async def _client(
    base: str, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(base, connector=connector, headers=headers) as client:
        yield client


async def _floor(count: int, seconds: int, *, apart: bool) -> Heard:
    """What a server takes that has nothing to do but send."""
    every = 1 / _WORDS_PER_SECOND
    asked = {"frames": seconds * _WORDS_PER_SECOND, "every": every, "apart": apart}
    async with child("bench.broadcast") as server, _client(server.line) as client:
        lines = [Line(await client.ws_connect("/ws")) for _ in range(count)]
        computed = cpu(server.pid)
        hearing = [asyncio.create_task(line.hear()) for line in lines]
        async with client.post("/say", json=asked) as response:
            response.raise_for_status()
        await asyncio.gather(*hearing)
        return _result(lines, cpu(server.pid) - computed)
