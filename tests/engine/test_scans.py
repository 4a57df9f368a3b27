"""Scans: a template run from end to end, every session once, in the order of what it needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from service.app import App, open_app
from service.config import Agent, DatabaseSettings, LimitsSettings, Provider, Settings
from service.core import template as files
from service.core.disposition import Schema
from service.core.model import Accepted, Channel, Ended, Origin, Refusal, Ring, Role, SessionId
from service.core.states import TurnState
from service.core.template import Template, TemplateDependency, TemplateSession
from service.engine.intake import Intake
from service.engine.investigating import Investigations
from service.engine.projects import Projects
from service.engine.results import Result
from service.engine.scanning import BINDING, Scans
from service.errors import StoreDown
from service.store import projects
from service.store.database import Database
from service.store.projects import StoredTemplate
from service.store.tables import sessions, turns
from tests.engine.engine import BINDING as AGENT
from tests.engine.engine import running

VERDICT = Schema.parse({"verdict": "FOUND|CLEAN"})
PATIENCE = timedelta(seconds=60)


async def test_sessions_run_as_their_dependencies_allow(database_url: str) -> None:
    """A diamond with a branch that is not taken: what holds nothing back, and what is held."""
    template = _template(
        _session("Duplicates", "FOUND"),
        _session("Owners", "CLEAN"),
        _session("Both", "FOUND", ("Duplicates", "verdict", "FOUND"), ("Owners", None, None)),
        _session("Clean only", "CLEAN", ("Duplicates", "verdict", "CLEAN")),
        _session("After that", "CLEAN", ("Clean only", None, None)),
    )
    async with _running(database_url, template) as app:
        result = await _scan(app)
        order = await app.database.read(_order)

    states = {one["title"]: one["state"] for one in _parts(result)}
    assert result.turn.state is TurnState.SUCCEEDED
    assert states == {
        "Duplicates": "complete",
        "Owners": "complete",
        "Both": "complete",
        "Clean only": "held",
        "After that": "held",
    }
    assert order.index("Both") > max(order.index("Duplicates"), order.index("Owners"))
    assert "**3 of 5 sessions came to a result.**" in result.text
    assert "came to verdict = FOUND; verdict = CLEAN is needed" in _unescaped(result.text)


async def test_the_result_tells_what_every_session_came_to(database_url: str) -> None:
    """As JSON, for whoever rang; as of a session that runs alone."""
    async with _running(database_url, _template(_session("Only", "FOUND"))) as app:
        result = await _scan(app)

    told = json.loads(json.dumps(result.as_json()))["scan"]
    assert told["sessions"][0]["disposition"] == {
        "values": {"verdict": "FOUND"},
        "stale": False,
        "confirmed_by": None,
    }
    assert told["project"] is not None


async def test_a_session_that_comes_to_nothing_or_fails_holds_only_its_own_back(
    database_url: str,
) -> None:
    """The others go on; the scan says which were not run, and why."""
    template = _template(
        _session("Silent", None),
        _session("Broken", None, text="Please fail refused."),
        _session("After silent", "FOUND", ("Silent", None, None)),
        _session("Free", "FOUND"),
    )
    async with _running(database_url, template) as app:
        result = await _scan(app)

    states = {one["title"]: one["state"] for one in _parts(result)}
    assert states == {
        "Silent": "ended",
        "Broken": "failed",
        "After silent": "held",
        "Free": "complete",
    }
    assert "Broken: failed: The offline provider refused" in _unescaped(result.text)


async def test_the_same_ring_is_one_scan(database_url: str) -> None:
    """A repeated post makes no second project."""
    async with _running(database_url, _template(_session("Only", "FOUND"))) as app:
        first = await _scan(app, key="same")
        again = await app.intake.accept(_ring("same"))
        made = await app.database.read(projects.every)

    assert isinstance(again, Accepted)
    assert (again.turn, again.duplicate) == (first.turn.id, True)
    assert len(made) == 1


async def test_a_template_that_is_not_there_fails_with_its_name(database_url: str) -> None:
    """Whoever rang learns what to do."""
    async with _running(database_url, _template(_session("Only", "FOUND"))) as app:
        accepted = await app.intake.accept(_ring("one", scan="nobody"))
        assert isinstance(accepted, Accepted)
        result = await app.results.wait(accepted.turn, timeout=PATIENCE)

    assert result is not None
    assert result.turn.state is TurnState.FAILED
    assert "there is no template 'nobody'" in (result.turn.error or "")


async def test_a_scan_holds_no_worker_while_its_sessions_work(database_url: str) -> None:
    """With one worker in all, it would wait for ever."""
    template = _template(
        *(_session(f"Part {number}", "FOUND") for number in range(3)),
        _session("Last", "CLEAN", ("Part 0", None, None), ("Part 2", None, None)),
    )
    async with _running(database_url, template, at_once=1) as app:
        result = await _scan(app)

    assert [one["state"] for one in _parts(result)] == ["complete"] * 4


async def test_stopping_a_scan_stops_its_sessions(database_url: str) -> None:
    """What runs is cut short, and nothing further is begun."""
    template = _template(
        _session("Slow", None, text="Answer slowly for 20 s."),
        _session("Next", "FOUND", ("Slow", None, None)),
    )
    async with _running(database_url, template) as app:
        accepted = await app.intake.accept(_ring("stopped"))
        assert isinstance(accepted, Accepted)
        await _until_waiting(app, accepted)
        async with app.controls.steps() as command:
            await command.stop_session(accepted.session, by="operator")
        result = await app.results.wait(accepted.turn, timeout=PATIENCE)
        left = await _until_nothing_runs(app)

    assert result is not None
    assert result.turn.state is TurnState.STOPPED
    assert left == {"Slow": "stopped"}


async def test_an_interrupted_scan_begins_nothing_further(database_url: str) -> None:
    """What runs goes on until it is stopped by itself; when it is over, nothing follows it."""
    template = _template(
        _session("Slow", "FOUND", text="Answer slowly for 60 s."),
        _session("Next", "FOUND", ("Slow", None, None)),
    )
    async with _running(database_url, template) as app:
        accepted = await app.intake.accept(_ring("interrupted"))
        assert isinstance(accepted, Accepted)
        await _until_waiting(app, accepted)
        async with app.controls.steps() as command:
            await command.interrupt(accepted.session, by="operator", operator=True)
        result = await app.results.wait(accepted.turn, timeout=PATIENCE)
        async with app.controls.steps() as command:
            await command.stop_session(await app.database.read(_id_of, "Slow"), by="operator")
        left = await _until_nothing_runs(app)

    assert result is not None
    assert result.turn.ended is Ended.INTERRUPTED
    assert left == {"Slow": "stopped"}


async def test_deleting_what_a_scan_waits_for_lets_it_go_on(database_url: str) -> None:
    """What depended on it is held for good, and says so."""
    template = _template(
        _session("Slow", None, text="Answer slowly for 20 s."),
        _session("Next", "FOUND", ("Slow", None, None)),
    )
    async with _running(database_url, template) as app:
        accepted = await app.intake.accept(_ring("deleted"))
        assert isinstance(accepted, Accepted)
        await _until_waiting(app, accepted)
        slow = await app.database.read(_id_of, "Slow")
        await app.controls.delete(slow, by="operator", dependants=True)
        result = await app.results.wait(accepted.turn, timeout=PATIENCE)

    assert result is not None
    assert result.turn.state is TurnState.SUCCEEDED
    assert "“Slow” was deleted" in _unescaped(result.text)


async def test_deleting_the_project_of_a_scan_ends_it(database_url: str) -> None:
    """Whoever does that wants no other one in its place."""
    template = _template(
        _session("Slow", None, text="Answer slowly for 60 s."),
        _session("Next", "FOUND", ("Slow", None, None)),
    )
    async with _running(database_url, template) as app:
        accepted = await app.intake.accept(_ring("gone"))
        assert isinstance(accepted, Accepted)
        await _until_waiting(app, accepted)
        ((project, _),) = await app.database.read(projects.every)
        keeper = Projects(app.database, app.controls, app.catalog.bindings())
        refusal = await keeper.delete(project.id, by="operator", with_sessions=True)
        result = await app.results.wait(accepted.turn, timeout=PATIENCE)
        left = await app.database.read(projects.every)

    assert refusal is None
    assert result is not None
    assert (result.turn.state, left) == (TurnState.STOPPED, [])


async def test_a_session_archived_before_it_could_begin_is_told(database_url: str) -> None:
    """Neither the words of the scan nor its JSON leave it out, or call it ready."""
    template = _template(
        _session("Slow", "FOUND", text="Answer slowly for 60 s."),
        _session("Put away", "FOUND", ("Slow", None, None)),
        _session("After that", "FOUND", ("Put away", None, None)),
    )
    async with _running(database_url, template) as app:
        accepted = await app.intake.accept(_ring("archived"))
        assert isinstance(accepted, Accepted)
        await _until_waiting(app, accepted)
        slow = await app.database.read(_id_of, "Slow")
        people = Investigations(app.database, app.feed, app.catalog)
        await people.determine(slow, {"verdict": "FOUND"}, by="operator")
        async with app.controls.steps() as command:
            put_away = await app.database.read(_id_of, "Put away")
            assert await command.archive(put_away, by="operator") is None
            await command.stop_session(slow, by="operator")
        result = await app.results.wait(accepted.turn, timeout=PATIENCE)

    assert result is not None
    assert {one["title"]: (one["state"], one["reason"]) for one in _parts(result)} == {
        "Slow": ("complete", None),
        "Put away": ("held", "the session is archived"),
        "After that": (
            "held",
            "“Put away” is not complete: it has no key result and no disposition yet",
        ),
    }
    assert "- Put away: not run: the session is archived" in result.text


async def test_a_scan_outlives_an_outage_while_it_begins_a_session(database: Database) -> None:
    """What could not be stored is rung again, and once."""
    door = _DoorAfterAnOutage()
    source = files.format(_template(_session("Only", None)))
    stored = StoredTemplate("audit", source, "operator", datetime.now(UTC))
    await database.write(projects.put_template, stored)

    async with running(
        database, scans=Scans(database, door.accept, {"assistant": AGENT})
    ) as engine:
        door.intake = engine.intake
        outcome = await engine.intake.accept(_ring("outage"))
        assert isinstance(outcome, Accepted)
        result = await engine.result(outcome.turn)

    assert (result.turn.state, result.turn.error) == (TurnState.SUCCEEDED, None)
    assert [one["state"] for one in _parts(result)] == ["ended"]
    assert door.tries == 2


# -- what the tests share -------------------------------------------------------------------------


class _DoorAfterAnOutage:
    """The engine's door, behind which the first ring cannot be stored."""

    def __init__(self) -> None:
        self.intake: Intake | None = None
        self.tries = 0

    async def accept(self, ring: Ring) -> Accepted | Refusal:
        """Store a ring, but for the first."""
        self.tries += 1
        if self.tries == 1:
            raise StoreDown("the database cannot be reached")
        assert self.intake is not None
        return await self.intake.accept(ring)


@asynccontextmanager
async def _running(
    database_url: str, template: Template, *, at_once: int = 8
) -> AsyncGenerator[App]:
    settings = Settings(
        database=DatabaseSettings(url=database_url),
        providers={"offline": Provider(kind="offline")},
        agents={"analyst": Agent(provider="offline", model="echo")},
        limits=LimitsSettings(turns_at_once=at_once),
    )
    async with open_app(settings, port=0, channels=False) as app:
        stored = StoredTemplate(
            template.name, files.format(template), "operator", datetime.now(UTC)
        )
        await app.database.write(projects.put_template, stored)
        yield app


def _template(*given: TemplateSession) -> Template:
    return Template("audit", sessions=given)


def _session(
    title: str,
    verdict: str | None,
    *needs: tuple[str, str | None, str | None],
    text: str | None = None,
) -> TemplateSession:
    said = text or "Say something."
    if verdict is not None:
        said = f'{said} Call set_disposition {{"verdict": "{verdict}"}}'
    schema = VERDICT if verdict is not None else None
    return TemplateSession(title, said, schema, tuple(TemplateDependency(*one) for one in needs))


def _ring(key: str, *, scan: str = "audit") -> Ring:
    return Ring(
        channel=Channel.WEBHOOK,
        source="audit",
        event_key=key,
        text="Audit, please.",
        binding=BINDING,
        author="webhook:audit",
        role=Role.EVENT,
        origin=Origin.EVENT,
        scan=scan,
    )


async def _scan(app: App, *, key: str = "scan") -> Result:
    accepted = await app.intake.accept(_ring(key))
    assert isinstance(accepted, Accepted)
    result = await app.results.wait(accepted.turn, timeout=PATIENCE)
    assert result is not None
    assert result.final, result.turn.state
    return result


async def _until_waiting(app: App, accepted: Accepted) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        async for event in app.feed.follow(accepted.session, after=0):
            if event.kind == "reply.started":
                break
        while (found := await app.results.get(accepted.turn)) is not None:
            if found.turn.state is TurnState.WAITING:
                return
            await asyncio.sleep(0.02)


async def _until_nothing_runs(app: App) -> dict[str, str]:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while True:
            states = await app.database.read(_states)
            if not {"running", "queued", "waiting"} & set(states.values()):
                return states
            await asyncio.sleep(0.02)


def _parts(result: Result) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = result.as_json()["scan"]["sessions"]
    return found


def _order(conn: sa.Connection) -> list[str]:
    query = (
        sa.select(sessions.c.title)
        .join(turns, turns.c.session_id == sessions.c.id)
        .where(sessions.c.project_id.is_not(None))
        .order_by(turns.c.started_at)
    )
    return list(conn.scalars(query))


def _id_of(conn: sa.Connection, title: str) -> SessionId:
    found = conn.scalar(sa.select(sessions.c.id).where(sessions.c.title == title))
    assert found is not None
    return SessionId(found)


def _states(conn: sa.Connection) -> dict[str, str]:
    query = (
        sa.select(sessions.c.title, turns.c.state)
        .join(turns, turns.c.session_id == sessions.c.id)
        .where(sessions.c.project_id.is_not(None))
    )
    return {row.title: row.state for row in conn.execute(query)}


def _unescaped(text: str) -> str:
    return text.replace("\\", "")
