"""The updates that the bot has not confirmed yet, and the bot's fetching of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Self

from service.demo.bot_api.changes import Changes
from service.demo.bot_api.params import integer, strings
from service.demo.bot_api.refusal import Json, Refused

ANOTHER = "terminated by other getUpdates request; make sure that only one bot instance is running"
WEBHOOK_SET = "terminated by setWebhook request"
_FIRST_NUMBER = 900_001
_MOST = 100
_LONGEST_WAIT = 50
_KEPT = timedelta(hours=24)
_KEPT_SHORTER = {
    "callback_query": timedelta(seconds=150),
    "pre_checkout_query": timedelta(seconds=150),
    "shipping_query": timedelta(seconds=150),
    "inline_query": timedelta(seconds=30),
}
_KINDS = frozenset(
    {
        *("message", "edited_message", "channel_post", "edited_channel_post"),
        *("business_connection", "business_message", "edited_business_message"),
        *("deleted_business_messages", "guest_message", "inline_query", "chosen_inline_result"),
        *("callback_query", "shipping_query", "pre_checkout_query", "purchased_paid_media"),
        *("poll", "poll_answer", "my_chat_member", "chat_member", "chat_join_request"),
        *("chat_boost", "removed_chat_boost", "message_reaction", "message_reaction_count"),
        *("managed_bot", "subscription", "stopped_message_generation"),
    }
)
_ONLY_IF_ASKED = frozenset({"chat_member", "message_reaction", "message_reaction_count"})


@dataclass(frozen=True, slots=True)
class Update:
    """One update: what it tells, and the bytes that are sent."""

    number: int
    told: Json
    body: bytes
    expires: datetime


class Updates:
    """What happened, until the bot has confirmed that it knows."""

    def __init__(self, changes: Changes, clock: Callable[[], datetime]) -> None:
        self._changes = changes
        self._clock = clock
        self._numbers = count(_FIRST_NUMBER)
        self._waiting: list[Update] = []
        self._allowed = _KINDS - _ONLY_IF_ASKED

    def __iter__(self) -> Iterator[Json]:
        return (one.told for one in self.waiting())

    def __len__(self) -> int:
        return len(self.waiting())

    def __iadd__(self, updates: Iterable[Json]) -> Self:
        for update in updates:
            self.add(update)
        return self

    @property
    def allowed(self) -> list[str]:
        """The kinds that the bot asked for; empty when those are the usual ones."""
        usual = self._allowed == _KINDS - _ONLY_IF_ASKED
        return [] if usual else sorted(self._allowed)

    def allow(self, kinds: Sequence[str] | None) -> None:
        """Let only these kinds come from now on; None changes nothing, none means the usual."""
        if kinds is not None:
            self._allowed = (_KINDS & {*kinds}) or _KINDS - _ONLY_IF_ASKED

    def add(self, update: Json | bytes) -> int:
        """Let an update wait and return its number; bytes are sent as they are.

        A number that the update brings along is kept, so that one can come again.
        """
        if isinstance(update, bytes):
            number = next(self._numbers)
            self._keep(number, {"update_id": number}, update)
            return number
        own = update.get("update_id")
        number = own if isinstance(own, int) else next(self._numbers)
        told = {"update_id": number, **update}
        self._keep(number, told, json.dumps(told).encode())
        return number

    def confirm(self, offset: int) -> None:
        """Forget what is below `offset`; a negative one keeps only so many of the last."""
        if offset < 0:
            self._waiting = self._waiting[offset:]
        elif offset:
            self._waiting = [one for one in self._waiting if one.number >= offset]
        self._changes.note()

    def waiting(self) -> list[Update]:
        """The updates to come, oldest first."""
        now = self._clock()
        self._waiting = [one for one in self._waiting if one.expires > now]
        return list(self._waiting)

    def remove(self, update: Update) -> None:
        """Forget one update: the bot knows it, or it came too late."""
        self._waiting = [one for one in self._waiting if one is not update]
        self._changes.note()

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()
        self._changes.note()

    def _keep(self, number: int, told: Json, body: bytes) -> None:
        kind = next((key for key in told if key != "update_id"), "")
        if kind in _KINDS - self._allowed:
            return
        expires = self._clock() + _KEPT_SHORTER.get(kind, _KEPT)
        self._waiting.append(Update(number, told, body, expires))
        self._changes.note()


@dataclass
class _Fetch:
    """One getUpdates that waits."""

    over: bool = False
    reason: str = ""


class Polling:
    """getUpdates: one at a time; a second one ends the first."""

    def __init__(self, updates: Updates, changes: Changes) -> None:
        self.answers: list[bytes] = []
        """Whole answers that come before everything else, as they are."""
        self._updates = updates
        self._changes = changes
        self._current: _Fetch | None = None

    def cancel(self, reason: str = "") -> None:
        """End the fetch that waits: with a conflict, or without a reason with no updates."""
        if self._current is not None:
            self._current.over, self._current.reason = True, reason
            self._changes.note()

    async def fetch(self, params: Json) -> bytes:
        """Wait for updates and return the whole answer. Raises Refused."""
        limit = integer(params, "limit") or _MOST
        seconds = min(max(integer(params, "timeout") or 0, 0), _LONGEST_WAIT)
        self.cancel(ANOTHER)
        self._current = mine = _Fetch()
        self._updates.allow(strings(params, "allowed_updates"))
        self._updates.confirm(integer(params, "offset") or 0)
        try:
            async with asyncio.timeout(seconds):
                await self._changes.until(lambda: mine.over or self.answers or len(self._updates))
        except TimeoutError:
            pass
        finally:
            if self._current is mine:
                self._current = None
        return self._answer(mine, limit if 0 < limit <= _MOST else _MOST)

    def _answer(self, fetch: _Fetch, limit: int) -> bytes:
        if fetch.over and fetch.reason:
            raise Refused(409, fetch.reason)
        if fetch.over:
            return b'{"ok":true,"result":[]}'
        if self.answers:
            return self.answers.pop(0)
        bodies = [one.body for one in self._updates.waiting()[:limit]]
        return b'{"ok":true,"result":[' + b",".join(bodies) + b"]}"
