"""Models of every kind, each with prompts that make it do what a test wants to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import openai

from service.agents.compatible import CompatibleProvider
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
from tests.openai_server import (
    KEY,
    MODEL,
    Body,
    Cut,
    Hang,
    OpenAIServer,
    Refusal,
    Script,
    Stream,
    answer,
    call,
    end,
    words,
)

DICE = ToolSpec("dice", "Roll a dice.", {"type": "object", "properties": {}})


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


class CompatibleSubject:
    """A model behind the local server, which is told by scripts."""

    def __init__(self, server: OpenAIServer, provider: CompatibleProvider) -> None:
        self._server = server
        self.model: Model = provider.model(MODEL)

    def greeting(self) -> Prompt:
        self._server.play(_echo)
        return said("Hello there")

    def rolling(self) -> Prompt:
        self._server.play(_roll)
        return said("Please roll a dice", tools=True)

    def lasting(self) -> Prompt:
        self._server.play([*words("Well"), Hang()])
        return said("Hello there")

    def failing(self, error: type[ProviderError]) -> Prompt:
        self._server.play(FAILURES[error])
        return said("Hello there")

    def breaking_off(self) -> Prompt:
        self._server.play([*words("Well", " then"), Cut()])
        return said("Hello there")


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


def provider(kind: str, url: str, *, patience: float | None = None) -> CompatibleProvider:
    """A provider of one kind at the local server."""
    settings = Provider.model_validate({"kind": kind, "base_url": url, "api_key": Secret(KEY)})
    return CompatibleProvider("acme", settings, timeout=openai.Timeout(patience))


async def events(model: Model, prompt: Prompt) -> list[ModelEvent]:
    """Everything of one stream."""
    return [event async for event in model.stream(prompt)]


def _echo(body: Body) -> Stream:
    """Quote the newest message and count the earlier ones of the person."""
    people = [one["content"] for one in body["messages"] if one["role"] == "user"]
    return answer("You said: ", people[-1], f". You wrote {len(people) - 1} times before.")


def _roll(body: Body) -> Stream:
    """Call the dice once, then tell what it showed."""
    newest = body["messages"][-1]
    if newest["role"] == "tool":
        return answer("It shows ", newest["content"], ".")
    return [*words("Let me see."), *call("dice", "{", "}"), *end("tool_calls")]
