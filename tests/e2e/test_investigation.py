"""A worked investigation by webhook: real data, parallel queries, a chart, what follows from it.

The data are the invoices of an invented company; what is amiss in them is known, so that what
the investigation comes to can be checked. The model is scripted, everything else is real.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from service.app import App, open_app
from service.config import (
    Agent,
    Auth,
    Data,
    DatabaseSettings,
    Provider,
    Secret,
    Settings,
    Webhook,
)
from service.core.dependency import Dependency
from service.core.disposition import Schema
from service.core.model import ProjectId, SessionId
from service.core.project import Project
from service.demo import ledger
from service.engine.projects import NewInvestigation, add_session
from service.engine.templates import Templates
from service.store import key_results, projects
from service.store.ids import new_id
from tests import openai_server as wire

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PAIRS = (
    "SELECT vendor_id, amount, COUNT(*) AS times FROM invoices "
    "GROUP BY vendor_id, amount HAVING COUNT(*) > 1 ORDER BY amount DESC"
)
TOTAL = "SELECT COUNT(*) AS invoices, SUM(amount) AS total FROM invoices"
VENDORS = "SELECT id, name FROM vendors ORDER BY id"
CHART = {"kind": "bar", "x": "vendor_id", "y": ["amount"], "title": "Paid twice"}
Say = Callable[[dict[str, Any]], Sequence[bytes]]


async def test_from_a_webhook_to_a_finding_and_what_depends_on_it(ledgers: App) -> None:
    """What is found is what is amiss in the data; the next session is told of it, byte for byte."""
    early = await _post(ledgers, "cost", "How much?")
    found = await _post(ledgers, "duplicates", "Look closely.")
    cost = await _post(ledgers, "cost", "How much?")

    assert early["status"] == 409
    assert "“Duplicates” has no disposition yet; verdict = FOUND is needed" in early["detail"]
    assert found["disposition"] == {
        "values": {"verdict": "FOUND", "pairs": ledger.DUPLICATES},
        "stale": False,
        "confirmed_by": None,
    }
    (result,) = found["results"]
    assert (result["title"], result["chart"]) == ("Invoices paid twice", CHART)
    assert result["columns"] == ["vendor_id", "amount", "times"]
    assert len(result["rows"]) == ledger.DUPLICATES
    assert cost["state"] == "succeeded"
    assert "FOUND" in cost["text"]
    assert "Invoices paid twice" in cost["text"]
    assert f"| {result['rows'][0][0]} |" in cost["text"]


async def test_what_is_shown_is_what_the_tool_gave(ledgers: App) -> None:
    """Byte for byte, from the tool call to what programs fetch."""
    found = await _post(ledgers, "duplicates", "Look closely.")
    session = SessionId(found["session"])
    (result,) = await ledgers.database.read(key_results.of_session, session, promoted=True)
    stored = await ledgers.database.read(key_results.data, session, result.name)

    url = f"{ledgers.url}/api/sessions/{session}/results/{result.name}/data"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {ledgers.token}"}) as client,
        client.get(url) as response,
    ):
        fetched = await response.read()

    assert stored is not None
    assert fetched == stored.encode()
    assert json.loads(stored)["rows"] == found["results"][0]["rows"]


async def test_the_same_as_a_scan_of_a_template(ledgers: App) -> None:
    """The project is saved as a template and run from end to end by one post."""
    project = (await ledgers.database.read(projects.every))[0][0]
    templates = Templates(ledgers.database, ledgers.catalog.bindings())
    await templates.save(project.id, "audit", by="operator")

    scanned = await _post(ledgers, "scan", "The yearly audit.")

    parts = scanned["scan"]["sessions"]
    assert [(one["title"], one["state"]) for one in parts] == [
        ("Duplicates", "complete"),
        ("Cost", "ended"),
    ]
    assert parts[0]["disposition"] == {
        "values": {"verdict": "FOUND", "pairs": ledger.DUPLICATES},
        "stale": False,
        "confirmed_by": None,
    }
    assert len(parts[0]["results"][0]["rows"]) == ledger.DUPLICATES


# -- the model ------------------------------------------------------------------------------------


def _duplicates(body: dict[str, Any]) -> Sequence[bytes]:
    """Query twice at once, promote while querying on, determine wrongly, then rightly."""
    said = body["messages"]
    step = sum(one["role"] == "assistant" for one in said)
    match step:
        case 0:
            return [*wire.words("Let me look."), *_query(0, PAIRS), *_query(1, TOTAL), *_calls()]
        case 1:
            name = _result_of(said, "call_0")
            shown = {"result": name, "title": "Invoices paid twice", "chart": CHART}
            return [*_call(0, "promote_result", shown), *_query(1, VENDORS), *_calls()]
        case 2:
            return [*_call(0, "set_disposition", {"verdict": "MAYBE", "pairs": 23}), *_calls()]
        case 3:
            assert "takes one of FOUND, CLEAN" in said[-1]["content"]
            return [*_call(0, "set_disposition", {"verdict": "FOUND", "pairs": 23}), *_calls()]
    return wire.answer("23 invoices were paid twice.")


def _cost(body: dict[str, Any]) -> Sequence[bytes]:
    """Say what it was told of the session before."""
    return wire.answer(body["messages"][0]["content"])


def _query(place: int, sql: str) -> list[bytes]:
    return _call(place, "ledger_query", {"sql": sql})


def _call(place: int, tool: str, arguments: dict[str, Any]) -> list[bytes]:
    return wire.call(tool, json.dumps(arguments), place=place)


def _calls() -> list[bytes]:
    return wire.end("tool_calls")


def _result_of(said: Sequence[dict[str, Any]], call: str) -> str:
    """The name under which a result was kept."""
    told = next(one["content"] for one in said if one.get("tool_call_id") == call)
    match = re.search(r"\[Result (r[0-9a-f]{10})\.", told)
    assert match is not None, told
    return match[1]


@asynccontextmanager
async def _model() -> AsyncGenerator[str]:
    """A provider whose model knows its part by what it is asked."""

    async def complete(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked = json.dumps(body["messages"])
        say: Say = _duplicates if "Which invoices were paid twice?" in asked else _cost
        if "What did they cost us?" in asked:
            say = _cost
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in say(body):
            await response.write(piece)
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


# -- the service ----------------------------------------------------------------------------------


@pytest.fixture
async def ledgers(database_url: str, tmp_path: Path) -> AsyncGenerator[App]:
    """The service with the ledger beside its own database, and a project about it."""
    data = await _ledger(database_url, tmp_path)
    async with _model() as provider:
        settings = Settings(
            database=DatabaseSettings(url=database_url),
            providers={"local": Provider(kind="openai", base_url=provider, api_key=Secret("key"))},
            agents={"analyst": Agent(provider="local", model="m", tools=("data:ledger",))},
            data={"ledger": Data(url=data)},
            webhooks={
                "duplicates": _hook("Duplicates"),
                "cost": _hook("Cost"),
                "scan": Webhook(template="audit", auth=Auth(scheme="none"), reply="wait"),
            },
        )
        async with open_app(settings, port=0) as app:
            await app.database.write(_make_project, app)
            yield app


def _hook(title: str) -> Webhook:
    none = Auth(scheme="none")
    return Webhook(project="Ledger", investigation=title, auth=none, reply="wait")


def _make_project(conn: Any, app: App) -> None:
    project = Project(
        ProjectId(new_id()), "Ledger", "operator", NOW, NOW, prompt="You are an auditor."
    )
    projects.insert(conn, project)
    binding = app.catalog.bindings()["analyst"]
    schema = Schema.parse({"verdict": "FOUND|CLEAN", "pairs": "Number"})
    first = add_session(
        conn,
        project,
        NewInvestigation("Duplicates", "Which invoices were paid twice?", schema, ()),
        binding=binding,
        owner="operator",
        at=NOW,
    )
    needs = (Dependency(first, "verdict", "FOUND"),)
    add_session(
        conn,
        project,
        NewInvestigation("Cost", "What did they cost us?", None, needs),
        binding=binding,
        owner="operator",
        at=NOW,
    )


async def _ledger(database_url: str, folder: Path) -> str:
    """Where the data set is: a file, or the schema of the service's own server."""
    if database_url.startswith("sqlite"):
        ledger.write(folder / "ledger.db")
        return f"sqlite:///{folder / 'ledger.db'}"
    plain = database_url.replace("postgresql+asyncpg://", "postgresql://")
    conn = await asyncpg.connect(plain)
    try:
        await conn.execute("CREATE SCHEMA IF NOT EXISTS public")
        await conn.execute(ledger.SCHEMA)
        for table in ledger.tables():
            await _copy(conn, table)
    finally:
        await conn.close()
    return plain


async def _copy(conn: Any, table: ledger.Table) -> None:
    between = "'), ('"
    for start in range(0, len(table.rows), 1000):
        # Untyped literals become what their columns are; no name of the ledger has a quote in it.
        rows = ["', '".join(map(str, row)) for row in table.rows[start : start + 1000]]
        await conn.execute(f"INSERT INTO {table.name} VALUES ('{between.join(rows)}')")


async def _post(app: App, hook: str, text: str) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{app.url}/hooks/{hook}", data=text) as response,
    ):
        body: dict[str, Any] = await response.json()
    return body
