"""The files of a conversation: fetched once, stored, and given to models that can take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from service.core.model import Attachment, AttachmentId, Channel, Message, TurnId, Voice
from service.errors import ChannelError
from service.ports import Agents, Files, Media
from service.store import attachments as store
from service.store import turns
from service.store.database import Database

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# What one prompt may carry; older files are only named.
_MOST_BYTES = 20 * 1024 * 1024
_MOST_FILES = 20


@dataclass(frozen=True, slots=True)
class Attached:
    """What of the files of a conversation the model can be given."""

    media: Mapping[AttachmentId, Media]
    refusal: str
    """What to tell somebody who sent nothing but files the model cannot be given."""


class Attachments:
    """Loads files for prompts; `files` fetches what a channel keeps, by channel."""

    def __init__(
        self,
        database: Database,
        agents: Agents,
        files: Mapping[Channel, Files],
        *,
        most_bytes: int,
    ) -> None:
        self._database = database
        self._agents = agents
        self._files = files
        self._most_bytes = most_bytes

    async def load(self, messages: Sequence[Message], voice: Voice) -> Attached:
        """The files of these messages, the newest first served.

        What could not be fetched yet is tried again with the next prompt.
        """
        found = [(message, one) for message in messages for one in message.attachments]
        if not found:
            return Attached({}, "")
        wanted = [
            (message, one)
            for message, one in reversed(found)
            if one.problem is None and self._agents.takes(voice, one.media_type)
        ][:_MOST_FILES]
        stored = await self._database.read(store.data_of, [one.id for _, one in wanted])
        media: dict[AttachmentId, Media] = {}
        room = _MOST_BYTES
        for message, one in wanted:
            data = stored.get(one.id) or await self._fetch(one, message.turn)
            if data is not None and len(data) <= room:
                media[one.id] = Media(one.name, one.media_type, data)
                room -= len(data)
        return Attached(media, _refusal(messages[-1].attachments))

    async def _fetch(self, attachment: Attachment, turn: TurnId | None) -> bytes | None:
        """Bring a file here from where its channel keeps it; None when that does not work."""
        if attachment.remote is None or turn is None:
            return None
        found = await self._database.read(turns.get, turn)
        files = self._files.get(found.channel) if found else None
        if files is None:
            return None
        try:
            data = await files.fetch(attachment.remote, limit=self._most_bytes)
        except ChannelError as error:
            log.info("files.not_fetched", attachment=attachment.id, reason=str(error))
            if error.permanent:
                await self._database.write(store.failed, attachment.id, str(error))
            return None
        await self._database.write(store.fetched, attachment.id, data, at=datetime.now(UTC))
        return data


def _refusal(attachments: Sequence[Attachment]) -> str:
    kinds = dict.fromkeys(_kind(one.media_type) for one in attachments)
    what = " and ".join(kinds) or "this"
    return f"I cannot be shown {what} here. Write to me in words, please."


def _kind(media_type: str) -> str:
    main = media_type.partition("/")[0]
    known = {"image": "pictures", "audio": "sound", "video": "videos"}
    if media_type == "application/pdf":
        return "PDF files"
    return known.get(main, f"files of the type {media_type}")
