"""Brings claimed turns to their end: begin, run the reply, settle; and rescues abandoned ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
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
    SessionId,
    Turn,
    TurnId,
    TurnKind,
    VoiceId,
)
from service.core.states import QuestionState, TurnState
from service.engine import compaction, scans, scenes
from service.engine.endings import Ending, Spoken, answers, end, end_unattended, speak
from service.engine.feed import Feed
from service.engine.files import Attachments
from service.engine.holds import LEASE, Hold, Interruption, trusted_until, uptime
from service.engine.metrics import Metrics
from service.engine.questions import asked as asked_event
from service.engine.questions import close, options, shown
from service.engine.replies import Replies
from service.engine.rounds import BROKEN, Rounds
from service.engine.scanning import Scan, Scans
from service.engine.scenes import Claimed
from service.engine.writer import Writer
from service.errors import Fenced, StoreDown
from service.failpoints import reach
from service.ports import Agents, Files
from service.store import deliveries, turns
from service.store import feed as events_store
from service.store import questions as questions_store
from service.store.database import Database
from service.store.deliveries import NewDelivery
from service.store.ids import new_id

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_RETRY_SECONDS = 0.25
_EXPIRED_AT_ONCE = 100
_GAVE_UP = "The service was interrupted {attempts} times while it worked on this and gave up."
_COMPACTOR = "ringback"


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
        scans: Scans | None = None,
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
        self._scans = scans
        self._playing: dict[TurnId, Rounds | Scan] = {}

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
            if not one.resumed:
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
        writer.start(newest=claimed.newest)
        self._metrics.running.inc()
        rounds = self._play(claimed, hold, writer)
        self._playing[turn.id] = rounds
        try:
            problem = claimed.problem or await self._guarded(rounds.run(), turn, hold)
            while not await self._close(claimed, hold, rounds, problem, began, writer):
                problem = await self._guarded(self._again(rounds), turn, hold)
        finally:
            del self._playing[turn.id]
            self._metrics.running.dec()
            await writer.close()

    def _again(self, rounds: Rounds | Scan) -> Coroutine[Any, Any, None]:
        """What is left to do when a turn could not be put down as it stood."""
        if isinstance(rounds, Scan) and rounds.parked:
            return rounds.run()
        # Somebody interrupted in the very moment it came to its end.
        return rounds.acknowledge()

    def _play(self, claimed: Claimed, hold: Hold, writer: Writer) -> Rounds | Scan:
        """What brings the turn to its end: its voices, or the scan it stands for."""
        if self._scans is not None and claimed.scene.session.scan is not None:
            return self._scans.resume(claimed, hold, writer)
        turn = claimed.turn
        return Rounds(
            self._database,
            self._feed,
            self._agents,
            self._replies,
            claimed,
            self._policies.get((turn.channel, turn.trigger), NOBODY),
            hold,
            writer,
        )

    def stop_voice(self, turn: TurnId, voice: VoiceId) -> bool:
        """Cut one voice of a turn short; False when it does not speak here."""
        rounds = self._playing.get(turn)
        return rounds is not None and rounds.stop(voice)

    async def _close(
        self,
        claimed: Claimed,
        hold: Hold,
        rounds: Rounds | Scan,
        problem: str | None,
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
            if rounds.cut and hold.interruption is Interruption.DRAIN:
                await self._hand_over(claimed, rounds, spent, writer)
                return True
            if isinstance(rounds, Scan):
                if rounds.parked:
                    return await self._park(claimed, hold, rounds, spent, writer)
            elif rounds.asked and not rounds.cut:
                return await self._wait(claimed, hold, rounds, spent, writer)
            cut = rounds.cut and problem is None
            ending = self._ending(claimed, rounds, spent, problem, cut=cut)
            return await self._settle(claimed, hold, rounds, ending, writer)

    async def _guarded(self, work: Coroutine[Any, Any, None], turn: Turn, hold: Hold) -> str | None:
        """Run until it is over or an interruption cuts it short; why it broke, if it did."""
        task = asyncio.create_task(work, name=f"turn {turn.id}")
        hold.work(task)
        try:
            await task
        except asyncio.CancelledError:
            if hold.interruption is None:
                task.cancel()
                raise
        except Fenced:
            hold.lose()
        except Exception:
            log.exception("turns.broken", turn=turn.id, session=turn.session)
            return BROKEN
        return None

    # -- begin -----------------------------------------------------------------------------

    def _claim(
        self, conn: sa.Connection, limit: int
    ) -> tuple[list[Claimed], dict[SessionId, list[Event]]]:
        taken = turns.claim(conn, owner=self._owner, lease=LEASE, limit=limit)
        if not taken:
            return [], {}
        at = datetime.now(UTC)
        begun = [scenes.begin(conn, self._agents, turn, at=at) for turn in taken]
        live = [
            one
            for turn in taken
            for one in answers(turn, [to for to in turn.answer_to if to.channel in self._live])
        ]
        deliveries.insert(conn, live, at=at)
        events = events_store.append(conn, {one.turn.session: new for one, new in begun}, at=at)
        claimed = [replace(one, newest=events[one.turn.session][-1].number) for one, _ in begun]
        return claimed, events

    # -- wait ------------------------------------------------------------------------------

    async def _park(
        self, claimed: Claimed, hold: Hold, scan: Scan, spent: timedelta, writer: Writer
    ) -> bool:
        """Let a scan wait for its sessions; False when one of them came to its end meanwhile."""
        while True:
            hold.check()
            try:
                asked, events = await self._database.write(
                    _park, claimed.turn, hold.epoch, scan, writer.pending, spent
                )
                break
            except StoreDown as error:
                log.warning("turns.wait_failed", turn=hold.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        if asked.stop:
            ending = self._ending(claimed, scan, spent, None, cut=True)
            return await self._settle(claimed, hold, scan, ending, writer)
        if events is None:
            return False
        writer.take()
        reach("turns.parked")
        self._feed.announce({claimed.turn.session: events})
        self._wake()
        return True

    async def _wait(
        self, claimed: Claimed, hold: Hold, rounds: Rounds, spent: timedelta, writer: Writer
    ) -> bool:
        """Store the questions and let the turn go; False when it was interrupted meanwhile."""
        while True:
            hold.check()
            try:
                events = await self._database.write(
                    self._ask, claimed.turn, rounds, spent, writer.pending
                )
                break
            except StoreDown as error:
                log.warning("turns.wait_failed", turn=hold.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        if events is None:
            return await self._not_waiting(claimed, hold, rounds, spent, writer)
        writer.take()
        reach("turns.waiting")
        log.info("turns.waiting", turn=hold.id, session=claimed.turn.session)
        self._feed.announce({claimed.turn.session: events})
        self._wake()
        return True

    async def _not_waiting(
        self, claimed: Claimed, hold: Hold, rounds: Rounds, spent: timedelta, writer: Writer
    ) -> bool:
        """Settle a turn that somebody stopped right before it would have waited."""
        asked = await self._database.read(turns.get, claimed.turn.id)
        if asked is not None and asked.stop_requested:
            ending = self._ending(claimed, rounds, spent, None, cut=True)
            return await self._settle(claimed, hold, rounds, ending, writer)
        return False

    def _ask(
        self,
        conn: sa.Connection,
        turn: Turn,
        rounds: Rounds,
        spent: timedelta,
        pending: Sequence[NewEvent],
    ) -> list[Event] | None:
        """Everything about a turn that begins to wait; None when it was stopped or interrupted."""
        asked = turns.fence(conn, turn.id, turn.epoch)
        if asked.stop or (asked.interrupted_by and turn.interrupted_by is None):
            return None
        at = datetime.now(UTC)
        turns.wait(conn, turn.id, processing=spent, usage=rounds.usage)
        last = events_store.lock(conn, {turn.session: ()})[turn.session]
        new = list(pending)
        for one in rounds.finished():
            new += speak(conn, turn, one, last + len(new), at)
        questions_store.insert(conn, rounds.asked, at=at)
        new += [asked_event(one) for one in rounds.asked]
        live = [address for address in turn.answer_to if address.channel in self._live]
        deliveries.insert(
            conn,
            [
                NewDelivery(address, session=turn.session, text=shown(one), options=options(one))
                for address in live
                for one in rounds.asked
            ],
            at=at,
        )
        return events_store.record(conn, turn.session, new, newest=last, at=at)

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
        rounds: Rounds | Scan,
        spent: timedelta,
        problem: str | None,
        *,
        cut: bool,
    ) -> Ending:
        scene = claimed.scene
        momentary = {
            name
            for voice in scene.voices
            for name, knob in self._agents.knobs(voice).items()
            if knob.momentary
        }
        error = problem or rounds.error
        state = TurnState.FAILED if error else TurnState.SUCCEEDED
        ending = Ending(
            TurnState.STOPPED if cut else state,
            None if cut else error,
            rounds.usage,
            spent,
            None if cut else rounds.ended,
            spent=rounds.spent if isinstance(rounds, Rounds) else {},
            steered=rounds.steered,
            momentary=tuple(sorted(momentary)),
        )
        if claimed.turn.kind is not TurnKind.COMPACT or ending.state is not TurnState.SUCCEEDED:
            return ending
        summary = compaction.compacted(rounds.text, scene.messages, turn=claimed.turn.number)
        return replace(ending, compacted=summary)

    async def _settle(
        self, claimed: Claimed, hold: Hold, rounds: Rounds | Scan, ending: Ending, writer: Writer
    ) -> bool:
        """Store the end with what is still unwritten, once the database takes it.

        False when somebody interrupted before it was stored: then that is to be acknowledged.
        """
        spoken = rounds.open()
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
        if claimed.scene.session.investigated:
            # Before the turn itself, which is younger.
            ending = replace(ending, scan=scans.lock(conn, turn.session))
        asked = turns.fence(conn, turn.id, turn.epoch)
        whole = ending.state is TurnState.SUCCEEDED
        if whole and ending.ended is None and asked.interrupted_by and spoken:
            return None
        events = end(conn, turn, spoken, ending, pending)
        if whole and turn.kind is not TurnKind.COMPACT and not claimed.scene.session.scan:
            events += self._compact_if_due(conn, claimed, spoken)
        return events

    def _compact_if_due(
        self, conn: sa.Connection, claimed: Claimed, spoken: Sequence[Spoken]
    ) -> list[Event]:
        """Queue the summing up of a conversation that comes near its budget."""
        scene = claimed.scene
        said = "".join(one.text for one in spoken)
        if not compaction.is_due(scene.messages, said, characters=min(scene.budgets.values())):
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
        self, claimed: Claimed, rounds: Rounds | Scan, spent: timedelta, writer: Writer
    ) -> None:
        """Put the turn back for whoever comes next, with every word shown so far on record."""
        turn = claimed.turn
        ending = self._ending(claimed, rounds, spent, None, cut=True)
        events = await self._database.write(_hand_over, turn, rounds, ending, writer.pending)
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


def _park(
    conn: sa.Connection,
    turn: Turn,
    epoch: int,
    scan: Scan,
    pending: Sequence[NewEvent],
    spent: timedelta,
) -> tuple[turns.Asked, list[Event] | None]:
    asked = turns.fence(conn, turn.id, epoch)
    if asked.stop or (asked.interrupted_by and turn.interrupted_by is None):
        return asked, None
    return asked, scan.park(conn, pending, spent)


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
    rounds: Rounds | Scan,
    ending: Ending,
    pending: Sequence[NewEvent],
) -> list[Event]:
    if turns.fence(conn, turn.id, turn.epoch).stop:
        return end(conn, turn, rounds.open(), ending, pending)
    turns.hand_over(conn, turn.id, turn.epoch, processing=ending.processing)
    at = datetime.now(UTC)
    last = events_store.lock(conn, {turn.session: ()})[turn.session]
    new = list(pending)
    for one in rounds.finished():
        # Whoever comes next has nobody say it again.
        new += speak(conn, turn, one, last + len(new), at)
    return events_store.record(conn, turn.session, new, newest=last, at=at)
