"""Texts and how they are dressed: what the server refuses, repairs and silently drops.

Offsets and lengths count UTF-16 code units; the longest text is counted in characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from service.demo.bot_api.params import integer
from service.demo.bot_api.refusal import Json, Refused

LONGEST_TEXT = 4096
MOST_ENTITIES = 100
_LONGEST_BYTES = 32_768
_FARTHEST = 1_000_000

# What the server finds by itself; it takes no notice of it in a call.
_FOUND = frozenset({"mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number"})
_SOFT = frozenset({"bold", "italic", "underline", "strikethrough", "spoiler"})
_QUOTES = frozenset({"blockquote", "expandable_blockquote"})
# None of these can be inside another; on the same words the first one here wins.
_HARD = ("pre", "code", "date_time", "text_link", "text_mention", "custom_emoji")
_VERBATIM = frozenset({"pre", "code"})
_BLANK = " \n\t"


@dataclass(frozen=True, slots=True)
class Dressed:
    """A text as people will see it."""

    text: str
    entities: list[Json]
    dropped: int
    """How many entities were too many."""


@dataclass(frozen=True, slots=True)
class _Span:
    """An entity whose end is easy to ask for."""

    type: str
    start: int
    end: int
    rest: tuple[tuple[str, Any], ...] = ()

    def as_json(self) -> Json:
        length = self.end - self.start
        return {"type": self.type, "offset": self.start, "length": length, **dict(self.rest)}


def utf16_length(text: str) -> int:
    """The length Telegram counts in: UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def dressed(params: Json, *, too_long: str = "message is too long") -> Dressed:
    """Text and entities of a call as they will be shown. Raises Refused."""
    text = str(params.get("text") or "")
    if not text:
        raise Refused(400, "message text is empty")
    if len(text.encode("utf-8", "replace")) > _LONGEST_BYTES:
        raise Refused(400, "text is too long")
    if params.get("parse_mode"):
        # Nobody here reads marks, and a text that shows them would look like a success.
        raise Refused(400, "unsupported parse_mode")
    spans = list(_spans(params.get("entities", []), text))
    text, spans = _trimmed(text, spans)
    if not text:
        raise Refused(400, "text must be non-empty")
    if len(text) > LONGEST_TEXT:
        raise Refused(400, too_long)
    kept, dropped = _nested(spans)
    return Dressed(text, [one.as_json() for one in kept], dropped)


def found(text: str, username: str) -> list[Json]:
    """What the server finds in a text that a person wrote: a command, mentions of the bot."""
    entities = []
    if text.startswith("/"):
        command = text.split(maxsplit=1)[0]
        entities.append({"type": "bot_command", "offset": 0, "length": utf16_length(command)})
    mention = f"@{username}"
    at = text.find(mention)
    while at >= 0:
        if at == 0 or text[at - 1] in _BLANK:
            offset = utf16_length(text[:at])
            entities.append({"type": "mention", "offset": offset, "length": len(mention)})
        at = text.find(mention, at + 1)
    return entities


def _spans(entities: object, text: str) -> Iterator[_Span]:
    """The entities of a call that matter, checked one by one. Raises Refused."""
    if not isinstance(entities, list):
        raise Refused(400, "can't parse entities JSON object")
    edges = _edges(text)
    for entity in entities:
        if not isinstance(entity, dict):
            raise Refused(400, "can't parse entities: expected an Object")
        span = _span(entity)
        if span is not None:
            _check_range(span, edges)
            if span.end > span.start:
                yield span


def _span(entity: Json) -> _Span | None:
    kind, offset, length = entity.get("type"), integer(entity, "offset"), integer(entity, "length")
    if not isinstance(kind, str) or offset is None or length is None:
        raise Refused(400, "can't parse entities: type, offset and length are needed")
    if kind in _FOUND or (kind == "text_link" and not _is_link(str(entity.get("url", "")))):
        return None
    if kind not in _SOFT | _QUOTES | {*_HARD}:
        raise Refused(400, "can't parse entities: unsupported entity type")
    if not 0 <= offset <= _FARTHEST:
        raise Refused(400, f"receive an entity with incorrect offset {offset}")
    if not 0 <= length <= _FARTHEST:
        raise Refused(400, f"receive an entity with incorrect length {length}")
    rest = tuple((k, v) for k, v in entity.items() if k not in ("type", "offset", "length"))
    return _Span(kind, offset, offset + length, rest)


def _check_range(span: _Span, edges: Sequence[int]) -> None:
    """Both ends must be edges of characters inside the text."""
    begins = f"entity beginning at UTF-16 offset {span.start}"
    if span.end > edges[-1]:
        raise Refused(400, f"{begins} ends after the end of the text at UTF-16 offset {edges[-1]}")
    known = frozenset(edges)
    if span.start not in known:
        raise Refused(400, f"entity begins in a middle of a UTF-16 symbol at offset {span.start}")
    if span.end not in known:
        raise Refused(400, f"{begins} ends in a middle of a UTF-16 symbol at offset {span.end}")


def _edges(text: str) -> list[int]:
    """The UTF-16 offsets at which a character begins, and the end."""
    edges = [0]
    for character in text:
        edges.append(edges[-1] + (2 if ord(character) > 0xFFFF else 1))
    return edges


def _is_link(url: str) -> bool:
    """Whether clients would open it; others lose their address and keep their words."""
    parts = urlsplit(url)
    if parts.scheme in ("tg", "ton"):
        return True
    return parts.scheme in ("http", "https") and "." in (parts.hostname or "")


def _trimmed(text: str, spans: Iterable[_Span]) -> tuple[str, list[_Span]]:
    """Without the blanks at both ends; blanks that are dressed at the start stay."""
    ordered = sorted(spans, key=_order)
    first = ordered[0].start if ordered else len(text)
    blank = min(len(text) - len(text.lstrip(_BLANK)), first)
    text = text[blank:].rstrip()
    end = utf16_length(text)
    moved = (
        replace(one, start=one.start - blank, end=min(one.end - blank, end)) for one in ordered
    )
    return text, [one for one in moved if one.end > one.start]


def _nested(spans: Iterable[_Span]) -> tuple[list[_Span], int]:
    """The entities that can be together, and how many of them were too many."""
    spans = list(spans)
    hard = _first_ones(one for one in spans if one.type in _HARD)
    quotes = _first_ones(one for one in spans if one.type in _QUOTES)
    verbatim = [one for one in hard if one.type in _VERBATIM]
    soft = [
        piece
        for one in _joined(one for one in spans if one.type in _SOFT)
        for piece in _cut(one, verbatim)
    ]
    emoji = [one for one in hard if one.type == "custom_emoji"]
    counted = [one for one in hard if one.type != "custom_emoji"]
    counted += sorted(quotes, key=_order) + sorted(soft, key=_order)
    kept = counted[:MOST_ENTITIES] + emoji
    return sorted(kept, key=_order), max(0, len(counted) - MOST_ENTITIES)


def _first_ones(spans: Iterable[_Span]) -> list[_Span]:
    """Those that begin first, longer ones before shorter ones; what they cover is left out."""
    kept: list[_Span] = []
    for span in sorted(spans, key=_order):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def _joined(spans: Iterable[_Span]) -> list[_Span]:
    """Spans of one type that overlap or touch are one."""
    joined: list[_Span] = []
    for span in sorted(spans, key=lambda one: (one.type, one.start)):
        last = joined[-1] if joined else None
        if last is not None and last.type == span.type and span.start <= last.end:
            joined[-1] = replace(last, end=max(last.end, span.end))
        else:
            joined.append(span)
    return joined


def _cut(span: _Span, holes: Iterable[_Span]) -> Iterator[_Span]:
    """What is left of a span between the holes, which come in order."""
    start = span.start
    for hole in holes:
        if hole.start >= span.end or hole.end <= start:
            continue
        if hole.start > start:
            yield replace(span, start=start, end=hole.start)
        start = hole.end
    if start < span.end:
        yield replace(span, start=start)


def _order(span: _Span) -> tuple[int, int, int]:
    rank = _HARD.index(span.type) if span.type in _HARD else len(_HARD)
    return span.start, -span.end, rank
