"""What people are told of the voices of their session, and how they steer them."""

from __future__ import annotations

from dataclasses import dataclass

from handlers.telegram.buttons import Keyboard, pick_button
from handlers.telegram.literal import code, plain
from handlers.telegram.translate import Called
from service.core.model import SessionId, Voice
from service.core.rounds import MOST_ROUNDS, Mode
from service.core.states import ReplyState
from service.engine.controls import Command, Company, VoiceStatus
from service.engine.voicing import SetUp
from service.errors import BadInput

# Calls all voices where a name is expected.
ALL = "all"
EVERYBODY = "Everybody answers."
GONE = "No session yet. Write something to start one."

_STATES = {
    None: "has said nothing yet",
    ReplyState.WAITING: "waits for an answer",
    ReplyState.GENERATING: "is answering",
    ReplyState.DONE: "has answered",
    ReplyState.ERROR: "failed",
}
_MODES = {
    Mode.BROADCAST: "all voices that do not rest answer",
    Mode.CONDUCTOR: "only the voice that is named or picked answers",
}
_ROUNDS_USAGE = f"Write /rounds, a voice or {ALL}, and how often it may go on: 0 to {MOST_ROUNDS}."


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody is told, in Markdown, and the buttons under it."""

    words: str
    buttons: Keyboard = ()


async def steer(called: Called, command: Command, session: SessionId) -> Told:
    """Carry out /voices, /mode, /to or /rounds."""
    company = await command.company(session)
    if company is None:
        return Told(GONE)
    argument, by = called.argument.strip(), called.person.name
    match called.name:
        case "voices":
            return Told("\n".join(_line(one, company) for one in company.voices))
        case "mode":
            return Told(await _mode(argument, command, session, company, by))
        case "to":
            return await _to(argument, command, session, company, by)
        case _:
            return Told(await _rounds(argument, command, session, company))


async def stop(name: str, command: Command, session: SessionId, by: str) -> str | None:
    """Stop the voice with this name; None when the session has no voices to choose from."""
    company = await command.company(session)
    if company is None or len(company.voices) < 2:
        return None
    voice = company.called(name)
    if voice is None:
        return f"{_unknown(name, company)} /stop alone stops all of them."
    stopped = await command.stop_voice(session, voice.id, by=by)
    return f"{_bold(voice)} stops." if stopped else f"{_bold(voice)} says nothing at the moment."


async def pick(voice: Voice | None, command: Command, session: SessionId, by: str) -> str:
    """Let one voice answer what is written from now on, or all of them; tell about it."""
    if voice is None:
        changes = SetUp(mode=Mode.BROADCAST, untarget=True)
    else:
        changes = SetUp(mode=Mode.CONDUCTOR, target=voice.id)
    await command.set_up(session, changes, by=by)
    return EVERYBODY if voice is None else f"{_bold(voice)} answers from now on."


async def _mode(
    argument: str, command: Command, session: SessionId, company: Company, by: str
) -> str:
    if not argument:
        return _about(company.mode, company)
    try:
        mode = Mode(argument.lower())
    except ValueError:
        return "Write /mode broadcast or /mode conductor."
    await command.set_up(session, SetUp(mode=mode), by=by)
    return _about(mode, company)


async def _to(
    argument: str, command: Command, session: SessionId, company: Company, by: str
) -> Told:
    active = [one.voice for one in company.voices if one.voice.active]
    if not argument:
        rows = [*([pick_button(one)] for one in active), [pick_button(None)]]
        return Told("Who is to answer?", rows)
    if argument.casefold() == ALL:
        return Told(await pick(None, command, session, by))
    voice = company.called(argument)
    if voice is None:
        return Told(_unknown(argument, company))
    if not voice.active:
        return Told(f"{_bold(voice)} is resting. Wake it in the console first.")
    return Told(f"{await pick(voice, command, session, by)} /to {ALL} ends that.")


async def _rounds(argument: str, command: Command, session: SessionId, company: Company) -> str:
    name, _, number = argument.rpartition(" ")
    if not name or not number.isascii() or not number.isdigit():
        return _ROUNDS_USAGE
    everybody = name.strip().casefold() == ALL
    voice = None if everybody else company.called(name)
    if voice is None and not everybody:
        return _unknown(name, company)
    chosen = [one.voice for one in company.voices] if voice is None else [voice]
    try:
        for one in chosen:
            await command.set_voice(session, one.id, rounds=int(number))
    except BadInput:
        return _ROUNDS_USAGE
    return f"{_bold(voice) if voice else 'Every voice'} {_goes_on(int(number))}."


def _line(one: VoiceStatus, company: Company) -> str:
    voice = one.voice
    parts = [f"{_bold(voice)}: {code(voice.model)}", _STATES[one.state]]
    if one.error:
        parts[-1] += f" ({plain(one.error)})"
    parts.append(_goes_on(voice.rounds))
    if not voice.active:
        parts.append("resting")
    if company.mode is Mode.CONDUCTOR and voice.id == company.target:
        parts.append("picked")
    return f"- {', '.join(parts)}"


def _goes_on(rounds: int) -> str:
    if not rounds:
        return "answers once"
    return "goes on for 1 round" if rounds == 1 else f"goes on for {rounds} rounds"


def _about(mode: Mode, company: Company) -> str:
    words = f"Mode {code(mode.value)}: {_MODES[mode]}."
    picked = next((one.voice for one in company.voices if one.voice.id == company.target), None)
    if mode is Mode.CONDUCTOR and picked is not None:
        return f"{words} {_bold(picked)} is picked."
    return words


def _unknown(name: str, company: Company) -> str:
    there = ", ".join(_bold(one.voice) for one in company.voices)
    return f"There is no voice {code(name)}. There are: {there}."


def _bold(voice: Voice) -> str:
    return f"**{plain(voice.name)}**"
