"""Sessions and their voices: found by key, made once, listed, bound for life."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import (
    Address,
    Binding,
    Busy,
    Cast,
    Channel,
    Message,
    NewVoice,
    ProjectId,
    QuestionId,
    Role,
    SessionId,
    Source,
    TurnId,
    Voice,
    VoiceId,
)
from service.core.rounds import Continuation, Mode
from service.store import attachments
from service.store.ids import new_id
from service.store.sql import insert_fresh, insert_many
from service.store.tables import deliveries, messages, sessions, voices


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session about to exist."""

    id: SessionId
    binding: Binding
    owner: str
    source: Source
    origin: Channel
    key: str | None = None
    title: str | None = None
    titled: bool = False
    """Whether a person chose the title."""
    home: Address | None = None
    sticky: bool = False
    busy: Busy = Busy.QUEUE
    cast: Cast | None = None
    """Its voices, when it has more than the one of its binding."""
    task: str | None = None
    project: ProjectId | None = None
    investigated: bool = False
    """Whether a row of investigations is stored with it."""
    scan: str | None = None
    """The template whose sessions it sees through."""


@dataclass(frozen=True, slots=True)
class Session:
    """A stored session."""

    id: SessionId
    key: str | None
    agent: str
    title: str | None
    source: Source
    origin: Channel
    owner: str
    sticky: bool
    archived: bool
    last_event: int
    created_at: datetime
    active_at: datetime
    busy: Busy = Busy.QUEUE
    context_from: int = 0
    """The model is told what came after the turn with this number."""
    summary: str | None = None
    """What the model is told of everything before."""
    question: QuestionId | None = None
    """The open question that the next message of its person answers."""
    mode: Mode = Mode.BROADCAST
    continuation: Continuation = Continuation.NONE
    composition: str | None = None
    task: str | None = None
    target: VoiceId | None = None
    """The voice that messages go to in conductor mode, until another one is picked."""
    titled: bool = False
    last_message: int = 0
    read_to: int = 0
    home: Address | None = None
    """The chat it lives in, or lived in before another session took its key."""
    project: ProjectId | None = None
    investigated: bool = False
    """Whether it is to come to something: there is a row of investigations."""
    scan: str | None = None
    """The template whose sessions it sees through."""


def home_text(home: Address) -> str:
    """How the address a session lives at is stored."""
    return f"{home.channel.value} {home.spot}"


def home_address(text: str | None) -> Address | None:
    """The address that is stored so."""
    if text is None:
        return None
    channel, _, spot = text.partition(" ")
    return Address(Channel(channel), spot)


def insert(
    conn: sa.Connection, new: Sequence[NewSession], *, at: datetime, last_event: int
) -> set[SessionId]:
    """Store sessions and their voices; return the ids of those whose key was free.

    A key somebody else took in the meantime makes no session and no error.
    """
    made = _insert_rows(conn, new, at=at, last_event=last_event)
    rows = [row for one in new if one.id in made for row in _voice_rows(one, at)]
    insert_many(conn, voices, rows)
    return made


def _insert_rows(
    conn: sa.Connection, new: Sequence[NewSession], *, at: datetime, last_event: int
) -> set[SessionId]:
    free = [one for one in new if one.key is None]
    keyed = sorted((one for one in new if one.key is not None), key=lambda one: str(one.key))
    insert_many(conn, sessions, [_session_row(one, at, last_event) for one in free])
    made = {one.id for one in free}
    if keyed:
        rows = [_session_row(one, at, last_event) for one in keyed]
        stored = insert_fresh(conn, sessions, rows, sessions.c.id)
        made.update(SessionId(id_) for (id_,) in stored)
    return made


def _session_row(one: NewSession, at: datetime, last_event: int) -> dict[str, object]:
    return {
        "id": one.id,
        "key": one.key,
        "agent": one.binding.agent,
        "title": one.title,
        "titled": one.titled,
        "source": one.source.value,
        "origin": one.origin.value,
        "owner": one.owner,
        "home": home_text(one.home) if one.home else None,
        "sticky": one.sticky,
        "busy": one.busy.value,
        "mode": (one.cast.mode if one.cast else Mode.BROADCAST).value,
        "continuation": (one.cast.continuation if one.cast else Continuation.NONE).value,
        "composition": one.cast.composition if one.cast else None,
        "task": one.task,
        "project_id": one.project,
        "investigated": one.investigated,
        "scan": one.scan,
        "last_event": last_event,
        # What a session begins with is a message and its turn.
        "last_message": 1 if last_event else 0,
        "created_at": at,
        "active_at": at,
    }


def _voice_rows(one: NewSession, at: datetime) -> list[dict[str, object]]:
    cast = one.cast.voices if one.cast else (NewVoice(one.binding.agent, one.binding),)
    return [_voice_row(one.id, position, voice, at) for position, voice in enumerate(cast)]


def _voice_row(
    session: SessionId, position: int, voice: NewVoice, at: datetime
) -> dict[str, object]:
    binding = voice.binding
    return {
        "id": new_id(),
        "session_id": session,
        "position": position,
        "name": voice.name,
        "agent": binding.agent,
        "provider": binding.provider,
        "model": binding.model,
        "prompt": binding.prompt,
        "tools": list(binding.tools),
        "rounds": voice.rounds,
        "active": True,
        "created_at": at,
    }


def add_voice(conn: sa.Connection, session: SessionId, voice: NewVoice, *, at: datetime) -> VoiceId:
    """Store a further voice of a session, after those it has."""
    last = conn.scalar(
        sa.select(sa.func.max(voices.c.position)).where(voices.c.session_id == session)
    )
    row = _voice_row(session, (last or 0) + 1, voice, at)
    insert_many(conn, voices, [row])
    return VoiceId(str(row["id"]))


def set_voice(
    conn: sa.Connection, voice: VoiceId, *, active: bool | None, rounds: int | None
) -> None:
    """Let a voice rest or speak again, or set how many further rounds it goes on for."""
    changed: dict[str, object] = {}
    if active is not None:
        changed["active"] = active
    if rounds is not None:
        changed["rounds"] = rounds
    if changed:
        conn.execute(voices.update().where(voices.c.id == voice).values(changed))


def steer(conn: sa.Connection, session: SessionId, **values: object) -> None:
    """Set mode, continuation, busy or target_id of a session whose row is locked."""
    conn.execute(sessions.update().where(sessions.c.id == session).values(**values))


def touchable(
    conn: sa.Connection, *, keys: set[str], ids: set[SessionId], interrupting: bool
) -> list[SessionId]:
    """Those sessions whose begun turn a message may answer or, if it wants to, interrupt."""
    which = sa.or_(sessions.c.key.in_(list(keys)), sessions.c.id.in_(list(ids)))
    query = sa.select(sessions.c.id).where(which)
    if not interrupting:
        query = query.where(
            sa.or_(sessions.c.question_id.is_not(None), sessions.c.busy == Busy.INTERRUPT.value)
        )
    return [SessionId(row.id) for row in conn.execute(query)]


def lock_keys(conn: sa.Connection, keys: Iterable[str]) -> dict[str, Session]:
    """Lock the sessions with these keys, in id order; return them by key."""
    found = _lock(conn, sessions.c.key.in_(list(keys)))
    return {one.key: one for one in found if one.key is not None}


def lock_ids(conn: sa.Connection, ids: Iterable[SessionId]) -> dict[SessionId, Session]:
    """Lock these sessions in id order; return those that exist."""
    return {one.id: one for one in _lock(conn, sessions.c.id.in_(list(ids)))}


def _lock(conn: sa.Connection, which: sa.ColumnElement[bool]) -> list[Session]:
    query = sa.select(sessions).where(which).order_by(sessions.c.id).with_for_update()
    return [of_row(row) for row in conn.execute(query)]


def give_titles(conn: sa.Connection, titles: Mapping[SessionId, str]) -> None:
    """Name sessions that have no title yet; what a person chose stays."""
    for session, title in titles.items():
        conn.execute(
            sessions.update()
            .where(
                sessions.c.id == session,
                sessions.c.title.is_(None),
                sessions.c.titled == sa.false(),
            )
            .values(title=title)
        )


def release_key(conn: sa.Connection, key: str) -> SessionId | None:
    """Take the key away from its session, which keeps its history; return that session."""
    row = conn.execute(
        sessions.update().where(sessions.c.key == key).values(key=None).returning(sessions.c.id)
    ).first()
    return SessionId(row.id) if row else None


def move(conn: sa.Connection, old: Address, new: Address, *, key: str, new_key: str) -> None:
    """Let the sessions of an address live at another one, and give `new_key` to who has `key`.

    Whoever has the new key already keeps it; then the other one stays as it is.
    """
    conn.execute(
        sessions.update().where(sessions.c.home == home_text(old)).values(home=home_text(new))
    )
    if by_key(conn, new_key) is None:
        conn.execute(sessions.update().where(sessions.c.key == key).values(key=new_key))


def by_key(conn: sa.Connection, key: str) -> Session | None:
    """The session that has this key now."""
    row = conn.execute(sa.select(sessions).where(sessions.c.key == key)).first()
    return of_row(row) if row else None


def get(conn: sa.Connection, session: SessionId) -> Session | None:
    """One session, or None when there is none."""
    row = conn.execute(sa.select(sessions).where(sessions.c.id == session)).first()
    return of_row(row) if row else None


def newest(
    conn: sa.Connection, *, home: Address, limit: int, archived: bool = False
) -> list[Session]:
    """Sessions of an address, the most recently active first.

    All that are archived; of the others in which nothing was said only the newest, as in lists.
    """
    kept = sessions.c.archived_at
    here = sa.and_(
        sessions.c.home == home_text(home), kept.is_not(None) if archived else kept.is_(None)
    )
    query = sa.select(sessions).where(here)
    if not archived:
        empty = sa.select(sa.func.max(sessions.c.id)).where(here, sessions.c.last_message == 0)
        begun = sa.or_(sessions.c.last_message > 0, sessions.c.id == empty.scalar_subquery())
        query = query.where(begun)
    query = query.order_by(sessions.c.active_at.desc(), sessions.c.id.desc()).limit(limit)
    return [of_row(row) for row in conn.execute(query)]


def scheduled_at(conn: sa.Connection, home: Address, *, limit: int) -> list[Session]:
    """Sessions of tasks that said something at this address, by task, the newest first."""
    said = sa.exists().where(
        deliveries.c.session_id == sessions.c.id,
        deliveries.c.channel == home.channel.value,
        deliveries.c.spot == home.spot,
    )
    query = (
        sa.select(sessions)
        .where(sessions.c.task.is_not(None), sessions.c.archived_at.is_(None), said)
        .order_by(sessions.c.task, sessions.c.id.desc())
        .limit(limit)
    )
    return [of_row(row) for row in conn.execute(query)]


def with_voices(conn: sa.Connection, session: SessionId) -> tuple[Session, list[Voice]]:
    """A session that exists, and its voices in their order."""
    found = find_with_voices(conn, session)
    assert found is not None
    return found


def find_with_voices(conn: sa.Connection, session: SessionId) -> tuple[Session, list[Voice]] | None:
    """A session and its voices in their order; None when there is none."""
    rows = conn.execute(
        sa.select(sessions, *_VOICE)
        .join(voices, voices.c.session_id == sessions.c.id)
        .where(sessions.c.id == session)
        .order_by(voices.c.position)
    ).all()
    return (of_row(rows[0]), [_voice(row) for row in rows]) if rows else None


def voices_of(conn: sa.Connection, session: SessionId) -> list[Voice]:
    """The voices of a session in their order."""
    rows = conn.execute(
        sa.select(*_VOICE).where(voices.c.session_id == session).order_by(voices.c.position)
    )
    return [_voice(row) for row in rows]


def first_voices(conn: sa.Connection, ids: Sequence[SessionId]) -> dict[SessionId, Voice]:
    """The voice that each of these sessions was bound with first."""
    query = sa.select(voices.c.session_id, *_VOICE).where(
        voices.c.session_id.in_(list(ids)), voices.c.position == 0
    )
    return {SessionId(row.session_id): _voice(row) for row in conn.execute(query)}


# A session's row has an id and an agent, too.
_VOICE = tuple(
    column.label(f"voice_{column.name}")
    for column in voices.c
    if column.name not in ("session_id", "position", "created_at")
)


def _voice(row: sa.Row[Any]) -> Voice:
    return Voice(
        VoiceId(row.voice_id),
        row.voice_name,
        row.voice_agent,
        row.voice_provider,
        row.voice_model,
        row.voice_prompt,
        tuple(row.voice_tools),
        row.voice_active,
        row.voice_rounds,
    )


# The first page holds most conversations; a longer one is read in larger steps.
_FIRST_PAGE, _LARGEST_PAGE = 40, 640


def conversation(
    conn: sa.Connection,
    session: SessionId,
    *,
    turn: int,
    after_turn: int = 0,
    characters: int,
) -> list[Message]:
    """The newest messages up to those the turn with number `turn` began with, oldest first.

    Messages stand with their turn: what arrived while a turn ran comes after its answer. What
    was said while `turn` itself ran is left out. Reads no further than to the message with which
    `characters` are exceeded, or to the turn with number `after_turn`.
    """
    found: list[Message] = []
    place: tuple[int, int] | None = None
    page = _FIRST_PAGE
    while True:
        query = _older(session, turn, after_turn, place).limit(page)
        rows = conn.execute(query).all()
        for row in rows:
            found.append(_message(row))
            characters -= len(row.text)
            if characters < 0:
                return with_files(conn, session, found[::-1])
        if len(rows) < page:
            return with_files(conn, session, found[::-1])
        place = (rows[-1].turn_number, rows[-1].number)
        page = min(page * 4, _LARGEST_PAGE)


def _older(
    session: SessionId, turn: int, after_turn: int, place: tuple[int, int] | None
) -> sa.Select[Any]:
    query = sa.select(messages).where(
        messages.c.session_id == session,
        messages.c.turn_number <= turn,
        messages.c.turn_number > after_turn,
        sa.or_(messages.c.turn_number < turn, messages.c.number < turn),
        messages.c.role != Role.SYSTEM.value,
    )
    if place is not None:
        earlier = sa.tuple_(messages.c.turn_number, messages.c.number)
        query = query.where(earlier < sa.tuple_(*place))
    return query.order_by(messages.c.turn_number.desc(), messages.c.number.desc())


def begin_context(
    conn: sa.Connection, session: SessionId, *, after_turn: int, summary: str | None
) -> None:
    """Let what the model is told begin after a turn, with a summary of what was before."""
    conn.execute(
        sessions.update()
        .where(sessions.c.id == session)
        .values(context_from=after_turn, summary=summary)
    )


def adopt_messages(
    conn: sa.Connection, session: SessionId, joined: Sequence[TurnId], *, turn_number: int
) -> list[Message]:
    """Let the messages of turns that joined another stand with that one; return them in order."""
    rows = conn.execute(
        messages.update()
        .where(messages.c.session_id == session, messages.c.turn_id.in_(list(joined)))
        .values(turn_number=turn_number)
        .returning(*messages.c)
    )
    return sorted((_message(row) for row in rows), key=_message_number)


def _message_number(message: Message) -> int:
    return message.number


def history(
    conn: sa.Connection, session: SessionId, *, after: int, limit: int, before: int | None = None
) -> list[Message]:
    """Messages in the order they were stored, after number `after`.

    With `before` those that come last of the ones before that number.
    """
    query = sa.select(messages).where(messages.c.session_id == session, messages.c.number > after)
    if before is None:
        rows = conn.execute(query.order_by(messages.c.number).limit(limit)).all()
    else:
        query = query.where(messages.c.number < before)
        rows = conn.execute(query.order_by(messages.c.number.desc()).limit(limit)).all()[::-1]
    return with_files(conn, session, [_message(row) for row in rows])


def with_files(conn: sa.Connection, session: SessionId, found: Sequence[Message]) -> list[Message]:
    """The same messages with the files that came with them."""
    files = attachments.of_messages(conn, session, [one.number for one in found])
    return [
        replace(one, attachments=files[one.number]) if one.number in files else one for one in found
    ]


def add_message(
    conn: sa.Connection, session: SessionId, message: Message, *, turn_number: int
) -> None:
    """Store a message beside the event that tells of it."""
    conn.execute(
        messages.insert(),
        [
            {
                "session_id": session,
                "number": message.number,
                "turn_number": turn_number,
                "turn_id": message.turn,
                "role": message.role.value,
                "author": message.author,
                "voice_id": message.voice,
                "round": message.round,
                "text": message.text,
                "status": message.status,
                "created_at": message.at,
            }
        ],
    )


def _message(row: sa.Row[tuple[object, ...]]) -> Message:
    return Message(
        number=row.number,
        role=Role(row.role),
        author=row.author,
        text=row.text,
        status=row.status,
        at=row.created_at,
        turn=TurnId(row.turn_id) if row.turn_id else None,
        voice=VoiceId(row.voice_id) if row.voice_id else None,
        round=row.round,
    )


def of_row(row: sa.Row[Any]) -> Session:
    """The session of a row that holds all of its columns."""
    return Session(
        id=SessionId(row.id),
        key=row.key,
        agent=row.agent,
        title=row.title,
        source=Source(row.source),
        origin=Channel(row.origin),
        owner=row.owner,
        sticky=row.sticky,
        archived=row.archived_at is not None,
        last_event=row.last_event,
        created_at=row.created_at,
        active_at=row.active_at,
        busy=Busy(row.busy),
        context_from=row.context_from,
        summary=row.summary,
        question=QuestionId(row.question_id) if row.question_id else None,
        mode=Mode(row.mode),
        continuation=Continuation(row.continuation),
        composition=row.composition,
        task=row.task,
        target=VoiceId(row.target_id) if row.target_id else None,
        titled=row.titled,
        last_message=row.last_message,
        read_to=row.read_to,
        home=home_address(row.home),
        project=ProjectId(row.project_id) if row.project_id else None,
        investigated=row.investigated,
        scan=row.scan,
    )
