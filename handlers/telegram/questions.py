"""How a question looks in a chat: with its buttons while it is open, with its outcome after."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.telegram.buttons import NO, YES, Button, Keyboard, choice_data
from handlers.telegram.literal import shortened, visible
from handlers.telegram.markup import Rich, italic, joined, render
from handlers.telegram.split import split
from service.core.model import Json, Question, QuestionKind
from service.core.states import QuestionState
from service.engine import questions as asking

_APPROVE = "✅ Approve"
_DENY = "🚫 Deny"
_HINT = "Reply with your answer."
# More than this does not fit on a button of a phone.
_LONGEST_LABEL = 40
_LONGEST_SHOWN = 200


def asked(text: str, options: Json) -> tuple[Rich, Keyboard]:
    """A notice as it is shown, with the buttons of the question it asks, if it asks one."""
    match options:
        case {"question": str(question), "kind": QuestionKind.APPROVAL.value}:
            return render(text), _approval(question)
        case {"question": str(question), "kind": QuestionKind.QUESTION.value}:
            choices = [one for one in options.get("choices", ()) if isinstance(one, str)]
            words = _with_choices(render(text), choices)
            return (words, _choices(question, choices)) if choices else (_hinted(words), ())
    return render(text), _buttons(options)


def closed(question: Question, who: str) -> Rich:
    """A question that is over, with what came of it; `who` names whoever answered."""
    words = _with_choices(render(asking.shown(question)), question.choices)
    # What does not fit into one message was sent in several; the buttons are under the last.
    return split(joined(words, Rich(_outcome(question, who))))[-1]


def _approval(question: str) -> Keyboard:
    approve = Button(_APPROVE, choice_data(question, YES))
    return [[approve, Button(_DENY, choice_data(question, NO))]]


def _choices(question: str, choices: Sequence[str]) -> Keyboard:
    labels = _labels(choices)
    return [[Button(label, choice_data(question, at))] for at, label in enumerate(labels)]


def _buttons(options: Json) -> Keyboard:
    match options:
        case {"button": {"text": str(text), "data": str(data)}}:
            return [[Button(text, data)]]
        case {"buttons": [*rows]}:
            return [[Button(text, data) for text, data in row] for row in rows]
    return ()


def _with_choices(words: Rich, choices: Sequence[str]) -> Rich:
    """The words, with the choices below them when not all can be read on their buttons."""
    if all(map(_is_label, choices)):
        return words
    lines = [f"{number}. {visible(choice)}" for number, choice in enumerate(choices, start=1)]
    return joined(words, Rich("\n".join(lines)))


def _labels(choices: Sequence[str]) -> list[str]:
    """What stands on the buttons: numbered like the choices above them, if those are there."""
    if all(map(_is_label, choices)):
        return list(choices)
    numbered = [f"{number}. {visible(choice)}" for number, choice in enumerate(choices, start=1)]
    return [shortened(one, _LONGEST_LABEL) for one in numbered]


def _is_label(choice: str) -> bool:
    return choice == visible(choice) != "" and len(choice) <= _LONGEST_LABEL


def _hinted(words: Rich) -> Rich:
    return joined(words, italic(_HINT))


def _outcome(question: Question, who: str) -> str:
    match question.state, question.kind:
        case QuestionState.ANSWERED, QuestionKind.APPROVAL:
            agreed = asking.is_yes(question.answer or "")
            return f"✅ Approved by {who}" if agreed else f"🚫 Denied by {who}"
        case QuestionState.ANSWERED, QuestionKind.QUESTION:
            answer = question.answer or ""
            verb = "chose" if answer in question.choices else "answered"
            told = shortened(visible(answer), _LONGEST_SHOWN)
            return f"{who[:1].upper()}{who[1:]} {verb}: {told}"
        case QuestionState.EXPIRED, _:
            return "⌛ Nobody answered in time."
    return "It was withdrawn."
