"""What can be done to a turn from outside: stop it, interrupt it, answer what it asked."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum, auto

import sqlalchemy as sa

from service.core.access import may_answer, may_interrupt
from service.core.model import (
    Address,
    Channel,
    Event,
    NewEvent,
    Question,
    SessionId,
    Turn,
    TurnId,
    TurnKind,
    VoiceId,
)
from service.core.states import QuestionState, TurnState
from service.engine import mirror, scans
from service.engine import questions as asking
from service.engine.endings import Ending, answers, end_unattended, finished
from service.store import (
    audit,
    deliveries,
    occurrences,
    questions,
    replies,
    sessions,
    turns,
)
from service.store import feed as events


class Interrupting(StrEnum):
    """What came of an interruption."""

    INTERRUPTING = auto()  # it pauses at its next boundary and asks how to go on
    ALREADY = auto()  # somebody asked for that before
    IDLE = auto()  # nothing runs
    NOT_OWNER = auto()  # only the session's owner may


class Answering(StrEnum):
    """What came of an answer."""

    ANSWERED = auto()
    NOT_YOURS = auto()  # somebody else was asked
    OVER = auto()  # it was answered, expired or withdrawn before
    UNKNOWN = auto()


def stop(conn: sa.Connection, turn: Turn, by: str, live: frozenset[Channel]) -> list[Event] | None:
    """Stop a turn nobody works on, with its last events; None when its holder must do it."""
    at = datetime.now(UTC)
    # Before the turn itself, which is younger.
    scan = scans.lock(conn, turn.session)
    turns.request_stop(conn, turn.id, by=by, at=at)
    if turn.state is TurnState.RUNNING:
        return None
    if turn.state is TurnState.WAITING or replies.of_turn(conn, turn.id):
        return end_unattended(conn, turn, state=TurnState.STOPPED)[1]
    ending = Ending(TurnState.STOPPED, None, turn.usage, turn.processing)
    turns.finish(
        conn,
        turn.id,
        state=ending.state,
        error=None,
        ended=None,
        processing=ending.processing,
        usage=ending.usage,
        at=at,
    )
    if turn.occurrence is not None:
        occurrences.finish(conn, turn.occurrence, failed="stopped", at=at)
    appended = events.append(conn, {turn.session: [finished(turn.id, ending)]}, at=at)
    # People see the stop where they asked for it; programs are owed the result.
    programs = [address for address in turn.answer_to if address.channel not in live]
    deliveries.insert(conn, answers(turn, programs), at=at)
    if scan is not None:
        scans.wake(conn, scan, at=at)
    return appended[turn.session]


def stop_voice(conn: sa.Connection, session: SessionId, voice: VoiceId, by: str) -> TurnId | None:
    """Ask that one voice stops; the turn it speaks in, None when it does not speak."""
    turn = turns.begun(conn, session)
    if turn is None or turn.state is not TurnState.RUNNING:
        return None
    if not replies.request_stop(conn, turn.id, voice):
        return None
    audit.note(
        conn,
        by,
        "stop voice",
        session=session,
        allowed=True,
        at=datetime.now(UTC),
        turn=turn.id,
        voice=voice,
    )
    return turn.id


def interrupt(
    conn: sa.Connection, session: SessionId, by: str, operator: bool
) -> tuple[Interrupting, list[Event]]:
    """Interrupt what is begun in a session, if its owner or an operator wants it; noted anyhow."""
    found = sessions.get(conn, session)
    if found is None:
        return Interrupting.IDLE, []
    allowed = may_interrupt(by, owner=found.owner, operator=operator)
    turn = turns.begun(conn, session) if allowed else None
    at = datetime.now(UTC)
    audit.note(
        conn,
        by,
        "interrupt",
        session=session,
        allowed=allowed,
        at=at,
        turn=turn.id if turn else None,
    )
    if not allowed:
        return Interrupting.NOT_OWNER, []
    if turn is None or turn.kind is TurnKind.COMPACT:
        return Interrupting.IDLE, []
    new = interrupted(conn, turn, by=by, at=at)
    if not new:
        return Interrupting.ALREADY, []
    return Interrupting.INTERRUPTING, events.append(conn, {session: new}, at=at)[session]


def interrupted(conn: sa.Connection, turn: Turn, *, by: str, at: datetime) -> list[NewEvent]:
    """Note an interruption of a turn this transaction has locked; no events if it is noted.

    A turn that waits goes on without its answers: nobody is going to give them. The summing up of
    a conversation is let be: what it would say of the interruption would be its summary.
    """
    if turn.kind is TurnKind.COMPACT:
        return []
    if not turns.request_interrupt(conn, turn.id, by=by, at=at):
        return []
    new = [NewEvent("session.changed", {"what": "interrupting", "by": by}, turn.id)]
    for one in questions.open_of_turn(conn, turn.id):
        event = asking.close(conn, one, state=QuestionState.CANCELLED, by=by, at=at)
        if event is not None:
            new.append(event)
    if len(new) == 1 and turn.state is TurnState.WAITING:
        # A scan, which waits for its sessions.
        scans.wake(conn, turn.id, at=at)
    return new


def answer(
    conn: sa.Connection,
    question: Question,
    text: str,
    by: str,
    operator: bool,
    home: Address | None,
) -> tuple[Answering, list[Event]]:
    """Answer a question once, if it was asked of them; what was approved is noted for good."""
    turn = turns.lock(conn, question.turn)
    if turn is None or (home is not None and home not in turn.answer_to):
        return Answering.UNKNOWN, []
    at = datetime.now(UTC)
    allowed = may_answer(by, asked_of=question.asked_of, operator=operator)
    asking.note_decision(conn, question, text, by=by, allowed=allowed, at=at)
    if not allowed:
        return Answering.NOT_YOURS, []
    event = asking.close(conn, question, state=QuestionState.ANSWERED, answer=text, by=by, at=at)
    if event is None:
        return Answering.OVER, []
    if operator:
        _show(conn, turn, text, at)
    appended = events.append(conn, {question.session: [event]}, at=at)
    return Answering.ANSWERED, appended[question.session]


def _show(conn: sa.Connection, turn: Turn, text: str, at: datetime) -> None:
    """Show the chat in which a question was asked what was answered elsewhere."""
    session = sessions.get(conn, turn.session)
    home = None if session is None else mirror.home_of(session)
    if home is not None and home in turn.answer_to:
        deliveries.insert(conn, [mirror.answer_notice(turn.session, home, text)], at=at)
