"""The configured agents: their models, limits and tools, as the engine sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from service.agents import tools
from service.agents.offline import OfflineModel
from service.config import Agent, Provider
from service.core.model import Binding, Voice
from service.errors import ProviderRefused
from service.ports import Limits, Model, SystemClock, ToolCall, ToolResult, ToolSpec

if TYPE_CHECKING:
    from service.agents.compatible import CompatibleProvider


class Catalog:
    """Implements the engine's `Agents`; a provider's module is imported only when configured."""

    def __init__(self, providers: Mapping[str, Provider], agents: Mapping[str, Agent]) -> None:
        self._settings = providers
        self._agents = agents
        self._offline = OfflineModel(SystemClock())
        self._providers: dict[str, CompatibleProvider] = {}

    async def open(self) -> None:
        """Make the clients now, so that no turn waits for their imports."""
        for name, settings in self._settings.items():
            if settings.kind != "offline":
                self._provider(name, settings)

    def problems(self) -> list[str]:
        """What the configuration asks for and does not exist."""
        return [
            problem
            for name, agent in self._agents.items()
            for problem in self._problems(f"agents.{name}", agent)
        ]

    def bindings(self) -> dict[str, Binding]:
        """The snapshot that a session of each agent is bound to."""
        return {
            name: Binding(name, agent.provider, agent.model, agent.prompt, agent.tools)
            for name, agent in self._agents.items()
        }

    def model(self, voice: Voice) -> Model:
        """The model the voice is bound to. Raises ProviderRefused when its provider is gone."""
        settings = self._settings.get(voice.provider)
        if settings is None:
            raise ProviderRefused(
                f"This session is bound to the provider {voice.provider}, which is not "
                "configured any more. Configure it again, or start a new session."
            )
        if settings.kind == "offline":
            return self._offline
        return self._provider(voice.provider, settings).model(voice.model)

    def limits(self, voice: Voice) -> Limits:
        """The limits of the voice's agent; the defaults when that is gone."""
        agent = self._agents.get(voice.agent)
        if agent is None:
            return Limits()
        return Limits(**{name: getattr(agent.limits, name) for name in Limits.__slots__})

    def tools(self, voice: Voice) -> Sequence[ToolSpec]:
        """The tools the voice was bound with, as far as they still exist."""
        return [tools.BUILT_IN[name].spec for name in voice.tools if name in tools.BUILT_IN]

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one tool."""
        return await tools.run(call, tools.BUILT_IN)

    async def close(self) -> None:
        """Close the clients of all providers."""
        for provider in self._providers.values():
            await provider.close()
        self._providers = {}

    def _problems(self, path: str, agent: Agent) -> Iterator[str]:
        known = ", ".join(sorted(tools.BUILT_IN))
        for tool in agent.tools:
            if tool not in tools.BUILT_IN:
                yield f"{path}.tools: there is no tool {tool!r}; there are: {known}"
        provider = self._settings.get(agent.provider)
        if provider is None:
            yield f"{path}.provider: {agent.provider!r} is not configured"
        elif provider.kind == "openrouter" and "/" not in agent.model:
            yield f'{path}.model: OpenRouter names models "vendor/model", not {agent.model!r}'

    def _provider(self, name: str, settings: Provider) -> CompatibleProvider:
        if name not in self._providers:
            # A second and 60 MB of imports that an offline service does not need.
            from service.agents.compatible import CompatibleProvider

            self._providers[name] = CompatibleProvider(name, settings)
        return self._providers[name]
