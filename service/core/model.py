"""The nouns of the service as frozen values: rings, turns, addresses, events, deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NewType

from service.core.states import DeliveryState, ReplyState, TurnState

SessionId = NewType("SessionId", str)
TurnId = NewType("TurnId", str)
VoiceId = NewType("VoiceId", str)
ReplyId = NewType("ReplyId", str)
DeliveryId = NewType("DeliveryId", str)
OccurrenceId = NewType("OccurrenceId", str)

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


@dataclass(frozen=True, slots=True)
class Accepted:
    """A ring that is stored. `duplicate` means that an earlier ring had the same event key."""

    turn: TurnId
    session: SessionId
    number: int
    """The feed number of the turn's first event in its session."""
    duplicate: bool = False


class RefusalReason(StrEnum):
    """Why a ring starts no turn."""

    QUEUE_FULL = "queue_full"
    KEY_REUSED = "key_reused"
    ARCHIVED = "archived"
    DRAINING = "draining"
    IGNORED = "ignored"
    QUARANTINED = "quarantined"
    UNKNOWN = "unknown"


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

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.requests + other.requests,
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
