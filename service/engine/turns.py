"""Brings claimed turns to their end: begin, run the reply, settle; and rescues abandoned ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from service.core.access import NOBODY, Policy
from service.core.model import (
    Channel,
    Event,
    NewEvent,
    Question,
    Reply,
    ReplyId,
    SessionId,
    Turn,
    TurnId,
    TurnKind,
    Usage,
)
from service.core.states import QuestionState, ReplyState, ToolState, TurnState
from service.engine import compaction
from service.engine.endings import Ending, Spoken, answers, end, end_unattended
from service.engine.feed import Feed
from service.engine.files import Attachments
from service.engine.history import fitting
from service.engine.holds import LEASE, Hold, Interruption, trusted_until, uptime
from service.engine.metrics import Metrics
from service.engine.questions import asked as asked_event
from service.engine.questions import close, options, shown
from service.engine.replies import Begun, Outcome, Replies, ReplyInProgress
from service.engine.writer import Writer
from service.errors import Fenced, StoreDown
from service.failpoints import reach
from service.ports import Agents, Files
from service.store import deliveries, memory, replies, sessions, spending, turns
from service.store import feed as events_store
from service.store import questions as questions_store
from service.store.database import Database
from service.store.deliveries import NewDelivery
from service.store.ids import new_id

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_RETRY_SECONDS = 0.25
_EXPIRED_AT_ONCE = 100
_BROKEN = "Something went wrong inside Ringback. The log has the details under this turn's id."
_GAVE_UP = "The service was interrupted {attempts} times while it worked on this and gave up."
_COMPACTOR = "ringback"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A turn that is ours, and everything needed to go on with it."""

    turn: Turn
    begun: Begun
    newest: int

    def spoken(self, text: str) -> list[Spoken]:
        """What its voices have said once `text` is all of it."""
        return [Spoken(self.begun.reply, self.begun.voice, text)]


class Turns:
    """Runs and settles turns for the lanes.

    `live` are the channels that show a reply while it is produced; `policies` say what turns of
    a trigger may do; `wake` is called after a commit that left something to claim.
    """

    def __init__(
        self,
        database: Database,
        feed: Feed,
        agents: Agents,
        metrics: Metrics,
        *,
        owner: str,
        live: Collection[Channel],
        wake: Callable[[], None],
        policies: Mapping[tuple[Channel, str], Policy] | None = None,
        files: Mapping[Channel, Files] | None = None,
        attachment_bytes: int = 10_485_760,
    ) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents
        self._metrics = metrics
        self._owner = owner
        self._live = frozenset(live)
        self._wake = wake
        self._policies = policies or {}
        attachments = Attachments(database, agents, files or {}, most_bytes=attachment_bytes)
        self._replies = Replies(database, feed, agents, metrics, attachments)

    # -- for the lanes ---------------------------------------------------------------------

    async def claim(self, limit: int) -> Sequence[tuple[Claimed, Hold]]:
        """Take leases on due head turns, and note in the same transaction that they began."""
        asked_at = uptime()
        claimed, events = await self._database.write(self._claim, limit)
        if not claimed:
            return ()
        reach("lanes.claimed")
        self._feed.announce(events)
        self._wake()
        now = datetime.now(UTC)
        for one in claimed:
            if not one.begun.resumed:
                waited = (now - one.turn.created_at).total_seconds()
                self._metrics.first_event_seconds.observe(max(waited, 0))
        return [
            (one, Hold(one.turn.id, one.turn.epoch, trusted_until(asked_at))) for one in claimed
        ]

    async def renew(self, held: Mapping[str, int]) -> Mapping[str, bool]:
        """Extend leases; stop requests by turn for those that are still ours."""
        epochs = {TurnId(id_): epoch for id_, epoch in held.items()}
        kept = await self._database.write(turns.renew, epochs, lease=LEASE)
        return dict(kept.items())

    async def work(self, claimed: Claimed, hold: Hold) -> None:
        """Bring a turn to its end or to a question, or hand it over at shutdown."""
        began = uptime()
        turn = claimed.turn
        writer = Writer(self._feed, hold, turn.session, turn.id)
        writer.text = claimed.begun.reply.text
        writer.start(newest=claimed.newest)
        self._metrics.running.inc()
        policy = self._policies.get((turn.channel, turn.trigger), NOBODY)
        try:
            reply = self._replies.resume(claimed.begun, policy, hold, writer)
            outcome = await self._guarded(reply.run(), claimed, hold)
            while not await self._close(claimed, hold, reply, outcome, began, writer):
                # Somebody interrupted in the very moment it came to its end.
                outcome = await self._guarded(reply.acknowledge(), claimed, hold)
        finally:
            self._metrics.running.dec()
            await writer.close()

    async def _close(
        self,
        claimed: Claimed,
        hold: Hold,
        reply: ReplyInProgress,
        outcome: Outcome | None,
        began: float,
        writer: Writer,
    ) -> bool:
        """Settle, wait or hand over; False when an interruption has to be acknowledged first."""
        turn = claimed.turn
        # What the writer has under way comes before the end, and may show that the lease is lost.
        async with writer.paused():
            spent = turn.processing + timedelta(seconds=uptime() - began)
            if hold.interruption is Interruption.LOST:
                self._metrics.fenced.inc()
                log.warning("turns.fenced", turn=turn.id, session=turn.session)
                return True
            if outcome is None and hold.interruption is Interruption.DRAIN:
                await self._hand_over(claimed, reply, spent, writer)
                return True
            if outcome is not None and outcome.asked:
                return await self._wait(claimed, hold, reply, outcome, spent, writer)
            ending = self._ending(claimed, reply, outcome, spent, writer.text)
            return await self._settle(claimed, hold, ending, writer)

    async def _guarded(
        self, work: Coroutine[Any, Any, Outcome], claimed: Claimed, hold: Hold
    ) -> Outcome | None:
        """The outcome of the reply; None when an interruption cut it short."""
        task = asyncio.create_task(work, name=f"reply {claimed.begun.reply.id}")
        hold.work(task)
        try:
            return await task
        except asyncio.CancelledError:
            if hold.interruption is None:
                task.cancel()
                raise
            return None
        except Fenced:
            hold.lose()
            return None
        except Exception:
            log.exception("turns.broken", turn=claimed.turn.id, session=claimed.turn.session)
            return Outcome(ReplyState.ERROR, _BROKEN)

    # -- begin -----------------------------------------------------------------------------

    def _claim(
        self, conn: sa.Connection, limit: int
    ) -> tuple[list[Claimed], dict[SessionId, list[Event]]]:
        taken = turns.claim(conn, owner=self._owner, lease=LEASE, limit=limit)
        if not taken:
            return [], {}
        at = datetime.now(UTC)
        begun = [self._begin(conn, turn, at) for turn in taken]
        events = events_store.append(
            conn,
            {one.turn.session: _beginning(one) for one in begun},
            at=at,
        )
        claimed = [Claimed(one.turn, one, events[one.turn.session][-1].number) for one in begun]
        return claimed, events

    def _begin(self, conn: sa.Connection, turn: Turn, at: datetime) -> Begun:
        session, (voice, *_) = sessions.with_voices(conn, turn.session)
        new = Reply(ReplyId(new_id()), turn.id, voice.id, 1, ReplyState.GENERATING, "")
        reply = replies.begin(conn, new, at=at)
        resumed = reply.id != new.id
        live = [address for address in turn.answer_to if address.channel in self._live]
        deliveries.insert(conn, answers(turn, live), at=at)
        limits = self._agents.limits(voice)
        messages = sessions.conversation(
            conn,
            turn.session,
            turn=turn.number,
            after_turn=session.context_from,
            characters=limits.history_characters,
        )
        counted = limits.iterations_per == "session"
        limited = limits.day_cost is not None
        return Begun(
            turn=turn,
            owner=session.owner,
            reply=reply,
            voice=voice,
            messages=fitting(messages, characters=limits.history_characters),
            summary=session.summary,
            remembered=memory.read(conn, turn.session),
            iterations=replies.iterations_of(conn, reply.id) if resumed else (),
            questions=questions_store.of_reply(conn, reply.id) if resumed else {},
            resumed=resumed,
            iterations_before=(
                replies.iterations_in(conn, turn.session, before=turn.id) if counted else 0
            ),
            spent_today=spending.cost_today(conn, voice.agent, at=at) if limited else 0,
        )

    # -- wait ------------------------------------------------------------------------------

    async def _wait(
        self,
        claimed: Claimed,
        hold: Hold,
        reply: ReplyInProgress,
        outcome: Outcome,
        spent: timedelta,
        writer: Writer,
    ) -> bool:
        """Store the questions and let the turn go; False when it was interrupted meanwhile."""
        while True:
            hold.check()
            try:
                events = await self._database.write(
                    self._ask, claimed.turn, outcome.asked, reply.usage, spent, writer.pending
                )
                break
            except StoreDown as error:
                log.warning("turns.wait_failed", turn=hold.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        if events is None:
            return await self._not_waiting(claimed, hold, reply, spent, writer)
        writer.take()
        reach("turns.waiting")
        log.info("turns.waiting", turn=hold.id, session=claimed.turn.session)
        self._feed.announce({claimed.turn.session: events})
        self._wake()
        return True

    async def _not_waiting(
        self,
        claimed: Claimed,
        hold: Hold,
        reply: ReplyInProgress,
        spent: timedelta,
        writer: Writer,
    ) -> bool:
        """Settle a turn that somebody stopped right before it would have waited."""
        asked = await self._database.read(turns.get, claimed.turn.id)
        if asked is not None and asked.stop_requested:
            ending = self._ending(claimed, reply, None, spent, writer.text)
            return await self._settle(claimed, hold, ending, writer)
        return False

    def _ask(
        self,
        conn: sa.Connection,
        turn: Turn,
        questions: Sequence[Question],
        usage: Usage,
        spent: timedelta,
        pending: Sequence[NewEvent],
    ) -> list[Event] | None:
        """Everything about a turn that begins to wait; None when it was stopped or interrupted."""
        asked = turns.fence(conn, turn.id, turn.epoch)
        if asked.stop or (asked.interrupted_by and turn.interrupted_by is None):
            return None
        at = datetime.now(UTC)
        turns.wait(conn, turn.id, processing=spent, usage=usage)
        questions_store.insert(conn, questions, at=at)
        new = [*pending, *(asked_event(one) for one in questions)]
        live = [address for address in turn.answer_to if address.channel in self._live]
        deliveries.insert(
            conn,
            [
                NewDelivery(address, session=turn.session, text=shown(one), options=options(one))
                for address in live
                for one in questions
            ],
            at=at,
        )
        return events_store.append(conn, {turn.session: new}, at=at)[turn.session]

    async def expire(self) -> int:
        """Close questions whose time is over, so that their turns go on without an answer."""
        gone = 0
        while True:
            found = await self._database.read(questions_store.expired, limit=_EXPIRED_AT_ONCE)
            for question in found:
                events = await self._database.write(_expire, question)
                if events:
                    gone += 1
                    log.info("turns.question_expired", turn=question.turn, question=question.id)
                    self._feed.announce({question.session: events})
            if len(found) < _EXPIRED_AT_ONCE:
                return gone

    # -- end -------------------------------------------------------------------------------

    def _ending(
        self,
        claimed: Claimed,
        reply: ReplyInProgress,
        outcome: Outcome | None,
        spent: timedelta,
        text: str,
    ) -> Ending:
        knobs = self._agents.knobs(claimed.begun.voice)
        momentary = tuple(name for name, knob in knobs.items() if knob.momentary)
        if outcome is None:
            return Ending(TurnState.STOPPED, None, reply.usage, spent, momentary=momentary)
        state = TurnState.FAILED if outcome.state is ReplyState.ERROR else TurnState.SUCCEEDED
        ending = Ending(
            state,
            outcome.error,
            reply.usage,
            spent,
            outcome.ended,
            steered=reply.steered,
            whole=state is TurnState.SUCCEEDED and outcome.ended is None,
            momentary=momentary,
        )
        if claimed.turn.kind is not TurnKind.COMPACT or state is not TurnState.SUCCEEDED:
            return ending
        messages, number = claimed.begun.messages, claimed.turn.number
        return replace(ending, compacted=compaction.compacted(text, messages, turn=number))

    async def _settle(self, claimed: Claimed, hold: Hold, ending: Ending, writer: Writer) -> bool:
        """Store the end with what is still unwritten, once the database takes it.

        False when somebody interrupted before it was stored: then that is to be acknowledged.
        """
        spoken = claimed.spoken(writer.text)
        reach("turns.settling")
        while True:
            hold.check()
            try:
                events = await self._database.write(
                    self._end, claimed, spoken, ending, writer.pending
                )
                break
            except StoreDown as error:
                log.warning("turns.settle_failed", turn=hold.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        if events is None:
            return False
        writer.take()
        reach("turns.settled")
        self._announce_end(claimed.turn, ending, events)
        return True

    def _end(
        self,
        conn: sa.Connection,
        claimed: Claimed,
        spoken: Sequence[Spoken],
        ending: Ending,
        pending: Sequence[NewEvent],
    ) -> list[Event] | None:
        turn = claimed.turn
        asked = turns.fence(conn, turn.id, turn.epoch)
        whole = ending.state is TurnState.SUCCEEDED
        if whole and ending.ended is None and asked.interrupted_by:
            return None
        events = end(conn, turn, spoken, ending, pending)
        if whole and turn.kind is not TurnKind.COMPACT:
            events += self._compact_if_due(conn, claimed, spoken)
        return events

    def _compact_if_due(
        self, conn: sa.Connection, claimed: Claimed, spoken: Sequence[Spoken]
    ) -> list[Event]:
        """Queue the summing up of a conversation that comes near its budget."""
        limits = self._agents.limits(claimed.begun.voice)
        said = "".join(one.text for one in spoken)
        if not compaction.is_due(claimed.begun.messages, said, limits):
            return []
        turn = TurnId(new_id())
        at = datetime.now(UTC)
        session = claimed.turn.session
        queued = NewEvent("turn.queued", {"turn": turn, "kind": TurnKind.COMPACT.value}, turn)
        events = events_store.append(conn, {session: [queued]}, at=at)[session]
        turns.insert_compaction(
            conn, turn, session, number=events[-1].number, author=_COMPACTOR, at=at
        )
        return events

    def _announce_end(self, turn: Turn, ending: Ending, events: Sequence[Event]) -> None:
        self._metrics.turns.labels(ending.state.value).inc()
        self._metrics.turn_seconds.observe(ending.processing.total_seconds())
        log.info(
            "turns.settled",
            turn=turn.id,
            session=turn.session,
            state=ending.state.value,
            ended=ending.ended.value if ending.ended else None,
            seconds=round(ending.processing.total_seconds(), 3),
        )
        self._feed.announce({turn.session: events})
        self._wake()

    async def _hand_over(
        self, claimed: Claimed, reply: ReplyInProgress, spent: timedelta, writer: Writer
    ) -> None:
        """Put the turn back for whoever comes next, with every word shown so far on record."""
        turn, spoken = claimed.turn, claimed.spoken(writer.text)
        ending = self._ending(claimed, reply, None, spent, writer.text)
        events = await self._database.write(_hand_over, turn, spoken, ending, writer.pending)
        writer.take()
        log.info("turns.handed_over", turn=turn.id, session=turn.session)
        self._feed.announce({turn.session: events})

    # -- rescue ----------------------------------------------------------------------------

    async def rescue(self, *, attempts: int, alone: bool = False) -> int:
        """Put turns back whose holder is gone; end those that were begun `attempts` times.

        With `alone` every running turn is taken to be abandoned.
        """
        rescued = 0
        while batch := await self._database.write(self._rescue, attempts, alone):
            for turn, ending, events in batch:
                self._metrics.rescued.labels("turn").inc()
                log.warning("turns.rescued", turn=turn.id, attempt=turn.attempt)
                if ending is not None:
                    self._announce_end(turn, ending, events)
            rescued += len(batch)
        return rescued

    def _rescue(
        self, conn: sa.Connection, attempts: int, alone: bool
    ) -> list[tuple[Turn, Ending | None, Sequence[Event]]]:
        abandoned = turns.orphaned if alone else turns.lapsed
        return [_rescue_one(conn, turn, attempts) for turn in abandoned(conn, limit=20)]


def _rescue_one(
    conn: sa.Connection, turn: Turn, attempts: int
) -> tuple[Turn, Ending | None, Sequence[Event]]:
    if turn.attempt < attempts and not turn.stop_requested:
        turns.put_back(conn, turn.id)
        return turn, None, ()
    if turn.stop_requested:
        ending, events = end_unattended(conn, turn, state=TurnState.STOPPED)
    else:
        gave_up = _GAVE_UP.format(attempts=turn.attempt)
        ending, events = end_unattended(conn, turn, state=TurnState.FAILED, error=gave_up)
    return turn, ending, events


def _beginning(begun: Begun) -> list[NewEvent]:
    turn, reply = begun.turn, begun.reply
    started = NewEvent("turn.started", {"turn": turn.id, "attempt": turn.attempt}, turn.id)
    if not begun.resumed:
        round_ = NewEvent("round.started", {"round": reply.round}, turn.id)
        data = {
            "reply": reply.id,
            "voice": reply.voice,
            "name": begun.voice.name,
            "round": reply.round,
        }
        return [started, round_, NewEvent("reply.started", data, turn.id)]
    last = begun.iterations[-1].calls if begun.iterations else ()
    if any(one.state is ToolState.WAITING for one in last):
        # It stopped at a question, with every word stored.
        return [started]
    # The last holder may have shown more than it stored; readers go back to the boundary too.
    reset = NewEvent("reply.reset", {"reply": reply.id, "text": reply.text}, turn.id)
    return [started, reset]


def _expire(conn: sa.Connection, question: Question) -> list[Event]:
    turns.lock(conn, question.turn)
    at = datetime.now(UTC)
    event = close(conn, question, state=QuestionState.EXPIRED, at=at)
    if event is None:
        return []
    return events_store.append(conn, {question.session: [event]}, at=at)[question.session]


def _hand_over(
    conn: sa.Connection,
    turn: Turn,
    spoken: Sequence[Spoken],
    ending: Ending,
    pending: Sequence[NewEvent],
) -> list[Event]:
    if turns.fence(conn, turn.id, turn.epoch).stop:
        return end(conn, turn, spoken, ending, pending)
    turns.hand_over(conn, turn.id, turn.epoch, processing=ending.processing)
    if not pending:
        return []
    return events_store.append(conn, {turn.session: pending}, at=datetime.now(UTC))[turn.session]
