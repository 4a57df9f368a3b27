"""The JSON API: who may call it, sessions, messages, turns, tasks, and what went wrong."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from service.ports import Finished, TextDelta
from service.store import tables, tokens
from service.store.database import Database
from tests.console.site import TOKEN, Site, serving
from tests.fakes import ScriptedAgents

NOBODY = "01900000-0000-7000-8000-000000000000"


def _waiting(until: asyncio.Event) -> ScriptedAgents:
    """Agents that begin to answer and go on when told."""
    return ScriptedAgents([[TextDelta("Well, "), until, TextDelta("hello."), Finished()]])


# -- who may call it ------------------------------------------------------------------------------


async def test_every_route_refuses_strangers(site: Site) -> None:
    """There is no call that works without a credential."""
    calls = [
        (one.method, re.sub(r"{\w+}", NOBODY, one.path))
        for one in site.api.routes()
        if one.path.startswith("/api/")
    ]

    answers = [await site.call(method, path, token=None) for method, path in calls]

    assert {401} == {answer.status for answer in answers}


async def test_a_wrong_token_is_refused(site: Site) -> None:
    """Only the whole token opens the door; the answer says how to get one."""
    wrong = ["", " ", "wrong", TOKEN + "x", TOKEN[:-1], "rba_unknown", "ü"]

    answers = [await site.call("GET", "/api/sessions", token=token) for token in wrong]

    assert {(one.status, one.headers["WWW-Authenticate"]) for one in answers} == {(401, "Bearer")}
    assert "ringback token create" in answers[0].json["detail"]


async def test_a_token_in_the_address_counts_for_nothing(site: Site) -> None:
    """Addresses end up in logs; only the header proves anything."""
    answer = await site.call("GET", f"/api/sessions?token={TOKEN}", token=None)

    assert answer.status == 401


async def test_an_issued_token_works_until_it_is_revoked(each_site: Site) -> None:
    """`ringback token` makes tokens for programs and takes them back."""
    database = each_site.engine.database
    token = await database.write(tokens.issue, name="ci", at=datetime.now(UTC))

    before = await each_site.call("GET", "/api/sessions", token=token)
    await database.write(tokens.revoke, "ci")
    after = await each_site.call("GET", "/api/sessions", token=token)

    assert (before.status, after.status) == (200, 401)


async def test_an_issued_token_is_not_stored(database: Database) -> None:
    """Who reads the database cannot call the API."""
    token = await database.write(tokens.issue, name="ci", at=datetime.now(UTC))

    rows = await database.read(lambda conn: conn.execute(sa.select(tables.api_tokens)).all())

    assert token.removeprefix(tokens.PREFIX) not in repr(rows)


# -- sessions -------------------------------------------------------------------------------------


async def test_the_same_key_is_the_same_session(each_site: Site) -> None:
    """The first call makes the session, the others get it."""
    first = await each_site.call("POST", "/api/sessions", {"key": "ann", "agent": "coder"})
    again = await each_site.call("POST", "/api/sessions", {"key": "ann", "agent": "assistant"})

    assert (first.status, again.status) == (201, 200)
    assert first.json == again.json
    assert first.json["agent"] == "coder"


async def test_one_key_asked_for_at_once_makes_one_session(each_site: Site) -> None:
    """Callers that race get the same session, and one of them made it."""
    calls = [each_site.call("POST", "/api/sessions", {"key": "ann"}) for _ in range(20)]

    answers = await asyncio.gather(*calls)

    assert len({answer.json["session"] for answer in answers}) == 1
    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]


async def test_a_key_is_kept_as_it_is_or_refused(each_site: Site) -> None:
    """Nothing is replaced in a key: two callers would find themselves in one session."""
    kept = [{"key": key} for key in ("ü" * 255, "a/b c\n😀")]
    refused = [{"key": key} for key in ("a\0b", "a\ud800b")]

    answers = [await each_site.call("POST", "/api/sessions", one) for one in kept + refused]

    assert [one.status for one in answers] == [201, 201, 400, 400]
    assert [one.json["key"] for one in answers[:2]] == ["api:" + one["key"] for one in kept]


async def test_a_malformed_body_is_refused(site: Site) -> None:
    """What is wrong is named; nothing is stored."""
    refused: list[tuple[object, int, str]] = [
        ({"key": ""}, 400, "key"),
        ({"key": " "}, 400, "key"),
        ({"key": 1}, 400, "key"),
        ({"key": "k" * 256}, 400, "255"),
        ({"key": "k", "agent": "nobody"}, 400, "assistant, coder"),
        ({"key": "k", "agent": ["assistant"]}, 400, "agent"),
        ({"key": "k", "agent": None}, 400, "agent"),
        ([], 400, "object"),
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"\xff", 400, "UTF-8"),
        (b'{"key": "a", "key": "b"}', 400, "twice"),
        (b"[" * 100, 400, "deeper"),
        (b"x" * 5000, 413, "4096"),
    ]

    for body, status, word in refused:
        answer = await site.call("POST", "/api/sessions", body)

        assert (answer.status, answer.type) == (status, "application/problem+json"), body
        assert word in answer.json["detail"]
    assert (await site.get("/api/sessions")).json == {"sessions": [], "next": None}


@pytest.mark.parametrize(
    ("method", "path", "field", "others"),
    [
        ("POST", "sessions", "agnet", "agent, model, composition, voices, mode"),
        ("POST", "sessions/{session}/messages", "taget", "text, busy, knobs, target, attachments"),
        ("POST", "sessions/{session}/render", "text", "knobs"),
        ("POST", "sessions/{session}/stop", "voices", "voice"),
        ("POST", "sessions/{session}/interrupt", "txet", "text"),
        ("POST", "sessions/{session}/answer", "words", "question, answer"),
        ("PATCH", "sessions/{session}/state", "colour", "state, knobs"),
        ("POST", "tasks", "every", "cron, timezone, prompt, name, agent, session, once"),
        ("POST", "inbox/replay", "key", "channel, source, event_key"),
    ],
)
async def test_a_field_that_nobody_knows_is_refused(
    site: Site, method: str, path: str, field: str, others: str
) -> None:
    """It may be misspelt: left out in silence, something else would happen than was meant."""
    session = await site.session()

    answer = await site.call(method, f"/api/{path.format(session=session)}", {field: "x"})

    assert answer.status == 400
    assert answer.json["detail"].startswith(f"{field}: not taken here; there are: {others}")
    assert (await site.get(f"/api/sessions/{session}/messages")).json["messages"] == []


async def test_sessions_are_listed_by_their_last_activity(each_site: Site) -> None:
    """The most recently active one comes first; `limit` cuts the list."""
    first, second = await each_site.session("first"), await each_site.session("second")
    await each_site.finished(first)

    every = (await each_site.get("/api/sessions")).json["sessions"]
    newest = (await each_site.get("/api/sessions?limit=1")).json["sessions"]

    assert [first, second] == [one["session"] for one in every]
    assert newest == every[:1]


async def test_sessions_are_read_page_by_page(each_site: Site) -> None:
    """Every session once, in order; after the last page there is no other."""
    made = [await each_site.session(f"page-{number}") for number in range(5)]
    for session in made:
        await each_site.finished(session)

    seen = []
    path: str | None = "/api/sessions?limit=2"
    while path is not None:
        page = (await each_site.get(path)).json
        seen += [one["session"] for one in page["sessions"]]
        path = f"/api/sessions?limit=2&cursor={quote(page['next'])}" if page["next"] else None

    assert seen == made[::-1]


@pytest.mark.parametrize("cursor", ["x", "~", "2026-01-01~a", "2026-01-01T00:00:00+00:00~é"])
async def test_a_cursor_nobody_gave_is_refused(site: Site, cursor: str) -> None:
    """With a word on where cursors come from."""
    answer = await site.get(f"/api/sessions?cursor={quote(cursor)}")

    assert answer.status == 400
    assert "next" in answer.json["detail"]


async def test_a_limit_out_of_range_is_refused(site: Site) -> None:
    """A limit is a whole number that the service can bear."""
    limits = ["-1", "201", "x", "1.5", "٣", "9" * 30]

    answers = [await site.get(f"/api/sessions?limit={limit}") for limit in limits]

    assert {one.status for one in answers} == {400}
    assert "limit" in answers[0].json["detail"]


async def test_a_session_that_is_not_there_is_not_found(each_site: Site) -> None:
    """Whatever stands in the address, it never reaches the database as something else."""
    sessions = [NOBODY, "x", "%00", "%ff", "%ed%a0%80", "a" * 3000]
    rest = [("GET", ""), ("GET", "/messages"), ("POST", "/messages"), ("GET", "/events")]
    rest.append(("POST", "/stop"))

    answers = [
        await each_site.call(method, f"/api/sessions/{session}{path}", {"text": "hi"})
        for session in sessions
        for method, path in rest
    ]

    assert {(one.status, one.type) for one in answers} == {(404, "application/problem+json")}


# -- messages -------------------------------------------------------------------------------------


async def test_a_message_is_accepted_with_its_receipt(site: Site) -> None:
    """The answer names the turn and where to read on."""
    session = await site.session()

    answer = await site.send(session)
    receipt = answer.json

    assert answer.status == 202
    assert receipt == {
        "turn": receipt["turn"],
        "session": session,
        "number": 1,
        "duplicate": False,
        "answered": False,
        "status_url": f"/api/turns/{receipt['turn']}",
        "events_url": f"/api/sessions/{session}/events?turn={receipt['turn']}&after=0",
    }
    assert receipt["status_url"] == answer.headers["Location"]


async def test_messages_are_read_page_by_page(each_site: Site) -> None:
    """Question and answer stand in order; `after` is the number of the last one read."""
    session = await each_site.session()
    await each_site.finished(session, "one")
    await each_site.finished(session, "two")

    path = f"/api/sessions/{session}/messages"
    first = (await each_site.get(f"{path}?limit=3")).json["messages"]
    rest = (await each_site.get(f"{path}?after={first[-1]['number']}")).json["messages"]

    assert [one["text"] for one in first + rest] == ["one", "Hello.", "two", "Hello."]
    assert [one["role"] for one in first + rest] == ["user", "voice"] * 2


async def test_messages_are_read_backwards(each_site: Site) -> None:
    """With `before` come the last ones before a number, still oldest first."""
    session = await each_site.session()
    for text in ("one", "two", "three"):
        await each_site.finished(session, text)
    path = f"/api/sessions/{session}/messages"

    newest = (await each_site.get(f"{path}?before={2**53 - 1}&limit=2")).json["messages"]
    older = (await each_site.get(f"{path}?before={newest[0]['number']}&limit=3")).json["messages"]
    oldest = (await each_site.get(f"{path}?before={older[0]['number']}&limit=3")).json["messages"]
    between = f"{path}?after={oldest[0]['number']}&before={newest[0]['number']}&limit=2"

    assert [one["text"] for one in newest] == ["three", "Hello."]
    assert [one["text"] for one in older] == ["Hello.", "two", "Hello."]
    assert [one["text"] for one in oldest] == ["one"]
    assert (await each_site.get(between)).json["messages"] == older[1:]


@pytest.mark.parametrize("before", ["x", "-1", "1.5", str(2**53 + 1)])
async def test_a_number_that_is_none_is_refused(site: Site, before: str) -> None:
    """The answer names what is wrong."""
    session = await site.session()

    answer = await site.get(f"/api/sessions/{session}/messages?before={before}")

    assert (answer.status, "before" in answer.json["detail"]) == (400, True)


async def test_a_text_of_any_characters_is_kept(each_site: Site) -> None:
    """What no database stores is replaced; everything else is kept as it is."""
    session = await each_site.session()
    await each_site.finished(session, "a\0b 😀 \ud800\nc")

    stored = (await each_site.get(f"/api/sessions/{session}/messages")).json["messages"]

    assert stored[0]["text"] == "a\ufffdb 😀 \ufffd\nc"


async def test_the_same_idempotency_key_makes_one_turn(each_site: Site) -> None:
    """A repeat, also one that races, gets the turn that is there."""
    session = await each_site.session()

    calls = [each_site.send(session, "hi", {"Idempotency-Key": "k-1"}) for _ in range(20)]
    answers = await asyncio.gather(*calls)

    assert len({answer.json["turn"] for answer in answers}) == 1
    assert sorted(answer.status for answer in answers) == [200] * 19 + [202]


async def test_an_idempotency_key_belongs_to_its_text(site: Site) -> None:
    """The same key with other words is a mistake of the caller."""
    session = await site.session()
    await site.send(session, "one", {"Idempotency-Key": "k-1"})

    answer = await site.send(session, "two", {"Idempotency-Key": "k-1"})

    assert (answer.status, answer.json["reason"]) == (422, "key_reused")


async def test_an_idempotency_key_belongs_to_its_session(site: Site) -> None:
    """The same words under the same key in another session are another message."""
    first, second = await site.session("first"), await site.session("second")

    answers = [await site.send(one, "hi", {"Idempotency-Key": "k-1"}) for one in (first, second)]

    assert [(202, first), (202, second)] == [(one.status, one.json["session"]) for one in answers]


async def test_an_idempotency_key_must_be_printable(site: Site) -> None:
    """A key that cannot be kept as it is is refused, not changed."""
    session, wrong = await site.session(), ["", "two words", "ü", "k" * 256]

    answers = [await site.send(session, "hi", {"Idempotency-Key": key}) for key in wrong]

    assert {one.status for one in answers} == {400}
    assert "Idempotency-Key" in answers[0].json["detail"]


async def test_who_prefers_to_wait_gets_the_result(site: Site) -> None:
    """The result comes in the answer when it is there in time."""
    answer = await site.send(await site.session(), "hi", {"Prefer": "wait=60"})

    assert (answer.status, answer.headers["Preference-Applied"]) == (200, "wait=60")
    assert (answer.json["state"], answer.json["text"]) == ("succeeded", "Hello.")


async def test_who_waits_too_short_gets_the_receipt(database: Database) -> None:
    """After the deadline the turn goes on, and the receipt says where."""
    until = asyncio.Event()
    async with serving(database, _waiting(until)) as site:
        answer = await site.send(await site.session(), "hi", {"Prefer": "wait=0"})
        until.set()
        result = await site.get(f"{answer.headers['Location']}?wait=60")

    assert (answer.status, answer.headers["Preference-Applied"]) == (202, "wait=0")
    assert result.json["text"] == "Well, hello."


async def test_a_full_queue_says_when_to_come_back(database: Database) -> None:
    """One session cannot pile up more than it may; a refused key stays free."""
    until = asyncio.Event()
    async with serving(database, _waiting(until)) as site:
        session = await site.session()
        answers = [await site.send(session, str(number)) for number in range(8)]
        until.set()

    # The last one may have found room: the first one leaves the queue when it is begun.
    refused = next(one for one in answers if one.status != 202)
    assert refused.status == 429
    assert refused.headers["Retry-After"].isdigit()
    assert refused.json["reason"] == "queue_full"


async def test_a_service_that_shuts_down_takes_no_message(site: Site) -> None:
    """Nothing is accepted that would not be stored."""
    session = await site.session()
    await site.engine.intake.drain()

    answer = await site.send(session)

    assert (answer.status, answer.json["reason"]) == (503, "draining")
    assert answer.headers["Retry-After"].isdigit()


# -- turns ----------------------------------------------------------------------------------------


async def test_a_turn_tells_its_result(site: Site) -> None:
    """The result has the words, the state and what it cost."""
    receipt = (await site.send(await site.session())).json

    result = (await site.get(f"/api/turns/{receipt['turn']}?wait=60")).json

    assert (result["state"], result["text"], result["error"]) == ("succeeded", "Hello.", None)
    assert result["usage"]["requests"] == 1


async def test_a_turn_that_is_not_there_is_not_found(each_site: Site) -> None:
    """Nobody waits for what never was."""
    turns = [NOBODY, "x", "%00", "%ff"]

    answers = [await each_site.get(f"/api/turns/{turn}?wait=60") for turn in turns]

    assert {one.status for one in answers} == {404}


async def test_stop_ends_what_runs_and_what_waits(database: Database) -> None:
    """The running turn keeps what was said so far; the queued one is never begun."""
    async with serving(database, _waiting(asyncio.Event())) as site:
        session = await site.session()
        first, second = [(await site.send(session)).json for _ in range(2)]
        following = site.engine.feed.follow(session, after=0, turn=first["turn"])  # type: ignore[arg-type]
        async for event in following:
            if event.kind == "text":
                break
        await following.aclose()

        stopped = await site.call("POST", f"/api/sessions/{session}/stop")
        results = [(await site.get(f"{one['status_url']}?wait=60")).json for one in (first, second)]

    assert stopped.json == {"stopped": 2}
    assert [(one["state"], one["text"]) for one in results] == [
        ("stopped", "Well, "),
        ("stopped", ""),
    ]


async def test_one_turn_is_stopped_alone(database: Database) -> None:
    """The one that waits is never begun, and the one before it goes on; once is enough."""
    release = asyncio.Event()
    async with serving(database, _waiting(release)) as site:
        session = await site.session()
        first, second = [(await site.send(session)).json for _ in range(2)]

        path = f"/api/turns/{second['turn']}/stop"
        stopped, again = [(await site.call("POST", path)).json for _ in range(2)]
        release.set()
        results = [(await site.get(f"{one['status_url']}?wait=60")).json for one in (first, second)]

    assert (stopped, again) == ({"stopped": 1}, {"stopped": 0})
    assert [one["state"] for one in results] == ["succeeded", "stopped"]


async def test_a_turn_that_is_not_there_is_not_stopped(each_site: Site) -> None:
    """Whatever it is called."""
    turns = [NOBODY, "x", "%00", "%ff"]

    answers = [await each_site.call("POST", f"/api/turns/{turn}/stop") for turn in turns]

    assert {one.status for one in answers} == {404}


async def test_stop_without_anything_to_stop_does_no_harm(site: Site) -> None:
    """Stopping twice is no mistake."""
    session = await site.session()
    await site.finished(session)

    answer = await site.call("POST", f"/api/sessions/{session}/stop")

    assert (answer.status, answer.json) == (200, {"stopped": 0})


# -- tasks and agents -----------------------------------------------------------------------------


async def test_tasks_are_listed_with_their_next_instant(site: Site) -> None:
    """A task that is off has none."""
    listed = (await site.get("/api/tasks")).json["tasks"]

    assert {one["task"]: one["next_at"] is not None for one in listed} == {
        "morning": True,
        "off": False,
    }
    assert listed[0] == (await site.get("/api/tasks/morning")).json
    assert listed[0]["timezone"] == "Europe/Berlin"


async def test_a_task_can_be_run_now(each_site: Site) -> None:
    """Its turn begins at once and its occurrence is recorded as asked for by hand."""
    answer = await each_site.call("POST", "/api/tasks/morning/run")
    result = (await each_site.get(f"{answer.headers['Location']}?wait=60")).json
    occurrences = (await each_site.get("/api/tasks/morning/occurrences")).json["occurrences"]

    assert (answer.status, result["state"]) == (202, "succeeded")
    assert [(True, "done", answer.json["turn"])] == [
        (one["manual"], one["state"], one["turn"]) for one in occurrences
    ]


async def test_what_is_not_there_is_not_found(site: Site) -> None:
    """A name nobody configured is said to be unknown."""
    names = ["/api/nothing", "/api/tasks/evening", "/api/tasks/evening/occurrences"]
    read = [await site.get(path) for path in [*names, "/api/tasks/%00"]]
    run = await site.call("POST", "/api/tasks/evening/run")

    answers = {(one.status, one.type) for one in [*read, run]}

    assert answers == {(404, "application/problem+json")}


async def test_a_wrong_method_says_which_ones_there_are(site: Site) -> None:
    """The answer helps whoever mixed them up."""
    answer = await site.call("DELETE", "/api/sessions")

    assert (answer.status, answer.type) == (405, "application/problem+json")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].replace(" ", "").split(","))


async def test_agents_are_listed_without_their_prompts(site: Site) -> None:
    """Programs learn what they can bind a session to."""
    listed = (await site.get("/api/agents")).json["agents"]

    assert [one["agent"] for one in listed] == ["assistant", "coder"]
    assert set(listed[0]) == {
        "agent",
        "provider",
        "model",
        "tools",
        "busy",
        "attachments",
        "knobs",
        "limits",
    }


# -- what went wrong ------------------------------------------------------------------------------


async def test_the_inbox_tells_what_was_received(each_site: Site) -> None:
    """A message of the API is one of the things received; a state picks some of them."""
    receipt = await each_site.finished(await each_site.session())

    accepted = (await each_site.get("/api/inbox?state=accepted")).json["inbox"]
    quarantined = (await each_site.get("/api/inbox?state=quarantined")).json["inbox"]

    assert [("console", receipt["turn"])] == [(one["channel"], one["turn"]) for one in accepted]
    assert quarantined == []


async def test_deliveries_are_listed_by_state(each_site: Site) -> None:
    """Nothing is sent for a message of the API: who asked reads the answer."""
    await each_site.finished(await each_site.session())

    answers = [await each_site.get(f"/api/deliveries{query}") for query in ("", "?state=failed")]

    assert [answer.json for answer in answers] == [{"deliveries": [], "next": None}] * 2


async def test_an_unknown_state_is_refused(site: Site) -> None:
    """The answer lists the states there are."""
    answers = [await site.get(f"/api/{path}?state=lost") for path in ("deliveries", "inbox")]

    assert [one.status for one in answers] == [400, 400]
    assert "state takes one of pending, " in answers[0].json["detail"]
