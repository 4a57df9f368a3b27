"""Data seen as a table: for models as Markdown, for spreadsheets as CSV, for people as a chart."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from service.core.text import clean
from service.errors import BadInput

MOST_COLUMNS = 200
MOST_SERIES = 8
MOST_SLICES = 30
LONGEST_TITLE = 200
_LONGEST_CELL = 500

# What spreadsheets take for the beginning of a formula; a number may begin so, too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of equal length under the names of their columns; a cell is any plain JSON."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


def table_of(data: Any) -> Table | None:
    """The table that plain JSON is; None when it is something else.

    A table is `{"columns": […], "rows": [[…]]}`, a list of objects, or `{"rows": [{…}]}`. What an
    object leaves out is null; lists have to be as long as the columns.
    """
    if isinstance(data, list):
        return _of_objects(data)
    if not isinstance(data, dict) or not isinstance(data.get("rows"), list):
        return None
    if "columns" not in data:
        return _of_objects(data["rows"])
    return _of_lists(data["columns"], data["rows"])


def _of_lists(columns: Any, rows: list[Any]) -> Table | None:
    if not isinstance(columns, list) or not 0 < len(columns) <= MOST_COLUMNS:
        return None
    if not all(isinstance(one, str) for one in columns):
        return None
    if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        return None
    return Table(tuple(columns), rows)


def _of_objects(rows: list[Any]) -> Table | None:
    if not all(isinstance(row, dict) for row in rows):
        return None
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    if not 0 < len(columns) <= MOST_COLUMNS:
        return None
    return Table(columns, [[row.get(name) for name in columns] for row in rows])


def csv_of(table: Table) -> str:
    """The table as RFC 4180 has it, in which no text is taken for a formula."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow([_guarded(name) for name in table.columns])
    writer.writerows([_guarded(cell) for cell in row] for row in table.rows)
    return written.getvalue()


def _guarded(cell: Any) -> str:
    text = _text(cell)
    harmless = not isinstance(cell, str) or _NUMBER.fullmatch(text)
    return text if harmless or not text.startswith(_FORMULA) else f"'{text}"


def markdown_of(table: Table, rows: int = 20, characters: int = 8000) -> str:
    """The first `rows` of the table that fit; a last line tells of those that were left out."""
    lines = [_line(table.columns), _line(["---"] * len(table.columns), escape=False)]
    left = characters - sum(len(line) + 1 for line in lines)
    if left < 0:
        return f"[{len(table.rows)} rows of {len(table.columns)} columns, too wide to show]"
    shown = 0
    for row in table.rows[:rows]:
        line = _line(row)
        left -= len(line) + 1
        if left < 0:
            break
        lines.append(line)
        shown += 1
    if shown < len(table.rows):
        lines.append(f"\n[{shown} of {len(table.rows)} rows are shown]")
    return "\n".join(lines)


def _line(cells: Sequence[Any], *, escape: bool = True) -> str:
    return f"| {' | '.join(_cell(one) if escape else one for one in cells)} |"


def _cell(value: Any) -> str:
    text = " ".join(_text(value).split())
    if len(text) > _LONGEST_CELL:
        text = f"{text[:_LONGEST_CELL]}…"
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- charts ---------------------------------------------------------------------------------------


class ChartKind(StrEnum):
    """How a chart is drawn."""

    BAR = auto()
    LINE = auto()
    AREA = auto()
    PIE = auto()


@dataclass(frozen=True, slots=True)
class Chart:
    """How a table is drawn: numbers of some columns along another one."""

    kind: ChartKind
    x: str
    y: tuple[str, ...]
    title: str | None = None

    @classmethod
    def parse(cls, given: object, table: Table) -> Chart:
        """Read a chart of this table. Raises BadInput with every problem, one a line."""
        if not isinstance(given, Mapping):
            raise BadInput("chart: an object with kind, x, y and perhaps title is needed")
        problems = [
            f"chart.{str(name)[:60]!r}: there is no such field; there are: kind, title, x, y"
            for name in given
            if name not in ("kind", "x", "y", "title")
        ]
        kind = _kind(given.get("kind"), problems)
        x = _column("chart.x", given.get("x"), table, problems)
        y = _series(given.get("y"), table, problems)
        title = _title(given.get("title"), problems)
        if kind is ChartKind.PIE:
            problems += _pie_problems(y, table)
        if problems or kind is None or x is None:
            raise BadInput("\n".join(problems))
        return cls(kind, x, tuple(y), title)

    def as_json(self) -> dict[str, Any]:
        """The chart as it is stored and shown."""
        told = {"kind": self.kind.value, "x": self.x, "y": list(self.y)}
        return {**told, "title": self.title} if self.title else told


def _kind(given: object, problems: list[str]) -> ChartKind | None:
    if isinstance(given, str) and given in list(ChartKind):
        return ChartKind(given)
    problems.append(f"chart.kind: one of {', '.join(ChartKind)} is needed")
    return None


def _column(where: str, given: object, table: Table, problems: list[str]) -> str | None:
    if isinstance(given, str) and (found := Counter(table.columns)[given]):
        if found == 1:
            return given
        problems.append(f"{where}: the table has {found} columns that are called {given!r}")
        return None
    names = ", ".join(repr(one) for one in table.columns)
    problems.append(f"{where}: one of the columns is needed: {names}")
    return None


def _series(given: object, table: Table, problems: list[str]) -> list[str]:
    """The usable ones of the columns to draw."""
    if not isinstance(given, list) or not 0 < len(given) <= MOST_SERIES:
        problems.append(f"chart.y: a list of 1 to {MOST_SERIES} columns is needed")
        return []
    found: list[str] = []
    for place, one in enumerate(given):
        where = f"chart.y.{place}"
        name = _column(where, one, table, problems)
        if name is None:
            continue
        if name in found:
            problems.append(f"{where}: the column {name!r} is named twice")
        elif not all(_is_number(cell) or cell is None for cell in _cells(table, name)):
            problems.append(f"{where}: the column {name!r} holds something that is no number")
        else:
            found.append(name)
    return found


def _pie_problems(y: Sequence[str], table: Table) -> list[str]:
    problems = []
    if len(y) > 1:
        problems.append("chart.y: a pie shows exactly one column")
    if len(table.rows) > MOST_SLICES:
        problems.append(f"chart.kind: a pie has at most {MOST_SLICES} rows; take bar")
    if any(cell is not None and cell < 0 for name in y for cell in _cells(table, name)):
        problems.append("chart.kind: a pie shows no negative numbers; take bar")
    return problems


def _title(given: object, problems: list[str]) -> str | None:
    if given is None:
        return None
    title = " ".join(clean(given).split()) if isinstance(given, str) else ""
    if not 0 < len(title) <= LONGEST_TITLE:
        problems.append(f"chart.title: a text of 1 to {LONGEST_TITLE} characters, or nothing")
    return title


def _cells(table: Table, column: str) -> list[Any]:
    place = table.columns.index(column)
    return [row[place] for row in table.rows]


def _is_number(cell: object) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)
