"""The offline model: what people can try without a key and without a network."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from service.agents import http_get, notes, tools
from service.agents.offline import OfflineModel
from service.egress import Egress
from service.engine.questions import PROMPT_USER
from service.errors import ProviderError
from service.ports import (
    Finished,
    ModelEvent,
    Prompt,
    Said,
    Step,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolResult,
)
from tests.agents.subjects import events, rolled, said

NOON = datetime(2030, 1, 2, 12, 30, tzinfo=UTC)
EVERY_TOOL = [
    *(tool.spec for tool in tools.BUILT_IN.values()),
    *(tool.spec for tool in notes.TOOLS),
    http_get.http_get(Egress()).spec,
    PROMPT_USER,
]


class Noon:
    """A clock that stands still."""

    def now(self) -> datetime:
        return NOON


@dataclass
class Sleeper:
    """Notes for how long it was to sleep, and does not."""

    slept: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


async def test_it_echoes_in_markdown() -> None:
    """Every line is quoted, so that one sees that the whole message arrived."""
    text = await _answer("First line\nsecond line")

    assert text.startswith("You said:\n\n> First line\n> second line\n\n")
    assert "**offline**" in text


@pytest.mark.parametrize(
    ("earlier", "words"),
    [
        (0, "This is your first message here."),
        (1, "You wrote once before."),
        (5, "You wrote 5 times before."),
    ],
)
async def test_it_remembers(earlier: int, words: str) -> None:
    """One sees that the history arrives."""
    got = await events(OfflineModel(Noon()), said("Hello", earlier=earlier))

    assert words in _text(got)


async def test_words_come_one_by_one() -> None:
    """A delta is a word with the space behind it."""
    got = await events(OfflineModel(Noon()), said("Hello there"))

    pieces = [one.text for one in got if isinstance(one, TextDelta)]
    assert pieces[:4] == ["You ", "said:\n\n", "> ", "Hello "]


@pytest.mark.parametrize("question", ["What time is it?", "what's the time", "the time is it noon"])
async def test_it_tells_the_time(question: str) -> None:
    """Without any tool, in UTC."""
    assert await _answer(question) == "It is **12:30** UTC on Wednesday, 02 January 2030."


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("Hello", 0),
        ("Answer slowly", 5),
        ("Slowly for 10 seconds, please", 10),
        ("slowly for 2 s", 2),
        ("slowly for 999 s", 600),
    ],
)
async def test_it_is_as_slow_as_it_is_asked_to_be(asked: str, seconds: float) -> None:
    """The pauses between the words add up to it; without being asked there is none."""
    sleeper = Sleeper()

    await events(OfflineModel(Noon(), sleep=sleeper), said(asked))

    assert sum(sleeper.slept) == pytest.approx(seconds)


async def test_it_thinks_aloud_when_asked() -> None:
    """Thoughts come before the words."""
    got = await events(OfflineModel(Noon()), said("Think about it"))

    kinds = [type(one) for one in got]
    assert kinds[:3] == [ThinkingDelta, ThinkingDelta, TextDelta]


@pytest.mark.parametrize(
    ("asked", "calls"),
    [
        ("Roll a dice", [("dice", "{}")]),
        ("Roll 3 dice", [("dice", "{}")] * 3),
        ("What's the time in Tokyo?", [("clock", '{"zone": "Asia/Tokyo"}')]),
        ("what time is it in new york please", [("clock", '{"zone": "America/New_York"}')]),
        ("the time in Europe/Berlin", [("clock", '{"zone": "Europe/Berlin"}')]),
        ("the time in Atlantis", [("clock", '{"zone": "Atlantis"}')]),
        ("the last time in the morning", []),
        ("remember buy milk", [("remember", '{"text": "buy milk"}')]),
        ("Please remember: é, 4 dice\nand more", [("remember", '{"text": "é, 4 dice"}')]),
        ("Do you remember me?", []),
        ("remember", []),
        ("Fetch https://example.org/a?b now", [("http_get", '{"url": "https://example.org/a?b"}')]),
        ("ask me", [("prompt_user", '{"question": "What do you want to tell me?"}')]),
        (
            "Ask me to choose red, white or green tea.",
            [
                (
                    "prompt_user",
                    '{"question": "Which one do you choose?", '
                    '"choices": ["red", "white", "green tea"]}',
                )
            ],
        ),
        (
            "ask me: choose a or b, please",
            [
                (
                    "prompt_user",
                    '{"question": "Which one do you choose?", "choices": ["a", "b", "please"]}',
                )
            ],
        ),
        ('call forget {"number": 1} now', [("forget", '{"number": 1}')]),
        ('Please call dice {"sides": {"a": "}"}}', [("dice", '{"sides": {"a": "}"}}')]),
        ("call dice {not json ", [("dice", "{not json")]),
        ('call remember {"text": "roll a dice"}', [("remember", '{"text": "roll a dice"}')]),
        ("call clock", [("clock", "{}")]),
        ("call me later", []),
        ("Hello", []),
    ],
)
async def test_it_calls_tools(asked: str, calls: list[tuple[str, str]]) -> None:
    """For what it cannot know itself; each call has its own id."""
    prompt = Prompt("", [Said("user", asked)], tools=EVERY_TOOL)

    got = [one for one in await events(OfflineModel(Noon()), prompt) if isinstance(one, ToolCall)]

    assert [(one.tool, one.arguments) for one in got] == calls
    assert len({one.id for one in got}) == len(calls)


async def test_it_calls_no_tool_it_was_not_offered() -> None:
    """In the last iteration there are none; then it answers in words."""
    got = await events(OfflineModel(Noon()), said("Roll a dice"))

    assert not [one for one in got if isinstance(one, ToolCall)]
    assert "> Roll a dice" in _text(got)


async def test_it_tells_what_the_tools_said() -> None:
    """And does not call them again."""
    step = rolled(ToolCall("call-0", "dice", "{}"), result="4")
    prompt = Prompt("", [Said("user", "Roll a dice")], steps=[step], tools=EVERY_TOOL)

    got = await events(OfflineModel(Noon()), prompt)

    assert _text(got) == "The tool says **4**."


async def test_a_table_stands_by_itself() -> None:
    """Before what the other tools said, so that it can be drawn."""
    table = "| a |\n|---|\n| 1 |"
    calls = (ToolCall("a", "dice", "{}"), ToolCall("b", "query", "{}"))
    results = (ToolResult("a", "dice", "4"), ToolResult("b", "query", table))
    prompt = Prompt("", [Said("user", "Both")], steps=[Step("", calls, results)])

    got = await events(OfflineModel(Noon()), prompt)

    assert _text(got) == f"The tool says:\n\n{table}\n\nThe tool says **4**."


async def test_it_tells_which_tools_failed() -> None:
    """Beside those that did not."""
    calls = (ToolCall("a", "dice", "{}"), ToolCall("b", "dice", "{}"))
    results = (ToolResult("a", "dice", "4"), ToolResult("b", "dice", "broken", failed=True))
    prompt = Prompt("", [Said("user", "Roll 2 dice")], steps=[Step("", calls, results)])

    assert _text(await events(OfflineModel(Noon()), prompt)) == (
        "The tool says **4**. It failed: **broken**"
    )


@pytest.mark.parametrize(
    "asked",
    ["remember the milk", "ask me", "ask me to choose a or b", "fetch https://a", "call it {}"],
)
async def test_without_the_tool_it_answers_in_words(asked: str) -> None:
    """An agent has only the tools it was given."""
    assert f"> {asked}" in await _answer(asked)


async def test_it_tells_what_people_added_meanwhile() -> None:
    """After what the tools said, which came first."""
    step = replace(rolled(ToolCall("a", "dice", "{}"), result="4"), added=("Hurry", "up"))
    prompt = Prompt("", [Said("user", "Roll a dice")], steps=[step], tools=EVERY_TOOL)

    assert _text(await events(OfflineModel(Noon()), prompt)) == (
        "The tool says **4**. Meanwhile you said: **Hurry**. Meanwhile you said: **up**."
    )


async def test_a_step_without_anything_is_answered() -> None:
    """A provider never says nothing."""
    prompt = Prompt("", [Said("user", "Hello")], steps=[Step("", (), ())])

    assert _text(await events(OfflineModel(Noon()), prompt)) == "I have nothing to add."


@pytest.mark.parametrize("kind", ["refused", "busy", "gone", "timeout"])
async def test_it_fails_at_once_when_asked(kind: str) -> None:
    """In each way a provider can fail; the text says that it was asked for."""
    with pytest.raises(ProviderError, match="as you asked") as raised:
        await _answer(f"Please fail with {kind} now")

    assert type(raised.value).__name__ == f"Provider{kind.title()}"


async def test_it_is_silent_when_asked() -> None:
    """So that one sees the agent's limits end it."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_answer("fail silently"), 0.02)


async def test_without_any_message_it_says_something() -> None:
    """A turn can be made without one."""
    got = await events(OfflineModel(Noon()), Prompt("", []))

    assert "first message" in _text(got)
    assert isinstance(got[-1], Finished)


async def _answer(asked: str) -> str:
    return _text(await events(OfflineModel(Noon()), said(asked)))


def _text(got: list[ModelEvent]) -> str:
    return "".join(one.text for one in got if isinstance(one, TextDelta))
