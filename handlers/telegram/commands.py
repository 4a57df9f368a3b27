"""What `/start`, `/new` and the other commands do, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from handlers.telegram.translate import Called
from service.core.model import Binding, Channel, TurnId
from service.core.states import TurnState
from service.engine.controls import Command, SessionStatus, SessionSummary

# In the order Telegram's menu shows them.
MENU: Mapping[str, str] = {
    "new": "Start a new session: /new [agent]",
    "stop": "Stop the running reply",
    "status": "Show this chat's session",
    "sessions": "List the sessions of this chat",
    "help": "Show what I can do",
}
KNOWN = frozenset({*MENU, "start"})

STOP_PREFIX = "stop:"

_STATES: Mapping[TurnState | None, str] = {
    None: "idle",
    TurnState.QUEUED: "waiting for its turn",
    TurnState.RUNNING: "answering",
    TurnState.WAITING: "waiting for an answer",
}


def stop_data(turn: str) -> str:
    """What the Stop button under a reply carries."""
    return f"{STOP_PREFIX}{turn}"


def stopped_turn(data: str) -> TurnId | None:
    """The turn that a pressed button wants stopped; None when it is another button."""
    turn = data.removeprefix(STOP_PREFIX)
    return TurnId(turn) if turn and turn != data else None


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


def introduction(person: int) -> str:
    """What a stranger is told who starts the bot: only their own number."""
    return (
        f"This bot is private. Your id is `{person}`; its operator can add it to `telegram.allow`."
    )


def unreadable(kind: str) -> str:
    """What somebody is told who sent something without words."""
    return f"I cannot read {kind} yet. Write to me in words, please."


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
        f"Worked for {_duration(status.processing)}, {_tokens(status)} tokens",
        f"Session: {_code(status.session)}, since {status.created_at:%Y-%m-%d %H:%M} UTC",
    ]
    if status.undelivered:
        lines.append(f"Not delivered: {status.undelivered}")
    return "\n".join(lines)


def _tokens(status: SessionStatus) -> str:
    return f"{status.usage.input_tokens + status.usage.output_tokens:,}"


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
    return f"`{text.replace('`', '')}`"


def _plain(text: str) -> str:
    """Words of others inside of our Markdown, taken literally."""
    return "".join(f"\\{one}" if one in "\\`*_~[]<>|&#!" else one for one in text)
