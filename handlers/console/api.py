"""The JSON API: sessions, messages, turns, tasks, deliveries and inbox for programs and the CLI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from typing import Any

from aiohttp import web

from handlers.console import openapi
from handlers.console.calls import MOST, Context, Handler, Routes, bad, is_id, no_task, text_of
from handlers.console.compositions import Composing
from handlers.console.gate import SAFE, VISITOR, Gate
from handlers.console.investigations import Investigating
from handlers.console.lists import Lists
from handlers.console.memory import Remembered
from handlers.console.outside import Outside
from handlers.console.projects import Projecting
from handlers.console.replay import Replaying
from handlers.console.results import Resulting
from handlers.console.rights import Rights, reader_of
from handlers.console.rings import Abilities
from handlers.console.shapes import (
    agent_json,
    limits_json,
    listed_json,
    message_json,
    receipt_of,
    run_json,
    task_json,
    upcoming,
)
from handlers.console.signin import SigningIn
from handlers.console.socket import Sockets
from handlers.console.steer import Steering
from handlers.console.templates import Templating
from handlers.console.triggers import Triggers
from handlers.console.voices import Voicing
from handlers.http import (
    BodyLimits,
    HttpProblem,
    cursor,
    idempotency_key,
    query_number,
    stream_events,
)
from handlers.turns import (
    LONGEST_WAIT,
    Telling,
    acknowledge,
    follow_turn,
    no_such_event,
    pruned,
    refused,
)
from service.core.model import Binding, ProjectId, Refusal, RefusalReason, SessionId, TurnId
from service.engine.compositions import Compositions
from service.engine.controls import Controls
from service.engine.feed import Feed
from service.engine.intake import Intake
from service.engine.investigating import Investigations
from service.engine.projects import Projects
from service.engine.results import Result, Results
from service.engine.scheduler import Scheduler
from service.engine.tasks import LONGEST_PROMPT, NewTask, TaskView
from service.engine.templates import Templates
from service.ports import Agents
from service.store import lists, occurrences, sessions
from service.store.database import Database
from service.store.sessions import Session

_LONGEST_WORD = 255
_OF_A_TASK = ("cron", "timezone", "prompt", "name", "agent", "session", "once")
_UPCOMING = 5
_LARGEST = 2**53
"""No message has a larger number."""
_PROJECT: web.RequestKey[ProjectId | None] = web.RequestKey("project")


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
    gate: Gate
    limits: BodyLimits
    abilities: Mapping[str, Abilities] = field(default_factory=dict)
    """What agents take besides words, by name."""
    compositions: Compositions = field(kw_only=True)
    catalog: Agents = field(kw_only=True)
    """What agents can do, by the voices that have it."""
    outside: Outside = field(kw_only=True)

    @property
    def context(self) -> Context:
        """What all calls share."""
        return Context(self.database, self.limits)

    @cached_property
    def steering(self) -> Steering:
        """The calls that move a session; what is done over a socket goes through them, too."""
        return Steering(
            self.context,
            self.intake,
            self.controls,
            Telling(self.feed, self.results, self._held),
            self.agents,
            self.abilities,
            Voicing(self.context, self.controls, self.compositions, self.agents),
        )

    @cached_property
    def rights(self) -> Rights:
        """Who may see and change what is in projects."""
        return Rights(self.database)

    @cached_property
    def projects(self) -> Projects:
        """The projects, in which sessions investigate."""
        return Projects(self.database, self.controls, self.agents)

    @cached_property
    def sockets(self) -> Sockets:
        """The WebSockets that are open; whoever serves the routes closes them."""
        return Sockets(self.context, self.gate, self.rights, self.feed, self.steering, self._listed)

    def routes(self) -> list[web.RouteDef]:
        """The routes to serve."""
        remembered = Remembered(self.context, self.controls)
        signing_in = SigningIn(self.gate, self.limits)
        investigations = Investigations(self.database, self.feed, self.catalog)
        table: Routes = [
            *self.steering.routes(),
            *remembered.routes(),
            *signing_in.routes(),
            ("GET", "/api/openapi.json", openapi.show),
            *Composing(self.context, self.compositions).routes(),
            *Projecting(self.context, self.projects, self.steering, self.catalog).routes(),
            *Investigating(self.context, investigations, self.steering, self.catalog).routes(),
            *Resulting(self.context, investigations).routes(),
            *Templating(
                self.context,
                Templates(self.database, self.agents),
                self.feed,
                self.steering.intake,
                self.steering.telling,
            ).routes(),
            *Triggers(self.context, self.outside).routes(),
            *Replaying(self.context, self.outside.replays).routes(),
            *self.steering.voicing.routes(),
            *Lists(self.context, self.controls, self.steering.voicing).routes(),
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
        ]
        return [
            *signing_in.open_routes(),
            web.get("/api/ws", self._socket, allow_head=False),
            *(
                web.route(method, path, partial(self._authorised, handler))
                for method, path, handler in table
            ),
        ]

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        visitor = await self.gate.admit(request, socket=True)
        return await self.sockets.serve(request, visitor)

    async def _listed(self, changed: Sequence[SessionId]) -> list[dict[str, Any]]:
        found = await self.database.read(lists.get_many, changed)
        return [listed_json(one) for one in found]

    async def _authorised(self, handler: Handler, request: web.Request) -> web.StreamResponse:
        visitor = await self.gate.admit(request)
        request[_PROJECT] = await self.rights.check(request, visitor)
        if request.method not in SAFE:
            # What it does may itself end what lets it in, and is not to be cut off for that.
            return await handler(request)
        async with self._held(request):
            return await handler(request)

    def _held(self, request: web.Request) -> AbstractAsyncContextManager[None]:
        """Cut the connection should its visitor be shut out inside of the block."""
        visitor = request[VISITOR]
        membership = partial(self.rights.watched, request[_PROJECT], visitor)
        return self.gate.held(request, visitor, membership)

    # -- sessions ----------------------------------------------------------------------------

    async def messages(self, request: web.Request) -> web.Response:
        """Messages of a session, oldest first: those after a number, or the last before one."""
        session = await self.context.session(request)
        limit = query_number(request, "limit", default=100, most=MOST)
        before = query_number(request, "before", default=0, most=_LARGEST) or None
        found = await self.database.read(
            sessions.history, session.id, after=cursor(request), limit=limit, before=before
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
        settings = self.outside.agents
        found = [
            {
                **agent_json(name, one, self.abilities.get(name, Abilities())),
                "limits": limits_json(settings[name].limits) if name in settings else None,
            }
            for name, one in self.agents.items()
        ]
        return web.json_response({"agents": found})

    # -- tasks -------------------------------------------------------------------------------

    async def list_tasks(self, request: web.Request) -> web.Response:
        """The tasks, configured or made, with their next instant and last occurrence."""
        found = await self.scheduler.tasks(reader=reader_of(request[VISITOR]))
        return web.json_response({"tasks": [task_json(one) for one in found]})

    async def make_task(self, request: web.Request) -> web.Response:
        """Make a task: 201. With `session` it rings into that one and answers in its chat.

        The same `Idempotency-Key` makes no second one, and takes no other task.
        """
        key = idempotency_key(request)
        body = await self.context.object(request, *_OF_A_TASK)
        session = body.get("session")
        if session is not None and not (isinstance(session, str) and is_id(session)):
            raise bad("session: the id of a session is needed, or nothing")
        once = body.get("once", False)
        if not isinstance(once, bool):
            raise bad("once: true or false is needed")
        if session is not None:
            await self.rights.require(request[VISITOR], "session", session, write=True)
        new = NewTask(
            cron=text_of(body, "cron", most=_LONGEST_WORD),
            timezone=text_of({"timezone": "UTC", **body}, "timezone", most=_LONGEST_WORD),
            prompt=text_of(body, "prompt", most=LONGEST_PROMPT),
            author=request[VISITOR].name,
            name=text_of(body, "name", most=_LONGEST_WORD) if "name" in body else None,
            agent=text_of(body, "agent", most=_LONGEST_WORD) if "agent" in body else None,
            made_in=SessionId(session) if session is not None else None,
            once=once,
            # Calls of agents have keys, too.
            key=f"api:{key}" if key is not None else None,
        )
        made = await self.scheduler.add(new)
        if isinstance(made, Refusal):
            return refused(made)
        if not made.task.is_of(new):
            detail = "this key was used for another task before"
            return refused(Refusal(RefusalReason.KEY_REUSED, detail))
        where = {"Location": f"/api/tasks/{made.task.name}"}
        return web.json_response(task_json(made), status=201, headers=where)

    async def remove_task(self, request: web.Request) -> web.Response:
        """Remove a made task; what it has rung stays."""
        name = request.match_info["task"]
        refusal = await self.scheduler.remove(name, by=request[VISITOR].name, operator=True)
        return web.Response(status=204) if refusal is None else refused(refusal)

    async def switch_task(self, request: web.Request, *, on: bool) -> web.Response:
        """Turn a task on or off."""
        name = request.match_info["task"]
        by = request[VISITOR].name
        view = await self.scheduler.enable(name, on=on, by=by, operator=True)
        return refused(view) if isinstance(view, Refusal) else web.json_response(task_json(view))

    async def one_task(self, request: web.Request) -> web.Response:
        """One task."""
        return web.json_response(task_json(await self._task(request)))

    async def run_task(self, request: web.Request) -> web.Response:
        """Run a task now."""
        outcome = await self.scheduler.run(request.match_info["task"], by=request[VISITOR].name)
        return (
            refused(outcome) if isinstance(outcome, Refusal) else acknowledge(receipt_of(outcome))
        )

    async def occurrences(self, request: web.Request) -> web.Response:
        """The newest occurrences of a task, and its next few instants."""
        view = await self._task(request)
        limit = query_number(request, "limit", default=50, most=MOST)
        found = await self.scheduler.occurrences(view.task.name, limit=limit)
        turns_ = [one.turn for one in found if one.turn is not None]
        started = await self.database.read(occurrences.started, turns_)
        shown = [run_json(one, started.get(one.turn) if one.turn else None) for one in found]
        return web.json_response({"occurrences": shown, "upcoming": upcoming(view, _UPCOMING)})

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
            raise no_task(name)
        return view
