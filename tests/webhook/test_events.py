"""A turn's events over connections that break: whoever comes back has missed nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from service.core.model import TurnId
from service.ports import Finished, TextDelta, ToolCall, ToolSpec
from service.store import feed
from service.store.database import Database
from service.store.tables import messages
from tests.fakes import Script, ScriptedAgents
from tests.webhook.site import Answer, Frame, Site, frames, serving

DICE = ToolSpec("dice", "Roll a dice.", {"type": "object"})
FIRST = ["Grüße ", "👋", "🏽 \n", "data: \n\nid: 99\n\n", "\r\n\u2028\x85"]
SECOND = ["  ", "\x00", "the ", "end."]
HALFWAY = "\N{REPLACEMENT CHARACTER}"
"""What NUL becomes: the last thing said before the gate."""
Receipt = Mapping[str, Any]


def _agents(*, gate: asyncio.Event | None = None) -> ScriptedAgents:
    """A model that speaks, rolls a dice and speaks again; the gate is in mid-sentence."""
    half = len(SECOND) // 2
    waits: Script = [gate] if gate is not None else []
    second: Script = [
        *map(TextDelta, SECOND[:half]),
        *waits,
        *map(TextDelta, SECOND[half:]),
        Finished(),
    ]
    first: Script = [*map(TextDelta, FIRST), ToolCall("c1", "dice", "{}"), Finished()]
    return ScriptedAgents([first, second], tools_=[DICE])


# -- cut and resumed ------------------------------------------------------------------------------


async def test_a_stream_cut_after_any_event_is_resumed_without_a_gap(database: Database) -> None:
    """After the turn's end, from every place: what was read and what follows is the whole."""
    async with serving(database, _agents()) as site:
        receipt = await _rung(site)
        await site.engine.result(TurnId(receipt["turn"]))
        whole = await _read(site, receipt)
        rests = [await _read(site, receipt, after=frame.id) for frame in whole[:-1]]
        stored = await _stored_text(site, receipt)

    assert [whole[: n + 1] + rest for n, rest in enumerate(rests)] == [whole] * len(rests)
    assert [frame.id for frame in whole] == list(range(1, len(whole) + 1))
    assert _joined(whole).encode() == stored.encode()


async def test_a_stream_cut_again_and_again_while_the_turn_runs_is_whole(
    database: Database,
) -> None:
    """A client that loses its connection after each single event reads every one, once."""
    gate = asyncio.Event()
    async with serving(database, _agents(gate=gate)) as site:
        receipt = await _rung(site)
        seen: list[Frame] = []
        while not seen or seen[-1].kind != "turn.finished":
            seen.append(await _next(site, receipt, after=seen[-1].id if seen else None))
            if HALFWAY in _joined(seen):
                gate.set()
        whole = await _read(site, receipt)
        stored = await _stored_text(site, receipt)

    assert seen == whole
    assert _joined(seen).encode() == stored.encode()


async def test_a_stream_is_resumed_at_another_process(database: Database) -> None:
    """After a restart every place is still good, also one in the middle of a reply."""
    gate = asyncio.Event()
    async with serving(database, _agents(gate=gate)) as site:
        receipt = await _rung(site)
        before: list[Frame] = []
        while HALFWAY not in _joined(before):
            before.append(await _next(site, receipt, after=before[-1].id if before else None))

    async with serving(database, ScriptedAgents([[TextDelta("Again."), Finished()]])) as site:
        after = await _read(site, receipt, after=before[-1].id)
        whole = await _read(site, receipt)
        stored = await _stored_text(site, receipt)

    assert before + after == whole
    assert whole[-1].kind == "turn.finished"
    assert _joined(whole).encode() == stored.encode()


async def test_a_finished_turn_is_told_from_every_place_after_a_restart(
    database: Database,
) -> None:
    """The log, not the process, remembers."""
    async with serving(database, _agents()) as site:
        receipt = await _rung(site)
        whole = await _read(site, receipt)

    async with serving(database) as site:
        rests = [await _read(site, receipt, after=frame.id) for frame in whole[:-1]]
        stored = await _stored_text(site, receipt)

    assert [whole[: n + 1] + rest for n, rest in enumerate(rests)] == [whole] * len(rests)
    assert _joined(whole).encode() == stored.encode()


async def test_many_who_follow_one_turn_read_the_same(database: Database) -> None:
    """Readers do not take events away from each other."""
    gate = asyncio.Event()
    async with serving(database, _agents(gate=gate)) as site:
        receipt = await _rung(site)
        readers = [asyncio.create_task(_read(site, receipt)) for _ in range(20)]
        await _next(site, receipt)
        gate.set()
        read = await asyncio.gather(*readers)

    assert read == [read[0]] * 20
    assert read[0][-1].kind == "turn.finished"


async def test_a_reader_who_leaves_does_not_disturb_the_turn(local_database: Database) -> None:
    """The turn goes on, and the place is there to come back to."""
    gate = asyncio.Event()
    async with serving(local_database, _agents(gate=gate)) as site:
        receipt = await _rung(site)
        first = await _next(site, receipt)
        gate.set()
        result = await site.engine.result(TurnId(receipt["turn"]))
        rest = await _read(site, receipt, after=first.id)

    assert result.text.endswith("the end.")
    assert _joined([first, *rest]) == result.text


async def test_only_the_turns_own_events_are_told(site: Site) -> None:
    """Two turns share a session; the stream of one has nothing of the other."""
    first, second = [await _rung(site, "fixed") for _ in range(2)]

    told = [await _read(site, receipt) for receipt in (first, second)]

    assert first["session"] == second["session"]
    assert {frame.data["turn"] for frame in told[0]} == {first["turn"]}
    assert {frame.data["turn"] for frame in told[1]} == {second["turn"]}
    assert [stream[-1].kind for stream in told] == ["turn.finished"] * 2


# -- where a stream begins and ends ---------------------------------------------------------------


async def test_after_the_last_event_there_is_nothing_to_come_back_for(any_site: Site) -> None:
    """204 tells an event source to stop reconnecting, from the end as from beyond it."""
    receipt = await _rung(any_site)
    whole = await _read(any_site, receipt)

    answers = [
        await _events(any_site, receipt, after=after)
        for after in (whole[-1].id, whole[-1].id + 1, 10**17)
    ]

    assert [(one.status, one.body) for one in answers] == [(204, b"")] * 3


async def test_a_place_can_be_given_in_the_address(site: Site) -> None:
    """For clients that cannot set headers; a header that is there counts more."""
    receipt = await _rung(site)
    whole = await _read(site, receipt)
    path = receipt["events_url"] + "?after=2"

    by_query = await site.get(path, receipt["token"])
    by_both = await site.get(path, receipt["token"], {"Last-Event-ID": "4"})

    assert frames(by_query.body) == whole[2:]
    assert frames(by_both.body) == whole[4:]


@pytest.mark.parametrize("after", [None, 0, 1, 3])
async def test_events_that_are_pruned_are_gone_for_good(any_site: Site, after: int | None) -> None:
    """410 says so instead of telling the rest as if it were all; the result stays."""
    receipt = await _rung(any_site)
    whole = await _read(any_site, receipt)
    pruned = await _prune(any_site)

    answer = await _events(any_site, receipt, after=after)
    end = await _events(any_site, receipt, after=whole[-1].id)
    result = await any_site.get(receipt["status_url"], receipt["token"])

    assert pruned == len(whole)
    assert (answer.status, answer.type) == (410, "application/problem+json")
    assert end.status == 204
    assert result.json["text"] == "Hello."


async def test_pruning_an_older_turn_does_not_take_a_newer_one_away(site: Site) -> None:
    """Only what is gone is gone: the next turn of the session is told from its beginning."""
    older = await _rung(site, "fixed")
    await _read(site, older)
    await _prune(site)

    newer = await _rung(site, "fixed")

    assert (await _read(site, newer))[0].kind == "message.added"
    assert (await _events(site, older)).status == 410


async def test_the_frames_are_what_event_sources_read(site: Site) -> None:
    """No proxy may keep or collect them; whatever a text holds, a frame has one data line."""
    receipt = await _rung(site)

    answer = await _events(site, receipt)

    blocks = answer.body.decode().split("\n\n")
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert (blocks[0], blocks[-1]) == ("retry: 2000", "")
    assert {len(block.split("\n")) for block in blocks[1:-1]} == {3}


# -- short cuts -----------------------------------------------------------------------------------


async def _rung(site: Site, hook: str = "open") -> Receipt:
    receipt: Receipt = (await site.post(hook)).json
    return receipt


async def _events(site: Site, receipt: Receipt, *, after: int | None = None) -> Answer:
    place = {} if after is None else {"Last-Event-ID": str(after)}
    async with asyncio.timeout(60):
        return await site.get(receipt["events_url"], receipt["token"], place)


async def _read(site: Site, receipt: Receipt, *, after: int | None = None) -> list[Frame]:
    """Every event from a place to the end of the turn."""
    answer = await _events(site, receipt, after=after)
    assert answer.status == 200, answer
    return frames(answer.body)


async def _next(site: Site, receipt: Receipt, *, after: int | None = None) -> Frame:
    """The next event from a place; then the connection is cut."""
    headers = {"Authorization": f"Bearer {receipt['token']}"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    read = b""
    async with (
        asyncio.timeout(60),
        site.client.get(receipt["events_url"], headers=headers) as response,
    ):
        while not frames(read):
            read += await response.content.readuntil(b"\n\n")
        response.close()
    return frames(read)[0]


def _joined(told: Sequence[Frame]) -> str:
    """The text as a client puts it together: appended, and set back when a reply begins anew."""
    text = ""
    for frame in told:
        match frame.kind:
            case "text":
                text += frame.data["text"]
            case "reply.reset":
                text = frame.data["text"]
    return text


async def _stored_text(site: Site, receipt: Receipt) -> str:
    """What the session remembers as the answer."""
    query = sa.select(messages.c.text).where(
        messages.c.turn_id == receipt["turn"], messages.c.role == "voice"
    )
    texts = await site.engine.database.read(lambda conn: list(conn.scalars(query)))
    assert len(texts) == 1
    return str(texts[0])


async def _prune(site: Site) -> int:
    """Drop every event there is; return how many."""
    before = datetime.now(UTC) + timedelta(days=1)
    return await site.engine.database.write(feed.prune, before=before, limit=1000)
