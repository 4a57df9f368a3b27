"""The lists of sessions: what is in them, in which order, page by page, and how it leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa

from service.core.model import (
    Address,
    Binding,
    Channel,
    Message,
    NewEvent,
    Role,
    SessionId,
    Source,
    TurnId,
)
from service.core.states import OccurrenceState, TurnState
from service.store import audit, feed, lists, occurrences, sessions, tables, turns
from service.store.database import Database
from service.store.ids import new_id
from service.store.lists import View
from service.store.sessions import NewSession

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BINDING = Binding("assistant", "offline", "echo", "Be brief.")
_minutes = count(1)


def _later() -> datetime:
    return NOW + timedelta(minutes=next(_minutes))


def _begin(
    conn: sa.Connection, /, *, said: int = 1, owner: str = "operator", **values: Any
) -> SessionId:
    """A session in which something was said, unless `said` is 0."""
    new = NewSession(
        id=SessionId(new_id()),
        binding=BINDING,
        owner=owner,
        source=Source.MANUAL,
        origin=Channel.CONSOLE,
        **values,
    )
    sessions.insert(conn, [new], at=_later(), last_event=0)
    for _ in range(said):
        _say(conn, new.id)
    return new.id


def _say(conn: sa.Connection, session: SessionId, text: str = "hi", at: datetime = NOW) -> None:
    newest = feed.lock(conn, {session: ()})[session]
    number = newest + 1
    at = _later() if at is NOW else at
    message = Message(
        number=number, role=Role.USER, author="operator", text=text, status="complete", at=at
    )
    sessions.add_message(conn, session, message, turn_number=number)
    feed.record(conn, session, [NewEvent("message.added", {})], newest=newest, at=at)


def _queue(conn: sa.Connection, session: SessionId) -> TurnId:
    newest = feed.lock(conn, {session: ()})[session]
    turn = TurnId(new_id())
    turns.insert_compaction(
        conn, turn, session, number=newest + 1, author="operator", at=NOW - timedelta(days=1)
    )
    feed.record(conn, session, [NewEvent("turn.queued", {}, turn)], newest=newest, at=_later())
    return turn


def _claim(conn: sa.Connection) -> list[TurnId]:
    found = turns.claim(conn, owner="me", lease=timedelta(minutes=1), limit=10)
    return [turn.id for turn in found]


def _run(
    conn: sa.Connection, session: SessionId, task: str, at: datetime, *, manual: bool = False
) -> None:
    """Let a task ring in a session, and its turn take two seconds."""
    turn = _queue(conn, session)
    occurrence = occurrences.record(conn, task, at, state=OccurrenceState.DUE, at=at, manual=manual)
    assert occurrence is not None
    moved = occurrences.move(
        conn,
        occurrence,
        old=OccurrenceState.DUE,
        new=OccurrenceState.QUEUED,
        turn_id=turn,
        session_id=session,
    )
    assert moved
    values = {"started_at": at, "finished_at": at + timedelta(seconds=2), "state": "succeeded"}
    conn.execute(tables.turns.update().where(tables.turns.c.id == turn).values(values))
    occurrences.finish(conn, occurrence, failed=None, at=at + timedelta(seconds=2))


async def _ids(database: Database, view: View = View.ACTIVE, **query: Any) -> list[SessionId]:
    found = await database.read(lists.page, view, limit=100, **query)
    return [one.session.id for one in found]


async def _one(database: Database, session: SessionId) -> lists.Listed:
    found = await database.read(lists.get, session)
    assert found is not None
    return found


# -- what is in them, and where -------------------------------------------------------------------


async def test_pinned_ones_come_first_then_the_last_used(database: Database) -> None:
    """Whatever was pinned stays on top; the rest follows what people do."""
    old, pinned, new = [await database.write(_begin, sticky=one == 1) for one in range(3)]
    await database.write(_say, old)

    found = await _ids(database)

    assert found == [pinned, old, new]


async def test_of_empty_sessions_only_the_newest_is_shown(database: Database) -> None:
    """Whoever has just begun one finds it again; older ones are ghosts."""
    spoken = await database.write(_begin)
    for _ in range(3):
        newest = await database.write(_begin, said=0)

    found = await _ids(database)

    assert found == [newest, spoken]


async def test_everybody_finds_the_session_they_have_just_begun(database: Database) -> None:
    """It does not vanish because somebody else began one; their own older one does."""
    _, anns, bobs = [
        await database.write(_begin, said=0, owner=owner) for owner in ("ann", "ann", "bob")
    ]

    assert await _ids(database) == [bobs, anns]


async def test_an_empty_session_is_shown_although_another_was_used_since(
    database: Database,
) -> None:
    """It does not vanish because a message arrived elsewhere."""
    empty = await database.write(_begin, said=0)
    spoken = await database.write(_begin)

    assert await _ids(database) == [spoken, empty]


async def test_archived_ones_are_in_a_list_of_their_own(database: Database) -> None:
    """The last archived one first; the active list does without them, scheduled or not."""
    kept, first, second = [await database.write(_begin, task="daily") for _ in range(3)]
    await database.write(lists.archive, [second], at=NOW)
    await database.write(lists.archive, [first], at=NOW + timedelta(hours=1))

    assert await _ids(database, View.ARCHIVED) == [first, second]
    assert await _ids(database) == [kept]
    assert await _ids(database, View.SCHEDULED) == [kept]


async def test_scheduled_ones_come_by_task_the_newest_first(database: Database) -> None:
    """Only those a task made."""
    await database.write(_begin)
    weekly = await database.write(_begin, task="weekly")
    first, second = [await database.write(_begin, task="daily") for _ in range(2)]
    await database.write(_say, first)

    assert await _ids(database, View.SCHEDULED) == [second, first, weekly]


@pytest.mark.parametrize("view", View)
async def test_every_session_is_on_one_page(database: Database, view: View) -> None:
    """Also where many are the same in everything but their id."""
    made = {await database.write(_begin, task=f"task-{number % 3}") for number in range(9)}
    everything = tables.sessions.update().values(active_at=NOW, sticky=sa.false())
    await database.write(_execute, everything)
    if view is View.ARCHIVED:
        await database.write(lists.archive, list(made), at=NOW)

    whole, seen = await _ids(database, view), []
    after = None
    while found := await database.read(lists.page, view, limit=2, after=after):
        seen += [one.session.id for one in found]
        after = lists.place_of(found[-1])

    assert seen == whole
    assert set(seen) == made
    assert len(seen) == len(made)


async def test_pages_go_on_from_the_pinned_to_the_others(database: Database) -> None:
    """However long ago the pinned ones were used."""
    made = [await database.write(_begin, sticky=number < 2) for number in range(4)]
    first = await database.read(lists.page, limit=1)

    rest = await _ids(database, after=lists.place_of(first[0]))

    assert [one.session.id for one in first] == [made[1]]
    assert rest == [made[0], made[3], made[2]]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("plan", ["A plan", "PLANS"]),
        ("100%", ["100% sure"]),
        ("_", ["under_score"]),
        ("\\", ["back\\slash"]),
        ("'; --", []),
        ("Füße", ["Füße"]),
    ],
)
async def test_titles_are_looked_for_literally(
    database: Database, wanted: str, found: list[str]
) -> None:
    """Nothing in them is a pattern; capitals make no difference."""
    titles = ["under_score", "100% sure", "back\\slash", "PLANS", "A plan", "Füße", None]
    for title in titles:
        await database.write(_begin, title=title)

    listed = await database.read(lists.page, limit=10, title=wanted)

    assert [one.session.title for one in listed] == found


# -- what they say --------------------------------------------------------------------------------


async def test_a_list_says_what_a_session_is_doing(database: Database) -> None:
    """The turn at its head counts: what runs, before what waits behind it."""
    session = await database.write(_begin)
    quiet = await _one(database, session)
    for _ in range(2):
        await database.write(_queue, session)
    queued = await _one(database, session)
    await database.write(_claim)
    running = (await database.read(lists.page, limit=1))[0]

    states = [quiet.state, queued.state, running.state]
    assert states == [None, TurnState.QUEUED, TurnState.RUNNING]


async def test_what_nobody_has_looked_at_is_unread(database: Database) -> None:
    """Until somebody has; events that are no messages make nothing unread."""
    session = await database.write(_begin)
    before = (await _one(database, session)).unread
    said = (await _one(database, session)).session.last_message
    await database.write(lists.change, session, read_to=said)
    await database.write(_queue, session)
    after = (await _one(database, session)).unread
    await database.write(_say, session)

    assert (before, after, (await _one(database, session)).unread) == (True, False, True)


async def test_a_scheduled_session_tells_of_its_last_run(database: Database) -> None:
    """When it was due, by whom, how it went and how long it took."""
    session = await database.write(_begin, task="daily")
    await database.write(_run, session, "daily", NOW - timedelta(days=1))
    await database.write(_run, session, "daily", NOW, manual=True)

    run = (await database.read(lists.page, View.SCHEDULED, limit=1))[0].run

    assert run is not None
    assert (run.scheduled_at, run.manual, run.state) == (NOW, True, OccurrenceState.DONE)
    assert run.duration == timedelta(seconds=2)
    assert run == (await _one(database, session)).run


async def test_a_run_that_is_not_over_took_no_time_yet(database: Database) -> None:
    """There is no duration to show."""
    session = await database.write(_begin, task="daily")
    await database.write(_run, session, "daily", NOW)
    await database.write(_execute, tables.turns.update().values(finished_at=None))

    run = (await _one(database, session)).run

    assert run is not None
    assert run.duration is None


async def test_no_session_is_none(database: Database) -> None:
    """As everywhere in the store."""
    assert await database.read(lists.get, SessionId("nobody")) is None


async def test_many_are_read_at_once(database: Database) -> None:
    """In the order they were asked for, as each one alone; those that are gone are left out."""
    first, second = [await database.write(_begin, task="daily") for _ in range(2)]
    await database.write(_run, second, "daily", NOW)
    wanted = [second, SessionId("nobody"), first]

    found = await database.read(lists.get_many, wanted)

    assert found == [await _one(database, second), await _one(database, first)]


@pytest.mark.parametrize("wanted", ["élan", "ÉLAN", "Жизнь", "жИЗНЬ", "τήσ", "ΤΉΣ", "strasse"])
async def test_titles_are_looked_for_in_any_case(database: Database, wanted: str) -> None:
    """Also beyond ASCII, whatever the server was set up with."""
    found = await database.write(_begin, title="L'Élan, жизнь, τήσε, Straße")
    await database.write(_begin, title="elan")

    assert await _ids(database, title=wanted) == [found]


# -- archive and restore --------------------------------------------------------------------------


async def test_restoring_gives_the_key_back(database: Database) -> None:
    """So that a chat goes on where it was."""
    session = await database.write(_begin, key="k")
    await database.write(lists.archive, [session], at=NOW)
    meanwhile = (await _one(database, session)).session

    had = await database.write(lists.restore, session)

    restored = (await _one(database, session)).session
    assert (meanwhile.key, meanwhile.archived) == (None, True)
    assert (had, restored.key, restored.archived) == (True, "k", False)


async def test_a_key_somebody_has_is_not_taken_from_them(database: Database) -> None:
    """The next ring made a session of its own; that one keeps it, also after another try."""
    session = await database.write(_begin, key="k")
    await database.write(lists.archive, [session], at=NOW)
    other = await database.write(_begin, key="k")

    had = await database.write(lists.restore, session)

    assert had is False
    assert (await _one(database, session)).session.key is None
    assert (await _one(database, other)).session.key == "k"


async def test_idle_sessions_are_those_nobody_needs(database: Database) -> None:
    """Not the pinned, the busy, those a chat lives in, or the archived; the oldest first."""
    idle, later = await database.write(_begin), await database.write(_begin)
    await database.write(_begin, sticky=True)
    await database.write(_begin, home=Address(Channel.TELEGRAM, "1:7"))
    await database.write(_queue, await database.write(_begin))
    await database.write(lists.archive, [await database.write(_begin)], at=NOW)
    end = _later()
    await database.write(_begin)

    found = await database.write(lists.lock_idle, before=end, limit=10)
    first = await database.write(lists.lock_idle, before=end, limit=1)

    assert {one.id for one in found} == {idle, later}
    assert [one.id for one in first] == [idle]


# -- delete ---------------------------------------------------------------------------------------


async def test_nothing_of_a_deleted_session_is_left(database: Database) -> None:
    """But what its task did and who did what; other sessions do not notice."""
    gone, kept = await database.write(_begin), await database.write(_begin)
    for session in (gone, kept):
        await database.write(_fill, session)
        await database.write(_run, session, f"of-{session}", NOW)

    deleted = await database.write(lists.delete, gone)
    again = await database.write(lists.delete, gone)

    rows = await database.read(_rows)
    referring = {table for table, of in rows if of == gone}
    assert (deleted, again) == (True, False)
    assert referring == {"audit"}
    assert {table for table, of in rows if of == kept} == set(_OF_SESSION) | {"audit"}
    left = await database.read(occurrences.newest, f"of-{gone}", limit=1)
    assert [(one.state, one.session, one.turn) for one in left] == [
        (OccurrenceState.DONE, None, None)
    ]


async def test_deleting_looks_nothing_through(database: Database) -> None:
    """Whatever refers to something is found by an index: with millions of rows it has to be."""
    without = await database.read(_unindexed)

    assert without == []


@pytest.mark.parametrize("view", View)
async def test_lists_are_read_in_the_order_of_an_index(local: Database, view: View) -> None:
    """Nothing is sorted, and nothing looked through: with 50,000 sessions it shows."""
    for number in range(2):
        await local.write(_begin, task=f"task-{number}")
    if view is View.ARCHIVED:
        await local.write(_execute, tables.sessions.update().values(archived_at=NOW))
    after = lists.place_of((await local.read(lists.page, view, limit=1))[0])

    plans = [
        await local.read(_plan, view, None),
        await local.read(_plan, view, after),
        await local.read(_plan, view, after, reader="ann"),
    ]

    assert not [step for plan in plans for step in plan if "TEMP B-TREE" in step]
    assert not [step for plan in plans for step in plan if step == "SCAN sessions"]


@pytest.fixture
async def local(sqlite_url: str) -> Any:
    """An open SQLite file."""
    database = Database(sqlite_url)
    await database.open()
    yield database
    await database.close()


# -- beside the store -----------------------------------------------------------------------------

_OF_SESSION = (
    "attachments",
    "deliveries",
    "dependencies",
    "events",
    "investigations",
    "key_results",
    "messages",
    "occurrences",
    "questions",
    "session_state",
    "turns",
    "voices",
)


def _execute(conn: sa.Connection, statement: sa.Executable) -> None:
    conn.execute(statement)


def _fill(conn: sa.Connection, session: SessionId) -> None:
    """Rows of every kind that belong to a session."""
    turn = _queue(conn, session)
    reply = new_id()
    audit.note(conn, "operator", "interrupt", session=session, allowed=True, at=NOW)
    for table, values in (
        ("replies", {"id": reply, "turn_id": turn, "voice_id": "v", "round": 1}),
        ("iterations", {"reply_id": reply, "number": 0}),
        ("tool_calls", {"reply_id": reply, "iteration": 0, "ordinal": 0, "call_id": "c"}),
        ("questions", {"id": new_id(), "session_id": session, "turn_id": turn, "reply_id": reply}),
        ("session_state", {"session_id": session, "kind": "state", "name": "n", "value": 1}),
        ("attachments", {"id": new_id(), "session_id": session, "message_number": 1}),
        ("deliveries", {"id": new_id(), "session_id": session, "turn_id": turn}),
        ("investigations", {"session_id": session}),
        ("dependencies", {"session_id": session, "upstream_id": new_id()}),
        ("key_results", {"session_id": session, "name": "r", "reply_id": reply}),
    ):
        conn.execute(tables.metadata.tables[table].insert().values(_whole(table, values)))


def _whole(table: str, values: dict[str, Any]) -> dict[str, Any]:
    """The same with something in every column that needs it."""
    state = _STATES.get(table, "done")
    chosen = {"state": state, "kind": "question", "choices": [], "options": {}, "display": "table"}
    made = dict(values)
    for column in tables.metadata.tables[table].c:
        if column.name in made or column.nullable or column.server_default is not None:
            continue
        made[column.name] = chosen.get(column.name, _sample(column))
    return made


_STATES = {"questions": "answered", "deliveries": "pending", "replies": "done"}


def _sample(column: sa.Column[Any]) -> Any:
    kind = column.type
    if isinstance(kind, sa.Integer):
        return 0
    if isinstance(kind, (sa.Text, sa.String)):
        return "x"
    return {} if isinstance(kind, sa.JSON) else NOW


def _rows(conn: sa.Connection) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for name, table in tables.metadata.tables.items():
        if "session_id" in table.c:
            of = conn.scalars(sa.select(table.c.session_id).distinct())
            found |= {(name, one) for one in of if one is not None}
    return found


def _unindexed(conn: sa.Connection) -> list[str]:
    """References whose columns no index, key or constraint begins with."""
    inspector = sa.inspect(conn)
    found = []
    for table in tables.metadata.tables:
        leading: list[Sequence[str | None]] = [
            inspector.get_pk_constraint(table)["constrained_columns"]
        ]
        leading += [one["column_names"] for one in inspector.get_unique_constraints(table)]
        leading += [
            one["column_names"]
            for one in inspector.get_indexes(table)
            if not any("where" in option for option in one.get("dialect_options", {}))
        ]
        for key in inspector.get_foreign_keys(table):
            columns = key["constrained_columns"]
            if not any(one[: len(columns)] == columns for one in leading):
                found.append(f"{table}.{columns}")
    return found


def _plan(
    conn: sa.Connection, view: View, after: lists.Place | None, reader: str | None = None
) -> list[str]:
    """How SQLite goes about a page."""
    asked: list[tuple[str, Any]] = []

    def note(*details: Any) -> None:
        asked.append((details[2], details[3]))

    sa.event.listen(conn, "before_cursor_execute", note)
    lists.page(conn, view, limit=50, after=after, reader=reader)
    sa.event.remove(conn, "before_cursor_execute", note)
    statement, values = asked[0]
    return [row.detail for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
