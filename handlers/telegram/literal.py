"""Words of others inside of our own Markdown."""

from __future__ import annotations


def code(text: str) -> str:
    """The words as code, in one line."""
    words = " ".join(text.replace("`", "").split())
    return f"`{words or ' '}`"


def plain(text: str) -> str:
    """The words taken literally."""
    return "".join(f"\\{one}" if one in "\\`*_~[]<>|&#!" else one for one in text)
