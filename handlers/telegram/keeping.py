"""What `/archive`, `/restore` and the button between them do with sessions, and say about it."""

from __future__ import annotations

from collections.abc import Mapping

from handlers.telegram.buttons import archive_button
from handlers.telegram.literal import plain
from handlers.telegram.translate import Called
from handlers.telegram.voices import Told
from service.core.access import may_archive
from service.core.model import Address, SessionId
from service.engine.controls import Command
from service.engine.keeping import NotKept
from service.store.lists import View

UNTITLED = "Untitled session"
NONE_ARCHIVED = "Nothing is archived."
NOT_OWNER = "Only the owner of this session may archive it. /new begins another one."
ARCHIVED = "Archived. What you write next begins a new session."

_NOT_KEPT: Mapping[NotKept, str] = {
    NotKept.PINNED: "The session is pinned. /unpin it first.",
    NotKept.NOT_OWNER: NOT_OWNER,
    NotKept.BUSY: "The session has something to do. /stop it first, or wait until it is done.",
}


def kept(refused: NotKept | None, done: str) -> str:
    """What is said about a session that was changed, or was not."""
    return done if refused is None else _NOT_KEPT.get(refused, plain(f"{refused.detail}."))


async def archive(command: Command, session: SessionId, by: str) -> str | Told:
    """Put a session away; one that is pinned comes with a button for both."""
    refused = await command.archive(session, by=by, owner_only=True)
    words = kept(refused, ARCHIVED)
    return Told(words, [[archive_button(session)]]) if refused is NotKept.PINNED else words


async def unpin_and_archive(command: Command, session: SessionId, key: str, by: str) -> str | None:
    """Do what the button says; None when the chat has another session by now."""
    status = await command.status(key=key)
    if status is None or status.session != session:
        return None
    if not may_archive(by, owner=status.owner):
        # The attempt is written down.
        return kept(await command.archive(session, by=by, owner_only=True), "")
    if status.state is not None:
        # It stays pinned, too.
        return kept(NotKept.BUSY, "")
    refused = await command.pin(session, sticky=False, by=by)
    if refused is None:
        refused = await command.archive(session, by=by, owner_only=True)
    return kept(refused, ARCHIVED)


async def switch(command: Command, session: SessionId, *, key: str, home: Address) -> str | None:
    """Let a chat go on in one of its sessions; None when it is none of them, or has a key."""
    taken = await command.switch(session, key=key, home=home)
    if taken is None:
        return None
    return f"**{plain(taken.title or UNTITLED)}** is this chat's session. Write on."


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
