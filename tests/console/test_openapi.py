"""The document of the API: whole, well formed, and true."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from handlers.console.openapi import CALLS, document
from service.core.access import UserRole
from service.engine.questions import PROMPT_USER
from service.ports import Finished, TextDelta, ToolCall
from service.store.database import Database
from tests.console.people import PASSWORD, Browser, add_person
from tests.console.site import Site, serving
from tests.fakes import ScriptedAgents
from tests.webhook.site import Answer

DOCUMENT = document()
METHODS = {"get", "post", "put", "patch", "delete"}
ASK = ToolCall("q", "prompt_user", json.dumps({"question": "Which?", "choices": ["A", "B"]}))


def _operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == "$ref":
                yield str(inner)
            else:
                yield from _references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _references(inner)


def _schemas() -> Iterator[Mapping[str, Any]]:
    yield from DOCUMENT["components"]["schemas"].values()
    for _, _, operation in _operations():
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        yield from (media["schema"] for one in bodies for media in one.get("content", {}).values())
        yield from (one["schema"] for one in operation["parameters"])


# -- its form -------------------------------------------------------------------------------------


def test_every_route_is_documented(site: Site) -> None:
    """With its method; and nothing is documented that is not there."""
    served = {(route.method.lower(), route.path) for route in site.api.routes()}

    documented = {(method, path) for method, path, _ in _operations()}

    assert {one for one in documented if not one[1].startswith("/hooks/")} == served
    assert len(CALLS) == len(documented)


def test_the_document_is_json() -> None:
    """Nothing in it is of a kind that only Python knows."""
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_the_document_is_well_formed() -> None:
    """What OpenAPI 3.1 asks of each operation."""
    for method, path, operation in _operations():
        declared = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
        assert path.startswith("/")
        assert method in METHODS
        assert operation["summary"].endswith(".")
        assert declared == re.findall(r"\{(\w+)\}", path)
        assert all(one["required"] for one in operation["parameters"] if one["in"] == "path")
        assert all(re.fullmatch(r"[1-5]\d\d|default", one) for one in operation["responses"])
        assert all("description" in one for one in operation["responses"].values())
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(DOCUMENT["info"])


def test_every_operation_has_a_name_of_its_own() -> None:
    """Generators of clients make functions of them."""
    names = [operation["operationId"] for _, _, operation in _operations()]

    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


def test_every_reference_leads_somewhere() -> None:
    """And every schema is used."""
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}

    assert set(_references(DOCUMENT)) == known


def test_every_schema_is_one() -> None:
    """By the rules of JSON Schema."""
    for schema in _schemas():
        Draft202012Validator.check_schema(schema)


def test_the_role_of_each_call_is_told() -> None:
    """So that nobody has to try."""
    roles = {(method, path): one.get("x-role") for method, path, one in _operations()}

    assert roles["get", "/api/sessions"] == UserRole.VIEWER
    assert roles["post", "/api/sessions"] == UserRole.OPERATOR
    assert roles["get", "/api/audit"] == UserRole.ADMIN
    assert roles["post", "/signin"] is None


# -- its truth ------------------------------------------------------------------------------------


def _problems(method: str, path: str, answer: Answer) -> list[str]:
    """What of an answer is not as documented."""
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    response = responses.get(str(answer.status), responses["default"])
    schema = response["content"][answer.type]["schema"]
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(answer.json)]


@pytest.fixture
async def busy_site(local_database: Database) -> AsyncGenerator[Site]:
    """A site whose model asks once, then says Done."""
    agents = ScriptedAgents(
        [[ASK, Finished()], [TextDelta("Done."), Finished()]], tools_=[PROMPT_USER]
    )
    async with serving(local_database, agents) as site:
        yield site


@dataclass
class Witness:
    """Calls, and what of their answers was not as documented."""

    site: Site
    wrong: dict[str, list[str]] = field(default_factory=dict)

    async def check(self, method: str, path: str, body: object = None, **values: str) -> Answer:
        """Call a documented path, with values in place of its names."""
        address = path
        for name, value in values.items():
            address = address.replace(f"{{{name}}}", value)
        answer = await self.site.call(method, address, body)
        documented, _, _ = path.partition("?")
        found = _problems(method, documented, answer)
        if found or answer.status >= 400:
            self.wrong[f"{method} {path} {answer.status}"] = found or [answer.body.decode()]
        return answer


ONE = "/api/sessions/{session}"


async def test_sessions_are_as_documented(busy_site: Site) -> None:
    """What each call answers fits its schema: the same story, told in one go."""
    witness = Witness(busy_site)
    check = witness.check

    begun = await check("POST", "/api/sessions", {"key": "ann", "title": "A title"})
    session = begun.json["session"]
    receipt = await check("POST", f"{ONE}/messages", {"text": "hello"}, session=session)
    turn = receipt.json["turn"]
    while not (
        asked := (await check("GET", f"{ONE}/questions", session=session)).json["questions"]
    ):
        await check("GET", "/api/turns/{turn}?wait=1", turn=turn)
    await check("GET", "/api/turns/{turn}", turn=turn)
    reply = {"question": asked[0]["question"], "answer": "B"}
    await check("POST", f"{ONE}/answer", reply, session=session)
    await check("GET", "/api/turns/{turn}?wait=60", turn=turn)
    await check("POST", "/api/turns/{turn}/stop", turn=turn)
    for what in ("", "/messages", "/state", "/voices", "/questions", "/results"):
        await check("GET", f"{ONE}{what}", session=session)
    for what in ("pin", "unpin", "read", "stop", "interrupt", "archive", "restore"):
        await check("POST", f"{ONE}/{what}", session=session)
    await check("PATCH", ONE, {"title": "Another"}, session=session)
    await check("PATCH", f"{ONE}/state", {"state": {"a": 1}}, session=session)

    assert witness.wrong == {}


async def test_what_surrounds_sessions_is_as_documented(busy_site: Site) -> None:
    """Tasks, compositions, and every list there is."""
    witness = Witness(busy_site)
    check = witness.check

    await check("POST", "/api/tasks/{task}/run", task="morning")
    await check("POST", "/api/tasks", {"cron": "0 8 * * *", "prompt": "Hi.", "name": "mine"})
    await check("POST", "/api/tasks/{task}/disable", task="mine")
    await check("GET", "/api/tasks/{task}", task="morning")
    await check("GET", "/api/tasks/{task}/occurrences", task="morning")
    voices = [{"agent": "assistant", "name": "One", "rounds": 1}]
    await check("POST", "/api/compositions", {"name": "Mine", "voices": voices})
    await check("GET", "/api/compositions/{composition}", composition="Mine")
    lists = (
        "projects",
        "templates",
        "sessions",
        "tasks",
        "agents",
        "compositions",
        "triggers",
        "deliveries",
        "inbox",
    )
    for what in (*lists, "usage", "audit", "me"):
        await check("GET", f"/api/{what}")
    await check("GET", "/api/sessions?view=scheduled")
    await check("GET", "/api/search?q=hello")
    await check("GET", "/api/openapi.json")

    assert witness.wrong == {}


async def test_investigations_are_as_documented(busy_site: Site) -> None:
    """Projects, the sessions in them, and templates."""
    witness = Witness(busy_site)
    check = witness.check

    shared = {"name": "Fraud", "members": [{"name": "ed", "share": "editor"}]}
    project = (await check("POST", "/api/projects", shared)).json["project"]
    mine = "/api/projects/{project}"
    begin = {"request": "Who?", "title": "Who", "schema": {"verdict": "A|B"}}
    first = (await check("POST", f"{mine}/sessions", begin, project=project)).json["session"]
    waits = {"title": "Then", "request": "Why?", "dependencies": [{"session": first}]}
    second = (await check("POST", f"{mine}/sessions", waits, project=project)).json["session"]
    await check("PATCH", mine, {"domain": "Payments"}, project=project)
    await check("PUT", f"{mine}/members/{{name}}", {"share": "viewer"}, project=project, name="vi")
    for what in ("investigation", "preview", "dependencies", "disposition", "results?all=1"):
        await check("GET", f"{ONE}/{what}", session=first)
    values = {"values": {"verdict": "A"}}
    await check("PUT", f"{ONE}/disposition", values, session=first)
    await check("POST", f"{ONE}/disposition/confirm", session=first)
    edges = {"dependencies": [{"session": first, "field": "verdict", "value": "A"}]}
    await check("PUT", f"{ONE}/dependencies", edges, session=second)
    await check("POST", f"{ONE}/start", session=second)
    await check("POST", f"{ONE}/extend", session=second)
    await check("GET", mine, project=project)
    await check("GET", "/api/people")
    await check("POST", f"{mine}/template", {"name": "fraud"}, project=project)
    await check("GET", "/api/templates/{template}", template="fraud")
    await check("POST", "/api/templates/check", {"source": "# broken\n\n## What"})
    await check("POST", "/api/templates/{template}/instantiate", {}, template="fraud")
    await check("POST", "/api/templates/{template}/scan", {}, template="fraud")
    await check("POST", f"{mine}/preview", {"request": "What is it?"}, project=project)
    await check("POST", "/api/ask", {"text": "Who?"})

    assert witness.wrong == {}


async def test_a_turn_of_several_voices_is_as_documented(each_site: Site) -> None:
    """Also where it is to come to something, which is told with it."""
    witness = Witness(each_site)
    check = witness.check

    begin = {"composition": "review", "schema": {"verdict": "A|B"}}
    session = (await check("POST", "/api/sessions", begin)).json["session"]
    receipt = await check("POST", f"{ONE}/messages", {"text": "hello"}, session=session)
    told = await check("GET", "/api/turns/{turn}?wait=60", turn=receipt.json["turn"])
    values = {"values": {"verdict": "A"}}
    await check("PUT", f"{ONE}/disposition", values, session=session)
    found = await check("GET", "/api/turns/{turn}", turn=receipt.json["turn"])

    assert witness.wrong == {}
    assert len(told.json["replies"]) > 1
    assert found.json["disposition"]["values"] == {"verdict": "A"}


async def test_an_export_is_as_documented(site: Site) -> None:
    """As JSON, and in its other forms as text."""
    witness = Witness(site)
    session = await site.session()
    await site.finished(session)

    await witness.check("GET", f"{ONE}/export?format=json", session=session)
    media = DOCUMENT["paths"][f"{ONE}/export"]["get"]["responses"]["200"]["content"]

    assert witness.wrong == {}
    assert media["text/markdown"]["schema"] == media["text/plain"]["schema"] == {"type": "string"}


async def test_streams_are_as_documented(site: Site) -> None:
    """The data of each of their frames."""
    receipt = await site.finished(await site.session())
    events = await site.events(receipt, after=0)
    content = DOCUMENT["paths"][f"{ONE}/messages"]["post"]["responses"]["202"]["content"]
    schema = {**content["text/event-stream"]["schema"], "components": DOCUMENT["components"]}

    wrong = [
        error.message
        for one in events
        for error in Draft202012Validator(schema).iter_errors(one.data)
    ]

    assert (len(events) > 3, wrong) == (True, [])


async def test_signing_in_is_as_documented(site: Site) -> None:
    """Also what is refused."""
    await add_person(site)
    browser = Browser(site)

    good = await browser.sign_in(name="ann", password=PASSWORD)
    bad = await browser.sign_in(name="ann", password="wrong password")

    assert _problems("POST", "/signin", good) == []
    assert (bad.status, _problems("POST", "/signin", bad)) == (401, [])


@pytest.mark.parametrize(
    "path", ["/api/sessions/{session}", "/api/turns/{turn}", "/api/tasks/{task}"]
)
async def test_a_problem_is_as_documented(site: Site, path: str) -> None:
    """RFC 9457, whatever went wrong."""
    answer = await site.get(re.sub(r"\{\w+\}", "unknown", path))

    assert (answer.status, _problems("GET", path, answer)) == (404, [])


async def test_an_answer_that_is_not_as_documented_is_noticed(site: Site) -> None:
    """The check above checks something."""
    answer = await site.get("/api/me")

    assert _problems("GET", "/api/me", answer) == []
    assert _problems("GET", "/api/tasks/{task}", answer) != []
