"""Callbacks as a receiver meets them: signed, repeated under one id, and stopped when told to."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

from handlers.webhook.callback import CallbackSender
from handlers.webhook.hook import callback_address
from service.config import Callback, Secret
from service.core.model import Channel, TurnId
from service.core.signature import verify
from service.core.states import DeliveryState, TurnState
from service.egress import Egress
from service.engine.outbox import Outbox
from service.errors import ProviderRefused
from service.ports import Finished, TextDelta
from service.store.database import Database
from service.store.tables import deliveries
from tests.engine.engine import Engine, running
from tests.fakes import ScriptedAgents
from tests.webhook.site import STANDARD_SECRET, listening

ADDRESS = callback_address("webhook", "orders")
SCHEDULE = timedelta(seconds=5)
"""The first pause of callbacks, before its jitter."""


@dataclass(frozen=True)
class Call:
    """One request the receiver got."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers with the next of `answers`, the last one repeating, and remembers every call."""

    answers: Sequence[tuple[int, Mapping[str, str]]] = ((204, {}),)
    port: int = 0
    calls: list[Call] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/ringback"

    async def handle(self, request: web.Request) -> web.Response:
        """Take one call."""
        place = min(len(self.calls), len(self.answers) - 1)
        self.calls.append(Call(request.headers.copy(), await request.read()))
        status, headers = self.answers[place]
        return web.Response(status=status, headers=headers)


@dataclass
class Post:
    """An engine that finishes turns, and an outbox that works when it is told to."""

    engine: Engine
    outbox: Outbox

    async def finished(self, text: str = "hi") -> TurnId:
        """Ring, and wait until the turn that is to be called back is over."""
        accepted = await self.engine.accept(
            text, channel=Channel.WEBHOOK, source="orders", answer_to=(ADDRESS,)
        )
        await self.engine.result(accepted.turn)
        return accepted.turn

    async def attempt(self) -> sa.Row[Any]:
        """Send what is due, once; return the delivery as it is stored then."""
        await self.due_now()
        [(claimed, hold)] = await self.outbox.claim(10)
        await self.outbox.work(claimed, hold)
        return await self.delivery()

    async def due_now(self) -> None:
        """Let the pause of every delivery be over."""
        past = datetime.now(UTC) - timedelta(seconds=1)
        await self.engine.database.write(
            lambda conn: conn.execute(deliveries.update().values(due_at=past)).rowcount
        )

    async def delivery(self) -> sa.Row[Any]:
        """The one delivery there is."""
        return await self.engine.database.read(
            lambda conn: conn.execute(sa.select(deliveries)).one()
        )


@asynccontextmanager
async def receiving(*answers: tuple[int, Mapping[str, str]]) -> AsyncGenerator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver(answers or ((204, {}),))
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.handle)
    async with listening(application) as port:
        receiver.port = port
        yield receiver


@asynccontextmanager
async def posting(
    database: Database, target: Callback | None, agents: ScriptedAgents | None = None
) -> AsyncGenerator[Post]:
    """An engine whose turns are called back to `target`."""
    egress = Egress()
    async with running(database, agents) as engine:
        targets = {} if target is None else {ADDRESS.spot: target}
        sender = CallbackSender(targets, egress, engine.results)
        outbox = Outbox(
            database, engine.feed, {Channel.WEBHOOK: sender}, engine.metrics, owner="test-callbacks"
        )
        try:
            yield Post(engine, outbox)
        finally:
            await egress.close()


def to(receiver: Receiver, secret: str | None = STANDARD_SECRET) -> Callback:
    """A target that may be on this machine."""
    return Callback(
        url=receiver.url,
        secret=None if secret is None else Secret(secret),
        allow_private=True,
    )


# -- what is sent ---------------------------------------------------------------------------------


async def test_a_callback_is_the_result_signed(database: Database) -> None:
    """The receiver can verify it with the secret alone and needs to ask nothing more."""
    agents = ScriptedAgents([[TextDelta("Grüße 👋🏽"), Finished()]])

    async with receiving() as receiver, posting(database, to(receiver), agents) as post:
        turn = await post.finished()
        delivery = await post.attempt()
        result = await post.engine.result(turn)

    [call] = receiver.calls
    id_ = verify(
        "standard-webhooks", [STANDARD_SECRET], call.headers, call.body, now=datetime.now(UTC)
    )
    assert id_ == delivery.id
    assert call.headers["Content-Type"] == "application/json"
    assert call.json["type"] == "turn.finished"
    assert call.json["data"] == result.as_json()
    assert call.json["data"]["text"] == "Grüße 👋🏽"
    assert datetime.fromisoformat(call.json["timestamp"]).tzinfo is not None
    assert delivery.state == DeliveryState.SENT


async def test_a_failed_turn_is_called_back_too(local_database: Database) -> None:
    """Whoever waits for a call learns also that there will be no answer."""
    agents = ScriptedAgents([[ProviderRefused("the key is wrong")]])

    async with receiving() as receiver, posting(local_database, to(receiver), agents) as post:
        await post.finished()
        await post.attempt()

    assert receiver.calls[0].json["data"]["state"] == TurnState.FAILED
    assert "the key is wrong" in receiver.calls[0].json["data"]["error"]


async def test_without_a_secret_there_is_an_id_but_no_signature(local_database: Database) -> None:
    """Also an unsigned callback can be recognised when it comes twice."""
    async with receiving() as receiver, posting(local_database, to(receiver, None)) as post:
        await post.finished()
        delivery = await post.attempt()

    assert receiver.calls[0].headers["webhook-id"] == delivery.id
    assert "webhook-signature" not in receiver.calls[0].headers


# -- what the receiver may say --------------------------------------------------------------------


async def test_a_repeat_has_the_same_id_and_a_fresh_signature(database: Database) -> None:
    """What was not taken comes again so that the receiver can tell it is the same thing."""
    answers: list[tuple[int, Mapping[str, str]]] = [(500, {}), (503, {}), (200, {})]

    async with receiving(*answers) as receiver, posting(database, to(receiver)) as post:
        await post.finished()
        states = [(await post.attempt()).state for _ in answers]

    ids = {
        verify("standard-webhooks", [STANDARD_SECRET], one.headers, one.body, now=datetime.now(UTC))
        for one in receiver.calls
    }
    assert states == ["pending", "pending", "sent"]
    assert len(receiver.calls) == 3
    assert len(ids) == 1
    assert len({json.dumps(one.json["data"]) for one in receiver.calls}) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_takes_it(local_database: Database, status: int) -> None:
    """The receipt keeps which one it was."""
    async with receiving((status, {})) as receiver, posting(local_database, to(receiver)) as post:
        await post.finished()
        delivery = await post.attempt()

    assert delivery.state == DeliveryState.SENT
    assert delivery.receipt == {"ids": [str(status)]}


async def test_410_ends_it_for_good(database: Database) -> None:
    """A receiver that wants no more callbacks gets no second one."""
    async with receiving((410, {})) as receiver, posting(database, to(receiver)) as post:
        await post.finished()
        delivery = await post.attempt()
        left = await post.outbox.claim(10)

    assert delivery.state == DeliveryState.FAILED
    assert "410" in delivery.error
    assert left == []
    assert len(receiver.calls) == 1


@pytest.mark.parametrize(("status", "dated"), [(429, False), (503, False), (429, True)])
async def test_a_pause_the_receiver_asks_for_is_kept(
    local_database: Database, status: int, dated: bool
) -> None:
    """In seconds or as a date; the delivery is due then and not before."""
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    answer = (status, {"Retry-After": later if dated else "3600"})

    async with receiving(answer) as receiver, posting(local_database, to(receiver)) as post:
        await post.finished()
        delivery = await post.attempt()
        left = await post.outbox.claim(10)

    pause = delivery.due_at - datetime.now(UTC)
    assert delivery.state == DeliveryState.PENDING
    assert abs(pause - timedelta(hours=1)) < timedelta(minutes=2)
    assert left == []


async def test_a_pause_of_nothing_is_over_at_once(local_database: Database) -> None:
    """Retry-After: 0 invites the next attempt now."""
    answer = (429, {"Retry-After": "0"})

    async with receiving(answer) as receiver, posting(local_database, to(receiver)) as post:
        await post.finished()
        delivery = await post.attempt()

    assert delivery.state == DeliveryState.PENDING
    assert delivery.due_at <= datetime.now(UTC)


async def test_nobody_can_ask_for_more_than_a_day(local_database: Database) -> None:
    """A callback that is put off for years would never be seen to fail."""
    answer = (429, {"Retry-After": "999999999"})

    async with receiving(answer) as receiver, posting(local_database, to(receiver)) as post:
        await post.finished()
        delivery = await post.attempt()

    assert delivery.due_at - datetime.now(UTC) < timedelta(days=1, minutes=1)


@pytest.mark.parametrize(
    ("status", "retry_after"),
    [
        (429, None),
        (429, "soon"),
        (429, "-5"),
        (429, "1.5"),
        (429, "²"),
        (429, "Wed, 21 Oct 2015"),
        (429, "Thu, 99 Foo 9999 99:99:99 GMT"),
        (429, "9" * 400),
        (500, "3600"),
        (302, None),
        (400, None),
        (401, None),
        (404, None),
    ],
)
async def test_everything_else_is_tried_again_by_the_schedule(
    local_database: Database, status: int, retry_after: str | None
) -> None:
    """Also a pause that makes no sense, and a redirect, which is not followed."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    headers |= {"Location": "/elsewhere"} if status == 302 else {}

    async with (
        receiving((status, headers)) as receiver,
        posting(local_database, to(receiver)) as post,
    ):
        await post.finished()
        delivery = await post.attempt()

    pause = delivery.due_at - datetime.now(UTC)
    assert delivery.state == DeliveryState.PENDING
    assert str(status) in delivery.error
    assert pause < SCHEDULE * 1.2
    assert len(receiver.calls) == 1


# -- where it may go ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_a_private_address_is_never_called(local_database: Database, host: str) -> None:
    """Unless the operator allowed it; a name that leads there is no way round."""
    async with receiving() as receiver:
        target = Callback(url=f"https://{host}:{receiver.port}/ringback")
        async with posting(local_database, target) as post:
            await post.finished()
            delivery = await post.attempt()

    assert delivery.state == DeliveryState.FAILED
    assert "must not be reached" in delivery.error
    assert receiver.calls == []


async def test_a_receiver_that_is_down_is_tried_again(local_database: Database) -> None:
    """Nobody listening is no reason to give up."""
    async with receiving() as receiver:
        target = to(receiver)

    async with posting(local_database, target) as post:
        await post.finished()
        delivery = await post.attempt()

    assert delivery.state == DeliveryState.PENDING


async def test_a_callback_that_left_the_configuration_is_given_up(
    local_database: Database,
) -> None:
    """What was promised to an address nobody knows any more cannot be kept, and is said so."""
    async with posting(local_database, None) as post:
        await post.finished()
        delivery = await post.attempt()

    assert delivery.state == DeliveryState.FAILED
    assert "configuration" in delivery.error
