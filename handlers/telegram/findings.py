"""What people are told of their projects, and of the key results and disposition of a session.

They only look: all words of models are shown literally, in one line, and cut to fit a phone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from handlers.telegram.buttons import Button, project_data
from handlers.telegram.literal import code, lasting, paragraph, plain, shortened, visible
from handlers.telegram.tables import Table, fenced, squeezed
from handlers.telegram.translate import Called
from handlers.telegram.voices import Told
from service.core import tabular
from service.core.model import ProjectId, SessionId
from service.engine.controls import Command
from service.engine.investigating import Told as Found
from service.engine.investigations import Stage, View
from service.engine.overview import ProjectContents, ProjectSummary

ALONE = "Who else reads along here may not see your projects. Write to me alone."

_NO_PROJECT = "You are in no project. Its owner can add you to one as {}."
_OTHERS = "This session is in a project that you are not in. Its owner can add you as {}."
_USAGE = "Write /results, or /results and the number of one."
_NO_RESULTS = "This session has no key results yet."
_NO_SCHEMA = "This session is to come to no disposition: it has no schema."
_MOST_PROJECTS = 20
_MOST_RESULTS, _FIRST_ROWS, _MOST_ROWS, _MOST_COLUMNS = 5, 10, 40, 8
_LONGEST_LABEL, _LONGEST_NAME, _LONGEST_LINE, _LONGEST_VALUE = 40, 200, 120, 600
# Above every table of a list.
_LONGEST_ABOUT = 300
# Characters of a number that somebody may mean.
_LONGEST_NUMBER = 6
_NOTHING = "–"
_STAGES: Mapping[Stage, str] = {
    Stage.NOT_STARTED: "(Not started)",
    Stage.QUEUED: "waiting for its turn",
    Stage.RUNNING: "answering",
    Stage.WAITING: "waiting for an answer",
    Stage.IDLE: "idle",
}

# -- projects -------------------------------------------------------------------------------------


async def projects(called: Called, command: Command, now: datetime) -> str | Told:
    """Carry out /projects: list them, or the sessions of the one that is named."""
    if not called.spot.private:
        return ALONE
    reader = called.person.name
    found = await command.projects(reader=reader)
    if not found:
        return _NO_PROJECT.format(code(reader))
    if called.argument:
        chosen = _called(called.argument, found)
        words = None if chosen is None else await contents(chosen, command, reader)
        if words is None:
            return f"You are in no project {code(called.argument)}. /projects lists yours."
        return words
    listed = found[:_MOST_PROJECTS]
    lines = [_project(one, now) for one in listed]
    hint = "Tap one, or write /projects and its name, to see its sessions."
    rows = [[Button(_name(one.name, _LONGEST_LABEL), project_data(one.project))] for one in listed]
    return Told("\n".join([*lines, *_more(len(found) - len(listed), "project"), "", hint]), rows)


async def contents(project: ProjectId, command: Command, reader: str) -> str | None:
    """The sessions of a project; None when there is no such project for `reader`."""
    found = await command.project(project, reader=reader)
    return None if found is None else _contents(found)


def _called(name: str, found: Sequence[ProjectSummary]) -> ProjectId | None:
    """The project of this name, written so or with other capital letters."""
    wanted = name.strip()
    exact = (one.project for one in found if one.name == wanted)
    alike = (one.project for one in found if one.name.casefold() == wanted.casefold())
    return next(exact, None) or next(alike, None)


def _project(one: ProjectSummary, now: datetime) -> str:
    counts = f"{_count(one.sessions, 'session')}, {_count(one.results, 'key result')}"
    return f"- {_bold(one.name)}: {counts}, {lasting(now - one.active_at)} ago"


def _contents(found: ProjectContents) -> str:
    lines = [_session(one) for one in found.sessions] or ["It has no sessions yet."]
    return "\n".join([_bold(found.name), "", *lines, *_more(found.more, "session")])


def _session(one: View) -> str:
    title = _bold(one.title or "Untitled session")
    parts = [_STAGES[one.state]]
    if one.archived:
        parts.append("archived")
    if one.results:
        parts.append(_count(one.results, "key result"))
    if one.disposition is not None:
        parts.append(_in_a_line(one.disposition) + (" (stale)" if one.stale else ""))
    return f"- {title}: {', '.join(parts)}"


def _in_a_line(disposition: Mapping[str, Any]) -> str:
    words = ", ".join(f"{name} = {_value(value)}" for name, value in disposition.items())
    return plain(shortened(words, _LONGEST_LINE)) or "an empty disposition"


# -- what a session found out ---------------------------------------------------------------------


async def of_session(called: Called, command: Command, session: SessionId, now: datetime) -> str:
    """Carry out /results or /disposition."""
    reader = called.person.name
    if not await command.may_see(session, reader=reader):
        return _OTHERS.format(code(reader))
    if called.name == "disposition":
        found = await command.investigation(session)
        return _NO_SCHEMA if found is None else "\n".join(_disposition(found, reader, now))
    if called.argument:
        return await _one_result(called.argument.strip(), command, session)
    return await _results(command, session)


async def _results(command: Command, session: SessionId) -> str:
    found = await command.results(session, limit=_MOST_RESULTS)
    if not found.total:
        return _NO_RESULTS
    parts = [
        part
        for number, one in enumerate(found.shown, start=1)
        for part in _result(number, one, _FIRST_ROWS, _LONGEST_ABOUT)
    ]
    more = found.total - len(found.shown)
    if more > 0:
        parts.append(f"… and {_count(more, 'more key result')}: /results {_MOST_RESULTS + 1}")
    return "\n\n".join(parts)


async def _one_result(argument: str, command: Command, session: SessionId) -> str:
    usable = argument.isascii() and argument.isdigit() and len(argument) <= _LONGEST_NUMBER
    if not usable or int(argument) == 0:
        return _USAGE
    number = int(argument)
    found = await command.results(session, skip=number - 1, limit=1)
    if not found.total:
        return _NO_RESULTS
    if not found.shown:
        return f"There is no key result {number}; the last one is {found.total}."
    return "\n\n".join(_result(number, found.shown[0], _MOST_ROWS, None))


def _result(number: int, one: Found, most: int, about: int | None) -> Iterator[str]:
    """The paragraphs that show a key result."""
    yield f"**{number}.** {_bold(one.result.title or one.result.name)}"
    description = visible(one.result.description)
    if description:
        yield paragraph(description if about is None else shortened(description, about))
    if one.table is not None:
        yield _table(tabular.Table(one.table.columns, one.table.rows[:most]))
        yield from _left_out(one.table, most)
    elif one.size:
        yield from _text(one.text or "", most)
    else:
        yield "Its data is not stored any more."


def _table(table: tabular.Table) -> str:
    columns = range(min(len(table.columns), _MOST_COLUMNS))
    head = tuple(visible(table.columns[at]) for at in columns)
    rows = tuple(tuple(_cell(row[at]) for at in columns) for row in table.rows)
    return squeezed(Table(head, rows, tuple(_alignment(table, at) for at in columns)))


def _alignment(table: tabular.Table, column: int) -> str:
    cells = [row[column] for row in table.rows if row[column] is not None]
    numbers = [isinstance(one, (int, float)) and not isinstance(one, bool) for one in cells]
    return "Right" if numbers and all(numbers) else "Left"


def _left_out(table: tabular.Table, most: int) -> Iterator[str]:
    """What of a table is not shown, if that is anything."""
    if not table.rows:
        yield "It has no rows."
    more = _more(len(table.rows) - most, "row")
    more += _more(len(table.columns) - _MOST_COLUMNS, "column")
    if more:
        yield "  \n".join(more)


def _text(text: str, most: int) -> Iterator[str]:
    lines = text.splitlines()
    yield fenced("\n".join(_indented(one) for one in lines[:most]))
    yield from _more(len(lines) - most, "line")


def _indented(line: str) -> str:
    space = len(line) - len(line.lstrip(" "))
    return shortened(" " * space + visible(line), _LONGEST_LINE)


# -- dispositions ---------------------------------------------------------------------------------


def _disposition(found: View, reader: str, now: datetime) -> Iterator[str]:
    fields = {} if found.schema is None else found.schema.fields
    values = found.disposition
    if values is None and not fields:
        yield _NO_SCHEMA
    elif values is None:
        yield "No disposition yet. It is to have:"
        yield from (f"- {_bold(name)}: {plain(str(one))}" for name, one in fields.items())
    else:
        yield from (f"- {_bold(name)}: {plain(_value(values.get(name)))}" for name in fields)
        for name in [one for one in values if one not in fields]:
            yield f"- {_bold(name)}: {plain(_value(values[name]))} (no longer in the schema)"
        yield ""
        yield from _standing(found, reader, now)


def _standing(found: View, reader: str, now: datetime) -> Iterator[str]:
    at = found.disposition_at or now
    yield f"Set by {_who(found.disposition_by, reader)}, {lasting(now - at)} ago."
    if found.confirmed_by is None:
        yield "Nobody has confirmed it."
    else:
        yield f"Confirmed by {_who(found.confirmed_by, reader)}."
    if found.stale:
        yield "It is stale: the schema has changed since. It has to be set again."


def _who(name: str | None, reader: str) -> str:
    return "you" if name == reader else _bold(name or "somebody")


# -- words ----------------------------------------------------------------------------------------


def _cell(value: object) -> str:
    if value is None:
        return _NOTHING
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _value(value: object) -> str:
    if isinstance(value, list):
        return shortened(", ".join(map(_cell, value)), _LONGEST_VALUE)
    return shortened(_cell(value), _LONGEST_VALUE)


def _bold(name: str) -> str:
    return f"**{plain(_name(name, _LONGEST_NAME))}**"


def _name(name: str, longest: int) -> str:
    return shortened(visible(name), longest) or "Untitled"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _more(number: int, what: str) -> list[str]:
    return [f"… and {_count(number, f'more {what}')}"] if number > 0 else []
