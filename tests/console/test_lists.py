"""The API of lists: views, pages, names, pins, the archive, deletion, search and export."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

import pytest

from service.core.model import Message, Role, SessionId
from service.ports import Finished, TextDelta
from service.store import lists, sessions
from service.store.database import Database
from tests.console.site import Site, serving
from tests.engine.engine import ring
from tests.fakes import ScriptedAgents
from tests.webhook.site import Answer

NOBODY = "01900000-0000-7000-8000-000000000000"
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def _cursor(**values: object) -> str:
    """A cursor nobody gave."""
    place = {"id": NOBODY, "at": AT.isoformat(), "sticky": False, "task": "", **values}
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


async def _begin(site: Site, key: str = "ann", text: str = "hi") -> str:
    """A session in which something was said and answered."""
    session = await site.session(key)
    await site.finished(session, text)
    return session


async def _do(site: Site, session: str, what: str) -> Answer:
    return await site.call("POST", f"/api/sessions/{session}/{what}")


async def _change(site: Site, session: str, body: object) -> Answer:
    return await site.call("PATCH", f"/api/sessions/{session}", body)


async def _listed(site: Site, query: str = "") -> list[Mapping[str, Any]]:
    answer = await site.get(f"/api/sessions{query}")
    assert answer.status == 200, answer.body
    found: list[Mapping[str, Any]] = answer.json["sessions"]
    return found


async def _ids(site: Site, query: str = "") -> list[str]:
    return [one["session"] for one in await _listed(site, query)]


# -- lists ----------------------------------------------------------------------------------------


async def test_a_session_in_a_list_says_all_there_is_to_show(each_site: Site) -> None:
    """Without another call for each."""
    session = await _begin(each_site, text="What is up?")

    found = await _listed(each_site)
    one = (await each_site.get(f"/api/sessions/{session}")).json

    shown = found[0]
    expected = {
        "session": session,
        "key": "api:ann",
        "agent": "assistant",
        "title": "What is up?",
        "titled": False,
        "source": "manual",
        "origin": "console",
        "task": None,
        "project": None,
        "scan": None,
        "investigated": False,
        "composition": None,
        "sticky": False,
        "archived": False,
        "unread": True,
        "state": None,
        "mode": "broadcast",
        "continuation": "none",
        "busy": "queue",
        "owner": "operator",
        "run": None,
    }
    assert expected == {name: shown[name] for name in expected}
    times = {"created_at", "active_at", "last_event", "last_message", "target"}
    assert set(shown) == {*expected, *times}
    assert shown == {name: one[name] for name in shown}
    assert {"voices", "target", "processing_ms", "usage", "tasks"} <= set(one)


async def test_pinned_ones_come_first(each_site: Site) -> None:
    """Then those that were used last."""
    first, second, third = [await _begin(each_site, key) for key in ("a", "b", "c")]
    await _do(each_site, first, "pin")

    assert await _ids(each_site) == [first, third, second]


async def test_only_the_newest_empty_session_is_listed(each_site: Site) -> None:
    """So that trying out leaves no ghosts."""
    spoken = await _begin(each_site)
    empty = [await each_site.session(f"empty-{number}") for number in range(3)]

    assert await _ids(each_site) == [empty[-1], spoken]


async def test_archived_ones_have_a_list_of_their_own(each_site: Site) -> None:
    """And leave the others until they are restored."""
    kept, away = await _begin(each_site, "kept"), await _begin(each_site, "away")
    archived = await _do(each_site, away, "archive")
    meanwhile = await _ids(each_site), await _ids(each_site, "?view=archived")
    restored = await _do(each_site, away, "restore")

    assert (archived.status, archived.json["archived"]) == (200, True)
    assert meanwhile == ([kept], [away])
    assert (restored.status, restored.json["archived"]) == (200, False)
    assert await _ids(each_site) == [away, kept]
    assert await _ids(each_site, "?view=archived") == []


async def test_what_a_task_made_is_listed_with_its_run(each_site: Site) -> None:
    """By task; with when it ran, whether by hand, and how long it took."""
    await _begin(each_site)
    receipt = (await each_site.call("POST", "/api/tasks/morning/run")).json
    result = (await each_site.get(f"/api/turns/{receipt['turn']}?wait=60")).json

    found = await _listed(each_site, "?view=scheduled")

    assert result["state"] == "succeeded"
    assert [one["session"] for one in found] == [receipt["session"]]
    assert (found[0]["task"], found[0]["source"]) == ("morning", "scheduled")
    run = found[0]["run"]
    assert (run["state"], run["manual"]) == ("done", True)
    assert run["duration_ms"] >= 0
    assert run["scheduled_at"].endswith("Z")
    assert run["started_at"] <= run["finished_at"]


@pytest.mark.parametrize("view", ["active", "archived", "scheduled"])
async def test_every_list_is_read_page_by_page(each_site: Site, view: str) -> None:
    """Every session once, in order; after the last page there is no other."""
    made = []
    for number in range(5):
        session = await _begin(each_site, f"page-{number}")
        await each_site.engine.database.write(
            lists.change, SessionId(session), task=f"t{number % 2}", sticky=number == 1
        )
        made.append(session)
    if view == "archived":
        for session in made:
            await _do(each_site, session, "unpin")
            await _do(each_site, session, "archive")

    whole = await _ids(each_site, f"?view={view}")
    seen: list[str] = []
    path: str | None = f"/api/sessions?view={view}&limit=2"
    while path is not None:
        page = (await each_site.get(path)).json
        seen += [one["session"] for one in page["sessions"]]
        cursor = page["next"]
        path = f"/api/sessions?view={view}&limit=2&cursor={quote(cursor)}" if cursor else None

    assert sorted(whole) == sorted(made)
    assert seen == whole


async def test_a_list_is_narrowed_by_title(each_site: Site) -> None:
    """Literally, whatever stands there."""
    await _begin(each_site, "a", "Buy 100% cotton")
    plans = await _begin(each_site, "b", "Holiday plans")

    assert await _ids(each_site, "?q=PLAN") == [plans]
    assert await _ids(each_site, f"?q={quote('%')}l") == []
    assert len(await _ids(each_site, "?q=%20")) == 2


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("view=all", "active, archived, scheduled"),
        ("view=", "active"),
        ("limit=201", "200"),
        (f"q={'x' * 201}", "200"),
        ("cursor=", "next"),
        ("cursor=x", "next"),
        ("cursor=%00", "next"),
        ("cursor=%C3%A9", "next"),
        ("cursor=bnVsbA", "next"),
        ("cursor=W10", "next"),
        ("cursor=e30", "next"),
        (f"cursor={'W1tb' * 1750}", "next"),
        (f"cursor={_cursor(at='0001-01-01T00:00:00+23:59')}", "next"),
        (f"cursor={_cursor(id='x')}", "next"),
        (f"cursor={_cursor(task=None)}", "next"),
        (f"cursor={_cursor(sticky='yes')}", "next"),
        (f"cursor={_cursor(more=1)}", "next"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(site: Site, query: str, word: str) -> None:
    """With a word on what would."""
    answer = await site.get(f"/api/sessions?{query}")

    assert (answer.status, answer.type) == (400, "application/problem+json")
    assert word in answer.json["detail"]


# -- names and set-up -----------------------------------------------------------------------------


async def test_a_session_is_renamed(each_site: Site) -> None:
    """On one line, for good: what is said later does not name it again."""
    session = await _begin(each_site, text="First words")

    answer = await _change(each_site, session, {"title": "  My\n plans "})
    await each_site.finished(session, "Other words")

    assert (answer.status, answer.json["title"], answer.json["titled"]) == (200, "My plans", True)
    assert (await _listed(each_site))[0]["title"] == "My plans"


@pytest.mark.parametrize("name", ["agent", "provider", "model", "prompt", "tools"])
async def test_a_session_is_bound_for_life(site: Site, name: str) -> None:
    """Nothing of a request that asks for another agent or model is done."""
    session = await _begin(site)

    answer = await _change(site, session, {name: "another", "title": "New"})

    assert answer.status == 422
    assert f"{name}: bound for life" in answer.json["detail"]
    assert (await _listed(site))[0]["title"] == "hi"


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"title": ""}, 400, "title"),
        ({"title": " "}, 400, "title"),
        ({"title": None}, 400, "title"),
        ({"title": ["x"]}, 400, "title"),
        ({"title": "x" * 201}, 400, "200"),
        ({"sticky": True}, 400, "sticky"),
        ({"owner": "me"}, 400, "owner"),
        ({"title": "New", "busy": "sometimes"}, 400, "busy"),
        ({"title": "New", "target": NOBODY}, 422, "target"),
        ([], 400, "object"),
        (b"{", 400, "JSON"),
    ],
)
async def test_a_change_is_made_whole_or_not_at_all(
    each_site: Site, body: object, status: int, word: str
) -> None:
    """What does not fit is named."""
    session = await _begin(each_site)

    answer = await _change(each_site, session, body)

    assert (answer.status, answer.type) == (status, "application/problem+json")
    assert word in answer.json["detail"]
    assert (await _listed(each_site))[0]["title"] == "hi"


async def test_several_things_change_at_once(each_site: Site) -> None:
    """In one call."""
    session = await _begin(each_site)

    answer = await _change(each_site, session, {"title": "New", "busy": "steer"})

    assert (answer.json["title"], answer.json["busy"]) == ("New", "steer")


# -- pins and the archive -------------------------------------------------------------------------


async def test_a_pinned_session_is_not_archived(each_site: Site) -> None:
    """The refusal says what to do."""
    session = await _begin(each_site)
    pinned = await _do(each_site, session, "pin")

    refused = await _do(each_site, session, "archive")
    unpinned = await _do(each_site, session, "unpin")
    archived = await _do(each_site, session, "archive")

    assert (pinned.json["sticky"], unpinned.json["sticky"]) == (True, False)
    assert refused.status == 409
    assert refused.json["detail"] == "the session is pinned; unpin it first"
    assert archived.status == 200


async def test_refused_attempts_are_written_down(each_site: Site) -> None:
    """With who made them."""
    session = await _begin(each_site)
    await _do(each_site, session, "pin")
    await _do(each_site, session, "archive")

    entries = (await each_site.get("/api/audit")).json["audit"]

    found = [one for one in entries if one["session"] == session]
    assert [(one["principal"], one["action"], one["allowed"]) for one in found] == [
        ("operator", "archive", False)
    ]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "messages", {"text": "hi"}),
        ("POST", "render", None),
        ("POST", "compact", None),
        ("POST", "clear", None),
        ("POST", "pin", None),
        ("POST", "unpin", None),
        ("PATCH", "state", {"state": {"a": 1}}),
        ("PATCH", "", {"title": "New"}),
        ("PATCH", "", {"busy": "steer"}),
        ("PATCH", "", {"mode": "conductor"}),
        ("POST", "voices", {"agent": "coder"}),
        ("PATCH", "voices/of-whom", {"rounds": 1}),
    ],
)
async def test_an_archived_session_is_only_read(
    each_site: Site, method: str, path: str, body: object
) -> None:
    """Whatever would change it is refused, with the way out."""
    session = await _begin(each_site)
    archived = await _do(each_site, session, "archive")

    address = f"/api/sessions/{session}/{path}".rstrip("/")
    answer = await each_site.call(method, address, body)

    assert (archived.status, answer.status) == (200, 409)
    assert "restore it first" in answer.json["detail"]


async def test_an_archived_session_can_be_read(each_site: Site) -> None:
    """Its messages, its file, and that somebody has seen them."""
    session = await _begin(each_site)
    await _do(each_site, session, "archive")

    said = (await each_site.get(f"/api/sessions/{session}/messages")).json["messages"]
    read = await _do(each_site, session, "read")
    export = await each_site.get(f"/api/sessions/{session}/export")

    assert [one["text"] for one in said] == ["hi", "Hello."]
    assert (read.status, read.json["unread"], export.status) == (200, False, 200)


async def test_a_key_goes_to_the_next_session(each_site: Site) -> None:
    """When the one that had it is archived."""
    first = await _begin(each_site)
    await _do(each_site, first, "archive")

    second = await each_site.session()
    restored = await _do(each_site, first, "restore")

    assert first != second
    assert restored.json["key"] is None


async def test_a_busy_session_is_not_archived(local_database: Database) -> None:
    """It has to be stopped first."""
    until = asyncio.Event()
    scripted = ScriptedAgents([[TextDelta("Well"), until, Finished()]])
    async with serving(local_database, scripted) as site:
        session = await site.session()
        receipt = (await site.send(session)).json
        shown = (await _listed(site))[0]["state"]
        refused = await _do(site, session, "archive")
        until.set()
        await site.get(f"/api/turns/{receipt['turn']}?wait=60")

    assert shown in ("queued", "running")
    assert (refused.status, "stop it first" in refused.json["detail"]) == (409, True)


# -- delete ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["pin", "archive", "read"])
async def test_a_deleted_session_is_gone(each_site: Site, before: str) -> None:
    """From wherever it was; there is no way back, and nothing of it is found."""
    session = await _begin(each_site, text="apple")
    await _do(each_site, session, before)

    answer = await each_site.call("DELETE", f"/api/sessions/{session}")

    again = await each_site.call("DELETE", f"/api/sessions/{session}")
    one = await each_site.get(f"/api/sessions/{session}")
    assert (answer.status, answer.body, again.status, one.status) == (204, b"", 404, 404)
    assert await _ids(each_site) == []
    assert (await each_site.get("/api/search?q=apple")).json["hits"] == []


async def test_tasks_that_would_have_nowhere_to_ring_are_named(each_site: Site) -> None:
    """So that whoever is about to delete the session can be warned."""
    session = await _begin(each_site)
    body = {"cron": "0 8 * * *", "prompt": "Good morning.", "name": "wake", "session": session}
    made = await each_site.call("POST", "/api/tasks", body)

    one = (await each_site.get(f"/api/sessions/{session}")).json

    assert made.status == 201
    assert one["tasks"] == ["wake"]


@pytest.mark.parametrize("path", ["archive", "restore", "pin", "unpin", "read", "export", ""])
async def test_a_session_that_is_not_there_is_not_found(site: Site, path: str) -> None:
    """Nor is one whose id is none."""
    method = "GET" if path == "export" else "POST" if path else "PATCH"
    addresses = [f"/api/sessions/{one}/{path}".rstrip("/") for one in (NOBODY, "%00", "x")]

    answers = [await site.call(method, address, {"title": "x"}) for address in addresses]

    assert [one.status for one in answers] == [404, 404, 404]


# -- search ---------------------------------------------------------------------------------------


async def test_messages_are_searched(each_site: Site) -> None:
    """Newest first, with where they are; archived sessions are left out."""
    first = await _begin(each_site, "a", "An apple a day")
    second = await _begin(each_site, "b", "Apple pie")
    away = await _begin(each_site, "c", "Apple tart")
    await _do(each_site, away, "archive")

    hits = (await each_site.get("/api/search?q=apple")).json["hits"]
    one = (await each_site.get("/api/search?q=apple&limit=1")).json["hits"]

    assert [(hit["session"], hit["excerpt"]) for hit in hits] == [
        (second, "Apple pie"),
        (first, "An apple a day"),
    ]
    assert hits[0]["title"] == "Apple pie"
    assert (hits[0]["role"], hits[0]["author"], hits[0]["number"]) == ("user", "operator", 1)
    assert hits[0]["at"].endswith("Z")
    assert one == hits[:1]


@pytest.mark.parametrize("query", ["", "q=", "q=a", "q=%20a%20", f"q={'x' * 201}", "q=ab&limit=51"])
async def test_a_search_has_two_to_two_hundred_characters(site: Site, query: str) -> None:
    """And gives fifty hits at most."""
    answer = await site.get(f"/api/search?{query}")

    assert answer.status == 400
    assert "to " in answer.json["detail"]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "''",
        "a AND (",
        "NEAR(a b)",
        "a:b*",
        "\\'",
        "--;",
        "x\x00y",
        "🚀🚀",
        "字" * 200,
        "& | !",
    ],
)
async def test_no_search_breaks_anything(each_site: Site, query: str) -> None:
    """Whatever somebody types is looked for."""
    await _begin(each_site)

    answer = await each_site.get(f"/api/search?q={quote((query + '  ')[:200], safe='')}")

    assert answer.status in (200, 400)
    assert "500" not in answer.body.decode()


# -- export ---------------------------------------------------------------------------------------


async def _export(site: Site, session: str, format_: str) -> Answer:
    return await site.get(f"/api/sessions/{session}/export?format={format_}")


async def test_a_session_is_saved_as_markdown(each_site: Site) -> None:
    """As a file that is called like it; Markdown is what one gets without asking."""
    session = await _begin(each_site, text="What is *this*?")

    answer = await _export(each_site, session, "markdown")
    unasked = await each_site.get(f"/api/sessions/{session}/export")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.body == unasked.body
    lines = answer.body.decode().splitlines()
    assert lines[0] == "# What is *this*?"
    assert [line for line in lines if line in ("What is *this*?", "Hello.")] == [
        "What is *this*?",
        "Hello.",
    ]
    assert [line.partition(" · ")[0] for line in lines if line.startswith("## ")] == [
        "## operator",
        "## assistant",
    ]


async def test_a_session_is_saved_as_json(each_site: Site) -> None:
    """With everything the API tells of it."""
    session = await _begin(each_site)

    answer = await _export(each_site, session, "json")

    whole = json.loads(answer.body)
    said = (await each_site.get(f"/api/sessions/{session}/messages")).json["messages"]
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert whole["session"]["session"] == session
    assert whole["messages"] == said


async def test_a_session_is_saved_as_text(each_site: Site) -> None:
    """To be read anywhere."""
    session = await _begin(each_site, text="Good morning")

    answer = await _export(each_site, session, "text")

    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    text = answer.body.decode()
    assert text.startswith("Good morning\n============\n")
    assert text.endswith(":\nHello.\n")


async def test_an_empty_session_is_saved_as_well(site: Site) -> None:
    """There is just nothing in it."""
    session = await site.session()

    whole = json.loads((await _export(site, session, "json")).body)

    assert whole["messages"] == []
    assert (await _export(site, session, "text")).status == 200


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Grüße aus Köln", "Grüße aus Köln.md"),
        ("../../etc/passwd", "-..-etc-passwd.md"),
        ('a"b\r\nX: y', 'a"b X: y.md'),
        ("C:\\secret", "C:-secret.md"),
        (".hidden", "hidden.md"),
        ("...", "session.md"),
        ("x" * 200, "x" * 100 + ".md"),
    ],
)
async def test_a_file_is_named_by_the_title(site: Site, title: str, name: str) -> None:
    """Whatever the title is, it is a name and no path, and no header of its own."""
    session = await site.session()
    await _change(site, session, {"title": title})

    answer = await _export(site, session, "markdown")

    given = answer.headers["Content-Disposition"]
    assert unquote(given.partition("UTF-8''")[2]) == name
    assert "X" not in answer.headers


async def test_an_unknown_format_is_refused(site: Site) -> None:
    """With those there are."""
    answer = await _export(site, await site.session(), "pdf")

    assert answer.status == 400
    assert "markdown, json, text" in answer.json["detail"]


async def test_a_long_session_is_saved_whole(each_site: Site) -> None:
    """Page by page, each message once and in order."""
    session = SessionId(await each_site.session())
    await each_site.engine.database.write(_say, session, 1_000)

    whole = json.loads((await _export(each_site, session, "json")).body)

    assert [one["number"] for one in whole["messages"]] == list(range(1, 1_001))


def _say(conn: Any, session: SessionId, many: int) -> None:
    for number in range(1, many + 1):
        at = AT + timedelta(seconds=number)
        message = Message(number, Role.USER, "operator", f"line {number}", "complete", at)
        sessions.add_message(conn, session, message, turn_number=number)
    lists.change(conn, session, last_event=many, last_message=many)


# -- who may --------------------------------------------------------------------------------------


async def test_sessions_of_other_channels_are_kept_the_same_way(each_site: Site) -> None:
    """A chat's session is listed, named and archived like any other."""
    accepted = await each_site.engine.accept("From a chat")
    await each_site.engine.result(accepted.turn)

    renamed = await _change(each_site, accepted.session, {"title": "Chat"})
    archived = await _do(each_site, accepted.session, "archive")
    outcome = await each_site.engine.intake.accept(ring())

    assert (renamed.json["origin"], renamed.json["title"]) == ("telegram", "Chat")
    assert archived.status == 200
    assert getattr(outcome, "session", None) not in (None, accepted.session)
