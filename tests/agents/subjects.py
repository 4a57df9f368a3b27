"""Models of every kind, each with prompts that make it do what a test wants to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import httpx2

from service.agents.anthropic import MessagesProvider
from service.agents.compatible import CompatibleProvider
from service.agents.direct import DirectProvider
from service.agents.google import GeminiProvider
from service.agents.offline import OfflineModel
from service.config import Provider, Secret
from service.errors import ProviderBusy, ProviderError, ProviderGone, ProviderRefused
from service.ports import (
    Model,
    ModelEvent,
    Prompt,
    Said,
    Step,
    SystemClock,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from tests.openai_server import OpenAIServer
from tests.providers.anthropic_server import AnthropicServer
from tests.providers.google_server import GoogleServer
from tests.providers.responses_server import ResponsesServer
from tests.providers.server import (
    KEY,
    Answer,
    Body,
    Call,
    Cut,
    Hang,
    ProviderServer,
    Refusal,
    Script,
    Stream,
)

DICE = ToolSpec("dice", "Roll a dice.", {"type": "object", "properties": {}})

SERVERS: Mapping[str, Callable[[], ProviderServer]] = {
    "openai": OpenAIServer,
    "openrouter": partial(OpenAIServer, "openrouter"),
    "ollama": partial(OpenAIServer, "ollama"),
    "responses": ResponsesServer,
    "anthropic": AnthropicServer,
    "google": GoogleServer,
}
"""Who speaks as the providers of each kind do; responses are the other API of OpenAI."""

_OPENED: Mapping[str, Callable[..., DirectProvider]] = {
    "anthropic": MessagesProvider,
    "google": GeminiProvider,
}


class Subject(Protocol):
    """One implementation of the port, and how to make it show its behaviour."""

    model: Model

    def greeting(self) -> Prompt:
        """Let it answer in several words that name what was asked and how much came before."""

    def rolling(self) -> Prompt:
        """Let it call the dice."""

    def lasting(self) -> Prompt:
        """Let it begin an answer that takes longer than any test."""

    def failing(self, error: type[ProviderError]) -> Prompt:
        """Let it fail in this way."""

    def breaking_off(self) -> Prompt:
        """Let it fail in the middle of its words."""


class OfflineSubject:
    """The offline model, which is told by what it is asked."""

    def __init__(self) -> None:
        self.model: Model = OfflineModel(SystemClock())

    def greeting(self) -> Prompt:
        return said("Hello there")

    def rolling(self) -> Prompt:
        return said("Please roll a dice", tools=True)

    def lasting(self) -> Prompt:
        # It thinks at once and then waits between words.
        return said("think and answer slowly for 600 s")

    def failing(self, error: type[ProviderError]) -> Prompt:
        return said(f"fail {error.__name__.removeprefix('Provider').lower()}")

    def breaking_off(self) -> Prompt:
        return said("fail midway")


class ServerSubject:
    """A model behind a local server, which is told by scripts."""

    def __init__(self, server: ProviderServer, provider: DirectProvider) -> None:
        self._server = server
        self.model: Model = provider.model(server.model)

    def greeting(self) -> Prompt:
        self._server.play(self._echo)
        return said("Hello there")

    def rolling(self) -> Prompt:
        self._server.play(self._roll)
        return said("Please roll a dice", tools=True)

    def lasting(self) -> Prompt:
        self._server.play([*self._begun(), Hang()])
        return said("Hello there")

    def failing(self, error: type[ProviderError]) -> Prompt:
        self._server.play(FAILURES[error])
        return said("Hello there")

    def breaking_off(self) -> Prompt:
        self._server.play([*self._begun(), Cut()])
        return said("Hello there")

    def _begun(self) -> Stream:
        """An answer as far as its first words."""
        events = self._server.tell(Answer(("Well",)))
        words = next(n for n, event in enumerate(events) if b"Well" in event)
        return events[: words + 1]

    def _echo(self, body: Body) -> Stream:
        """Quote the newest message and count the earlier ones of the person."""
        lines = self._server.lines(body)
        people = [str(text) for who, what, text in lines if (who, what) == ("user", "text")]
        earlier = f". You wrote {len(people) - 1} times before."
        return self._server.tell(Answer(("You said: ", people[-1], earlier)))

    def _roll(self, body: Body) -> Stream:
        """Call the dice once, then tell what it showed."""
        _, what, newest = self._server.lines(body)[-1]
        if what != "result":
            return self._server.tell(Answer(("Let me see.",), calls=(Call("a", "dice"),)))
        assert isinstance(newest, tuple)
        return self._server.tell(Answer(("It shows ", newest[1], ".")))


FAILURES: Mapping[type[ProviderError], Script] = {
    ProviderRefused: Refusal(401, f"Incorrect API key provided: {KEY}.", "invalid_api_key"),
    ProviderBusy: Refusal(429, "Slow down.", headers={"Retry-After": "1"}),
    ProviderGone: Refusal(503, "Overloaded."),
}


def said(text: str, *, earlier: int = 0, tools: bool = False) -> Prompt:
    """A prompt that ends with these words of a person, after so many answered ones."""
    before = [
        Said(role, f"{role} {number}")
        for number in range(earlier)
        for role in ("user", "assistant")
    ]
    return Prompt("Be brief.", [*before, Said("user", text)], tools=[DICE] if tools else [])


def rolled(call: ToolCall, *, result: str) -> Step:
    """The iteration in which the dice was rolled."""
    return Step("", (call,), (ToolResult(call.id, call.tool, result),))


def provider(
    kind: str, url: str, *, patience: float | None = None, key: str = KEY
) -> DirectProvider:
    """A provider of one kind at the local server."""
    settings = {"kind": kind, "base_url": url, "api_key": Secret(key)}
    if kind == "responses":
        settings |= {"kind": "openai", "api": "responses"}
    made = _OPENED.get(kind, CompatibleProvider)
    return made("acme", Provider.model_validate(settings), timeout=httpx2.Timeout(patience))


async def events(model: Model, prompt: Prompt) -> list[ModelEvent]:
    """Everything of one stream."""
    return [event async for event in model.stream(prompt)]
