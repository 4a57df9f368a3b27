"""Webhooks that ring several voices: who answers, who is meant, and what the result says."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from handlers.webhook.by_hand import ByHand
from service.core.model import Accepted
from service.errors import BadInput
from service.store import sessions
from service.store.database import Database
from tests.engine.test_voices import Ensemble, says
from tests.webhook.site import LIMITS, Answer, Site, compiled_hooks, serving


def duo() -> Ensemble:
    """Two voices that say something else each time."""
    return Ensemble(Ada=says("A1", "A2"), Bob=says("B1", "B2"))


async def result(site: Site, answer: Answer) -> Any:
    """What came of a ring, once it is over."""
    assert answer.status == 202, answer.body
    rung = answer.json
    return (await site.get(f"{rung['status_url']}?wait=60", rung["token"])).json


def told(found: Any) -> list[tuple[str, int, str, str, str | None]]:
    """The replies of a result, without their ids."""
    keys = ("name", "round", "state", "text", "error")
    return [tuple(one[key] for key in keys) for one in found["replies"]]


async def test_all_voices_answer_a_post(database: Database) -> None:
    """The result has the words of each; the session knows what it began with."""
    async with serving(database, duo()) as site:
        found = await result(site, await site.post("panel", "Hi"))
        session = await database.read(sessions.get, found["session"])
        voices = await database.read(sessions.voices_of, found["session"])

    assert told(found) == [("Ada", 1, "done", "A1", None), ("Bob", 1, "done", "B1", None)]
    assert [one["voice"] for one in found["replies"]] == [one.id for one in voices]
    assert found["text"] == "A1\n\nB1"
    assert (session is not None and session.composition) == "duo"


async def test_one_voice_has_no_list_of_replies(site: Site) -> None:
    """Its words are the text."""
    found = await result(site, await site.post("open", "Hi"))

    assert ("replies" in found, found["text"]) == (False, "Hello.")


async def test_a_payload_says_who_is_meant(database: Database) -> None:
    """Also of a session that does not exist yet; the session shows who was called."""
    agents = duo()

    async with serving(database, agents) as site:
        first = await result(site, await site.post_json("panel", {"target": "bob", "n": 1}))
        second = await result(site, await site.post_json("panel", {"target": "@Ada"}))
        history = await database.read(sessions.history, first["session"], after=0, limit=1)

    assert [told(one)[0][::3] for one in (first, second)] == [("Bob", "B1"), ("Ada", "A1")]
    assert [len(one["replies"]) for one in (first, second)] == [1, 1]
    assert history[0].text.startswith('@Bob {"target"')


async def test_an_unknown_target_is_refused_with_the_names(database: Database) -> None:
    """Of those who speak: before the session exists its cast, then its active voices."""
    async with serving(database, duo()) as site:
        before = await site.post_json("panel", {"target": "Eve"})
        session = (await result(site, await site.post("panel", "Hi")))["session"]
        voices = await database.read(sessions.voices_of, session)
        async with site.engine.controls.steps() as command:
            await command.set_voice(session, voices[0].id, active=False)
        after = await site.post_json("panel", {"target": "Ada"})

    details = [(one.status, one.json["detail"]) for one in (before, after)]
    assert details == [
        (422, "target: there is no such voice; there are: Ada, Bob"),
        (422, "target: there is no such voice; there are: Bob"),
    ]


@pytest.mark.parametrize(
    ("hook", "payload"),
    [
        ("panels", {"target": "Eve"}),
        ("panel", {"target": 5}),
        ("panel", {"deep": {"target": "Eve"}}),
        ("panel", ["target"]),
    ],
)
async def test_other_payloads_direct_nothing(
    local_database: Database, hook: str, payload: object
) -> None:
    """Each of these is words for everybody: of a session of its own, or no target at all."""
    async with serving(local_database, duo()) as site:
        found = await result(site, await site.post_json(hook, payload))

    assert [one[0] for one in told(found)] == ["Ada", "Bob"]


async def test_one_voice_takes_no_target(site: Site) -> None:
    """A webhook with an agent may be posted anything."""
    answer = await site.post_json("fixed", {"target": "Eve"})

    assert answer.status == 202


async def test_an_operator_directs_a_trial_in_the_same_way(local_database: Database) -> None:
    """And a post that was refused can be tried again, once somebody is called so."""
    async with serving(local_database, duo()) as site:
        by_hand = ByHand(compiled_hooks(), site.engine.intake, LIMITS, site.engine.controls)
        rung = await by_hand.ring("panel", json.dumps({"target": "Bob"}), is_json=True)
        assert isinstance(rung, Accepted)
        found = await site.engine.results.wait(rung.turn, timeout=timedelta(seconds=60))
        with pytest.raises(BadInput, match="there are: Ada, Bob"):
            await by_hand.ring("panel", json.dumps({"target": "Eve"}), is_json=True)
        with pytest.raises(BadInput, match="there are: Ada, Bob"):
            await by_hand.retry("panel", "unfit:key:1", b'{"target": "Eve"}')

    assert found is not None
    assert found.text == "B1"
