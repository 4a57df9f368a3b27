"""A past of many sessions, as years of use leave it: made at once, not through the engine.

Half of what was said was said in one session of fifty, the rest anywhere; one session of five is
archived. A question and its answer make a turn, and those of all sessions came in mixed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate, islice
from typing import Any

import sqlalchemy as sa

from service.core.model import Channel, Role, SessionId, Source
from service.store import schema, tables, tokens
from service.store.database import Database
from service.store.ids import new_id
from service.store.sql import insert_many

COMMON = ("the", "of", "server", "please")
"""Words of most messages."""
UNCOMMON = "quarterly"
"""A word of every thousandth message."""
_CHUNK = 10_000
_LONG_OF, _ARCHIVED_OF, _STICKY_OF = 50, 5, 1000
# Housekeeping leaves alone what is younger than a month.
_SPAN = timedelta(days=20)
# The events of a turn that the past has numbers for: the question, the turn, two more, the answer.
_NUMBERS = 5
_PHRASES, _WORDS_OF_PHRASE, _PHRASES_OF_MESSAGE = 5_000, 6, 5
_VOCABULARY = 20_000
_RARE_EVERY, _RARE_TIMES = 20, 5

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is."""

    sessions: int
    messages: int


@dataclass(frozen=True, slots=True)
class Past:
    """What a database holds now."""

    size: Size
    long: Sequence[SessionId]
    """Sessions in which much was said."""
    last: Mapping[SessionId, int]
    """The numbers of their newest messages."""
    rare: Sequence[str]
    """Words that a few messages hold each."""

    def after(self, session: SessionId, messages: int) -> int:
        """The number after which so many messages of a session come, an even number of them."""
        return self.last[session] - _NUMBERS * messages // 2


async def operator(url: str) -> str:
    """Bring a database up to date and return a token to call its service with."""
    database = Database(url)
    await database.open()
    try:
        await schema.migrate(database)
        return await database.write(tokens.issue, name="bench", at=datetime.now(UTC))
    finally:
        await database.close()


async def live(url: str, size: Size) -> Past:
    """Fill a database whose schema is there."""
    making = _Making(size)
    database = Database(url)
    await database.open(shared=True)
    try:
        indexes = await database.write(_drop_indexes)
        for table, rows in making.tables():
            while chunk := list(islice(rows, _CHUNK)):
                await database.write(_insert, table, chunk)
        # As migrations, which have no limit of time.
        await database.migrate(_make_turns)
        await database.migrate(partial(_make_indexes, indexes))
        if not database.is_sqlite:
            # As autovacuum does it in time.
            await database.write(_analyze)
    finally:
        await database.close()
    return making.past()


class _Making:
    """Draws who said what, always the same, and makes the rows of it."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._random = random.Random(size.messages)
        self._begin = datetime.now(UTC) - _SPAN
        self._step = _SPAN / (size.messages // 2)
        self._ids = [SessionId(new_id()) for _ in range(size.sessions)]
        self._voices = [new_id() for _ in range(size.sessions)]
        self._long = range(_LONG_OF // 2 + 2, size.sessions, _LONG_OF)
        self._where = [self._anywhere(turn) for turn in range(size.messages // 2)]
        self._turns = [0] * size.sessions
        self._newest = [0] * size.sessions
        for turn, place in enumerate(self._where):
            self._turns[place] += 1
            self._newest[place] = turn
        self._phrases = list(self._draw_phrases())
        self._rare = max(1, size.messages // (_RARE_EVERY * _RARE_TIMES))

    def past(self) -> Past:
        """What is there, once all rows are."""
        long = [self._ids[place] for place in self._long]
        last = {self._ids[place]: _NUMBERS * self._turns[place] for place in self._long}
        return Past(self._size, long, last, [_rare(number) for number in range(self._rare)])

    def tables(self) -> Sequence[tuple[sa.Table, Iterator[Row]]]:
        """All rows, those that others refer to first."""
        return (
            (tables.sessions, self._sessions()),
            (tables.voices, self._voice_rows()),
            (tables.messages, self._messages()),
        )

    def _anywhere(self, turn: int) -> int:
        if turn % 2:
            return self._random.choice(self._long)
        return self._random.randrange(self._size.sessions)

    def _draw_phrases(self) -> Iterator[str]:
        # As with any language, the second word is used half as often as the first, and so on.
        words = [*COMMON, *(f"word{number}" for number in range(_VOCABULARY))]
        weights = list(accumulate(1 / place for place in range(1, len(words) + 1)))
        for _ in range(_PHRASES):
            chosen = self._random.choices(words, cum_weights=weights, k=_WORDS_OF_PHRASE)
            yield " ".join(chosen)

    def _sessions(self) -> Iterator[Row]:
        for place, id_ in enumerate(self._ids):
            archived = place % _ARCHIVED_OF == 0
            active_at = self._at(self._newest[place])
            last = _NUMBERS * self._turns[place]
            yield {
                "id": id_,
                "key": None if archived else f"key {place}",
                "agent": "assistant",
                "title": f"{place} {self._phrases[place % _PHRASES]}",
                "source": Source.MANUAL.value,
                "origin": Channel.CONSOLE.value,
                "owner": "bench",
                "sticky": place % _STICKY_OF == 1,
                "archived_at": active_at if archived else None,
                "last_event": last,
                "last_message": last,
                "created_at": self._begin,
                "active_at": active_at,
            }

    def _voice_rows(self) -> Iterator[Row]:
        for id_, session in zip(self._voices, self._ids, strict=True):
            yield {
                "id": id_,
                "session_id": session,
                "position": 0,
                "name": "assistant",
                "agent": "assistant",
                "provider": "offline",
                "model": "echo",
                "prompt": "Be kind.",
                "tools": [],
                "created_at": self._begin,
            }

    def _said(self) -> Iterator[_Turn]:
        begun = [0] * self._size.sessions
        for number, place in enumerate(self._where):
            first = _NUMBERS * begun[place]
            begun[place] += 1
            yield _Turn(
                _uuid(1, number), self._ids[place], self._voices[place], first, self._at(number)
            )

    def _messages(self) -> Iterator[Row]:
        for number, turn in enumerate(self._said()):
            said = {
                "session_id": turn.session,
                "turn_number": turn.first + 2,
                "turn_id": turn.id,
                "status": "complete",
                "created_at": turn.at,
            }
            asked = {"number": turn.first + 1, "role": Role.USER.value, "author": "bench"}
            yield {**said, **asked, "voice_id": None, "text": self._text(2 * number)}
            answered = {
                "number": turn.first + _NUMBERS,
                "role": Role.VOICE.value,
                "author": "assistant",
            }
            yield {**said, **answered, "voice_id": turn.voice, "text": self._text(2 * number + 1)}

    def _text(self, number: int) -> str:
        phrases = [self._random.choice(self._phrases) for _ in range(_PHRASES_OF_MESSAGE)]
        if number % 1000 == 1:
            phrases.append(UNCOMMON)
        if number % _RARE_EVERY == 0:
            phrases.append(_rare(number // _RARE_EVERY % self._rare))
        return ", ".join(phrases)

    def _at(self, turn: int) -> datetime:
        return self._begin + turn * self._step


@dataclass(frozen=True, slots=True)
class _Turn:
    id: str
    session: SessionId
    voice: str
    first: int
    """The number of the event before its first one."""
    at: datetime


def _rare(number: int) -> str:
    return f"ticket{number:07}"


def _uuid(kind: int, number: int) -> str:
    return f"{kind:08x}-0000-7000-8000-{number:012x}"


# -- the databases --------------------------------------------------------------------------------

# What is kept besides the rows is made at the end: one after the other it takes far longer.
_INDEXES_SQLITE = """
    SELECT type || ' ' || name, sql FROM sqlite_master
    WHERE type IN ('index', 'trigger') AND tbl_name IN ('turns', 'messages') AND sql IS NOT NULL
"""
_INDEXES_POSTGRESQL = """
    SELECT 'index ' || indexname, indexdef FROM pg_indexes
    WHERE tablename IN ('turns', 'messages')
    AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""
# Every question was answered by one voice; its reply has the id of the turn.
_USAGE = """'{"input_tokens": 900, "output_tokens": 60, "requests": 1, "cost_micros": 300}'"""
_TURNS = f"""
    INSERT INTO turns (
        id, session_id, number, state, channel, trigger_name, author, answer_to, attempt, epoch,
        due_at, processing_ms, usage, created_at, started_at, finished_at
    )
    SELECT turn_id, session_id, turn_number, 'succeeded', 'console', author, author, '[]', 1, 1,
        created_at, 1500, {_USAGE}, created_at, created_at, created_at
    FROM messages WHERE role = 'user' ORDER BY id
"""
_REPLIES = f"""
    INSERT INTO replies (
        id, turn_id, voice_id, round, state, text, usage, started_at, finished_at
    )
    SELECT turn_id, turn_id, voice_id, 0, 'done', '', {_USAGE}, created_at, created_at
    FROM messages WHERE role = 'voice' ORDER BY id
"""
_REBUILD_SQLITE = "INSERT INTO message_words (message_words) VALUES ('rebuild')"


def _drop_indexes(conn: sa.Connection) -> Sequence[str]:
    """Drop indexes and triggers of the largest tables; return what makes them."""
    sqlite = conn.dialect.name == "sqlite"
    found = conn.execute(sa.text(_INDEXES_SQLITE if sqlite else _INDEXES_POSTGRESQL)).all()
    for name, _ in found:
        conn.exec_driver_sql(f"DROP {name}")
    return [definition for _, definition in found]


def _insert(conn: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    _trust(conn)
    insert_many(conn, table, rows)


def _make_turns(conn: sa.Connection) -> None:
    _trust(conn)
    conn.exec_driver_sql(_TURNS)
    conn.exec_driver_sql(_REPLIES)


def _trust(conn: sa.Connection) -> None:
    """Nobody has to look whether what rows refer to is there: it is."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL session_replication_role = replica")


def _make_indexes(definitions: Sequence[str], conn: sa.Connection) -> None:
    for definition in definitions:
        conn.exec_driver_sql(definition)
    if conn.dialect.name == "sqlite":
        conn.exec_driver_sql(_REBUILD_SQLITE)


def _analyze(conn: sa.Connection) -> None:
    conn.exec_driver_sql("ANALYZE")
