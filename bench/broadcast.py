"""The floor of followers: a bare WebSocket server that sends frames and keeps nothing.

Whoever connects to `/ws` is sent what `POST /say` asks for: so many frames, so many seconds apart,
each stamped when it is sent; the same ones to all, or with `apart` to each its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime

import uvloop
from aiohttp import WSCloseCode, web

_FILL = "x" * 60
_open: list[web.WebSocketResponse] = []


async def _join(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    _open.append(socket)
    async for _ in socket:
        pass
    _open.remove(socket)
    return socket


async def _say(request: web.Request) -> web.Response:
    asked = await request.json()
    frames, every = asked["frames"], asked["every"]
    if asked["apart"]:
        # As turns do that began one after the other.
        shift = every / len(_open)
        await asyncio.gather(
            *(_tell([one], frames, every, place * shift) for place, one in enumerate(_open))
        )
    else:
        await _tell(_open, frames, every, 0)
    await asyncio.gather(*(one.close(code=WSCloseCode.OK) for one in tuple(_open)))
    return web.json_response({})


async def _tell(
    sockets: list[web.WebSocketResponse], frames: int, every: float, after: float
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time() + after
    for number in range(1, frames + 1):
        await asyncio.sleep(began + number * every - loop.time())
        event = {"number": number, "kind": "text", "at": datetime.now(UTC).isoformat()}
        frame = json.dumps({"event": {**event, "session": "", "data": {"text": _FILL}}})
        for socket in sockets:
            await socket.send_str(frame)


async def _serve() -> None:
    app = web.Application()
    app.router.add_get("/ws", _join)
    app.router.add_post("/say", _say)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
