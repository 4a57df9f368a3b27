"""What becomes of one update, whichever way it came: stored first, answered later."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never

import structlog

from handlers.telegram import commands
from handlers.telegram.commands import Commands, turn_of
from handlers.telegram.markup import Rich
from handlers.telegram.media import LARGEST
from handlers.telegram.presses import NOTHING, Reaction, is_ours, react
from handlers.telegram.spot import Spot, author_at
from handlers.telegram.translate import (
    Called,
    Me,
    Moved,
    Other,
    Pressed,
    Said,
    Unreadable,
    Update,
    translate,
    update_id,
)
from service.core.access import TelegramPerson, authorise
from service.core.model import (
    Accepted,
    Address,
    Binding,
    Busy,
    Channel,
    Origin,
    Refusal,
    RefusalReason,
    Ring,
    Source,
    TurnKind,
)
from service.core.states import InboxState
from service.engine.compositions import Compositions
from service.engine.controls import Command, Controls
from service.engine.intake import Intake
from service.errors import BadInput, ChannelError, StoreDown, StoreError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Answer = Callable[[str, str], Coroutine[Any, Any, None]]
Edit = Callable[[Spot, str, Rich], Coroutine[Any, Any, None]]
AllowedIds = Callable[[], Awaitable[frozenset[int]]]

_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may write, and what in a group is meant for the bot."""

    allow: frozenset[int]
    groups: Literal["mention", "all"]
    agent: str
    agents: Mapping[str, Binding]
    attachment_bytes: int = LARGEST
    """The largest file that is taken."""

    @property
    def most_bytes(self) -> int:
        """The largest file that can be had."""
        return min(self.attachment_bytes, LARGEST)


class Receiver:
    """Brings updates to the intake; returns from each only when it is stored.

    `answer` tells Telegram that a pressed button was noticed; `edit` changes what the message
    says that it is under, and takes its buttons away. `allowed` returns who may write besides
    those of the rules; it is asked only about those whom the rules refuse.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        bot: str,
        intake: Intake,
        controls: Controls,
        answer: Answer,
        edit: Edit,
        allowed: AllowedIds | None = None,
        compositions: Compositions | None = None,
    ) -> None:
        self._rules = rules
        self._allowed = allowed
        self._bot = bot
        self._intake = intake
        self._controls = controls
        self._answer = answer
        self._edit = edit
        self._commands = Commands(rules.agents, agent=rules.agent, compositions=compositions)
        # Telegram sends an album as several updates. One word about it is enough; and what it is
        # about, and for whom, only one of them says.
        self._refused_albums = _Recently()
        self._taken_albums = _Recently()
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
            await self._take(translate(raw, me, most_bytes=self._rules.most_bytes), key, body)
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

    async def retry(self, key: str, body: bytes, me: Me) -> str:
        """Try an update again that was quarantined; return the key it is stored under this time.

        Raises BadInput when it still cannot be understood, and StoreError.
        """
        again = f"retry:{key}"
        try:
            raw = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadInput("the update is not JSON") from error
        await self._take(translate(raw, me, most_bytes=self._rules.most_bytes), again, body)
        return again

    async def refused(self, author: str, home: Address | None) -> Refusal | None:
        """Why a task of somebody must not ring any more.

        None when they may still write where it was made, and for authors of other channels.
        """
        person = author_at(author, home)
        refusal = None if person is None else await self._refusal(person)
        return None if refusal is None else replace(refusal, reason=RefusalReason.FORBIDDEN)

    async def close(self) -> None:
        """Return when every pressed button is answered, or could not be."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(self, update: Update, key: str, body: bytes) -> None:
        if isinstance(update, Other):
            await self._ignore(key, body, update.reason)
            return
        if isinstance(update, Moved):
            await self._moved(update, key, body)
            return
        refusal = await self._refusal(update.person)
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

    async def _refusal(self, person: TelegramPerson) -> Refusal | None:
        refusal = authorise(person, allow=self._rules.allow)
        if refusal is None or self._allowed is None:
            return refusal
        return authorise(person, allow=await self._allowed())

    async def _refuse(
        self, update: Said | Called | Pressed | Unreadable, refusal: Refusal, key: str, body: bytes
    ) -> None:
        if isinstance(update, Pressed):
            await self._ignore(key, body, refusal.detail)
            self._reacted(update, Reaction("You may not use this bot."))
            return
        if _is_introduction(update) and self._strangers.is_new(update.person.name):
            words = commands.introduction(update.person.user)
            # The reason lets operators find who asked to be let in.
            address = update.spot.address
            await self._say(key, body, address, words, reason=refusal.detail)
            return
        await self._ignore(key, body, refusal.detail)

    async def _moved(self, moved: Moved, key: str, body: bytes) -> None:
        """Let a group find its conversation again once its new number is allowed."""
        old, new = moved.spot, moved.to
        reason = f"the group {old.chat} became {new.chat}: put that into telegram.allow"
        async with self._command(key, body, reason) as command:
            if command is not None:
                await command.move(
                    old.address, new.address, key=old.session_key, new_key=new.session_key
                )

    async def _said(self, said: Said, key: str, body: bytes) -> None:
        album = _album(said)
        follows = album is not None and album in self._taken_albums
        if not self._meant(said.addressed) and not follows:
            await self._ignore(key, body, "nobody in the group spoke to the bot")
            return
        if said.file is not None and said.file.size > self._rules.most_bytes:
            await self._refuse_file(said, key, body)
            return
        # Those that come after an album's first are more of it: they interrupt nothing.
        busy = Busy.QUEUE if follows and not said.text else None
        ring = self._ring(said.spot, said.person, key, body)
        files = () if said.file is None else (said.file,)
        ring = replace(ring, text=said.text, attachments=files, busy=busy)
        if await self._accept(ring, said) and album is not None:
            self._taken_albums.add(album)

    async def _accept(self, ring: Ring, said: Said | Called) -> bool:
        """Hand a ring to the engine; False when it was refused, of which people are told."""
        outcome = await self._intake.accept(ring)
        if isinstance(outcome, Accepted):
            return True
        key, body = ring.event_key, ring.body
        if outcome.reason is RefusalReason.DRAINING:
            # Not stored, so it must come again: to the next process.
            raise StoreDown(outcome.detail)
        if outcome.reason is RefusalReason.QUEUE_FULL:
            await self._say(
                key, body, said.spot.address, commands.too_many(), reply_to=said.message
            )
        elif outcome.reason is not RefusalReason.IGNORED:
            await self._ignore(key, body, outcome.detail)
        return False

    async def _called(self, called: Called, key: str, body: bytes) -> None:
        if not called.addressed and called.name not in commands.KNOWN:
            await self._ignore(key, body, "the command may be for another bot")
            return
        kind = await self._turn_of(called)
        if kind is not None:
            ring = self._ring(called.spot, called.person, key, body)
            words = called.argument if kind is TurnKind.MESSAGE else ""
            busy = Busy.INTERRUPT if kind is TurnKind.MESSAGE else None
            await self._accept(replace(ring, text=words, kind=kind, busy=busy), called)
            return
        prepared = await self._commands.prepared(called)
        async with self._command(key, body) as command:
            if command is not None:
                await self._commands.run(called, command, prepared)

    async def _turn_of(self, called: Called) -> TurnKind | None:
        if called.name not in commands.TURNS:
            return None
        async with self._controls.steps() as steps:
            status = await steps.status(key=called.spot.session_key)
        return turn_of(called, status)

    async def _pressed(self, pressed: Pressed, key: str, body: bytes) -> None:
        if not is_ours(pressed.data):
            await self._ignore(key, body, "the button is none of ours")
            self._reacted(pressed, Reaction(NOTHING))
            return
        async with self._command(key, body) as command:
            reaction = await react(pressed, command)
        self._reacted(pressed, reaction)

    async def _unreadable(self, update: Unreadable, key: str, body: bytes) -> None:
        if not self._meant(update.addressed):
            await self._ignore(key, body, f"{update.kind} cannot be read")
            return
        words = commands.unreadable(update.kind)
        await self._say_once(update, words, key, body, reason=f"{update.kind} cannot be read")

    async def _refuse_file(self, said: Said, key: str, body: bytes) -> None:
        words = commands.too_large(self._rules.most_bytes)
        await self._say_once(said, words, key, body, reason="the file is too large")

    async def _say_once(
        self, update: Said | Unreadable, words: str, key: str, body: bytes, *, reason: str
    ) -> None:
        """Tell people that something was not taken, only once for an album."""
        album = _album(update)
        if album is not None and not self._refused_albums.is_new(album):
            await self._ignore(key, body, reason)
            return
        reply_to = None if update.spot.private else update.message
        await self._say(key, body, update.spot.address, words, reply_to=reply_to)

    async def _say(
        self,
        key: str,
        body: bytes,
        address: Address,
        words: str,
        *,
        reply_to: int | None = None,
        reason: str | None = None,
    ) -> None:
        options = {} if reply_to is None else {"reply_to": reply_to}
        async with self._command(key, body, reason) as command:
            if command is not None:
                await command.notice(address, words, options=options)

    async def _ignore(self, key: str, body: bytes, reason: str) -> None:
        await self._note(key, body, InboxState.IGNORED, reason)

    async def _note(self, key: str, body: bytes, state: InboxState, reason: str) -> None:
        await self._intake.note(
            Channel.TELEGRAM, self._bot, key, state=state, reason=reason, body=body
        )

    def _command(
        self, key: str, body: bytes, reason: str | None = None
    ) -> AbstractAsyncContextManager[Command | None]:
        return self._controls.command(
            channel=Channel.TELEGRAM, source=self._bot, event_key=key, body=body, reason=reason
        )

    def _ring(self, spot: Spot, person: TelegramPerson, key: str, body: bytes) -> Ring:
        """A ring of somebody in their chat, without words yet."""
        address = spot.address
        return Ring(
            channel=Channel.TELEGRAM,
            source=self._bot,
            event_key=key,
            text="",
            binding=self._rules.agents[self._rules.agent],
            author=person.name,
            session_key=spot.session_key,
            session_source=Source.TRIGGER,
            body=body,
            answer_to=(address,),
            home=address,
            sticky=True,
            origin=Origin.PERSON if person.private else Origin.GROUP,
        )

    def _meant(self, addressed: bool) -> bool:
        return addressed or self._rules.groups == "all"

    def _reacted(self, pressed: Pressed, reaction: Reaction) -> None:
        """Tell Telegram about a press without making the next update wait for it."""
        task = asyncio.create_task(self._show(pressed, reaction), name="react to a press")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _show(self, pressed: Pressed, reaction: Reaction) -> None:
        try:
            await self._answer(pressed.query, reaction.words)
        except ChannelError as error:
            # The press itself is stored; only its spinner turns a little longer.
            log.info("telegram.press_unanswered", reason=str(error))
        if reaction.shows is None or pressed.message is None:
            return
        try:
            await self._edit(pressed.spot, str(pressed.message), reaction.shows)
        except ChannelError as error:
            # Its buttons stay; whoever presses one again is told that the question is closed.
            log.info("telegram.press_not_shown", reason=str(error))


def _is_introduction(update: Said | Called | Unreadable) -> bool:
    return isinstance(update, Called) and update.name == "start" and update.person.private


def _album(update: Said | Unreadable) -> str | None:
    return None if update.album is None else f"{update.spot} {update.album}"


class _Recently:
    """The newest things that happened."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def is_new(self, one: str) -> bool:
        """Whether it did not happen lately; from now on it did."""
        if one in self._seen:
            return False
        self.add(one)
        return True

    def add(self, one: str) -> None:
        """Note that it happened."""
        self._seen[one] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def __contains__(self, one: str) -> bool:
        return one in self._seen
