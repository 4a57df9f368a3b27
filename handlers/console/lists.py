"""Calls on sessions as people keep them: list, look for, name, pin, archive, delete, export."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa
from aiohttp import web

from handlers.console.calls import (
    MOST,
    Context,
    Routes,
    bad,
    is_id,
    missing,
    no_session,
    session_id,
    text_of,
    unfit,
    writable,
)
from handlers.console.export import Export, Format
from handlers.console.gate import VISITOR
from handlers.console.rights import reader_of
from handlers.console.shapes import hit_json, listed_json, whole_session_json
from handlers.console.voices import Voicing
from handlers.http import HttpProblem, query_number
from service.core.dependency import UNTITLED
from service.core.model import ProjectId, SessionId, Usage
from service.core.text import clean
from service.engine.controls import Command, Controls
from service.engine.keeping import NotKept
from service.engine.voicing import SetUp
from service.errors import BadInput
from service.store import investigations, lists, questions, search, turns
from service.store.lists import Place, View

_LONGEST_TITLE = 200
_LEAST_SEARCHED, _LONGEST_SEARCHED = 2, 200
_MOST_HITS = 50
_LONGEST_CURSOR = 6000
_BOUND = ("agent", "model", "prompt", "provider", "tools")
_SET_UP = ("busy", "continuation", "mode", "target")

_Keep = Callable[[Command, SessionId, str], Awaitable[NotKept | None]]


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists of sessions, and everything that moves a session from one to another."""

    context: Context
    controls: Controls
    voicing: Voicing

    def routes(self) -> Routes:
        """The calls to serve."""
        one = "/api/sessions/{session}"
        return [
            ("GET", "/api/sessions", self.page),
            ("GET", "/api/search", self.search),
            ("GET", one, self.one),
            ("PATCH", one, self.change),
            ("DELETE", one, self.delete),
            ("GET", f"{one}/export", self.export),
            ("POST", f"{one}/archive", self.archive),
            ("POST", f"{one}/restore", self.restore),
            ("POST", f"{one}/pin", self.pin),
            ("POST", f"{one}/unpin", self.unpin),
            ("POST", f"{one}/read", self.read),
        ]

    # -- looking -----------------------------------------------------------------------------

    async def page(self, request: web.Request) -> web.Response:
        """Sessions of a list in its order; `next` is the cursor of the page after."""
        view = _choice(request, "view", View, View.ACTIVE)
        limit = query_number(request, "limit", default=50, most=MOST)
        title = clean(request.query.get("q", "")).strip()
        if len(title) > _LONGEST_SEARCHED:
            raise bad(f"q: at most {_LONGEST_SEARCHED} characters")
        after = _place(request.query.get("cursor"))
        found = await self.context.database.read(
            lists.page,
            view,
            limit=limit,
            title=title or None,
            after=after,
            reader=reader_of(request[VISITOR]),
            project=_project(request),
        )
        following = _cursor(lists.place_of(found[-1])) if found and len(found) == limit else None
        shown = [listed_json(one) for one in found]
        return web.json_response({"sessions": shown, "next": following})

    async def search(self, request: web.Request) -> web.Response:
        """The newest messages that hold every word of `q`; the last one may be a beginning."""
        query = clean(request.query.get("q", "")).strip()
        if not _LEAST_SEARCHED <= len(query) <= _LONGEST_SEARCHED:
            raise bad(f"q takes {_LEAST_SEARCHED} to {_LONGEST_SEARCHED} characters")
        limit = query_number(request, "limit", default=20, most=_MOST_HITS)
        words = search.words_of(query)
        found = await self.context.database.read(
            search.find, words, limit=limit, reader=reader_of(request[VISITOR])
        )
        return web.json_response({"hits": [hit_json(one) for one in found]})

    async def one(self, request: web.Request) -> web.Response:
        """One session: its voices, what its turns took, and the tasks that ring in it."""
        session = session_id(request)
        whole = await self.context.database.read(_whole, session)
        if whole is None:
            raise no_session()
        voices = await self.voicing.voices(session)
        listed, processing, usage, asked, tasks = whole
        shown = {
            **listed_json(listed),
            **whole_session_json(listed.session, processing, usage, asked),
            "voices": voices,
            "tasks": tasks,
        }
        return web.json_response(shown)

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Everything that was said, to be saved: as Markdown, JSON or plain text."""
        format_ = _choice(request, "format", Format, Format.MARKDOWN)
        session = await self.context.session(request)
        return await Export(self.context.database, session, format_).send(request)

    # -- keeping -----------------------------------------------------------------------------

    async def change(self, request: web.Request) -> web.Response:
        """Name a session, or change how it takes messages: all of it or nothing."""
        session = writable(await self.context.session(request))
        body = await self.context.object(request)
        if bound := sorted(set(body) & set(_BOUND)):
            raise unfit(f"{bound[0]}: bound for life; begin another session for another one")
        if others := sorted(set(body) - {"title", *_SET_UP}):
            raise bad(f"{others[0]}: only title, {', '.join(_SET_UP)} can be changed")
        title = None
        if "title" in body:
            title = " ".join(clean(text_of(body, "title", most=_LONGEST_TITLE)).split())
        changes = self.voicing.changes(body)
        try:
            async with self.controls.steps() as command:
                if title is not None:
                    _check(await command.rename(session.id, title, by=_who(request)))
                if changes != SetUp():
                    await command.set_up(session.id, changes, by=_who(request))
        except BadInput as error:
            raise unfit(str(error)) from error
        return await self._shown(session.id)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a session for good: 204; one that others depend on with ?dependants=keep."""
        session = session_id(request)
        given = request.query.get("dependants")
        if given not in (None, "keep"):
            raise bad("dependants takes keep, or nothing for a session that no other depends on")
        refused = await self.controls.delete(
            session, by=_who(request), dependants=given is not None
        )
        if refused is NotKept.NEEDED:
            raise await self._needed(session)
        _check(refused)
        return web.Response(status=204)

    async def _needed(self, session: SessionId) -> HttpProblem:
        found = await self.context.database.read(investigations.dependants_of, session)
        names = ", ".join(f"“{title or UNTITLED}”" for _, title in found)
        detail = f"{names} would be held back; delete it all the same with ?dependants=keep"
        return HttpProblem(409, "Conflict", detail)

    async def archive(self, request: web.Request) -> web.Response:
        """Put a session away, to be read only."""
        return await self._shown(await self._keep(request, _archive))

    async def restore(self, request: web.Request) -> web.Response:
        """Bring a session back from the archive."""
        return await self._shown(await self._keep(request, _restore))

    async def pin(self, request: web.Request) -> web.Response:
        """Keep a session on top of its list, and out of the archive."""
        return await self._shown(await self._keep(request, _pin))

    async def unpin(self, request: web.Request) -> web.Response:
        """Let go of a pinned session."""
        return await self._shown(await self._keep(request, _unpin))

    async def read(self, request: web.Request) -> web.Response:
        """Note that everything in a session was looked at."""
        return await self._shown(await self._keep(request, _read))

    async def _keep(self, request: web.Request, keep: _Keep) -> SessionId:
        session = session_id(request)
        async with self.controls.steps() as command:
            # What is refused is written down, too.
            refused = await keep(command, session, _who(request))
        _check(refused)
        return session

    async def _shown(self, session: SessionId) -> web.Response:
        found = await self.context.database.read(lists.get, session)
        if found is None:
            raise no_session()
        return web.json_response(listed_json(found))


async def _archive(command: Command, session: SessionId, by: str) -> NotKept | None:
    return await command.archive(session, by=by)


async def _restore(command: Command, session: SessionId, by: str) -> NotKept | None:
    return await command.restore(session, by=by)


async def _pin(command: Command, session: SessionId, by: str) -> NotKept | None:
    return await command.pin(session, sticky=True, by=by)


async def _unpin(command: Command, session: SessionId, by: str) -> NotKept | None:
    return await command.pin(session, sticky=False, by=by)


async def _read(command: Command, session: SessionId, _by: str) -> NotKept | None:
    return await command.read(session)


def _check(refused: NotKept | None) -> None:
    if refused is NotKept.UNKNOWN:
        raise missing("session")
    if refused is not None:
        raise HttpProblem(409, "Conflict", refused.detail)


def _who(request: web.Request) -> str:
    return request[VISITOR].name


_Whole = tuple[lists.Listed, timedelta, Usage, int, list[str]]


def _whole(conn: sa.Connection, session: SessionId) -> _Whole | None:
    """A session with what its turns took, its open questions, and the tasks that ring in it."""
    listed = lists.get(conn, session)
    if listed is None:
        return None
    processing, usage = turns.spent(conn, session)
    asked = len(questions.open_of_session(conn, session))
    return listed, processing, usage, asked, lists.tasks_in(conn, session)


# -- queries --------------------------------------------------------------------------------------


_Kind = TypeVar("_Kind", bound=StrEnum)


def _choice(request: web.Request, name: str, kinds: type[_Kind], default: _Kind) -> _Kind:
    given = request.query.get(name, default.value)
    if given not in [kind.value for kind in kinds]:
        raise bad(f"{name} takes one of {', '.join(kinds)}")
    return kinds(given)


def _project(request: web.Request) -> ProjectId | None:
    """The project whose sessions are wanted; one that nobody sees has none to see."""
    given = request.query.get("project")
    if given is not None and not is_id(given):
        raise bad("project takes the id of a project")
    return None if given is None else ProjectId(given)


def _cursor(place: Place) -> str:
    value = {**asdict(place), "at": place.at.isoformat()}
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _place(cursor: str | None) -> Place | None:
    """The place a cursor stands for. Raises HttpProblem 400 for what is none of ours."""
    if cursor is None:
        return None
    try:
        value: Any = json.loads(base64.urlsafe_b64decode(cursor[:_LONGEST_CURSOR] + "=="))
        at = datetime.fromisoformat(value["at"]).astimezone(UTC)
        place = Place(**{**value, "at": at})
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        place = None
    if place is None or not _is_place(place):
        raise bad('cursor takes what "next" of the page before said')
    return place


def _is_place(place: Place) -> bool:
    return (
        is_id(place.id)
        and isinstance(place.sticky, bool)
        and isinstance(place.task, str)
        and clean(place.task) == place.task
    )
