"""Whether the service says truthfully that it lives, is ready, and what it has counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from handlers.health import Check, Guard, Health
from handlers.http import HttpProblem, problems_middleware
from service.app import open_app
from service.config import DatabaseSettings, Settings
from service.engine.metrics import Metrics
from tests.webhook.site import Answer, closed, listening

ALWAYS = timedelta()
LONG = timedelta(hours=1)


class Checks:
    """Checks that say what they are told and count how often they were asked."""

    def __init__(self, *answers: str | None) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self) -> str | None:
        """Give the next answer; the last one repeats."""
        self.asked += 1
        await asyncio.sleep(0)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def _hang() -> str | None:
    await asyncio.Event().wait()
    return None


async def _break() -> str | None:
    raise OSError("connect to db.internal:5432 as root failed")


async def _refuse(_request: web.Request) -> None:
    raise HttpProblem(401, "Unauthorized", "a token is needed")


def _health(checks: Mapping[str, Check] | None = None, **settings: Any) -> Health:
    return Health(checks or {"database": Checks(None)}, Metrics().registry, **settings)


@asynccontextmanager
async def _serving(
    health: Health, guard: Guard | None = None
) -> AsyncGenerator[aiohttp.ClientSession]:
    application = web.Application(middlewares=[problems_middleware])
    application.add_routes(health.routes(guard))
    async with (
        listening(application) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        yield client


async def _get(client: aiohttp.ClientSession, path: str) -> Answer:
    async with client.get(path) as response:
        return Answer(response.status, response.headers, await response.read())


async def test_a_service_whose_checks_pass_is_ready() -> None:
    """No check has anything to say."""
    async with _serving(_health()) as client:
        answer = await _get(client, "/readyz")

    assert (answer.status, answer.json) == (200, {"ready": True})


async def test_a_check_that_fails_is_named() -> None:
    """The answer says what is wrong, and only that."""
    health = _health({"database": Checks("it is out"), "claims": Checks(None)})
    async with _serving(health) as client:
        answer = await _get(client, "/readyz")

    assert (answer.status, answer.type) == (503, "application/problem+json")
    assert answer.json["checks"] == {"database": "it is out"}


async def test_a_check_that_hangs_fails() -> None:
    """Whoever asks gets an answer, whatever the database does."""
    health = _health({"database": _hang}, patience=timedelta(milliseconds=20))
    async with _serving(health) as client:
        answer = await _get(client, "/readyz")

    assert answer.json["checks"] == {"database": "no answer within 0.02 s"}


async def test_a_check_that_breaks_fails_without_its_details() -> None:
    """Anybody may ask; hosts and accounts are for the log."""
    async with _serving(_health({"database": _break})) as client:
        answer = await _get(client, "/readyz")

    assert (answer.status, list(answer.json["checks"])) == (503, ["database"])
    assert b"db.internal" not in answer.body


async def test_a_service_that_shuts_down_lives_but_is_not_ready() -> None:
    """It gets no new work, and nobody kills it for that."""
    health = _health()
    health.draining = True
    async with _serving(health) as client:
        ready, live = await _get(client, "/readyz"), await _get(client, "/livez")

    assert (ready.status, live.status) == (503, 200)
    assert "draining" in ready.json["checks"]


async def test_a_service_that_is_not_ready_lives() -> None:
    """An outage of the database is no reason to start the process anew."""
    async with _serving(_health({"database": Checks("it is out")})) as client:
        answer = await _get(client, "/livez")

    assert (answer.status, answer.json) == (200, {"live": True})


async def test_many_who_ask_are_one_question_to_the_database() -> None:
    """Asking costs nothing, so that nobody can wear the service out by it."""
    check = Checks(None)
    async with _serving(_health({"database": check}, keep=LONG)) as client:
        answers = await asyncio.gather(*(_get(client, "/readyz") for _ in range(50)))

    assert ({answer.status for answer in answers}, check.asked) == ({200}, 1)


async def test_an_answer_is_forgotten_after_a_while() -> None:
    """What is mended is seen to be mended."""
    health = _health({"database": Checks("it is out", None)}, keep=ALWAYS)
    async with _serving(health) as client:
        statuses = [(await _get(client, "/readyz")).status for _ in range(2)]

    assert statuses == [503, 200]


async def test_metrics_are_told_as_prometheus_reads_them() -> None:
    """What was counted is there under its name."""
    metrics = Metrics()
    metrics.turns.labels("succeeded").inc()
    async with _serving(Health({}, metrics.registry)) as client:
        answer = await _get(client, "/metrics")

    assert (answer.status, answer.type) == (200, "text/plain")
    assert b'ringback_turns_total{state="succeeded"} 1.0' in answer.body


async def test_metrics_may_be_guarded() -> None:
    """A service that strangers reach keeps its figures; whether it lives is no secret."""
    async with _serving(_health(), _refuse) as client:
        statuses = [(await _get(client, path)).status for path in ("/metrics", "/livez", "/readyz")]

    assert statuses == [401, 200, 200]


async def test_the_service_becomes_ready(sqlite_url: str) -> None:
    """Database, schema, lanes and scheduler: every check of the real service passes."""
    settings = Settings(database=DatabaseSettings(url=sqlite_url))
    async with (
        open_app(settings, port=0, channels=True) as app,
        aiohttp.ClientSession(app.url) as client,
        asyncio.timeout(60),
    ):
        while (await _get(client, "/readyz")).status != 200:
            await asyncio.sleep(0.05)
        metrics = await _get(client, "/metrics")

    assert b"ringback_turns_running 0.0" in metrics.body


async def test_no_answer_is_kept_or_guessed_at(sqlite_url: str) -> None:
    """Whatever it is; but pages and their files may be kept, and are asked about every time."""
    settings = Settings(database=DatabaseSettings(url=sqlite_url))
    paths = ("/livez", "/", "/api/sessions", "/api/nowhere", "/console/signin")
    async with (
        open_app(settings, port=0, channels=False) as app,
        aiohttp.ClientSession(app.url, headers={"Authorization": f"Bearer {app.token}"}) as client,
        asyncio.timeout(60),
    ):
        found = {}
        for path in paths:
            async with client.get(path, allow_redirects=False) as answer:
                kept, guessed = answer.headers["Cache-Control"], "X-Content-Type-Options"
                found[path] = (answer.status, kept, answer.headers[guessed])

    assert found == {
        "/livez": (200, "no-store", "nosniff"),
        "/": (302, "no-store", "nosniff"),
        "/api/sessions": (200, "no-store", "nosniff"),
        "/api/nowhere": (404, "no-store", "nosniff"),
        "/console/signin": (200, "no-cache", "nosniff"),
    }


@pytest.mark.parametrize("beginning", [b"", b"GET /livez HTTP/1.1\r\nHost: here\r\n"])
async def test_who_says_nothing_is_not_listened_to_for_ever(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    """Neither before a request nor in its head, so that nobody can occupy every connection."""
    monkeypatch.setattr("service.app._SILENT_SECONDS", 0.2)
    settings = Settings(database=DatabaseSettings(url=sqlite_url))
    async with open_app(settings, port=0, channels=False) as app, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(app.url).port)
        writer.write(beginning)
        answer = await reader.read()
        await closed(writer)

    assert answer == b""


async def test_the_service_is_not_ready_while_it_shuts_down(sqlite_url: str) -> None:
    """Load balancers are told before the door closes."""
    settings = Settings(database=DatabaseSettings(url=sqlite_url))
    async with open_app(settings, port=0, channels=False) as app:
        health = app.health

    assert list(await health.problems()) == ["draining"]
