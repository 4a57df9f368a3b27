"""The Python API: sessions, handles, events, answers, memory and files of a service in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import structlog

from service.api import (
    Finished,
    Handle,
    Line,
    QuestionAnswered,
    QuestionAsked,
    Refused,
    Ringback,
    Role,
    Session,
    Text,
    Thinking,
    ToolFinished,
    ToolStarted,
    TurnEvent,
    open_app,
)
from service.config import Agent, DatabaseSettings, LimitsSettings, Settings
from service.core.model import Busy, Ended, NewAttachment, QuestionKind, RefusalReason
from service.core.states import QuestionState, ToolState, TurnState
from service.errors import BadInput, ConfigError
from tests.api import subjects

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A program that has configured its log, which the service must leave alone."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def settings(database_url: str) -> Settings:
    """The offline agent by two names: as it is, and with tools in Python."""
    return Settings(
        database=DatabaseSettings(url=database_url),
        limits=LimitsSettings(queue_per_session=2, attachment_bytes=100, attachments_per_message=2),
        agents={
            "assistant": Agent(provider="offline", model="echo", tools=("prompt_user",)),
            "worker": Agent(provider="offline", model="echo", python="tests.api.subjects:agent"),
        },
    )


@pytest.fixture
def local_settings(settings: Settings, sqlite_url: str) -> Settings:
    """The same on SQLite, for what does not depend on the database."""
    return settings.model_copy(update={"database": DatabaseSettings(url=sqlite_url)})


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[Ringback]:
    """A running service, on each kind of database."""
    async with asyncio.timeout(PATIENCE), open_app(settings) as app:
        yield app


async def working(app: Ringback, name: str) -> tuple[Session, str]:
    """A session in which a tool is running; let it go by its name."""
    subjects.inside[name], subjects.let_go[name] = asyncio.Event(), asyncio.Event()
    session = await app.session(name, agent="worker")
    return session, f'call work {{"name": "{name}"}}'


# -- sessions -------------------------------------------------------------------------------------


async def test_a_key_is_a_session(app: Ringback) -> None:
    """The same key is the same session, for the HTTP API too; another one is another."""
    first = await app.session("ann", agent="worker")
    second = await app.session("ann")
    other = await app.session("bob")

    assert (second.id, second.agent) == (first.id, "worker")
    assert (other.id == first.id, other.agent) == (False, "assistant")
    assert app.url.startswith("http://127.0.0.1:")


async def test_a_session_keeps_its_agent(app: Ringback) -> None:
    """Who asks for another one is told so, and gets no stranger."""
    await app.session("ann", agent="worker")

    with pytest.raises(BadInput, match="keeps its agent 'worker' for good"):
        await app.session("ann", agent="assistant")
    with pytest.raises(BadInput, match="there is no 'nobody'; there are: assistant, worker"):
        await app.session("eve", agent="nobody")


@pytest.mark.parametrize("key", ["", " ", "a\0", "k" * 256])
async def test_a_key_is_plain_text(local_settings: Settings, key: str) -> None:
    """What could not be stored as it is, is refused."""
    async with open_app(local_settings) as app:
        with pytest.raises(BadInput, match="key: "):
            await app.session(key)


async def test_sessions_outlive_the_program(settings: Settings) -> None:
    """What was said and remembered is there the next time."""
    async with open_app(settings) as app:
        session = await app.session("ann", agent="worker")
        await (await session.send('call note {"text": "milk"}')).result
    async with open_app(settings) as app:
        session = await app.session("ann")
        said = await session.messages()
        noted = await session.state.get("notes")

    assert [message.role.value for message in said] == ["user", "voice"]
    assert noted == ["milk"]


async def test_a_conversation_is_brought_along(app: Ringback) -> None:
    """In the order it was said; only the message is answered."""
    session = await app.session("ann")
    before = [Line(Role.USER, "Call me Ann."), Line(Role.VOICE, "Gladly.")]

    handle = await session.send("Who am I?", before=before, key="m-1")
    result = await handle.result
    again = await session.send("Who am I?", before=before, key="m-1")
    said = await session.messages()

    assert again.duplicate
    assert "You wrote once before." in result.text
    assert [(one.role.value, one.text) for one in said[:3]] == [
        ("user", "Call me Ann."),
        ("voice", "Gladly."),
        ("user", "Who am I?"),
    ]
    with pytest.raises(Refused):
        await session.send("Who am I?", before=before[:1], key="m-1")


@pytest.mark.parametrize(
    ("before", "problem"),
    [
        ([Line(Role.USER, "a"), Line(Role.SYSTEM, "b")], r"before\[1\].role"),
        ([Line(Role.VOICE, " ")], r"before\[0\].text"),
        ([Line(Role.USER, "a")] * 1001, "before: at most 1000"),
    ],
)
async def test_what_cannot_be_brought_along_is_named(
    local_settings: Settings, before: list[Line], problem: str
) -> None:
    """And nothing of it is stored."""
    async with open_app(local_settings) as app:
        session = await app.session("ann")
        with pytest.raises(BadInput, match=problem):
            await session.send("Who am I?", before=before)
        said = await session.messages()

    assert said == []


# -- turns ----------------------------------------------------------------------------------------


async def test_a_result_is_awaited_as_often_as_one_likes(app: Ringback) -> None:
    """Also by several at once, and after the end."""
    session = await app.session("ann")
    handle = await session.send("Hello!")

    pending = handle.result
    several = await asyncio.gather(handle.result, handle.result, pending)
    again = await pending

    assert {one.turn for one in [*several, again]} == {handle.turn}
    assert again.state is TurnState.SUCCEEDED
    assert "> Hello!" in again.text
    assert (again.usage.requests, again.error, again.ended) == (1, None, None)


async def test_a_turn_that_fails_raises_nothing(app: Ringback) -> None:
    """The result says so, with a sentence for people."""
    session = await app.session("ann")
    handle = await session.send("fail refused")

    result = await handle.result
    events = [event async for event in handle]

    assert (result.state, result.text) == (TurnState.FAILED, "")
    assert result.error == "The offline provider refused, as you asked."
    assert events == [Finished(TurnState.FAILED, result.error, None)]


async def test_a_handle_tells_everything_from_the_beginning_each_time(app: Ringback) -> None:
    """Thoughts, words and tools in their order; also while others wait for the result."""
    session = await app.session("ann", agent="worker")
    handle = await session.send('Think, then call note {"text": "milk"}')

    live, again = await asyncio.gather(_events(handle), _events(handle))
    late = await _events(handle)
    result = await handle.result

    assert live == again == late
    assert [event for event in live if isinstance(event, ToolStarted | ToolFinished)] == [
        ToolStarted("0.0", "note", '{"text": "milk"}'),
        ToolFinished("0.0", "note", ToolState.DONE, "Noted."),
    ]
    assert "".join(event.text for event in live if isinstance(event, Thinking)) != ""
    assert "".join(event.text for event in live if isinstance(event, Text)) == result.text
    assert live[-1] == Finished(TurnState.SUCCEEDED, None, None)


async def test_leaving_an_iteration_changes_nothing(app: Ringback) -> None:
    """The turn goes on without being watched."""
    session = await app.session("ann")
    handle = await session.send("Hello!")

    async with aclosing(handle.__aiter__()) as following:
        async for _ in following:
            break

    assert (await handle.result).state is TurnState.SUCCEEDED


async def test_the_same_key_is_the_same_turn(app: Ringback) -> None:
    """Several clients of one session may repeat each other; other words are refused."""
    here, there = await app.session("ann"), await app.session("ann")

    first = await here.send("Hello!", key="1")
    second = await there.send("Hello!", key="1")
    with pytest.raises(Refused) as caught:
        await there.send("Good bye!", key="1")

    assert (first.duplicate, second.duplicate) == (False, True)
    assert await first.result == await second.result
    assert await _events(first) == await _events(second)
    assert caught.value.reason is RefusalReason.KEY_REUSED
    assert len(await here.messages()) == 2


async def test_a_full_queue_is_refused(app: Ringback) -> None:
    """Nothing of what was refused is stored."""
    session, words = await working(app, "full")
    await session.send(words)
    await subjects.inside["full"].wait()
    for _ in range(2):
        await session.send("Hello!", busy=Busy.QUEUE)

    with pytest.raises(Refused) as caught:
        await session.send("Hello!", busy="queue")
    await session.stop()

    assert caught.value.reason is RefusalReason.QUEUE_FULL


async def test_a_turn_is_rendered_without_a_message(app: Ringback) -> None:
    """Nothing is said by anybody but the agent."""
    session = await app.session("ann")
    await (await session.send("Hello!")).result

    result = await (await session.render()).result

    said = [message.role.value for message in await session.messages()]
    assert result.state is TurnState.SUCCEEDED
    assert said == ["user", "voice", "voice"]


# -- stopping and interrupting --------------------------------------------------------------------


async def test_stopping_a_turn_keeps_what_it_said(app: Ringback) -> None:
    """Its words stay, its end is told, and stopping it again does nothing."""
    session = await app.session("ann")
    handle = await session.send("Answer slowly for 60 s")
    stopped = False
    async for event in handle:
        if isinstance(event, Text) and not stopped:
            stopped = await handle.stop()

    result = await handle.result
    again = await handle.stop()

    assert (stopped, again) == (True, False)
    assert result.state is TurnState.STOPPED
    assert result.text.startswith("You")


async def test_stopping_a_session_stops_what_waits_too(app: Ringback) -> None:
    """It says how many turns that were."""
    session, words = await working(app, "stop")
    running = await session.send(words)
    await subjects.inside["stop"].wait()
    waiting = await session.send("Hello!")

    count = await session.stop()
    states = [(await handle.result).state for handle in (running, waiting)]

    assert (count, states) == (2, [TurnState.STOPPED, TurnState.STOPPED])


async def test_interrupting_has_the_turn_ask(app: Ringback) -> None:
    """It ends at the next boundary and says why; when nothing runs there is nothing to do."""
    session, words = await working(app, "interrupt")
    handle = await session.send(words)
    await subjects.inside["interrupt"].wait()

    interrupted = await session.interrupt()
    subjects.let_go["interrupt"].set()
    result = await handle.result
    idle = await session.interrupt()

    assert (interrupted, idle) == (True, False)
    assert result.ended is Ended.INTERRUPTED


async def test_a_message_steers_a_running_turn(app: Ringback) -> None:
    """One answer for both: the second handle has the same words."""
    session, words = await working(app, "steer")
    first = await session.send(words)
    await subjects.inside["steer"].wait()
    second = await session.send("And be quick.", busy="steer")
    subjects.let_go["steer"].set()

    results = [await first.result, await second.result]

    assert results[0].text == results[1].text
    assert "And be quick." in results[0].text


# -- questions ------------------------------------------------------------------------------------


async def test_a_question_is_answered_while_it_is_followed(app: Ringback) -> None:
    """The turn waits, goes on, and tells of both."""
    session = await app.session("ann")
    handle = await session.send("ask me to choose tea or coffee")
    answers, events = [], []
    async for event in handle:
        events.append(event)
        if isinstance(event, QuestionAsked):
            assert [one.id for one in await session.questions()] == [event.question]
            answers = [await session.answer(event.question, "tea") for _ in range(2)]

    asked = next(event for event in events if isinstance(event, QuestionAsked))
    assert (asked.kind, asked.choices) == (QuestionKind.QUESTION, ("tea", "coffee"))
    assert answers == [True, False]
    assert QuestionAnswered(asked.question, QuestionState.ANSWERED, "tea", "operator") in events
    assert (await handle.result).state is TurnState.SUCCEEDED


@pytest.mark.parametrize(("answer", "words"), [("yes", "Sent to ops."), ("never", "never")])
async def test_an_approval_shows_what_will_run(
    local_settings: Settings, answer: str, words: str
) -> None:
    """A yes runs exactly that; anything else is the reason the model is told."""
    async with asyncio.timeout(PATIENCE), open_app(local_settings) as app:
        session = await app.session("ann", agent="worker")
        handle = await session.send('call send {"to": "ops"}')
        async for event in handle:
            if isinstance(event, QuestionAsked):
                assert (event.kind, event.tool) == (QuestionKind.APPROVAL, "send")
                assert event.arguments == '{"to": "ops"}'
                await session.answer(event.question, answer)
        result = await handle.result

    assert words in result.text


async def test_a_message_answers_the_open_question(app: Ringback) -> None:
    """Its handle is that of the turn that had asked."""
    session = await app.session("ann")
    handle = await session.send("ask me")
    async for event in handle:
        if isinstance(event, QuestionAsked):
            break

    answer = await session.send("Because.")

    assert (answer.turn, answer.answered) == (handle.turn, True)
    assert await answer.result == await handle.result


async def test_an_unknown_question_is_an_error(app: Ringback) -> None:
    """As is one of another session: no answer goes where nobody asked."""
    session, other = await app.session("ann"), await app.session("bob")
    await session.send("ask me")
    async with asyncio.timeout(PATIENCE):
        while not (found := await session.questions()):
            await asyncio.sleep(0.01)

    for question in (found[0].id, "nonsense"):
        with pytest.raises(BadInput, match="this session has no question"):
            await other.answer(question, "x")


# -- what is remembered ---------------------------------------------------------------------------


async def test_state_is_read_and_changed(app: Ringback) -> None:
    """From outside as by tools; None takes a value away."""
    session = await app.session("ann", agent="worker")
    await session.state.set("a", {"b": [1]})
    await session.state.set("gone", 1)
    await session.state.set("gone", None)
    await (await session.send('call note {"text": "milk"}')).result

    assert await session.state.all() == {"a": {"b": [1]}, "notes": ["milk"]}
    assert await session.state.get("nothing", 7) == 7
    with pytest.raises(BadInput, match=r"state\.a: only plain JSON"):
        await session.state.set("a", object())


async def test_knobs_are_turned(app: Ringback) -> None:
    """By themselves or with a message; what is wrong says what is taken."""
    session = await app.session("ann", agent="worker")

    kept = await session.set_knob("pace", "SLOW")
    await (await session.send("Hello!", knobs={"depth": "5"})).result
    values = {knob.name: knob.value for knob in await session.knobs()}

    assert kept == "slow"
    assert values == {"pace": "slow", "depth": 5}
    with pytest.raises(BadInput, match="pace takes one of fast, slow"):
        await session.set_knob("pace", "warp")
    with pytest.raises(BadInput, match="depth takes a number from 1 up to 9"):
        await session.render(knobs={"depth": 0})
    with pytest.raises(BadInput, match="knobs: there is no 'mood'"):
        await session.send("Hello!", knobs={"mood": 1})


async def test_the_model_can_begin_anew(app: Ringback) -> None:
    """By a line drawn, or by a summary; people still see everything."""
    session = await app.session("ann")
    await (await session.send("Hello!")).result

    compacted = await (await session.compact()).result
    summary = (await session.memory()).summary
    await session.clear()

    assert compacted.state is TurnState.SUCCEEDED
    assert summary
    assert (await session.memory()).summary is None
    assert (await session.messages())[0].text == "Hello!"


# -- files ----------------------------------------------------------------------------------------


async def test_files_come_with_a_message(app: Ringback, tmp_path: Path) -> None:
    """By their path, or by name and bytes; words are not needed then."""
    (tmp_path / "a.txt").write_bytes(b"milk")
    session = await app.session("ann")

    handle = await session.send(
        "", attachments=[tmp_path / "a.txt", NewAttachment("b", "image/png", data=b"x")]
    )
    await handle.result
    files = (await session.messages())[0].attachments

    assert [(one.name, one.media_type, one.size) for one in files] == [
        ("a.txt", "text/plain", 4),
        ("b", "image/png", 1),
    ]


@pytest.mark.parametrize(
    ("files", "detail"),
    [
        ([NewAttachment("a", "image/png", data=b"x" * 101)], "'a' has more than 100 bytes"),
        ([NewAttachment("a", "image/png", data=b"x")] * 3, "at most 2 files"),
        ([NewAttachment("a", "image/png", remote="far")], "'a' is empty"),
        ([Path("nowhere.txt")], "nowhere.txt cannot be read: No such file"),
        ([Path()], "cannot be read: Is a directory"),
    ],
)
async def test_files_that_cannot_be_taken_are_refused(
    local_settings: Settings, files: list[Path | NewAttachment], detail: str
) -> None:
    """Before anything is stored."""
    async with open_app(local_settings) as app:
        session = await app.session("ann")
        with pytest.raises(BadInput, match=detail):
            await session.send("Look!", attachments=files)
        assert await session.messages() == []


@pytest.mark.parametrize(
    ("text", "busy", "detail"), [("  ", None, "text: say something"), ("x", "now", "busy takes")]
)
async def test_a_message_says_something(
    local_settings: Settings, text: str, busy: str | None, detail: str
) -> None:
    """What is wrong is named."""
    async with open_app(local_settings) as app:
        session = await app.session("ann")
        with pytest.raises(BadInput, match=detail):
            await session.send(text, busy=busy)


# -- opening --------------------------------------------------------------------------------------


async def test_the_settings_may_be_a_file(tmp_path: Path) -> None:
    """By its path, as a text too; what is wrong in it is said at once."""
    file, broken = tmp_path / "ringback.toml", tmp_path / "broken.toml"
    database = f"sqlite+aiosqlite:///{tmp_path}/ringback.db"
    file.write_text(f'[database]\nurl = "{database}"\n', "utf-8")
    broken.write_text("[server]\nprot = 1\n", "utf-8")

    async with open_app(str(file)) as app:
        result = await (await (await app.session("ann")).send("Hello!")).result
    with pytest.raises(ConfigError):
        async with open_app(broken):
            pass

    assert result.state is TurnState.SUCCEEDED


async def test_a_log_that_is_set_up_is_left_alone(local_settings: Settings) -> None:
    """The program decides where its lines go."""
    async with open_app(local_settings):
        factory = structlog.get_config()["logger_factory"]

    assert isinstance(factory, structlog.ReturnLoggerFactory)


async def _events(handle: Handle) -> list[TurnEvent]:
    return [event async for event in handle]
