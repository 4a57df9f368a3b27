"""Agents that ask in a chat: buttons, typed answers, approvals, and who may give them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from handlers.telegram.client import Client
from handlers.telegram.send import TelegramSender
from service.engine.questions import PROMPT_USER
from service.ports import Finished, TextDelta, ToolCall, ToolSpec
from service.store.database import Database
from tests.engine.engine import Engine
from tests.fakes import ScriptedAgents
from tests.telegram.conversing import asked, conversing, labels, press, until_text
from tests.telegram.hurry import EAGER, TIMES
from tests.telegram.server import Server
from tests.telegram.station import ME, Station
from tests.telegram.updates import ANN, BOB, BOT, TEAM, message

POST = ToolSpec("post", "Posts words.", {"type": "object"}, outward=True, approval=True)
# Nothing is opened for a reply that is whole by then.
PATIENT = replace(TIMES, grace=timedelta(seconds=10))
ARGUMENTS = '{"words": "*Hi* `there`"}'


def asking(choices: Sequence[str] = ("A", "B"), *, words: str = "Let me see.") -> ScriptedAgents:
    """A model that asks once and then is done."""
    arguments = json.dumps({"question": "Which *one*?", "choices": list(choices)})
    said = [TextDelta(words)] if words else []
    return ScriptedAgents(
        [
            [*said, ToolCall("q", "prompt_user", arguments), Finished()],
            [TextDelta("Done."), Finished()],
        ],
        tools_=[PROMPT_USER],
    )


def approving() -> ScriptedAgents:
    """A model that wants to run a tool nobody has agreed to yet."""
    scripts = [
        [ToolCall("p", "post", ARGUMENTS), Finished()],
        [TextDelta("Done."), Finished()],
    ]
    return ScriptedAgents(scripts, tools_=[POST])  # type: ignore[arg-type]


def heard(agents: ScriptedAgents) -> str:
    """What the model was told of its call."""
    return agents.prompts[1].steps[0].results[0].text


async def test_a_pressed_button_answers_a_question(
    database: Database, server: Server, client: Client
) -> None:
    """The reply goes on in its message, and the question shows what was chosen."""
    agents = asking()

    async with conversing(database, server, client, agents):
        await server.push(message("Hi"))
        question = await asked(server, "Which one?")
        await until_text(server, "Let me see.\n\n⏳ Waiting for an answer…")
        [reply] = [one for one in server.shown() if one is not question]
        waiting, offered = reply.reply_markup, labels(question)
        await press(server, question, "B")
        await until_text(server, "Let me see.\n\nDone.")
        await until_text(server, "Which one?\n\nYou chose: B")

    assert (waiting, offered, heard(agents)) == (None, ["A", "B"], "B")
    assert (len(server.shown()), question.reply_markup) == (2, None)
    assert [one["text"] for one in server.of("answerCallbackQuery")] == ["Got it."]


async def test_an_agent_that_says_nothing_can_ask(
    database: Database, server: Server, client: Client
) -> None:
    """The question stands for itself; the reply is there when there is something to say."""
    agents = asking(words="")

    async with conversing(database, server, client, agents, times=PATIENT):
        await server.push(message("Hi"))
        question = await asked(server, "Which one?")
        await press(server, question, "A")
        await until_text(server, "Done.")
        await until_text(server, "Which one?\n\nYou chose: A")

    assert server.texts() == ["Which one?\n\nYou chose: A", "Done."]


async def test_a_typed_answer_does_too(database: Database, server: Server, client: Client) -> None:
    """Nothing is said about it; a button pressed later only shows what was answered."""
    agents = asking()

    async with conversing(database, server, client, agents):
        await server.push(message("Hi"))
        question = await asked(server, "Which one?")
        await server.push(message("Neither\nof *them*"))
        await until_text(server, "Let me see.\n\nDone.")
        await press(server, question, "B")
        await until_text(server, "Which one?\n\nYou answered: Neither of *them*")

    assert heard(agents) == "Neither\nof *them*"
    assert len(server.shown()) == 2
    assert server.of("answerCallbackQuery")[0]["text"] == "That question is closed."


async def test_a_question_without_choices_says_how_to_answer(
    database: Database, server: Server, client: Client
) -> None:
    """There are no buttons; the next message is the answer."""
    agents = asking(())

    async with conversing(database, server, client, agents):
        await server.push(message("Hi"))
        question = await asked(server, "Which one?")
        await server.push(message("Blue"))
        await until_text(server, "Let me see.\n\nDone.")

    assert (question.text, labels(question)) == ("Which one?\n\nReply with your answer.", [])
    assert heard(agents) == "Blue"


@pytest.mark.parametrize(
    ("label", "outcome", "result", "runs"),
    [
        ("✅ Approve", "✅ Approved by you", "post ran", 1),
        ("🚫 Deny", "🚫 Denied by you", "Not run: the person did not approve it.", 0),
    ],
)
async def test_an_approval_is_given_or_not(
    database: Database,
    server: Server,
    client: Client,
    label: str,
    outcome: str,
    result: str,
    runs: int,
) -> None:
    """The chat shows the tool and its arguments exactly; the tool runs only when approved."""
    agents = approving()

    async with conversing(database, server, client, agents):
        await server.push(message("Post it"))
        question = await asked(server, "May I run post?")
        shown, offered = question.text, labels(question)
        await press(server, question, label)
        await until_text(server, f"{shown}\n\n{outcome}")
        await until_text(server, "Done.")

    assert json.dumps(json.loads(ARGUMENTS), indent=2) in shown
    assert offered == ["✅ Approve", "🚫 Deny"]
    assert (heard(agents), len(agents.calls)) == (result, runs)


async def test_only_who_was_asked_may_answer(
    database: Database, server: Server, client: Client
) -> None:
    """In a group others see the buttons; theirs is only a sentence nobody else reads."""
    agents = approving()
    await server.open_chat(TEAM)

    async with conversing(database, server, client, agents):
        await server.send_text("@test_bot post it", chat=TEAM, user=ANN)
        question = await asked(server, "May I run post?", chat=TEAM)
        await press(server, question, "✅ Approve", user=BOB)
        await server.until_called("answerCallbackQuery")
        still = labels(question)
        await press(server, question, "🚫 Deny", user=ANN)
        await until_text(server, "Done.", chat=TEAM)
        await server.until(lambda: question.text.endswith("🚫 Denied by Ann"))

    refused, taken = (one["text"] for one in server.of("answerCallbackQuery"))
    assert (refused, taken) == ("Only the person who was asked may answer.", "Got it.")
    assert (still, agents.calls) == (["✅ Approve", "🚫 Deny"], [])


async def test_a_second_press_changes_nothing(
    database: Database, server: Server, client: Client
) -> None:
    """The first counts, also when both come at once."""
    agents = approving()

    async with conversing(database, server, client, agents):
        await server.push(message("Post it"))
        question = await asked(server, "May I run post?")
        await asyncio.gather(
            press(server, question, "🚫 Deny"), press(server, question, "✅ Approve")
        )
        await until_text(server, "Done.")
        await server.until_called("answerCallbackQuery", 2)

    told = [one["text"] for one in server.of("answerCallbackQuery")]
    assert sorted(told) == ["Got it.", "That question is closed."]
    assert agents.calls == []


async def test_a_button_works_after_a_restart(
    database: Database, server: Server, client: Client
) -> None:
    """What it names is in the database; once it is over, the next press is told so."""
    first, second = asking(), asking()
    second.scripts = [[TextDelta("Done."), Finished()]]

    station = Station(database)
    sender = TelegramSender(client, bot=str(BOT), private=EAGER, group=EAGER, times=TIMES)
    station.engine = Engine(database, first, sender)  # type: ignore[arg-type]
    station.engine.start()
    await station.receiver().receive({**message("Hi"), "update_id": 1}, b"{}", ME)
    question = await asked(server, "Which one?")
    await station.engine.stop()
    async with conversing(database, server, client, second):
        await press(server, question, "A")
        await until_text(server, "Let me see.\n\nDone.")
        await server.until(lambda: question.reply_markup is None)
    stale = question.versions[0].reply_markup
    assert stale is not None
    async with conversing(database, server, client, second):
        data = stale["inline_keyboard"][0][0]["callback_data"]
        await server.press(question.id, data, chat=ANN)
        await server.until_called("answerCallbackQuery", 2)

    assert len(server.shown()) == 2
    assert server.of("answerCallbackQuery")[1]["text"] == "That question is closed."


async def test_an_edit_that_fails_loses_no_answer(
    database: Database, server: Server, client: Client
) -> None:
    """The buttons stay, and pressing one again takes them away."""
    agents = asking(words="")

    async with conversing(database, server, client, agents, times=PATIENT):
        await server.push(message("Hi"))
        question = await asked(server, "Which one?")
        server.fail("editMessageText", 500, "Oops")
        await press(server, question, "A")
        await until_text(server, "Done.")
        await press(server, question, "B")
        await until_text(server, "Which one?\n\nYou chose: A")

    assert (heard(agents), question.reply_markup) == ("A", None)


async def test_a_waiting_reply_can_be_stopped(
    database: Database, server: Server, client: Client
) -> None:
    """It ends in its own message, and the question's buttons are dead."""
    agents = asking()

    async with conversing(database, server, client, agents):
        await server.push(message("Hi"))
        question = await asked(server, "Which one?")
        await until_text(server, "Let me see.\n\n⏳ Waiting for an answer…")
        await server.push(message("/stop"))
        await until_text(server, "Let me see.\n\n(stopped)")
        await press(server, question, "A")
        await until_text(server, "Which one?\n\nIt was withdrawn.")

    assert server.of("answerCallbackQuery")[0]["text"] == "That question is closed."


# -- interruptions, and what is open --------------------------------------------------------------


async def test_the_owner_interrupts_a_running_turn(
    database: Database, server: Server, client: Client
) -> None:
    """It comes to a boundary and ends; a second time changes nothing."""
    boundary = asyncio.Event()
    agents = ScriptedAgents(
        [
            [TextDelta("Step one."), boundary, ToolCall("n", "note", "{}"), Finished()],
            [TextDelta("How shall I go on?"), Finished()],
        ],
        tools_=[ToolSpec("note", "Notes.", {"type": "object"})],
    )

    async with conversing(database, server, client, agents):
        await server.push(message("Hi"))
        await until_text(server, "Step one.")
        await server.push(message("/interrupt"), message("/interrupt"))
        await until_text(server, "Stopping at the next step.")
        await until_text(server, "It is stopping at the next step already.")
        boundary.set()
        await server.until(lambda: any("How shall I go on?" in one for one in server.texts()))

    assert len(server.shown()) == 3


async def test_an_interruption_with_words_is_answered_next(
    database: Database, server: Server, client: Client
) -> None:
    """What ran comes to its boundary first; the words are stored once, with the interruption."""
    boundary = asyncio.Event()
    agents = ScriptedAgents(
        [
            [TextDelta("Step one."), boundary, ToolCall("n", "note", "{}"), Finished()],
            [TextDelta("As you wish."), Finished()],
        ],
        tools_=[ToolSpec("note", "Notes.", {"type": "object"})],
    )

    async with conversing(database, server, client, agents) as station:
        await server.push(message("Hi"))
        await until_text(server, "Step one.")
        await server.push(message("/interrupt do it otherwise"))
        await server.until_confirmed()
        boundary.set()
        await server.until(lambda: server.texts()[-1].startswith("As you wish."))
        said = await station.said()

    assert "do it otherwise" in said
    assert [one.text for one in agents.prompts[-1].history][-1] == "do it otherwise"


async def test_status_tells_of_open_questions(
    database: Database, server: Server, client: Client
) -> None:
    """That is why nothing moves."""
    agents = asking()

    async with conversing(database, server, client, agents):
        await server.push(message("Hi"))
        await asked(server, "Which one?")
        await server.push(message("/status"))
        await server.until(lambda: any("Open questions: 1" in one for one in server.texts()))

    [status] = [one for one in server.texts() if "Open questions" in one]
    assert "State: waiting for an answer" in status
