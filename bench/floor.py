"""The floor: the same HTTP server answering 202 without reading, checking or storing anything."""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web


async def _accept(_request: web.Request) -> web.Response:
    return web.json_response({"accepted": True}, status=202)


async def _serve() -> None:
    import asyncio

    app = web.Application()
    app.router.add_post("/hooks/bench", _accept)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
