"""What the console says into a session that lives in a chat: the chat sees it, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from service.core.access import OPERATOR
from service.core.model import (
    Accepted,
    Address,
    Channel,
    NewAttachment,
    Role,
    TurnKind,
)
from service.core.states import TurnState
from service.engine.mirror import quoted
from service.engine.questions import PROMPT_USER
from service.ports import Finished, TextDelta, ToolCall
from service.store import sessions, tables
from service.store.database import Database
from tests.engine.engine import BINDING, CHAT, Engine, running
from tests.fakes import RememberingSender, ScriptedAgents

HEAD = "🖥 **Console**"


async def begun(engine: Engine, **fields: object) -> Accepted:
    """A session that lives in the chat, whose first turn is over."""
    accepted = await engine.accept("hi", answer_to=(CHAT,), home=CHAT, **fields)
    await engine.result(accepted.turn)
    return accepted


async def console(engine: Engine, at: Accepted, text: str = "", **fields: object) -> Accepted:
    """What an operator says in a session."""
    return await engine.accept(
        text,
        channel=Channel.CONSOLE,
        source="api",
        author=OPERATOR,
        session=at.session,
        session_key=None,
        **fields,
    )


async def sent(database: Database) -> list[tuple[Address, str | None, str | None]]:
    """All deliveries in their order: where to, the words of notices, the turns of answers."""
    table = tables.deliveries
    query = sa.select(table.c.channel, table.c.spot, table.c.text, table.c.turn_id)
    rows: Sequence[Any] = await database.read(_rows, query.order_by(table.c.id))
    return [(Address(Channel(row[0]), row[1]), row[2], row[3]) for row in rows]


def _rows(conn: sa.Connection, query: sa.Select[Any]) -> Sequence[Any]:
    return conn.execute(query).all()


async def until_sent(sender: RememberingSender, count: int) -> None:
    """Wait until so many deliveries were made."""
    async with asyncio.timeout(60):
        while len(sender.seen) < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("live", [False, True])
async def test_the_chat_sees_the_words_and_gets_the_answer(database: Database, live: bool) -> None:
    """In this order, each once, whether replies are shown while they grow or at their end."""
    sender = RememberingSender(live=live)

    async with running(database, sender=sender) as engine:
        first = await begun(engine)
        said = await console(engine, first, "Now *you*\n1. go")
        await engine.result(said.turn)
        await until_sent(sender, 3)

    assert await sent(database) == [
        (CHAT, None, first.turn),
        (CHAT, f"{HEAD}\n\n> Now \\*you\\*  \n> 1\\. go  ", None),
        (CHAT, None, said.turn),
    ]
    assert [one.turn for one, _ in sender.seen] == [first.turn, None, said.turn]


async def test_a_turn_without_words_is_announced(database: Database) -> None:
    """So that the answer does not come from nowhere."""
    async with running(database) as engine:
        first = await begun(engine)
        render = await console(engine, first, kind=TurnKind.RENDER)
        await engine.result(render.turn)

    assert (await sent(database))[1:] == [
        (CHAT, f"{HEAD}\n\n> _Go on._", None),
        (CHAT, None, render.turn),
    ]


async def test_a_summary_is_nothing_for_the_chat(database: Database) -> None:
    """Only what is said, or goes on, is shown."""
    async with running(database) as engine:
        first = await begun(engine)
        compact = await console(engine, first, kind=TurnKind.COMPACT)
        await engine.result(compact.turn)

    assert await sent(database) == [(CHAT, None, first.turn)]


async def test_what_the_chat_says_is_not_mirrored(database: Database) -> None:
    """Nor what a task says into the session: who rings says where the answer goes."""
    elsewhere = Address(Channel.TELEGRAM, "1:8")

    async with running(database) as engine:
        first = await begun(engine)
        second = await begun(engine)
        task = await engine.accept(
            "tick",
            channel=Channel.CRON,
            source="hourly",
            role=Role.EVENT,
            session=first.session,
            answer_to=(elsewhere,),
        )
        await engine.result(task.turn)

    assert await sent(database) == [
        (CHAT, None, first.turn),
        (CHAT, None, second.turn),
        (elsewhere, None, task.turn),
    ]


async def test_a_session_that_the_chat_left_stays_in_the_console(database: Database) -> None:
    """Another one lives there now; its reader would not know what is spoken of."""
    async with running(database) as engine:
        first = await begun(engine)
        async with engine.controls.steps() as command:
            await command.new_session(
                key="telegram:1:7",
                binding=BINDING,
                home=CHAT,
                author="telegram:7",
                origin=Channel.TELEGRAM,
                sticky=True,
            )
        left = await console(engine, first, "Still there?")
        await engine.result(left.turn)
        found = await database.read(sessions.get, first.session)

    assert await sent(database) == [(CHAT, None, first.turn)]
    assert found is not None
    assert (found.key, found.home) == (None, CHAT)


async def test_a_session_of_the_console_has_no_chat(database: Database) -> None:
    """Nothing is sent to anybody."""
    async with running(database) as engine:
        alone = await engine.accept(channel=Channel.CONSOLE, session_key=None)
        await engine.result(alone.turn)
        await engine.result((await console(engine, alone, "And?")).turn)

    assert await sent(database) == []


async def test_a_repeat_is_mirrored_once(database: Database) -> None:
    """The same key is the same message, whatever the sender has heard of it."""
    async with running(database) as engine:
        first = await begun(engine)
        once = await console(engine, first, "Hear me", event_key="key:1")
        again = await console(engine, first, "Hear me", event_key="key:1")
        await engine.result(once.turn)

    assert (again.turn, again.duplicate) == (once.turn, True)
    assert len(await sent(database)) == 3


def asking() -> ScriptedAgents:
    """A model that asks once and then is done."""
    call = ToolCall("q", "prompt_user", '{"question": "Which?", "choices": ["A", "B"]}')
    return ScriptedAgents(
        [[call, Finished()], [TextDelta("Done."), Finished()]], tools_=[PROMPT_USER]
    )


@pytest.mark.parametrize("typed", [True, False])
async def test_an_answer_from_the_console_is_seen_where_it_was_asked(
    database: Database, typed: bool
) -> None:
    """Whether it is typed as a message or given to the question; the reply goes on there."""
    async with running(database, asking(), RememberingSender(live=True)) as engine:
        accepted = await engine.accept("hi", answer_to=(CHAT,), home=CHAT)
        await engine.until(accepted, "question.asked")
        while await engine.state(accepted.turn) is not TurnState.WAITING:
            await asyncio.sleep(0.01)
        if typed:
            await console(engine, accepted, "B")
        else:
            async with engine.controls.steps() as command:
                [question] = await command.questions(accepted.session)
                await command.answer(question.id, "B", by=OPERATOR, operator=True)
        await engine.result(accepted.turn)

    texts = [text for _, text, _ in await sent(database) if text]
    assert texts == ["Which?", f"{HEAD}\n\n> B  "]


async def test_an_answer_from_the_chat_needs_no_mirror(database: Database) -> None:
    """Whoever pressed a button there sees it."""
    async with running(database, asking(), RememberingSender(live=True)) as engine:
        accepted = await engine.accept("hi", answer_to=(CHAT,), home=CHAT)
        await engine.until(accepted, "question.asked")
        while await engine.state(accepted.turn) is not TurnState.WAITING:
            await asyncio.sleep(0.01)
        async with engine.controls.steps() as command:
            [question] = await command.questions(accepted.session)
            await command.answer(question.id, "B", by="telegram:7", home=CHAT)
        await engine.result(accepted.turn)

    assert [text for _, text, _ in await sent(database) if text] == ["Which?"]


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("", ("plan_1.pdf",), "> 📎 plan\\_1\\.pdf  "),
        ("a\n\n  b", (), "> a  \n>\n> \u00a0\u00a0b  "),
        ("x" * 3001, (), f"> {'x' * 3000}…  "),
    ],
)
def test_words_are_quoted_as_they_were_typed(
    text: str, names: Sequence[str], expected: str
) -> None:
    """Marks stay marks, empty lines stay in the quote, and a chat is not flooded."""
    files = [NewAttachment(name, "application/pdf", b"x") for name in names]

    assert quoted(text, files) == f"{HEAD}\n\n{expected}"
