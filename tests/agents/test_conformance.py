"""What every provider's adapter does, whichever API is behind it: one suite over all of them."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import traceback
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from service.agents.direct import DirectModel, DirectProvider
from service.errors import ProviderBusy, ProviderError, ProviderGone, ProviderRefused
from service.ports import (
    Finished,
    Media,
    Prompt,
    Said,
    Step,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolResult,
)
from tests.agents.subjects import SERVERS, events, provider, rolled, said
from tests.providers.server import KEY, Answer, Call, Cut, Hang, ProviderServer, Refusal, Script

HELLO = Answer(("Hello", " there", "."))
TWO_CALLS = Answer(
    ("Let me", " see."),
    ("I must", " roll."),
    (Call("call_a", "dice", ('{"si', 'des":', "6}")), Call("call_b", "dice", ('{"sides":7}',))),
)
# The last events of a stream that say that it is whole, of which no one may be missing before it.
ENDING = {"openai": 3, "openrouter": 3, "ollama": 3, "responses": 1, "anthropic": 2, "google": 1}
# Who is told of the tools that were called when none may be called, and how that is said there.
INSISTING = {"openai": "none", "openrouter": "none", "responses": "none"} | {
    "anthropic": {"type": "none"}
}
IN_PIECES = [kind for kind in SERVERS if kind != "google"]


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of provider, one after the other."""
    name: str = request.param
    return name


@pytest.fixture
async def server(kind: str) -> AsyncGenerator[ProviderServer]:
    """A provider on this machine."""
    async with SERVERS[kind]() as running:
        yield running


@pytest.fixture
async def acme(kind: str, server: ProviderServer) -> AsyncGenerator[DirectProvider]:
    """The service's side of it."""
    made = provider(kind, server.url)
    yield made
    await made.close()


@pytest.fixture
def model(server: ProviderServer, acme: DirectProvider) -> DirectModel:
    """The one model the provider has."""
    return acme.model(server.model)


# -- what comes back ----------------------------------------------------------------------------


async def test_words_come_as_they_are_said(server: ProviderServer, model: DirectModel) -> None:
    """Every piece at once, and then the end."""
    server.play(server.tell(HELLO))

    got = await events(model, said("Hi"))

    assert [TextDelta("Hello"), TextDelta(" there"), TextDelta(".")] == got[:-1]
    assert isinstance(got[-1], Finished)
    assert not got[-1].cut


async def test_thoughts_are_told_apart(server: ProviderServer, model: DirectModel) -> None:
    """What the model thinks aloud never becomes part of the answer."""
    server.play(server.tell(replace(HELLO, thoughts=("Hm", ", a person."))))

    got = await events(model, said("Hi"))

    assert [ThinkingDelta("Hm"), ThinkingDelta(", a person.")] == got[:2]
    assert [TextDelta("Hello"), TextDelta(" there"), TextDelta(".")] == got[2:-1]


async def test_calls_are_put_together_from_their_pieces(
    server: ProviderServer, model: DirectModel
) -> None:
    """Two calls in one response, with the arguments that belong to each."""
    server.play(server.tell(TWO_CALLS))

    got = await events(model, said("Roll two", tools=True))

    assert [
        ToolCall("call_a", "dice", '{"sides":6}'),
        ToolCall("call_b", "dice", '{"sides":7}'),
    ] == got[-3:-1]


async def test_a_call_without_arguments_has_an_empty_object(
    server: ProviderServer, model: DirectModel
) -> None:
    """Whether the provider writes that out or not."""
    server.play(server.tell(Answer(calls=(Call("call_a", "dice"),))))

    got = await events(model, said("Roll", tools=True))

    assert [ToolCall("call_a", "dice", "{}")] == got[:-1]


async def test_the_usage_is_told(server: ProviderServer, model: DirectModel) -> None:
    """What went in and what came out."""
    server.play(server.tell(replace(HELLO, tokens=(120, 34))))

    finished = (await events(model, said("Hi")))[-1]

    assert isinstance(finished, Finished)
    assert (finished.usage.input_tokens, finished.usage.output_tokens) == (120, 34)
    assert finished.usage.cost_micros == 0


async def test_an_answer_over_the_limit_is_cut(server: ProviderServer, model: DirectModel) -> None:
    """It is whole as far as the provider goes, and says that the model had more to say."""
    server.play(server.tell(replace(HELLO, finish="length")))

    got = await events(model, said("Hi"))

    assert [TextDelta("Hello"), TextDelta(" there"), TextDelta(".")] == got[:-1]
    assert isinstance(got[-1], Finished)
    assert got[-1].cut


@pytest.mark.parametrize("kind", IN_PIECES, indirect=True)
async def test_a_call_over_the_limit_comes_as_far_as_it_was_written(
    server: ProviderServer, model: DirectModel
) -> None:
    """What is missing is for the tool to find; that it is missing is told."""
    cut = Answer(calls=(Call("call_a", "dice", ('{"si', 'des": ')),), finish="length")
    server.play(server.tell(cut))

    got = await events(model, said("Roll", tools=True))

    assert [ToolCall("call_a", "dice", '{"sides": ')] == got[:-1]
    assert isinstance(got[-1], Finished)
    assert got[-1].cut


@pytest.mark.parametrize("thoughts", [(), ("Hm",)])
async def test_a_limit_can_leave_no_words_at_all(
    server: ProviderServer, model: DirectModel, thoughts: tuple[str, ...]
) -> None:
    """A model can spend all of it on thinking; asking the same again would not help."""
    server.play(server.tell(Answer(thoughts=thoughts, finish="length")))

    got = await events(model, said("Hi"))

    assert isinstance(got[-1], Finished)
    assert got[-1].cut


# -- what is sent -------------------------------------------------------------------------------


async def test_the_conversation_arrives_in_order(
    server: ProviderServer, model: DirectModel
) -> None:
    """Instructions first, then who said what; a picture before the words it came with."""
    picture = Media("cat.png", "image/png", b"\x89PNG\r\n\xfb\xff")
    history = [Said("user", "Hi", (picture,)), Said("assistant", "Hello."), Said("user", "Roll")]

    await events(model, Prompt("Be brief.", history))

    assert server.heard == [
        ("system", "text", "Be brief."),
        ("user", "image/png", picture.data),
        ("user", "text", "Hi"),
        ("assistant", "text", "Hello."),
        ("user", "text", "Roll"),
    ]


async def test_a_picture_needs_no_words(server: ProviderServer, model: DirectModel) -> None:
    """A message can be a file alone."""
    picture = Media("cat.png", "image/png", b"\x89PNG")

    await events(model, Prompt("", [Said("user", "", (picture,))]))

    assert server.heard == [("user", "image/png", picture.data)]


async def test_a_loop_of_tools_goes_on_where_it_was(
    server: ProviderServer, model: DirectModel
) -> None:
    """Calls, results and sealed thoughts come back as they were, and new words after them."""
    server.play(server.tell(TWO_CALLS), server.tell(HELLO))
    prompt = said("Roll two", tools=True)
    got = await events(model, prompt)
    calls = tuple(one for one in got if isinstance(one, ToolCall))
    finished = got[-1]
    assert isinstance(finished, Finished)
    stored = json.loads(json.dumps(finished.metadata))
    results = (
        ToolResult("call_a", "dice", "one"),
        ToolResult("call_b", "dice", "It has no 7 sides.", failed=True),
    )
    step = Step("Let me see.", calls, results, "I must roll.", stored, ("Hurry!",))

    await events(model, replace(prompt, steps=[step]))

    assert server.heard == [
        ("system", "text", "Be brief."),
        ("user", "text", "Roll two"),
        ("assistant", "thought", "I must roll."),
        ("assistant", "text", "Let me see."),
        ("assistant", "call", ("call_a", "dice", '{"sides":6}')),
        ("assistant", "call", ("call_b", "dice", '{"sides":7}')),
        ("user", "result", ("call_a", "one", False)),
        ("user", "result", ("call_b", "It has no 7 sides.", True)),
        ("user", "text", "Hurry!"),
    ]


async def test_words_that_came_during_an_answer_follow_it(
    server: ProviderServer, model: DirectModel
) -> None:
    """Also when the model called no tool; what it did not say is left out."""
    spoken = Step("Well.", (), (), added=("And now?", "Hurry!"))
    silent = Step("", (), (), added=("Hello?",))

    await events(model, replace(said("Hi"), steps=[spoken, silent]))

    assert server.heard == [
        ("system", "text", "Be brief."),
        ("user", "text", "Hi"),
        ("assistant", "text", "Well."),
        ("user", "text", "And now?"),
        ("user", "text", "Hurry!"),
        ("user", "text", "Hello?"),
    ]


@pytest.mark.parametrize("stored", [{}, {"response": {"kind": "new"}}, {"other": 1}])
async def test_a_step_without_its_metadata_can_be_sent(
    server: ProviderServer, model: DirectModel, stored: dict[str, object]
) -> None:
    """A turn that outlives an update goes on with the words and calls alone."""
    step = replace(rolled(ToolCall("call_a", "dice", '{"sides":6}'), result="4"), metadata=stored)

    got = await events(model, replace(said("Roll", tools=True), steps=[step]))

    assert isinstance(got[-1], Finished)
    assert ("assistant", "call", ("call_a", "dice", '{"sides":6}')) in server.heard


async def test_calls_from_before_need_tools_only_where_that_is_the_rule(
    kind: str, server: ProviderServer, model: DirectModel
) -> None:
    """The last request of an answer offers none; there it names those that were called."""
    step = rolled(ToolCall("call_a", "dice", "{}"), result="4")
    prompt = said("Roll")

    await events(model, replace(prompt, steps=[step]))
    await events(model, prompt)

    last, plain = server.requests
    told = json.dumps(last.get("tools")), last.get("tool_choice")
    assert ("dice" in told[0]) is (kind in INSISTING)
    assert told[1] == INSISTING.get(kind)
    assert (plain.get("tools"), plain.get("tool_choice")) == (None, None)


@pytest.mark.parametrize("arguments", ["", "{not json", "[1]"])
async def test_broken_arguments_can_be_sent_back(
    server: ProviderServer, model: DirectModel, arguments: str
) -> None:
    """A call the model garbled does not make every later request fail."""
    step = rolled(ToolCall("call_a", "dice", arguments), result="The arguments are not JSON.")

    got = await events(model, replace(said("Roll", tools=True), steps=[step]))

    assert isinstance(got[-1], Finished)


async def test_the_limit_of_the_answer_is_told(
    kind: str, server: ProviderServer, model: DirectModel
) -> None:
    """Under the name it has there; without one, only who insists on it is told one."""
    await events(model, replace(said("Hi"), output_tokens=99))
    await events(model, said("Hi"))

    limited, free = (json.dumps(request) for request in server.requests)
    assert "99" in limited
    assert ('"max_tokens": 8192' in free) is (kind == "anthropic")


async def test_nothing_of_the_environment_is_told(
    kind: str, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that the client libraries read are somebody else's, and so is their proxy."""
    for name in (
        "OPENAI_ADMIN_KEY",
        "OPENAI_API_KEY",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_GENAI_CLIENT_MODE",
    ):
        monkeypatch.setenv(name, "leaked")
    for name in ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "X-Custom: leaked")
    for name in ("HTTP_PROXY", "ALL_PROXY", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    made = provider(kind, server.url)

    got = await events(made.model(server.model), said("Hi"))
    await made.close()

    assert isinstance(got[-1], Finished)
    assert "leaked" not in str(server.headers)


# -- how it fails -------------------------------------------------------------------------------


async def test_a_wrong_key_is_refused(kind: str, server: ProviderServer) -> None:
    """Nobody asks twice with it."""
    made = provider(kind, server.url, key="sk-wrong")

    error = await _failure(made.model(server.model), ProviderRefused)
    await made.close()

    assert str(error).startswith("The provider acme does not accept the API key. It says: ")
    assert "sk-wrong" not in str(error)


async def test_an_unknown_model_is_refused(server: ProviderServer, acme: DirectProvider) -> None:
    """And named."""
    error = await _failure(acme.model("test/model-9"), ProviderRefused)

    assert str(error).startswith("The provider acme does not know the model test/model-9. It says")


async def test_a_wrong_address_is_refused(server: ProviderServer, model: DirectModel) -> None:
    """What answers there is somebody's web page."""
    server.play(Refusal(404, body=b"<html><h1>Not Found</h1></html>"))

    error = await _failure(model, ProviderRefused)

    assert str(error) == "The provider acme is not at this address: check its base_url."


async def test_busy_says_for_how_long(server: ProviderServer, model: DirectModel) -> None:
    """The client itself does not ask again."""
    server.play(Refusal(429, "Slow down.", headers={"Retry-After": "7"}))

    error = await _failure(model, ProviderBusy)

    assert isinstance(error, ProviderBusy)
    assert error.retry_after == timedelta(seconds=7)
    assert len(server.requests) == 1


async def test_busy_without_a_time(server: ProviderServer, model: DirectModel) -> None:
    """The engine's own back-off decides."""
    server.play(Refusal(429, "Slow down."))

    error = await _failure(model, ProviderBusy)

    assert isinstance(error, ProviderBusy)
    assert error.retry_after is None


@pytest.mark.parametrize("kind", ["google"], indirect=True)
async def test_google_says_the_time_in_the_body(server: ProviderServer, model: DirectModel) -> None:
    """As one of the details of the error."""
    server.play(Refusal(429, "Slow down.", "13.5s"))

    error = await _failure(model, ProviderBusy)

    assert isinstance(error, ProviderBusy)
    assert error.retry_after == timedelta(seconds=13.5)


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_provider_in_trouble_is_gone(
    server: ProviderServer, model: DirectModel, status: int
) -> None:
    """It may come back; the client itself asks only once."""
    server.play(Refusal(status, "Overloaded"))

    error = await _failure(model, ProviderGone)

    assert str(error) == "The provider acme failed inside. It says: Overloaded."
    assert len(server.requests) == 1


async def test_too_long_a_conversation_is_refused(
    server: ProviderServer, model: DirectModel
) -> None:
    """Each of them says it in its own way."""
    server.play(server.overflow())

    error = await _failure(model, ProviderRefused)

    assert str(error).startswith(
        f"The provider acme finds this conversation too long for {server.model}. It says: "
    )


async def test_an_empty_account_is_refused(server: ProviderServer, model: DirectModel) -> None:
    """Asking again would not fill it."""
    server.play(server.broke())

    error = await _failure(model, ProviderRefused)

    assert str(error).startswith("The provider acme has no credit left for this account. It says: ")


async def test_a_filtered_answer_is_refused(server: ProviderServer, model: DirectModel) -> None:
    """The same request would be filtered again."""
    server.play(server.tell(replace(HELLO, finish="filter")))

    error = await _failure(model, ProviderRefused)

    assert str(error) == "The provider acme filtered the answer."


BLOCKED = b'data: {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}\r\n\r\n'
GARBLED = b'data: {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}\r\n\r\n'


@pytest.mark.parametrize("kind", ["google"], indirect=True)
@pytest.mark.parametrize(
    ("event", "kind_of"),
    [(BLOCKED, ProviderRefused), (GARBLED, ProviderGone)],
    ids=["blocked", "garbled"],
)
async def test_google_has_more_reasons_for_no_answer(
    server: ProviderServer, model: DirectModel, event: bytes, kind_of: type[ProviderError]
) -> None:
    """A question it does not take will not be taken again; a call it garbled may come out well."""
    server.play([event])

    await _failure(model, kind_of)


@pytest.mark.parametrize("ending", [[], [Cut()]], ids=["ended", "cut"])
@pytest.mark.parametrize("answer", [HELLO, TWO_CALLS], ids=["words", "calls"])
async def test_no_part_of_an_answer_passes_as_whole(
    kind: str, server: ProviderServer, model: DirectModel, answer: Answer, ending: list[Cut]
) -> None:
    """Wherever it breaks off, with a broken connection or with an end in good order."""
    told = server.tell(answer)
    for number in range(len(told) - ENDING[kind] + 1):
        server.play([*told[:number], *ending])

        with capture_logs():
            await _failure(model, ProviderGone)


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_nonsense_is_gone(server: ProviderServer, model: DirectModel, place: int) -> None:
    """Half an event that is followed by the rest of the stream."""
    told = [event for event in server.tell(HELLO) if b"ping" not in event]
    broken = told[place].rstrip()[:-4] + b"\n\n"
    server.play([*told[:place], broken, *told[place + 1 :]])

    with capture_logs():
        error = await _failure(model, ProviderGone)

    assert str(error) == "The provider acme sent an answer that is broken or breaks off."


@pytest.mark.parametrize(
    "script",
    [[], [b"<html><body>Welcome</body></html>"], [b"data: \xff\xfe\n\n"], [b"data: 5\n\n"]],
    ids=["nothing", "page", "bytes", "number"],
)
async def test_what_is_no_stream_is_gone(
    server: ProviderServer, model: DirectModel, script: Script
) -> None:
    """A proxy's page with status 200, or nothing at all."""
    server.play(script)

    with capture_logs():
        await _failure(model, ProviderGone)


@pytest.mark.parametrize(
    "answer", [Answer(), Answer((" ", "\n")), Answer(thoughts=("Hm",))], ids=str
)
async def test_an_answer_of_nothing_is_gone(
    server: ProviderServer, model: DirectModel, answer: Answer
) -> None:
    """Also one that was only thought."""
    server.play(server.tell(answer))

    error = await _failure(model, ProviderGone)

    assert str(error) == "The provider acme answered nothing."


@pytest.mark.parametrize(("status", "kind_of"), [(429, ProviderBusy), (500, ProviderGone)])
async def test_a_failure_told_in_the_stream_counts_as_its_status(
    server: ProviderServer, model: DirectModel, status: int, kind_of: type[ProviderError]
) -> None:
    """The status of the response was sent long before."""
    server.play([*server.tell(HELLO)[:3], server.told_failure(status, "Oh")])

    await _failure(model, kind_of)


async def test_nobody_listens(kind: str) -> None:
    """A provider that is down may come back."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        made = provider(kind, f"http://127.0.0.1:{taken.getsockname()[1]}")

        error = await _failure(made.model("test/any"), ProviderGone)
        await made.close()

    assert "cannot be reached" in str(error)


async def test_the_key_is_in_no_text(
    server: ProviderServer, acme: DirectProvider, model: DirectModel
) -> None:
    """Not even when the provider quotes it, anywhere in what would be logged."""
    server.play(Refusal(400, f"Bearer {KEY} is wrong"))

    error = await _failure(model, ProviderRefused)

    assert KEY not in "".join(traceback.format_exception(error))
    assert "***" in str(error)
    assert KEY not in repr(acme) + repr(model) + repr(vars(acme)) + repr(vars(model))


# -- leaving ------------------------------------------------------------------------------------


async def test_closing_the_stream_cuts_the_request(
    server: ProviderServer, model: DirectModel
) -> None:
    """The provider notices at once and can stop to think (and to charge); nothing is left over."""
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    told = server.tell(HELLO)
    words = next(n for n, event in enumerate(told) if b"Hello" in event)
    server.play([*told[: words + 1], Hang()])
    stream = model.stream(said("Hi"))
    first = await anext(stream)

    await stream.aclose()

    await asyncio.wait_for(server.left.wait(), 60)
    assert first == TextDelta("Hello")
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)
    assert noise == []


async def test_cancelling_cuts_the_request(server: ProviderServer, model: DirectModel) -> None:
    """Also while nothing has come yet."""
    server.play([Hang()])
    asking = asyncio.create_task(events(model, said("Hi")))
    async with asyncio.timeout(60):
        while not server.requests:
            await asyncio.sleep(0.005)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(server.left.wait(), 60)


async def test_connections_are_shared(server: ProviderServer, acme: DirectProvider) -> None:
    """All models of a provider use one client, and a request the connection of the last one."""
    for _ in range(3):
        await events(acme.model(server.model), said("Hi"))

    assert server.connections == 1
    assert acme.model(server.model) is acme.model(server.model)


async def test_closing_the_provider_closes_its_connections(
    kind: str, server: ProviderServer
) -> None:
    """Nothing is left open when the service stops."""
    made = provider(kind, server.url)
    await events(made.model(server.model), said("Hi"))

    await made.close()

    async with asyncio.timeout(60):
        while server.open_connections:
            await asyncio.sleep(0.005)
    assert server.open_connections == 0


async def _failure(model: DirectModel, kind: type[ProviderError]) -> ProviderError:
    with pytest.raises(kind) as raised:
        await events(model, said("Hi"))
    return raised.value
