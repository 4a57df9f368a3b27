"""Text from outside made fit for storage and for a title."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

TITLE_LENGTH = 60
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """Return `text` without U+0000 and lone surrogates, which no database stores."""
    if text.isascii():
        return text.replace("\0", _REPLACEMENT) if "\0" in text else text
    text = text.replace("\0", _REPLACEMENT)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Pairs that were written as two escapes become the character they mean.
        paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return paired.encode("utf-8", "replace").decode("utf-8")
    return text


def cleaned(value: Any) -> Any:
    """Return a plain JSON value with every text in it, also of keys, cleaned."""
    match value:
        case str():
            return clean(value)
        case list():
            return [cleaned(one) for one in value]
        case dict():
            return {clean(key): cleaned(one) for key, one in value.items()}
        case _:
            return value


def title_of(text: str) -> str | None:
    """A session's title: the first line that says something, at most 60 characters."""
    for line in text.splitlines():
        words = " ".join(line.split())
        if words:
            return _shortened(clean(words))
    return None


def _shortened(line: str) -> str:
    if len(line) <= TITLE_LENGTH:
        return line
    cut = line.rfind(" ", TITLE_LENGTH // 2, TITLE_LENGTH)
    return line[: cut if cut > 0 else TITLE_LENGTH - 1].rstrip() + "…"


def numbered(title: str, taken: Iterable[str]) -> str:
    """The first of `title`, `title 2`, `title 3` … that is not taken in whichever case."""
    folded = {one.casefold() for one in taken}
    found, number = title, 1
    while found.casefold() in folded:
        number += 1
        found = f"{title} {number}"
    return found
