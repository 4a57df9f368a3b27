"""Sessions as people keep them: named, pinned, archived, restored, deleted, read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, auto

import sqlalchemy as sa

from service.core.access import may_archive
from service.core.dependency import UNTITLED
from service.core.model import Event, NewEvent, ProjectId, SessionId, TurnId
from service.core.states import TurnState
from service.engine import scans
from service.errors import BadInput
from service.store import audit, investigations, lists, projects, sessions, tasks, turns
from service.store import feed as events
from service.store.sessions import Session

# Who archives what nobody uses.
HOUSEKEEPING = "housekeeping"


class NotKept(StrEnum):
    """Why a session is left as it is."""

    UNKNOWN = auto()
    ARCHIVED = auto()
    PINNED = auto()
    BUSY = auto()
    TITLED = auto()
    NEEDED = auto()
    NOT_OWNER = auto()

    @property
    def detail(self) -> str:
        """The reason, and what to do about it."""
        return _DETAILS[self]


_DETAILS = {
    NotKept.UNKNOWN: "there is no such session",
    NotKept.ARCHIVED: "the session is archived; restore it first",
    NotKept.PINNED: "the session is pinned; unpin it first",
    NotKept.TITLED: "title: another session of the project is called so already",
    NotKept.NEEDED: "other sessions depend on it",
    NotKept.NOT_OWNER: "the session is somebody else's; only its owner may archive it",
    NotKept.BUSY: "the session has something to do; stop it first, or wait until it is done",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of it."""

    refused: NotKept | None = None
    events: Sequence[Event] = ()
    stopping: Sequence[TurnId] = ()
    """Turns that run and have to end."""


def rename(conn: sa.Connection, session: SessionId, title: str, by: str) -> Kept:
    """Give a session a title that nothing but another renaming changes."""
    project = lock_project(conn, session)
    found = _locked(conn, session)
    if isinstance(found, NotKept):
        return Kept(found)
    if project is not None:
        if _is_taken(conn, project, session, title):
            return Kept(NotKept.TITLED)
        investigations.retitle(conn, session, title)
    lists.change(conn, session, title=title, titled=True)
    return _told(conn, found, what="renamed", title=title, by=by)


def pin(conn: sa.Connection, session: SessionId, by: str, *, sticky: bool) -> Kept:
    """Pin a session, or let go of it; doing it again changes nothing."""
    found = _locked(conn, session)
    if isinstance(found, NotKept):
        return Kept(found)
    if found.sticky == sticky:
        return Kept()
    lists.change(conn, session, sticky=sticky)
    return _told(conn, found, what="pinned" if sticky else "unpinned", by=by)


def archive(conn: sa.Connection, session: SessionId, by: str, *, owner_only: bool = False) -> Kept:
    """Put a session away: it can be read, and nothing else; its key goes to the next one.

    `owner_only` refuses everybody but its owner. Refused attempts are written down, too.
    """
    found = _locked(conn, session)
    if found is NotKept.ARCHIVED:
        return Kept()
    if isinstance(found, NotKept):
        return Kept(found)
    # Nothing can be queued meanwhile: that takes the lock we have.
    busy = lists.is_busy(conn, session)
    refused = NotKept.PINNED if found.sticky else NotKept.BUSY if busy else None
    if owner_only and not may_archive(by, owner=found.owner):
        refused = NotKept.NOT_OWNER
    at = datetime.now(UTC)
    audit.note(conn, by, "archive", session=session, allowed=refused is None, at=at)
    if refused is not None:
        return Kept(refused)
    lists.archive(conn, [session], at=at)
    return _told(conn, found, what="archived", by=by)


def restore(conn: sa.Connection, session: SessionId, by: str) -> Kept:
    """Bring a session back as one that was used just now; with its key, if nobody has it."""
    found = _locked(conn, session, archived=True)
    if isinstance(found, NotKept):
        return Kept(found)
    if not found.archived:
        return Kept()
    at = datetime.now(UTC)
    # Otherwise it would be archived again within the hour.
    lists.change(conn, session, active_at=at)
    lists.restore(conn, session)
    audit.note(conn, by, "restore", session=session, allowed=True, at=at)
    return _told(conn, found, what="restored", by=by)


def read(conn: sa.Connection, session: SessionId) -> Kept:
    """Note that somebody has looked at everything there is. It is no part of the story."""
    found = _locked(conn, session, archived=True)
    if isinstance(found, NotKept):
        return Kept(found)
    if found.read_to < found.last_message:
        lists.change(conn, session, read_to=found.last_message)
    return Kept()


def refuse_archived(conn: sa.Connection, session: SessionId) -> None:
    """Lock a session that is about to change. Raises BadInput when it is archived."""
    if _locked(conn, session) is NotKept.ARCHIVED:
        raise BadInput(NotKept.ARCHIVED.detail)


def lock_project(conn: sa.Connection, session: SessionId) -> ProjectId | None:
    """Lock the project of a session, which comes before everything in it."""
    found = sessions.get(conn, session)
    if found is None or found.project is None:
        return None
    projects.lock(conn, found.project)
    return found.project


def is_needed(conn: sa.Connection, session: SessionId) -> bool:
    """Whether others depend on a session."""
    return bool(investigations.dependants_of(conn, session))


def delete(conn: sa.Connection, session: SessionId, by: str, *, dependants: bool = False) -> Kept:
    """Delete a session for good, whatever it does; what it did elsewhere stays written down.

    One that others depend on only with `dependants`, who are held back from then on.
    """
    project = lock_project(conn, session)
    # Turns before their session, as everybody locks them.
    scan = scans.lock(conn, session) if project is not None else None
    active = turns.active(conn, session)
    found = _locked(conn, session, archived=True)
    if isinstance(found, NotKept):
        return Kept(found)
    if project is not None:
        if not dependants and is_needed(conn, session):
            return Kept(NotKept.NEEDED)
        investigations.retitle(conn, session, found.title or UNTITLED)
        # They could not ring any more, and nothing would say who may read their words.
        tasks.drop(conn, lists.tasks_in(conn, session))
    at = datetime.now(UTC)
    audit.note(
        conn,
        by,
        "delete",
        session=session,
        allowed=True,
        at=at,
        owner=found.owner,
        created_at=found.created_at.isoformat(),
    )
    lists.delete(conn, session)
    if scan is not None:
        scans.wake(conn, scan, at=at)
    gone = NewEvent("session.changed", {"what": "deleted", "by": by})
    # Whoever follows is told; nobody can read it later.
    told = events.number([gone], found.last_event, at)
    return Kept(None, told, [turn.id for turn in active if turn.state is TurnState.RUNNING])


def archive_idle(
    conn: sa.Connection, *, before: datetime, limit: int
) -> dict[SessionId, Sequence[Event]]:
    """Archive sessions that were not used since; what their followers are to be told.

    Never a pinned one, one that has something to do, or one a chat lives in.
    """
    at = datetime.now(UTC)
    found = lists.lock_idle(conn, before=before, limit=limit)
    lists.archive(conn, [one.id for one in found], at=at)
    told: dict[SessionId, Sequence[Event]] = {}
    for one in found:
        audit.note(conn, HOUSEKEEPING, "archive", session=one.id, allowed=True, at=at)
        told[one.id] = _told(conn, one, what="archived", by=HOUSEKEEPING).events
    return told


def _locked(
    conn: sa.Connection, session: SessionId, *, archived: bool = False
) -> Session | NotKept:
    found = sessions.lock_ids(conn, [session]).get(session)
    if found is None:
        return NotKept.UNKNOWN
    return NotKept.ARCHIVED if found.archived and not archived else found


def _is_taken(conn: sa.Connection, project: ProjectId, session: SessionId, title: str) -> bool:
    others = investigations.siblings(conn, project)
    return any(
        one.title.casefold() == title.casefold() for id_, one in others.items() if id_ != session
    )


def _told(conn: sa.Connection, session: Session, **data: object) -> Kept:
    """Append what happened. It moves the session in no list: nobody said anything."""
    new = [NewEvent("session.changed", data)]
    numbered = events.number(new, session.last_event, datetime.now(UTC))
    lists.change(conn, session.id, last_event=numbered[-1].number)
    events.store(conn, {session.id: numbered})
    return Kept(None, numbered)
