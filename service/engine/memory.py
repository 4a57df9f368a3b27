"""What a session remembers, as people see and change it: state, knobs, where its context begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import Event, Message, NewEvent, Role, SessionId
from service.core.state import State
from service.engine.endings import message_added
from service.engine.keeping import refuse_archived
from service.errors import BadInput
from service.ports import Agents
from service.store import feed as events
from service.store import memory, sessions


@dataclass(frozen=True, slots=True)
class KnobView:
    """A knob as people see it."""

    name: str
    description: str
    value: Any
    default: Any
    takes: str
    """The accepted values, in words."""
    momentary: bool
    model_may_set: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """What a session remembers between its turns."""

    state: Mapping[str, Any]
    knobs: Sequence[KnobView]
    summary: str | None


def clear(conn: sa.Connection, session: SessionId, by: str) -> list[Event]:
    """Draw a line: the model is told only what comes after it. Nothing is lost.

    Raises BadInput for an archived session.
    """
    refuse_archived(conn, session)
    at = datetime.now(UTC)
    last = events.lock(conn, {session: ()}).get(session)
    if last is None:
        return []
    divider = Message(
        number=last + 1,
        role=Role.SYSTEM,
        author=by,
        text="The agent does not see what was said before this line.",
        status="complete",
        at=at,
    )
    sessions.add_message(conn, session, divider, turn_number=last + 1)
    sessions.begin_context(conn, session, after_turn=last + 1, summary=None)
    new = [message_added(divider), NewEvent("session.changed", {"what": "cleared", "by": by})]
    return events.append(conn, {session: new}, at=at)[session]


def read(conn: sa.Connection, agents: Agents, session: SessionId) -> Memory | None:
    """What a session remembers, with the knobs of its agent."""
    found = sessions.get(conn, session)
    if found is None:
        return None
    remembered = memory.read(conn, session)
    knobs = agents.knobs(sessions.voices_of(conn, session)[0])
    views = [
        KnobView(
            name=name,
            description=knob.description,
            value=remembered.knobs.get(name, knob.default),
            default=knob.default,
            takes=knob.takes,
            momentary=knob.momentary,
            model_may_set=knob.model_may_set,
        )
        for name, knob in knobs.items()
    ]
    return Memory(remembered.state, views, found.summary)


def set_knob(
    conn: sa.Connection, agents: Agents, session: SessionId, name: str, value: object
) -> tuple[object, list[Event]]:
    """Turn a knob; the value as it is kept. Raises BadInput."""
    voices = sessions.voices_of(conn, session)
    knobs = agents.knobs(voices[0]) if voices else {}
    if name not in knobs:
        known = ", ".join(sorted(knobs)) or "none"
        raise BadInput(f"knob: there is no {name!r}; there are: {known}")
    kept = knobs[name].check(value)
    return kept, _remember(conn, session, "knob", {name: kept})


def set_state(
    conn: sa.Connection, session: SessionId, name: str, value: object | None
) -> list[Event]:
    """Set a value of the state, or take it away. Raises BadInput."""
    state = State({name: True} if value is None else {})
    state[name] = value
    return _remember(conn, session, "state", state.changes())


def _remember(
    conn: sa.Connection, session: SessionId, kind: memory.Kind, changes: Mapping[str, Any]
) -> list[Event]:
    # The session is locked first, as by everybody who writes to it.
    refuse_archived(conn, session)
    at = datetime.now(UTC)
    new = [NewEvent("session.changed", {"what": kind, "names": sorted(changes)})]
    appended = events.append(conn, {session: new}, at=at).get(session, [])
    if appended:
        memory.write(conn, session, kind, changes, at=at)
    return appended
