"""Agents in Python: what their functions become, and which mistakes in them are named."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from structlog.testing import capture_logs

from service.agents.definition import Agent, Context, SectionContext, load
from service.core.knobs import Knob, Number, Select, Toggle
from service.core.model import Origin, SessionId, TurnId
from service.core.state import State
from service.errors import BadInput
from service.ports import ToolResult
from tests.agents.callers import caller, run, voice


class Colour(StrEnum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Guest(BaseModel):
    """A table with a table in it."""

    name: str
    age: Annotated[int, Field(ge=0)] = 0


@dataclass
class Spot:
    """A place."""

    x: int
    y: int


# -- what a tool is -------------------------------------------------------------------------------


def test_a_function_becomes_a_tool_of_its_name() -> None:
    """With its docstring, and by default nothing it does is taken to be harmless."""
    agent = Agent("notepad")

    @agent.tool
    def add_note(text: str) -> str:
        """Write down a note.

        It is kept.
        """
        return text

    spec = agent.tools["add_note"].spec
    assert (spec.name, spec.description) == ("add_note", "Write down a note.\n\nIt is kept.")
    assert (spec.idempotent, spec.outward, spec.approval) == (False, False, False)
    assert spec.timeout == timedelta(seconds=60)
    assert add_note("as before") == "as before"


def test_a_tool_says_what_it_may_do() -> None:
    """The engine goes by it."""
    agent = Agent("mailer")

    @agent.tool(idempotent=True, outward=True, approval=True, timeout=timedelta(seconds=5))
    async def send(to: str) -> str:
        """Send."""
        return to

    spec = agent.tools["send"].spec
    assert (spec.idempotent, spec.outward, spec.approval) == (True, True, True)
    assert spec.timeout == timedelta(seconds=5)


def test_parameters_become_a_schema() -> None:
    """Of an object that has nothing else; without titles, and the context is not the model's."""
    agent = Agent("notepad")

    @agent.tool
    def add(context: Context, text: str, tags: list[str] | None = None) -> str:
        """Add.

        Args:
            context: Who calls.
            text (str): What to keep,
                in words.
            tags: Any; and: more
            gone: No parameter.

        Returns:
            What was kept.
        """
        return text

    spec = agent.tools["add"].spec
    assert spec.description == "Add."
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "What to keep, in words."},
            "tags": {
                "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                "default": None,
                "description": "Any; and: more",
            },
        },
        "required": ["text"],
        "additionalProperties": False,
    }


def test_what_an_annotation_says_comes_before_the_docstring() -> None:
    """It is closer to the parameter."""
    agent = Agent("a")

    @agent.tool
    def go(steps: Annotated[int, Field(ge=1, description="How far")] = 3) -> None:
        """Go.

        Args:
            steps: Something else.
        """

    assert agent.tools["go"].spec.parameters["properties"] == {
        "steps": {"type": "integer", "minimum": 1, "default": 3, "description": "How far"}
    }


async def test_parameters_may_have_any_name() -> None:
    """Also one that a pydantic model has itself, without any warning."""
    agent = Agent("a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @agent.tool
        def odd(model_config: int, copy: str, json: str = "j", _x: int = 1) -> str:
            """Odd."""
            return f"{model_config} {copy} {json} {_x}"

    result = await run(agent.tools["odd"], {"model_config": 5, "copy": "c", "_x": 2})

    assert result.text == "5 c j 2"


def test_a_tool_without_a_docstring_has_its_name() -> None:
    """There is always something to tell the model."""
    agent = Agent("a")

    @agent.tool
    def ping() -> None:
        pass

    assert agent.tools["ping"].spec.description == "ping"


def test_tools_are_offered_as_they_were_defined() -> None:
    """In order."""
    agent = Agent("a")
    for function in (_second, _first):
        agent.tool(function)

    assert list(agent.tools) == ["second", "first"]


def _named(name: str) -> Callable[[], None]:
    def named() -> None:
        """Do nothing."""

    named.__name__ = name
    return named


_first, _second = _named("first"), _named("second")


# -- calls ----------------------------------------------------------------------------------------


async def test_a_tool_gets_typed_arguments() -> None:
    """Made of JSON as one writes it: dates, choices, tables."""
    agent = Agent("a")
    got: list[Any] = []

    @agent.tool
    def invite(
        guest: Guest, spot: Spot, colour: Colour, on: date, kind: Literal["a", "b"], half: float
    ) -> None:
        """Invite."""
        got.extend((guest, spot, colour, on, kind, half))

    result = await run(
        agent.tools["invite"],
        {
            "guest": {"name": "Ann"},
            "spot": {"x": 1, "y": 2},
            "colour": "red",
            "on": "2030-01-02",
            "kind": "b",
            "half": 1,
        },
    )

    assert result.text == "Done."
    assert got == [Guest(name="Ann"), Spot(1, 2), Colour.RED, date(2030, 1, 2), "b", 1.0]


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        ({}, ["number: Field required"]),
        ({"number": "5"}, ["number: Input should be a valid integer"]),
        ({"number": 5.0}, ["number: Input should be a valid integer"]),
        ({"number": True}, ["number: Input should be a valid integer"]),
        ({"number": None}, ["number: Input should be a valid integer"]),
        ({"number": 0}, ["number: Input should be greater than or equal to 1"]),
        ({"number": 5, "more": 1}, ["more: Extra inputs are not permitted"]),
        ({"number": 5, "field_0": 1}, ["field_0: Extra inputs are not permitted"]),
        ({"number": 5, "context": {}}, ["context: Extra inputs are not permitted"]),
        (["number"], ["arguments: Input should be an object"]),
        (
            {"number": "x", "guests": [{"name": 5}, {"name": "B", "age": "6"}]},
            [
                "number: Input should be a valid integer",
                "guests.0.name: Input should be a valid string",
                "guests.1.age: Input should be a valid integer",
            ],
        ),
    ],
)
async def test_wrong_arguments_are_all_named_and_nothing_runs(
    arguments: Any, problems: list[str]
) -> None:
    """At once, so that the model mends them at once; nothing is converted silently."""
    agent = Agent("a")
    ran: list[int] = []

    @agent.tool
    async def count(
        context: Context,
        number: Annotated[int, Field(ge=1)],
        guests: list[Guest] = [],  # noqa: B006
    ) -> None:
        """Count."""
        ran.append(number)

    result = await run(agent.tools["count"], arguments)

    assert result.failed
    assert ran == []
    assert result.text.startswith("Invalid arguments. ")
    assert [problem in result.text for problem in problems] == [True] * len(problems)


async def test_an_infinite_number_is_no_argument() -> None:
    """JSON has none."""
    agent = Agent("a")

    @agent.tool
    def weigh(grams: float) -> str:
        """Weigh."""
        return str(grams)

    result = await run(agent.tools["weigh"], {"grams": float("inf")})

    assert result.failed


async def test_a_default_is_not_shared() -> None:
    """A list that one call changes is new for the next."""
    agent = Agent("a")

    @agent.tool
    def gather(found: list[str] = []) -> str:  # noqa: B006
        """Gather."""
        found.append("x")
        return "".join(found)

    texts = [(await run(agent.tools["gather"])).text for _ in range(2)]

    assert texts == ["x", "x"]


async def test_a_tool_is_told_whom_it_runs_for() -> None:
    """Everything of the call that it may need."""
    agent = Agent("own-name")
    agent.knob(Toggle(name="brief", description="Say little."))
    agent.knob(Number(name="level", description="How loud.", default=3, maximum=9))
    agent.knob(Select(name="tone", description="How.", default="dry", options=("dry", "warm")))
    got: list[Context] = []

    @agent.tool
    async def look(context: Context) -> None:
        """Look."""
        got.append(context)

    state, knobs = State({"a": 1}), State({"brief": True, "level": 10, "gone": 1})
    behalf = caller(voice=voice(agent="configured"), state=state, knobs=knobs, key="k")
    await run(agent.tools["look"], on_behalf_of=behalf)

    [context] = got
    assert (context.agent, context.author, context.origin) == (
        "configured",
        "telegram:7",
        Origin.PERSON,
    )
    assert (context.session, context.turn, context.key) == (SessionId("s1"), TurnId("t1"), "k")
    assert context.state == {"a": 1}
    # A stored value that no longer fits is as good as none.
    assert context.knobs == {"brief": True, "level": 3, "tone": "dry"}


async def test_state_that_a_tool_sets_is_in_the_callers() -> None:
    """It is stored with the result; what was not touched is no change."""
    agent = Agent("a")

    @agent.tool
    def keep(context: Context, text: str) -> None:
        """Keep."""
        context.state["kept"] = text
        del context.state["old"]

    state = State({"old": 1, "other": 2})
    await run(agent.tools["keep"], {"text": "x"}, caller(state=state))

    assert state.changes() == {"kept": "x", "old": None}


async def test_state_of_an_async_tool_is_in_the_callers() -> None:
    """The same, as it goes along."""
    agent = Agent("a")

    @agent.tool
    async def keep(context: Context, text: str) -> None:
        """Keep."""
        context.state["kept"] = text

    state = State()
    await run(agent.tools["keep"], {"text": "x"}, caller(state=state))

    assert state.changes() == {"kept": "x"}


async def test_calls_in_threads_lose_no_change() -> None:
    """A model that calls a tool five times in one response gets five notes."""
    agent = Agent("a")

    @agent.tool
    def note(context: Context, text: str) -> None:
        """Note."""
        notes = context.state.get("notes", [])
        notes.append(text)
        context.state["notes"] = notes

    behalf = caller()
    await asyncio.gather(
        *(run(agent.tools["note"], {"text": str(number)}, behalf) for number in range(5))
    )

    assert sorted(behalf.state["notes"]) == ["0", "1", "2", "3", "4"]


async def test_sessions_do_not_wait_for_each_other() -> None:
    """A slow tool holds up its own session only."""
    agent = Agent("a")
    both = threading.Barrier(2, timeout=10)

    @agent.tool
    def meet() -> str:
        """Meet."""
        both.wait()
        return "met"

    results = await asyncio.gather(
        *(run(agent.tools["meet"], None, caller(session=SessionId(name))) for name in "ab")
    )

    assert [one.text for one in results] == ["met", "met"]


async def test_a_thread_that_is_late_changes_nothing() -> None:
    """Its call was given up, and the service does not wait for it."""
    agent = Agent("a")
    go_on, over = threading.Event(), threading.Event()

    @agent.tool(timeout=timedelta(milliseconds=20))
    def late(context: Context) -> None:
        """Be late."""
        go_on.wait(10)
        context.state["late"] = True
        over.set()

    behalf = caller()
    result = await run(agent.tools["late"], None, behalf)
    go_on.set()
    await asyncio.to_thread(over.wait, 10)

    assert result.text == "late did not finish within 0.02 s."
    assert not behalf.state.changed


async def test_a_thread_that_fails_changes_nothing() -> None:
    """Half of its work is not kept."""
    agent = Agent("a")

    @agent.tool
    def half(context: Context) -> None:
        """Do half."""
        context.state["half"] = True
        raise BadInput("the other half is missing")

    behalf = caller()
    result = await run(agent.tools["half"], None, behalf)

    assert result.text == "the other half is missing"
    assert not behalf.state.changed


async def test_what_is_not_async_does_not_run_in_the_loop() -> None:
    """It may block."""
    agent = Agent("a")

    @agent.tool
    def where() -> str:
        """Tell where."""
        return str(threading.current_thread() is threading.main_thread())

    assert (await run(agent.tools["where"])).text == "False"


@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), SystemExit(3)])
async def test_a_thread_can_raise_anything(error: BaseException) -> None:
    """It is a failed call, and the words of the error stay in the log."""
    agent = Agent("a")

    @agent.tool
    def fail() -> None:
        """Fail."""
        raise error

    with capture_logs():
        result = await run(agent.tools["fail"])

    assert result == ToolResult(
        "call-1", "fail", f"fail failed inside: {type(error).__name__}", failed=True
    )


async def test_a_decorated_async_tool_is_awaited() -> None:
    """A plain wrapper hides that it is async."""
    agent = Agent("a")

    async def inner(text: str) -> str:
        """Say it twice."""
        return text * 2

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    agent.tool(outer)

    assert (await run(agent.tools["inner"], {"text": "a"})).text == "aa"


async def test_a_method_can_be_a_tool() -> None:
    """Of an object that was made before."""
    agent = Agent("a")
    agent.tool(_Shop().price)

    assert (await run(agent.tools["price"], {"of": "tea"})).data == {"tea": 3}


class _Shop:
    async def price(self, of: str) -> dict[str, int]:
        """Tell a price."""
        return {of: 3}


# -- sections and knobs ---------------------------------------------------------------------------


def test_a_section_is_made_of_the_state_or_of_more() -> None:
    """As its parameter wants it."""
    agent = Agent("a")

    @agent.section("Of the state")
    def of_state(state: State) -> str | None:
        return state.get("a")

    @agent.section("Of all")
    def of_all(context: SectionContext) -> str:
        return f"{context.agent} {context.state['a']} {context.knobs}"

    context = SectionContext("me", State({"a": "x"}), {"brief": True})
    assert {title: section(context) for title, section in agent.sections.items()} == {
        "Of the state": "x",
        "Of all": "me x {'brief': True}",
    }


def test_a_knob_is_kept_by_its_name() -> None:
    """And given back, to be used in code."""
    agent = Agent("a")

    brief = agent.knob(Toggle(name="brief", description="Say little."))

    assert agent.knobs == {"brief": brief}


# -- mistakes -------------------------------------------------------------------------------------


def _unannotated(context: Context, text) -> None:  # type: ignore[no-untyped-def]
    pass


def _many(*texts: str) -> None:
    pass


def _any(**texts: str) -> None:
    pass


def _by_place(text: str, /) -> None:
    pass


def _context_late(text: str, context: Context) -> None:
    pass


def _field(text: str = Field("x", max_length=3)) -> None:
    pass


def _unknown(text: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


def _odd_type(lock: threading.Event) -> None:
    pass


def _calls(function: Callable[[], int]) -> None:
    pass


def _generator() -> Iterator[int]:
    yield 1


async def _async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (_unannotated, "parameter 'text' needs an annotation"),
        (_many, r"parameter \*texts: .*str.* must be one that is given by its name"),
        (_any, r"parameter \*\*texts: .*str.* must be one that is given by its name"),
        (_by_place, "parameter text: .*str.* must be one that is given by its name"),
        (_context_late, "the Context must be the first parameter"),
        (_field, r"parameter 'text': write Annotated\[type, Field\(...\)\] instead"),
        (_unknown, "an annotation cannot be understood: name 'Nowhere' is not defined"),
        (_odd_type, "Event"),
        (_calls, "tool calls: "),
        (_generator, "it must return its result, not yield it"),
        (_async_generator, "it must return its result, not yield it"),
        (_Shop, "a tool is a function, not <class"),
        (functools.partial(_many), "a tool is a function, not functools.partial"),
    ],
)
def test_a_function_that_cannot_be_a_tool(function: Any, problem: str) -> None:
    """Is refused at the import, with the agent, the tool and the parameter."""
    if hasattr(function, "__name__") and not isinstance(function, type):
        function.__name__ = function.__name__.lstrip("_")

    with pytest.raises(TypeError, match=f"^agent notepad: .*{problem}"):
        Agent("notepad").tool(function)


def _of_nothing() -> str:
    return ""


def _of_two(state: State, more: State) -> str:
    return ""


def _of_text(state: str) -> str:
    return state


async def _async(state: State) -> str:
    return ""


@pytest.mark.parametrize("function", [_of_nothing, _of_two, _of_text, _async])
def test_a_function_that_cannot_be_a_section(function: Any) -> None:
    """Is refused at the import, with the agent and the section."""
    with pytest.raises(TypeError, match=r"^agent notepad: section 'Notes': it "):
        Agent("notepad").section("Notes")(function)


@pytest.mark.parametrize("name", ["", "Notes", "a b", "_a", "a" * 65, "é", 5])
def test_a_bad_name_of_an_agent(name: Any) -> None:
    """The same names as in the configuration."""
    with pytest.raises(ValueError, match="must be 1 to 64 of a-z"):
        Agent(name)


@pytest.mark.parametrize("name", ["_hidden", "<lambda>", "né", "a" * 65])
def test_a_bad_name_of_a_tool(name: str) -> None:
    """Providers take few characters."""
    with pytest.raises(ValueError, match=r"the name of tool .* must be 1 to 64 of A-Z"):
        Agent("a").tool(_named(name))


def test_two_tools_of_one_name() -> None:
    """The model could not tell them apart."""
    agent = Agent("a")
    agent.tool(_first)

    with pytest.raises(ValueError, match="agent a: there are two tools 'first'"):
        agent.tool(_named("first"))


@pytest.mark.parametrize("timeout", [timedelta(), timedelta(seconds=-1), 5, None])
def test_a_timeout_lasts(timeout: Any) -> None:
    """Of a plain number nobody knows what it counts."""
    with pytest.raises(ValueError, match="the timeout of a tool is a positive timedelta"):
        Agent("a").tool(timeout=timeout)


@pytest.mark.parametrize("title", ["", "  ", "a\nb", 5])
def test_a_bad_title(title: Any) -> None:
    """It is one line of the prompt."""
    with pytest.raises(ValueError, match="one line of text"):
        Agent("a").section(title)


def test_two_sections_of_one_title() -> None:
    """Is surely a mistake."""
    agent = Agent("a")
    agent.section("Notes")(_of_state)

    with pytest.raises(ValueError, match="there are two sections 'Notes'"):
        agent.section("Notes")


def _of_state(state: State) -> str:
    return ""


@pytest.mark.parametrize(
    ("knob", "problem"),
    [
        (Toggle(name="brief", description=""), "there are two knobs 'brief'"),
        (Toggle(name="", description=""), "the name of knob '' must be"),
        (Toggle(name="a b", description=""), "the name of knob 'a b' must be"),
        (
            Select(name="tone", description="", default="loud", options=("dry", "warm")),
            "the default of knob tone takes one of dry, warm",
        ),
        (Number(name="level", description="", minimum=1), "the default of knob level takes"),
    ],
)
def test_a_bad_knob(knob: Knob, problem: str) -> None:
    """Its name twice or odd, or a default it would not take itself."""
    agent = Agent("a")
    agent.knob(Toggle(name="brief", description=""))

    with pytest.raises(ValueError, match=f"agent a: {problem}"):
        agent.knob(knob)


def test_what_is_no_knob() -> None:
    """A word is none."""
    with pytest.raises(TypeError, match="is no Knob"):
        Agent("a").knob("brief")  # type: ignore[arg-type]


# -- loading --------------------------------------------------------------------------------------

_MODULE = """
from service.agents.definition import Agent

agent = Agent("notepad")
number = 5

class Inside:
    agent = agent
"""


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Writes modules that can be imported during the test, each under a name of its own."""
    sys.path.insert(0, str(tmp_path))
    names: list[str] = []

    def write(text: str) -> str:
        name = f"agents_{abs(hash(request.node.nodeid))}_{len(names)}"
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
        names.append(name)
        return name

    yield write
    sys.path.remove(str(tmp_path))
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("path", ["agent", "Inside.agent"])
def test_an_agent_is_loaded(module: Callable[[str], str], path: str) -> None:
    """By its module and its name in it."""
    assert load(f"{module(_MODULE)}:{path}").name == "notepad"


@pytest.mark.parametrize("reference", ["", "agents", ":agent", "agents:"])
def test_what_is_no_reference(reference: str) -> None:
    """Is told with an example."""
    with pytest.raises(BadInput, match='write "module:object", such as "my_agents:notepad"'):
        load(reference)


@pytest.mark.parametrize("name", ["no_such_module_here", "service.agents.no_such"])
def test_a_module_that_is_not_there(name: str) -> None:
    """Is named."""
    with pytest.raises(BadInput, match=f"'{name}:agent': there is no module '{name}'"):
        load(f"{name}:agent")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import no_such_library", "importing it fails with ModuleNotFoundError: No module named"),
        ("1 / 0", "importing it fails with ZeroDivisionError: division by zero"),
        ("def", "importing it fails with SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "importing it fails with SystemExit: 3"),
        (
            "from service.agents.definition import Agent\nAgent('a').tool(lambda text: text)",
            "importing it fails with ValueError: agent a: the name of tool '<lambda>'",
        ),
        (_MODULE.replace("agent =", "other ="), "importing it fails with NameError"),
        ("", "there is no 'agent' in "),
        ("agent = 5", "it is no Agent, but of type int"),
    ],
)
def test_a_module_that_cannot_be_used(
    module: Callable[[str], str], text: str, problem: str
) -> None:
    """Is named with the reason; the service does not go down with it."""
    name = module(text)

    with pytest.raises(BadInput, match=f"^'{name}:agent': {problem}"):
        load(f"{name}:agent")
