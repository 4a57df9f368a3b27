"""The agent loop: ask the model, run the tools it asks for, store the boundary, ask again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa
import structlog

from service.core.model import Event, NewEvent, Reply, ReplyId, SessionId, TurnId, Usage, Voice
from service.core.states import ReplyState, ToolState
from service.engine.asking import Asking, Response
from service.engine.feed import Feed
from service.engine.holds import Hold
from service.engine.metrics import Metrics
from service.engine.writer import Writer
from service.errors import ProviderError, StoreDown
from service.failpoints import reach
from service.ports import Agents, Limits, Prompt, Said, Step, ToolCall, ToolResult, ToolSpec
from service.store import feed as events_store
from service.store import replies as store
from service.store import turns
from service.store.database import Database
from service.store.replies import StoredCall, StoredIteration

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TOOLS_AT_ONCE = 5
_WRAP_UP = 3
_RETRY_SECONDS = 0.25
_TOO_MANY = (
    f"Not run: at most {TOOLS_AT_ONCE} tool calls per response. Ask again for the ones you need."
)
_UNKNOWN = (
    "Outcome unknown: the service was restarted while this tool ran. It was not run again, "
    "because that could do harm. Check what happened before you repeat it."
)
_WRAP_UP_NOTE = "\n\nOnly {left} more steps are left in this reply. Come to an answer."


@dataclass(frozen=True, slots=True)
class Begun:
    """A reply that can go on: its voice, what was said before, what it has behind it."""

    session: SessionId
    reply: Reply
    voice: Voice
    history: Sequence[Said]
    iterations: Sequence[StoredIteration]
    resumed: bool
    """Whether an earlier holder began it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply ended; its words are the writer's."""

    state: ReplyState
    error: str | None = None
    usage: Usage = Usage()


class Replies:
    """Runs replies to their end or to an interruption."""

    def __init__(self, database: Database, feed: Feed, agents: Agents, metrics: Metrics) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents
        self._metrics = metrics

    async def run(self, begun: Begun, hold: Hold, writer: Writer) -> Outcome:
        """Bring one reply to its end. Being cancelled leaves what was said in the writer."""
        loop = _Loop(self._database, self._feed, self._agents, self._metrics, begun, hold, writer)
        try:
            await loop.run()
        except ProviderError as error:
            log.info("replies.failed", reply=begun.reply.id, reason=str(error))
            return Outcome(ReplyState.ERROR, str(error), loop.usage)
        return Outcome(ReplyState.DONE, usage=loop.usage)


class _Loop:
    """One reply on its way."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        agents: Agents,
        metrics: Metrics,
        begun: Begun,
        hold: Hold,
        writer: Writer,
    ) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents
        self._metrics = metrics
        self._begun = begun
        self._reply = begun.reply.id
        self._hold = hold
        self._writer = writer
        self._steps: list[Step] = []
        self.usage = sum((one.usage for one in begun.iterations), Usage())

    async def run(self) -> None:
        """Iterate until the model answers without asking for a tool. Raises ProviderError."""
        voice = self._begun.voice
        model, limits = self._agents.model(voice), self._agents.limits(voice)
        asking = Asking(model, limits, self._writer, self._reply, self._metrics)
        for iteration in self._begun.iterations:
            await self._go_on_from(iteration)
        while True:
            number = len(self._steps)
            asked_before = asking.requests
            try:
                response = await asking.ask(self._prompt(voice, limits, number))
            finally:
                self.usage += Usage(requests=asking.requests - asked_before)
            self.usage += replace(response.finished.usage, requests=0)
            if not response.calls or number + 1 >= limits.iterations:
                return
            await self._take_step(number, response)

    def _prompt(self, voice: Voice, limits: Limits, number: int) -> Prompt:
        left = limits.iterations - number
        system = voice.prompt
        if 1 < left <= _WRAP_UP + 1:
            system += _WRAP_UP_NOTE.format(left=left - 1)
        tools: Sequence[ToolSpec] = self._agents.tools(voice) if left > 1 else ()
        return Prompt(system, self._begun.history, tuple(self._steps), tools)

    async def _go_on_from(self, iteration: StoredIteration) -> None:
        """Take a stored iteration up; find an outcome for calls that a crash interrupted."""
        open_calls = [one for one in iteration.calls if one.state is ToolState.RUNNING]
        found = await self._outcomes_after_crash(open_calls)
        if found:
            await self._store_results(iteration.number, found)
        self._steps.append(_step(iteration, found))

    async def _outcomes_after_crash(
        self, calls: Sequence[StoredCall]
    ) -> dict[int, tuple[ToolState, ToolResult]]:
        specs = {spec.name: spec for spec in self._agents.tools(self._begun.voice)}
        found = {}
        for one in calls:
            spec = specs.get(one.call.tool)
            if spec is not None and spec.idempotent:
                found[one.ordinal] = await self._run_tool(one.call)
            else:
                result = ToolResult(one.call.id, one.call.tool, _UNKNOWN, failed=True)
                found[one.ordinal] = (ToolState.UNKNOWN, result)
        return found

    async def _take_step(self, number: int, response: Response) -> None:
        """Store the boundary, run the tools, store their results."""
        calls = tuple(
            StoredCall(call, ordinal, ToolState.RUNNING, None)
            if ordinal < TOOLS_AT_ONCE
            else StoredCall(call, ordinal, ToolState.ERROR, _TOO_MANY)
            for ordinal, call in enumerate(response.calls)
        )
        usage = replace(response.finished.usage, requests=1)
        iteration = StoredIteration(
            number,
            response.text,
            response.thinking,
            response.finished.metadata,
            usage,
            calls,
        )
        for one in calls:
            self._writer.add(
                "tool.started",
                {
                    "reply": self._reply,
                    "call": _call_name(number, one.ordinal),
                    "tool": one.call.tool,
                    "arguments": one.call.arguments,
                },
            )
        await self._store_boundary(iteration)
        reach("replies.boundary")
        runnable = calls[:TOOLS_AT_ONCE]
        results = await asyncio.gather(*(self._run_tool(one.call) for one in runnable))
        reach("replies.tools_ran")
        found = {one.ordinal: result for one, result in zip(runnable, results, strict=True)}
        await self._store_results(number, found)
        self._steps.append(_step(iteration, found))

    async def _run_tool(self, call: ToolCall) -> tuple[ToolState, ToolResult]:
        offered = {spec.name for spec in self._agents.tools(self._begun.voice)}
        if call.tool not in offered:
            names = ", ".join(sorted(offered)) or "none"
            text = f"There is no tool {call.tool!r}. Tools: {names}."
            return ToolState.ERROR, ToolResult(call.id, call.tool, text, failed=True)
        result = await self._agents.call(call)
        return (ToolState.ERROR if result.failed else ToolState.DONE), result

    async def _store_boundary(self, iteration: StoredIteration) -> None:
        work = partial(_add_iteration, self._reply, iteration, self._writer.text)
        await self._writer.store(partial(self._persist, work))

    async def _store_results(
        self, number: int, found: Mapping[int, tuple[ToolState, ToolResult]]
    ) -> None:
        for ordinal, (state, result) in found.items():
            self._writer.add(
                "tool.finished",
                {
                    "reply": self._reply,
                    "call": _call_name(number, ordinal),
                    "tool": result.tool,
                    "state": state.value,
                    "text": result.text,
                },
            )
        work = partial(_finish_calls, self._reply, number, found)
        await self._writer.store(partial(self._persist, work))

    async def _persist(
        self, work: Callable[[sa.Connection], None], events: Sequence[NewEvent]
    ) -> int:
        """Store `work` together with `events`, also over an outage; return the last number."""
        session, turn = self._begun.session, self._begun.reply.turn
        while True:
            self._hold.check()
            try:
                appended = await self._database.write(
                    _fenced, session, turn, self._hold.epoch, work, events
                )
            except StoreDown as error:
                log.warning("replies.store_failed", reply=self._reply, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._feed.announce({session: appended})
            return appended[-1].number if appended else 0


def _fenced(
    conn: sa.Connection,
    session: SessionId,
    turn: TurnId,
    epoch: int,
    work: Callable[[sa.Connection], None],
    events: Sequence[NewEvent],
) -> list[Event]:
    turns.fence(conn, turn, epoch)
    work(conn)
    if not events:
        return []
    return events_store.append(conn, {session: events}, at=datetime.now(UTC))[session]


def _add_iteration(
    reply: ReplyId, iteration: StoredIteration, text: str, conn: sa.Connection
) -> None:
    store.add_iteration(conn, reply, iteration, text=text, at=datetime.now(UTC))


def _finish_calls(
    reply: ReplyId,
    number: int,
    found: Mapping[int, tuple[ToolState, ToolResult]],
    conn: sa.Connection,
) -> None:
    store.finish_calls(conn, reply, number, found, at=datetime.now(UTC))


def _step(iteration: StoredIteration, found: Mapping[int, tuple[ToolState, ToolResult]]) -> Step:
    """What the model is told of an iteration; the ids are the provider's own."""
    results = []
    for one in iteration.calls:
        if one.ordinal in found:
            results.append(found[one.ordinal][1])
            continue
        failed = one.state is not ToolState.DONE
        results.append(ToolResult(one.call.id, one.call.tool, one.result or "", failed=failed))
    calls = tuple(one.call for one in iteration.calls)
    return Step(iteration.text, calls, tuple(results), iteration.thinking, iteration.metadata)


def _call_name(iteration: int, ordinal: int) -> str:
    """A call's name in the feed: providers' ids are unique within one response at best."""
    return f"{iteration}.{ordinal}"
