"""Webhook mode: every update is posted until it gets a 2xx, in order within its queue."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from service.demo.bot_api.changes import Changes
from service.demo.bot_api.params import flag, integer, strings
from service.demo.bot_api.refusal import Json, Refused
from service.demo.bot_api.updates import WEBHOOK_SET, Polling, Update, Updates

SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_USUAL_CONNECTIONS = 40
_LONGEST_RETRY = 60
_LONGEST_ASKED = 3600
_MESSAGES = frozenset({"message", "edited_message", "channel_post", "edited_channel_post"})


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take."""

    second: timedelta = timedelta(milliseconds=25)
    """What a second of the real server's retry schedule lasts here."""
    answer: timedelta = timedelta(seconds=60)
    """Who has not answered by then has not got the update."""


@dataclass(frozen=True, slots=True)
class Set:
    """What setWebhook asked for."""

    url: str
    secret: str = field(default="", repr=False)
    connections: int = _USUAL_CONNECTIONS


@dataclass(frozen=True, slots=True)
class Told:
    """The result of a call together with words about it."""

    result: bool
    description: str


class Webhook:
    """Where updates are posted, and the posting."""

    def __init__(
        self,
        updates: Updates,
        polling: Polling,
        changes: Changes,
        clock: Callable[[], datetime],
    ) -> None:
        self.times = Times()
        self.copies = 1
        """Each update is posted so many times at once, as happens when answers come late."""
        self._updates = updates
        self._polling = polling
        self._changes = changes
        self._clock = clock
        self._set: Set | None = None
        self._error: Json = {}
        self._lanes: dict[tuple[str, Any], asyncio.Task[None]] = {}

    @property
    def active(self) -> bool:
        """Whether updates are posted, so that nobody may fetch them."""
        return self._set is not None

    # -- the bot's calls ---------------------------------------------------------------------

    def set(self, params: Json) -> Told:
        """Post updates from now on; an empty address ends that. Raises Refused."""
        url = str(params.get("url") or "")
        if not url:
            return self.delete(params)
        wanted = _checked(url, params)
        kinds = strings(params, "allowed_updates")
        same = self._set == wanted and kinds is None
        self._updates.allow(kinds)
        if flag(params, "drop_pending_updates"):
            self._updates.clear()
        if same:
            return Told(result=True, description="Webhook is already set")
        self._start(wanted)
        self._polling.cancel(WEBHOOK_SET)
        return Told(result=True, description="Webhook was set")

    def delete(self, params: Json) -> Told:
        """Let updates wait to be fetched."""
        was = self._set
        if flag(params, "drop_pending_updates"):
            self._updates.clear()
        self._start(None)
        words = "Webhook is already deleted" if was is None else "Webhook was deleted"
        return Told(result=True, description=words)

    def info(self, _: Json) -> Json:
        """What getWebhookInfo tells; never the secret."""
        told: Json = {
            "url": self._set.url if self._set else "",
            "has_custom_certificate": False,
            "pending_update_count": len(self._updates),
            **self._error,
        }
        if self._set is not None:
            told["max_connections"] = self._set.connections
        if self._updates.allowed:
            told["allowed_updates"] = self._updates.allowed
        return told

    # -- posting -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Post whatever can be posted, for ever."""
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            try:
                while True:
                    for lane, update in self._startable():
                        self._lanes[lane] = asyncio.create_task(
                            self._deliver(session, lane, update), name="bot-api-webhook"
                        )
                    await self._changes.after(self._changes.number)
            finally:
                self._stop()

    def _start(self, wanted: Set | None) -> None:
        self._set, self._error = wanted, {}
        self._stop()
        self._changes.note()

    def _stop(self) -> None:
        for task in self._lanes.values():
            task.cancel()
        self._lanes.clear()

    def _startable(self) -> Iterator[tuple[tuple[str, Any], Update]]:
        """The first update of each queue that is idle, as many as there may be connections."""
        if self._set is None:
            return
        free = self._set.connections - len(self._lanes)
        busy = set(self._lanes)
        for update in self._updates.waiting():
            lane = _lane(update.told)
            if lane in busy or free <= 0:
                continue
            busy.add(lane)
            free -= 1
            yield lane, update

    async def _deliver(
        self, session: aiohttp.ClientSession, lane: tuple[str, Any], update: Update
    ) -> None:
        """Post one update until it got a 2xx or is too old."""
        wait = 0
        while self._set is not None:
            asked = await self._post(session, self._set, update)
            if asked is None or self._clock() + timedelta(seconds=wait) >= update.expires:
                break
            # The first retry comes at once, or when the other side wants it.
            await asyncio.sleep(self.times.second.total_seconds() * (asked or wait))
            wait = min(max(wait * 2, 2), _LONGEST_RETRY)
        self._lanes.pop(lane, None)
        self._updates.remove(update)

    async def _post(
        self, session: aiohttp.ClientSession, webhook: Set, update: Update
    ) -> int | None:
        """Post an update; None when it arrived, else the seconds to wait that were asked for."""
        posts = [self._post_once(session, webhook, update) for _ in range(self.copies)]
        answers = await asyncio.gather(*posts)
        return None if None in answers else answers[0]

    async def _post_once(
        self, session: aiohttp.ClientSession, webhook: Set, update: Update
    ) -> int | None:
        headers = {"Content-Type": "application/json"}
        if webhook.secret:
            headers[SECRET_HEADER] = webhook.secret
        timeout = aiohttp.ClientTimeout(total=self.times.answer.total_seconds())
        try:
            async with session.post(
                webhook.url,
                data=update.body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                await answer.read()
        except TimeoutError:
            return self._failed("Read timeout expired")
        except aiohttp.ClientConnectorError:
            return self._failed("Connection refused")
        except aiohttp.ClientError:
            return self._failed("Connection closed")
        if 200 <= answer.status < 300:
            return None
        self._failed(f"Wrong response from the webhook: {answer.status} {answer.reason}")
        asked = answer.headers.get("Retry-After", "")
        return min(int(asked), _LONGEST_ASKED) if asked.isdecimal() else 0

    def _failed(self, why: str) -> int:
        self._error = {
            "last_error_date": int(self._clock().timestamp()),
            "last_error_message": why,
        }
        self._changes.note()
        return 0


def _checked(url: str, params: Json) -> Set:
    parts = urlsplit(url)
    # As a server of one's own: without TLS on this machine.
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Refused(400, "bad webhook: An HTTPS URL must be provided for webhook")
    webhook = Set(url)
    secret = str(params.get("secret_token") or "")
    if secret and not _SECRET.fullmatch(secret):
        raise Refused(400, "secret token contains unallowed characters")
    connections = integer(params, "max_connections") or _USUAL_CONNECTIONS
    return replace(webhook, secret=secret, connections=min(max(connections, 1), 100))


def _lane(told: Json) -> tuple[str, Any]:
    """The queue of an update: messages by chat, presses by person, others by kind and chat."""
    kind = next((key for key in told if key != "update_id"), "")
    about = told.get(kind)
    about = about if isinstance(about, dict) else {}
    if kind == "callback_query":
        return kind, _id_of(about.get("from"))
    return "message" if kind in _MESSAGES else kind, _id_of(about.get("chat"))


def _id_of(value: object) -> Any:
    return str(value.get("id")) if isinstance(value, dict) else ""
