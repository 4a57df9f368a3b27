"""What a session waits for: results of other sessions of its project, without a circle."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.core.disposition import Schema
from service.core.model import SessionId
from service.errors import BadInput

MOST = 50
"""Sessions that one session may depend on."""
UNTITLED = "Untitled"
"""How a session is called that has no title yet."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A session that has to come first; with a field only if its disposition has this value."""

    upstream: SessionId
    field: str | None = None
    value: str | None = None
    title: str = ""
    """How the upstream session was called last."""

    @property
    def wanted(self) -> str:
        """What it asks of the upstream session."""
        return f"{self.field} = {self.value}" if self.field else "complete"


@dataclass(frozen=True, slots=True)
class Upstream:
    """What there is to know of a session that another one may depend on."""

    session: SessionId
    title: str
    complete: bool = False
    schema: Schema | None = None
    disposition: Mapping[str, Any] | None = None
    stale: bool = False
    """Whether its schema has changed since its disposition was set."""


def unmet(dependency: Dependency, upstream: Upstream | None) -> str | None:
    """Why a dependency does not hold yet; None when it does. `upstream` is None once deleted."""
    if upstream is None:
        return f"“{dependency.title}” was deleted; edit the dependencies of this session"
    if dependency.field is None:
        if upstream.complete:
            return None
        return f"“{upstream.title}” is not complete: it has no key result and no disposition yet"
    if upstream.disposition is None:
        return f"“{upstream.title}” has no disposition yet; {dependency.wanted} is needed"
    if upstream.stale:
        return (
            f"the disposition of “{upstream.title}” is stale: its schema has changed since; "
            "set it again"
        )
    found = upstream.disposition.get(dependency.field)
    if found == dependency.value:
        return None
    told = "nothing" if found is None else str(found)
    return f"“{upstream.title}” came to {dependency.field} = {told}; {dependency.wanted} is needed"


def check(
    session: SessionId | None,
    wanted: Sequence[Dependency],
    *,
    siblings: Mapping[SessionId, Upstream],
    edges: Mapping[SessionId, Collection[SessionId]],
) -> None:
    """Raise BadInput with every reason why a session may not depend on these.

    `siblings` are the sessions of its project, `edges` what each of them depends on now;
    `session` is None while it is made, when nothing can depend on it.
    """
    problems = []
    if len(wanted) > MOST:
        problems.append(f"dependencies: at most {MOST}")
    seen: set[SessionId] = set()
    for place, one in enumerate(wanted):
        where = f"dependencies.{place}"
        if one.upstream in seen:
            problems.append(f"{where}: this session is named twice")
        seen.add(one.upstream)
        upstream = siblings.get(one.upstream)
        if one.upstream == session:
            problems.append(f"{where}: a session cannot depend on itself")
        elif upstream is None:
            problems.append(f"{where}: there is no such session in this project")
        elif one.field is not None:
            problems += [f"{where}: {problem}" for problem in condition_problems(one, upstream)]
    if not problems and session is not None:
        way = circle(session, [one.upstream for one in wanted], edges)
        if way:
            names = " → ".join(f"“{siblings[one].title}”" for one in way if one in siblings)
            problems.append(f"dependencies: they would go round in a circle: {names}")
    if problems:
        raise BadInput("\n".join(problems))


def condition_problems(one: Dependency, upstream: Upstream) -> list[str]:
    """Why a dependency cannot ask this field of a session for this value."""
    enums = upstream.schema.enums() if upstream.schema else {}
    if not enums:
        return [
            f"“{upstream.title}” has no disposition schema with a field of the kind A|B|C; "
            "depend on its completion, or give it one"
        ]
    if one.field not in enums:
        return [f"“{upstream.title}” has no field {one.field!r} of the kind A|B|C; {_list(enums)}"]
    if one.value not in enums[one.field]:
        values = ", ".join(enums[one.field])
        return [f"{one.field} of “{upstream.title}” takes one of {values}, not {one.value!r}"]
    return []


def _list(enums: Mapping[str, Sequence[str]]) -> str:
    return f"there are: {', '.join(enums)}"


def circle(
    start: SessionId,
    first: Sequence[SessionId],
    edges: Mapping[SessionId, Collection[SessionId]],
) -> list[SessionId]:
    """A way from `start` along `first` back to it; empty when there is none."""
    came_from: dict[SessionId, SessionId] = {}
    ahead = [(one, start) for one in first]
    while ahead:
        here, before = ahead.pop()
        if here == start:
            way = [start]
            while before != start:
                way.append(before)
                before = came_from[before]
            return [start, *reversed(way[1:]), start]
        if here in came_from:
            continue
        came_from[here] = before
        ahead += [(one, here) for one in edges.get(here, ())]
    return []


def in_order(edges: Mapping[SessionId, Collection[SessionId]]) -> list[SessionId]:
    """Every session after those it depends on, else in the order given. Must be acyclic."""
    done: dict[SessionId, None] = {}
    for start in edges:
        pending = [(start, False)]
        while pending:
            here, ready = pending.pop()
            if here in done:
                continue
            if ready:
                done[here] = None
                continue
            pending.append((here, True))
            upstream = [one for one in edges.get(here, ()) if one in edges and one not in done]
            pending += [(one, False) for one in reversed(upstream)]
    return list(done)
