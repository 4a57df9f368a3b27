"""What came of a turn, for those who ask from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from service.core.model import Question, Reply, Turn, TurnId, VoiceId
from service.core.states import TURN_FINAL, TurnState
from service.engine import findings, scans
from service.engine.feed import Feed
from service.engine.questions import views
from service.store import feed as events
from service.store import questions, replies, sessions, turns
from service.store.database import Database


@dataclass(frozen=True, slots=True)
class Result:
    """A turn and the words of its replies so far."""

    turn: Turn
    text: str
    last_number: int | None
    """The number of the turn's last event, once it is final."""
    questions: tuple[Question, ...] = ()
    """What it waits for, if it does."""
    voices: Mapping[VoiceId, str] = field(default_factory=dict)
    """The names of the session's voices."""
    replies: tuple[Reply, ...] = ()
    """Of all rounds so far."""
    findings: Mapping[str, Any] = field(default_factory=dict)
    """What a session came to that is to come to something: its own, or those of its scan."""

    @property
    def final(self) -> bool:
        """Whether nothing more will come."""
        return self.turn.state in TURN_FINAL

    def as_json(self) -> dict[str, Any]:
        """How the HTTP API and callbacks tell it."""
        turn = self.turn
        told = {"replies": [self._reply(one) for one in self.replies]}
        return {
            "turn": turn.id,
            "session": turn.session,
            "kind": turn.kind.value,
            "state": turn.state.value,
            "ended": turn.ended.value if turn.ended else None,
            "interrupted_by": turn.interrupted_by,
            "text": self.text,
            "error": turn.error,
            "created_at": _iso(turn.created_at),
            "started_at": _iso(turn.started_at),
            "finished_at": _iso(turn.finished_at),
            "processing_ms": round(turn.processing.total_seconds() * 1000),
            "usage": asdict(turn.usage),
            "questions": views(self.questions),
            **(told if len(self.voices) > 1 else {}),
            **self.findings,
        }

    def _reply(self, one: Reply) -> dict[str, Any]:
        return {
            "voice": one.voice,
            "name": self.voices.get(one.voice, ""),
            "round": one.round,
            "state": one.state.value,
            "text": one.text,
            "error": one.error,
        }


class Results:
    """Reads results, and waits for them."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self._database = database
        self._feed = feed

    async def get(self, turn: TurnId) -> Result | None:
        """The turn as it is now; None when there is none."""
        return await self._database.read(_result, turn)

    async def wait(self, turn: TurnId, *, timeout: timedelta) -> Result | None:
        """The turn once it is final, or as it is after `timeout`."""
        result = await self.get(turn)
        if result is None or result.final or timeout <= timedelta():
            return result
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._until_finished(result.turn)
        except TimeoutError:
            pass
        return await self.get(turn)

    async def _until_finished(self, turn: Turn) -> None:
        # Events up to its own turn.queued say nothing about its end.
        following = self._feed.follow(turn.session, after=turn.number, turn=turn.id)
        async with aclosing(following):
            async for _ in following:
                pass


def _result(conn: sa.Connection, turn_id: TurnId) -> Result | None:
    turn = turns.get(conn, turn_id)
    if turn is None:
        return None
    # A turn that steered another one is answered by that one's reply.
    spoken = replies.of_turn(conn, turn.joined or turn_id)
    text = "\n\n".join(reply.text for reply in spoken if reply.text)
    last = None
    if turn.state in TURN_FINAL:
        last = events.newest(conn, turn.session, turn_id)
    open_ = questions.open_of_turn(conn, turn_id) if turn.state is TurnState.WAITING else ()
    there = sessions.find_with_voices(conn, turn.session)
    if there is None:
        # It was deleted in this moment.
        return None
    session, voices = there
    names = {one.id: one.name for one in voices}
    found = findings.came_to(conn, turn.session) if session.investigated else {}
    if session.scan is not None:
        found = {**found, "scan": scans.told(conn, turn_id)}
    return Result(turn, text, last, tuple(open_), names, tuple(spoken), found)


def _iso(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
