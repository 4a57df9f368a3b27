"""What every model keeps of its promise, whoever is behind it."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta

import pytest

from service.errors import (
    ProviderBusy,
    ProviderError,
    ProviderGone,
    ProviderRefused,
    ProviderTimeout,
)
from service.ports import Finished, ModelEvent, TextDelta, ThinkingDelta, ToolCall
from tests.agents.subjects import (
    SERVERS,
    OfflineSubject,
    ServerSubject,
    Subject,
    events,
    provider,
    rolled,
    said,
)
from tests.providers.server import KEY, Hang

KINDS = ["offline", *SERVERS]


@pytest.fixture(params=KINDS)
async def subject(request: pytest.FixtureRequest) -> AsyncGenerator[Subject]:
    """A model of each kind, one after the other."""
    if request.param == "offline":
        yield OfflineSubject()
        return
    async with SERVERS[request.param]() as server:
        made = provider(request.param, server.url)
        yield ServerSubject(server, made)
        await made.close()


async def test_a_stream_ends_with_its_only_finished(subject: Subject) -> None:
    """Whoever reads it knows by the last event that nothing is missing."""
    got = await events(subject.model, subject.greeting())

    assert [len(got) - 1] == [n for n, one in enumerate(got) if isinstance(one, Finished)]
    assert got[-1].usage.input_tokens > 0  # type: ignore[union-attr]
    assert got[-1].usage.output_tokens > 0  # type: ignore[union-attr]


async def test_words_come_in_pieces_that_are_never_empty(subject: Subject) -> None:
    """Every delta says something; together they are the answer."""
    got = await events(subject.model, subject.greeting())

    pieces = [one.text for one in got if isinstance(one, TextDelta)]
    assert len(pieces) > 2
    assert all(pieces)
    assert "Hello there" in "".join(pieces)


async def test_the_history_arrives(subject: Subject) -> None:
    """The model sees what was said before."""
    prompt = replace(subject.greeting(), history=said("Hello there", earlier=3).history)

    got = await events(subject.model, prompt)

    assert "You wrote 3 times before." in _text(got)


async def test_a_tool_call_is_whole(subject: Subject) -> None:
    """It comes in one piece, with an id and arguments that are JSON."""
    got = await events(subject.model, subject.rolling())

    [call] = [one for one in got if isinstance(one, ToolCall)]
    assert call.id
    assert call.tool == "dice"
    assert json.loads(call.arguments) == {}
    assert isinstance(got[-1], Finished)


async def test_the_result_of_a_tool_arrives(subject: Subject) -> None:
    """With the finished iteration in the prompt the model goes on to its answer."""
    prompt = subject.rolling()
    [call] = [one for one in await events(subject.model, prompt) if isinstance(one, ToolCall)]

    got = await events(subject.model, replace(prompt, steps=[rolled(call, result="four")]))

    assert "four" in _text(got)
    assert not [one for one in got if isinstance(one, ToolCall)]


async def test_closing_early_is_safe(subject: Subject) -> None:
    """A stream that is left does not disturb the next one."""
    left = subject.model.stream(subject.lasting())
    first = await anext(left)

    async with asyncio.timeout(60):
        await left.aclose()
    got = await events(subject.model, subject.greeting())

    assert isinstance(first, (TextDelta, ThinkingDelta))
    assert isinstance(got[-1], Finished)


async def test_closing_before_the_beginning_is_safe(subject: Subject) -> None:
    """A stream nobody read from asks nobody."""
    stream = subject.model.stream(subject.lasting())

    await stream.aclose()

    assert await anext(stream, None) is None


async def test_a_deadline_ends_the_waiting(subject: Subject) -> None:
    """Whoever waits for the next event can stop to wait; that is no error of the provider."""
    stream = subject.model.stream(subject.lasting())
    await anext(stream)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_into([], stream), 0.05)

    await stream.aclose()


async def test_streams_at_the_same_time_are_independent(subject: Subject) -> None:
    """Each gets its own answer, however they are mixed."""
    prompt = subject.greeting()
    questions = [f"question {number}" for number in range(20)]

    got = await asyncio.gather(
        *(
            events(subject.model, replace(prompt, history=said(question).history))
            for question in questions
        )
    )

    assert all(question in _text(one) for question, one in zip(questions, got, strict=True))


@pytest.mark.parametrize("kind", [ProviderRefused, ProviderBusy, ProviderGone])
async def test_failures_are_sentences(subject: Subject, kind: type[ProviderError]) -> None:
    """Every failure has its class, words for people, and never the key."""
    with pytest.raises(kind) as raised:
        await events(subject.model, subject.failing(kind))

    text = str(raised.value)
    assert type(raised.value) is kind
    assert text[0].isupper()
    assert text.endswith(".")
    assert KEY not in "".join(traceback.format_exception(raised.value))


async def test_busy_says_for_how_long(subject: Subject) -> None:
    """The wait the provider asks for reaches who asks again."""
    with pytest.raises(ProviderBusy) as raised:
        await events(subject.model, subject.failing(ProviderBusy))

    assert timedelta(seconds=1) == raised.value.retry_after


async def test_breaking_off_keeps_what_was_said(subject: Subject) -> None:
    """Words that came before the failure were passed on; the stream is not whole."""
    got: list[ModelEvent] = []

    with pytest.raises(ProviderGone):
        await _into(got, subject.model.stream(subject.breaking_off()))

    assert _text(got)
    assert not [one for one in got if isinstance(one, Finished)]


async def test_the_offline_model_can_time_out() -> None:
    """As people ask it to."""
    subject = OfflineSubject()

    with pytest.raises(ProviderTimeout):
        await events(subject.model, subject.failing(ProviderTimeout))


@pytest.mark.parametrize("kind", SERVERS)
async def test_the_client_can_time_out(kind: str) -> None:
    """A deadline of the client is ours, not a provider that is gone."""
    async with SERVERS[kind]() as server:
        server.play([Hang()])
        made = provider(kind, server.url, patience=0.05)

        with pytest.raises(ProviderTimeout):
            await events(made.model(server.model), said("Hello there"))

        await made.close()


async def _into(got: list[ModelEvent], stream: AsyncGenerator[ModelEvent]) -> None:
    """Collect so that what came before a failure is kept."""
    async for event in stream:
        got.append(event)  # noqa: PERF401


def _text(got: list[ModelEvent]) -> str:
    return "".join(one.text for one in got if isinstance(one, TextDelta))
