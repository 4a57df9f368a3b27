"""What only chat completions do: the rest is in the suite for all providers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from structlog.testing import capture_logs

from service.agents.direct import DirectModel, DirectProvider
from service.errors import (
    ProviderBusy,
    ProviderError,
    ProviderGone,
    ProviderRefused,
    ProviderTimeout,
)
from service.ports import (
    Finished,
    ToolCall,
)
from tests.agents.subjects import DICE, events, provider, said
from tests.openai_server import (
    MODEL,
    Cut,
    OpenAIServer,
    Refusal,
    Script,
    call,
    chunk,
    end,
    event,
    words,
)


@pytest.fixture
async def server() -> AsyncGenerator[OpenAIServer]:
    """A provider on this machine."""
    async with OpenAIServer() as running:
        yield running


@pytest.fixture
async def acme(server: OpenAIServer) -> AsyncGenerator[DirectProvider]:
    """The service's side of it."""
    made = provider("openai", server.url)
    yield made
    await made.close()


@pytest.fixture
def model(acme: DirectProvider) -> DirectModel:
    """The one model the provider has."""
    return acme.model(MODEL)


# -- what is sent -------------------------------------------------------------------------------


async def test_tools_are_offered(server: OpenAIServer, model: DirectModel) -> None:
    """With name, description and schema; a prompt without tools names none."""
    await events(model, said("Roll", tools=True))
    await events(model, said("Hello"))

    offered, nothing = server.requests
    function = offered["tools"][0]["function"]
    assert (function["name"], function["description"]) == ("dice", "Roll a dice.")
    assert function["parameters"].items() >= DICE.parameters.items()
    assert "tools" not in nothing


# -- what comes back ----------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["{not json", "[1]", '{"sides":  6}'])
async def test_arguments_come_as_they_were_written(
    server: OpenAIServer, model: DirectModel, written: str
) -> None:
    """What is wrong with them is found, and told to the model, by the tool."""
    server.play([*call("dice", written), *end("tool_calls")])

    got = await events(model, said("Roll", tools=True))

    assert got[0] == ToolCall("call_0", "dice", written)


@pytest.mark.parametrize("finish", ["stop", "length", "guardrail_intervened"])
async def test_any_reason_to_finish_makes_an_answer_whole(
    server: OpenAIServer, model: DirectModel, finish: str
) -> None:
    """Providers invent reasons; what counts is that there is one."""
    server.play([*words("Hello"), *end(finish)])

    got = await events(model, said("Hello"))

    assert isinstance(got[-1], Finished)


@pytest.mark.parametrize(
    ("cost", "micros"), [(0.00014, 140), (1.5e-06, 2), (2, 2_000_000), (0, 0), (None, 0), (-1, 0)]
)
async def test_the_router_tells_the_cost(
    server: OpenAIServer, cost: float | None, micros: int
) -> None:
    """In dollars, because it was asked to; what it does not tell is nothing."""
    made = provider("openrouter", server.url)
    server.play([*words("Hello"), *end(cost=cost)])

    finished = (await events(made.model(MODEL), said("Hello")))[-1]
    await made.close()

    assert isinstance(finished, Finished)
    assert finished.usage.cost_micros == micros
    assert server.requests[0]["usage"] == {"include": True}


# -- how it fails -------------------------------------------------------------------------------

NONSENSE: Sequence[tuple[str, Script]] = [
    ("no finish reason but the mark", [*words("Hello"), b"data: [DONE]\n\n"]),
    ("cut in a chunk", [*words("Hello"), chunk({"content": "you"})[:40], Cut()]),
    ("no JSON", [*words("Hello"), b"data: {not json\n\n", *end()]),
    ("no chunk", [event({"choices": "none"}), *end()]),
    ("an error as reason", [*words("Hello"), *end("error")]),
    ("an error in the stream", [*words("Hello"), b'data: {"error": {"message": "oh"}}\n\n']),
    ("status 502 as a page", Refusal(502, body=b"<html>Bad gateway</html>")),
    ("status 409", Refusal(409)),
]


@pytest.mark.parametrize("kind", ["openai", "openrouter"])
@pytest.mark.parametrize("script", [two for _, two in NONSENSE], ids=[one for one, _ in NONSENSE])
async def test_a_broken_answer_is_gone_and_may_be_asked_for_again(
    server: OpenAIServer, kind: str, script: Script
) -> None:
    """Nothing that is not whole passes as whole; the client itself asks only once."""
    made = provider(kind, server.url)
    server.play(script)

    with capture_logs():
        await _failure(made.model(MODEL), ProviderGone)
    await made.close()

    assert len(server.requests) == 1


async def test_an_answer_nobody_foresaw_is_logged_without_its_words(
    server: OpenAIServer, model: DirectModel
) -> None:
    """Operators learn that it happened; what was said is shown only to who debugs."""
    server.play([event({"choices": "secret words"}), *end()])

    with capture_logs() as entries:
        await _failure(model, ProviderGone)

    [warning] = [one for one in entries if one["log_level"] == "warning"]
    assert warning == {
        "event": "agents.unreadable",
        "provider": "acme",
        "error": "AttributeError",
        "log_level": "warning",
    }


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(400, "Bad temperature"), "did not accept the request (status 400). It says: Bad"),
        (Refusal(400, "x", "context_length_exceeded"), "finds this conversation too long"),
        (Refusal(401, "Who are you?"), "does not accept the API key. It says: Who are you?"),
        (Refusal(402, "Pay"), "has no credit left"),
        (Refusal(403, "Not in your country"), "does not allow this. It says: Not in your country."),
        (Refusal(404, "Try pulling it"), f"does not know the model {MODEL}. It says: Try pulling"),
        (Refusal(404, body=b"<h1>Not Found</h1>"), "is not at this address: check its base_url."),
        (Refusal(413, "x"), "finds this conversation too long"),
        (Refusal(422, "Unknown field"), "did not accept the request (status 422)"),
        (Refusal(429, "x", "insufficient_quota"), "has no credit left"),
    ],
)
async def test_a_refusal_says_why(
    server: OpenAIServer, model: DirectModel, refusal: Refusal, words: str
) -> None:
    """In a sentence that names the provider and quotes it; asking again would not help."""
    server.play(refusal)

    error = await _failure(model, ProviderRefused)

    assert str(error).startswith(f"The provider acme {words}")
    assert error.permanent
    assert len(server.requests) == 1


async def test_a_long_reason_is_shortened(server: OpenAIServer, model: DirectModel) -> None:
    """It may be a whole stack trace; people get its beginning, on one line."""
    server.play(Refusal(400, "line\n" * 200))

    error = await _failure(model, ProviderRefused)

    assert "line line line" in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("1.5", 1.5), ("0", 0.0), ("soon", None), ("-3", None), ("nan", None), ("", None)],
)
async def test_busy_for_seconds(
    server: OpenAIServer, model: DirectModel, header: str, seconds: float | None
) -> None:
    """What cannot be understood is left to the back-off."""
    server.play(Refusal(429, "Slow down.", headers={"Retry-After": header}))

    error = await _failure(model, ProviderBusy)

    assert isinstance(error, ProviderBusy)
    assert (None if seconds is None else timedelta(seconds=seconds)) == error.retry_after


async def test_busy_until_a_date(server: OpenAIServer, model: DirectModel) -> None:
    """The header may be a date; one that is over means now."""
    later = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    server.play(
        Refusal(429, headers={"Retry-After": later}),
        Refusal(429, headers={"Retry-After": "Wed, 01 Jan 2020 00:00:00 GMT"}),
    )

    first, second = await _failure(model, ProviderBusy), await _failure(model, ProviderBusy)

    assert isinstance(first, ProviderBusy)
    assert isinstance(second, ProviderBusy)
    assert first.retry_after is not None
    assert timedelta(minutes=4, seconds=50) < first.retry_after <= timedelta(minutes=5)
    assert timedelta() == second.retry_after


async def test_no_header_makes_a_wait_for_ever(server: OpenAIServer, model: DirectModel) -> None:
    """A number too large for a duration is no crash."""
    server.play(Refusal(429, headers={"Retry-After": "9" * 300}))

    error = await _failure(model, ProviderBusy)

    assert isinstance(error, ProviderBusy)
    assert timedelta(days=1) == error.retry_after


@pytest.mark.parametrize("kind", ["openai", "openrouter", "ollama"])
async def test_an_error_in_the_stream_counts_as_its_status(server: OpenAIServer, kind: str) -> None:
    """Routers have sent 200 already when the model behind them says that it is busy."""
    made = provider(kind, server.url)
    server.play([*words("Hi"), b'data: {"error": {"message": "Slow down", "code": 429}}\n\n'])

    await _failure(made.model(MODEL), ProviderBusy)

    await made.close()


async def test_a_timeout_told_by_the_provider(server: OpenAIServer, model: DirectModel) -> None:
    """Status 408 is a timeout as good as ours."""
    server.play(Refusal(408))

    await _failure(model, ProviderTimeout)


async def test_a_closed_connection_is_not_a_timeout() -> None:
    """A server that hangs up without a word is gone, not slow."""
    hanging_up = await asyncio.start_server(_hang_up, "127.0.0.1", 0)
    made = provider("openai", f"http://127.0.0.1:{hanging_up.sockets[0].getsockname()[1]}/v1")

    await _failure(made.model("any"), ProviderGone)

    await made.close()
    hanging_up.close()


async def test_a_model_name_the_router_cannot_have() -> None:
    """It is refused before anybody is asked."""
    made = provider("openrouter", "http://127.0.0.1:9/v1")

    with pytest.raises(ProviderRefused, match="cannot be asked for gpt"):
        made.model("gpt")

    await made.close()


async def _failure(model: DirectModel, kind: type[ProviderError]) -> ProviderError:
    with pytest.raises(kind) as raised:
        await events(model, said("Hello"))
    return raised.value


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
