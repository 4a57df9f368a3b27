"""Every error the service raises on purpose; each class says whether trying again can help."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


class RingbackError(Exception):
    """Base of every error this service raises on purpose."""

    permanent = True


class ConfigError(RingbackError):
    """The configuration cannot be used; `problems` are all reasons with their paths in it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class BadSignature(RingbackError):
    """A request is not signed by whom it claims to be from."""


class BadInput(RingbackError):
    """Something from outside cannot be used; the text names the field and the fix."""


class StoreError(RingbackError):
    """The database cannot do what was asked."""


class StoreDown(StoreError):
    """The database cannot be reached. Whether a commit under way took effect is unknown."""

    permanent = False


class SchemaTooNew(StoreError):
    """The database was written by a newer release; this one must not touch it."""


class DatabaseBusy(StoreError):
    """Another process holds the SQLite file."""


class Fenced(StoreError):
    """The lease was lost: somebody else owns the turn or delivery now. Write nothing more."""


class ProviderError(RingbackError):
    """A provider did not answer as it should; the text is a sentence for people."""


class ProviderRefused(ProviderError):
    """The provider said no and will say no again: wrong key, unknown model, rejected request."""


class ProviderBusy(ProviderError):
    """The provider asked us to slow down."""

    permanent = False

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderGone(ProviderError):
    """The provider could not be reached, failed inside, or broke off in mid-answer."""

    permanent = False


class ProviderTimeout(ProviderError):
    """The provider was silent for longer than the agent's limits allow."""

    permanent = False


class ChannelError(RingbackError):
    """A channel did not take a delivery. Unless a subclass says otherwise it never will."""


class ChannelBusy(ChannelError):
    """The channel asked us to slow down; try again after `retry_after`."""

    permanent = False

    def __init__(self, message: str, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ChannelDown(ChannelError):
    """The channel surely did not get the request: connecting failed, or it said it failed."""

    permanent = False


class ChannelUncertain(ChannelError):
    """The request left but no answer came: it may or may not have been carried out."""


class TurnWaits(ChannelError):
    """No failure: the turn waits for a person, and the delivery goes on when the turn does."""

    permanent = False


class AddressGone(ChannelError):
    """Nobody can be reached at this address any more."""


class AddressMoved(ChannelError):
    """The address lives on as `spot` of the same channel; everything still to come goes there."""

    permanent = False

    def __init__(self, message: str, spot: str) -> None:
        super().__init__(message)
        self.spot = spot
