"""kill -9 in the middle of a scan of ten sessions: every session once, each after what it needs."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from service.core import template as files
from service.core.disposition import Schema
from service.core.template import Template, TemplateDependency, TemplateSession
from service.store import projects, schema
from service.store.database import Database
from service.store.projects import StoredTemplate
from service.store.tables import sessions, turns
from tests.crash.test_kill import expire_leases
from tests.process import service, service_again

# Ten sessions in four layers; one branch is not taken, and what hangs on it never runs.
NEEDS: dict[str, tuple[str, ...]] = {
    "A": (),
    "B": (),
    "C": (),
    "D": ("A",),
    "E": ("A", "B"),
    "F": ("C [verdict = FOUND]",),
    "G": ("D", "E [verdict = FOUND]"),
    "H": ("F",),
    "I": ("A [verdict = CLEAN]",),
    "J": ("I", "G"),
}
RUN = set("ABCDEFGH")
HELD = set("IJ")
POINTS = [
    "scans.prepared",
    "scans.began*2",
    "turns.parked*2",
    "turns.settling*7",
]


@pytest.mark.parametrize("point", POINTS)
async def test_every_session_runs_once_in_order(
    database_url: str, tmp_path: Path, point: str
) -> None:
    """Whoever rang gets one result, whenever the process died."""
    config = _config(tmp_path, database_url)
    await _keep_template(database_url)
    async with service(config, kill_at=point) as doomed:
        await _ring(await doomed.ready())
        assert await doomed.died() == -signal.SIGKILL
    await expire_leases(database_url)

    async with service_again(config) as running:
        url = await running.ready()
        receipt = await _ring(url)
        assert receipt is not None
        result = await _result(url, receipt)
        await running.stop()

    parts = {one["title"]: one["state"] for one in result["scan"]["sessions"]}
    ran = await _ran(database_url)
    assert result["state"] == "succeeded"
    assert parts == {
        **dict.fromkeys(sorted(RUN), "complete"),
        **dict.fromkeys(sorted(HELD), "held"),
    }
    assert sorted(ran) == sorted(RUN)
    assert _is_in_order(ran)


def _is_in_order(ran: Sequence[str]) -> bool:
    """Whether everything ended up after what it needs."""
    return all(
        ran.index(needed[0]) < ran.index(title)
        for title in ran
        for needed in NEEDS[title]
        if needed[0] in ran
    )


def _config(folder: Path, url: str) -> Path:
    path = folder / "ringback.toml"
    path.write_text(
        f"""
[server]
port = 0
drain = '1s'

[log]
format = 'json'

[database]
url = {json.dumps(url)}

[webhooks.audit]
template = 'audit'
auth = 'none'
""",
        "utf-8",
    )
    return path


async def _keep_template(url: str) -> None:
    verdict = Schema.parse({"verdict": "FOUND|CLEAN"})
    request = 'Call set_disposition {"verdict": "FOUND"}'
    # While the first one speaks the others end: the scan waits more than once.
    requests = {"A": f"{request} slowly for 1 s"}
    template = Template(
        "audit",
        sessions=tuple(
            TemplateSession(
                title, requests.get(title, request), verdict, tuple(_need(one) for one in needs)
            )
            for title, needs in NEEDS.items()
        ),
    )
    stored = StoredTemplate("audit", files.format(template), "operator", datetime.now(UTC))
    database = Database(url)
    await database.open()
    try:
        await schema.migrate(database)
        await database.write(projects.put_template, stored)
    finally:
        await database.close()


def _need(written: str) -> TemplateDependency:
    if "[" not in written:
        return TemplateDependency(written)
    return TemplateDependency(written[0], "verdict", written.split(" = ")[1].rstrip("]"))


async def _ring(url: str) -> dict[str, Any] | None:
    """The receipt of the post; None when the connection broke."""
    headers = {"Idempotency-Key": "audit-1"}
    try:
        async with (
            aiohttp.ClientSession(url) as client,
            client.post("/hooks/audit", data=b"go", headers=headers) as response,
        ):
            assert response.status in (200, 202), await response.text()
            body: dict[str, Any] = await response.json()
            return body
    except aiohttp.ClientError:
        return None


async def _result(url: str, receipt: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {receipt['token']}"}
    where = f"/hooks/audit/turns/{receipt['turn']}?wait=30"
    async with asyncio.timeout(60), aiohttp.ClientSession(url, headers=headers) as client:
        while True:
            async with client.get(where) as response:
                body: dict[str, Any] = await response.json()
            if body["finished_at"]:
                return body


async def _ran(url: str) -> list[str]:
    """The titles of the sessions by the time their turns ended; one entry a turn."""
    database = Database(url)
    await database.open()
    try:
        return await database.read(_ended)
    finally:
        await database.close()


def _ended(conn: sa.Connection) -> list[str]:
    query = (
        sa.select(sessions.c.title)
        .join(turns, turns.c.session_id == sessions.c.id)
        .where(sessions.c.project_id.is_not(None))
        .order_by(turns.c.finished_at)
    )
    return list(conn.scalars(query))
