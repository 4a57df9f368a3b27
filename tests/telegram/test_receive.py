"""What becomes of an update: turns, commands, presses, refusals; each stored once."""

from __future__ import annotations

import asyncio
import json

import pytest

from handlers.telegram.commands import MENU
from handlers.telegram.receive import Receiver
from service.core.knobs import Select, Toggle
from service.core.model import Address, Channel
from service.core.states import InboxState
from service.engine.tasks import NewTask
from service.errors import StoreError
from service.store import tables
from service.store.database import Database
from tests.telegram.station import AGENTS, ME, Station
from tests.telegram.updates import (
    ANN,
    BOB,
    BOT,
    TEAM,
    Raw,
    document,
    group,
    mention,
    message,
    photo,
    press,
)


@pytest.fixture
def station(database: Database) -> Station:
    return Station(database)


@pytest.fixture
def receiver(station: Station) -> Receiver:
    return station.receiver()


KNOBS = {
    "mode": Select(
        name="mode", description="How *eager*.", default="slow", options=("slow", "fast")
    ),
    "loud": Toggle(name="loud", description="", momentary=True),
}


async def take(receiver: Receiver, *raws: Raw) -> None:
    """Receive updates one after the other, with numbers of their own."""
    for number, raw in enumerate(raws, start=1):
        raw = {**raw, "update_id": raw.get("number", number)}
        await receiver.receive(raw, json.dumps(raw).encode(), ME)
    await receiver.close()


async def test_words_become_a_turn_of_the_chats_session(
    station: Station, receiver: Receiver
) -> None:
    """The session lives at the chat, is sticky, and has the usual agent."""
    await take(receiver, message("Hello"), message("again"))

    [session] = await station.sessions()
    assert await station.turns() == [("queued", "telegram:501")] * 2
    assert await station.said() == ["Hello", "again"]
    assert (f"telegram:{BOT}:{ANN}", f"telegram {BOT}:{ANN}", "trigger", True) == (
        session.key,
        session.home,
        session.source,
        session.sticky,
    )


async def test_the_raw_update_is_kept(station: Station, receiver: Receiver) -> None:
    """What came is there byte for byte, beside what was made of it."""
    await take(receiver, message("Hello"))

    assert [json.dumps({**message("Hello"), "update_id": 1}).encode()] == await station.bodies()


async def test_each_topic_has_its_own_session(station: Station, receiver: Receiver) -> None:
    """A forum holds many conversations."""
    text = "@test_bot hi"
    topics = [
        message(
            text,
            chat=group(),
            entities=[mention(text)],
            message_thread_id=topic,
            is_topic_message=True,
        )
        for topic in (7, 8)
    ]
    await take(receiver, *topics)

    keys = [session.key for session in await station.sessions()]
    assert [f"telegram:{BOT}:{TEAM}:7", f"telegram:{BOT}:{TEAM}:8"] == sorted(keys)


async def test_the_same_update_makes_one_turn(station: Station, receiver: Receiver) -> None:
    """However often it comes, also at the same time."""
    raw = message("Hello") | {"update_id": 7}
    await asyncio.gather(*(receiver.receive(raw, b"{}", ME) for _ in range(100)))

    assert len(await station.turns()) == 1


async def test_the_same_command_is_carried_out_once(station: Station, receiver: Receiver) -> None:
    """A second delivery of `/new` makes no second session."""
    raw = message("/new") | {"update_id": 7}
    for _ in range(3):
        await receiver.receive(raw, b"{}", ME)

    assert (len(await station.sessions()), len(await station.notices())) == (1, 1)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (message("hi", sender=BOB), "the person 502 is not in telegram.allow"),
        (message("/new", sender=BOB), "the person 502 is not in telegram.allow"),
        (message(photo=photo(), sender=BOB), "the person 502 is not in telegram.allow"),
        (message("hi", chat=group(-77)), "the group -77 is not in telegram.allow"),
        (message("/start", chat=group(-77)), "the group -77 is not in telegram.allow"),
    ],
)
async def test_strangers_are_noted_and_not_answered(
    station: Station, receiver: Receiver, raw: Raw, reason: str
) -> None:
    """They cannot even tell whether anybody listens."""
    await take(receiver, raw)

    assert [("ignored", reason)] == await station.inbox()
    assert (await station.turns(), await station.notices()) == ([], [])


async def test_an_empty_list_means_nobody(station: Station) -> None:
    """A fresh configuration answers no one."""
    await take(station.receiver(allow=frozenset()), message("hi"))

    assert await station.turns() == []


async def test_a_stranger_who_starts_the_bot_learns_their_number_once(
    station: Station, receiver: Receiver
) -> None:
    """That is what the operator needs, and all there is to learn."""
    await take(receiver, *[message("/start", sender=BOB)] * 3)

    [(spot, text, _)] = await station.notices()
    assert (f"{BOT}:{BOB}", True) == (spot, str(BOB) in text)


async def test_a_stranger_cannot_stop_a_turn(station: Station, receiver: Receiver) -> None:
    """Buttons ask the same rule as words."""
    await take(receiver, message("Hello"), press("stop:1", sender=BOB))

    assert station.answers == [("4382bf", "You may not use this bot.")]
    assert ("ignored", "the person 502 is not in telegram.allow") in await station.inbox()


async def test_everybody_in_a_listed_group_may_speak(station: Station, receiver: Receiver) -> None:
    """The author is the person all the same."""
    text = "@test_bot hi"
    await take(receiver, message(text, sender=BOB, chat=group(), entities=[mention(text)]))

    assert await station.turns() == [("queued", "telegram:502")]


async def test_group_talk_is_not_for_the_bot(station: Station, receiver: Receiver) -> None:
    """Unless somebody mentions it or answers it."""
    await take(receiver, message("hi all", chat=group()))

    assert await station.inbox() == [("ignored", "nobody in the group spoke to the bot")]


async def test_a_group_can_be_answered_always(station: Station) -> None:
    """`groups = "all"` takes every word as meant for the bot."""
    await take(station.receiver(groups="all"), message("hi all", chat=group()))

    assert await station.said() == ["hi all"]


async def test_a_malformed_update_is_quarantined(station: Station, receiver: Receiver) -> None:
    """It is kept with its reason, and the next one is answered."""
    await take(receiver, {"message": {"text": "x"}}, message("Hello"))

    assert (await station.inbox()) == [
        ("quarantined", "message.chat is not an object"),
        ("accepted", None),
    ]


async def test_an_update_without_a_number_is_quarantined(
    station: Station, receiver: Receiver
) -> None:
    """Its content is its key."""
    for _ in range(2):
        await receiver.receive([1, 2], b"[1, 2]", ME)

    assert await station.inbox() == [("quarantined", "the update has no number")]


async def test_an_edited_message_is_noted(station: Station, receiver: Receiver) -> None:
    """It is no second question."""
    await take(receiver, {"edited_message": message("Hello")["message"]})

    [(state, _)] = await station.inbox()
    assert InboxState.IGNORED.value == state


async def test_what_cannot_be_read_is_said_once_for_an_album(
    station: Station, receiver: Receiver
) -> None:
    """Ten videos sent together are one mistake."""
    await take(receiver, *[message(video={}, media_group_id="7")] * 3, message(sticker={}))

    assert [text for _, text, _ in await station.notices()] == [
        "I cannot read videos yet. Write to me in words, please.",
        "I cannot read stickers yet. Write to me in words, please.",
    ]


async def test_a_photo_in_a_group_is_nobodys_business(station: Station, receiver: Receiver) -> None:
    """The bot takes it, or complains, only when it was meant."""
    await take(receiver, message(photo=photo(), chat=group()), message(video={}, chat=group()))

    assert (await station.notices(), await station.turns()) == ([], [])


async def test_a_full_queue_is_told(station: Station, receiver: Receiver) -> None:
    """A message that was not taken must not just vanish."""
    await take(receiver, *[message(f"word {number}") for number in range(6)])

    [(_, text, _)] = await station.notices()
    assert text.startswith("Too many messages")
    assert len(await station.turns()) == 5


async def test_a_service_that_drains_stores_nothing(station: Station, receiver: Receiver) -> None:
    """The update must come again, to the next process."""
    await station.engine.intake.drain()

    with pytest.raises(StoreError):
        await take(receiver, message("Hello"))

    assert await station.inbox() == []


# -- files --------------------------------------------------------------------------------------


async def test_a_file_comes_with_its_message(station: Station, receiver: Receiver) -> None:
    """The turn is stored with what Telegram keeps it by, also when nothing was said."""
    await take(
        receiver, message(photo=photo(), caption="What is it?"), message(document=document())
    )

    assert await station.said() == ["What is it?", ""]
    assert await station.files() == [
        ("photo.jpg", "image/jpeg", "photo-1000", 1000),
        ("plan.pdf", "application/pdf", "document", 2000),
    ]


async def test_an_album_queues_up_behind_its_first_message(station: Station) -> None:
    """What follows it without words interrupts nothing, and in groups needs no mention."""
    caption = "@test_bot compare"
    marks = [mention(caption)]
    first = message(
        photo=photo(), chat=group(), media_group_id="7", caption=caption, caption_entities=marks
    )
    more = [message(photo=photo(size), chat=group(), media_group_id="7") for size in (2, 3)]
    await take(station.receiver(), first, *more, message(photo=photo(4), chat=group()))

    assert [remote for _, _, remote, _ in await station.files()] == [
        "photo-1000",
        "photo-2",
        "photo-3",
    ]
    assert await station.said() == ["compare", "", ""]
    assert await station.rung() == [("message", "group", "queue")] * 3


async def test_a_file_that_is_too_large_is_told(station: Station) -> None:
    """By what the sender's device says of it, and once for an album."""
    receiver = station.receiver(attachment_bytes=1500)
    large = message(document=document(), media_group_id="7", caption="Read this")
    await take(receiver, large, large, message(photo=photo(900, 1600)))

    assert [text for _, text, _ in await station.notices()] == [
        "That file is too large. I take files of up to 1.46 kB; send a smaller one, please."
    ]
    assert [remote for _, _, remote, _ in await station.files()] == ["photo-900"]


@pytest.mark.parametrize(
    ("size", "taken"), [(20 * 2**20, True), (20 * 2**20 + 1, False), (2**70, False)]
)
async def test_what_telegram_gives_to_no_bot_is_not_taken(
    station: Station, size: int, taken: bool
) -> None:
    """Whatever the limit of the service is."""
    receiver = station.receiver(attachment_bytes=2**30)
    await take(receiver, message(document=document(file_size=size)))

    told = [text for _, text, _ in await station.notices()]
    assert taken == (len(await station.turns()) == 1) == (told == [])
    assert taken or "up to 20 MB" in told[0]


@pytest.mark.parametrize(
    ("raw", "origin"),
    [
        (message("hi"), "person"),
        (message("@test_bot hi", chat=group(), entities=[mention("@test_bot hi")]), "group"),
        (
            message(
                "@test_bot hi",
                chat=group(),
                entities=[mention("@test_bot hi")],
                sender_chat={"id": TEAM, "type": "supergroup"},
            ),
            "group",
        ),
    ],
)
async def test_a_turn_knows_whether_a_person_speaks_for_themselves(
    station: Station, receiver: Receiver, raw: Raw, origin: str
) -> None:
    """Only in their own chat; what its tools may do follows from that."""
    await take(receiver, raw)

    assert await station.rung() == [("message", origin, "queue")]


# -- commands -----------------------------------------------------------------------------------


OLD = -55


async def test_a_group_that_became_a_supergroup_keeps_its_conversation(station: Station) -> None:
    """Under its new number, once an operator allowed that; also sessions it had before."""
    before = station.receiver(groups="all", allow=frozenset({OLD}))
    await take(before, message("one", chat=group(OLD)), message("/new", chat=group(OLD)))
    for number, session in enumerate(await station.sessions()):
        deliver = Address(Channel.TELEGRAM, f"{BOT}:{OLD}") if number == 0 else None
        made = NewTask("@daily", f"Task {number}.", "operator", made_in=session.id, deliver=deliver)
        await station.scheduler().add(made)

    after = station.receiver(groups="all", allow=frozenset({TEAM}))
    move = {**message(chat=group(OLD), migrate_to_chat_id=TEAM), "number": 3}
    await take(after, move, {**message("two", chat=group()), "number": 4})

    first, second = await station.sessions()
    assert [first.home, second.home] == [f"telegram {BOT}:{TEAM}"] * 2
    assert [first.key, second.key] == [None, f"telegram:{BOT}:{TEAM}"]
    assert await station.said() == ["one", "two"]
    assert (await station.inbox())[2] == (
        "accepted",
        f"the group {OLD} became {TEAM}: put that into telegram.allow",
    )
    views = await station.scheduler().tasks()
    assert [view.task.answer_to for view in views] == [
        (Address(Channel.TELEGRAM, f"{BOT}:{TEAM}"),)
    ] * 2


async def test_a_conversation_begun_under_the_new_number_stays(station: Station) -> None:
    """Whichever of the two updates is read first."""
    receiver = station.receiver(groups="all", allow=frozenset({OLD, TEAM}))
    move = message(chat=group(OLD), migrate_to_chat_id=TEAM)
    await take(receiver, message("old", chat=group(OLD)), message("new", chat=group()), move)

    old, new = await station.sessions()

    assert (old.key, new.key) == (f"telegram:{BOT}:{OLD}", f"telegram:{BOT}:{TEAM}")


async def told(station: Station) -> str:
    """The last notice."""
    return (await station.notices())[-1][1]


@pytest.mark.parametrize("command", ["/start", "/help"])
async def test_help_names_commands_and_agents(
    station: Station, receiver: Receiver, command: str
) -> None:
    """Who starts the bot reads what it can do."""
    await take(receiver, message(command))

    text = await told(station)
    named = [f"/{name}" for name in MENU if name != "help"]
    assert all(word in text for word in (*named, *AGENTS))
    assert len(text) < 1200


async def test_new_moves_the_chat_to_a_fresh_session(station: Station, receiver: Receiver) -> None:
    """The old one keeps its history and its binding."""
    await take(receiver, message("Hello"), message("/new coder"), message("Write"))

    old, new = await station.sessions()
    assert (None, f"telegram:{BOT}:{ANN}") == (old.key, new.key)
    assert await told(station) == "A new session with **coder** (`code*r`)."


async def test_an_unknown_agent_is_not_started(station: Station, receiver: Receiver) -> None:
    """The answer lists the ones there are."""
    await take(receiver, message("/new `nobody`"))

    assert (
        await told(station)
    ) == "There is no agent or composition `nobody`. Choose one of `assistant`, `coder`, `duo`."
    assert await station.sessions() == []


async def test_stop_stops_what_runs_and_what_waits(station: Station, receiver: Receiver) -> None:
    """Nothing of the session is left to do."""
    await take(receiver, message("one"), message("two"), message("/stop"))

    assert await told(station) == "Stopped."
    assert [state for state, _ in await station.turns()] == ["stopped", "stopped"]


async def test_stop_without_anything_to_stop_says_so(station: Station, receiver: Receiver) -> None:
    """People are not left wondering."""
    await take(receiver, message("/stop"))

    assert await told(station) == "Nothing is running."


async def test_status_tells_how_the_session_is(station: Station, receiver: Receiver) -> None:
    """Title, agent, state: taken literally, whatever they contain."""
    await take(receiver, message("Is *this* bold?"), message("/status"))

    text = await told(station)
    assert "**Is \\*this\\* bold?**" in text
    assert "Agent: `assistant`, model `echo` of `offline`" in text
    assert "State: waiting for its turn" in text


async def test_status_tells_what_it_cost_and_that_it_is_summed_up(
    station: Station, receiver: Receiver
) -> None:
    """Only when there is something to tell."""
    await take(receiver, message("Hello"), message("/status"))
    before = await told(station)
    usage = {"cost_micros": 12_340}
    await station.change(tables.turns.update().values(usage=usage, processing_ms=83_000))
    await station.change(tables.sessions.update().values(summary="They said hello."))
    await take(receiver, message("/status") | {"number": 7})

    after = await told(station)
    assert [one in before for one in ("$", "Context:", "questions")] == [False] * 3
    assert "Worked for 1 min, 0 tokens, $0.0123" in after
    assert "Context: what was said" in after


async def test_status_of_no_session_says_how_to_begin(station: Station, receiver: Receiver) -> None:
    """A chat without a word has no session."""
    await take(receiver, message("/status"))

    assert await told(station) == "No session yet. Write something, and `assistant` answers."


async def test_sessions_lists_those_of_the_chat(station: Station, receiver: Receiver) -> None:
    """The newest first, the current one marked."""
    await take(receiver, message("First"), message("/new"), message("Second"))
    await take(receiver, message("/sessions") | {"number": 9})

    lines = (await told(station)).splitlines()
    assert ("**" in lines[0], "(current)" in lines[0], "First" in lines[1]) == (True, True, True)


async def test_of_sessions_without_a_word_only_the_newest_is_listed(
    station: Station, receiver: Receiver
) -> None:
    """Whoever begins anew several times finds no ghosts between what was said."""
    await take(receiver, message("First"), *[message("/new")] * 3)
    await take(receiver, message("/sessions") | {"number": 9})

    lines = (await told(station)).splitlines()
    assert ["(current)" in line for line in lines] == [True, False]
    assert "First" in lines[1]


@pytest.mark.parametrize(("command", "hint"), [("/statsu", "/status"), ("/frobnicate", "/help")])
async def test_an_unknown_command_gets_a_hint(
    station: Station, receiver: Receiver, command: str, hint: str
) -> None:
    """The nearest name, or where to find all of them."""
    await take(receiver, message(command))

    assert hint in await told(station)


async def test_an_unknown_command_in_a_group_is_for_another_bot(
    station: Station, receiver: Receiver
) -> None:
    """Several bots share a group; a known command without a name is taken."""
    await take(receiver, message("/frobnicate", chat=group()), message("/status", chat=group()))

    [(spot, _, options)] = await station.notices()
    assert (f"{BOT}:{TEAM}", {"reply_to": 12}) == (spot, options)


async def test_interrupt_needs_something_that_runs(station: Station, receiver: Receiver) -> None:
    """With words it is a message like others then, also in a chat without a session."""
    await take(receiver, message("/interrupt"), message("/interrupt Hello"), message("/interrupt"))

    assert [text for _, text, _ in await station.notices()] == ["Nothing is running."] * 2
    assert await station.said() == ["Hello"]


async def test_only_the_owner_interrupts(station: Station, receiver: Receiver) -> None:
    """Who did not begin the session is told so, and the attempt is written down."""
    text = "@test_bot hi"
    await take(
        receiver,
        message(text, chat=group(), entities=[mention(text)]),
        message("/interrupt", sender=BOB, chat=group()),
        message("/interrupt do this", sender=BOB, chat=group()),
    )

    refused = "Only the owner of this session may interrupt it."
    assert [text for _, text, _ in await station.notices()] == [refused] * 2
    assert await station.said() == ["hi"]
    assert await station.audited() == [("telegram:502", "interrupt", False)] * 2


@pytest.mark.parametrize(("command", "kind"), [("/compact", "compact"), ("/rerun", "render")])
async def test_some_commands_are_turns(
    station: Station, receiver: Receiver, command: str, kind: str
) -> None:
    """They wait their turn like messages, and are answered in the chat; once."""
    await take(receiver, message("Hello"), message(command) | {"number": 7})
    await take(receiver, message(command) | {"number": 7})

    assert await station.rung() == [("message", "person", "queue"), (kind, "person", "queue")]
    assert (await station.said(), await station.notices()) == (["Hello"], [])


@pytest.mark.parametrize("command", ["/compact", "/rerun", "/clear", "/knobs", "/set mode fast"])
async def test_a_chat_without_a_session_is_told_so(
    station: Station, receiver: Receiver, command: str
) -> None:
    """Nothing is begun that nobody said anything in."""
    await take(receiver, message(command))

    assert await told(station) == "No session yet. Write something to start one."
    assert await station.sessions() == []


async def test_clear_lets_the_context_begin_anew(station: Station, receiver: Receiver) -> None:
    """The history keeps everything, and a line where it was."""
    await take(receiver, message("Hello"), message("/clear"), message("again"))

    assert await told(station) == (
        "The agent does not see what was said before. The history is kept."
    )
    first, line, last = await station.said()
    assert (first, "before this line" in line, last) == ("Hello", True, "again")


async def test_knobs_are_listed_and_set(station: Station, receiver: Receiver) -> None:
    """With their values and what they take, literally."""
    station.engine.agents.knobs_ = KNOBS
    await take(
        receiver,
        message("Hello"),
        message("/set mode FAST"),
        message("/set loud on"),
        message("/knobs"),
    )

    texts = [text for _, text, _ in await station.notices()]
    assert texts[:2] == ["`mode` is now `fast`.", "`loud` is now `on`."]
    assert texts[2].splitlines() == [
        "- `mode` = `fast`: How \\*eager\\*. Takes one of slow, fast.",
        "- `loud` = `on`: Takes on or off, for one turn.",
    ]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/set", "Write /set, a knob and its value. /knobs lists them."),
        ("/set mode", "Write /set, a knob and its value. /knobs lists them."),
        ("/set mode loud*", "mode takes one of slow, fast."),
        ("/set pace 1", "knob: there is no 'pace'; there are: loud, mode."),
    ],
)
async def test_a_knob_that_cannot_be_set_so_says_how(
    station: Station, receiver: Receiver, command: str, words: str
) -> None:
    """Nothing is changed, and the command counts as carried out."""
    station.engine.agents.knobs_ = KNOBS
    await take(receiver, message("Hello"), message(command))

    assert await told(station) == words
    assert [state for state, _ in await station.inbox()] == ["accepted"] * 2


async def test_an_agent_without_knobs_says_so(station: Station, receiver: Receiver) -> None:
    """An empty list would leave people wondering."""
    await take(receiver, message("Hello"), message("/knobs"))

    assert await told(station) == "The agent of this session has no knobs."


# -- the stop button ----------------------------------------------------------------------------


async def begin(station: Station, chat: int = ANN) -> str:
    """A turn whose answer goes to a chat."""
    home = Address(Channel.TELEGRAM, f"{BOT}:{chat}")
    outcome = await station.engine.accept(
        "Hello", source=str(BOT), session_key=f"telegram:{home.spot}", answer_to=(home,), home=home
    )
    assert isinstance(outcome.turn, str)
    return outcome.turn


async def test_the_button_stops_its_turn(station: Station, receiver: Receiver) -> None:
    """The press is answered, and the turn is over."""
    turn = await begin(station)
    await take(receiver, press(f"stop:{turn}"))

    assert station.answers == [("4382bf", "Stopping.")]
    assert [state for state, _ in await station.turns()] == ["stopped"]


async def test_a_second_press_changes_nothing(station: Station, receiver: Receiver) -> None:
    """It is told that it came late."""
    turn = await begin(station)
    await take(receiver, press(f"stop:{turn}"), press(f"stop:{turn}"))

    assert station.answers == [("4382bf", "Stopping."), ("4382bf", "It is over already.")]


async def test_a_button_stops_no_turn_of_another_chat(station: Station, receiver: Receiver) -> None:
    """Who forges a press from an allowed chat reaches that chat's turns only."""
    turn = await begin(station, chat=TEAM)
    await take(receiver, press(f"stop:{turn}"))

    assert station.answers == [("4382bf", "It is over already.")]
    assert [state for state, _ in await station.turns()] == ["queued"]


async def test_an_old_button_does_nothing(station: Station, receiver: Receiver) -> None:
    """Its presser is told."""
    await take(receiver, press("v0:old"))

    assert station.answers == [("4382bf", "This button does nothing any more.")]
