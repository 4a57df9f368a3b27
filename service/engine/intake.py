"""The one door: every ring is stored here, once, before anybody is told it was accepted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from service.core.model import (
    Accepted,
    Channel,
    Refusal,
    RefusalReason,
    Ring,
    SessionId,
    TurnId,
)
from service.core.states import InboxState
from service.core.text import clean
from service.engine import acceptance
from service.engine.acceptance import STARTED, Stored
from service.engine.feed import Feed
from service.engine.groups import Groups
from service.engine.metrics import Metrics
from service.failpoints import reach
from service.store import inbox, investigations, projects, sessions
from service.store.database import Database
from service.store.ids import new_id
from service.store.inbox import Received

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_NOTHING = hashlib.sha256(b"").digest()


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
        self._groups: Groups[Ring, Stored] = Groups(database, self._store)

    async def accept(self, ring: Ring) -> Accepted | Refusal:
        """Store a ring as the next turn of its session; return after the commit.

        A ring whose event key is known gets the turn it has already. Raises StoreError when
        nothing could be stored; then the sender must not be told that it was.
        """
        if self._draining:
            return Refusal(RefusalReason.DRAINING, "the service is shutting down; try again")
        if ring.investigation is None:
            return await self._accept(ring)
        found = await self._database.read(_named, *ring.investigation)
        if isinstance(found, Refusal):
            return found
        outcome = await self._accept(found.heard(ring))
        if outcome is not STARTED:
            return outcome
        # Another ring has begun it in this moment.
        return await self._accept(replace(ring, session=found.session))

    async def _accept(self, ring: Ring) -> Accepted | Refusal:
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

    def _store(self, conn: sa.Connection, rings: Sequence[Ring]) -> list[Stored]:
        return _store_group(conn, rings, queue_limit=self._queue_limit)


@dataclass(frozen=True, slots=True)
class _Named:
    """A session that triggers name by its project and title."""

    session: SessionId
    request: str | None
    """What it begins with; None when it has begun."""

    def heard(self, ring: Ring) -> Ring:
        """The ring as the session is to hear it: the first one comes with its request."""
        words = (self.request, ring.text)
        text = "\n\n".join(one for one in words if one and one.strip())
        starts = self.request is not None
        return replace(ring, session=self.session, text=text, starts=starts)


def _named(conn: sa.Connection, project: str, title: str) -> _Named | Refusal:
    found = projects.by_name(conn, project)
    if found is None:
        return Refusal(RefusalReason.UNKNOWN, f"there is no project {project!r}")
    wanted = title.strip().casefold()
    for session, one in investigations.siblings(conn, found.id).items():
        if one.title.casefold() != wanted:
            continue
        stored = sessions.get(conn, session)
        mine = investigations.get(conn, session)
        fresh = stored is not None and stored.last_message == 0
        return _Named(session, mine.request if mine is not None and fresh else None)
    detail = f"the project {project!r} has no session {title!r}"
    return Refusal(RefusalReason.UNKNOWN, detail)


def _note(conn: sa.Connection, received: Received) -> bool:
    return inbox.insert(conn, [received], at=datetime.now(UTC))[0]


def _store_group(conn: sa.Connection, rings: Sequence[Ring], *, queue_limit: int) -> list[Stored]:
    """Store a group of rings in one transaction.

    Inbox rows come first: they say which rings are new, also against other replicas.
    """
    at = datetime.now(UTC)
    received = [_received(ring) for ring in rings]
    fresh = inbox.insert(conn, received, at=at)
    known = inbox.known(
        conn, [one.key for one, new in zip(received, fresh, strict=True) if not new]
    )
    new = [(ring, one) for ring, one, is_new in zip(rings, received, fresh, strict=True) if is_new]
    answers = acceptance.accept(conn, new, queue_limit=queue_limit, at=at)
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


def _repeat_of(first: Stored, stored: Received, ring: Ring, received: Received) -> Stored:
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


def _repeat(known: inbox.Known | None, ring: Ring, received: Received) -> Stored:
    if known is None or known.turn is None or known.session is None:
        reason = known.reason if known else None
        return Stored(Refusal(RefusalReason.IGNORED, reason or "it was received before"))
    if ring.strict_body and known.digest != received.digest:
        return Stored(
            Refusal(RefusalReason.KEY_REUSED, "this key was used with another body before")
        )
    return Stored(Accepted(known.turn, known.session, max(known.number - 1, 1), duplicate=True))
