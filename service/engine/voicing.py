"""How a session takes messages: who is in it, who speaks, and to whom words go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from service.core.model import (
    Busy,
    Event,
    Message,
    NewEvent,
    NewVoice,
    Role,
    SessionId,
    VoiceId,
)
from service.core.rounds import MOST_ROUNDS, Continuation, Mode
from service.engine.endings import message_added
from service.engine.keeping import refuse_archived
from service.errors import BadInput
from service.store import feed as events
from service.store import sessions

MOST_VOICES = 8


@dataclass(frozen=True, slots=True)
class SetUp:
    """What is to change about a session; None leaves it as it is."""

    mode: Mode | None = None
    continuation: Continuation | None = None
    busy: Busy | None = None
    target: VoiceId | None = None
    """The voice that messages go to in conductor mode."""
    untarget: bool = False
    """Pick no voice any more."""


def set_up(conn: sa.Connection, session: SessionId, changes: SetUp, by: str) -> list[Event]:
    """Change how a session takes messages. Raises BadInput for a voice of another session."""
    refuse_archived(conn, session)
    last = events.lock(conn, {session: ()}).get(session)
    if last is None:
        return []
    if changes.target is not None:
        known = {voice.id for voice in sessions.voices_of(conn, session)}
        if changes.target not in known:
            raise BadInput("target: the session has no such voice")
    values: dict[str, str | None] = {
        name: value.value
        for name, value in (
            ("mode", changes.mode),
            ("continuation", changes.continuation),
            ("busy", changes.busy),
        )
        if value is not None
    }
    told: dict[str, object] = {"what": "set up", "by": by, **values}
    if changes.target is not None or changes.untarget:
        values["target_id"] = changes.target
        told["target"] = changes.target
    if not values:
        return []
    sessions.steer(conn, session, **values)
    new = [NewEvent("session.changed", told)]
    return events.record(conn, session, new, newest=last, at=datetime.now(UTC))


def set_voice(
    conn: sa.Connection,
    session: SessionId,
    voice: VoiceId,
    *,
    active: bool | None,
    rounds: int | None,
) -> list[Event] | None:
    """Let a voice rest or speak, or set its further rounds; None when the session has it not.

    Raises BadInput: at least one voice must be left that speaks.
    """
    refuse_archived(conn, session)
    last = events.lock(conn, {session: ()}).get(session)
    voices = {one.id: one for one in sessions.voices_of(conn, session)}
    if last is None or voice not in voices:
        return None
    check_rounds(rounds)
    others = any(one.active for one in voices.values() if one.id != voice)
    if active is False and not others:
        raise BadInput("active: it is the last voice that speaks; wake another one first")
    sessions.set_voice(conn, voice, active=active, rounds=rounds)
    data: dict[str, object] = {"voice": voice, "name": voices[voice].name}
    if active is not None:
        data["active"] = active
    if rounds is not None:
        data["rounds"] = rounds
    new = [NewEvent("voice.changed", data)]
    return events.record(conn, session, new, newest=last, at=datetime.now(UTC))


def add_voice(
    conn: sa.Connection, session: SessionId, new: NewVoice, by: str
) -> tuple[VoiceId | None, list[Event]]:
    """Let a further voice take part, and say so in the conversation. Raises BadInput."""
    refuse_archived(conn, session)
    last = events.lock(conn, {session: ()}).get(session)
    if last is None:
        return None, []
    check_rounds(new.rounds)
    voices = sessions.voices_of(conn, session)
    if len(voices) >= MOST_VOICES:
        raise BadInput(f"voices: a session has at most {MOST_VOICES}")
    if new.name.lower() in {one.name.lower() for one in voices}:
        raise BadInput(f"name: there is a voice {new.name!r} already")
    at = datetime.now(UTC)
    voice = sessions.add_voice(conn, session, new, at=at)
    joined = Message(
        number=last + 1,
        role=Role.SYSTEM,
        author=by,
        text=f"{new.name} takes part from here on.",
        status="complete",
        at=at,
    )
    sessions.add_message(conn, session, joined, turn_number=last + 1)
    added = NewEvent("voice.changed", {"voice": voice, "name": new.name, "added": True})
    return voice, events.record(conn, session, [message_added(joined), added], newest=last, at=at)


def check_rounds(rounds: int | None) -> None:
    """Raise BadInput unless a voice may go on for so many rounds."""
    if rounds is not None and not 0 <= rounds <= MOST_ROUNDS:
        raise BadInput(f"rounds: 0 to {MOST_ROUNDS} further rounds")
