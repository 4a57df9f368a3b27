"""Agents written in Python: their tools, the sections of state their model sees, their knobs.

    agent = Agent("notepad", prompt="Keep notes.")

    @agent.tool
    async def add_note(context: Context, text: str) -> str:
        "Write down a note."
        context.state["jotted"] = [*context.state.get("jotted", []), text]
        return "Noted."

    @agent.section("Notes")
    def notes(state: State) -> str:
        return "; ".join(state.get("jotted", []))

The configuration names it: `[agents.notepad]` with `python = "module:agent"`.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from threading import Thread
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints, overload
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from service.agents import knobs as knob_tools
from service.agents.tools import Arguments, Tool, invalid
from service.core.knobs import Knob
from service.core.model import Origin, SessionId, TurnId
from service.core.state import State
from service.errors import BadInput
from service.ports import Caller, ToolSpec

F = TypeVar("F", bound=Callable[..., Any])

_AGENT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TIMEOUT = timedelta(seconds=60)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Context:
    """What a tool knows of the call it serves."""

    agent: str
    session: SessionId
    turn: TurnId
    author: str
    """Who said what the turn answers."""
    origin: Origin
    key: str
    """Names this very call, also after a crash: for services that take an idempotency key."""
    state: State
    """The session's memory; only assignments count. It is stored together with the result.

    Async tools of one turn share it as they run: what is read before an await may have changed
    after it. Other tools run one after another, and when one fails its changes are dropped.
    """
    knobs: Mapping[str, Any]
    """What every knob of the agent is set to, to be read."""


@dataclass(frozen=True, slots=True)
class SectionContext:
    """What a section is made of."""

    agent: str
    state: State
    knobs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Traits:
    """What a tool says of itself; as in ToolSpec."""

    idempotent: bool
    outward: bool
    approval: bool
    timeout: timedelta


Section = Callable[[SectionContext], Any]


class Agent:
    """An agent in the making. Mistakes in it raise TypeError or ValueError at the import."""

    def __init__(self, name: str, *, prompt: str = "") -> None:
        if not isinstance(name, str) or not _AGENT_NAME.fullmatch(name):
            raise ValueError(
                f"the name {name!r} must be 1 to 64 of a-z, 0-9, _ and -, beginning with a letter "
                "or digit"
            )
        self.name = name
        self.prompt = prompt
        """Used when the configuration has none."""
        self._tools: dict[str, Tool] = {}
        self._sections: dict[str, Section] = {}
        self._knobs: dict[str, Knob] = {}

    def __repr__(self) -> str:
        return f"Agent({self.name!r})"

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Its tools by name, in the order they were defined."""
        return MappingProxyType(self._tools)

    @property
    def sections(self) -> Mapping[str, Section]:
        """What renders each section, by its title."""
        return MappingProxyType(self._sections)

    @property
    def knobs(self) -> Mapping[str, Knob]:
        """Its knobs by name."""
        return MappingProxyType(self._knobs)

    @overload
    def tool(self, function: F, /) -> F: ...
    @overload
    def tool(
        self,
        /,
        *,
        idempotent: bool = ...,
        outward: bool = ...,
        approval: bool = ...,
        timeout: timedelta = ...,
    ) -> Callable[[F], F]: ...
    def tool(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        idempotent: bool = False,
        outward: bool = False,
        approval: bool = False,
        timeout: timedelta = _TIMEOUT,
    ) -> Any:
        """Make a function a tool of its name; its docstring and annotations are its description.

        Its first parameter may be a `Context`; the model fills the others. One that is not async
        runs in a thread. It returns text or anything that can be told in JSON, and raises
        `service.errors.BadInput` for what the model can mend. `idempotent`, `outward`, `approval`
        and `timeout` are those of `service.ports.ToolSpec`.
        """
        if not isinstance(timeout, timedelta) or timeout <= timedelta():
            raise ValueError(f"agent {self.name}: the timeout of a tool is a positive timedelta")
        traits = _Traits(idempotent, outward, approval, timeout)
        if function is None:
            return partial(self._add_tool, traits)
        return self._add_tool(traits, function)

    def section(self, title: str) -> Callable[[F], F]:
        """Make a function show something of the session to the model, under `title`.

        Its one parameter is the `State`, or a `SectionContext`; it returns text, or None for
        nothing. It is asked before every response of the model.
        """
        if not isinstance(title, str) or not title.strip() or "\n" in title:
            raise ValueError(f"agent {self.name}: the title of a section is one line of text")
        if title in self._sections:
            raise ValueError(f"agent {self.name}: there are two sections {title!r}")
        return partial(self._add_section, title)

    def knob(self, knob: Knob) -> Knob:
        """Give the agent a knob; see `service.core.knobs` for the kinds."""
        if not isinstance(knob, Knob):
            raise TypeError(f"agent {self.name}: {knob!r} is no Knob of service.core.knobs")
        if not _NAME.fullmatch(knob.name):
            raise ValueError(f"agent {self.name}: {_bad_name('knob', knob.name)}")
        if knob.name in self._knobs:
            raise ValueError(f"agent {self.name}: there are two knobs {knob.name!r}")
        try:
            knob.check(knob.default)
        except BadInput as error:
            raise ValueError(f"agent {self.name}: the default of knob {error}") from error
        self._knobs[knob.name] = knob
        return knob

    def _add_tool(self, traits: _Traits, function: F) -> F:
        if not (inspect.isfunction(function) or inspect.ismethod(function)):
            raise TypeError(f"agent {self.name}: a tool is a function, not {function!r}")
        name = function.__name__
        where = f"agent {self.name}: tool {name}"
        if not _NAME.fullmatch(name):
            raise ValueError(f"agent {self.name}: {_bad_name('tool', name)}")
        if name in self._tools:
            raise ValueError(f"agent {self.name}: there are two tools {name!r}")
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f"{where}: it must return its result, not yield it")
        described = _described(function)
        signature = _signature(where, function, described.parameters)
        spec = ToolSpec(
            name,
            described.text or name,
            signature.schema(where),
            idempotent=traits.idempotent,
            outward=traits.outward,
            approval=traits.approval,
            timeout=traits.timeout,
        )
        self._tools[name] = Tool(
            spec, _Handler(function, signature.with_context, self._knobs), signature.check
        )
        return function

    def _add_section(self, title: str, function: F) -> F:
        where = f"agent {self.name}: section {title!r}"
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{where}: it must not be async; only tools may wait")
        parameters = list(inspect.signature(function).parameters.values())
        hints = _hints(where, function)
        wanted = hints.get(parameters[0].name) if len(parameters) == 1 else None
        if wanted is SectionContext:
            self._sections[title] = function
        elif wanted is State:
            self._sections[title] = partial(_of_state, function)
        else:
            raise TypeError(f"{where}: it takes one parameter, a State or a SectionContext")
        return function


def load(reference: str) -> Agent:
    """Import "module:object". Raises BadInput with a sentence that says what is wrong there."""
    module_name, _, path = reference.partition(":")
    if not module_name or not path:
        raise BadInput(f'{reference!r}: write "module:object", such as "my_agents:notepad"')
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise BadInput(f"{reference!r}: there is no module {error.name!r}") from error
        raise BadInput(_not_imported(reference, error)) from error
    except (Exception, SystemExit) as error:
        raise BadInput(_not_imported(reference, error)) from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise BadInput(f"{reference!r}: there is no {path!r} in {module_name!r}")
        found = getattr(found, name)
    if not isinstance(found, Agent):
        raise BadInput(f"{reference!r}: it is no Agent, but of type {type(found).__name__}")
    return found


def _not_imported(reference: str, error: BaseException) -> str:
    return f"{reference!r}: importing it fails with {type(error).__name__}: {error}"


def _bad_name(kind: str, name: object) -> str:
    return (
        f"the name of {kind} {name!r} must be 1 to 64 of A-Z, a-z, 0-9, _ and -, beginning with "
        "a letter"
    )


def _of_state(function: Callable[[State], Any], context: SectionContext) -> Any:
    return function(context.state)


# -- parameters -----------------------------------------------------------------------------------


class _Schema(GenerateJsonSchema):
    """JSON Schemas for models: without titles, and without complaints about odd defaults."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Never: a title says nothing that the name does not."""
        return False


@dataclass(frozen=True, slots=True)
class _Signature:
    """The parameters of a tool as a pydantic model, whose fields have names of their own.

    So that a parameter may also be called what a model has already, such as `copy`.
    """

    model: type[BaseModel]
    names: Mapping[str, str]
    """The parameters by the fields they are kept in."""
    with_context: bool

    def check(self, given: Any) -> Arguments:
        """Make arguments of JSON; raises BadInput with everything that is wrong."""
        try:
            # As JSON: strictly, but a date may be written as one writes it there.
            made = self.model.model_validate_json(json.dumps(given), strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise invalid(f"{_path(one['loc'])}: {one['msg']}" for one in found) from error
        return {name: getattr(made, field) for field, name in self.names.items()}

    def schema(self, where: str) -> dict[str, Any]:
        """The JSON Schema of an object; raises TypeError when a parameter has none."""
        try:
            schema = self.model.model_json_schema(schema_generator=_Schema)
        except PydanticUserError as error:
            raise TypeError(f"{where}: {error.message}") from error
        return {key: value for key, value in schema.items() if key != "title"}


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "arguments"


def _signature(
    where: str, function: Callable[..., Any], documented: Mapping[str, str]
) -> _Signature:
    hints = _hints(where, function)
    parameters = list(inspect.signature(function).parameters.values())
    with_context = bool(parameters) and hints.get(parameters[0].name) is Context
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for number, parameter in enumerate(parameters[1:] if with_context else parameters):
        _check_parameter(where, parameter, hints)
        field, name = f"field_{number}", parameter.name
        names[field] = name
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[field] = (_annotated(hints[name], name, documented.get(name)), default)
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    try:
        model = create_model("Arguments", __config__=config, **fields)
    except (PydanticUserError, TypeError) as error:
        told = error.message if isinstance(error, PydanticUserError) else error
        raise TypeError(f"{where}: {told}") from error
    return _Signature(model, names, with_context)


def _annotated(hint: Any, name: str, description: str | None) -> Any:
    """The type with the name and description; what it says itself comes before the docstring."""
    base, *said = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    return Annotated[base, Field(alias=name, description=description), *said]


def _check_parameter(where: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> None:
    name = parameter.name
    if parameter.kind not in _BY_NAME:
        raise TypeError(f"{where}: parameter {parameter} must be one that is given by its name")
    if name not in hints:
        raise TypeError(f"{where}: parameter {name!r} needs an annotation")
    if hints[name] is Context:
        raise TypeError(f"{where}: the Context must be the first parameter")
    if isinstance(parameter.default, FieldInfo):
        raise TypeError(f"{where}: parameter {name!r}: write Annotated[type, Field(...)] instead")


def _hints(where: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise TypeError(f"{where}: an annotation cannot be understood: {error}") from error


# -- docstrings -----------------------------------------------------------------------------------

_PARAMETERS = ("Args:", "Arguments:", "Parameters:")
_OTHERS = ("Returns:", "Raises:", "Yields:")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)")


@dataclass(frozen=True, slots=True)
class _Described:
    """A docstring taken apart: what the tool does, and what its parameters mean."""

    text: str
    parameters: Mapping[str, str]


def _described(function: Callable[..., Any]) -> _Described:
    lines = (inspect.getdoc(function) or "").splitlines()
    text: list[str] = []
    entries: list[str] = []
    section = ""
    for line in lines:
        if line in (*_PARAMETERS, *_OTHERS):
            section = line
        elif section and (not line or line[0].isspace()):
            entries += [line] if section in _PARAMETERS else []
        else:
            section = ""
            text.append(line)
    return _Described("\n".join(text).strip(), _entries(inspect.cleandoc("\n".join(entries))))


def _entries(block: str) -> dict[str, str]:
    """The words on each parameter; lines that go on are indented deeper."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in block.splitlines():
        entry = _ENTRY.fullmatch(line)
        if entry is not None:
            name = entry[1]
            found[name] = [entry[2]]
        elif name:
            found[name].append(line.strip())
    return {name: " ".join(words).strip() for name, words in found.items()}


# -- running --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Handler:
    """Calls a tool's function as its parameters want it."""

    function: Callable[..., Any]
    with_context: bool
    knobs: Mapping[str, Knob]

    async def __call__(self, arguments: Arguments, caller: Caller) -> Any:
        if inspect.iscoroutinefunction(self.function):
            return await self._call(arguments, caller)
        # Two threads that both read and then write the state would lose one of the changes.
        async with _one_by_one(caller.session):
            scratch = State(caller.state)
            result = await _in_thread(
                partial(self._call, arguments, replace(caller, state=scratch))
            )
            if inspect.isawaitable(result):
                result = await result
            _take_over(scratch, caller.state)
        return result

    def _call(self, arguments: Arguments, caller: Caller) -> Any:
        if not self.with_context:
            return self.function(**arguments)
        context = Context(
            agent=caller.voice.agent,
            session=caller.session,
            turn=caller.turn,
            author=caller.author,
            origin=caller.origin,
            key=caller.key,
            state=caller.state,
            knobs=MappingProxyType(knob_tools.values(self.knobs, caller.knobs)),
        )
        return self.function(context, **arguments)


# A lock lives as long as somebody holds or awaits it.
_LOCKS: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def _one_by_one(session: SessionId) -> asyncio.Lock:
    return _LOCKS.setdefault(session, asyncio.Lock())


def _take_over(scratch: State, state: State) -> None:
    for key in scratch.changes():
        if key in scratch:
            state[key] = scratch[key]
        else:
            state.pop(key, None)


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Run it in a thread of its own, which nobody waits for when the process ends.

    A pool would be full one day of calls that never return, and would hold up the shutdown.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    run = partial(contextvars.copy_context().run, _work, function, loop, done)
    Thread(target=run, name="tool", daemon=True).start()
    result, error = await done
    if error is not None:
        raise error
    return result


def _work(
    function: Callable[[], Any],
    loop: asyncio.AbstractEventLoop,
    done: asyncio.Future[tuple[Any, BaseException | None]],
) -> None:
    outcome: tuple[Any, BaseException | None]
    try:
        outcome = (function(), None)
    except BaseException as error:
        outcome = (None, error)
    try:
        loop.call_soon_threadsafe(_settle, done, outcome)
    except RuntimeError:
        # The loop is closed: nobody is left to be told.
        return


def _settle(
    done: asyncio.Future[tuple[Any, BaseException | None]],
    outcome: tuple[Any, BaseException | None],
) -> None:
    if not done.done():
        done.set_result(outcome)
