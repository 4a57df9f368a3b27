"""The Python API: the service inside of a program, with sessions, turns and what happens in them.

    async with open_app() as app:
        session = await app.session("user-123")
        handle = await session.send("Hello!")
        async for event in handle:
            ...
        result = await handle.result

Nothing here is kept in memory only: another program, the HTTP API and the command line see the
same sessions.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from handlers.console.rings import Abilities, Wish, abilities_of, open_session
from handlers.forms import check_files, new_file
from handlers.http import BodyLimits, HttpProblem
from service import app as service
from service import config, log
from service.config import Settings
from service.core.access import OPERATOR
from service.core.knobs import check_all
from service.core.model import (
    Accepted,
    Busy,
    Ended,
    Event,
    Json,
    Line,
    Message,
    NewAttachment,
    Question,
    QuestionId,
    QuestionKind,
    Refusal,
    RefusalReason,
    Role,
    SessionId,
    TurnId,
    TurnKind,
    Usage,
)
from service.core.states import QuestionState, ToolState, TurnState
from service.core.text import clean
from service.engine.memory import KnobView, Memory
from service.engine.results import Result as StoredResult
from service.engine.steering import Answering, Interrupting
from service.errors import BadInput, RingbackError
from service.store import sessions

__all__ = [
    "File",
    "Finished",
    "Handle",
    "Line",
    "QuestionAnswered",
    "QuestionAsked",
    "Refused",
    "Reset",
    "Result",
    "Ringback",
    "Role",
    "Session",
    "State",
    "Text",
    "Thinking",
    "ToolFinished",
    "ToolStarted",
    "TurnEvent",
    "open_app",
]

_LONGEST_KEY = 255
_AWHILE = timedelta(hours=1)
_MOST_MESSAGES = 1000


class Refused(RingbackError):
    """The service did not take what it was given; nothing of it is stored."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.reason: RefusalReason = refusal.reason


# -- what happens in a turn -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """More words of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """More of what the model thinks aloud; never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reset:
    """The model was asked again: of all the words so far only `text` counts."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool is about to run; one that needs approval waits for it first."""

    call: str
    tool: str
    arguments: str
    """As the model wrote them: JSON, if it did well."""


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool call came to its end."""

    call: str
    tool: str
    state: ToolState
    text: str


@dataclass(frozen=True, slots=True)
class QuestionAsked:
    """The turn waits for an answer; see `Session.answer`."""

    question: QuestionId
    kind: QuestionKind
    text: str
    choices: tuple[str, ...]
    tool: str | None
    """For an approval: what will run, and with what."""
    arguments: str | None


@dataclass(frozen=True, slots=True)
class QuestionAnswered:
    """A question is closed: answered, expired, or withdrawn."""

    question: QuestionId
    state: QuestionState
    answer: str | None
    by: str | None


@dataclass(frozen=True, slots=True)
class Finished:
    """The turn is over; the last event of every turn."""

    state: TurnState
    error: str | None
    ended: Ended | None


TurnEvent = (
    Text
    | Thinking
    | Reset
    | ToolStarted
    | ToolFinished
    | QuestionAsked
    | QuestionAnswered
    | Finished
)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a turn."""

    turn: TurnId
    state: TurnState
    text: str
    error: str | None
    """A sentence for people, when it failed."""
    ended: Ended | None
    """What ended it before it simply came to its answer, if so."""
    usage: Usage
    processing: timedelta


# -- the service ----------------------------------------------------------------------------------


@asynccontextmanager
async def open_app(
    settings: Settings | Path | str | None = None, *, port: int = 0, channels: bool = False
) -> AsyncGenerator[Ringback]:
    """Run the service inside of this program, until the end of the block.

    `settings` are those of the service, or the path of its TOML file; None means the defaults: the
    offline agent, and a database in this folder. The HTTP API answers too, on a free port unless
    `port` names one. Without `channels` cron and Telegram stay silent. Turns that still run at
    the end of the block are handed over: whoever opens the database next goes on with them.

    Raises ConfigError, or StoreError when the database cannot be had.
    """
    known = settings if isinstance(settings, Settings) else config.load(_path(settings))
    if not structlog.is_configured():
        # Else it would print every line to stdout, between the words of the program.
        log.setup(known.log, known.secrets())
    async with service.open_app(known, port=port, channels=channels) as app:
        yield Ringback(app)


def _path(given: Path | str | None) -> Path | None:
    return Path(given) if given is not None else None


class Ringback:
    """A running service."""

    def __init__(self, app: service.App) -> None:
        self._app = app
        self._bindings = app.catalog.bindings()
        self._abilities = abilities_of(app.catalog, self._bindings)

    @property
    def url(self) -> str:
        """Where its HTTP API answers."""
        return self._app.url

    async def session(self, key: str, *, agent: str | None = None) -> Session:
        """Get the session with a key of your choice, or make it.

        A session keeps its agent for good. Raises BadInput when it has another one than asked for.
        """
        if not key.strip() or len(key) > _LONGEST_KEY or key != clean(key):
            raise BadInput(f"key: 1 to {_LONGEST_KEY} characters are needed, without U+0000")
        name = agent if agent is not None else next(iter(self._bindings))
        if name not in self._bindings:
            raise BadInput(f"agent: there is no {name!r}; there are: {', '.join(self._bindings)}")
        try:
            found, _ = await open_session(self._app.database, key, self._bindings[name])
        except LookupError as error:
            raise Refused(Refusal(RefusalReason.UNKNOWN, str(error))) from error
        if agent is not None and found.agent != agent:
            raise BadInput(f"agent: the session {key!r} keeps its agent {found.agent!r} for good")
        abilities = self._abilities.get(found.agent, Abilities())
        return Session(self._app, found.id, key, found.agent, abilities)


# -- sessions -------------------------------------------------------------------------------------

File = Path | NewAttachment
"""A file to send: its path, or its name and bytes."""


class Session:
    """One conversation; several programs and people may hold the same."""

    def __init__(
        self, app: service.App, id_: SessionId, key: str, agent: str, abilities: Abilities
    ) -> None:
        self.id = id_
        self.key = key
        self.agent = agent
        self._app = app
        self._abilities = abilities

    def __repr__(self) -> str:
        return f"Session({self.key!r}, agent={self.agent!r})"

    async def send(
        self,
        text: str,
        *,
        busy: Busy | str | None = None,
        attachments: Sequence[File] = (),
        knobs: Json | None = None,
        before: Sequence[Line] = (),
        key: str | None = None,
    ) -> Handle:
        """Say something as the operator; returns once it is stored.

        `busy` says what becomes of it while a turn runs: "queue", "steer" or "interrupt"; None
        leaves it to the agent. While the session has an open question, the text answers it. What
        was said elsewhere `before` is put into the conversation first; such a message waits for a
        turn of its own. The same `key` makes the same turn, however often it is sent. Raises
        BadInput and Refused.
        """
        if not text.strip() and not attachments:
            raise BadInput("text: say something, or attach a file")
        files = [await _file(one) for one in attachments]
        self._check_files(files)
        wish = Wish(
            clean(text),
            busy=_busy(busy),
            attachments=tuple(files),
            knobs=self._check_knobs(knobs),
            before=_before(before),
        )
        return await self._ring(wish, key)

    async def render(self, *, knobs: Json | None = None) -> Handle:
        """Let the agent go on without a word from anybody."""
        return await self._ring(Wish(kind=TurnKind.RENDER, knobs=self._check_knobs(knobs)))

    async def compact(self) -> Handle:
        """Have what was said so far summed up; the model is told the summary instead."""
        return await self._ring(Wish(kind=TurnKind.COMPACT))

    async def clear(self) -> None:
        """Let what the model is told begin anew; everything that was said is kept."""
        async with self._app.controls.steps() as command:
            await command.clear(self.id, by=OPERATOR)

    # -- what runs ---------------------------------------------------------------------------

    async def stop(self) -> int:
        """Stop what runs and what waits; how many turns that was."""
        async with self._app.controls.steps() as command:
            return await command.stop_session(self.id, by=OPERATOR)

    async def interrupt(self) -> bool:
        """Have what runs pause and ask how to go on; False when nothing runs."""
        async with self._app.controls.steps() as command:
            outcome = await command.interrupt(self.id, by=OPERATOR, operator=True)
        return outcome in (Interrupting.INTERRUPTING, Interrupting.ALREADY)

    async def questions(self) -> Sequence[Question]:
        """The open questions, oldest first."""
        async with self._app.controls.steps() as command:
            return await command.questions(self.id)

    async def answer(self, question: str, text: str) -> bool:
        """Answer a question; False when it was answered, expired or withdrawn before.

        "yes" approves a tool call, anything else is the reason why not. Raises BadInput when the
        session never had such a question.
        """
        asked = QuestionId(question)
        async with self._app.controls.steps() as command:
            found = await command.question(asked)
            if found is None or found.session != self.id:
                raise BadInput(f"question: this session has no question {question!r}")
            outcome = await command.answer(asked, text, by=OPERATOR, operator=True)
        return outcome is Answering.ANSWERED

    # -- what is remembered ------------------------------------------------------------------

    async def messages(self, *, after: int = 0, limit: int = _MOST_MESSAGES) -> Sequence[Message]:
        """What was said after message number `after`, oldest first."""
        return await self._app.database.read(sessions.history, self.id, after=after, limit=limit)

    @property
    def state(self) -> State:
        """What the session remembers between its turns."""
        return State(self._app, self.id)

    async def knobs(self) -> Sequence[KnobView]:
        """The knobs of the agent, and what they are set to."""
        return (await self.memory()).knobs

    async def set_knob(self, name: str, value: object) -> object:
        """Turn a knob; return the value as it is kept. Raises BadInput with what it takes."""
        async with self._app.controls.steps() as command:
            return await command.set_knob(self.id, name, value)

    async def memory(self) -> Memory:
        """State, knobs and summary at once."""
        return await _memory(self._app, self.id)

    async def _ring(self, wish: Wish, key: str | None = None) -> Handle:
        binding = next(iter(self._app.catalog.bindings().values()))
        outcome = await self._app.intake.accept(wish.ring(self.id, binding, key=key))
        if isinstance(outcome, Refusal):
            raise Refused(outcome)
        return Handle(self._app, outcome)

    def _check_knobs(self, given: Json | None) -> Mapping[str, Any]:
        return check_all(self._abilities.knobs, given or {})

    def _check_files(self, files: Sequence[NewAttachment]) -> None:
        limits = self._app.settings.limits
        try:
            check_files(
                files,
                BodyLimits(
                    limits.body_bytes,
                    limits.body_depth,
                    limits.body_read,
                    limits.attachment_bytes,
                    limits.attachments_per_message,
                ),
            )
        except HttpProblem as error:
            raise BadInput(f"attachments: {error.detail}") from error


async def _file(given: File) -> NewAttachment:
    if isinstance(given, NewAttachment):
        return new_file(given.name, given.media_type, given.data or b"")
    try:
        data = await asyncio.to_thread(given.read_bytes)
    except OSError as error:
        raise BadInput(f"attachments: {given.name} cannot be read: {error.strerror}") from error
    return new_file(given.name, "", data)


def _before(given: Sequence[Line]) -> tuple[Line, ...]:
    if len(given) > _MOST_MESSAGES:
        raise BadInput(f"before: at most {_MOST_MESSAGES} lines are taken at once")
    for place, line in enumerate(given):
        if line.role is Role.SYSTEM:
            raise BadInput(f"before[{place}].role: user, event or voice is needed")
        if not line.text.strip():
            raise BadInput(f"before[{place}].text: some words are needed")
    return tuple(given)


def _busy(given: Busy | str | None) -> Busy | None:
    if given is None or given in list(Busy):
        return Busy(given) if given is not None else None
    raise BadInput(f"busy takes one of {', '.join(Busy)}, or None")


class State:
    """What a session remembers between its turns: JSON values by name."""

    def __init__(self, app: service.App, session: SessionId) -> None:
        self._app = app
        self._session = session

    async def all(self) -> dict[str, Any]:
        """Everything."""
        return dict((await _memory(self._app, self._session)).state)

    async def get(self, name: str, default: Any = None) -> Any:
        """One value."""
        return (await self.all()).get(name, default)

    async def set(self, name: str, value: Any) -> None:
        """Keep a value; None removes it. Raises BadInput for what is no JSON."""
        async with self._app.controls.steps() as command:
            await command.set_state(self._session, name, value)


async def _memory(app: service.App, session: SessionId) -> Memory:
    async with app.controls.steps() as command:
        found = await command.memory(session)
    if found is None:
        raise Refused(Refusal(RefusalReason.UNKNOWN, "the session was removed"))
    return found


# -- turns ----------------------------------------------------------------------------------------


class Handle:
    """One turn that was accepted: to be awaited, followed, and stopped."""

    def __init__(self, app: service.App, accepted: Accepted) -> None:
        self.turn = accepted.turn
        self.duplicate = accepted.duplicate
        """Whether an earlier message had the same key: it is that one's turn."""
        self.answered = accepted.answered
        """Whether the message answered a question: it is the turn that had asked."""
        self._app = app
        self._accepted = accepted
        self._known: Result | None = None

    def __repr__(self) -> str:
        return f"Handle({self.turn!r})"

    @property
    def result(self) -> Awaitable[Result]:
        """What came of the turn; await it as often as you like.

        It says that a turn failed, and raises nothing for it.
        """
        return _Outcome(self._wait)

    async def __aiter__(self) -> AsyncGenerator[TurnEvent]:
        """Everything that happens in the turn, from its beginning each time, up to its end."""
        accepted = self._accepted
        following = self._app.feed.follow(
            accepted.session, after=accepted.number - 1, turn=accepted.turn
        )
        async with aclosing(following):
            async for stored in following:
                event = _told(stored)
                if event is not None:
                    yield event

    async def stop(self) -> bool:
        """Stop the turn; what it said is kept. False when it was over."""
        async with self._app.controls.steps() as command:
            return await command.stop_turn(self.turn, by=OPERATOR)

    async def _wait(self) -> Result:
        while self._known is None:
            found = await self._app.results.wait(self.turn, timeout=_AWHILE)
            if found is None:
                raise Refused(Refusal(RefusalReason.UNKNOWN, "the turn was removed"))
            if found.final:
                self._known = _result(found)
        return self._known


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of a turn, to be awaited again and again."""

    wait: Callable[[], Coroutine[Any, Any, Result]]

    def __await__(self) -> Generator[Any, None, Result]:
        return self.wait().__await__()


def _result(found: StoredResult) -> Result:
    turn = found.turn
    return Result(
        turn=turn.id,
        state=turn.state,
        text=found.text,
        error=turn.error,
        ended=turn.ended,
        usage=turn.usage,
        processing=turn.processing,
    )


def _told(event: Event) -> TurnEvent | None:
    """A stored event as programs meet it; None for what says nothing to them."""
    data = event.data
    match event.kind:
        case "text":
            return Text(data["text"])
        case "thinking":
            return Thinking(data["text"])
        case "reply.reset":
            return Reset(data["text"])
        case "tool.started":
            return ToolStarted(data["call"], data["tool"], data["arguments"])
        case "tool.finished":
            state = ToolState(data["state"])
            return ToolFinished(data["call"], data["tool"], state, data.get("text", ""))
        case "question.asked":
            return QuestionAsked(
                QuestionId(data["question"]),
                QuestionKind(data["kind"]),
                data["text"],
                tuple(data["choices"]),
                data.get("tool"),
                data.get("arguments"),
            )
        case "question.answered":
            state_ = QuestionState(data["state"])
            return QuestionAnswered(
                QuestionId(data["question"]), state_, data.get("answer"), data.get("by")
            )
        case "turn.finished":
            ended = data.get("ended")
            return Finished(
                TurnState(data["state"]), data.get("error"), Ended(ended) if ended else None
            )
    return None
