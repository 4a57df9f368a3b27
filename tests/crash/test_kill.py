"""kill -9 at named points between "bytes read" and "receipt stored": nothing lost, nothing twice.

Each case starts the real service in a process that dies at one point, starts it again, and looks at
what people see: every acknowledged ring is answered once, a reply that was cut ends in the same
Telegram message, and no words come twice.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from service.core.schedule import Schedule
from service.demo.bot_api.server import BotApi
from service.store import tables, tasks
from service.store.database import Database
from tests.process import service, service_again

ANN = 501
KEY = {"Idempotency-Key": "post-1"}
DAILY = "0 0 * * *"
STREAMED = "Please answer slowly for 2 s"
WITH_TOOL = "Please roll a dice, slowly"

# Where the process dies while a Telegram message is answered, and what was said.
TELEGRAM = [
    ("telegram.stored", STREAMED),
    ("intake.committing", STREAMED),
    ("intake.committed", STREAMED),
    ("lanes.claimed", STREAMED),
    ("feed.appended", STREAMED),
    ("feed.appended*4", STREAMED),
    ("outbox.claimed", STREAMED),
    ("outbox.opening", STREAMED),
    ("telegram.shown", STREAMED),
    ("telegram.shown*2", STREAMED),
    ("turns.settling", STREAMED),
    ("turns.settled", STREAMED),
    ("outbox.sent", STREAMED),
    ("replies.boundary", WITH_TOOL),
    ("replies.tools_ran", WITH_TOOL),
]
# Where it dies while a webhook post is accepted and answered.
WEBHOOK = [
    "webhook.verified",
    "intake.committing",
    "intake.committed",
    "webhook.accepted",
    "lanes.claimed",
    "turns.settling",
    "turns.settled",
]
# Where it dies while a due instant is turned into a turn.
CRON = ["scheduler.recorded", "intake.committing", "scheduler.rang", "turns.settled"]


@pytest.fixture
async def telegram() -> AsyncGenerator[BotApi]:
    """Telegram, which outlives the service."""
    async with BotApi() as api:
        yield api


@pytest.mark.parametrize(("point", "words"), TELEGRAM)
async def test_a_telegram_message_is_answered_once(
    telegram: BotApi, database_url: str, tmp_path: Path, point: str, words: str
) -> None:
    """The update comes again or is stored already; its reply ends whole, in one message."""
    config = _config(tmp_path, database_url, telegram=telegram)
    async with service(config, kill_at=point) as doomed:
        await doomed.ready()
        await telegram.send_text(words, chat=ANN)
        assert await doomed.died() == -signal.SIGKILL
    await expire_leases(database_url)

    async with service_again(config) as running:
        await running.ready()
        await _settled(database_url, turns=1)
        await telegram.until(lambda: telegram.unconfirmed == 0)
        await running.stop()

    turn = (await _rows(database_url, tables.turns))[0]
    reply = (await _rows(database_url, tables.replies))[0]
    deliveries = await _rows(database_url, tables.deliveries)
    with_words = [text for text in telegram.said(ANN) if text != "…"]
    assert turn["state"] == "succeeded"
    assert len(with_words) == 1
    assert len(telegram.said(ANN)) == 1
    assert with_words[0] == _plain(reply["text"])
    assert [one["state"] for one in deliveries] == ["sent"]


async def test_a_message_whose_id_was_never_stored(
    telegram: BotApi, database_url: str, tmp_path: Path
) -> None:
    """What was opened then had no words: it stays behind empty, and the words come once."""
    config = _config(tmp_path, database_url, telegram=telegram)
    async with service(config, kill_at="outbox.opened") as doomed:
        await doomed.ready()
        await telegram.send_text(STREAMED, chat=ANN)
        assert await doomed.died() == -signal.SIGKILL
    await expire_leases(database_url)

    async with service_again(config) as running:
        await running.ready()
        await _settled(database_url, turns=1)
        await running.stop()

    reply = (await _rows(database_url, tables.replies))[0]
    assert telegram.said(ANN) == ["…", _plain(reply["text"])]


@pytest.mark.parametrize("point", WEBHOOK)
async def test_a_webhook_post_is_answered_once(
    database_url: str, tmp_path: Path, point: str
) -> None:
    """A sender that saw its connection break posts again and gets the one turn there is."""
    config = _config(tmp_path, database_url)
    async with service(config, kill_at=point) as doomed:
        acknowledged = await _post_to(await doomed.ready())
        assert await doomed.died() == -signal.SIGKILL
    await expire_leases(database_url)

    async with service_again(config) as running:
        again = await _post_to(await running.ready())
        await _settled(database_url, turns=1)
        await running.stop()

    turns = await _rows(database_url, tables.turns)
    assert again is not None
    assert [turn["id"] for turn in turns] == [again["turn"]]
    assert [turn["state"] for turn in turns] == ["succeeded"]
    assert acknowledged is None or acknowledged["turn"] == again["turn"]


@pytest.mark.parametrize("point", CRON)
async def test_a_due_instant_is_rung_once(database_url: str, tmp_path: Path, point: str) -> None:
    """The occurrence is recorded before it is rung, and rung once, whenever the process dies."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    config = _config(tmp_path, database_url, task=DAILY)
    await _let_a_tick_be_due(database_url, DAILY, midnight)
    async with service(config, kill_at=point) as doomed:
        assert await doomed.died() == -signal.SIGKILL
    await expire_leases(database_url)

    async with service_again(config) as running:
        await running.ready()
        await _settled(database_url, turns=1, of_task=True)
        await running.stop()

    found = await _rows(database_url, tables.occurrences)
    turns = await _rows(database_url, tables.turns)
    instants = [one["scheduled_at"] for one in found]
    assert len(set(instants)) == len(instants)
    assert {one["state"] for one in found} == {"done"}
    assert len(turns) == len(found)


async def test_an_instant_that_waits_is_rung_after_the_one_before(
    database_url: str, tmp_path: Path
) -> None:
    """Killed while one runs, and once more with the next one on record that waits for it."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    earlier, later = midnight - timedelta(minutes=2), midnight - timedelta(minutes=1)
    lives = [
        ("58 23 * * *", earlier, "feed.appended"),
        ("59 23 * * *", later, "scheduler.recorded"),
    ]
    for cron, at, point in lives:
        config = _config(tmp_path, database_url, task=cron, prompt=STREAMED, overlap="queue")
        await _let_a_tick_be_due(database_url, cron, at)
        async with service(config, kill_at=point) as doomed:
            assert await doomed.died() == -signal.SIGKILL
    await expire_leases(database_url)
    waiting = {one["scheduled_at"]: one["state"] for one in await _occurrences(database_url)}

    async with service_again(config) as running:
        await running.ready()
        await _settled(database_url, turns=2)
        await running.stop()

    found = (await _occurrences(database_url))[:2]
    turns = {one["id"]: one for one in await _rows(database_url, tables.turns)}
    first, second = (turns[one["turn_id"]] for one in found)
    assert waiting == {earlier: "queued", later: "due"}
    assert [one["state"] for one in found] == ["done", "done"]
    assert first["finished_at"] <= second["started_at"]


def _config(
    folder: Path,
    url: str,
    *,
    telegram: BotApi | None = None,
    task: str | None = None,
    prompt: str = "Good day",
    overlap: str = "skip",
) -> Path:
    lines = [
        "[server]\nport = 0\ndrain = '1s'",
        "[log]\nformat = 'json'",
        f"[database]\nurl = {json.dumps(url)}",
        "[webhooks.echo]\nagent = 'assistant'\nauth = 'none'",
    ]
    if telegram is not None:
        (folder / "token").write_text(telegram.token, "utf-8")
        lines.append(
            f"[telegram]\ntoken = 'file:{folder}/token'\nagent = 'assistant'\n"
            f"allow = [{ANN}]\napi_base_url = '{telegram.url}'"
        )
    if task is not None:
        lines.append(
            f"[tasks.daily]\ncron = '{task}'\nagent = 'assistant'\nprompt = '{prompt}'\n"
            f"catch_up = '25h'\noverlap = '{overlap}'"
        )
    path = folder / "ringback.toml"
    path.write_text("\n\n".join(lines), "utf-8")
    return path


async def _post_to(url: str) -> dict[str, Any] | None:
    """The receipt of one post; None when the connection broke."""
    try:
        async with (
            aiohttp.ClientSession(url) as session,
            session.post("/hooks/echo", data=b"ping", headers=KEY) as response,
        ):
            assert response.status in (200, 202), await response.text()
            body: dict[str, Any] = await response.json()
            return body
    except aiohttp.ClientError:
        return None


async def _let_a_tick_be_due(url: str, cron: str, at: datetime) -> None:
    """Leave the database as a service that stopped just before an instant would have."""
    schedule = str(Schedule.parse(cron, "UTC"))
    await _with(
        url,
        lambda conn: tasks.define(conn, "daily", schedule=schedule, next_at=at, enabled=True),
    )


async def expire_leases(url: str) -> None:
    """Let the time pass after which a dead process's leases are over."""
    await _with(url, _expire)


def _expire(conn: sa.Connection) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    for table in (tables.turns, tables.deliveries, tables.leases):
        conn.execute(
            table.update().where(table.c.lease_until.is_not(None)).values(lease_until=past)
        )


async def _settled(url: str, *, turns: int, of_task: bool = False) -> None:
    """Wait until that many turns are over and nothing is left to send."""
    async with asyncio.timeout(60):
        while True:
            found = await _rows(url, tables.turns)
            sending = await _rows(url, tables.deliveries)
            over = [one for one in found if one["finished_at"] is not None]
            rest = [one for one in sending if one["finished_at"] is None]
            if len(over) == len(found) >= turns and not rest:
                return
            await asyncio.sleep(0.05)


async def _occurrences(url: str) -> Sequence[sa.RowMapping]:
    found = await _rows(url, tables.occurrences)
    return sorted(found, key=lambda one: one["scheduled_at"])


async def _rows(url: str, table: sa.Table) -> Sequence[sa.RowMapping]:
    database = Database(url)
    try:
        return await database.read(lambda conn: conn.execute(sa.select(table)).mappings().all())
    finally:
        await database.close()


async def _with(url: str, work: Any) -> None:
    database = Database(url)
    await database.open()
    try:
        await database.write(work)
    finally:
        await database.close()


def _plain(markdown: str) -> str:
    """What the offline agent's Markdown looks like without its marks."""
    lines = [line.removeprefix("> ").rstrip() for line in markdown.splitlines()]
    return "\n".join(lines).replace("**", "").replace("*", "").replace("`", "").strip()
