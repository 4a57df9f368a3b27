"""The sender: live by edits, at a chat's pace, in the same messages after a crash, never twice."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest

from handlers.telegram.client import Client, TokenRefused
from handlers.telegram.send import DIRECT, TelegramSender
from service.core.model import Address, Channel, Delivery, DeliveryId, Part, TurnId
from service.core.pacing import GROUP, PRIVATE, Pace
from service.core.states import DeliveryState, TurnState
from service.errors import (
    AddressGone,
    AddressMoved,
    ChannelBusy,
    ChannelDown,
    ChannelError,
    ChannelUncertain,
    Fenced,
    TurnWaits,
)
from service.ports import Receipt
from tests.telegram.hurry import EAGER, TIMES
from tests.telegram.journal import MemoryJournal
from tests.telegram.server import Server
from tests.telegram.updates import ANN, BOT, TEAM
from tests.telegram.views import TURN, Views, over, running, waiting

STOP = {"inline_keyboard": [[{"text": "⏹ Stop", "callback_data": f"stop:{TURN}"}]]}


def reply(chat: int = ANN, topic: int | None = None) -> Delivery:
    spot = f"{BOT}:{chat}" + (f":{topic}" if topic else "")
    return Delivery(
        DeliveryId("d"),
        Address(Channel.TELEGRAM, spot),
        DeliveryState.SENDING,
        attempt=1,
        epoch=1,
        created_at=datetime.now(UTC),
        turn=TurnId(TURN),
    )


def notice(text: str, **options: object) -> Delivery:
    return replace(reply(), turn=None, text=text, options=options)


@dataclass
class Desk:
    """A sender at work on one delivery."""

    sender: TelegramSender
    server: Server

    async def send(
        self, delivery: Delivery, *views: object, journal: MemoryJournal | None = None
    ) -> Receipt:
        """Deliver what is whole already."""
        stream = Views(*views).stream()  # type: ignore[arg-type]
        return await self.sender.deliver(delivery, stream, journal or MemoryJournal())

    def follow(
        self, views: Views, journal: MemoryJournal | None = None, delivery: Delivery | None = None
    ) -> asyncio.Task[Receipt]:
        """Begin to deliver a reply that grows."""
        return asyncio.create_task(
            self.sender.deliver(delivery or reply(), views.stream(), journal or MemoryJournal())
        )


@pytest.fixture
async def desk(server: Server, client: Client) -> Desk:
    """A sender in a hurry."""
    sender = TelegramSender(client, bot=str(BOT), private=EAGER, group=EAGER, times=TIMES)
    return Desk(sender, server)


async def test_a_quick_reply_is_one_message_with_its_words(desk: Desk) -> None:
    """No placeholder flickers when the answer is there already."""
    journal = MemoryJournal()
    receipt = await desk.send(reply(), over("**Hi**"), journal=journal)

    assert desk.server.texts(ANN) == ["Hi"]
    assert Receipt(("1",)) == receipt
    assert journal.history == [("opening", DIRECT), ("opened", DIRECT)]
    assert desk.server.of("editMessageText") == []


async def test_a_reply_grows_in_one_message(desk: Desk) -> None:
    """It is opened without words, edited while it grows, and edited to its end."""
    views, journal = Views(running()), MemoryJournal()
    task = desk.follow(views, journal)
    await desk.server.until_called("sendMessage", text="…")
    views.show(running("Hello **wo"))
    await desk.server.until_called("editMessageText", text="Hello wo")
    views.show(over("Hello **world**"))
    receipt = await task

    assert desk.server.texts() == ["Hello world"]
    assert Receipt(("1",)) == receipt
    assert journal.history == [("opening", 0), ("opened", 0)]


async def test_a_growing_reply_has_a_stop_button_until_its_end(desk: Desk) -> None:
    """The button names the turn; the last edit takes it away."""
    views = Views(running("Working"))
    task = desk.follow(views)
    await desk.server.until_called("editMessageText", text="Working")
    growing = desk.server.of("editMessageText")[-1]
    views.show(over("Working"))
    await task

    assert growing["reply_markup"] == STOP
    assert "reply_markup" not in desk.server.of("editMessageText")[-1]


async def test_typing_is_shown_while_the_agent_works(desk: Desk) -> None:
    """It is refreshed, and stops at the end."""
    views = Views(running())
    task = desk.follow(views, delivery=reply(TEAM, 7))
    await desk.server.until_called("sendChatAction", 2, action="typing", message_thread_id=7)
    views.show(over("Done"))
    await task
    shown = len(desk.server.of("sendChatAction"))
    await asyncio.sleep(TIMES.typing.total_seconds() * 2)

    assert shown == len(desk.server.of("sendChatAction"))


async def test_running_tools_are_named_below_the_words(desk: Desk) -> None:
    """People see what takes the time; at the end only the words stay."""
    views = Views(running("Let me see", tools=("clock", "notes")))
    task = desk.follow(views)
    await desk.server.until_called("editMessageText", text="Let me see\n\n⚙ clock, notes…")
    views.show(over("Noon."))
    await task

    assert desk.server.texts() == ["Noon."]


@pytest.mark.parametrize(
    ("state", "words", "error", "shown"),
    [
        (TurnState.STOPPED, "Half an", None, "Half an\n\n(stopped)"),
        (TurnState.STOPPED, "", None, "(stopped)"),
        (TurnState.FAILED, "Half an", "Too slow.", "Half an\n\n⚠️ Too slow."),
        (TurnState.FAILED, "", None, "⚠️ The agent failed."),
        (TurnState.FAILED, "```\ncode", "Cut.", "code\n\n⚠️ Cut."),
        (TurnState.SUCCEEDED, " \n", None, "The answer is empty."),
    ],
)
async def test_every_ending_is_told(
    desk: Desk, state: TurnState, words: str, error: str | None, shown: str
) -> None:
    """Partial words stay, and how it ended stands below them."""
    await desk.send(reply(), over(words, state, error=error))

    assert [shown] == desk.server.texts()


async def test_a_long_reply_fills_several_messages_in_order(desk: Desk) -> None:
    """Each part is a message; the receipt has them all."""
    words = " ".join(f"word{number}" for number in range(1500))
    receipt = await desk.send(reply(), over(words))

    assert words == " ".join(desk.server.texts())
    assert (len(receipt.ids), all(len(t) <= 4096 for t in desk.server.texts())) == (4, True)


async def test_a_reply_that_outgrows_its_message_goes_on_in_the_next(desk: Desk) -> None:
    """Further messages are opened without words too, and the button moves along."""
    words = " ".join(f"word{number}" for number in range(1000))
    views, journal = Views(running("Hello")), MemoryJournal()
    task = desk.follow(views, journal)
    await desk.server.until_called("editMessageText", text="Hello")
    views.show(running(words))
    await desk.server.until_called("editMessageText", 3)
    markups = [one.reply_markup for one in desk.server.shown()]
    views.show(over(words))
    await task

    assert markups == [None, STOP]
    assert words == " ".join(desk.server.texts())
    assert {"opening", "opened"} == {step for step, _ in journal.history}


async def test_a_reply_that_shrank_leaves_no_message_behind(desk: Desk) -> None:
    """After a reset the end may be shorter than what was shown."""
    views = Views(running("word " * 1500))
    task = desk.follow(views)
    await desk.server.until_called("editMessageText", 2)
    views.show(over("Short."))
    receipt = await task

    assert desk.server.texts() == ["Short."]
    assert Receipt(("1",)) == receipt


async def test_after_a_crash_the_same_message_goes_on(desk: Desk) -> None:
    """A successor edits what its predecessor opened."""
    desk.server.said_before(77, "Half an ans")
    journal = MemoryJournal([Part(0, "77")])
    receipt = await desk.send(reply(), over("Half an answer"), journal=journal)

    assert (["Half an answer"], Receipt(("77",))) == (desk.server.texts(), receipt)
    assert desk.server.of("sendMessage") == []


async def test_a_successor_does_not_blank_what_is_shown(desk: Desk) -> None:
    """Until the first words are there again, the old ones stay."""
    desk.server.said_before(77, "Half an ans")
    views = Views(running())
    task = desk.follow(views, MemoryJournal([Part(0, "77")]))
    await desk.server.until_called("sendChatAction", 2)
    views.show(running("Half an answer"))
    await desk.server.until_called("editMessageText", text="Half an answer")
    views.show(over("Half an answer, whole"))
    await task

    assert "…" not in [one["text"] for one in desk.server.of("editMessageText")]


async def test_a_placeholder_in_doubt_is_opened_anew(desk: Desk) -> None:
    """It carried no words, so a second one does no harm."""
    journal = MemoryJournal([Part(0, None)])
    await desk.send(reply(), over("Answer"), journal=journal)

    assert desk.server.texts() == ["Answer"]


async def test_words_in_doubt_are_never_sent_again(desk: Desk) -> None:
    """A successor that finds them so says that nobody knows."""
    with pytest.raises(ChannelUncertain):
        await desk.send(reply(), over("Answer"), journal=MemoryJournal([Part(DIRECT, None)]))

    assert desk.server.of("sendMessage") == []


@pytest.mark.parametrize("applied", [True, False])
async def test_words_that_met_a_cut_are_not_repeated(desk: Desk, applied: bool) -> None:
    """One request, and then the doubt is reported."""
    desk.server.drop("sendMessage", applied=applied)
    journal = MemoryJournal()

    with pytest.raises(ChannelUncertain):
        await desk.send(reply(), over("Answer"), journal=journal)

    assert len(desk.server.of("sendMessage")) == 1
    assert [Part(DIRECT, None)] == list(journal.parts)


async def test_a_part_in_doubt_does_not_hold_up_the_rest(desk: Desk) -> None:
    """The other messages of a long reply still arrive."""
    desk.server.drop("sendMessage", applied=True)
    words = " ".join(f"word{number}" for number in range(1000))

    with pytest.raises(ChannelUncertain):
        await desk.send(reply(), over(words))

    assert words == " ".join(desk.server.texts())


@pytest.mark.parametrize("applied", [True, False])
async def test_an_edit_that_met_a_cut_is_repeated(desk: Desk, applied: bool) -> None:
    """Edits are idempotent: the end is the same."""
    views = Views(running("Half"))
    task = desk.follow(views)
    await desk.server.until_called("editMessageText", text="Half")
    desk.server.drop("editMessageText", applied=applied)
    views.show(over("Whole"))
    await task

    assert desk.server.texts() == ["Whole"]


async def test_a_failing_server_is_tried_again(desk: Desk) -> None:
    """A 502 is no answer, and the words were surely not taken."""
    desk.server.fail("sendMessage", 502, "Bad Gateway")
    await desk.send(reply(), over("Answer"))

    assert desk.server.texts() == ["Answer"]


async def test_a_server_that_stays_down_is_left_to_the_outbox(desk: Desk) -> None:
    """After some tries the error says that trying later helps, and nothing is in doubt."""
    for _ in range(4):
        desk.server.fail("sendMessage", 502, "Bad Gateway")
    journal = MemoryJournal()

    with pytest.raises(ChannelDown):
        await desk.send(reply(), over("Answer"), journal=journal)

    assert list(journal.parts) == []


async def test_a_flood_is_obeyed_to_the_second_and_the_newest_words_follow(desk: Desk) -> None:
    """Nothing at all is sent to the chat meanwhile, and no frame is made up for."""
    views = Views(running("One"))
    task = desk.follow(views)
    await desk.server.until_called("editMessageText", text="One")
    desk.server.fail("editMessageText", 429, "Too Many Requests", retry_after=1)
    views.show(running("One two"))
    await desk.server.until_called("editMessageText", text="One two")
    views.show(running("One two three"))
    views.show(over("One two three four"))
    await task

    edits = [call for call in desk.server.calls if call.method == "editMessageText"]
    texts = [call.params["text"] for call in edits]
    since = [call.at - edits[-2].at for call in desk.server.calls]
    assert texts == ["One", "One two", "One two three four"]
    assert edits[-1].at - edits[-2].at >= 1
    assert not [at for at in since if 0.2 < at < 0.9]


async def test_a_long_flood_at_the_end_is_left_to_the_outbox(desk: Desk) -> None:
    """The error says how long; what is shown already stays."""
    views, journal = Views(running("Half")), MemoryJournal()
    task = desk.follow(views, journal)
    await desk.server.until_called("editMessageText", text="Half")
    desk.server.fail("editMessageText", 429, "Too Many Requests", retry_after=90)
    views.show(over("Whole"))

    with pytest.raises(ChannelBusy) as caught:
        await task

    assert timedelta(seconds=90) == caught.value.retry_after
    assert [Part(0, "1")] == list(journal.parts)


async def test_a_frozen_chat_is_not_asked_by_another_delivery(desk: Desk) -> None:
    """What one delivery learnt holds for all that go to the chat."""
    desk.server.fail("sendMessage", 429, "Too Many Requests", retry_after=90)
    for _ in range(2):
        with pytest.raises(ChannelBusy):
            await desk.send(reply(), over("Answer"))

    assert len(desk.server.of("sendMessage")) == 1


@pytest.mark.parametrize(
    ("status", "description", "error"),
    [
        (403, "bot was blocked by the user", AddressGone),
        (400, "chat not found", AddressGone),
        (400, "message is too long", ChannelError),
        (401, "Unauthorized", TokenRefused),
    ],
)
async def test_a_refusal_leaves_nothing_in_doubt(
    desk: Desk, status: int, description: str, error: type[ChannelError]
) -> None:
    """It is reported as it is, and the journal knows that nothing was opened."""
    desk.server.fail("sendMessage", status, description)
    journal = MemoryJournal()

    with pytest.raises(error):
        await desk.send(reply(), over("Answer"), journal=journal)

    assert list(journal.parts) == []


async def test_a_person_who_blocks_the_bot_ends_the_delivery_at_once(desk: Desk) -> None:
    """Nobody waits for a reply that cannot be shown."""
    views = Views(running("Half"))
    task = desk.follow(views)
    await desk.server.until_called("editMessageText", text="Half")
    desk.server.fail("editMessageText", 403, "bot was blocked by the user")
    views.show(running("Half of it"))

    with pytest.raises(AddressGone):
        await task


async def test_a_group_that_moved_takes_no_message_numbers_along(desk: Desk) -> None:
    """In the new group they may be those of other messages."""
    desk.server.fail("editMessageText", 400, "Bad Request", migrate_to_chat_id=TEAM)
    journal = MemoryJournal([Part(0, "77")])

    with pytest.raises(AddressMoved) as caught:
        await desk.send(reply(-5), over("Answer"), journal=journal)

    assert (f"{BOT}:{TEAM}", []) == (caught.value.spot, list(journal.parts))


async def test_a_deleted_message_is_opened_again(desk: Desk) -> None:
    """Somebody cleaned up; the answer still comes."""
    views, journal = Views(running("Half")), MemoryJournal()
    task = desk.follow(views, journal)
    await desk.server.until_called("editMessageText", text="Half")
    desk.server.clean_up()
    views.show(over("Whole"))
    receipt = await task

    assert (["Whole"], Receipt(("2",))) == (desk.server.texts(), receipt)


@pytest.mark.parametrize("method", ["sendMessage", "editMessageText"])
async def test_text_whose_dress_is_refused_comes_plain(desk: Desk, method: str) -> None:
    """An answer without bold beats no answer."""
    journal = MemoryJournal([Part(0, "77")] if method == "editMessageText" else [])
    desk.server.said_before(77, "old")
    desk.server.fail(method, 400, "can't parse entities")
    await desk.send(reply(), over("**Hi**"), journal=journal)

    last = desk.server.of(method)[-1]
    assert (last["text"], last["entities"]) == ("Hi", [])


async def test_without_its_topic_an_answer_goes_to_the_chat(desk: Desk) -> None:
    """It is owed to the people, not to the topic."""
    desk.server.fail("sendMessage", 400, "message thread not found")
    await desk.send(reply(TEAM, 7), over("Answer"))

    sent = desk.server.of("sendMessage")
    assert [one.get("message_thread_id") for one in sent] == [7, None]


async def test_a_notice_is_one_message(desk: Desk) -> None:
    """It may point at a question and carry a button."""
    button = {"text": "Again", "data": "again"}
    await desk.send(notice("*Done*", reply_to=5, button=button))

    [sent] = desk.server.of("sendMessage")
    assert sent["text"] == "Done"
    assert sent["reply_parameters"]["message_id"] == 5
    assert sent["reply_markup"]["inline_keyboard"] == [
        [{"text": "Again", "callback_data": "again"}]
    ]


async def test_who_lost_the_lease_shows_nothing_more(desk: Desk) -> None:
    """A holder that was suspended must not touch what its successor shows."""
    views, journal = Views(running("Half")), MemoryJournal()
    task = desk.follow(views, journal)
    await desk.server.until_called("editMessageText", text="Half")
    journal.fenced = True
    views.show(over("Whole"))

    with pytest.raises(Fenced):
        await task

    assert desk.server.texts() == ["Half"]


async def test_a_drain_does_not_leave_words_in_doubt(desk: Desk) -> None:
    """A request that has left is let end before the delivery is handed over."""
    journal = MemoryJournal()
    task = desk.follow(Views(over("Answer")), journal)
    while not journal.history:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert desk.server.texts() == ["Answer"]
    assert [Part(DIRECT, "1")] == list(journal.parts)


async def test_edits_keep_the_pace_of_their_chat(server: Server, client: Client) -> None:
    """However fast the agent is, people see no more frames than the chat stands."""
    slow = replace(EAGER, edit=timedelta(milliseconds=150), slowest_edit=timedelta(seconds=1))
    sender = TelegramSender(client, bot=str(BOT), private=slow, times=TIMES)
    views = Views(running("0"))
    task = Desk(sender, server).follow(views)
    for number in range(60):
        views.show(running("word " * number))
        await asyncio.sleep(0.01)
    views.show(over("end"))
    await task

    edits = [call.at for call in server.calls if call.method == "editMessageText"]
    gaps = [later - earlier for earlier, later in pairwise(edits[:-1])]
    assert gaps
    assert min(gaps) >= 0.15


@pytest.mark.parametrize("spot", ["nonsense", "99:501"])
async def test_an_address_that_is_not_ours_is_refused(desk: Desk, spot: str) -> None:
    """Another bot's chats are not written to."""
    delivery = replace(reply(), address=Address(Channel.TELEGRAM, spot))

    with pytest.raises(ChannelError) as caught:
        await desk.send(delivery, over("Answer"))

    assert caught.value.permanent


@pytest.mark.parametrize(("chat", "pace"), [(ANN, PRIVATE), (TEAM, GROUP)])
async def test_long_replies_never_meet_a_flood(
    server: Server, client: Client, chat: int, pace: Pace
) -> None:
    """With the real proportions, a minute of two busy replies costs no strike at all."""
    faster = 60
    server.flood.on = True
    server.flood.clock = partial(_faster_clock, faster)
    scaled = replace(
        pace,
        refill=pace.refill / faster,
        edit=pace.edit / faster,
        slowest_edit=pace.slowest_edit / faster,
        patience=pace.patience / faster,
    )
    sender = TelegramSender(client, bot=str(BOT), private=scaled, group=scaled, times=TIMES)
    replies = [Views(running("0")), Views(running("0"))]
    tasks = [Desk(sender, server).follow(views, delivery=reply(chat)) for views in replies]
    for number in range(100):
        for views in replies:
            views.show(running("word " * number))
        await asyncio.sleep(0.01)
    for views in replies:
        views.show(over("The end."))
    await asyncio.gather(*tasks)

    assert (server.flood.strikes, server.texts(chat)) == (0, ["The end."] * 2)


def _faster_clock(times: int) -> float:
    return time.monotonic() * times


# -- while a person is waited for ---------------------------------------------------------------


async def waits(desk: Desk, *views: object, journal: MemoryJournal | None = None) -> None:
    """Deliver a reply up to where it waits."""
    with pytest.raises(TurnWaits):
        await desk.send(reply(), *views, journal=journal)


async def test_a_reply_that_waits_goes_on_in_its_message(desk: Desk) -> None:
    """The delivery ends for now; called again, it edits what is there."""
    journal = MemoryJournal()
    await waits(desk, waiting("Let me **see"), journal=journal)
    meanwhile = desk.server.shown()[0]
    texts, markup = desk.server.texts(), meanwhile.reply_markup
    views = Views(running("Let me **see**\n\nAh"))
    task = desk.follow(views, journal)
    await desk.server.until_called("editMessageText", text="Let me see\n\nAh")
    growing = meanwhile.reply_markup
    views.show(over("Let me see\n\nAh."))
    receipt = await task

    assert (texts, markup, growing) == (["Let me see\n\n⏳ Waiting for an answer…"], None, STOP)
    assert (desk.server.texts(), receipt) == (["Let me see\n\nAh."], Receipt(("1",)))


async def test_a_reply_that_waits_without_words_opens_nothing(desk: Desk) -> None:
    """The question is a message of its own, and enough."""
    journal = MemoryJournal()
    await waits(desk, waiting(), journal=journal)
    opened = desk.server.texts()
    receipt = await desk.send(reply(), over("Done."), journal=journal)

    assert (opened, receipt) == ([], Receipt(("1",)))
    assert journal.history == [("opening", DIRECT), ("opened", DIRECT)]


async def test_a_message_without_words_loses_its_button(desk: Desk) -> None:
    """What was opened while the agent worked stays, for what comes."""
    views, journal = Views(running()), MemoryJournal()
    task = desk.follow(views, journal)
    await desk.server.until_called("sendMessage", text="…")
    views.show(waiting())
    with pytest.raises(TurnWaits):
        await task

    [shown] = desk.server.shown()
    assert (shown.history, shown.markups) == (["…", "…"], [True, False])


async def test_typing_ends_while_a_person_is_waited_for(desk: Desk) -> None:
    """The bot is not at work."""
    views = Views(running())
    task = desk.follow(views)
    await desk.server.until_called("sendChatAction")
    views.show(waiting())
    with pytest.raises(TurnWaits):
        await task
    shown = len(desk.server.of("sendChatAction"))
    await asyncio.sleep(TIMES.typing.total_seconds() * 2)

    assert shown == len(desk.server.of("sendChatAction"))


async def test_a_pause_that_cannot_be_shown_is_no_failure(desk: Desk) -> None:
    """The delivery waits all the same, and the end of the reply is shown later."""
    journal = MemoryJournal()
    desk.server.fail("sendMessage", 500, times=10)
    await waits(desk, waiting("Let me see."), journal=journal)
    await desk.server.heal()
    await desk.send(reply(), over("Let me see. Done."), journal=journal)

    assert desk.server.texts() == ["Let me see. Done."]


async def test_a_chat_that_is_gone_ends_the_delivery(desk: Desk) -> None:
    """Nobody reads what would come."""
    desk.server.fail("sendMessage", 403, "bot was blocked by the user")

    with pytest.raises(AddressGone):
        await desk.send(reply(), waiting("Let me see."))


async def test_a_question_comes_with_its_buttons(desk: Desk) -> None:
    """Each choice has a row; what a button carries is no more than a place."""
    options = {"question": "7", "kind": "question", "choices": ["A", "B"]}
    await desk.send(notice("Which?", **options))

    rows = [[{"text": one, "callback_data": f"q:7:{at}"}] for at, one in enumerate("AB")]
    assert desk.server.of("sendMessage")[0]["reply_markup"] == {"inline_keyboard": rows}
