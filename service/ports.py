"""What the engine needs from outside, where there is more than one implementation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from service.core.knobs import Knob
from service.core.model import Delivery, Origin, Part, SessionId, TurnId, Usage, Voice
from service.core.reply import TurnView
from service.core.state import State


class Clock(Protocol):
    """The time of this process. Leases and due times on PostgreSQL use the database's own."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        return datetime.now(UTC)


# -- models -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More words of the answer; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More of what the model thinks aloud; never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One complete request to run a tool. `arguments` is the text the model wrote."""

    id: str
    tool: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The model said everything it wanted; the last event of every whole stream."""

    usage: Usage = field(default_factory=Usage)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the adapter wants back with the next request (signatures, ids); plain JSON."""
    cut: bool = False
    """Whether the output budget ended the answer before the model did."""


ModelEvent = TextDelta | ThinkingDelta | ToolCall | Finished


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call came to, in words for the model."""

    id: str
    tool: str
    text: str
    failed: bool = False
    data: Any = None
    """The same as plain JSON, when the tool gives more than words."""


@dataclass(frozen=True, slots=True)
class Media:
    """A file as a model is given it."""

    name: str
    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Said:
    """One earlier message as this voice sees it."""

    role: Literal["user", "assistant"]
    text: str
    media: tuple[Media, ...] = ()
    """Comes before the words."""


@dataclass(frozen=True, slots=True)
class Step:
    """One finished iteration of the reply in progress: a model response and its tool results."""

    text: str
    calls: tuple[ToolCall, ...]
    results: tuple[ToolResult, ...]
    thinking: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    """What people said while it ran; the model hears it after the results."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it; `parameters` is a JSON Schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    idempotent: bool = False
    """Whether running it again after a crash does no harm."""
    outward: bool = False
    """Whether it acts on, or tells something to, the world outside of its session."""
    approval: bool = False
    """Whether a person has to agree to every single call."""
    timeout: timedelta = timedelta(seconds=60)
    data: bool = False
    """Whether what it finds can become a key result: its data is kept under a name."""


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a tool runs."""

    session: SessionId
    turn: TurnId
    voice: Voice
    origin: Origin
    author: str
    key: str
    """Names this very call, also after a crash: for services that take an idempotency key."""
    state: State
    """The session's state; what a tool changes is stored together with its result."""
    knobs: State


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything one model call is given."""

    system: str
    history: Sequence[Said]
    """Oldest first; ends with what is to be answered now."""
    steps: Sequence[Step] = ()
    tools: Sequence[ToolSpec] = ()
    output_tokens: int | None = None
    """The most tokens the response may have."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an agent may take: time, tokens, money; and how often its model is asked again."""

    first_token: timedelta = timedelta(seconds=60)
    stall: timedelta = timedelta(seconds=45)
    total: timedelta = timedelta(minutes=10)
    retries: int = 3
    retry_budget: timedelta = timedelta(seconds=60)
    iterations: int = 35
    iterations_per: Literal["turn", "session"] = "turn"
    history_characters: int = 200_000
    output_tokens: int | None = None
    turn_cost: float | None = None
    """US dollars that one turn may cost; it ends at the first boundary beyond."""
    day_cost: float | None = None
    """US dollars that all turns of the agent may cost in one day (UTC)."""
    answer_within: timedelta = timedelta(days=1)
    """How long a question or an approval stays open."""


class Model(Protocol):
    """One provider's model, ready to be asked."""

    def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Yield one response as it is produced and end with exactly one `Finished`.

        Raises a `ProviderError` for everything that goes wrong, also after some deltas; a stream
        that breaks off before the provider said it was complete raises `ProviderGone`.
        Closing the generator cuts the provider's stream at once.
        """


class Agents(Protocol):
    """The configured agents, seen from the engine."""

    def model(self, voice: Voice) -> Model:
        """The model `voice` is bound to. Raises ProviderRefused when it is not configured."""

    def limits(self, voice: Voice) -> Limits:
        """The limits of the voice's agent; defaults when the agent left the configuration."""

    def tools(self, voice: Voice) -> Sequence[ToolSpec]:
        """The tools of `voice` that can be called now, in the order they are offered."""

    async def call(self, call: ToolCall, caller: Caller) -> ToolResult:
        """Run one tool of the caller's voice, within the tool's time and size.

        Never raises for what a tool or a model did wrong: that is a result. Being cancelled
        leaves a tool that cannot be stopped running, and its result is lost.
        """

    def knobs(self, voice: Voice) -> Mapping[str, Knob]:
        """The knobs of the voice's agent, by name."""

    def sections(self, voice: Voice, state: State, knobs: State) -> str:
        """What the model is shown of the session's state and knobs; empty when there is nothing.

        Never raises: a section that fails is left out.
        """

    def takes(self, voice: Voice, media_type: str) -> bool:
        """Whether the voice's model can be given such a file."""


# -- senders ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a delivery arrived, in the channel's own words."""

    ids: tuple[str, ...] = ()


class Journal(Protocol):
    """Where a sender notes what it is about to do, so that a successor can go on after a kill.

    Every method commits before it returns and raises `Fenced` when the delivery has another
    holder: the sender must then stop without touching the channel again.
    """

    @property
    def parts(self) -> Sequence[Part]:
        """The messages of this delivery so far, by number; also those of earlier attempts."""

    def check(self) -> None:
        """Raise `Fenced` when the lease may have run out by this process's monotonic clock.

        Costs nothing; call it right before every request that shows something, so that a holder
        that was suspended writes nothing after it wakes up.
        """

    async def opening(self, number: int) -> None:
        """Note the intention to open message `number`; call it before the channel is asked."""

    async def opened(self, number: int, external_id: str) -> None:
        """Note that message `number` exists under the channel's `external_id`."""

    async def forget(self, number: int) -> None:
        """Note that message `number` surely was not opened (the channel refused it)."""


class Sender(Protocol):
    """Brings deliveries to the addresses of one channel."""

    @property
    def live(self) -> bool:
        """Whether it wants to follow a reply while it is produced, or only its end."""

    async def deliver(
        self, delivery: Delivery, views: AsyncIterator[TurnView], journal: Journal
    ) -> Receipt:
        """Bring the reply to its address and return when the last word is there.

        `views` yields the newest state of the turn whenever it changed and was asked for, and
        ends after the first final one; a sender that is not live gets just that one.
        It may be called again for the same delivery after a failure or a kill: what is in the
        journal must be gone on with, never opened a second time.
        Raises a `ChannelError`; `ChannelUncertain` means it may have arrived and ends it, and
        `TurnWaits` asks to be called again when the turn goes on.
        """


class Files(Protocol):
    """Fetches the bytes of attachments that a channel keeps for us."""

    async def fetch(self, remote: str, *, limit: int) -> bytes:
        """The bytes behind `remote`. Raises a `ChannelError`, also for more than `limit` bytes."""
