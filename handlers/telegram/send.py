"""Brings replies and notices into chats: live by edits, once, and at the pace a chat stands.

A reply that takes a while is shown in messages that are opened without words and then only
edited, because an edit may be repeated and a message may not. Only what is whole from the start
is sent with its words; whether that arrived can stay unknown, and then it is never sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import structlog

from handlers.telegram.buttons import Button, Keyboard, stop_data
from handlers.telegram.client import Client, EntitiesRefused, MessageGone, TopicGone
from handlers.telegram.markup import Rich
from handlers.telegram.questions import asked
from handlers.telegram.show import PLACEHOLDER, ended, growing, paused, steps
from handlers.telegram.split import split
from handlers.telegram.spot import Spot, parse_spot
from service.core.model import Delivery, Json
from service.core.pacing import (
    GROUP,
    PRIVATE,
    EditAt,
    Line,
    Pace,
    Shown,
    after_flood,
    after_request,
    plan_edit,
    ready_at,
)
from service.core.reply import TurnView
from service.core.states import TurnState
from service.errors import (
    AddressMoved,
    BadInput,
    ChannelBusy,
    ChannelDown,
    ChannelError,
    ChannelUncertain,
    Fenced,
    TurnWaits,
)
from service.failpoints import reach
from service.ports import Journal, Receipt

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Parts from this number on were sent with their words; those below were opened without.
DIRECT = 1000

# What failed and may be repeated is tried so often before the outbox takes over.
_TRIES = 4
_STOP = "⏹ Stop"
_IN_DOUBT = "a message may or may not have arrived; it is not sent again"


@dataclass(frozen=True, slots=True)
class SendTimes:
    """How long the sender waits for what."""

    grace: timedelta = timedelta(seconds=1)
    """A reply that is whole by then comes as one message."""
    typing: timedelta = timedelta(seconds=4.5)
    """Clients show a typing action for little longer than this."""
    patience: timedelta = timedelta(seconds=30)
    """The last words wait so long for a chat that is frozen; then the outbox waits."""
    first_retry: timedelta = timedelta(seconds=0.5)
    last_retry: timedelta = timedelta(seconds=30)
    uncut: timedelta = timedelta(seconds=5)
    """A request that has left may take so long to end when the service wants to stop."""


class TelegramSender:
    """Sends for one bot; knows how much each of its chats had to take lately."""

    def __init__(
        self,
        client: Client,
        *,
        bot: str,
        private: Pace = PRIVATE,
        group: Pace = GROUP,
        times: SendTimes | None = None,
    ) -> None:
        self._client = client
        self._bot = bot
        self._private = private
        self._group = group
        self._times = times or SendTimes()
        self._chats: dict[int, _Chat] = {}

    @property
    def live(self) -> bool:
        """Replies are shown while they are produced."""
        return True

    async def deliver(
        self, delivery: Delivery, views: AsyncIterator[TurnView], journal: Journal
    ) -> Receipt:
        """Bring the reply, or the notice, to its chat; see `ports.Sender`."""
        spot = self._spot(delivery)
        show = _Show(self._client, spot, journal, self._chat(spot), self._times, delivery)
        if delivery.text is not None:
            words, keyboard = asked(delivery.text, delivery.options)
            return await show.finish(_Notice(show, split(words), keyboard))
        latest = _Latest(views)
        try:
            view = await self._until_settled(show, latest)
            if view.state is TurnState.WAITING:
                await show.pause(view)
                raise TurnWaits("the turn waits for a person")
            chunks = split(ended(view))
            step = _Final(show, chunks) if show.begun else _Notice(show, chunks)
            return await show.finish(step)
        except AddressMoved:
            await show.forget_all()
            raise
        finally:
            await latest.close()

    async def _until_settled(self, show: _Show, latest: _Latest) -> TurnView:
        """Show the reply as it grows; return the state in which it ends or waits, not yet shown."""
        view = await latest.next(None)
        if _is_settled(view):
            return view
        typing = asyncio.create_task(show.type(), name="telegram typing")
        try:
            begin = _now() + self._times.grace
            while not _is_settled(view) and _now() < begin:
                view = await latest.next(begin - _now())
            while not _is_settled(view):
                due = show.due(view)
                if due is not None and due <= _now():
                    await show.try_frame(view)
                else:
                    view = await latest.next(None if due is None else due - _now())
            return view
        finally:
            typing.cancel()
            await asyncio.wait({typing})

    def _spot(self, delivery: Delivery) -> Spot:
        try:
            spot = parse_spot(delivery.address.spot)
        except BadInput as problem:
            raise ChannelError(str(problem)) from None
        if spot.bot != self._bot:
            raise ChannelError(f"the chat belongs to another bot, {spot.bot}")
        return spot

    def _chat(self, spot: Spot) -> _Chat:
        pace = self._private if spot.private else self._group
        return self._chats.setdefault(spot.chat, _Chat(pace))


class _Chat:
    """The one place where all that is sent to a chat, also to its topics, stands in line."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.line = Line()

    async def turn(self, patience: timedelta) -> None:
        """Wait until the chat takes one more request. Raises ChannelBusy when that is far off."""
        while (wait := ready_at(self.line, self.pace, now=_now()) - _now()) > timedelta():
            if wait > patience:
                raise ChannelBusy("the chat asked us to slow down", wait)
            await asyncio.sleep(wait.total_seconds())
        self.line = after_request(self.line, self.pace, now=_now())

    def flood(self, retry_after: timedelta) -> None:
        """Send nothing for so long, and more slowly afterwards."""
        self.line = after_flood(self.line, self.pace, now=_now(), retry_after=retry_after)

    @property
    def frozen(self) -> bool:
        """Whether nothing may be sent that can be done without."""
        return _now() < self.line.frozen_until


class _Show:
    """One delivery in its chat: which messages it has and what they say."""

    def __init__(
        self,
        client: Client,
        spot: Spot,
        journal: Journal,
        chat: _Chat,
        times: SendTimes,
        delivery: Delivery,
    ) -> None:
        self._client = client
        self._spot = spot
        self._journal = journal
        self._chat = chat
        self._times = times
        self._stop: Keyboard = ()
        if delivery.turn:
            self._stop = [[Button(_STOP, stop_data(delivery.turn))]]
        self._reply_to = _reply_to(delivery.options)
        self._says: dict[int, tuple[Rich, Keyboard]] = {}
        self._shown = Shown(at=_now() - timedelta(days=1))
        self._seen: TurnView | None = None
        self._lost_sight = False
        self._failures = 0
        self._not_before = timedelta()

    @property
    def begun(self) -> bool:
        """Whether messages without words were opened, or may have been."""
        return any(number < DIRECT for number in self._parts)

    @property
    def _parts(self) -> dict[int, str | None]:
        return {part.number: part.external_id for part in self._journal.parts}

    # -- while it grows

    def due(self, view: TurnView) -> timedelta | None:
        """When `view` is to be shown; None when there is nothing new in it."""
        if self._lost_sight or view == self._seen:
            return None
        plan = plan_edit(
            self._chat.line,
            self._chat.pace,
            shown=self._shown,
            characters=len(view.text),
            steps=steps(view),
            now=_now(),
        )
        at = plan.at if isinstance(plan, EditAt) else _now()
        return max(at, self._not_before)

    async def try_frame(self, view: TurnView) -> None:
        """Show a state that will change again; what fails now is made up for later."""
        try:
            await self._frame(view)
        except ChannelBusy as busy:
            self._chat.flood(busy.retry_after)
        except ChannelDown as error:
            wait = self._times.first_retry * 2**self._failures
            self._failures = min(self._failures + 1, 10)
            self._not_before = _now() + min(wait, self._times.last_retry)
            log.info("telegram.frame_failed", reason=str(error))
        except ChannelUncertain:
            # One message without words too many is enough: the final state opens the next.
            self._lost_sight = True
        else:
            self._failures = 0
            self._seen = view
            self._shown = Shown(_now(), len(view.text), steps(view))

    async def _frame(self, view: TurnView) -> None:
        chunks = split(growing(view))
        if not chunks and self._parts.get(0) is not None:
            # What an earlier holder showed is better than nothing.
            return
        await self._show_all(chunks or [PLACEHOLDER], self._stop)

    async def type(self) -> None:
        """Show that the bot is typing until this is cancelled."""
        while True:
            if not self._chat.frozen:
                try:
                    self._journal.check()
                    await self._client.typing(self._spot)
                except ChannelBusy as busy:
                    self._chat.flood(busy.retry_after)
                except ChannelError:
                    # It is an ornament.
                    pass
                except Fenced:
                    return
            await asyncio.sleep(self._times.typing.total_seconds())

    async def pause(self, view: TurnView) -> None:
        """Show what there is while a person is waited for.

        That it cannot be shown holds nothing up: the question comes in a message of its own.
        """
        chunks = split(paused(view))
        if not chunks and self.begun:
            chunks = [PLACEHOLDER]
        try:
            await self.finish(_Final(self, chunks))
        except (ChannelBusy, ChannelDown) as error:
            log.info("telegram.pause_not_shown", reason=str(error))

    # -- when it is over

    async def finish(self, step: Callable[[], Awaitable[None]]) -> Receipt:
        """Repeat `step`, which goes on where it stopped, until the last word is there."""
        for failures in range(_TRIES):
            try:
                await step()
                break
            except ChannelBusy as busy:
                self._chat.flood(busy.retry_after)
                if busy.retry_after > self._times.patience or failures == _TRIES - 1:
                    raise
            except ChannelDown:
                if failures == _TRIES - 1:
                    raise
                await asyncio.sleep((self._times.first_retry * 2**failures).total_seconds())
        return Receipt(tuple(one for one in self._parts.values() if one is not None))

    async def show_final(self, chunks: Sequence[Rich]) -> None:
        """Make the opened messages say `chunks`, and nothing else."""
        try:
            await self._show_all(chunks, ())
        except ChannelUncertain as error:
            # It was a message without words that is in doubt: opening another does no harm.
            raise ChannelDown(str(error)) from None

    async def send_whole(self, chunks: Sequence[Rich], keyboard: Keyboard) -> None:
        """Send `chunks` with their words, each at most once. Raises ChannelUncertain at the end."""
        for place, chunk in enumerate(chunks):
            if DIRECT + place in self._parts:
                continue
            last = place == len(chunks) - 1
            # One in doubt must not keep the rest from arriving.
            with suppress(ChannelUncertain):
                await self._opened(DIRECT + place, chunk, keyboard if last else ())
        if any(number >= DIRECT and id_ is None for number, id_ in self._parts.items()):
            raise ChannelUncertain(_IN_DOUBT)

    async def forget_all(self) -> None:
        """Drop the opened messages: where the chat has moved to, their numbers are others'."""
        for number in self._parts:
            if number < DIRECT:
                await self._journal.forget(number)

    # -- messages

    async def _show_all(self, chunks: Sequence[Rich], keyboard: Keyboard) -> None:
        last = len(chunks) - 1
        for number, chunk in enumerate(chunks):
            await self._show(number, chunk, keyboard if number == last else ())
        for number, id_ in self._parts.items():
            if last < number < DIRECT:
                await self._take_away(number, id_)

    async def _show(self, number: int, rich: Rich, keyboard: Keyboard) -> None:
        """Make message `number` say `rich`, opening it when it is not there."""
        if self._says.get(number) == (rich, keyboard):
            return
        if self._parts.get(number) is None:
            await self._open(number, keyboard)
        if self._says.get(number) == (rich, keyboard):
            return
        try:
            await self._edit(number, rich, keyboard)
        except MessageGone:
            await self._journal.forget(number)
            await self._open(number, keyboard)
            await self._edit(number, rich, keyboard)
        self._says[number] = (rich, keyboard)
        reach("telegram.shown")

    async def _open(self, number: int, keyboard: Keyboard) -> None:
        await self._opened(number, PLACEHOLDER, keyboard)
        self._says[number] = (PLACEHOLDER, keyboard)

    async def _opened(self, number: int, rich: Rich, keyboard: Keyboard) -> None:
        """Send a message, noted before and after; in doubt is only what had to stay so."""
        await self._chat.turn(self._times.patience)
        await _uncut(self._note_and_send(number, rich, keyboard), self._times.uncut)

    async def _note_and_send(self, number: int, rich: Rich, keyboard: Keyboard) -> None:
        reply_to = self._reply_to if number in (0, DIRECT) else None
        await self._journal.opening(number)
        self._journal.check()
        try:
            id_ = await self._send(rich, keyboard, reply_to)
        except ChannelUncertain:
            raise
        except ChannelError:
            await self._journal.forget(number)
            raise
        await self._journal.opened(number, id_)

    async def _send(self, rich: Rich, keyboard: Keyboard, reply_to: int | None) -> str:
        try:
            return await self._client.send(self._spot, rich, keyboard=keyboard, reply_to=reply_to)
        except TopicGone as error:
            # The answer is owed to the people, not to the topic.
            log.warning("telegram.topic_gone", spot=str(self._spot), reason=str(error))
            self._spot = replace(self._spot, topic=None)
        except EntitiesRefused as error:
            log.warning("telegram.entities_refused", reason=str(error))
            rich = Rich(rich.text)
        return await self._client.send(self._spot, rich, keyboard=keyboard, reply_to=reply_to)

    async def _edit(self, number: int, rich: Rich, keyboard: Keyboard) -> None:
        id_ = self._parts[number]
        assert id_ is not None
        await self._chat.turn(self._times.patience)
        self._journal.check()
        try:
            await self._client.edit(self._spot, id_, rich, keyboard=keyboard)
        except EntitiesRefused as error:
            log.warning("telegram.entities_refused", reason=str(error))
            await self._client.edit(self._spot, id_, Rich(rich.text), keyboard=keyboard)
        except ChannelUncertain as error:
            raise ChannelDown(str(error)) from None

    async def _take_away(self, number: int, id_: str | None) -> None:
        """Delete a message that the reply, grown shorter, does not need any more."""
        if id_ is not None:
            await self._chat.turn(self._times.patience)
            self._journal.check()
            try:
                await self._client.delete(self._spot, id_)
            except ChannelUncertain as error:
                raise ChannelDown(str(error)) from None
        await self._journal.forget(number)
        self._says.pop(number, None)


@dataclass(frozen=True, slots=True)
class _Notice:
    """The step that sends what is whole from the start."""

    show: _Show
    chunks: Sequence[Rich]
    keyboard: Keyboard = ()

    async def __call__(self) -> None:
        await self.show.send_whole(self.chunks, self.keyboard)


@dataclass(frozen=True, slots=True)
class _Final:
    """The step that gives opened messages their last words."""

    show: _Show
    chunks: Sequence[Rich]

    async def __call__(self) -> None:
        await self.show.show_final(self.chunks)


class _Latest:
    """The newest view, without losing one when waiting for it is given up."""

    def __init__(self, views: AsyncIterator[TurnView]) -> None:
        self._views = views
        self._coming: asyncio.Task[TurnView] | None = None
        self._view: TurnView | None = None

    async def next(self, timeout: timedelta | None) -> TurnView:
        """The next view, or the one before when there is none in time."""
        if self._coming is None:
            self._coming = asyncio.create_task(_next(self._views), name="next view")
        seconds = None if timeout is None or self._view is None else timeout.total_seconds()
        done, _ = await asyncio.wait({self._coming}, timeout=seconds)
        if done:
            coming, self._coming = self._coming, None
            try:
                self._view = coming.result()
            except StopAsyncIteration:
                raise ChannelDown("the reply broke off before its end") from None
        assert self._view is not None
        return self._view

    async def close(self) -> None:
        """Ask for nothing more."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait({self._coming})
        if isinstance(self._views, AsyncGenerator):
            await self._views.aclose()


async def _next(views: AsyncIterator[TurnView]) -> TurnView:
    return await anext(views)


async def _uncut(step: Coroutine[Any, Any, None], limit: timedelta) -> None:
    """Run a step; when this is cancelled, let what is on its way arrive first."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=limit.total_seconds())
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        with suppress(Exception, asyncio.CancelledError):
            task.result()
        raise


def _now() -> timedelta:
    return timedelta(seconds=asyncio.get_running_loop().time())


def _is_settled(view: TurnView) -> bool:
    """Whether nothing more comes: for good, or until a person answers."""
    return view.final or view.state is TurnState.WAITING


def _reply_to(options: Json) -> int | None:
    message = options.get("reply_to")
    return message if isinstance(message, int) else None
