"""Replies with their iterations and tool calls: what a successor goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import Reply, ReplyId, SessionId, TurnId, Usage, VoiceId
from service.core.states import ReplyState, ToolState
from service.core.text import clean
from service.ports import ToolCall, ToolResult
from service.store.sql import insert_many
from service.store.tables import iterations, replies, tool_calls, turns, voices


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A tool call as it was stored."""

    call: ToolCall
    ordinal: int
    state: ToolState
    result: str | None
    data: str | None = None
    """JSON, as it was stored."""


@dataclass(frozen=True, slots=True, order=True)
class OpenCall:
    """A call that got no result."""

    iteration: int
    ordinal: int
    tool: str


@dataclass(frozen=True, slots=True)
class StoredIteration:
    """One model call of a reply and the tool calls it asked for."""

    number: int
    text: str
    thinking: str
    metadata: Mapping[str, Any]
    usage: Usage
    calls: tuple[StoredCall, ...]
    added: tuple[str, ...] = ()
    """What people said while it ran."""


def begin(conn: sa.Connection, new: Sequence[Reply], *, at: datetime) -> None:
    """Store the replies of a round that begins."""
    insert_many(
        conn,
        replies,
        [
            {
                "id": reply.id,
                "turn_id": reply.turn,
                "voice_id": reply.voice,
                "round": reply.round,
                "state": reply.state.value,
                "text": reply.text,
                "started_at": at,
            }
            for reply in new
        ],
    )


def finish(
    conn: sa.Connection,
    reply: ReplyId,
    *,
    state: ReplyState,
    text: str,
    error: str | None,
    usage: Usage,
    at: datetime,
) -> None:
    """Store how a reply ended."""
    conn.execute(
        replies.update()
        .where(replies.c.id == reply)
        .values(state=state.value, text=text, error=error, usage=asdict(usage), finished_at=at)
    )


def request_stop(conn: sa.Connection, turn: TurnId, voice: VoiceId) -> bool:
    """Ask that one voice of a turn stops; False when it does not speak."""
    result = conn.execute(
        replies.update()
        .where(
            replies.c.turn_id == turn,
            replies.c.voice_id == voice,
            replies.c.state == ReplyState.GENERATING.value,
        )
        .values(stop_requested=True)
    )
    return result.rowcount > 0


def stop_requested(conn: sa.Connection, reply: ReplyId) -> bool:
    """Whether somebody wants this voice alone to stop."""
    query = sa.select(replies.c.stop_requested).where(replies.c.id == reply)
    return bool(conn.scalar(query))


def newest_of_voices(conn: sa.Connection, session: SessionId) -> dict[VoiceId, Reply]:
    """The newest reply of each voice of a session."""
    # Turn by turn from the newest one back, which is over soon for whoever spoke lately; as a join
    # PostgreSQL would read the replies of all sessions for it.
    said = replies.alias()
    of_turn_ = (
        sa.select(sa.func.max(said.c.id).label("id"))
        .where(said.c.turn_id == turns.c.id, said.c.voice_id == voices.c.id)
        .correlate(turns, voices)
        .scalar_subquery()
    )
    back = (
        sa.select(of_turn_.label("id"))
        .where(turns.c.session_id == session)
        .order_by(turns.c.number.desc())
        .correlate(voices)
        .subquery()
    )
    newest = sa.select(back.c.id).where(back.c.id.is_not(None)).limit(1).scalar_subquery()
    rows = conn.execute(
        sa.select(replies)
        .select_from(voices.join(replies, replies.c.id == newest))
        .where(voices.c.session_id == session)
    )
    return {VoiceId(row.voice_id): _reply(row) for row in rows}


def of_turn(conn: sa.Connection, turn: TurnId) -> list[Reply]:
    """The replies of a turn in the order they began."""
    rows = conn.execute(sa.select(replies).where(replies.c.turn_id == turn).order_by(replies.c.id))
    return [_reply(row) for row in rows]


def add_iteration(
    conn: sa.Connection,
    reply: ReplyId,
    iteration: StoredIteration,
    *,
    at: datetime,
) -> None:
    """Store a boundary: a model response and its tool calls as they are before they run."""
    conn.execute(
        iterations.insert(),
        [
            {
                "reply_id": reply,
                "number": iteration.number,
                "text": iteration.text,
                "thinking": iteration.thinking,
                "metadata": dict(iteration.metadata),
                "usage": asdict(iteration.usage),
                "created_at": at,
            }
        ],
    )
    insert_many(
        conn,
        tool_calls,
        [
            {
                "reply_id": reply,
                "iteration": iteration.number,
                "ordinal": stored.ordinal,
                "call_id": stored.call.id,
                "tool": stored.call.tool,
                "arguments": stored.call.arguments,
                "state": stored.state.value,
                "result": stored.result,
                "started_at": at,
            }
            for stored in iteration.calls
        ],
    )


def set_text(conn: sa.Connection, reply: ReplyId, text: str) -> None:
    """Store what a reply has said up to a boundary."""
    conn.execute(replies.update().where(replies.c.id == reply).values(text=text))


def finish_calls(
    conn: sa.Connection,
    reply: ReplyId,
    iteration: int,
    results: Mapping[int, tuple[ToolState, ToolResult]],
    *,
    at: datetime,
) -> None:
    """Store the results of tool calls by ordinal."""
    for ordinal, (state, result) in results.items():
        conn.execute(
            tool_calls.update()
            .where(
                tool_calls.c.reply_id == reply,
                tool_calls.c.iteration == iteration,
                tool_calls.c.ordinal == ordinal,
            )
            .values(
                state=state.value,
                result=clean(result.text),
                data=encoded(result.data),
                finished_at=at,
            )
        )


def encoded(data: Any) -> str | None:
    """The data of a result as it is stored: the bytes that are shown and saved from then on."""
    return None if data is None else json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def set_calls(
    conn: sa.Connection, reply: ReplyId, iteration: int, ordinals: Sequence[int], state: ToolState
) -> None:
    """Move calls that have no result yet to another state."""
    conn.execute(
        tool_calls.update()
        .where(
            tool_calls.c.reply_id == reply,
            tool_calls.c.iteration == iteration,
            tool_calls.c.ordinal.in_(list(ordinals)),
        )
        .values(state=state.value)
    )


def cancel_calls(conn: sa.Connection, reply: ReplyId, *, at: datetime) -> list[OpenCall]:
    """Close the calls of a reply that have no result; return them in order."""
    open_ = (ToolState.RUNNING.value, ToolState.WAITING.value)
    rows = conn.execute(
        tool_calls.update()
        .where(tool_calls.c.reply_id == reply, tool_calls.c.state.in_(open_))
        .values(state=ToolState.CANCELLED.value, finished_at=at)
        .returning(tool_calls.c.iteration, tool_calls.c.ordinal, tool_calls.c.tool)
    )
    return sorted(OpenCall(row.iteration, row.ordinal, row.tool) for row in rows)


def add_messages(conn: sa.Connection, reply: ReplyId, iteration: int, added: Sequence[str]) -> None:
    """Note what people said while an iteration ran."""
    conn.execute(
        iterations.update()
        .where(iterations.c.reply_id == reply, iterations.c.number == iteration)
        .values(added=list(added))
    )


def iterations_in(conn: sa.Connection, session: SessionId, *, before: TurnId) -> int:
    """How many model calls with tools a session's other turns have made."""
    query = (
        sa.select(sa.func.count())
        .select_from(
            iterations.join(replies, iterations.c.reply_id == replies.c.id).join(
                turns, replies.c.turn_id == turns.c.id
            )
        )
        .where(turns.c.session_id == session, turns.c.id != before)
    )
    return conn.scalar(query) or 0


def iterations_used(
    conn: sa.Connection, ids: Sequence[SessionId], *, newest_turn: bool = False
) -> dict[SessionId, int]:
    """How many model calls with tools sessions have made; those without any are not in.

    With `newest_turn` only those of the last turn of each.
    """
    query = (
        sa.select(turns.c.session_id, sa.func.count().label("made"))
        .select_from(
            iterations.join(replies, iterations.c.reply_id == replies.c.id).join(
                turns, replies.c.turn_id == turns.c.id
            )
        )
        .where(turns.c.session_id.in_(list(ids)))
        .group_by(turns.c.session_id)
    )
    if newest_turn:
        others = turns.alias()
        later = sa.exists().where(
            others.c.session_id == turns.c.session_id, others.c.number > turns.c.number
        )
        query = query.where(~later)
    return {SessionId(row.session_id): row.made for row in conn.execute(query)}


def iterations_of(conn: sa.Connection, reply: ReplyId) -> list[StoredIteration]:
    """What a reply has behind it, oldest first."""
    calls: dict[int, list[StoredCall]] = {}
    for row in conn.execute(
        sa.select(tool_calls)
        .where(tool_calls.c.reply_id == reply)
        .order_by(tool_calls.c.iteration, tool_calls.c.ordinal)
    ):
        call = ToolCall(row.call_id, row.tool, row.arguments)
        stored = StoredCall(call, row.ordinal, ToolState(row.state), row.result, row.data)
        calls.setdefault(row.iteration, []).append(stored)
    rows = conn.execute(
        sa.select(iterations).where(iterations.c.reply_id == reply).order_by(iterations.c.number)
    )
    return [
        StoredIteration(
            row.number,
            row.text,
            row.thinking,
            row.metadata,
            Usage(**row.usage),
            tuple(calls.get(row.number, ())),
            tuple(row.added),
        )
        for row in rows
    ]


def with_usage(conn: sa.Connection, turn: TurnId) -> Sequence[Reply]:
    """The replies of a turn, those that nobody ended with what is stored of what they took."""
    rows = conn.execute(
        sa.select(iterations.c.reply_id, iterations.c.usage)
        .join(replies, iterations.c.reply_id == replies.c.id)
        .where(replies.c.turn_id == turn, replies.c.finished_at.is_(None))
    )
    taken: dict[str, Usage] = {}
    for row in rows:
        taken[row.reply_id] = taken.get(row.reply_id, Usage()) + Usage(**row.usage)
    return [replace(one, usage=taken.get(one.id, one.usage)) for one in of_turn(conn, turn)]


def _reply(row: sa.Row[Any]) -> Reply:
    return Reply(
        id=ReplyId(row.id),
        turn=TurnId(row.turn_id),
        voice=VoiceId(row.voice_id),
        round=row.round,
        state=ReplyState(row.state),
        text=row.text,
        error=row.error,
        usage=Usage(**row.usage) if row.usage else Usage(),
        stopped=row.stop_requested,
    )
