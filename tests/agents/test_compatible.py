"""OpenAI-compatible providers: what is sent, what comes back, and how it fails."""

from __future__ import annotations

import asyncio
import json
import socket
import traceback
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from structlog.testing import capture_logs

from service.agents.compatible import CompatibleModel, CompatibleProvider
from service.errors import (
    ProviderBusy,
    ProviderError,
    ProviderGone,
    ProviderRefused,
    ProviderTimeout,
)
from service.ports import (
    Finished,
    Prompt,
    Said,
    Step,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolResult,
)
from tests.agents.subjects import DICE, events, provider, rolled, said
from tests.openai_server import (
    KEY,
    MODEL,
    Cut,
    Hang,
    OpenAIServer,
    Refusal,
    Script,
    answer,
    call,
    chunk,
    end,
    event,
    signed_thoughts,
    thoughts,
    words,
)


@pytest.fixture
async def server() -> AsyncGenerator[OpenAIServer]:
    """A provider on this machine."""
    async with OpenAIServer() as running:
        yield running


@pytest.fixture
async def acme(server: OpenAIServer) -> AsyncGenerator[CompatibleProvider]:
    """The service's side of it."""
    made = provider("openai", server.url)
    yield made
    await made.close()


@pytest.fixture
def model(acme: CompatibleProvider) -> CompatibleModel:
    """The one model the provider has."""
    return acme.model(MODEL)


# -- what is sent -------------------------------------------------------------------------------


async def test_the_conversation_is_sent_in_order(
    server: OpenAIServer, model: CompatibleModel
) -> None:
    """Instructions first, then who said what, then the iterations of the reply in progress."""
    asked = ToolCall("call_7", "dice", '{"sides":6}')
    prompt = Prompt(
        "Be brief.",
        [Said("user", "Hi"), Said("assistant", "Hello."), Said("user", "Roll")],
        steps=[Step("Let me see.", (asked,), (ToolResult("call_7", "dice", "four"),))],
        tools=[DICE],
    )

    await events(model, prompt)

    assert [(one["role"], one["content"]) for one in server.messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Roll"),
        ("assistant", "Let me see."),
        ("tool", "four"),
    ]
    assert server.messages[4]["tool_calls"] == [
        {
            "id": "call_7",
            "type": "function",
            "function": {"name": "dice", "arguments": '{"sides":6}'},
        }
    ]


async def test_tools_are_offered(server: OpenAIServer, model: CompatibleModel) -> None:
    """With name, description and schema; a prompt without tools names none."""
    await events(model, said("Roll", tools=True))
    await events(model, said("Hello"))

    offered, nothing = server.requests
    function = offered["tools"][0]["function"]
    assert (function["name"], function["description"]) == ("dice", "Roll a dice.")
    assert function["parameters"].items() >= DICE.parameters.items()
    assert "tools" not in nothing


async def test_several_calls_of_one_response_are_sent_back_together(
    server: OpenAIServer, model: CompatibleModel
) -> None:
    """One message with both calls, then both answers: providers refuse anything else."""
    calls = (ToolCall("a", "dice", "{}"), ToolCall("b", "dice", "{}"))
    results = (ToolResult("a", "dice", "one"), ToolResult("b", "dice", "two"))

    await events(model, Prompt("", [Said("user", "Roll two")], steps=[Step("", calls, results)]))

    assert [one["role"] for one in server.messages] == ["user", "assistant", "tool", "tool"]
    assert [one["content"] for one in server.messages[2:]] == ["one", "two"]


@pytest.mark.parametrize("arguments", ["", "{not json", "[1]"])
async def test_broken_arguments_can_be_sent_back(
    server: OpenAIServer, model: CompatibleModel, arguments: str
) -> None:
    """A call the model garbled does not make every later request fail."""
    server.play(answer("Sorry."))
    step = rolled(ToolCall("a", "dice", arguments), result="The arguments are not JSON.")

    got = await events(model, Prompt("", [Said("user", "Roll")], steps=[step]))

    assert isinstance(got[-1], Finished)


@pytest.mark.parametrize(
    ("kind", "thinking"),
    [
        ("openai", thoughts("I must", " roll.")),
        ("openrouter", signed_thoughts("I must roll.", "c2lnbmVk")),
        ("ollama", thoughts("I must", " roll.", name="reasoning")),
    ],
)
async def test_thoughts_before_a_call_go_back_with_it(
    server: OpenAIServer, kind: str, thinking: list[bytes]
) -> None:
    """Reasoning models want to see again what led to a tool call; `metadata` carries it."""
    made = provider(kind, server.url)
    server.play([*thinking, *call("dice", "{}"), *end("tool_calls")], answer("Four."))
    prompt = said("Roll", tools=True)
    got = await events(made.model(MODEL), prompt)
    [asked] = [one for one in got if isinstance(one, ToolCall)]
    finished = got[-1]
    assert isinstance(finished, Finished)
    stored = json.loads(json.dumps(finished.metadata))
    step = Step("", (asked,), (ToolResult(asked.id, "dice", "4"),), "", stored)

    await events(made.model(MODEL), Prompt("", prompt.history, steps=[step], tools=[DICE]))
    await made.close()

    assert "I must roll." in str(server.messages[1])
    assert [one["id"] for one in server.messages[1]["tool_calls"]] == [asked.id]


async def test_metadata_of_another_release_is_ignored(
    server: OpenAIServer, model: CompatibleModel
) -> None:
    """A turn that outlives an update goes on with the words and calls alone."""
    asked = ToolCall("a", "dice", "{}")
    step = Step("", (asked,), (ToolResult("a", "dice", "4"),), "", {"response": {"kind": "new"}})

    await events(model, Prompt("", [Said("user", "Roll")], steps=[step]))

    assert [one["role"] for one in server.messages] == ["user", "assistant", "tool"]


async def test_connections_are_shared(server: OpenAIServer, acme: CompatibleProvider) -> None:
    """All models of a provider use one client, and a request the connection of the last one."""
    for _ in range(3):
        await events(acme.model(MODEL), said("Hello"))

    assert server.connections == 1
    assert acme.model(MODEL) is acme.model(MODEL)


# -- what comes back ----------------------------------------------------------------------------


async def test_words_and_thoughts_are_told_apart(
    server: OpenAIServer, model: CompatibleModel
) -> None:
    """What the model thinks aloud never becomes part of the answer."""
    server.play([*thoughts("Hm", "."), *words("Hello", " you"), *end()])

    got = await events(model, said("Hello"))

    assert [
        ThinkingDelta("Hm"),
        ThinkingDelta("."),
        TextDelta("Hello"),
        TextDelta(" you"),
    ] == got[:-1]


async def test_calls_are_put_together_from_their_pieces(
    server: OpenAIServer, model: CompatibleModel
) -> None:
    """Two calls, one of them without arguments, after words."""
    first = call("dice", '{"si', 'des": ', "6}")
    second = call("clock", place=1)
    server.play([*words("Sure."), *first, *second, *end("tool_calls")])

    got = await events(model, said("Roll and tell the time", tools=True))

    assert [
        TextDelta("Sure."),
        ToolCall("call_0", "dice", '{"sides": 6}'),
        ToolCall("call_1", "clock", "{}"),
    ] == got[:-1]


async def test_the_usage_is_told(server: OpenAIServer, model: CompatibleModel) -> None:
    """It comes in a chunk of its own at the very end."""
    server.play([*words("Hello"), *end(tokens=(120, 34))])

    finished = (await events(model, said("Hello")))[-1]

    assert isinstance(finished, Finished)
    assert (finished.usage.input_tokens, finished.usage.output_tokens) == (120, 34)


@pytest.mark.parametrize("written", ["{not json", "[1]", '{"sides":  6}'])
async def test_arguments_come_as_they_were_written(
    server: OpenAIServer, model: CompatibleModel, written: str
) -> None:
    """What is wrong with them is found, and told to the model, by the tool."""
    server.play([*call("dice", written), *end("tool_calls")])

    got = await events(model, said("Roll", tools=True))

    assert got[0] == ToolCall("call_0", "dice", written)


@pytest.mark.parametrize("finish", ["stop", "length", "guardrail_intervened"])
async def test_any_reason_to_finish_makes_an_answer_whole(
    server: OpenAIServer, model: CompatibleModel, finish: str
) -> None:
    """Providers invent reasons; what counts is that there is one."""
    server.play([*words("Hello"), *end(finish)])

    got = await events(model, said("Hello"))

    assert isinstance(got[-1], Finished)


# -- how it fails -------------------------------------------------------------------------------

NONSENSE: Sequence[tuple[str, Script]] = [
    ("no finish reason", words("Hello", " you")),
    ("no finish reason but the mark", [*words("Hello"), b"data: [DONE]\n\n"]),
    ("cut at once", [Cut()]),
    ("cut in the middle", [*words("Hello"), Cut()]),
    ("cut in a chunk", [*words("Hello"), chunk({"content": "you"})[:40], Cut()]),
    ("no JSON", [*words("Hello"), b"data: {not json\n\n", *end()]),
    ("no object", [b"data: 5\n\n", *end()]),
    ("no chunk", [event({"choices": "none"}), *end()]),
    ("no UTF-8", [b"data: \xff\xfe\n\n", *end()]),
    ("a web page", [b"<html><body>Welcome</body></html>"]),
    ("nothing at all", []),
    ("an empty answer", [*words(), *end()]),
    ("white space", [*words(" ", "\n"), *end()]),
    ("thoughts alone", [*thoughts("Hm"), *end()]),
    ("an error as reason", [*words("Hello"), *end("error")]),
    ("an error in the stream", [*words("Hello"), b'data: {"error": {"message": "oh"}}\n\n']),
    ("status 500", Refusal(500)),
    ("status 502 as a page", Refusal(502, body=b"<html>Bad gateway</html>")),
    ("status 529", Refusal(529, "Overloaded.")),
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
    server: OpenAIServer, model: CompatibleModel
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
    server: OpenAIServer, model: CompatibleModel, refusal: Refusal, words: str
) -> None:
    """In a sentence that names the provider and quotes it; asking again would not help."""
    server.play(refusal)

    error = await _failure(model, ProviderRefused)

    assert str(error).startswith(f"The provider acme {words}")
    assert error.permanent
    assert len(server.requests) == 1


async def test_a_filtered_answer_is_refused(server: OpenAIServer, model: CompatibleModel) -> None:
    """The same request would be filtered again."""
    server.play([*words("Hello"), *end("content_filter")])

    error = await _failure(model, ProviderRefused)

    assert str(error) == "The provider acme filtered the answer."


async def test_a_long_reason_is_shortened(server: OpenAIServer, model: CompatibleModel) -> None:
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
    server: OpenAIServer, model: CompatibleModel, header: str, seconds: float | None
) -> None:
    """What cannot be understood is left to the back-off."""
    server.play(Refusal(429, "Slow down.", headers={"Retry-After": header}))

    error = await _failure(model, ProviderBusy)

    assert isinstance(error, ProviderBusy)
    assert (None if seconds is None else timedelta(seconds=seconds)) == error.retry_after


async def test_busy_until_a_date(server: OpenAIServer, model: CompatibleModel) -> None:
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


async def test_no_header_makes_a_wait_for_ever(
    server: OpenAIServer, model: CompatibleModel
) -> None:
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


async def test_a_timeout_told_by_the_provider(server: OpenAIServer, model: CompatibleModel) -> None:
    """Status 408 is a timeout as good as ours."""
    server.play(Refusal(408))

    await _failure(model, ProviderTimeout)


async def test_nobody_listens() -> None:
    """A provider that is down may come back."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        made = provider("ollama", f"http://127.0.0.1:{taken.getsockname()[1]}/v1")

        error = await _failure(made.model("any"), ProviderGone)
        await made.close()

    assert "cannot be reached" in str(error)


async def test_a_closed_connection_is_not_a_timeout() -> None:
    """A server that hangs up without a word is gone, not slow."""
    hanging_up = await asyncio.start_server(_hang_up, "127.0.0.1", 0)
    made = provider("openai", f"http://127.0.0.1:{hanging_up.sockets[0].getsockname()[1]}/v1")

    await _failure(made.model("any"), ProviderGone)

    await made.close()
    hanging_up.close()


async def test_the_key_is_in_no_text(server: OpenAIServer, model: CompatibleModel) -> None:
    """Not even when the provider quotes it, anywhere in what would be logged."""
    server.play(Refusal(400, f"Bearer {KEY} is wrong"))

    error = await _failure(model, ProviderRefused)

    assert KEY not in "".join(traceback.format_exception(error))
    assert "***" in str(error)


async def test_a_model_name_the_router_cannot_have() -> None:
    """It is refused before anybody is asked."""
    made = provider("openrouter", "http://127.0.0.1:9/v1")

    with pytest.raises(ProviderRefused, match="cannot be asked for gpt"):
        made.model("gpt")

    await made.close()


# -- leaving ------------------------------------------------------------------------------------


async def test_closing_the_stream_cuts_the_request(
    server: OpenAIServer, model: CompatibleModel
) -> None:
    """The provider notices at once and can stop to think (and to charge)."""
    server.play([*words("Well"), Hang()])
    stream = model.stream(said("Hello"))
    await anext(stream)

    await stream.aclose()

    await asyncio.wait_for(server.left.wait(), 2)


async def test_cancelling_cuts_the_request(server: OpenAIServer, model: CompatibleModel) -> None:
    """Also while nothing has come yet."""
    server.play([Hang()])
    asking = asyncio.create_task(events(model, said("Hello")))
    while not server.requests:
        await asyncio.sleep(0.005)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(server.left.wait(), 2)


async def test_closing_the_provider_closes_its_connections(server: OpenAIServer) -> None:
    """Nothing is left open when the service stops."""
    made = provider("openai", server.url)
    await events(made.model(MODEL), said("Hello"))

    await made.close()

    async with asyncio.timeout(2):
        while server.open_connections:
            await asyncio.sleep(0.005)
    assert server.open_connections == 0


async def _failure(model: CompatibleModel, kind: type[ProviderError]) -> ProviderError:
    with pytest.raises(kind) as raised:
        await events(model, said("Hello"))
    return raised.value


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
