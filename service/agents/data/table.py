"""Results of queries: taken row by row within caps, as plain JSON, and told to the model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

_SHOWN_ROWS = 50
_LONGEST_TEXT = 8_000
_LONGEST_CELL = 200
_LONGEST_NAME = 200
# Readers of JSON in a browser know no larger whole numbers.
_LARGEST_INTEGER = 2**53
# Names of the keys, brackets, and "truncated": false.
_FRAME_BYTES = 100


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a query, all of it plain JSON."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool
    """Whether there is more in the database."""

    def data(self) -> dict[str, Any]:
        """As it is stored."""
        return {"columns": self.columns, "rows": self.rows, "truncated": self.truncated}


class Taking:
    """Takes rows until there are too many, or too much."""

    def __init__(self, columns: Iterable[str], *, rows: int, size: int) -> None:
        self._columns = distinct(columns)
        self._rows: list[list[Any]] = []
        self._most = rows
        self._left = size - _FRAME_BYTES - _size(self._columns)
        self._truncated = False

    @property
    def left(self) -> int:
        """How many more bytes there may be."""
        return max(0, self._left)

    @property
    def count(self) -> int:
        """How many rows were taken."""
        return len(self._rows)

    def add(self, row: Sequence[Any]) -> bool:
        """Take a row. False when it did not fit: then nothing more does."""
        values = [plain(value) for value in row]
        size = _size(values)
        if len(self._rows) == self._most or size > self._left:
            return self.cut()
        self._left -= size
        self._rows.append(values)
        return True

    def cut(self) -> bool:
        """Note that the database has more; return False."""
        self._truncated = True
        return False

    def found(self) -> Found:
        """What was taken."""
        return Found(self._columns, self._rows, self._truncated)


def distinct(names: Iterable[str]) -> list[str]:
    """The names, those that are there already with a number behind them."""
    given = [name[:_LONGEST_NAME] or "column" for name in names]
    taken: set[str] = set()
    found: list[str] = []
    for name in given:
        unique, number = name, 2
        while unique in taken or (unique != name and unique in given):
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique)
        found.append(unique)
    return found


def plain(value: Any) -> Any:
    """The value in JSON, and no number that a reader of JSON would change."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) <= _LARGEST_INTEGER else str(value)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return _number(value)
        case bytes() | bytearray() | memoryview():
            return f"[{len(value)} bytes]"
        case date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
        case dict():
            return {str(name): plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case _:
            return str(value)


def told(found: Found) -> str:
    """The result in words: a table of the first rows, and how many there are."""
    if not found.columns:
        return "The result has no columns."
    head = [_line(found.columns), _line(["---"] * len(found.columns))]
    shown: list[str] = []
    left = _LONGEST_TEXT - sum(len(line) + 1 for line in head) - 300
    for row in found.rows[:_SHOWN_ROWS]:
        line = _line(row)
        left -= len(line) + 1
        if left < 0:
            break
        shown.append(line)
    if left < 0 and not shown:
        return f"{_wide(found)}\n\n{_counted(found, 0)}"
    return "\n".join([*head, *shown, "", _counted(found, len(shown))])


def _wide(found: Found) -> str:
    """The first row of a result that is too wide for a table."""
    pairs = zip(found.columns, found.rows[0], strict=True)
    text = "\n".join(f"{name}: {_cell(value)}" for name, value in pairs)
    return text[: _LONGEST_TEXT - 300]


def _counted(found: Found, shown: int) -> str:
    count = len(found.rows)
    rows = f"{count:,} row{'' if count == 1 else 's'}"
    told = f"{rows}." if shown == count else f"{rows}; the first {shown:,} are shown."
    if not found.truncated:
        return told
    return f"{told} The result was cut there: the database has more. Aggregate, filter or LIMIT it."


def _line(values: Iterable[Any]) -> str:
    return f"| {' | '.join(_cell(value) for value in values)} |"


def _cell(value: Any) -> str:
    match value:
        case None:
            text = "NULL"
        case bool():
            text = "true" if value else "false"
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    text = " ".join(text[: 4 * _LONGEST_CELL].split())
    if len(text) > _LONGEST_CELL:
        text = f"{text[: _LONGEST_CELL - 1]}…"
    return text.replace("|", "\\|")


def _number(value: Decimal) -> int | float | str | None:
    if not value.is_finite():
        return None
    # 1E+400 as a whole number would have 400 digits.
    if value.adjusted() < 20 and value == (whole := int(value)):
        return whole if abs(whole) <= _LARGEST_INTEGER else str(whole)
    near = float(value)
    return near if math.isfinite(near) and Decimal(repr(near)) == value else str(value)


def _size(value: Any) -> int:
    """How long it is in JSON, with the comma behind it."""
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) + 2
