"""Investigations inside the agent loop: dispositions, key results, and what their model is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from service.agents.catalog import Catalog
from service.agents.tools import Tool
from service.core import template
from service.core.dependency import Dependency
from service.core.disposition import Schema
from service.core.model import (
    Cast,
    Channel,
    Ended,
    NewVoice,
    ProjectId,
    SessionId,
    Source,
    Voice,
)
from service.core.project import Project
from service.core.states import TurnState
from service.core.template import Template, TemplateDependency, TemplateSession
from service.engine import scenes
from service.ports import (
    Caller,
    Finished,
    Limits,
    ModelEvent,
    Prompt,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from service.store import feed, investigations, key_results, projects, sessions
from service.store.database import Database
from service.store.ids import new_id
from service.store.investigations import Investigation
from service.store.key_results import KeyResult
from service.store.projects import StoredTemplate
from service.store.sessions import NewSession
from service.store.tables import sessions as sessions_table
from tests.engine.engine import BINDING, Engine, running
from tests.fakes import Script, ScriptedAgents

SCHEMA = Schema.parse({"verdict": "FRAUD|FINE", "loss": "optional Number"})
ROWS = {"columns": ["month", "paid"], "rows": [["Jan", 10], ["Feb", 2.5]], "truncated": False}
CHART = {"kind": "bar", "x": "month", "y": ["paid"]}
AT = datetime(2026, 11, 1, tzinfo=UTC)
QUERY = ToolCall("q", "query", "{}")
DONE: Script = [TextDelta("Done."), Finished()]

Act = ModelEvent | asyncio.Event | Callable[[Prompt], ToolCall]


@dataclass
class Analysts(ScriptedAgents):
    """Agents with a real tool that finds data; their model may look at its prompt first."""

    data: Any = field(default_factory=lambda: ROWS)

    def __post_init__(self) -> None:
        spec = ToolSpec(
            "query", "Ask the database.", {"type": "object"}, idempotent=True, data=True
        )
        self.catalog = Catalog({}, {}, extra={"query": (Tool(spec, self._query),)})

    def _query(self, _arguments: object, _caller: Caller) -> Any:
        return self.data

    def tools(self, voice: Voice) -> list[ToolSpec]:
        """The catalog's."""
        return list(self.catalog.tools(voice))

    async def call(self, call: ToolCall, caller: Caller) -> ToolResult:
        """Note the call and let the catalog run it."""
        self.calls.append(call)
        return await self.catalog.call(call, caller)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Follow the next script, of which a part may depend on the prompt."""
        place = min(len(self.prompts), len(self.scripts) - 1)
        self.prompts.append(prompt)
        for step in self.scripts[place]:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif callable(step):
                yield step(prompt)
            else:
                yield step  # type: ignore[misc]


def analysts(*scripts: Sequence[Any], **options: Any) -> Analysts:
    """Analysts whose model does this, one script per request."""
    return Analysts(list(scripts), **options)


def promoting(**arguments: Any) -> Callable[[Prompt], ToolCall]:
    """Promote the newest result that the model was told of."""
    return lambda prompt: ToolCall(
        "p", "promote_result", json.dumps({"result": _newest(prompt), **arguments})
    )


def setting(**values: Any) -> ToolCall:
    """Set the disposition."""
    return ToolCall("d", "set_disposition", json.dumps(values))


def _newest(prompt: Prompt) -> str:
    told = [result.text for step in prompt.steps for result in step.results]
    names = re.findall(r"\[Result (r[0-9a-f]{10})\. promote_result", "\n".join(told))
    return str(names[-1])


async def project_of(database: Database, **values: Any) -> ProjectId:
    """A new project."""
    new = Project(ProjectId(new_id()), values.pop("name", "Audit"), "telegram:7", AT, AT, **values)
    assert await database.write(projects.insert, new)
    return new.id


async def session_of(
    database: Database,
    project: ProjectId | None,
    *,
    title: str | None = "First look",
    tools: tuple[str, ...] = ("query",),
    after: tuple[Dependency, ...] = (),
    rounds: int = 0,
    **values: Any,
) -> SessionId:
    """A new session; an investigation when there are values for one, or a project."""
    session = SessionId(new_id())
    investigated = bool(values) or project is not None
    binding = replace(BINDING, tools=tools)
    new = NewSession(
        session,
        binding,
        "telegram:7",
        Source.MANUAL,
        Channel.CONSOLE,
        title=title,
        cast=Cast((NewVoice("Ann", binding, rounds),)) if rounds else None,
        project=project,
        investigated=investigated,
    )
    await database.write(sessions.insert, [new], at=AT, last_event=0)
    if investigated:
        await database.write(investigations.insert, Investigation(session, position=0, **values))
    await database.write(investigations.depend, session, after)
    return session


async def ask(engine: Engine, session: SessionId, text: str = "go") -> Any:
    """The result of a turn of a session."""
    accepted = await engine.accept(text, session=session)
    return await engine.result(accepted.turn)


async def results_of(database: Database, session: SessionId) -> list[KeyResult]:
    """What a session has found."""
    return await database.read(key_results.of_session, session)


async def changes_of(database: Database, session: SessionId) -> list[dict[str, Any]]:
    """How the feed told of it."""
    events = await database.read(feed.read, session, after=0)
    return [dict(one.data) for one in events if one.kind == "session.changed"]


async def completion_of(database: Database, session: SessionId) -> str:
    """Whether a session has come to something."""
    query = sa.select(sessions_table.c.completion).where(sessions_table.c.id == session)
    found = await database.read(lambda conn: conn.scalar(query))
    assert isinstance(found, str)
    return found


async def test_a_session_comes_to_results_and_a_disposition(database: Database) -> None:
    """Promoted while another query runs; what is illegal goes back to the model."""
    project = await project_of(database, prompt="We audit.")
    session = await session_of(database, project, request="Look.", schema=SCHEMA)
    agents = analysts(
        [QUERY, Finished()],
        [promoting(title="Paid", description="By month.", chart=CHART), QUERY, Finished()],
        [setting(verdict="MAYBE", loss="much"), Finished()],
        [setting(verdict="FRAUD", loss=12.5), Finished()],
        DONE,
    )

    async with running(database, agents) as engine:
        result = await ask(engine, session, "Look.")
        promoted, candidate = await results_of(database, session)
        found = await database.read(investigations.get, session)
        changes = await changes_of(database, session)

    told = result.as_json()
    refused = agents.prompts[3].steps[2].results[0]
    assert (promoted.title, promoted.description, promoted.chart) == ("Paid", "By month.", CHART)
    assert (promoted.promoted_by, promoted.display) == ("assistant", "both")
    assert (candidate.title, candidate.tool, candidate.iteration) == (None, "query", 1)
    assert refused.failed
    assert "verdict: takes one of FRAUD, FINE, not 'MAYBE'" in refused.text
    assert "loss: takes a number" in refused.text
    assert found is not None
    assert found.disposition == {"verdict": "FRAUD", "loss": 12.5}
    assert (found.disposition_by, found.stale) == ("assistant", False)
    assert await completion_of(database, session) == "complete"
    assert changes == [
        {"what": "result", "names": [promoted.name], "by": "assistant"},
        {"what": "completed"},
        {"what": "disposition", "names": ["loss", "verdict"], "by": "assistant"},
    ]
    assert told["disposition"] == {
        "values": {"verdict": "FRAUD", "loss": 12.5},
        "stale": False,
        "confirmed_by": None,
    }
    assert told["results"] == [
        {
            "title": "Paid",
            "description": "By month.",
            "chart": CHART,
            "columns": ["month", "paid"],
            "rows": [["Jan", 10], ["Feb", 2.5]],
            "truncated": False,
        }
    ]


async def test_the_next_prompt_shows_what_was_set(database: Database) -> None:
    """From the next model call on, and in every later turn."""
    session = await session_of(database, None, schema=SCHEMA)
    agents = analysts([setting(verdict="FINE"), Finished()], DONE, DONE)

    async with running(database, agents) as engine:
        await ask(engine, session)
        await ask(engine, session)

    systems = [one.system for one in agents.prompts]
    assert "It is not set yet." in systems[0]
    assert 'It is set to {"verdict": "FINE"}.' in systems[1]
    assert 'It is set to {"verdict": "FINE"}.' in systems[2]


async def test_a_second_round_knows_what_the_first_one_found(database: Database) -> None:
    """And who set it is called by the name it has in the session."""
    session = await session_of(database, None, schema=SCHEMA, rounds=1)
    agents = analysts([QUERY, setting(verdict="FINE"), Finished()], DONE)

    async with running(database, agents) as engine:
        await ask(engine, session)
        found = await database.read(investigations.get, session)
        (candidate,) = await results_of(database, session)

    second = agents.prompts[2]
    assert found is not None
    assert found.disposition_by == "Ann"
    assert second.steps == ()
    assert 'It is set to {"verdict": "FINE"}.' in second.system
    assert candidate.name in second.tools[-1].description


async def test_a_dependent_session_is_told_what_came_before(database: Database) -> None:
    """Its request, its disposition and its results, behind the project's prompt."""
    project = await project_of(database, prompt="We audit.")
    first = await session_of(database, project, request="Who paid?", schema=SCHEMA)
    second = await session_of(
        database, project, title="Then", tools=(), after=(Dependency(first, title="First look"),)
    )
    agents = analysts(
        [QUERY, Finished()],
        [promoting(title="Paid | months"), setting(verdict="FINE"), Finished()],
        DONE,
    )

    async with running(database, agents) as engine:
        await ask(engine, first)
        await ask(engine, second)
        preview = await database.read(scenes.preview, agents, second)

    prompt = agents.prompts[-1]
    told = prompt.system
    assert told.startswith("We audit.\n\nBe brief.\n\n## Upstream\n")
    assert "> Session: First look\n> Request: Who paid?\n" in told
    assert '> Disposition: {"verdict": "FINE"}' in told
    assert "> Paid | months (of First look)\n>\n> | month | paid |\n> | --- | --- |" in told
    assert "> | Feb | 2.5 |" in told
    assert [one.name for one in prompt.tools] == ["prompt_user"]
    assert [one.title for one in preview] == [
        "System prompt",
        "Upstream",
        "How to work",
        "Tools",
        "Upstream key results",
    ]
    assert "\n\n".join(one.whole for one in preview) == told


async def test_the_last_request_names_no_tools(database: Database) -> None:
    """It has none: whatever the model was told to do with them would only be refused."""
    session = await session_of(database, None, schema=SCHEMA)
    agents = analysts([QUERY, Finished()], limits_=Limits(iterations=2))

    async with running(database, agents) as engine:
        await ask(engine, session)

    first, last = agents.prompts
    assert (len(first.tools) > 1, last.tools) == (True, ())
    assert "## How to work" in first.system
    assert "with set_disposition" in first.system
    assert "## How to work" not in last.system
    assert "## Disposition" in last.system


async def test_a_changed_schema_makes_the_disposition_stale(database: Database) -> None:
    """The model is told, and given the new fields, from the next turn on."""
    session = await session_of(database, None, schema=SCHEMA)
    agents = analysts([setting(verdict="FINE"), Finished()], DONE)

    async with running(database, agents) as engine:
        await ask(engine, session)
        changed = Schema.parse({"verdict": "GUILTY|FINE"})
        await database.write(investigations.set_schema, session, changed)
        result = await ask(engine, session)

    prompt = agents.prompts[-1]
    assert "It is stale: the fields have changed" in prompt.system
    assert "- verdict: GUILTY|FINE" in prompt.system
    assert prompt.tools[-2].parameters == changed.parameters()
    assert result.as_json()["disposition"]["stale"] is True


async def test_a_schema_changed_meanwhile_makes_it_stale_at_once(database: Database) -> None:
    """The values were checked by the fields the turn began with."""
    session = await session_of(database, None, schema=SCHEMA)
    waiting, changed = asyncio.Event(), asyncio.Event()

    def at_last(_: Prompt) -> ToolCall:
        waiting.set()
        return QUERY

    agents = analysts([at_last, changed, setting(verdict="FRAUD"), Finished()], DONE)

    async with running(database, agents) as engine:
        accepted = await engine.accept(session=session)
        async with asyncio.timeout(60):
            await waiting.wait()
        await database.write(
            investigations.set_schema, session, Schema.parse({"verdict": "GUILTY|FINE"})
        )
        changed.set()
        await engine.result(accepted.turn)
        found = await database.read(investigations.get, session)

    assert found is not None
    assert (found.disposition, found.stale) == ({"verdict": "FRAUD"}, True)
    assert "It is stale" not in agents.prompts[1].system


@pytest.mark.parametrize(
    "data",
    [
        {"z": 1, "a": [0.1, 1e300, -0.0, 12345678901234567890123], "ä\u2028": '\U0001f980 \\ " /'},
        [{"b": None, "a": "x\ny", "id": 9007199254740993}, {"b": 1.0, "a": "<&>", "id": 2}],
    ],
)
async def test_the_data_of_a_result_is_kept_byte_for_byte(database: Database, data: Any) -> None:
    """The order of keys, floats, large numbers and characters: the same on both databases."""
    session = await session_of(database, None, schema=SCHEMA)
    agents = analysts([QUERY, Finished()], DONE, data=data)

    async with running(database, agents) as engine:
        await ask(engine, session)
        (candidate,) = await results_of(database, session)
        stored = await database.read(key_results.data, session, candidate.name)

    assert stored == json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    assert json.dumps(json.loads(stored)) == json.dumps(data)


async def test_a_result_outlives_the_process_that_found_it(database: Database) -> None:
    """A second holder promotes it under the same name, and the query is not run again."""
    session = await session_of(database, None, schema=SCHEMA)
    stuck = analysts([QUERY, Finished()], [asyncio.Event()])
    async with running(database, stuck) as first:
        accepted = await first.accept(session=session)
        async with asyncio.timeout(60):
            while len(stuck.prompts) < 2:
                await asyncio.sleep(0.01)
    before = await results_of(database, session)
    heir = analysts([promoting(title="Paid", chart=CHART), Finished()], DONE)

    async with running(database, heir) as second:
        await second.turns.rescue(attempts=3, alone=True)
        await second.result(accepted.turn)
        after = await results_of(database, session)

    assert [(one.name, one.title) for one in before] == [(_newest(stuck.prompts[1]), None)]
    assert [(one.name, one.title) for one in after] == [(before[0].name, "Paid")]
    assert heir.calls == []


async def test_results_of_earlier_turns_can_still_be_promoted(database: Database) -> None:
    """Their names are in what the tool says of itself; also without a schema or a project."""
    session = await session_of(database, None)
    agents = analysts([QUERY, Finished()], DONE, DONE)

    async with running(database, agents) as engine:
        first = await ask(engine, session)
        (candidate,) = await results_of(database, session)
        promote = ToolCall(
            "p", "promote_result", json.dumps({"result": candidate.name, "title": " Old\nrows "})
        )
        agents.scripts[2:] = [[promote, Finished()], DONE]
        await ask(engine, session)
        (promoted,) = await results_of(database, session)

    assert "results" not in first.as_json()
    assert [one.name for one in agents.prompts[0].tools] == ["query", "promote_result"]
    assert f"{candidate.name} (query)" in agents.prompts[2].tools[1].description
    assert (promoted.title, promoted.chart) == ("Old rows", None)
    assert await completion_of(database, session) == "complete"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"result": "r0", "title": "x"}, "result: there is no such result; there are: r"),
        ({"title": " "}, "title: a text of 1 to 200"),
        ({"title": "x" * 201}, "title: a text of 1 to 200"),
        ({"title": "x", "description": "y" * 2001}, "description: a text of at most 2000"),
        ({"title": "x", "display": "map"}, "display: one of chart, table, both"),
        ({"title": "x", "display": "chart"}, "display: to show a chart, give one"),
        ({"title": "x", "colour": "red"}, "'colour': there is no such argument"),
        ({"title": "x", "chart": {**CHART, "y": ["month"]}}, "chart.y.0: the column 'month' holds"),
    ],
)
async def test_a_wrong_promotion_goes_back_to_the_model(
    sqlite_url: str, arguments: dict[str, Any], problem: str
) -> None:
    """With what is wrong; the candidate stays one, and nothing is complete."""
    database = Database(sqlite_url)
    await database.open()
    session = await session_of(database, None, schema=SCHEMA)
    agents = analysts([QUERY, Finished()], [promoting(**arguments), Finished()], DONE)

    async with running(database, agents) as engine:
        await ask(engine, session)
        (candidate,) = await results_of(database, session)
    completion = await completion_of(database, session)
    await database.close()

    (refused,) = agents.prompts[2].steps[1].results
    assert refused.failed
    assert problem in refused.text
    assert (candidate.title, completion) == (None, "open")


async def test_what_is_no_table_has_no_chart(database: Database) -> None:
    """It can be promoted all the same, and is told whole."""
    session = await session_of(database, None, schema=SCHEMA)
    agents = analysts(
        [QUERY, Finished()],
        [promoting(title="Sum", chart=CHART), Finished()],
        [promoting(title="Sum"), Finished()],
        DONE,
        data={"sum": 12.5},
    )

    async with running(database, agents) as engine:
        result = await ask(engine, session)

    (refused,) = agents.prompts[2].steps[1].results
    assert "chart: this result is no table" in refused.text
    assert result.as_json()["results"] == [
        {
            "title": "Sum",
            "description": "",
            "chart": None,
            "columns": None,
            "rows": None,
            "data": {"sum": 12.5},
            "truncated": False,
        }
    ]


async def test_a_turn_is_told_with_so_much_data_and_no_more(sqlite_url: str) -> None:
    """Whole rows, as many as there is room for; the results behind them without any."""
    database = Database(sqlite_url)
    await database.open()
    session = await session_of(database, None, schema=SCHEMA)
    big = [{"text": "ä" * 1000} for _ in range(100)]
    again = [[QUERY, Finished()], [promoting(title="Big"), Finished()]]
    agents = analysts(*again, *again, DONE, data=big)

    async with running(database, agents) as engine:
        result = await ask(engine, session)
    await database.close()

    first, second = result.as_json()["results"]
    size = len(json.dumps([first["rows"], second["rows"]], ensure_ascii=False).encode())
    assert (len(first["rows"]), first["truncated"]) == (100, False)
    assert (0 < len(second["rows"]) < 100, second["truncated"]) == (True, True)
    assert size < 256 * 1024


async def test_a_scan_is_told_with_as_much_data_as_a_turn(sqlite_url: str) -> None:
    """All of its sessions together, also when their data is no table."""
    database = Database(sqlite_url)
    await database.open()
    sessions_of_it = (
        TemplateSession("First", "Look."),
        TemplateSession("Second", "Look.", dependencies=(TemplateDependency("First"),)),
    )
    source = template.format(Template("audit", sessions=sessions_of_it))
    await database.write(projects.put_template, StoredTemplate("audit", source, "ann", AT))
    once = [[QUERY, Finished()], [promoting(title="Big"), Finished()], DONE]
    agents = analysts(*once, *once, data={"text": "ä" * 70_000})
    binding = replace(BINDING, tools=("query",))

    async with running(database, agents, binding=binding) as engine:
        accepted = await engine.accept(scan="audit", session_key=None)
        result = await engine.result(accepted.turn)
    await database.close()

    first, second = (one["results"][0] for one in result.as_json()["scan"]["sessions"])
    assert (len(first["data"]["text"]), first["truncated"]) == (70_000, False)
    assert ("data" in second, second["truncated"]) == (False, True)


async def test_without_a_schema_there_is_nothing_to_set(database: Database) -> None:
    """A model that tries is told which tools there are."""
    project = await project_of(database)
    session = await session_of(database, project)
    agents = analysts([setting(verdict="FINE"), Finished()], DONE)

    async with running(database, agents) as engine:
        result = await ask(engine, session)

    (refused,) = agents.prompts[1].steps[0].results
    assert [one.name for one in agents.prompts[0].tools] == [
        "query",
        "prompt_user",
        "promote_result",
    ]
    assert "There is no tool 'set_disposition'" in refused.text
    assert "## Disposition" not in agents.prompts[0].system
    assert result.as_json()["disposition"] is None


async def test_in_a_project_iterations_are_counted_per_session(database: Database) -> None:
    """Until its owner adds some; the limit of the agent says per turn."""
    project = await project_of(database)
    session = await session_of(database, project)
    agents = analysts([TextDelta("."), QUERY, Finished()], limits_=Limits(iterations=3))

    async with running(database, agents) as engine:
        first = await ask(engine, session)
        spent = len(agents.calls)
        second = await ask(engine, session)
        exhausted = len(agents.calls)
        await database.write(investigations.add_iterations, session, 2)
        await ask(engine, session)

    assert (first.turn.ended, spent) == (Ended.ITERATIONS, 2)
    assert (second.turn.ended, second.turn.state) == (Ended.ITERATIONS, TurnState.SUCCEEDED)
    assert exhausted == 3 - 1
    assert len(agents.calls) == exhausted + 2


async def test_other_sessions_cost_no_query_more(sqlite_url: str) -> None:
    """Neither their turns nor reading their results looks at what they were to find out."""
    database = Database(sqlite_url)
    await database.open()
    agents = ScriptedAgents([[ToolCall("n", "note", "{}"), Finished()], DONE])
    agents.tools_ = [ToolSpec("note", "Note it.", {"type": "object"})]

    with statements() as seen:
        async with running(database, agents) as engine:
            accepted = await engine.accept()
            await engine.result(accepted.turn)
    await database.close()

    tables = ("FROM investigations", "FROM key_results", "FROM projects", "FROM dependencies")
    assert len(seen) > 10
    assert [one for one in seen if any(table in one for table in tables)] == []
    assert [one.name for one in agents.prompts[0].tools] == ["note"]


@contextmanager
def statements() -> Iterator[list[str]]:
    """Every statement that is run meanwhile, on any connection."""
    seen: list[str] = []

    def note(*arguments: Any) -> None:
        seen.append(arguments[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
