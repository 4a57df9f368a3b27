"""Posts to webhooks: who may ring, what becomes of the post, and the four ways to be answered."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from service.core.model import TurnId
from service.core.states import TurnState
from service.ports import Finished, TextDelta
from service.store.database import Database
from tests.engine.engine import Engine
from tests.fakes import ScriptedAgents
from tests.webhook.site import SECRET, Site, frames, serving, standard_headers

BODY = b'{"who": "Ann", "what": "hi"}'


def _github(body: bytes, secret: str = SECRET, delivery: str = "d-1") -> dict[str, str]:
    mac = hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    return {"X-Hub-Signature-256": f"sha256={mac}", "X-GitHub-Delivery": delivery}


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _turns(engine: Engine) -> int:
    """How many turns there are."""
    return await engine.database.read(
        lambda conn: conn.exec_driver_sql("SELECT count(*) FROM turns").scalar_one()
    )


# -- who may ring ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hook", "headers"),
    [
        ("open", {}),
        ("bearer", _bearer(SECRET)),
        ("bearer", {"Authorization": f"bearer  {SECRET}"}),
        ("bearer", _bearer("the old one")),
        ("github", _github(BODY)),
    ],
)
async def test_whoever_proves_it_may_ring(site: Site, hook: str, headers: dict[str, str]) -> None:
    """Every scheme lets its own senders in; of two secrets either will do."""
    answer = await site.post(hook, BODY, headers)

    assert answer.status == 202, answer.body


@pytest.mark.parametrize(
    ("hook", "headers"),
    [
        ("bearer", {}),
        ("bearer", _bearer("")),
        ("bearer", _bearer("wrong")),
        ("bearer", _bearer(SECRET + "x")),
        ("bearer", {"Authorization": f"Basic {SECRET}"}),
        ("github", {}),
        ("github", _github(BODY, secret="wrong")),
        ("github", _github(BODY + b" ")),
        ("github", {"X-Hub-Signature-256": "sha256="}),
        ("github", {"X-Hub-Signature-256": "sha1=" + "0" * 40}),
        ("standard", {}),
        ("standard", standard_headers(BODY + b" ")),
        ("standard", {**standard_headers(BODY), "webhook-id": "another"}),
        ("standard", {**standard_headers(BODY), "webhook-signature": "v1,AAAA"}),
        ("github", standard_headers(BODY)),
    ],
)
async def test_whoever_does_not_is_told_nothing(
    site: Site, hook: str, headers: dict[str, str]
) -> None:
    """A wrong proof is a 401 that names the scheme and never a secret, and leaves no turn."""
    answer = await site.post(hook, BODY, headers)

    assert answer.status == 401
    assert answer.type == "application/problem+json"
    assert answer.json["title"] == "Unauthorized"
    assert SECRET not in answer.body.decode()
    assert await _turns(site.engine) == 0


@pytest.mark.parametrize(
    ("minutes", "status"), [(-6, 401), (-4, 202), (0, 202), (4, 202), (6, 401)]
)
async def test_a_signature_is_good_for_five_minutes(site: Site, minutes: int, status: int) -> None:
    """What was recorded cannot be played back later; clocks may be a little apart."""
    at = datetime.now(UTC) + timedelta(minutes=minutes)

    answer = await site.post("standard", BODY, standard_headers(BODY, at=at))

    assert answer.status == status


async def test_an_unknown_webhook_is_not_there(site: Site) -> None:
    """A name that is not configured is a 404, whatever it is sent."""
    answer = await site.post("nobody")

    assert (answer.status, answer.type) == (404, "application/problem+json")


async def test_a_ping_of_github_is_answered_and_starts_no_turn(any_site: Site) -> None:
    """GitHub's ping is a greeting, not an event; also when it is sent twice."""
    headers = {**_github(BODY), "X-GitHub-Event": "ping"}

    answers = [await any_site.post("github", BODY, headers) for _ in range(2)]

    assert [(answer.status, answer.json) for answer in answers] == [(200, {"pong": True})] * 2
    assert await _turns(any_site.engine) == 0


async def test_a_ping_must_be_signed_too(site: Site) -> None:
    """Calling a post a ping does not spare it the signature."""
    answer = await site.post("github", BODY, {"X-GitHub-Event": "ping"})

    assert answer.status == 401


# -- the four ways to be answered -----------------------------------------------------------------


async def test_a_receipt_leads_to_the_result(site: Site) -> None:
    """The receipt comes at once; its addresses and token are all that reading the turn takes."""
    receipt = await site.post("open", "hello")

    assert receipt.status == 202
    assert set(receipt.json) == {
        "turn",
        "session",
        "token",
        "duplicate",
        "status_url",
        "events_url",
    }
    assert receipt.headers["Location"] == receipt.json["status_url"]
    assert receipt.json["events_url"] == receipt.json["status_url"] + "/events"
    result = await site.get(receipt.json["status_url"] + "?wait=60", receipt.json["token"])
    assert (result.json["state"], result.json["text"]) == ("succeeded", "Hello.")


async def test_a_webhook_that_waits_answers_with_the_result(site: Site) -> None:
    """With `reply = "wait"` the answer to the post is the turn, finished."""
    answer = await site.post("waiting")

    assert answer.status == 200
    assert (answer.json["state"], answer.json["text"]) == ("succeeded", "Hello.")
    assert answer.json["duplicate"] is False
    assert answer.json["token"] == site.tokens.issue(TurnId(answer.json["turn"]))
    assert "Preference-Applied" not in answer.headers


async def test_a_wait_that_runs_out_ends_in_a_receipt(local_database: Database) -> None:
    """A turn that takes longer than the webhook waits is not lost: the receipt leads to it."""
    gate = asyncio.Event()
    agents = ScriptedAgents([[gate, TextDelta("Late."), Finished()]])

    async with serving(local_database, agents) as site:
        answer = await site.post("hasty")
        gate.set()
        result = await site.get(answer.json["status_url"] + "?wait=60", answer.json["token"])

    assert answer.status == 202
    assert result.json["text"] == "Late."


async def test_a_poster_can_ask_for_the_result(site: Site) -> None:
    """`Prefer: wait=N` waits at any webhook, and the answer says that it was honoured."""
    answer = await site.post("open", headers={"Prefer": "respond-async, wait=60"})

    assert (answer.status, answer.json["text"]) == (200, "Hello.")
    assert answer.headers["Preference-Applied"] == "wait=60"


async def test_a_poster_can_ask_not_to_wait(local_database: Database) -> None:
    """`Prefer: wait=0` gets a receipt even where the webhook itself would wait or stream."""
    gate = asyncio.Event()
    agents = ScriptedAgents([[gate, Finished()]])

    async with serving(local_database, agents) as site:
        answers = [
            await site.post(hook, headers={"Prefer": "wait=0"}) for hook in ("waiting", "streaming")
        ]
        gate.set()

    assert [answer.status for answer in answers] == [202, 202]
    assert [answer.headers["Preference-Applied"] for answer in answers] == ["wait=0"] * 2


async def test_a_longer_wait_is_cut_to_a_minute(site: Site) -> None:
    """What is applied is what was done, not what was asked."""
    answer = await site.post("open", headers={"Prefer": "wait=999999"})

    assert answer.headers["Preference-Applied"] == "wait=60"


@pytest.mark.parametrize(
    ("hook", "headers"), [("streaming", {}), ("open", {"Accept": "text/event-stream"})]
)
async def test_a_stream_tells_the_turn_as_it_happens(
    site: Site, hook: str, headers: dict[str, str]
) -> None:
    """The answer to the post is the turn's events to the last one, with its name and token."""
    answer = await site.post(hook, "hello", headers)

    kinds = [frame.kind for frame in frames(answer.body)]
    assert (answer.status, answer.type) == (200, "text/event-stream")
    assert answer.body.startswith(b"retry: 2000\n\n")
    assert (kinds[0], kinds[-1]) == ("message.added", "turn.finished")
    turn = TurnId(answer.headers["X-Ringback-Turn"])
    assert answer.headers["X-Ringback-Token"] == site.tokens.issue(turn)
    result = await site.get(answer.headers["Location"], answer.headers["X-Ringback-Token"])
    assert result.json["session"] == answer.headers["X-Ringback-Session"]


# -- idempotency ----------------------------------------------------------------------------------


async def test_a_hundred_identical_posts_at_once_make_one_turn(any_site: Site) -> None:
    """All of them are told the same turn; one is new and 99 are duplicates."""
    headers = {"Idempotency-Key": "order-7"}

    answers = await asyncio.gather(*(any_site.post("open", "hi", headers) for _ in range(100)))

    assert len({answer.json["turn"] for answer in answers}) == 1
    assert sorted(answer.status for answer in answers) == [200] * 99 + [202]
    assert sum(answer.json["duplicate"] for answer in answers) == 99
    assert await _turns(any_site.engine) == 1


@pytest.mark.parametrize(("hook", "made"), [("github", _github), ("standard", standard_headers)])
async def test_a_delivery_that_is_sent_again_is_the_same_turn(
    site: Site, hook: str, made: Callable[[bytes], dict[str, str]]
) -> None:
    """The id the sender gives its delivery is enough, also hours apart and signed anew."""
    first, second = [await site.post(hook, BODY, made(BODY)) for _ in range(2)]

    assert (first.status, second.status) == (202, 200)
    assert second.json == {**first.json, "duplicate": True}


async def test_a_key_with_another_body_is_refused(any_site: Site) -> None:
    """A key used twice for different things is the poster's mistake, and said so."""
    headers = {"Idempotency-Key": "order-7"}
    await any_site.post("open", "one thing", headers)

    answer = await any_site.post("open", "another thing", headers)

    assert (answer.status, answer.json["reason"]) == (422, "key_reused")
    assert await _turns(any_site.engine) == 1


async def test_one_key_may_be_used_at_two_webhooks(site: Site) -> None:
    """Keys belong to their webhook."""
    headers = {"Idempotency-Key": "order-7"}

    answers = [await site.post(hook, "hi", headers) for hook in ("open", "fixed")]

    assert [answer.status for answer in answers] == [202, 202]


async def test_posts_without_a_key_are_never_the_same(site: Site) -> None:
    """Nothing marks a repeat, so two equal posts are two turns."""
    answers = [await site.post("open", "hi") for _ in range(2)]

    assert len({answer.json["turn"] for answer in answers}) == 2


async def test_a_duplicate_that_waits_gets_the_result_of_the_first(site: Site) -> None:
    """Whoever repeats a post after a broken connection gets what the first one was owed."""
    headers = {"Idempotency-Key": "order-7", "Prefer": "wait=60"}

    first, second = [await site.post("open", "hi", headers) for _ in range(2)]

    assert second.json == {**first.json, "duplicate": True}
    assert second.json["text"] == "Hello."


async def test_a_duplicate_that_streams_gets_every_event_of_the_first(site: Site) -> None:
    """The stream of a repeat is the stream of the first post, from its beginning."""
    headers = {"Idempotency-Key": "order-7"}

    first, second = [await site.post("streaming", "hi", headers) for _ in range(2)]

    assert frames(second.body) == frames(first.body)


# -- prompts and sessions -------------------------------------------------------------------------


async def test_the_body_is_the_prompt_unless_a_template_says_otherwise(
    local_database: Database,
) -> None:
    """The default template hands over the body; another one makes its own sentence."""
    agents = ScriptedAgents()

    async with serving(local_database, agents) as site:
        await site.post("waiting", "Grüße 👋🏽")
        keyed = await site.post_json("keyed", {"who": "Ann", "what": "{{ 7 * 7 }}"})
        await site.engine.result(TurnId(keyed.json["turn"]))

    said = [prompt.history[-1].text for prompt in agents.prompts]
    assert "Grüße 👋🏽" in said[0]
    assert "Ann says {{ 7 * 7 }}" in said[1]


async def test_templates_see_the_request_but_no_proof_of_who_sent_it(
    local_database: Database,
) -> None:
    """Headers and query are there in lower case; what looks like a secret is not."""
    agents = ScriptedAgents()
    headers = {
        "X-Colour": "deep blue",
        "Authorization": "Bearer sesame",
        "Cookie": "a=sesame",
        "X-Api-Key": "sesame",
        "X-Gitlab-Token": "sesame",
        "X-Hub-Signature-256": "sesame",
        "X-Secret-Thing": "sesame",
    }

    async with serving(local_database, agents) as site:
        answer = await site.post("headers", "x", headers, query="?colour=red")
        await site.engine.result(TurnId(answer.json["turn"]))

    said = agents.prompts[0].history[-1].text
    assert "x-colour" in said
    assert "deep blue" in said
    assert "red headers" in said
    assert "sesame" not in said


async def test_every_post_has_a_session_of_its_own_by_default(site: Site) -> None:
    """Posts that say nothing of each other do not talk to each other."""
    answers = [await site.post("open") for _ in range(2)]

    assert len({answer.json["session"] for answer in answers}) == 2


async def test_a_fixed_session_takes_every_post(site: Site) -> None:
    """All posts of the webhook continue one conversation."""
    answers = [await site.post("fixed", headers={"Prefer": "wait=60"}) for _ in range(2)]

    assert len({answer.json["session"] for answer in answers}) == 1


async def test_a_session_template_sorts_posts(site: Site) -> None:
    """Posts that make the same key share a session; others do not."""
    posts = [("Ann", "1"), ("Bob", "2"), ("Ann", "3"), (" Ann ", "4")]

    answers = [await site.post_json("keyed", {"who": who, "what": what}) for who, what in posts]

    ann, bob, again, spaced = [answer.json["session"] for answer in answers]
    assert (again, spaced) == (ann, ann)
    assert bob != ann


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"who": "Ann"}, "what"),
        ({"what": "hi"}, "who"),
        ([1, 2], "who"),
        ({"who": "", "what": "hi"}, "session"),
    ],
)
async def test_a_post_the_templates_do_not_fit_is_kept_and_refused(
    site: Site, body: object, names: str
) -> None:
    """The poster learns what is missing; the post is kept for the operator, with the reason."""
    answer = await site.post_json("keyed", body)

    assert (answer.status, answer.type) == (422, "application/problem+json")
    assert answer.json["kept"] is True
    assert names in answer.json["detail"]
    assert await _turns(site.engine) == 0
    assert await _quarantined(site.engine) == [json.dumps(body).encode()]


async def test_an_empty_post_is_refused(site: Site) -> None:
    """Nothing to say is nothing to answer."""
    answer = await site.post("open", "  \n")

    assert answer.status == 422
    assert "empty" in answer.json["detail"]


async def _quarantined(engine: Engine) -> list[bytes]:
    rows = await engine.database.read(
        lambda conn: conn.exec_driver_sql(
            "SELECT body FROM inbox WHERE state = 'quarantined'"
        ).all()
    )
    return [bytes(row.body) for row in rows]


async def test_a_full_queue_is_said_so(local_database: Database) -> None:
    """A session takes only so many waiting posts; the next one is told to come back."""
    gate = asyncio.Event()
    agents = ScriptedAgents([[gate, Finished()]])

    async with serving(local_database, agents) as site:
        answers = [await site.post("fixed", f"post {n}") for n in range(8)]
        gate.set()

    # The last one may have found room: the first one leaves the queue when it is begun.
    refused = next(one for one in answers if one.status != 202)
    assert refused.status == 429
    assert refused.json["reason"] == "queue_full"
    assert refused.headers["Retry-After"] == "10"


async def test_a_refused_post_may_come_back_with_its_key(database: Database) -> None:
    """A refusal for lack of room does not use the key up."""
    gate = asyncio.Event()
    agents = ScriptedAgents([[gate, TextDelta("Now."), Finished()]])
    headers = {"Idempotency-Key": "patient", "Prefer": "wait=60"}

    async with serving(database, agents) as site:
        await site.post("fixed", "the first")
        async with asyncio.timeout(60):
            while not agents.prompts:
                await asyncio.sleep(0.01)
        # From now on nothing leaves the queue.
        for n in range(8):
            await site.post("fixed", f"post {n}")
        refused = await site.post("fixed", "patient", headers)
        gate.set()
        await _settled(site)
        taken = await site.post("fixed", "patient", headers)

    assert refused.status == 429
    assert (taken.status, taken.json["text"]) == (200, "Now.")


async def _settled(site: Site) -> None:
    """Wait until there is nothing to do any more."""
    async with asyncio.timeout(60):
        while await site.engine.database.read(
            lambda conn: conn.exec_driver_sql(
                "SELECT count(*) FROM turns WHERE state IN ('queued', 'running')"
            ).scalar_one()
        ):
            await asyncio.sleep(0.02)


async def test_a_service_that_shuts_down_says_so(site: Site) -> None:
    """While it drains, a post is refused in a way senders try again after."""
    await site.engine.intake.drain()

    answer = await site.post("open")

    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert answer.type == "application/problem+json"


# -- reading a turn -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "/events"])
async def test_a_token_reads_its_own_turn_only(site: Site, suffix: str) -> None:
    """Another turn's token, another webhook's address, no turn at all: all look the same."""
    mine = (await site.post("open")).json
    other = (await site.post("open")).json
    there = mine["status_url"].replace("/open/", "/fixed/")
    nothing = mine["status_url"].replace(mine["turn"], "none")

    answers = [
        await site.get(mine["status_url"] + suffix, other["token"]),
        await site.get(there + suffix, mine["token"]),
        await site.get(nothing + suffix, mine["token"]),
        await site.get(mine["status_url"] + suffix, "rbt_wrong"),
        await site.get(mine["status_url"] + suffix, "gr\u00fc\u00dfe"),
    ]

    assert [answer.status for answer in answers] == [404] * 5
    assert len({answer.body for answer in answers}) == 1


async def test_a_turn_of_another_channel_cannot_be_read_here(site: Site) -> None:
    """Even its right token does not open a turn that did not come through the webhook."""
    accepted = await site.engine.accept(source="open")

    answer = await site.get(f"/hooks/open/turns/{accepted.turn}", site.tokens.issue(accepted.turn))

    assert answer.status == 404


@pytest.mark.parametrize("suffix", ["", "/events"])
async def test_reading_takes_a_token(site: Site, suffix: str) -> None:
    """Without one the answer says how to send it."""
    receipt = (await site.post("open")).json

    answer = await site.get(receipt["status_url"] + suffix)

    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_a_turn_can_be_read_while_it_runs(local_database: Database) -> None:
    """Without `wait` the result is the turn as it is."""
    gate = asyncio.Event()
    agents = ScriptedAgents([[gate, TextDelta("Late."), Finished()]])

    async with serving(local_database, agents) as site:
        receipt = (await site.post("open")).json
        early = await site.get(receipt["status_url"], receipt["token"])
        gate.set()
        late = await site.get(receipt["status_url"] + "?wait=60", receipt["token"])

    assert TurnState(early.json["state"]) in (TurnState.QUEUED, TurnState.RUNNING)
    assert early.json["finished_at"] is None
    assert (late.json["state"], late.json["text"]) == ("succeeded", "Late.")


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "1.5", "", "٣"])
async def test_a_wait_that_is_no_number_up_to_60_is_refused(site: Site, wait: str) -> None:
    """The answer names the parameter and its range."""
    receipt = (await site.post("open")).json

    answer = await site.get(f"{receipt['status_url']}?wait={wait}", receipt["token"])

    assert answer.status == 400
    assert answer.json["detail"] == "wait takes a whole number from 0 to 60"
