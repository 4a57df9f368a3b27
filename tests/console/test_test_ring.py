"""A trial of a webhook by an operator: the same templates and rules, only no signature."""

from __future__ import annotations

from typing import Any

import pytest

from service.store import audit
from tests.console.site import Site


async def test_a_trial_rings_as_a_post_does(each_site: Site) -> None:
    """Its template makes the words, its key the session; it stays an event of nobody's."""
    body = {"who": "ann", "what": "hé"}

    first = await each_site.call("POST", "/api/webhooks/keyed/ring", {"body": body})
    second = await each_site.call("POST", "/api/webhooks/keyed/ring", {"body": body})

    turn = (await each_site.get(f"/api/turns/{first.json['turn']}?wait=60")).json
    session = (await each_site.get(f"/api/sessions/{first.json['session']}")).json
    messages = (await each_site.get(f"/api/sessions/{first.json['session']}/messages")).json
    assert (first.status, second.status, first.json["duplicate"]) == (202, 202, False)
    assert first.json["session"] == second.json["session"]
    assert first.json["turn"] != second.json["turn"]
    assert (turn["state"], session["source"], session["origin"]) == (
        "succeeded",
        "trigger",
        "webhook",
    )
    said = messages["messages"][0]
    assert (said["role"], said["author"], said["text"]) == (
        "event",
        "webhook:keyed",
        "ann says hé",
    )


async def test_a_trial_is_written_down(each_site: Site) -> None:
    """Who tried, and what it became."""
    receipt = (await each_site.call("POST", "/api/webhooks/notes/ring", {"text": "hi"})).json

    (entry,) = await each_site.engine.database.read(audit.newest, limit=10)

    assert (entry.principal, entry.action, entry.session, entry.detail) == (
        "operator",
        "webhook.test",
        receipt["session"],
        {"webhook": "notes", "turn": receipt["turn"]},
    )


@pytest.mark.parametrize("body", [None, 5, "text", [], {}, {"a": {"b": [1.5, True, None]}}])
async def test_any_json_can_be_tried(site: Site, body: object) -> None:
    """The webhook's own template decides what becomes of it."""
    answer = await site.call("POST", "/api/webhooks/notes/ring", {"body": body})

    assert answer.status == 202


@pytest.mark.parametrize(
    ("hook", "given", "status", "problem"),
    [
        ("notes", None, 400, "body: give any JSON here"),
        ("notes", {"text": 5}, 400, "body: give any JSON here"),
        ("notes", {"text": "a", "body": "b"}, 400, "give body, which is any JSON, or text"),
        ("notes", {"text": "x" * 200_001}, 413, ""),
        ("notes", {"text": " "}, 422, "prompt: the template made an empty text"),
        ("keyed", {"text": "hi"}, 422, "the template does not fit this post"),
        ("keyed", {"body": {"who": "ann"}}, 422, "the template does not fit this post"),
        ("headers", {"text": "hi"}, 422, "the template does not fit this post"),
        ("nobody", {"text": "hi"}, 404, "there is no such webhook"),
    ],
)
async def test_a_mistake_says_what_is_wrong(
    site: Site, hook: str, given: Any, status: int, problem: str
) -> None:
    """And nothing is kept of it: it was only a trial."""
    answer = await site.call("POST", f"/api/webhooks/{hook}/ring", given)

    inbox = (await site.get("/api/inbox")).json["inbox"]
    assert (answer.status, answer.json["detail"].startswith(problem)) == (status, True)
    assert inbox == []


async def test_half_a_character_is_no_reason_to_fail(site: Site) -> None:
    """What no database stores is replaced, as it is in every post."""
    answer = await site.call("POST", "/api/webhooks/notes/ring", {"text": "a\ud800\u0000b"})

    assert answer.status == 202
