"""The commands of people: stored once, carried out in one transaction, told afterwards."""

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
    Question,
    QuestionId,
    SessionId,
    Source,
    Turn,
    TurnId,
    Usage,
)
from service.core.states import InboxState, TurnState
from service.core.text import clean
from service.engine import memory, steering
from service.engine.feed import Feed
from service.engine.memory import Memory
from service.engine.metrics import Metrics
from service.engine.steering import Answering, Interrupting
from service.ports import Agents
from service.store import deliveries, inbox, questions, sessions, turns
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
    owner: str
    summary: bool
    """Whether what was before is told the model as a summary."""
    questions: int
    """How many questions wait for an answer."""


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

    def __init__(
        self,
        transaction: Transaction,
        agents: Agents,
        live: frozenset[Channel],
        after: _After,
    ) -> None:
        self._transaction = transaction
        self._agents = agents
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

    # -- interruptions and answers -----------------------------------------------------------

    async def interrupt(
        self, session: SessionId, *, by: str, operator: bool = False
    ) -> Interrupting:
        """Have what runs in a session pause at its next boundary and ask how to go on.

        Every attempt is written down, also one that is refused.
        """
        outcome, appended = await self._transaction.run(steering.interrupt, session, by, operator)
        self._tell(session, appended)
        return outcome

    async def question(self, question: QuestionId) -> Question | None:
        """One question, whatever became of it."""
        return await self._transaction.run(questions.get, question)

    async def questions(self, session: SessionId) -> Sequence[Question]:
        """The open questions of a session, oldest first."""
        return await self._transaction.run(questions.open_of_session, session)

    async def answer(
        self,
        question: QuestionId,
        text: str,
        *,
        by: str,
        operator: bool = False,
        home: Address | None = None,
    ) -> Answering:
        """Answer a question, once; its turn goes on. With `home` only if it was asked there."""
        found = await self._transaction.run(questions.get, question)
        if found is None:
            return Answering.UNKNOWN
        outcome, appended = await self._transaction.run(
            steering.answer, found, clean(text), by, operator, home
        )
        self._tell(found.session, appended)
        return outcome

    # -- memory ------------------------------------------------------------------------------

    async def session_of(self, *, key: str) -> SessionId | None:
        """The session that has this key now."""
        found = await self._transaction.run(sessions.by_key, key)
        return None if found is None else found.id

    async def clear(self, session: SessionId, *, by: str) -> None:
        """Let what the model is told begin anew; everything that was said is kept."""
        appended = await self._transaction.run(memory.clear, session, by)
        self._tell(session, appended)

    async def memory(self, session: SessionId) -> Memory | None:
        """What a session remembers; None when there is no such session."""
        return await self._transaction.run(memory.read, self._agents, session)

    async def set_knob(self, session: SessionId, name: str, value: object) -> object:
        """Turn a knob; return the value as it is kept. Raises BadInput with what it takes."""
        kept, appended = await self._transaction.run(
            memory.set_knob, self._agents, session, name, value
        )
        self._tell(session, appended)
        return kept

    async def set_state(self, session: SessionId, name: str, value: object | None) -> None:
        """Set a value of the session's state; None removes it. Raises BadInput."""
        appended = await self._transaction.run(memory.set_state, session, name, value)
        self._tell(session, appended)

    def _tell(self, session: SessionId, appended: Sequence[Event]) -> None:
        if appended:
            self._after.events.setdefault(session, []).extend(appended)

    async def _stop(self, active: Sequence[Turn], by: str) -> int:
        for turn in active:
            appended = await self._transaction.run(steering.stop, turn, by, self._live)
            if appended:
                self._tell(turn.session, appended)
                self._after.deliveries = True
            else:
                self._after.stopping.append(turn.id)
        return len(active)


class Controls:
    """Runs commands and tells the rest of the engine afterwards.

    `stopping` is called for running turns, wherever they run; `wake` when there are turns or
    deliveries to look for.
    """

    def __init__(
        self,
        database: Database,
        feed: Feed,
        agents: Agents,
        metrics: Metrics,
        *,
        live: frozenset[Channel],
        stopping: Callable[[TurnId], object],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents
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
            yield Command(transaction, self._agents, self._live, after) if new else None
        outcome = "command" if new else "duplicate"
        self._metrics.rings.labels(channel.value, outcome).inc()
        self._tell(after)

    @asynccontextmanager
    async def steps(self) -> AsyncGenerator[Command]:
        """One transaction for what an operator does; doing it again does no harm."""
        after = _After()
        async with self._database.transaction() as transaction:
            yield Command(transaction, self._agents, self._live, after)
        self._tell(after)

    def _tell(self, after: _After) -> None:
        for turn in after.stopping:
            self._stopping(turn)
        self._feed.announce(after.events)
        if after.deliveries or after.events:
            self._wake()


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
        owner=session.owner,
        summary=session.summary is not None,
        questions=len(questions.open_of_session(conn, session.id)),
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
