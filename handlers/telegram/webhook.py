"""Telegram's webhook mode: check the secret, store the update, and only then say 200."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus

import structlog
from aiohttp import web

from handlers.http import BodyLimits, HttpProblem, read_body
from handlers.telegram.receive import Receiver
from handlers.telegram.translate import Me
from service.errors import StoreError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - a name, not a secret

# Telegram keeps updates of up to 512 KiB; ten seconds are plenty for one.
LIMITS = BodyLimits(bytes=1_048_576, depth=64, read=timedelta(seconds=10))
_RETRY = {"Retry-After": "5"}


class Webhook:
    """Takes the updates that Telegram posts for one bot.

    `me` returns who the bot is, None as long as Telegram could not tell us.
    """

    def __init__(self, receiver: Receiver, *, secret: str, me: Callable[[], Me | None]) -> None:
        self._receiver = receiver
        self._secret = secret.encode()
        self._me = me

    async def post(self, request: web.Request) -> web.Response:
        """Store one update. Anything but 2xx makes Telegram send it again."""
        shown = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), self._secret):
            raise HttpProblem(HTTPStatus.UNAUTHORIZED, "The secret token is wrong or missing")
        me = self._me()
        if me is None:
            raise _later("the bot does not know its own name yet")
        body = await read_body(request, LIMITS)
        try:
            await self._take(body, me)
        except StoreError as error:
            log.warning("telegram.not_stored", reason=str(error))
            raise _later("the update could not be stored") from None
        return web.Response()

    async def _take(self, body: bytes, me: Me) -> None:
        try:
            raw = json.loads(body)
        except (ValueError, RecursionError):
            # Whoever knows the secret is Telegram: a refusal would only block the chat's queue.
            await self._receiver.quarantine(body, "the update is not JSON", key=None)
            return
        await self._receiver.receive(raw, body, me)


def _later(detail: str) -> HttpProblem:
    return HttpProblem(
        HTTPStatus.SERVICE_UNAVAILABLE, "Not stored, send it again", detail, headers=_RETRY
    )
