"""An agent writes to the places the operator named for it, once for each call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from service.agents.send_message import send_message_tool
from service.agents.tools import Tool
from service.core.model import Address, Channel
from service.ports import Caller, ToolResult
from service.store import tables
from service.store.database import Database
from tests.agents.callers import caller, run
from tests.engine.engine import Engine, running
from tests.engine.test_made_tasks import idle
from tests.fakes import RememberingSender

FAMILY = Address(Channel.TELEGRAM, "1:-20")
PLACES = {"family": FAMILY, "ann": Address(Channel.TELEGRAM, "1:7")}


def tool(engine: Engine, places: Mapping[str, Address] = PLACES) -> Tool:
    """The tool of an agent that may write to these places."""
    return send_message_tool(lambda: engine.controls, places)


async def send(one: Tool, asking: Caller, **arguments: Any) -> ToolResult:
    """Call the tool."""
    return await run(one, arguments, asking)


async def stored(database: Database) -> list[tuple[str, str, str]]:
    """Where to and what, of every delivery."""
    table = tables.deliveries
    rows = await database.read(lambda conn: conn.execute(sa.select(table)).all())
    return sorted((row.channel, row.spot, row.text) for row in rows)


async def test_a_message_is_stored_for_its_place(database: Database) -> None:
    """As a notice that belongs to no turn."""
    sent = await send(tool(idle(database)), caller(), to="family", text="**Dinner** is ready.")

    assert (sent.failed, sent.text) == (False, "The message to family is on its way.")
    assert await stored(database) == [("telegram", "1:-20", "**Dinner** is ready.")]


async def test_the_same_call_sends_once(database: Database) -> None:
    """Run again after a crash it answers as it did; the same words of another call are new."""
    one, call = tool(idle(database)), caller(key="call-x")

    first = await send(one, call, to="family", text="Hi")
    again = await send(one, call, to="family", text="Hi")
    await send(one, caller(key="call-y"), to="family", text="Hi")

    assert again == first
    assert await stored(database) == [("telegram", "1:-20", "Hi")] * 2


async def test_it_is_delivered(database: Database) -> None:
    """By the sender of the place's channel, at once."""
    sender = RememberingSender()
    async with running(database, sender=sender) as engine:
        await send(tool(engine), caller(), to="ann", text="Hi")
        async with asyncio.timeout(60):
            while not sender.seen:
                await asyncio.sleep(0.01)

    ((delivery, _),) = sender.seen
    assert (delivery.address, delivery.text, delivery.turn) == (PLACES["ann"], "Hi", None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"to": "boss", "text": "Hi"}, ["'boss'", "'family'", "'ann'"]),
        ({"to": "telegram:1:5", "text": "Hi"}, ["'family'", "'ann'"]),
        ({"to": "family", "text": ""}, ["text: "]),
        ({"to": "family", "text": " \n"}, ["text: "]),
        ({"to": "family", "text": "x" * 4001}, ["text: ", "1 to 4000", "4001"]),
        ({"text": "Hi"}, ["'to'"]),
    ],
)
async def test_a_mistake_says_what_there_is(
    database: Database, arguments: dict[str, Any], told: list[str]
) -> None:
    """And sends nothing."""
    refused = await send(tool(idle(database)), caller(), **arguments)

    assert refused.failed
    assert [word for word in told if word not in refused.text] == []
    assert await stored(database) == []


async def test_the_longest_message_is_sent(database: Database) -> None:
    """4000 characters."""
    sent = await send(tool(idle(database)), caller(), to="family", text="x" * 4000)

    assert not sent.failed


async def test_what_no_database_stores_is_replaced(database: Database) -> None:
    """The rest of the words arrive."""
    sent = await send(tool(idle(database)), caller(), to="family", text="a\0b\ud800c")

    assert not sent.failed
    ((_, _, text),) = await stored(database)
    assert (text[0], text[2], text[-1]) == ("a", "b", "c")


async def test_the_model_is_told_the_places(database: Database) -> None:
    """By name only; the call acts on the world and may be run again."""
    spec = tool(idle(database)).spec

    assert "family, ann" in spec.description
    assert "1:-20" not in json.dumps(dict(spec.parameters))
    assert (spec.idempotent, spec.outward) == (True, True)
