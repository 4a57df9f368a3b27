"""A Bot API server in a process of its own, and the same methods on it from this process."""

from __future__ import annotations

import asyncio
import base64
import inspect
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web
from pydantic import TypeAdapter

from service.demo.bot_api.calls import Call, called
from service.demo.bot_api.chats import Chat, Chats, Message
from service.demo.bot_api.faults import BAD_GATEWAY
from service.demo.bot_api.refusal import Json, Refused
from service.demo.bot_api.server import BotApi

_ACTIONS = frozenset(
    {
        *(
            "open_chat",
            "send_text",
            "send_file",
            "edit_text",
            "delete",
            "press",
            "block",
            "unblock",
            "migrate",
        ),
        *("open_topic", "close_topic", "reopen_topic", "delete_topic"),
        *("inject", "inject_answer"),
        *("fail", "drop", "stall", "garble", "heal", "enforce_limits"),
    }
)
_LONGEST_WAIT_SECONDS = 10.0
_PATIENCE_SECONDS = 15.0


@dataclass
class State:
    """Everything there is to see on a server, at one instant."""

    number: int = 0
    """How many things had happened."""
    token: str = field(default="", repr=False)
    me: Json = field(default_factory=dict)
    menu: list[Json] = field(default_factory=list)
    unconfirmed: int = 0
    strikes: int = 0
    calls: list[Call] = field(default_factory=list)
    chats: list[Chat] = field(default_factory=list)


_STATE = TypeAdapter(State)


class ControlledBotApi(BotApi):
    """A server that other processes steer.

    `POST /control/{action}` with an object of arguments does what the method of that name does;
    `GET /control/state?after=N` tells everything there is to see once more than N things happened.
    """

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        super()._add_routes(router)
        router.add_get("/control/state", self._tell_state)
        router.add_post("/control/{action}", self._act)

    async def _act(self, request: web.Request) -> web.Response:
        action = request.match_info["action"]
        if action not in _ACTIONS:
            return _no(404, f"no such action; there are {', '.join(sorted(_ACTIONS))}")
        method = getattr(self, action)
        try:
            arguments = {key: _decoded(one) for key, one in (await request.json()).items()}
            inspect.signature(method).bind(**arguments)
            result = await method(**arguments)
        except (AttributeError, LookupError, TypeError, ValueError, Refused) as error:
            return _no(400, f"{action}: {type(error).__name__}: {error}")
        return web.json_response({"result": result})

    async def _tell_state(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                await self._changes.after(int(request.query.get("after", "-1")))
        except TimeoutError:
            pass
        except ValueError:
            return _no(400, "after: a number is needed")
        return web.Response(body=_STATE.dump_json(self._state()), content_type="application/json")

    def _state(self) -> State:
        return State(
            number=self._changes.number,
            token=self.token,
            me=self.me,
            menu=self.menu,
            unconfirmed=self.unconfirmed,
            strikes=self.flood.strikes,
            calls=self.calls,
            chats=list(self.chats.by_id.values()),
        )


class BotApiControl:
    """A server in another process, with the methods of `BotApi`; all that act are awaited.

    What it shows is a copy: as new as the last action or `until`. So look again inside of
    conditions instead of keeping messages.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.chats = Chats({})
        self._state = State(number=-1)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(f"{self.url}/control/")
        await self.look()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    # -- people ------------------------------------------------------------------------------

    async def open_chat(self, chat: int, *, title: str = "", forum: bool = False) -> None:
        """Have somebody press Start, or take the bot into a group."""
        await self._do("open_chat", chat=chat, title=title, forum=forum)

    async def send_text(
        self,
        text: str,
        *,
        chat: int,
        user: int | None = None,
        topic: int | None = None,
        reply_to: int | None = None,
    ) -> int:
        """Have somebody write in a chat; return the number of the update."""
        number = await self._do(
            "send_text", text=text, chat=chat, user=user, topic=topic, reply_to=reply_to
        )
        return int(number)

    async def send_file(
        self,
        kind: str,
        data: bytes,
        *,
        chat: int,
        name: str = "",
        media_type: str = "",
        caption: str = "",
        album: str | None = None,
        user: int | None = None,
        topic: int | None = None,
    ) -> int:
        """Have somebody send a "photo", "document", "voice" or "audio"; return the update's number.

        Without a media type it is the usual one of its kind.
        """
        described = {"name": name, "media_type": media_type, "caption": caption, "album": album}
        number = await self._do(
            "send_file", kind=kind, data=data, chat=chat, user=user, topic=topic, **described
        )
        return int(number)

    async def edit_text(self, message: int, text: str, *, chat: int) -> int:
        """Have somebody change what they wrote; return the number of the update."""
        return int(await self._do("edit_text", message=message, text=text, chat=chat))

    async def delete(self, message: int, *, chat: int) -> None:
        """Have somebody take a message away."""
        await self._do("delete", message=message, chat=chat)

    async def press(self, message: int, data: str, *, chat: int, user: int | None = None) -> str:
        """Have somebody press a button; return the id of the query."""
        return str(await self._do("press", message=message, data=data, chat=chat, user=user))

    async def block(self, chat: int, *, user: int | None = None) -> int:
        """Have somebody block the bot, or a group throw it out."""
        return int(await self._do("block", chat=chat, user=user))

    async def unblock(self, chat: int, *, user: int | None = None) -> int:
        """Have them let the bot in again."""
        return int(await self._do("unblock", chat=chat, user=user))

    async def migrate(self, chat: int, new: int) -> None:
        """Turn a group into a supergroup with another number."""
        await self._do("migrate", chat=chat, new=new)

    async def open_topic(self, chat: int, name: str, *, user: int | None = None) -> int:
        """Have somebody make a topic; return its number."""
        return int(await self._do("open_topic", chat=chat, name=name, user=user))

    async def close_topic(self, chat: int, topic: int) -> None:
        """Have somebody close a topic."""
        await self._do("close_topic", chat=chat, topic=topic)

    async def reopen_topic(self, chat: int, topic: int) -> None:
        """Have somebody open a closed topic."""
        await self._do("reopen_topic", chat=chat, topic=topic)

    async def delete_topic(self, chat: int, topic: int) -> None:
        """Have somebody delete a topic with all its messages."""
        await self._do("delete_topic", chat=chat, topic=topic)

    async def inject(self, update: Json | bytes) -> int:
        """Let any update arrive, also one that makes no sense; return its number."""
        return int(await self._do("inject", update=update))

    async def inject_answer(self, body: bytes) -> None:
        """Answer the next getUpdates with these bytes."""
        await self._do("inject_answer", body=body)

    # -- faults ------------------------------------------------------------------------------

    async def fail(
        self,
        method: str,
        status: int,
        description: str = "",
        *,
        times: int = 1,
        chat: int | None = None,
        **parameters: int,
    ) -> None:
        """Refuse the next calls of a method ("*": of any), in one chat if one is given."""
        told = {"method": method, "status": status, "description": description}
        await self._do("fail", **told, times=times, chat=chat, **parameters)

    async def drop(self, method: str, *, applied: bool, times: int = 1) -> None:
        """Close the connection of the next calls, before they had an effect or after."""
        await self._do("drop", method=method, applied=applied, times=times)

    async def stall(self, method: str, seconds: float, *, times: int = 1) -> None:
        """Let the next calls of a method wait before they have their effect."""
        await self._do("stall", method=method, seconds=seconds, times=times)

    async def garble(self, method: str, body: bytes = BAD_GATEWAY, *, status: int = 502) -> None:
        """Answer the next call with a page that is no JSON, and do nothing."""
        await self._do("garble", method=method, body=body, status=status)

    async def heal(self) -> None:
        """Forget all faults to come."""
        await self._do("heal")

    async def enforce_limits(self) -> None:
        """Slow the bot down from now on when it calls too often."""
        await self._do("enforce_limits")

    # -- looking -----------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """The token of the bot."""
        return self._state.token

    @property
    def me(self) -> Json:
        """The bot."""
        return self._state.me

    @property
    def menu(self) -> list[Json]:
        """The commands that clients offer in every chat."""
        return self._state.menu

    @property
    def calls(self) -> list[Call]:
        """Every request to the API so far."""
        return self._state.calls

    @property
    def unconfirmed(self) -> int:
        """How many updates the bot has not confirmed yet."""
        return self._state.unconfirmed

    @property
    def strikes(self) -> int:
        """How many calls were too many."""
        return self._state.strikes

    def transcript(self, chat: int, topic: int | None = None) -> list[Message]:
        """What people see in a chat, top to bottom."""
        return self.chats.transcript(chat, topic)

    def said(self, chat: int, topic: int | None = None) -> list[str]:
        """What the bot says in a chat now, top to bottom."""
        return self.chats.said(chat, topic)

    def called(self, method: str) -> list[Json]:
        """The parameters of every call of a method, in order."""
        return called(self.calls, method)

    async def until(
        self, condition: Callable[[], object], *, seconds: float = _PATIENCE_SECONDS
    ) -> None:
        """Wait until a condition on what this shows holds. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self.look()
            while not condition():
                await self.look(after=self._state.number)

    async def look(self, *, after: int = -1) -> None:
        """Show what there is once more than `after` things have happened."""
        async with self._http().get("state", params={"after": after}) as response:
            self._state = _STATE.validate_json(await response.read())
        self.chats = Chats(self._state.me, {one.id: one for one in self._state.chats})

    async def _do(self, action: str, **arguments: Any) -> Any:
        told = {key: _encoded(one) for key, one in arguments.items()}
        async with self._http().post(action, json=told) as response:
            answer = await response.json()
        if response.status != 200:
            raise ValueError(answer["error"])
        await self.look()
        return answer["result"]

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use it as an async context manager")
        return self._session


@asynccontextmanager
async def started(*, port: int = 0, token: str = "") -> AsyncGenerator[BotApiControl]:
    """A server in a process of its own, which ends with the block."""
    arguments = ["--port", str(port), *(["--token", token] if token else [])]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.demo.bot_api",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise RuntimeError("the Bot API server did not start")
        async with BotApiControl(url) as control:
            yield control
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _no(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)


def _encoded(value: Any) -> Any:
    """A value as JSON can carry it."""
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"base64"}:
        return base64.b64decode(value["base64"])
    return value
