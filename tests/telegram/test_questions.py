"""How questions look: their buttons are small, honest and carry no words of their own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.telegram.buttons import chosen, words_of
from handlers.telegram.questions import asked, closed
from handlers.telegram.split import LIMIT, split
from service.core.access import OPERATOR
from service.core.model import Question, QuestionId, QuestionKind, ReplyId, SessionId, TurnId
from service.core.states import QuestionState
from service.store.ids import new_id

ID = new_id()


def question(
    choices: tuple[str, ...] = ("A", "B"),
    *,
    kind: QuestionKind = QuestionKind.QUESTION,
    state: QuestionState = QuestionState.ANSWERED,
    answer: str | None = None,
    text: str = "Which?",
) -> Question:
    return Question(
        id=QuestionId(ID),
        session=SessionId("s"),
        turn=TurnId("t"),
        reply=ReplyId("r"),
        iteration=1,
        ordinal=0,
        kind=kind,
        text=text,
        choices=choices,
        asked_of="telegram:501",
        state=state,
        expires_at=datetime.now(UTC),
        tool="post",
        arguments="{}",
        answer=answer,
        answered_by="telegram:501",
    )


def shown(*choices: str, text: str = "Which?") -> tuple[str, list[str], list[str]]:
    """The words, and the labels and the data of the buttons."""
    options = {"question": ID, "kind": "question", "choices": list(choices)}
    rich, keyboard = asked(text, options)
    buttons = [one for row in keyboard for one in row]
    return rich.text, [one.text for one in buttons], [one.data for one in buttons]


def test_short_choices_stand_on_the_buttons() -> None:
    """One row for each; what they carry is a place, not words."""
    assert shown("Red", "Blue 🎈") == (
        "Which?",
        ["Red", "Blue 🎈"],
        [f"q:{ID}:0", f"q:{ID}:1"],
    )


@pytest.mark.parametrize(
    ("choice", "line", "label"),
    [
        ("x" * 200, "1. " + "x" * 200, "1. " + "x" * 36 + "…"),
        ("yes\nno", "1. yes no", "1. yes no"),
        ("safe\u202etxt.exe", "1. safe txt.exe", "1. safe txt.exe"),
        ("a\u200bb", "1. a b", "1. a b"),
        ("\u3164\u200d", "1.", "1."),
        ("**bold** [x](http://e.org)", None, "**bold** [x](http://e.org)"),
    ],
)
def test_choices_that_do_not_fit_are_listed(choice: str, line: str | None, label: str) -> None:
    """Everybody can read all of what they choose, and nothing hides in it."""
    text, labels, _ = shown(choice, "B")

    listed = None if line is None else text.split("\n\n")[1].splitlines()[0].rstrip()
    assert (line, label) == (listed, labels[0].rstrip())


def test_choices_that_look_alike_are_told_apart() -> None:
    """An invisible character makes no second Yes."""
    _, labels, _ = shown("Yes", "Yes\u2060")

    assert labels == ["1. Yes", "2. Yes"]


@given(st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=8, unique=True))
def test_whatever_the_choices_telegram_takes_the_buttons(choices: list[str]) -> None:
    """At most 64 bytes of data, and always something to read."""
    _, labels, data = shown(*choices)

    assert all(0 < len(one.encode()) <= 64 for one in data)
    assert all(0 < len(label.strip()) <= 40 for label in labels)
    assert len(labels) == len(choices)
    assert [
        words_of(button, question(tuple(choices))) for button in map(chosen, data) if button
    ] == (choices)


@pytest.mark.parametrize(
    "data",
    ["", "q", "q:", "q::", "q::1", "q:1", "q:1:", "stop:1", "x:1:2", "Q:1:2"],
)
def test_data_that_is_no_choice_is_none(data: str) -> None:
    """Whoever presses can send anything."""
    assert chosen(data) is None


@pytest.mark.parametrize("which", ["2", "-1", "00", "yes", "٠", "no", "0x0"])
def test_a_question_has_no_other_buttons(which: str) -> None:
    """A forged place names no choice."""
    button = chosen(f"q:{ID}:{which}")

    assert button is not None
    assert words_of(button, question()) is None


@pytest.mark.parametrize("which", ["0", "ok", "YES", "approve"])
def test_an_approval_knows_yes_and_no(which: str) -> None:
    """Nothing else is taken for either."""
    button = chosen(f"q:{ID}:{which}")

    assert button is not None
    assert words_of(button, question(kind=QuestionKind.APPROVAL)) is None


def test_what_cannot_be_shown_whole_has_no_buttons() -> None:
    """It can be decided in the console only."""
    rich, keyboard = asked("Too long", {"question": ID, "kind": "notice", "choices": []})

    assert (rich.text, keyboard) == ("Too long", ())


@pytest.mark.parametrize(
    ("over", "who", "outcome"),
    [
        (question(answer="B"), "you", "You chose: B"),
        (question(answer="C\n\u202eD"), "Ann", "Ann answered: C D"),
        (question(answer="x" * 300), OPERATOR, f"Operator answered: {'x' * 199}…"),
        (question(state=QuestionState.EXPIRED), "you", "⌛ Nobody answered in time."),
        (question(state=QuestionState.CANCELLED), "you", "It was withdrawn."),
    ],
)
def test_a_question_that_is_over_shows_what_came_of_it(
    over: Question, who: str, outcome: str
) -> None:
    """Below its own words, in words that are taken literally."""
    assert closed(over, who).text == f"Which?\n\n{outcome}"


def test_the_last_message_of_a_long_question_shows_the_outcome() -> None:
    """The buttons were under that one; it may not be longer than Telegram takes."""
    choices = tuple(f"{number}" + "🎈" * 199 for number in range(8))
    long = question(choices, answer=choices[0], text="🎈" * 2000)
    rich, _ = asked(long.text, {"question": ID, "kind": "question", "choices": list(choices)})
    over = closed(long, "you")

    assert len(split(rich)) > 1
    assert len(over.text.encode("utf-16-le")) // 2 <= LIMIT
    assert "You chose: 0🎈" in over.text
