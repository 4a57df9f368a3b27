"""getUpdates on the local Bot API server: offsets, waiting, conflicts, what is kept how long."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from telegram.error import Conflict
from telegram.ext import ExtBot

from service.demo.bot_api.server import BotApi
from tests.demo.caller import ANN, GROUP, TEAM, Answer, Caller, Clock

ANOTHER = (
    "Conflict: terminated by other getUpdates request; "
    "make sure that only one bot instance is running"
)
EVERYTHING_ELSE = {"chat": {"id": ANN, "type": "private"}, "date": 1_790_000_000}


def numbers(answer: Answer) -> list[int]:
    """The numbers of the updates in an answer."""
    return [one["update_id"] for one in answer.result]


def texts(answer: Answer) -> list[str]:
    """What the messages in an answer say."""
    return [one["message"]["text"] for one in answer.result]


async def write(api: BotApi, *words: str) -> list[int]:
    """Have Ann write several messages; the numbers of their updates."""
    return [await api.send_text(one, chat=ANN) for one in words]


async def waiting(api: BotApi, call: Caller, **params: Any) -> asyncio.Task[Answer]:
    """A fetch that has reached the server and waits."""
    before = len(api.called("getUpdates"))
    task = asyncio.create_task(call("getUpdates", timeout=30, **params))
    await api.until(lambda: len(api.called("getUpdates")) > before)
    return task


async def test_the_library_reads_updates(api: BotApi, bot: ExtBot[None]) -> None:
    """What people write comes as the library wants it: a command in a group, in a topic."""
    number = await api.send_text("/new@demo_bot x", chat=TEAM, user=ANN, topic=7)
    [update] = await bot.get_updates()

    message = update.message
    assert message is not None
    assert update.update_id == number
    assert message.from_user is not None
    assert (message.from_user.id, message.chat.id) == (ANN, TEAM)
    assert (message.message_thread_id, message.is_topic_message) == (7, True)
    assert [one.type for one in message.entities] == ["bot_command"]
    assert message.chat.is_forum


async def test_the_library_reads_every_kind(api: BotApi, bot: ExtBot[None]) -> None:
    """Edits, presses, blocks, topics and moves are told as the real server does."""
    await api.send_text("Helo", chat=ANN)
    await api.edit_text(1, "Hello", chat=ANN)
    await api.press(1, "x", chat=ANN)
    await api.block(ANN)
    topic = await api.open_topic(TEAM, "Builds", user=ANN)
    await api.open_chat(GROUP)
    await api.migrate(GROUP, -1_009_999_999_999)
    updates = await bot.get_updates()
    messages = [one.message for one in updates if one.message is not None]

    assert updates[1].edited_message is not None
    assert updates[1].edited_message.text == "Hello"
    assert updates[2].callback_query is not None
    assert updates[3].my_chat_member is not None
    assert updates[3].my_chat_member.new_chat_member.status == "kicked"
    assert messages[1].forum_topic_created is not None
    assert messages[1].message_thread_id == topic
    assert messages[2].migrate_to_chat_id == -1_009_999_999_999
    assert messages[3].migrate_from_chat_id == GROUP


async def test_an_answer_quotes_one_level(api: BotApi, call: Caller) -> None:
    """A message that answers another brings that one along."""
    await call.say("Noon.")
    await api.send_text("Sure?", chat=ANN, reply_to=1)
    [update] = (await call("getUpdates")).result

    assert update["message"]["reply_to_message"]["text"] == "Noon."


async def test_numbers_rise_by_one(api: BotApi, call: Caller) -> None:
    """Updates come in the order of their numbers, message ids count for each chat."""
    first, second, third = await write(api, "One", "Two", "Three")
    await api.send_text("Four", chat=TEAM, user=ANN)
    answer = await call("getUpdates")

    ids = [one["message"]["message_id"] for one in answer.result]
    assert (second, third) == (first + 1, first + 2)
    assert numbers(answer) == [first, second, third, third + 1]
    assert ids == [1, 2, 3, 1]


async def test_an_offset_confirms_what_is_below(api: BotApi, call: Caller) -> None:
    """Without an offset updates come again and again; with one, those below are forgotten."""
    first, second = await write(api, "One", "Two")
    again = [numbers(await call("getUpdates")) for _ in range(2)]
    rest = await call("getUpdates", offset=second)

    assert again == [[first, second]] * 2
    assert numbers(rest) == [second]
    assert numbers(await call("getUpdates")) == [second]


async def test_a_negative_offset_keeps_the_last_ones(api: BotApi, call: Caller) -> None:
    """All but so many of the newest are forgotten."""
    await write(api, "One", "Two", "Three")

    assert texts(await call("getUpdates", offset=-2)) == ["Two", "Three"]
    assert api.unconfirmed == 2


@pytest.mark.parametrize(("limit", "count"), [(2, 2), (0, 100), (-1, 100), (500, 100)])
async def test_a_limit_bounds_one_answer(api: BotApi, call: Caller, limit: int, count: int) -> None:
    """One to a hundred; anything else means a hundred."""
    await write(api, *(str(number) for number in range(101)))

    assert len((await call("getUpdates", limit=limit)).result) == count


async def test_a_fetch_waits_for_the_next_update(api: BotApi, call: Caller) -> None:
    """A long fetch is answered as soon as something happens."""
    fetch = await waiting(api, call)
    await write(api, "Hello")

    assert texts(await fetch) == ["Hello"]


async def test_a_fetch_ends_with_its_time(call: Caller) -> None:
    """When nothing happens the answer is empty, not an error."""
    began = time.monotonic()
    answer = await call("getUpdates", timeout=1)

    assert answer.result == []
    assert time.monotonic() - began >= 0.9


async def test_a_second_fetch_ends_the_first(api: BotApi, call: Caller) -> None:
    """Only one process may fetch: the older call gets the conflict, the newer the updates."""
    first = await waiting(api, call)
    second = await waiting(api, call)
    await write(api, "Hello")

    assert (await first).refusal == (409, ANOTHER)
    assert texts(await second) == ["Hello"]


async def test_the_library_sees_the_conflict(api: BotApi, bot: ExtBot[None], call: Caller) -> None:
    """The library raises its own error for it."""
    mine = asyncio.create_task(bot.get_updates(timeout=30))
    await api.until(lambda: api.called("getUpdates"))
    await call("getUpdates")

    with pytest.raises(Conflict, match="terminated by other getUpdates request"):
        await mine


async def test_only_wanted_kinds_come(api: BotApi, call: Caller) -> None:
    """The list is remembered, empty means the usual ones, unknown names are ignored."""
    await call("getUpdates", allowed_updates=["message", "nonsense"])
    await api.press(1, "unwanted", chat=ANN)
    await write(api, "Hello")
    await call("getUpdates", allowed_updates=[])
    await api.press(1, "wanted", chat=ANN)
    await api.inject({"message_reaction": {**EVERYTHING_ELSE}})

    answer = await call("getUpdates")
    assert [sorted(one) for one in answer.result] == [
        ["message", "update_id"],
        ["callback_query", "update_id"],
    ]


async def test_updates_are_not_kept_for_ever(api: BotApi, call: Caller, clock: Clock) -> None:
    """A press is kept for 150 seconds, a message for a day."""
    await write(api, "Hello")
    await api.press(1, "x", chat=ANN)
    both = len((await call("getUpdates")).result)
    clock.move(seconds=151)
    message = len((await call("getUpdates")).result)
    clock.move(hours=24)

    assert (both, message, api.unconfirmed) == (2, 1, 0)


async def test_an_update_can_come_again(api: BotApi, call: Caller) -> None:
    """An update that brings its number along keeps it."""
    [number] = await write(api, "Hello")
    [update] = (await call("getUpdates")).result
    await call("getUpdates", offset=number + 1)
    await api.inject(update)

    assert (await call("getUpdates")).result == [update]


async def test_an_update_may_make_no_sense(api: BotApi, call: Caller) -> None:
    """Kinds nobody knows and messages without anything arrive as they are."""
    numbered = [await api.inject({"message": {}}), await api.inject({"sparkles": [1]})]
    answer = await call("getUpdates", allowed_updates=["message"])

    assert answer.result == [
        {"update_id": numbered[0], "message": {}},
        {"update_id": numbered[1], "sparkles": [1]},
    ]


async def test_bytes_arrive_as_they_are(api: BotApi, call: Caller) -> None:
    """Also bytes that break the whole answer, between two updates that do not."""
    await write(api, "One")
    number = await api.inject(b'{"update_id": broken')
    await write(api, "Two")
    async with call.session.get(f"{call.base}/getUpdates") as response:
        body = await response.read()
    rest = await call("getUpdates", offset=number + 1)

    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(body)
    assert b'},{"update_id": broken,{' in body
    assert texts(rest) == ["Two"]


async def test_a_whole_answer_can_be_made_up(api: BotApi, call: Caller) -> None:
    """It comes once, before everything that waits."""
    await write(api, "Hello")
    await api.inject_answer(b'{"ok":true,"result":{}}')

    assert (await call("getUpdates")).result == {}
    assert texts(await call("getUpdates")) == ["Hello"]


async def test_a_server_that_ends_lets_nobody_wait(clock: Clock) -> None:
    """A fetch that waits is answered at once, or its connection closed."""
    async with BotApi(clock=clock) as api, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.split(":")[-1]))
        writer.write(f"GET /bot{api.token}/getUpdates?timeout=50 HTTP/1.1\r\n".encode())
        writer.write(b"Host: x\r\n\r\n")
        await api.until(lambda: api.called("getUpdates"))
    async with asyncio.timeout(60):
        await reader.read()
    writer.close()
