"""The nouns of the service as frozen values: rings, turns, addresses, events, deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NewType

from service.core.rounds import Continuation, Mode
from service.core.states import DeliveryState, QuestionState, ReplyState, TurnState

SessionId = NewType("SessionId", str)
TurnId = NewType("TurnId", str)
VoiceId = NewType("VoiceId", str)
ReplyId = NewType("ReplyId", str)
DeliveryId = NewType("DeliveryId", str)
OccurrenceId = NewType("OccurrenceId", str)
QuestionId = NewType("QuestionId", str)
AttachmentId = NewType("AttachmentId", str)
ProjectId = NewType("ProjectId", str)

Json = Mapping[str, Any]


class Channel(StrEnum):
    """Where a ring comes from and where an answer can go."""

    TELEGRAM = "telegram"
    WEBHOOK = "webhook"
    CRON = "cron"
    CONSOLE = "console"


class Source(StrEnum):
    """Who made a session: a person, a schedule, or an event from outside."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"
    TRIGGER = "trigger"


class Role(StrEnum):
    """Who speaks in a message."""

    USER = "user"
    EVENT = "event"
    VOICE = "voice"
    SYSTEM = "system"


class Busy(StrEnum):
    """What becomes of a message that arrives while a turn of its session runs."""

    QUEUE = "queue"
    STEER = "steer"
    INTERRUPT = "interrupt"


class TurnKind(StrEnum):
    """What a turn is for."""

    MESSAGE = "message"  # something was said
    RENDER = "render"  # nothing was said: the agent goes on from the session's state
    COMPACT = "compact"  # the history is summed up


class Origin(StrEnum):
    """Who stands behind a turn: it decides what its tools may do, before a model runs."""

    PERSON = "person"  # an allowed person or operator, speaking for themselves
    GROUP = "group"  # somebody in an allowed group
    SCHEDULE = "schedule"  # a task: the operator's words, nobody present
    EVENT = "event"  # a webhook: the words of strangers, nobody present


class Ended(StrEnum):
    """What ended a turn that did not simply come to its answer."""

    INTERRUPTED = "interrupted"  # its owner interrupted it; it asks how to go on
    ASKED = "asked"  # it had a question and nobody to ask
    ITERATIONS = "iterations"  # it had no iteration left
    LENGTH = "length"  # its answer was cut at the output budget
    COST = "cost"  # it, or its agent's day, had no money left


@dataclass(frozen=True, slots=True)
class Address:
    """One spot of a channel that can be answered. Only the channel's handler reads `spot`."""

    channel: Channel
    spot: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The frozen snapshot of an agent that a new session is bound to for life."""

    agent: str
    provider: str
    model: str
    prompt: str
    tools: tuple[str, ...] = ()
    busy: Busy = Busy.QUEUE
    """What its sessions do with a message that arrives while a turn runs."""


@dataclass(frozen=True, slots=True)
class NewVoice:
    """A voice that a new session begins with: the snapshot of an agent under a name."""

    name: str
    binding: Binding
    rounds: int = 0
    """Further rounds it goes on for by itself, 0 to 3."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The voices a new session begins with, and how they take turns."""

    voices: tuple[NewVoice, ...]
    mode: Mode = Mode.BROADCAST
    continuation: Continuation = Continuation.NONE
    composition: str | None = None


@dataclass(frozen=True, slots=True)
class Begins:
    """What a trigger begins besides a conversation."""

    schema: Json | None = None
    """What its new sessions are to come to."""
    scan: str | None = None
    """The template it runs."""
    investigation: tuple[str, str] | None = None
    """The project and title of the session it rings in."""
    owner: str | None = None
    """Whose its new sessions are."""


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """A file that came with a ring: its bytes, or where its channel keeps them."""

    name: str
    media_type: str
    data: bytes | None = None
    remote: str | None = None
    """What the channel fetches it by, when the bytes were left there."""
    size: int = 0
    """Bytes, as far as it is known."""


@dataclass(frozen=True, slots=True)
class Line:
    """Something that was said elsewhere before, and is brought along with a message."""

    role: Role
    """A person, a program, or the agent; what the system says no model is told."""
    text: str


@dataclass(frozen=True, slots=True)
class Ring:
    """Something from outside that wants an answer, already authorised and translated."""

    channel: Channel
    source: str
    """The bot, webhook or task that rang."""
    event_key: str
    """Unique within (channel, source): the same key makes the same turn, for ever."""
    text: str
    binding: Binding
    """Used only when the session does not exist yet."""
    author: str
    session: SessionId | None = None
    """An existing session; it comes before `session_key`."""
    session_key: str | None = None
    """None asks for a session of its own."""
    session_source: Source = Source.TRIGGER
    role: Role = Role.USER
    body: bytes = b""
    """The raw bytes as received; kept beside the text made of them."""
    answer_to: tuple[Address, ...] = ()
    home: Address | None = None
    """The address that the session itself lives at (a chat), if it does."""
    sticky: bool = False
    title: str | None = None
    occurrence: OccurrenceId | None = None
    strict_body: bool = False
    """Refuse the same event key with another body instead of answering with the old turn."""
    origin: Origin = Origin.EVENT
    kind: TurnKind = TurnKind.MESSAGE
    busy: Busy | None = None
    """What to do when a turn runs already; None leaves it to the session."""
    attachments: tuple[NewAttachment, ...] = ()
    knobs: Json = field(default_factory=dict)
    """Knobs to set before the turn begins, by name; checked by the handler."""
    cast: Cast | None = None
    """The voices of a new session; without them it has one, bound by `binding`."""
    target: VoiceId | None = None
    """The voice that is to answer alone."""
    before: tuple[Line, ...] = ()
    """What is put into the conversation first; only where the session is named, by id or key."""
    schema: Json | None = None
    """What a new session is to come to, as {field: type}; read by `core.disposition`."""
    scan: str | None = None
    """The template whose sessions a new session sees through."""
    starts: bool = False
    """Whether it is to be refused where something was said before."""
    investigation: tuple[str, str] | None = None
    """The project and title of the session it goes to; it comes before `session_key`."""
    owner: str | None = None
    """Whose a new session is; None is its author's."""
    operator: bool = False
    """Whether its author came by the console, where operators act in sessions of others, too."""
    admin: bool = False
    """Whether they may also interrupt in projects, where else only the session's owner does."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A ring that is stored. `duplicate` means that an earlier ring had the same event key."""

    turn: TurnId
    session: SessionId
    number: int
    """The feed number of the turn's first event in its session."""
    duplicate: bool = False
    answered: bool = False
    """Whether the ring answered a question of a waiting turn instead of making one."""


class RefusalReason(StrEnum):
    """Why a ring starts no turn."""

    QUEUE_FULL = "queue_full"
    KEY_REUSED = "key_reused"
    ARCHIVED = "archived"
    DRAINING = "draining"
    IGNORED = "ignored"
    QUARANTINED = "quarantined"
    UNKNOWN = "unknown"
    FORBIDDEN = "forbidden"
    NOT_READY = "not_ready"
    UNDER_WAY = "under_way"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A decision not to start a turn: a value, not an error."""

    reason: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class Voice:
    """One AI participant of a session; agent, provider and model never change."""

    id: VoiceId
    name: str
    agent: str
    provider: str
    model: str
    prompt: str
    tools: tuple[str, ...]
    active: bool = True
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a message, without its bytes."""

    id: AttachmentId
    name: str
    media_type: str
    size: int
    """Bytes; 0 while they are still where the channel keeps them."""
    remote: str | None = None
    problem: str | None = None
    """Why its bytes could not be had, if so."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a person, a trigger, a voice or the system said; `number` orders a session."""

    number: int
    role: Role
    author: str
    text: str
    status: str
    at: datetime
    turn: TurnId | None = None
    voice: VoiceId | None = None
    attachments: tuple[Attachment, ...] = ()
    round: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a session's feed; numbers are gap-free within the session."""

    number: int
    kind: str
    turn: TurnId | None
    data: Json
    at: datetime


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that has no number yet: its session gives it one when it is appended."""

    kind: str
    data: Json
    turn: TurnId | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply cost. Unknown counts are zero."""

    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    cost_micros: int = 0
    """Millionths of a US dollar."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.requests + other.requests,
            self.cost_micros + other.cost_micros,
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """One accepted message answered once, as stored."""

    id: TurnId
    session: SessionId
    number: int
    state: TurnState
    channel: Channel
    trigger: str
    author: str
    attempt: int
    epoch: int
    created_at: datetime
    answer_to: tuple[Address, ...] = ()
    occurrence: OccurrenceId | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    processing: timedelta = timedelta()
    usage: Usage = field(default_factory=Usage)
    stop_requested: bool = False
    kind: TurnKind = TurnKind.MESSAGE
    origin: Origin = Origin.EVENT
    busy: Busy = Busy.QUEUE
    interrupted_by: str | None = None
    """Who asked it to pause at the next boundary and ask how to go on."""
    joined: TurnId | None = None
    """The turn that answers it along with its own: its message steered that one."""
    ended: Ended | None = None
    voices: tuple[VoiceId, ...] | None = None
    """Who answers it first; None until that is decided."""
    directed: bool = False
    """Whether one voice was named to answer it."""


class QuestionKind(StrEnum):
    """What a turn waits for."""

    QUESTION = "question"  # the agent asks something
    APPROVAL = "approval"  # a tool may run only if somebody agrees


@dataclass(frozen=True, slots=True)
class Question:
    """Something a waiting turn needs to know from a person; answered once, or it expires."""

    id: QuestionId
    session: SessionId
    turn: TurnId
    reply: ReplyId
    iteration: int
    ordinal: int
    """The tool call it belongs to, by its place."""
    kind: QuestionKind
    text: str
    choices: tuple[str, ...]
    asked_of: str
    """The author of the turn: besides operators nobody else may answer."""
    state: QuestionState
    expires_at: datetime
    tool: str | None = None
    arguments: str | None = None
    """For an approval: exactly what will run."""
    answer: str | None = None
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One voice's answer in one round, as stored."""

    id: ReplyId
    turn: TurnId
    voice: VoiceId
    round: int
    state: ReplyState
    text: str
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    """What it took; known when it is over."""
    stopped: bool = False
    """Whether somebody stopped this voice alone."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Bringing a reply, or a notice of our own, to an address."""

    id: DeliveryId
    address: Address
    state: DeliveryState
    attempt: int
    epoch: int
    created_at: datetime
    session: SessionId | None = None
    turn: TurnId | None = None
    text: str | None = None
    """The words of a notice; None for a reply, whose words come from its turn."""
    options: Json = field(default_factory=dict)
    """Hints only the channel's handler understands (a message to reply to, a keyboard)."""
    first_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One message of a delivery that has several, in the channel's own terms."""

    number: int
    external_id: str | None
    """None: we asked the channel to open it and never learnt whether it did."""
