"""Beginning sessions with several voices over the API, and saying who speaks in them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.ports import Finished, TextDelta
from service.store.database import Database
from tests.console.site import Site, serving
from tests.fakes import ScriptedAgents

NOBODY = "01900000-0000-7000-8000-000000000000"


async def begin(site: Site, **body: Any) -> dict[str, Any]:
    """A new session, whole."""
    made = await site.call("POST", "/api/sessions", body)
    assert made.status == 201, made.json
    found: dict[str, Any] = (await site.get(f"/api/sessions/{made.json['session']}")).json
    return found


def ids(session: dict[str, Any]) -> dict[str, str]:
    """The voices of a session by name."""
    return {one["name"]: one["voice"] for one in session["voices"]}


async def test_a_session_begins_with_a_composition(site: Site) -> None:
    """A copy: its voices, mode and continuation are the session's own from then on."""
    found = await begin(site, composition="review", title=" Second\r\n look")

    assert [(one["name"], one["rounds"]) for one in found["voices"]] == [
        ("assistant", 1),
        ("Doubter", 0),
    ]
    assert (found["title"], found["titled"]) == ("Second look", True)
    assert (found["mode"], found["continuation"]) == ("broadcast", "auto")
    assert found["composition"] == "review"


async def test_a_session_begins_with_voices_of_its_own(site: Site) -> None:
    """Named agents, or provider, model and prompt; the set-up may be given along."""
    found = await begin(
        site,
        voices=[
            {"agent": "assistant", "name": "Ada"},
            {"provider": "offline", "model": "echo", "prompt": "Doubt.", "name": "Bob"},
        ],
        mode="conductor",
        busy="steer",
    )

    assert list(ids(found)) == ["Ada", "Bob"]
    assert (found["mode"], found["busy"]) == ("conductor", "steer")


async def test_the_model_of_an_agent_may_be_another_one_at_the_start(site: Site) -> None:
    """Only then: afterwards nothing changes it."""
    found = await begin(site, agent="coder", model="echo-large")

    assert found["voices"][0]["model"] == "echo-large"
    assert found["voices"][0]["provider"] == "offline"


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"agent": "nobody"}, 400, "agent"),
        ({"composition": "nothing"}, 422, "composition"),
        ({"composition": 5}, 400, "composition"),
        ({"composition": "review", "voices": []}, 400, "voices"),
        ({"voices": []}, 422, "voices"),
        ({"voices": [{"agent": "nobody"}]}, 422, "agent"),
        ({"voices": [{"agent": "coder"}, {"agent": "coder"}]}, 422, "name"),
        ({"voices": [{"agent": "coder", "rounds": 4}]}, 422, "rounds"),
        ({"mode": "solo", "composition": "review"}, 400, "mode"),
        ({"busy": "never"}, 400, "busy"),
        ({"title": "x" * 201}, 400, "title"),
        ({"agent": "coder", "provider": "offline"}, 422, "provider"),
        ({"prompt": "Doubt."}, 422, "prompt"),
        ({"composition": "review", "tools": ["dice"]}, 422, "tools"),
        ({"model": ""}, 201, ""),
    ],
)
async def test_what_cannot_begin_is_told(
    site: Site, body: dict[str, Any], status: int, word: str
) -> None:
    """With the field and the fix; nothing is made."""
    answer = await site.call("POST", "/api/sessions", body)

    assert answer.status == status
    assert word in answer.json.get("detail", "")


async def test_a_voice_rests_and_goes_on_and_nothing_else_of_it_changes(site: Site) -> None:
    """Active and rounds; the binding is for life, and one voice has to be left."""
    session = await begin(site, composition="review")
    path = f"/api/sessions/{session['session']}/voices"
    doubter, assistant = ids(session)["Doubter"], ids(session)["assistant"]

    rested = await site.call("PATCH", f"{path}/{doubter}", {"active": False, "rounds": 2})
    last = await site.call("PATCH", f"{path}/{assistant}", {"active": False})
    bound = await site.call("PATCH", f"{path}/{doubter}", {"model": "other"})
    many = await site.call("PATCH", f"{path}/{doubter}", {"rounds": 4})
    odd = await site.call("PATCH", f"{path}/{doubter}", {"rounds": True})
    nobody = await site.call("PATCH", f"{path}/{NOBODY}", {"active": True})
    listed = await site.get(path)

    by_name = {one["name"]: one for one in rested.json["voices"]}
    assert (by_name["Doubter"]["active"], by_name["Doubter"]["rounds"]) == (False, 2)
    assert (last.status, bound.status, many.status) == (422, 422, 422)
    assert "bound for life" in bound.json["detail"]
    assert (odd.status, nobody.status) == (400, 404)
    assert listed.json == rested.json


async def test_a_voice_can_join_later(site: Site) -> None:
    """The conversation says so; two of one name cannot be told apart."""
    session = await begin(site, agent="assistant")
    path = f"/api/sessions/{session['session']}/voices"

    joined = await site.call("POST", path, {"agent": "coder", "name": "Cody"})
    again = await site.call("POST", path, {"agent": "coder", "name": "cody"})
    messages = await site.get(f"/api/sessions/{session['session']}/messages")

    assert joined.status == 201
    assert [one["name"] for one in joined.json["voices"]] == ["assistant", "Cody"]
    assert again.status == 422
    assert [(one["role"], one["text"]) for one in messages.json["messages"]] == [
        ("system", "Cody takes part from here on.")
    ]


async def test_a_message_may_name_the_voice_it_is_for(site: Site) -> None:
    """By id or by name; a voice that is not there is told with those that are."""
    session = await begin(site, composition="review")
    path = f"/api/sessions/{session['session']}/messages"

    by_name = await site.call("POST", path, {"text": "hi", "target": "doubter"})
    unknown = await site.call("POST", path, {"text": "hi", "target": "Eve"})
    result = await site.get(f"/api/turns/{by_name.json['turn']}?wait=60")
    after = (await site.get(f"/api/sessions/{session['session']}")).json

    statuses = {one["name"]: one["status"] for one in after["voices"]}
    assert result.json["state"] == "succeeded"
    assert statuses == {"assistant": "waiting", "Doubter": "done"}
    assert unknown.status == 422
    assert "assistant, Doubter" in unknown.json["detail"]


async def test_one_voice_is_stopped_alone(database: Database) -> None:
    """The other goes on to its end."""
    hang = asyncio.Event()
    agents = ScriptedAgents([[TextDelta("Half"), hang, Finished()]])

    async with serving(database, agents) as site:
        session = await begin(site, composition="review")
        receipt = (await site.send(session["session"])).json
        while len(agents.prompts) < 2:
            await asyncio.sleep(0.01)
        path = f"/api/sessions/{session['session']}/stop"
        stopped = await site.call("POST", path, {"voice": ids(session)["Doubter"]})
        async with asyncio.timeout(60):
            while True:
                now = (await site.get(f"/api/sessions/{session['session']}")).json
                states = {one["name"]: one["status"] for one in now["voices"]}
                if states["Doubter"] == "done":
                    break
                await asyncio.sleep(0.01)
        running = (await site.get(f"/api/turns/{receipt['turn']}")).json["state"]
        hang.set()
        result = (await site.get(f"/api/turns/{receipt['turn']}?wait=60")).json

    assert stopped.json == {"stopped": 1}
    assert states["assistant"] == "generating"
    assert running == "running"
    assert result["state"] == "succeeded"
