"""Questions and approvals that waiting turns are about: asked once, closed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import (
    Question,
    QuestionId,
    QuestionKind,
    ReplyId,
    SessionId,
    TurnId,
)
from service.core.states import QuestionState
from service.store.sql import insert_many, now
from service.store.tables import questions, sessions

_OPEN = QuestionState.OPEN.value


def insert(conn: sa.Connection, asked: Sequence[Question], *, at: datetime) -> None:
    """Store questions of one turn; the session's next message is for the first of them."""
    insert_many(
        conn,
        questions,
        [
            {
                "id": one.id,
                "session_id": one.session,
                "turn_id": one.turn,
                "reply_id": one.reply,
                "iteration": one.iteration,
                "ordinal": one.ordinal,
                "kind": one.kind.value,
                "text": one.text,
                "choices": list(one.choices),
                "tool": one.tool,
                "arguments": one.arguments,
                "asked_of": one.asked_of,
                "state": one.state.value,
                "created_at": at,
                "expires_at": one.expires_at,
            }
            for one in asked
        ],
    )
    _point(conn, asked[0].session, asked[0].id)


def close(
    conn: sa.Connection,
    question: Question,
    *,
    state: QuestionState,
    answer: str | None = None,
    by: str | None = None,
    at: datetime,
) -> bool:
    """Close an open question for good; False when it is closed already."""
    result = conn.execute(
        questions.update()
        .where(questions.c.id == question.id, questions.c.state == _OPEN)
        .values(state=state.value, answer=answer, answered_by=by, closed_at=at)
    )
    if result.rowcount != 1:
        return False
    left = open_of_turn(conn, question.turn)
    _point(conn, question.session, left[0].id if left else None)
    return True


def _point(conn: sa.Connection, session: SessionId, question: QuestionId | None) -> None:
    conn.execute(sessions.update().where(sessions.c.id == session).values(question_id=question))


def get(conn: sa.Connection, question: QuestionId) -> Question | None:
    """One question, or None when there is none."""
    row = conn.execute(sa.select(questions).where(questions.c.id == question)).first()
    return _question(row) if row else None


def get_many(conn: sa.Connection, ids: Iterable[QuestionId]) -> dict[QuestionId, Question]:
    """Questions by id."""
    rows = conn.execute(sa.select(questions).where(questions.c.id.in_(list(ids))))
    return {QuestionId(row.id): _question(row) for row in rows}


def open_of_turn(conn: sa.Connection, turn: TurnId) -> list[Question]:
    """The open questions of a turn, in the order they were asked."""
    query = (
        sa.select(questions)
        .where(questions.c.turn_id == turn, questions.c.state == _OPEN)
        .order_by(questions.c.iteration, questions.c.ordinal)
    )
    return [_question(row) for row in conn.execute(query)]


def open_of_session(conn: sa.Connection, session: SessionId) -> list[Question]:
    """The open questions of a session, oldest first."""
    query = (
        sa.select(questions)
        .where(questions.c.session_id == session, questions.c.state == _OPEN)
        .order_by(questions.c.id)
    )
    return [_question(row) for row in conn.execute(query)]


def of_turn(conn: sa.Connection, turn: TurnId) -> list[Question]:
    """Every question a turn has asked, whatever became of it."""
    rows = conn.execute(
        sa.select(questions).where(questions.c.turn_id == turn).order_by(questions.c.id)
    )
    return [_question(row) for row in rows]


def expired(conn: sa.Connection, *, limit: int) -> list[Question]:
    """Open questions whose time is over by the database's clock."""
    query = (
        sa.select(questions)
        .where(questions.c.state == _OPEN, questions.c.expires_at <= now())
        .order_by(questions.c.expires_at)
        .limit(limit)
    )
    return [_question(row) for row in conn.execute(query)]


def _question(row: sa.Row[Any]) -> Question:
    return Question(
        id=QuestionId(row.id),
        session=SessionId(row.session_id),
        turn=TurnId(row.turn_id),
        reply=ReplyId(row.reply_id),
        iteration=row.iteration,
        ordinal=row.ordinal,
        kind=QuestionKind(row.kind),
        text=row.text,
        choices=tuple(row.choices),
        asked_of=row.asked_of,
        state=QuestionState(row.state),
        expires_at=row.expires_at,
        tool=row.tool,
        arguments=row.arguments,
        answer=row.answer,
        answered_by=row.answered_by,
    )
