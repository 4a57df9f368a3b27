"""A long text in messages that Telegram takes: cut where a reader would pause."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Sequence

from handlers.telegram.markup import Entity, Rich, clip, trimmed, units

LIMIT = 4096
MOST_ENTITIES = 100

# Where to cut, best first. A cut is taken when it leaves at least half a message.
_CUTS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"[.!?…。！？]\s"),
    re.compile(r"\s"),
)
_JOINER = "\u200d"


def split(rich: Rich, *, limit: int = LIMIT) -> list[Rich]:
    """Return `rich` as messages of at most `limit` units and 100 entities; none when it is blank.

    Every visible character comes, in order; entities that are cut go on in the next message. Text
    that is added at the end moves no earlier cut.
    """
    chunks: list[Rich] = []
    coming = deque(rich.entities)
    begun: list[Entity] = []
    cursor = offset = 0
    while cursor < len(rich.text):
        # One more than can be taken: what follows a cut says whether it is a good one.
        window = rich.text[cursor : cursor + limit + 1]
        while coming and coming[0].offset < offset + limit:
            begun.append(coming.popleft())
        inside = clip(begun, offset, offset + limit)
        is_rest = cursor + len(window) == len(rich.text)
        end = _end(window, inside, limit=limit, is_rest=is_rest)
        size = units(window[:end])
        chunks.append(trimmed(Rich(window[:end], clip(inside, 0, size))))
        cursor, offset = cursor + end, offset + size
        begun = [one for one in begun if one.end > offset]
    return [chunk for chunk in chunks if chunk.text]


def _end(window: str, entities: Sequence[Entity], *, limit: int, is_rest: bool) -> int:
    """The number of characters of `window` that make the next message."""
    room = limit
    if len(entities) > MOST_ENTITIES:
        room = max(entities[MOST_ENTITIES].offset, 1)
    if is_rest and units(window) <= room:
        return len(window)
    most = _characters(window, room)
    torn = [one for one in entities if one.type == "pre" and room // 2 < one.offset < room]
    if torn and torn[-1].end >= room:
        # A block of code begins anew in the next message rather than near the end of this one.
        most = _characters(window, torn[-1].offset)
    for cut in _CUTS:
        ends = [match.end() for match in cut.finditer(window[:most], most // 2)]
        if ends:
            return ends[-1]
    return _whole_character(window, most)


def _characters(text: str, room: int) -> int:
    """How many characters of `text` fit into `room` units."""
    data = text[:room].encode("utf-16-le", "surrogatepass")[: 2 * room]
    return max(len(data.decode("utf-16-le", "ignore")), 1)


def _whole_character(text: str, end: int) -> int:
    """The last place not after `end` where what a reader sees as one character is not cut."""
    for at in range(end, max(end - 64, 1), -1):
        if not _joined(text, at):
            return at
    return end


def _joined(text: str, at: int) -> bool:
    """Whether the characters before and behind a place belong to one visible character."""
    if at >= len(text):
        return False
    before, behind = text[at - 1], text[at]
    if _JOINER in (before, behind) or unicodedata.combining(behind):
        return True
    if unicodedata.category(behind) in ("Mn", "Me") or "\U0001f3fb" <= behind <= "\U0001f3ff":
        return True
    return _is_flag(before) and _is_flag(behind) and _flags_before(text, at) % 2 == 1


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _flags_before(text: str, at: int) -> int:
    count = 0
    while count < at and _is_flag(text[at - 1 - count]):
        count += 1
    return count
