"""A session as a file: read and sent page by page, so that none is too long."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum, auto

import structlog
from aiohttp import web

from handlers.console.shapes import message_json, session_json
from handlers.forms import as_download
from service.core.model import Attachment, Message
from service.errors import StoreError
from service.store import sessions
from service.store.database import Database
from service.store.sessions import Session

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_PAGE = 200


class Format(StrEnum):
    """What the file is."""

    MARKDOWN = auto()
    JSON = auto()
    TEXT = auto()


_TYPES = {
    Format.MARKDOWN: ("text/markdown", "md"),
    Format.JSON: ("application/json", "json"),
    Format.TEXT: ("text/plain", "txt"),
}


@dataclass(frozen=True, slots=True)
class Export:
    """One session on its way into a file."""

    database: Database
    session: Session
    format: Format

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Send the file. When something breaks, so does the connection: half is not a whole."""
        type_, ending = _TYPES[self.format]
        headers = as_download(f"{_name(self.session)}.{ending}", type_)
        headers["Content-Type"] = f"{type_}; charset=utf-8"
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        try:
            async with aclosing(self._parts()) as parts:
                async for part in parts:
                    await response.write(part.encode())
        except StoreError as error:
            log.warning("export.broke", session=self.session.id, error=str(error))
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response

    async def _parts(self) -> AsyncGenerator[str]:
        """The file, piece by piece."""
        if self.format is Format.JSON:
            yield f'{{"session": {_json(session_json(self.session))}, "messages": ['
        else:
            yield self._head()
        first = True
        async for page in self._pages():
            if self.format is Format.JSON:
                yield ("" if first else ",") + ",".join(_json(message_json(one)) for one in page)
            else:
                yield "".join(map(self._told, page))
            first = False
        if self.format is Format.JSON:
            yield "]}\n"

    async def _pages(self) -> AsyncGenerator[Sequence[Message]]:
        """All messages there were when it began, page by page."""
        after = 0
        while after < self.session.last_event:
            page = await self.database.read(
                sessions.history, self.session.id, after=after, limit=_PAGE
            )
            kept = [one for one in page if one.number <= self.session.last_event]
            if kept:
                yield kept
            if len(page) < _PAGE:
                return
            after = page[-1].number

    def _head(self) -> str:
        title = _title(self.session)
        line = f"{self.session.agent}, begun {_at(self.session)}"
        if self.format is Format.MARKDOWN:
            return f"# {title}\n\n*{line}*\n"
        return f"{title}\n{'=' * len(title)}\n{line}\n"

    def _told(self, message: Message) -> str:
        who = message.author if message.status == "complete" else _unfinished(message)
        at = f"{message.at:%Y-%m-%d %H:%M:%S} UTC"
        files = "".join(map(_file, message.attachments))
        if self.format is Format.MARKDOWN:
            return f"\n## {who} · {at}\n\n{message.text.rstrip()}\n{files}"
        return f"\n{who}, {at}:\n{message.text.rstrip()}\n{files}"


def _unfinished(message: Message) -> str:
    return f"{message.author} ({'unfinished' if message.status == 'partial' else 'failed'})"


def _file(file: Attachment) -> str:
    return f"\n- {file.name} ({file.media_type}, {file.size} bytes)\n"


def _title(session: Session) -> str:
    return session.title or "Session without a title"


def _name(session: Session) -> str:
    """What the file is called: the title, without what would make it a path or hide it."""
    named = (session.title or "session").replace("/", "-").replace("\\", "-")
    return named.strip(" .")[:100] or "session"


def _at(session: Session) -> str:
    return f"{session.created_at:%Y-%m-%d %H:%M} UTC"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
