"""The JSON API: sessions, messages, turns, tasks, deliveries and inbox for programs and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

import sqlalchemy as sa
from aiohttp import web

from handlers.console.calls import MOST, Context, Handler, Routes, bad, is_id, text_of
from handlers.console.memory import Remembered
from handlers.console.rings import Abilities, open_session
from handlers.console.shapes import (
    agent_json,
    message_json,
    occurrence_json,
    receipt_of,
    session_json,
    task_json,
    whole_session_json,
)
from handlers.console.steer import Steering
from handlers.http import BodyLimits, HttpProblem, bearer, cursor, query_number, stream_events
from handlers.turns import (
    LONGEST_WAIT,
    Telling,
    acknowledge,
    follow_turn,
    no_such_event,
    pruned,
    refused,
)
from service.core.access import Operator, authorise, identify
from service.core.model import Binding, Refusal, SessionId, TurnId, Usage
from service.core.states import DeliveryState, InboxState
from service.core.text import clean
from service.engine.controls import Controls
from service.engine.feed import Feed
from service.engine.intake import Intake
from service.engine.results import Result, Results
from service.engine.scheduler import Scheduler
from service.engine.tasks import LONGEST_PROMPT, NewTask, TaskView
from service.store import deliveries, inbox, questions, sessions, tokens, turns
from service.store.database import Database
from service.store.sessions import Session

_LONGEST_WORD = 255


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
    abilities: Mapping[str, Abilities] = field(default_factory=dict)
    """What agents take besides words, by name."""

    @property
    def context(self) -> Context:
        """What all calls share."""
        return Context(self.database, self.limits)

    def routes(self) -> list[web.RouteDef]:
        """The routes to serve."""
        steering = Steering(
            self.context,
            self.intake,
            self.controls,
            Telling(self.feed, self.results),
            self.agents,
            self.abilities,
        )
        remembered = Remembered(self.context, self.controls)
        table: Routes = [
            *steering.routes(),
            *remembered.routes(),
            ("GET", "/api/sessions", self.list_sessions),
            ("POST", "/api/sessions", self.make_session),
            ("GET", "/api/sessions/{session}", self.one_session),
            ("GET", "/api/sessions/{session}/messages", self.messages),
            ("GET", "/api/sessions/{session}/events", self.events),
            ("GET", "/api/turns/{turn}", self.turn),
            ("GET", "/api/agents", self.list_agents),
            ("GET", "/api/tasks", self.list_tasks),
            ("POST", "/api/tasks", self.make_task),
            ("GET", "/api/tasks/{task}", self.one_task),
            ("DELETE", "/api/tasks/{task}", self.remove_task),
            ("POST", "/api/tasks/{task}/run", self.run_task),
            ("POST", "/api/tasks/{task}/enable", partial(self.switch_task, on=True)),
            ("POST", "/api/tasks/{task}/disable", partial(self.switch_task, on=False)),
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
        limit = query_number(request, "limit", default=50, most=MOST)
        before = _before(request.query.get("cursor"))
        found = await self.database.read(sessions.newest, limit=limit, before=before)
        last = found[-1] if found and len(found) == limit else None
        following = f"{last.active_at.isoformat()}~{last.id}" if last else None
        shown = [session_json(one) for one in found]
        return web.json_response({"sessions": shown, "next": following})

    async def make_session(self, request: web.Request) -> web.Response:
        """Get the session with a key, or make it: 200 or 201."""
        body = await self.context.object(request)
        key = text_of(body, "key", most=255)
        if key != clean(key):
            # Replaced, two keys could become one and share a session.
            raise bad("key: must not hold U+0000 or half of a surrogate pair")
        agent = body.get("agent", next(iter(self.agents), None))
        binding = self.agents.get(agent) if isinstance(agent, str) else None
        if binding is None:
            raise bad(f"agent: there is no {agent!r}; there are: {', '.join(self.agents)}")
        try:
            found, made = await open_session(self.database, key, binding)
        except LookupError as error:
            raise HttpProblem(409, "Conflict", str(error)) from error
        return web.json_response(session_json(found), status=201 if made else 200)

    async def one_session(self, request: web.Request) -> web.Response:
        """One session, with what its turns took."""
        session = await self.context.session(request)
        processing, usage, asked = await self.database.read(_taken, session.id)
        return web.json_response(whole_session_json(session, processing, usage, asked))

    async def messages(self, request: web.Request) -> web.Response:
        """Messages of a session after a number, oldest first."""
        session = await self.context.session(request)
        limit = query_number(request, "limit", default=100, most=MOST)
        found = await self.database.read(
            sessions.history, session.id, after=cursor(request), limit=limit
        )
        return web.json_response({"messages": [message_json(one) for one in found]})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A session's events as SSE, live and without end; with `turn` only that turn's."""
        session = await self.context.session(request)
        after = cursor(request)
        if "turn" in request.query:
            result = await self._turn_of(session, request.query["turn"])
            return await follow_turn(request, self.feed, result, after=after)
        if after > session.last_event:
            raise no_such_event("session")
        if after < await self.feed.pruned_to(session.id):
            raise pruned()
        return await stream_events(request, self.feed.follow(session.id, after=after))

    # -- turns and agents --------------------------------------------------------------------

    async def turn(self, request: web.Request) -> web.Response:
        """One turn's result; `wait` waits for its end."""
        most = int(LONGEST_WAIT.total_seconds())
        wait = timedelta(seconds=query_number(request, "wait", default=0, most=most))
        turn = request.match_info["turn"]
        result = await self.results.wait(TurnId(turn), timeout=wait) if is_id(turn) else None
        if result is None:
            raise HttpProblem(404, "Not found", "there is no such turn")
        return web.json_response(result.as_json())

    async def list_agents(self, _request: web.Request) -> web.Response:
        """The configured agents, their knobs, and the files they are shown."""
        found = [
            agent_json(name, one, self.abilities.get(name, Abilities()))
            for name, one in self.agents.items()
        ]
        return web.json_response({"agents": found})

    # -- tasks -------------------------------------------------------------------------------

    async def list_tasks(self, _request: web.Request) -> web.Response:
        """The tasks, configured or made, with their next instant and last occurrence."""
        found = await self.scheduler.tasks()
        return web.json_response({"tasks": [task_json(one) for one in found]})

    async def make_task(self, request: web.Request) -> web.Response:
        """Make a task: 201. With `session` it rings into that one and answers in its chat."""
        body = await self.context.object(request)
        session = body.get("session")
        if session is not None and not (isinstance(session, str) and is_id(session)):
            raise bad("session: the id of a session is needed, or nothing")
        once = body.get("once", False)
        if not isinstance(once, bool):
            raise bad("once: true or false is needed")
        new = NewTask(
            cron=text_of(body, "cron", most=_LONGEST_WORD),
            timezone=text_of({"timezone": "UTC", **body}, "timezone", most=_LONGEST_WORD),
            prompt=text_of(body, "prompt", most=LONGEST_PROMPT),
            author="operator",
            name=text_of(body, "name", most=_LONGEST_WORD) if "name" in body else None,
            agent=text_of(body, "agent", most=_LONGEST_WORD) if "agent" in body else None,
            made_in=SessionId(session) if session is not None else None,
            once=once,
        )
        made = await self.scheduler.add(new)
        if isinstance(made, Refusal):
            return refused(made)
        where = {"Location": f"/api/tasks/{made.task.name}"}
        return web.json_response(task_json(made), status=201, headers=where)

    async def remove_task(self, request: web.Request) -> web.Response:
        """Remove a made task; what it has rung stays."""
        name = request.match_info["task"]
        refusal = await self.scheduler.remove(name, by="operator", operator=True)
        return web.Response(status=204) if refusal is None else refused(refusal)

    async def switch_task(self, request: web.Request, *, on: bool) -> web.Response:
        """Turn a task on or off."""
        name = request.match_info["task"]
        view = await self.scheduler.enable(name, on=on, by="operator", operator=True)
        return refused(view) if isinstance(view, Refusal) else web.json_response(task_json(view))

    async def one_task(self, request: web.Request) -> web.Response:
        """One task."""
        return web.json_response(task_json(await self._task(request)))

    async def run_task(self, request: web.Request) -> web.Response:
        """Run a task now."""
        outcome = await self.scheduler.run(request.match_info["task"], by="operator")
        return (
            refused(outcome) if isinstance(outcome, Refusal) else acknowledge(receipt_of(outcome))
        )

    async def occurrences(self, request: web.Request) -> web.Response:
        """The newest occurrences of a task."""
        view = await self._task(request)
        limit = query_number(request, "limit", default=50, most=MOST)
        found = await self.scheduler.occurrences(view.task.name, limit=limit)
        return web.json_response({"occurrences": [occurrence_json(one) for one in found]})

    # -- what went wrong ---------------------------------------------------------------------

    async def list_deliveries(self, request: web.Request) -> web.Response:
        """The newest deliveries, of one state when `state` names it."""
        state = _choice(request, "state", DeliveryState)
        limit = query_number(request, "limit", default=50, most=MOST)
        found = await self.database.read(deliveries.newest, state=state, limit=limit)
        return web.json_response({"deliveries": found})

    async def list_inbox(self, request: web.Request) -> web.Response:
        """The newest things received, of one state when `state` names it."""
        state = _choice(request, "state", InboxState)
        limit = query_number(request, "limit", default=50, most=MOST)
        found = await self.database.read(inbox.newest, state=state, limit=limit)
        return web.json_response({"inbox": found})

    # -- shared ------------------------------------------------------------------------------

    async def _turn_of(self, session: Session, turn: str) -> Result:
        result = await self.results.get(TurnId(turn)) if is_id(turn) else None
        if result is None or result.turn.session != session.id:
            raise HttpProblem(404, "Not found", "the session has no such turn")
        return result

    async def _task(self, request: web.Request) -> TaskView:
        name = request.match_info["task"]
        view = await self.scheduler.task(name)
        if view is None:
            raise HttpProblem(404, "Not found", f"there is no task {name!r}")
        return view


def _taken(conn: sa.Connection, session: SessionId) -> tuple[timedelta, Usage, int]:
    """Processing time and usage of all turns of a session, and how many questions are open."""
    processing, usage = turns.spent(conn, session)
    return processing, usage, len(questions.open_of_session(conn, session))


def _choice(request: web.Request, name: str, states: type[StrEnum]) -> str | None:
    given = request.query.get(name)
    known = [state.value for state in states]
    if given is not None and given not in known:
        raise bad(f"{name} takes one of {', '.join(known)}")
    return given


def _before(cursor_: str | None) -> tuple[datetime, SessionId] | None:
    if cursor_ is None:
        return None
    at, _, id_ = cursor_.partition("~")
    try:
        instant = datetime.fromisoformat(at)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None or not id_.isascii() or "\0" in id_:
        raise bad('cursor takes what "next" of the page before said')
    return instant, SessionId(id_)
