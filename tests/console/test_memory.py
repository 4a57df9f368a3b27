"""What is remembered, over the API: state and knobs, what was spent, and who tried what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from service.core.knobs import Select, Toggle
from service.core.model import SessionId, Usage
from service.ports import Finished, TextDelta
from service.store import audit, spending
from service.store.database import Database
from tests.console.site import Site, serving
from tests.fakes import Script, ScriptedAgents

PACE = Select(name="pace", description="How fast.", default="fast", options=("fast", "slow"))
LOUD = Toggle(name="loud", description="Whether to shout.", momentary=True, model_may_set=False)


def agents() -> ScriptedAgents:
    """Agents with two knobs, whose model takes pdf files."""
    return ScriptedAgents(
        knobs_={"pace": PACE, "loud": LOUD}, media_types=frozenset({"application/pdf"})
    )


async def patch(site: Site, session: str, body: object) -> Any:
    """Change the state of a session."""
    return await site.call("PATCH", f"/api/sessions/{session}/state", body)


async def test_state_and_knobs_are_merged(database: Database) -> None:
    """What is not named stays; null takes a value away and a knob back to its default."""
    async with serving(database, agents()) as site:
        session = await site.session()
        first = await patch(
            site, session, {"state": {"a": 1, "b": [2]}, "knobs": {"pace": "slow", "loud": "on"}}
        )
        second = await patch(
            site, session, {"state": {"a": None, "c": {}}, "knobs": {"pace": None}}
        )
        third = await site.get(f"/api/sessions/{session}/state")

    assert first.json["state"] == {"a": 1, "b": [2]}
    assert second.json["state"] == {"b": [2], "c": {}}
    assert [one["value"] for one in second.json["knobs"]] == ["fast", True]
    assert third.json == second.json


async def test_what_no_database_stores_is_replaced_in_state(database: Database) -> None:
    """Wherever it stands; what only looks like it stays."""
    async with serving(database, agents()) as site:
        session = await site.session()
        odd = {"a": ["x\0", {"\ud800": "\udfff"}], "plain": "\\u0000 \\ud800"}
        answer = await patch(site, session, {"state": odd})

    assert answer.status == 200
    assert answer.json["state"] == {
        "a": ["x\ufffd", {"\ufffd": "\ufffd"}],
        "plain": "\\u0000 \\ud800",
    }


async def test_a_knob_says_everything_about_itself(local_database: Database) -> None:
    """A program can draw it: what it is set to, what it takes, and who may turn it."""
    async with serving(local_database, agents()) as site:
        session = await site.session()
        memory = (await site.get(f"/api/sessions/{session}/state")).json

    assert memory["summary"] is None
    assert memory["knobs"][1] == {
        "knob": "loud",
        "description": "Whether to shout.",
        "value": False,
        "default": False,
        "takes": "on or off",
        "momentary": True,
        "model_may_set": False,
    }


async def test_agents_tell_their_knobs_and_files(local_database: Database) -> None:
    """Programs learn what they can set and send before there is a session."""
    async with serving(local_database, agents()) as site:
        listed = (await site.get("/api/agents")).json["agents"]

    assert listed[0]["attachments"] == ["pdf"]
    assert listed[0]["knobs"][0] == {
        "knob": "pace",
        "description": "How fast.",
        "default": "fast",
        "takes": "one of fast, slow",
        "schema": {"type": "string", "enum": ["fast", "slow"]},
        "momentary": False,
        "model_may_set": True,
    }


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"knobs": {"pace": "warp"}}, "pace takes one of fast, slow"),
        ({"knobs": {"mood": 1}}, "there is no 'mood'; there are: loud, pace"),
        ({"knobs": {"mood": None}}, "there is no 'mood'"),
        ({"state": {"": 1}}, "state: a name has 1 to 200 characters"),
        ({"state": {"k" * 201: 1}}, "state: a name has 1 to 200 characters"),
        ({"state": {"a\0": 1}}, "state: a name must not hold U+0000"),
        ({"state": {"\ud800": 1}}, "state: a name must not hold U+0000"),
        ({"state": {"\ud800": None}}, "state: a name must not hold U+0000"),
    ],
)
async def test_a_change_is_made_whole_or_not_at_all(
    local_database: Database, body: dict[str, Any], detail: str
) -> None:
    """One wrong value leaves everything as it was; the answer says what is taken."""
    async with serving(local_database, agents()) as site:
        session = await site.session()
        knobs = {"loud": True, **body.get("knobs", {})}
        answer = await patch(site, session, {"state": {"a": 1}, **body, "knobs": knobs})
        memory = (await site.get(f"/api/sessions/{session}/state")).json

    assert answer.status == 422
    assert detail in answer.json["detail"]
    assert memory["state"] == {}
    assert [one["value"] for one in memory["knobs"]] == ["fast", False]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"state": []}, "state: a JSON object is needed"),
        ({"knobs": "pace"}, "knobs: a JSON object is needed"),
        ({"colour": 1}, "colour: not taken here; there are: state, knobs"),
        ([], "the body must be a JSON object"),
    ],
)
async def test_a_change_of_the_wrong_shape_is_refused(
    site: Site, body: object, detail: str
) -> None:
    """The answer names the field."""
    answer = await patch(site, await site.session(), body)

    assert (answer.status, answer.json["detail"]) == (400, detail)


async def test_clearing_draws_a_line(local_database: Database) -> None:
    """The model is told only what comes after it; people still see everything."""
    scripted = ScriptedAgents()
    async with serving(local_database, scripted) as site:
        session = await site.session()
        await site.finished(session, "before")
        answer = await site.call("POST", f"/api/sessions/{session}/clear")
        await site.finished(session, "after")
        said = (await site.get(f"/api/sessions/{session}/messages")).json["messages"]

    assert answer.status == 204
    assert [one.text for one in scripted.prompts[-1].history] == ["after"]
    assert [one["role"] for one in said] == ["user", "voice", "system", "user", "voice"]


async def test_a_session_tells_what_it_took(local_database: Database) -> None:
    """The sums of its turns stand beside its owner; a list of sessions does without them."""
    words: Script = [TextDelta("Hello."), Finished(Usage(5, 7, 0, 11))]
    async with serving(local_database, ScriptedAgents([words])) as site:
        session = await site.session()
        rung = [await site.finished(session) for _ in range(2)]
        turns = [(await site.get(f"/api/turns/{one['turn']}")).json for one in rung]
        one = (await site.get(f"/api/sessions/{session}")).json
        listed = (await site.get("/api/sessions")).json["sessions"][0]

    assert one["owner"] == "operator"
    assert one["usage"]["input_tokens"] == 10
    assert one["usage"]["output_tokens"] == 14
    assert one["usage"]["cost_micros"] == 22
    assert one["processing_ms"] == sum(turn["processing_ms"] for turn in turns) > 0
    assert "usage" not in listed


# -- figures --------------------------------------------------------------------------------------


async def test_usage_is_told_by_day_and_agent(database: Database) -> None:
    """Newest day first, money in dollars; older days only when they are asked for."""
    now = datetime.now(UTC)
    async with serving(database) as site:
        for agent, days in (("a", 0), ("a", 0), ("b", 0), ("a", 40)):
            await database.write(
                spending.add,
                {agent: Usage(10, 20, 2, 1_500_000)},
                timedelta(seconds=3),
                at=now - timedelta(days=days),
            )
        month = (await site.get("/api/usage")).json
        both = (await site.get("/api/usage?days=60")).json

    assert [(one["agent"], one["turns"]) for one in month["usage"]] == [("a", 2), ("b", 1)]
    assert month["usage"][0] == {
        "day": now.date().isoformat(),
        "agent": "a",
        "turns": 2,
        "requests": 4,
        "input_tokens": 20,
        "output_tokens": 40,
        "cost_usd": 3.0,
        "processing_ms": 6000,
    }
    assert len(both["usage"]) == 3


@pytest.mark.parametrize("days", ["0", "367", "-1", "x", "1.5", ""])
async def test_days_are_a_whole_number(site: Site, days: str) -> None:
    """The answer names what is taken."""
    answer = await site.get(f"/api/usage?days={days}")

    assert answer.status == 400
    assert "days takes a whole number" in answer.json["detail"]


async def test_the_audit_is_read_page_by_page(database: Database) -> None:
    """Newest first; `next` leads on, and there is none after the last page."""
    async with serving(database) as site:
        session = SessionId(await site.session())
        for number in range(5):
            await database.write(_tried, f"telegram:{number}", session)
        first = (await site.get("/api/audit?limit=3")).json
        second = (await site.get(f"/api/audit?limit=3&cursor={first['next']}")).json

    found = [*first["audit"], *second["audit"]]
    assert {one["principal"] for one in found} == {f"telegram:{number}" for number in range(5)}
    assert (len(first["audit"]), len(second["audit"]), second["next"]) == (3, 2, None)
    assert found[0]["session"] == session
    assert (found[0]["action"], found[0]["allowed"]) == ("interrupt", False)


async def test_an_interruption_is_written_down(site: Site) -> None:
    """Also one that found nothing to interrupt."""
    session = await site.session()
    await site.call("POST", f"/api/sessions/{session}/interrupt")

    found = (await site.get("/api/audit")).json["audit"]

    assert [(one["principal"], one["action"]) for one in found] == [("operator", "interrupt")]


@pytest.mark.parametrize("query", ["cursor=x", "cursor=%00", "limit=201", "limit=x"])
async def test_a_cursor_nobody_gave_is_refused(site: Site, query: str) -> None:
    """What cannot be one does not reach the database."""
    answer = await site.get(f"/api/audit?{query}")

    assert answer.status == 400


def _tried(conn: sa.Connection, principal: str, session: SessionId) -> None:
    at = datetime.now(UTC)
    audit.note(conn, principal, "interrupt", session=session, allowed=False, at=at, turn=None)
