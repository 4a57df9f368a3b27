"""Steering a session over the API: knobs, busy, render, compact, interrupt, questions, answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from service.core.knobs import Number, Select
from service.core.model import Origin, TurnId
from service.engine.questions import PROMPT_USER
from service.ports import Caller, Finished, TextDelta, ToolCall, ToolSpec
from service.store.database import Database
from tests.console.site import Site, serving
from tests.fakes import Script, ScriptedAgents
from tests.webhook.site import Answer, frames

NOBODY = "01900000-0000-7000-8000-000000000000"
PACE = Select(name="pace", description="How fast.", default="fast", options=("fast", "slow"))
DEPTH = Number(name="depth", description="How deep.", default=3, minimum=1, maximum=9)
KNOBS = {"pace": PACE, "depth": DEPTH}
ASK = ToolCall("q", "prompt_user", json.dumps({"question": "Which?", "choices": ["A", "B"]}))
WORK = ToolSpec("work", "Work.", {"type": "object"})
DONE: Script = [TextDelta("Done."), Finished()]


class Gate:
    """A tool that waits inside until it is let go."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, call: ToolCall, caller: Caller) -> str:
        self.inside.set()
        await self.open.wait()
        return "worked"


def asking() -> ScriptedAgents:
    """Agents whose model asks which, then is done."""
    return ScriptedAgents([[ASK, Finished()], DONE], tools_=[PROMPT_USER])


def working(gate: Gate) -> ScriptedAgents:
    """Agents whose model works once, then is done."""
    call = ToolCall("w", "work", "{}")
    return ScriptedAgents([[call, Finished()], DONE], tools_=[WORK, PROMPT_USER], on_work=gate)


async def post(site: Site, session: str, what: str, body: object = None) -> Answer:
    """Post to a call of a session."""
    return await site.call("POST", f"/api/sessions/{session}/{what}", body)


async def asked(site: Site, session: str) -> Mapping[str, Any]:
    """The question of a session, once there is one and its turn waits."""
    async with asyncio.timeout(60):
        while True:
            found = (await site.get(f"/api/sessions/{session}/questions")).json["questions"]
            if found and not site.engine.lanes.busy:
                question: Mapping[str, Any] = found[0]
                return question
            await asyncio.sleep(0.01)


# -- messages -------------------------------------------------------------------------------------


async def test_an_operator_speaks_for_themselves(site: Site) -> None:
    """What tools may do follows from that, and from nothing a model says."""
    receipt = await site.finished(await site.session())

    result = await site.engine.results.get(TurnId(receipt["turn"]))
    assert result is not None
    assert result.turn.origin is Origin.PERSON


async def test_knobs_are_turned_with_a_message(local_database: Database) -> None:
    """They are kept as the knob keeps them, for this turn and those after it."""
    async with serving(local_database, ScriptedAgents(knobs_=KNOBS)) as site:
        session = await site.session()
        answer = await post(site, session, "messages", {"text": "hi", "knobs": {"pace": "SLOW"}})
        memory = (await site.get(f"/api/sessions/{session}/state")).json

    assert answer.status == 202
    assert {one["knob"]: one["value"] for one in memory["knobs"]} == {"pace": "slow", "depth": 3}


@pytest.mark.parametrize(
    ("knobs", "detail"),
    [
        ({"pace": "warp"}, "pace takes one of fast, slow"),
        ({"depth": 99}, "depth takes a number from 1 up to 9"),
        ({"depth": None}, "depth takes a number from 1 up to 9"),
        ({"mood": "good"}, "knobs: there is no 'mood'; there are: depth, pace"),
    ],
)
async def test_a_wrong_knob_is_refused_with_what_it_takes(
    local_database: Database, knobs: object, detail: str
) -> None:
    """Nothing is queued then, by any call that takes knobs."""
    async with serving(local_database, ScriptedAgents(knobs_=KNOBS)) as site:
        session = await site.session()
        sent = await post(site, session, "messages", {"text": "hi", "knobs": knobs})
        rendered = await post(site, session, "render", {"knobs": knobs})
        said = (await site.get(f"/api/sessions/{session}/messages")).json["messages"]

    assert [(one.status, one.json["detail"]) for one in (sent, rendered)] == [(422, detail)] * 2
    assert said == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"text": "hi", "busy": "now"}, "busy takes one of queue, steer, interrupt"),
        ({"text": "hi", "busy": 1}, "busy takes one of"),
        ({"text": "hi", "busy": []}, "busy takes one of"),
        ({"text": "hi", "knobs": [1]}, "knobs: a JSON object is needed"),
        ({"text": "hi", "attachments": {}}, "attachments: a list is needed"),
        ({"text": "hi", "attachments": ["a"]}, "attachments[0]: a JSON object is needed"),
        ({"text": "hi", "attachments": [{"name": "a"}]}, "attachments[0].data: a text"),
        ({"text": "hi", "attachments": [{"name": 1, "data": ""}]}, "attachments[0].name: a text"),
        (
            {"text": "hi", "attachments": [{"name": "a", "data": "%"}]},
            "attachments[0].data: the bytes of the file in base64",
        ),
        (
            {"text": "hi", "attachments": [{"name": "a", "data": "QQ==", "media_type": 1}]},
            "attachments[0].media_type: a text",
        ),
        ({"text": "hi", "attachments": [{"name": "a", "data": ""}]}, "the file 'a' is empty"),
        ({"text": 5}, "text: a text"),
        ({}, "text: a text"),
    ],
)
async def test_a_message_of_the_wrong_shape_is_refused(
    site: Site, body: object, detail: str
) -> None:
    """The answer names the field."""
    answer = await post(site, await site.session(), "messages", body)

    assert answer.status == 400
    assert detail in answer.json["detail"]


async def test_a_key_stands_for_everything_that_was_sent(site: Site) -> None:
    """The same words with something else beside them are another message."""
    session = await site.session()
    path = f"/api/sessions/{session}/messages"
    key = {"Idempotency-Key": "k"}
    bodies = [{"text": "hi", "busy": "steer"}, {"text": "hi", "busy": "steer"}, {"text": "hi"}]

    answers = [await site.call("POST", path, body, key) for body in bodies]

    assert [one.status for one in answers] == [202, 200, 422]


async def test_a_message_that_interrupts_makes_the_turn_ask(local_database: Database) -> None:
    """The running turn pauses at its next boundary and says so; the message is answered."""
    gate = Gate()
    async with serving(local_database, working(gate)) as site:
        session = await site.session()
        first = (await site.send(session)).json
        await gate.inside.wait()
        second = await post(site, session, "interrupt", {"text": "Stop, do that instead."})
        gate.open.set()
        result = (await site.get(f"{first['status_url']}?wait=60")).json
        after = (await site.get(f"{second.json['status_url']}?wait=60")).json

    assert second.status == 202
    assert (result["ended"], result["interrupted_by"]) == ("interrupted", "operator")
    assert after["state"] == "succeeded"


# -- without a message ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["render", "compact"])
async def test_a_turn_without_a_message_is_told_like_any_other(site: Site, what: str) -> None:
    """It is acknowledged, waited for or streamed, and its kind is part of the result."""
    session = await site.session()
    await site.finished(session)
    path = f"/api/sessions/{session}/{what}"

    acknowledged = await site.call("POST", path)
    waited = await site.call("POST", path, {}, {"Prefer": "wait=60"})
    streamed = await site.call("POST", path, {}, {"Accept": "text/event-stream"})

    assert acknowledged.status == 202
    assert waited.status == 200
    assert (waited.json["kind"], waited.json["state"]) == (what, "succeeded")
    assert frames(streamed.body)[-1].kind == "turn.finished"


async def test_a_render_and_a_compact_have_keys_of_their_own(site: Site) -> None:
    """A key that rendered cannot sum up."""
    session = await site.session()
    key = {"Idempotency-Key": "k"}

    answers = [
        await site.call("POST", f"/api/sessions/{session}/{what}", {}, key)
        for what in ("render", "render", "compact")
    ]

    assert [one.status for one in answers] == [202, 200, 422]


async def test_interrupting_says_what_came_of_it(local_database: Database) -> None:
    """It is no error when nothing runs, or when somebody was faster."""
    gate = Gate()
    async with serving(local_database, working(gate)) as site:
        session = await site.session()
        idle = await post(site, session, "interrupt")
        receipt = (await site.send(session)).json
        await gate.inside.wait()
        first = await post(site, session, "interrupt", {})
        second = await post(site, session, "interrupt", {})
        gate.open.set()
        await site.get(f"{receipt['status_url']}?wait=60")

    said = [one.json for one in (idle, first, second)]
    assert said == [{"interrupt": one} for one in ("idle", "interrupting", "already")]


# -- questions ------------------------------------------------------------------------------------


async def test_a_question_is_answered_once(database: Database) -> None:
    """The turn goes on; who comes late is told so."""
    async with serving(database, asking()) as site:
        session = await site.session()
        receipt = (await site.send(session)).json
        question = await asked(site, session)
        whole = (await site.get(f"/api/sessions/{session}")).json
        waiting = (await site.get(receipt["status_url"])).json
        body = {"question": question["question"], "answer": "B"}
        first = await post(site, session, "answer", body)
        second = await post(site, session, "answer", body)
        result = (await site.get(f"{receipt['status_url']}?wait=60")).json
        left = (await site.get(f"/api/sessions/{session}/questions")).json

    assert (question["text"], question["choices"]) == ("Which?", ["A", "B"])
    assert (whole["questions"], waiting["state"]) == (1, "waiting")
    assert (first.status, first.json["turn"]) == (200, receipt["turn"])
    assert (second.status, second.json["title"]) == (409, "Conflict")
    assert (result["state"], result["text"]) == ("succeeded", "Done.")
    assert left == {"questions": []}


async def test_a_message_answers_the_open_question(local_database: Database) -> None:
    """Its receipt names the turn that had asked; a stream goes on from the answer."""
    async with serving(local_database, asking()) as site:
        session = await site.session()
        receipt = (await site.send(session)).json
        await asked(site, session)
        answer = await site.send(session, "B", {"Accept": "text/event-stream"})

    kinds = [one.kind for one in frames(answer.body)]
    assert answer.headers["X-Ringback-Turn"] == receipt["turn"]
    assert kinds[:2] == ["message.added", "question.answered"]
    assert kinds[-1] == "turn.finished"


async def test_a_turn_that_waits_is_acknowledged_at_the_deadline(
    local_database: Database,
) -> None:
    """Nobody is made to wait for a person longer than they asked for."""
    async with serving(local_database, asking()) as site:
        session = await site.session()
        async with asyncio.timeout(60):
            answer = await site.send(session, "hi", {"Prefer": "wait=1"})

    assert (answer.status, answer.headers["Preference-Applied"]) == (202, "wait=1")


async def test_a_question_of_another_session_is_not_there(local_database: Database) -> None:
    """Ids that leak open nothing elsewhere."""
    async with serving(local_database, asking()) as site:
        session = await site.session()
        await site.send(session)
        question = await asked(site, session)
        other = await site.session("bob")
        body = {"question": question["question"], "answer": "B"}
        answers = [
            await post(site, other, "answer", body),
            await post(site, session, "answer", {"question": NOBODY, "answer": "B"}),
            await post(site, session, "answer", {"question": "\x00", "answer": "B"}),
        ]

    assert [one.status for one in answers] == [404, 404, 404]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "question: a text"),
        ({"question": 1, "answer": "x"}, "question: a text"),
        ({"question": NOBODY}, "answer: a text"),
        ({"question": NOBODY, "answer": " "}, "answer: a text"),
        ({"question": NOBODY, "answer": ["A"]}, "answer: a text"),
        ({"question": "q" * 300, "answer": "x"}, "question: at most 255"),
    ],
)
async def test_an_answer_of_the_wrong_shape_is_refused(
    site: Site, body: object, detail: str
) -> None:
    """The answer names the field."""
    answer = await post(site, await site.session(), "answer", body)

    assert answer.status == 400
    assert detail in answer.json["detail"]


@pytest.mark.parametrize("session", [NOBODY, "nonsense", "%00"])
async def test_there_is_nothing_to_steer_without_a_session(site: Site, session: str) -> None:
    """Every call of a session says that there is none."""
    bodies: dict[str, dict[str, str]] = {
        "messages": {"text": "hi"},
        "render": {},
        "compact": {},
        "stop": {},
        "interrupt": {"text": "hi"},
        "answer": {"question": NOBODY, "answer": "x"},
        "clear": {},
    }

    answers = [await post(site, session, call, body) for call, body in bodies.items()]
    answers += [await site.get(f"/api/sessions/{session}/{one}") for one in ("questions", "state")]
    answers.append(await site.call("PATCH", f"/api/sessions/{session}/state", {}))

    assert {one.status for one in answers} == {404}


@pytest.mark.parametrize("call", ["messages", "render", "interrupt", "answer"])
@pytest.mark.parametrize("body", [b"[]", b"1", b"{", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(site: Site, call: str, body: bytes) -> None:
    """Also where there need not be a body."""
    answer = await post(site, await site.session(), call, body)

    assert answer.status == 400
