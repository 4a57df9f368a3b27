"""What a reply has found out: key results and the disposition, and what of it is not stored yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from service.core.disposition import Schema
from service.core.tabular import Chart
from service.errors import BadInput

MOST_NAMED = 20
"""How many results a model is told of by name."""


class Display(StrEnum):
    """How a key result is shown first."""

    CHART = auto()
    TABLE = auto()
    BOTH = auto()


@dataclass(frozen=True, slots=True)
class Named:
    """A tool result under a name, without its data."""

    tool: str
    title: str | None = None
    """None while it is a candidate."""


@dataclass(frozen=True, slots=True)
class Place:
    """The tool call of the reply that a new candidate came from."""

    tool: str
    iteration: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class Shown:
    """How a promoted result is told of."""

    title: str
    description: str = ""
    chart: Chart | None = None
    display: Display = Display.BOTH


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a session's findings is stored."""

    schema: Schema | None = None
    disposition: Mapping[str, Any] | None = None
    stale: bool = False
    """Whether the schema has changed since the disposition was set."""
    results: Mapping[str, Named] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is not stored yet."""

    candidates: Mapping[str, Place]
    shown: Mapping[str, Shown]
    disposition: Mapping[str, Any] | None


class Findings:
    """The findings of a session as one reply sees and changes them.

    The schema stays what it was when the turn began; a new one counts from the next turn on.
    """

    def __init__(self, kept: Kept) -> None:
        self.schema = kept.schema
        self.earlier = dict(kept.results)
        """The results there were when the reply was taken up."""
        self.disposition: Mapping[str, Any] | None = kept.disposition
        self.stale = kept.stale
        self.results: dict[str, Named] = dict(kept.results)
        self._candidates: dict[str, Place] = {}
        self._shown: dict[str, Shown] = {}
        self._determined: Mapping[str, Any] | None = None

    def note(self, name: str, place: Place) -> None:
        """Take a tool result up as a candidate."""
        self._candidates[name] = place
        self.results.setdefault(name, Named(place.tool))

    def determine(self, values: object) -> Mapping[str, Any]:
        """Set the disposition; the values as they are kept. Raises BadInput with every problem."""
        if self.schema is None:
            raise BadInput("disposition: this session has no schema, so there is nothing to set")
        self._determined = self.disposition = self.schema.check(values)
        self.stale = False
        return self._determined

    def known(self, name: object) -> str:
        """The name, when there is such a result. Raises BadInput with those there are."""
        if isinstance(name, str) and name in self.results:
            return name
        newest = ", ".join(list(self.results)[-MOST_NAMED:]) or "none yet"
        raise BadInput(f"result: there is no such result; there are: {newest}")

    def promote(self, name: str, shown: Shown) -> None:
        """Make a key result of a candidate, or tell of one in another way. Raises BadInput."""
        self.results[name] = Named(self.results[self.known(name)].tool, shown.title)
        self._shown[name] = shown

    def changes(self) -> Changes:
        """What has changed; it stays changed until it is stored."""
        return Changes(dict(self._candidates), dict(self._shown), self._determined)

    def stored(self, kept: Kept) -> None:
        """Take over what the database holds, once the changes are part of it."""
        self._candidates, self._shown, self._determined = {}, {}, None
        self.results = dict(kept.results)
        self.disposition = kept.disposition
        # Under another schema everything is stale, also what was set under this turn's own.
        if kept.schema == self.schema:
            self.stale = kept.stale
