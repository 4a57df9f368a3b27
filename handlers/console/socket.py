"""The WebSocket: any number of sessions followed, and steered, over one connection."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from handlers.console.calls import Context, as_object, bad, is_id, no_session
from handlers.console.gate import Gate, Visitor, require_role
from handlers.console.rights import Rights, reader_of
from handlers.console.steer import Steering, interruption
from handlers.http import HttpProblem, event_json, parse_json
from handlers.turns import no_such_event, pruned, status_of
from service.core.model import Accepted, Event, Refusal, SessionId
from service.core.project import Project
from service.engine.feed import Feed
from service.errors import BadInput, StoreError
from service.store import sessions
from service.store.sessions import Session

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Shown = Callable[[Sequence[SessionId]], Awaitable[Sequence[Mapping[str, Any]]]]
"""Sessions as lists show them; those that are gone are left out."""

_MOST_BYTES = 262_144
_MOST_FOLLOWED = 50
_MOST_WAITING = 1000
_PING_SECONDS = 20.0
# Somebody who does not answer a goodbye is not waited for.
_GOODBYE_SECONDS = 2.0
# How soon lists learn of a change; what changes in between is told once.
_LIST_SECONDS = 0.5
# Of how many sessions everybody is told at a time; the others follow in turn.
_MOST_TOLD = 100
_LONGEST_ID = 255
_KEPT_BYTES = 8_388_608
# Nothing that a list shows changes with these.
_WITHIN_REPLIES = frozenset(
    {
        "text",
        "thinking",
        "reply.started",
        "reply.reset",
        "reply.finished",
        "round.started",
        "tool.started",
        "tool.finished",
        "voice.changed",
    }
)
_TAKES: Mapping[str, frozenset[str]] = {
    "follow": frozenset({"session", "after"}),
    "unfollow": frozenset({"session"}),
    "send": frozenset({"session", "text", "target", "busy", "knobs", "key"}),
    "stop": frozenset({"session", "voice"}),
    "interrupt": frozenset({"session", "text"}),
    "answer": frozenset({"session", "question", "answer"}),
    "ping": frozenset(),
}
# What is done here is what these calls do, so it takes the same role.
_CALLS = {
    "send": "/api/sessions/{session}/messages",
    "stop": "/api/sessions/{session}/stop",
    "interrupt": "/api/sessions/{session}/interrupt",
    "answer": "/api/sessions/{session}/answer",
}


class Frames:
    """Events as they are sent: made once in this process, however many follow a session."""

    def __init__(self, *, most_bytes: int = _KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[SessionId, int], bytes] = OrderedDict()

    def of(self, session: SessionId, event: Event) -> bytes:
        """The frame of an event."""
        key = (session, event.number)
        frame = self._kept.get(key)
        return self._make(key, event) if frame is None else frame

    def _make(self, key: tuple[SessionId, int], event: Event) -> bytes:
        told = event_json(event)
        shown = {"session": key[0], "number": event.number, "kind": event.kind}
        outside = {name: told[name] for name in ("turn", "at")}
        frame = _encoded({"event": {**shown, **outside, "data": event.data}})
        self._kept[key] = frame
        self._bytes += len(frame)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1])
        return frame


class Sockets:
    """All open sockets, and what all of them are told."""

    def __init__(
        self,
        context: Context,
        gate: Gate,
        rights: Rights,
        feed: Feed,
        steering: Steering,
        shown: Shown,
    ) -> None:
        self.context = context
        self.gate = gate
        self.rights = rights
        self.feed = feed
        self.steering = steering
        self.frames = Frames()
        self._shown = shown
        self._open: set[_Socket] = set()
        # In the order in which they are told; who changes again keeps its place.
        self._changed: dict[SessionId, None] = {}
        self._telling: asyncio.Task[None] | None = None
        feed.watch(self._note)

    async def serve(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Do what a visitor asks until either side goes."""
        line = web.WebSocketResponse(
            timeout=_GOODBYE_SECONDS,
            heartbeat=_PING_SECONDS,
            max_msg_size=_MOST_BYTES,
            # Compressing would be work for each follower of what is made once for all.
            compress=False,
        )
        if not line.can_prepare(request).ok:
            detail = "this address takes WebSockets: send Upgrade: websocket"
            raise HttpProblem(426, "Upgrade required", detail, {"Upgrade": "websocket"})
        await line.prepare(request)
        socket = _Socket(self, line, request, visitor)
        self._open.add(socket)
        try:
            gone = partial(socket.close, WSCloseCode.POLICY_VIOLATION, "signed out")
            with self.gate.watched(visitor, gone):
                await socket.run()
        finally:
            self._open.discard(socket)
        return line

    async def close(self, _application: web.Application) -> None:
        """Send everybody away: the service stops."""
        for socket in self._open:
            socket.close(WSCloseCode.GOING_AWAY, "the service stops")
        await asyncio.gather(*(socket.closed() for socket in tuple(self._open)))
        if self._telling is not None:
            self._telling.cancel()

    def _note(self, session: SessionId, events: Sequence[Event]) -> None:
        if not self._open or (events and all(one.kind in _WITHIN_REPLIES for one in events)):
            return
        self._changed[session] = None
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell(), name="sockets-list")

    async def _tell(self) -> None:
        """Tell all sockets of the sessions that changed, so many at a time, until there are none.

        Each is told as it is then, however often it changed before.
        """
        try:
            while self._changed:
                await asyncio.sleep(_LIST_SECONDS)
                changed = list(islice(self._changed, _MOST_TOLD))
                for session in changed:
                    del self._changed[session]
                await self._tell_of(await self._shown(changed))
        except StoreError as error:
            # Lists are read anew when a console comes back.
            log.warning("socket.list_not_told", error=str(error))
        finally:
            self._telling = None

    async def _tell_of(self, shown: Sequence[Mapping[str, Any]]) -> None:
        """Tell everybody of sessions, and of those in projects whoever may see them."""
        ids = {one["project"] for one in shown} - {None}
        projects = await self.rights.readable(ids)
        for one in shown:
            frame = _encoded({"session": one})
            for socket in self._open:
                if one["project"] is None or socket.sees(projects.get(one["project"])):
                    socket.put(frame)


class _Socket:
    """One connection: what it follows, and what it has still to be sent."""

    def __init__(
        self,
        sockets: Sockets,
        line: web.WebSocketResponse,
        request: web.Request,
        visitor: Visitor,
    ) -> None:
        self._sockets = sockets
        self._line = line
        self._request = request
        self._visitor = visitor
        self._followed: dict[SessionId, asyncio.Task[None]] = {}
        self._waiting: deque[bytes] = deque()
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Do what is asked until the connection ends."""
        self._writer = asyncio.create_task(self._write(), name="socket-writer")
        try:
            async for message in self._line:
                answer = await self._answer(message)
                await self._put_in_time(_encoded(answer))
        finally:
            tasks = {self._writer, *self._followed.values()}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.closed()

    def sees(self, project: Project | None) -> bool:
        """Whether whoever is here may read what is in a project, which may just be gone."""
        reader = reader_of(self._visitor)
        return reader is None or (project is not None and project.may_see(reader))

    def put(self, frame: bytes) -> None:
        """Have a frame sent; whoever is too slow for that is sent away."""
        if self._closer is not None:
            return
        if len(self._waiting) >= _MOST_WAITING:
            self.close(WSCloseCode.TRY_AGAIN_LATER, "too slow: follow again after what you have")
            return
        self._waiting.append(frame)
        self._some.set()

    def close(self, code: WSCloseCode, reason: str) -> None:
        """Begin to close; what was not sent yet is dropped."""
        if self._closer is None:
            self._closer = asyncio.create_task(self._close(code, reason), name="socket-closer")

    async def closed(self) -> None:
        """Return when a closing that was begun is over."""
        if self._closer is not None:
            await asyncio.wait({self._closer})

    async def _close(self, code: WSCloseCode, reason: str) -> None:
        assert self._writer is not None
        self._writer.cancel()
        await asyncio.wait({self._writer})
        try:
            async with asyncio.timeout(2 * _GOODBYE_SECONDS):
                await self._line.close(code=code, message=reason.encode())
        except (TimeoutError, ConnectionError):
            if self._request.transport is not None:
                self._request.transport.abort()

    # -- out ---------------------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            while True:
                await self._some.wait()
                self._some.clear()
                while self._waiting:
                    await self._line.send_frame(self._waiting.popleft(), WSMsgType.TEXT)
                    self._room.set()
        except ConnectionError:
            log.debug("socket.client_left")

    async def _put_in_time(self, frame: bytes) -> None:
        """The same as `put` for what can wait until there is room."""
        while len(self._waiting) >= _MOST_WAITING and self._closer is None:
            self._room.clear()
            await self._room.wait()
        self.put(frame)

    # -- in ----------------------------------------------------------------------------------

    async def _answer(self, message: WSMessage) -> Mapping[str, Any]:
        body: Mapping[str, Any] = {}
        try:
            body = self._parsed(message)
            return await self._done(body)
        except HttpProblem as problem:
            if problem.status == 401:
                self.close(WSCloseCode.POLICY_VIOLATION, problem.detail)
            return _error(body, problem.status, problem.detail or problem.title)
        except BadInput as error:
            return _error(body, 400, str(error))
        except StoreError as error:
            log.warning("socket.store_out", error=str(error))
            return _error(body, 503, "the database does not answer; try again")
        except Exception:
            log.exception("socket.broken")
            return _error(body, 500, "the log of the service says more")

    def _parsed(self, message: WSMessage) -> Mapping[str, Any]:
        if message.type is not WSMsgType.TEXT:
            raise bad("send JSON as text")
        text: str = message.data
        return as_object(parse_json(text.encode(), self._sockets.context.limits))

    async def _done(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        do = body.get("do")
        if not isinstance(do, str) or do not in _TAKES:
            raise bad(f"do takes one of {', '.join(_TAKES)}")
        if not _is_reference(body.get("id")):
            raise bad(f"id: a text of at most {_LONGEST_ID} characters, or a whole number")
        unknown = sorted(set(body) - _TAKES[do] - {"do", "id"})
        if unknown:
            raise bad(f"{unknown[0]}: {do} does not take that")
        if do == "ping":
            return {"pong": True, **_reference(body)}
        if do in _CALLS:
            self._visitor = await self._sockets.gate.again(self._visitor)
            require_role(self._visitor, "POST", _CALLS[do])
        deeds = {
            "follow": self._follow,
            "unfollow": self._unfollow,
            "send": self._send,
            "stop": self._stop,
            "interrupt": self._interrupt,
            "answer": self._reply,
        }
        return {"done": do, **_reference(body), **await deeds[do](body)}

    async def _session(self, body: Mapping[str, Any], *, write: bool) -> Session:
        """The session a message names, which its sender may see or change. Raises HttpProblem."""
        given = body.get("session")
        found = None
        if is_id(given):
            found = await self._sockets.context.database.read(sessions.get, SessionId(str(given)))
        if found is None:
            raise no_session()
        if found.project is not None:
            rights = self._sockets.rights
            await rights.require(self._visitor, "session", found.id, write=write)
        return found

    # -- following ---------------------------------------------------------------------------

    async def _follow(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        session = await self._session(body, write=False)
        after = body.get("after", 0)
        if not isinstance(after, int) or isinstance(after, bool) or after < 0:
            raise bad("after takes the number of an event, a whole number from 0")
        if session.id in self._followed:
            raise HttpProblem(409, "Conflict", "this session is followed already; unfollow first")
        if len(self._followed) >= _MOST_FOLLOWED:
            detail = f"one socket follows at most {_MOST_FOLLOWED} sessions; unfollow one first"
            raise HttpProblem(409, "Conflict", detail)
        if after > session.last_event:
            raise no_such_event("session")
        if after < await self._sockets.feed.pruned_to(session.id):
            raise pruned()
        self._followed[session.id] = asyncio.create_task(
            self._tell_in_project(session, after), name=f"socket {session.id}"
        )
        return {"session": session.id}

    async def _unfollow(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        given = body.get("session")
        task = self._followed.pop(SessionId(given), None) if isinstance(given, str) else None
        if task is None:
            raise HttpProblem(404, "Not found", "this session is not followed")
        task.cancel()
        await asyncio.wait({task})
        return {"session": given}

    async def _tell_in_project(self, session: Session, after: int) -> None:
        """The same for as long as whoever follows may see the project it is in."""
        lost = partial(self._lose, session.id)
        with self._sockets.rights.watched(session.project, self._visitor, lost):
            await self._tell(session.id, after, session.last_event)

    def _lose(self, session: SessionId) -> None:
        task = self._followed.pop(session, None)
        if task is not None:
            task.cancel()
            gone = no_session()
            said = {"do": "follow", "session": session}
            self.put(_encoded(_error(said, gone.status, gone.detail)))

    async def _tell(self, session: SessionId, after: int, known: int) -> None:
        """Send the events of a session; those up to `known` as fast as the client takes them."""
        feed, frames = self._sockets.feed, self._sockets.frames
        try:
            async with aclosing(feed.follow(session, after=after)) as events:
                async for event in events:
                    frame = frames.of(session, event)
                    if event.number > known:
                        self.put(frame)
                    else:
                        await self._put_in_time(frame)
        except StoreError as error:
            log.warning("socket.follow_broke", session=session, error=str(error))
            self._followed.pop(session, None)
            said = {"do": "follow", "session": session}
            self.put(_encoded(_error(said, 503, "the events cannot be read; follow again")))

    # -- steering ----------------------------------------------------------------------------

    async def _send(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        session, key = await self._session(body, write=True), body.get("key")
        if key is not None and (not isinstance(key, str) or not 0 < len(key) <= _LONGEST_ID):
            raise bad(f"key: a text of 1 to {_LONGEST_ID} characters is needed, or nothing")
        steering = self._sockets.steering
        wish = await steering.said(session.id, body)
        return _rung(await steering.ring(session.id, wish, by=self._visitor, key=key))

    async def _stop(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        session = await self._session(body, write=True)
        by = self._visitor.name
        return {"stopped": await self._sockets.steering.stopped(session.id, body, by=by)}

    async def _interrupt(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        session, steering = await self._session(body, write=True), self._sockets.steering
        if "text" in body:
            return _rung(await steering.ring(session.id, interruption(body), by=self._visitor))
        return {"interrupt": (await steering.pause(session, by=self._visitor)).value}

    async def _reply(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        session = await self._session(body, write=True)
        by = self._visitor.name
        question, turn = await self._sockets.steering.answered(session.id, body, by=by)
        return {"question": question, "turn": turn}


def _rung(outcome: Accepted | Refusal) -> Mapping[str, Any]:
    if isinstance(outcome, Refusal):
        status, title = status_of(outcome)
        raise HttpProblem(status, title, outcome.detail)
    return {
        "session": outcome.session,
        "turn": outcome.turn,
        "number": outcome.number,
        "duplicate": outcome.duplicate,
    }


def _error(body: Mapping[str, Any], status: int, detail: str) -> Mapping[str, Any]:
    do = body.get("do")
    said = {"do": do if isinstance(do, str) and do in _TAKES else None, **_reference(body)}
    followed = {"session": body["session"]} if do == "follow" and is_id(body.get("session")) else {}
    return {"error": {**said, **followed, "status": status, "detail": detail}}


def _reference(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the client calls its message, if it calls it anything."""
    given = body.get("id")
    return {"id": given} if given is not None and _is_reference(given) else {}


def _is_reference(given: object) -> bool:
    if isinstance(given, str):
        return len(given) <= _LONGEST_ID
    return given is None or (isinstance(given, int) and not isinstance(given, bool))


def _encoded(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # An answer may quote what came in, and that may hold half of a surrogate pair.
    return text.encode("utf-8", "replace")
