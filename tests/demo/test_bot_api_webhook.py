"""Webhook mode of the local Bot API server: what is posted where, and again until it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from telegram.ext import ExtBot

from service.demo.bot_api.server import BotApi
from service.demo.bot_api.webhook import Times
from tests.demo.caller import ANN, BOB, Caller, Clock
from tests.demo.receiver import Receiver, receiving

WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; "
    "use deleteWebhook to delete the webhook first"
)


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    """A service that gets updates posted."""
    async with receiving() as receiver:
        yield receiver


async def unconfirmed(api: BotApi, count: int = 0) -> None:
    """Wait until so many updates are left."""
    await api.until(lambda: api.unconfirmed == count, seconds=5)


async def test_updates_are_posted_with_the_secret(
    api: BotApi, bot: ExtBot[None], receiver: Receiver
) -> None:
    """What waits is posted one by one, each with the secret in its header; a 2xx confirms."""
    number = await api.send_text("One", chat=ANN)
    await bot.set_webhook(receiver.url, secret_token="s3cret")
    await api.send_text("Two", chat=ANN)
    await unconfirmed(api)

    assert [one["update_id"] for one in receiver.posted] == [number, number + 1]
    assert (receiver.texts, receiver.secrets) == (["One", "Two"], ["s3cret"] * 2)


async def test_without_a_secret_there_is_no_header(
    api: BotApi, call: Caller, receiver: Receiver
) -> None:
    """The header is missing then, not empty."""
    await call("setWebhook", url=receiver.url)
    await api.send_text("One", chat=ANN)
    await unconfirmed(api)

    assert receiver.secrets == [None]


async def test_an_update_is_posted_until_it_arrives(
    api: BotApi, call: Caller, receiver: Receiver
) -> None:
    """Anything but a 2xx is a failure; the next message of the chat waits."""
    receiver.answers = [
        web.Response(status=503),
        web.Response(status=302, headers={"Location": "/elsewhere"}),
        web.Response(status=401),
        web.Response(status=204),
    ]
    await call("setWebhook", url=receiver.url)
    await api.send_text("One", chat=ANN)
    await api.send_text("Two", chat=ANN)
    await unconfirmed(api)

    assert receiver.texts == ["One"] * 4 + ["Two"]


async def test_chats_do_not_wait_for_each_other(
    api: BotApi, call: Caller, receiver: Receiver
) -> None:
    """Messages wait in their chat, presses in a queue of their own."""
    receiver.patience = asyncio.Event()
    await call("setWebhook", url=receiver.url)
    await api.send_text("Ann 1", chat=ANN)
    await api.send_text("Ann 2", chat=ANN)
    await api.send_text("Bob", chat=BOB)
    await api.press(1, "press", chat=ANN)
    await receiver.until(lambda: len(receiver.posted) == 3)
    before = sorted(receiver.texts)
    receiver.patience.set()
    await unconfirmed(api)

    assert before == ["Ann 1", "Bob", "press"]
    assert receiver.texts[3:] == ["Ann 2"]


async def test_connections_are_bounded(api: BotApi, call: Caller, receiver: Receiver) -> None:
    """Not more posts at once than were asked for."""
    receiver.patience = asyncio.Event()
    await call("setWebhook", url=receiver.url, max_connections=1)
    await api.send_text("Ann", chat=ANN)
    await api.send_text("Bob", chat=BOB)
    await receiver.until(lambda: receiver.posted)
    before = list(receiver.texts)
    receiver.patience.set()
    await unconfirmed(api)

    assert (before, receiver.texts) == (["Ann"], ["Ann", "Bob"])


async def test_a_slow_answer_is_none(api: BotApi, call: Caller, receiver: Receiver) -> None:
    """Who answers too late gets the update again."""
    api.webhook.times = Times(answer=timedelta(milliseconds=50))
    receiver.patience = asyncio.Event()
    await call("setWebhook", url=receiver.url)
    await api.send_text("One", chat=ANN)
    await receiver.until(lambda: len(receiver.posted) == 2)
    info = (await call("getWebhookInfo")).result
    receiver.patience.set()
    await unconfirmed(api)

    assert info["last_error_message"] == "Read timeout expired"
    assert set(receiver.texts) == {"One"}


async def test_the_other_side_may_ask_for_time(
    api: BotApi, call: Caller, receiver: Receiver
) -> None:
    """Retry-After is obeyed, in the seconds of this server."""
    api.webhook.times = Times(second=timedelta(milliseconds=1))
    receiver.answers = [web.Response(status=503, headers={"Retry-After": "100"})]
    await call("setWebhook", url=receiver.url)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await api.send_text("One", chat=ANN)
    await unconfirmed(api)

    assert len(receiver.posted) == 2
    assert loop.time() - began >= 0.1


async def test_an_update_may_come_twice_at_once(
    api: BotApi, call: Caller, receiver: Receiver
) -> None:
    """As happens behind a load balancer when the first answer is late."""
    api.webhook.copies = 2
    await call("setWebhook", url=receiver.url)
    await api.send_text("One", chat=ANN)
    await unconfirmed(api)

    assert receiver.texts == ["One", "One"]


async def test_an_update_that_never_arrives_is_given_up(
    api: BotApi, call: Caller, clock: Clock, receiver: Receiver
) -> None:
    """After a day it is too old."""
    receiver.answers = [web.Response(status=500) for _ in range(100)]
    await call("setWebhook", url=receiver.url)
    await api.send_text("One", chat=ANN)
    await receiver.until(lambda: receiver.posted)
    clock.move(hours=25)
    await unconfirmed(api)

    assert 0 < len(receiver.posted) < 100


async def test_the_state_of_a_webhook_can_be_asked_for(
    api: BotApi, bot: ExtBot[None], clock: Clock
) -> None:
    """Address, pending updates, wanted kinds and the last error; never the secret."""
    await bot.set_webhook(
        "http://127.0.0.1:9/telegram",
        secret_token="s3cret",
        allowed_updates=["message"],
        max_connections=7,
    )
    await api.send_text("One", chat=ANN)
    await api.until(lambda: "last_error_date" in api.webhook.info({}))
    info = await bot.get_webhook_info()

    assert (info.url, info.pending_update_count) == ("http://127.0.0.1:9/telegram", 1)
    assert (info.allowed_updates, info.max_connections) == (("message",), 7)
    assert (info.last_error_message, info.last_error_date) == ("Connection refused", clock.now)
    assert "s3cret" not in str(api.webhook.info({}))


async def test_a_webhook_ends_fetching(api: BotApi, call: Caller, receiver: Receiver) -> None:
    """A fetch that waits is terminated, later ones conflict until the webhook is deleted."""
    fetch = asyncio.create_task(call("getUpdates", timeout=30))
    await api.until(lambda: api.called("getUpdates"))
    await call("setWebhook", url=receiver.url)
    conflict = await call("getUpdates")
    await call("deleteWebhook")
    await api.send_text("One", chat=ANN)
    fetched = await call("getUpdates")

    assert (await fetch).refusal == (409, "Conflict: terminated by setWebhook request")
    assert conflict.refusal == (409, WEBHOOK_ACTIVE)
    assert (len(fetched.result), receiver.posted) == (1, [])


async def test_setting_and_deleting_say_what_they_did(call: Caller, receiver: Receiver) -> None:
    """The result is true every time; the words tell whether anything changed."""
    answers = [
        await call("setWebhook", url=receiver.url, secret_token="a"),
        await call("setWebhook", url=receiver.url, secret_token="a"),
        await call("setWebhook", url=""),
        await call("deleteWebhook"),
    ]

    assert [(one.result, one.body["description"]) for one in answers] == [
        (True, "Webhook was set"),
        (True, "Webhook is already set"),
        (True, "Webhook was deleted"),
        (True, "Webhook is already deleted"),
    ]


@pytest.mark.parametrize(("drop", "posted"), [("true", ["New"]), ("false", ["Old", "New"])])
async def test_pending_updates_can_be_dropped(
    api: BotApi, call: Caller, receiver: Receiver, drop: str, posted: list[str]
) -> None:
    """Only when that is asked for."""
    await api.send_text("Old", chat=ANN)
    await call.post("setWebhook", data={"url": receiver.url, "drop_pending_updates": drop})
    await api.send_text("New", chat=ANN)
    await unconfirmed(api)

    assert receiver.texts == posted


async def test_pending_updates_survive_the_end_of_a_webhook(api: BotApi, call: Caller) -> None:
    """They wait to be fetched, unless they are dropped."""
    await api.send_text("Old", chat=ANN)
    await call("deleteWebhook")
    kept = api.unconfirmed
    await call("deleteWebhook", drop_pending_updates=True)

    assert (kept, api.unconfirmed) == (1, 0)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            {"url": "http://bot.example.org/x"},
            "bad webhook: An HTTPS URL must be provided for webhook",
        ),
        ({"url": "nonsense"}, "bad webhook: An HTTPS URL must be provided for webhook"),
        (
            {"url": "https://bot.example.org/x", "secret_token": "no blanks"},
            "secret token contains unallowed characters",
        ),
        (
            {"url": "https://bot.example.org/x", "secret_token": "a" * 257},
            "secret token contains unallowed characters",
        ),
    ],
)
async def test_webhooks_that_cannot_be(call: Caller, params: dict[str, Any], words: str) -> None:
    """TLS everywhere but on this machine; the secret is a header."""
    assert (await call("setWebhook", **params)).refusal == (400, f"Bad Request: {words}")
