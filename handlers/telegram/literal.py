"""Words of others inside of our own Markdown, and how long something took."""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta

from service.core.text import clean

# Categories whose characters nobody sees, and letters and symbols that are blank.
_INVISIBLE = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
# It holds composed emoji together.
_JOINER = "\u200d"
# What begins a list, a heading's underline or a rule where a line begins.
_BEGINNING = re.compile(r"\A(\d*)([-+=.)])")


def code(text: str) -> str:
    """The words as code, in one line."""
    words = " ".join(text.replace("`", "").split())
    return f"`{words or ' '}`"


def plain(text: str) -> str:
    """The words taken literally."""
    return "".join(f"\\{one}" if one in "\\`*_~[]<>|&#!$" else one for one in text)


def paragraph(text: str) -> str:
    """The visible words in one line, taken literally also where they begin one."""
    return _BEGINNING.sub(r"\1\\\2", plain(visible(text)))


def visible(text: str) -> str:
    """Words in one line, without what hides or turns around what is read."""
    seen = [one if _is_visible(one) else " " for one in clean(text)]
    return " ".join("".join(seen).split()).strip(_JOINER)


def shortened(text: str, longest: int) -> str:
    """The words, cut if there are more characters."""
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def lasting(duration: timedelta) -> str:
    """How long something takes, or took, in its largest unit."""
    seconds = max(int(duration.total_seconds()), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _is_visible(character: str) -> bool:
    if character == _JOINER:
        return True
    return character not in _BLANK and unicodedata.category(character) not in _INVISIBLE
