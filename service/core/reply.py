"""From the events of a turn to what its readers see: a fold without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from service.core.model import (
    Event,
    Json,
    QuestionId,
    QuestionKind,
    Reply,
    ReplyId,
    Turn,
    VoiceId,
)
from service.core.states import TURN_FINAL, ReplyState, ToolState, TurnState


@dataclass(frozen=True, slots=True)
class ToolView:
    """One tool call as a reader sees it."""

    call: str
    tool: str
    state: ToolState


@dataclass(frozen=True, slots=True)
class ReplyView:
    """One voice's answer so far."""

    reply: ReplyId
    name: str
    state: ReplyState
    text: str = ""
    error: str | None = None
    tools: tuple[ToolView, ...] = ()
    round: int = 1


@dataclass(frozen=True, slots=True)
class QuestionView:
    """Something the turn waits for a person to answer."""

    question: QuestionId
    kind: QuestionKind
    text: str
    choices: tuple[str, ...] = ()
    tool: str | None = None
    arguments: str | None = None


@dataclass(frozen=True, slots=True)
class TurnView:
    """One turn so far, in the order its voices began."""

    turn: str
    state: TurnState = TurnState.QUEUED
    replies: tuple[ReplyView, ...] = ()
    error: str | None = None
    number: int = 0
    """The feed number of the newest event folded in."""
    questions: tuple[QuestionView, ...] = ()
    """Open ones, in the order they were asked."""

    @property
    def final(self) -> bool:
        """Whether nothing more will come."""
        return self.state in TURN_FINAL

    @property
    def text(self) -> str:
        """The words of all voices, a blank line between them."""
        return "\n\n".join(reply.text for reply in self.replies if reply.text)


def fold(view: TurnView, event: Event) -> TurnView:
    """Return `view` with one event of the same turn applied; kinds nobody sees change nothing."""
    view = replace(view, number=event.number)
    data = event.data
    match event.kind:
        case "turn.started":
            return replace(view, state=TurnState.RUNNING)
        case "turn.finished":
            return replace(view, state=TurnState(data["state"]), error=data.get("error"))
        case "reply.started":
            reply = ReplyView(
                ReplyId(data["reply"]),
                data["name"],
                ReplyState.GENERATING,
                round=data.get("round", 1),
            )
            kept = tuple(old for old in view.replies if old.reply != reply.reply)
            return replace(view, replies=(*kept, reply))
        case "reply.reset":
            return _reset(view, data["reply"], data["text"])
        case "text":
            return _append(view, data["reply"], data["text"])
        case "reply.finished":
            return _finish(view, data["reply"], ReplyState(data["state"]), data.get("error"))
        case "tool.started":
            tool = ToolView(data["call"], data["tool"], ToolState.RUNNING)
            return _with_tool(view, data["reply"], tool)
        case "tool.finished":
            tool = ToolView(data["call"], data["tool"], ToolState(data["state"]))
            return _with_tool(view, data["reply"], tool)
        case "question.asked":
            asked = replace(view, questions=(*view.questions, _question(data)))
            return replace(asked, state=TurnState.WAITING)
        case "question.answered":
            left = tuple(one for one in view.questions if one.question != data["question"])
            state = TurnState.WAITING if left else TurnState.QUEUED
            return replace(view, questions=left, state=state)
    return view


def fold_all(view: TurnView, events: Iterable[Event]) -> TurnView:
    """Return `view` with all `events` applied in order."""
    for event in events:
        view = fold(view, event)
    return view


def view_of(turn: Turn, replies: Iterable[Reply], names: Mapping[VoiceId, str]) -> TurnView:
    """What readers see of a turn whose events need not be there any more."""
    views = tuple(
        ReplyView(
            reply.id,
            names.get(reply.voice, ""),
            reply.state,
            reply.text,
            reply.error,
            round=reply.round,
        )
        for reply in replies
    )
    return TurnView(turn.id, turn.state, views, turn.error, turn.number)


def _question(data: Json) -> QuestionView:
    return QuestionView(
        QuestionId(data["question"]),
        QuestionKind(data["kind"]),
        data["text"],
        tuple(data["choices"]),
        data.get("tool"),
        data.get("arguments"),
    )


def _reset(view: TurnView, reply: str, text: str) -> TurnView:
    return replace(
        view,
        replies=tuple(
            replace(old, text=text, state=ReplyState.GENERATING) if old.reply == reply else old
            for old in view.replies
        ),
    )


def _finish(view: TurnView, reply: str, state: ReplyState, error: str | None) -> TurnView:
    return replace(
        view,
        replies=tuple(
            replace(old, state=state, error=error) if old.reply == reply else old
            for old in view.replies
        ),
    )


def _append(view: TurnView, reply: str, text: str) -> TurnView:
    return replace(
        view,
        replies=tuple(
            replace(old, text=old.text + text) if old.reply == reply else old
            for old in view.replies
        ),
    )


def _with_tool(view: TurnView, reply: str, tool: ToolView) -> TurnView:
    return replace(
        view,
        replies=tuple(
            replace(old, tools=(*(t for t in old.tools if t.call != tool.call), tool))
            if old.reply == reply
            else old
            for old in view.replies
        ),
    )
