"""Events as a stream: from the beginning, from any place, to the end, and no further."""

from __future__ import annotations

import asyncio

import aiohttp

from service.ports import Finished, TextDelta
from service.store.database import Database
from tests.console.site import TOKEN, Site, serving
from tests.fakes import ScriptedAgents
from tests.webhook.site import Frame, frames

STREAM = {"Accept": "text/event-stream"}


def _joined(read: list[Frame]) -> str:
    return "".join(one.data["text"] for one in read if one.kind == "text")


def _path(session: str, turn: str, after: int = 0) -> str:
    return f"/api/sessions/{session}/events?turn={turn}&after={after}"


async def test_a_message_can_be_answered_as_a_stream(site: Site) -> None:
    """The events come in the answer, each with its number, to the end of the turn."""
    answer = await site.send(await site.session(), "hi", STREAM)
    read = frames(answer.body)

    assert (answer.status, answer.type) == (200, "text/event-stream")
    assert answer.body.startswith(b"retry: ")
    assert list(range(1, len(read) + 1)) == [one.id for one in read]
    assert (read[0].kind, read[-1].kind) == ("message.added", "turn.finished")
    assert _joined(read) == "Hello."


async def test_a_stream_names_its_turn(site: Site) -> None:
    """Who was cut off before the first event can still find the turn."""
    answer = await site.send(await site.session(), "hi", STREAM)

    result = await site.get(answer.headers["Location"])

    assert result.json["turn"] == answer.headers["X-Ringback-Turn"]


async def test_a_stream_goes_on_after_any_event(each_site: Site) -> None:
    """From every place exactly the rest comes; together it is what was stored."""
    session = await each_site.session()
    await each_site.finished(session, "before")
    receipt = await each_site.finished(session)
    whole = await each_site.events(receipt, after=0)

    rests = [await each_site.events(receipt, after=one.id) for one in whole[:-1]]

    assert [whole[place:] for place in range(1, len(whole))] == rests


async def test_last_event_id_comes_before_the_query(site: Site) -> None:
    """A browser repeats the address it began with and says the rest in the header."""
    receipt = await site.finished(await site.session())
    whole = await site.events(receipt, after=0)

    path = _path(receipt["session"], receipt["turn"])
    answer = await site.get(path, {"Last-Event-ID": str(whole[1].id)})

    assert whole[2:] == frames(answer.body)


async def test_after_the_end_there_is_nothing_more(each_site: Site) -> None:
    """204 tells a browser to stop asking."""
    receipt = await each_site.finished(await each_site.session())
    last = (await each_site.events(receipt, after=0))[-1].id

    answers = [
        await each_site.get(_path(receipt["session"], receipt["turn"], after))
        for after in (last, last + 1)
    ]

    assert [answer.status for answer in answers] == [204, 204]


async def test_a_pruned_place_is_gone(each_site: Site) -> None:
    """Who comes too late is told so instead of getting half of the story, or an end of it."""
    receipt = await each_site.finished(await each_site.session(), "hi")
    await each_site.prune()

    of_turn = await each_site.get(_path(receipt["session"], receipt["turn"]))
    of_session = await each_site.get(f"/api/sessions/{receipt['session']}/events")

    assert [of_turn.status, of_session.status] == [410, 410]


async def test_a_repeat_whose_events_are_pruned_is_told_so(each_site: Site) -> None:
    """It would wait for ever otherwise: its turn has ended, and the end is gone."""
    session, headers = await each_site.session(), {"Idempotency-Key": "k-1"}
    first = await each_site.send(session, "hi", {**headers, "Prefer": "wait=60"})
    await each_site.prune()

    again = await each_site.send(session, "hi", {**headers, **STREAM})

    assert (first.status, again.status) == (200, 410)
    assert again.headers["X-Ringback-Turn"] == first.json["turn"]


async def test_a_repeat_says_how_far_it_has_read(site: Site) -> None:
    """The same post with the last event id is a way to resume, too."""
    session, headers = await site.session(), {"Idempotency-Key": "k-1", **STREAM}
    whole = frames((await site.send(session, "hi", headers)).body)

    again = await site.send(session, "hi", {**headers, "Last-Event-ID": str(whole[2].id)})

    assert whole[3:] == frames(again.body)


async def test_a_place_must_be_a_number(site: Site) -> None:
    """What is no number is refused, not taken for the beginning."""
    path, wrong = f"/api/sessions/{await site.session()}/events", ["-1", "x", "1.0", "9" * 19, "٣"]

    answers = [await site.get(f"{path}?after={after}") for after in [*wrong, "%00"]]

    assert {one.status for one in answers} == {400}
    assert "Last-Event-ID" in answers[0].json["detail"]


async def test_a_place_in_the_future_is_refused(site: Site) -> None:
    """A number nobody gave out would skip events in silence."""
    answer = await site.get(f"/api/sessions/{await site.session()}/events?after=7")

    assert answer.status == 400


async def test_a_turn_the_session_does_not_have_is_not_found(each_site: Site) -> None:
    """Nothing is streamed for it."""
    session = await each_site.session()

    answers = [await each_site.get(_path(session, turn)) for turn in ("x", "%00", "0" * 36)]

    assert {one.status for one in answers} == {404}


async def test_a_turn_of_another_session_is_not_found(site: Site) -> None:
    """The session in the address has to be the turn's own."""
    receipt = await site.finished(await site.session("first"))

    answer = await site.get(_path(await site.session("second"), receipt["turn"]))

    assert answer.status == 404


async def test_a_session_is_followed_from_turn_to_turn(each_site: Site) -> None:
    """The stream of a session does not end with a turn: what comes later comes, too."""
    session = await each_site.session()
    first = await each_site.finished(session, "one")

    async with each_site.client.get(
        f"/api/sessions/{session}/events", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as response:
        read = await _until_finished(response.content, first["turn"])
        second = (await each_site.send(session, "two")).json
        read += await _until_finished(response.content, second["turn"])

    assert list(range(1, len(read) + 1)) == [one.id for one in read]
    assert [one.data["text"] for one in read if one.kind == "message.added"] == [
        "one",
        "Hello.",
        "two",
        "Hello.",
    ]


async def test_events_come_while_the_turn_runs(database: Database) -> None:
    """Nothing is held back until the end."""
    until = asyncio.Event()
    agents = ScriptedAgents([[TextDelta("Well. "), until, TextDelta("Hello."), Finished()]])
    async with serving(database, agents) as site:
        receipt = (await site.send(await site.session())).json
        path = _path(receipt["session"], receipt["turn"])
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with site.client.get(path, headers=headers) as response:
            early = await _until(response.content, kind="text")
            until.set()
            rest = await _until_finished(response.content, receipt["turn"])

    assert (_joined(early), _joined(rest)) == ("Well. ", "Hello.")


async def _until_finished(content: aiohttp.StreamReader, turn: str) -> list[Frame]:
    """Read events up to the end of a turn."""
    read = await _until(content, kind="turn.finished")
    assert read[-1].data["turn"] == turn
    return read


async def _until(content: aiohttp.StreamReader, *, kind: str) -> list[Frame]:
    """Read events up to one of this kind."""
    read: list[Frame] = []
    async with asyncio.timeout(60):
        while not read or read[-1].kind != kind:
            read += frames(await content.readuntil(b"\n\n"))
    return read
