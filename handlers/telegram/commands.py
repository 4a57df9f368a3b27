"""What `/start`, `/new` and the other commands do, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from handlers.telegram.translate import Called
from service.core.access import may_interrupt
from service.core.model import Binding, Channel, SessionId, TurnKind, Usage
from service.core.states import TurnState
from service.engine.controls import Command, SessionStatus, SessionSummary
from service.engine.memory import KnobView
from service.engine.steering import Interrupting
from service.errors import BadInput

# In the order Telegram's menu shows them.
MENU: Mapping[str, str] = {
    "new": "Start a new session: /new [agent]",
    "stop": "Stop the running reply",
    "interrupt": "Have it pause and ask: /interrupt [new instruction]",
    "status": "Show this chat's session",
    "sessions": "List the sessions of this chat",
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
_NO_SESSION = "No session yet. Write something to start one."
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

    def __init__(self, agents: Mapping[str, Binding], *, agent: str) -> None:
        self._agents = agents
        self._agent = agent

    async def run(self, called: Called, command: Command) -> None:
        """Do what somebody asked for and tell them."""
        words = await self._answer(called, command)
        await command.notice(called.spot.address, words, options=_answering(called))

    async def _answer(self, called: Called, command: Command) -> str:
        match called.name:
            case "start" | "help":
                return self._help()
            case "new":
                return await self._new(called, command)
            case "stop":
                stopped = await command.stop(key=called.spot.session_key, by=called.person.name)
                return "Stopped." if stopped else "Nothing is running."
            case "status":
                return _status(await command.status(key=called.spot.session_key), self._agent)
            case "sessions":
                return _list(await command.sessions(home=called.spot.address), datetime.now(UTC))
        if called.name in KNOWN:
            session = await command.session_of(key=called.spot.session_key)
            return await _in_session(called, command, session)
        near = get_close_matches(called.name, KNOWN, n=1)
        hint = f" Did you mean /{near[0]}?" if near else " /help lists what I know."
        return f"I do not know /{_plain(called.name)}.{hint}"

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

    async def _new(self, called: Called, command: Command) -> str:
        agent = called.argument or self._agent
        binding = self._agents.get(agent)
        if binding is None:
            known = ", ".join(f"`{name}`" for name in sorted(self._agents))
            return f"There is no agent {_code(agent)}. Choose one of {known}."
        await command.new_session(
            key=called.spot.session_key,
            binding=binding,
            home=called.spot.address,
            author=called.person.name,
            origin=Channel.TELEGRAM,
            sticky=True,
        )
        return f"A new session with **{binding.agent}** ({_code(binding.model)})."


async def _in_session(called: Called, command: Command, session: SessionId | None) -> str:
    """Carry out a command that needs a session."""
    by = called.person.name
    match called.name, session:
        case "interrupt", None:
            return _INTERRUPTIONS[Interrupting.IDLE]
        case _, None:
            return _NO_SESSION
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
    # It had no session when the command was looked at, and has one since.
    return "The session has only begun. Try again."


async def _set(argument: str, command: Command, session: SessionId) -> str:
    name, *value = argument.split(maxsplit=1)[:2] if argument else ("",)
    if not value:
        return "Write /set, a knob and its value. /knobs lists them."
    try:
        kept = await command.set_knob(session, name, value[0])
    except BadInput as problem:
        return _plain(f"{problem}.")
    return f"{_code(name)} is now {_code(_value(kept))}."


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
        f"**{_plain(status.title or 'Untitled session')}**",
        f"Agent: {_code(status.agent)}, model {_code(status.model)} of {_code(status.provider)}",
        f"State: {_STATES.get(status.state, 'idle')}, {status.queued} waiting",
        f"Worked for {_duration(status.processing)}, {_spent(status.usage)}",
        f"Session: {_code(status.session)}, since {status.created_at:%Y-%m-%d %H:%M} UTC",
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
    about = f" {_plain(one.description)}" if one.description else ""
    span = ", for one turn" if one.momentary else ""
    takes = _plain(f"Takes {one.takes}{span}.")
    return f"- {_code(one.name)} = {_code(_value(one.value))}:{about} {takes}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _list(sessions: Sequence[SessionSummary], now: datetime) -> str:
    if not sessions:
        return "No session yet. Write something to start one."
    return "\n".join(_item(one, now) for one in sessions)


def _item(one: SessionSummary, now: datetime) -> str:
    title = _plain(one.title or "Untitled session")
    shown = f"**{title}** (current)" if one.current else title
    ago = _duration(now - one.active_at)
    return f"- {shown}, {_code(one.agent)}, {ago} ago"


def _duration(duration: timedelta) -> str:
    seconds = max(int(duration.total_seconds()), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _code(text: str) -> str:
    words = " ".join(text.replace("`", "").split())
    return f"`{words or ' '}`"


def _plain(text: str) -> str:
    """Words of others inside of our Markdown, taken literally."""
    return "".join(f"\\{one}" if one in "\\`*_~[]<>|&#!" else one for one in text)
