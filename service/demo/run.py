"""`ringback demo`: a real service on this machine, rung by Telegram, by a webhook and by cron."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp

from service import config, log
from service.app import open_app
from service.core.schedule import Schedule
from service.core.signature import sign_standard
from service.demo.bot_api.chats import Message
from service.demo.bot_api.server import BotApi
from service.store import schema, tasks
from service.store.database import Database

_ANN = 501
_TEAM = -1_001_234_567_890
_SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBkZW1v" * 2
_ALERT = json.dumps({"alert": "disk almost full", "host": "db-1"}).encode()
_WIDTH = 96
_EVERY_MINUTE = "* * * * *"


async def run() -> int:
    """Play the three conversations; return 0 when each was answered exactly once."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ringback-demo-") as folder:
        async with BotApi() as telegram:
            telegram.chats.open(_TEAM, title="Team")
            settings = _settings(Path(folder), telegram)
            log.setup(settings.log, settings.secrets())
            await _let_a_tick_be_due(settings)
            _say("Starting the service on a new SQLite file, with the offline agent ...")
            async with open_app(settings) as app:
                _say(f"Ready at {app.url}.\n")
                await _by_telegram(telegram)
                same = await _by_webhook(app.url)
                await _by_cron(telegram)
    _say(f"Done in {time.monotonic() - began:.1f} s.")
    return 0 if same else 1


async def _by_telegram(telegram: BotApi) -> None:
    _title("A Telegram message")
    words = "Hello! Answer slowly for 4 s, please."
    _say(f"Ann:      {words}")
    before = len(telegram.said(_ANN))
    await telegram.send_text(words, chat=_ANN)
    await telegram.until(lambda: len(telegram.said(_ANN)) > before)
    answer = [one for one in telegram.transcript(_ANN) if one.sender["is_bot"]][before]
    shown = 0
    while not _is_over(answer):
        shown = _show_edits(answer, shown)
        await telegram.until(partial(_has_more, answer, shown))
    _show_edits(answer, shown)
    _say(f"          (one message, edited {len(answer.history) - 1} times)\n")


async def _by_webhook(url: str) -> bool:
    _title("A webhook, signed, answered as a stream")
    headers = {
        **sign_standard(_SECRET, "msg_demo_1", datetime.now(UTC), _ALERT),
        "Content-Type": "application/json",
    }
    async with aiohttp.ClientSession(url) as session:
        _say(f"POST /hooks/alerts  {_ALERT.decode()}")
        streaming = {**headers, "Accept": "text/event-stream"}
        async with session.post("/hooks/alerts", data=_ALERT, headers=streaming) as response:
            turn = response.headers["X-Ringback-Turn"]
            await _show_stream(response)
        _say("The same delivery again, as senders do:")
        async with session.post("/hooks/alerts", data=_ALERT, headers=headers) as response:
            again = await response.json()
    same = bool(again["turn"] == turn and again["duplicate"])
    verdict = "the same turn, no second answer" if same else "ANOTHER TURN"
    _say(f"{response.status}  duplicate={again['duplicate']}: {verdict}\n")
    return same


async def _by_cron(telegram: BotApi) -> None:
    _title("A cron tick, answered in a Telegram group")
    _say(f"Task 'minute' ({_EVERY_MINUTE}): What time is it?")
    await telegram.until(lambda: any("It is" in text for text in telegram.said(_TEAM)))
    _say(f"Ringback: {telegram.said(_TEAM)[0]}\n")


def _settings(folder: Path, telegram: BotApi) -> config.Settings:
    return config.Settings(
        server=config.Server(port=0),
        database=config.DatabaseSettings(url=f"sqlite+aiosqlite:///{folder}/demo.db"),
        log=config.Log(level="error"),
        telegram=config.Telegram(
            token=config.Secret(telegram.token),
            api_base_url=telegram.url,
            agent="assistant",
            allow=frozenset({_ANN}),
        ),
        webhooks={
            "alerts": config.Webhook(
                agent="assistant",
                auth=config.Auth(scheme="standard-webhooks", secrets=(config.Secret(_SECRET),)),
                prompt="{{ payload.host }} says: {{ payload.alert }}",
            )
        },
        tasks={
            "minute": config.Task(
                cron=_EVERY_MINUTE,
                agent="assistant",
                prompt="What time is it?",
                deliver=config.Deliver(telegram=str(_TEAM)),
            )
        },
    )


async def _let_a_tick_be_due(settings: config.Settings) -> None:
    """Leave the database as a service that stopped before the last full minute would have."""
    database = Database(settings.database.url)
    await database.open()
    await schema.migrate(database)
    schedule = Schedule.parse(_EVERY_MINUTE, "UTC")
    last = datetime.now(UTC).replace(second=0, microsecond=0)
    await database.write(tasks.define, "minute", schedule=str(schedule), next_at=last, enabled=True)
    await database.close()


async def _show_stream(response: aiohttp.ClientResponse) -> None:
    """Print the words of a stream as they come."""
    _write("Ringback: ")
    kind = ""
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and kind == "text":
            _write(json.loads(value)["text"].replace("\n", "\n          "))
    _write("\n")


def _is_over(answer: Message) -> bool:
    """Whether the message has lost its Stop button after words came."""
    return len(answer.history) > 1 and not answer.markups[-1]


def _has_more(answer: Message, shown: int) -> bool:
    return len(answer.history) > shown


def _show_edits(answer: Message, shown: int) -> int:
    """Print what the message became since; return how many of its texts were printed."""
    for text in answer.history[shown:]:
        line = text.replace("\n", " ⏎ ")
        _say(f"Ringback: {line if len(line) <= _WIDTH else '… ' + line[-_WIDTH:]}")
    return len(answer.history)


def _title(text: str) -> None:
    _say(f"── {text} " + "─" * max(0, 70 - len(text)))


def _say(text: str) -> None:
    _write(text + "\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
