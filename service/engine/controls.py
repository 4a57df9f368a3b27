"""What people steer: commands stored once, new sessions, stops, and questions about sessions."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from service.core.model import (
    Address,
    Binding,
    Channel,
    Event,
    SessionId,
    Source,
    Turn,
    TurnId,
    Usage,
)
from service.core.states import InboxState, TurnState
from service.core.text import clean
from service.engine.feed import Feed
from service.engine.metrics import Metrics
from service.engine.turns import Ending, answers, finished
from service.store import deliveries, inbox, occurrences, sessions, turns
from service.store import feed as events
from service.store.database import Database, Transaction
from service.store.deliveries import NewDelivery
from service.store.ids import new_id
from service.store.inbox import Received
from service.store.sessions import NewSession


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """How a session is, for people."""

    session: SessionId
    title: str | None
    agent: str
    provider: str
    model: str
    state: TurnState | None
    """Of the turn that is worked on or comes next; None when there is nothing to do."""
    queued: int
    created_at: datetime
    processing: timedelta
    usage: Usage
    undelivered: int


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in a list."""

    session: SessionId
    title: str | None
    agent: str
    active_at: datetime
    current: bool
    """Whether the next message of its address goes to it."""
    sticky: bool


@dataclass(slots=True)
class _After:
    """What has to be told once the transaction is committed."""

    events: dict[SessionId, list[Event]] = field(default_factory=dict)
    stopping: list[TurnId] = field(default_factory=list)
    deliveries: bool = False


class Command:
    """The steps of one command, all in one transaction."""

    def __init__(self, transaction: Transaction, live: frozenset[Channel], after: _After) -> None:
        self._transaction = transaction
        self._live = live
        self._after = after

    async def notice(
        self, address: Address, text: str, *, options: Mapping[str, Any] | None = None
    ) -> None:
        """Say something of our own, in Markdown, at an address."""
        new = NewDelivery(address, text=clean(text), options=options or {})
        await self._transaction.run(deliveries.insert, [new], at=datetime.now(UTC))
        self._after.deliveries = True

    async def new_session(
        self,
        *,
        key: str,
        binding: Binding,
        home: Address,
        author: str,
        origin: Channel,
        sticky: bool,
    ) -> SessionId:
        """Make a session that has `key` from now on; the one that had it keeps its history."""
        new = NewSession(
            id=SessionId(new_id()),
            binding=binding,
            owner=author,
            source=Source.MANUAL,
            origin=origin,
            key=key,
            home=home,
            sticky=sticky,
        )
        await self._transaction.run(_replace_session, new)
        return new.id

    async def stop(self, *, key: str, by: str) -> int:
        """Stop what runs and what waits in the session with this key; how many turns that is."""
        session = await self._transaction.run(sessions.by_key, key)
        return 0 if session is None else await self.stop_session(session.id, by=by)

    async def stop_session(self, session: SessionId, *, by: str) -> int:
        """Stop what runs and what waits in a session; how many turns that is."""
        active = await self._transaction.run(turns.active, session)
        return await self._stop(active, by)

    async def stop_turn(self, turn: TurnId, *, home: Address | None = None, by: str) -> bool:
        """Stop one turn; False when it is over or, with `home`, its answer goes elsewhere."""
        found = await self._transaction.run(turns.get, turn)
        if found is None or (home is not None and home not in found.answer_to):
            return False
        active = await self._transaction.run(turns.active, found.session)
        return await self._stop([one for one in active if one.id == turn], by) > 0

    async def status(self, *, key: str) -> SessionStatus | None:
        """How the session with this key is; None when there is none."""
        return await self._transaction.run(_status, key)

    async def sessions(self, *, home: Address, limit: int = 10) -> Sequence[SessionSummary]:
        """The sessions of an address, the most recently active first."""
        return await self._transaction.run(_summaries, home, limit)

    async def _stop(self, active: Sequence[Turn], by: str) -> int:
        stopped = 0
        for turn in active:
            appended = await self._transaction.run(_stop, turn, by, self._live)
            if appended:
                self._after.events.setdefault(turn.session, []).extend(appended)
                self._after.deliveries = True
            else:
                self._after.stopping.append(turn.id)
            stopped += 1
        return stopped


class Controls:
    """Runs commands and tells the rest of the engine afterwards.

    `stopping` is called for running turns, wherever they run; `wake` when there are turns or
    deliveries to look for.
    """

    def __init__(
        self,
        database: Database,
        feed: Feed,
        metrics: Metrics,
        *,
        live: frozenset[Channel],
        stopping: Callable[[TurnId], object],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._feed = feed
        self._metrics = metrics
        self._live = live
        self._stopping = stopping
        self._wake = wake

    @asynccontextmanager
    async def command(
        self, *, channel: Channel, source: str, event_key: str, body: bytes
    ) -> AsyncGenerator[Command | None]:
        """One transaction for a command from outside; None when its event key was handled before.

        Nothing of it is stored when the body raises. Raises StoreError.
        """
        after = _After()
        received = Received(
            channel,
            source,
            clean(event_key),
            InboxState.ACCEPTED,
            hashlib.sha256(body).digest(),
            body,
        )
        async with self._database.transaction() as transaction:
            at = datetime.now(UTC)
            new = (await transaction.run(inbox.insert, [received], at=at))[0]
            yield Command(transaction, self._live, after) if new else None
        outcome = "command" if new else "duplicate"
        self._metrics.rings.labels(channel.value, outcome).inc()
        self._tell(after)

    @asynccontextmanager
    async def steps(self) -> AsyncGenerator[Command]:
        """One transaction for what an operator does; doing it again does no harm."""
        after = _After()
        async with self._database.transaction() as transaction:
            yield Command(transaction, self._live, after)
        self._tell(after)

    def _tell(self, after: _After) -> None:
        for turn in after.stopping:
            self._stopping(turn)
        self._feed.announce(after.events)
        if after.deliveries or after.events:
            self._wake()


def _stop(conn: sa.Connection, turn: Turn, by: str, live: frozenset[Channel]) -> list[Event] | None:
    """Stop a turn nobody has begun, with its last event; None when its holder must do it."""
    at = datetime.now(UTC)
    if not turns.stop_queued(conn, turn.id, by=by, at=at):
        turns.request_stop(conn, turn.id, by=by, at=at)
        return None
    if turn.occurrence is not None:
        occurrences.finish(conn, turn.occurrence, failed="stopped", at=at)
    ending = Ending(TurnState.STOPPED, None, turn.usage, turn.processing)
    appended = events.append(conn, {turn.session: [finished(turn.id, ending)]}, at=at)
    # People see the stop where they asked for it; programs are owed the result.
    programs = [address for address in turn.answer_to if address.channel not in live]
    deliveries.insert(conn, answers(turn, programs), at=at)
    return appended[turn.session]


def _replace_session(conn: sa.Connection, new: NewSession) -> None:
    assert new.key is not None
    sessions.release_key(conn, new.key)
    sessions.insert(conn, [new], at=datetime.now(UTC), last_event=0)


def _status(conn: sa.Connection, key: str) -> SessionStatus | None:
    session = sessions.by_key(conn, key)
    if session is None:
        return None
    voice = sessions.voices_of(conn, session.id)[0]
    active = turns.active(conn, session.id)
    processing, usage = turns.spent(conn, session.id)
    return SessionStatus(
        session=session.id,
        title=session.title,
        agent=voice.agent,
        provider=voice.provider,
        model=voice.model,
        state=active[0].state if active else None,
        queued=sum(turn.state is TurnState.QUEUED for turn in active),
        created_at=session.created_at,
        processing=processing,
        usage=usage,
        undelivered=deliveries.undelivered(conn, session.id),
    )


def _summaries(conn: sa.Connection, home: Address, limit: int) -> list[SessionSummary]:
    return [
        SessionSummary(
            session=one.id,
            title=one.title,
            agent=one.agent,
            active_at=one.active_at,
            current=one.key is not None,
            sticky=one.sticky,
        )
        for one in sessions.newest(conn, limit=limit, home=home)
    ]
