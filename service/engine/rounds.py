"""The rounds of a turn: its voices speak at the same time, and again if they are set to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import structlog

from service.core import rounds
from service.core.access import Policy, present
from service.core.model import (
    Ended,
    Event,
    NewEvent,
    Question,
    QuestionId,
    QuestionKind,
    Reply,
    TurnKind,
    Usage,
    Voice,
    VoiceId,
)
from service.core.rounds import Continuation, Speaker, Spoke
from service.core.states import QuestionState, ReplyState
from service.engine import questions, scenes
from service.engine.endings import Spoken, speak, spent_by
from service.engine.feed import Feed
from service.engine.holds import Hold
from service.engine.replies import Begun, Outcome, Replies, ReplyInProgress
from service.engine.scenes import Claimed, Scene
from service.engine.writer import Writer
from service.errors import Fenced, StoreDown
from service.failpoints import reach
from service.ports import Agents
from service.store import feed as events_store
from service.store import turns
from service.store.database import Database
from service.store.ids import new_id

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_RETRY_SECONDS = 0.25
BROKEN = "Something went wrong inside Ringback. The log has the details under this turn's id."
# What a limit ended is the end of that voice's answer alone.
_NOTHING_AFTER = frozenset({Ended.INTERRUPTED, Ended.ASKED})


@dataclass(eq=False, slots=True)
class _Part:
    """One voice in the round that is played."""

    voice: Voice
    reply: ReplyInProgress
    begun: Begun
    task: asyncio.Task[Outcome] | None = None
    outcome: Outcome | None = None
    stopped: bool = False


class Rounds:
    """Plays the rounds of one turn; what is not stored when it ends is in `open`."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        agents: Agents,
        replies: Replies,
        claimed: Claimed,
        policy: Policy,
        hold: Hold,
        writer: Writer,
    ) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents
        self._replies = replies
        self._scene: Scene = claimed.scene
        self._round = claimed.round
        self._over: list[Reply] = list(claimed.over)
        self._policy = policy
        self._hold = hold
        self._writer = writer
        self._parts = [self._part(one) for one in claimed.begun]
        self._asked: tuple[Question, ...] = ()
        self._ends: list[Ended] = []
        self._between = False

    # -- what came of it ---------------------------------------------------------------------

    @property
    def asked(self) -> tuple[Question, ...]:
        """What the turn waits for, if it does."""
        mine = [one for part in self._parts if part.outcome for one in part.outcome.asked]
        return (*mine, *self._asked)

    @property
    def cut(self) -> bool:
        """Whether it was cut short: some voice in its words, or all of them between two rounds."""
        return self._between or any(part.outcome is None for part in self._parts)

    @property
    def usage(self) -> Usage:
        """What all replies took so far."""
        return sum(self.spent.values(), Usage())

    @property
    def spent(self) -> dict[str, Usage]:
        """The same by agent."""
        over = [(one.voice, one.usage) for one in self._over]
        open_ = [(part.voice.id, part.reply.usage) for part in self._parts]
        return spent_by({one.id: one for one in self._scene.voices}, [*over, *open_])

    @property
    def steered(self) -> bool:
        """Whether other messages may have joined the turn."""
        return any(part.reply.steered for part in self._parts)

    @property
    def ended(self) -> Ended | None:
        """What ended it, if it was not simply over."""
        return next(iter(self._ends), None)

    @property
    def error(self) -> str | None:
        """Why it failed: only when no voice came to its end."""
        failed = [one.error for one in self._over if one.state is ReplyState.ERROR]
        well = len(failed) < len(self._over)
        for part in self._parts:
            bad = part.outcome is not None and part.outcome.state is ReplyState.ERROR
            well = well or not bad
            failed += [part.outcome.error] if bad and part.outcome else []
        return None if well else next((one for one in failed if one), None)

    @property
    def text(self) -> str:
        """The words of the newest round's replies that are not stored."""
        return "\n\n".join(part.reply.speech.text for part in self._parts)

    def open(self) -> list[Spoken]:
        """What is said and not stored yet, with how each voice came to its end."""
        return [_spoken(part) for part in self._parts]

    def finished(self) -> list[Spoken]:
        """Those of them that ask nothing and have come to their end."""
        return [_spoken(part) for part in self._parts if part.outcome and not part.outcome.asked]

    # -- playing -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Play round after round, until nobody goes on or something has to be asked first."""
        while True:
            await self._play()
            if self.asked or not _NOTHING_AFTER.isdisjoint(self._ends):
                return
            self._between = True
            speakers = await self._next()
            self._between = False
            if not speakers or self._asked:
                return
            await self._begin(speakers)

    async def acknowledge(self) -> None:
        """Let the voice that spoke last say that the interruption was noticed."""
        part = self._parts[-1]
        part.outcome = await part.reply.acknowledge()
        self._note_end(part.outcome)

    def stop(self, voice: VoiceId) -> bool:
        """Cut one voice short; False when it does not speak."""
        for part in self._parts:
            if part.voice.id == voice and part.task is not None and not part.task.done():
                part.stopped = True
                part.task.cancel()
                return True
        return False

    async def _play(self) -> None:
        """Let all voices of the round speak; store those that end before the last one."""
        for part in self._parts:
            part.task = asyncio.create_task(part.reply.run(), name=f"reply {part.begun.reply.id}")
        pending = {part.task: part for part in self._parts if part.task is not None}
        try:
            while pending:
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    part = pending.pop(task)
                    part.outcome = self._outcome(part, task)
                    self._note_end(part.outcome)
                    if pending and not part.outcome.asked:
                        await self._store(part)
        finally:
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)

    def _note_end(self, outcome: Outcome) -> None:
        if outcome.ended is not None:
            self._ends.append(outcome.ended)

    def _outcome(self, part: _Part, task: asyncio.Task[Outcome]) -> Outcome:
        if task.cancelled():
            if part.stopped:
                return Outcome(ReplyState.DONE, stopped=True)
            raise asyncio.CancelledError
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, Fenced):
            raise error
        log.error(
            "turns.broken",
            turn=self._scene.turn.id,
            session=self._scene.turn.session,
            exc_info=error,
        )
        return Outcome(ReplyState.ERROR, BROKEN)

    async def _store(self, part: _Part) -> None:
        """Store the end of one voice while others still speak."""
        await _whole(self._write([part], None))

    async def _begin(self, speakers: Sequence[Speaker]) -> None:
        """Store the end of this round and the beginning of the next."""
        reach("rounds.ended")
        await _whole(self._write(list(self._parts), speakers))
        reach("rounds.began")

    async def _write(self, parts: Sequence[_Part], speakers: Sequence[Speaker] | None) -> None:
        spoken = [_spoken(part) for part in parts]
        # What the writer has under way comes before what ends here.
        async with self._writer.paused():
            while True:
                self._hold.check()
                try:
                    begun, events = await self._database.write(
                        self._stored, spoken, speakers, self._writer.pending
                    )
                    break
                except StoreDown as error:
                    log.warning("turns.store_failed", turn=self._hold.id, error=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)
            self._writer.take()
        self._feed.announce({self._scene.turn.session: events})
        self._over += [_ended(one) for one in spoken]
        self._parts = [part for part in self._parts if part not in parts]
        if speakers is not None:
            self._round += 1
            self._parts = [self._part(one) for one in begun]

    def _stored(
        self,
        conn: sa.Connection,
        spoken: Sequence[Spoken],
        speakers: Sequence[Speaker] | None,
        pending: Sequence[NewEvent],
    ) -> tuple[Sequence[Begun], list[Event]]:
        turn = self._scene.turn
        turns.fence(conn, turn.id, self._hold.epoch)
        at = datetime.now(UTC)
        last = events_store.lock(conn, {turn.session: ()})[turn.session]
        new = list(pending)
        for one in spoken:
            new += speak(conn, turn, one, last + len(new), at)
        begun: Sequence[Begun] = ()
        if speakers is not None:
            over = [*self._over, *(_ended(one) for one in spoken)]
            begun, events = scenes.begin_round(
                conn, self._scene, self._round + 1, speakers, over, at=at
            )
            new += events
        return begun, events_store.record(conn, turn.session, new, newest=last, at=at)

    def _part(self, begun: Begun) -> _Part:
        reply = self._replies.resume(begun, self._policy, self._hold, self._writer)
        return _Part(begun.voice, reply, begun)

    # -- who goes on -------------------------------------------------------------------------

    async def _next(self) -> list[Speaker]:
        """The voices of the next round; with a question in `asked` when a person decides."""
        scene = self._scene
        if scene.alone and not scene.voices[0].rounds:
            return []
        if scene.turn.kind is TurnKind.COMPACT:
            return []
        policy = scene.session.continuation
        attended = present(scene.turn.origin, self._policy)
        speakers = rounds.next_round(
            self._round,
            self._spoke(self._round),
            policy=policy,
            directed=scene.directed,
            reached=self._reached(),
        )
        if not speakers or await self._is_followed():
            return []
        if policy is Continuation.PROMPT and attended:
            return speakers if self._may_go_on(speakers) else []
        return speakers

    async def _is_followed(self) -> bool:
        """Whether somebody wrote meanwhile, once the database tells it."""
        while True:
            self._hold.check()
            try:
                return await self._database.read(turns.is_followed, self._scene.turn)
            except StoreDown as error:
                log.warning("turns.read_failed", turn=self._hold.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _spoke(self, number: int) -> list[Spoke]:
        """How each voice came out of a round, in the order of the session."""
        by_id = {one.id: one for one in self._scene.speakers}
        ended = [one for one in self._over if one.round == number]
        mine = [_ended(_spoken(part)) for part in self._parts if part.begun.reply.round == number]
        found = {
            one.voice: Spoke(
                by_id[one.voice],
                one.text,
                well=one.state is ReplyState.DONE and not one.stopped,
            )
            for one in (*ended, *mine)
        }
        return [found[VoiceId(one.id)] for one in self._scene.speakers if one.id in found]

    def _reached(self) -> set[str]:
        """Voices that were called by name in the round before this one: the chain ends here."""
        if self._round < 2 or self._scene.session.continuation is not Continuation.AUTO:
            return set()
        return rounds.called(self._spoke(self._round - 1))

    def _may_go_on(self, speakers: Sequence[Speaker]) -> bool:
        """Whether a person wants another round; asks when nobody has said so yet."""
        iteration = -self._round
        for one in self._scene.questions:
            if one.iteration == iteration:
                wanted = questions.wants_round(one.answer or "")
                return one.state is QuestionState.ANSWERED and wanted
        names = ", ".join(one.name for one in speakers)
        part = self._parts[-1] if self._parts else None
        reply = part.begun.reply.id if part else self._over[-1].id
        turn = self._scene.turn
        limits = self._agents.limits(self._scene.voices[0])
        self._asked = (
            Question(
                id=QuestionId(new_id()),
                session=turn.session,
                turn=turn.id,
                reply=reply,
                iteration=iteration,
                ordinal=0,
                kind=QuestionKind.QUESTION,
                text=f"Another round with {names}?",
                choices=(questions.CONTINUE, questions.ENOUGH),
                asked_of=turn.author,
                state=QuestionState.OPEN,
                expires_at=datetime.now(UTC) + limits.answer_within,
            ),
        )
        return False


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` to its end even when the caller is cancelled meanwhile, then be cancelled.

    What is stored and what is remembered of it must not part.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _spoken(part: _Part) -> Spoken:
    outcome = part.outcome
    usage, text = part.reply.usage, part.reply.speech.text
    reply, voice = part.begun.reply, part.voice
    if outcome is None or outcome.stopped:
        return Spoken(reply, voice, text, "partial", usage=usage)
    if outcome.state is ReplyState.ERROR:
        return Spoken(reply, voice, text, "error", outcome.error, usage)
    return Spoken(reply, voice, text, "complete", usage=usage, whole=outcome.ended is None)


def _ended(one: Spoken) -> Reply:
    return replace(
        one.reply,
        state=one.state,
        text=one.text,
        error=one.error,
        usage=one.usage,
        stopped=one.status == "partial",
    )
