"""Turns the deltas of a turn's replies into few, ordered feed events while the models go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog

from service.core.model import NewEvent, ReplyId, SessionId, TurnId
from service.core.text import clean
from service.engine.feed import Feed
from service.engine.holds import Hold, Interruption, uptime
from service.errors import StoreDown, StoreError
from service.failpoints import reach

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Words are shown at once when nothing was shown for this long, and at every sentence end.
_COALESCE_SECONDS = 0.05
_SENTENCE_ENDS = (".", "!", "?", "\n", "。", "！", "？", ":")
_RETRY_SECONDS = 0.25


class Writer:
    """Collects what happens in a turn and appends it to the feed in the background.

    What is still unwritten can be taken out for a transaction that stores it together with
    something else.
    """

    def __init__(self, feed: Feed, hold: Hold, session: SessionId, turn: TurnId) -> None:
        self._feed = feed
        self._hold = hold
        self._session = session
        self.turn = turn
        self._pending: list[NewEvent] = []
        self._dirty = asyncio.Event()
        self._urgent = asyncio.Event()
        self._appending = asyncio.Lock()
        self._shown_at = 0.0
        self._newest = 0
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self, *, newest: int) -> None:
        """Begin to append in the background; `newest` is the turn's newest event so far."""
        self._newest = newest
        self._task = asyncio.create_task(self._run(), name=f"writer {self.turn}")

    async def close(self) -> None:
        """Stop appending once nothing is under way; what is unwritten stays for `take`."""
        if self._task is None:
            return
        self._closing = True
        self._dirty.set()
        self._urgent.set()
        await asyncio.wait({self._task})
        self._task = None

    def add(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an event that is shown at once."""
        self._pending.append(NewEvent(kind, data, self.turn))
        self._dirty.set()
        self._urgent.set()

    @property
    def pending(self) -> Sequence[NewEvent]:
        """What is unwritten, in order."""
        return tuple(self._pending)

    @asynccontextmanager
    async def paused(self) -> AsyncGenerator[None]:
        """Append nothing inside of the block: what is unwritten is stored together with the end."""
        async with self._appending:
            yield

    def take(self) -> list[NewEvent]:
        """Take what is unwritten, once it is stored, or inside `store`."""
        events, self._pending = self._pending, []
        self._dirty.clear()
        self._urgent.clear()
        return events

    async def store(self, write: Callable[[Sequence[NewEvent]], Awaitable[int]]) -> None:
        """Let `write` store what is unwritten with something else and return the last number."""
        async with self._appending:
            self._newest = await write(self.take())

    def extend(self, kind: str, reply: ReplyId, text: str) -> None:
        """Add words of a reply; those that nobody has seen yet become one event."""
        if not text:
            return
        place = self._newest_of(reply)
        last = self._pending[place] if place is not None else None
        if place is not None and last is not None and last.kind == kind:
            text = last.data["text"] + text
            self._pending[place] = NewEvent(kind, {"reply": reply, "text": text}, self.turn)
        else:
            self._pending.append(NewEvent(kind, {"reply": reply, "text": text}, self.turn))
        self._dirty.set()
        if text.endswith(_SENTENCE_ENDS):
            self._urgent.set()

    def _newest_of(self, reply: ReplyId) -> int | None:
        """Where the newest unwritten event of a reply is; other voices may have spoken since."""
        for place in range(len(self._pending) - 1, -1, -1):
            if self._pending[place].data.get("reply") == reply:
                return place
        return None

    async def _run(self) -> None:
        while True:
            await self._dirty.wait()
            wait = self._shown_at + _COALESCE_SECONDS - uptime()
            if wait > 0 and not self._urgent.is_set():
                await _set_within(self._urgent, wait)
            async with self._appending:
                if self._closing:
                    return
                if not await self._append(self.take()):
                    return

    async def _append(self, events: Sequence[NewEvent]) -> bool:
        """Append, also over an outage of the database; False when the lease is lost."""
        try:
            while events:
                if await self._append_once(events):
                    break
                await asyncio.sleep(_RETRY_SECONDS)
        except StoreError as error:
            # Fenced, or refused: words that cannot be stored must not be missing in silence. The
            # turn is given up here, and a rescue goes on from its last boundary.
            log.warning("turns.append_given_up", turn=self.turn, error=str(error))
            self._hold.lose()
            return False
        self._shown_at = uptime()
        reach("feed.appended")
        return True

    async def _append_once(self, events: Sequence[NewEvent]) -> bool:
        self._hold.check()
        try:
            appended = await self._feed.append(self._session, self.turn, self._hold.epoch, events)
        except StoreDown as error:
            log.warning("turns.append_failed", turn=self.turn, error=str(error))
            return await self._took_effect()
        self._newest = appended.number
        if appended.stop:
            # Whoever asked told us too; should that not arrive, the stop still takes effect here.
            self._hold.interrupt(Interruption.STOP)
        return True

    async def _took_effect(self) -> bool:
        """Whether a commit whose answer was lost was one: only we append to this turn."""
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            self._hold.check()
            try:
                newest = await self._feed.newest(self._session, self.turn)
            except StoreDown:
                continue
            appended, self._newest = newest > self._newest, newest
            return appended


class Speech:
    """One reply's part of what its turn writes.

    `text` is everything it has said so far, exactly as the feed will have it.
    """

    def __init__(self, writer: Writer, reply: ReplyId, text: str) -> None:
        self._writer = writer
        self.reply = reply
        self.text = text

    @property
    def turn(self) -> TurnId:
        """The turn it belongs to."""
        return self._writer.turn

    def say(self, text: str) -> None:
        """Add words to the answer."""
        text = clean(text)
        self.text += text
        self._writer.extend("text", self.reply, text)

    def think(self, text: str) -> None:
        """Add words that are not part of the answer."""
        self._writer.extend("thinking", self.reply, clean(text))

    def reset(self, text: str) -> None:
        """Take back everything said after `text`."""
        self.text = text
        self._writer.add("reply.reset", {"reply": self.reply, "text": text})

    def add(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an event that is shown at once."""
        self._writer.add(kind, data)

    async def store(self, write: Callable[[Sequence[NewEvent]], Awaitable[int]]) -> None:
        """Let `write` store what is unwritten with something else and return the last number."""
        await self._writer.store(write)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
