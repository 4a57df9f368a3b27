"""Whether the process lives, whether it may get work, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from handlers.http import problem
from service.engine.holds import uptime

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Check = Callable[[], Awaitable[str | None]]
"""Says what is wrong; None when nothing is."""
Guard = Callable[[web.Request], Awaitable[None]]
"""Raises HttpProblem unless the request may pass."""


@dataclass
class Health:
    """Named readiness checks; while `draining` nothing is ready.

    Answers are kept for `keep`, and who asks meanwhile waits for those under way: anybody may
    ask, and that must not become work for the database.
    """

    checks: Mapping[str, Check]
    registry: CollectorRegistry
    draining: bool = field(default=False)
    keep: timedelta = timedelta(seconds=1)
    patience: timedelta = timedelta(seconds=3)
    """How long one check may take."""
    _known: dict[str, str] = field(default_factory=dict, init=False)
    _known_until: float = field(default=0.0, init=False)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def problems(self) -> dict[str, str]:
        """Every check that fails, with what is wrong; a check that hangs fails too."""
        if self.draining:
            return {"draining": "the service is shutting down"}
        async with self._asking:
            if uptime() >= self._known_until:
                self._known = await self._ask()
                self._known_until = uptime() + self.keep.total_seconds()
            return self._known

    def routes(self, guard: Guard | None = None) -> list[web.RouteDef]:
        """The routes to serve; `guard` says who may read the metrics, None lets anybody."""
        return [
            web.get("/livez", self._live),
            web.get("/readyz", self._ready),
            web.get("/metrics", partial(self._metrics, guard)),
        ]

    async def _ask(self) -> dict[str, str]:
        answers = await asyncio.gather(
            *(self._answer(name, check) for name, check in self.checks.items())
        )
        return {
            name: answer
            for name, answer in zip(self.checks, answers, strict=True)
            if answer is not None
        }

    async def _answer(self, name: str, check: Check) -> str | None:
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                return await check()
        except TimeoutError:
            return f"no answer within {self.patience.total_seconds():g} s"
        except Exception:
            # Anybody may read the answer, and an error's text may hold addresses.
            log.exception("health.check_broke", check=name)
            return "the check itself broke; the log of the service says more"

    async def _live(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        problems = await self.problems()
        if problems:
            return problem(503, "Not ready", checks=problems)
        return web.json_response({"ready": True})

    async def _metrics(self, guard: Guard | None, request: web.Request) -> web.Response:
        if guard is not None:
            await guard(request)
        body = generate_latest(self.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
