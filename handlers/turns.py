"""How turns are told over HTTP, to posters and operators alike: accepted, streamed, or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aiohttp import web

from handlers.http import (
    HttpProblem,
    accepts_events,
    cursor,
    preferred_wait,
    problem,
    stream_events,
)
from service.core.model import Accepted, Refusal, RefusalReason
from service.engine.feed import Feed
from service.engine.results import Result, Results

LONGEST_WAIT = timedelta(seconds=60)
_REFUSED: Mapping[RefusalReason, tuple[int, str]] = {
    RefusalReason.QUEUE_FULL: (429, "Too many requests"),
    RefusalReason.KEY_REUSED: (422, "Idempotency key reused"),
    RefusalReason.ARCHIVED: (409, "Conflict"),
    RefusalReason.DRAINING: (503, "Service unavailable"),
    RefusalReason.UNKNOWN: (404, "Not found"),
    RefusalReason.NOT_READY: (409, "Conflict"),
    RefusalReason.UNDER_WAY: (409, "Conflict"),
}
_RETRY_AFTER = {429: "10", 503: "5"}


def refused(refusal: Refusal) -> web.Response:
    """Say why a ring starts no turn."""
    if refusal.reason is RefusalReason.IGNORED:
        return web.json_response({"turn": None, "reason": refusal.detail})
    status, title = status_of(refusal)
    retry = {"Retry-After": _RETRY_AFTER[status]} if status in _RETRY_AFTER else {}
    return problem(status, title, refusal.detail, headers=retry, reason=refusal.reason.value)


def status_of(refusal: Refusal) -> tuple[int, str]:
    """The status of a refusal that is told as an error, and what it is called."""
    return _REFUSED.get(refusal.reason, (409, "Refused"))


def pruned(headers: Mapping[str, str] | None = None) -> HttpProblem:
    """Say that the events after a cursor are gone."""
    detail = "these events are pruned; read the result or the messages instead"
    return HttpProblem(410, "Gone", detail, headers or {})


def no_such_event(of: str) -> HttpProblem:
    """Refuse a cursor ahead of everything: nothing would ever come, not even the end."""
    return HttpProblem(
        400, "Bad request", f"Last-Event-ID and after: the {of} has no event of this number yet"
    )


# -- what was accepted ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipt:
    """What whoever rang is told at once; the surface says under which addresses."""

    accepted: Accepted
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    """Of a stream, so that who was cut off finds the turn again; with `Location`."""


def acknowledge(receipt: Receipt, headers: Mapping[str, str] | None = None) -> web.Response:
    """Say that a ring is stored: 202, and 200 when it was stored before."""
    status = 200 if receipt.accepted.duplicate else 202
    shown = {"Location": receipt.headers["Location"], **(headers or {})}
    return web.json_response(dict(receipt.body), status=status, headers=shown)


@dataclass(frozen=True, slots=True)
class Telling:
    """Tells of accepted rings in the way whoever rang wants to hear it."""

    feed: Feed
    results: Results
    held: Callable[[web.Request], AbstractAsyncContextManager[object]] = nullcontext
    """Ends its block when whoever rang may hear no more."""

    async def tell(
        self,
        request: web.Request,
        receipt: Receipt,
        *,
        stream: bool = False,
        wait: timedelta | None = None,
    ) -> web.StreamResponse:
        """Stream the reply, wait for its end, or say at once that the ring is stored.

        `stream` and `wait` are for those who ask for nothing: Accept and Prefer come first. What
        is not over in time is acknowledged, also a turn that waits for an answer.
        """
        async with self.held(request):
            return await self._tell(request, receipt, stream=stream, wait=wait)

    async def _tell(
        self, request: web.Request, receipt: Receipt, *, stream: bool, wait: timedelta | None
    ) -> web.StreamResponse:
        asked = preferred_wait(request, LONGEST_WAIT)
        if accepts_events(request) or (stream and asked is None):
            return await self._stream(request, receipt)
        applied = {}
        if asked is not None:
            applied = {"Preference-Applied": f"wait={int(asked.total_seconds())}"}
            wait = asked
        if wait is not None:
            result = await self.results.wait(receipt.accepted.turn, timeout=wait)
            if result is not None and result.final:
                body = {**receipt.body, **result.as_json()}
                return web.json_response(body, headers=applied)
        return acknowledge(receipt, applied)

    async def _stream(self, request: web.Request, receipt: Receipt) -> web.StreamResponse:
        """The reply as it is produced; a repeat may say how far it has read the first time."""
        accepted, headers = receipt.accepted, receipt.headers
        if not accepted.duplicate:
            following = self.feed.follow(
                accepted.session, after=accepted.number - 1, turn=accepted.turn
            )
            return await stream_events(request, following, headers=headers)
        result = await self.results.get(accepted.turn)
        if result is None:
            raise HttpProblem(410, "Gone", "the turn of this message was removed")
        return await follow_turn(request, self.feed, result, after=cursor(request), headers=headers)


async def follow_turn(
    request: web.Request,
    feed: Feed,
    result: Result,
    *,
    after: int,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Stream a turn's events after a number, however old the turn is; 204 when all was read.

    Raises HttpProblem 410 when the place is pruned and 400 when it is ahead of the turn.
    """
    turn = result.turn
    # The turn's own events begin with its message, one before turn.queued.
    after = max(after, turn.number - 2)
    # Before the end is looked for: of a pruned turn the last number is not known any more.
    if after < await feed.pruned_to(turn.session):
        raise pruned(headers)
    if result.last_number is not None and after >= result.last_number:
        return web.Response(status=204, headers=headers)
    if after > await feed.newest(turn.session, turn.id):
        raise no_such_event("turn")
    following = feed.follow(turn.session, after=after, turn=turn.id)
    return await stream_events(request, following, headers=headers)
