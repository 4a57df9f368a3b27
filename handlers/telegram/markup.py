"""Markdown as Telegram shows it: plain text beside entities, so that no mark-up can be refused."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from telegramify_markdown import RenderConfig, convert

from handlers.telegram.source import prepare

_LANGUAGE = re.compile(r"[a-z0-9_+#.-]{1,32}")
_IMAGE = "\N{FRAME WITH PICTURE} "
_CODE = ("code", "pre")
_QUOTES = ("blockquote", "expandable_blockquote")
# Not underline: the renderer puts it under headings, which are bold already.
_DRESS = ("bold", "italic", "strikethrough", "spoiler")
# A quote of more than this many lines is folded.
_LONG_QUOTE = 8
_NEVER_SHOWN = ("javascript", "vbscript", "data", "file")

# What a reply in progress ends with when its last word is cut in the middle of a mark.
_HALF_TAG = re.compile(r"<[A-Za-z/][^<>\n]*\Z")
_HALF_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\s]*\Z")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
_CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entity:
    """A dressed stretch of text; offset and length count UTF-16 units, as Telegram does."""

    type: str
    offset: int
    length: int
    url: str | None = None
    language: str | None = None

    @property
    def end(self) -> int:
        """The first unit behind it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Rich:
    """Text with its entities, sorted, none of them empty."""

    text: str = ""
    entities: tuple[Entity, ...] = ()

    def __add__(self, other: Rich) -> Rich:
        moved = (replace(one, offset=one.offset + units(self.text)) for one in other.entities)
        return Rich(self.text + other.text, (*self.entities, *moved))


def units(text: str) -> int:
    """The length of `text` as Telegram counts it."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def italic(text: str) -> Rich:
    """Words of our own, set apart from an agent's."""
    return Rich(text, (Entity("italic", 0, units(text)),))


def joined(above: Rich, below: Rich) -> Rich:
    """Two texts with a blank line between them, unless one of them is empty."""
    if not above.text or not below.text:
        return above + below
    return above + Rich("\n\n") + below


def render(markdown: str) -> Rich:
    """Return finished Markdown as text and entities; nothing in it can fail."""
    text, entities = convert(prepare(markdown), latex_escape=False, config=_CONFIG)
    ours = (Entity(one.type, one.offset, one.length, one.url, one.language) for one in entities)
    return _Tidy(text).tidy(ours)


def render_unfinished(markdown: str) -> Rich:
    """Return Markdown that may break off anywhere; a mark that is only begun is not shown."""
    return render(_closed(markdown))


def _config() -> RenderConfig:
    config = RenderConfig.isolated()
    config.cite_expandable = False
    symbols = config.markdown_symbol
    symbols.heading_level_1 = symbols.heading_level_2 = ""
    symbols.heading_level_3 = symbols.heading_level_4 = ""
    symbols.unordered_list_item = "•"
    symbols.task_completed, symbols.task_uncompleted = "☑", "☐"
    symbols.image = _IMAGE
    return config


_CONFIG = _config()


# -- after the renderer -------------------------------------------------------------------------


class _Tidy:
    """Makes what the renderer returns into what Telegram keeps."""

    def __init__(self, text: str) -> None:
        self._units = text.encode("utf-16-le", "surrogatepass")

    def tidy(self, entities: Iterable[Entity]) -> Rich:
        """Drop, cut and join entities so that Telegram drops none; trim the text."""
        known = [self._known(one) for one in entities]
        links = [one for one in known if one.type == "text_link" and self._followed(one)]
        quotes, inner = _nested([one for one in known if one.type in _QUOTES])
        code = _not_inside(links, [one for one in known if one.type in _CODE])
        dress = [one for one in known if one.type in _DRESS]
        whole = [
            *links,
            *map(self._folded, quotes),
            *code,
            *map(self._trimmed, _without(code, dress)),
        ]
        kept = tuple(sorted({one for one in whole if one.length > 0}, key=_order))
        rich = Rich(self._slice(0, len(self._units) // 2), kept)
        dead = [one for one in known if one.type == "text_link" and not _is_link(one.url or "")]
        return trimmed(_insert(rich, [*self._bars(inner), *self._targets(dead)]))

    def _slice(self, start: int, end: int) -> str:
        return self._units[2 * start : 2 * end].decode("utf-16-le", "surrogatepass")

    def _known(self, one: Entity) -> Entity:
        if one.type == "pre":
            match = _LANGUAGE.match((one.language or "").lower())
            return replace(one, language=match[0] if match else None)
        icon = units(_IMAGE)
        if one.type == "text_link" and self._slice(one.offset - icon, one.offset) == _IMAGE:
            return replace(one, offset=one.offset - icon, length=one.length + icon)
        return one

    def _followed(self, link: Entity) -> bool:
        """Whether Telegram would keep this link, and does not make it by itself."""
        return _is_link(link.url or "") and self._slice(link.offset, link.end) != link.url

    def _folded(self, quote: Entity) -> Entity:
        lines = self._slice(quote.offset, quote.end).count("\n") + 1
        return replace(quote, type="expandable_blockquote" if lines > _LONG_QUOTE else "blockquote")

    def _trimmed(self, one: Entity) -> Entity:
        covered = self._slice(one.offset, one.end)
        left = units(covered) - units(covered.lstrip())
        return replace(one, offset=one.offset + left, length=units(covered.strip()))

    def _bars(self, inner: Iterable[Entity]) -> Iterator[tuple[int, str]]:
        """A bar before each line of a quote in a quote: Telegram knows only one level."""
        for quote in inner:
            lines = self._slice(quote.offset, quote.end).splitlines(keepends=True)
            at = quote.offset
            for line in lines:
                yield at, "│ "
                at += units(line)

    def _targets(self, dead: Iterable[Entity]) -> Iterator[tuple[int, str]]:
        """Where a link leads that Telegram does not make one of; scripts and data are left out."""
        for link in dead:
            target = link.url or ""
            scheme = target.partition(":")[0].lower()
            label = self._slice(link.offset, link.end)
            if scheme not in _NEVER_SHOWN and target not in ("", label):
                yield link.end, f" ({target})"


def _insert(rich: Rich, pieces: Sequence[tuple[int, str]]) -> Rich:
    """Return `rich` with text put in before some units; what starts or goes on there grows."""
    if not pieces:
        return rich
    data = rich.text.encode("utf-16-le", "surrogatepass")
    parts: list[bytes] = []
    places, grown, cursor, more = [], [0], 0, 0
    for at, piece in sorted(pieces):
        parts += [data[2 * cursor : 2 * at], piece.encode("utf-16-le", "surrogatepass")]
        cursor, more = at, more + units(piece)
        places.append(at)
        grown.append(more)
    text = b"".join((*parts, data[2 * cursor :])).decode("utf-16-le", "surrogatepass")
    moved = []
    for one in rich.entities:
        start = one.offset + grown[bisect_left(places, one.offset)]
        end = one.end + grown[bisect_left(places, one.end)]
        moved.append(replace(one, offset=start, length=end - start))
    return Rich(text, tuple(moved))


def trimmed(rich: Rich) -> Rich:
    """Return `rich` without blank ends; Telegram would cut them and move the entities."""
    stripped = rich.text.lstrip("\n").rstrip()
    if not stripped.strip():
        return Rich()
    left = units(rich.text) - units(rich.text.lstrip("\n"))
    return Rich(stripped, clip(rich.entities, left, left + units(stripped)))


def clip(entities: Iterable[Entity], start: int, end: int) -> tuple[Entity, ...]:
    """Return what of `entities` lies between two units, counted from the first."""
    cut = (
        replace(
            one,
            offset=max(one.offset, start) - start,
            length=min(one.end, end) - max(one.offset, start),
        )
        for one in entities
    )
    return tuple(one for one in cut if one.length > 0)


def _order(one: Entity) -> tuple[int, int, str]:
    return one.offset, -one.length, one.type


def _nested(quotes: Sequence[Entity]) -> tuple[list[Entity], list[Entity]]:
    """Quotes that stand in no other, and those that do."""
    outer: list[Entity] = []
    inner: list[Entity] = []
    for one in sorted(quotes, key=_order):
        (inner if outer and one.end <= outer[-1].end else outer).append(one)
    return outer, inner


def _not_inside(links: Sequence[Entity], code: Sequence[Entity]) -> list[Entity]:
    """Code outside of links: of the two on one range, Telegram would keep the code only."""
    links = sorted(links, key=_order)
    starts = [one.offset for one in links]
    kept = []
    for one in code:
        at = bisect_right(starts, one.offset) - 1
        if at < 0 or one.end > links[at].end:
            kept.append(one)
    return kept


def _without(holes: Sequence[Entity], entities: Iterable[Entity]) -> Iterator[Entity]:
    """What is left of `entities` outside of `holes`: nothing may dress code."""
    holes = sorted(holes, key=_order)
    ends = [hole.end for hole in holes]
    for one in entities:
        cursor = one.offset
        for at in range(bisect_right(ends, one.offset), len(holes)):
            hole = holes[at]
            if hole.offset >= one.end:
                break
            yield replace(one, offset=cursor, length=hole.offset - cursor)
            cursor = hole.end
        yield replace(one, offset=cursor, length=one.end - cursor)


def _is_link(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme == "tg" or (parts.scheme in ("http", "https") and "." in host)


# -- while the reply grows ----------------------------------------------------------------------


def _closed(markdown: str) -> str:
    """Close or take away what the last block of `markdown` has begun and not ended."""
    if _inside_fence(markdown):
        return markdown
    markdown = _HALF_TAG.sub("", markdown)
    prose = _CODE_SPAN.sub("", markdown[markdown.rfind("\n\n") + 1 :])
    if prose.count("`") % 2:
        return _ended(markdown, "`")
    markdown = _HALF_LINK.sub(r"\1", markdown)
    for mark in ("**", "~~"):
        if prose.count(mark) % 2:
            markdown = _ended(markdown, mark)
    return markdown


def _inside_fence(markdown: str) -> bool:
    opened = ""
    for match in _FENCE.finditer(markdown):
        fence = match[1]
        if not opened:
            opened = fence
        elif fence[0] == opened[0] and len(fence) >= len(opened):
            opened = ""
    return bool(opened)


def _ended(markdown: str, mark: str) -> str:
    begun = markdown.rstrip()
    return begun.removesuffix(mark) if begun.endswith(mark) else begun + mark
