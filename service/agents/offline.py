"""A model that needs no key and no network: good enough to try everything with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta

from service.core.model import Usage
from service.errors import ProviderBusy, ProviderError, ProviderGone, ProviderRefused
from service.ports import Finished, ModelEvent, Prompt, TextDelta, ThinkingDelta, ToolCall

_SLOWLY = re.compile(r"\bslowly\b(?:\s+for\s+(\d{1,3})\s*s)?", re.IGNORECASE)
_DICE = re.compile(r"\bdice\b", re.IGNORECASE)
_TIME_IN = re.compile(r"\btime\b.*?\bin\s+([A-Z][\w/]+(?:\s[A-Z]\w+)?)")
_TIME = re.compile(r"\bwhat('s| is)? (the )?time\b|\btime is it\b", re.IGNORECASE)
_CITIES = {
    "tokyo": "Asia/Tokyo",
    "berlin": "Europe/Berlin",
    "london": "Europe/London",
    "new york": "America/New_York",
    "sydney": "Australia/Sydney",
}
_DEFAULT_SLOW = 5
_WORDS = re.compile(r"\S+\s*")


class OfflineModel:
    """Echoes in Markdown, tells the time, rolls dice, and fails when asked to.

    What it understands: "slowly" or "slowly for 10 s" spreads the answer over time; "dice" and
    "time in Tokyo" call a tool, when the agent has it; "think" thinks aloud first; "fail busy",
    "fail gone", "fail refused" and "fail midway" end in that provider error.
    """

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Yield the answer word by word; at once unless it is to be slow."""
        asked = prompt.history[-1].text if prompt.history else ""
        if error := _failure(asked):
            raise error
        if (call := _tool_call(asked, prompt)) is not None:
            yield TextDelta("Let me see. ")
            yield call
            yield Finished(Usage(len(asked.split()), 3))
            return
        if re.search(r"\bthink\b", asked, re.IGNORECASE):
            yield ThinkingDelta("They want an echo. I will echo.")
        words = list(_words(_answer(asked, prompt)))
        pause = _pause(asked, len(words))
        for place, word in enumerate(words):
            if "fail midway" in asked.lower() and place == len(words) // 2:
                raise ProviderGone("The offline provider broke off, as you asked.")
            if pause:
                await asyncio.sleep(pause)
            yield TextDelta(word)
        yield Finished(Usage(len(asked.split()), len(words)))


def _failure(asked: str) -> ProviderError | None:
    match re.search(r"\bfail (busy|gone|refused)\b", asked, re.IGNORECASE):
        case re.Match() as match:
            kind = match[1].lower()
        case _:
            return None
    if kind == "busy":
        return ProviderBusy("The offline provider is busy, as you asked.", timedelta(seconds=1))
    if kind == "gone":
        return ProviderGone("The offline provider is gone, as you asked.")
    return ProviderRefused("The offline provider refused, as you asked.")


def _tool_call(asked: str, prompt: Prompt) -> ToolCall | None:
    """The one tool call the question asks for, unless it was made already."""
    offered = {spec.name for spec in prompt.tools}
    if prompt.steps:
        return None
    if _DICE.search(asked) and "dice" in offered:
        return ToolCall("call-dice", "dice", "{}")
    if (place := _TIME_IN.search(asked)) and "clock" in offered:
        zone = _CITIES.get(place[1].lower(), place[1])
        return ToolCall("call-clock", "clock", f'{{"zone": "{zone}"}}')
    return None


def _answer(asked: str, prompt: Prompt) -> str:
    if prompt.steps:
        results = ", ".join(f"**{one.text}**" for one in prompt.steps[-1].results)
        return f"The tool says {results}."
    if _TIME.search(asked):
        return f"It is **{datetime.now(UTC):%H:%M}** UTC on {datetime.now(UTC):%A, %d %B %Y}."
    earlier = sum(said.role == "user" for said in prompt.history) - 1
    before = {0: "This is your first message here.", 1: "You wrote once before."}
    remembered = before.get(earlier, f"You wrote {earlier} times before.")
    quoted = "\n".join(f"> {line}" for line in asked.strip().splitlines())
    return (
        f"You said:\n\n{quoted}\n\n{remembered} I am the **offline** agent: "
        "I need no key and no network. Ask me for the *time*, to roll a `dice`, "
        "or to answer *slowly*."
    )


def _pause(asked: str, words: int) -> float:
    match = _SLOWLY.search(asked)
    if match is None or words == 0:
        return 0.0
    return min(int(match[1] or _DEFAULT_SLOW), 600) / words


def _words(text: str) -> Iterator[str]:
    return (match[0] for match in _WORDS.finditer(text))
