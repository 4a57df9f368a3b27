"""What people do to investigations: change, allow, determine, confirm, and show results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from service.core.dependency import Dependency, check
from service.core.disposition import Schema
from service.core.model import Event, NewEvent, Refusal, RefusalReason, SessionId
from service.core.tabular import Table, table_of
from service.core.text import clean
from service.engine import keeping
from service.engine.feed import Feed
from service.engine.findings import shown_of
from service.engine.investigations import View, view_of
from service.errors import BadInput
from service.ports import Agents
from service.store import audit, key_results, projects, sessions
from service.store import feed as events
from service.store import investigations as store
from service.store.database import Database
from service.store.investigations import Investigation
from service.store.key_results import KeyResult
from service.store.sessions import Session

LONGEST_TITLE = 200
LONGEST_REQUEST = 200_000
MORE_ITERATIONS = 35
"""What one extension allows."""

_UNKNOWN = Refusal(RefusalReason.UNKNOWN, "there is no such session")
_ARCHIVED = Refusal(RefusalReason.ARCHIVED, "the session is archived; restore it first")
_NO_RESULT = Refusal(RefusalReason.UNKNOWN, "the session has no such result")
_STARTED = Refusal(
    RefusalReason.FORBIDDEN, "request: the session has started; say what is to be different in it"
)
_NO_SCHEMA = Refusal(
    RefusalReason.FORBIDDEN, "disposition: the session has no schema; give it one first"
)
_NOTHING = Refusal(RefusalReason.FORBIDDEN, "there is no disposition to confirm yet")
_STALE = Refusal(
    RefusalReason.FORBIDDEN,
    "the disposition is stale: the schema has changed since; set it again before you confirm it",
)
_ALONE = "dependencies: only sessions of one project can depend on each other"


@dataclass(frozen=True, slots=True)
class Told:
    """A key result or candidate, with the data it has."""

    result: KeyResult
    size: int
    """Bytes of its data as they are stored."""
    table: Table | None
    text: str | None
    """What is shown of data that is no table."""


class Investigations:
    """Changes what sessions are to come to and came to, and tells those who follow them.

    Who may do what in a project is for others to ask, but for the extension.
    """

    def __init__(self, database: Database, feed: Feed, agents: Agents) -> None:
        self._database = database
        self._feed = feed
        self._agents = agents

    async def view(self, session: SessionId) -> View | None:
        """How a session stands; None when there is none."""
        return await self._database.read(view_of, self._agents, session)

    async def change(
        self, session: SessionId, given: Mapping[str, Any], *, by: str
    ) -> Refusal | None:
        """Change title, request and schema as far as they are given. Raises BadInput with all.

        A disposition there is becomes stale by another schema.
        """
        changes = _read(given)
        return self._tell(session, await self._database.write(_change, session, changes, by))

    async def depend(
        self, session: SessionId, wanted: Sequence[Dependency], *, by: str
    ) -> Refusal | None:
        """Let a session depend on these and no others. Raises BadInput with every problem."""
        return self._tell(session, await self._database.write(_depend, session, wanted, by))

    async def determine(self, session: SessionId, values: object, *, by: str) -> Refusal | None:
        """Set the disposition, or correct it. Raises BadInput with every problem."""
        return self._tell(session, await self._database.write(_determine, session, values, by))

    async def confirm(self, session: SessionId, *, by: str) -> Refusal | None:
        """Agree to the disposition there is."""
        return self._tell(session, await self._database.write(_confirm, session, by))

    async def extend(
        self, session: SessionId, *, by: str, operator: bool
    ) -> Session | Refusal | None:
        """Allow a session further iterations; the session, when that is not theirs to do.

        Its owner may, and whoever is an `operator` there. Every attempt is written down.
        """
        outcome = await self._database.write(_extend, session, by, operator)
        return outcome if isinstance(outcome, Session) else self._tell(session, outcome)

    # -- results -----------------------------------------------------------------------------

    async def results(self, session: SessionId, *, candidates: bool) -> list[Told]:
        """The key results in the order they were promoted in, and perhaps candidates."""
        return await self._database.read(_results, session, candidates)

    async def result(self, session: SessionId, name: str) -> Told | None:
        """One of them; None when the session has none of this name."""
        return await self._database.read(_one_result, session, name)

    async def data(self, session: SessionId, name: str) -> str | None:
        """What the tool gave, exactly as it is stored."""
        return await self._database.read(key_results.data, session, name)

    async def show(
        self, session: SessionId, name: str, given: Mapping[str, Any], *, by: str
    ) -> Refusal | None:
        """Promote a result, or show it in another way. Raises BadInput with every problem.

        What is not given stays as it is.
        """
        return self._tell(session, await self._database.write(_show, session, name, given, by))

    async def hide(self, session: SessionId, name: str, *, by: str) -> Refusal | None:
        """Make a key result a candidate again; its data stays."""
        return self._tell(session, await self._database.write(_hide, session, name, by))

    def _tell(self, session: SessionId, outcome: Sequence[Event] | Refusal) -> Refusal | None:
        if isinstance(outcome, Refusal):
            return outcome
        if outcome:
            self._feed.announce({session: outcome})
        return None


# -- what people want -----------------------------------------------------------------------------


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Title, request and schema as far as they are given. Raises BadInput with every problem."""
    readers = {"title": _title, "request": _request, "schema": _schema}
    found = {}
    problems = [
        f"{name}: only {', '.join(readers)} can be changed"
        for name in sorted(set(given) - set(readers))
    ]
    for name, read in readers.items():
        if name not in given:
            continue
        try:
            found[name] = read(given[name])
        except BadInput as error:
            problems += str(error).splitlines()
    if problems:
        raise BadInput("\n".join(problems))
    return found


def _title(given: object) -> str:
    title = " ".join(clean(given).split()) if isinstance(given, str) else ""
    if not 1 <= len(title) <= LONGEST_TITLE:
        raise BadInput(f"title: a text of 1 to {LONGEST_TITLE} characters is needed")
    return title


def _request(given: object) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or not given.strip() or len(given) > LONGEST_REQUEST:
        raise BadInput(
            f"request: a text of at most {LONGEST_REQUEST} characters that is not empty, or null"
        )
    return clean(given)


def _schema(given: object) -> Schema | None:
    return None if given is None else Schema.parse(given)


# -- transactions ---------------------------------------------------------------------------------


def _change(
    conn: sa.Connection, session: SessionId, changes: Mapping[str, Any], by: str
) -> list[Event] | Refusal:
    keeping.lock_project(conn, session)
    found = _locked(conn, session)
    if isinstance(found, Refusal):
        return found
    mine = store.get(conn, session) or Investigation(session)
    request = changes.get("request", mine.request)
    if request != mine.request and found.last_message:
        return _STARTED
    told: list[Event] = []
    if "title" in changes and changes["title"] != found.title:
        kept = keeping.rename(conn, session, changes["title"], by)
        if kept.refused is not None:
            return Refusal(RefusalReason.FORBIDDEN, kept.refused.detail)
        told += kept.events
        found = replace(found, last_event=told[-1].number)
    new = _set(conn, mine, request, changes.get("schema", mine.schema), by)
    return [*told, *_append(conn, found, new)]


def _set(
    conn: sa.Connection, mine: Investigation, request: str | None, schema: Schema | None, by: str
) -> list[NewEvent]:
    """Store what is different now."""
    new = []
    if (request, schema) != (mine.request, mine.schema):
        store.ensure(conn, mine.session)
    if request != mine.request:
        store.set_request(conn, mine.session, request)
        new.append(_event("request", by))
    if schema != mine.schema:
        store.set_schema(conn, mine.session, schema)
        new.append(_event("schema", by, schema.fields if schema else ()))
    return new


def _depend(
    conn: sa.Connection, session: SessionId, wanted: Sequence[Dependency], by: str
) -> list[Event] | Refusal:
    known = sessions.get(conn, session)
    if known is None:
        return _UNKNOWN
    if known.project is None:
        raise BadInput(_ALONE)
    projects.lock(conn, known.project)
    found = _locked(conn, session)
    if isinstance(found, Refusal):
        return found
    siblings = store.siblings(conn, known.project)
    held = store.dependencies_of(conn, siblings)
    edges = {one: [edge.upstream for edge in waits] for one, waits in held.items()}
    check(session, wanted, siblings=siblings, edges=edges)
    store.depend(
        conn, session, [replace(one, title=siblings[one.upstream].title) for one in wanted]
    )
    return _append(conn, found, [_event("dependencies", by, [one.upstream for one in wanted])])


def _determine(
    conn: sa.Connection, session: SessionId, values: object, by: str
) -> list[Event] | Refusal:
    found = _locked(conn, session)
    if isinstance(found, Refusal):
        return found
    mine = store.get(conn, session)
    if mine is None or mine.schema is None:
        return _NO_SCHEMA
    kept = mine.schema.check(values)
    store.set_disposition(conn, session, kept, by=by, at=datetime.now(UTC))
    return _append(conn, found, [_event("disposition", by, kept), *_completed(conn, session)])


def _confirm(conn: sa.Connection, session: SessionId, by: str) -> list[Event] | Refusal:
    found = _locked(conn, session)
    if isinstance(found, Refusal):
        return found
    mine = store.get(conn, session)
    if mine is None or mine.disposition is None:
        return _NOTHING
    if mine.stale:
        return _STALE
    store.confirm(conn, session, by=by, at=datetime.now(UTC))
    return _append(conn, found, [_event("confirmed", by, mine.disposition)])


def _extend(
    conn: sa.Connection, session: SessionId, by: str, operator: bool
) -> list[Event] | Refusal | Session:
    found = _locked(conn, session)
    if isinstance(found, Refusal):
        return found
    allowed = by == found.owner or operator or found.project is None
    at = datetime.now(UTC)
    audit.note(
        conn, by, "extend", session=session, allowed=allowed, at=at, iterations=MORE_ITERATIONS
    )
    if not allowed:
        return found
    store.ensure(conn, session)
    store.add_iterations(conn, session, MORE_ITERATIONS)
    data = {"what": "extended", "by": by, "iterations": MORE_ITERATIONS}
    return _append(conn, found, [NewEvent("session.changed", data)])


def _show(
    conn: sa.Connection, session: SessionId, name: str, given: Mapping[str, Any], by: str
) -> list[Event] | Refusal:
    found = _locked(conn, session)
    if isinstance(found, Refusal):
        return found
    mine = key_results.get(conn, session, name)
    if mine is None:
        return _NO_RESULT
    now = {
        "title": mine.title,
        "description": mine.description,
        "chart": mine.chart,
        "display": mine.display,
    }
    if others := sorted(set(given) - set(now)):
        raise BadInput(f"{others[0]}: only {', '.join(now)} can be changed")
    wanted = {**now, **given}
    drawn = wanted["chart"] is not None
    table = told_of(conn, mine).table if drawn else None
    shown = shown_of(wanted, table)
    key_results.show(
        conn,
        session,
        name,
        title=shown.title,
        description=shown.description,
        chart=shown.chart.as_json() if shown.chart else None,
        display=shown.display.value,
        by=by,
        at=datetime.now(UTC),
    )
    return _append(conn, found, [_event("result", by, [name]), *_completed(conn, session)])


def _hide(conn: sa.Connection, session: SessionId, name: str, by: str) -> list[Event] | Refusal:
    found = _locked(conn, session)
    if isinstance(found, Refusal):
        return found
    mine = key_results.get(conn, session, name)
    if mine is None:
        return _NO_RESULT
    if mine.title is None:
        return []
    at = datetime.now(UTC)
    key_results.show(
        conn, session, name, title=None, description="", chart=None, display="both", by=by, at=at
    )
    return _append(conn, found, [_event("result", by, [name])])


# -- results as they are told ---------------------------------------------------------------------


def _results(conn: sa.Connection, session: SessionId, candidates: bool) -> list[Told]:
    found = key_results.of_session(conn, session, promoted=not candidates)
    return [told_of(conn, one) for one in found]


def _one_result(conn: sa.Connection, session: SessionId, name: str) -> Told | None:
    found = key_results.get(conn, session, name)
    return None if found is None else told_of(conn, found)


def told_of(conn: sa.Connection, one: KeyResult) -> Told:
    """A result with its data as people see it."""
    stored = key_results.data(conn, one.session, one.name) or ""
    size = len(stored.encode())
    try:
        # Of numbers that JSON has not, people see the names.
        data = json.loads(stored, parse_constant=str)
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, or lists in lists in lists: people see it as it is.
        return Told(one, size, None, stored)
    table = table_of(data)
    if table is not None:
        return Told(one, size, table, None)
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, indent=2)
    return Told(one, size, None, text)


# -- shared ---------------------------------------------------------------------------------------


def _locked(conn: sa.Connection, session: SessionId) -> Session | Refusal:
    found = sessions.lock_ids(conn, [session]).get(session)
    if found is None:
        return _UNKNOWN
    return _ARCHIVED if found.archived else found


def _completed(conn: sa.Connection, session: SessionId) -> list[NewEvent]:
    """What is to be told when this was the first that the session came to."""
    if not store.complete(conn, session):
        return []
    return [NewEvent("session.changed", {"what": "completed"})]


def _event(what: str, by: str, names: Iterable[str] = ()) -> NewEvent:
    return NewEvent("session.changed", {"what": what, "names": sorted(names), "by": by})


def _append(conn: sa.Connection, session: Session, new: Sequence[NewEvent]) -> list[Event]:
    if not new:
        return []
    return events.record(conn, session.id, new, newest=session.last_event, at=datetime.now(UTC))
