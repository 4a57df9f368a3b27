"""What `/start`, `/new` and the other commands do, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches

from handlers.telegram import findings, keeping, voices
from handlers.telegram.buttons import switch_button
from handlers.telegram.keeping import NONE_ARCHIVED, UNTITLED, kept
from handlers.telegram.literal import code, lasting, plain
from handlers.telegram.translate import Called
from handlers.telegram.voices import Told
from service.core.access import may_interrupt
from service.core.model import Binding, Cast, Channel, SessionId, TurnKind, Usage
from service.core.states import TurnState
from service.engine.compositions import Compositions
from service.engine.controls import Command, SessionStatus, SessionSummary
from service.engine.memory import KnobView
from service.engine.steering import Interrupting
from service.errors import BadInput
from service.store.lists import View

# In the order Telegram's menu shows them.
MENU: Mapping[str, str] = {
    "new": "Start a new session: /new [agent or composition]",
    "stop": "Stop the running reply, or one voice: /stop [voice]",
    "interrupt": "Have it pause and ask: /interrupt [new instruction]",
    "status": "Show this chat's session",
    "sessions": "List the sessions of this chat: /sessions [archived or scheduled]",
    "projects": "Show your projects: /projects [name]",
    "results": "Show what this session found: /results [number]",
    "disposition": "Show what this session came to",
    "title": "Name this session: /title words",
    "pin": "Pin this session",
    "unpin": "Let go of it",
    "archive": "Put this session away",
    "restore": "Bring one back: /restore [number of /sessions archived]",
    "voices": "Show who speaks here",
    "mode": "Who answers: /mode [broadcast or conductor]",
    "to": "Pick who answers: /to [voice or all]",
    "rounds": "How often a voice goes on by itself: /rounds voice-or-all 0-3",
    "clear": "Let the agent begin anew; the history is kept",
    "compact": "Sum up what was said so far",
    "rerun": "Let the agent go on without a message",
    "knobs": "List the settings of this session",
    "set": "Change a setting: /set knob value",
    "help": "Show what I can do",
}
KNOWN = frozenset({*MENU, "start"})

# Commands that are carried out as a turn of the chat's session.
TURNS: Mapping[str, TurnKind] = {
    "compact": TurnKind.COMPACT,
    "rerun": TurnKind.RENDER,
    "interrupt": TurnKind.MESSAGE,
}

_INTERRUPTIONS: Mapping[Interrupting, str] = {
    Interrupting.INTERRUPTING: "Stopping at the next step.",
    Interrupting.ALREADY: "It is stopping at the next step already.",
    Interrupting.IDLE: "Nothing is running.",
    Interrupting.NOT_OWNER: "Only the owner of this session may interrupt it.",
}
_LONGEST_TITLE = 200
_NONE_LISTED: Mapping[View, str] = {
    View.ACTIVE: voices.GONE,
    View.ARCHIVED: NONE_ARCHIVED,
    View.SCHEDULED: "No task has said anything here.",
}
_MEGABYTE = 2**20
_STATES: Mapping[TurnState | None, str] = {
    None: "idle",
    TurnState.QUEUED: "waiting for its turn",
    TurnState.RUNNING: "answering",
    TurnState.WAITING: "waiting for an answer",
}


def turn_of(called: Called, status: SessionStatus | None) -> TurnKind | None:
    """What turn a command makes in the session of its chat; None when it makes none."""
    kind = TURNS.get(called.name)
    if called.name != "interrupt":
        return None if status is None else kind
    mine = status is None or may_interrupt(called.person.name, owner=status.owner)
    return kind if called.argument and mine else None


class Commands:
    """Carries out commands, each inside of one transaction."""

    def __init__(
        self,
        agents: Mapping[str, Binding],
        *,
        agent: str,
        compositions: Compositions | None = None,
    ) -> None:
        self._agents = agents
        self._agent = agent
        self._compositions = compositions

    async def prepared(self, called: Called) -> Cast | str | None:
        """The voices of the composition that /new names, or why there are none.

        It is looked up before the command's transaction; None means that it needs no composition.
        """
        if called.name != "new" or not called.argument or called.argument in self._agents:
            return None
        found = [] if self._compositions is None else await self._compositions.all()
        usable = {one.name.casefold(): one.name for one in found if not one.archived}
        name = usable.get(called.argument.casefold())
        if name is None or self._compositions is None:
            known = ", ".join(map(code, [*sorted(self._agents), *usable.values()]))
            kinds = "agent or composition" if usable else "agent"
            return f"There is no {kinds} {code(called.argument)}. Choose one of {known}."
        try:
            return await self._compositions.resolve(name)
        except BadInput as problem:
            return plain(f"{problem}.")

    async def run(self, called: Called, command: Command, prepared: Cast | str | None) -> None:
        """Do what somebody asked for and tell them."""
        answer = await self._answer(called, command, prepared)
        told = answer if isinstance(answer, Told) else Told(answer)
        options: dict[str, object] = dict(_answering(called))
        if told.buttons:
            options["buttons"] = [[[one.text, one.data] for one in row] for row in told.buttons]
        await command.notice(called.spot.address, told.words, options=options)

    async def _answer(
        self, called: Called, command: Command, prepared: Cast | str | None
    ) -> str | Told:
        match called.name:
            case "start" | "help":
                return self._help()
            case "new":
                return await self._new(called, command, prepared)
            case "stop":
                return await _stop(called, command)
            case "status":
                return _status(await command.status(key=called.spot.session_key), self._agent)
            case "sessions":
                return await _sessions(called, command)
            case "restore":
                return await keeping.restore(called, command)
            case "projects":
                return await findings.projects(called, command, datetime.now(UTC))
        if called.name in KNOWN:
            session = await command.session_of(key=called.spot.session_key)
            return await _in_session(called, command, session)
        near = get_close_matches(called.name, KNOWN, n=1)
        hint = f" Did you mean /{near[0]}?" if near else " /help lists what I know."
        return f"I do not know /{plain(called.name)}.{hint}"

    def _help(self) -> str:
        lines = [f"/{name} — {words}" for name, words in MENU.items() if name != "help"]
        others = ", ".join(f"`{name}`" for name in sorted(self._agents))
        return "\n".join(
            [
                "Write to me and I answer; what you write here is one session.",
                "",
                *lines,
                "",
                f"Agents: {others}. `{self._agent}` answers unless you choose another.",
            ]
        )

    async def _new(self, called: Called, command: Command, prepared: Cast | str | None) -> str:
        if isinstance(prepared, str):
            return prepared
        binding = _first(prepared) or self._agents[called.argument or self._agent]
        await command.new_session(
            key=called.spot.session_key,
            binding=binding,
            home=called.spot.address,
            author=called.person.name,
            origin=Channel.TELEGRAM,
            sticky=True,
            cast=prepared,
        )
        if prepared is not None:
            names = ", ".join(f"**{plain(one.name)}**" for one in prepared.voices)
            return f"A new session with {names}."
        return f"A new session with **{binding.agent}** ({code(binding.model)})."


def _first(cast: Cast | None) -> Binding | None:
    return cast.voices[0].binding if cast else None


async def _stop(called: Called, command: Command) -> str:
    """Stop what runs, or one voice of it where there are several."""
    key, by = called.spot.session_key, called.person.name
    session = await command.session_of(key=key) if called.argument else None
    if session is not None:
        told = await voices.stop(called.argument, command, session, by)
        if told is not None:
            return told
    return "Stopped." if await command.stop(key=key, by=by) else "Nothing is running."


async def _sessions(called: Called, command: Command) -> str | Told:
    try:
        view = View(called.argument.strip().lower() or View.ACTIVE)
    except ValueError:
        return "Write /sessions, /sessions archived or /sessions scheduled."
    found = await command.sessions(home=called.spot.address, view=view)
    if not found:
        return _NONE_LISTED[view]
    words = _list(found, datetime.now(UTC), numbered=view is View.ARCHIVED)
    others = [one for one in found if not one.current] if view is View.ACTIVE else []
    return Told(words, [[switch_button(one.session, one.title or UNTITLED)] for one in others])


async def _in_session(called: Called, command: Command, session: SessionId | None) -> str | Told:
    """Carry out a command that needs a session."""
    by = called.person.name
    match called.name, session:
        case "interrupt", None:
            return _INTERRUPTIONS[Interrupting.IDLE]
        case _, None:
            return voices.GONE
        case "interrupt", session:
            return _INTERRUPTIONS[await command.interrupt(session, by=by)]
        case "clear", session:
            await command.clear(session, by=by)
            return "The agent does not see what was said before. The history is kept."
        case "knobs", session:
            memory = await command.memory(session)
            return _knobs(memory.knobs if memory else ())
        case "set", session:
            return await _set(called.argument, command, session)
        case "results" | "disposition", session:
            return await findings.of_session(called, command, session, datetime.now(UTC))
        case "voices" | "mode" | "to" | "rounds", session:
            return await voices.steer(called, command, session)
        case "title", session:
            return await _title(called.argument, command, session, by)
        case "pin" | "unpin", session:
            pinned = called.name == "pin"
            refused = await command.pin(session, sticky=pinned, by=by)
            return kept(refused, "Pinned." if pinned else "No longer pinned.")
        case "archive", session:
            return await keeping.archive(command, session, by)
    # It had no session when the command was looked at, and has one since.
    return "The session has only begun. Try again."


async def _set(argument: str, command: Command, session: SessionId) -> str:
    name, *value = argument.split(maxsplit=1)[:2] if argument else ("",)
    if not value:
        return "Write /set, a knob and its value. /knobs lists them."
    try:
        kept = await command.set_knob(session, name, value[0])
    except BadInput as problem:
        return plain(f"{problem}.")
    return f"{code(name)} is now {code(_value(kept))}."


async def _title(argument: str, command: Command, session: SessionId, by: str) -> str:
    title = " ".join(argument.split())
    if not 0 < len(title) <= _LONGEST_TITLE:
        return f"Write /title and a name of 1 to {_LONGEST_TITLE} characters."
    refused = await command.rename(session, title, by=by)
    return kept(refused, f"This session is called **{plain(title)}** now.")


def introduction(person: int) -> str:
    """What a stranger is told who starts the bot: only their own number."""
    return (
        f"This bot is private. Your id is `{person}`; its operator can add it to `telegram.allow`."
    )


def unreadable(kind: str) -> str:
    """What somebody is told who sent something without words."""
    return f"I cannot read {kind} yet. Write to me in words, please."


def too_large(limit: int) -> str:
    """What somebody is told who sent a file that is not taken."""
    size = f"{limit / _MEGABYTE:.3g} MB" if limit >= _MEGABYTE else f"{limit / 1024:.3g} kB"
    return f"That file is too large. I take files of up to {size}; send a smaller one, please."


def too_many() -> str:
    """What somebody is told whose message was not taken."""
    return "Too many messages wait for an answer here. This one was not taken: try later, or /stop."


def _answering(called: Called) -> Mapping[str, int]:
    """In groups an answer points at its question."""
    return {} if called.spot.private else {"reply_to": called.message}


def _status(status: SessionStatus | None, agent: str) -> str:
    if status is None:
        return f"No session yet. Write something, and `{agent}` answers."
    lines = [
        f"**{plain(status.title or UNTITLED)}**",
        f"Agent: {code(status.agent)}, model {code(status.model)} of {code(status.provider)}",
        f"State: {_STATES.get(status.state, 'idle')}, {status.queued} waiting",
        f"Worked for {lasting(status.processing)}, {_spent(status.usage)}",
        f"Session: {code(status.session)}, since {status.created_at:%Y-%m-%d %H:%M} UTC",
    ]
    if status.questions:
        lines.append(f"Open questions: {status.questions}")
    if status.summary:
        lines.append("Context: what was said at first is summarised")
    if status.undelivered:
        lines.append(f"Not delivered: {status.undelivered}")
    return "\n".join(lines)


def _spent(usage: Usage) -> str:
    tokens = f"{usage.input_tokens + usage.output_tokens:,} tokens"
    dollars = usage.cost_micros / 1_000_000
    return f"{tokens}, ${dollars:.4f}" if usage.cost_micros > 0 else tokens


def _knobs(knobs: Sequence[KnobView]) -> str:
    if not knobs:
        return "The agent of this session has no knobs."
    return "\n".join(map(_knob, knobs))


def _knob(one: KnobView) -> str:
    about = f" {plain(one.description)}" if one.description else ""
    span = ", for one turn" if one.momentary else ""
    takes = plain(f"Takes {one.takes}{span}.")
    return f"- {code(one.name)} = {code(_value(one.value))}:{about} {takes}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _list(sessions: Sequence[SessionSummary], now: datetime, *, numbered: bool) -> str:
    marks = (f"{place}." if numbered else "-" for place, _ in enumerate(sessions, 1))
    return "\n".join(f"{mark} {_item(one, now)}" for mark, one in zip(marks, sessions, strict=True))


def _item(one: SessionSummary, now: datetime) -> str:
    title = plain(one.title or UNTITLED)
    shown = f"**{title}** (current)" if one.current else title
    ago = lasting(now - one.active_at)
    return f"{shown}, {code(one.agent)}, {ago} ago"
