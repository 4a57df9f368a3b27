"""Two replicas on one PostgreSQL: order within a session, and a holder that sleeps too long."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa

from service.demo.bot_api.server import BotApi
from service.store import tables
from service.store.database import Database
from tests.process import service

ANN = 501
# Long enough for a machine with other things to do.
LEASE_SECONDS = 9.0


def config(folder: Path, url: str, *, name: str, telegram: BotApi | None = None) -> Path:
    """The configuration of one replica."""
    lines = [
        "[server]\nport = 0\ndrain = '1s'",
        "[log]\nformat = 'json'",
        f"[database]\nurl = {json.dumps(url)}",
        "[webhooks.room]\nagent = 'assistant'\nauth = 'none'\nsession = 'fixed'",
    ]
    if telegram is not None:
        (folder / "token").write_text(telegram.token, "utf-8")
        lines.append(
            f"[telegram]\ntoken = 'file:{folder}/token'\nagent = 'assistant'\n"
            f"allow = [{ANN}]\napi_base_url = '{telegram.url}'"
        )
    path = folder / f"{name}.toml"
    path.write_text("\n\n".join(lines), "utf-8")
    return path


async def rows(database: Database, table: sa.Table) -> Sequence[sa.RowMapping]:
    """Everything in a table."""
    return await database.read(lambda conn: conn.execute(sa.select(table)).mappings().all())


async def post(url: str, text: str) -> dict[str, Any]:
    """Ring the room."""
    async with (
        aiohttp.ClientSession(url) as session,
        session.post("/hooks/room", data=text.encode()) as response,
    ):
        assert response.status == 202, await response.text()
        body: dict[str, Any] = await response.json()
        return body


async def test_turns_of_one_session_never_overlap(postgresql_url: str, tmp_path: Path) -> None:
    """Posts to both replicas are answered one at a time, in the order they were accepted."""
    path = config(tmp_path, postgresql_url, name="both")
    async with service(path) as one, service(path) as two:
        urls = [await one.ready(), await two.ready()]
        receipts = await asyncio.gather(
            *(post(urls[number % 2], f"Number {number}, slowly for 1 s") for number in range(8))
        )
        database = Database(postgresql_url)
        async with asyncio.timeout(60):
            while any(turn["finished_at"] is None for turn in await rows(database, tables.turns)):
                await asyncio.sleep(0.1)
        turns = sorted(await rows(database, tables.turns), key=lambda turn: turn["number"])
        await database.close()

    assert {receipt["turn"] for receipt in receipts} == {turn["id"] for turn in turns}
    assert {turn["state"] for turn in turns} == {"succeeded"}
    for earlier, later in pairwise(turns):
        assert later["started_at"] >= earlier["finished_at"]


async def test_a_holder_that_was_suspended_writes_nothing(
    postgresql_url: str, tmp_path: Path
) -> None:
    """Its turn is finished by the other replica, in the same message; it wakes up and keeps still.

    The lease really runs out here, by the clocks of both; it is a shorter one, with all that
    depends on it in proportion.
    """
    shorter = {"RINGBACK_LEASE_SECONDS": str(LEASE_SECONDS)}
    database = Database(postgresql_url)
    async with BotApi() as telegram:
        first = config(tmp_path, postgresql_url, name="first", telegram=telegram)
        async with (
            service(first, environ=shorter) as sleeper,
            service(first, environ=shorter) as heir,
        ):
            await sleeper.ready()
            await telegram.send_text("Please answer slowly for 6 s", chat=ANN)
            await telegram.until(lambda: any(len(text) > 1 for text in telegram.said(ANN)))
            holder = (await rows(database, tables.turns))[0]["owner"]
            asleep, awake = (sleeper, heir) if f":{sleeper.pid}:" in holder else (heir, sleeper)
            asleep.send_signal(signal.SIGSTOP)
            stopped_at = time.monotonic()
            await awake.ready()
            async with asyncio.timeout(70):
                while not all(
                    one["state"] == "sent" for one in await rows(database, tables.deliveries)
                ):
                    await asyncio.sleep(0.2)
            calls, events = len(telegram.calls), await rows(database, tables.events)

            slept = time.monotonic() - stopped_at
            asleep.send_signal(signal.SIGCONT)
            await asyncio.sleep(3)

            written = [
                call.method
                for call in telegram.calls[calls:]
                if call.method.lower() in ("sendmessage", "editmessagetext")
            ]
            after = await rows(database, tables.events)
            turn = (await rows(database, tables.turns))[0]
            said = telegram.said(ANN)
    await database.close()

    assert slept > LEASE_SECONDS
    assert written == []
    assert len(after) == len(events)
    assert (turn["state"], turn["attempt"]) == ("succeeded", 2)
    assert len(said) == 1
    assert said[0].startswith("You said:")
