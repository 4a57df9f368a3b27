"""How a group of new rings becomes sessions, messages, turns and answers, in one transaction.

Rows are locked in one order everywhere: turns, then sessions, then what belongs to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from service.core.access import may_answer, may_interrupt
from service.core.disposition import Schema
from service.core.model import (
    Accepted,
    Address,
    Attachment,
    Busy,
    Channel,
    Event,
    Message,
    NewEvent,
    ProjectId,
    Question,
    QuestionId,
    QuestionKind,
    Refusal,
    RefusalReason,
    Ring,
    Role,
    SessionId,
    Turn,
    TurnId,
    TurnKind,
)
from service.core.states import OccurrenceState, QuestionState, TurnState
from service.core.text import clean, numbered, title_of
from service.engine import mirror
from service.engine import questions as asking
from service.engine.endings import message_added
from service.engine.investigations import unready
from service.engine.steering import interrupted
from service.store import (
    attachments,
    audit,
    deliveries,
    inbox,
    investigations,
    memory,
    occurrences,
    projects,
    questions,
    sessions,
    turns,
)
from service.store import feed as events
from service.store.deliveries import NewDelivery
from service.store.ids import new_id
from service.store.inbox import Received
from service.store.investigations import Investigation
from service.store.sessions import NewSession, Session
from service.store.sql import insert_many
from service.store.tables import messages as messages_table
from service.store.tables import turns as turns_table

_NO_SESSION = Refusal(RefusalReason.UNKNOWN, "there is no such session")
_ARCHIVED = Refusal(RefusalReason.ARCHIVED, "the session is archived; restore it first")
_QUEUE_FULL = Refusal(RefusalReason.QUEUE_FULL, "too many messages of this session wait already")
STARTED = Refusal(RefusalReason.FORBIDDEN, "the session has started already")
# message.added and turn.queued
_EVENTS_PER_MESSAGE = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to one ring, and what its followers are to be told."""

    outcome: Accepted | Refusal
    events: Sequence[Event] = ()


def accept(
    conn: sa.Connection,
    new: Sequence[tuple[Ring, Received]],
    *,
    queue_limit: int,
    at: datetime,
) -> dict[inbox.Key, Stored]:
    """Store what new rings ask for, in their order; the answer to each by its inbox key.

    1. Turns that a ring may touch (an answer, an interruption) are locked.
    2. Sessions are found by key and locked, or made.
    3. Numbers, messages, turns and events follow.
    """
    if not new:
        return {}
    rings = [ring for ring, _ in new]
    begun = _lock_begun(conn, rings)
    places = _places(conn, rings, at=at)
    group = _Group(conn, _room(conn, places, queue_limit), begun, at)
    answers = {
        received.key: group.take(ring, received, place)
        for (ring, received), place in zip(new, places, strict=True)
    }
    group.store(places)
    return answers


# -- sessions -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Place:
    """A session that rings of this group go to, and the newest number it has given out."""

    session: SessionId
    newest: int
    is_new: bool
    owner: str
    busy: Busy
    untitled: bool = False
    question: QuestionId | None = None
    home: Address | None = None
    """The chat that reads along."""
    project: ProjectId | None = None
    fresh: bool = False
    """Whether nothing was said in it yet."""


def _lock_begun(conn: sa.Connection, rings: Sequence[Ring]) -> Mapping[SessionId, Turn]:
    """Lock the turns that people's messages may answer or interrupt, before any session.

    Costs nothing for the rings of programs, which can do neither.
    """
    people = [ring for ring in rings if ring.role is Role.USER and not _goes_alone(ring)]
    if not people:
        return {}
    touched = sessions.touchable(
        conn,
        keys={ring.session_key for ring in people if ring.session is None and ring.session_key},
        ids={ring.session for ring in people if ring.session is not None},
        interrupting=any(ring.busy is Busy.INTERRUPT for ring in people),
    )
    return turns.lock_begun(conn, touched) if touched else {}


def _places(conn: sa.Connection, rings: Sequence[Ring], *, at: datetime) -> list[_Place | Refusal]:
    """Find or make the session of each ring, in the order of the rings; lock those found."""
    by_id = _existing(conn, {ring.session for ring in rings if ring.session is not None})
    by_key = _by_key(conn, [ring for ring in rings if _goes_by_key(ring)], at=at)
    alone = [_new_session(ring) for ring in rings if _goes_alone(ring)]
    sessions.insert(conn, alone, at=at, last_event=_EVENTS_PER_MESSAGE)
    _investigate(conn, alone, [ring for ring in rings if _goes_alone(ring)])
    fresh = iter(alone)
    places: list[_Place | Refusal] = []
    for ring in rings:
        if ring.session is not None:
            places.append(by_id.get(ring.session, _NO_SESSION))
        elif ring.session_key is not None:
            places.append(by_key[ring.session_key])
        elif _goes_alone(ring):
            one = next(fresh)
            places.append(_Place(one.id, 0, is_new=True, owner=one.owner, busy=one.busy))
        else:
            places.append(_NO_SESSION)
    return places


def _goes_by_key(ring: Ring) -> bool:
    return ring.session is None and ring.session_key is not None


def _goes_alone(ring: Ring) -> bool:
    # Without words there is nothing to begin a session of its own with.
    nowhere = ring.session is None and ring.session_key is None
    return nowhere and ring.kind is TurnKind.MESSAGE


def _existing(conn: sa.Connection, ids: set[SessionId]) -> dict[SessionId, _Place | Refusal]:
    if not ids:
        return {}
    return {
        session: _ARCHIVED if one.archived else _place(one)
        for session, one in sessions.lock_ids(conn, ids).items()
    }


def _by_key(conn: sa.Connection, rings: Sequence[Ring], *, at: datetime) -> dict[str, _Place]:
    first = {ring.session_key: ring for ring in reversed(rings) if ring.session_key is not None}
    if not first:
        return {}
    places = _locked(conn, first)
    missing = {key: _new_session(ring) for key, ring in first.items() if key not in places}
    if missing:
        made = sessions.insert(conn, list(missing.values()), at=at, last_event=0)
        new = {key: one for key, one in missing.items() if one.id in made}
        _investigate(conn, list(new.values()), [first[key] for key in new])
        # Also finds a session that another replica made in the meantime.
        places.update(_locked(conn, missing))
    return places


def _investigate(conn: sa.Connection, new: Sequence[NewSession], rings: Sequence[Ring]) -> None:
    """Store what new sessions are to come to, whose rings say so."""
    for one, ring in zip(new, rings, strict=True):
        if ring.schema is not None:
            schema = Schema.parse(ring.schema)
            investigations.insert(conn, Investigation(one.id, schema=schema))


def _locked(conn: sa.Connection, keys: Iterable[str]) -> dict[str, _Place]:
    return {key: _place(one) for key, one in sessions.lock_keys(conn, keys).items()}


def _place(one: Session) -> _Place:
    return _Place(
        one.id,
        one.last_event,
        is_new=False,
        owner=one.owner,
        busy=one.busy,
        untitled=one.title is None,
        question=one.question,
        home=mirror.home_of(one),
        project=one.project,
        fresh=one.last_message == 0,
    )


def _new_session(ring: Ring) -> NewSession:
    return NewSession(
        id=SessionId(new_id()),
        binding=ring.binding,
        owner=ring.owner or ring.author,
        source=ring.session_source,
        origin=ring.channel,
        key=ring.session_key,
        title=title_of(ring.title or ring.text),
        home=ring.home,
        sticky=ring.sticky,
        busy=ring.binding.busy,
        cast=ring.cast,
        task=ring.source if ring.channel is Channel.CRON else None,
        investigated=ring.schema is not None,
        scan=ring.scan,
    )


def _room(
    conn: sa.Connection, places: Sequence[_Place | Refusal], limit: int
) -> dict[SessionId, int]:
    """How many more turns each session that existed before may queue."""
    found = [place for place in places if isinstance(place, _Place)]
    old = list({place.session for place in found if not place.is_new and place.newest})
    waiting = turns.queued_counts(conn, old)
    return {session: limit - waiting.get(session, 0) for session in old}


# -- turns and answers ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Group:
    """The rows of one group of rings, written together at the end."""

    conn: sa.Connection
    room: dict[SessionId, int]
    begun: Mapping[SessionId, Turn]
    at: datetime
    message_rows: list[dict[str, object]] = field(default_factory=list)
    turn_rows: list[dict[str, object]] = field(default_factory=list)
    numbered: dict[SessionId, list[Event]] = field(default_factory=dict)
    titles: dict[SessionId, str] = field(default_factory=dict)
    notices: list[NewDelivery] = field(default_factory=list)

    def take(self, ring: Ring, received: Received, place: _Place | Refusal) -> Stored:
        """Turn one ring into an answer, a turn or a refusal."""
        if isinstance(place, Refusal):
            return Stored(place)
        question = self._question_for(ring, place)
        if question is not None:
            return self._answer(ring, received, place, question)
        if (refusal := self._held_back(ring, place)) is not None:
            return Stored(refusal)
        if self.room.get(place.session, 1) <= 0:
            return Stored(_QUEUE_FULL)
        if place.session in self.room:
            self.room[place.session] -= 1
        return self._queue(ring, received, place)

    def store(self, places: Sequence[_Place | Refusal]) -> None:
        """Write everything that was taken."""
        insert_many(self.conn, turns_table, self.turn_rows)
        insert_many(self.conn, messages_table, self.message_rows)
        events.store(self.conn, self.numbered)
        old = [place for place in places if isinstance(place, _Place) and not place.is_new]
        events.advance(
            self.conn,
            {place.session: self.numbered.get(place.session, ()) for place in old},
            at=self.at,
        )
        sessions.give_titles(self.conn, self.titles)
        deliveries.insert(self.conn, self.notices, at=self.at)

    def _held_back(self, ring: Ring, place: _Place) -> Refusal | None:
        """Why a session cannot begin with this, or not any more."""
        if not place.fresh:
            return STARTED if ring.starts else None
        # What is in no project depends on nothing.
        reason = unready(self.conn, place.session) if place.project is not None else None
        return None if reason is None else Refusal(RefusalReason.NOT_READY, reason)

    def _queue(self, ring: Ring, received: Received, place: _Place) -> Stored:
        turn = received.turn
        assert turn is not None
        place.fresh = False
        busy, before = self._busy(ring, place)
        before += self._end_rounds(ring, place)
        mine = self._number(place, before) if before else []
        if ring.before:
            mine += self._bring(ring, place)
        first = place.newest + 1
        text = clean(ring.text)
        new = []
        if ring.kind is TurnKind.MESSAGE:
            files = self._attach(ring, place, first)
            self._say(ring, turn, place.session, first, first + 1, text)
            new.append(_message_added(ring, turn, first, text, files))
        new.append(_turn_queued(ring, turn))
        mine += self._number(place, new)
        answer_to = self._mirror(ring, place)
        self.turn_rows.append(
            _turn_row(ring, turn, place.session, place.newest, busy, answer_to, self.at)
        )
        if place.untitled and (title := title_of(ring.title or ring.text)):
            self.titles.setdefault(place.session, self._untaken(title, place))
        if ring.knobs:
            memory.write(self.conn, place.session, "knob", ring.knobs, at=self.at)
        if ring.occurrence is not None:
            occurrences.move(
                self.conn,
                ring.occurrence,
                old=OccurrenceState.DUE,
                new=OccurrenceState.QUEUED,
                turn_id=turn,
                session_id=place.session,
            )
        return Stored(Accepted(turn, place.session, first), mine)

    def _bring(self, ring: Ring, place: _Place) -> list[Event]:
        """Put what was said before the message into the conversation, with events about it."""
        voice = sessions.voices_of(self.conn, place.session)[0]
        lines = [
            Message(
                number=number,
                role=line.role,
                author=voice.name if line.role is Role.VOICE else ring.author,
                text=clean(line.text),
                status="complete",
                at=self.at,
                voice=voice.id if line.role is Role.VOICE else None,
            )
            for number, line in enumerate(ring.before, place.newest + 1)
        ]
        for one in lines:
            # Of no turn: nobody is to answer it, and it is nobody's answer.
            sessions.add_message(self.conn, place.session, one, turn_number=one.number)
        return self._number(place, [message_added(one) for one in lines])

    def _untaken(self, title: str, place: _Place) -> str:
        """A title that no other session of the project has."""
        if place.project is None or place.session in self.titles:
            return title
        return numbered(title, [*projects.titles(self.conn, place.project), *self.titles.values()])

    def _mirror(self, ring: Ring, place: _Place) -> Sequence[Address]:
        """Show the chat of the session what was said elsewhere; where the answer goes."""
        if place.home is None or not mirror.mirrored(ring):
            return ring.answer_to
        self.notices.append(mirror.notice(place.session, place.home, ring))
        return tuple(dict.fromkeys((*ring.answer_to, place.home)))

    def _busy(self, ring: Ring, place: _Place) -> tuple[Busy, list[NewEvent]]:
        """What the message does to a turn that runs already, and the events of that."""
        busy = ring.busy or place.busy
        if ring.before and busy is Busy.STEER:
            # A turn that runs has its conversation; more of it would come too late.
            return Busy.QUEUE, []
        if busy is not Busy.INTERRUPT or ring.kind is not TurnKind.MESSAGE:
            return busy, []
        turn = self.begun.get(place.session)
        operator = ring.admin or (ring.operator and place.project is None)
        allowed = may_interrupt(ring.author, owner=place.owner, operator=operator)
        if turn is None:
            return busy, []
        audit.note(
            self.conn,
            ring.author,
            "interrupt",
            session=place.session,
            allowed=allowed,
            at=self.at,
            turn=turn.id,
        )
        if not allowed:
            return Busy.QUEUE, []
        place.question = None
        return busy, interrupted(self.conn, turn, by=ring.author, at=self.at)

    def _end_rounds(self, ring: Ring, place: _Place) -> list[NewEvent]:
        """Withdraw the question for another round: voices do not go on over a new message."""
        spoken = ring.role is Role.USER and ring.kind is TurnKind.MESSAGE
        if place.question is None or place.session not in self.begun or not spoken:
            return []
        question = questions.get(self.conn, place.question)
        if question is None or not asking.is_about_rounds(question):
            return []
        place.question = None
        closed = asking.close(
            self.conn, question, state=QuestionState.CANCELLED, by=ring.author, at=self.at
        )
        return [] if closed is None else [closed]

    def _attach(self, ring: Ring, place: _Place, number: int) -> list[Attachment]:
        if not ring.attachments:
            return []
        return attachments.insert(self.conn, place.session, number, ring.attachments, at=self.at)

    # -- answers -----------------------------------------------------------------------------

    def _question_for(self, ring: Ring, place: _Place) -> Question | None:
        """The open question that this message answers."""
        said = ring.role is Role.USER and ring.kind is TurnKind.MESSAGE and ring.text.strip()
        if place.question is None or place.session not in self.begun or not said:
            return None
        if ring.busy is Busy.INTERRUPT or ring.starts or ring.before:
            return None
        question = questions.get(self.conn, place.question)
        if question is None or not may_answer(
            ring.author, asked_of=question.asked_of, operator=ring.operator
        ):
            return None
        # What was too long to be shown in the chat cannot be agreed to there.
        in_chat = ring.channel is Channel.TELEGRAM and question.kind is QuestionKind.APPROVAL
        unseen = in_chat and not asking.fits(question)
        return question if not unseen and asking.is_answer(question, ring.text) else None

    def _answer(self, ring: Ring, received: Received, place: _Place, question: Question) -> Stored:
        """Let a message answer a question: it is said, and the turn that asked goes on."""
        text = clean(ring.text)
        turn = self.begun[place.session]
        closed = asking.close(
            self.conn,
            question,
            state=QuestionState.ANSWERED,
            answer=text,
            by=ring.author,
            at=self.at,
        )
        assert closed is not None, "the turn is locked and the question was open"
        asking.note_decision(self.conn, question, text, by=ring.author, allowed=True, at=self.at)
        left = questions.open_of_turn(self.conn, turn.id)
        place.question = left[0].id if left else None
        inbox.attribute(self.conn, received.key, turn.id)
        first = place.newest + 1
        self._say(ring, turn.id, place.session, first, turn.number, text)
        files = self._attach(ring, place, first)
        mine = self._number(place, [_message_added(ring, turn.id, first, text, files), closed])
        if ring.knobs:
            memory.write(self.conn, place.session, "knob", ring.knobs, at=self.at)
        if mirror.mirrored(ring) and place.home in turn.answer_to:
            self.notices.append(
                mirror.answer_notice(place.session, place.home, text, ring.attachments)
            )
        return Stored(Accepted(turn.id, place.session, first, answered=True), mine)

    # -- rows --------------------------------------------------------------------------------

    def _say(
        self, ring: Ring, turn: TurnId, session: SessionId, number: int, of: int, text: str
    ) -> None:
        self.message_rows.append(
            {
                "session_id": session,
                "number": number,
                "turn_number": of,
                "turn_id": turn,
                "role": ring.role.value,
                "author": ring.author,
                "text": text,
                "status": "complete",
                "created_at": self.at,
            }
        )

    def _number(self, place: _Place, new: Sequence[NewEvent]) -> list[Event]:
        mine = events.number(new, place.newest, self.at)
        place.newest += len(mine)
        self.numbered.setdefault(place.session, []).extend(mine)
        return mine


def _turn_row(
    ring: Ring,
    turn: TurnId,
    session: SessionId,
    number: int,
    busy: Busy,
    answer_to: Sequence[Address],
    at: datetime,
) -> dict[str, object]:
    return {
        "id": turn,
        "session_id": session,
        "number": number,
        "state": TurnState.QUEUED.value,
        "kind": ring.kind.value,
        "origin": ring.origin.value,
        "busy": busy.value,
        "voices": None if ring.target is None else [ring.target],
        "directed": ring.target is not None,
        "channel": ring.channel.value,
        "trigger_name": ring.source,
        "author": ring.author,
        "answer_to": _addresses(answer_to),
        "occurrence_id": ring.occurrence,
        "attempt": 0,
        "epoch": 0,
        "due_at": at,
        "processing_ms": 0,
        "created_at": at,
    }


def _addresses(addresses: Sequence[Address]) -> list[list[str]]:
    return [[address.channel.value, address.spot] for address in addresses]


def _message_added(
    ring: Ring, turn: TurnId, number: int, text: str, files: Sequence[Attachment]
) -> NewEvent:
    message: dict[str, object] = {
        "number": number,
        "role": ring.role.value,
        "author": ring.author,
        "text": text,
        "status": "complete",
    }
    if files:
        message["attachments"] = [
            {
                "attachment": one.id,
                "name": one.name,
                "media_type": one.media_type,
                "size": one.size,
            }
            for one in files
        ]
    return NewEvent("message.added", message, turn)


def _turn_queued(ring: Ring, turn: TurnId) -> NewEvent:
    if ring.kind is TurnKind.MESSAGE:
        return NewEvent("turn.queued", {"turn": turn}, turn)
    return NewEvent("turn.queued", {"turn": turn, "kind": ring.kind.value}, turn)
