"""A small Bot API server on loopback that remembers every call and fails exactly as told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.telegram.updates import BOT, USERNAME, Raw

TOKEN = f"{BOT}:{'A' * 35}"


@dataclass
class Call:
    """One request as it came."""

    method: str
    params: Raw
    at: float


@dataclass
class Fault:
    """What happens to one call of a method instead of an answer."""

    method: str
    status: int = 400
    description: str = "Bad Request"
    parameters: Raw | None = None
    applied: bool = False
    cut: bool = False
    body: bytes | None = None


@dataclass
class Server:
    """The bot's chats, its pending updates, and what went over the wire."""

    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    messages: dict[int, Raw] = field(default_factory=dict)
    pending: list[Raw] = field(default_factory=list)
    raw_batches: list[bytes] = field(default_factory=list)
    url: str = ""
    _new: asyncio.Event = field(default_factory=asyncio.Event)
    _called: asyncio.Event = field(default_factory=asyncio.Event)
    _next_update: int = 1000

    def of(self, method: str) -> list[Raw]:
        """The parameters of every call of a method so far."""
        return [call.params for call in self.calls if call.method == method]

    def texts(self, chat: int | None = None) -> list[str]:
        """What people read, from top to bottom."""
        return [
            one["text"]
            for one in self.messages.values()
            if chat is None or int(one["chat_id"]) == chat
        ]

    def push(self, *raws: Raw) -> list[int]:
        """Let updates wait to be fetched; they get new numbers, which are returned."""
        numbers = []
        for raw in raws:
            self._next_update += 1
            numbers.append(self._next_update)
            self.pending.append({**raw, "update_id": self._next_update})
        self._new.set()
        return numbers

    def fail(self, method: str, status: int, description: str, **parameters: int) -> None:
        """Refuse the next call of a method."""
        self.faults.append(Fault(method, status, description, parameters or None))

    def cut(self, method: str, *, applied: bool) -> None:
        """Close the connection of the next call, before or after it took effect."""
        self.faults.append(Fault(method, applied=applied, cut=True))

    async def until(self, method: str, count: int = 1, **params: Any) -> None:
        """Wait until a method was called so often, with these parameters."""
        async with asyncio.timeout(10):
            while True:
                self._called.clear()
                found = [p for p in self.of(method) if params.items() <= p.items()]
                if len(found) >= count:
                    return
                await self._called.wait()

    async def until_confirmed(self) -> None:
        """Wait until nothing is pending any more."""
        async with asyncio.timeout(10):
            while self.pending:
                self._called.clear()
                await self._called.wait()

    async def answer(self, request: web.Request) -> web.Response:
        """Remember a call, fail it as told, or carry it out."""
        method = request.match_info["method"]
        params = await _params(request)
        loop = asyncio.get_running_loop()
        self.calls.append(Call(method, params, loop.time()))
        try:
            if request.match_info["token"] != TOKEN:
                return _refusal(401, "Unauthorized")
            fault = next((one for one in self.faults if one.method == method), None)
            if fault is not None:
                self.faults.remove(fault)
                return self._failed(fault, params, request)
            if method == "getUpdates":
                return await self._updates(params)
            return _result(self._do(method, params))
        except ValueError as error:
            return _refusal(400, f"Bad Request: {error}")
        finally:
            self._called.set()

    def _failed(self, fault: Fault, params: Raw, request: web.Request) -> web.Response:
        if fault.applied:
            self._do(fault.method, params)
        if fault.cut:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault.body is not None:
            return web.Response(body=fault.body, status=fault.status)
        return _refusal(fault.status, fault.description, fault.parameters)

    async def _updates(self, params: Raw) -> web.Response:
        offset = params.get("offset")
        if offset is not None:
            self.pending = [one for one in self.pending if one["update_id"] >= offset]
            self._called.set()
        if self.raw_batches:
            return web.Response(body=self.raw_batches.pop(0))
        if not self.pending and params["timeout"]:
            self._new.clear()
            try:
                # Tests do not wait for whole seconds.
                async with asyncio.timeout(params["timeout"] / 10):
                    await self._new.wait()
            except TimeoutError:
                pass
        return _result(self.pending[: params["limit"]])

    def _do(self, method: str, params: Raw) -> Any:
        match method:
            case "getMe":
                return {
                    "id": BOT,
                    "is_bot": True,
                    "first_name": "Test",
                    "username": USERNAME,
                }
            case "sendMessage":
                number = 100 + len(self.of("sendMessage"))
                self.messages[number] = params
                return self._message(number)
            case "editMessageText":
                return self._edit(int(params["message_id"]), params)
            case "deleteMessage":
                if self.messages.pop(int(params["message_id"]), None) is None:
                    raise ValueError("message to delete not found")
        return True

    def _edit(self, number: int, params: Raw) -> Raw:
        if number not in self.messages:
            raise ValueError("message to edit not found")
        old = self.messages[number]
        if all(old.get(key) == params.get(key) for key in ("text", "entities", "reply_markup")):
            raise ValueError("message is not modified: specified new message content is the same")
        self.messages[number] = params
        return self._message(number)

    def _message(self, number: int) -> Raw:
        params = self.messages[number]
        chat = int(params["chat_id"])
        kind = "private" if chat > 0 else "supergroup"
        return {
            "message_id": number,
            "date": 1790000000,
            "chat": {"id": chat, "type": kind},
            "text": params["text"],
        }


@asynccontextmanager
async def serving() -> AsyncGenerator[Server]:
    """A server on a free port."""
    server = Server()
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/bot{token}/{method}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


async def _params(request: web.Request) -> Raw:
    if request.content_type == "application/json":
        return dict(await request.json())
    form = await request.post()
    return {key: _value(key, str(value)) for key, value in form.items()}


def _value(key: str, text: str) -> Any:
    # Words stay words, whatever they look like.
    if key in ("text", "url", "secret_token", "callback_query_id"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _result(result: Any) -> web.Response:
    return web.json_response({"ok": True, "result": result})


def _refusal(status: int, description: str, parameters: Raw | None = None) -> web.Response:
    body: Raw = {"ok": False, "error_code": status, "description": description}
    if parameters:
        body["parameters"] = parameters
    return web.json_response(body, status=status)
