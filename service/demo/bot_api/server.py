"""A local Bot API server for the demo and the tests: real HTTP, real rules, faults on demand."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

from aiohttp import web

from service.demo.bot_api import params as parameters
from service.demo.bot_api.calls import Call, called
from service.demo.bot_api.changes import Changes
from service.demo.bot_api.chats import Chats, Message
from service.demo.bot_api.faults import BAD_GATEWAY, DONE, Done, Fault, Faults
from service.demo.bot_api.files import Files
from service.demo.bot_api.flood import Flood
from service.demo.bot_api.methods import Methods
from service.demo.bot_api.people import People, Queries
from service.demo.bot_api.refusal import Json, Refused
from service.demo.bot_api.updates import Polling, Updates
from service.demo.bot_api.webhook import Told, Webhook

__all__ = ["BotApi", "Fault"]

_TOKEN = re.compile(r"[1-9][0-9]{0,19}:[A-Za-z0-9_-]{1,60}")
# How the fetching of a file is called among the calls and the faults; no method has that name.
_DOWNLOAD = "download"
_LARGEST_BODY = 50 * 2**20
_PATIENCE_SECONDS = 15.0
_WEBHOOK_ACTIVE = (
    "can't use getUpdates method while webhook is active; "
    "use deleteWebhook to delete the webhook first"
)


def _now() -> datetime:
    return datetime.now(UTC)


class BotApi:
    """One bot's side of Telegram. Use it as an async context manager; `url` is its base address.

    People act through `send_text`, `press`, `block` and their like; tests look at `transcript`,
    `said` and `calls`, and wait with `until`. `flood.on = True` makes it as strict as Telegram.
    """

    def __init__(
        self,
        token: str = "7000000001:" + "A" * 35,
        *,
        port: int = 0,
        username: str = "demo_bot",
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.token = token
        self.url = ""
        self.me = _bot(token, username)
        self.flood = Flood()
        self.calls: list[Call] = []
        self.chats = Chats(self.me, clock=clock)
        self._port = port
        self._changes = Changes()
        self._faults = Faults()
        self._pending = Updates(self._changes, clock)
        self._polling = Polling(self._pending, self._changes)
        self.webhook = Webhook(self._pending, self._polling, self._changes, clock)
        queries = Queries(clock)
        self._files = Files()
        self._people = People(self.me, self.chats, self._pending, queries, self._files)
        self._methods = Methods(self.me, self.chats, queries, self.webhook, self._files)
        self._runner: web.AppRunner | None = None
        self._posting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._application(), shutdown_timeout=0.0, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._posting = asyncio.create_task(self.webhook.run(), name="bot-api-webhooks")
        return self

    async def __aexit__(self, *_: object) -> None:
        # Nobody waits for the end of a fetch whose client is gone.
        self._polling.cancel()
        if self._posting is not None:
            self._posting.cancel()
            await asyncio.wait({self._posting})
        if self._runner is not None:
            await self._runner.cleanup()

    # -- people ------------------------------------------------------------------------------

    async def open_chat(self, chat: int, *, title: str = "", forum: bool = False) -> None:
        """Have somebody press Start, or take the bot into a group."""
        self.chats.open(chat, title=title, forum=forum)

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
        return self._people.send_text(text, chat=chat, user=user, topic=topic, reply_to=reply_to)

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
        return self._people.send_file(
            kind,
            data,
            chat=chat,
            name=name,
            media_type=media_type,
            caption=caption,
            album=album,
            user=user,
            topic=topic,
        )

    async def edit_text(self, message: int, text: str, *, chat: int) -> int:
        """Have somebody change what they wrote; return the number of the update."""
        return self._people.edit_text(message, text, chat=chat)

    async def delete(self, message: int, *, chat: int) -> None:
        """Have somebody take a message away."""
        self._people.delete(message, chat=chat)

    async def press(self, message: int, data: str, *, chat: int, user: int | None = None) -> str:
        """Have somebody press a button; return the id of the query."""
        return self._people.press(message, data, chat=chat, user=user)

    async def block(self, chat: int, *, user: int | None = None) -> int:
        """Have somebody block the bot, or a group throw it out."""
        return self._people.block(chat, user=user)

    async def unblock(self, chat: int, *, user: int | None = None) -> int:
        """Have them let the bot in again."""
        return self._people.unblock(chat, user=user)

    async def migrate(self, chat: int, new: int) -> None:
        """Turn a group into a supergroup with another number."""
        self._people.migrate(chat, new)

    async def open_topic(self, chat: int, name: str, *, user: int | None = None) -> int:
        """Have somebody make a topic; return its number."""
        return self._people.open_topic(chat, name, user=user)

    async def close_topic(self, chat: int, topic: int) -> None:
        """Have somebody close a topic."""
        self._people.close_topic(chat, topic)

    async def reopen_topic(self, chat: int, topic: int) -> None:
        """Have somebody open a closed topic."""
        self._people.reopen_topic(chat, topic)

    async def delete_topic(self, chat: int, topic: int) -> None:
        """Have somebody delete a topic with all its messages."""
        self._people.delete_topic(chat, topic)

    async def inject(self, update: Json | bytes) -> int:
        """Let any update arrive, also one that makes no sense; return its number.

        Bytes are put into the list of updates as they are, with no number in them that is not
        theirs. An update that brings a number along keeps it: so one can come again.
        """
        return self._pending.add(update)

    async def inject_answer(self, body: bytes) -> None:
        """Answer the next getUpdates with these bytes."""
        self._polling.answers.append(body)
        self._changes.note()

    # -- faults ------------------------------------------------------------------------------

    def fail(
        self,
        method: str,
        status: int,
        description: str = "",
        *,
        times: int = 1,
        chat: int | None = None,
        **parameters: int,
    ) -> Done:
        """Refuse the next calls of a method ("*": of any), in one chat if one is given."""
        fault = Fault(status, description, parameters, times=times, chat=chat)
        return self._add_fault(method, fault)

    def drop(self, method: str, *, applied: bool, times: int = 1) -> Done:
        """Close the connection of the next calls, before they had an effect or after."""
        return self._add_fault(method, Fault(apply=applied, drop=True, times=times))

    def stall(self, method: str, seconds: float, *, times: int = 1) -> Done:
        """Let the next calls of a method wait before they have their effect."""
        return self._add_fault(method, Fault(stall=seconds, apply=True, times=times))

    def garble(self, method: str, body: bytes = BAD_GATEWAY, *, status: int = 502) -> Done:
        """Answer the next call with a page that is no JSON, and do nothing."""
        return self._add_fault(method, Fault(status=status, body=body))

    def heal(self) -> Done:
        """Forget all faults to come."""
        self._faults.clear()
        return DONE

    def enforce_limits(self) -> Done:
        """Slow the bot down from now on when it calls too often."""
        self.flood.on = True
        return DONE

    def _add_fault(self, method: str, fault: Fault) -> Done:
        self._faults.add(method, fault)
        return DONE

    # -- looking -----------------------------------------------------------------------------

    def transcript(self, chat: int, topic: int | None = None) -> list[Message]:
        """What people see in a chat, top to bottom."""
        return self.chats.transcript(chat, topic)

    def said(self, chat: int, topic: int | None = None) -> list[str]:
        """What the bot says in a chat now, top to bottom."""
        return self.chats.said(chat, topic)

    def called(self, method: str) -> list[Json]:
        """The parameters of every call of a method, in order."""
        return called(self.calls, method)

    @property
    def menu(self) -> list[Json]:
        """The commands that clients offer in every chat."""
        return self._methods.menus.get("", [])

    @property
    def unconfirmed(self) -> int:
        """How many updates the bot has not confirmed yet."""
        return len(self._pending)

    async def until(
        self, condition: Callable[[], object], *, seconds: float = _PATIENCE_SECONDS
    ) -> None:
        """Wait until a condition on this server holds. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self._changes.until(condition)

    async def _notify(self) -> None:
        self._changes.note()

    # -- HTTP --------------------------------------------------------------------------------

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST_BODY)
        self._add_routes(app.router)
        app.router.add_route("*", "/{path:.*}", _no_such_path)
        return app

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_route("*", "/bot{token}/{method}", self._serve)
        router.add_get("/file/bot{token}/{path:.+}", self._serve)

    async def _serve(self, request: web.Request) -> web.Response:
        call = Call(request.match_info.get("method", _DOWNLOAD), {}, time.monotonic())
        try:
            response = await self._answer(request, call)
        except Refused as refused:
            response = refused.response()
        except web.HTTPRequestEntityTooLarge:
            response = Refused(413).response()
        call.status = response.status if response is not None else None
        self._changes.note()
        return response or web.Response()

    async def _answer(self, request: web.Request, call: Call) -> web.Response | None:
        """The answer to a call; None when its connection was closed instead."""
        try:
            path = request.match_info.get("path")
            call.params = {"file_path": path} if path else await parameters.read(request)
        finally:
            self.calls.append(call)
            self._changes.note()
        self._check_token(request.match_info["token"])
        fault = self._faults.take(call.method, call.params)
        if fault is None:
            return await self._apply(call)
        return await self._go_wrong(request, call, fault)

    async def _go_wrong(
        self, request: web.Request, call: Call, fault: Fault
    ) -> web.Response | None:
        await asyncio.sleep(fault.stall)
        response = await self._apply(call) if fault.apply else None
        if fault.drop:
            if request.transport is not None:
                request.transport.abort()
            return None
        if fault.body is not None:
            return web.Response(body=fault.body, status=fault.status, content_type="text/html")
        if fault.status:
            raise Refused(fault.status, fault.description, **fault.parameters)
        return response

    def _check_token(self, token: str) -> None:
        if not _TOKEN.fullmatch(token):
            raise Refused(401, "Unauthorized: invalid token specified")
        if token != self.token:
            raise Refused(401)

    async def _apply(self, call: Call) -> web.Response:
        """Do what a call wants, unless it came too soon."""
        if call.method.lower() == "getupdates":
            return await self._get_updates(call.params)
        if call.method == _DOWNLOAD:
            return web.Response(body=self._files.read(str(call.params.get("file_path"))))
        method = self._methods.find(call.method)
        if method.family is not None:
            self.flood.check(_chat_number(call.params), method.family)
        result = method.run(call.params)
        if isinstance(result, Told):
            body: Json = {"result": result.result, "description": result.description}
        else:
            body = {"result": result}
        return web.json_response({"ok": True, **body})

    async def _get_updates(self, params: Json) -> web.Response:
        if self.webhook.active:
            raise Refused(409, _WEBHOOK_ACTIVE)
        body = await self._polling.fetch(params)
        return web.Response(body=body, content_type="application/json")


def _bot(token: str, username: str) -> Json:
    unable = (
        "can_read_all_group_messages",
        "supports_inline_queries",
        "supports_guest_queries",
        "can_connect_to_business",
        "has_main_web_app",
        "has_topics_enabled",
        "allows_users_to_create_topics",
        "can_manage_bots",
    )
    return {
        "id": int(token.partition(":")[0]),
        "is_bot": True,
        "first_name": "Ringback",
        "username": username,
        "can_join_groups": True,
        **dict.fromkeys(unable, False),
    }


def _chat_number(params: Json) -> int:
    """The chat whose limits count; a name that is no number is nobody's chat."""
    try:
        return int(params.get("chat_id", 0))
    except (TypeError, ValueError):
        return 0


async def _no_such_path(_: web.Request) -> web.Response:
    return Refused(404).response()
