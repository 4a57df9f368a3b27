"""Tables for narrow screens.

Those of agents have aligned columns when they fit a phone, and one record per row when not; those
of key results are cut.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

WIDEST = 42

_TICKS = re.compile(r"`+")
_SPECIAL = re.compile(r"([\\`*_~\[\]<>|&])")


@dataclass(frozen=True, slots=True)
class Table:
    """Plain cells; `alignments` has one of None, Left, Center, Right for each column."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    alignments: tuple[str, ...]


def draw(table: Table) -> str:
    """Return Markdown without tables that shows the same cells."""
    lines = _columns(table)
    if not table.rows or max(map(width, lines)) <= WIDEST:
        return "````\n" + "\n".join(lines) + "\n````\n"
    return "\n\n".join(_record(table.head, row) for row in table.rows) + "\n"


def squeezed(table: Table) -> str:
    """The table as a block of code for a phone: where it is too wide, its cells are cut."""
    every = (table.head, *table.rows)
    widths = [min(max(map(width, cells)), WIDEST) for cells in zip(*every, strict=True)]
    while sum(widths) + len(widths) - 1 > WIDEST:
        widths[widths.index(max(widths))] -= 1
    head, *rows = (_squeezed(row, widths, table.alignments) for row in every)
    return fenced("\n".join([head, "+".join("-" * one for one in widths), *rows]))


def fenced(text: str) -> str:
    """Text as a block of code, whatever is in it."""
    longest = max(map(len, _TICKS.findall(text)), default=0)
    fence = "`" * max(longest + 1, 4)
    return f"{fence}\n{text}\n{fence}"


def width(text: str) -> int:
    """How many columns `text` takes in a font of fixed width."""
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _squeezed(row: tuple[str, ...], widths: list[int], alignments: tuple[str, ...]) -> str:
    cells = map(_aligned, map(_cut, row, widths), widths, alignments)
    return "|".join(cells).rstrip()


def _cut(text: str, to: int) -> str:
    if width(text) <= to:
        return text
    kept, room = 0, to - 1
    while (room := room - _width(text[kept])) >= 0:
        kept += 1
    return f"{text[:kept]}…"


def _columns(table: Table) -> list[str]:
    every = (table.head, *table.rows)
    widths = [max(map(width, cells)) for cells in zip(*every, strict=True)]
    rule = "-+-".join("-" * one for one in widths)
    head, *rows = (_line(row, widths, table.alignments) for row in every)
    return [head, rule, *rows]


def _line(row: tuple[str, ...], widths: list[int], alignments: tuple[str, ...]) -> str:
    cells = map(_aligned, row, widths, alignments)
    return " | ".join(cells).rstrip()


def _aligned(cell: str, to: int, alignment: str) -> str:
    space = to - width(cell)
    if alignment == "Right":
        return " " * space + cell
    if alignment == "Center":
        return " " * (space // 2) + cell + " " * (space - space // 2)
    return cell + " " * space


def _record(head: tuple[str, ...], row: tuple[str, ...]) -> str:
    pairs = zip(head, row, strict=True)
    # Two spaces at the end keep the lines of one record apart.
    return "  \n".join(f"**{_literal(name)}:** {_literal(cell)}" for name, cell in pairs)


def _literal(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
