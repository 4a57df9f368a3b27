"""The configured agents: their models, limits and tools, as the engine sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from service.agents import definition, http_get, knobs, notes, tools
from service.agents.offline import OfflineModel
from service.agents.prices import cost_micros
from service.agents.providers import open_provider
from service.agents.tools import Tool
from service.config import Agent, Price, Provider
from service.core.knobs import Knob
from service.core.model import Binding, Busy, Voice
from service.core.state import State
from service.egress import Egress
from service.engine.questions import PROMPT_USER
from service.errors import BadInput, ProviderRefused
from service.ports import (
    Caller,
    Finished,
    Limits,
    Model,
    ModelEvent,
    Prompt,
    SystemClock,
    ToolCall,
    ToolResult,
    ToolSpec,
)

if TYPE_CHECKING:
    from service.agents.data import DataSources
    from service.agents.mcp import McpServers
    from service.agents.providers import Provider as OpenProvider

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_MCP = "mcp:"
_DATA = "data:"
_HTTP_GET = "http_get"
_LONGEST_SECTION = 20_000
_SETTINGS = "Settings"

_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_TAKEN: Mapping[str, frozenset[str]] = {
    "openai": frozenset({"image", "pdf"}),
    "openrouter": frozenset({"image", "pdf"}),
    "anthropic": frozenset({"image", "pdf"}),
    "google": frozenset({"image", "pdf", "audio"}),
}
"""What models of each kind of provider can be given, unless the agent says otherwise."""

_Offered = Tool | ToolSpec
"""A tool of this process, or what is known of one that somebody else runs."""


class Catalog:
    """Implements the engine's `Agents`; a provider's module is imported only when configured.

    `extra` are tools by the name they have in the configuration, and `own` those that are made
    for one agent, by its name first. Whoever made `mcp` and `data` opens and closes them.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        agents: Mapping[str, Agent],
        *,
        mcp: McpServers | None = None,
        data: DataSources | None = None,
        extra: Mapping[str, Sequence[Tool]] | None = None,
        own: Mapping[str, Mapping[str, Sequence[Tool]]] | None = None,
    ) -> None:
        self._settings = providers
        self._agents = agents
        self._mcp = mcp
        self._data = data
        self._own = own or {}
        self._offline = OfflineModel(SystemClock())
        self._providers: dict[str, OpenProvider] = {}
        self._egress = Egress(total=http_get.WITHIN)
        self._named: dict[str, Sequence[_Offered]] = {
            **{name: (tool,) for name, tool in tools.BUILT_IN.items()},
            _HTTP_GET: (http_get.http_get(self._egress),),
            notes.NAME: notes.TOOLS,
            PROMPT_USER.name: (PROMPT_USER,),
            **(extra or {}),
        }
        self._faults: dict[str, str] = {}
        self._python = dict(self._loaded())

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
            for problem in self._problems(name, f"agents.{name}", agent)
        ]

    def bindings(self) -> dict[str, Binding]:
        """The snapshot that a session of each agent is bound to."""
        return {
            name: Binding(
                name,
                agent.provider,
                agent.model,
                self._prompt(name, agent),
                agent.tools,
                Busy(agent.busy),
            )
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
        price = self._price(voice)
        if settings.kind != "offline":
            model = self._provider(voice.provider, settings).model(voice.model)
            return _Priced(model, price, settings.kind, voice.model)
        return _Priced(self._offline, price, settings.kind, voice.model) if price else self._offline

    def limits(self, voice: Voice) -> Limits:
        """The limits of the voice's agent; the defaults when that is gone."""
        agent = self._agents.get(voice.agent)
        if agent is None:
            return Limits()
        return Limits(**{name: getattr(agent.limits, name) for name in Limits.__slots__})

    def tools(self, voice: Voice) -> Sequence[ToolSpec]:
        """The tools the voice was bound with, as far as they still exist, and those of its code."""
        return [_spec(one) for one in self._offered(voice).values()]

    async def call(self, call: ToolCall, caller: Caller) -> ToolResult:
        """Run one tool of the caller's voice."""
        offered = self._offered(caller.voice)
        found = offered.get(call.tool)
        if isinstance(found, Tool):
            return await found.run(call, caller)
        if found is not None and self._mcp is not None and self._mcp.owns(call.tool):
            result = await self._mcp.call(call)
            return await tools.kept(result) if found.data else tools.bounded(result)
        return tools.unknown(call, offered)

    def knobs(self, voice: Voice) -> Mapping[str, Knob]:
        """The knobs of the agent's code; there are none when it has none, or is gone."""
        python = self._python.get(voice.agent)
        return python.knobs if python else {}

    def sections(self, voice: Voice, state: State, knobs: State) -> str:
        """What the model is shown of notes, of what the agent's code shows, and of its knobs."""
        shown = (
            _section(title, text)
            for title, text in self._sections(voice, state, knobs)
            if text.strip()
        )
        return "\n\n".join(shown)

    def takes(self, voice: Voice, media_type: str) -> bool:
        """Whether the voice's model can be given such a file."""
        agent = self._agents.get(voice.agent)
        settings = self._settings.get(voice.provider)
        kind = _kind_of(media_type)
        if agent is not None and agent.attachments is not None:
            return kind in agent.attachments
        return settings is not None and kind in _TAKEN.get(settings.kind, frozenset())

    async def close(self) -> None:
        """Close the clients of all providers, and that of the tools."""
        for provider in self._providers.values():
            await provider.close()
        self._providers = {}
        await self._egress.close()

    # -- what there is ----------------------------------------------------------------------------

    def _loaded(self) -> Iterator[tuple[str, definition.Agent]]:
        for name, agent in self._agents.items():
            if agent.python is None:
                continue
            try:
                yield name, definition.load(agent.python)
            except BadInput as error:
                self._faults[name] = str(error)

    def _prompt(self, name: str, agent: Agent) -> str:
        python = self._python.get(name)
        return agent.prompt or (python.prompt if python else "")

    def _price(self, voice: Voice) -> Price | None:
        """The configured price, if it is that of the model the voice is bound to."""
        agent = self._agents.get(voice.agent)
        bound = (voice.provider, voice.model)
        return agent.price if agent and (agent.provider, agent.model) == bound else None

    def _offered(self, voice: Voice) -> dict[str, _Offered]:
        """By the names the model knows; of two with one name, the first one counts."""
        offered: dict[str, _Offered] = {}
        for _, tool in self._candidates(voice.agent, voice.tools):
            offered.setdefault(_spec(tool).name, tool)
        return offered

    def _candidates(self, agent: str, names: Sequence[str]) -> Iterator[tuple[str, _Offered]]:
        """Every tool of an agent, and where it comes from."""
        for name in names:
            for tool in self._of(agent, name):
                yield f"tools {name}", tool
        python = self._python.get(agent)
        if python is None:
            return
        for tool in python.tools.values():
            yield "python", tool
        if (turn := knobs.set_knob(python.knobs)) is not None:
            yield "its knobs", turn

    def _of(self, agent: str, name: str) -> Sequence[_Offered]:
        """The tools behind one name of the configuration."""
        if name.startswith(_MCP):
            return self._mcp.tools(name.removeprefix(_MCP)) if self._mcp else ()
        if name.startswith(_DATA):
            return self._data.tools(name.removeprefix(_DATA)) if self._data else ()
        return self._own.get(agent, {}).get(name) or self._named.get(name, ())

    def _sections(self, voice: Voice, state: State, stored: State) -> Iterator[tuple[str, str]]:
        if notes.NAME in voice.tools:
            yield notes.TITLE, _rendered(notes.TITLE, voice, notes.section, State(state))
        python = self._python.get(voice.agent)
        if python is None:
            return
        values = knobs.values(python.knobs, stored)
        for title, section in python.sections.items():
            # A copy: showing something is no change.
            context = definition.SectionContext(voice.agent, State(state), values)
            yield title, _rendered(title, voice, section, context)
        yield _SETTINGS, knobs.section(python.knobs, stored)

    # -- what is wrong with it --------------------------------------------------------------------

    def _problems(self, name: str, path: str, agent: Agent) -> Iterator[str]:
        for tool in agent.tools:
            if (problem := self._missing(name, tool)) is not None:
                yield f"{path}.tools: {problem}"
        if name in self._faults:
            yield f"{path}.python: {self._faults[name]}"
        yield from (f"{path}.tools: {problem}" for problem in self._collisions(name, agent))
        provider = self._settings.get(agent.provider)
        if provider is None:
            yield f"{path}.provider: {agent.provider!r} is not configured"
        elif provider.kind == "openrouter" and "/" not in agent.model:
            yield f'{path}.model: OpenRouter names models "vendor/model", not {agent.model!r}'

    def _missing(self, agent: str, tool: str) -> str | None:
        """Why the configuration cannot name this tool; None when it can."""
        servers = self._mcp.names if self._mcp else frozenset()
        server = tool.removeprefix(_MCP)
        if server != tool:
            there = ", ".join(sorted(servers)) or "none"
            missing = f"there is no MCP server {server!r}; there are: {there}"
            return None if server in servers else missing
        if self._of(agent, tool):
            return None
        databases = self._data.names if self._data else frozenset()
        known = {
            *self._named,
            *self._own.get(agent, {}),
            *(f"{_MCP}{one}" for one in servers),
            *(f"{_DATA}{one}" for one in databases),
        }
        return f"there is no tool {tool!r}; there are: {', '.join(sorted(known))}"

    def _collisions(self, name: str, agent: Agent) -> Iterator[str]:
        """Tools of one name; those of an MCP server are known only once it is connected to."""
        found: dict[str, list[str]] = {}
        for source, tool in self._candidates(name, agent.tools):
            found.setdefault(_spec(tool).name, []).append(source)
        for tool_name, sources in found.items():
            if len(sources) > 1:
                counted = Counter(sources)
                told = " and ".join(counted) if len(counted) > 1 else f"{sources[0]} twice"
                yield f"the name {tool_name!r} is taken more than once: by {told}"

    def _provider(self, name: str, settings: Provider) -> OpenProvider:
        if name not in self._providers:
            self._providers[name] = open_provider(name, settings)
        return self._providers[name]


def _spec(offered: _Offered) -> ToolSpec:
    return offered.spec if isinstance(offered, Tool) else offered


def _kind_of(media_type: str) -> str | None:
    """The kind of attachment it is, in the configuration's words."""
    bare = media_type.partition(";")[0].strip().lower()
    if bare in _IMAGES:
        return "image"
    if bare == "application/pdf":
        return "pdf"
    return "audio" if bare.startswith("audio/") else None


def _rendered(title: str, voice: Voice, section: Any, given: Any) -> str:
    """What a section says; nothing when it fails, which must not end the turn."""
    try:
        text = section(given)
        if text is not None and not isinstance(text, str):
            raise TypeError(f"a section returns text or None, not {type(text).__name__}")
    except (Exception, SystemExit):
        log.exception("agents.section_broken", agent=voice.agent, section=title)
        return ""
    return text or ""


def _section(title: str, text: str) -> str:
    shown = text.strip()
    if len(shown) > _LONGEST_SECTION:
        shown = f"{shown[:_LONGEST_SECTION]}\n[the rest was left out here]"
    return f"## {title}\n{shown}"


@dataclass(frozen=True, slots=True)
class _Priced:
    """A model whose responses say what they cost."""

    model: Model
    price: Price | None
    kind: str
    name: str

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Yield the model's own response, and its cost at the end."""
        async with aclosing(self.model.stream(prompt)) as events:
            async for event in events:
                yield self._with_cost(event) if isinstance(event, Finished) else event

    def _with_cost(self, finished: Finished) -> Finished:
        usage = finished.usage
        try:
            cost = cost_micros(usage, self.price, self.kind, self.name)
        except Exception:
            # A response that came is worth more than to know what it cost.
            log.exception("agents.cost_unknown", model=self.name)
            return finished
        return replace(finished, usage=replace(usage, cost_micros=cost))
