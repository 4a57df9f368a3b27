"""The agent loop: ask the model, run the tools it asks for, store the boundary, ask again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa
import structlog

from service.core import briefing
from service.core.access import Policy
from service.core.briefing import Briefing
from service.core.findings import Findings, Kept
from service.core.model import (
    Ended,
    Event,
    Message,
    NewEvent,
    Question,
    Reply,
    ReplyId,
    Turn,
    TurnKind,
    Usage,
    Voice,
)
from service.core.state import State
from service.core.states import QuestionState, ReplyState, ToolState
from service.engine import compaction, findings, questions
from service.engine.asking import Asking, Response
from service.engine.calls import Calls, Found
from service.engine.feed import Feed
from service.engine.files import Attached, Attachments
from service.engine.history import said
from service.engine.holds import Hold, Interruption
from service.engine.metrics import Metrics
from service.engine.writer import Speech, Writer
from service.errors import ProviderError, StoreDown
from service.failpoints import reach
from service.ports import Agents, Prompt, Said, Step, ToolCall, ToolResult, ToolSpec
from service.store import feed as events_store
from service.store import investigations, key_results, memory, sessions, turns
from service.store import replies as store
from service.store.database import Database
from service.store.memory import Remembered
from service.store.replies import StoredCall, StoredIteration

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_WRAP_UP = 3
_RETRY_SECONDS = 0.25
_WRAP_UP_NOTE = (
    "\n\nOnly {left} more steps are left in this reply. Come to an answer, and ask the person how "
    "to go on if something is missing."
)
_ROUND = (
    "[Round {round}. Nobody wrote anything new. React to what the others said, if you have "
    "something to add.]"
)
_GO_ON = "[Nothing new was said. Go on from where things stand.]"
_INTERRUPTED = (
    "[You were interrupted by the person you work for. You cannot use tools now. In one to three "
    "sentences say where you stand, and ask how to go on.]"
)
_INTERRUPTED_WORDS = "I stopped where you interrupted me. How shall I go on?"
_INSTRUCTED_WORDS = "I stopped where you interrupted me, and go on with what you wrote."
_NOT_STARTED = "Not run: the person interrupted."
_USED_UP = "[The steps of this answer are used up.]"
_CUT = "[The answer was cut at its limit of {tokens} tokens.]"
_NO_SUMMARY = (
    "The model reached its limit of {tokens} tokens before it wrote a summary. The conversation "
    "stays as it was."
)
_TURN_COST = "This answer reached its cost limit of ${limit:g}. What it had said so far is kept."
_DAY_COST = (
    "The agent {agent} has spent its ${limit:g} for today (UTC). It answers again tomorrow, or "
    "when its day_cost is raised."
)


@dataclass(frozen=True, slots=True)
class Begun:
    """A reply that can go on: its voice, what was said before, what it has behind it."""

    turn: Turn
    owner: str
    reply: Reply
    voice: Voice
    messages: Sequence[Message]
    """What the model is told, oldest first; the last one is what it answers."""
    summary: str | None
    remembered: Remembered
    iterations: Sequence[StoredIteration]
    questions: Mapping[tuple[int, int], Question]
    """Asked before, by iteration and ordinal of their call."""
    resumed: bool
    """Whether it was begun before: by an earlier holder, or before a question."""
    company: str = ""
    """What the voice is told of the others; empty when it is alone."""
    iterations_before: int = 0
    """Of the session's other turns, when its limit counts them; less what its owner added."""
    spent_before: int = 0
    """Millionths of a US dollar that replies of its agent took that came before in the turn."""
    spent_today: int = 0
    """The same, of turns that ended today, when the agent has a limit."""
    briefing: Briefing | None = None
    """What an investigation adds to the prompt; None when the session is none."""
    kept: Kept | None = None
    """What the session found out before; None when it is to come to nothing."""
    occasion: str = ""
    """What rang, in words for the model; empty when a person wrote."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply ended, or what it waits for; its words are in its speech."""

    state: ReplyState
    error: str | None = None
    ended: Ended | None = None
    asked: tuple[Question, ...] = ()
    """Questions to ask; the turn waits for their answers."""
    stopped: bool = False
    """Whether somebody stopped this voice alone."""


@dataclass(frozen=True, slots=True)
class _Boundary:
    """What had happened outside when a boundary was stored."""

    interrupted: bool
    joined: bool = False
    stopped: bool = False
    added: tuple[str, ...] = ()
    remembered: Remembered | None = None
    kept: Kept | None = None


class Replies:
    """Makes replies that can be run to their end, to a question or to an interruption."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        agents: Agents,
        metrics: Metrics,
        attachments: Attachments,
    ) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents
        self._metrics = metrics
        self._attachments = attachments

    def resume(self, begun: Begun, policy: Policy, hold: Hold, writer: Writer) -> ReplyInProgress:
        """The reply, ready to run."""
        return ReplyInProgress(
            self._database,
            self._feed,
            self._agents,
            self._metrics,
            self._attachments,
            begun,
            policy,
            hold,
            Speech(writer, begun.reply.id, begun.reply.text),
        )


class ReplyInProgress:
    """One reply on its way. Being cancelled leaves what was said in its speech."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        agents: Agents,
        metrics: Metrics,
        attachments: Attachments,
        begun: Begun,
        policy: Policy,
        hold: Hold,
        speech: Speech,
    ) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents
        self._metrics = metrics
        self._attachments = attachments
        self._begun = begun
        self._turn = begun.turn
        self._reply = begun.reply.id
        self._hold = hold
        self.speech = speech
        self._steps: list[Step] = []
        self._history: Sequence[Said] = ()
        self._limits = agents.limits(begun.voice)
        self._state = State(begun.remembered.state)
        self._knobs = State(self._with_defaults(begun.remembered.knobs))
        self._findings = Findings(begun.kept) if begun.kept is not None else None
        self._calls = Calls(
            agents,
            begun.turn,
            begun.reply,
            begun.voice,
            policy,
            owner=begun.owner,
            state=self._state,
            knobs=self._knobs,
            within=self._limits.answer_within,
            found=self._findings,
            read=self._data_of,
            in_project=begun.briefing is not None and begun.briefing.in_project,
        )
        self._interrupted = begun.turn.interrupted_by is not None
        self.steered = any(one.added for one in begun.iterations)
        """Whether other messages joined its turn."""
        self._stored = _Boundary(interrupted=False, stopped=begun.reply.stopped)
        self.usage = sum((one.usage for one in begun.iterations), Usage())

    async def run(self) -> Outcome:
        """Iterate until the model answers without asking for a tool, or something ends it."""
        try:
            return await self._run()
        except ProviderError as error:
            log.info("replies.failed", reply=self._reply, reason=str(error))
            return Outcome(ReplyState.ERROR, str(error))

    async def acknowledge(self) -> Outcome:
        """Say that the interruption was noticed, and ask how to go on."""
        self._interrupted = True
        if await self._database.read(turns.is_followed, self._turn):
            self._say(_INSTRUCTED_WORDS)
            return Outcome(ReplyState.DONE, ended=Ended.INTERRUPTED)
        boundary = self.speech.text
        try:
            await self._ask(self._asking(self._begun.voice), self._with_note(_INTERRUPTED))
        except ProviderError as error:
            log.info("replies.no_acknowledgement", reply=self._reply, reason=str(error))
            if self.speech.text != boundary:
                self.speech.reset(boundary)
        if self.speech.text == boundary:
            self._say(_INTERRUPTED_WORDS)
        return Outcome(ReplyState.DONE, ended=Ended.INTERRUPTED)

    # -- the loop ----------------------------------------------------------------------------

    async def _run(self) -> Outcome:
        attached = await self._attachments.load(self._begun.messages, self._begun.voice)
        if self._nothing_readable(attached):
            self._say(attached.refusal)
            return Outcome(ReplyState.DONE)
        self._history = self._told(attached)
        for iteration in self._begun.iterations:
            open_questions = await self._go_on_from(iteration)
            if open_questions:
                return Outcome(ReplyState.WAITING, asked=tuple(open_questions))
        asking = self._asking(self._begun.voice)
        while True:
            if self._stored.stopped:
                return Outcome(ReplyState.DONE, stopped=True)
            if self._interrupted:
                return await self.acknowledge()
            if (spent := self._over_budget()) is not None:
                return Outcome(ReplyState.ERROR, spent, Ended.COST)
            number = len(self._steps)
            left = self._left(number)
            response = await self._ask(asking, self._prompt(left))
            if not response.calls or left <= 1:
                return self._complete(response, last=left <= 1)
            outcome = await self._take_step(number, response)
            if outcome is not None:
                return outcome

    def _told(self, attached: Attached) -> Sequence[Said]:
        voice = self._begun.voice.id if self._begun.company else None
        told = said(
            self._begun.messages, voice=voice, summary=self._begun.summary, media=attached.media
        )
        if self._begun.reply.round > 1:
            told.append(Said("user", _ROUND.format(round=self._begun.reply.round)))
        match self._turn.kind:
            case TurnKind.COMPACT:
                return [*told, Said("user", compaction.REQUEST)]
            case TurnKind.RENDER:
                return [*told, Said("user", _GO_ON)]
        return told

    def _nothing_readable(self, attached: Attached) -> bool:
        """Whether a message without words came with nothing that the model can be given."""
        if self._turn.kind is not TurnKind.MESSAGE or not self._begun.messages:
            return False
        newest = self._begun.messages[-1]
        given = any(one.id in attached.media for one in newest.attachments)
        return bool(newest.attachments) and not newest.text.strip() and not given

    def _left(self, number: int) -> int:
        """How many model calls there may be, with the one about to be made; at least that one."""
        return max(self._limits.iterations - self._begun.iterations_before - number, 1)

    def _over_budget(self) -> str | None:
        """Why no further call may be paid for."""
        limits, cost = self._limits, self._begun.spent_before + self.usage.cost_micros
        if limits.turn_cost is not None and cost >= limits.turn_cost * 1_000_000:
            return _TURN_COST.format(limit=limits.turn_cost)
        today = self._begun.spent_today + cost
        if limits.day_cost is not None and today >= limits.day_cost * 1_000_000:
            return _DAY_COST.format(agent=self._begun.voice.agent, limit=limits.day_cost)
        return None

    def _complete(self, response: Response, *, last: bool) -> Outcome:
        if response.finished.cut and not response.calls:
            tokens = self._limits.output_tokens or response.finished.usage.output_tokens
            if self._turn.kind is TurnKind.COMPACT and not response.text.strip():
                return Outcome(ReplyState.ERROR, _NO_SUMMARY.format(tokens=tokens))
            self._say(_CUT.format(tokens=tokens))
            return Outcome(ReplyState.DONE, ended=Ended.LENGTH)
        if last:
            if not response.text.strip():
                # It asked for tools all the same.
                self._say(_USED_UP)
            return Outcome(ReplyState.DONE, ended=Ended.ITERATIONS)
        return Outcome(ReplyState.DONE)

    # -- asking the model --------------------------------------------------------------------

    def _asking(self, voice: Voice) -> Asking:
        model = self._agents.model(voice)
        return Asking(model, self._limits, self.speech, self._metrics)

    async def _ask(self, asking: Asking, prompt: Prompt) -> Response:
        asked_before = asking.requests
        try:
            response = await asking.ask(prompt)
        finally:
            self.usage += Usage(requests=asking.requests - asked_before)
        self.usage += replace(response.finished.usage, requests=0)
        return response

    def _prompt(self, left: int) -> Prompt:
        compacting = self._turn.kind is TurnKind.COMPACT
        tools: Sequence[ToolSpec] = self._calls.offered() if left > 1 and not compacting else ()
        system = self._system(tools)
        if 1 < left <= _WRAP_UP + 1:
            system += _WRAP_UP_NOTE.format(left=left - 1)
        return Prompt(system, self._history, tuple(self._steps), tools, self._limits.output_tokens)

    def _system(self, tools: Sequence[ToolSpec] = ()) -> str:
        """The system prompt of a request that offers these tools."""
        begun = self._begun
        # Nothing is found out while the conversation is summed up.
        plain = begun.briefing is None or self._turn.kind is TurnKind.COMPACT
        found = briefing.sections(
            company=begun.company,
            prompt=begun.voice.prompt,
            state=self._agents.sections(begun.voice, self._state, self._knobs),
            briefing=None if plain else begun.briefing,
            findings=None if plain else self._findings,
            tools={one.name: one.description for one in tools},
            occasion=begun.occasion,
        )
        return briefing.whole(found)

    def _with_note(self, note: str) -> Prompt:
        """Everything so far and a note of ours after it, for a response without tools."""
        before = "\n\n".join(step.text for step in self._steps if step.text)
        unseen = self.speech.text.removeprefix(before).strip()
        history, steps = list(self._history), list(self._steps)
        if unseen:
            steps.append(Step(unseen, (), (), added=(note,)))
        elif steps:
            steps[-1] = replace(steps[-1], added=(*steps[-1].added, note))
        else:
            history.append(Said("user", note))
        return Prompt(self._system(), history, tuple(steps))

    def _say(self, words: str) -> None:
        before = "\n\n" if self.speech.text else ""
        self.speech.say(before + words)

    # -- boundaries --------------------------------------------------------------------------

    async def _take_step(self, number: int, response: Response) -> Outcome | None:
        """Store the boundary, run the tools, store their results; how it ends, if it does."""
        plan = self._calls.plan(number, response.calls)
        calls = plan.states(response.calls)
        usage = replace(response.finished.usage, requests=1)
        iteration = StoredIteration(
            number, response.text, response.thinking, response.finished.metadata, usage, calls
        )
        self._tell_started(number, calls)
        self._tell_finished(number, plan.found)
        boundary = await self._store(partial(_add_iteration, self._reply, iteration))
        reach("replies.boundary")
        if plan.ask and not self._calls.attended:
            return self._ask_nobody(plan.ask.values())
        if boundary.interrupted:
            found = {one: _not_started(response.calls[one]) for one in (*plan.run, *plan.ask)}
        else:
            runnable = [(one, response.calls[one]) for one in plan.run]
            found = await self._calls.run(number, runnable)
            reach("replies.tools_ran")
        added = await self._store_results(number, found)
        reach("replies.results_stored")
        self._steps.append(_step(iteration, {**plan.found, **found}, added))
        if plan.ask and not self._interrupted:
            return Outcome(ReplyState.WAITING, asked=tuple(plan.ask.values()))
        return None

    def _ask_nobody(self, asked: Iterable[Question]) -> Outcome:
        """End with the question: whoever reads the answer may ring again."""
        for one in asked:
            self._say(questions.unattended(one))
        return Outcome(ReplyState.DONE, ended=Ended.ASKED)

    async def _go_on_from(self, iteration: StoredIteration) -> list[Question]:
        """Take a stored iteration up; questions of it that are to be asked (again)."""
        number = iteration.number
        crashed = [one for one in iteration.calls if one.state is ToolState.RUNNING]
        found = await self._calls.after_crash(number, crashed)
        waiting = [one for one in iteration.calls if one.state is ToolState.WAITING]
        approved: list[tuple[int, ToolCall]] = []
        asked: list[Question] = []
        for one in waiting:
            match self._answer_to(number, one):
                case Question() as question:
                    asked.append(question)
                case None:
                    approved.append((one.ordinal, one.call))
                case result:
                    found[one.ordinal] = result
        if approved:
            ordinals = [ordinal for ordinal, _ in approved]
            await self._store(partial(_set_running, self._reply, number, ordinals))
            reach("replies.approved")
            found |= await self._calls.run(number, approved)
        added = iteration.added
        if found:
            added += await self._store_results(number, found)
        if not asked:
            self._steps.append(_step(iteration, found, added))
        return asked

    def _answer_to(
        self, number: int, one: StoredCall
    ) -> tuple[ToolState, ToolResult] | Question | None:
        """What a waiting call comes to: a result, None to run it, or a question still to ask."""
        question = self._begun.questions.get((number, one.ordinal))
        if question is None:
            again = self._calls.ask_again(number, one)
            if isinstance(again, Question):
                return again
            return ToolState.ERROR, ToolResult(one.call.id, one.call.tool, again, failed=True)
        if question.state is QuestionState.OPEN:
            return question
        return questions.result_of(question, one.call)

    async def _store_results(self, number: int, found: Found) -> tuple[str, ...]:
        """Store results and state; return what people said meanwhile."""
        self._tell_finished(number, found)
        boundary = await self._store(
            partial(_finish_calls, self._reply, number, found), steer=number
        )
        return boundary.added

    def _tell_started(self, number: int, calls: Sequence[StoredCall]) -> None:
        for one in calls:
            self.speech.add(
                "tool.started",
                {
                    "reply": self._reply,
                    "call": _call_name(number, one.ordinal),
                    "tool": one.call.tool,
                    "arguments": one.call.arguments,
                },
            )

    def _tell_finished(self, number: int, found: Found) -> None:
        for ordinal, (state, result) in found.items():
            self.speech.add(
                "tool.finished",
                {
                    "reply": self._reply,
                    "call": _call_name(number, ordinal),
                    "tool": result.tool,
                    "state": state.value,
                    "text": result.text,
                },
            )

    # -- storing -----------------------------------------------------------------------------

    async def _store(
        self, work: Callable[[sa.Connection], None], *, steer: int | None = None
    ) -> _Boundary:
        """Store `work` with what is unwritten; with `steer` let messages join that iteration."""
        whole = partial(_with_text, self._reply, self.speech.text, work)
        await self.speech.store(partial(self._persist, whole, steer))
        boundary = self._stored
        if self._findings is not None and boundary.kept is not None:
            self._findings.stored(boundary.kept)
        if boundary.remembered is not None:
            self._state.stored(boundary.remembered.state)
            self._knobs.stored(self._with_defaults(boundary.remembered.knobs))
        self._interrupted = self._interrupted or boundary.interrupted
        self.steered = self.steered or boundary.joined
        return boundary

    async def _persist(
        self,
        work: Callable[[sa.Connection], None],
        steer: int | None,
        events: Sequence[NewEvent],
    ) -> int:
        """Store in one transaction, also over an outage; return the last event's number."""
        while True:
            self._hold.check()
            try:
                asked, self._stored, appended = await self._database.write(
                    self._boundary, work, events, steer
                )
            except StoreDown as error:
                log.warning("replies.store_failed", reply=self._reply, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._feed.announce({self._turn.session: appended})
            if asked.stop:
                self._hold.interrupt(Interruption.STOP)
            return appended[-1].number if appended else 0

    def _boundary(
        self,
        conn: sa.Connection,
        work: Callable[[sa.Connection], None],
        events: Sequence[NewEvent],
        steer: int | None,
    ) -> tuple[turns.Asked, _Boundary, list[Event]]:
        asked = turns.fence(conn, self._turn.id, self._hold.epoch)
        # Before the state is written: people change it under the session's lock.
        events_store.lock(conn, {self._turn.session: ()})
        work(conn)
        at = datetime.now(UTC)
        new = list(events)
        joined: list[NewEvent] = []
        added: tuple[str, ...] = ()
        remembered, kept = None, None
        alone = not self._begun.company
        if steer is not None:
            if alone:
                # Several voices have no boundary in common; then it is the next turn.
                joined, added = _join(conn, self._turn, self._reply, steer)
                new += joined
            remembered = self._remember(conn, at)
            found, kept = self._keep_findings(conn, at)
            new += found
        boundary = _Boundary(
            interrupted=asked.interrupted_by is not None,
            joined=bool(joined),
            stopped=not alone and store.stop_requested(conn, self._reply),
            added=added,
            remembered=remembered,
            kept=kept,
        )
        if not new:
            return asked, boundary, []
        appended = events_store.append(conn, {self._turn.session: new}, at=at)
        return asked, boundary, appended[self._turn.session]

    def _remember(self, conn: sa.Connection, at: datetime) -> Remembered:
        """Write what the tools changed; read what people changed meanwhile."""
        session = self._turn.session
        memory.write(conn, session, "state", self._state.changes(), at=at)
        memory.write(conn, session, "knob", self._knobs.changes(), at=at)
        return memory.read(conn, session)

    def _keep_findings(
        self, conn: sa.Connection, at: datetime
    ) -> tuple[list[NewEvent], Kept | None]:
        """Write what was found out; read what people made of it meanwhile."""
        if self._findings is None:
            return [], None
        begun = self._begun
        told = findings.store(
            conn, self._turn, begun.reply, self._findings, by=begun.voice.name, at=at
        )
        session = self._turn.session
        now = investigations.get(conn, session) if begun.briefing is not None else None
        return told, findings.kept(conn, session, now)

    async def _data_of(self, result: str) -> str | None:
        """The stored data of one of the session's results."""
        return await self._database.read(key_results.data, self._turn.session, result)

    def _with_defaults(self, turned: Mapping[str, object]) -> dict[str, object]:
        knobs = self._agents.knobs(self._begun.voice)
        return {name: turned.get(name, knob.default) for name, knob in knobs.items()}


def _with_text(
    reply: ReplyId, text: str, work: Callable[[sa.Connection], None], conn: sa.Connection
) -> None:
    work(conn)
    store.set_text(conn, reply, text)


def _add_iteration(reply: ReplyId, iteration: StoredIteration, conn: sa.Connection) -> None:
    store.add_iteration(conn, reply, iteration, at=datetime.now(UTC))


def _finish_calls(reply: ReplyId, number: int, found: Found, conn: sa.Connection) -> None:
    store.finish_calls(conn, reply, number, found, at=datetime.now(UTC))


def _set_running(reply: ReplyId, number: int, ordinals: Sequence[int], conn: sa.Connection) -> None:
    store.set_calls(conn, reply, number, ordinals, ToolState.RUNNING)


def _join(
    conn: sa.Connection, turn: Turn, reply: ReplyId, number: int
) -> tuple[list[NewEvent], tuple[str, ...]]:
    """Take up messages that are meant to steer; events about it, and what they say."""
    joined = turns.join(conn, turn)
    if not joined:
        return [], ()
    messages = sessions.adopt_messages(
        conn, turn.session, [one.id for one in joined], turn_number=turn.number
    )
    told = tuple(message.text for message in messages if message.text)
    store.add_messages(conn, reply, number, told)
    events = [
        NewEvent("session.changed", {"what": "steered", "joined": one.id, "turn": turn.id}, turn.id)
        for one in joined
    ]
    return events, told


def _step(iteration: StoredIteration, found: Found, added: tuple[str, ...]) -> Step:
    """What the model is told of an iteration; the ids are the provider's own."""
    results = []
    for one in iteration.calls:
        if one.ordinal in found:
            results.append(found[one.ordinal][1])
            continue
        failed = one.state is not ToolState.DONE
        results.append(ToolResult(one.call.id, one.call.tool, one.result or "", failed=failed))
    calls = tuple(one.call for one in iteration.calls)
    return Step(
        iteration.text, calls, tuple(results), iteration.thinking, iteration.metadata, added
    )


def _not_started(call: ToolCall) -> tuple[ToolState, ToolResult]:
    return ToolState.CANCELLED, ToolResult(call.id, call.tool, _NOT_STARTED, failed=True)


def _call_name(iteration: int, ordinal: int) -> str:
    """A call's name in the feed: providers' ids are unique within one response at best."""
    return f"{iteration}.{ordinal}"
