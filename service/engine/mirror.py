"""What is said in the console, shown in the chat that its session lives in."""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.core.model import Address, Channel, NewAttachment, Ring, SessionId, TurnKind
from service.core.text import clean
from service.store.deliveries import NewDelivery
from service.store.sessions import Session

_HEAD = "🖥 **Console**"
# Whoever wants to read more opens the console; a chat is not to be flooded.
_LONGEST = 3000
_MARKS = re.compile(r"[!-/:-@\[-`{-~]")
_INDENT = re.compile(r"^[ \t]+")
_NO_BREAK_SPACE = "\u00a0"


def home_of(session: Session) -> Address | None:
    """The chat that reads along: the one a session lives in, until another session took it over."""
    return session.home if session.key is not None else None


def mirrored(ring: Ring) -> bool:
    """Whether what rang has to be seen in the chat, too: it is not from there."""
    said = ring.kind in (TurnKind.MESSAGE, TurnKind.RENDER)
    return ring.channel is Channel.CONSOLE and said


def notice(session: SessionId, home: Address, ring: Ring) -> NewDelivery:
    """What the chat is shown of a ring, before the answer."""
    text = quoted(ring.text, ring.attachments)
    if ring.kind is TurnKind.RENDER:
        text = f"{_HEAD}\n\n> _Go on._"
    return NewDelivery(home, session=session, text=text, ordered=True)


def answer_notice(
    session: SessionId, home: Address, text: str, files: Sequence[NewAttachment] = ()
) -> NewDelivery:
    """What the chat is shown of an answer; the reply that waited for it stands in its way."""
    return NewDelivery(home, session=session, text=quoted(text, files))


def quoted(text: str, files: Sequence[NewAttachment] = ()) -> str:
    """Words of the console as a quote in Markdown, letter by letter, with the names of files."""
    words = clean(text).strip()
    if len(words) > _LONGEST:
        words = f"{words[:_LONGEST].rstrip()}…"
    lines = [_literal(line) for line in words.splitlines()]
    lines += [f"📎 {_literal(clean(one.name))}" for one in files]
    # Two blanks at its end keep a line from running into the next one.
    return "\n".join([_HEAD, "", *(f"> {line}  " if line else ">" for line in lines)])


def _literal(line: str) -> str:
    return _INDENT.sub(_unbroken, _MARKS.sub(r"\\\g<0>", line))


def _unbroken(match: re.Match[str]) -> str:
    return _NO_BREAK_SPACE * len(match[0])
