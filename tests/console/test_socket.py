"""The WebSocket: the same events as everywhere, many sessions at once, slow clients alone."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
from aiohttp import AddrInfoType, WSCloseCode, WSMsgType

from handlers.console.socket import Frames
from service.core.access import UserRole
from service.core.model import Event, NewEvent, SessionId
from service.engine.questions import PROMPT_USER
from service.ports import Finished, TextDelta, ToolCall
from service.store import feed, lists, tables, tokens, users
from service.store.database import Database
from service.store.ids import new_id
from tests.console.people import Browser, cookie_of
from tests.console.site import TOKEN, Site, serving
from tests.fakes import Script, ScriptedAgents

NO_ID = "00000000-0000-0000-0000-000000000000"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Line:
    """A client's end of a socket."""

    socket: aiohttp.ClientWebSocketResponse

    async def say(self, do: str, **body: object) -> None:
        """Send a message."""
        await self.socket.send_json({"do": do, **body})

    async def hear(self) -> dict[str, Any]:
        """The next message, whatever it is."""
        async with asyncio.timeout(60):
            heard: dict[str, Any] = json.loads(await self.socket.receive_str())
            return heard

    async def next(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these kinds."""
        while True:
            heard = await self.hear()
            if not set(kinds).isdisjoint(heard):
                return heard

    async def ask(self, do: str, **body: object) -> dict[str, Any]:
        """Send a message; the answer to it."""
        await self.say(do, **body)
        return await self.next("done", "error", "pong")

    async def events(self, last: str = "turn.finished") -> list[dict[str, Any]]:
        """The events until one of a kind."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["kind"] != last:
            found.append((await self.next("event"))["event"])
        return found

    async def closed(self) -> int | None:
        """The code this is closed with, once it is."""
        async with asyncio.timeout(60):
            while (await self.socket.receive()).type is WSMsgType.TEXT:
                pass
        return self.socket.close_code


@asynccontextmanager
async def opened(
    site: Site, headers: Mapping[str, str] = BEARER, **options: Any
) -> AsyncGenerator[Line]:
    """A socket, as the operator or with these headers."""
    async with site.client.ws_connect("/api/ws", headers=headers, **options) as socket:
        yield Line(socket)


@pytest.fixture
async def line(site: Site) -> AsyncGenerator[Line]:
    """A socket of the operator."""
    async with opened(site) as line:
        yield line


# -- following ------------------------------------------------------------------------------------


async def test_a_socket_tells_what_a_stream_tells(each_site: Site) -> None:
    """The same events, each with its number, turn, data and instant."""
    session = await each_site.session()
    async with opened(each_site) as line:
        done = await line.ask("follow", session=session, after=0, id="f")
        receipt = await each_site.finished(session)
        heard = await line.events()
    streamed = await each_site.events(receipt, after=0)

    assert done == {"done": "follow", "id": "f", "session": session}
    assert [one["number"] for one in heard] == [one.id for one in streamed]
    assert [one["kind"] for one in heard] == [one.kind for one in streamed]
    assert [{"turn": one["turn"], "at": one["at"], **one["data"]} for one in heard] == [
        one.data for one in streamed
    ]
    assert {one["session"] for one in heard} == {session}


async def test_a_follower_goes_on_after_any_event(each_site: Site) -> None:
    """After a break exactly the rest comes."""
    session = await each_site.session()
    whole = await each_site.events(await each_site.finished(session), after=0)
    after = whole[2].id

    async with opened(each_site) as line:
        await line.ask("follow", session=session, after=after)
        heard = await line.events()

    assert [one["number"] for one in heard] == [one.id for one in whole if one.id > after]


async def test_one_socket_follows_many_sessions(site: Site, line: Line) -> None:
    """Each with its own numbers; after `unfollow` nothing more of one comes."""
    first, second = await site.session("ann"), await site.session("bob")
    await line.ask("follow", session=first)
    await line.ask("follow", session=second)

    await site.finished(first)
    heard = await line.events()
    unfollowed = await line.ask("unfollow", session=first)
    await site.finished(first)
    await site.finished(second)
    rest = await line.events()

    assert {one["session"] for one in heard} == {first}
    assert unfollowed == {"done": "unfollow", "session": first}
    assert {one["session"] for one in rest} == {second}


async def test_every_follower_hears_everything(local_database: Database) -> None:
    """Many at once, each from the first event to the last."""
    words = [TextDelta(f"word {n}. ") for n in range(20)]
    agents = ScriptedAgents(scripts=[[*words, Finished()]])
    async with serving(local_database, agents) as site:
        session = await site.session()
        sockets = [await site.client.ws_connect("/api/ws", headers=BEARER) for _ in range(30)]
        lines = [Line(socket) for socket in sockets]
        for line in lines:
            await line.ask("follow", session=session)
        await site.send(session)
        heard = await asyncio.gather(*(line.events() for line in lines))
        for socket in sockets:
            await socket.close()

    assert all(one == heard[0] for one in heard)
    assert [one["number"] for one in heard[0]] == list(range(1, len(heard[0]) + 1))


def test_an_event_is_made_into_a_frame_once() -> None:
    """However many follow a session; the oldest frames are forgotten."""
    frames = Frames(most_bytes=300)
    session, at = SessionId("s"), datetime(2026, 1, 1, tzinfo=UTC)
    events = [Event(n, "text", None, {"text": "Grüße"}, at) for n in (1, 2, 3)]

    made = [frames.of(session, one) for one in events]
    kept = [frames.of(session, events[place]) is made[place] for place in (1, 2, 0)]

    assert kept == [True, True, False]
    assert json.loads(made[0]) == {
        "event": {
            "session": "s",
            "number": 1,
            "kind": "text",
            "turn": None,
            "at": "2026-01-01T00:00:00Z",
            "data": {"text": "Grüße"},
        }
    }


async def test_a_changed_session_is_told_to_everybody(site: Site, line: Line) -> None:
    """Lists keep up without asking, also of sessions that nobody follows."""
    session = await site.session()
    await site.finished(session, "What is new?")

    told = (await line.next("session"))["session"]

    assert (told["session"], told["title"]) == (session, "What is new?")


async def test_a_storm_of_changes_is_told_in_turn(each_site: Site) -> None:
    """So many sessions at a time, each once and as it is by then; none is forgotten."""
    database, feed_ = each_site.engine.database, each_site.engine.feed
    made = [SessionId(await each_site.session(f"number {n}")) for n in range(3)]
    made += await database.write(_copies, made[0], 247)
    async with opened(each_site) as line:
        for session in made * 2:
            feed_.poke(session)
        heard = [(await line.next("session"))["session"] for _ in range(100)]
        await database.write(lists.change, made[-1], title="By then")
        heard += [(await line.next("session"))["session"] for _ in range(150)]
        quiet = await line.ask("ping")

    assert [one["session"] for one in heard] == made
    assert heard[-1]["title"] == "By then"
    assert quiet == {"pong": True}


def _copies(conn: sa.Connection, session: SessionId, count: int) -> list[SessionId]:
    """Sessions like one, all in one go."""
    query = sa.select(tables.sessions).where(tables.sessions.c.id == session)
    row = conn.execute(query).mappings().one()
    ids = [SessionId(new_id()) for _ in range(count)]
    copies = [{**row, "id": one, "key": None} for one in ids]
    conn.execute(tables.sessions.insert(), copies)
    return ids


# -- steering -------------------------------------------------------------------------------------


async def test_a_message_is_sent(each_site: Site) -> None:
    """It is answered with its turn and number, under the client's own id."""
    session = await each_site.session()
    async with opened(each_site) as line:
        await line.ask("follow", session=session)
        done = await line.ask("send", session=session, text="hi", id="mine")
        heard = await line.events()
    result = await each_site.get(f"/api/turns/{done['turn']}")

    assert done == {
        "done": "send",
        "id": "mine",
        "session": session,
        "turn": heard[0]["turn"],
        "number": 1,
        "duplicate": False,
    }
    assert (result.json["state"], result.json["text"]) == ("succeeded", "Hello.")


async def test_a_key_makes_a_repeat_harmless(site: Site, line: Line) -> None:
    """Who lost the connection before the answer sends it again."""
    session = await site.session()

    first = await line.ask("send", session=session, text="hi", key="k")
    second = await line.ask("send", session=session, text="hi", key="k")

    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert second["turn"] == first["turn"]


async def test_a_turn_is_stopped(local_database: Database) -> None:
    """As with the call of the same name."""
    agents = ScriptedAgents(scripts=[[TextDelta("Hello."), asyncio.Event()]])
    async with serving(local_database, agents) as site, opened(site) as line:
        session = await site.session()
        await line.ask("follow", session=session)
        await line.ask("send", session=session, text="hi")
        await line.events("text")
        done = await line.ask("stop", session=session, id=7)
        heard = await line.events()

    assert done == {"done": "stop", "id": 7, "stopped": 1}
    assert heard[-1]["data"]["state"] == "stopped"


async def test_a_turn_is_interrupted(local_database: Database) -> None:
    """With words that it goes on with, or without."""
    agents = ScriptedAgents(scripts=[[TextDelta("Hello."), asyncio.Event()]])
    async with serving(local_database, agents) as site, opened(site) as line:
        session = await site.session()
        await line.ask("follow", session=session)
        await line.ask("send", session=session, text="hi")
        await line.events("text")
        paused = await line.ask("interrupt", session=session)
        rung = await line.ask("interrupt", session=session, text="Do that instead.")
        await line.ask("stop", session=session)

    assert paused == {"done": "interrupt", "interrupt": "interrupting"}
    assert (rung["done"], rung["session"], rung["number"] > 1) == ("interrupt", session, True)


async def test_a_question_is_answered(local_database: Database) -> None:
    """It comes as an event, and its turn goes on."""
    ask = ToolCall("q", "prompt_user", json.dumps({"question": "Which?", "choices": ["A", "B"]}))
    done: Script = [TextDelta("Done."), Finished()]
    agents = ScriptedAgents([[ask, Finished()], done], tools_=[PROMPT_USER])
    async with serving(local_database, agents) as site, opened(site) as line:
        session = await site.session()
        await line.ask("follow", session=session)
        await line.ask("send", session=session, text="hi")
        asked = (await line.events("question.asked"))[-1]
        question = asked["data"]["question"]
        answered = await line.ask("answer", session=session, question=question, answer="B")
        again = await line.ask("answer", session=session, question=question, answer="A")
        heard = await line.events()

    assert answered == {"done": "answer", "question": question, "turn": asked["turn"]}
    assert again["error"]["status"] == 409
    assert heard[-1]["data"]["state"] == "succeeded"


async def test_a_viewer_follows_and_does_nothing(site: Site) -> None:
    """The role counts as with the calls."""
    session = await site.session()
    browser = Browser(site, await cookie_of(site, "ann", UserRole.VIEWER))
    async with opened(site, browser.headers) as line:
        followed = await line.ask("follow", session=session)
        refused = [
            await line.ask("send", session=session, text="hi"),
            await line.ask("stop", session=session),
            await line.ask("interrupt", session=session),
            await line.ask("answer", session=session, question=NO_ID, answer="x"),
        ]

    assert followed["done"] == "follow"
    assert [one["error"]["status"] for one in refused] == [403] * 4


# -- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "detail"),
    [
        ("", 400, "the body is not JSON"),
        ("hello", 400, "the body is not JSON"),
        ("[]", 400, "must be a JSON object"),
        ("{}", 400, "do takes one of follow, unfollow, send"),
        ('{"do": 7}', 400, "do takes one of"),
        ('{"do": "dance"}', 400, "do takes one of"),
        ('{"do": "ping", "do": "ping"}', 400, "stands twice"),
        ('{"do": "ping", "id": {}}', 400, "id: a text"),
        ('{"do": "ping", "id": true}', 400, "id: a text"),
        ('{"do": "ping", "x": 1}', 400, "x: ping does not take that"),
        ('{"do": "follow"}', 404, "no such session"),
        ('{"do": "follow", "session": 7}', 404, "no such session"),
        ('{"do": "follow", "session": "a\\u0000b"}', 404, "no such session"),
        (f'{{"do": "follow", "session": "{NO_ID}"}}', 404, "no such session"),
        ('{"do": "follow", "session": "SESSION", "after": -1}', 400, "after takes the number"),
        ('{"do": "follow", "session": "SESSION", "after": "1"}', 400, "after takes the number"),
        ('{"do": "follow", "session": "SESSION", "after": true}', 400, "after takes the number"),
        ('{"do": "follow", "session": "SESSION", "after": 99}', 400, "has no event of this number"),
        ('{"do": "unfollow", "session": "SESSION"}', 404, "not followed"),
        ('{"do": "unfollow", "session": []}', 404, "not followed"),
        ('{"do": "send", "session": "SESSION"}', 400, "text: a text that is not empty"),
        ('{"do": "send", "session": "SESSION", "text": " "}', 400, "text: a text that is not"),
        ('{"do": "send", "session": "SESSION", "text": "x", "busy": "now"}', 400, "busy takes"),
        ('{"do": "send", "session": "SESSION", "text": "x", "key": ""}', 400, "key: a text"),
        ('{"do": "send", "session": "SESSION", "text": "x", "knobs": {"no": 1}}', 422, "no"),
        (f'{{"do": "send", "session": "{NO_ID}", "text": "x"}}', 404, "no such session"),
        ('{"do": "interrupt", "session": "SESSION", "text": 7}', 400, "text: a text"),
        ('{"do": "answer", "session": "SESSION"}', 400, "question: a text"),
        (
            f'{{"do": "answer", "session": "SESSION", "question": "{NO_ID}", "answer": "x"}}',
            404,
            "no such question",
        ),
        ("[" * 100, 400, "nested deeper"),
        ('{"do": "ping", "id": 1e999}', 400, "a number is too large"),
        ('{"do": "ping", "id": NaN}', 400, "NaN is no JSON number"),
        ('\ufeff{"do": "ping"}', 400, "byte order mark"),
        ('{"do": "ping", "\\ud800": 1}', 400, "?: ping does not take that"),
        ('{"do": "dance", "id": "\\ud800"}', 400, "do takes one of"),
    ],
)
async def test_a_bad_message_is_answered(
    site: Site, line: Line, sent: str, status: int, detail: str
) -> None:
    """With an error that says what is wrong, and the connection goes on."""
    session = await site.session()

    await line.socket.send_str(sent.replace("SESSION", session))
    error = (await line.next("error"))["error"]
    pong = await line.ask("ping")

    assert (error["status"], pong) == (status, {"pong": True})
    assert detail in error["detail"]


async def test_bytes_are_answered(line: Line) -> None:
    """With an error, too."""
    await line.socket.send_bytes(b"\x00\xff")

    assert (await line.hear())["error"]["detail"] == "send JSON as text"


async def test_an_error_names_what_it_is_about(line: Line) -> None:
    """What was asked, and the client's id of it."""
    error = await line.ask("send", session=NO_ID, text="x", id="mine")

    assert (error["error"]["do"], error["error"]["id"]) == ("send", "mine")


async def test_a_message_that_is_too_large_ends_it(line: Line) -> None:
    """256 KiB are enough for anything one says."""
    await line.socket.send_str("x" * 262_145)

    assert await line.closed() == WSCloseCode.MESSAGE_TOO_BIG


async def test_a_session_is_followed_once(site: Site, line: Line) -> None:
    """A second time would tell every event twice."""
    session = await site.session()
    await line.ask("follow", session=session)

    again = await line.ask("follow", session=session)

    assert again["error"]["status"] == 409
    assert again["error"]["session"] == session


async def test_a_socket_follows_at_most_fifty_sessions(site: Site, line: Line) -> None:
    """Each costs a task and a place among the readers."""
    ids = [await site.session(f"key {n}") for n in range(51)]

    answers = [await line.ask("follow", session=one) for one in ids]
    await line.ask("unfollow", session=ids[0])
    after = await line.ask("follow", session=ids[50])

    assert ["done" in one for one in answers] == [True] * 50 + [False]
    assert "at most 50 sessions" in answers[50]["error"]["detail"]
    assert after["done"] == "follow"


async def test_pruned_events_cannot_be_followed(site: Site, line: Line) -> None:
    """The client has to read the messages instead."""
    session = await site.session()
    await site.finished(session)
    await site.prune()

    error = await line.ask("follow", session=session, after=1)

    assert error["error"]["status"] == 410


async def test_what_is_no_socket_is_told_so(site: Site) -> None:
    """A plain GET of the address."""
    answer = await site.get("/api/ws")

    assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")


# -- the end --------------------------------------------------------------------------------------


async def _append(site: Site, session: str, count: int, size: int = 1) -> None:
    """Let events happen in a session, as a turn in another process makes them."""
    new = {SessionId(session): [NewEvent("text", {"text": "x" * size}) for _ in range(count)]}
    at = datetime.now(UTC)
    site.engine.feed.announce(await site.engine.database.write(feed.append, new, at=at))


async def test_a_slow_client_is_sent_away_alone(site: Site) -> None:
    """What waits for it is bounded; everybody else hears all of it in time."""
    session = await site.session()
    narrow = aiohttp.TCPConnector(socket_factory=_narrow)
    address = f"http://127.0.0.1:{site.port}/api/ws"
    async with aiohttp.ClientSession(connector=narrow) as client, opened(site) as quick:
        slow = Line(await client.ws_connect(address, headers=BEARER))
        for line in (quick, slow):
            await line.ask("follow", session=session)
        heard = []
        for _ in range(60):
            await _append(site, session, 100, size=2000)
            heard += [(await quick.next("event"))["event"]["number"] for _ in range(100)]
        code = await slow.closed()

    assert heard == list(range(1, 6001))
    assert code == WSCloseCode.TRY_AGAIN_LATER


def _narrow(address: AddrInfoType) -> socket.socket:
    """A socket whose other side soon has to wait."""
    made = socket.socket(address[0], address[1], address[2])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return made


async def test_a_long_past_is_told_as_fast_as_it_is_read(site: Site, line: Line) -> None:
    """However much more it is than what may wait."""
    session = await site.session()
    await _append(site, session, 3000, size=500)

    await line.ask("follow", session=session)
    heard = [(await line.next("event"))["event"]["number"] for _ in range(3000)]

    assert heard == list(range(1, 3001))


async def test_the_end_of_the_service_is_told(local_database: Database) -> None:
    """1001: come back in a moment."""
    async with aiohttp.ClientSession() as client:
        async with serving(local_database) as site:
            address = f"http://127.0.0.1:{site.port}/api/ws"
            line = Line(await client.ws_connect(address, headers=BEARER))
            await line.ask("ping")
            closing = asyncio.create_task(line.closed())
        code = await closing

    assert code == WSCloseCode.GOING_AWAY


async def test_who_is_removed_is_disconnected(site: Site) -> None:
    """Soon, although nothing is asked for."""
    browser = Browser(site, await cookie_of(site))
    async with opened(site, browser.headers) as line:
        await line.ask("ping")
        await site.engine.database.write(users.remove, "ann")
        async with asyncio.timeout(60):
            code = await line.closed()

    assert code == WSCloseCode.POLICY_VIOLATION


async def test_a_revoked_token_is_disconnected(each_site: Site) -> None:
    """As its sign-ins are."""
    database = each_site.engine.database
    token = await database.write(tokens.issue, name="ci", at=datetime.now(UTC))
    async with opened(each_site, {"Authorization": f"Bearer {token}"}) as line:
        await line.ask("ping")
        await database.write(tokens.revoke, "ci")
        async with asyncio.timeout(60):
            code = await line.closed()

    assert code == WSCloseCode.POLICY_VIOLATION


async def test_nothing_is_done_for_who_was_signed_out(site: Site) -> None:
    """Not even before the connection is closed."""
    session = await site.session()
    browser = Browser(site, await cookie_of(site))
    async with opened(site, browser.headers) as line:
        await site.engine.database.write(users.remove, "ann")
        await line.say("send", session=session, text="hi")
        code = await line.closed()
    messages = await site.get(f"/api/sessions/{session}/messages")

    assert (code, messages.json["messages"]) == (WSCloseCode.POLICY_VIOLATION, [])
