"""kill -9 between every two steps of a reply with three tool iterations: effects as declared.

The model is a server that answers by what it is told, so that a process that goes on from a
boundary gets the same story; the tools leave a line in a file whenever they really run.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from service.store.database import Database
from tests import openai_server
from tests.crash.test_kill import expire_leases
from tests.process import service, service_again

STEPS = 3
POINTS = [
    *(f"replies.boundary*{n}" for n in range(1, STEPS + 1)),
    *(f"replies.tools_ran*{n}" for n in range(1, STEPS + 1)),
    *(f"replies.results_stored*{n}" for n in range(1, STEPS + 1)),
    "turns.settling",
    "turns.settled",
]
DOUBT = "Outcome unknown"
BEGINS = {"key": "crash"}


class Storyteller:
    """A model that works in three steps, two tools each, and tells what came of them."""

    def __init__(self, *, tool: str = "act") -> None:
        self.tool = tool
        self.prompts: list[list[dict[str, Any]]] = []
        self.url = ""

    async def __aenter__(self) -> Storyteller:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        messages = (await request.json())["messages"]
        self.prompts.append(messages)
        step = sum(bool(one.get("tool_calls")) for one in messages) + 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in self._story(step):
            await response.write(piece)
        return response

    def _story(self, step: int) -> list[bytes]:
        if step > STEPS:
            return openai_server.answer("All done.")
        arguments = json.dumps({"step": step})
        return [
            *openai_server.words(f"Step {step}."),
            *openai_server.call("look", arguments, place=0, call_id=f"look-{step}"),
            *openai_server.call(self.tool, arguments, place=1, call_id=f"act-{step}"),
            *openai_server.end("tool_calls"),
        ]


@pytest.fixture
async def model() -> AsyncGenerator[Storyteller]:
    """The model, which outlives the service."""
    async with Storyteller() as storyteller:
        yield storyteller


@pytest.mark.parametrize("point", POINTS)
async def test_a_reply_with_three_steps(
    model: Storyteller,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    """One answer; what may be repeated is, at most once more; what may not be runs at most once."""
    config = _config(tmp_path, database_url, model)
    monkeypatch.setenv("EFFECTS", str(tmp_path / "effects"))
    async with service(config, kill_at=point) as doomed:
        turn = await ring(await doomed.ready(), BEGINS, "Work.")
        assert await doomed.died() == -signal.SIGKILL
    await expire_leases(database_url)

    async with service_again(config) as running:
        result = await _result(await running.ready(), turn)
        await running.stop()

    lines = (tmp_path / "effects").read_text("utf-8").splitlines()
    ran = Counter(lines)
    acts = Counter(line for line in lines if line.startswith("act"))
    told = [one["content"] for one in model.prompts[-1] if one["role"] == "tool"]
    assert result["state"] == "succeeded"
    assert result["text"] == "Step 1.\n\nStep 2.\n\nStep 3.\n\nAll done."
    assert max(acts.values()) == 1
    assert max(ran.values()) <= 2
    assert len(told) == 2 * STEPS
    # What was not run again is told as unknown, never as done, and never left out.
    doubted = sum(DOUBT in one for one in told)
    # Killed before the tools ran the tool did not run at all; after that, once.
    assert len(acts) == STEPS - point.startswith("replies.boundary")
    assert doubted == point.startswith(("replies.boundary", "replies.tools_ran"))
    await _state_says(database_url, len(acts) - point.startswith("replies.tools_ran"))


@pytest.mark.parametrize("point", ["turns.waiting", "replies.approved", "replies.results_stored"])
async def test_an_approval_is_used_once(
    model: Storyteller,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    """Killed right after it waits, or between the yes and the result: never run twice."""
    model.tool = "launch"
    config = _config(tmp_path, database_url, model)
    monkeypatch.setenv("EFFECTS", str(tmp_path / "effects"))
    async with service(config, kill_at=point) as doomed:
        url = await doomed.ready()
        turn = await ring(url, BEGINS, "Work.")
        answering = asyncio.create_task(_approve_all(url, turn))
        assert await doomed.died() == -signal.SIGKILL
        answering.cancel()
        await asyncio.wait({answering})
    await expire_leases(database_url)

    async with service_again(config) as running:
        url = await running.ready()
        answering = asyncio.create_task(_approve_all(url, turn))
        result = await _result(url, turn)
        answering.cancel()
        await asyncio.wait({answering})
        await running.stop()

    lines = (tmp_path / "effects").read_text("utf-8").splitlines()
    launches = Counter(line for line in lines if line.startswith("launch"))
    assert result["state"] == "succeeded"
    assert max(launches.values()) == 1
    assert len(launches) == STEPS - (point == "replies.approved")


def _config(folder: Path, database: str, model: Storyteller) -> Path:
    return write_config(
        folder,
        database,
        f"""
[providers.story]
kind = "openai"
base_url = "{model.url}"
[agents.effects]
provider = "story"
model = "story/1"
python = "tests.crash.effects:agent"
""",
    )


def write_config(folder: Path, database: str, more: str) -> Path:
    """Write the configuration of a service that lets the clients of these tests in."""
    (folder / "token").write_text("t" * 40, "utf-8")
    path = folder / "ringback.toml"
    path.write_text(
        f"""
[server]
port = 0
drain = "1s"
tokens = ["file:{folder}/token"]
[log]
format = "json"
[database]
url = {json.dumps(database)}
{more}""",
        "utf-8",
    )
    return path


def client_of(url: str) -> aiohttp.ClientSession:
    """A client of the service with the token of these tests."""
    return aiohttp.ClientSession(url, headers={"Authorization": "Bearer " + "t" * 40})


async def ring(url: str, begins: Mapping[str, str], text: str) -> str:
    """Begin a session and say something; the turn."""
    async with client_of(url) as client:
        async with client.post("/api/sessions", json=begins) as made:
            session = (await made.json())["session"]
        path = f"/api/sessions/{session}/messages"
        async with client.post(path, json={"text": text}) as sent:
            turn: str = (await sent.json())["turn"]
            return turn


async def _result(url: str, turn: str) -> dict[str, Any]:
    async with client_of(url) as client, asyncio.timeout(50):
        while True:
            async with client.get(f"/api/turns/{turn}", params={"wait": 5}) as got:
                result: dict[str, Any] = await got.json()
            if result["finished_at"]:
                return result


async def _approve_all(url: str, turn: str) -> None:
    """Say yes to everything the turn asks, until it is over."""
    async with client_of(url) as client:
        while True:
            async with client.get(f"/api/turns/{turn}") as got:
                result = await got.json()
            for one in result["questions"]:
                answer = {"question": one["question"], "answer": "yes"}
                async with client.post(f"/api/sessions/{result['session']}/answer", json=answer):
                    pass
            await asyncio.sleep(0.02)


async def _state_says(url: str, acted: int) -> None:
    """State and result are stored together: what is not known to be done is not in the state."""
    database = Database(url)
    await database.open(shared=True)
    try:
        found = await database.read(_acted)
    finally:
        await database.close()
    assert len(found) == acted


def _acted(conn: Any) -> list[int]:
    from service.store.tables import session_state

    row = conn.execute(session_state.select().where(session_state.c.name == "acted")).first()
    return list(row.value) if row else []
