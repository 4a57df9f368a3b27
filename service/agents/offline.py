"""A model that needs no key and no network: good enough to try everything with."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from service.core.model import Usage
from service.errors import (
    ProviderBusy,
    ProviderError,
    ProviderGone,
    ProviderRefused,
    ProviderTimeout,
)
from service.ports import Clock, Finished, ModelEvent, Prompt, TextDelta, ThinkingDelta, ToolCall

Sleep = Callable[[float], Awaitable[None]]

_SLOWLY = re.compile(r"\bslowly\b(?:\s+for\s+(\d{1,3})\s*s)?", re.IGNORECASE)
_DICE = re.compile(r"\b(?:(\d)\s+)?dice\b", re.IGNORECASE)
_TIME_IN = re.compile(r"\btime\b.*?\bin\s+([\w/+-]+(?: [\w-]+)?)", re.IGNORECASE)
_TIME = re.compile(r"\bwhat('s| is)? (the )?time\b|\btime is it\b", re.IGNORECASE)
_THINK = re.compile(r"\bthink\b", re.IGNORECASE)
_CALL = re.compile(r"\bcall\s+([\w-]+)[ \t]*(\{.*)?", re.IGNORECASE | re.DOTALL)
_REMEMBER = re.compile(r"^\W*(?:please\s+)?remember:?[ \t]+(\S.*)$", re.IGNORECASE | re.MULTILINE)
_ASK_ME = re.compile(r"\bask me\b(?:.*?\bchoose\s+([^.?!\n]+))?", re.IGNORECASE)
_OR = re.compile(r"\s*,\s*(?:or\s+)?|\s+or\s+")
_FETCH = re.compile(r"\bfetch\s+(\S+)", re.IGNORECASE)
_FAIL = re.compile(r"\bfail (?:with )?(busy|gone|refused|timeout|midway|silently)\b", re.IGNORECASE)
_WORDS = re.compile(r"\S+\s*")
_DEFAULT_SLOW = 5
_SLOWEST = 600


class OfflineModel:
    """Echoes in Markdown, remembers, tells the time, calls tools, and fails when asked to.

    What it understands, anywhere in the newest message:

    - "slowly" or "slowly for 10 seconds" spreads the answer over that time;
    - "what time is it" tells the time in UTC;
    - "roll a dice", "roll 3 dice" and "what time is it in Tokyo" call the tools `dice` and `clock`,
      when the agent has them;
    - "remember the milk" at the beginning of a line calls `remember`, "fetch https://…" calls
      `http_get`, "ask me" and "ask me to choose tea, coffee or water" call `prompt_user`, and
      'call NAME {"some": "arguments"}' calls any tool, also with wrong arguments;
    - "think" thinks aloud first;
    - "fail refused", "fail busy", "fail gone" and "fail timeout" end in that provider error at
      once, "fail midway" breaks off in the middle of the answer, "fail silently" says nothing
      until the agent's limits end it.

    Everything else comes back as a quotation, with the number of messages before it. What people
    said while its tools ran is quoted, too.
    """

    def __init__(self, clock: Clock, *, sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Yield the answer word by word; at once unless it is to be slow."""
        asked = prompt.history[-1].text if prompt.history else ""
        failure = match[1].lower() if (match := _FAIL.search(asked)) else None
        if failure == "silently":
            await asyncio.Event().wait()
        if failure in _ERRORS:
            raise _ERRORS[failure]()
        if _THINK.search(asked):
            yield ThinkingDelta("They want an echo. ")
            yield ThinkingDelta("I will echo.")
        calls = _calls(asked, prompt)
        words = _WORDS.findall("Let me see." if calls else self._answer(asked, prompt))
        pause = 0.0 if calls else _pause(asked, len(words))
        for place, word in enumerate(words):
            if failure == "midway" and place >= len(words) // 2:
                raise ProviderGone("The offline provider broke off, as you asked.")
            if pause:
                await self._sleep(pause)
            yield TextDelta(word)
        for call in calls:
            yield call
        yield Finished(Usage(_count(prompt), len(words) + len(calls)))

    def _answer(self, asked: str, prompt: Prompt) -> str:
        if prompt.steps:
            return _after_tools(prompt)
        if _TIME.search(asked):
            now = self._clock.now()
            return f"It is **{now:%H:%M}** UTC on {now:%A, %d %B %Y}."
        quoted = "\n".join(f"> {line}" for line in asked.strip().splitlines())
        return (
            f"You said:\n\n{quoted}\n\n{_remembered(prompt)} I am the **offline** agent: "
            "I need no key and no network. Ask me for the *time*, to roll a `dice`, "
            "or to answer *slowly*."
        )


def _refused() -> ProviderError:
    return ProviderRefused("The offline provider refused, as you asked.")


def _busy() -> ProviderError:
    return ProviderBusy("The offline provider is busy, as you asked.", timedelta(seconds=1))


def _gone() -> ProviderError:
    return ProviderGone("The offline provider is gone, as you asked.")


def _timeout() -> ProviderError:
    return ProviderTimeout("The offline provider took too long, as you asked.")


_ERRORS = {"refused": _refused, "busy": _busy, "gone": _gone, "timeout": _timeout}


def _calls(asked: str, prompt: Prompt) -> Sequence[ToolCall]:
    """The tool calls the question asks for, unless they were made already."""
    offered = {spec.name for spec in prompt.tools}
    if prompt.steps:
        return ()
    if (named := _CALL.search(asked)) and named[1] in offered:
        return [ToolCall("call-0", named[1], _arguments(named[2] or "{}"))]
    for find in (_remembering, _asking, _fetching):
        if (found := find(asked)) and found.tool in offered:
            return [found]
    if (dice := _DICE.search(asked)) and "dice" in offered:
        return [ToolCall(f"call-{n}", "dice", "{}") for n in range(int(dice[1] or 1))]
    place = _TIME_IN.search(asked)
    if place and "clock" in offered and (zone := _zone(place[1])):
        return [_call("clock", zone=zone)]
    return ()


def _call(tool: str, **arguments: Any) -> ToolCall:
    return ToolCall("call-0", tool, json.dumps(arguments, ensure_ascii=False))


def _arguments(text: str) -> str:
    """The JSON that `text` begins with; all of it when that is none."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return text.rstrip()
    return text[:end]


def _remembering(asked: str) -> ToolCall | None:
    match = _REMEMBER.search(asked)
    return _call("remember", text=match[1].strip()) if match else None


def _asking(asked: str) -> ToolCall | None:
    match = _ASK_ME.search(asked)
    if match is None:
        return None
    if match[1] is None:
        return _call("prompt_user", question="What do you want to tell me?")
    choices = [one for one in _OR.split(match[1].strip()) if one]
    return _call("prompt_user", question="Which one do you choose?", choices=choices)


def _fetching(asked: str) -> ToolCall | None:
    match = _FETCH.search(asked)
    return _call("http_get", url=match[1]) if match else None


def _zone(place: str) -> str | None:
    """The zone of a city, also when another word follows; any other name is for the tool to say."""
    first = place.partition(" ")[0]
    zones = _zones()
    known = zones.get(place.lower()) or zones.get(first.lower())
    return known or (first if first[0].isupper() else None)


@cache
def _zones() -> dict[str, str]:
    """Zone names by themselves and by their city, in small letters."""
    names = sorted(available_timezones())
    cities = {name.rpartition("/")[2].replace("_", " ").lower(): name for name in names}
    return cities | {name.lower(): name for name in names}


def _after_tools(prompt: Prompt) -> str:
    step = prompt.steps[-1]
    said = [one.text for one in step.results if not one.failed]
    failed = [one.text for one in step.results if one.failed]
    # Tables and pages stand by themselves.
    blocks = [f"The tool says:\n\n{text}" for text in said if "\n" in text]
    sentences = [
        _sentence("The tool says", [text for text in said if "\n" not in text]),
        f"It failed: {', '.join(f'**{text}**' for text in failed)}" if failed else "",
        *(f"Meanwhile you said: **{one}**." for one in step.added),
    ]
    blocks.append(" ".join(one for one in sentences if one))
    return "\n\n".join(one for one in blocks if one) or "I have nothing to add."


def _sentence(beginning: str, texts: Sequence[str]) -> str:
    if not texts:
        return ""
    end = "" if texts[-1].endswith(".") else "."
    return f"{beginning} {', '.join(f'**{text}**' for text in texts)}{end}"


def _remembered(prompt: Prompt) -> str:
    earlier = sum(said.role == "user" for said in prompt.history) - 1
    if earlier <= 0:
        return "This is your first message here."
    return "You wrote once before." if earlier == 1 else f"You wrote {earlier} times before."


def _pause(asked: str, words: int) -> float:
    match = _SLOWLY.search(asked)
    if match is None or words == 0:
        return 0.0
    return min(int(match[1] or _DEFAULT_SLOW), _SLOWEST) / words


def _count(prompt: Prompt) -> int:
    """Words of the whole prompt, as tokens."""
    said = sum(len(one.text.split()) for one in prompt.history)
    return said + len(prompt.system.split())
