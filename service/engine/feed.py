"""The durable, numbered events of sessions, and the wake-up for those who follow them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from service.core.model import Event, NewEvent, SessionId, TurnId
from service.engine.groups import Groups
from service.errors import Fenced, StoreError
from service.store import feed as store
from service.store import turns
from service.store.database import Database

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_PAGE = 500
# A follower that is this far behind reads the log instead of holding events in memory.
_BACKLOG = 256
# Without a wake-up followers learn this late of what is new: another replica wrote it and its hint
# was lost, or whoever wrote it here was cut off between the commit and the announcement.
_POLL_SECONDS = 1.0


Watcher = Callable[[SessionId, Sequence[Event]], None]


@dataclass(frozen=True, slots=True)
class _Batch:
    session: SessionId
    turn: TurnId
    epoch: int
    events: Sequence[NewEvent]


@dataclass(frozen=True, slots=True)
class _Stored:
    events: Sequence[Event]
    stop: bool


@dataclass(frozen=True, slots=True)
class Appended:
    """What came of an append."""

    number: int
    """Of the last event."""
    stop: bool
    """Whether somebody wants the turn stopped."""


class _Follower:
    """What one follower has not seen yet; empties itself when it falls behind."""

    def __init__(self, after: int) -> None:
        self.wake = asyncio.Event()
        self.events: list[Event] = []
        self.behind = True
        self._known = after

    def know(self, number: int) -> bool:
        """Note the number of the newest event it has or is going to read; whether that is new."""
        new = number > self._known
        self._known = max(number, self._known)
        return new

    def tell(self, events: Sequence[Event]) -> None:
        if events:
            self.know(events[-1].number)
        if self.behind or len(self.events) + len(events) > _BACKLOG:
            self.behind = True
            self.events = []
        else:
            self.events.extend(events)
        self.wake.set()

    def poke(self) -> None:
        self.behind = True
        self.events = []
        self.wake.set()

    def take(self) -> tuple[list[Event], bool]:
        events, behind = self.events, self.behind
        self.events, self.behind = [], False
        self.wake.clear()
        return events, behind


class Feed:
    """Appends events of running turns and lets anybody follow a session.

    `hint` is told which sessions got events, so that other replicas can be woken.
    """

    def __init__(
        self, database: Database, *, hint: Callable[[SessionId], None] = lambda _: None
    ) -> None:
        self._database = database
        self._hint = hint
        self._followers: dict[SessionId, set[_Follower]] = {}
        self._watchers: list[Watcher] = []
        self._polling: asyncio.Task[None] | None = None
        self._groups: Groups[_Batch, _Stored | None] = Groups(database, _append)

    async def append(
        self, session: SessionId, turn: TurnId, epoch: int, events: Sequence[NewEvent]
    ) -> Appended:
        """Append events of a turn that is still ours and wake the followers.

        Raises Fenced. After StoreDown it is unknown whether they are there: see `newest`.
        """
        stored = await self._groups.submit(_Batch(session, turn, epoch, events))
        if stored is None:
            raise Fenced("the turn has another holder")
        self.announce({session: stored.events})
        return Appended(stored.events[-1].number, stop=stored.stop)

    async def newest(self, session: SessionId, turn: TurnId) -> int:
        """The number of the turn's newest event; 0 when it has none."""
        return await self._database.read(store.newest, session, turn)

    def announce(self, appended: Mapping[SessionId, Sequence[Event]]) -> None:
        """Wake those who follow these sessions; call it after the commit."""
        for session, events in appended.items():
            for follower in self._followers.get(session, ()):
                follower.tell(events)
            for watcher in self._watchers:
                watcher(session, events)
            self._hint(session)

    def poke(self, session: SessionId) -> None:
        """Make local followers of a session read the log: another replica wrote to it."""
        for follower in self._followers.get(session, ()):
            follower.poke()
        for watcher in self._watchers:
            watcher(session, ())

    def watch(self, watcher: Watcher) -> None:
        """Have `watcher` called for every session that gets events, for good.

        It must be quick; it is called without events when another replica wrote them.
        """
        self._watchers.append(watcher)

    async def pruned_to(self, session: SessionId) -> int:
        """Events of the session up to this number are gone."""
        return await self._database.read(store.pruned_to, session)

    async def follow(
        self, session: SessionId, *, after: int, turn: TurnId | None = None
    ) -> AsyncGenerator[Event]:
        """Yield every event with a number above `after`, in order, each once, without end.

        With `turn` only that turn's events; then it ends after the turn's last one.
        """
        follower = _Follower(after)
        self._join(session, follower)
        try:
            cursor = after
            while True:
                events, behind = follower.take()
                if behind or (events and events[0].number > cursor + 1):
                    events = await self._read(session, cursor, turn)
                    if events:
                        follower.know(events[-1].number)
                    if len(events) == _PAGE:
                        follower.poke()
                for event in events:
                    if event.number <= cursor:
                        continue
                    cursor = event.number
                    if turn is not None and event.turn != turn:
                        continue
                    yield event
                    if turn is not None and event.kind == "turn.finished":
                        return
                await follower.wake.wait()
        finally:
            self._leave(session, follower)

    def _join(self, session: SessionId, follower: _Follower) -> None:
        self._followers.setdefault(session, set()).add(follower)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll(), name="feed-poll")

    def _leave(self, session: SessionId, follower: _Follower) -> None:
        followers = self._followers[session]
        followers.discard(follower)
        if not followers:
            del self._followers[session]
        if not self._followers and self._polling is not None:
            self._polling.cancel()
            self._polling = None

    async def _poll(self) -> None:
        """Look, once for all followers, whether there is something they were not told of."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                newest = await self._database.read(store.newest_of, list(self._followers))
            except StoreError as error:
                log.debug("feed.not_polled", error=str(error))
                continue
            for session, number in newest.items():
                for follower in self._followers.get(session, ()):
                    if follower.know(number):
                        follower.poke()

    async def _read(self, session: SessionId, after: int, turn: TurnId | None) -> list[Event]:
        return await self._database.read(store.read, session, after=after, turn=turn, limit=_PAGE)


def _append(conn: sa.Connection, batches: Sequence[_Batch]) -> list[_Stored | None]:
    held = turns.fence_many(conn, {batch.turn: batch.epoch for batch in batches})
    new: dict[SessionId, list[NewEvent]] = {}
    for batch in batches:
        if batch.turn in held:
            new.setdefault(batch.session, []).extend(batch.events)
    appended = store.append(conn, new, at=datetime.now(UTC))
    answers: list[_Stored | None] = []
    for batch in batches:
        if batch.turn not in held:
            answers.append(None)
            continue
        mine = appended[batch.session]
        answers.append(_Stored(mine[: len(batch.events)], held[batch.turn].stop))
        appended[batch.session] = mine[len(batch.events) :]
    return answers
