"""What `/archive`, `/restore` and the button between them do with sessions, and say about it."""

from __future__ import annotations

from collections.abc import Mapping

from handlers.telegram.buttons import archive_button
from handlers.telegram.literal import plain
from handlers.telegram.translate import Called
from handlers.telegram.voices import Told
from service.core.model import SessionId
from service.engine.controls import Command
from service.engine.keeping import NotKept
from service.store.lists import View

UNTITLED = "Untitled session"
NONE_ARCHIVED = "Nothing is archived."
ARCHIVED = "Archived. What you write next begins a new session."

_NOT_KEPT: Mapping[NotKept, str] = {
    NotKept.PINNED: "The session is pinned. /unpin it first.",
    NotKept.BUSY: "The session has something to do. /stop it first, or wait until it is done.",
}


def kept(refused: NotKept | None, done: str) -> str:
    """What is said about a session that was changed, or was not."""
    return done if refused is None else _NOT_KEPT.get(refused, plain(f"{refused.detail}."))


async def archive(command: Command, session: SessionId, by: str) -> str | Told:
    """Put a session away; one that is pinned comes with a button for both."""
    refused = await command.archive(session, by=by)
    words = kept(refused, ARCHIVED)
    return Told(words, [[archive_button(session)]]) if refused is NotKept.PINNED else words


async def unpin_and_archive(command: Command, session: SessionId, key: str, by: str) -> str | None:
    """Do what the button says; None when the chat has another session by now."""
    status = await command.status(key=key)
    if status is None or status.session != session:
        return None
    if status.state is not None:
        # It stays pinned, too.
        return kept(NotKept.BUSY, "")
    refused = await command.pin(session, sticky=False, by=by)
    if refused is None:
        refused = await command.archive(session, by=by)
    return kept(refused, ARCHIVED)


async def restore(called: Called, command: Command) -> str:
    """Bring the last archived session back, or the one of this number, and go on in it."""
    found = await command.sessions(home=called.spot.address, view=View.ARCHIVED)
    if not found:
        return NONE_ARCHIVED
    numbered = {str(place): one for place, one in enumerate(found, 1)}
    one = numbered.get(called.argument.strip() or "1")
    if one is None:
        numbers = f"a number from 1 to {len(found)}" if len(found) > 1 else "1"
        return f"Write /restore, or /restore and {numbers}: /sessions archived lists them."
    key, by = called.spot.session_key, called.person.name
    refused = await command.take_up(one.session, key=key, by=by)
    title = plain(one.title or UNTITLED)
    return kept(refused, f"**{title}** is restored. What you write next goes on there.")
