"""Runs scans: makes a project of the template, and begins its sessions as they may begin.

A scan is a turn whose progress is what its sessions came to. Nothing else is remembered, so
whoever takes it up after a kill goes on from there; and it holds no worker while others work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import sqlalchemy as sa
import structlog

from service.core.model import (
    Accepted,
    Binding,
    Ended,
    Event,
    NewEvent,
    Question,
    Refusal,
    RefusalReason,
    ReplyId,
    Ring,
    Role,
    Source,
    Usage,
    VoiceId,
)
from service.core.template import parse
from service.engine import scans
from service.engine.endings import Spoken
from service.engine.holds import Hold, Interruption
from service.engine.scans import Part, Standing
from service.engine.scenes import Claimed
from service.engine.templates import instantiate
from service.engine.writer import Speech, Writer
from service.errors import BadInput, StoreDown
from service.failpoints import reach
from service.store import feed as events_store
from service.store import projects, replies, turns
from service.store.database import Database

log: structlog.stdlib.BoundLogger = structlog.get_logger()

BINDING = Binding("scan", "ringback", "scan", "")
"""What the session of a scan is bound to: nobody answers in it."""
_INTERRUPTED = "I was interrupted. What runs goes on; nothing further is begun."

T = TypeVar("T")
_RETRY_SECONDS = 0.25
Accept = Callable[[Ring], Awaitable[Accepted | Refusal]]


class Scans:
    """Makes scans that can be run to their end, or until they have to wait for a session."""

    def __init__(self, database: Database, accept: Accept, bindings: Mapping[str, Binding]) -> None:
        self.database = database
        self.accept = accept
        self.bindings = bindings

    def resume(self, claimed: Claimed, hold: Hold, writer: Writer) -> Scan:
        """The scan, ready to run."""
        return Scan(self, claimed, hold, writer)


class Scan:
    """One scan on its way: as `Rounds` is to the turns that models answer."""

    asked: tuple[Question, ...] = ()
    usage = Usage()
    steered = False

    def __init__(self, made_by: Scans, claimed: Claimed, hold: Hold, writer: Writer) -> None:
        self._made_by = made_by
        self._database = made_by.database
        self._turn = claimed.turn
        self._session = claimed.scene.session
        self._begun = claimed.begun[0] if claimed.begun else None
        self._hold = hold
        reply = self._begun.reply if self._begun else None
        self._speech = Speech(
            writer, reply.id if reply else ReplyId(""), reply.text if reply else ""
        )
        self._refused: dict[str, str] = {}
        self._parts: Sequence[Part] = ()
        self._done = False
        self.parked = False
        self.ended: Ended | None = None
        self.error: str | None = None

    # -- what came of it ---------------------------------------------------------------------

    @property
    def cut(self) -> bool:
        """Whether it was cut short."""
        return not (self._done or self.parked)

    @property
    def text(self) -> str:
        """What it has said."""
        return self._speech.text

    def open(self) -> list[Spoken]:
        """What is said and not stored yet."""
        if self._begun is None:
            return []
        status = "partial" if self.cut else "error" if self.error else "complete"
        return [
            Spoken(
                self._begun.reply,
                self._begun.voice,
                self._speech.text,
                status,  # type: ignore[arg-type]
                self.error,
                whole=True,
            )
        ]

    def finished(self) -> list[Spoken]:
        """It ends as a whole."""
        return []

    def stop(self, _voice: VoiceId) -> bool:
        """It has one voice: the turn is stopped instead."""
        return False

    # -- running -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Begin what may begin, until nothing may: then it waits for what runs, or is over."""
        self.parked = False
        try:
            await self._run()
        except BadInput as problem:
            self.error, self._done = f"The scan cannot be run: {problem}", True
        except Exception:
            # Broken, not cut short.
            self._done = True
            raise

    async def _run(self) -> None:
        if not await self._whatever(partial(self._database.write, self._prepare)):
            return
        reach("scans.prepared")
        if self._turn.interrupted_by is not None:
            await self.acknowledge()
            return
        while True:
            self._parts = await self._whatever(partial(self._database.read, self._standing))
            self._tell()
            ready = [one for one in self._parts if self._is_ready(one)]
            if not ready:
                break
            for one in ready:
                await self._begin(one)
        if any(one.standing is Standing.RUNNING for one in self._parts):
            self.parked = True
            return
        self._say(f"\n{scans.summary([self._as_refused(one) for one in self._parts])}")
        self._done = True

    async def acknowledge(self) -> None:
        """Say that it was interrupted, and end."""
        self._say(_INTERRUPTED)
        self.ended, self._done, self.parked = Ended.INTERRUPTED, True, False

    def park(
        self, conn: sa.Connection, pending: Sequence[NewEvent], spent: timedelta
    ) -> list[Event] | None:
        """Let its worker go until a session ends; None when one has ended in the meantime.

        The caller's transaction has fenced the turn: whoever ends a session waits for it.
        """
        if scans.standing(conn, self._turn.id) != self._parts:
            return None
        turns.wait(conn, self._turn.id, processing=spent, usage=self.usage)
        replies.set_text(conn, self._speech.reply, self._speech.text)
        if not pending:
            return []
        at = datetime.now(UTC)
        return events_store.append(conn, {self._turn.session: pending}, at=at)[self._turn.session]

    async def _whatever(self, access: Callable[[], Awaitable[T]]) -> T:
        """Read or write, also over an outage of the database."""
        while True:
            self._hold.check()
            try:
                return await access()
            except StoreDown as error:
                log.warning("scans.store_failed", turn=self._turn.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _standing(self, conn: sa.Connection) -> list[Part]:
        return scans.standing(conn, self._turn.id)

    def _prepare(self, conn: sa.Connection) -> bool:
        """Make the project, once; False when the scan was stopped, as it is before that goes."""
        if turns.fence(conn, self._turn.id, self._hold.epoch).stop:
            return False
        if projects.of_scan(conn, self._turn.id) is not None:
            return True
        name = self._session.scan or ""
        found = projects.template(conn, name)
        if found is None:
            raise BadInput(f"there is no template {name!r}; see GET /api/templates")
        at = datetime.now(UTC)
        instantiate(
            conn,
            parse(found.source),
            name=f"{name} {at:%Y-%m-%d %H:%M}",
            owner=self._session.owner,
            bindings=self._made_by.bindings,
            at=at,
            scan=self._turn.id,
        )
        return True

    def _is_ready(self, one: Part) -> bool:
        return one.standing is Standing.READY and one.session not in self._refused

    def _as_refused(self, one: Part) -> Part:
        """A session that was ready and could not be begun, with the reason."""
        if one.standing is not Standing.READY:
            return one
        return replace(one, standing=Standing.HELD, reason=self._refused.get(one.session))

    async def _begin(self, one: Part) -> None:
        """Ring a session with its request; the same ring however often it is made."""
        turn = self._turn
        ring = Ring(
            channel=turn.channel,
            source=turn.trigger,
            event_key=f"scan:{turn.id}:{one.session}",
            text=one.request,
            binding=BINDING,
            author=turn.author,
            session=one.session,
            session_source=Source.TRIGGER,
            role=Role.EVENT,
            origin=turn.origin,
            starts=True,
        )
        outcome = await self._whatever(partial(self._made_by.accept, ring))
        reach("scans.began")
        if not isinstance(outcome, Refusal):
            return
        if outcome.reason is RefusalReason.DRAINING:
            # Whoever comes next goes on.
            self._hold.interrupt(Interruption.DRAIN)
        log.warning("scans.refused", turn=turn.id, session=one.session, reason=outcome.detail)
        self._refused[one.session] = outcome.detail

    def _tell(self) -> None:
        """Say what became of the sessions that are over, each once."""
        for one in self._parts:
            told = scans.line(one)
            if one.over and told not in self._speech.text:
                self._say(told)

    def _say(self, words: str) -> None:
        before = "\n" if self._speech.text else ""
        self._speech.say(before + words)
