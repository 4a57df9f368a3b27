"""The JSON API: sessions, messages, turns, tasks, deliveries and inbox for programs and the CLI."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from aiohttp import web

from handlers.console.shapes import message_json, occurrence_json, session_json, task_json
from handlers.http import (
    BodyLimits,
    HttpProblem,
    accepts_events,
    bearer,
    cursor,
    parse_json,
    preferred_wait,
    query_number,
    read_body,
    stream_events,
)
from handlers.turns import follow_turn, no_such_event, pruned, refused
from service.core.access import Operator, authorise, identify
from service.core.model import (
    Accepted,
    Binding,
    Channel,
    Refusal,
    Ring,
    SessionId,
    Source,
    TurnId,
)
from service.core.states import DeliveryState, InboxState
from service.core.text import clean
from service.engine.controls import Controls
from service.engine.feed import Feed
from service.engine.intake import Intake
from service.engine.results import Result, Results
from service.engine.scheduler import Scheduler, TaskView
from service.store import deliveries, inbox, sessions, tokens
from service.store.database import Database
from service.store.ids import new_id
from service.store.sessions import NewSession, Session

_MOST = 200
_LONGEST_WAIT = timedelta(seconds=60)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_ID = re.compile(r"[0-9a-f-]{36}")
_LONGEST_TEXT = 200_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Api:
    """Everything below `/api`; every call needs an operator's token."""

    database: Database
    intake: Intake
    controls: Controls
    feed: Feed
    results: Results
    scheduler: Scheduler
    agents: Mapping[str, Binding]
    operator_tokens: tuple[str, ...]
    limits: BodyLimits

    def routes(self) -> list[web.RouteDef]:
        """The routes to serve."""
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/api/sessions", self.list_sessions),
            ("POST", "/api/sessions", self.make_session),
            ("GET", "/api/sessions/{session}", self.one_session),
            ("GET", "/api/sessions/{session}/messages", self.messages),
            ("POST", "/api/sessions/{session}/messages", self.send),
            ("GET", "/api/sessions/{session}/events", self.events),
            ("POST", "/api/sessions/{session}/stop", self.stop),
            ("GET", "/api/turns/{turn}", self.turn),
            ("GET", "/api/agents", self.list_agents),
            ("GET", "/api/tasks", self.list_tasks),
            ("GET", "/api/tasks/{task}", self.one_task),
            ("POST", "/api/tasks/{task}/run", self.run_task),
            ("GET", "/api/tasks/{task}/occurrences", self.occurrences),
            ("GET", "/api/deliveries", self.list_deliveries),
            ("GET", "/api/inbox", self.list_inbox),
        ]
        return [
            web.route(method, path, partial(self._authorised, handler))
            for method, path, handler in table
        ]

    async def require_operator(self, request: web.Request) -> None:
        """Raise HttpProblem 401 unless the request shows an operator's token."""
        token = bearer(request)
        principal = identify(token, tokens=self.operator_tokens)
        if token is not None and await self._was_issued(token):
            principal = Operator()
        if authorise(principal, allow=()) is not None:
            detail = (
                "send an operator's token: Authorization: Bearer …; "
                "make one: ringback token create NAME"
            )
            raise HttpProblem(401, "Unauthorized", detail, {"WWW-Authenticate": "Bearer"})

    async def _authorised(self, handler: Handler, request: web.Request) -> web.StreamResponse:
        await self.require_operator(request)
        return await handler(request)

    async def _was_issued(self, token: str) -> bool:
        # Our own tokens are told by their beginning, so that noise costs no query.
        if not token.startswith(tokens.PREFIX):
            return False
        return await self.database.read(tokens.name_of, token) is not None

    # -- sessions ----------------------------------------------------------------------------

    async def list_sessions(self, request: web.Request) -> web.Response:
        """Sessions, the most recently active first; `next` is the cursor of the page after."""
        limit = query_number(request, "limit", default=50, most=_MOST)
        before = _before(request.query.get("cursor"))
        found = await self.database.read(sessions.newest, limit=limit, before=before)
        last = found[-1] if found and len(found) == limit else None
        following = f"{last.active_at.isoformat()}~{last.id}" if last else None
        shown = [session_json(one) for one in found]
        return web.json_response({"sessions": shown, "next": following})

    async def make_session(self, request: web.Request) -> web.Response:
        """Get the session with a key, or make it: 200 or 201."""
        body = await self._object(request)
        key = _text(body, "key", most=255)
        if key != clean(key):
            # Replaced, two keys could become one and share a session.
            raise _bad("key: must not hold U+0000 or half of a surrogate pair")
        agent = body.get("agent", next(iter(self.agents), None))
        binding = self.agents.get(agent) if isinstance(agent, str) else None
        if binding is None:
            raise _bad(f"agent: there is no {agent!r}; there are: {', '.join(self.agents)}")
        new = NewSession(
            id=SessionId(new_id()),
            binding=binding,
            owner="operator",
            source=Source.MANUAL,
            origin=Channel.CONSOLE,
            key=f"api:{key}",
        )
        made = await self.database.write(sessions.insert, [new], at=_now(), last_event=0)
        found = await self.database.read(sessions.by_key, f"api:{key}")
        if found is None:
            raise HttpProblem(409, "Conflict", "the session was just removed; try again")
        return web.json_response(session_json(found), status=201 if made else 200)

    async def one_session(self, request: web.Request) -> web.Response:
        """One session."""
        return web.json_response(session_json(await self._session(request)))

    async def messages(self, request: web.Request) -> web.Response:
        """Messages of a session after a number, oldest first."""
        session = await self._session(request)
        limit = query_number(request, "limit", default=100, most=_MOST)
        found = await self.database.read(
            sessions.history, session.id, after=cursor(request), limit=limit
        )
        return web.json_response({"messages": [message_json(one) for one in found]})

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Ring: 202 with the turn, or its events when asked for an event stream."""
        session = _session_id(request)
        text = clean(_text(await self._object(request), "text", most=_LONGEST_TEXT))
        key = request.headers.get("Idempotency-Key")
        if key is not None and not _KEY.fullmatch(key):
            raise _bad("Idempotency-Key takes 1 to 255 printable ASCII characters")
        outcome = await self.intake.accept(
            Ring(
                channel=Channel.CONSOLE,
                source="api",
                # Of this session only: elsewhere the same key and text is another message.
                event_key=f"key:{session}:{key}" if key else str(uuid.uuid4()),
                text=text,
                binding=next(iter(self.agents.values())),
                author="operator",
                session=session,
                body=text.encode(),
                strict_body=key is not None,
            )
        )
        if isinstance(outcome, Refusal):
            return refused(outcome)
        if accepts_events(request):
            return await self._stream(request, outcome)
        wait = preferred_wait(request, _LONGEST_WAIT)
        if wait is None:
            return _receipt(outcome)
        applied = {"Preference-Applied": f"wait={int(wait.total_seconds())}"}
        result = await self.results.wait(outcome.turn, timeout=wait)
        if result is not None and result.final:
            return web.json_response(result.as_json(), headers=applied)
        return _receipt(outcome, applied)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A session's events as SSE, live and without end; with `turn` only that turn's."""
        session = await self._session(request)
        after = cursor(request)
        if "turn" in request.query:
            result = await self._turn_of(session, request.query["turn"])
            return await follow_turn(request, self.feed, result, after=after)
        if after > session.last_event:
            raise no_such_event("session")
        if after < await self.feed.pruned_to(session.id):
            raise pruned()
        return await stream_events(request, self.feed.follow(session.id, after=after))

    async def _stream(self, request: web.Request, accepted: Accepted) -> web.StreamResponse:
        """The reply as it is produced; a repeat may say how far it has read the first time."""
        headers = _names(accepted)
        if not accepted.duplicate:
            following = self.feed.follow(
                accepted.session, after=accepted.number - 1, turn=accepted.turn
            )
            return await stream_events(request, following, headers=headers)
        result = await self.results.get(accepted.turn)
        if result is None:
            raise HttpProblem(410, "Gone", "the turn of this message was removed")
        return await follow_turn(request, self.feed, result, after=cursor(request), headers=headers)

    async def stop(self, request: web.Request) -> web.Response:
        """Stop what runs and what waits in a session."""
        session = await self._session(request)
        async with self.controls.steps() as command:
            stopped = await command.stop_session(session.id, by="operator")
        return web.json_response({"stopped": stopped})

    # -- turns and agents --------------------------------------------------------------------

    async def turn(self, request: web.Request) -> web.Response:
        """One turn's result; `wait` waits for its end."""
        most = int(_LONGEST_WAIT.total_seconds())
        wait = timedelta(seconds=query_number(request, "wait", default=0, most=most))
        turn = request.match_info["turn"]
        result = await self.results.wait(TurnId(turn), timeout=wait) if _is_id(turn) else None
        if result is None:
            raise HttpProblem(404, "Not found", "there is no such turn")
        return web.json_response(result.as_json())

    async def list_agents(self, _request: web.Request) -> web.Response:
        """The configured agents."""
        found = [
            {"agent": name, "provider": one.provider, "model": one.model, "tools": one.tools}
            for name, one in self.agents.items()
        ]
        return web.json_response({"agents": found})

    # -- tasks -------------------------------------------------------------------------------

    async def list_tasks(self, _request: web.Request) -> web.Response:
        """The configured tasks with their next instant and last occurrence."""
        found = await self.scheduler.tasks()
        return web.json_response({"tasks": [task_json(one) for one in found]})

    async def one_task(self, request: web.Request) -> web.Response:
        """One task."""
        return web.json_response(task_json(await self._task(request)))

    async def run_task(self, request: web.Request) -> web.Response:
        """Run a task now."""
        outcome = await self.scheduler.run(request.match_info["task"], by="operator")
        return refused(outcome) if isinstance(outcome, Refusal) else _receipt(outcome)

    async def occurrences(self, request: web.Request) -> web.Response:
        """The newest occurrences of a task."""
        view = await self._task(request)
        limit = query_number(request, "limit", default=50, most=_MOST)
        found = await self.scheduler.occurrences(view.task.name, limit=limit)
        return web.json_response({"occurrences": [occurrence_json(one) for one in found]})

    # -- what went wrong ---------------------------------------------------------------------

    async def list_deliveries(self, request: web.Request) -> web.Response:
        """The newest deliveries, of one state when `state` names it."""
        state = _choice(request, "state", DeliveryState)
        limit = query_number(request, "limit", default=50, most=_MOST)
        found = await self.database.read(deliveries.newest, state=state, limit=limit)
        return web.json_response({"deliveries": found})

    async def list_inbox(self, request: web.Request) -> web.Response:
        """The newest things received, of one state when `state` names it."""
        state = _choice(request, "state", InboxState)
        limit = query_number(request, "limit", default=50, most=_MOST)
        found = await self.database.read(inbox.newest, state=state, limit=limit)
        return web.json_response({"inbox": found})

    # -- shared ------------------------------------------------------------------------------

    async def _object(self, request: web.Request) -> Mapping[str, Any]:
        value = parse_json(await read_body(request, self.limits), self.limits)
        if not isinstance(value, dict):
            raise _bad("the body must be a JSON object")
        return value

    async def _session(self, request: web.Request) -> Session:
        found = await self.database.read(sessions.get, _session_id(request))
        if found is None:
            raise _no_session()
        return found

    async def _turn_of(self, session: Session, turn: str) -> Result:
        result = await self.results.get(TurnId(turn)) if _is_id(turn) else None
        if result is None or result.turn.session != session.id:
            raise HttpProblem(404, "Not found", "the session has no such turn")
        return result

    async def _task(self, request: web.Request) -> TaskView:
        name = request.match_info["task"]
        for view in await self.scheduler.tasks():
            if view.task.name == name:
                return view
        raise HttpProblem(404, "Not found", f"there is no task {name!r}")


def _bad(detail: str) -> HttpProblem:
    return HttpProblem(400, "Bad request", detail)


def _no_session() -> HttpProblem:
    return HttpProblem(404, "Not found", "there is no such session")


def _is_id(given: str) -> bool:
    # What cannot be an id must not reach the database: PostgreSQL refuses some characters.
    return _ID.fullmatch(given) is not None


def _session_id(request: web.Request) -> SessionId:
    given = request.match_info["session"]
    if not _is_id(given):
        raise _no_session()
    return SessionId(given)


def _text(body: Mapping[str, Any], name: str, *, most: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _bad(f"{name}: a text that is not empty is needed")
    if len(value) > most:
        raise _bad(f"{name}: at most {most} characters")
    return value


def _choice(request: web.Request, name: str, states: type[StrEnum]) -> str | None:
    given = request.query.get(name)
    known = [state.value for state in states]
    if given is not None and given not in known:
        raise _bad(f"{name} takes one of {', '.join(known)}")
    return given


def _names(accepted: Accepted) -> dict[str, str]:
    """What a stream says in its headers, so that who was cut off finds the turn again."""
    return {
        "X-Ringback-Turn": accepted.turn,
        "X-Ringback-Session": accepted.session,
        "Location": f"/api/turns/{accepted.turn}",
    }


def _before(cursor_: str | None) -> tuple[datetime, SessionId] | None:
    if cursor_ is None:
        return None
    at, _, id_ = cursor_.partition("~")
    try:
        instant = datetime.fromisoformat(at)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None or not id_.isascii() or "\0" in id_:
        raise _bad('cursor takes what "next" of the page before said')
    return instant, SessionId(id_)


def _receipt(accepted: Accepted, headers: Mapping[str, str] | None = None) -> web.Response:
    status_url = f"/api/turns/{accepted.turn}"
    body = {
        "turn": accepted.turn,
        "session": accepted.session,
        "number": accepted.number,
        "duplicate": accepted.duplicate,
        "status_url": status_url,
        "events_url": f"/api/sessions/{accepted.session}/events"
        f"?turn={accepted.turn}&after={accepted.number - 1}",
    }
    status = 200 if accepted.duplicate else 202
    headers = {"Location": status_url, **(headers or {})}
    return web.json_response(body, status=status, headers=headers)


def _now() -> datetime:
    return datetime.now(UTC)
