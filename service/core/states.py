"""Where things can be, who moves them on, and which moves are legal."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class TurnState(StrEnum):
    """Where a turn is."""

    QUEUED = "queued"  # lanes claim it
    RUNNING = "running"  # turns settle it; rescue or a drain puts it back
    WAITING = "waiting"  # a question or an approval is open
    SUCCEEDED = "succeeded"  # final
    FAILED = "failed"  # final; `error` holds a sentence for people
    STOPPED = "stopped"  # final; somebody asked for it, partial text is kept


class ReplyState(StrEnum):
    """Where one voice's answer is: the four statuses people see."""

    WAITING = "waiting"
    GENERATING = "generating"
    DONE = "done"
    ERROR = "error"


class ToolState(StrEnum):
    """Where one tool call is."""

    RUNNING = "running"
    WAITING = "waiting"  # a person is asked first
    DONE = "done"
    ERROR = "error"
    UNKNOWN = "unknown"  # a crash hid the outcome and repeating could do harm
    CANCELLED = "cancelled"  # its turn ended first


class QuestionState(StrEnum):
    """Where a question or an approval is."""

    OPEN = "open"
    ANSWERED = "answered"  # final
    EXPIRED = "expired"  # final; nobody answered in time
    CANCELLED = "cancelled"  # final; its turn was stopped or interrupted first


class DeliveryState(StrEnum):
    """Where a delivery is."""

    PENDING = "pending"  # the outbox claims it when it is due
    SENDING = "sending"  # a lease holder is at it
    SENT = "sent"  # final; the receipt is stored
    FAILED = "failed"  # final; the channel refused, or the attempts are used up
    UNCERTAIN = "uncertain"  # final; it may have arrived, so it is not sent again


class OccurrenceState(StrEnum):
    """Where one due instant of a task is."""

    DUE = "due"  # recorded, not accepted yet
    QUEUED = "queued"  # its turn exists
    DONE = "done"  # final
    FAILED = "failed"  # final
    SKIPPED = "skipped"  # final; `reason` says why


class InboxState(StrEnum):
    """What became of something received."""

    ACCEPTED = "accepted"
    IGNORED = "ignored"
    QUARANTINED = "quarantined"  # could not be understood; kept with its reason


TURN_MOVES: Mapping[TurnState, frozenset[TurnState]] = {
    TurnState.QUEUED: frozenset(
        {TurnState.RUNNING, TurnState.STOPPED, TurnState.FAILED, TurnState.SUCCEEDED}
    ),
    TurnState.RUNNING: frozenset(
        {
            TurnState.SUCCEEDED,
            TurnState.FAILED,
            TurnState.STOPPED,
            TurnState.WAITING,
            TurnState.QUEUED,
        }
    ),
    TurnState.WAITING: frozenset({TurnState.QUEUED, TurnState.STOPPED}),
    TurnState.SUCCEEDED: frozenset(),
    TurnState.FAILED: frozenset(),
    TurnState.STOPPED: frozenset(),
}

DELIVERY_MOVES: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.SENDING}),
    DeliveryState.SENDING: frozenset(
        {
            DeliveryState.SENT,
            DeliveryState.FAILED,
            DeliveryState.UNCERTAIN,
            DeliveryState.PENDING,
        }
    ),
    DeliveryState.SENT: frozenset(),
    DeliveryState.FAILED: frozenset(),
    DeliveryState.UNCERTAIN: frozenset(),
}

OCCURRENCE_MOVES: Mapping[OccurrenceState, frozenset[OccurrenceState]] = {
    OccurrenceState.DUE: frozenset({OccurrenceState.QUEUED, OccurrenceState.SKIPPED}),
    OccurrenceState.QUEUED: frozenset({OccurrenceState.DONE, OccurrenceState.FAILED}),
    OccurrenceState.DONE: frozenset(),
    OccurrenceState.FAILED: frozenset(),
    OccurrenceState.SKIPPED: frozenset(),
}

TURN_FINAL = frozenset(state for state, moves in TURN_MOVES.items() if not moves)
TURN_ACTIVE = frozenset(TurnState) - TURN_FINAL
