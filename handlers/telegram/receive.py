"""What becomes of one update, whichever way it came: stored first, answered later."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import structlog

from handlers.telegram import commands
from handlers.telegram.commands import Commands, stopped_turn
from handlers.telegram.translate import (
    Called,
    Me,
    Other,
    Pressed,
    Said,
    Unreadable,
    Update,
    translate,
    update_id,
)
from service.core.access import authorise
from service.core.model import (
    Address,
    Binding,
    Channel,
    Refusal,
    RefusalReason,
    Ring,
    Source,
)
from service.core.states import InboxState
from service.engine.controls import Command, Controls
from service.engine.intake import Intake
from service.errors import BadInput, ChannelError, StoreDown, StoreError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Answer = Callable[[str, str], Coroutine[Any, Any, None]]

_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may write, and what in a group is meant for the bot."""

    allow: frozenset[int]
    groups: Literal["mention", "all"]
    agent: str
    agents: Mapping[str, Binding]


class Receiver:
    """Brings updates to the intake; returns from each only when it is stored.

    `answer` tells Telegram that a pressed button was noticed.
    """

    def __init__(
        self, rules: Rules, *, bot: str, intake: Intake, controls: Controls, answer: Answer
    ) -> None:
        self._rules = rules
        self._bot = bot
        self._intake = intake
        self._controls = controls
        self._answer = answer
        self._commands = Commands(rules.agents, agent=rules.agent)
        # Telegram sends an album as several updates; one word about it is enough.
        self._albums = _Recently()
        self._strangers = _Recently()
        self._tasks: set[asyncio.Task[None]] = set()

    async def receive(self, raw: object, body: bytes, me: Me) -> None:
        """Store what one update asks for. Raises StoreError when that was not possible."""
        number = update_id(raw)
        if number is None:
            await self.quarantine(body, "the update has no number", key=None)
            return
        key = str(number)
        try:
            await self._take(translate(raw, me), key, body)
        except StoreDown:
            raise
        except (BadInput, StoreError) as problem:
            # Also what a working database refuses: waiting would help neither.
            await self.quarantine(body, str(problem), key=key)
        except Exception as error:
            # Whatever is wrong with one update, or with us, the next one must be read.
            log.exception("telegram.unreadable", update=key)
            await self.quarantine(body, f"{type(error).__name__} while reading it", key=key)

    async def quarantine(self, body: bytes, reason: str, *, key: str | None) -> None:
        """Keep something that cannot be understood, for people to look at."""
        key = key or f"sha256:{hashlib.sha256(body).hexdigest()}"
        log.warning("telegram.quarantined", update=key, reason=reason)
        await self._note(key, body, InboxState.QUARANTINED, reason)

    async def close(self) -> None:
        """Return when every pressed button is answered, or could not be."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(self, update: Update, key: str, body: bytes) -> None:
        if isinstance(update, Other):
            await self._ignore(key, body, update.reason)
            return
        refusal = authorise(update.person, allow=self._rules.allow)
        if refusal is not None:
            await self._refuse(update, refusal, key, body)
            return
        match update:
            case Said():
                await self._said(update, key, body)
            case Called():
                await self._called(update, key, body)
            case Pressed():
                await self._pressed(update, key, body)
            case Unreadable():
                await self._unreadable(update, key, body)
            case _:
                assert_never(update)

    async def _refuse(
        self, update: Said | Called | Pressed | Unreadable, refusal: Refusal, key: str, body: bytes
    ) -> None:
        if isinstance(update, Pressed):
            await self._ignore(key, body, refusal.detail)
            self._answered(update, "You may not use this bot.")
            return
        if _is_introduction(update) and self._strangers.is_new(update.person.name):
            words = commands.introduction(update.person.user)
            await self._say(key, body, update.spot.address, words)
            return
        await self._ignore(key, body, refusal.detail)

    async def _said(self, said: Said, key: str, body: bytes) -> None:
        if not self._meant(said.addressed):
            await self._ignore(key, body, "nobody in the group spoke to the bot")
            return
        outcome = await self._intake.accept(self._ring(said, key, body))
        if not isinstance(outcome, Refusal):
            return
        if outcome.reason is RefusalReason.DRAINING:
            # Not stored, so it must come again: to the next process.
            raise StoreDown(outcome.detail)
        if outcome.reason is RefusalReason.QUEUE_FULL:
            await self._say(
                key, body, said.spot.address, commands.too_many(), reply_to=said.message
            )
        elif outcome.reason is not RefusalReason.IGNORED:
            await self._ignore(key, body, outcome.detail)

    async def _called(self, called: Called, key: str, body: bytes) -> None:
        if not called.addressed and called.name not in commands.KNOWN:
            await self._ignore(key, body, "the command may be for another bot")
            return
        async with self._command(key, body) as command:
            if command is not None:
                await self._commands.run(called, command)

    async def _pressed(self, pressed: Pressed, key: str, body: bytes) -> None:
        turn = stopped_turn(pressed.data)
        if turn is None:
            await self._ignore(key, body, "the button is none of ours")
            self._answered(pressed, "This button does nothing any more.")
            return
        stopped = False
        async with self._command(key, body) as command:
            if command is not None:
                home = pressed.spot.address
                stopped = await command.stop_turn(turn, home=home, by=pressed.person.name)
        self._answered(pressed, "Stopping." if stopped else "It is over already.")

    async def _unreadable(self, update: Unreadable, key: str, body: bytes) -> None:
        reason = f"{update.kind} cannot be read"
        album = None if update.album is None else f"{update.spot} {update.album}"
        if not self._meant(update.addressed) or (album and not self._albums.is_new(album)):
            await self._ignore(key, body, reason)
            return
        words = commands.unreadable(update.kind)
        reply_to = None if update.spot.private else update.message
        await self._say(key, body, update.spot.address, words, reply_to=reply_to)

    async def _say(
        self, key: str, body: bytes, address: Address, words: str, *, reply_to: int | None = None
    ) -> None:
        options = {} if reply_to is None else {"reply_to": reply_to}
        async with self._command(key, body) as command:
            if command is not None:
                await command.notice(address, words, options=options)

    async def _ignore(self, key: str, body: bytes, reason: str) -> None:
        await self._note(key, body, InboxState.IGNORED, reason)

    async def _note(self, key: str, body: bytes, state: InboxState, reason: str) -> None:
        await self._intake.note(
            Channel.TELEGRAM, self._bot, key, state=state, reason=reason, body=body
        )

    def _command(self, key: str, body: bytes) -> AbstractAsyncContextManager[Command | None]:
        return self._controls.command(
            channel=Channel.TELEGRAM, source=self._bot, event_key=key, body=body
        )

    def _ring(self, said: Said, key: str, body: bytes) -> Ring:
        address = said.spot.address
        return Ring(
            channel=Channel.TELEGRAM,
            source=self._bot,
            event_key=key,
            text=said.text,
            binding=self._rules.agents[self._rules.agent],
            author=said.person.name,
            session_key=said.spot.session_key,
            session_source=Source.TRIGGER,
            body=body,
            answer_to=(address,),
            home=address,
            sticky=True,
        )

    def _meant(self, addressed: bool) -> bool:
        return addressed or self._rules.groups == "all"

    def _answered(self, pressed: Pressed, words: str) -> None:
        """Tell Telegram about a press without making the next update wait for it."""
        task = asyncio.create_task(self._answer_query(pressed.query, words), name="answer query")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_query(self, query: str, words: str) -> None:
        try:
            await self._answer(query, words)
        except ChannelError as error:
            # The press itself is stored; only its spinner turns a little longer.
            log.info("telegram.press_unanswered", reason=str(error))


def _is_introduction(update: Said | Called | Unreadable) -> bool:
    return isinstance(update, Called) and update.name == "start" and update.person.private


class _Recently:
    """The newest things that happened, so that each is reacted to once."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def is_new(self, one: str) -> bool:
        """Whether it did not happen lately; from now on it did."""
        if one in self._seen:
            return False
        self._seen[one] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True
