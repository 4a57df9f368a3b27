"""`python -m service.demo.bot_api`: a Bot API server in a process of its own, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal

from service.demo.bot_api.control import ControlledBotApi


def main() -> None:
    """Serve on this machine only; the first line that is printed is the address."""
    parser = argparse.ArgumentParser(prog="python -m service.demo.bot_api", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--token", default="7000000001:" + "A" * 35, help="the token of the bot")
    parser.add_argument("--username", default="demo_bot", help="how people mention the bot")
    given = parser.parse_args()
    asyncio.run(_serve(given.token, given.port, given.username))


async def _serve(token: str, port: int, username: str) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, over.set)
    async with ControlledBotApi(token, port=port, username=username) as api:
        print(api.url, flush=True)
        await over.wait()


if __name__ == "__main__":
    main()
