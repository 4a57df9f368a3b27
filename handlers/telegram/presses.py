"""What becomes of a pressed button: inside of one transaction, and once, however often it comes."""

from __future__ import annotations

from dataclasses import dataclass

from handlers.telegram import findings, keeping, voices
from handlers.telegram.buttons import (
    Chosen,
    Picked,
    archived_session,
    chosen,
    picked,
    shown_project,
    stopped_turn,
    switched_session,
    words_of,
)
from handlers.telegram.markup import Rich, render
from handlers.telegram.questions import closed
from handlers.telegram.translate import Pressed
from service.core.model import ProjectId, Question, QuestionKind, SessionId, TurnId
from service.engine import questions as asking
from service.engine.controls import Command
from service.engine.steering import Answering

NOTHING = "This button does nothing any more."
_CLOSED = "That question is closed."
_NOT_YOURS = "Only the person who was asked may answer."
_SHOWN = "Here it is."
_IN_CONSOLE = "This is too long to be shown here. Decide in the console."


@dataclass(frozen=True, slots=True)
class Reaction:
    """What is told to whoever pressed, and what the message says from now on."""

    words: str
    shows: Rich | None = None


def is_ours(data: str) -> bool:
    """Whether a button still means something."""
    readers = (stopped_turn, chosen, picked, shown_project, archived_session, switched_session)
    return any(one(data) is not None for one in readers)


async def react(pressed: Pressed, command: Command | None) -> Reaction:
    """Do what a pressed button asks for; `command` is None when that was done before."""
    turn = stopped_turn(pressed.data)
    if turn is not None:
        return await _stop(turn, pressed, command)
    pick = picked(pressed.data)
    if pick is not None:
        return Reaction(NOTHING) if command is None else await _pick(pick, pressed, command)
    project = shown_project(pressed.data)
    if project is not None:
        return await _show(project, pressed, command)
    session = archived_session(pressed.data)
    if session is not None:
        return Reaction(NOTHING) if command is None else await _archive(session, pressed, command)
    other = switched_session(pressed.data)
    if other is not None:
        return Reaction(NOTHING) if command is None else await _switch(other, pressed, command)
    button = chosen(pressed.data)
    if button is None:
        return Reaction(NOTHING)
    return Reaction(_CLOSED) if command is None else await _answer(button, pressed, command)


async def _stop(turn: TurnId, pressed: Pressed, command: Command | None) -> Reaction:
    home, by = pressed.spot.address, pressed.person.name
    stopped = command is not None and await command.stop_turn(turn, home=home, by=by)
    return Reaction("Stopping." if stopped else "It is over already.")


async def _pick(pick: Picked, pressed: Pressed, command: Command) -> Reaction:
    session = await command.session_of(key=pressed.spot.session_key)
    company = None if session is None else await command.company(session)
    if session is None or company is None:
        return Reaction(NOTHING)
    voice = next((one.voice for one in company.voices if one.voice.id == pick.voice), None)
    if pick.voice is not None and (voice is None or not voice.active):
        # It is a voice of a session that was here before, or rests by now.
        return Reaction(NOTHING)
    words = await voices.pick(voice, command, session, pressed.person.name)
    return Reaction("Got it.", render(words))


async def _archive(session: SessionId, pressed: Pressed, command: Command) -> Reaction:
    key, by = pressed.spot.session_key, pressed.person.name
    words = await keeping.unpin_and_archive(command, session, key, by)
    if words == keeping.NOT_OWNER:
        # The button stays for whom it is.
        return Reaction(words)
    return Reaction(NOTHING) if words is None else Reaction("Got it.", render(words))


async def _switch(session: SessionId, pressed: Pressed, command: Command) -> Reaction:
    key, home = pressed.spot.session_key, pressed.spot.address
    words = await keeping.switch(command, session, key=key, home=home)
    return Reaction(NOTHING) if words is None else Reaction("Got it.", render(words))


async def _show(project: ProjectId, pressed: Pressed, command: Command | None) -> Reaction:
    if not pressed.spot.private:
        # Only a forged press gets here: nobody is shown these buttons in a group.
        return Reaction(findings.ALONE)
    if command is None:
        return Reaction(_SHOWN)
    words = await findings.contents(project, command, pressed.person.name)
    if words is None:
        return Reaction(NOTHING)
    await command.notice(pressed.spot.address, words)
    return Reaction(_SHOWN)


async def _answer(button: Chosen, pressed: Pressed, command: Command) -> Reaction:
    question = await command.question(button.question)
    if question is None:
        return Reaction(_CLOSED)
    words = words_of(button, question)
    if words is None:
        return Reaction(NOTHING)
    if question.kind is QuestionKind.APPROVAL and not asking.fits(question):
        # Only a forged press gets here: it has no buttons.
        return Reaction(_IN_CONSOLE)
    outcome = await command.answer(
        question.id, words, by=pressed.person.name, home=pressed.spot.address
    )
    match outcome:
        case Answering.NOT_YOURS:
            return Reaction(_NOT_YOURS)
        case Answering.UNKNOWN:
            return Reaction(_CLOSED)
    known = await command.question(question.id) or question
    shows = closed(known, _who(known, pressed))
    return Reaction("Got it." if outcome is Answering.ANSWERED else _CLOSED, shows)


def _who(question: Question, pressed: Pressed) -> str:
    """Who answered, in words for everybody in the chat."""
    if question.answered_by == pressed.person.name:
        return "you" if pressed.spot.private else pressed.name
    asked = question.answered_by in (None, question.asked_of)
    return "whoever was asked" if asked else "the operator"
