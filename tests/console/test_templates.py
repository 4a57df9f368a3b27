"""Templates over HTTP: stored, checked, saved from projects, and made into projects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from jsonschema import Draft202012Validator

from handlers.console.openapi import document
from service.core.access import UserRole
from service.core.disposition import Schema
from service.core.model import Binding, ProjectId, SessionId, TurnId
from service.core.template import Template, TemplateDependency, TemplateSession, parse
from service.core.template import format as written
from service.engine.templates import MOST, instantiate
from service.errors import BadInput
from service.store import audit, investigations, sessions
from service.store import projects as store
from service.store.database import Database
from service.store.ids import new_id
from tests.console.people import Browser, cookie_of
from tests.console.site import AGENTS, Site
from tests.webhook.site import Answer

FRAUD = """\
# Fraud

- Domain: Payments
- Agent: assistant

Find it.

## Prompt

Be careful.

## Sessions

### Conclude

Sum it up.

#### Depends on

- Look [verdict = FRAUD]
- Collect

### Look

- Agent: coder

What is it?

#### Disposition

- verdict: FRAUD|FINE
- amount: optional Number

### Collect

All of it.
"""
TWO = """\
# Two

## Sessions

### Second

Go on.

#### Depends on

- First

### First

Begin.
"""
MARKDOWN = {"Content-Type": "text/markdown"}
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


async def put(site: Site, source: str = FRAUD, name: str = "Fraud") -> Answer:
    """Store a file."""
    return await site.call("PUT", f"/api/templates/{name}", {"source": source})


async def made(site: Site, template: str = "Fraud", **body: Any) -> dict[str, Any]:
    """The project of a template."""
    answer = await site.call("POST", f"/api/templates/{template}/instantiate", body)
    assert answer.status == 201, answer.json
    project: dict[str, Any] = answer.json
    return project


async def titles(site: Site, project: Mapping[str, Any]) -> dict[str, SessionId]:
    """The sessions of a project by title, in their order."""
    order = await site.engine.database.read(store.order, ProjectId(project["project"]))
    found = [await site.engine.database.read(sessions.get, SessionId(one)) for one in order]
    return {str(one.title): one.id for one in found if one is not None}


async def save(site: Site, project: Mapping[str, Any], name: object) -> Answer:
    """Save a project as a template."""
    return await site.call("POST", f"/api/projects/{project['project']}/template", {"name": name})


# -- files ----------------------------------------------------------------------------------------


async def test_a_file_is_stored_listed_and_told_as_it_came(each_site: Site) -> None:
    """With who stored it and what is in it."""
    stored = await put(each_site)

    listed = (await each_site.get("/api/templates")).json["templates"]
    one = (await each_site.get("/api/templates/Fraud")).json

    assert (stored.status, one["source"]) == (201, FRAUD)
    assert listed == [{key: value for key, value in one.items() if key != "source"}]
    assert {key: one[key] for key in ("template", "made_by", "sessions", "description")} == {
        "template": "Fraud",
        "made_by": "operator",
        "sessions": 3,
        "description": "Find it.",
    }


async def test_a_file_comes_as_it_is_and_goes_as_a_download(site: Site) -> None:
    """Plain Markdown both ways."""
    source = "# Fräud\r\n\r\nfull"

    stored = await site.call("PUT", "/api/templates/Fr%C3%A4ud", source.encode(), MARKDOWN)
    file = await site.get("/api/templates/Fr%C3%A4ud/file")

    assert stored.status == 201
    assert file.body.decode() == source
    assert file.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert file.headers["Content-Disposition"] == "attachment; filename*=UTF-8''Fr%C3%A4ud.md"


async def test_another_file_takes_the_place_of_the_first(each_site: Site) -> None:
    """Under the same name; another spelling of the name is no other template."""
    await put(each_site)

    again = await put(each_site, "# Fraud\nanew")
    spelt = await put(each_site, "# FRAUD", "FRAUD")
    listed = (await each_site.get("/api/templates")).json["templates"]

    assert (again.status, spelt.status) == (200, 409)
    assert "'Fraud' already" in spelt.json["detail"]
    assert [(one["template"], one["description"]) for one in listed] == [("Fraud", "anew")]


async def test_two_files_at_once_leave_one(each_site: Site) -> None:
    """Whoever is later replaces it; nobody is told of a broken service."""
    sources = [f"# Fraud\n{number}" for number in range(6)]

    answers = await asyncio.gather(*(put(each_site, one) for one in sources))

    kept = (await each_site.get("/api/templates/Fraud")).json["source"]
    assert sorted(one.status for one in answers) == [200] * 5 + [201]
    assert kept in sources


async def test_a_file_is_renamed_by_storing_it_under_its_new_name(site: Site) -> None:
    """The address says what the file says; the old one is deleted besides."""
    await put(site)
    renamed = FRAUD.replace("# Fraud\n", "# Theft\n", 1)

    wrong = await put(site, "\n" + renamed)
    right = await put(site, renamed, "Theft")
    gone = await site.call("DELETE", "/api/templates/Fraud")
    again = await site.call("DELETE", "/api/templates/Fraud")

    assert (wrong.status, right.status, gone.status, again.status) == (422, 201, 204, 404)
    assert wrong.json["errors"] == [
        {
            "line": 2,
            "message": "this template is called “Theft”; the address says “Fraud”: write the "
            "same name in both",
        }
    ]
    assert [one["template"] for one in (await site.get("/api/templates")).json["templates"]] == [
        "Theft"
    ]


async def test_every_problem_is_told_with_its_line(site: Site) -> None:
    """By storing as by checking; nothing is stored."""
    source = FRAUD.replace("FRAUD]", "NEVER]").replace("- Collect", "- Colect")
    expected = [
        {"line": 20, "message": "verdict of “Look” takes one of FRAUD, FINE, not 'NEVER'"},
        {"line": 21, "message": "there is no session “Colect” in this template"},
    ]

    stored = await put(site, source)
    checked = await site.call("POST", "/api/templates/check", {"source": source})

    assert (stored.status, stored.json["errors"]) == (422, expected)
    assert stored.type == "application/problem+json"
    assert checked.json == {"errors": expected, "formatted": None, "name": None}
    assert (await site.get("/api/templates/Fraud")).status == 404


async def test_a_file_is_laid_out(site: Site) -> None:
    """As the service would write it."""
    source = FRAUD.replace("\n\n", "\n").replace("- Domain", "* domain")

    checked = await site.call("POST", "/api/templates/check", source.encode(), MARKDOWN)

    assert checked.json == {"errors": [], "formatted": FRAUD, "name": "Fraud"}


@pytest.mark.parametrize("name", ["check", "file", "50% [a] ?&#", "x" * 100])
async def test_any_name_has_its_address(site: Site, name: str) -> None:
    """Also one that is part of another address."""
    path = "".join(f"%{one:02X}" for one in name.encode())

    stored = await put(site, f"# {name}", path)
    found = await site.get(f"/api/templates/{path}")

    assert (stored.status, found.json["template"]) == (201, name)


@pytest.mark.parametrize("name", ["nobody", "%00", "%ED%A0%80", "a%2Fb"])
async def test_what_is_not_there_is_not_found(each_site: Site, name: str) -> None:
    """Also a name that no database can hold."""
    answers = [
        await each_site.call(method, f"/api/templates/{name}{rest}")
        for method, rest in (
            ("GET", ""),
            ("GET", "/file"),
            ("DELETE", ""),
            ("POST", "/instantiate"),
        )
    ]

    assert [one.status for one in answers] == [404] * 4


@pytest.mark.parametrize("body", [{}, {"source": None}, {"source": ["# T"]}, []])
async def test_no_file_is_no_file(site: Site, body: object) -> None:
    """It says what is needed."""
    answer = await site.call("PUT", "/api/templates/T", body)

    assert answer.status == 400


async def test_there_are_most_templates(site: Site) -> None:
    """When there is no room, those that are there can still be changed."""
    await site.engine.database.write(_fill)

    answers = [await put(site), await put(site, "# T1", "T1")]

    assert [one.status for one in answers] == [409, 200]
    assert answers[0].json["detail"] == "at most 500 templates; delete some first"


def _fill(conn: sa.Connection) -> None:
    for number in range(MOST):
        store.put_template(conn, store.StoredTemplate(f"T{number}", "# T", "ann", NOW))


# -- from a template to a project -----------------------------------------------------------------


async def test_a_project_is_what_its_template_says(each_site: Site) -> None:
    """Its texts, its sessions in their order, what they wait for; nothing is begun."""
    await put(each_site)

    project = await made(each_site)

    found = await titles(each_site, project)
    database = each_site.engine.database
    kept = await database.read(investigations.of_many, list(found.values()))
    edges = await database.read(investigations.dependencies_of, list(found.values()))
    rows = [await database.read(sessions.get, one) for one in found.values()]
    assert [project[key] for key in ("name", "domain", "description", "prompt", "agent")] == [
        "Fraud",
        "Payments",
        "Find it.",
        "Be careful.",
        "assistant",
    ]
    assert (project["template"], project["owner"], project["sessions"]) == ("Fraud", "operator", 3)
    assert list(found) == ["Conclude", "Look", "Collect"]
    assert [one.agent for one in rows if one] == ["assistant", "coder", "assistant"]
    assert [kept[one].request for one in found.values()] == [
        "Sum it up.",
        "What is it?",
        "All of it.",
    ]
    assert kept[found["Look"]].schema == Schema.parse(
        {"verdict": "FRAUD|FINE", "amount": "optional Number"}
    )
    assert {(one.title, one.upstream, one.wanted) for one in edges[found["Conclude"]]} == {
        ("Look", found["Look"], "verdict = FRAUD"),
        ("Collect", found["Collect"], "complete"),
    }
    assert [one.last_message for one in rows if one] == [0, 0, 0]


async def test_a_name_that_is_taken_is_followed_by_a_number(each_site: Site) -> None:
    """Whatever its capitals, and also when several are made at once."""
    await put(each_site)
    await each_site.call("POST", "/api/projects", {"name": "fraud"})

    names = [(await made(each_site))["name"], (await made(each_site, name="FRAUD"))["name"]]
    at_once = await asyncio.gather(*(made(each_site, name="Many") for _ in range(4)))

    assert names == ["Fraud 2", "FRAUD 3"]
    assert sorted(one["name"] for one in at_once) == ["Many", "Many 2", "Many 3", "Many 4"]


@pytest.mark.parametrize("name", ["", " x", "x" * 121, 5, "a\nb"])
async def test_a_project_has_a_proper_name(site: Site, name: object) -> None:
    """Else nothing is made."""
    await put(site)

    answer = await site.call("POST", "/api/templates/Fraud/instantiate", {"name": name})

    assert answer.status == 400
    assert answer.json["detail"].startswith("name: ")
    assert (await site.get("/api/projects")).json["projects"] == []


async def test_a_template_of_another_service_says_what_is_missing_here(site: Site) -> None:
    """Every agent and tool at once; nothing is made."""
    source = FRAUD.replace("- Agent: assistant", "- Agent: who\n- Tools: hammer")
    await put(site, source.replace("- Agent: coder", "- Agent: nobody"))

    answer = await site.call("POST", "/api/templates/Fraud/instantiate")

    assert answer.status == 400
    assert answer.json["detail"].splitlines() == [
        "agent: there is no 'who'; there are: assistant, coder",
        "“Look”: agent: there is no 'nobody'; there are: assistant, coder",
        "tools: no agent has 'hammer'; there are: none",
    ]
    assert (await site.get("/api/projects")).json["projects"] == []


async def test_a_stored_file_that_is_none_any_more_is_still_shown(site: Site) -> None:
    """A later release may take less; the file can be mended."""
    old = store.StoredTemplate("Old", "no template", "ann", NOW)
    await site.engine.database.write(store.put_template, old)

    listed = (await site.get("/api/templates")).json["templates"]
    answer = await site.call("POST", "/api/templates/Old/instantiate")

    assert [(one["template"], one["sessions"]) for one in listed] == [("Old", 0)]
    assert (answer.status, answer.json["errors"][0]["line"]) == (422, 1)


async def test_tools_and_numbers_are_those_of_the_project(local_database: Database) -> None:
    """Agents work there with the tools that are named; a long name leaves room for its number."""
    bindings = {"one": Binding("one", "offline", "echo", "", ("a", "b", "data:x"))}
    template = Template("T", tools=("a",), sessions=(TemplateSession("S", "r"),))
    long = "x" * 200

    first, second = [
        await local_database.write(
            instantiate, template, name=long, owner="ann", bindings=bindings, at=NOW
        )
        for _ in range(2)
    ]
    (session,) = await local_database.read(store.order, first.id)
    (voice,) = await local_database.read(sessions.voices_of, SessionId(session))

    assert (len(first.name), second.name) == (120, "x" * 118 + " 2")
    assert (first.tools, voice.tools) == (("a",), ("a", "data:x"))


async def test_a_large_template_is_made_in_good_time(local_database: Database) -> None:
    """Two hundred sessions that wait for each other."""
    many = tuple(
        TemplateSession(
            f"S{number}",
            "r",
            Schema.parse({"v": "A|B"}),
            tuple(TemplateDependency(f"S{one}", "v", "A") for one in range(number + 1, number + 6)),
        )
        for number in range(195)
    )
    last = tuple(
        TemplateSession(f"S{number}", "r", Schema.parse({"v": "A|B"})) for number in range(195, 200)
    )
    template = parse(written(Template("T", sessions=many + last)))

    async with asyncio.timeout(30):
        project = await local_database.write(
            instantiate, template, name="T", owner="ann", bindings=AGENTS, at=NOW
        )

    assert await local_database.read(store.titles, project.id) != []
    assert len(await local_database.read(store.order, project.id)) == 200


# -- from a project to a template -----------------------------------------------------------------


async def test_a_project_is_saved_and_made_anew(each_site: Site) -> None:
    """Its template is the one it was made from, whatever was said in it meanwhile."""
    await put(each_site)
    project = await made(each_site)
    await each_site.finished((await titles(each_site, project))["Collect"], "other words")

    first = await save(each_site, project, "Again")
    copy = await made(each_site, "Again")
    second = await save(each_site, copy, "Again")

    expected = FRAUD.replace("# Fraud", "# Again")
    assert (first.status, first.json["source"]) == (201, expected)
    assert (second.status, second.json["source"]) == (200, expected)


async def test_what_was_said_first_is_what_a_session_begins_with(site: Site) -> None:
    """When nobody wrote its request down; titles are made unique."""
    project = (await site.call("POST", "/api/projects", {"name": "P"})).json
    path = f"/api/projects/{project['project']}/sessions"
    for _ in range(2):
        session = (await site.call("POST", path, {})).json["session"]
        await site.finished(session, "# Why?\nTell me.")

    saved = (await save(site, project, "T")).json

    assert [(one.title, one.request) for one in parse(saved["source"]).sessions] == [
        ("# Why?", "# Why?\nTell me."),
        ("# Why? 2", "# Why?\nTell me."),
    ]


async def test_what_stands_in_the_way_of_saving_is_told(site: Site) -> None:
    """Sessions without a request, and such as wait for what was deleted, all by name."""
    await put(site)
    project = await made(site)
    found = await titles(site, project)
    await site.call("DELETE", f"/api/sessions/{found['Look']}?dependants=keep")
    path = f"/api/projects/{project['project']}/sessions"
    await site.call("POST", path, {"title": "Blank"})

    answer = await save(site, project, "T")

    assert answer.status == 400
    assert answer.json["detail"].splitlines() == [
        "“Blank” has no request yet; write down what it is to begin with",
        "“Conclude” depends on “Look”, which was deleted; edit its dependencies",
    ]


async def test_a_condition_that_cannot_come_true_is_told(site: Site) -> None:
    """A schema may change under those who wait for it."""
    await put(site)
    project = await made(site)
    look = (await titles(site, project))["Look"]
    other = Schema.parse({"verdict": "YES|NO"})
    await site.engine.database.write(investigations.set_schema, look, other)

    answer = await save(site, project, "T")

    assert answer.status == 400
    assert answer.json["detail"] == "verdict of “Look” takes one of YES, NO, not 'FRAUD'"


@pytest.mark.parametrize("name", [None, "", 5, "a/b", " a", "a\nb", "x" * 101, ".."])
async def test_a_template_has_a_proper_name(site: Site, name: object) -> None:
    """One that can stand in its heading and in an address."""
    project = (await site.call("POST", "/api/projects", {"name": "P"})).json

    answer = await save(site, project, name)

    assert (answer.status, answer.json["detail"][:6]) == (400, "name: ")


async def test_a_project_is_saved_by_those_who_may_write_in_it(site: Site) -> None:
    """Everybody sees templates: not everybody who sees a project may show it around."""
    people = {
        name: Browser(site, await cookie_of(site, name, UserRole.OPERATOR))
        for name in ("olga", "ed", "vi", "out")
    }
    shares = [{"name": "ed", "share": "editor"}, {"name": "vi", "share": "viewer"}]
    body = {"name": "P", "members": shares}
    project = (await people["olga"].call("POST", "/api/projects", body)).json["project"]

    answers = {
        name: await browser.call("POST", f"/api/projects/{project}/template", {"name": name})
        for name, browser in people.items()
    }

    assert {name: one.status for name, one in answers.items()} == {
        "olga": 201,
        "ed": 201,
        "vi": 403,
        "out": 404,
    }
    assert answers["ed"].json["made_by"] == "ed"


async def test_what_is_done_is_written_down(site: Site) -> None:
    """Who stored, used and deleted which template."""
    await put(site)
    await made(site)
    await site.call("DELETE", "/api/templates/Fraud")

    found = await site.engine.database.read(audit.newest, limit=3)

    assert [(one.action, one.detail["name"]) for one in found[::-1]] == [
        ("store template", "Fraud"),
        ("create project", "Fraud"),
        ("delete template", "Fraud"),
    ]


async def test_the_answers_are_as_documented(site: Site) -> None:
    """Each fits its schema."""
    project = (await site.call("POST", "/api/projects", {"name": "P"})).json["project"]
    story: list[tuple[str, str, str, object]] = [
        ("PUT", "/api/templates/{template}", "/api/templates/Fraud", {"source": FRAUD}),
        ("PUT", "/api/templates/{template}", "/api/templates/Fraud", {"source": "x"}),
        ("GET", "/api/templates", "/api/templates", None),
        ("GET", "/api/templates/{template}", "/api/templates/Fraud", None),
        ("POST", "/api/templates/check", "/api/templates/check", {"source": "x"}),
        ("POST", "/api/templates/{template}/instantiate", "/api/templates/Fraud/instantiate", {}),
        (
            "POST",
            "/api/projects/{project}/template",
            f"/api/projects/{project}/template",
            {"name": "P"},
        ),
    ]

    wrong = {}
    for method, path, address, body in story:
        answer = await site.call(method, address, body)
        responses = document()["paths"][path][method.lower()]["responses"]
        content = responses.get(str(answer.status), responses["default"])["content"]
        schema = {
            **content[answer.type]["schema"],
            "components": document()["components"],
        }
        wrong[method, path] = [
            one.message for one in Draft202012Validator(schema).iter_errors(answer.json)
        ]

    assert wrong == {call: [] for call in wrong}


# -- scans and private projects -------------------------------------------------------------------


async def test_a_scan_makes_its_project_once(database: Database) -> None:
    """However often it is taken up again, also by two at once."""
    template = parse(FRAUD)
    scan = TurnId(new_id())
    given: dict[str, Any] = {"owner": "ann", "bindings": AGENTS, "at": NOW, "scan": scan}

    both = await asyncio.gather(
        *(database.write(instantiate, template, name="Scan", **given) for _ in range(2))
    )
    later = await database.write(instantiate, template, name="Other", **given)

    parts = await database.read(investigations.of_scan, scan)
    assert {one.id for one in (*both, later)} == {later.id}
    assert (later.name, await database.read(store.count)) == ("Scan", 1)
    assert list(parts) == await database.read(store.order, later.id)
    assert len(parts) == 3


async def test_an_operator_runs_a_template_as_a_scan(each_site: Site) -> None:
    """Its sessions run as they may in a project of theirs; the same key is the same scan."""
    ann = Browser(each_site, await cookie_of(each_site, "ann"))
    await put(each_site, TWO, "Two")

    key = {"Idempotency-Key": "once"}
    begun = await ann.call("POST", "/api/templates/Two/scan", headers=key)
    again = await ann.call("POST", "/api/templates/Two/scan", headers=key)
    turn = (await each_site.get(f"/api/turns/{begun.json['turn']}?wait=60")).json

    (project,) = (await each_site.get("/api/projects")).json["projects"]
    session = (await each_site.get(f"/api/sessions/{begun.json['session']}")).json
    assert (begun.status, again.status) == (202, 200), begun.json
    assert again.json["turn"] == begun.json["turn"]
    assert turn["state"] == "succeeded"
    assert [(one["title"], one["state"]) for one in turn["scan"]["sessions"]] == [
        ("Second", "held"),
        ("First", "ended"),
    ]
    assert (project["owner"], turn["scan"]["project"]) == ("ann", project["project"])
    assert (session["title"], session["owner"], session["source"]) == ("Two", "ann", "manual")


async def test_a_scan_of_no_template_is_refused(site: Site) -> None:
    """As everything else about it; a key is of one template and one text."""
    await put(site, TWO, "Two")
    headers = {"Idempotency-Key": "once"}

    missing = await site.call("POST", "/api/templates/Three/scan")
    begun = await site.call("POST", "/api/templates/Two/scan", {"text": "Go"}, headers)
    other = await site.call("POST", "/api/templates/Two/scan", {"text": "Stop"}, headers)
    wrong = await site.call("POST", "/api/templates/Two/scan", {"text": 7})

    assert (missing.status, begun.status, other.status, wrong.status) == (404, 202, 422, 400)
    assert "template" in missing.json["detail"]


async def test_ones_own_project_is_made_from_the_template_called_private(site: Site) -> None:
    """With what the template says, when somebody asks for the first time."""
    await put(site, "# private\n- Domain: Mine\n## Sessions\n### Begin\nhere", "private")

    asked = await site.call("POST", "/api/ask", {"text": "What is new?"})
    project = (await site.get(f"/api/projects/{asked.json['project']}")).json

    assert asked.status == 202
    assert (project["domain"], project["template"], project["private"]) == ("Mine", "private", True)
    assert [one["title"] for one in project["investigations"]] == ["Begin", "What is new?"]


async def test_a_person_has_one_private_project(database: Database) -> None:
    """A second one is refused, not stored."""
    template = Template("private", sessions=(TemplateSession("S", "r"),))
    given: dict[str, Any] = {"owner": "ann", "bindings": AGENTS, "at": NOW, "private_to": "ann"}

    first = await database.write(instantiate, template, name="Private", **given)
    with pytest.raises(BadInput) as refused:
        await database.write(instantiate, template, name="Private", **given)

    assert first.private_to == "ann"
    assert "private project already" in str(refused.value)
    assert await database.read(store.count) == 1
