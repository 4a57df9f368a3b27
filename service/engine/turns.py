"""Brings claimed turns to their end: begin, run the reply, settle; and rescues abandoned ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog

from service.core.model import (
    Address,
    Channel,
    Event,
    Message,
    NewEvent,
    Reply,
    ReplyId,
    Role,
    SessionId,
    Turn,
    TurnId,
    Usage,
    Voice,
)
from service.core.reply import TurnView, fold_all
from service.core.states import ReplyState, TurnState
from service.engine.feed import Feed
from service.engine.history import said
from service.engine.holds import LEASE, Hold, Interruption, trusted_until, uptime
from service.engine.metrics import Metrics
from service.engine.replies import Begun, Outcome, Replies
from service.engine.writer import Writer
from service.errors import Fenced, StoreDown
from service.failpoints import reach
from service.ports import Agents
from service.store import deliveries, occurrences, replies, sessions, turns
from service.store import feed as events_store
from service.store.database import Database
from service.store.deliveries import NewDelivery
from service.store.ids import new_id

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_RETRY_SECONDS = 0.25
_MESSAGES = 2000
_BROKEN = "Something went wrong inside Ringback. The log has the details under this turn's id."
_GAVE_UP = "The service was interrupted {attempts} times while it worked on this and gave up."

# Why the occurrence of a turn failed, if it did.
_FAILED = {TurnState.SUCCEEDED: None, TurnState.STOPPED: "stopped", TurnState.FAILED: "failed"}
_STATUS = {TurnState.SUCCEEDED: "complete", TurnState.STOPPED: "partial", TurnState.FAILED: "error"}


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one voice said in a turn that ends."""

    reply: Reply
    voice: Voice
    text: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ends."""

    state: TurnState
    error: str | None
    usage: Usage
    processing: timedelta


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

    `live` are the channels that show a reply while it is produced; `wake_outbox` is called after
    a commit that left deliveries to send.
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
        wake_outbox: Callable[[], None],
    ) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents
        self._metrics = metrics
        self._owner = owner
        self._live = frozenset(live)
        self._wake_outbox = wake_outbox
        self._replies = Replies(database, feed, agents, metrics)

    # -- for the lanes ---------------------------------------------------------------------

    async def claim(self, limit: int) -> Sequence[tuple[Claimed, Hold]]:
        """Take leases on due head turns, and note in the same transaction that they began."""
        asked_at = uptime()
        claimed, events = await self._database.write(self._claim, limit)
        if not claimed:
            return ()
        reach("lanes.claimed")
        self._feed.announce(events)
        self._wake_outbox()
        now = datetime.now(UTC)
        for one in claimed:
            if one.turn.attempt == 1:
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
        """Bring a turn to its end, or hand it over when this process shuts down."""
        began = uptime()
        turn = claimed.turn
        writer = Writer(self._feed, hold, turn.session, turn.id)
        writer.text = claimed.begun.reply.text
        writer.start(newest=claimed.newest)
        self._metrics.running.inc()
        try:
            outcome = await self._run(claimed, hold, writer)
        finally:
            self._metrics.running.dec()
            await writer.close()
        spent = turn.processing + timedelta(seconds=uptime() - began)
        if hold.interruption is Interruption.LOST:
            self._metrics.fenced.inc()
            log.warning("turns.fenced", turn=turn.id, session=turn.session)
        elif outcome is None and hold.interruption is Interruption.DRAIN:
            await self._hand_over(claimed, spent, writer)
        else:
            await self._settle(claimed, hold, _ending(outcome, spent), writer)

    async def _run(self, claimed: Claimed, hold: Hold, writer: Writer) -> Outcome | None:
        """The outcome of the reply; None when an interruption cut it short."""
        task = asyncio.create_task(
            self._replies.run(claimed.begun, hold, writer), name=f"reply {claimed.begun.reply.id}"
        )
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
            {one.session: _beginning(turn, one) for turn, one in zip(taken, begun, strict=True)},
            at=at,
        )
        claimed = [
            Claimed(turn, one, events[turn.session][-1].number)
            for turn, one in zip(taken, begun, strict=True)
        ]
        return claimed, events

    def _begin(self, conn: sa.Connection, turn: Turn, at: datetime) -> Begun:
        voice = sessions.voices_of(conn, turn.session)[0]
        new = Reply(ReplyId(new_id()), turn.id, voice.id, 1, ReplyState.GENERATING, "")
        reply = replies.begin(conn, new, at=at)
        resumed = reply.id != new.id
        live = [address for address in turn.answer_to if address.channel in self._live]
        deliveries.insert(conn, answers(turn, live), at=at)
        limits = self._agents.limits(voice)
        messages = sessions.conversation(
            conn, turn.session, up_to_turn=turn.number, limit=_MESSAGES
        )
        return Begun(
            turn.session,
            reply,
            voice,
            said(messages, characters=limits.history_characters),
            replies.iterations_of(conn, reply.id) if resumed else (),
            resumed,
        )

    # -- end -------------------------------------------------------------------------------

    async def _settle(self, claimed: Claimed, hold: Hold, ending: Ending, writer: Writer) -> None:
        """Store the end with what is still unwritten, once the database takes it."""
        spoken, pending = claimed.spoken(writer.text), writer.take()
        reach("turns.settling")
        while True:
            hold.check()
            try:
                events = await self._database.write(_settle, claimed.turn, spoken, ending, pending)
                break
            except StoreDown as error:
                log.warning("turns.settle_failed", turn=hold.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        reach("turns.settled")
        self._announce_end(claimed.turn, ending, events)

    def _announce_end(self, turn: Turn, ending: Ending, events: Sequence[Event]) -> None:
        self._metrics.turns.labels(ending.state.value).inc()
        self._metrics.turn_seconds.observe(ending.processing.total_seconds())
        log.info(
            "turns.settled",
            turn=turn.id,
            session=turn.session,
            state=ending.state.value,
            seconds=round(ending.processing.total_seconds(), 3),
        )
        self._feed.announce({turn.session: events})
        self._wake_outbox()

    async def _hand_over(self, claimed: Claimed, spent: timedelta, writer: Writer) -> None:
        """Put the turn back for whoever comes next, with every word shown so far on record."""
        turn, spoken = claimed.turn, claimed.spoken(writer.text)
        events = await self._database.write(_hand_over, turn, spoken, spent, writer.take())
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
    seen = fold_all(TurnView(turn.id), events_store.of_turn(conn, turn.session, turn.id))
    words = {reply.reply: reply.text for reply in seen.replies}
    voices = {voice.id: voice for voice in sessions.voices_of(conn, turn.session)}
    spoken = [
        Spoken(reply, voices[reply.voice], words.get(reply.id, reply.text))
        for reply in replies.unfinished(conn, turn.id)
    ]
    ending = Ending(TurnState.STOPPED, None, turn.usage, turn.processing)
    if not turn.stop_requested:
        gave_up = _GAVE_UP.format(attempts=turn.attempt)
        ending = replace(ending, state=TurnState.FAILED, error=gave_up)
    return turn, ending, _end(conn, turn, spoken, ending, ())


def _ending(outcome: Outcome | None, spent: timedelta) -> Ending:
    if outcome is None:
        return Ending(TurnState.STOPPED, None, Usage(), spent)
    state = TurnState.FAILED if outcome.state is ReplyState.ERROR else TurnState.SUCCEEDED
    return Ending(state, outcome.error, outcome.usage, spent)


def _beginning(turn: Turn, begun: Begun) -> list[NewEvent]:
    started = NewEvent("turn.started", {"turn": turn.id, "attempt": turn.attempt}, turn.id)
    reply = begun.reply
    if not begun.resumed:
        round_ = NewEvent("round.started", {"round": reply.round}, turn.id)
        data = {
            "reply": reply.id,
            "voice": reply.voice,
            "name": begun.voice.name,
            "round": reply.round,
        }
        return [started, round_, NewEvent("reply.started", data, turn.id)]
    # The last holder may have shown more than it stored; readers go back to the boundary too.
    reset = NewEvent("reply.reset", {"reply": reply.id, "text": reply.text}, turn.id)
    return [started, reset]


def _settle(
    conn: sa.Connection,
    turn: Turn,
    spoken: Sequence[Spoken],
    ending: Ending,
    pending: Sequence[NewEvent],
) -> list[Event]:
    turns.fence(conn, turn.id, turn.epoch)
    return _end(conn, turn, spoken, ending, pending)


def _hand_over(
    conn: sa.Connection,
    turn: Turn,
    spoken: Sequence[Spoken],
    spent: timedelta,
    pending: Sequence[NewEvent],
) -> list[Event]:
    if turns.fence(conn, turn.id, turn.epoch):
        ending = Ending(TurnState.STOPPED, None, Usage(), spent)
        return _end(conn, turn, spoken, ending, pending)
    turns.hand_over(conn, turn.id, turn.epoch, processing=spent)
    if not pending:
        return []
    return events_store.append(conn, {turn.session: pending}, at=datetime.now(UTC))[turn.session]


def _end(
    conn: sa.Connection,
    turn: Turn,
    spoken: Sequence[Spoken],
    ending: Ending,
    pending: Sequence[NewEvent],
) -> list[Event]:
    """Everything a turn leaves behind, in the transaction that has locked it."""
    at = datetime.now(UTC)
    turns.finish(
        conn,
        turn.id,
        state=ending.state,
        error=ending.error,
        processing=ending.processing,
        usage=ending.usage,
        at=at,
    )
    last = events_store.lock(conn, {turn.session: ()})[turn.session]
    new = list(pending)
    state = ReplyState.ERROR if ending.state is TurnState.FAILED else ReplyState.DONE
    for one in spoken:
        replies.finish(conn, one.reply.id, state=state, text=one.text, error=ending.error, at=at)
        data = {"reply": one.reply.id, "state": state.value}
        if ending.error:
            data["error"] = ending.error
        new.append(NewEvent("reply.finished", data, turn.id))
        if one.text:
            message = Message(
                number=last + len(new) + 1,
                role=Role.VOICE,
                author=one.voice.name,
                text=one.text,
                status=_STATUS[ending.state],
                at=at,
                turn=turn.id,
                voice=one.voice.id,
            )
            sessions.add_message(conn, turn.session, message, turn_number=turn.number)
            new.append(message_added(message))
    new.append(finished(turn.id, ending))
    numbered = events_store.number(new, last, at)
    events_store.advance(conn, {turn.session: last + len(new)}, at=at)
    events_store.store(conn, {turn.session: numbered})
    deliveries.insert(conn, answers(turn, turn.answer_to), at=at)
    if turn.occurrence is not None:
        failed = _FAILED[ending.state] and (ending.error or _FAILED[ending.state])
        occurrences.finish(conn, turn.occurrence, failed=failed, at=at)
    return numbered


def finished(turn: TurnId, ending: Ending) -> NewEvent:
    """The last event of a turn."""
    data = {
        "turn": turn,
        "state": ending.state.value,
        "processing_ms": round(ending.processing.total_seconds() * 1000),
        "usage": asdict(ending.usage),
    }
    if ending.error:
        data["error"] = ending.error
    return NewEvent("turn.finished", data, turn)


def message_added(message: Message) -> NewEvent:
    """How the feed tells of a message; its number is the event's own."""
    data = {
        "number": message.number,
        "role": message.role.value,
        "author": message.author,
        "text": message.text,
        "status": message.status,
    }
    if message.voice:
        data["voice"] = message.voice
    return NewEvent("message.added", data, message.turn)


def answers(turn: Turn, addresses: Sequence[Address]) -> list[NewDelivery]:
    """The deliveries of a turn's reply: in order within a session and an address."""
    return [
        NewDelivery(address, session=turn.session, turn=turn.id, ordered=True)
        for address in addresses
    ]
