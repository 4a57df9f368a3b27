"""Compositions over HTTP: made, changed, put away; checked whole; copied into what they begin."""

from __future__ import annotations

from typing import Any

import pytest

from service.core.model import Binding, Cast, NewVoice
from service.core.rounds import Continuation, Mode
from service.engine.compositions import Compositions
from service.errors import BadInput
from service.store import audit
from service.store.database import Database
from tests.console.people import Browser, cookie_of
from tests.console.site import AGENTS, COMPOSITIONS, TOKEN, Site

ECHO: dict[str, Any] = {
    "provider": "offline",
    "model": "echo",
    "prompt": "Be kind.",
    "name": "Kind",
    "rounds": 0,
}
PAIR: dict[str, Any] = {
    "name": "Pair",
    "voices": [{"name": "coder", "agent": "coder", "rounds": 2}, ECHO],
    "mode": "conductor",
    "continuation": "prompt",
}


async def test_a_made_composition_is_listed_after_the_configured_ones(each_site: Site) -> None:
    """As it was given, with where it comes from."""
    made = await each_site.call("POST", "/api/compositions", PAIR)

    listed = (await each_site.get("/api/compositions")).json["compositions"]
    one = (await each_site.get("/api/compositions/Pair")).json

    assert made.status == 201
    assert [(two["name"], two["origin"]) for two in listed] == [
        ("review", "config"),
        ("Pair", "made"),
    ]
    assert {key: one[key] for key in PAIR} == PAIR
    assert (one["archived"], one["problems"]) == (False, [])


async def test_a_composition_is_changed_renamed_put_away_and_removed(each_site: Site) -> None:
    """Each by PUT and DELETE; `archived` stays as it is unless it is given."""
    await each_site.call("POST", "/api/compositions", PAIR)
    new = {"voices": [ECHO], "name": "Alone"}

    away = await each_site.call("PUT", "/api/compositions/Pair", {**PAIR, "archived": True})
    changed = await each_site.call("PUT", "/api/compositions/Pair", new)
    gone = await each_site.get("/api/compositions/Pair")
    removed = await each_site.call("DELETE", "/api/compositions/Alone")
    again = await each_site.call("DELETE", "/api/compositions/Alone")

    assert away.json["archived"] is True
    assert (changed.json["name"], changed.json["mode"]) == ("Alone", "broadcast")
    assert changed.json["archived"] is True
    assert (gone.status, removed.status, again.status) == (404, 204, 404)


async def test_every_problem_is_told_at_once(site: Site) -> None:
    """Each with its path; nothing is stored."""
    answer = await site.call(
        "POST",
        "/api/compositions",
        {
            "name": " x",
            "voices": [
                {"agent": "nobody"},
                {"provider": "gone", "model": "m", "name": "A", "rounds": 4},
                {"provider": "offline", "model": "echo", "name": "a", "promt": "?"},
                {"provider": "offline", "model": "echo"},
            ],
            "mode": "choir",
        },
    )
    listed = (await site.get("/api/compositions")).json["compositions"]

    problems = answer.json["detail"].splitlines()
    assert answer.status == 400
    assert {one.partition(": ")[0] for one in problems} == {
        "name",
        "voices.0.agent",
        "voices.1.provider",
        "voices.1.rounds",
        "voices.2.name",
        "voices.2.promt",
        "voices.3.name",
        "mode",
    }
    assert [one["name"] for one in listed] == ["review"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"voices": []}, "voices: "),
        ({"voices": [{**ECHO, "name": str(n)} for n in range(9)]}, "voices: "),
        ({"voices": None}, "voices: write a list"),
        ({"voices": ["coder"]}, "voices.0: write a table"),
        ({"voices": [{**ECHO, "name": "x" * 41}]}, "voices.0.name: "),
        ({"voices": [{**ECHO, "name": "two\nlines"}]}, "voices.0.name: write a name on one"),
        ({"voices": [{**ECHO, "rounds": True}]}, "voices.0.rounds: "),
        ({"voices": [{"agent": "coder", "model": "m"}]}, "voices.0.agent: an agent brings"),
        ({"voices": [{}]}, "voices.0.agent: give an agent"),
        ({"name": "x" * 41}, "name: a text of 1 to 40"),
        ({"name": "a/b"}, "name: write it on one line"),
        ({"name": "\ud800"}, "name: write it on one line"),
        ({"name": 5}, "name: a text of"),
        ({"archived": "yes"}, "archived: write true or false"),
    ],
)
async def test_a_mistake_names_its_place(site: Site, change: dict[str, Any], problem: str) -> None:
    """Never a 500, and nothing that nobody could be called by."""
    answer = await site.call("POST", "/api/compositions", {**PAIR, **change})

    assert answer.status == 400
    assert answer.json["detail"].startswith(problem), answer.json


async def test_names_are_taken_whatever_their_capitals(each_site: Site) -> None:
    """Also those of the configuration, and by a new name."""
    await each_site.call("POST", "/api/compositions", PAIR)
    await each_site.call("POST", "/api/compositions", {**PAIR, "name": "Other"})

    answers = [
        await each_site.call("POST", "/api/compositions", {**PAIR, "name": "pair"}),
        await each_site.call("POST", "/api/compositions", {**PAIR, "name": "Review"}),
        await each_site.call("PUT", "/api/compositions/Other", {**PAIR, "name": "PAIR"}),
    ]
    own = await each_site.call("PUT", "/api/compositions/Pair", {**PAIR, "name": "pair"})

    assert [one.status for one in answers] == [409, 409, 409]
    assert (own.status, own.json["name"]) == (200, "pair")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_the_configuration_is_changed_in_its_file(site: Site, method: str) -> None:
    """The console only shows what stands there."""
    answer = await site.call(method, "/api/compositions/review", PAIR)

    assert answer.status == 409
    assert "change it there" in answer.json["detail"]


@pytest.mark.parametrize("name", ["nobody", "%00", "%ED%A0%80", "a%2Fb"])
async def test_what_is_not_there_is_not_found(each_site: Site, name: str) -> None:
    """Also a name that no database can hold."""
    answers = [
        await each_site.call(method, f"/api/compositions/{name}", PAIR)
        for method in ("GET", "PUT", "DELETE")
    ]

    assert [one.status for one in answers] == [404, 404, 404]


async def test_a_composition_is_a_cast_of_copies(database: Database) -> None:
    """An agent comes as its binding; a model of its own has no tools and no agent's name."""
    compositions = Compositions(database, COMPOSITIONS, AGENTS, ("offline",))
    await compositions.make(PAIR, by="ann")

    configured = await compositions.resolve("review")
    made = await compositions.resolve("Pair")
    listed = await compositions.resolve([{"agent": "coder"}])

    doubter = Binding("offline/echo", "offline", "echo", "Doubt it.")
    assert configured == Cast(
        (NewVoice("assistant", AGENTS["assistant"], 1), NewVoice("Doubter", doubter)),
        Mode.BROADCAST,
        Continuation.AUTO,
        "review",
    )
    assert (made.mode, made.continuation, made.composition) == (
        Mode.CONDUCTOR,
        Continuation.PROMPT,
        "Pair",
    )
    assert [(one.name, one.rounds) for one in made.voices] == [("coder", 2), ("Kind", 0)]
    assert listed == Cast((NewVoice("coder", AGENTS["coder"]),))


async def test_the_model_of_a_voice_is_cleaned_like_its_words(each_site: Site) -> None:
    """No database stores U+0000; what it can hold is stored instead."""
    odd = {**ECHO, "model": "ec\0ho", "prompt": "Be\0kind."}

    made = await each_site.call("POST", "/api/compositions", {"name": "Odd", "voices": [odd]})
    begun = await each_site.call("POST", "/api/sessions", {"voices": [odd]})
    session = begun.json["session"]
    told = (await each_site.get(f"/api/sessions/{session}/voices")).json["voices"]

    assert (made.status, begun.status) == (201, 201)
    assert made.json["voices"] == [{**ECHO, "model": "ec\ufffdho", "prompt": "Be\ufffdkind."}]
    assert [one["model"] for one in told] == ["ec\ufffdho"]


async def test_a_composition_whose_agent_is_gone_says_so(database: Database) -> None:
    """It is still listed, with the reason, and begins nothing."""
    await Compositions(database, {}, AGENTS, ("offline",)).make(PAIR, by="ann")
    later = Compositions(database, {}, {"assistant": AGENTS["assistant"]}, ("offline",))

    listed = await later.all()
    with pytest.raises(BadInput) as caught:
        await later.resolve("Pair")

    assert [one.problems for one in listed] == [
        ("voices.0.agent: there is no 'coder'; there are: assistant",)
    ]
    assert "there is no 'coder'" in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ("nobody", "composition: there is no 'nobody'"),
        ([], "voices: "),
        ([5], "voices.0: "),
        ([{"agent": "coder"}, {"agent": "coder"}], "voices.1.name: 'coder' is what"),
    ],
)
async def test_what_cannot_begin_a_session_says_why(
    local_database: Database, wanted: str | list[object], problem: str
) -> None:
    """Unknown, empty, of the wrong kind, or called the same."""
    compositions = Compositions(local_database, COMPOSITIONS, AGENTS, ("offline",))

    with pytest.raises(BadInput) as caught:
        await compositions.resolve(wanted)

    assert str(caught.value).startswith(problem)


async def test_an_archived_composition_begins_nothing(local_database: Database) -> None:
    """Until it is restored."""
    compositions = Compositions(local_database, {}, AGENTS, ("offline",))
    await compositions.make({**PAIR, "archived": True}, by="ann")

    with pytest.raises(BadInput) as caught:
        await compositions.resolve("Pair")

    assert "is archived" in str(caught.value)


async def test_who_made_and_changed_what_is_noted(each_site: Site) -> None:
    """Also what was refused; not what the voices are told."""
    ann = Browser(each_site, await cookie_of(each_site, "ann"))
    renamed = {**PAIR, "name": "Two", "archived": True}
    await ann.call("POST", "/api/compositions", PAIR)
    await ann.call("POST", "/api/compositions", {**PAIR, "name": "pair"})
    await ann.call("PUT", "/api/compositions/Pair", renamed)
    await each_site.call("DELETE", "/api/compositions/Two")

    entries = await each_site.engine.database.read(audit.newest, limit=10)

    noted = [(one.principal, one.action, one.allowed, one.detail) for one in reversed(entries)]
    assert noted == [
        ("ann", "composition.make", True, {"composition": "Pair"}),
        ("ann", "composition.make", False, {"composition": "pair"}),
        (
            "ann",
            "composition.change",
            True,
            {"composition": "Pair", "to": "Two", "archived": True},
        ),
        ("operator", "composition.remove", True, {"composition": "Two"}),
    ]


async def test_compositions_need_a_token(site: Site) -> None:
    """As everything of the API does."""
    answers = [
        await site.call(method, "/api/compositions", PAIR if method == "POST" else None, token="x")
        for method in ("GET", "POST")
    ]

    assert [one.status for one in answers] == [401, 401]
    assert TOKEN not in answers[0].body.decode()
