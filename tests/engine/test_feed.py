"""Following a session: also what nobody announced is heard, and at rest nothing is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from service.core.model import Accepted, Event, NewEvent, SessionId
from service.store import feed as store
from service.store.database import Database
from tests.engine.engine import Engine
from tests.fakes import RememberingSender, ScriptedAgents


def _engine(database: Database) -> Engine:
    """An engine that claims nothing, so that no event comes by itself."""
    return Engine(database, ScriptedAgents(), RememberingSender())


async def _write(database: Database, accepted: Accepted, *texts: str) -> list[Event]:
    """Store events that nobody is told of."""
    new = [NewEvent("text", {"text": text}, accepted.turn) for text in texts]
    appended = await database.write(store.append, {accepted.session: new}, at=datetime.now(UTC))
    return appended[accepted.session]


async def _next(following: AsyncGenerator[Event], count: int) -> list[Event]:
    async with asyncio.timeout(60):
        return [await anext(following) for _ in range(count)]


def _polling() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "feed-poll"]


async def test_what_nobody_announced_is_heard(database: Database) -> None:
    """Whoever wrote it may have been cut off after the commit, or be another replica."""
    engine = _engine(database)
    first = await engine.accept()
    second = await engine.accept(session_key="telegram:2:7")
    async with (
        aclosing(engine.feed.follow(first.session, after=0)) as one,
        aclosing(engine.feed.follow(first.session, after=0)) as same,
        aclosing(engine.feed.follow(second.session, after=0)) as other,
    ):
        begun = [await _next(line, 2) for line in (one, same, other)]
        first_written = await _write(database, first, "a", "b")
        heard = [await _next(line, 2) for line in (one, same)]
        second_written = await _write(database, second, "c")
        late = await _next(other, 1)

    assert [[event.number for event in events] for events in begun] == [[1, 2]] * 3
    assert heard == [first_written, first_written]
    assert late == second_written


async def test_what_is_announced_after_a_gap_comes_whole(database: Database) -> None:
    """What was missed before it is read, each event once."""
    engine = _engine(database)
    accepted = await engine.accept()
    async with aclosing(engine.feed.follow(accepted.session, after=0)) as following:
        await _next(following, 2)
        missed = await _write(database, accepted, "a")
        told = await _write(database, accepted, "b")
        engine.feed.announce({accepted.session: told})
        heard = await _next(following, 2)

    assert heard == missed + told


async def test_one_poll_serves_all_followers(database: Database) -> None:
    """It begins with the first one and ends with the last one."""
    engine = _engine(database)
    accepted = await engine.accept()
    before = _polling()
    async with aclosing(engine.feed.follow(accepted.session, after=0)) as one:
        await _next(one, 1)
        async with aclosing(engine.feed.follow(accepted.session, after=0)) as other:
            await _next(other, 1)
            both = _polling()
        left = _polling()
    await asyncio.sleep(0)

    assert (before, len(both), left) == ([], 1, both)
    assert _polling() == []


async def test_the_newest_events_of_many_sessions(database: Database) -> None:
    """In one go, however many; those that are gone are left out."""
    engine = _engine(database)
    accepted = await engine.accept()
    nobody = [SessionId(f"nobody-{number}") for number in range(2500)]

    found = await database.read(store.newest_of, [*nobody, accepted.session])

    assert found == {accepted.session: 2}
