"""Operators make, switch and remove tasks over the API."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.console.people import Browser, cookie_of
from tests.console.site import Site

WATER = {"cron": "0 8 * * *", "timezone": "Europe/Berlin", "prompt": "Water the plants."}


async def names(site: Site) -> list[str]:
    """The tasks there are."""
    return [one["task"] for one in (await site.get("/api/tasks")).json["tasks"]]


async def test_a_task_is_made(each_site: Site) -> None:
    """With its address, where it is defined and when it is due."""
    made = await each_site.call("POST", "/api/tasks", WATER)
    listed = (await each_site.get("/api/tasks")).json["tasks"]

    assert (made.status, made.headers["Location"]) == (201, "/api/tasks/water-the-plants")
    assert made.json == (await each_site.get(made.headers["Location"])).json
    assert {**made.json, "next_at": made.json["next_at"] is not None} == {
        "task": "water-the-plants",
        "cron": "0 8 * * *",
        "timezone": "Europe/Berlin",
        "agent": "assistant",
        "prompt": "Water the plants.",
        "enabled": True,
        "once": False,
        "origin": "made",
        "made_by": "operator",
        "made_in": None,
        "next_at": True,
        "last": None,
    }
    assert [(one["task"], one["origin"]) for one in listed] == [
        ("morning", "config"),
        ("off", "config"),
        ("water-the-plants", "made"),
    ]


async def test_a_task_is_of_whoever_made_it(each_site: Site) -> None:
    """By name; so is the key of the call, and what the task says."""
    ann, bob = [Browser(each_site, await cookie_of(each_site, name)) for name in ("ann", "bob")]
    key = {"Idempotency-Key": "k-1"}

    hers = (await ann.call("POST", "/api/tasks", WATER, key)).json
    his = (await bob.call("POST", "/api/tasks", {**WATER, "prompt": "Feed it."}, key)).json
    rung = (await bob.call("POST", f"/api/tasks/{hers['task']}/run")).json
    said = (await ann.call("GET", f"/api/sessions/{rung['session']}/messages")).json["messages"]

    assert [(one["task"], one["made_by"]) for one in (hers, his)] == [
        ("water-the-plants", "ann"),
        ("feed-it", "bob"),
    ]
    assert said[0]["author"] == "ann"


async def test_the_same_idempotency_key_makes_one_task(each_site: Site) -> None:
    """A repeat, also one that races, is told of the one that is there."""
    key = {"Idempotency-Key": "k-1"}
    calls = [each_site.call("POST", "/api/tasks", WATER, key) for _ in range(8)]

    answers = await asyncio.gather(*calls)
    another = await each_site.call("POST", "/api/tasks", WATER, {"Idempotency-Key": "k-2"})

    assert {one.status for one in answers} == {201}
    assert {one.json["task"] for one in answers} == {"water-the-plants"}
    assert another.json["task"] == "water-the-plants-2"
    assert await names(each_site) == ["morning", "off", "water-the-plants", "water-the-plants-2"]


@pytest.mark.parametrize(
    "changed",
    [{"cron": "0 9 * * *"}, {"prompt": "Water"}, {"once": True}, {"timezone": "UTC"}],
)
async def test_an_idempotency_key_belongs_to_its_task(site: Site, changed: Any) -> None:
    """Another task under the same key is a mistake of the caller; nothing is made or changed."""
    key = {"Idempotency-Key": "k-1"}
    made = await site.call("POST", "/api/tasks", WATER, key)

    other = await site.call("POST", "/api/tasks", {**WATER, **changed}, key)

    assert (other.status, other.json["title"]) == (422, "Idempotency key reused")
    assert (await site.get(made.headers["Location"])).json == made.json
    assert len(await names(site)) == 3


async def test_an_idempotency_key_is_checked(site: Site) -> None:
    """As everywhere."""
    answer = await site.call("POST", "/api/tasks", WATER, {"Idempotency-Key": "k" * 256})

    assert (answer.status, await names(site)) == (400, ["morning", "off"])


async def test_a_made_task_can_be_run_now(each_site: Site) -> None:
    """In the session it was made for; its last occurrence says what became of it."""
    session = await each_site.session()
    await each_site.call("POST", "/api/tasks", {**WATER, "name": "Plants", "session": session})

    receipt = (await each_site.call("POST", "/api/tasks/plants/run")).json
    result = (await each_site.get(f"/api/turns/{receipt['turn']}?wait=60")).json
    last = (await each_site.get("/api/tasks/plants")).json["last"]

    assert (receipt["session"], result["state"]) == (session, "succeeded")
    assert (last["turn"], last["state"]) == (receipt["turn"], "done")


async def test_the_list_tells_the_last_run_of_each_task(each_site: Site) -> None:
    """Of all of them, not of the one that ran last."""
    turns = {}
    for name in ("plants", "fish"):
        await each_site.call("POST", "/api/tasks", {**WATER, "name": name})
        for _ in range(2):
            turns[name] = (await each_site.call("POST", f"/api/tasks/{name}/run")).json["turn"]
            await each_site.get(f"/api/turns/{turns[name]}?wait=60")

    listed = (await each_site.get("/api/tasks")).json["tasks"]

    last = {one["task"]: one["last"] and one["last"]["turn"] for one in listed}
    assert last == {"morning": None, "off": None, **turns}


async def test_a_task_is_removed(each_site: Site) -> None:
    """Once; then there is none."""
    await each_site.call("POST", "/api/tasks", WATER)

    removed = await each_site.call("DELETE", "/api/tasks/water-the-plants")
    again = await each_site.call("DELETE", "/api/tasks/water-the-plants")

    assert (removed.status, removed.body, again.status) == (204, b"", 404)
    assert await names(each_site) == ["morning", "off"]


@pytest.mark.parametrize("name", ["morning", "water-the-plants"])
async def test_a_task_is_turned_off_and_on(each_site: Site, name: str) -> None:
    """A configured one as well as a made one; doing it again changes nothing."""
    await each_site.call("POST", "/api/tasks", WATER)

    answers = [
        await each_site.call("POST", f"/api/tasks/{name}/{change}")
        for change in ("disable", "disable", "enable", "enable")
    ]

    assert [
        (one.status, one.json["enabled"], one.json["next_at"] is not None) for one in answers
    ] == [(200, False, False)] * 2 + [(200, True, True)] * 2


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("DELETE", "/api/tasks/morning", 409, "remove it there"),
        ("POST", "/api/tasks/off/enable", 409, "tasks.off.enabled is false"),
        ("POST", "/api/tasks/evening/enable", 404, "no task 'evening'"),
        ("POST", "/api/tasks/%00/disable", 404, "no task"),
        ("DELETE", "/api/tasks/%00", 404, "no task"),
        ("POST", "/api/tasks/%00/run", 404, "no task"),
    ],
)
async def test_what_cannot_be_changed_says_why(
    each_site: Site, method: str, path: str, status: int, told: str
) -> None:
    """And changes nothing."""
    answer = await each_site.call(method, path)

    assert (answer.status, answer.type) == (status, "application/problem+json")
    assert told in answer.json["detail"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cron": "often"}, "cron: "),
        ({"cron": 5}, "cron: "),
        ({"cron": None}, "cron: "),
        ({"timezone": "Atlantis"}, "timezone: "),
        ({"timezone": None}, "timezone: "),
        ({"prompt": " "}, "prompt: "),
        ({"prompt": "x" * 3000}, None),
        ({"name": ""}, "name: "),
        ({"agent": "nobody"}, "agent: "),
        ({"agent": ["assistant"]}, "agent: "),
        ({"once": "yes"}, "once: "),
        ({"session": "ann"}, "session: "),
        ({"session": 7}, "session: "),
        ({"session": "0" * 36}, "session: there is no such session"),
        ({"prompt": "a\0\ud800", "name": "\0\ud800"}, None),
    ],
)
async def test_a_mistake_names_its_field(
    each_site: Site, fields: dict[str, Any], named: str | None
) -> None:
    """And makes nothing."""
    answer = await each_site.call("POST", "/api/tasks", {**WATER, **fields})

    if named is None:
        assert answer.status == 201
        return
    assert (answer.status, answer.type) == (400, "application/problem+json")
    assert answer.json["detail"].startswith(named)
    assert await names(each_site) == ["morning", "off"]


async def test_a_session_of_another_agent_names_it(site: Site) -> None:
    """Its own agent would answer, whatever the task says."""
    session = await site.session()

    answer = await site.call("POST", "/api/tasks", {**WATER, "session": session, "agent": "coder"})

    assert answer.status == 400
    assert answer.json["detail"] == ("agent: the session is bound to 'assistant'; leave agent out")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/tasks"),
        ("DELETE", "/api/tasks/morning"),
        ("POST", "/api/tasks/morning/enable"),
        ("POST", "/api/tasks/morning/disable"),
    ],
)
async def test_only_operators_may(site: Site, method: str, path: str) -> None:
    """Nobody else learns whether the task is there."""
    answer = await site.call(method, path, WATER, token="wrong")

    assert answer.status == 401
