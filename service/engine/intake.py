"""The one door: every ring is stored here, once, before anybody is told it was accepted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from service.core.model import (
    Accepted,
    Address,
    Channel,
    Event,
    NewEvent,
    Refusal,
    RefusalReason,
    Ring,
    SessionId,
    TurnId,
)
from service.core.states import InboxState, OccurrenceState, TurnState
from service.core.text import clean, title_of
from service.engine.feed import Feed
from service.engine.groups import Groups
from service.engine.metrics import Metrics
from service.failpoints import reach
from service.store import feed as events
from service.store import inbox, occurrences, sessions, turns
from service.store.database import Database
from service.store.ids import new_id
from service.store.inbox import Received
from service.store.sessions import NewSession
from service.store.sql import insert_many
from service.store.tables import messages as messages_table
from service.store.tables import turns as turns_table

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_NO_SESSION = Refusal(RefusalReason.UNKNOWN, "there is no such session")
_ARCHIVED = Refusal(RefusalReason.ARCHIVED, "the session is archived; restore it first")
# message.added and turn.queued
_EVENTS_PER_RING = 2
_NOTHING = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class _Stored:
    """The answer to one ring, and what its followers are to be told."""

    outcome: Accepted | Refusal
    events: Sequence[Event] = ()


class Intake:
    """Accepts rings and notes what is no ring.

    `wake` is called after a commit that left a turn to claim.
    """

    def __init__(
        self,
        database: Database,
        feed: Feed,
        metrics: Metrics,
        *,
        queue_limit: int,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._feed = feed
        self._metrics = metrics
        self._queue_limit = queue_limit
        self._wake = wake
        self._draining = False
        self._groups: Groups[Ring, _Stored] = Groups(database, self._store)

    async def accept(self, ring: Ring) -> Accepted | Refusal:
        """Store a ring as the next turn of its session; return after the commit.

        A ring whose event key is known gets the turn it has already. Raises StoreError when
        nothing could be stored; then the sender must not be told that it was.
        """
        if self._draining:
            return Refusal(RefusalReason.DRAINING, "the service is shutting down; try again")
        stored = await self._groups.submit(ring)
        reach("intake.committed")
        outcome = stored.outcome
        if isinstance(outcome, Refusal):
            self._metrics.refused.labels(ring.channel.value, outcome.reason.value).inc()
            log.info(
                "intake.refused",
                channel=ring.channel.value,
                reason=outcome.reason.value,
            )
            return outcome
        kind = "duplicate" if outcome.duplicate else "accepted"
        self._metrics.rings.labels(ring.channel.value, kind).inc()
        if stored.events:
            self._feed.announce({outcome.session: stored.events})
            self._wake()
        return outcome

    async def note(
        self,
        channel: Channel,
        source: str,
        event_key: str,
        *,
        state: InboxState,
        reason: str,
        body: bytes,
    ) -> bool:
        """Store something that starts no turn, with the reason; False when it was known."""
        received = Received(
            channel,
            source,
            clean(event_key),
            state,
            _digest(body),
            body,
            reason=clean(reason),
        )
        new = await self._database.write(_note, received)
        if new:
            self._metrics.rings.labels(channel.value, state.value).inc()
            log.info("intake.noted", channel=channel.value, state=state.value, reason=reason)
        return new

    async def drain(self) -> None:
        """Refuse new rings and return when those under way are stored."""
        self._draining = True
        await self._groups.drain()

    def _store(self, conn: sa.Connection, rings: Sequence[Ring]) -> list[_Stored]:
        return _store_group(conn, rings, queue_limit=self._queue_limit)


def _note(conn: sa.Connection, received: Received) -> bool:
    return inbox.insert(conn, [received], at=datetime.now(UTC))[0]


def _store_group(conn: sa.Connection, rings: Sequence[Ring], *, queue_limit: int) -> list[_Stored]:
    """Store a group of rings in one transaction.

    1. Inbox rows first: they say which rings are new, also against other replicas.
    2. The sessions of the new ones, found by key and locked, or made.
    3. Numbers, messages, turns and events, in the order the rings came.
    """
    at = datetime.now(UTC)
    received = [_received(ring) for ring in rings]
    fresh = inbox.insert(conn, received, at=at)
    known = inbox.known(
        conn, [one.key for one, new in zip(received, fresh, strict=True) if not new]
    )
    new = [(ring, one) for ring, one, is_new in zip(rings, received, fresh, strict=True) if is_new]
    found = _sessions_for(conn, [ring for ring, _ in new], at=at)
    full = _full_queues(conn, found, queue_limit)
    answers = _write_turns(conn, new, found, full, at=at)
    inbox.forget(
        conn,
        [one.key for _, one in new if isinstance(answers[one.key].outcome, Refusal)],
    )
    reach("intake.committing")
    # A key may come twice in one group: the second one finds the row of the first.
    mine = {one.key: one for _, one in new}
    outcomes = []
    for ring, one, is_new in zip(rings, received, fresh, strict=True):
        if is_new:
            outcomes.append(answers[one.key])
        elif one.key in answers:
            outcomes.append(_repeat_of(answers[one.key], mine[one.key], ring, one))
        else:
            outcomes.append(_repeat(known.get(one.key), ring, one))
    return outcomes


def _received(ring: Ring) -> Received:
    return Received(
        ring.channel,
        ring.source,
        clean(ring.event_key),
        InboxState.ACCEPTED,
        _digest(ring.body),
        ring.body,
        turn=TurnId(new_id()),
    )


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest() if body else _NOTHING


@dataclass(slots=True)
class _Place:
    """A session that rings of this group go to, and the newest number it has given out."""

    session: SessionId
    newest: int
    is_new: bool
    untitled: bool = False


def _sessions_for(
    conn: sa.Connection, rings: Sequence[Ring], *, at: datetime
) -> list[_Place | Refusal]:
    """Find or make the session of each ring, in the order of the rings; lock those found."""
    by_id = _existing(conn, {ring.session for ring in rings if ring.session is not None})
    by_key = _by_key(conn, [ring for ring in rings if _goes_by_key(ring)], at=at)
    alone = [_new_session(ring) for ring in rings if _goes_alone(ring)]
    sessions.insert(conn, alone, at=at, last_event=_EVENTS_PER_RING)
    fresh = iter(alone)
    places: list[_Place | Refusal] = []
    for ring in rings:
        if ring.session is not None:
            places.append(by_id.get(ring.session, _NO_SESSION))
        elif ring.session_key is not None:
            places.append(by_key[ring.session_key])
        else:
            places.append(_Place(next(fresh).id, 0, is_new=True))
    return places


def _goes_by_key(ring: Ring) -> bool:
    return ring.session is None and ring.session_key is not None


def _goes_alone(ring: Ring) -> bool:
    return ring.session is None and ring.session_key is None


def _existing(conn: sa.Connection, ids: set[SessionId]) -> dict[SessionId, _Place | Refusal]:
    if not ids:
        return {}
    return {
        session: _ARCHIVED
        if one.archived
        else _Place(session, one.last_event, is_new=False, untitled=one.title is None)
        for session, one in sessions.lock_ids(conn, ids).items()
    }


def _by_key(conn: sa.Connection, rings: Sequence[Ring], *, at: datetime) -> dict[str, _Place]:
    first = {ring.session_key: ring for ring in reversed(rings) if ring.session_key is not None}
    if not first:
        return {}
    places = _locked(conn, first)
    missing = {key: _new_session(ring) for key, ring in first.items() if key not in places}
    if missing:
        sessions.insert(conn, list(missing.values()), at=at, last_event=0)
        # Also finds a session that another replica made in the meantime.
        places.update(_locked(conn, missing))
    return places


def _locked(conn: sa.Connection, keys: Mapping[str, object] | set[str]) -> dict[str, _Place]:
    return {
        key: _Place(one.id, one.last_event, is_new=False, untitled=one.title is None)
        for key, one in sessions.lock_keys(conn, keys).items()
    }


def _new_session(ring: Ring) -> NewSession:
    return NewSession(
        id=SessionId(new_id()),
        binding=ring.binding,
        owner=ring.author,
        source=ring.session_source,
        origin=ring.channel,
        key=ring.session_key,
        title=title_of(ring.title or ring.text),
        home=ring.home,
        sticky=ring.sticky,
    )


def _full_queues(
    conn: sa.Connection, places: Sequence[_Place | Refusal], limit: int
) -> dict[SessionId, int]:
    """How many more turns each session that existed before may queue."""
    found = [place for place in places if isinstance(place, _Place)]
    old = list({place.session for place in found if not place.is_new and place.newest})
    waiting = turns.queued_counts(conn, old)
    return {session: limit - waiting.get(session, 0) for session in old}


def _write_turns(
    conn: sa.Connection,
    new: Sequence[tuple[Ring, Received]],
    places: Sequence[_Place | Refusal],
    room: dict[SessionId, int],
    *,
    at: datetime,
) -> dict[inbox.Key, _Stored]:
    answers: dict[inbox.Key, _Stored] = {}
    message_rows, turn_rows = [], []
    numbered: dict[SessionId, list[Event]] = {}
    titles: dict[SessionId, str] = {}
    for (ring, received), place in zip(new, places, strict=True):
        if isinstance(place, Refusal):
            answers[received.key] = _Stored(place)
            continue
        if room.get(place.session, 1) <= 0:
            answers[received.key] = _Stored(_queue_full())
            continue
        if place.session in room:
            room[place.session] -= 1
        turn = received.turn
        assert turn is not None
        text = clean(ring.text)
        first = place.newest + 1
        place.newest += _EVENTS_PER_RING
        if place.untitled and (title := title_of(ring.title or ring.text)):
            titles.setdefault(place.session, title)
        message_rows.append(_message_row(ring, turn, place.session, first, text, at))
        turn_rows.append(_turn_row(ring, turn, place.session, first, at))
        mine = _events(ring, turn, first, text, at)
        numbered.setdefault(place.session, []).extend(mine)
        answers[received.key] = _Stored(Accepted(turn, place.session, first), mine)
        if ring.occurrence is not None:
            occurrences.move(
                conn,
                ring.occurrence,
                old=OccurrenceState.DUE,
                new=OccurrenceState.QUEUED,
                turn_id=turn,
                session_id=place.session,
            )
    insert_many(conn, turns_table, turn_rows)
    insert_many(conn, messages_table, message_rows)
    events.store(conn, numbered)
    old = [place for place in places if isinstance(place, _Place) and not place.is_new]
    events.advance(conn, {place.session: place.newest for place in old}, at=at)
    sessions.give_titles(conn, titles)
    return answers


def _queue_full() -> Refusal:
    return Refusal(RefusalReason.QUEUE_FULL, "too many messages of this session wait already")


def _message_row(
    ring: Ring, turn: TurnId, session: SessionId, number: int, text: str, at: datetime
) -> dict[str, object]:
    return {
        "session_id": session,
        "number": number,
        "turn_number": number + 1,
        "turn_id": turn,
        "role": ring.role.value,
        "author": ring.author,
        "text": text,
        "status": "complete",
        "created_at": at,
    }


def _turn_row(
    ring: Ring, turn: TurnId, session: SessionId, number: int, at: datetime
) -> dict[str, object]:
    return {
        "id": turn,
        "session_id": session,
        "number": number + 1,
        "state": TurnState.QUEUED.value,
        "channel": ring.channel.value,
        "trigger_name": ring.source,
        "author": ring.author,
        "answer_to": _addresses(ring.answer_to),
        "occurrence_id": ring.occurrence,
        "attempt": 0,
        "epoch": 0,
        "due_at": at,
        "processing_ms": 0,
        "created_at": at,
    }


def _addresses(addresses: Sequence[Address]) -> list[list[str]]:
    return [[address.channel.value, address.spot] for address in addresses]


def _events(ring: Ring, turn: TurnId, first: int, text: str, at: datetime) -> list[Event]:
    message = {
        "number": first,
        "role": ring.role.value,
        "author": ring.author,
        "text": text,
        "status": "complete",
    }
    new = [
        NewEvent("message.added", message, turn),
        NewEvent("turn.queued", {"turn": turn}, turn),
    ]
    return events.number(new, first - 1, at)


def _repeat_of(first: _Stored, stored: Received, ring: Ring, received: Received) -> _Stored:
    if isinstance(first.outcome, Refusal):
        return first
    known = inbox.Known(
        stored.digest,
        first.outcome.turn,
        first.outcome.session,
        first.outcome.number + 1,
        None,
    )
    return _repeat(known, ring, received)


def _repeat(known: inbox.Known | None, ring: Ring, received: Received) -> _Stored:
    if known is None or known.turn is None or known.session is None:
        reason = known.reason if known else None
        return _Stored(Refusal(RefusalReason.IGNORED, reason or "it was received before"))
    if ring.strict_body and known.digest != received.digest:
        return _Stored(
            Refusal(RefusalReason.KEY_REUSED, "this key was used with another body before")
        )
    return _Stored(Accepted(known.turn, known.session, max(known.number - 1, 1), duplicate=True))
