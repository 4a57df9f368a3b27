"""The catalog: what the configuration says, as the engine sees it."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from service.agents.catalog import Catalog
from service.agents.offline import OfflineModel
from service.config import Agent, AgentLimits, Provider, Secret
from service.core.model import Binding, Voice, VoiceId
from service.errors import ProviderRefused
from service.ports import Finished, Limits, ToolCall
from tests.agents.subjects import events, said
from tests.openai_server import KEY, MODEL, OpenAIServer

ROOT = Path(__file__).parent.parent.parent
OFFLINE = Provider(kind="offline")
ASSISTANT = Agent(provider="offline", model="echo", prompt="Be brief.", tools=("dice", "clock"))

# Runs in a process of its own, whose modules are its alone.
_WITHOUT_IMPORTS = """
import asyncio, sys
from service.agents.catalog import Catalog
from service.config import Agent, Provider
from service.core.model import Voice, VoiceId
from service.ports import Prompt, Said

async def main():
    agents = {"assistant": Agent(provider="offline", model="echo")}
    catalog = Catalog({"offline": Provider(kind="offline")}, agents)
    await catalog.open()
    model = catalog.model(Voice(VoiceId("v"), "", "assistant", "offline", "echo", "", ()))
    said = [one async for one in model.stream(Prompt("", [Said("user", "Hello")]))]
    await catalog.close()
    return len(said)

assert asyncio.run(main()) > 3
heavy = {"pydantic_ai", "openai", "httpx2", "genai_prices", "jsonschema"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""


def test_an_offline_service_imports_no_provider() -> None:
    """They cost a second and 60 MB; nobody pays for what is not configured."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_IMPORTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_a_binding_is_a_snapshot_of_its_agent() -> None:
    """A session keeps it, whatever becomes of the configuration."""
    catalog = Catalog({"offline": OFFLINE}, {"assistant": ASSISTANT})

    assert catalog.bindings() == {
        "assistant": Binding("assistant", "offline", "echo", "Be brief.", ("dice", "clock"))
    }


def test_a_model_is_the_one_the_voice_was_bound_to() -> None:
    """Also when its agent has another one by now, or is gone."""
    catalog = Catalog({"offline": OFFLINE}, {})

    assert isinstance(catalog.model(_voice(agent="gone")), OfflineModel)


def test_a_provider_that_is_gone_refuses() -> None:
    """In words that say what can be done."""
    catalog = Catalog({}, {"assistant": ASSISTANT})

    with pytest.raises(ProviderRefused) as raised:
        catalog.model(_voice(provider="acme"))

    assert str(raised.value) == (
        "This session is bound to the provider acme, which is not configured any more. "
        "Configure it again, or start a new session."
    )


def test_limits_are_those_of_the_agent_now() -> None:
    """They are no part of the snapshot."""
    strict = AgentLimits(first_token=timedelta(seconds=3), retries=0, iterations=2)
    agent = ASSISTANT.model_copy(update={"limits": strict})
    catalog = Catalog({"offline": OFFLINE}, {"assistant": agent})

    assert catalog.limits(_voice()) == Limits(
        first_token=timedelta(seconds=3), retries=0, iterations=2
    )


def test_limits_of_an_agent_that_is_gone_are_the_defaults() -> None:
    """Its sessions can still be answered."""
    assert Catalog({"offline": OFFLINE}, {}).limits(_voice(agent="gone")) == Limits()


def test_the_defaults_of_both_limits_are_the_same() -> None:
    """They are written in the configuration and in the port."""
    assert Catalog({}, {"assistant": ASSISTANT}).limits(_voice()) == Limits()


def test_tools_are_offered_in_the_order_of_the_agent() -> None:
    """One that does not exist any more is left out."""
    catalog = Catalog({"offline": OFFLINE}, {"assistant": ASSISTANT})

    offered = catalog.tools(_voice(tools=("dice", "gone", "clock")))

    assert [spec.name for spec in offered] == ["dice", "clock"]


async def test_a_call_is_run() -> None:
    """By the tools that ship with the service."""
    result = await Catalog({}, {}).call(ToolCall("a", "dice", "{}"))

    assert not result.failed


def test_every_problem_is_named_with_its_path() -> None:
    """All of them at once, with the fix."""
    providers = {
        "offline": OFFLINE,
        "router": Provider(kind="openrouter", api_key=Secret(KEY)),
    }
    agents = {
        "a": Agent(provider="offline", model="echo", tools=("dice", "oracle")),
        "b": Agent(provider="router", model="gpt"),
        "c": Agent(provider="nobody", model="x"),
        "d": ASSISTANT,
    }

    assert Catalog(providers, agents).problems() == [
        "agents.a.tools: there is no tool 'oracle'; there are: clock, dice",
        "agents.b.model: OpenRouter names models \"vendor/model\", not 'gpt'",
        "agents.c.provider: 'nobody' is not configured",
    ]


@pytest.mark.parametrize("kind", ["openai", "openrouter", "ollama"])
async def test_a_configured_provider_answers(kind: str) -> None:
    """With the key and the address it was configured with, by one client for all sessions."""
    async with OpenAIServer() as server:
        settings = Provider.model_validate(
            {"kind": kind, "base_url": server.url, "api_key": Secret(KEY)}
        )
        catalog = Catalog({"acme": settings}, {})
        await catalog.open()
        voice = _voice(provider="acme", model=MODEL)

        first = await events(catalog.model(voice), said("Hello"))
        second = await events(catalog.model(voice), said("Hello"))
        await catalog.close()

    assert [type(one[-1]) for one in (first, second)] == [Finished, Finished]
    assert server.connections == 1


async def test_a_provider_without_a_key_can_be_asked() -> None:
    """Local servers want none; the one of a test does, and says so."""
    async with OpenAIServer() as server:
        catalog = Catalog({"local": Provider(kind="ollama", base_url=server.url)}, {})

        with pytest.raises(ProviderRefused, match="does not accept the API key"):
            await events(catalog.model(_voice(provider="local", model=MODEL)), said("Hello"))
        await catalog.close()


def _voice(
    *,
    agent: str = "assistant",
    provider: str = "offline",
    model: str = "echo",
    tools: tuple[str, ...] = (),
) -> Voice:
    return Voice(VoiceId("v1"), "Assistant", agent, provider, model, "", tools)
