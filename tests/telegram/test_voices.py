"""Several voices in one chat: one message with all of them, and the commands that steer them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from handlers.telegram.client import Client
from handlers.telegram.receive import Receiver
from handlers.telegram.show import ended
from service.core.model import ReplyId
from service.core.reply import ReplyView, TurnView
from service.core.states import ReplyState, TurnState
from service.errors import ProviderRefused
from service.ports import TextDelta
from service.store import tables
from service.store.database import Database
from tests.engine.test_voices import Ensemble, says
from tests.telegram.conversing import conversing, press, until_text
from tests.telegram.server import Server
from tests.telegram.station import ME, Station
from tests.telegram.updates import BOB, Raw, group, message
from tests.telegram.updates import press as pressed


@pytest.fixture
def station(database: Database) -> Station:
    return Station(database)


@pytest.fixture
def receiver(station: Station) -> Receiver:
    return station.receiver()


class Talk:
    """Receives commands one after the other and tells what is answered."""

    def __init__(self, station: Station, receiver: Receiver) -> None:
        self.station = station
        self.receiver = receiver
        self.number = 0

    async def take(self, raw: Raw) -> None:
        self.number += 1
        numbered = {**raw, "update_id": self.number}
        await self.receiver.receive(numbered, json.dumps(numbered).encode(), ME)
        await self.receiver.close()

    async def say(self, text: str) -> str:
        """The newest notice after somebody wrote this."""
        await self.take(message(text))
        return (await self._newest())[1]

    async def buttons(self, text: str) -> Mapping[str, str]:
        """What the buttons under the answer carry, by their labels."""
        await self.take(message(text))
        rows: Sequence[Any] = (await self._newest())[2]["buttons"]
        return {label: data for row in rows for label, data in row}

    async def _newest(self) -> tuple[str, str, Raw]:
        return (await self.station.notices())[-1]

    async def session(self) -> Any:
        """The session of the chat."""
        [found] = [one for one in await self.station.sessions() if one.key is not None]
        return found


@pytest.fixture
def talk(station: Station, receiver: Receiver) -> Talk:
    return Talk(station, receiver)


def view(*replies: tuple[str, int, str, str | None], state: TurnState) -> TurnView:
    """A turn in which each of these voices said, or failed with, something in a round."""
    views = tuple(
        ReplyView(
            ReplyId(str(place)),
            name,
            ReplyState.ERROR if error else ReplyState.DONE,
            text,
            error,
            round=round_,
        )
        for place, (name, round_, text, error) in enumerate(replies)
    )
    return TurnView("turn", state, views, next((one.error for one in views if one.error), None))


# -- what is shown --------------------------------------------------------------------------------


def test_rounds_are_divided_from_each_other() -> None:
    """Every voice stands under its name; the first round needs no line before it."""
    two = view(
        ("Ada", 1, "A1", None),
        ("B*b", 1, "B1", None),
        ("Ada", 2, "A2", None),
        ("B*b", 2, "B2", None),
        ("Ada", 3, "A3", None),
        state=TurnState.SUCCEEDED,
    )

    shown = ended(two)

    first = "Ada\n\nA1\n\nB*b\n\nB1"
    second = "— Round 2 —\n\nAda\n\nA2\n\nB*b\n\nB2"
    assert shown.text == f"{first}\n\n{second}\n\n— Round 3 —\n\nAda\n\nA3"
    assert [one.type for one in shown.entities] == ["bold"] * 5


@pytest.mark.parametrize(
    ("said", "state", "expected"),
    [
        (("Here.", None), TurnState.SUCCEEDED, "Ada\n\nHalf\n\n⚠️ No *money*.\n\nBob\n\nHere."),
        (("", "Gone."), TurnState.FAILED, "Ada\n\nHalf\n\n⚠️ No *money*.\n\nBob\n\n⚠️ Gone."),
    ],
)
def test_an_error_stands_with_its_voice(
    said: tuple[str, str | None], state: TurnState, expected: str
) -> None:
    """And is not told again below, when all of them failed."""
    turn = view(("Ada", 1, "Half", "No *money*."), ("Bob", 1, *said), state=state)

    assert ended(turn).text == expected


async def test_voices_answer_in_one_message(
    database: Database, server: Server, client: Client
) -> None:
    """One fails, the other does not mind; there is one delivery for the turn."""
    agents = Ensemble(Ada=[[ProviderRefused("No money.")]], Bob=says("Here."))

    async with conversing(database, server, client, agents):
        await server.push(message("/new duo"))
        await until_text(server, "A new session with Ada, Bob.")
        await server.push(message("Hi"))
        await server.until(lambda: any("Here." in one for one in server.texts()))
        await until_text(server, "Ada\n\n⚠️ No money.\n\nBob\n\nHere.")

    assert len(server.shown()) == 2


async def test_a_voice_is_stopped_by_its_name(
    database: Database, server: Server, client: Client
) -> None:
    """The other goes on, in the same message."""
    hang, gate = asyncio.Event(), asyncio.Event()
    agents = Ensemble(
        Ada=[[TextDelta("Half"), hang]], Bob=[[gate, TextDelta("Whole"), *says("")[0][1:]]]
    )

    async with conversing(database, server, client, agents):
        await server.push(message("/new duo"), message("Hi"))
        await server.until(lambda: any("Half" in one for one in server.texts()))
        await server.push(message("/stop ada"))
        await until_text(server, "Ada stops.")
        gate.set()
        await until_text(server, "Ada\n\nHalf\n\nBob\n\nWhole")

    assert agents.heard["Bob"] != []


async def test_a_tapped_voice_answers_from_then_on(
    database: Database, server: Server, client: Client
) -> None:
    """Until everybody is tapped; the message with the buttons says what became of it."""
    agents = Ensemble(Ada=says("A1", "A2"), Bob=says("B1", "B2"))

    async with conversing(database, server, client, agents):
        await server.push(message("/new duo"), message("/to"))
        await until_text(server, "Who is to answer?")
        [offer] = [one for one in server.shown() if one.text == "Who is to answer?"]
        await press(server, offer, "Bob")
        await until_text(server, "Bob answers from now on.")
        await server.push(message("one"))
        await server.until(lambda: any("B1" in one for one in server.texts()))
        await server.push(message("/to all"))
        await until_text(server, "Everybody answers.")
        await server.push(message("two"))
        await server.until(lambda: any("A1" in one and "B2" in one for one in server.texts()))

    assert (len(agents.heard["Ada"]), len(agents.heard["Bob"])) == (1, 2)


# -- commands -------------------------------------------------------------------------------------


async def test_new_takes_a_composition(talk: Talk) -> None:
    """In small or capital letters; an unknown name lists what there is."""
    unknown = await talk.say("/new trio")
    told = await talk.say("/new DUO")
    session = await talk.session()

    known = "`assistant`, `coder`, `duo`"
    assert unknown == f"There is no agent or composition `trio`. Choose one of {known}."
    assert told == "A new session with **Ada**, **Bob**."
    assert (session.composition, session.agent, session.sticky) == ("duo", "assistant", True)


async def test_voices_has_a_line_for_each(talk: Talk) -> None:
    """What it is bound to, what it does, and for how long it goes on."""
    nobody = await talk.say("/voices")
    await talk.say("/new duo")
    await talk.say("/rounds bob 2")
    await talk.say("/to Ada")
    bob = tables.voices.c.name == "Bob"
    await talk.station.change(tables.voices.update().where(bob).values(active=False))

    told = await talk.say("/voices")

    assert nobody == "No session yet. Write something to start one."
    assert told.splitlines() == [
        "- **Ada**: `echo`, has said nothing yet, answers once, picked",
        "- **Bob**: `echo`, has said nothing yet, goes on for 2 rounds, resting",
    ]


async def test_mode_is_told_and_changed(talk: Talk) -> None:
    """What is no mode changes nothing."""
    await talk.say("/new duo")

    told = [await talk.say(f"/mode{words}") for words in ("", " Conductor", " loud", "")]

    conductor = "Mode `conductor`: only the voice that is named or picked answers."
    assert told == [
        "Mode `broadcast`: all voices that do not rest answer.",
        conductor,
        "Write /mode broadcast or /mode conductor.",
        conductor,
    ]


async def test_to_picks_by_name(talk: Talk) -> None:
    """Whoever is picked conducts; `all` ends that."""
    await talk.say("/new duo")

    picked = await talk.say("/to @bob")
    conducted = await talk.session()
    unknown = await talk.say("/to Eve")
    everybody = await talk.say("/to all")
    session = await talk.session()

    assert picked == "**Bob** answers from now on. /to all ends that."
    assert (conducted.mode, conducted.target_id is not None) == ("conductor", True)
    assert unknown == "There is no voice `Eve`. There are: **Ada**, **Bob**."
    assert everybody == "Everybody answers."
    assert (session.mode, session.target_id) == ("broadcast", None)


async def test_a_resting_voice_cannot_be_picked(talk: Talk) -> None:
    """Nor is there a button for it; nobody would answer."""
    await talk.say("/new duo")
    offered = await talk.buttons("/to")
    bob = tables.voices.c.name == "Bob"
    await talk.station.change(tables.voices.update().where(bob).values(active=False))

    told = await talk.say("/to Bob")
    left = await talk.buttons("/to")
    await talk.take(pressed(offered["Bob"]))

    assert told == "**Bob** is resting. Wake it in the console first."
    assert (list(offered), list(left)) == (["Ada", "Bob", "Everybody"], ["Ada", "Everybody"])
    assert talk.station.answers[-1][1] == "This button does nothing any more."
    assert (await talk.session()).target_id is None


async def test_a_button_of_an_earlier_session_picks_nobody(talk: Talk) -> None:
    """Its voice is none of the session that the chat has now."""
    await talk.say("/new duo")
    offered = await talk.buttons("/to")
    await talk.say("/new duo")

    await talk.take(pressed(offered["Bob"]))
    await talk.take(pressed("to:nonsense"))

    told = [words for _, words in talk.station.answers]
    assert told == ["This button does nothing any more."] * 2
    assert (await talk.session()).target_id is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("Ada 1", "**Ada** goes on for 1 round."),
        ("all 3", "Every voice goes on for 3 rounds."),
        ("@ada 0", "**Ada** answers once."),
        ("Eve 1", "There is no voice `Eve`. There are: **Ada**, **Bob**."),
    ],
)
async def test_rounds_are_set(talk: Talk, words: str, told: str) -> None:
    """For one voice or for all of them."""
    await talk.say("/new duo")

    assert await talk.say(f"/rounds {words}") == told


@pytest.mark.parametrize("words", ["", "Ada", "all 4", "Ada -1", "Ada ²", "3"])
async def test_rounds_without_sense_change_nothing(talk: Talk, words: str) -> None:
    """And say how it is written."""
    await talk.say("/new duo")

    told = await talk.say(f"/rounds {words}")

    assert told == "Write /rounds, a voice or all, and how often it may go on: 0 to 3."


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "Nothing is running."),
        ("Ada", "**Ada** says nothing at the moment."),
        (
            "Eve",
            "There is no voice `Eve`. There are: **Ada**, **Bob**. /stop alone stops all of them.",
        ),
    ],
)
async def test_stop_names_what_it_cannot_stop(talk: Talk, words: str, told: str) -> None:
    """A name that nobody has stops nobody."""
    await talk.say("/new duo")

    assert await talk.say(f"/stop {words}") == told


async def test_words_after_stop_are_no_name_where_there_is_one_voice(talk: Talk) -> None:
    """Whoever is in a hurry writes more than the command."""
    await talk.take(message("Hi"))

    assert await talk.say("/stop it please") == "Stopped."


# -- keeping --------------------------------------------------------------------------------------


async def test_a_session_is_named_and_put_away(talk: Talk) -> None:
    """What is pinned, or has something to do, stays; the chat begins anew afterwards."""
    await talk.take(message("Hi"))
    told = [await talk.say(f"/{one}") for one in ("title", "title  My *own*  words", "archive")]
    told += [await talk.say(f"/{one}") for one in ("unpin", "archive", "stop", "archive")]
    gone = await talk.say("/pin")
    await talk.say("/new")
    pinned = await talk.say("/pin")

    assert told == [
        "Write /title and a name of 1 to 200 characters.",
        r"This session is called **My \*own\* words** now.",
        "The session is pinned. /unpin it first.",
        "No longer pinned.",
        "The session has something to do. /stop it first, or wait until it is done.",
        "Stopped.",
        "Archived. What you write next begins a new session.",
    ]
    assert (gone, pinned) == ("No session yet. Write something to start one.", "Pinned.")


async def test_sessions_lists_what_is_put_away(talk: Talk) -> None:
    """Only the list that is asked for; other words say which there are."""
    await talk.say("/new")
    await talk.say("/title Old")
    await talk.say("/unpin")
    empty = await talk.say("/sessions archived")
    await talk.say("/archive")

    archived = await talk.say("/sessions Archived")
    told = [await talk.say(f"/sessions{one}") for one in ("", " scheduled", " new")]

    assert (empty, archived.startswith("1. Old, `assistant`")) == ("Nothing is archived.", True)
    assert told == [
        "No session yet. Write something to start one.",
        "No task has said anything here.",
        "Write /sessions, /sessions archived or /sessions scheduled.",
    ]


async def _put_away(talk: Talk, title: str) -> None:
    """Begin a session of this title and archive it."""
    for one in ("new", f"title {title}", "unpin", "archive"):
        await talk.say(f"/{one}")


async def test_the_last_archived_session_is_brought_back(talk: Talk) -> None:
    """What is written next goes on there, not in the one that was begun since."""
    await _put_away(talk, "Older")
    await _put_away(talk, "Newer")
    await talk.say("/new")

    told = await talk.say("/restore")

    assert told == "**Newer** is restored. What you write next goes on there."
    assert (await talk.session()).title == "Newer"
    assert (await talk.say("/sessions archived")).startswith("1. Older, ")


async def test_an_archived_session_is_brought_back_by_its_number(talk: Talk) -> None:
    """By the one that its list shows."""
    for title in ("One", "Two", "Three"):
        await _put_away(talk, title)
    listed = await talk.say("/sessions archived")
    wrong = [await talk.say(f"/restore {one}") for one in ("0", "4", "two", "-1", "²", "9" * 5000)]

    told = await talk.say("/restore 2")

    assert [line.split(",")[0] for line in listed.splitlines()] == ["1. Three", "2. Two", "3. One"]
    assert set(wrong) == {
        "Write /restore, or /restore and a number from 1 to 3: /sessions archived lists them."
    }
    assert told.startswith("**Two** is restored.")
    assert (await talk.session()).title == "Two"


async def test_without_an_archive_there_is_nothing_to_restore(talk: Talk) -> None:
    """Sessions of other chats are none of this one's."""
    await _put_away(talk, "Ann's")
    await talk.take(message("/restore@test_bot", chat=group()))
    elsewhere = (await talk.station.notices())[-1][1]
    await talk.say("/restore")

    again = await talk.say("/restore")

    assert (elsewhere, again) == ("Nothing is archived.", "Nothing is archived.")


async def test_a_chat_goes_on_in_an_earlier_session(talk: Talk) -> None:
    """By its button below the list; the one it comes from keeps its history and has one, too."""
    for one in ("Hi", "/title Milk and *honey*", "/new", "Ho", f"/title {'long ' * 12}"):
        await talk.take(message(one))
    offered = await talk.buttons("/sessions")
    for _ in range(2):
        await talk.take(pressed(offered["Milk and *honey*"]))
    again = await talk.buttons("/sessions")

    assert [words for _, words in talk.station.answers] == [
        "Got it.",
        "This button does nothing any more.",
    ]
    assert [words for _, _, words in talk.station.edits] == [
        "Milk and *honey* is this chat's session. Write on."
    ]
    assert (await talk.session()).title == "Milk and *honey*"
    assert list(again) == ["long long long long long long long long…"]


async def test_a_chat_goes_on_in_no_session_that_is_not_its_own(talk: Talk) -> None:
    """Nor in one that is archived, whoever forges the button; alone it has no button."""
    await talk.take(message("Hi"))
    await talk.take(message("/sessions"))
    [alone] = [options for _, _, options in await talk.station.notices()]
    mine = (await talk.session()).id
    await talk.say("/new")
    await talk.say("/unpin")
    gone = (await talk.session()).id
    await talk.say("/archive")

    for one in (f"switch:{gone}", "switch:nonsense", "switch:"):
        await talk.take(pressed(one))
    await talk.take(pressed(f"switch:{mine}", chat=group()))

    assert "buttons" not in alone
    assert {words for _, words in talk.station.answers} == {"This button does nothing any more."}
    assert all(one.key is None for one in await talk.station.sessions())


async def test_a_pinned_session_is_put_away_with_a_button(talk: Talk) -> None:
    """One press does both; a second one finds nothing to do."""
    offered = await _offered(talk)
    for _ in range(2):
        await talk.take(pressed(offered))

    assert [words for _, words in talk.station.answers] == [
        "Got it.",
        "This button does nothing any more.",
    ]
    assert [words for _, _, words in talk.station.edits] == [
        "Archived. What you write next begins a new session."
    ]
    assert (await talk.say("/sessions archived")).startswith("1. Untitled session, ")


async def test_only_the_owner_puts_a_session_away(talk: Talk) -> None:
    """Who did not begin it is told so, and the attempts are written down; the button stays."""
    await talk.take(message("/new", chat=group()))
    session = await talk.session()
    await talk.take(message("/archive", chat=group(), sender=BOB))
    refused = (await talk.station.notices())[-1]
    await talk.take(pressed(f"archive:{session.id}", chat=group(), sender=BOB))
    kept = await talk.session()
    await talk.take(pressed(f"archive:{session.id}", chat=group()))

    words = "Only the owner of this session may archive it. /new begins another one."
    assert (refused[1], "buttons" in refused[2]) == (words, False)
    assert [told for _, told in talk.station.answers] == [words, "Got it."]
    assert [shown for _, _, shown in talk.station.edits] == [
        "Archived. What you write next begins a new session."
    ]
    assert (kept.id, kept.sticky) == (session.id, True)
    assert await talk.station.audited() == [
        *[("telegram:502", "archive", False)] * 2,
        ("telegram:501", "archive", True),
    ]


async def test_what_is_busy_stays_pinned(talk: Talk) -> None:
    """The press says why nothing was done."""
    offered = await _offered(talk)
    await talk.take(message("Hi"))
    await talk.take(pressed(offered))

    assert talk.station.edits[-1][2].startswith("The session has something to do.")
    assert (await talk.session()).sticky


async def test_the_button_of_another_session_puts_nothing_away(talk: Talk) -> None:
    """Neither of an earlier one, nor one that was made up."""
    offered = await _offered(talk)
    await talk.say("/new")
    for one in (offered, "archive:nonsense", "archive:"):
        await talk.take(pressed(one))

    assert {words for _, words in talk.station.answers} == {"This button does nothing any more."}
    assert await talk.say("/sessions archived") == "Nothing is archived."


async def _offered(talk: Talk) -> str:
    """What the button carries that comes with the refusal to archive what is pinned."""
    await talk.say("/new")
    [(label, data)] = (await talk.buttons("/archive")).items()
    assert (label, talk.station.answers) == ("Unpin and archive", [])
    return data


async def test_sessions_of_tasks_are_listed_where_they_spoke(talk: Talk) -> None:
    """Not those of tasks that told somebody else."""
    await talk.take(message("Hi"))
    session = await talk.session()
    await talk.station.change(tables.sessions.update().values(task="hourly", title="hourly"))
    before = await talk.say("/sessions scheduled")
    spot = (await talk.station.notices())[0][0]
    said = tables.deliveries.update().where(tables.deliveries.c.spot == spot)
    await talk.station.change(said.values(session_id=session.id))

    after = await talk.say("/sessions scheduled")

    assert before == "No task has said anything here."
    assert after.startswith("- **hourly** (current), `assistant`")
