"""Tables of a database in words: all of them, one of them, and those that match some words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from service.agents.data.source import Column, Table
from service.errors import BadInput

_LONGEST_TEXT = 8_000
_MOST_FOUND = 50
_LONGEST_COMMENT = 200


def all_tables(tables: Sequence[Table], name: str) -> str:
    """Every table in a line; with its columns, if all that is not too long."""
    if not tables:
        return "There are no tables that may be read."
    for lines in ([_in_full(one) for one in tables], [_in_short(one) for one in tables]):
        text = "\n".join(lines)
        if len(text) <= _LONGEST_TEXT:
            return text
    shown = _fitting(_in_short(one) for one in tables)
    left_out = len(tables) - len(shown)
    return "\n".join([*shown, f"[{left_out} more; {name}_search finds tables by words]"])


def one_table(tables: Sequence[Table], wanted: str) -> str:
    """A table with its columns. Raises BadInput naming those it may have been meant to be."""
    folded = wanted.strip().replace('"', "").lower()
    for table in tables:
        if folded in (table.name.lower(), f"public.{table.name}".lower()):
            return "\n".join(_fitting(_lines(table)))
    close = difflib.get_close_matches(folded, [one.name.lower() for one in tables], n=5)
    others = ", ".join(close or sorted(one.name for one in tables)[:20]) or "none"
    raise BadInput(
        f"table: there is no table {wanted[:100]!r} that may be read; there are: {others}"
    )


def search(tables: Sequence[Table], words: str) -> str:
    """Tables and columns whose names, types or comments hold the words; the best ones first."""
    wanted = words.lower().replace("_", " ").split()
    if not wanted:
        raise BadInput("words: write at least one word")
    scored = [(_score(text, wanted), told) for text, told in _searchable(tables)]
    found = sorted((one for one in scored if one[0]), key=lambda one: -one[0])
    if not found:
        return "Nothing matches. Try other words, or parts of them."
    shown = _fitting(told for _, told in found[:_MOST_FOUND])
    if len(shown) < len(found):
        shown.append(f"[{len(found) - len(shown)} more; use more words]")
    return "\n".join(shown)


def _searchable(tables: Sequence[Table]) -> Iterator[tuple[str, str]]:
    for table in tables:
        yield f"{table.name} {table.comment or ''}", f"table {_in_short(table)}"
        for column in table.columns:
            text = f"{column.name} {column.comment or ''}"
            yield text, f"column {table.name}.{_told(column)}{_comment(column.comment)}"


def _score(text: str, wanted: Sequence[str]) -> int:
    folded = text.lower().replace("_", " ")
    return sum(2 if word in folded.split() else word in folded for word in wanted)


def _in_full(table: Table) -> str:
    columns = ", ".join(_told(column) for column in table.columns)
    return f"{_head(table)} ({columns}){_comment(table.comment)}"


def _in_short(table: Table) -> str:
    return f"{_head(table)}, {len(table.columns)} columns{_comment(table.comment)}"


def _lines(table: Table) -> Iterator[str]:
    yield f"{_head(table)}{_comment(table.comment)}"
    for column in table.columns:
        yield f"- {_told(column)}{_comment(column.comment)}"


def _head(table: Table) -> str:
    if table.view:
        return f"{table.name} [view]"
    return table.name if table.rows is None else f"{table.name} [about {table.rows:,} rows]"


def _told(column: Column) -> str:
    parts = [column.name, column.type]
    if column.key:
        parts.append("key")
    elif column.required:
        parts.append("not null")
    if column.references:
        parts.append(f"-> {column.references}")
    return " ".join(parts)


def _comment(comment: str | None) -> str:
    if not comment:
        return ""
    line = " ".join(comment.split())
    return f" - {line if len(line) <= _LONGEST_COMMENT else f'{line[:_LONGEST_COMMENT]}…'}"


def _fitting(lines: Iterator[str]) -> list[str]:
    """As many of the lines as the model is told at once."""
    left = _LONGEST_TEXT - 100
    shown: list[str] = []
    for line in lines:
        left -= len(line) + 1
        if left < 0:
            break
        shown.append(line[:_LONGEST_TEXT])
    return shown
