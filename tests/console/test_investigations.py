"""Investigations over HTTP: what they wait for, come to and find, their start and extension."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pytest

from service.core.access import UserRole
from service.core.dependency import Dependency
from service.core.model import ProjectId, SessionId
from service.engine.investigating import MORE_ITERATIONS
from service.ports import Finished, Limits
from service.store import audit, feed, investigations, key_results, projects
from service.store.database import Database
from tests.console.people import Browser, cookie_of
from tests.console.site import Site, serving
from tests.console.test_roles import NO_ID
from tests.engine.test_findings import DONE, QUERY, SCHEMA, analysts, project_of, session_of
from tests.webhook.site import Answer

# What a spreadsheet would run, a number that JSON has not, and words of several alphabets.
AWKWARD = {
    "columns": ["month", "paid", "=note"],
    "rows": [["Jän", 10, "=1+1"], ["Feb", 2.5, "@x"], ["-3", None, '+"a",b']],
}
LEDGER = {"verdict": "FRAUD|FINE", "loss": "optional Number"}


@dataclass(frozen=True)
class Case:
    """A project with a session, and one that depends on it."""

    site: Site
    project: ProjectId
    first: SessionId
    second: SessionId

    async def call(
        self, method: str, what: str = "", body: object = None, *, of: str | None = None
    ) -> Answer:
        """Call something of the first session, or of another one."""
        return await self.site.call(method, f"/api/sessions/{of or self.first}{what}", body)

    async def determined(self, of: str | None = None, **values: Any) -> Answer:
        """Let a session come to something."""
        return await self.call("PUT", "/disposition", {"values": values}, of=of)

    async def changes(self, of: SessionId | None = None) -> list[dict[str, Any]]:
        """What the feed tells of a session besides its turns."""
        found = await self.site.engine.database.read(feed.read, of or self.first, after=0)
        return [dict(one.data) for one in found if one.kind == "session.changed"]


async def case_of(site: Site) -> Case:
    """Both sessions are not started."""
    database = site.engine.database
    project = await project_of(database)
    first = await session_of(
        database, project, title="First", request="Who paid?", schema=SCHEMA, tools=("query",)
    )
    edge = Dependency(first, title="First")
    second = await session_of(
        database, project, title="Second", request="And why?", after=(edge,), tools=()
    )
    return Case(site, project, first, second)


@pytest.fixture
async def case(site: Site) -> Case:
    """On SQLite."""
    return await case_of(site)


@pytest.fixture
async def each_case(each_site: Site) -> Case:
    """On each kind of database."""
    return await case_of(each_site)


@pytest.fixture
async def found(database: Database) -> AsyncGenerator[Case]:
    """The same, where the first session has found something with its data tool."""
    async with serving(database, analysts([QUERY, Finished()], DONE, data=AWKWARD)) as site:
        case = await case_of(site)
        await site.finished(case.first, "Who paid?")
        yield case


async def candidate(case: Case) -> str:
    """The name of what was found."""
    (one,) = (await case.call("GET", "/results?all=1")).json["results"]
    return str(one["result"])


# -- how it stands --------------------------------------------------------------------------------


async def test_a_session_tells_how_it_stands(each_case: Case) -> None:
    """What it is to come to, what it waits for, and how much it may do."""
    case = each_case

    answer = await case.call("GET", "/investigation", of=case.second)

    assert answer.json == {
        **answer.json,
        "title": "Second",
        "state": "not_started",
        "request": "And why?",
        "schema": None,
        "complete": False,
        "ready": False,
        "project": case.project,
        "iterations": {"used": 0, "limit": 35},
        "dependencies": [
            {
                "session": case.first,
                "title": "First",
                "field": None,
                "value": None,
                "unmet": "“First” is not complete: it has no key result and no disposition yet",
            }
        ],
    }


async def test_a_session_that_is_to_come_to_nothing_says_so(site: Site) -> None:
    """A schema may be set on any session all the same, but dependencies may not."""
    session = await site.session()
    path = f"/api/sessions/{session}"

    before = await site.get(f"{path}/investigation")
    changed = await site.call("PATCH", f"{path}/investigation", {"schema": LEDGER})
    alone = await site.call("PUT", f"{path}/dependencies", {"dependencies": []})

    assert (before.status, before.json["schema"], before.json["project"]) == (200, None, None)
    assert (changed.status, changed.json["schema"]) == (200, LEDGER)
    assert (alone.status, alone.json["detail"]) == (
        422,
        "dependencies: only sessions of one project can depend on each other",
    )


async def test_a_session_can_begin_with_a_schema(site: Site) -> None:
    """One whose key is known keeps its own."""
    made = await site.call("POST", "/api/sessions", {"key": "a", "schema": LEDGER})
    again = await site.call("POST", "/api/sessions", {"key": "a", "schema": {"x": "String"}})
    wrong = await site.call("POST", "/api/sessions", {"schema": {"x": "Text"}})

    session = made.json["session"]
    found = await site.get(f"/api/sessions/{session}/investigation")
    assert (made.status, again.status, wrong.status) == (201, 200, 422)
    assert found.json["schema"] == LEDGER


SIGHTS = ("investigation", "preview", "dependencies", "disposition", "results", "results/r0")
ACTS: tuple[tuple[str, str, Any], ...] = (
    ("PATCH", "investigation", {"title": "x"}),
    ("POST", "start", None),
    ("POST", "extend", None),
    ("PUT", "dependencies", {"dependencies": []}),
    ("PUT", "disposition", {"values": {"verdict": "FINE"}}),
    ("POST", "disposition/confirm", None),
    ("PATCH", "results/r0", {"title": "x"}),
    ("DELETE", "results/r0", None),
)


async def test_of_no_session_there_is_nothing(site: Site) -> None:
    """Whatever is asked."""
    calls = [*(("GET", one, None) for one in SIGHTS), *ACTS]

    answers = [
        (await site.call(method, f"/api/sessions/{NO_ID}/{what}", body)).status
        for method, what, body in calls
    ]

    assert set(answers) == {404}


async def test_an_archived_session_is_for_reading(found: Case) -> None:
    """Everything that would change it is refused, and stays as it was."""
    name = await candidate(found)
    await found.call("POST", "/archive")
    before = (await found.call("GET", "/investigation")).json

    looked = [(await found.call("GET", f"/{one}")).status for one in SIGHTS[:-1]]
    acted = [
        (await found.call(method, f"/{what.replace('r0', name)}", body)).status
        for method, what, body in ACTS
    ]

    assert set(looked) == {200}
    assert acted == [409] * len(ACTS)
    assert (await found.call("GET", "/investigation")).json == before


async def test_the_preview_shows_the_prompt_before_the_start(case: Case) -> None:
    """With what was found upstream, as of now."""
    await case.determined(verdict="FRAUD")

    answer = await case.call("GET", "/preview", of=case.second)

    titles = [one["title"] for one in answer.json["sections"]]
    assert titles[:2] == ["System prompt", "Upstream"]
    assert '> Disposition: {"verdict": "FRAUD"}' in answer.json["whole"]
    assert answer.json["request"] == "And why?"


async def test_a_session_is_previewed_before_it_is_made(each_case: Case) -> None:
    """It is told what it would be told; nothing of it is kept, and what is wrong is said."""
    case = each_case
    await case.determined(verdict="FRAUD")
    path = f"/api/projects/{case.project}"
    before = (await case.site.get(path)).json
    wish = {
        "request": "And why?",
        "schema": SCHEMA.as_json(),
        "dependencies": [{"session": case.first}],
    }

    sketch = await case.site.call("POST", f"{path}/preview", wish)
    wrong = await case.site.call("POST", f"{path}/preview", {**wish, "agent": "nobody"})
    after = (await case.site.get(path)).json
    made = await case.site.call("POST", f"{path}/sessions", wish)
    real = await case.site.get(f"/api/sessions/{made.json['session']}/preview")

    assert sketch.status == 200
    assert '> Disposition: {"verdict": "FRAUD"}' in sketch.json["whole"]
    assert sketch.json == real.json
    assert (wrong.status, after) == (400, before)
    assert "agent: there is no 'nobody'" in wrong.json["detail"]


# -- schema, request and title --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"schema": {}}, "schema: an object of field names and types is needed, not empty"),
        ({"schema": {"a": "A|A"}}, "schema.a: names a value twice"),
        ({"schema": {"a": "Date"}}, "schema.a: write A|B|C for one of several values"),
        ({"title": " "}, "title: a text of 1 to 200 characters is needed"),
        ({"request": 7}, "request: a text of at most 200000 characters"),
        ({"owner": "eve"}, "owner: only title, request, schema can be changed"),
        ({"title": "", "schema": {"a": "x"}}, "title: a text of 1 to 200 characters is needed\n"),
    ],
)
async def test_what_does_not_fit_is_refused_with_its_name(
    case: Case, body: dict[str, Any], told: str
) -> None:
    """Every problem at once."""
    answer = await case.call("PATCH", "/investigation", body)

    assert answer.status == 422
    assert told in answer.json["detail"]


async def test_another_schema_makes_the_disposition_stale(each_case: Case) -> None:
    """The same one does not; setting it again mends it."""
    case = each_case
    await case.determined(verdict="FRAUD", loss=3)
    same = await case.call("PATCH", "/investigation", {"schema": LEDGER})
    other = await case.call("PATCH", "/investigation", {"schema": {"verdict": "FRAUD|OPEN"}})
    confirmed = await case.call("POST", "/disposition/confirm")
    again = await case.determined(verdict="OPEN")

    assert (same.json["stale"], other.json["stale"]) == (False, True)
    assert other.json["disposition"] == {"verdict": "FRAUD", "loss": 3}
    assert confirmed.status == 409
    assert "stale" in confirmed.json["detail"]
    assert (again.json["stale"], again.json["values"]) == (False, {"verdict": "OPEN"})
    assert [one["what"] for one in await case.changes()] == [
        "disposition",
        "completed",
        "schema",
        "disposition",
    ]


async def test_the_request_stays_once_it_was_said(case: Case) -> None:
    """Nothing else of such a change is made, either."""
    changed = await case.call("PATCH", "/investigation", {"request": "Who paid what?"})
    await case.site.finished(case.first)
    refused = await case.call("PATCH", "/investigation", {"request": "x", "title": "Other"})

    found = await case.call("GET", "/investigation")
    assert changed.json["request"] == "Who paid what?"
    assert refused.status == 409
    assert (found.json["request"], found.json["title"]) == ("Who paid what?", "First")


async def test_a_title_is_once_in_a_project(case: Case) -> None:
    """In whichever case; those that depend on it know the new one."""
    taken = await case.call("PATCH", "/investigation", {"title": "SECOND"})
    renamed = await case.call("PATCH", "/investigation", {"title": "Ledger", "schema": None})
    plain = await case.site.call("PATCH", f"/api/sessions/{case.first}", {"title": "Second"})

    kept = await case.site.engine.database.read(investigations.dependencies_of, [case.second])
    assert (taken.status, plain.status) == (409, 409)
    assert (renamed.json["title"], renamed.json["schema"]) == ("Ledger", None)
    assert [one.title for one in kept[case.second]] == ["Ledger"]


# -- dependencies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edge", "told"),
    [
        ({}, "dependencies.0: session, the id of one, is needed"),
        ({"session": "first", "field": "verdict"}, "give field and value as texts, or neither"),
        ({"session": "first", "fields": "verdict"}, "dependencies.0: there is no 'fields'"),
        ({"session": "first", "field": "verdict", "value": "X"}, "takes one of FRAUD, FINE"),
        ({"session": "first", "field": "loss", "value": "1"}, "has no field 'loss' of the kind"),
        ({"session": "second"}, "a session cannot depend on itself"),
        ({"session": "elsewhere"}, "there is no such session in this project"),
        ({"session": "nobody"}, "there is no such session in this project"),
    ],
)
async def test_a_dependency_has_to_be_one(case: Case, edge: dict[str, str], told: str) -> None:
    """Inside of the project, of a value that the field takes."""
    other = await project_of(case.site.engine.database, name="Other")
    elsewhere = await session_of(case.site.engine.database, other, tools=())
    names = {
        "first": case.first,
        "second": case.second,
        "elsewhere": elsewhere,
        "nobody": "no such id\0",
    }
    wanted = {**edge, **({"session": names[edge["session"]]} if edge else {})}

    answer = await case.call("PUT", "/dependencies", {"dependencies": [wanted]}, of=case.second)

    kept = await case.call("GET", "/dependencies", of=case.second)
    assert answer.status == 422
    assert told in answer.json["detail"]
    assert [one["session"] for one in kept.json["dependencies"]] == [case.first]


async def test_a_circle_is_refused_with_its_way(each_case: Case) -> None:
    """Also a longer one."""
    case = each_case
    database = case.site.engine.database
    third = await session_of(
        database, case.project, title="Third", after=(Dependency(case.second),), tools=()
    )

    answer = await case.call("PUT", "/dependencies", {"dependencies": [{"session": third}]})

    assert answer.status == 422
    assert answer.json["detail"] == (
        "dependencies: they would go round in a circle: “First” → “Third” → “Second” → “First”"
    )


async def test_two_that_would_close_a_circle_at_once_do_not(each_case: Case) -> None:
    """One of them comes second, and sees the first."""
    case = each_case
    await case.call("PUT", "/dependencies", {"dependencies": []}, of=case.second)

    answers = await asyncio.gather(
        case.call("PUT", "/dependencies", {"dependencies": [{"session": case.second}]}),
        case.call(
            "PUT", "/dependencies", {"dependencies": [{"session": case.first}]}, of=case.second
        ),
    )

    assert sorted(one.status for one in answers) == [200, 422]


async def test_a_dependency_can_be_changed_and_taken_away(case: Case) -> None:
    """The answer says what does not hold."""
    edge = {"session": case.first, "field": "verdict", "value": "FRAUD"}
    changed = await case.call("PUT", "/dependencies", {"dependencies": [edge]}, of=case.second)
    taken = await case.call("PUT", "/dependencies", {"dependencies": []}, of=case.second)

    assert changed.json["dependencies"] == [
        {
            **edge,
            "title": "First",
            "unmet": "“First” has no disposition yet; verdict = FRAUD is needed",
        }
    ]
    assert taken.json == {"dependencies": []}
    assert [one["what"] for one in await case.changes(case.second)] == ["dependencies"] * 2


async def test_what_others_need_is_deleted_only_on_purpose(each_case: Case) -> None:
    """Those are told, and held back under its name until they are edited."""
    case = each_case
    await case.site.finished(case.first)
    refused = await case.call("DELETE")
    odd = await case.call("DELETE", "?dependants=drop")
    kept = await case.call("GET", "/messages")
    deleted = await case.call("DELETE", "?dependants=keep")

    view = await case.call("GET", "/investigation", of=case.second)
    started = await case.call("POST", "/start", of=case.second)
    assert (refused.status, odd.status, deleted.status) == (409, 400, 204)
    assert refused.json["detail"] == (
        "“Second” would be held back; delete it all the same with ?dependants=keep"
    )
    assert len(kept.json["messages"]) == 2
    assert view.json["dependencies"][0]["unmet"] == (
        "“First” was deleted; edit the dependencies of this session"
    )
    assert started.status == 409


async def test_a_project_takes_its_sessions_with_it(case: Case) -> None:
    """Those that wait go first."""
    answer = await case.site.call("DELETE", f"/api/projects/{case.project}?sessions=delete")

    assert answer.status == 204
    assert (await case.call("GET")).status == 404


# -- start and extension --------------------------------------------------------------------------


async def test_a_session_starts_with_its_request_when_it_may(each_case: Case) -> None:
    """Until then it says why not, and nothing is stored."""
    case = each_case
    early = await case.call("POST", "/start", of=case.second)
    before = await case.call("GET", "/investigation", of=case.second)
    await case.determined(verdict="FINE")
    started = await case.call("POST", "/start", of=case.second)
    await case.site.get(f"/api/turns/{started.json['turn']}?wait=60")

    said = await case.call("GET", "/messages", of=case.second)
    assert (early.status, started.status) == (409, 202)
    assert early.json["detail"].startswith("cannot start yet: “First” is not complete")
    assert early.json["reason"] == "not_ready"
    assert before.json["state"] == "not_started"
    assert [one["text"] for one in said.json["messages"]] == ["And why?", "Hello."]


async def test_a_session_never_starts_twice(each_case: Case) -> None:
    """Neither at once, nor again, nor under another key."""
    case = each_case
    path = f"/api/sessions/{case.first}/start"
    keys: tuple[dict[str, str], ...] = ({}, {}, {"Idempotency-Key": "a"}, {"Idempotency-Key": "b"})

    answers = await asyncio.gather(
        *(case.site.call("POST", path, headers=headers) for headers in keys)
    )
    again = await case.site.call("POST", path)
    await case.site.get(f"/api/turns/{again.json['turn']}?wait=60")

    said = await case.call("GET", "/messages")
    assert sorted(one.status for one in answers) == [200, 200, 200, 202]
    assert {one.json["turn"] for one in answers} == {again.json["turn"]}
    assert [one["text"] for one in said.json["messages"]] == ["Who paid?", "Hello."]


async def test_what_has_begun_otherwise_is_not_started_any_more(case: Case) -> None:
    """And what has no request needs somebody to say something."""
    await case.site.finished(case.first, "hi")
    late = await case.call("POST", "/start")
    session = await case.site.session()
    wordless = await case.call("POST", "/start", of=session)

    assert (late.status, late.json["detail"]) == (409, "the session has started already")
    assert wordless.status == 409
    assert "no request" in wordless.json["detail"]


async def test_the_owner_and_admins_allow_more(local_database: Database) -> None:
    """Others are refused, and that is written down."""
    agents = analysts(DONE, limits_=Limits(iterations=10))
    async with serving(local_database, agents) as site:
        case = await case_of(site)
        await site.engine.database.write(projects.hand_over, case.project, "eve")
        browser = Browser(site, await cookie_of(site, "eve", UserRole.OPERATOR))
        path = f"/api/sessions/{case.first}/extend"

        refused = await browser.call("POST", path)
        allowed = await site.call("POST", path)
        again = await site.call("POST", path)
        changes = await case.changes()
    entries = await local_database.read(audit.newest, limit=10)

    assert refused.status == 403
    assert refused.json["detail"] == (
        "only telegram:7, who owns this session, and admins may extend it"
    )
    assert allowed.json["iterations"] == {"used": 0, "limit": 10 + MORE_ITERATIONS}
    assert again.json["iterations"]["limit"] == 10 + 2 * MORE_ITERATIONS
    assert [(one.principal, one.action, one.allowed) for one in entries[::-1]] == [
        ("eve", "extend", False),
        ("operator", "extend", True),
        ("operator", "extend", True),
    ]
    assert changes == [{"what": "extended", "by": "operator", "iterations": 35}] * 2


# -- dispositions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "verdict: is missing; it takes FRAUD|FINE"),
        ({"verdict": "MAYBE"}, "verdict: takes one of FRAUD, FINE, not 'MAYBE'"),
        ({"verdict": "FINE", "loss": "much"}, "loss: takes a number, not 'much'"),
        ({"verdict": "FINE", "gain": 1}, "'gain': there is no such field"),
        ({"verdict": ["FINE"]}, "verdict: takes one of FRAUD, FINE"),
    ],
)
async def test_a_disposition_has_to_fit(case: Case, values: dict[str, Any], told: str) -> None:
    """And completes nothing otherwise."""
    answer = await case.determined(**values)

    found = await case.call("GET", "/investigation")
    assert answer.status == 422
    assert told in answer.json["detail"]
    assert (found.json["disposition"], found.json["complete"]) == (None, False)


async def test_people_set_and_confirm_a_disposition(each_case: Case) -> None:
    """A correction has to be confirmed anew."""
    case = each_case
    early = await case.call("POST", "/disposition/confirm")
    schemaless = await case.determined(of=case.second, verdict="FINE")
    made = await case.determined(verdict="FINE")
    confirmed = await case.call("POST", "/disposition/confirm")
    corrected = await case.determined(verdict="FRAUD", loss=2)

    found = await case.call("GET", "/investigation")
    assert (early.status, schemaless.status) == (409, 409)
    assert (made.json["values"], made.json["by"]) == ({"verdict": "FINE"}, "operator")
    assert (made.json["confirmed_by"], confirmed.json["confirmed_by"]) == (None, "operator")
    assert (corrected.json["confirmed_by"], corrected.json["confirmed_at"]) == (None, None)
    assert found.json["complete"]
    assert await case.changes() == [
        {"what": "disposition", "names": ["verdict"], "by": "operator"},
        {"what": "completed"},
        {"what": "confirmed", "names": ["verdict"], "by": "operator"},
        {"what": "disposition", "names": ["loss", "verdict"], "by": "operator"},
    ]


# -- key results ----------------------------------------------------------------------------------


async def test_what_a_tool_gave_comes_back_byte_for_byte(found: Case) -> None:
    """However it is shown."""
    name = await candidate(found)

    data = await found.call("GET", f"/results/{name}/data")
    whole = await found.call("GET", f"/results/{name}")

    stored = await found.site.engine.database.read(key_results.data, found.first, name)
    given = json.dumps(AWKWARD, ensure_ascii=False, separators=(",", ":"))
    assert data.body == given.encode()
    assert stored == given
    assert data.headers["Content-Type"] == "application/json"
    assert data.headers["X-Content-Type-Options"] == "nosniff"
    assert (whole.json["table"], whole.json["text"]) == (AWKWARD, None)
    assert whole.json["bytes"] == len(data.body)


async def test_a_result_is_shown_and_taken_back(found: Case) -> None:
    """Its data stays; the first one completes the session."""
    name = await candidate(found)
    chart = {"kind": "bar", "x": "month", "y": ["paid"]}
    hidden = await found.call("GET", "/results")
    shown = await found.call("PATCH", f"/results/{name}", {"title": "Paid", "chart": chart})
    edited = await found.call("PATCH", f"/results/{name}", {"description": "By month."})
    listed = await found.call("GET", "/results")
    complete = await found.call("GET", "/investigation")
    back = await found.call("DELETE", f"/results/{name}")
    twice = await found.call("DELETE", f"/results/{name}")

    after = await found.call("GET", f"/results/{name}")
    assert hidden.json == {"results": []}
    assert (shown.json["title"], shown.json["chart"]) == ("Paid", chart)
    assert (shown.json["columns"], shown.json["rows"]) == (AWKWARD["columns"], 3)
    assert edited.json == {**shown.json, "description": "By month."}
    assert listed.json == {"results": [edited.json]}
    assert (complete.json["complete"], complete.json["results"]) == (True, 1)
    assert (back.status, twice.status) == (204, 204)
    assert (after.json["title"], after.json["chart"], after.json["table"]) == (None, None, AWKWARD)
    assert await found.changes() == [
        {"what": "result", "names": [name], "by": "operator"},
        {"what": "completed"},
        {"what": "result", "names": [name], "by": "operator"},
        {"what": "result", "names": [name], "by": "operator"},
    ]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "title: a text of 1 to 200 characters is needed"),
        ({"title": "x", "display": "wide"}, "display: one of chart, table, both"),
        ({"title": "x", "display": "chart"}, "display: to show a chart, give one"),
        ({"title": "x", "rows": []}, "rows: only title, description, chart, display"),
        (
            {"title": "x", "chart": {"kind": "bar", "x": "year", "y": ["=note"]}},
            "chart.x: one of the columns is needed: 'month', 'paid', '=note'\n"
            "chart.y.0: the column '=note' holds something that is no number",
        ),
        (
            {"title": "x", "chart": {"kind": "map", "x": "month", "y": []}},
            "chart.kind: one of bar, line, area, pie is needed\n"
            "chart.y: a list of 1 to 8 columns is needed",
        ),
    ],
)
async def test_a_result_is_shown_only_as_it_can_be(
    found: Case, body: dict[str, Any], told: str
) -> None:
    """With every problem; it stays a candidate."""
    name = await candidate(found)

    answer = await found.call("PATCH", f"/results/{name}", body)

    assert answer.status == 422
    assert told in answer.json["detail"]
    assert (await found.call("GET", "/results")).json == {"results": []}


@pytest.mark.parametrize("name", ["r0123456789", "R", "%00", "r'--", "x" * 65])
async def test_an_unknown_result_is_not_there(case: Case, name: str) -> None:
    """Whatever is wanted of it, and whatever its name looks like."""
    calls: list[tuple[str, str, Any]] = [
        ("PATCH", "", {"title": "x"}),
        ("DELETE", "", None),
        *(("GET", what, None) for what in ("", "/data", "/csv")),
    ]

    answers = [
        (await case.call(method, f"/results/{name}{what}", body)).status
        for method, what, body in calls
    ]

    assert answers == [404] * 5


async def test_a_table_is_saved_for_a_spreadsheet_that_runs_nothing(found: Case) -> None:
    """What would be a formula is text there; numbers stay numbers."""
    name = await candidate(found)
    await found.call("PATCH", f"/results/{name}", {"title": '../Paid "ä"\r\n/months'})

    answer = await found.call("GET", f"/results/{name}/csv")

    rows = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
    kind, _, file = answer.headers["Content-Disposition"].partition("; ")
    assert rows == [
        ["month", "paid", "'=note"],
        ["Jän", "10", "'=1+1"],
        ["Feb", "2.5", "'@x"],
        ["-3", "", '\'+"a",b'],
    ]
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert kind == "attachment"
    assert unquote(file) == "filename*=UTF-8''..-Paid \"ä\" -months.csv"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"paid": [1, {"a": "ä"}]}, '{\n  "paid": [\n    1,\n    {\n      "a": "ä"\n    }\n  ]\n}'),
        (["some", "words"], '[\n  "some",\n  "words"\n]'),
    ],
)
async def test_what_is_no_table_is_shown_as_text(
    local_database: Database, data: Any, text: str
) -> None:
    """It cannot be drawn, and no spreadsheet takes it."""
    async with serving(local_database, analysts([QUERY, Finished()], DONE, data=data)) as site:
        case = await case_of(site)
        await site.finished(case.first)
        name = await candidate(case)
        whole = await case.call("GET", f"/results/{name}")
        saved = await case.call("GET", f"/results/{name}/csv")
        chart = {"kind": "bar", "x": "a", "y": ["b"]}
        drawn = await case.call("PATCH", f"/results/{name}", {"title": "x", "chart": chart})

    assert (whole.json["table"], whole.json["text"]) == (None, text)
    assert (whole.json["columns"], whole.json["rows"]) == (None, None)
    assert saved.status == 409
    assert drawn.status == 422
    assert "no table" in drawn.json["detail"]
