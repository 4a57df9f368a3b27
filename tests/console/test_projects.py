"""Projects over HTTP: who may do what in them, what is hidden, and the own project of each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from service.core.access import UserRole
from service.core.dependency import Dependency
from service.core.model import Channel, ProjectId, SessionId
from service.core.project import Project
from service.core.template import Template, TemplateSession
from service.core.template import format as format_template
from service.engine.projects import MOST, NewInvestigation, Projects, bound
from service.errors import BadInput
from service.store import lists
from service.store import projects as store
from service.store.database import Database
from service.store.ids import new_id
from service.store.projects import StoredTemplate
from tests.console.people import Browser, cookie_of
from tests.console.site import Site, serving
from tests.console.test_socket import NO_ID, opened
from tests.console.test_steer import Gate, asked, asking, working
from tests.engine.engine import BINDING, Engine
from tests.fakes import RememberingSender, ScriptedAgents

SHARES = [
    {"name": "ed", "share": "editor"},
    {"name": "reader", "share": "editor"},
    {"name": "vi", "share": "viewer"},
]
ROLES = {
    # May only look at the console, whatever a project says.
    "reader": UserRole.VIEWER,
    "outsider": UserRole.VIEWER,
    "root": UserRole.ADMIN,
}


@dataclass(frozen=True)
class Place:
    """A project of Olga's, one session in it that was begun, and the people around it."""

    site: Site
    project: str
    session: str
    turn: str
    people: dict[str, Browser] = field(default_factory=dict)

    async def browser(self, name: str) -> Browser:
        """The browser of somebody, who signs in at first."""
        if name not in self.people:
            self.people[name] = await person(self.site, name)
        return self.people[name]


async def person(site: Site, name: str) -> Browser:
    """The browser of somebody who signs in."""
    return Browser(site, await cookie_of(site, name, ROLES.get(name, UserRole.OPERATOR)))


async def made(site: Site, project: str, title: str, **given: Any) -> SessionId:
    """A session of a project that was not begun; of Olga's."""
    new = NewInvestigation(title=title, **given)
    found = await site.api.projects.add(ProjectId(project), new, by="olga")
    assert isinstance(found, str)
    return found


async def shared(olga: Browser, name: str = "Fraud") -> str:
    """A project of Olga's with editors and a viewer."""
    body = {"name": name, "domain": "Payments", "members": SHARES}
    project: str = (await olga.call("POST", "/api/projects", body)).json["project"]
    return project


async def begun(browser: Browser, session: str, text: str = "the needle") -> str:
    """Say something; the turn, once it is over."""
    sent = await browser.call("POST", f"/api/sessions/{session}/messages", {"text": text})
    turn: str = sent.json["turn"]
    await browser.call("GET", f"/api/turns/{turn}?wait=60")
    return turn


async def placed(site: Site) -> Place:
    """The place on a site."""
    olga = await person(site, "olga")
    project = await shared(olga)
    session = await made(site, project, "Chargebacks")
    return Place(site, project, session, await begun(olga, session), {"olga": olga})


@pytest.fixture
async def place(site: Site) -> Place:
    """On SQLite."""
    return await placed(site)


@pytest.fixture
async def each_place(each_site: Site) -> Place:
    """The same on each kind of database."""
    return await placed(each_site)


# -- who may do what ------------------------------------------------------------------------------

LOOKS = ("project", "session", "messages", "turn", "events", "export", "state", "follow")
LISTED = ("projects", "sessions", "of project", "archived", "search")
WRITES = ("send", "stop", "rename", "knobs", "order", "change", "add", "socket")
OWNS = ("members", "unshare", "hand over", "delete")

# What somebody gets from: looking, lists, writing, owning, interrupting.
RIGHTS: Mapping[str, tuple[int, bool, int, int, int]] = {
    "olga": (200, True, 200, 200, 200),
    "ed": (200, True, 200, 403, 403),
    "vi": (200, True, 403, 403, 403),
    "reader": (200, True, 403, 403, 403),
    "out": (404, False, 404, 404, 404),
    "outsider": (404, False, 403, 403, 403),
    "root": (200, True, 200, 200, 200),
}


@pytest.mark.parametrize("name", RIGHTS)
async def test_who_may_do_what(each_place: Place, name: str) -> None:
    """Owner and editors write, viewers look; for everybody else there is nothing."""
    looks, listed, writes, owns, interrupts = RIGHTS[name]
    browser = await each_place.browser(name)

    found = {
        **await _looked(each_place, browser),
        **await _listed(each_place, browser),
        **await _written(each_place, browser),
        "interrupt": await _status(
            browser, "POST", f"/api/sessions/{each_place.session}/interrupt"
        ),
        **await _owned(each_place, browser),
    }

    assert found == {
        **dict.fromkeys(LOOKS, looks),
        **dict.fromkeys(LISTED, listed),
        **dict.fromkeys(WRITES, writes),
        "interrupt": interrupts,
        **dict.fromkeys(OWNS, owns),
    }


async def _status(browser: Browser, method: str, path: str, body: object = None) -> int:
    """The status; how a thing was done is of no interest here."""
    status = (await browser.call(method, path, body)).status
    return 200 if status < 300 else status


def _outcome(answer: Mapping[str, Any]) -> int:
    """The same of what a socket answers."""
    return 200 if "done" in answer else int(answer["error"]["status"])


async def _looked(place: Place, browser: Browser) -> dict[str, int]:
    one = f"/api/sessions/{place.session}"
    paths = {
        "project": f"/api/projects/{place.project}",
        "session": one,
        "messages": f"{one}/messages",
        "turn": f"/api/turns/{place.turn}",
        "events": f"{one}/events?turn={place.turn}",
        "export": f"{one}/export",
        "state": f"{one}/state",
    }
    found = {what: await _status(browser, "GET", path) for what, path in paths.items()}
    async with opened(place.site, browser.headers) as line:
        found["follow"] = _outcome(await line.ask("follow", session=place.session))
    return found


async def _listed(place: Place, browser: Browser) -> dict[str, bool]:
    away = await made(place.site, place.project, "Put away")
    await place.site.call("POST", f"/api/sessions/{away}/archive")
    paths = {
        "projects": ("/api/projects", place.project),
        "sessions": ("/api/sessions", place.session),
        "of project": (f"/api/sessions?project={place.project}", place.session),
        "archived": ("/api/sessions?view=archived", away),
        "search": ("/api/search?q=needle", place.session),
    }
    answers = {what: await browser.call("GET", path) for what, (path, _) in paths.items()}
    return {what: wanted in answers[what].body.decode() for what, (_, wanted) in paths.items()}


async def _written(place: Place, browser: Browser) -> dict[str, int]:
    one, project = f"/api/sessions/{place.session}", f"/api/projects/{place.project}"
    held = await place.site.engine.database.read(store.order, ProjectId(place.project))
    calls: dict[str, tuple[str, str, object]] = {
        "send": ("POST", f"{one}/messages", {"text": "hi"}),
        "stop": ("POST", f"/api/turns/{place.turn}/stop", None),
        "rename": ("PATCH", one, {"title": "Other"}),
        "knobs": ("PATCH", f"{one}/state", {"state": {"a": 1}}),
        "order": ("PUT", f"{project}/order", {"sessions": held}),
        "change": ("PATCH", project, {"description": "What it is about."}),
        "add": ("POST", f"{project}/sessions", {"title": "Another"}),
    }
    found = {what: await _status(browser, *call) for what, call in calls.items()}
    async with opened(place.site, browser.headers) as line:
        found["socket"] = _outcome(await line.ask("send", session=place.session, text="hi"))
    return found


async def _owned(place: Place, browser: Browser) -> dict[str, int]:
    one = f"/api/projects/{place.project}"
    calls: dict[str, tuple[str, str, object]] = {
        "members": ("PUT", f"{one}/members/new", {"share": "viewer"}),
        "unshare": ("DELETE", f"{one}/members/new", None),
        "hand over": ("PATCH", one, {"owner": "olga"}),
        "delete": ("DELETE", f"{one}?sessions=delete", None),
    }
    return {what: await _status(browser, *call) for what, call in calls.items()}


async def test_what_is_hidden_is_as_if_it_were_not_there(place: Place) -> None:
    """The answers are those for an id that nobody has."""
    out = await place.browser("out")
    paths = ("/api/sessions/{}", "/api/projects/{}")

    hidden = [await out.call("GET", paths[0].format(place.session))]
    hidden += [await out.call("GET", paths[1].format(place.project))]
    unknown = [await out.call("GET", path.format(NO_ID)) for path in paths]

    assert [one.json for one in hidden] == [one.json for one in unknown]


async def test_only_who_may_see_a_session_hears_of_it_in_lists(place: Place) -> None:
    """What is in no project everybody hears of."""
    olga, out = await place.browser("olga"), await place.browser("out")
    free = (await olga.call("POST", "/api/sessions", {"title": "Free"})).json["session"]
    async with opened(place.site, olga.headers) as hers, opened(place.site, out.headers) as his:
        await hers.ask("ping")
        await his.ask("ping")
        for session in (place.session, free):
            await olga.call("PATCH", f"/api/sessions/{session}", {"title": "New"})
        heard = [(await hers.next("session"))["session"] for _ in range(2)]
        overheard = (await his.next("session"))["session"]

    assert [one["session"] for one in heard] == [place.session, free]
    assert [one["project"] for one in heard] == [place.project, None]
    assert overheard["session"] == free


async def test_whoever_is_shut_out_follows_no_longer(place: Place) -> None:
    """Soon after, also what runs already."""
    olga, ed = await place.browser("olga"), await place.browser("ed")
    async with opened(place.site, ed.headers) as line:
        done = await line.ask("follow", session=place.session, after=0)
        await olga.call("DELETE", f"/api/projects/{place.project}/members/ed")
        lost = await line.next("error")

    assert done["done"] == "follow"
    assert (lost["error"]["status"], lost["error"]["session"]) == (404, place.session)


async def test_whoever_is_shut_out_is_told_nothing_more(place: Place) -> None:
    """A stream of events breaks off."""
    olga, ed = await place.browser("olga"), await place.browser("ed")
    path = f"/api/sessions/{place.session}/events"
    async with asyncio.timeout(60), place.site.client.get(path, headers=ed.headers) as stream:
        first = await stream.content.readline()
        await olga.call("DELETE", f"/api/projects/{place.project}/members/ed")
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.read()

    assert (stream.status, first) == (200, b"retry: 2000\n")


async def test_whoever_deletes_a_project_is_told_that_it_is_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off as somebody who sees it no more, a client would ask once more, for what is gone."""
    olga, written = await place.browser("olga"), Database.write

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        """A commit that is told later than somebody looked who may still see what."""
        done = await written(*args, **kwargs)
        await asyncio.sleep(1.5)
        return done

    with monkeypatch.context() as slow:
        slow.setattr(Database, "write", slowly)
        done = await olga.call("DELETE", f"/api/projects/{place.project}?sessions=delete")

    assert done.status == 204


@pytest.mark.parametrize("wanted", [{"Prefer": "wait=50"}, {"Accept": "text/event-stream"}])
async def test_whoever_is_shut_out_is_not_told_how_their_message_is_answered(
    local_database: Database, wanted: dict[str, str]
) -> None:
    """It is answered, for those who may still read it."""
    gate = Gate()
    async with asyncio.timeout(60), serving(local_database, working(gate)) as site:
        olga, ed = await person(site, "olga"), await person(site, "ed")
        project = await shared(olga)
        one = f"/api/sessions/{await made(site, project, 'Chargebacks')}"
        path = f"{one}/messages"
        sending = asyncio.create_task(ed.call("POST", path, {"text": "Go."}, wanted))
        await gate.inside.wait()
        await olga.call("DELETE", f"/api/projects/{project}/members/ed")
        with pytest.raises(aiohttp.ClientError):
            await sending
        gate.open.set()
        turn = (await olga.call("GET", path)).json["messages"][0]["turn"]
        found = (await olga.call("GET", f"/api/turns/{turn}?wait=60")).json

    assert found["state"] == "succeeded"


async def test_a_task_rings_into_a_session_that_one_may_write_in(place: Place) -> None:
    """Else it would be a way round."""
    body = {"cron": "0 8 * * *", "prompt": "Hi.", "session": place.session}

    answers = [
        await (await place.browser(name)).call("POST", "/api/tasks", {**body, "name": name})
        for name in ("out", "vi", "ed")
    ]

    assert [one.status for one in answers] == [404, 403, 201]


REMINDER = {"cron": "0 8 1 1 *", "prompt": "Ask for the needle.", "name": "reminder"}

# What somebody gets from: looking at a task, lists, ringing and switching it.
RIGHTS_OF_TASKS: Mapping[str, tuple[int, bool, int]] = {
    "ed": (200, True, 200),
    "vi": (200, True, 403),
    "out": (404, False, 404),
    "outsider": (404, False, 403),
    "root": (200, True, 200),
}


@pytest.mark.parametrize("name", RIGHTS_OF_TASKS)
async def test_a_task_is_hidden_with_the_session_it_was_made_in(
    each_place: Place, name: str
) -> None:
    """Its words are part of what is said there, and to run it is to speak there."""
    looks, listed, writes = RIGHTS_OF_TASKS[name]
    olga, browser = await each_place.browser("olga"), await each_place.browser(name)
    await olga.call("POST", "/api/tasks", {**REMINDER, "session": each_place.session})
    one = "/api/tasks/reminder"

    looked = [await _status(browser, "GET", path) for path in (one, f"{one}/occurrences")]
    tasks = (await browser.call("GET", "/api/tasks")).json["tasks"]
    written = [
        *[await _status(browser, "POST", f"{one}/{do}") for do in ("run", "disable", "enable")],
        await _status(browser, "DELETE", one),
    ]

    assert looked == [looks] * 2
    assert ("reminder" in [task["task"] for task in tasks]) is listed
    assert "morning" in [task["task"] for task in tasks]
    assert written == [writes] * 4


async def test_a_hidden_task_is_as_if_it_were_not_there(place: Place) -> None:
    """But for its name, which is taken."""
    olga, out = await place.browser("olga"), await place.browser("out")
    await olga.call("POST", "/api/tasks", {**REMINDER, "session": place.session})

    hidden = await out.call("GET", "/api/tasks/reminder")
    unknown = await out.call("GET", "/api/tasks/nothing")

    assert hidden.status == unknown.status == 404
    assert hidden.json["detail"] == unknown.json["detail"].replace("nothing", "reminder")


async def test_a_task_goes_with_the_session_it_was_made_in(each_place: Place) -> None:
    """When that was in a project: nobody could say any more who may read its words."""
    olga, out = await each_place.browser("olga"), await each_place.browser("out")
    await olga.call("POST", "/api/tasks", {**REMINDER, "session": each_place.session})

    gone = await olga.call("DELETE", f"/api/sessions/{each_place.session}")
    answers = [await one.call("GET", "/api/tasks/reminder") for one in (olga, out)]

    assert [gone.status, *(one.status for one in answers)] == [204, 404, 404]


async def test_the_inbox_shows_nothing_of_others_projects(each_place: Place) -> None:
    """Whoever sends may put into a key what is nobody else's business."""
    olga = await each_place.browser("olga")
    key = {"Idempotency-Key": "the-needle"}
    path = f"/api/sessions/{each_place.session}/messages"
    await olga.call("POST", path, {"text": "Where?"}, key)
    free = (await olga.call("POST", "/api/sessions", {})).json["session"]
    await olga.call("POST", f"/api/sessions/{free}/messages", {"text": "Hi."}, key)

    shown = {
        name: (await (await each_place.browser(name)).call("GET", "/api/inbox")).json["inbox"]
        for name in ("olga", "vi", "out", "root")
    }

    own, other = f"key:{each_place.session}:the-needle", f"key:{free}:the-needle"
    keys = {name: {one["event_key"] for one in found} for name, found in shown.items()}
    assert keys["out"] == {other}
    assert all({own, other} <= keys[name] for name in ("olga", "vi", "root"))


# -- whoever speaks, and who may interrupt --------------------------------------------------------


async def test_people_speak_in_their_own_name(place: Place) -> None:
    """And what they begin is theirs; a token of the configuration is the operator's."""
    ed = await place.browser("ed")
    await begun(ed, place.session)
    mine = (await ed.call("POST", "/api/sessions", {})).json
    theirs = (await place.site.call("POST", "/api/sessions", {})).json
    said = (await ed.call("GET", f"/api/sessions/{place.session}/messages")).json["messages"]

    assert [one["author"] for one in said if one["role"] == "user"] == ["olga", "ed"]
    assert (mine["owner"], theirs["owner"]) == ("ed", "operator")


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("interrupt", None),
        ("interrupt", {"text": "Stop."}),
        ("messages", {"text": "Stop.", "busy": "interrupt"}),
    ],
)
async def test_an_editor_interrupts_nobody(
    place: Place, what: str, body: Mapping[str, str] | None
) -> None:
    """In whatever way; each attempt is written down, and nothing is said."""
    ed = await place.browser("ed")
    before = await ed.call("GET", f"/api/sessions/{place.session}/messages")

    refused = await ed.call("POST", f"/api/sessions/{place.session}/{what}", body)
    after = await ed.call("GET", f"/api/sessions/{place.session}/messages")
    noted = (await place.site.get("/api/audit?limit=1")).json["audit"][0]

    assert refused.status == 403
    assert "only olga, who owns this session, and admins" in refused.json["detail"]
    assert before.json == after.json
    assert (noted["principal"], noted["action"], noted["allowed"]) == ("ed", "interrupt", False)


@pytest.mark.parametrize(
    ("name", "by"), [("olga", "olga"), ("root", "root"), ("vi", None), ("ed", None)]
)
async def test_a_session_that_is_always_interrupted_keeps_the_rule(
    local_database: Database, name: str, by: str | None
) -> None:
    """Set up so, a message of somebody else waits for its turn."""
    gate = Gate()
    async with serving(local_database, working(gate)) as site:
        olga = await person(site, "olga")
        members = [{"name": one, "share": "editor"} for one in ("vi", "ed")]
        body = {"name": "Fraud", "members": members}
        project = (await olga.call("POST", "/api/projects", body)).json["project"]
        one = f"/api/sessions/{await made(site, project, 'Chargebacks')}"
        await olga.call("PATCH", one, {"busy": "interrupt"})
        first = (await olga.call("POST", f"{one}/messages", {"text": "Go."})).json["turn"]
        await gate.inside.wait()
        browser = olga if name == "olga" else await person(site, name)
        sent = await browser.call("POST", f"{one}/messages", {"text": "Stop."})
        gate.open.set()
        found = (await olga.call("GET", f"/api/turns/{first}?wait=60")).json

    assert sent.status == 202
    assert found["interrupted_by"] == by


async def test_outside_of_projects_operators_interrupt_each_other(
    local_database: Database,
) -> None:
    """As they did when all of them had one name."""
    gate = Gate()
    async with serving(local_database, working(gate)) as site:
        olga, out = await person(site, "olga"), await person(site, "out")
        session = (await olga.call("POST", "/api/sessions", {})).json["session"]
        one = f"/api/sessions/{session}"
        first = (await olga.call("POST", f"{one}/messages", {"text": "Go."})).json["turn"]
        await gate.inside.wait()
        said = {"text": "Do that instead.", "busy": "interrupt"}
        sent = await out.call("POST", f"{one}/messages", said)
        gate.open.set()
        found = (await olga.call("GET", f"/api/turns/{first}?wait=60")).json

    assert sent.status == 202
    assert (found["ended"], found["interrupted_by"]) == ("interrupted", "out")


async def test_outside_of_projects_operators_answer_for_each_other(
    local_database: Database,
) -> None:
    """By a message as by an answer, whoever was asked: here somebody in a chat."""
    async with serving(local_database, asking()) as site:
        out = await person(site, "out")
        rung = await site.engine.accept(
            "Which?", channel=Channel.TELEGRAM, author="telegram:5", session_key="telegram:5"
        )
        question = await asked(site, rung.session)
        path = f"/api/sessions/{rung.session}/messages"
        sent = (await out.call("POST", path, {"text": "B"})).json
        over = (await out.call("GET", f"/api/turns/{rung.turn}?wait=60")).json

    assert question["asked_of"] == "telegram:5"
    assert (sent["answered"], sent["turn"]) == (True, rung.turn)
    assert over["text"] == "Done."


# -- lists ----------------------------------------------------------------------------------------


async def test_what_was_not_begun_stands_in_its_project_only(each_place: Place) -> None:
    """And does not push the empty session out that somebody just began elsewhere."""
    olga = await each_place.browser("olga")
    empty = (await olga.call("POST", "/api/sessions", {})).json["session"]
    waiting = await made(each_place.site, each_place.project, "Not begun")

    everywhere = (await olga.call("GET", "/api/sessions")).json["sessions"]
    path = f"/api/sessions?project={each_place.project}"
    inside = (await olga.call("GET", path)).json["sessions"]

    assert {one["session"] for one in everywhere} == {empty, each_place.session}
    assert {one["session"] for one in inside} == {waiting, each_place.session}


async def test_what_was_not_begun_is_not_put_away(place: Place) -> None:
    """However long nobody used it: somebody means to."""
    await made(place.site, place.project, "Not begun")
    later = datetime.now(UTC) + timedelta(days=1)

    found = await place.site.engine.database.write(lists.lock_idle, before=later, limit=10)

    assert [one.id for one in found] == [place.session]


async def test_pages_of_a_list_leave_out_what_is_hidden(each_place: Place) -> None:
    """A page is full, whatever stands in between."""
    olga, out = await each_place.browser("olga"), await each_place.browser("out")
    free = []
    for number in range(3):
        free.append((await olga.call("POST", "/api/sessions", {})).json["session"])
        await begun(olga, free[-1])
        await begun(olga, await made(each_place.site, each_place.project, f"Hidden {number}"))

    first = (await out.call("GET", "/api/sessions?limit=2")).json
    second = (await out.call("GET", f"/api/sessions?limit=2&cursor={first['next']}")).json
    hits = (await out.call("GET", "/api/search?q=needl&limit=3")).json["hits"]

    seen = [one["session"] for page in (first, second) for one in page["sessions"]]
    assert seen == free[::-1]
    assert {one["session"] for one in hits} == set(free)


async def test_a_project_to_list_is_an_id(site: Site) -> None:
    """Anything else is a mistake."""
    answer = await site.get("/api/sessions?project=mine")

    assert (answer.status, answer.json["detail"]) == (400, "project takes the id of a project")


# -- making and changing --------------------------------------------------------------------------


async def test_a_project_is_told_as_it_was_made(each_site: Site) -> None:
    """With what its maker has to do with it, and what they may do."""
    olga = await person(each_site, "olga")
    given = {
        "name": "Fraud",
        "domain": "Payments",
        "description": "Who pays twice?",
        "prompt": "Be thorough.",
        "tools": [],
        "agent": "coder",
    }

    answer = await olga.call("POST", "/api/projects", {**given, "members": SHARES})
    found = (await olga.call("GET", answer.headers["Location"])).json

    assert answer.status == 201
    assert {name: found[name] for name in given} == given
    assert (found["owner"], found["share"], found["private"]) == ("olga", "owner", False)
    assert found["members"] == SHARES
    assert (found["sessions"], found["results"], found["investigations"]) == (0, 0, [])
    assert (found["may_write"], found["may_own"]) == (True, True)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "name: a text of 1 to 120"),
        ({"name": ""}, "name: a text of 1 to 120"),
        ({"name": "x" * 121}, "name: a text of 1 to 120"),
        ({"name": "two\nlines"}, "name: write it on one line"),
        ({"name": " x"}, "name: write it on one line"),
        ({"name": "\ud800"}, "name: write it on one line"),
        ({"domain": "x" * 121}, "domain: a text of at most 120"),
        ({"domain": None}, "domain: a text of at most 120"),
        ({"description": "x" * 4001}, "description: a text of at most 4000"),
        ({"prompt": 5}, "prompt: a text of at most 20000"),
        ({"tools": "all"}, "tools: a list of names"),
        ({"tools": ["look", "gone"]}, "tools: no agent has 'gone'; there are: data:sales, look"),
        ({"agent": "nobody"}, "agent: there is no 'nobody'; there are: assistant, coder"),
        ({"agent": 5}, "agent: there is no 5"),
        ({"colour": "red"}, "colour: a project has name, "),
        ({"members": "ed"}, "members: a list of {name, share}"),
        ({"members": [5]}, "members.0.name: a text"),
        ({"members": [{"name": "ed"}]}, "members.0.share: takes editor or viewer"),
        ({"members": [{"name": "ed", "share": "owner"}]}, "members.0.share: takes editor"),
        ({"members": [{"name": "olga", "share": "editor"}]}, "members.0.name: the owner is no"),
        ({"members": [SHARES[0], SHARES[0]]}, "members.1.name: somebody is named twice"),
        ({"members": [{}] * 101}, "members: at most 100"),
    ],
)
async def test_a_mistake_names_its_field(
    projects: Projects, given: dict[str, Any], problem: str
) -> None:
    """With what it takes instead."""
    whole = {**({"name": "Fraud"} if given else {}), **given}

    with pytest.raises(BadInput) as caught:
        await projects.make(whole, by="olga")

    assert str(caught.value).startswith(problem)


async def test_every_problem_is_told_at_once(site: Site) -> None:
    """Each on its line; nothing is stored."""
    olga = await person(site, "olga")
    body = {
        "name": "",
        "domain": 5,
        "tools": ["a", "b"],
        "agent": "nobody",
        "members": [{"name": "", "share": "editor"}, {"name": "ed", "share": "boss"}],
    }

    answer = await olga.call("POST", "/api/projects", body)
    listed = (await olga.call("GET", "/api/projects")).json["projects"]

    told = [line.partition(": ")[0] for line in answer.json["detail"].splitlines()]
    assert answer.status == 400
    assert told == [
        "name",
        "domain",
        "tools",
        "tools",
        "agent",
        "members.0.name",
        "members.1.share",
    ]
    assert listed == []


async def test_names_are_taken_whatever_their_capitals(each_site: Site) -> None:
    """Also by a new name; one's own may be written in another way."""
    olga = await person(each_site, "olga")
    first = (await olga.call("POST", "/api/projects", {"name": "Fraud"})).json["project"]
    second = (await olga.call("POST", "/api/projects", {"name": "Other"})).json["project"]

    answers = [
        await olga.call("POST", "/api/projects", {"name": "fraud"}),
        await olga.call("PATCH", f"/api/projects/{second}", {"name": "FRAUD"}),
        await olga.call("PATCH", f"/api/projects/{first}", {"name": "fraud"}),
    ]

    assert [one.status for one in answers] == [409, 409, 200]
    assert "there is a project 'fraud' already" in answers[0].json["detail"]


async def test_there_are_only_so_many_projects(local_database: Database) -> None:
    """More of them nobody would find their way in."""
    await local_database.write(_fill)
    site_projects = projects_of(local_database)

    refusal = await site_projects.make({"name": "One more"}, by="olga")

    assert not isinstance(refusal, Project)
    assert refusal.detail.startswith("there are 1000 projects")


def _fill(conn: sa.Connection) -> None:
    at = datetime.now(UTC)
    for number in range(MOST):
        store.insert(conn, Project(ProjectId(new_id()), f"Number {number}", "olga", at, at))


async def test_a_project_is_handed_over(place: Place) -> None:
    """Whoever had it stays an editor; it is written down who did so."""
    olga, ed = await place.browser("olga"), await place.browser("ed")
    one = f"/api/projects/{place.project}"

    handed = await olga.call("PATCH", one, {"owner": "ed"})
    again = await olga.call("PATCH", one, {"owner": "olga"})
    mine = (await ed.call("GET", one)).json
    noted = (await place.site.get("/api/audit")).json["audit"]

    assert (handed.status, again.status) == (200, 403)
    assert (mine["owner"], mine["share"]) == ("ed", "owner")
    assert {one["name"]: one["share"] for one in mine["members"]} == {
        "olga": "editor",
        "reader": "editor",
        "vi": "viewer",
    }
    handing = next(one for one in noted if one["action"] == "hand over project")
    assert (handing["principal"], handing["detail"]["owner"]) == ("olga", "ed")


async def test_members_come_and_go(each_place: Place) -> None:
    """One by one or all at once; the owner is none, and nobody leaves twice."""
    olga = await each_place.browser("olga")
    one = f"/api/projects/{each_place.project}"

    put = await olga.call("PUT", f"{one}/members/telegram:5", {"share": "viewer"})
    changed = await olga.call("PUT", f"{one}/members/telegram:5", {"share": "editor"})
    wrong = await olga.call("PUT", f"{one}/members/telegram:5", {"share": "owner"})
    owner = await olga.call("PUT", f"{one}/members/olga", {"share": "viewer"})
    gone = [await olga.call("DELETE", f"{one}/members/telegram:5") for _ in range(2)]
    replaced = await olga.call("PATCH", one, {"members": [SHARES[0]]})

    assert {"name": "telegram:5", "share": "viewer"} in put.json["members"]
    assert {"name": "telegram:5", "share": "editor"} in changed.json["members"]
    assert (wrong.status, owner.status) == (400, 400)
    assert [answer.status for answer in gone] == [204, 404]
    assert replaced.json["members"] == [SHARES[0]]


async def test_sessions_are_put_in_order(each_place: Place) -> None:
    """All of them, and no others."""
    olga, project = await each_place.browser("olga"), ProjectId(each_place.project)
    site = each_place.site
    first, second = each_place.session, await made(site, project, "Second")
    foreign = await made(site, await shared(olga, "Other"), "Foreign")
    path = f"/api/projects/{project}/order"
    wrong = [[first], [first, first], [first, second, foreign], [first, foreign], "all", [5]]

    refused = [await olga.call("PUT", path, {"sessions": one}) for one in wrong]
    before = await site.engine.database.read(store.order, project)
    done = await olga.call("PUT", path, {"sessions": [second, first]})
    after = await site.engine.database.read(store.order, project)

    assert [one.status for one in refused] == [400] * len(wrong)
    assert f"'{foreign}' is none of them" in refused[2].json["detail"]
    assert done.status == 204
    assert (before, after) == ([first, second], [second, first])


async def test_a_project_goes_with_all_that_is_in_it(each_place: Place) -> None:
    """If that is what somebody wants, also when sessions wait for others; it is written down."""
    olga, site = await each_place.browser("olga"), each_place.site
    upstream = Dependency(SessionId(each_place.session))
    waiting = await made(site, each_place.project, "Waiting", dependencies=(upstream,))
    one = f"/api/projects/{each_place.project}"

    kept = await olga.call("DELETE", one)
    wrong = await olga.call("DELETE", f"{one}?sessions=keep")
    gone = await olga.call("DELETE", f"{one}?sessions=delete")
    left = [
        (await olga.call("GET", path)).status
        for path in (one, f"/api/sessions/{each_place.session}", f"/api/sessions/{waiting}")
    ]
    noted = (await site.get("/api/audit?limit=3")).json["audit"]

    assert (kept.status, wrong.status, gone.status) == (409, 400, 204)
    assert "it has 2 sessions" in kept.json["detail"].replace("the project", "it")
    assert left == [404, 404, 404]
    assert [(one["action"], one["principal"]) for one in noted] == [
        ("delete project", "olga"),
        ("delete", "olga"),
        ("delete", "olga"),
    ]
    assert [one["session"] for one in noted[1:]] == [each_place.session, waiting]


# -- sessions of projects -------------------------------------------------------------------------


async def test_a_session_is_made_in_a_project(each_place: Place) -> None:
    """At its end, with its own agent, and begun only if that is wanted."""
    olga, path = await each_place.browser("olga"), f"/api/projects/{each_place.project}/sessions"

    waits = await olga.call(
        "POST", path, {"title": "Refunds", "agent": "coder", "schema": {"verdict": "A|B"}}
    )
    starts = await olga.call("POST", path, {"request": "Who?\nAnd why?", "start": True})

    assert (waits.status, starts.status) == (201, 201)
    shown = ("title", "agent", "owner", "position", "state")
    assert [waits.json[name] for name in shown] == ["Refunds", "coder", "olga", 1, "not_started"]
    assert (starts.json["title"], starts.json["position"]) == ("Who?", 2)
    assert starts.json["state"] != "not_started"
    assert "unstarted" not in starts.json


async def test_projects_and_sessions_tell_when_they_were_used_last(each_place: Place) -> None:
    """A project is used with its sessions; the one that was used last comes first."""
    olga, place = await each_place.browser("olga"), each_place
    other = await shared(olga, "Refunds")
    between = (await olga.call("GET", "/api/projects")).json["projects"]
    (before,) = (await olga.call("GET", f"/api/projects/{place.project}")).json["investigations"]
    await begun(olga, place.session)

    after = (await olga.call("GET", "/api/projects")).json["projects"]
    (row,) = (await olga.call("GET", f"/api/projects/{place.project}")).json["investigations"]
    session = (await olga.call("GET", f"/api/sessions/{place.session}")).json
    assert [one["project"] for one in between] == [other, place.project]
    assert [one["project"] for one in after] == [place.project, other]
    assert row["updated_at"] == session["active_at"] == after[0]["active_at"]
    assert row["updated_at"] > before["updated_at"]


async def test_a_session_that_has_to_wait_is_made_all_the_same(each_place: Place) -> None:
    """And the answer says what it waits for."""
    olga, path = await each_place.browser("olga"), f"/api/projects/{each_place.project}/sessions"
    body = {"request": "Now what?", "dependencies": [{"session": each_place.session}]}

    answer = await olga.call("POST", path, {**body, "start": True})

    assert (answer.status, answer.json["state"]) == (201, "not_started")
    assert "“Chargebacks” is not complete" in answer.json["unstarted"]
    assert [one["title"] for one in answer.json["dependencies"]] == ["Chargebacks"]


async def test_titles_are_unique_in_a_project(place: Place) -> None:
    """One of a request gets a number, one that was given is refused."""
    site, project = place.site, place.project
    titles = []
    for _ in range(3):
        new = NewInvestigation(request="chargeBACKS")
        session = await site.api.projects.add(ProjectId(project), new, by="olga")
        found = await site.get(f"/api/sessions/{session}")
        titles.append((found.json["title"], found.json["titled"]))

    with pytest.raises(BadInput) as caught:
        await made(site, project, "chargebacks")
    elsewhere = await made(site, await shared(place.people["olga"], "Other"), "Chargebacks")

    assert titles == [("chargeBACKS 2", False), ("chargeBACKS 3", False), ("chargeBACKS 4", False)]
    assert str(caught.value).startswith("title: there is a session 'chargebacks'")
    assert elsewhere


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"title": 5}, "title: a text"),
    ({"title": " "}, "title: a text of 1 to 200"),
    ({"title": "x" * 201}, "title: a text of 1 to 200"),
    ({"request": ["?"]}, "request: a text"),
    ({"request": " "}, "request: a text that is not empty"),
    ({"schema": {}}, "schema: "),
    ({"schema": {"verdict": "A||B"}}, "schema.verdict"),
    ({"dependencies": "all"}, "dependencies: a list"),
    ({"dependencies": [{}]}, "dependencies.0: session"),
    ({"dependencies": [{"session": NO_ID}]}, "dependencies.0: there is no such session"),
    ({"dependencies": [{"session": NO_ID, "field": "x"}]}, "dependencies.0: give field and"),
    ({"agent": "nobody"}, "agent: there is no 'nobody'"),
    ({"start": 1}, "start: true or false"),
    ({"start": True}, "request: what it is to begin with"),
    ({"prompt": "x"}, "prompt: a new session takes"),
]


async def test_a_session_that_cannot_be_made_says_why(place: Place) -> None:
    """Naming the field; and nothing is made."""
    olga, path = place.people["olga"], f"/api/projects/{place.project}/sessions"

    answers = [await olga.call("POST", path, given) for given, _ in MISTAKES]
    held = await place.site.engine.database.read(store.order, ProjectId(place.project))

    told = [one.json["detail"] for one in answers]
    assert {one.status for one in answers} == {400}
    assert held == [place.session]
    assert [
        detail[: len(problem)] for detail, (_, problem) in zip(told, MISTAKES, strict=True)
    ] == [problem for _, problem in MISTAKES]


def test_a_project_narrows_the_tools_of_its_agents() -> None:
    """Data tools and the one that asks people stay."""
    at = datetime.now(UTC)
    project = Project(ProjectId(NO_ID), "Fraud", "olga", at, at, tools=("look",))
    tools = ("look", "send", "data:sales", "prompt_user")
    binding = replace(BINDING, tools=tools)

    narrowed, whole = bound(project, binding), bound(replace(project, tools=None), binding)

    assert narrowed == replace(binding, tools=("look", "data:sales", "prompt_user"))
    assert whole == binding


# -- everybody's own project ----------------------------------------------------------------------


async def test_asking_begins_a_session_in_ones_own_project(each_site: Site) -> None:
    """Which is made for the first one, and nobody else's."""
    olga, out = await person(each_site, "olga"), await person(each_site, "out")

    asks = [await olga.call("POST", "/api/ask", {"text": "Who pays twice?"}) for _ in range(2)]
    over = await olga.call("GET", f"/api/turns/{asks[0].json['turn']}?wait=60")
    project = (await olga.call("GET", "/api/projects")).json["projects"][0]
    sessions = (await olga.call("GET", f"/api/sessions?project={project['project']}")).json
    others = (await out.call("GET", "/api/projects")).json["projects"]

    assert [one.status for one in asks] == [202, 202]
    assert {one.json["project"] for one in asks} == {project["project"]}
    assert over.json["text"] == "Hello."
    assert (project["private"], project["owner"], project["sessions"]) == (True, "olga", 2)
    assert {one["title"] for one in sessions["sessions"]} == {
        "Who pays twice?",
        "Who pays twice? 2",
    }
    assert others == []


async def test_the_same_key_asks_once(each_site: Site) -> None:
    """Also at the same time; with other words it is a mistake, and of others it is another key."""
    olga, out = await person(each_site, "olga"), await person(each_site, "out")
    key = {"Idempotency-Key": "k1"}

    first, again = await asyncio.gather(
        *(olga.call("POST", "/api/ask", {"text": "Who?"}, key) for _ in range(2))
    )
    changed = await olga.call("POST", "/api/ask", {"text": "Why?"}, key)
    other = await out.call("POST", "/api/ask", {"text": "Who?"}, key)

    assert {first.status, again.status} == {200, 202}
    assert first.json["turn"] == again.json["turn"]
    assert changed.status == 422
    assert (other.status, other.json["turn"] == first.json["turn"]) == (202, False)


async def test_two_at_once_make_one_project(each_site: Site) -> None:
    """Whoever is first; both sessions are in it."""
    olga = await person(each_site, "olga")

    answers = await asyncio.gather(
        *(olga.call("POST", "/api/ask", {"text": f"Question {n}"}) for n in range(6))
    )
    found = (await olga.call("GET", "/api/projects")).json["projects"]

    assert [one.status for one in answers] == [202] * 6
    assert {one.json["project"] for one in answers} == {found[0]["project"]}
    assert [one["sessions"] for one in found] == [6]


async def test_an_own_project_is_not_shared(each_site: Site) -> None:
    """Neither by its owner nor by an admin; but it is theirs to delete, and made anew."""
    olga = await person(each_site, "olga")
    project = (await olga.call("POST", "/api/ask", {"text": "Hi."})).json["project"]
    one = f"/api/projects/{project}"

    answers = [
        await olga.call("PUT", f"{one}/members/ed", {"share": "viewer"}),
        await each_site.call("PATCH", one, {"owner": "ed"}),
        await olga.call("PATCH", one, {"members": SHARES}),
        await olga.call("DELETE", f"{one}?sessions=delete"),
    ]
    again = (await olga.call("POST", "/api/ask", {"text": "Hi."})).json["project"]

    assert [answer.status for answer in answers] == [409, 409, 409, 204]
    assert again != project


async def test_the_own_project_is_made_from_a_template(each_site: Site) -> None:
    """The one that is called private; also when two ask at once."""
    session = TemplateSession("Check", "Check this.")
    template = Template("private", prompt="Be kind.", sessions=(session,))
    stored = StoredTemplate("private", format_template(template), "root", datetime.now(UTC))
    await each_site.engine.database.write(store.put_template, stored)
    olga = await person(each_site, "olga")

    await asyncio.gather(*(olga.call("POST", "/api/ask", {"text": "Hi."}) for _ in range(3)))
    found = (await olga.call("GET", "/api/projects")).json["projects"]

    shown = [(one["template"], one["prompt"], one["private"], one["sessions"]) for one in found]
    assert shown == [("private", "Be kind.", True, 4)]


async def test_a_name_that_is_taken_keeps_nobody_from_asking(site: Site) -> None:
    """The own project is called by another one."""
    olga, out = await person(site, "olga"), await person(site, "out")
    await out.call("POST", "/api/projects", {"name": "private: OLGA"})

    project = (await olga.call("POST", "/api/ask", {"text": "Hi."})).json["project"]
    found = (await olga.call("GET", f"/api/sessions?project={project}")).json["sessions"]
    name = (await olga.call("GET", "/api/projects")).json["projects"][0]["name"]

    assert (len(found), name) == (1, "Private: olga 2")


@pytest.mark.parametrize("body", [{}, {"text": " "}, {"text": 5}, []])
async def test_nothing_is_asked_without_words(site: Site, body: object) -> None:
    """And no project is made for it."""
    olga = await person(site, "olga")

    answer = await olga.call("POST", "/api/ask", body)
    found = (await olga.call("GET", "/api/projects")).json["projects"]

    assert (answer.status, found) == (400, [])


# -- projects without a server --------------------------------------------------------------------


def projects_of(database: Database) -> Projects:
    """Projects whose agents have tools. What it never does here needs no controls."""
    agents = {
        "assistant": replace(BINDING, tools=("look",)),
        "coder": replace(BINDING, agent="coder", tools=("look", "data:sales")),
    }
    return Projects(
        database, Engine(database, ScriptedAgents(), RememberingSender()).controls, agents
    )


@pytest.fixture
def projects(local_database: Database) -> Projects:
    """On SQLite."""
    return projects_of(local_database)
