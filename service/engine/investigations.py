"""How investigations stand, for people and for the gate that holds the first message back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, auto
from typing import Any

import sqlalchemy as sa

from service.core.dependency import Dependency, Upstream, unmet
from service.core.disposition import Schema
from service.core.model import ProjectId, SessionId, Voice
from service.core.states import TurnState
from service.ports import Agents
from service.store import investigations as store
from service.store import key_results, lists, projects, replies, sessions
from service.store.investigations import Investigation
from service.store.lists import Listed


class Stage(StrEnum):
    """What a session is doing."""

    NOT_STARTED = auto()  # nobody has said anything yet
    QUEUED = auto()
    RUNNING = auto()
    WAITING = auto()
    IDLE = auto()


@dataclass(frozen=True, slots=True)
class Need:
    """Something a session depends on, and why that does not hold yet."""

    session: SessionId
    title: str
    field: str | None = None
    value: str | None = None
    unmet: str | None = None
    """The reason in words; None when it holds."""


@dataclass(frozen=True, slots=True)
class Iterations:
    """Model calls with tools: those that were made, and how many there may be."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class View:
    """A session as what it is to come to, what it waits for and what it came to."""

    session: SessionId
    title: str | None
    owner: str
    agent: str
    position: int | None
    state: Stage
    complete: bool
    updated_at: datetime
    results: int
    """Promoted ones."""
    request: str | None
    schema: Schema | None
    disposition: Mapping[str, Any] | None
    disposition_by: str | None
    disposition_at: datetime | None
    confirmed_by: str | None
    confirmed_at: datetime | None
    stale: bool
    dependencies: Sequence[Need]
    iterations: Iterations
    archived: bool
    project: ProjectId | None

    @property
    def ready(self) -> bool:
        """Whether everything holds that it depends on."""
        return all(one.unmet is None for one in self.dependencies)


def views_of(conn: sa.Connection, agents: Agents, project: ProjectId) -> list[View]:
    """The sessions of a project in their manual order."""
    return _views(conn, agents, [SessionId(one) for one in projects.order(conn, project)])


def view_of(conn: sa.Connection, agents: Agents, session: SessionId) -> View | None:
    """One session, in a project or not; None when there is none."""
    found = _views(conn, agents, [session])
    return found[0] if found else None


def unready(conn: sa.Connection, session: SessionId) -> str | None:
    """Everything that does not hold of what a session depends on; None when it may start."""
    wanted = store.dependencies_of(conn, [session]).get(session, [])
    if not wanted:
        return None
    upstream = store.upstreams(conn, [one.upstream for one in wanted])
    reasons = [one.unmet for one in _needs(wanted, upstream) if one.unmet is not None]
    return f"cannot start yet: {'; '.join(reasons)}" if reasons else None


# -- all of a project at once ---------------------------------------------------------------------


def _views(conn: sa.Connection, agents: Agents, ids: Sequence[SessionId]) -> list[View]:
    """These sessions in this order, by as many queries for one as for all."""
    listed = lists.get_many(conn, ids)
    stored = store.of_many(conn, ids)
    wanted = store.dependencies_of(conn, ids)
    known = store.upstreams(conn, {*ids, *_upstreams_in(wanted)})
    counts = key_results.counts(conn, ids)
    voices = sessions.first_voices(conn, ids)
    used = _used(conn, agents, listed, voices)
    return [
        _view(
            one,
            stored.get(one.session.id) or Investigation(one.session.id),
            known,
            _needs(wanted.get(one.session.id, ()), known),
            counts.get(one.session.id, 0),
            Iterations(
                used.get(one.session.id, 0), agents.limits(voices[one.session.id]).iterations
            ),
        )
        for one in listed
    ]


def _view(
    listed: Listed,
    stored: Investigation,
    known: Mapping[SessionId, Upstream],
    needs: Sequence[Need],
    results: int,
    iterations: Iterations,
) -> View:
    session = listed.session
    mine = known.get(session.id)
    return View(
        session=session.id,
        title=session.title,
        owner=session.owner,
        agent=session.agent,
        position=stored.position,
        state=_stage(listed),
        complete=mine is not None and mine.complete,
        updated_at=session.active_at,
        results=results,
        request=stored.request,
        schema=stored.schema,
        disposition=stored.disposition,
        disposition_by=stored.disposition_by,
        disposition_at=stored.disposition_at,
        confirmed_by=stored.confirmed_by,
        confirmed_at=stored.confirmed_at,
        stale=stored.stale,
        dependencies=needs,
        iterations=Iterations(iterations.used, iterations.limit + stored.iterations_added),
        archived=session.archived,
        project=session.project,
    )


_STAGES = {
    TurnState.QUEUED: Stage.QUEUED,
    TurnState.RUNNING: Stage.RUNNING,
    TurnState.WAITING: Stage.WAITING,
}


def _stage(listed: Listed) -> Stage:
    if listed.state is not None:
        return _STAGES[listed.state]
    return Stage.IDLE if listed.session.last_message else Stage.NOT_STARTED


def _needs(wanted: Iterable[Dependency], known: Mapping[SessionId, Upstream]) -> tuple[Need, ...]:
    return tuple(_need(one, known.get(one.upstream)) for one in wanted)


def _need(one: Dependency, upstream: Upstream | None) -> Need:
    title = one.title if upstream is None else upstream.title
    return Need(one.upstream, title, one.field, one.value, unmet(one, upstream))


def _upstreams_in(wanted: Mapping[SessionId, Sequence[Dependency]]) -> set[SessionId]:
    return {one.upstream for needs in wanted.values() for one in needs}


def _used(
    conn: sa.Connection,
    agents: Agents,
    listed: Sequence[Listed],
    voices: Mapping[SessionId, Voice],
) -> dict[SessionId, int]:
    """What counts against the limits; outside of projects that may be the newest turn alone."""
    whole: list[SessionId] = []
    newest: list[SessionId] = []
    for one in listed:
        session = one.session
        per = agents.limits(voices[session.id]).iterations_per
        counted = session.project is not None or per == "session"
        (whole if counted else newest).append(session.id)
    return {
        **(replies.iterations_used(conn, whole) if whole else {}),
        **(replies.iterations_used(conn, newest, newest_turn=True) if newest else {}),
    }
