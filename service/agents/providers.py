"""Opening a configured provider: the library of its kind is imported here, and only then."""

from __future__ import annotations

from typing import Protocol

from service import config
from service.agents.offline import OfflineModel
from service.errors import ConfigError
from service.ports import Model, SystemClock


class Provider(Protocol):
    """Somebody whose models can be asked."""

    def model(self, name: str) -> Model:
        """One of its models. Raises ProviderRefused when it can have none of that name."""

    async def close(self) -> None:
        """Give back the connections."""


def open_provider(name: str, settings: config.Provider) -> Provider:
    """Make the provider `name`. Raises ConfigError when the library it needs is not installed."""
    try:
        return _open(name, settings)
    except ImportError as error:
        raise ConfigError(
            [
                f"providers.{name}.kind: the library for {settings.kind!r} is missing "
                f"({error.name or error}); install ringback[{settings.kind}]"
            ]
        ) from error


def _open(name: str, settings: config.Provider) -> Provider:
    # Each of them is a second and 60 MB that the others do not need.
    match settings.kind:
        case "offline":
            return _Offline()
        case "anthropic":
            from service.agents.anthropic import MessagesProvider

            return MessagesProvider(name, settings)
        case "google":
            from service.agents.google import GeminiProvider

            return GeminiProvider(name, settings)
        case _:
            from service.agents.compatible import CompatibleProvider

            return CompatibleProvider(name, settings)


class _Offline:
    """The model of this process under any name."""

    def __init__(self) -> None:
        self._model = OfflineModel(SystemClock())

    def model(self, name: str) -> Model:  # noqa: ARG002 -- they are all the same
        return self._model

    async def close(self) -> None:
        """There is nothing to give back."""
