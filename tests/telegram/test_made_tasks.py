"""Tasks that people of a chat had made ring only while these people may write to the bot."""

from __future__ import annotations

import pytest

from handlers.telegram.spot import Spot
from service import config
from service.app import open_app
from service.core.model import Accepted, Refusal
from service.demo.bot_api.server import BotApi
from service.engine.scheduler import Scheduler
from service.engine.tasks import NewTask, TaskView
from service.store import occurrences, tasks
from service.store.database import Database
from tests.engine.engine import ring
from tests.engine.test_scheduler import last_hour
from tests.telegram.station import Station
from tests.telegram.updates import ANN, BOB, BOT, TEAM


def scheduler(station: Station, *allow: int) -> Scheduler:
    """The scheduler of a service to which these may write."""
    return station.scheduler(refused=station.receiver(allow=frozenset(allow)).refused)


async def made(station: Station, scheduler: Scheduler, author: str, chat: int) -> str:
    """A task that is made in a chat, due since the last full hour; its name."""
    home = Spot(str(BOT), chat).address
    accepted = await station.engine.intake.accept(
        ring(author=author, session_key=f"telegram:{home.spot}", home=home, answer_to=(home,))
    )
    assert isinstance(accepted, Accepted)
    task = await scheduler.add(
        NewTask(cron="0 * * * *", prompt="Water!", author=author, made_in=accepted.session)
    )
    assert isinstance(task, TaskView)
    await station.database.write(tasks.switch, task.task.name, enabled=True, next_at=last_hour())
    return task.task.name


async def last(database: Database, name: str) -> tuple[str, str | None]:
    """What became of the newest instant."""
    [found] = await database.read(occurrences.newest, name, limit=1)
    return found.state.value, found.reason


@pytest.mark.parametrize(
    ("author", "chat", "before", "after", "reason"),
    [
        (f"telegram:{ANN}", ANN, ANN, BOB, f"the person {ANN} is not in telegram.allow"),
        (f"telegram:{ANN}", TEAM, TEAM, ANN, f"the group {TEAM} is not in telegram.allow"),
    ],
)
async def test_who_is_let_out_has_no_task_that_rings(
    database: Database, author: str, chat: int, before: int, after: int, reason: str
) -> None:
    """The instant is recorded with the reason; nobody is asked to run it, either."""
    station = Station(database)
    name = await made(station, scheduler(station, before), author, chat)
    turns = len(await station.turns())

    await scheduler(station, after).ring_due()
    by_hand = await scheduler(station, after).run(name, by="operator")

    assert await last(database, name) == ("skipped", reason)
    assert isinstance(by_hand, Refusal)
    assert by_hand.detail == reason
    assert len(await station.turns()) == turns


@pytest.mark.parametrize(
    ("author", "chat"), [(f"telegram:{ANN}", ANN), (f"telegram:{BOB}", TEAM), ("operator", BOB)]
)
async def test_who_may_write_has_tasks_that_ring(
    database: Database, author: str, chat: int
) -> None:
    """A person, anybody in a group, and an operator whatever chat it is told in."""
    station = Station(database)
    ringing = scheduler(station, ANN, TEAM)
    name = await made(station, ringing, author, chat)

    await ringing.ring_due()

    assert await last(database, name) == ("queued", None)


async def test_who_is_let_in_again_has_the_task_back(database: Database) -> None:
    """It was left as it is: only its instants were skipped."""
    station = Station(database)
    name = await made(station, scheduler(station, ANN), f"telegram:{ANN}", ANN)
    await scheduler(station, TEAM).ring_due()

    by_hand = await scheduler(station, ANN).run(name, by="operator")

    assert isinstance(by_hand, Accepted)


async def test_the_service_asks_its_channel(sqlite_url: str) -> None:
    """Whoever is let in while it runs, at once."""
    async with BotApi() as telegram:
        telegram_settings = config.Telegram(
            token=config.Secret(telegram.token),
            mode="polling",
            api_base_url=telegram.url,
            agent="assistant",
            allow=frozenset({ANN}),
        )
        settings = config.Settings(
            server=config.Server(port=0),
            database=config.DatabaseSettings(url=sqlite_url),
            telegram=telegram_settings,
        )
        async with open_app(settings) as app:
            new = NewTask(cron="@yearly", prompt="Water!", author=f"telegram:{BOB}")
            await app.scheduler.add(new)
            before = await app.scheduler.run("water", by="operator")
            await app.allowed.add(BOB, by="operator")
            after = await app.scheduler.run("water", by="operator")

    assert isinstance(before, Refusal)
    assert before.detail == f"the person {BOB} is not in telegram.allow"
    assert isinstance(after, Accepted)
