"""Markdown of a model, changed so that the renderer loses none of its words.

The renderer drops HTML, reads `__init__` as bold and draws tables that no phone is wide enough
for. What the parser says about the source decides; nothing here guesses at Markdown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyromark
from telegramify_markdown.converter import STANDARD_OPTIONS

from handlers.telegram.tables import Table, draw
from service.core.text import clean

# Colour codes of terminals, then control characters except tab, line feed and carriage return.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DUNDER = re.compile(rb"__[A-Za-z0-9_]+__")
_TAG = re.compile(rb"<(/?)([A-Za-z][A-Za-z0-9-]*)(?:\s[^<>]*)?/?>")
_SUMMARY = re.compile(rb"<summary>\s*(.*?)\s*</summary>", re.DOTALL | re.IGNORECASE)

# Tags that only dress their content; the content stays, they go.
_DRESS = {
    *(b"b", b"strong", b"i", b"em", b"u", b"ins", b"s", b"del", b"code", b"pre", b"kbd"),
    *(b"sub", b"sup", b"details", b"summary", b"blockquote", b"tg-spoiler"),
}


@dataclass(frozen=True, slots=True)
class _Edit:
    """Bytes of the source and what stands there instead."""

    start: int
    end: int
    text: bytes


def prepare(markdown: str) -> str:
    """Return Markdown that means the same and survives the renderer whole."""
    text = _CONTROLS.sub("", _ESCAPES.sub("", clean(markdown)))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not any(mark in text for mark in ("<", "__", "|")):
        return text
    source = text.encode()
    edits = sorted(_edits(text, source), key=_start)
    return _applied(source, edits).decode()


def _start(edit: _Edit) -> int:
    return edit.start


def _applied(source: bytes, edits: Sequence[_Edit]) -> bytes:
    parts, cursor = [], 0
    for edit in edits:
        if edit.start < cursor:
            continue
        parts += [source[cursor : edit.start], edit.text]
        cursor = edit.end
    return b"".join((*parts, source[cursor:]))


def _edits(text: str, source: bytes) -> Iterator[_Edit]:
    depth = 0
    dress = _Dress()
    table: _TableReader | None = None
    for event, span in pyromark.events_with_range(text, options=STANDARD_OPTIONS):
        start, end = span["start"], span["end"]
        if not isinstance(event, dict):
            continue
        if table is not None:
            table.read(event)
            if event.get("End") == "Table":
                yield _Edit(start, end, draw(table.table()).encode())
                table = None
            continue
        opened = event.get("Start")
        if isinstance(opened, dict) and "Table" in opened and depth == 0:
            table = _TableReader(opened["Table"])
            continue
        depth += _deeper(event)
        if opened == "Strong" and _DUNDER.fullmatch(source[start:end]):
            yield _Edit(start, end, source[start:end].replace(b"_", rb"\_"))
        if "InlineHtml" in event:
            yield _Edit(start, end, dress.inline(source[start:end]))
        if opened == "HtmlBlock":
            yield _Edit(start, end, dress.block(source[start:end]))


def _deeper(event: Mapping[str, Any]) -> int:
    """How many quotes and lists an event enters; tables inside of them are left alone."""
    for kind, step in (("Start", 1), ("End", -1)):
        name = event.get(kind)
        if isinstance(name, dict):
            name = next(iter(name))
        if name in ("BlockQuote", "List"):
            return step
    return 0


class _Dress:
    """Decides tag by tag, in order, which are taken off and which are words."""

    def __init__(self) -> None:
        self._open: Counter[bytes] = Counter()

    def inline(self, html: bytes) -> bytes:
        """One tag inside of a paragraph; the renderer itself takes off the known ones."""
        match = _TAG.fullmatch(html)
        if match is None:
            return html.replace(b"<", rb"\<")
        if match[2].lower() == b"br":
            return b"\\\n"
        return html if self._is_dress(match) else b"\\" + html

    def block(self, html: bytes) -> bytes:
        """A block of HTML as paragraphs: its words stay, its dress goes, other tags are literal."""
        html = _SUMMARY.sub(rb"**\1**\n", html)
        lines = [_TAG.sub(self._in_block, line).strip() for line in html.splitlines()]
        return b"\n".join(lines) + b"\n"

    def _in_block(self, match: re.Match[bytes]) -> bytes:
        if match[2].lower() == b"br":
            return b"\\\n"
        return b"" if self._is_dress(match) else b"\\" + match[0]

    def _is_dress(self, match: re.Match[bytes]) -> bool:
        name = match[2].lower()
        if name not in _DRESS:
            return False
        if not match[1]:
            self._open[name] += 1
            return True
        self._open[name] -= 1
        return self._open[name] >= 0


class _TableReader:
    """Collects the cells of one table from the parser's events."""

    def __init__(self, alignments: Sequence[str]) -> None:
        self._alignments = tuple(alignments)
        self._rows: list[list[str]] = []

    def read(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"Start": "TableHead" | "TableRow"}:
                self._rows.append([])
            case {"Start": "TableCell"}:
                self._rows[-1].append("")
            case {"Text": str(text)} | {"Code": str(text)} | {"InlineHtml": str(text)}:
                self._rows[-1][-1] += text

    def table(self) -> Table:
        head, *rows = self._rows
        return Table(tuple(head), tuple(tuple(row) for row in rows), self._alignments)
