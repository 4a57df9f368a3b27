"""How turns end: everything a turn leaves behind, in the one transaction that ends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from service.core.model import (
    Address,
    Ended,
    Event,
    Message,
    NewEvent,
    Reply,
    Role,
    Turn,
    TurnId,
    TurnKind,
    Usage,
    Voice,
    VoiceId,
)
from service.core.reply import TurnView, fold_all
from service.core.states import QuestionState, ReplyState, ToolState, TurnState
from service.engine import scans
from service.engine.questions import answered
from service.store import deliveries, memory, occurrences, replies, sessions, spending, turns
from service.store import feed as events_store
from service.store import questions as questions_store
from service.store.deliveries import NewDelivery

# Why the occurrence of a turn failed, if it did.
_FAILED = {TurnState.SUCCEEDED: None, TurnState.STOPPED: "stopped", TurnState.FAILED: "failed"}


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one voice said, and how it came to its end."""

    reply: Reply
    voice: Voice
    text: str
    status: Literal["complete", "partial", "error"]
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    whole: bool = False
    """Whether every tool call of it surely has its result."""

    @property
    def state(self) -> ReplyState:
        """What people see."""
        return ReplyState.ERROR if self.status == "error" else ReplyState.DONE


@dataclass(frozen=True, slots=True)
class Compacted:
    """A summary that stands for everything up to a turn."""

    summary: str
    after_turn: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ends."""

    state: TurnState
    error: str | None
    usage: Usage
    processing: timedelta
    ended: Ended | None = None
    spent: Mapping[str, Usage] = field(default_factory=dict)
    """The usage by the agent whose day it counts to; the turn itself counts to the first one."""
    steered: bool = True
    """Whether other messages may have joined it."""
    momentary: tuple[str, ...] = ()
    """Knobs that go back to their defaults."""
    compacted: Compacted | None = None
    scan: TurnId | None = None
    """The scan that its session is part of, whose turn is locked."""


def end(
    conn: sa.Connection,
    turn: Turn,
    spoken: Sequence[Spoken],
    ending: Ending,
    pending: Sequence[NewEvent],
) -> list[Event]:
    """End a turn that this transaction has locked; return its last events.

    `pending` comes before them. Also ends the turns whose messages steered it, withdraws its open
    questions and closes its open tool calls, so that nothing is left that waits for it.
    """
    at = datetime.now(UTC)
    # Only a turn that waits has open questions, and deliveries that are put aside.
    waited = turn.state is TurnState.WAITING
    withdrawn = _withdraw(conn, turn, at) if waited else []
    turns.finish(
        conn,
        turn.id,
        state=ending.state,
        error=ending.error,
        ended=ending.ended,
        processing=ending.processing,
        usage=ending.usage,
        at=at,
    )
    last = events_store.lock(conn, {turn.session: ()})[turn.session]
    new = [*pending, *withdrawn]
    summing = ending.compacted is not None
    for one in spoken:
        new += speak(conn, turn, one, last + len(new), at, summing=summing)
    new.append(finished(turn.id, ending))
    joined = _end_joined(conn, turn, ending, at) if ending.steered else []
    new += [finished(one.id, ending, joined=turn.id) for one in joined]
    numbered = events_store.record(conn, turn.session, new, newest=last, at=at)
    _answer(conn, turn, joined, at)
    if waited:
        deliveries.go_on(conn, turn.id, at=at)
    _account(conn, turn, ending, at)
    if ending.scan is not None:
        scans.wake(conn, ending.scan, at=at)
    return numbered


def end_unattended(
    conn: sa.Connection, turn: Turn, *, state: TurnState, error: str | None = None
) -> tuple[Ending, list[Event]]:
    """End a turn that nobody works on, with every word its readers have seen."""
    seen = fold_all(TurnView(turn.id), events_store.of_turn(conn, turn.session, turn.id))
    words = {reply.reply: reply.text for reply in seen.replies}
    voices = {voice.id: voice for voice in sessions.voices_of(conn, turn.session)}
    begun = replies.with_usage(conn, turn.id)
    spoken = [
        Spoken(
            reply,
            voices[reply.voice],
            words.get(reply.id, reply.text),
            "error" if state is TurnState.FAILED else "partial",
            error,
            reply.usage,
        )
        for reply in begun
        if reply.state in (ReplyState.WAITING, ReplyState.GENERATING)
    ]
    spent = spent_by(voices, [(reply.voice, reply.usage) for reply in begun])
    scan = scans.lock(conn, turn.session)
    usage = sum(spent.values(), Usage())
    ending = Ending(state, error, usage, turn.processing, spent=spent, scan=scan)
    return ending, end(conn, turn, spoken, ending, ())


def spent_by(
    voices: Mapping[VoiceId, Voice], taken: Iterable[tuple[VoiceId, Usage]]
) -> dict[str, Usage]:
    """What was taken, by the agents of the voices; that of the first one is there anyhow."""
    spent = {next(iter(voices.values())).agent: Usage()}
    for voice, usage in taken:
        agent = voices[voice].agent
        spent[agent] = spent.get(agent, Usage()) + usage
    return spent


def _end_joined(conn: sa.Connection, turn: Turn, ending: Ending, at: datetime) -> list[Turn]:
    return turns.end_joined(
        conn, turn.id, state=ending.state, error=ending.error, ended=ending.ended, at=at
    )


def _withdraw(conn: sa.Connection, turn: Turn, at: datetime) -> list[NewEvent]:
    events = []
    for one in questions_store.open_of_turn(conn, turn.id):
        questions_store.close(conn, one, state=QuestionState.CANCELLED, at=at)
        events.append(answered(one, state=QuestionState.CANCELLED))
    return events


def speak(
    conn: sa.Connection,
    turn: Turn,
    one: Spoken,
    newest: int,
    at: datetime,
    *,
    summing: bool = False,
) -> list[NewEvent]:
    """Close a reply and keep its words as a message; its events, to come after `newest`.

    With `summing` they sum the conversation up, and are not part of it. Those of a summary that
    came to nothing are not kept.
    """
    new = [
        NewEvent(
            "tool.finished",
            {
                "reply": one.reply.id,
                "call": f"{call.iteration}.{call.ordinal}",
                "tool": call.tool,
                "state": ToolState.CANCELLED.value,
                "text": "",
            },
            turn.id,
        )
        for call in (() if one.whole else replies.cancel_calls(conn, one.reply.id, at=at))
    ]
    replies.finish(
        conn,
        one.reply.id,
        state=one.state,
        text=one.text,
        error=one.error,
        usage=one.usage,
        at=at,
    )
    data = {"reply": one.reply.id, "state": one.state.value}
    if one.error:
        data["error"] = one.error
    new.append(NewEvent("reply.finished", data, turn.id))
    if one.text and (summing or turn.kind is not TurnKind.COMPACT):
        message = Message(
            number=newest + len(new) + 1,
            role=Role.SYSTEM if summing else Role.VOICE,
            author=one.voice.name,
            text=one.text,
            status=one.status,
            at=at,
            turn=turn.id,
            voice=one.voice.id,
            round=one.reply.round,
        )
        sessions.add_message(conn, turn.session, message, turn_number=turn.number)
        new.append(message_added(message))
    return new


def _answer(conn: sa.Connection, turn: Turn, joined: Sequence[Turn], at: datetime) -> None:
    deliveries.insert(conn, answers(turn, turn.answer_to), at=at)
    for one in joined:
        elsewhere = [address for address in one.answer_to if address not in turn.answer_to]
        deliveries.insert(conn, answers(one, elsewhere), at=at)


def _account(conn: sa.Connection, turn: Turn, ending: Ending, at: datetime) -> None:
    if turn.occurrence is not None:
        failed = _FAILED[ending.state] and (ending.error or _FAILED[ending.state])
        occurrences.finish(conn, turn.occurrence, failed=failed, at=at)
    if ending.momentary:
        memory.forget(conn, turn.session, "knob", ending.momentary)
    if ending.compacted is not None:
        sessions.begin_context(
            conn,
            turn.session,
            after_turn=ending.compacted.after_turn,
            summary=ending.compacted.summary,
        )
    spending.add(conn, ending.spent, ending.processing, at=at)


def finished(turn: TurnId, ending: Ending, *, joined: TurnId | None = None) -> NewEvent:
    """The last event of a turn; with `joined` of one that another turn has answered."""
    data: dict[str, object] = {
        "turn": turn,
        "state": ending.state.value,
        "processing_ms": round(ending.processing.total_seconds() * 1000),
        "usage": asdict(ending.usage),
    }
    if joined is not None:
        data |= {"joined": joined, "processing_ms": 0, "usage": asdict(Usage())}
    if ending.error:
        data["error"] = ending.error
    if ending.ended:
        data["ended"] = ending.ended.value
    return NewEvent("turn.finished", data, turn)


def message_added(message: Message) -> NewEvent:
    """How the feed tells of a message; its number is the event's own."""
    data: dict[str, object] = {
        "number": message.number,
        "role": message.role.value,
        "author": message.author,
        "text": message.text,
        "status": message.status,
    }
    if message.voice:
        data["voice"] = message.voice
    if message.round is not None:
        data["round"] = message.round
    return NewEvent("message.added", data, message.turn)


def answers(turn: Turn, addresses: Sequence[Address]) -> list[NewDelivery]:
    """The deliveries of a turn's reply: in order within a session and an address."""
    return [
        NewDelivery(address, session=turn.session, turn=turn.id, ordered=True)
        for address in addresses
    ]
