"""Sessions as people look at them, list by list and page by page, and what they do with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, auto
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from service.core.model import OccurrenceId, ProjectId, SessionId
from service.core.states import TURN_ACTIVE, OccurrenceState, TurnState
from service.store import inbox, projects
from service.store.sessions import Session, of_row
from service.store.tables import messages, occurrences, sessions, tasks, turns

_ACTIVE = tuple(sorted(state.value for state in TURN_ACTIVE))


class View(StrEnum):
    """The lists there are."""

    ACTIVE = auto()  # not archived: the pinned ones first, then by their last activity
    ARCHIVED = auto()  # the last archived one first
    SCHEDULED = auto()  # what tasks made, by task, the newest first


@dataclass(frozen=True, slots=True)
class Run:
    """The last time a task rang in its session."""

    occurrence: OccurrenceId
    scheduled_at: datetime
    manual: bool
    state: OccurrenceState
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def duration(self) -> timedelta | None:
        """How long its turn took; None while it is not over."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at


@dataclass(frozen=True, slots=True)
class Listed:
    """A session in a list."""

    session: Session
    state: TurnState | None
    """Of the turn that is worked on or comes next; None when there is nothing to do."""
    archived_at: datetime | None
    run: Run | None = None

    @property
    def unread(self) -> bool:
        """Whether something was said that nobody has looked at."""
        return self.session.last_message > self.session.read_to


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: what the list is ordered by, of its last session."""

    id: SessionId
    at: datetime
    sticky: bool
    task: str


def place_of(one: Listed) -> Place:
    """Where a page ends whose last session this is."""
    session = one.session
    return Place(
        session.id,
        one.archived_at or session.active_at,
        session.sticky,
        session.task or "",
    )


# -- reading --------------------------------------------------------------------------------------


def page(
    conn: sa.Connection,
    view: View = View.ACTIVE,
    *,
    limit: int,
    title: str | None = None,
    after: Place | None = None,
    reader: str | None = None,
    project: ProjectId | None = None,
) -> list[Listed]:
    """One page of a list; with `title` only sessions whose title holds it.

    With `reader` only those that they may see, with `project` only those that are in it, then also
    those that have not begun.
    """
    query = _ORDERED[view](after).limit(limit)
    if project is not None:
        query = query.where(sessions.c.project_id == project)
    elif view is View.ACTIVE:
        query = query.where(_begun())
    if reader is not None:
        query = query.where(projects.sessions_seen_by(reader))
    if title is not None:
        query = query.where(_titled(conn, title))
    return [_listed(row) for row in conn.execute(query)]


def _titled(conn: sa.Connection, words: str) -> sa.ColumnElement[bool]:
    """Whether a title holds this, in whichever case, of any alphabet."""
    if conn.dialect.name == "sqlite":
        return sa.func.instr(sa.func.casefold(sessions.c.title), words.casefold()) > 0
    collation = conn.scalar(_KNOWS_CAPITALS)
    title: sa.ColumnElement[str] = sessions.c.title
    given: sa.ColumnElement[str] = sa.literal(words)
    if collation is not None:
        title, given = title.collate(collation), given.collate(collation)
    # Small letters would not do: a sigma has two of them.
    return sa.func.strpos(sa.func.upper(title), sa.func.upper(given)) > 0


# A collation that folds more than ASCII, which those of many servers do not.
_KNOWS_CAPITALS = sa.text(
    "SELECT collname FROM pg_collation WHERE collname IN ('und-x-icu', 'pg_c_utf8')"
    " AND collnamespace = 'pg_catalog'::regnamespace ORDER BY collname DESC LIMIT 1"
)


def get(conn: sa.Connection, session: SessionId) -> Listed | None:
    """One session, as it stands in a list of scheduled ones if a task made it."""
    row = conn.execute(_with_run().where(sessions.c.id == session)).first()
    return _listed(row) if row else None


def get_many(conn: sa.Connection, ids: Sequence[SessionId]) -> list[Listed]:
    """The same for many at once, in the order of `ids`; those that are gone are left out."""
    rows = conn.execute(_with_run().where(sessions.c.id.in_(ids)))
    found = {SessionId(row.id): _listed(row) for row in rows}
    return [found[one] for one in ids if one in found]


def tasks_in(conn: sa.Connection, session: SessionId) -> list[str]:
    """The names of the tasks that ring in this very session, and would have nowhere to ring."""
    query = sa.select(tasks.c.name).where(tasks.c.made_in == session).order_by(tasks.c.name)
    return list(conn.scalars(query))


_HEAD = (
    sa.select(turns.c.state)
    .where(turns.c.session_id == sessions.c.id, turns.c.state.in_(_ACTIVE))
    .order_by(turns.c.number)
    .limit(1)
    .correlate(sessions)
    .scalar_subquery()
    .label("head_state")
)


def _begun() -> sa.ColumnElement[bool]:
    """Whoever began a session and has not said anything yet finds it again.

    Their older ones of that kind are ghosts; those of projects stand there until they are begun.
    """
    newer = sessions.alias()
    # Seen from an empty session, the next one of the same owner is close by in the index.
    ghost = sa.exists().where(
        newer.c.archived_at.is_(None),
        newer.c.last_message == 0,
        newer.c.id > sessions.c.id,
        newer.c.owner == sessions.c.owner,
        newer.c.project_id.is_(None),
    )
    newest = sa.and_(sessions.c.project_id.is_(None), sa.not_(ghost))
    return sa.or_(sessions.c.last_message > 0, newest)


def _active(after: Place | None) -> sa.Select[Any]:
    query = sa.select(sessions, _HEAD).where(sessions.c.archived_at.is_(None))
    order = (sessions.c.sticky, sessions.c.active_at, sessions.c.id)
    if after is not None:
        query = query.where(sa.tuple_(*order) < sa.tuple_(after.sticky, after.at, after.id))
    return query.order_by(*(column.desc() for column in order))


def _archived(after: Place | None) -> sa.Select[Any]:
    query = sa.select(sessions, _HEAD).where(sessions.c.archived_at.is_not(None))
    order = (sessions.c.archived_at, sessions.c.id)
    if after is not None:
        query = query.where(sa.tuple_(*order) < sa.tuple_(after.at, after.id))
    return query.order_by(*(column.desc() for column in order))


def _scheduled(after: Place | None) -> sa.Select[Any]:
    query = _with_run().where(sessions.c.task.is_not(None), sessions.c.archived_at.is_(None))
    if after is not None:
        same = sa.and_(sessions.c.task == after.task, sessions.c.id < after.id)
        query = query.where(sessions.c.task >= after.task)
        query = query.where(sa.or_(sessions.c.task > after.task, same))
    return query.order_by(sessions.c.task, sessions.c.id.desc())


def _with_run() -> sa.Select[Any]:
    last = (
        sa.select(occurrences.c.id)
        .where(occurrences.c.session_id == sessions.c.id)
        .order_by(occurrences.c.scheduled_at.desc())
        .limit(1)
        .correlate(sessions)
        .scalar_subquery()
    )
    return (
        sa.select(
            sessions,
            _HEAD,
            occurrences.c.id.label("run_id"),
            occurrences.c.scheduled_at.label("run_scheduled_at"),
            occurrences.c.manual.label("run_manual"),
            occurrences.c.state.label("run_state"),
            turns.c.started_at.label("run_started_at"),
            turns.c.finished_at.label("run_finished_at"),
        )
        .outerjoin(occurrences, occurrences.c.id == last)
        .outerjoin(turns, turns.c.id == occurrences.c.turn_id)
    )


_ORDERED = {View.ACTIVE: _active, View.ARCHIVED: _archived, View.SCHEDULED: _scheduled}


def _listed(row: sa.Row[Any]) -> Listed:
    state = TurnState(row.head_state) if row.head_state else None
    return Listed(of_row(row), state, row.archived_at, _run(row))


def _run(row: sa.Row[Any]) -> Run | None:
    if getattr(row, "run_id", None) is None:
        return None
    return Run(
        OccurrenceId(row.run_id),
        row.run_scheduled_at,
        row.run_manual,
        OccurrenceState(row.run_state),
        row.run_started_at,
        row.run_finished_at,
    )


# -- keeping --------------------------------------------------------------------------------------


def change(conn: sa.Connection, /, session: SessionId, **values: object) -> None:
    """Set columns of a session whose row is locked. It counts as no activity."""
    conn.execute(sessions.update().where(sessions.c.id == session).values(**values))


def is_busy(conn: sa.Connection, session: SessionId) -> bool:
    """Whether a turn of a session runs, waits, or is going to run."""
    query = sa.select(turns.c.id).where(turns.c.session_id == session, turns.c.state.in_(_ACTIVE))
    return conn.execute(query.limit(1)).first() is not None


def archive(conn: sa.Connection, ids: Collection[SessionId], *, at: datetime) -> None:
    """Archive sessions whose rows are locked; their keys are free for others from now on."""
    conn.execute(
        sessions.update()
        .where(sessions.c.id.in_(list(ids)))
        .values(archived_at=at, left_key=sessions.c.key, key=None)
    )


def restore(conn: sa.Connection, session: SessionId) -> bool:
    """Take a session out of the archive; whether it has its key again, which may be taken."""
    conn.execute(
        sessions.update().where(sessions.c.id == session).values(archived_at=None, key=None)
    )
    key = conn.scalar(sa.select(sessions.c.left_key).where(sessions.c.id == session))
    had = key is not None and _give_key(conn, session, key)
    change(conn, session, left_key=None)
    return had


def _give_key(conn: sa.Connection, session: SessionId, key: str) -> bool:
    taken = sa.select(sessions.c.id).where(sessions.c.key == key)
    if conn.execute(taken).first() is not None:
        return False
    try:
        with conn.begin_nested():
            change(conn, session, key=key)
    except IntegrityError:
        # Somebody rang at this very moment and has it now.
        return False
    return True


def delete(conn: sa.Connection, session: SessionId) -> bool:
    """Delete a session and all it holds for good; False when there was none.

    What its tasks did, what was spent and who did what is kept; so are the keys of what it
    received, which make a repeat harmless.
    """
    inbox.drop_bodies_of(conn, session)
    conn.execute(
        occurrences.update()
        .where(occurrences.c.session_id == session)
        .values(session_id=None, turn_id=None)
    )
    return conn.execute(sessions.delete().where(sessions.c.id == session)).rowcount == 1


def thin(conn: sa.Connection, session: SessionId, *, steps: int) -> int:
    """Delete the oldest messages of a session that is to be deleted, if it has more than `steps`.

    At most so many; how many that were. One statement that deleted tens of thousands would keep
    every other writer waiting for seconds.
    """
    last = (
        sa.select(messages.c.number)
        .where(messages.c.session_id == session)
        .order_by(messages.c.number)
        .offset(steps)
        .limit(1)
        .scalar_subquery()
    )
    return conn.execute(
        messages.delete().where(messages.c.session_id == session, messages.c.number < last)
    ).rowcount


def lock_idle(conn: sa.Connection, *, before: datetime, limit: int) -> Sequence[Session]:
    """Lock sessions nobody has used since, which nobody pinned and no chat lives in.

    What stands in a project until it is begun is in use.
    """
    busy = sa.exists().where(turns.c.session_id == sessions.c.id, turns.c.state.in_(_ACTIVE))
    rows = conn.execute(
        sa.select(sessions)
        .where(
            sessions.c.archived_at.is_(None),
            sessions.c.sticky == sa.false(),
            sessions.c.active_at < before,
            sessions.c.home.is_(None),
            sessions.c.question_id.is_(None),
            sa.or_(sessions.c.project_id.is_(None), sessions.c.last_message > 0),
            ~busy,
        )
        .order_by(sessions.c.active_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return sorted((of_row(row) for row in rows), key=_id)


def _id(session: Session) -> SessionId:
    return session.id
