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
    Cast,
    Channel,
    Event,
    NewVoice,
    ProjectId,
    Question,
    QuestionId,
    SessionId,
    Source,
    Turn,
    TurnId,
    Usage,
    Voice,
    VoiceId,
)
from service.core.rounds import Mode
from service.core.states import InboxState, ReplyState, TurnState
from service.core.text import clean
from service.engine import investigations, keeping, memory, overview, scans, steering, voicing
from service.engine.feed import Feed
from service.engine.keeping import Kept, NotKept
from service.engine.memory import Memory
from service.engine.metrics import Metrics
from service.engine.overview import ProjectContents, ProjectSummary, Results
from service.engine.steering import Answering, Interrupting
from service.engine.voicing import SetUp
from service.ports import Agents
from service.store import deliveries, inbox, lists, questions, replies, sessions, tasks, turns
from service.store.database import Database, Transaction
from service.store.deliveries import NewDelivery
from service.store.ids import new_id
from service.store.inbox import Received
from service.store.lists import View
from service.store.sessions import NewSession, Session

_DELETED_AT_ONCE = 500


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


@dataclass(frozen=True, slots=True)
class VoiceStatus:
    """How a voice is, for people."""

    voice: Voice
    state: ReplyState | None
    """Of what it said last; None when it has said nothing."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Company:
    """Who speaks in a session, and to whom its messages go."""

    mode: Mode
    target: VoiceId | None
    """Who is picked to answer in conductor mode."""
    voices: Sequence[VoiceStatus]

    def called(self, name: str) -> Voice | None:
        """The voice with this name, in small or capital letters, with or without an @."""
        wanted = name.strip().removeprefix("@").casefold()
        found = (one.voice for one in self.voices if one.voice.name.casefold() == wanted)
        return next(found, None)


@dataclass(slots=True)
class _After:
    """What has to be told once the transaction is committed."""

    events: dict[SessionId, list[Event]] = field(default_factory=dict)
    stopping: list[TurnId] = field(default_factory=list)
    stopping_voices: list[tuple[TurnId, VoiceId]] = field(default_factory=list)
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
        cast: Cast | None = None,
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
            busy=binding.busy,
            cast=cast,
        )
        await self._transaction.run(_replace_session, new)
        return new.id

    async def move(self, old: Address, new: Address, *, key: str, new_key: str) -> None:
        """Let everything that lives at an address live at another one, where nobody is yet.

        The session with `key` has `new_key` from then on; one that has that already keeps it.
        What is on its way is sent after by the channel.
        """
        await self._transaction.run(sessions.move, old, new, key=key, new_key=new_key)
        await self._transaction.run(tasks.readdress, old, new)

    async def stop(self, *, key: str, by: str) -> int:
        """Stop what runs and what waits in the session with this key; how many turns that is."""
        session = await self._transaction.run(sessions.by_key, key)
        return 0 if session is None else await self.stop_session(session.id, by=by)

    async def stop_session(self, session: SessionId, *, by: str) -> int:
        """Stop what runs and what waits in a session; how many turns that is."""
        active = await self._transaction.run(turns.active, session)
        for one in active[:1]:
            for part in await self._transaction.run(scans.active_in, one.id):
                # Nothing new is begun for a scan that is over, so its parts are stopped first.
                await self._stop(await self._transaction.run(turns.active, part), by)
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

    async def sessions(
        self, *, home: Address, limit: int = 10, view: View = View.ACTIVE
    ) -> Sequence[SessionSummary]:
        """The sessions of an address, the most recently active first.

        Scheduled ones are those of tasks that said something there.
        """
        return await self._transaction.run(_summaries, home, limit, view)

    # -- voices ------------------------------------------------------------------------------

    async def company(self, session: SessionId) -> Company | None:
        """Who speaks in a session; None when there is no such session."""
        return await self._transaction.run(_company, session)

    async def stop_voice(self, session: SessionId, voice: VoiceId, *, by: str) -> bool:
        """Stop one voice of what runs in a session; False when it does not speak."""
        turn = await self._transaction.run(steering.stop_voice, session, voice, by)
        if turn is not None:
            self._after.stopping_voices.append((turn, voice))
        return turn is not None

    async def set_voice(
        self,
        session: SessionId,
        voice: VoiceId,
        *,
        active: bool | None = None,
        rounds: int | None = None,
    ) -> bool:
        """Let a voice rest or speak, or set its further rounds; False when it is none of these."""
        appended = await self._transaction.run(
            voicing.set_voice, session, voice, active=active, rounds=rounds
        )
        self._tell(session, appended or ())
        return appended is not None

    async def add_voice(self, session: SessionId, new: NewVoice, *, by: str) -> VoiceId | None:
        """Let a further voice take part from now on; None when there is no such session."""
        voice, appended = await self._transaction.run(voicing.add_voice, session, new, by)
        self._tell(session, appended)
        return voice

    async def set_up(self, session: SessionId, changes: SetUp, *, by: str) -> None:
        """Change how a session takes messages: mode, continuation, busy, the picked voice."""
        appended = await self._transaction.run(voicing.set_up, session, changes, by)
        self._tell(session, appended)

    # -- keeping -----------------------------------------------------------------------------

    async def rename(self, session: SessionId, title: str, *, by: str) -> NotKept | None:
        """Give a session a title that nothing but another renaming changes."""
        kept = await self._transaction.run(keeping.rename, session, clean(title), by)
        return self._kept(session, kept)

    async def pin(self, session: SessionId, *, sticky: bool, by: str) -> NotKept | None:
        """Pin a session, or let go of it."""
        kept = await self._transaction.run(keeping.pin, session, by, sticky=sticky)
        return self._kept(session, kept)

    async def archive(
        self, session: SessionId, *, by: str, owner_only: bool = False
    ) -> NotKept | None:
        """Put a session away: it can be read, and nothing else."""
        kept = await self._transaction.run(keeping.archive, session, by, owner_only=owner_only)
        return self._kept(session, kept)

    async def restore(self, session: SessionId, *, by: str) -> NotKept | None:
        """Bring a session back from the archive."""
        return self._kept(session, await self._transaction.run(keeping.restore, session, by))

    async def take_up(self, session: SessionId, *, key: str, by: str) -> NotKept | None:
        """Bring a session back from the archive as the one that has `key` from now on.

        The one that had it meanwhile keeps its history.
        """
        refused = await self.restore(session, by=by)
        if refused is None:
            await self._transaction.run(_give_key, session, key)
        return refused

    async def switch(self, session: SessionId, *, key: str, home: Address) -> Session | None:
        """Let one of the sessions of an address have `key` from now on; None when it may not.

        The one that had it keeps its history. A session that is archived, or has a key, may not.
        """
        found = await self._transaction.run(sessions.get, session)
        if found is None or found.home != home or found.archived or found.key is not None:
            return None
        await self._transaction.run(_give_key, session, key)
        # No event tells of it, but lists.
        self._after.events.setdefault(session, [])
        return found

    async def read(self, session: SessionId) -> NotKept | None:
        """Note that somebody has looked at everything there is in a session."""
        return self._kept(session, await self._transaction.run(keeping.read, session))

    async def delete(
        self, session: SessionId, *, by: str, dependants: bool = False
    ) -> NotKept | None:
        """Delete a session and all it holds for good; with `dependants` also if others need it."""
        kept = await self._transaction.run(keeping.delete, session, by, dependants=dependants)
        return self._kept(session, kept)

    def _kept(self, session: SessionId, kept: Kept) -> NotKept | None:
        if kept.refused is None:
            # Lists are told also of what is no event.
            self._after.events.setdefault(session, []).extend(kept.events)
            self._after.stopping.extend(kept.stopping)
        return kept.refused

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

    # -- investigations ----------------------------------------------------------------------

    async def projects(self, *, reader: str) -> Sequence[ProjectSummary]:
        """The projects that somebody may see, the most recently active first."""
        return await self._transaction.run(overview.projects_of, reader)

    async def project(self, project: ProjectId, *, reader: str) -> ProjectContents | None:
        """A project with its sessions; None when there is none that `reader` may see."""
        return await self._transaction.run(overview.contents_of, self._agents, project, reader)

    async def may_see(self, session: SessionId, *, reader: str) -> bool:
        """Whether somebody may see what a session found out."""
        return await self._transaction.run(overview.may_see, session, reader)

    async def results(self, session: SessionId, *, skip: int = 0, limit: int) -> Results:
        """`limit` of a session's key results after the first `skip`, with their data."""
        return await self._transaction.run(overview.results_of, session, skip=skip, limit=limit)

    async def investigation(self, session: SessionId) -> investigations.View | None:
        """What a session is to come to and came to; None when there is no such session."""
        return await self._transaction.run(investigations.view_of, self._agents, session)

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

    `stopping` is called for running turns, and `stopping_voice` for single voices of them,
    wherever they run; `wake` when there are turns or deliveries to look for.
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
        stopping_voice: Callable[[TurnId, VoiceId], object],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents
        self._metrics = metrics
        self._live = live
        self._stopping = stopping
        self._stopping_voice = stopping_voice
        self._wake = wake

    @asynccontextmanager
    async def command(
        self,
        *,
        channel: Channel,
        source: str,
        event_key: str,
        body: bytes,
        reason: str | None = None,
    ) -> AsyncGenerator[Command | None]:
        """One transaction for a command from outside; None when its event key was handled before.

        `reason` is kept with it, when there is something to tell operators.
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
            reason=clean(reason) if reason else None,
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

    async def delete(
        self, session: SessionId, *, by: str, dependants: bool = False
    ) -> NotKept | None:
        """Delete a session and all it holds for good; with `dependants` also if others need it.

        What was said in a long one goes first and in steps, between which others can write: when
        the process dies meanwhile, the rest is still there to be deleted.
        """
        if not dependants and await self._database.read(keeping.is_needed, session):
            return NotKept.NEEDED
        while await self._database.write(lists.thin, session, steps=_DELETED_AT_ONCE):
            pass
        async with self.steps() as command:
            return await command.delete(session, by=by, dependants=dependants)

    def _tell(self, after: _After) -> None:
        for turn in after.stopping:
            self._stopping(turn)
        for turn, voice in after.stopping_voices:
            self._stopping_voice(turn, voice)
        self._feed.announce(after.events)
        if after.deliveries or after.events:
            self._wake()


def _replace_session(conn: sa.Connection, new: NewSession) -> None:
    assert new.key is not None
    sessions.release_key(conn, new.key)
    sessions.insert(conn, [new], at=datetime.now(UTC), last_event=0)


def _give_key(conn: sa.Connection, session: SessionId, key: str) -> None:
    sessions.release_key(conn, key)
    lists.change(conn, session, key=key)


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


def _company(conn: sa.Connection, session: SessionId) -> Company | None:
    found = sessions.get(conn, session)
    if found is None:
        return None
    newest = replies.newest_of_voices(conn, session)
    voices = []
    for voice in sessions.voices_of(conn, session):
        said = newest.get(voice.id)
        state, error = (None, None) if said is None else (said.state, said.error)
        voices.append(VoiceStatus(voice, state, error))
    return Company(found.mode, found.target, voices)


def _summaries(conn: sa.Connection, home: Address, limit: int, view: View) -> list[SessionSummary]:
    if view is View.SCHEDULED:
        found = sessions.scheduled_at(conn, home, limit=limit)
    else:
        found = sessions.newest(conn, limit=limit, home=home, archived=view is View.ARCHIVED)
    return [
        SessionSummary(
            session=one.id,
            title=one.title,
            agent=one.agent,
            active_at=one.active_at,
            current=one.key is not None and one.home == home,
            sticky=one.sticky,
        )
        for one in found
    ]
