"""How turns are told over HTTP, to posters and operators alike: their events, and refusals."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from handlers.http import HttpProblem, problem, stream_events
from service.core.model import Refusal, RefusalReason
from service.engine.feed import Feed
from service.engine.results import Result

_REFUSED: Mapping[RefusalReason, tuple[int, str]] = {
    RefusalReason.QUEUE_FULL: (429, "Too many requests"),
    RefusalReason.KEY_REUSED: (422, "Idempotency key reused"),
    RefusalReason.ARCHIVED: (409, "Conflict"),
    RefusalReason.DRAINING: (503, "Service unavailable"),
    RefusalReason.UNKNOWN: (404, "Not found"),
}
_RETRY_AFTER = {429: "10", 503: "5"}


def refused(refusal: Refusal) -> web.Response:
    """Say why a ring starts no turn."""
    if refusal.reason is RefusalReason.IGNORED:
        return web.json_response({"turn": None, "reason": refusal.detail})
    status, title = _REFUSED.get(refusal.reason, (409, "Refused"))
    retry = {"Retry-After": _RETRY_AFTER[status]} if status in _RETRY_AFTER else {}
    return problem(status, title, refusal.detail, headers=retry, reason=refusal.reason.value)


def pruned(headers: Mapping[str, str] | None = None) -> HttpProblem:
    """Say that the events after a cursor are gone."""
    detail = "these events are pruned; read the result or the messages instead"
    return HttpProblem(410, "Gone", detail, headers or {})


def no_such_event(of: str) -> HttpProblem:
    """Refuse a cursor ahead of everything: nothing would ever come, not even the end."""
    return HttpProblem(
        400, "Bad request", f"Last-Event-ID and after: the {of} has no event of this number yet"
    )


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
