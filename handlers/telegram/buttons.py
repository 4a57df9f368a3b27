"""The buttons under our messages: what each carries, and what a press of it means.

Whoever presses can forge what a button carries. So it only ever names things; the words that
count are looked up where they are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.core.model import (
    ProjectId,
    Question,
    QuestionId,
    QuestionKind,
    SessionId,
    TurnId,
    Voice,
    VoiceId,
)

STOP_PREFIX = "stop:"
QUESTION_PREFIX = "q:"
PICK_PREFIX = "to:"
PROJECT_PREFIX = "project:"
ARCHIVE_PREFIX = "archive:"
SWITCH_PREFIX = "switch:"
YES, NO = "yes", "no"
_EVERYBODY = "all"
_LONGEST_LABEL = 40


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message. Telegram takes 1 to 64 bytes of data."""

    text: str
    data: str


Keyboard = Sequence[Sequence[Button]]
"""The rows of buttons under a message; none when it is empty."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One button of a question."""

    question: QuestionId
    which: str


@dataclass(frozen=True, slots=True)
class Picked:
    """The voice that is to answer; None means all of them."""

    voice: VoiceId | None


def stop_data(turn: str) -> str:
    """What the Stop button under a reply carries."""
    return f"{STOP_PREFIX}{turn}"


def stopped_turn(data: str) -> TurnId | None:
    """The turn that a pressed button wants stopped; None when it is another button."""
    turn = data.removeprefix(STOP_PREFIX)
    return TurnId(turn) if turn and turn != data else None


def choice_data(question: str, which: int | str) -> str:
    """What a button of a question carries: the place of a choice, or yes or no."""
    return f"{QUESTION_PREFIX}{question}:{which}"


def chosen(data: str) -> Chosen | None:
    """The button of a question that was pressed; None when it is another button."""
    prefix, _, rest = data.partition(":")
    question, _, which = rest.rpartition(":")
    if f"{prefix}:" != QUESTION_PREFIX or not question or not which:
        return None
    return Chosen(QuestionId(question), which)


def pick_button(voice: Voice | None) -> Button:
    """The button that lets one voice answer, or all of them."""
    if voice is None:
        return Button("Everybody", f"{PICK_PREFIX}{_EVERYBODY}")
    return Button(voice.name, f"{PICK_PREFIX}{voice.id}")


def picked(data: str) -> Picked | None:
    """Who is to answer when the button is pressed; None when it is another button."""
    voice = data.removeprefix(PICK_PREFIX)
    if not voice or voice == data:
        return None
    return Picked(None if voice == _EVERYBODY else VoiceId(voice))


def archive_button(session: SessionId) -> Button:
    """The button that lets go of a pinned session and puts it away."""
    return Button("Unpin and archive", f"{ARCHIVE_PREFIX}{session}")


def archived_session(data: str) -> SessionId | None:
    """The session that is to be put away; None when it is another button."""
    session = data.removeprefix(ARCHIVE_PREFIX)
    return SessionId(session) if session and session != data else None


def switch_button(session: SessionId, title: str) -> Button:
    """The button that lets the chat go on in another one of its sessions."""
    label = title if len(title) <= _LONGEST_LABEL else f"{title[: _LONGEST_LABEL - 1].rstrip()}…"
    return Button(label, f"{SWITCH_PREFIX}{session}")


def switched_session(data: str) -> SessionId | None:
    """The session that the chat is to go on in; None when it is another button."""
    session = data.removeprefix(SWITCH_PREFIX)
    return SessionId(session) if session and session != data else None


def project_data(project: str) -> str:
    """What a button carries that shows the sessions of a project."""
    return f"{PROJECT_PREFIX}{project}"


def shown_project(data: str) -> ProjectId | None:
    """The project whose sessions somebody wants to see; None when it is another button."""
    project = data.removeprefix(PROJECT_PREFIX)
    return ProjectId(project) if project and project != data else None


def words_of(button: Chosen, question: Question) -> str | None:
    """What somebody says who presses the button; None when the question has no such button."""
    if question.kind is QuestionKind.APPROVAL:
        return button.which if button.which in (YES, NO) else None
    places = {str(place): choice for place, choice in enumerate(question.choices)}
    return places.get(button.which)
