"""Whether the process lives, whether it may get work, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from handlers.http import problem

_CHECK_SECONDS = 3.0

Check = Callable[[], Awaitable[str | None]]
"""Says what is wrong; None when nothing is."""


@dataclass
class Health:
    """Named readiness checks; while `draining` nothing is ready."""

    checks: Mapping[str, Check]
    registry: CollectorRegistry
    draining: bool = field(default=False)

    async def problems(self) -> dict[str, str]:
        """Every check that fails, with what is wrong; a check that hangs fails too."""
        if self.draining:
            return {"draining": "the service is shutting down"}
        answers = await asyncio.gather(*(_answer(check) for check in self.checks.values()))
        return {
            name: answer
            for name, answer in zip(self.checks, answers, strict=True)
            if answer is not None
        }

    def routes(self) -> list[web.RouteDef]:
        """The routes to serve; none of them needs a token, none tells more than states."""
        return [
            web.get("/livez", self._live),
            web.get("/readyz", self._ready),
            web.get("/metrics", self._metrics),
        ]

    async def _live(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        problems = await self.problems()
        if problems:
            return problem(503, "Not ready", checks=problems)
        return web.json_response({"ready": True})

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _answer(check: Check) -> str | None:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {_CHECK_SECONDS:g} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
