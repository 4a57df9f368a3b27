"""What the calls of the API share: who asks for what, read strictly from the request."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from aiohttp import web

from handlers.http import BodyLimits, HttpProblem, parse_json, read_body
from service.core.model import SessionId
from service.errors import BadInput
from service.store import sessions
from service.store.database import Database
from service.store.sessions import Session

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Routes = list[tuple[str, str, Handler]]
"""Method, path and handler; whoever serves them asks for an operator's token first."""

LONGEST_TEXT = 200_000
MOST = 200
"""Of anything that is listed page by page."""
_ID = re.compile(r"[0-9a-f-]{36}")


@dataclass(frozen=True, slots=True)
class Context:
    """Where everything is, and how much a request may bring."""

    database: Database
    limits: BodyLimits

    async def object(self, request: web.Request, *takes: str) -> Mapping[str, Any]:
        """The JSON object a request brings; with `takes` it has no other fields.

        Raises HttpProblem.
        """
        body = as_object(parse_json(await read_body(request, self.limits), self.limits))
        return only(body, *takes) if takes else body

    async def object_or_nothing(self, request: web.Request, *takes: str) -> Mapping[str, Any]:
        """The same where there need not be a body."""
        raw = await read_body(request, self.limits)
        body = as_object(parse_json(raw, self.limits)) if raw.strip() else {}
        return only(body, *takes) if takes else body

    async def session(self, request: web.Request) -> Session:
        """The session of the path. Raises HttpProblem 404."""
        found = await self.database.read(sessions.get, session_id(request))
        if found is None:
            raise no_session()
        return found


def only(body: Mapping[str, Any], *takes: str) -> Mapping[str, Any]:
    """The same object, when it has no other fields than these. Raises HttpProblem.

    A field that is misspelt must not be left out in silence.
    """
    if others := [name for name in body if name not in takes]:
        raise bad(f"{others[0][:100]}: not taken here; there are: {', '.join(takes)}")
    return body


def writable(session: Session) -> Session:
    """The same session, when it is not archived. Raises HttpProblem 409."""
    if session.archived:
        raise HttpProblem(409, "Conflict", "the session is archived; restore it first")
    return session


def bad(detail: str) -> HttpProblem:
    """Something is of the wrong kind."""
    return HttpProblem(400, "Bad request", detail)


def unfit(detail: str) -> HttpProblem:
    """Something is of the right kind and still not taken."""
    return HttpProblem(422, "Unprocessable content", detail)


async def checked(change: Awaitable[T]) -> T:
    """What comes of a change. Raises HttpProblem 422 with every reason why it is not taken."""
    try:
        return await change
    except BadInput as error:
        raise unfit(str(error)) from error


def missing(what: str) -> HttpProblem:
    """There is nothing of this id."""
    return HttpProblem(404, "Not found", f"there is no such {what}")


def no_session() -> HttpProblem:
    """There is no session of this id."""
    return missing("session")


def no_task(name: str) -> HttpProblem:
    """There is no task of this name."""
    return HttpProblem(404, "Not found", f"there is no task {name!r}")


def as_object(value: Any, name: str = "") -> Mapping[str, Any]:
    """A JSON object, of the body or the whole of it. Raises HttpProblem 400."""
    if isinstance(value, dict):
        return value
    raise bad(f"{name}: a JSON object is needed" if name else "the body must be a JSON object")


def is_id(given: object) -> bool:
    """Whether it can be an id: what cannot must not reach the database, which refuses some."""
    return isinstance(given, str) and _ID.fullmatch(given) is not None


def session_id(request: web.Request) -> SessionId:
    """The id of the path. Raises HttpProblem 404."""
    given = request.match_info["session"]
    if not is_id(given):
        raise no_session()
    return SessionId(given)


def text_of(body: Mapping[str, Any], name: str, *, most: int) -> str:
    """A text of the body that is not empty. Raises HttpProblem 400."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise bad(f"{name}: a text that is not empty is needed")
    if len(value) > most:
        raise bad(f"{name}: at most {most} characters")
    return value


def instant(at: datetime | None) -> str | None:
    """An instant as the API tells it."""
    return at.isoformat().replace("+00:00", "Z") if at else None
