"""The floor: the same HTTP server without the service behind it.

It answers 202 without reading, checking or storing anything; or it answers with an echo, and keeps
the session in a dictionary.
"""

from __future__ import annotations

import asyncio
import sys
import uuid

import uvloop
from aiohttp import web

_sessions: dict[str, list[dict[str, str]]] = {}


async def _accept(_request: web.Request) -> web.Response:
    return web.json_response({"accepted": True}, status=202)


async def _keep(request: web.Request) -> web.Response:
    said = await request.text()
    session, answer = str(uuid.uuid4()), f"> {said}"
    _sessions[session] = [{"role": "user", "text": said}, {"role": "assistant", "text": answer}]
    return web.json_response({"session": session, "state": "succeeded", "text": answer})


async def _serve() -> None:
    app = web.Application()
    app.router.add_post("/hooks/bench", _accept)
    app.router.add_post("/hooks/kept", _keep)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
