"""The catalog: what the configuration says, as the engine sees it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.agents.catalog import Catalog
from service.agents.mcp import McpServers
from service.agents.offline import OfflineModel
from service.agents.tools import Tool
from service.config import Agent, AgentLimits, Mcp, Price, Provider, Secret
from service.core.model import Binding, Usage, Voice
from service.core.state import State
from service.engine.questions import PROMPT_USER
from service.errors import ProviderRefused
from service.ports import (
    Finished,
    Limits,
    SystemClock,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from tests import mcp_server
from tests.agents.callers import caller, voice
from tests.agents.subjects import events, said
from tests.openai_server import KEY, MODEL, OpenAIServer

ROOT = Path(__file__).parent.parent.parent
OFFLINE = Provider(kind="offline")
ASSISTANT = Agent(provider="offline", model="echo", prompt="Be brief.", tools=("dice", "clock"))
NOTEPAD = Agent(provider="offline", model="echo", python="tests.agents.notepad:agent")

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

    assert isinstance(catalog.model(voice(agent="gone")), OfflineModel)


def test_a_provider_that_is_gone_refuses() -> None:
    """In words that say what can be done."""
    catalog = Catalog({}, {"assistant": ASSISTANT})

    with pytest.raises(ProviderRefused) as raised:
        catalog.model(voice(provider="acme"))

    assert str(raised.value) == (
        "This session is bound to the provider acme, which is not configured any more. "
        "Configure it again, or start a new session."
    )


def test_limits_are_those_of_the_agent_now() -> None:
    """They are no part of the snapshot."""
    strict = AgentLimits(first_token=timedelta(seconds=3), retries=0, iterations=2)
    agent = ASSISTANT.model_copy(update={"limits": strict})
    catalog = Catalog({"offline": OFFLINE}, {"assistant": agent})

    assert catalog.limits(voice()) == Limits(
        first_token=timedelta(seconds=3), retries=0, iterations=2
    )


def test_limits_of_an_agent_that_is_gone_are_the_defaults() -> None:
    """Its sessions can still be answered."""
    assert Catalog({"offline": OFFLINE}, {}).limits(voice(agent="gone")) == Limits()


def test_the_defaults_of_both_limits_are_the_same() -> None:
    """They are written in the configuration and in the port."""
    assert Catalog({}, {"assistant": ASSISTANT}).limits(voice()) == Limits()


def test_tools_are_offered_in_the_order_of_the_agent() -> None:
    """One that does not exist any more is left out."""
    catalog = Catalog({"offline": OFFLINE}, {"assistant": ASSISTANT})

    offered = catalog.tools(voice(tools=("dice", "gone", "clock")))

    assert [spec.name for spec in offered] == ["dice", "clock"]


async def test_a_call_is_run() -> None:
    """By the tool the voice has."""
    result = await _call(Catalog({}, {}), "dice", on_behalf_of=("dice",))

    assert not result.failed


async def test_a_tool_the_voice_does_not_have_is_not_run() -> None:
    """Whatever exists besides: the model is told what it has."""
    result = await _call(Catalog({}, {}), "clock", on_behalf_of=("dice", "notes"))

    assert result == ToolResult(
        "call-1", "clock", "There is no tool 'clock'. Tools: dice, forget, remember.", failed=True
    )


def test_one_name_in_the_configuration_can_be_several_tools() -> None:
    """And what asks people is the engine's to run: the catalog only tells of it."""
    catalog = Catalog({}, {})

    offered = catalog.tools(voice(tools=("notes", "prompt_user", "http_get")))

    assert [spec.name for spec in offered] == ["remember", "forget", "prompt_user", "http_get"]
    assert offered[2] is PROMPT_USER


async def test_tools_of_the_app_are_offered_by_their_name() -> None:
    """Those for all agents, and those made for one of them alone."""
    shared, mine = _tool("shared_one"), _tool("mine_one")
    catalog = Catalog({}, {}, extra={"shared": [shared]}, own={"assistant": {"mine": [mine]}})
    names = ("shared", "mine")

    assert [spec.name for spec in catalog.tools(voice(tools=names))] == ["shared_one", "mine_one"]
    assert [spec.name for spec in catalog.tools(voice(agent="b", tools=names))] == ["shared_one"]
    assert (await _call(catalog, "mine_one", on_behalf_of=names)).text == "mine_one ran"


async def test_tools_of_an_mcp_server_are_offered_to_who_has_it() -> None:
    """By the name of the server, and run there."""
    command = (sys.executable, str(Path(mcp_server.__file__)), "sdk")
    servers = McpServers({"good": Mcp(command=command)})
    catalog = Catalog({}, {}, mcp=servers)
    await servers.open()
    async with asyncio.timeout(30):
        while not servers.tools("good"):
            await asyncio.sleep(0.01)

    offered = {spec.name for spec in catalog.tools(voice(tools=("mcp:good",)))}
    arguments = {"words": "hi", "times": 2}
    run = await _call(catalog, "good_echo", arguments, on_behalf_of=("mcp:good",))
    refused = await _call(catalog, "good_echo", arguments, on_behalf_of=("mcp:bad", "dice"))
    await servers.close()

    assert "good_echo" in offered
    assert (run.text, run.failed) == ("hi hi", False)
    assert refused.text == "There is no tool 'good_echo'. Tools: dice."


# -- agents in Python -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "prompt"), [("", "Keep notes."), ("Of the file.", "Of the file.")]
)
def test_the_prompt_of_the_configuration_comes_first(configured: str, prompt: str) -> None:
    """That of the code is for when there is none."""
    agent = NOTEPAD.model_copy(update={"prompt": configured})

    assert Catalog({}, {"a": agent}).bindings()["a"].prompt == prompt


async def test_tools_of_the_code_are_always_part_of_the_agent() -> None:
    """After those of the configuration; a voice of another agent has none of them."""
    catalog = Catalog({}, {"notepad": NOTEPAD, "assistant": ASSISTANT})
    mine = voice(agent="notepad", tools=("dice",))
    state = State()

    result = await catalog.call(
        ToolCall("1", "note", '{"text": "milk"}'), caller(voice=mine, state=state)
    )

    assert [spec.name for spec in catalog.tools(mine)] == ["dice", "note", "set_knob"]
    assert [spec.name for spec in catalog.tools(voice(tools=("dice",)))] == ["dice"]
    assert (result.text, state["noted"]) == ("Noted for notepad.", ["milk"])


def test_knobs_are_those_of_the_code() -> None:
    """Without code there are none."""
    catalog = Catalog({}, {"notepad": NOTEPAD, "assistant": ASSISTANT})

    assert list(catalog.knobs(voice(agent="notepad"))) == ["brief", "tone", "level"]
    assert catalog.knobs(voice()) == {}
    assert catalog.knobs(voice(agent="gone")) == {}


@pytest.mark.parametrize(
    ("arguments", "text", "stored"),
    [
        ({"name": "brief", "value": True}, "brief is on now.", {"brief": True}),
        ({"name": "brief", "value": "off"}, "brief is off now.", {"brief": False}),
        ({"name": "tone", "value": "WARM"}, "tone is warm now.", {"tone": "warm"}),
        ({"name": "tone", "value": "loud"}, "tone takes one of dry, warm", {}),
        ({"name": "brief", "value": 7}, "brief takes on or off", {}),
        ({"name": "level", "value": 7}, "name: 'level' is not one of ['brief', 'tone']", {}),
        ({"name": "tone"}, "'value' is a required property", {}),
        ({"name": "tone", "value": ["dry"]}, "value: ['dry'] is not valid", {}),
    ],
)
async def test_the_model_may_turn_some_knobs(
    arguments: dict[str, Any], text: str, stored: dict[str, Any]
) -> None:
    """Those that say so; a mistake names what the knob takes."""
    catalog = Catalog({}, {"notepad": NOTEPAD})
    knobs = State()
    behalf = caller(voice=voice(agent="notepad"), knobs=knobs)

    result = await catalog.call(ToolCall("1", "set_knob", json.dumps(arguments)), behalf)

    assert text in result.text
    assert result.failed is (stored == {})
    assert knobs.changes() == stored


def test_the_tool_for_knobs_can_run_twice() -> None:
    """Setting something again does no harm; nobody outside hears of it."""
    [spec] = [
        one
        for one in Catalog({}, {"notepad": NOTEPAD}).tools(voice(agent="notepad"))
        if one.name == "set_knob"
    ]

    assert (spec.idempotent, spec.outward) == (True, False)
    assert "brief takes on or off; tone takes one of dry, warm" in spec.description


def test_an_agent_without_knobs_for_the_model_has_no_tool_for_them() -> None:
    """There would be nothing to turn."""
    agent = Agent(provider="offline", model="echo", python="tests.agents.notepad:plain")

    assert Catalog({}, {"plain": agent}).tools(voice(agent="plain")) == []


# -- sections -------------------------------------------------------------------------------------

_KNOBS = """\
## Settings
- brief is on (takes on or off): Say little.
- tone is dry (takes one of dry, warm): How to say it.
- level is 3 (takes a number up to 9; only people may change it): How loud."""


def test_sections_show_what_there_is() -> None:
    """Notes, what the code shows, and the knobs; nothing empty, and the state is not changed."""
    catalog = Catalog({}, {"notepad": NOTEPAD})
    state = State({"noted": ["milk", "tea"], "notes": [{"number": 1, "text": "kept"}]})

    shown = catalog.sections(
        voice(agent="notepad", tools=("notes",)), state, State({"brief": True, "level": 99})
    )

    assert shown == f"## Notes\n1. kept\n\n## Noted\nmilk, tea\n\n{_KNOBS}"
    assert not state.changed


@pytest.mark.parametrize(
    ("agent", "tools"), [("assistant", ()), ("assistant", ("notes",)), ("gone", ("dice",))]
)
def test_without_anything_to_show_there_is_no_section(agent: str, tools: tuple[str, ...]) -> None:
    """The prompt stays as it is."""
    catalog = Catalog({}, {"assistant": ASSISTANT})

    assert catalog.sections(voice(agent=agent, tools=tools), State(), State()) == ""


@pytest.mark.parametrize("state", [{"break": True}, {"odd": 5}])
def test_a_section_that_fails_is_left_out(state: dict[str, Any]) -> None:
    """The turn goes on without it, and the log says so."""
    catalog = Catalog({}, {"notepad": NOTEPAD})
    with capture_logs() as entries:
        shown = catalog.sections(voice(agent="notepad"), State(state), State({"brief": True}))

    assert shown == _KNOBS
    [entry] = entries
    assert entry["event"] == "agents.section_broken"


def test_a_section_has_a_longest_length() -> None:
    """And says that it is cut."""
    catalog = Catalog({}, {"notepad": NOTEPAD})

    shown = catalog.sections(voice(agent="notepad"), State({"odd": "x" * 30_000}), State())

    assert shown.startswith(f"## Odd\n{'x' * 20_000}\n[the rest was left out here]\n\n## Settings")


# -- files and money ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("offline", ""),
        ("ollama", ""),
        ("openai", "image pdf"),
        ("openrouter", "image pdf"),
        ("anthropic", "image pdf"),
        ("google", "image pdf audio"),
    ],
)
def test_what_a_model_can_be_given(kind: str, taken: str) -> None:
    """By the kind of its provider, as long as the agent does not say it."""
    catalog = Catalog({"acme": Provider.model_validate({"kind": kind, "api_key": Secret(KEY)})}, {})

    assert _taken(catalog, voice(provider="acme")) == taken


def test_an_agent_says_what_its_model_can_be_given() -> None:
    """It knows its model better."""
    agents = {
        "all": Agent(provider="acme", model="m", attachments=frozenset({"audio", "image"})),
        "none": Agent(provider="acme", model="m", attachments=frozenset()),
    }
    catalog = Catalog({"acme": Provider(kind="openai", api_key=Secret(KEY))}, agents)

    assert _taken(catalog, voice(agent="all", provider="acme")) == "image audio"
    assert _taken(catalog, voice(agent="none", provider="acme")) == ""


@pytest.mark.parametrize(
    ("media_type", "taken"),
    [
        ("image/png", True),
        ("IMAGE/JPEG", True),
        ("image/gif", True),
        ("image/webp", True),
        ("image/svg+xml", False),
        ("image/tiff", False),
        ("application/pdf", True),
        ("application/zip", False),
        ("audio/ogg; codecs=opus", True),
        ("audio/mpeg", True),
        ("video/mp4", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_which_files_are_taken(media_type: str, taken: bool) -> None:
    """Only those that every model of such a kind can read."""
    catalog = Catalog({"acme": Provider(kind="google", api_key=Secret(KEY))}, {})

    assert catalog.takes(voice(provider="acme"), media_type) is taken


def test_without_its_provider_a_voice_takes_nothing() -> None:
    """It cannot answer either."""
    assert not Catalog({}, {}).takes(voice(provider="gone"), "image/png")


async def test_a_response_says_what_it_cost() -> None:
    """By the configured price of the model the session is bound to; nothing else is changed."""
    agent = ASSISTANT.model_copy(update={"price": Price(input=1000, output=2)})
    catalog = Catalog({"offline": OFFLINE}, {"assistant": agent})

    *plain, unpriced = await events(OfflineModel(SystemClock()), said("Hello"))
    *words, finished = await events(catalog.model(voice()), said("Hello"))

    assert isinstance(unpriced, Finished)
    assert isinstance(finished, Finished)
    usage = unpriced.usage
    assert finished.usage == Usage(
        usage.input_tokens,
        usage.output_tokens,
        cost_micros=usage.input_tokens * 1000 + usage.output_tokens * 2,
    )
    assert words == plain


def test_a_price_is_that_of_the_agents_model_only() -> None:
    """A session bound to another one does not cost that."""
    agent = ASSISTANT.model_copy(update={"price": Price(input=1000, output=2)})
    catalog = Catalog({"offline": OFFLINE}, {"assistant": agent})

    assert isinstance(catalog.model(voice(model="older")), OfflineModel)


async def test_closing_the_stream_closes_that_of_the_provider() -> None:
    """Also through the price: a stopped turn costs nothing more."""
    agent = ASSISTANT.model_copy(update={"price": Price(input=1, output=2)})
    catalog = Catalog({"offline": OFFLINE}, {"assistant": agent})
    stream = catalog.model(voice()).stream(said("think and answer slowly for 600 s"))

    first = await anext(stream)
    await stream.aclose()

    assert isinstance(first, ThinkingDelta)
    assert [one async for one in stream] == []


# -- problems -------------------------------------------------------------------------------------


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
        "e": Agent(provider="offline", model="echo", tools=("mcp:files", "mcp:web")),
        "f": NOTEPAD.model_copy(update={"python": "tests.agents.notepad:gone"}),
        "g": NOTEPAD,
    }
    servers = McpServers({"files": Mcp(command=("x",))})
    extra = {"schedule": [_tool("schedule_add")]}

    assert Catalog(providers, agents, mcp=servers, extra=extra).problems() == [
        "agents.a.tools: there is no tool 'oracle'; there are: clock, dice, http_get, mcp:files, "
        "notes, prompt_user, schedule",
        "agents.b.model: OpenRouter names models \"vendor/model\", not 'gpt'",
        "agents.c.provider: 'nobody' is not configured",
        "agents.e.tools: there is no MCP server 'web'; there are: files",
        "agents.f.python: 'tests.agents.notepad:gone': there is no 'gone' in "
        "'tests.agents.notepad'",
    ]


def test_a_server_that_nobody_configured() -> None:
    """Without any, too."""
    agents = {"a": ASSISTANT.model_copy(update={"tools": ("mcp:files",)})}

    assert Catalog({"offline": OFFLINE}, agents).problems() == [
        "agents.a.tools: there is no MCP server 'files'; there are: none"
    ]


def test_two_tools_of_one_name_are_a_problem() -> None:
    """Wherever they come from."""
    agent = Agent(
        provider="offline",
        model="echo",
        tools=("dice", "clock", "clock", "more"),
        python="tests.agents.notepad:clashing",
    )
    catalog = Catalog({"offline": OFFLINE}, {"a": agent}, extra={"more": [_tool("other")]})

    assert catalog.problems() == [
        "agents.a.tools: the name 'dice' is taken more than once: by tools dice and python",
        "agents.a.tools: the name 'clock' is taken more than once: by tools clock twice",
        "agents.a.tools: the name 'set_knob' is taken more than once: by python and its knobs",
    ]


async def test_of_two_tools_of_one_name_the_first_one_runs() -> None:
    """A session that was bound before keeps going; a name is offered once."""
    agent = NOTEPAD.model_copy(update={"python": "tests.agents.notepad:clashing"})
    catalog = Catalog({}, {"assistant": agent})

    assert [one.name for one in catalog.tools(voice(tools=("dice",)))] == ["dice", "set_knob"]
    assert (await _call(catalog, "dice", on_behalf_of=("dice",))).text != "mine"


@pytest.mark.parametrize("kind", ["openai", "openrouter", "ollama"])
async def test_a_configured_provider_answers(kind: str) -> None:
    """With the key and the address it was configured with, by one client for all sessions."""
    async with OpenAIServer() as server:
        settings = Provider.model_validate(
            {"kind": kind, "base_url": server.url, "api_key": Secret(KEY)}
        )
        catalog = Catalog({"acme": settings}, {})
        await catalog.open()
        bound = voice(provider="acme", model=MODEL)

        first = await events(catalog.model(bound), said("Hello"))
        second = await events(catalog.model(bound), said("Hello"))
        await catalog.close()

    assert [type(one[-1]) for one in (first, second)] == [Finished, Finished]
    assert server.connections == 1


async def test_a_provider_without_a_key_can_be_asked() -> None:
    """Local servers want none; the one of a test does, and says so."""
    async with OpenAIServer() as server:
        catalog = Catalog({"local": Provider(kind="ollama", base_url=server.url)}, {})

        with pytest.raises(ProviderRefused, match="does not accept the API key"):
            await events(catalog.model(voice(provider="local", model=MODEL)), said("Hello"))
        await catalog.close()


async def test_a_providers_response_is_priced() -> None:
    """By the price of its agent, whatever the provider is."""
    async with OpenAIServer() as server:
        settings = Provider(kind="openai", base_url=server.url, api_key=Secret(KEY))
        agent = Agent(provider="acme", model=MODEL, price=Price(input=1, output=1))
        catalog = Catalog({"acme": settings}, {"assistant": agent})
        got = await events(catalog.model(voice(provider="acme", model=MODEL)), said("Hello"))
        await catalog.close()

    finished = got[-1]
    assert isinstance(finished, Finished)
    usage = finished.usage
    assert usage.cost_micros == usage.input_tokens + usage.output_tokens > 0


def _tool(name: str) -> Tool:
    return Tool(ToolSpec(name, "For a test.", {"type": "object"}), lambda *_: f"{name} ran")


async def _call(
    catalog: Catalog, tool: str, arguments: Any = None, *, on_behalf_of: tuple[str, ...]
) -> ToolResult:
    call = ToolCall("call-1", tool, json.dumps(arguments or {}))
    return await catalog.call(call, caller(voice=voice(tools=on_behalf_of)))


def _taken(catalog: Catalog, one: Voice) -> str:
    media = {"image": "image/png", "pdf": "application/pdf", "audio": "audio/ogg"}
    return " ".join(kind for kind, name in media.items() if catalog.takes(one, name))
