"""The start gate: a session begins when what it depends on holds, and only once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from service.core.dependency import Dependency
from service.core.disposition import Schema
from service.core.model import (
    Accepted,
    Busy,
    NewVoice,
    ProjectId,
    Refusal,
    RefusalReason,
    Ring,
    SessionId,
    TurnId,
    TurnKind,
)
from service.core.states import InboxState
from service.engine import acceptance, memory, voicing
from service.engine.investigations import View, unready, view_of, views_of
from service.store import inbox, investigations, projects, sessions, turns
from service.store.database import Database
from service.store.ids import new_id
from service.store.inbox import Received
from tests.engine.engine import BINDING, Engine, ring, running
from tests.engine.test_findings import SCHEMA, project_of, session_of
from tests.fakes import ScriptedAgents

AT = datetime(2026, 11, 21, tzinfo=UTC)


async def chained(database: Database, **wanted: str) -> tuple[ProjectId, SessionId, SessionId]:
    """A project, a session of it, and one that depends on that one."""
    project = await project_of(database)
    first = await session_of(database, project, title="First", schema=SCHEMA, tools=())
    edge = Dependency(first, wanted.get("field"), wanted.get("value"), "First")
    second = await session_of(database, project, title="Second", after=(edge,), tools=())
    return project, first, second


async def determined(database: Database, session: SessionId, **values: Any) -> None:
    """Let a session come to this."""
    await database.write(investigations.set_disposition, session, values, by="ann", at=AT)
    await database.write(investigations.complete, session)


async def view(engine: Engine, session: SessionId) -> View:
    """How a session stands."""
    found = await engine.database.read(view_of, engine.agents, session)
    assert found is not None
    return found


async def rung(engine: Engine, session: SessionId, **fields: Any) -> Accepted | Refusal:
    """What comes of a ring."""
    return await engine.intake.accept(ring(session=session, **fields))


async def turns_of(database: Database, session: SessionId) -> list[Any]:
    """The turns of a session that are not over."""
    return await database.read(turns.active, session)


# -- what holds a session back --------------------------------------------------------------------


async def test_the_first_message_is_refused_until_the_other_is_complete(database: Database) -> None:
    """With the reason; afterwards the very same ring is taken."""
    _, first, second = await chained(database)

    async with running(database) as engine:
        refused = await rung(engine, second, event_key="same")
        before = await view(engine, second)
        await determined(database, first, verdict="FINE")
        accepted = await rung(engine, second, event_key="same")
        assert isinstance(accepted, Accepted)
        await engine.result(accepted.turn)

    assert refused == Refusal(
        RefusalReason.NOT_READY,
        "cannot start yet: “First” is not complete: it has no key result and no disposition yet",
    )
    assert (before.state.value, before.ready) == ("not_started", False)
    assert not accepted.duplicate


@pytest.mark.parametrize(
    ("values", "stale", "reason"),
    [
        (None, False, "“First” has no disposition yet; verdict = FRAUD is needed"),
        ("FINE", False, "“First” came to verdict = FINE; verdict = FRAUD is needed"),
        (
            "FRAUD",
            True,
            "the disposition of “First” is stale: its schema has changed since; set it again",
        ),
        ("FRAUD", False, None),
    ],
)
async def test_a_condition_holds_by_its_value_alone(
    database: Database, values: str | None, stale: bool, reason: str | None
) -> None:
    """A stale disposition holds for nothing."""
    _, first, second = await chained(database, field="verdict", value="FRAUD")
    if values is not None:
        await determined(database, first, verdict=values)
    if stale:
        other = Schema.parse({"verdict": "FRAUD|FINE|OPEN"})
        await database.write(investigations.set_schema, first, other)

    found = await database.read(unready, second)

    assert found == (None if reason is None else f"cannot start yet: {reason}")


async def test_every_reason_is_told_at_once(database: Database) -> None:
    """So that one needs to ask once; what was deleted stays in the way by its name."""
    project, first, _ = await chained(database)
    gone = await session_of(database, project, title="Gone", tools=())
    third = await session_of(
        database,
        project,
        title="Third",
        after=(Dependency(first), Dependency(gone, title="Went")),
        tools=(),
    )

    async with running(database) as engine:
        refused = await engine.controls.delete(gone, by="ann", dependants=True)
        found = await rung(engine, third)

    assert refused is None
    assert isinstance(found, Refusal)
    assert found.detail == (
        "cannot start yet: “First” is not complete: it has no key result and no disposition yet; "
        "“Gone” was deleted; edit the dependencies of this session"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": TurnKind.RENDER, "text": ""},
        {"kind": TurnKind.COMPACT, "text": ""},
        {"busy": Busy.INTERRUPT, "operator": True, "admin": True},
        {"starts": True},
    ],
)
async def test_no_kind_of_ring_goes_around_the_gate(
    database: Database, fields: Mapping[str, Any]
) -> None:
    """Nothing of it is stored either."""
    _, _, second = await chained(database)

    async with running(database) as engine:
        outcome = await rung(engine, second, **fields)

    assert isinstance(outcome, Refusal)
    assert outcome.reason is RefusalReason.NOT_READY
    assert await turns_of(database, second) == []


async def test_what_we_remark_ourselves_does_not_open_the_gate(database: Database) -> None:
    """A cleared context and a further voice are no beginning."""
    _, _, second = await chained(database)

    async with running(database) as engine:
        await database.write(memory.clear, second, "ann")
        await database.write(voicing.add_voice, second, NewVoice("Bob", BINDING), "ann")
        found = await view(engine, second)
        outcome = await rung(engine, second)

    assert found.state.value == "not_started"
    assert isinstance(outcome, Refusal)


async def test_what_has_started_is_held_back_no_more(database: Database) -> None:
    """Whatever becomes of what it depended on."""
    _, first, second = await chained(database, field="verdict", value="FINE")
    await determined(database, first, verdict="FINE")

    async with running(database) as engine:
        begun = await engine.accept(session=second)
        await engine.result(begun.turn)
        await determined(database, first, verdict="FRAUD")
        outcome = await rung(engine, second)
        assert isinstance(outcome, Accepted)
        await engine.result(outcome.turn)

    assert outcome.session == second


# -- races ----------------------------------------------------------------------------------------


async def test_two_messages_at_once_pass_or_fail_together(database: Database) -> None:
    """In one group or in two."""
    _, first, second = await chained(database)

    async with running(database) as engine:
        refused = await asyncio.gather(*(rung(engine, second) for _ in range(2)))
        await determined(database, first, verdict="FINE")
        accepted = await asyncio.gather(*(rung(engine, second) for _ in range(2)))
        numbers = [one.number for one in accepted if isinstance(one, Accepted)]
        for one in accepted:
            assert isinstance(one, Accepted)
            await engine.result(one.turn)

    assert [one.reason for one in refused if isinstance(one, Refusal)] == [
        RefusalReason.NOT_READY
    ] * 2
    assert len(set(numbers)) == 2


async def test_the_second_of_a_group_sees_that_the_first_one_started(database: Database) -> None:
    """Though both were taken in one transaction."""
    _, first, second = await chained(database)
    await determined(database, first, verdict="FINE")

    outcomes = await database.write(_grouped, second, ({}, {"starts": True}))

    assert isinstance(outcomes[0], Accepted)
    assert outcomes[1] == Refusal(RefusalReason.FORBIDDEN, "the session has started already")


def _grouped(
    conn: sa.Connection, session: SessionId, wanted: tuple[Mapping[str, Any], ...]
) -> list[Accepted | Refusal]:
    new = [_received(ring(session=session, **fields)) for fields in wanted]
    inbox.insert(conn, [one for _, one in new], at=AT)
    found = acceptance.accept(conn, new, queue_limit=5, at=AT)
    return [found[one.key].outcome for _, one in new]


def _received(one: Ring) -> tuple[Ring, Received]:
    turn = TurnId(new_id())
    stored = Received(
        one.channel, one.source, one.event_key, InboxState.ACCEPTED, b"", b"", turn=turn
    )
    return one, stored


async def test_a_start_and_a_message_at_once_never_start_twice(database: Database) -> None:
    """Whichever comes second: the message follows, and the start is refused."""
    _, first, second = await chained(database)
    await determined(database, first, verdict="FINE")

    async with running(database) as engine:
        outcomes = await asyncio.gather(
            rung(engine, second, text="hello"),
            *(rung(engine, second, text="Look.", event_key="s", starts=True) for _ in range(2)),
        )
        for one in outcomes:
            if isinstance(one, Accepted):
                await engine.result(one.turn)
        said = await database.read(sessions.history, second, after=0, limit=50)

    words = [one.text for one in said if one.text in ("hello", "Look.")]
    assert words in (["hello"], ["Look.", "hello"])


async def test_of_two_triggers_at_once_one_brings_the_request(database: Database) -> None:
    """Both are heard; what the session is about is said once, and first."""
    project = await project_of(database)
    session = await session_of(database, project, title="Daily", request="Look.", tools=())
    stored = await database.read(projects.get, project)
    assert stored is not None

    async with running(database) as engine:
        outcomes = await asyncio.gather(
            *(
                engine.intake.accept(
                    ring(text=f"news {n}", session_key=None, investigation=(stored.name, "daily"))
                )
                for n in range(2)
            )
        )
        for one in outcomes:
            assert isinstance(one, Accepted)
            await engine.result(one.turn)
        said = await database.read(sessions.history, session, after=0, limit=50)

    words = [one.text for one in said if "news" in one.text and one.voice is None]
    assert words[0].startswith("Look.\n\nnews")
    assert words[1] in ("news 0", "news 1")


# -- what it costs --------------------------------------------------------------------------------


async def test_plain_sessions_pay_nothing(database: Database) -> None:
    """No statement asks for dependencies or projects."""
    plain = await session_of(database, None, tools=())
    await _grouped_statements(database, plain)

    statements = await _grouped_statements(database, plain)

    assert [one for one in statements if "dependencies" in one or "project" in _tables(one)] == []


def _tables(statement: str) -> str:
    return statement.partition(" FROM ")[2]


async def _grouped_statements(database: Database, session: SessionId) -> list[str]:
    return await database.write(_watched, _grouped, session, ({},))


def _watched(conn: sa.Connection, work: Callable[..., object], *args: object) -> list[str]:
    """The statements of some work."""
    seen: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    sa.event.listen(conn, "before_cursor_execute", note)
    try:
        work(conn, *args)
    finally:
        sa.event.remove(conn, "before_cursor_execute", note)
    return seen


async def test_a_project_is_read_by_as_many_queries_as_a_session(database: Database) -> None:
    """However many sessions it has."""
    small, _, _ = await chained(database)
    large = await project_of(database, name="Large")
    before: tuple[Dependency, ...] = ()
    for place in range(12):
        one = await session_of(
            database, large, title=f"No. {place}", after=before, schema=SCHEMA, tools=()
        )
        before = (Dependency(one),)

    agents = ScriptedAgents()
    few = await database.read(_watched, views_of, agents, small)
    many = await database.read(_watched, views_of, agents, large)
    found = await database.read(views_of, agents, large)

    assert len(few) == len(many) <= 10
    assert [len(one.dependencies) for one in found] == [0, *[1] * 11]


# -- what new sessions are ------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "shared"])
async def test_a_new_session_of_a_ring_comes_with_its_schema(
    database: Database, key: str | None
) -> None:
    """One that is there already keeps its own."""
    wanted = {"verdict": "FRAUD|FINE"}

    async with running(database) as engine:
        made = await engine.accept(session_key=key, schema=wanted)
        await engine.result(made.turn)
        again = await engine.accept(session=made.session, schema={"other": "String"})
        await engine.result(again.turn)
        plain = await engine.accept(session_key=None)
        await engine.result(plain.turn)

    found = await database.read(investigations.of_many, [made.session, plain.session])
    stored = await database.read(sessions.get, made.session)
    assert {one: each.schema for one, each in found.items()} == {made.session: Schema.parse(wanted)}
    assert stored is not None
    assert stored.investigated


async def test_the_first_words_make_a_title_that_nobody_has(database: Database) -> None:
    """In a project, where titles tell sessions apart."""
    project = await project_of(database)
    await session_of(database, project, title="Who paid?", tools=())
    untitled = await session_of(database, project, title=None, tools=())

    async with running(database) as engine:
        begun = await engine.accept("who paid?", session=untitled)
        await engine.result(begun.turn)

    assert await database.read(projects.titles, project) == ["Who paid?", "who paid? 2"]
