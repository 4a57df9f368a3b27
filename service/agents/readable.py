"""The words of an HTML page, for somebody who reads text.

The parser of the standard library takes minutes for half a megabyte of unclosed tags. This one
never looks further than the next "<" for the end of a tag, and takes the page in one pass.
"""

from __future__ import annotations

import html
import re
from urllib.parse import urljoin

from service.core.text import clean

_TAG = re.compile(
    r"""<(?:(?P<comment>!--)|[!?][^<>]*+>|(?P<end>/?)(?P<tag>[a-z][a-z0-9]*+)"""
    r"""(?P<attributes>(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+(?=>)|[^<>]*+)>)""",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""\b(href|alt)\s*+=\s*+("[^"]*"|'[^']*'|[^\s"'>]+)""", re.IGNORECASE)
_COMMENT_ENDS = re.compile("-->")
# What they hold is no HTML, and nothing to read.
_RAW_ENDS = {tag: re.compile(f"</{tag}\\b", re.IGNORECASE) for tag in ("script", "style")}
# Python refuses to read numbers that are much longer.
_ENDLESS_NUMBER = re.compile("&#x?[0-9a-f]{9,}+;?", re.IGNORECASE)

_HIDDEN = frozenset({"iframe", "noscript", "object", "svg", "template"})
_LINES = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "br", "dd", "details", "dialog"),
        *("div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr"),
        *("legend", "main", "nav", "ol", "option", "p", "section", "summary", "table", "tr", "ul"),
    )
)
_HEADINGS = {f"h{level}": f"\n\n{'#' * level} " for level in range(1, 7)}
_BEFORE = {
    **dict.fromkeys((*_LINES, "pre"), "\n"),
    **_HEADINGS,
    "li": "\n- ",
    "title": "\n# ",
}
_AFTER = {
    **dict.fromkeys((*(_LINES - {"br", "hr"}), "li", "pre", "title"), "\n"),
    **dict.fromkeys(_HEADINGS, "\n\n"),
}


def readable(page: str, *, base: str) -> str:
    """The words of a page, with headings, lists, links and lines as one would write them.

    `base` is the URL of the page, which its links begin from.
    """
    reader = _Reader(base)
    at = 0
    while (found := _TAG.search(page, at)) is not None:
        reader.words(page[at : found.start()])
        at = found.end()
        if found["comment"]:
            at = _after(_COMMENT_ENDS, page, at)
        elif found["tag"]:
            tag = found["tag"].lower()
            if found["end"]:
                reader.ends(tag)
            elif tag in _RAW_ENDS:
                at = _before(_RAW_ENDS[tag], page, at)
            else:
                reader.begins(tag, found["attributes"])
    reader.words(page[at:])
    return clean(reader.text())


def _after(end: re.Pattern[str], page: str, at: int) -> int:
    found = end.search(page, at)
    return found.end() if found else len(page)


def _before(end: re.Pattern[str], page: str, at: int) -> int:
    found = end.search(page, at)
    return found.start() if found else len(page)


class _Reader:
    """Writes down what a page shows."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._pieces: list[str] = ["\n"]
        self._hidden = 0
        self._kept = 0
        self._links: list[str] = []

    def text(self) -> str:
        """What was written, with at most one empty line in a row."""
        lines: list[str] = []
        for line in "".join(self._pieces).split("\n"):
            bare = line.rstrip()
            if bare or (lines and lines[-1]):
                lines.append(bare)
        return "\n".join(lines).strip("\n")

    def begins(self, tag: str, attributes: str) -> None:
        """An element begins."""
        # Browsers take "<svg/>" as closed; as open it would hide the page.
        self._hidden += tag in _HIDDEN and not attributes.endswith("/")
        self._kept += tag == "pre"
        if self._hidden:
            return
        self._write(_BEFORE.get(tag, ""))
        if tag in ("td", "th"):
            self._write("| " if self._pieces[-1][-1] == "\n" else " | ")
        elif tag == "a":
            self._links.append(self._link(_attribute(attributes, "href")))
        elif tag == "img" and (words := _attribute(attributes, "alt")):
            self._write(f"[image: {' '.join(words.split())}]")

    def ends(self, tag: str) -> None:
        """An element ends."""
        self._hidden = max(0, self._hidden - (tag in _HIDDEN))
        self._kept = max(0, self._kept - (tag == "pre"))
        if self._hidden:
            return
        if tag == "a" and self._links and (url := self._links.pop()):
            self._write(f" ({url})")
        self._write(_AFTER.get(tag, ""))

    def words(self, text: str) -> None:
        """Words between tags."""
        if self._hidden or not text:
            return
        data = _unescaped(text)
        if self._kept:
            self._write(data)
            return
        words = " ".join(data.split())
        before = " " if data[:1].isspace() and self._pieces[-1][-1] not in " \n" else ""
        after = " " if words and data[-1:].isspace() else ""
        self._write(f"{before}{words}{after}")

    def _write(self, text: str) -> None:
        if text:
            self._pieces.append(text)

    def _link(self, href: str) -> str:
        if not href or href.startswith("#"):
            return ""
        try:
            url = urljoin(self._base, href)
        except ValueError:
            return ""
        return url if url.startswith(("https://", "http://")) else ""


def _attribute(attributes: str, name: str) -> str:
    for found in _ATTRIBUTE.finditer(attributes):
        if found[1].lower() == name:
            return _unescaped(found[2].strip("\"'")).strip()
    return ""


def _unescaped(text: str) -> str:
    return html.unescape(_ENDLESS_NUMBER.sub("\N{REPLACEMENT CHARACTER}", text))
