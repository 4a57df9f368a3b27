"""What goes wrong on the local Bot API server when a test wants it, and when a bot is too fast."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import aiohttp
import httpx
import pytest
from telegram.error import NetworkError, RetryAfter, TelegramError, TimedOut
from telegram.ext import ExtBot

from service.demo.bot_api.flood import Family, Flood, Limit, Limits
from service.demo.bot_api.refusal import Refused
from service.demo.bot_api.server import BotApi
from tests.demo.caller import ANN, BOB, TEAM, Caller

# -- faults --------------------------------------------------------------------------------------


async def test_the_next_calls_can_be_refused(api: BotApi, call: Caller) -> None:
    """So many calls of one method fail, with the usual words if none are given."""
    api.fail("sendMessage", 500, times=2)
    failed = [await call.say("Hi") for _ in range(2)]
    other = await call("getMe")

    assert [one.refusal for one in failed] == [(500, "Internal Server Error")] * 2
    assert (other.status, (await call.say("Hi")).status) == (200, 200)
    assert api.said(ANN) == ["Hi"]


async def test_faults_come_in_their_order(api: BotApi, call: Caller) -> None:
    """Each fault is used up before the next one."""
    api.fail("sendMessage", 502)
    api.fail("sendMessage", 400, "chat not found")

    assert [(await call.say("Hi")).status for _ in range(3)] == [502, 400, 200]


async def test_faults_can_be_for_one_chat(api: BotApi, call: Caller) -> None:
    """Other chats do not notice."""
    await api.open_chat(BOB)
    api.fail("sendMessage", 403, "bot was blocked by the user", chat=BOB)

    assert (await call.say("Hi")).status == 200
    assert (await call.say("Hi", chat=BOB)).status == 403


async def test_everything_can_be_out_of_order(api: BotApi, call: Caller) -> None:
    """A whole outage, until it is over."""
    api.fail("*", 502, times=100)
    during = [(await call("getMe")).status, (await call("getUpdates")).status]
    api.heal()

    assert during == [502, 502]
    assert (await call("getMe")).status == 200


async def test_the_bot_can_be_told_to_wait(api: BotApi, call: Caller) -> None:
    """The seconds are in the words, in the parameters and in a header."""
    api.fail("sendMessage", 429, retry_after=7)
    answer = await call.say("Hi")

    assert answer.refusal == (429, "Too Many Requests: retry after 7")
    assert answer.body["parameters"] == {"retry_after": 7}
    assert answer.retry_after == "7"


async def test_the_library_sees_that_it_must_wait(api: BotApi, bot: ExtBot[None]) -> None:
    """The library tells how long."""
    api.fail("sendMessage", 429, retry_after=7)

    with pytest.raises(RetryAfter) as caught:
        await bot.send_message(ANN, "Hi")
    assert caught.value.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(("applied", "shown"), [(False, []), (True, ["Hi"])])
async def test_a_connection_can_break(
    api: BotApi, bot: ExtBot[None], applied: bool, shown: list[str]
) -> None:
    """The bot sees the same error whether its message was sent or not."""
    api.drop("sendMessage", applied=applied)

    with pytest.raises(NetworkError) as caught:
        await bot.send_message(ANN, "Hi")
    assert isinstance(caught.value.__cause__, httpx.ReadError | httpx.RemoteProtocolError)
    assert api.said(ANN) == shown
    assert api.calls[-1].status is None


@pytest.mark.parametrize("applied", [False, True])
async def test_a_fetch_can_break(api: BotApi, call: Caller, applied: bool) -> None:
    """Updates are not lost with an answer: only the next offset confirms them."""
    number = await api.send_text("Hello", chat=ANN)
    api.drop("getUpdates", applied=applied)
    with pytest.raises(aiohttp.ClientError):
        await call("getUpdates")
    again = await call("getUpdates")

    assert [one["update_id"] for one in again.result] == [number]


async def test_an_answer_can_be_late(api: BotApi, bot: ExtBot[None]) -> None:
    """The bot gives up, but its message is sent all the same: nobody knows from the error."""
    api.stall("sendMessage", 0.2)

    with pytest.raises(TimedOut):
        await bot.send_message(ANN, "Hi", read_timeout=0.05)
    before = api.said(ANN)
    await api.until(lambda: api.said(ANN) == ["Hi"])
    assert before == []


async def test_an_answer_can_be_a_page(api: BotApi, bot: ExtBot[None], call: Caller) -> None:
    """A proxy answers with HTML: nothing was done."""
    api.garble("sendMessage")
    with pytest.raises(NetworkError, match="Bad Gateway"):
        await bot.send_message(ANN, "Hi")
    api.garble("sendMessage")
    async with call.session.post(f"{call.base}/sendMessage") as response:
        body = await response.text()

    assert (response.status, response.content_type) == (502, "text/html")
    assert body.startswith("<html>")
    assert api.said(ANN) == []


async def test_an_answer_can_be_no_json(api: BotApi, bot: ExtBot[None]) -> None:
    """Also with status 200."""
    api.garble("sendMessage", b'{"ok": tr', status=200)

    with pytest.raises(TelegramError, match="Invalid server response"):
        await bot.send_message(ANN, "Hi")


async def test_waiting_ends_with_what_is_waited_for(api: BotApi, call: Caller) -> None:
    """Every change is looked at; in vain only for so long."""
    waiting = asyncio.create_task(api.until(lambda: "Hi" in api.said(ANN)))
    await call.say("Hello")
    early = waiting.done()
    await call.say("Hi")
    await waiting

    assert not early
    with pytest.raises(TimeoutError):
        await api.until(lambda: "Bye" in api.said(ANN), seconds=0.01)


# -- limits --------------------------------------------------------------------------------------


class Seconds:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def refused(flood: Flood, chat: int, family: Family = Family.MESSAGE) -> int:
    """The seconds for which a call is refused; 0 when it is not."""
    try:
        flood.check(chat, family)
    except Refused as refusal:
        return refusal.parameters["retry_after"]
    return 0


@pytest.fixture
def seconds() -> Seconds:
    """The time of the limits."""
    return Seconds()


@pytest.fixture
def flood(seconds: Seconds) -> Flood:
    """Limits that are enforced."""
    return Flood(on=True, clock=seconds)


async def test_limits_are_off_unless_wanted(api: BotApi, call: Caller) -> None:
    """A test that is about something else is never slowed down."""
    statuses = {(await call.say("Hi")).status for _ in range(40)}

    assert (statuses, api.flood.strikes) == ({200}, 0)


async def test_a_chat_has_a_limit(api: BotApi, call: Caller) -> None:
    """Sends and edits count together; other chats go on."""
    api.enforce_limits()
    await api.open_chat(BOB)
    await call.say("One")
    edits = [await call.edit(1, f"{n}") for n in range(5)]

    assert [one.status for one in edits] == [200] * 4 + [429]
    assert edits[-1].body["parameters"] == {"retry_after": 3}
    assert (await call.say("Hi", chat=BOB)).status == 200


async def test_fetching_and_answering_presses_are_free(api: BotApi, call: Caller) -> None:
    """Only what people see counts."""
    api.flood.limits = Limits(bot=Limit(0, 1.0))
    api.enforce_limits()
    query = await api.press(1, "x", chat=ANN)

    assert (await call("getUpdates")).status == 200
    assert (await call("answerCallbackQuery", callback_query_id=query)).status == 200
    assert (await call.say("Hi")).status == 429


def test_a_private_chat_takes_one_a_second(flood: Flood, seconds: Seconds) -> None:
    """After a burst of five."""
    burst = [refused(flood, ANN) for _ in range(5)]
    steady = []
    for _ in range(30):
        seconds.now += 1
        steady.append(refused(flood, ANN))

    assert burst + steady == [0] * 35
    assert refused(flood, ANN) == 3


def test_a_group_takes_twenty_a_minute(flood: Flood, seconds: Seconds) -> None:
    """One more is refused until there is room; all topics of a forum are one chat."""
    burst = [refused(flood, TEAM) for _ in range(21)]
    seconds.now += 3.1

    assert burst == [0] * 20 + [3]
    assert refused(flood, TEAM) == 0


def test_a_bot_sends_thirty_a_second(flood: Flood, seconds: Seconds) -> None:
    """Over all chats; when that is too much, every chat is refused."""
    answers = [refused(flood, chat) for chat in range(1, 32)]

    assert answers == [0] * 30 + [3]
    assert refused(flood, 99) > 0


def test_hammering_is_punished(flood: Flood, seconds: Seconds) -> None:
    """Each call while refused makes the wait half as long again, up to two hours."""
    waits = [refused(flood, ANN) for _ in range(5 + 30)][5:]
    seconds.now += 7201

    assert waits[:4] == [3, 5, 7, 11]
    assert waits[-1] == 7200
    assert flood.strikes == 30
    assert refused(flood, ANN) == 0


def test_typing_has_limits_of_its_own(flood: Flood, seconds: Seconds) -> None:
    """Twenty in five seconds, forty in half a minute; messages are not touched."""
    answers = [refused(flood, ANN, Family.ACTION) for _ in range(22)]

    assert answers == [0] * 20 + [3, 3]
    assert refused(flood, ANN) == 0


async def test_webhooks_are_set_once_a_second(api: BotApi, call: Caller) -> None:
    """A fleet that sets the same webhook at start is told to wait."""
    api.enforce_limits()
    url = "https://bot.example.org/x"
    answers = [await call("setWebhook", url=url) for _ in range(2)]

    assert [one.status for one in answers] == [200, 429]
