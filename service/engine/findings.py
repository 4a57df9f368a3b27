"""How sessions come to something: the tools for it, and how what they found is stored and told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.disposition import Schema
from service.core.findings import (
    MOST_NAMED,
    Changes,
    Display,
    Findings,
    Kept,
    Named,
    Place,
    Shown,
)
from service.core.model import NewEvent, Reply, SessionId, Turn
from service.core.tabular import LONGEST_TITLE, Chart, ChartKind, Table, table_of
from service.core.text import clean
from service.engine.questions import PROMPT_USER
from service.errors import BadInput, StoreDown
from service.ports import ToolCall, ToolResult, ToolSpec
from service.store import investigations, key_results, replies
from service.store.investigations import Investigation
from service.store.key_results import KeyResult

SET_DISPOSITION = "set_disposition"
PROMOTE_RESULT = "promote_result"
OWN = frozenset({SET_DISPOSITION, PROMOTE_RESULT})
"""The tools that `run` runs."""
LONGEST_DESCRIPTION = 2000
MOST_RESULT_BYTES = 256 * 1024
"""What the data of all results of a session may take where a turn is told of."""

_NOTE = "\n[Result {name}. promote_result can show it to people.]"
_TRY_AGAIN = "The database cannot be reached just now. Call promote_result again."
_NO_TABLE = "chart: this result is no table, so it cannot be drawn; leave chart out"
_ARGUMENTS = ("result", "title", "description", "chart", "display")

Read = Callable[[str], Awaitable[str | None]]
"""The stored data of a result by its name."""


# -- the tools ------------------------------------------------------------------------------------


def offered(
    findings: Findings | None, tools: Sequence[ToolSpec], *, in_project: bool
) -> list[ToolSpec]:
    """The tools of a voice, and the engine's own, whose names nobody else can take.

    `findings` is None in sessions that are to come to nothing and whose voices have no data tools.
    """
    if findings is None:
        return list(tools)
    found = [one for one in tools if one.name not in OWN]
    if in_project and all(one.name != PROMPT_USER.name for one in found):
        found.append(PROMPT_USER)
    if findings.schema is not None:
        found.append(_set_disposition(findings.schema))
    if findings.results or any(one.data for one in found):
        found.append(_promote_result(findings.earlier))
    return found


def _set_disposition(schema: Schema) -> ToolSpec:
    return ToolSpec(
        SET_DISPOSITION,
        "Set the disposition: what this session came to. Call it again to correct it; it takes the "
        "place of the one before.",
        schema.parameters(),
        idempotent=True,
    )


def _promote_result(earlier: Mapping[str, Named]) -> ToolSpec:
    named = [
        f"{name} ({one.title or one.tool})" for name, one in list(earlier.items())[-MOST_NAMED:]
    ]
    told = f" Results from before: {', '.join(named)}." if named else ""
    return ToolSpec(
        PROMOTE_RESULT,
        "Show a result of a data tool to people under a title, as a table and perhaps as a chart. "
        f"Call it again to change how it is shown.{told}",
        {
            "type": "object",
            "properties": {
                "result": {"type": "string", "description": "Its name, such as r0123456789."},
                "title": {
                    "type": "string",
                    "description": f"What it shows; at most {LONGEST_TITLE} characters.",
                },
                "description": {
                    "type": "string",
                    "description": "What follows from it, in a sentence or two.",
                },
                "chart": _CHART,
                "display": {"type": "string", "enum": [one.value for one in Display]},
            },
            "required": ["result", "title"],
            "additionalProperties": False,
        },
        idempotent=True,
    )


_CHART: Mapping[str, Any] = {
    "type": "object",
    "description": "How it is drawn, when it is a table.",
    "properties": {
        "kind": {"type": "string", "enum": [one.value for one in ChartKind]},
        "x": {"type": "string", "description": "The column along the axis, or of the slices."},
        "y": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The columns of numbers to draw; a pie has one.",
        },
        "title": {"type": "string"},
    },
    "required": ["kind", "x", "y"],
    "additionalProperties": False,
}


def named(findings: Findings, place: Place, key: str, result: ToolResult) -> ToolResult:
    """The result of a data tool under the name that its call has for ever."""
    name = f"r{hashlib.sha256(key.encode()).hexdigest()[:10]}"
    findings.note(name, place)
    return replace(result, text=result.text + _NOTE.format(name=name))


async def run(call: ToolCall, findings: Findings, read: Read) -> ToolResult:
    """Run one of the engine's own tools; what the model can mend is a failed result."""
    try:
        given = _arguments(call)
        if call.tool == SET_DISPOSITION:
            told = _determine(findings, given)
        else:
            told = await _promote(findings, given, read)
    except BadInput as problem:
        return ToolResult(call.id, call.tool, f"{problem}\nCall it again.", failed=True)
    except StoreDown:
        return ToolResult(call.id, call.tool, _TRY_AGAIN, failed=True)
    return ToolResult(call.id, call.tool, told)


def _determine(findings: Findings, given: Mapping[str, Any]) -> str:
    values = findings.determine(given)
    return f"The disposition is {json.dumps(values, ensure_ascii=False)}."


async def _promote(findings: Findings, given: Mapping[str, Any], read: Read) -> str:
    name = findings.known(given.get("result"))
    wanted = given.get("chart") is not None
    table = _table(await read(name)) if wanted else None
    shown = shown_of(given, table)
    findings.promote(name, shown)
    return f"{name} is shown to people as {shown.title!r}."


def shown_of(given: Mapping[str, Any], table: Table | None) -> Shown:
    """How a result is to be shown; its table is needed for a chart only.

    Raises BadInput with every problem, one a line.
    """
    problems = []
    title = _text(given.get("title"))
    if not 0 < len(title) <= LONGEST_TITLE:
        problems.append(f"title: a text of 1 to {LONGEST_TITLE} characters is needed")
    description = given.get("description") or ""
    if not isinstance(description, str) or len(description) > LONGEST_DESCRIPTION:
        problems.append(f"description: a text of at most {LONGEST_DESCRIPTION} characters")
    chart = None
    try:
        chart = _chart(given.get("chart"), table)
    except BadInput as error:
        problems.append(str(error))
    display = given.get("display") or Display.BOTH.value
    if display not in list(Display):
        problems.append(f"display: one of {', '.join(Display)}")
    elif display == Display.CHART and given.get("chart") is None:
        problems.append("display: to show a chart, give one")
    if problems:
        raise BadInput("\n".join(problems))
    return Shown(title, clean(description).strip(), chart, Display(display))


def _chart(given: object, table: Table | None) -> Chart | None:
    if given is None:
        return None
    if table is None:
        raise BadInput(_NO_TABLE)
    return Chart.parse(given, table)


def _text(given: object) -> str:
    return " ".join(clean(given).split()) if isinstance(given, str) else ""


def _arguments(call: ToolCall) -> Mapping[str, Any]:
    try:
        given = json.loads(call.arguments.strip() or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The arguments are not JSON: {error}.") from error
    if not isinstance(given, dict):
        raise BadInput("The arguments have to be a JSON object.")
    unknown = [name for name in given if call.tool == PROMOTE_RESULT and name not in _ARGUMENTS]
    if unknown:
        raise BadInput(
            f"{', '.join(repr(one[:60]) for one in unknown)}: there is no such argument; there "
            f"are: {', '.join(_ARGUMENTS)}"
        )
    return given


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _table(data: str | None) -> Table | None:
    return None if data is None else table_of(json.loads(data))


# -- what is stored -------------------------------------------------------------------------------


def kept(conn: sa.Connection, session: SessionId, investigation: Investigation | None) -> Kept:
    """What is stored of a session's findings, also when it is to come to nothing."""
    results = {
        one.name: Named(one.tool, one.title) for one in key_results.of_session(conn, session)
    }
    if investigation is None:
        return Kept(results=results)
    found = investigation
    return Kept(found.schema, found.disposition, found.stale, results)


def store(
    conn: sa.Connection, turn: Turn, reply: Reply, findings: Findings, *, by: str, at: datetime
) -> list[NewEvent]:
    """Store what a reply found out since the last boundary; the events that tell of it.

    The session is locked, and the calls that candidates come from are stored.
    """
    changes = findings.changes()
    key_results.add(conn, _candidates(turn, reply, changes, at))
    told: list[NewEvent] = []
    if changes.disposition is not None and _set(conn, turn, findings, changes, by=by, at=at):
        told.append(_event(turn, "disposition", by, changes.disposition))
    for name, shown in changes.shown.items():
        key_results.show(
            conn,
            turn.session,
            name,
            title=shown.title,
            description=shown.description,
            chart=shown.chart.as_json() if shown.chart else None,
            display=shown.display.value,
            by=by,
            at=at,
        )
    if changes.shown:
        told.append(_event(turn, "result", by, changes.shown))
    if told and investigations.complete(conn, turn.session):
        told.append(NewEvent("session.changed", {"what": "completed"}, turn.id))
    return told


def _set(
    conn: sa.Connection, turn: Turn, findings: Findings, changes: Changes, *, by: str, at: datetime
) -> bool:
    """Store the disposition; False when nothing is to be found out any more."""
    now = investigations.get(conn, turn.session)
    if now is None or changes.disposition is None:
        return False
    # Somebody may have changed the schema since the turn began.
    stale = now.schema != findings.schema
    investigations.set_disposition(
        conn, turn.session, changes.disposition, by=by, at=at, stale=stale
    )
    return True


def _candidates(turn: Turn, reply: Reply, changes: Changes, at: datetime) -> list[KeyResult]:
    return [
        KeyResult(
            session=turn.session,
            name=name,
            turn=turn.id,
            reply=reply.id,
            iteration=place.iteration,
            ordinal=place.ordinal,
            tool=place.tool,
            created_at=at,
        )
        for name, place in changes.candidates.items()
    ]


def _event(turn: Turn, what: str, by: str, names: Mapping[str, object]) -> NewEvent:
    return NewEvent("session.changed", {"what": what, "names": sorted(names), "by": by}, turn.id)


# -- what is told of it ---------------------------------------------------------------------------


def came_to(conn: sa.Connection, session: SessionId) -> dict[str, Any]:
    """The disposition and the key results of a session, for those who ask what came of a turn."""
    results, _ = results_told(conn, session, most=MOST_RESULT_BYTES)
    return {
        "disposition": disposition_told(investigations.get(conn, session)),
        "results": results,
    }


def disposition_told(found: Investigation | None) -> dict[str, Any] | None:
    """What was set, and what there is to say of it."""
    if found is None or found.disposition is None:
        return None
    return {
        "values": dict(found.disposition),
        "stale": found.stale,
        "confirmed_by": found.confirmed_by,
    }


def results_told(
    conn: sa.Connection, session: SessionId, *, most: int
) -> tuple[list[dict[str, Any]], int]:
    """The key results of a session with at most so many bytes of data, and what is left of these.

    Those that were cut say so. What is no table has its data in one piece, or not at all.
    """
    found = []
    for one in key_results.of_session(conn, session, promoted=True):
        data = key_results.data(conn, session, one.name) if most > 0 else None
        shown, taken = _within(data, most)
        most -= taken
        found.append(
            {"title": one.title, "description": one.description, "chart": one.chart, **shown}
        )
    return found, most


def _within(data: str | None, most: int) -> tuple[dict[str, Any], int]:
    """What is told of stored data, and the bytes it takes."""
    nothing = {"columns": None, "rows": None, "truncated": True}
    if data is None:
        return nothing, 0
    size = len(data.encode())
    value = json.loads(data)
    table = table_of(value)
    if table is not None:
        rows = list(table.rows) if size <= most else _fitting(table.rows, most)
        cut = len(rows) < len(table.rows)
        columns = list(table.columns)
        return {"columns": columns, "rows": rows, "truncated": cut}, min(size, most)
    if size > most:
        return nothing, 0
    return {"columns": None, "rows": None, "data": value, "truncated": False}, size


def _fitting(rows: Sequence[Sequence[Any]], most: int) -> list[Sequence[Any]]:
    """The first rows that take at most so many bytes."""
    found = []
    for row in rows:
        most -= len((replies.encoded(row) or "").encode()) + 1
        if most < 0:
            break
        found.append(row)
    return found
