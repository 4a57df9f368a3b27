"""How a turn asks a person: the tool for it, approvals, and what becomes of the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from service.core.model import (
    NewEvent,
    Question,
    QuestionId,
    QuestionKind,
    Reply,
    SessionId,
)
from service.core.states import QuestionState, ToolState
from service.errors import BadInput
from service.ports import ToolCall, ToolResult, ToolSpec
from service.store import audit, deliveries, questions, turns
from service.store.ids import new_id

MOST_CHOICES = 8
_LONGEST_QUESTION = 2000
_LONGEST_CHOICE = 200
# More than this cannot be read in a chat before it is agreed to.
_LONGEST_SHOWN = 3000
CONTINUE = "Continue"
ENOUGH = "Enough"
_YES = frozenset({"yes", "y", "ok", "approve", "go", "go ahead", "do it"})

PROMPT_USER = ToolSpec(
    "prompt_user",
    "Ask the person you work for and wait for the answer. Call it alone, with no other tool in "
    "the same response.",
    {
        "type": "object",
        "properties": {
            "question": {"type": "string", "description": "What you need to know."},
            "choices": {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": MOST_CHOICES,
                "description": "Answers to choose from; leave out for a free answer.",
            },
        },
        "required": ["question"],
        "additionalProperties": False,
    },
)

ALONE = (
    "Not run: prompt_user has to be the only call of a response. Nothing of this response was "
    "run; ask again with prompt_user alone, or without it."
)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call by its place in a reply."""

    session: SessionId
    reply: Reply
    iteration: int
    ordinal: int
    call: ToolCall


def question_of(call: Call, *, asked_of: str, now: datetime, within: timedelta) -> Question:
    """The question that a call of prompt_user asks. Raises BadInput for what the model can mend."""
    text, choices = _arguments(call.call.arguments)
    return _open(call, QuestionKind.QUESTION, text, choices, asked_of, now + within)


def approval_of(call: Call, *, asked_of: str, now: datetime, within: timedelta) -> Question:
    """The question whether exactly this call may run."""
    tool, arguments = call.call.tool, call.call.arguments
    question = _open(call, QuestionKind.APPROVAL, f"May I run {tool}?", (), asked_of, now + within)
    return replace(question, tool=tool, arguments=arguments)


def _open(
    call: Call,
    kind: QuestionKind,
    text: str,
    choices: tuple[str, ...],
    asked_of: str,
    expires_at: datetime,
) -> Question:
    return Question(
        id=QuestionId(new_id()),
        session=call.session,
        turn=call.reply.turn,
        reply=call.reply.id,
        iteration=call.iteration,
        ordinal=call.ordinal,
        kind=kind,
        text=text,
        choices=choices,
        asked_of=asked_of,
        state=QuestionState.OPEN,
        expires_at=expires_at,
    )


def asked(question: Question) -> NewEvent:
    """How the feed tells of a question."""
    data: dict[str, Any] = {
        "question": question.id,
        "reply": question.reply,
        "call": f"{question.iteration}.{question.ordinal}",
        "kind": question.kind.value,
        "text": question.text,
        "choices": list(question.choices),
        "asked_of": question.asked_of,
        "expires_at": question.expires_at.isoformat().replace("+00:00", "Z"),
    }
    if question.kind is QuestionKind.APPROVAL:
        data |= {"tool": question.tool, "arguments": question.arguments}
    return NewEvent("question.asked", data, question.turn)


def close(
    conn: sa.Connection,
    question: Question,
    *,
    state: QuestionState,
    answer: str | None = None,
    by: str | None = None,
    at: datetime,
) -> NewEvent | None:
    """Close an open question and let its turn go on once none is left; its event.

    None when it was closed before. The caller has locked the turn and appends the event.
    """
    if not questions.close(conn, question, state=state, answer=answer, by=by, at=at):
        return None
    if not questions.open_of_turn(conn, question.turn) and turns.go_on(conn, question.turn, at=at):
        deliveries.go_on(conn, question.turn, at=at)
    return answered(question, state=state, answer=answer, by=by)


def answered(
    question: Question,
    *,
    state: QuestionState,
    answer: str | None = None,
    by: str | None = None,
) -> NewEvent:
    """How the feed tells that a question is closed."""
    data = {"question": question.id, "state": state.value, "answer": answer, "by": by}
    return NewEvent("question.answered", data, question.turn)


def note_decision(
    conn: sa.Connection, question: Question, answer: str, *, by: str, allowed: bool, at: datetime
) -> None:
    """Write down who decided about a tool, with exactly what they decided about."""
    if question.kind is not QuestionKind.APPROVAL:
        return
    audit.note(
        conn,
        by,
        "approve" if is_yes(answer) else "deny",
        session=question.session,
        allowed=allowed,
        at=at,
        question=question.id,
        tool=question.tool,
        arguments=question.arguments,
    )


def is_yes(answer: str) -> bool:
    """Whether an answer agrees; everything that does not say so denies."""
    words = _plain(answer)
    return words in _YES or words.startswith(("yes ", "yes,"))


def wants_round(answer: str) -> bool:
    """Whether an answer wants another round of the voices."""
    return _plain(answer) == _plain(CONTINUE) or is_yes(answer)


def is_about_rounds(question: Question) -> bool:
    """Whether it asks for another round; what a model asks belongs to an iteration from 0 on."""
    return question.iteration < 0


def is_answer(question: Question, words: str) -> bool:
    """Whether a message is meant as the answer.

    The voices ask nothing when they could go on: what is neither a yes nor a no is for them.
    """
    if not is_about_rounds(question):
        return True
    return wants_round(words) or _plain(words) == _plain(ENOUGH) or _is_plain_no(words)


def result_of(question: Question, call: ToolCall) -> tuple[ToolState, ToolResult] | None:
    """What the model is told of a closed question; None when its call may run now."""
    match question.state, question.kind:
        case QuestionState.ANSWERED, QuestionKind.QUESTION:
            return ToolState.DONE, ToolResult(call.id, call.tool, question.answer or "")
        case QuestionState.ANSWERED, QuestionKind.APPROVAL:
            return _decided(question, call)
        case QuestionState.EXPIRED, _:
            text = "Nobody answered in time. Go on without it, or say what is missing."
        case _:
            text = "The question was withdrawn."
    return ToolState.ERROR, ToolResult(call.id, call.tool, text, failed=True)


def _decided(question: Question, call: ToolCall) -> tuple[ToolState, ToolResult] | None:
    same = (question.tool, question.arguments) == (call.tool, call.arguments)
    if same and is_yes(question.answer or ""):
        return None
    reason = "" if _is_plain_no(question.answer) else f" They said: {question.answer}"
    text = f"Not run: the person did not approve it.{reason}"
    return ToolState.ERROR, ToolResult(call.id, call.tool, text, failed=True)


def _is_plain_no(answer: str | None) -> bool:
    return _plain(answer or "") in ("", "no", "n", "deny", "denied")


def _plain(words: str) -> str:
    return words.strip().lower().rstrip(".!")


def shown(question: Question) -> str:
    """The question in Markdown, whole: what is agreed to must have been seen."""
    if question.kind is QuestionKind.QUESTION:
        return question.text
    arguments = _readable(question.arguments or "{}")
    if len(arguments) > _LONGEST_SHOWN:
        return (
            f"May I run `{question.tool}`? Its arguments are too long to show here "
            f"({len(arguments)} characters). Look at them and decide in the console."
        )
    return f"May I run `{question.tool}`?\n\n```json\n{arguments}\n```"


def fits(question: Question) -> bool:
    """Whether a chat shows all of it, so that it may be agreed to there."""
    return len(_readable(question.arguments or "{}")) <= _LONGEST_SHOWN


def options(question: Question) -> Mapping[str, Any]:
    """What a channel needs to offer buttons under the question."""
    given: dict[str, Any] = {"question": question.id, "kind": question.kind.value}
    if question.kind is QuestionKind.APPROVAL and not fits(question):
        return {**given, "kind": "notice", "choices": []}
    return {**given, "choices": list(question.choices)}


def unattended(question: Question) -> str:
    """What a turn ends with that has a question and nobody to ask."""
    choices = "\n".join(f"- {choice}" for choice in question.choices)
    return f"{question.text}\n\n{choices}" if choices else question.text


def _readable(arguments: str) -> str:
    """Arguments with every invisible or direction-changing character escaped."""
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=True)
    except (ValueError, RecursionError):
        return json.dumps(arguments)


def _arguments(written: str) -> tuple[str, tuple[str, ...]]:
    try:
        arguments = json.loads(written or "{}")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The arguments are not JSON: {error}. Call it again.") from error
    if not isinstance(arguments, dict) or set(arguments) - {"question", "choices"}:
        raise BadInput("prompt_user takes an object with question and choices. Call it again.")
    text = arguments.get("question")
    if not isinstance(text, str) or not 0 < len(text.strip()) <= _LONGEST_QUESTION:
        raise BadInput(f"question: a text of 1 to {_LONGEST_QUESTION} characters is needed.")
    return text.strip(), _choices(arguments.get("choices") or [])


def _choices(given: object) -> tuple[str, ...]:
    usable = isinstance(given, list) and len(given) <= MOST_CHOICES
    if not usable or not all(_is_choice(one) for one in given):  # type: ignore[attr-defined]
        raise BadInput(
            f"choices: at most {MOST_CHOICES} texts of 1 to {_LONGEST_CHOICE} characters."
        )
    assert isinstance(given, list)
    return tuple(dict.fromkeys(one.strip() for one in given))


def _is_choice(one: object) -> bool:
    return isinstance(one, str) and 0 < len(one.strip()) <= _LONGEST_CHOICE


def views(found: Sequence[Question]) -> list[dict[str, Any]]:
    """Open questions as the HTTP API and callbacks tell them."""
    return [
        {key: value for key, value in asked(one).data.items() if key not in ("reply", "call")}
        for one in found
    ]
