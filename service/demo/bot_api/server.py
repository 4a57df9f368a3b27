"""A local Bot API server for the demo and the tests: real HTTP, real rules, faults on demand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

import aiohttp
from aiohttp import web

from service.demo.bot_api.chats import (
    Chats,
    Json,
    Message,
    Refused,
    checked_markup,
    checked_text,
)
from service.demo.bot_api.flood import Flood

_PREFIXES = {400: "Bad Request: ", 403: "Forbidden: ", 409: "Conflict: "}
_JSON_PARAMS = frozenset({"entities", "reply_markup", "allowed_updates", "reply_parameters"})
_POSTED_TWICE_SECONDS = 0.05
_PATIENCE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API, as it came."""

    method: str
    params: Json
    at: float


@dataclass
class Fault:
    """What becomes of the next calls of a method instead of, or after, their effect."""

    status: int = 0
    description: str = ""
    parameters: Mapping[str, int] = field(default_factory=dict)
    apply: bool = False
    drop: bool = False
    stall: float = 0.0
    body: bytes | None = None
    times: int = 1


class BotApi:
    """One bot's side of Telegram. Use it as an async context manager; `url` is its base address.

    People act through `send_text`, `press`, `block` and `migrate`; tests look at `transcript` and
    `calls`, and wait with `until`.
    """

    def __init__(
        self, token: str = "7000000001:" + "A" * 35, *, port: int = 0, username: str = "demo_bot"
    ) -> None:
        self.token = token
        self.url = ""
        self.flood = Flood()
        self.calls: list[Call] = []
        self.menu: list[Json] = []
        self.webhook: Json = {}
        me = {"id": int(token.partition(":")[0]), "is_bot": True, "first_name": "Ringback"}
        self.me: Json = {**me, "username": username}
        self.chats = Chats(self.me)
        self._port = port
        self._faults: dict[str, list[Fault]] = {}
        self._pending: list[Json] = []
        self._raw: list[bytes] = []
        self._update_ids = count(900_001)
        self._allowed: list[str] = []
        self._queries: dict[str, bool] = {}
        self._polling: asyncio.Task[Any] | None = None
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._posting: asyncio.Task[None] | None = None
        self._methods: dict[str, Callable[[Json], Any]] = {
            "getme": lambda _: self.me,
            "sendmessage": self._send_message,
            "editmessagetext": self._edit_text,
            "editmessagereplymarkup": self._edit_markup,
            "deletemessage": self._delete_message,
            "sendchataction": self._chat_action,
            "answercallbackquery": self._answer_query,
            "setmycommands": self._set_commands,
            "getmycommands": lambda _: self.menu,
            "setwebhook": self._set_webhook,
            "deletewebhook": self._delete_webhook,
            "getwebhookinfo": self._webhook_info,
        }

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/bot{token}/{method}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.0, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._posting = asyncio.create_task(self._post_updates(), name="bot-api-webhook")
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._posting, self._polling):
            if task is not None:
                task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    # -- people ------------------------------------------------------------------------------

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
        place = self.chats.open(chat)
        if topic is not None:
            place.forum = True
            place.topics.add(topic)
        sender = {"id": user or chat, "is_bot": False, "first_name": "Ann", "language_code": "en"}
        entities = []
        if text.startswith("/"):
            length = len(text.split(maxsplit=1)[0])
            entities = [{"type": "bot_command", "offset": 0, "length": length}]
        mention = f"@{self.me['username']}"
        if mention in text and not text.startswith("/"):
            at = text.index(mention)
            entities.append({"type": "mention", "offset": at, "length": len(mention)})
        message = self.chats.add(place, sender, text, entities, topic=topic, reply_to=reply_to)
        return await self._add_update({"message": self.chats.as_json(message)})

    async def press(self, message: int, data: str, *, chat: int, user: int | None = None) -> str:
        """Have somebody press a button; return the id of the query."""
        sender = {"id": user or chat, "is_bot": False, "first_name": "Ann"}
        pressed = self.chats.by_id[chat].messages[message]
        query = str(1000 + len(self._queries))
        self._queries[query] = False
        await self._add_update(
            {
                "callback_query": {
                    "id": query,
                    "from": sender,
                    "message": self.chats.as_json(pressed),
                    "chat_instance": "1",
                    "data": data,
                }
            }
        )
        return query

    async def inject(self, update: Json) -> int:
        """Let any update arrive, also one that makes no sense; it gets the next number."""
        return await self._add_update(update)

    async def inject_answer(self, body: bytes) -> None:
        """Answer the next getUpdates with these bytes."""
        self._raw.append(body)
        await self._notify()

    def block(self, chat: int) -> None:
        """Have somebody block the bot, or a group throw it out."""
        self.chats.open(chat).blocked = True

    def migrate(self, chat: int, new: int) -> None:
        """Turn a group into a supergroup with another number."""
        old = self.chats.open(chat)
        self.chats.open(new, title=old.title)
        old.moved_to = new

    # -- faults ------------------------------------------------------------------------------

    def fail(
        self, method: str, status: int, description: str, *, times: int = 1, **parameters: int
    ) -> None:
        """Refuse the next calls of a method."""
        self._add_fault(method, Fault(status, description, parameters, times=times))

    def drop(self, method: str, *, applied: bool, times: int = 1) -> None:
        """Close the connection of the next calls, before they had an effect or after."""
        self._add_fault(method, Fault(apply=applied, drop=True, times=times))

    def stall(self, method: str, seconds: float) -> None:
        """Let the next call of a method wait."""
        self._add_fault(method, Fault(stall=seconds, apply=True))

    def garble(self, method: str, body: bytes = b"<html>Bad Gateway</html>") -> None:
        """Answer the next call with a page that is no JSON."""
        self._add_fault(method, Fault(status=502, body=body))

    def _add_fault(self, method: str, fault: Fault) -> None:
        self._faults.setdefault(method.lower(), []).append(fault)

    # -- looking -----------------------------------------------------------------------------

    def transcript(self, chat: int, topic: int | None = None) -> list[Message]:
        """What people see in a chat, top to bottom."""
        place = self.chats.by_id.get(chat)
        if place is None:
            return []
        shown = [one for key, one in sorted(place.messages.items()) if key not in place.deleted]
        return [one for one in shown if topic is None or one.topic == topic]

    def said(self, chat: int, topic: int | None = None) -> list[str]:
        """What the bot says in a chat now, top to bottom."""
        shown = self.transcript(chat, topic)
        return [one.text for one in shown if one.sender["is_bot"]]

    def called(self, method: str) -> list[Json]:
        """The parameters of every call of a method, in order."""
        return [one.params for one in self.calls if one.method.lower() == method.lower()]

    @property
    def unconfirmed(self) -> int:
        """How many updates the bot has not confirmed yet."""
        return len(self._pending)

    async def until(
        self, condition: Callable[[], object], *, seconds: float = _PATIENCE_SECONDS
    ) -> None:
        """Wait until a condition on this server holds. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    # -- HTTP --------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        params = await _params(request)
        self.calls.append(Call(method, params, time.monotonic()))
        try:
            return await self._answer(request, method.lower(), params)
        except Refused as refused:
            return _refusal(refused)
        except (ValueError, TypeError, KeyError) as error:
            return _refusal(Refused(400, f"can't parse parameters: {error}"))
        finally:
            await self._notify()

    async def _answer(self, request: web.Request, method: str, params: Json) -> web.Response:
        if request.match_info["token"] != self.token:
            raise Refused(401, "Unauthorized")
        fault = self._next_fault(method)
        if fault is not None:
            return await self._fail(request, method, params, fault)
        if method == "getupdates":
            return await self._get_updates(params)
        return _result(self._apply(method, params))

    def _apply(self, method: str, params: Json) -> Any:
        if "chat_id" in params and method != "sendchataction":
            self.flood.check(int(params["chat_id"]))
        if method not in self._methods:
            raise Refused(404, "Not Found: method not found")
        return self._methods[method](params)

    def _next_fault(self, method: str) -> Fault | None:
        faults = self._faults.get(method)
        if not faults:
            return None
        faults[0].times -= 1
        return faults.pop(0) if faults[0].times == 0 else faults[0]

    async def _fail(
        self, request: web.Request, method: str, params: Json, fault: Fault
    ) -> web.Response:
        if fault.stall:
            await asyncio.sleep(fault.stall)
        result = self._apply(method, params) if fault.apply else None
        if fault.drop:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if fault.body is not None:
            return web.Response(body=fault.body, status=fault.status, content_type="text/html")
        if fault.status:
            raise Refused(fault.status, fault.description, **fault.parameters)
        return _result(result)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # -- updates -----------------------------------------------------------------------------

    async def _add_update(self, update: Json) -> int:
        number = next(self._update_ids)
        kind = next(iter(update), "")
        if not self._allowed or kind in self._allowed or kind == "":
            self._pending.append({"update_id": number, **update})
        await self._notify()
        return number

    async def _get_updates(self, params: Json) -> web.Response:
        if self.webhook.get("url"):
            raise Refused(
                409, "can't use getUpdates method while webhook is active; use deleteWebhook first"
            )
        if self._polling is not None:
            self._polling.cancel()
        mine = asyncio.current_task()
        self._polling = mine
        try:
            return await self._poll(params)
        except asyncio.CancelledError:
            if self._polling is mine:
                raise
            raise Refused(
                409,
                "terminated by other getUpdates request; "
                "make sure that only one bot instance is running",
            ) from None
        finally:
            if self._polling is mine:
                self._polling = None

    async def _poll(self, params: Json) -> web.Response:
        offset = int(params.get("offset") or 0)
        limit = min(max(int(params.get("limit") or 100), 1), 100)
        if params.get("allowed_updates") is not None:
            self._allowed = list(params["allowed_updates"])
        if offset < 0:
            self._pending = self._pending[offset:]
        elif offset:
            self._pending = [one for one in self._pending if one["update_id"] >= offset]
        await self._notify()
        try:
            async with asyncio.timeout(int(params.get("timeout") or 0)), self._changed:
                await self._changed.wait_for(lambda: self._pending or self._raw)
        except TimeoutError:
            pass
        if self._raw:
            return web.Response(body=self._raw.pop(0), content_type="application/json")
        return _result(self._pending[:limit])

    async def _post_updates(self) -> None:
        """Webhook mode: post each update until it gets a 2xx, in order."""
        async with aiohttp.ClientSession() as session:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self.webhook.get("url") and self._pending)
                update = self._pending[0]
                if await self._post(session, update):
                    self._pending = [one for one in self._pending if one is not update]
                    await self._notify()
                else:
                    await asyncio.sleep(_POSTED_TWICE_SECONDS)

    async def _post(self, session: aiohttp.ClientSession, update: Json) -> bool:
        headers = {}
        if self.webhook.get("secret_token"):
            headers["X-Telegram-Bot-Api-Secret-Token"] = self.webhook["secret_token"]
        try:
            async with session.post(self.webhook["url"], json=update, headers=headers) as answer:
                return 200 <= answer.status < 300
        except aiohttp.ClientError as error:
            self.webhook["last_error_message"] = str(error)
            return False

    # -- methods -----------------------------------------------------------------------------

    def _send_message(self, params: Json) -> Json:
        chat = self.chats.reachable(params)
        text, entities = checked_text(params)
        topic = params.get("message_thread_id")
        reply = params.get("reply_parameters") or {}
        reply_to = reply.get("message_id")
        if reply_to is not None and int(reply_to) not in chat.messages:
            if not reply.get("allow_sending_without_reply"):
                raise Refused(400, "message to be replied not found")
            reply_to = None
        message = self.chats.add(
            chat,
            self.me,
            text,
            entities,
            topic=int(topic) if topic is not None else None,
            reply_to=int(reply_to) if reply_to is not None else None,
            reply_markup=checked_markup(params),
        )
        return self.chats.as_json(message)

    def _edit_text(self, params: Json) -> Json:
        message = self._own(params)
        text, entities = checked_text(params, edit=True)
        markup = checked_markup(params)
        if (text, entities, markup) == (message.text, message.entities, message.reply_markup):
            raise Refused(
                400,
                "message is not modified: specified new message content and reply markup are "
                "exactly the same as a current content and reply markup of the message",
            )
        message.text, message.entities, message.reply_markup = text, entities, markup
        return self._edited(message)

    def _edit_markup(self, params: Json) -> Json:
        message = self._own(params)
        markup = checked_markup(params)
        if markup == message.reply_markup:
            raise Refused(400, "message is not modified")
        message.reply_markup = markup
        return self._edited(message)

    def _edited(self, message: Message) -> Json:
        message.edited = int(time.time())
        message.history.append(message.text)
        message.markups.append(message.reply_markup is not None)
        return self.chats.as_json(message)

    def _own(self, params: Json) -> Message:
        chat = self.chats.reachable(params)
        message = chat.messages.get(int(params.get("message_id") or 0))
        if message is None or message.id in chat.deleted:
            raise Refused(400, "message to edit not found")
        if not message.sender["is_bot"]:
            raise Refused(400, "message can't be edited")
        return message

    def _delete_message(self, params: Json) -> bool:
        chat = self.chats.reachable(params)
        number = int(params.get("message_id") or 0)
        if number not in chat.messages or number in chat.deleted:
            raise Refused(400, "message to delete not found")
        chat.deleted.append(number)
        return True

    def _chat_action(self, params: Json) -> bool:
        self.chats.reachable(params).actions.append(str(params.get("action")))
        return True

    def _answer_query(self, params: Json) -> bool:
        query = str(params.get("callback_query_id"))
        if self._queries.get(query, True):
            raise Refused(
                400, "query is too old and response timeout expired or query ID is invalid"
            )
        self._queries[query] = True
        return True

    def _set_commands(self, params: Json) -> bool:
        commands = params.get("commands")
        self.menu = json.loads(commands) if isinstance(commands, str) else list(commands or [])
        return True

    def _set_webhook(self, params: Json) -> bool:
        self.webhook = {"url": params.get("url", ""), "secret_token": params.get("secret_token")}
        if params.get("allowed_updates") is not None:
            self._allowed = list(params["allowed_updates"])
        return True

    def _delete_webhook(self, params: Json) -> bool:
        self.webhook = {}
        if str(params.get("drop_pending_updates", "")).lower() == "true":
            self._pending = []
        return True

    def _webhook_info(self, _: Json) -> Json:
        return {
            "url": self.webhook.get("url", ""),
            "has_custom_certificate": False,
            "pending_update_count": len(self._pending),
        }


async def _params(request: web.Request) -> Json:
    """The parameters, however they were sent; nested values are JSON inside strings in forms."""
    params: Json = dict(request.query)
    if request.content_type == "application/json":
        given = await request.json()
        params |= given if isinstance(given, dict) else {}
        return params
    params |= dict(await request.post())
    for name in _JSON_PARAMS & params.keys():
        if isinstance(params[name], str):
            params[name] = json.loads(params[name])
    return params


def _result(result: Any) -> web.Response:
    return web.json_response({"ok": True, "result": result})


def _refusal(refused: Refused) -> web.Response:
    prefix = _PREFIXES.get(refused.status, "")
    body: Json = {
        "ok": False,
        "error_code": refused.status,
        "description": prefix + refused.description,
    }
    if refused.parameters:
        body["parameters"] = refused.parameters
    retry = refused.parameters.get("retry_after")
    headers = {"Retry-After": str(retry)} if retry is not None else {}
    return web.json_response(body, status=refused.status, headers=headers)
