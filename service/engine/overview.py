"""Projects and key results for those who only look: theirs, and not all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from service.core.model import ProjectId, SessionId
from service.engine.investigating import Told, told_of
from service.engine.investigations import View, views_of
from service.ports import Agents
from service.store import key_results, projects

MOST_SESSIONS = 50
"""Sessions of a project that are listed."""


@dataclass(frozen=True, slots=True)
class ProjectSummary:
    """A project in a list."""

    project: ProjectId
    name: str
    sessions: int
    results: int
    active_at: datetime


@dataclass(frozen=True, slots=True)
class ProjectContents:
    """A project and the first of its sessions, in their manual order."""

    name: str
    sessions: Sequence[View]
    more: int
    """How many further sessions there are."""


@dataclass(frozen=True, slots=True)
class Results:
    """Some of a session's key results, in the order they were promoted in."""

    shown: Sequence[Told]
    total: int


def may_see(conn: sa.Connection, session: SessionId, reader: str) -> bool:
    """Whether somebody may see what a session found out: it is in no project, or in theirs."""
    standing = projects.standing(conn, reader, "session", session)
    return standing is None or standing.share is not None


def projects_of(conn: sa.Connection, reader: str) -> list[ProjectSummary]:
    """The projects that somebody may see, the most recently active first."""
    return [
        ProjectSummary(project.id, project.name, found.sessions, found.results, found.active_at)
        for project, found in projects.every(conn, reader=reader)
    ]


def contents_of(
    conn: sa.Connection, agents: Agents, project: ProjectId, reader: str
) -> ProjectContents | None:
    """A project with its sessions; None when there is none that `reader` may see."""
    found = projects.get(conn, project)
    if found is None or not found.may_see(reader):
        return None
    views = views_of(conn, agents, project)
    return ProjectContents(found.name, views[:MOST_SESSIONS], max(len(views) - MOST_SESSIONS, 0))


def results_of(conn: sa.Connection, session: SessionId, *, skip: int, limit: int) -> Results:
    """`limit` of a session's key results after the first `skip`, with their data."""
    found = key_results.of_session(conn, session, promoted=True)
    return Results([told_of(conn, one) for one in found[skip : skip + limit]], len(found))
