"""The requests that came, as tests want to look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.demo.bot_api.refusal import Json


@dataclass(slots=True)
class Call:
    """One request to the API, as it came."""

    method: str
    params: Json
    at: float
    """Seconds of the monotonic clock."""
    status: int | None = None
    """The HTTP status of the answer; None while there is none, and when there never was one."""


def called(calls: Sequence[Call], method: str) -> list[Json]:
    """The parameters of every call of a method, in order."""
    return [one.params for one in calls if one.method.lower() == method.lower()]
