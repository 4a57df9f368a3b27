"""How a turn begins, or goes on: who speaks, in which round, and what each of them is told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from service.core import briefing, rounds
from service.core.briefing import Briefing, Preceding, Section, UpstreamResult
from service.core.dependency import Dependency
from service.core.findings import Findings, Kept
from service.core.model import (
    Channel,
    Message,
    NewEvent,
    Question,
    Reply,
    ReplyId,
    Role,
    SessionId,
    Turn,
    TurnKind,
    Voice,
    VoiceId,
)
from service.core.rounds import Speaker
from service.core.state import State
from service.core.states import ReplyState, ToolState
from service.core.tabular import markdown_of, table_of
from service.engine import findings
from service.engine.history import fitting
from service.engine.replies import Begun
from service.ports import Agents
from service.store import (
    investigations,
    key_results,
    memory,
    occurrences,
    projects,
    replies,
    sessions,
    spending,
    turns,
)
from service.store import questions as questions_store
from service.store.ids import new_id
from service.store.investigations import Investigation
from service.store.key_results import KeyResult
from service.store.memory import Remembered
from service.store.sessions import Session

_LEAST_ROOM = 200
"""Characters, below which the data of a result is not shown at all."""

NOBODY = (
    "Nobody was addressed. In conductor mode say to whom you speak: begin with @ and a name. "
    "There are: {names}."
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A turn with everything its rounds need that does not change while they run."""

    turn: Turn
    session: Session
    voices: tuple[Voice, ...]
    directed: bool
    messages: Sequence[Message]
    """The conversation up to what the turn answers, oldest first: as much as any voice is told."""
    remembered: Remembered
    questions: Sequence[Question]
    """What the turn has asked before."""
    iterations_before: int = 0
    spent_today: Mapping[str, int] = field(default_factory=dict)
    """Millionths of a US dollar, by the agents that have a limit for the day."""
    budgets: Mapping[VoiceId, int] = field(default_factory=dict)
    """How many characters of the conversation each voice may be told."""
    briefing: Briefing | None = None
    kept: Kept | None = None
    occasion: str = ""
    """What rang, in words for the model; empty when a person wrote."""

    @property
    def speakers(self) -> list[Speaker]:
        """The voices as the rules of rounds see them."""
        return _speakers(self.voices)

    @property
    def alone(self) -> bool:
        """Whether the session has a single voice."""
        return len(self.voices) == 1

    def voice(self, voice: VoiceId) -> Voice:
        """One of the voices."""
        return next(one for one in self.voices if one.id == voice)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A turn that is ours, and the replies of its newest round."""

    scene: Scene
    round: int
    begun: tuple[Begun, ...]
    """The replies to go on with; empty when all of the round are over."""
    over: tuple[Reply, ...]
    """The replies of all rounds that came to their end."""
    newest: int = 0
    problem: str | None = None
    """Why nobody can answer it."""

    @property
    def turn(self) -> Turn:
        """The turn."""
        return self.scene.turn

    @property
    def resumed(self) -> bool:
        """Whether it was begun before."""
        return bool(self.over) or any(one.resumed for one in self.begun)


def begin(
    conn: sa.Connection, agents: Agents, turn: Turn, *, at: datetime
) -> tuple[Claimed, list[NewEvent]]:
    """Take a claimed turn up where it stands; the events that tell of it."""
    session, voices = sessions.with_voices(conn, turn.session)
    # The first claim of a turn finds nothing of it.
    stored = replies.of_turn(conn, turn.id) if turn.epoch > 1 else []
    scene = _scene(conn, agents, turn, session, tuple(voices), at, asked=bool(stored))
    started = NewEvent("turn.started", {"turn": turn.id, "attempt": turn.attempt}, turn.id)
    if stored:
        claimed, events = _resume(conn, scene, stored)
        return claimed, [started, *events]
    first, directed = _first(scene)
    if not first:
        names = ", ".join(one.name for one in scene.speakers if one.active) or "none"
        return Claimed(scene, 0, (), (), problem=NOBODY.format(names=names)), [started]
    if not scene.alone:
        turns.decide(conn, turn.id, [VoiceId(one.id) for one in first], directed=directed)
        scene = replace(scene, directed=directed)
    begun, events = begin_round(conn, scene, 1, first, (), at=at)
    return Claimed(scene, 1, begun, ()), [started, *events]


def begin_round(
    conn: sa.Connection,
    scene: Scene,
    number: int,
    speakers: Sequence[Speaker],
    over: Sequence[Reply],
    *,
    at: datetime,
) -> tuple[tuple[Begun, ...], list[NewEvent]]:
    """Store the replies of a round that begins; what they begin with, and the events of it."""
    new = [
        Reply(
            ReplyId(new_id()),
            scene.turn.id,
            VoiceId(one.id),
            number,
            ReplyState.GENERATING,
            "",
        )
        for one in speakers
    ]
    replies.begin(conn, new, at=at)
    told = {"round": number}
    if not scene.alone:
        told = {"round": number, "voices": [one.name for one in speakers]}  # type: ignore[dict-item]
    events = [NewEvent("round.started", told, scene.turn.id)]
    if number > 1 and scene.kept is not None:
        # The rounds before have found something out.
        now = _investigation(conn, scene.session)
        scene = replace(scene, kept=findings.kept(conn, scene.session.id, now))
    begun = tuple(_begun(scene, one, over, (), resumed=False) for one in new)
    events += [
        NewEvent(
            "reply.started",
            {
                "reply": one.reply.id,
                "voice": one.voice.id,
                "name": one.voice.name,
                "round": number,
            },
            scene.turn.id,
        )
        for one in begun
    ]
    return begun, events


def _scene(
    conn: sa.Connection,
    agents: Agents,
    turn: Turn,
    session: Session,
    voices: tuple[Voice, ...],
    at: datetime,
    *,
    asked: bool,
) -> Scene:
    first = voices[0]
    limits = agents.limits(first)
    budgets = {one.id: agents.limits(one).history_characters for one in voices}
    most = max(budgets.values())
    messages = sessions.conversation(
        conn,
        turn.session,
        turn=turn.number,
        after_turn=session.context_from,
        characters=most,
    )
    counted = limits.iterations_per == "session" or session.project is not None
    investigation = _investigation(conn, session)
    has_data = any(tool.data for voice in voices for tool in agents.tools(voice))
    limited = {one.agent for one in voices if agents.limits(one).day_cost is not None}
    return Scene(
        turn=turn,
        session=session,
        voices=voices,
        directed=turn.directed,
        messages=fitting(messages, characters=most),
        remembered=memory.read(conn, turn.session),
        questions=questions_store.of_turn(conn, turn.id) if asked else (),
        iterations_before=(
            replies.iterations_in(conn, turn.session, before=turn.id) if counted else 0
        )
        - (investigation.iterations_added if investigation is not None else 0),
        spent_today={one: spending.cost_today(conn, one, at=at) for one in limited},
        budgets=budgets,
        briefing=_briefing(conn, session) if investigation is not None else None,
        kept=(
            findings.kept(conn, session.id, investigation)
            if investigation is not None or has_data
            else None
        ),
        occasion=_occasion(conn, turn),
    )


def _occasion(conn: sa.Connection, turn: Turn) -> str:
    if turn.kind is not TurnKind.MESSAGE:
        return ""
    match turn.channel:
        case Channel.WEBHOOK:
            return briefing.posted(turn.trigger)
        case Channel.CRON:
            # The sessions that a scan begins have none.
            one = None if turn.occurrence is None else occurrences.get(conn, turn.occurrence)
            if one is None:
                return briefing.rung(turn.trigger)
            return briefing.rung(turn.trigger, due=one.scheduled_at, by_hand=one.manual)
        case _:
            return ""


def _first(scene: Scene) -> tuple[list[Speaker], bool]:
    """The voices of the first round, and whether one of them was named."""
    speakers = scene.speakers
    if scene.alone:
        return speakers, False
    active = [one for one in speakers if one.active]
    if scene.turn.kind is TurnKind.COMPACT:
        return active[:1], False
    if scene.turn.voices:
        return [one for one in active if one.id in scene.turn.voices], True
    asked = scene.messages[-1] if scene.messages else None
    said = scene.turn.kind is TurnKind.MESSAGE and asked is not None
    text = asked.text if said and asked is not None else ""
    conducted = scene.session.mode is rounds.Mode.CONDUCTOR
    target = scene.session.target if conducted else None
    first = rounds.first_round(speakers, mode=scene.session.mode, target=target, text=text)
    named = rounds.mentioned(text, speakers) is not None
    return first, named or (conducted and len(first) == 1)


def _resume(
    conn: sa.Connection, scene: Scene, stored: Sequence[Reply]
) -> tuple[Claimed, list[NewEvent]]:
    number = max(one.round for one in stored)
    ended = (ReplyState.DONE, ReplyState.ERROR)
    over = tuple(one for one in stored if one.state in ended)
    open_ = [one for one in stored if one.state not in ended]
    begun = tuple(
        _begun(scene, one, over, replies.iterations_of(conn, one.id), resumed=True) for one in open_
    )
    events = [
        NewEvent("reply.reset", {"reply": one.reply.id, "text": one.reply.text}, scene.turn.id)
        for one in begun
        if not _stopped_at_question(one)
    ]
    return Claimed(scene, number, begun, over), events


def _stopped_at_question(begun: Begun) -> bool:
    """Whether every word of it is stored; else readers may have seen more, and go back."""
    last = begun.iterations[-1].calls if begun.iterations else ()
    return any(one.state is ToolState.WAITING for one in last)


def _begun(
    scene: Scene,
    reply: Reply,
    over: Sequence[Reply],
    iterations: Sequence[replies.StoredIteration],
    *,
    resumed: bool,
) -> Begun:
    voice = scene.voice(reply.voice)
    earlier = [one.usage.cost_micros for one in over if scene.voice(one.voice).agent == voice.agent]
    questions: Mapping[tuple[int, int], Question] = {
        (one.iteration, one.ordinal): one for one in scene.questions if one.reply == reply.id
    }
    return Begun(
        turn=scene.turn,
        owner=scene.session.owner,
        reply=reply,
        voice=voice,
        messages=[*_told(scene, voice), *_earlier(scene, over, reply.round)],
        summary=scene.session.summary,
        remembered=scene.remembered,
        iterations=iterations,
        questions=questions,
        resumed=resumed,
        company=_company(scene.session, scene.voices, voice),
        iterations_before=scene.iterations_before,
        spent_before=sum(earlier),
        spent_today=scene.spent_today.get(voice.agent, 0),
        briefing=scene.briefing,
        kept=scene.kept,
        occasion=scene.occasion,
    )


def _told(scene: Scene, voice: Voice) -> Sequence[Message]:
    """As much of the conversation as the voice may be told."""
    if scene.alone:
        return scene.messages
    return fitting(scene.messages, characters=scene.budgets[voice.id])


def _company(session: Session, voices: Sequence[Voice], voice: Voice) -> str:
    """What a voice is told of the others; empty when it is alone."""
    if len(voices) == 1:
        return ""
    speakers = _speakers(voices)
    me = next(one for one in speakers if one.id == voice.id)
    return rounds.roster(me, speakers, session.mode)


def _speakers(voices: Iterable[Voice]) -> list[Speaker]:
    return [Speaker(one.id, one.name, one.active, one.rounds) for one in voices]


def _earlier(scene: Scene, over: Iterable[Reply], number: int) -> list[Message]:
    """What the voices have said in earlier rounds of the turn."""
    return [
        Message(
            number=scene.turn.number,
            role=Role.VOICE,
            author=scene.voice(one.voice).name,
            text=one.text,
            status=_status(one),
            at=scene.turn.created_at,
            turn=scene.turn.id,
            voice=one.voice,
            round=one.round,
        )
        for one in over
        if one.round < number and one.text
    ]


def _status(over: Reply) -> Literal["complete", "partial", "error"]:
    if over.state is ReplyState.ERROR:
        return "error"
    return "partial" if over.stopped else "complete"


# -- investigations -------------------------------------------------------------------------------


def preview(conn: sa.Connection, agents: Agents, session: SessionId) -> list[Section]:
    """What the first voice of a session would be told before the conversation, as of now.

    With all tools there are: which of them may be used follows from who rings.
    """
    there = sessions.find_with_voices(conn, session)
    if there is None:
        return []
    found, voices = there
    first, remembered = voices[0], memory.read(conn, session)
    knobs = {
        name: remembered.knobs.get(name, knob.default) for name, knob in agents.knobs(first).items()
    }
    involved = _briefing(conn, found) if _is_involved(found) else None
    known = Findings(findings.kept(conn, session, _investigation(conn, found)))
    tools = findings.offered(
        known, agents.tools(first), in_project=involved is not None and involved.in_project
    )
    return briefing.sections(
        company=_company(found, voices, first),
        prompt=first.prompt,
        state=agents.sections(first, State(remembered.state), State(knobs)),
        briefing=involved,
        findings=known,
        tools={one.name: one.description for one in tools},
    )


def _is_involved(session: Session) -> bool:
    """Whether it is to come to something, or in a project."""
    return session.investigated or session.project is not None


def _investigation(conn: sa.Connection, session: Session) -> Investigation | None:
    """What the session is to come to; other sessions cost no query."""
    if not _is_involved(session):
        return None
    return investigations.get(conn, session.id) or Investigation(session.id)


def _briefing(conn: sa.Connection, session: Session) -> Briefing:
    if session.project is None:
        return Briefing()
    project = projects.get(conn, session.project)
    wanted = investigations.dependencies_of(conn, [session.id]).get(session.id, [])
    return Briefing(
        in_project=True,
        project_prompt=project.prompt if project is not None else "",
        preceding=_preceding(conn, wanted) if wanted else (),
    )


def _preceding(conn: sa.Connection, wanted: Sequence[Dependency]) -> tuple[Preceding, ...]:
    ids = [one.upstream for one in wanted]
    upstream = investigations.upstreams(conn, ids)
    stored = investigations.of_many(conn, ids)
    shown = _shown_results(conn, ids)
    found = []
    for one in wanted:
        known = upstream.get(one.upstream)
        if known is None:
            found.append(Preceding(one.title, deleted=True))
            continue
        investigation = stored.get(one.upstream)
        found.append(
            Preceding(
                known.title,
                investigation.request if investigation is not None else None,
                known.disposition,
                known.stale,
                results=tuple(shown.get(one.upstream, ())),
            )
        )
    return tuple(found)


def _shown_results(
    conn: sa.Connection, ids: Sequence[SessionId]
) -> dict[SessionId, list[UpstreamResult]]:
    """The key results of sessions; the room for their data is shared evenly."""
    counts = key_results.counts(conn, ids)
    left = briefing.RESULTS_CHARACTERS
    found: dict[SessionId, list[UpstreamResult]] = {}
    results = [
        one
        for session in ids
        if session in counts
        for one in key_results.of_session(conn, session, promoted=True)
    ]
    for place, one in enumerate(results):
        room = left // (len(results) - place)
        shown = _shown(conn, one, room) if room >= _LEAST_ROOM else ""
        left -= len(shown)
        told = UpstreamResult(one.title or "", one.description, shown)
        found.setdefault(one.session, []).append(told)
    return found


def _shown(conn: sa.Connection, result: KeyResult, characters: int) -> str:
    value = json.loads(key_results.data(conn, result.session, result.name) or "null")
    table = table_of(value)
    if table is not None:
        return markdown_of(table, briefing.RESULT_ROWS, characters)
    return json.dumps(value, ensure_ascii=False, indent=2)[:characters]
