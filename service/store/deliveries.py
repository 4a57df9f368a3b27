"""Deliveries and their parts: claimed in lane order, noted before and after each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum, auto
from typing import Any

import sqlalchemy as sa

from service.core.model import (
    Address,
    Channel,
    Delivery,
    DeliveryId,
    Part,
    SessionId,
    TurnId,
)
from service.core.states import DELIVERY_MOVES, DeliveryState, TurnState
from service.errors import Fenced
from service.store import projects
from service.store.ids import new_id
from service.store.sql import insert_new, now
from service.store.tables import deliveries, delivery_parts, turns


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery about to exist."""

    address: Address
    session: SessionId | None = None
    turn: TurnId | None = None
    text: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    ordered: bool = False
    """Whether it waits for earlier ordered ones of its session to the same address."""


def insert(conn: sa.Connection, new: Sequence[NewDelivery], *, at: datetime) -> None:
    """Store deliveries; one that the turn already has to that address is left as it is."""
    if not new:
        return
    conn.execute(
        insert_new(conn, deliveries),
        [
            {
                "id": new_id(),
                "session_id": one.session,
                "turn_id": one.turn,
                "channel": one.address.channel.value,
                "spot": one.address.spot,
                "lane": _lane(one) if one.ordered else None,
                "text": one.text,
                "options": dict(one.options),
                "state": DeliveryState.PENDING.value,
                "attempt": 0,
                "epoch": 0,
                "due_at": at,
                "created_at": at,
            }
            for one in new
        ],
    )


# Made once: an alias costs more than the statement it is for.
_one, _older = deliveries.alias("one"), deliveries.alias("older")


def _lane(one: NewDelivery) -> str:
    return f"{one.session} {one.address.channel.value} {one.address.spot}"


def claim(
    conn: sa.Connection, *, owner: str, lease: timedelta, limit: int, channels: Sequence[str]
) -> list[Delivery]:
    """Take up to `limit` due deliveries to `channels`, each the oldest unfinished of its lane."""
    one, older = _one, _older
    head = (
        sa.select(one.c.id)
        .where(
            one.c.state == DeliveryState.PENDING.value,
            one.c.due_at <= now(),
            one.c.channel.in_(channels),
            ~sa.exists().where(
                older.c.lane == one.c.lane,
                older.c.id < one.c.id,
                older.c.state.in_((DeliveryState.PENDING.value, DeliveryState.SENDING.value)),
            ),
        )
        .order_by(one.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=one)
    )
    rows = conn.execute(
        deliveries.update()
        .where(deliveries.c.id.in_(head), deliveries.c.state == DeliveryState.PENDING.value)
        .values(
            state=DeliveryState.SENDING.value,
            owner=owner,
            lease_until=now(lease.total_seconds()),
            epoch=deliveries.c.epoch + 1,
            attempt=deliveries.c.attempt + 1,
            first_attempt_at=sa.func.coalesce(deliveries.c.first_attempt_at, now()),
        )
        .returning(*deliveries.c)
    )
    return [_delivery(row) for row in rows]


def renew(
    conn: sa.Connection, held: Mapping[DeliveryId, int], *, lease: timedelta
) -> set[DeliveryId]:
    """Extend leases that are still ours; return the deliveries for which they are."""
    if not held:
        return set()
    rows = conn.execute(
        deliveries.update()
        .where(
            sa.tuple_(deliveries.c.id, deliveries.c.epoch).in_(list(held.items())),
            deliveries.c.state == DeliveryState.SENDING.value,
        )
        .values(lease_until=now(lease.total_seconds()))
        .returning(deliveries.c.id)
    )
    return {DeliveryId(row.id) for row in rows}


def settle(
    conn: sa.Connection,
    delivery: DeliveryId,
    epoch: int,
    to: DeliveryState,
    values: Mapping[str, object],
) -> None:
    """Move a delivery out of `sending`. Raises Fenced when it has another holder."""
    if to not in DELIVERY_MOVES[DeliveryState.SENDING]:
        raise ValueError(f"a delivery cannot go from sending to {to}")
    result = conn.execute(
        deliveries.update()
        .where(*_held(delivery, epoch))
        .values({"state": to.value, "owner": None, "lease_until": None, **values})
    )
    if result.rowcount != 1:
        raise Fenced("the delivery has another holder")


def hand_over(conn: sa.Connection, delivery: DeliveryId, epoch: int) -> None:
    """Put a delivery back for the next holder without spending the attempt."""
    conn.execute(
        deliveries.update()
        .where(*_held(delivery, epoch))
        .values(
            state=DeliveryState.PENDING.value,
            owner=None,
            lease_until=None,
            epoch=deliveries.c.epoch + 1,
            attempt=deliveries.c.attempt - 1,
        )
    )


# A delivery whose turn waits is due when somebody makes it so.
_SOME_DAY = datetime(9999, 1, 1, tzinfo=UTC)


def park(conn: sa.Connection, delivery: DeliveryId, epoch: int, turn: TurnId) -> None:
    """Put a delivery aside until its turn goes on, without spending the attempt."""
    # Under the turn's lock: who lets it go on must find the delivery parked, or not yet.
    state = conn.scalar(sa.select(turns.c.state).where(turns.c.id == turn).with_for_update())
    waits = state == TurnState.WAITING.value
    conn.execute(
        deliveries.update()
        .where(*_held(delivery, epoch))
        .values(
            state=DeliveryState.PENDING.value,
            owner=None,
            lease_until=None,
            attempt=deliveries.c.attempt - 1,
            due_at=_SOME_DAY if waits else now(),
        )
    )


def go_on(conn: sa.Connection, turn: TurnId, *, at: datetime) -> None:
    """Let the parked deliveries of a turn be due; the caller has locked the turn."""
    conn.execute(
        deliveries.update()
        .where(
            deliveries.c.turn_id == turn,
            deliveries.c.state == DeliveryState.PENDING.value,
            deliveries.c.due_at >= _SOME_DAY,
        )
        .values(due_at=at)
    )


def rescue(conn: sa.Connection, *, limit: int) -> int:
    """Put deliveries back whose holder's lease is over; outdate that holder."""
    lapsed = (
        sa.select(deliveries.c.id)
        .where(
            deliveries.c.state == DeliveryState.SENDING.value,
            deliveries.c.lease_until < now(),
        )
        .limit(limit)
    )
    return _put_back(conn, deliveries.c.id.in_(lapsed))


def rescue_all(conn: sa.Connection) -> int:
    """Put every delivery back that was being sent: nobody else can hold this database."""
    return _put_back(conn, sa.true())


def parts(conn: sa.Connection, delivery: DeliveryId) -> list[Part]:
    """The parts of a delivery by number."""
    rows = conn.execute(
        sa.select(delivery_parts)
        .where(delivery_parts.c.delivery_id == delivery)
        .order_by(delivery_parts.c.number)
    )
    return [Part(row.number, row.external_id) for row in rows]


def open_part(conn: sa.Connection, delivery: DeliveryId, epoch: int, number: int) -> None:
    """Note that part `number` is about to be opened. Raises Fenced."""
    _fence(conn, delivery, epoch)
    conn.execute(
        insert_new(conn, delivery_parts),
        [{"delivery_id": delivery, "number": number, "external_id": None}],
    )


def opened_part(
    conn: sa.Connection, delivery: DeliveryId, epoch: int, number: int, external_id: str
) -> None:
    """Note under which id part `number` exists. Raises Fenced."""
    _fence(conn, delivery, epoch)
    conn.execute(
        delivery_parts.update()
        .where(delivery_parts.c.delivery_id == delivery, delivery_parts.c.number == number)
        .values(external_id=external_id)
    )


def forget_part(conn: sa.Connection, delivery: DeliveryId, epoch: int, number: int) -> None:
    """Drop a part that was surely not opened. Raises Fenced."""
    _fence(conn, delivery, epoch)
    conn.execute(
        delivery_parts.delete().where(
            delivery_parts.c.delivery_id == delivery, delivery_parts.c.number == number
        )
    )


def undelivered(conn: sa.Connection, session: SessionId) -> int:
    """How many deliveries of a session have not arrived for sure, and were not sent again."""
    rows = conn.execute(
        sa.select(deliveries.c.options).where(
            deliveries.c.session_id == session,
            deliveries.c.state != DeliveryState.SENT.value,
            deliveries.c.finished_at.is_not(None),
        )
    )
    return sum(_REPLAYED not in row.options for row in rows)


class Replaying(StrEnum):
    """What became of the wish to send something again."""

    DONE = auto()
    UNKNOWN = auto()
    NOT_OVER = auto()  # it is still being sent, or will be
    ARRIVED = auto()
    AGAIN = auto()  # it was sent again before
    UNCONFIRMED = auto()  # it may have arrived, wholly or in part, and nobody said to risk it


_REPLAYED, _REPLAYED_TURN = "replayed_as", "replayed_turn"


def replay(
    conn: sa.Connection, delivery: DeliveryId, *, confirmed: bool, at: datetime
) -> tuple[Replaying, DeliveryId | None]:
    """Store a delivery anew that did not arrive, to be sent whole; the old one stays as it is.

    It gives its turn away, because a turn has one delivery to each address.
    """
    query = sa.select(deliveries).where(deliveries.c.id == delivery).with_for_update()
    old = conn.execute(query).first()
    if old is None:
        return Replaying.UNKNOWN, None
    refusal = _not_again(conn, old, confirmed)
    if refusal is not None:
        return refusal, None
    new = new_id()
    told = {**old.options, _REPLAYED: new, _REPLAYED_TURN: old.turn_id}
    conn.execute(
        deliveries.update().where(deliveries.c.id == delivery).values(turn_id=None, options=told)
    )
    row = {
        "id": new,
        "state": DeliveryState.PENDING.value,
        "attempt": 0,
        "epoch": 0,
        "due_at": at,
        "created_at": at,
        **{
            name: getattr(old, name)
            for name in ("session_id", "turn_id", "channel", "spot", "lane", "text", "options")
        },
    }
    conn.execute(deliveries.insert(), [row])
    return Replaying.DONE, DeliveryId(new)


def _not_again(conn: sa.Connection, old: sa.Row[Any], confirmed: bool) -> Replaying | None:
    state = DeliveryState(old.state)
    if state is DeliveryState.SENT:
        return Replaying.ARRIVED
    if state not in (DeliveryState.FAILED, DeliveryState.UNCERTAIN):
        return Replaying.NOT_OVER
    if _REPLAYED in old.options:
        return Replaying.AGAIN
    risky = state is DeliveryState.UNCERTAIN or bool(parts(conn, DeliveryId(old.id)))
    return Replaying.UNCONFIRMED if risky and not confirmed else None


def newest(
    conn: sa.Connection,
    *,
    state: str | None,
    limit: int,
    before: str | None = None,
    reader: str | None = None,
) -> list[dict[str, Any]]:
    """The newest deliveries as plain JSON, of one state when given.

    `before` is the id of the last one of the page before. With `reader` those are left out that
    are in projects of others.
    """
    query = sa.select(deliveries).order_by(deliveries.c.id.desc()).limit(limit)
    if reader is not None:
        query = query.where(~projects.hidden_from(reader, deliveries.c.session_id))
    if state is not None:
        query = query.where(deliveries.c.state == state)
    if before is not None:
        query = query.where(deliveries.c.id < before)
    return [
        {
            "delivery": row.id,
            "turn": row.turn_id or row.options.get(_REPLAYED_TURN),
            "replayed_as": row.options.get(_REPLAYED),
            "session": row.session_id,
            "channel": row.channel,
            "address": row.spot,
            "state": row.state,
            "attempt": row.attempt,
            "error": row.error,
            "text": row.text,
            "due_at": row.due_at.isoformat(),
            "created_at": row.created_at.isoformat(),
        }
        for row in conn.execute(query)
    ]


def counts(conn: sa.Connection) -> dict[str, int]:
    """How many deliveries are in each state that is not `sent`."""
    rows = conn.execute(
        sa.select(deliveries.c.state, sa.func.count())
        .where(deliveries.c.state != DeliveryState.SENT.value)
        .group_by(deliveries.c.state)
    )
    return {row[0]: row[1] for row in rows}


def readdress(conn: sa.Connection, old: Address, new: Address) -> None:
    """Send what is still to come to where the address has moved."""
    conn.execute(
        deliveries.update()
        .where(
            deliveries.c.channel == old.channel.value,
            deliveries.c.spot == old.spot,
            deliveries.c.finished_at.is_(None),
        )
        .values(spot=new.spot)
    )


def _held(delivery: DeliveryId, epoch: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        deliveries.c.id == delivery,
        deliveries.c.epoch == epoch,
        deliveries.c.state == DeliveryState.SENDING.value,
    )


def _fence(conn: sa.Connection, delivery: DeliveryId, epoch: int) -> None:
    query = sa.select(deliveries.c.id).where(*_held(delivery, epoch)).with_for_update()
    if conn.execute(query).first() is None:
        raise Fenced("the delivery has another holder")


def _put_back(conn: sa.Connection, which: sa.ColumnElement[bool]) -> int:
    return conn.execute(
        deliveries.update()
        .where(deliveries.c.state == DeliveryState.SENDING.value, which)
        .values(
            state=DeliveryState.PENDING.value,
            owner=None,
            lease_until=None,
            epoch=deliveries.c.epoch + 1,
        )
    ).rowcount


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery(
        id=DeliveryId(row.id),
        address=Address(Channel(row.channel), row.spot),
        state=DeliveryState(row.state),
        attempt=row.attempt,
        epoch=row.epoch,
        created_at=row.created_at,
        session=SessionId(row.session_id) if row.session_id else None,
        turn=TurnId(row.turn_id) if row.turn_id else None,
        text=row.text,
        options=row.options,
        first_attempt_at=row.first_attempt_at,
    )
