"""The same update, delivery and tick a hundred times at once and after a restart: one turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import aiohttp
import sqlalchemy as sa

from service import config
from service.app import App, open_app
from service.core.schedule import Schedule
from service.core.signature import sign_standard
from service.demo.bot_api.server import BotApi
from service.store import tables, tasks
from service.store.database import Database

ANN = 501
HOOK_SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBkZW1v" * 2
TELEGRAM_SECRET = "telegram-posts-with-this"
TIMES = 100


def settings(url: str, telegram: BotApi) -> config.Settings:
    """All three channels; Telegram posts its updates to us."""
    return config.Settings(
        server=config.Server(
            port=0, public_url="https://bot.example.org", drain=timedelta(seconds=5)
        ),
        database=config.DatabaseSettings(url=url),
        telegram=config.Telegram(
            token=config.Secret(telegram.token),
            mode="webhook",
            secret=config.Secret(TELEGRAM_SECRET),
            api_base_url=telegram.url,
            agent="assistant",
            allow=frozenset({ANN}),
        ),
        webhooks={
            "alerts": config.Webhook(
                agent="assistant",
                auth=config.Auth(scheme="standard-webhooks", secrets=(config.Secret(HOOK_SECRET),)),
            )
        },
        tasks={
            "hourly": config.Task(
                cron="0 * * * *", agent="assistant", prompt="What time is it?", sticky_session=True
            )
        },
    )


async def offer_all(app: App, telegram: BotApi, times: int) -> list[int]:
    """Offer the one update, delivery and tick `times` times at once; the statuses of the posts."""
    bot = telegram.token.partition(":")[0]
    update = {
        "update_id": 4711,
        "message": {
            "message_id": 1,
            "date": 1_790_000_000,
            "from": {"id": ANN, "is_bot": False, "first_name": "Ann"},
            "chat": {"id": ANN, "type": "private", "first_name": "Ann"},
            "text": "Hello",
        },
    }
    secret = {"X-Telegram-Bot-Api-Secret-Token": TELEGRAM_SECRET}
    body = b"The disk is almost full"
    signed = sign_standard(HOOK_SECRET, "msg_1", datetime.now(UTC), body)
    async with aiohttp.ClientSession(app.url) as session:
        posts = [
            *(session.post(f"/telegram/{bot}", json=update, headers=secret) for _ in range(times)),
            *(session.post("/hooks/alerts", data=body, headers=signed) for _ in range(times)),
        ]
        ticks = [app.scheduler.ring_due() for _ in range(times)]
        answers = await asyncio.gather(*posts, *ticks)
        responses = [one for one in answers if isinstance(one, aiohttp.ClientResponse)]
        for response in responses:
            response.release()
        return [response.status for response in responses]


async def test_everything_is_answered_once(database_url: str) -> None:
    """However often and whenever it comes, each has one turn, and nobody is refused."""
    await _let_the_last_hour_be_due(database_url)
    statuses: list[int] = []
    async with BotApi() as telegram:
        telegram.chats.open(ANN)
        for times in (TIMES, 3):
            async with open_app(settings(database_url, telegram)) as app:
                async with asyncio.timeout(60):
                    while app.telegram is None or not app.telegram.healthy:
                        await asyncio.sleep(0.01)
                statuses += await offer_all(app, telegram, times)

    database = Database(database_url)
    turns = await database.read(lambda conn: conn.execute(sa.select(tables.turns)).mappings().all())
    await database.close()
    assert Counter(turn["channel"] for turn in turns) == {"telegram": 1, "webhook": 1, "cron": 1}
    assert {turn["state"] for turn in turns} == {"succeeded"}
    assert {status // 100 for status in statuses} == {2}
    assert len(telegram.said(ANN)) == 1


async def _let_the_last_hour_be_due(url: str) -> None:
    database = Database(url)
    await database.open()
    schedule = str(Schedule.parse("0 * * * *", "UTC"))
    last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    await database.write(tasks.define, "hourly", schedule=schedule, next_at=last, enabled=True)
    await database.close()
