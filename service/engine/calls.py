"""What becomes of the tool calls of one model response: run, refused, or asked about first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.core.access import Policy, Verdict, permission, present
from service.core.findings import Findings, Place
from service.core.model import Origin, Question, Reply, Turn, Voice
from service.core.state import State
from service.core.states import ToolState
from service.engine import findings, questions
from service.engine.questions import PROMPT_USER, Call
from service.errors import BadInput
from service.ports import Agents, Caller, ToolCall, ToolResult, ToolSpec
from service.store.replies import StoredCall

TOOLS_AT_ONCE = 5
TOO_MANY = (
    f"Not run: at most {TOOLS_AT_ONCE} tool calls per response. Ask again for the ones you need."
)
OUTCOME_UNKNOWN = (
    "Outcome unknown: the service was restarted while this tool ran. It was not run again, "
    "because that could do harm. Check what happened before you repeat it."
)
_FORBIDDEN = "Not run: {tool} may not be used here, because of where this message came from."

Found = Mapping[int, tuple[ToolState, ToolResult]]
"""Results of calls by their ordinal."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the calls of one response; every one of them is in exactly one part."""

    run: Sequence[int]
    ask: Mapping[int, Question]
    found: Found
    """Answered without running."""

    def states(self, calls: Sequence[ToolCall]) -> tuple[StoredCall, ...]:
        """The calls as they are stored before any of them runs."""
        return tuple(self._stored(ordinal, call) for ordinal, call in enumerate(calls))

    def _stored(self, ordinal: int, call: ToolCall) -> StoredCall:
        if ordinal in self.found:
            state, result = self.found[ordinal]
            return StoredCall(call, ordinal, state, result.text)
        state = ToolState.WAITING if ordinal in self.ask else ToolState.RUNNING
        return StoredCall(call, ordinal, state, None)


class Calls:
    """Decides about, and runs, the tool calls of one reply.

    What a call may do follows from the turn's origin and its trigger's policy, not from anything
    a model has read.
    """

    def __init__(
        self,
        agents: Agents,
        turn: Turn,
        reply: Reply,
        voice: Voice,
        policy: Policy,
        *,
        owner: str,
        state: State,
        knobs: State,
        within: timedelta,
        found: Findings | None,
        read: findings.Read,
        in_project: bool,
    ) -> None:
        self._agents = agents
        self._turn = turn
        self._reply = reply
        self._voice = voice
        self._policy = policy
        # In a group anybody may ring; what acts outward is for the session's owner to allow.
        self._approver = owner if turn.origin is Origin.GROUP else turn.author
        self._state = state
        self._knobs = knobs
        self._within = within
        self._findings = found
        self._read = read
        self._in_project = in_project

    @property
    def attended(self) -> bool:
        """Whether there is somebody to ask."""
        return present(self._turn.origin, self._policy)

    def offered(self) -> list[ToolSpec]:
        """The tools the model is told of: those that may run now, if need be once approved."""
        return [
            spec for spec in self._tools().values() if self._verdict(spec) is not Verdict.DENIED
        ]

    def _tools(self) -> dict[str, ToolSpec]:
        """All tools there are, by name: the voice's, and the engine's own."""
        tools = self._agents.tools(self._voice)
        offered = findings.offered(self._findings, tools, in_project=self._in_project)
        return {spec.name: spec for spec in offered}

    def _is_own(self, tool: str) -> bool:
        """Whether it is the engine's, which acts on nothing but the session's findings."""
        return self._findings is not None and tool in findings.OWN

    def plan(self, iteration: int, calls: Sequence[ToolCall]) -> Plan:
        """Decide about every call before the first one runs."""
        if len(calls) > 1 and any(call.tool == PROMPT_USER.name for call in calls):
            return Plan((), {}, {n: _error(call, questions.ALONE) for n, call in enumerate(calls)})
        run: list[int] = []
        ask: dict[int, Question] = {}
        found: dict[int, tuple[ToolState, ToolResult]] = {}
        for ordinal, call in enumerate(calls):
            match self._decide(iteration, ordinal, call):
                case Question() as question:
                    ask[ordinal] = question
                case str() as problem:
                    found[ordinal] = _error(call, problem)
                case None:
                    run.append(ordinal)
        return Plan(run, ask, found)

    def ask_again(self, iteration: int, stored: StoredCall) -> Question | str:
        """The question of a call that was about to be asked when the process died."""
        decided = self._decide(iteration, stored.ordinal, stored.call)
        return decided if decided is not None else "It need not be asked any more; call it again."

    async def run(
        self, iteration: int, calls: Sequence[tuple[int, ToolCall]]
    ) -> dict[int, tuple[ToolState, ToolResult]]:
        """Run calls at the same time; their results by ordinal."""
        results = await asyncio.gather(
            *(self._run(iteration, ordinal, call) for ordinal, call in calls)
        )
        return {ordinal: result for (ordinal, _), result in zip(calls, results, strict=True)}

    async def after_crash(
        self, iteration: int, calls: Sequence[StoredCall]
    ) -> dict[int, tuple[ToolState, ToolResult]]:
        """Results for calls that were running when the process died: only safe ones run again."""
        specs = self._tools()
        safe = [
            (one.ordinal, one.call)
            for one in calls
            if one.call.tool in specs and specs[one.call.tool].idempotent
        ]
        found = await self.run(iteration, safe)
        for one in calls:
            if one.ordinal not in found:
                result = ToolResult(one.call.id, one.call.tool, OUTCOME_UNKNOWN, failed=True)
                found[one.ordinal] = (ToolState.UNKNOWN, result)
        return found

    def _decide(self, iteration: int, ordinal: int, call: ToolCall) -> Question | str | None:
        """A question to ask first, the reason not to run it, or None to run it."""
        if ordinal >= TOOLS_AT_ONCE:
            return TOO_MANY
        spec = self._tools().get(call.tool)
        verdict = Verdict.DENIED if spec is None else self._verdict(spec)
        if spec is None:
            offered = ", ".join(sorted(one.name for one in self.offered())) or "none"
            return f"There is no tool {call.tool[:100]!r}. Tools: {offered}."
        place = Call(self._turn.session, self._reply, iteration, ordinal, call)
        asked_of, now = self._turn.author, datetime.now(UTC)
        if spec.name == PROMPT_USER.name:
            try:
                return questions.question_of(place, asked_of=asked_of, now=now, within=self._within)
            except BadInput as problem:
                return str(problem)
        if verdict is Verdict.ASK:
            return questions.approval_of(
                place, asked_of=self._approver, now=now, within=self._within
            )
        return _FORBIDDEN.format(tool=spec.name) if verdict is Verdict.DENIED else None

    def _verdict(self, spec: ToolSpec) -> Verdict:
        if spec.name == PROMPT_USER.name or self._is_own(spec.name):
            return Verdict.ALLOWED
        return permission(
            self._turn.origin,
            self._policy,
            tool=spec.name,
            outward=spec.outward,
            approval=spec.approval,
        )

    async def _run(
        self, iteration: int, ordinal: int, call: ToolCall
    ) -> tuple[ToolState, ToolResult]:
        caller = Caller(
            session=self._turn.session,
            turn=self._turn.id,
            voice=self._voice,
            origin=self._turn.origin,
            author=self._turn.author,
            key=f"{self._reply.id}:{iteration}.{ordinal}",
            state=self._state,
            knobs=self._knobs,
        )
        result = await self._result(call, caller, iteration, ordinal)
        return (ToolState.ERROR if result.failed else ToolState.DONE), result

    async def _result(
        self, call: ToolCall, caller: Caller, iteration: int, ordinal: int
    ) -> ToolResult:
        if self._findings is None:
            return await self._agents.call(call, caller)
        if self._is_own(call.tool):
            return await findings.run(call, self._findings, self._read)
        result = await self._agents.call(call, caller)
        spec = self._tools().get(call.tool)
        if result.failed or result.data is None or spec is None or not spec.data:
            return result
        place = Place(call.tool, iteration, ordinal)
        return findings.named(self._findings, place, caller.key, result)


def _error(call: ToolCall, text: str) -> tuple[ToolState, ToolResult]:
    return ToolState.ERROR, ToolResult(call.id, call.tool, text, failed=True)
