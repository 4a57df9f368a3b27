"""Sessions as people keep them: names, pins, the archive by hand and by time, and deletion."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from service.core.model import Event, NewVoice, Refusal, RefusalReason, SessionId
from service.core.rounds import Mode
from service.core.states import TurnState
from service.engine.controls import Command
from service.engine.housekeeping import Housekeeping
from service.engine.keeping import NotKept
from service.engine.voicing import SetUp
from service.errors import BadInput
from service.ports import Finished, TextDelta
from service.store import audit, lists, sessions, tables
from service.store.database import Database
from service.store.lists import View
from service.store.sessions import Session
from service.store.sql import insert_many
from tests.engine.engine import BINDING, CHAT, Engine, ring, running
from tests.fakes import ScriptedAgents

NOBODY = SessionId("01900000-0000-7000-8000-000000000000")
MONTH = timedelta(days=30)

_Do = Callable[[Command, SessionId], Awaitable[NotKept | None]]


async def _pin(command: Command, session: SessionId) -> NotKept | None:
    return await command.pin(session, sticky=True, by="ann")


async def _unpin(command: Command, session: SessionId) -> NotKept | None:
    return await command.pin(session, sticky=False, by="ann")


async def _rename(command: Command, session: SessionId) -> NotKept | None:
    return await command.rename(session, "Plans", by="ann")


async def _archive(command: Command, session: SessionId) -> NotKept | None:
    return await command.archive(session, by="ann")


async def _restore(command: Command, session: SessionId) -> NotKept | None:
    return await command.restore(session, by="ann")


async def _read(command: Command, session: SessionId) -> NotKept | None:
    return await command.read(session)


async def _delete(command: Command, session: SessionId) -> NotKept | None:
    return await command.delete(session, by="ann")


async def _do(engine: Engine, do: _Do, session: SessionId) -> NotKept | None:
    async with engine.controls.steps() as command:
        return await do(command, session)


async def _begin(engine: Engine, text: str = "hi", **fields: object) -> SessionId:
    """A session whose first turn is over."""
    accepted = await engine.accept(text, **fields)
    await engine.result(accepted.turn)
    return accepted.session


async def _session(engine: Engine, session: SessionId) -> Session:
    found = await engine.database.read(sessions.get, session)
    assert found is not None
    return found


async def _changes(engine: Engine, session: SessionId) -> list[Mapping[str, Any]]:
    """What was told of a session since it was made, beside its turns."""
    newest = (await _session(engine, session)).last_event
    found = []
    async with asyncio.timeout(60), aclosing(engine.feed.follow(session, after=0)) as events:
        async for event in events:
            if event.kind == "session.changed":
                found.append(event.data)
            if event.number == newest:
                return found
    raise AssertionError("the feed ended")


async def _audited(engine: Engine, session: SessionId) -> list[tuple[str, str, bool]]:
    found = await engine.database.read(audit.newest, limit=50)
    return [(one.principal, one.action, one.allowed) for one in found if one.session == session]


def _waiting(until: asyncio.Event) -> ScriptedAgents:
    return ScriptedAgents([[TextDelta("Well, "), until, TextDelta("hello."), Finished()]])


# -- titles ---------------------------------------------------------------------------------------


async def test_the_first_message_names_a_session(database: Database) -> None:
    """At about sixty characters, between words; later messages do not."""
    async with running(database) as engine:
        session = await _begin(engine, "word " * 30)
        await _begin(engine, "something else")

    title = (await _session(engine, session)).title
    assert title is not None
    assert title.endswith("word…")
    assert 50 < len(title) <= 60


async def test_a_title_somebody_chose_is_kept(database: Database) -> None:
    """Whatever is said afterwards; and people are told."""
    async with running(database) as engine:
        session = await _begin(engine)
        refused = await _do(engine, _rename, session)
        await _begin(engine, "A much better title")
        await database.write(sessions.give_titles, {session: "Another"})
        found = await _session(engine, session)
        told = await _changes(engine, session)

    assert refused is None
    assert (found.title, found.titled) == ("Plans", True)
    assert told == [{"what": "renamed", "title": "Plans", "by": "ann"}]


async def test_keeping_is_no_activity(database: Database) -> None:
    """What people do to a list does not shuffle it."""
    async with running(database) as engine:
        session = await _begin(engine)
        before = (await _session(engine, session)).active_at
        for do in (_rename, _pin, _unpin, _read):
            await _do(engine, do, session)

    assert (await _session(engine, session)).active_at == before


# -- pins and the archive -------------------------------------------------------------------------


async def test_a_pinned_session_is_not_archived(database: Database) -> None:
    """Not until it is unpinned; the attempt is written down."""
    async with running(database) as engine:
        session = await _begin(engine)
        outcomes = [await _do(engine, do, session) for do in (_pin, _archive, _unpin, _archive)]
        told = [one["what"] for one in await _changes(engine, session)]

    assert outcomes == [None, NotKept.PINNED, None, None]
    assert "unpin it" in NotKept.PINNED.detail
    assert told == ["pinned", "unpinned", "archived"]
    assert await _audited(engine, session) == [("ann", "archive", True), ("ann", "archive", False)]


@pytest.mark.parametrize("do", [_pin, _unpin, _rename])
async def test_an_archived_session_stays_as_it_is(database: Database, do: _Do) -> None:
    """It is read-only, and the way out is named."""
    async with running(database) as engine:
        session = await _begin(engine)
        await _do(engine, _archive, session)
        before = await _session(engine, session)

        refused = await _do(engine, do, session)

    assert refused is NotKept.ARCHIVED
    assert "restore it" in refused.detail
    assert await _session(engine, session) == before


async def _clear(command: Command, session: SessionId) -> None:
    await command.clear(session, by="ann")


async def _remember(command: Command, session: SessionId) -> None:
    await command.set_state(session, "a", 1)


async def _conduct(command: Command, session: SessionId) -> None:
    await command.set_up(session, SetUp(mode=Mode.CONDUCTOR), by="ann")


async def _lengthen(command: Command, session: SessionId) -> object:
    [one] = (await command.company(session)).voices  # type: ignore[union-attr]
    return await command.set_voice(session, one.voice.id, rounds=1)


async def _join(command: Command, session: SessionId) -> object:
    return await command.add_voice(session, NewVoice("Bob", BINDING), by="ann")


@pytest.mark.parametrize("change", [_clear, _remember, _conduct, _lengthen, _join])
async def test_nobody_changes_how_an_archived_session_goes_on(
    database: Database, change: Callable[[Command, SessionId], Awaitable[object]]
) -> None:
    """Neither who speaks in it nor what it remembers, from whichever side it is tried."""
    async with running(database) as engine:
        session = await _begin(engine)
        await _do(engine, _archive, session)
        before = await _session(engine, session)

        with pytest.raises(BadInput, match="restore it first"):
            async with engine.controls.steps() as command:
                await change(command, session)

    assert await _session(engine, session) == before


async def test_an_archived_session_takes_no_message(database: Database) -> None:
    """It says so instead of answering."""
    async with running(database) as engine:
        session = await _begin(engine)
        await _do(engine, _archive, session)

        outcome = await engine.intake.accept(ring(session=session))

    assert isinstance(outcome, Refusal)
    assert outcome.reason is RefusalReason.ARCHIVED


async def test_the_next_ring_after_archiving_begins_anew(database: Database) -> None:
    """Its chat or key goes to a session of its own, which keeps it when the old one returns."""
    async with running(database) as engine:
        first = await _begin(engine)
        key = (await _session(engine, first)).key
        await _do(engine, _archive, first)
        second = await _begin(engine)
        await _do(engine, _restore, first)

    assert first != second
    assert (await _session(engine, second)).key == key
    assert (await _session(engine, first)).key is None


async def test_a_restored_session_goes_on_where_it_was(database: Database) -> None:
    """With its key, when nobody took it, and as one that was used just now."""
    async with running(database) as engine:
        session = await _begin(engine)
        await _do(engine, _archive, session)
        archived = await _session(engine, session)
        await _do(engine, _restore, session)
        restored = await _session(engine, session)
        again = await _begin(engine)

    assert again == session
    assert (archived.archived, restored.archived) == (True, False)
    assert restored.active_at > archived.active_at


async def test_a_busy_session_is_not_archived(database: Database) -> None:
    """Not while it answers or has a message waiting."""
    until = asyncio.Event()
    async with running(database, _waiting(until)) as engine:
        accepted = await engine.accept()
        await engine.until(accepted, "text")
        running_ = await _do(engine, _archive, accepted.session)
        until.set()
        await engine.result(accepted.turn)
        idle = await _do(engine, _archive, accepted.session)

    assert (running_, idle) == (NotKept.BUSY, None)


@pytest.mark.parametrize("do", [_pin, _archive, _restore, _read])
async def test_doing_it_again_changes_nothing(database: Database, do: _Do) -> None:
    """Nor is it told twice."""
    async with running(database) as engine:
        session = await _begin(engine)
        await _do(engine, do, session)
        before = await _session(engine, session)

        again = await _do(engine, do, session)

    assert again is None
    assert await _session(engine, session) == before


@pytest.mark.parametrize("do", [_pin, _unpin, _rename, _archive, _restore, _read, _delete])
async def test_nobody_keeps_what_is_not_there(database: Database, do: _Do) -> None:
    """It is refused as such."""
    async with running(database) as engine:
        refused = await _do(engine, do, NOBODY)

    assert refused is NotKept.UNKNOWN
    assert await _audited(engine, NOBODY) == []


# -- read marks -----------------------------------------------------------------------------------


async def test_an_answer_is_unread_until_somebody_looks(database: Database) -> None:
    """That changes no number of the feed; the next message is unread again."""
    async with running(database) as engine:
        session = await _begin(engine)
        before = await _listed(engine, session)
        await _do(engine, _read, session)
        after = await _listed(engine, session)
        await _begin(engine)
        again = await _listed(engine, session)

    assert (before.unread, after.unread, again.unread) == (True, False, True)
    assert before.session.last_event == after.session.last_event


async def test_lists_learn_of_every_change(database: Database) -> None:
    """Also of read marks, which are no events."""
    seen: list[tuple[SessionId, list[object]]] = []

    def note(session: SessionId, events: Sequence[Event]) -> None:
        seen.append((session, [event.data["what"] for event in events]))

    async with running(database) as engine:
        session = await _begin(engine)
        engine.feed.watch(note)
        for do in (_read, _rename):
            await _do(engine, do, session)

    assert seen == [(session, []), (session, ["renamed"])]


async def _listed(engine: Engine, session: SessionId) -> lists.Listed:
    found = await engine.database.read(lists.get, session)
    assert found is not None
    return found


# -- delete ---------------------------------------------------------------------------------------


async def test_a_deleted_session_is_gone_for_good(database: Database) -> None:
    """Pinned or archived; who did it stays written down, and the next ring begins anew."""
    async with running(database) as engine:
        session = await _begin(engine)
        await _do(engine, _pin, session)
        refused = await _do(engine, _delete, session)
        gone = await database.read(sessions.get, session)
        after = await _begin(engine)

    assert (refused, gone) == (None, None)
    assert after != session
    assert ("ann", "delete", True) in await _audited(engine, session)


async def test_what_a_deleted_session_received_goes_with_it(database: Database) -> None:
    """Byte for byte; a late repeat still begins nothing, and other sessions keep theirs."""
    async with running(database) as engine:
        session = await _begin(engine, event_key="first", body=b"Tell nobody")
        await _begin(engine, event_key="other", body=b"Tell everybody", session_key="other")
        await engine.controls.delete(session, by="ann")
        repeated = await engine.intake.accept(ring(event_key="first", body=b"Tell nobody"))
        kept = await database.read(_bodies)

    assert isinstance(repeated, Refusal)
    assert kept == {"first": b"", "other": b"Tell everybody"}


async def test_a_long_session_is_deleted_in_steps(database: Database) -> None:
    """Nothing of it is left; others are untouched."""
    async with running(database) as engine:
        session, other = await _begin(engine, session_key="long"), await _begin(engine)
        await database.write(_say, session, 1_200)
        refused = await engine.controls.delete(session, by="ann")
        left = await database.read(_said)

    assert refused is None
    assert left == {other}


async def test_deleting_ends_what_runs(database: Database) -> None:
    """Its worker is free for others, and nothing of the turn comes back."""
    until = asyncio.Event()
    async with running(database, _waiting(until)) as engine:
        accepted = await engine.accept(answer_to=[CHAT])
        await engine.until(accepted, "text")
        waiting = await engine.accept()
        await _do(engine, _delete, accepted.session)
        until.set()
        other = await engine.accept()
        result = await engine.result(other.turn)
        left = await database.read(_turns)

    assert result.turn.state is TurnState.SUCCEEDED
    assert left == [other.turn]
    assert waiting.turn not in left


async def test_who_follows_a_deleted_session_is_told(database: Database) -> None:
    """As the last thing they hear of it."""
    async with running(database) as engine:
        session = await _begin(engine)
        newest = (await _session(engine, session)).last_event
        following = engine.feed.follow(session, after=newest)
        async with asyncio.timeout(60), aclosing(following):
            told = asyncio.ensure_future(anext(following))
            await asyncio.sleep(0)
            await _do(engine, _delete, session)
            event = await told

    assert event.data == {"what": "deleted", "by": "ann"}


def _say(conn: sa.Connection, session: SessionId, many: int) -> None:
    rows = [
        {
            "session_id": session,
            "number": 100 + number,
            "turn_number": 100 + number,
            "role": "user",
            "author": "ann",
            "text": f"line {number}",
            "status": "complete",
            "created_at": datetime.now(UTC),
        }
        for number in range(many)
    ]
    insert_many(conn, tables.messages, rows)


def _bodies(conn: sa.Connection) -> dict[str, bytes]:
    inbox = tables.inbox
    rows = conn.execute(sa.select(inbox.c.event_key, inbox.c.body))
    return {row.event_key: bytes(row.body) for row in rows}


def _said(conn: sa.Connection) -> set[SessionId]:
    return {SessionId(one) for one in conn.scalars(sa.select(tables.messages.c.session_id))}


def _turns(conn: sa.Connection) -> list[str]:
    return list(conn.scalars(sa.select(tables.turns.c.id)))


# -- by time --------------------------------------------------------------------------------------


def _housekeeping(
    engine: Engine, archive_after: timedelta, told: list[Mapping[SessionId, Sequence[Event]]]
) -> Housekeeping:
    return Housekeeping(
        engine.database,
        engine.turns,
        engine.metrics,
        attempts=3,
        keep_events=MONTH,
        keep_bodies=MONTH,
        archive_after=archive_after,
        wake=engine.wake,
        announce=told.append,
    )


async def _age(engine: Engine, *which: SessionId) -> None:
    """Let these sessions have been used last a little more than a month ago."""
    at = datetime.now(UTC) - MONTH - timedelta(hours=1)
    for session in which:
        await engine.database.write(lists.change, session, active_at=at)


async def test_what_nobody_uses_is_archived(database: Database) -> None:
    """After a month, told and written down like any other; what was used since stays."""
    told: list[Mapping[SessionId, Sequence[Event]]] = []
    async with running(database) as engine:
        old = [await _begin(engine, session_key=f"old-{number}") for number in range(3)]
        used = await _begin(engine, session_key="used")
        await _age(engine, *old)
        await _housekeeping(engine, MONTH, told).archive()
        archived = await database.read(lists.page, View.ARCHIVED, limit=10)
        changes = await _changes(engine, old[0])

    assert {one.session.id for one in archived} == set(old)
    assert not (await _session(engine, used)).archived
    assert changes == [{"what": "archived", "by": "housekeeping"}]
    assert {session for batch in told for session in batch} == set(old)
    assert await _audited(engine, old[0]) == [("housekeeping", "archive", True)]


async def test_some_sessions_are_never_archived_by_time(database: Database) -> None:
    """Pinned ones, those that wait for an answer, and those a chat lives in."""
    async with running(database) as engine:
        pinned = await _begin(engine, session_key="pinned")
        waits = await _begin(engine, session_key="waits")
        chat = await _begin(engine, session_key="chat", home=CHAT)
        await _do(engine, _pin, pinned)
        await database.write(_move_turn, waits, TurnState.WAITING)
        kept = [pinned, waits, chat]
        await _age(engine, *kept)
        await _housekeeping(engine, MONTH, []).archive()
        archived = [(await _session(engine, one)).archived for one in kept]

    assert archived == [False, False, False]


async def test_no_time_archives_nothing(database: Database) -> None:
    """It is how one turns that off."""
    async with running(database) as engine:
        session = await _begin(engine)
        await _age(engine, session)
        await _housekeeping(engine, timedelta(0), []).archive()

    assert not (await _session(engine, session)).archived


async def test_a_restored_session_is_not_archived_at_once_again(database: Database) -> None:
    """Whoever restores it wants to use it."""
    async with running(database) as engine:
        session = await _begin(engine)
        await _age(engine, session)
        house = _housekeeping(engine, MONTH, [])
        await house.archive()
        await _do(engine, _restore, session)
        await house.archive()

    assert not (await _session(engine, session)).archived


def _move_turn(conn: sa.Connection, session: SessionId, state: TurnState) -> None:
    turns = tables.turns
    conn.execute(turns.update().where(turns.c.session_id == session).values(state=state.value))
