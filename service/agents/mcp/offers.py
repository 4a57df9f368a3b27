"""The tools of one server as they are offered: bounded, renamed, and pinned to the first list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from service.agents.mcp.arguments import Arguments
from service.agents.mcp.connection import Listed
from service.agents.mcp.naming import offered_name
from service.config import Mcp
from service.core.text import clean
from service.errors import BadInput
from service.ports import ToolSpec

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MOST_TOOLS = 128
_LONGEST_DESCRIPTION = 1024
_LONGEST_SCHEMA = 64 * 1024
_LONGEST_LOGGED = 100


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool that models are told of."""

    spec: ToolSpec
    tool: str
    """Its name at the server."""
    arguments: Arguments
    pin: str
    """Tells whether its server still describes the same tool."""


class Offers:
    """The pinned tools of a server.

    The first list that the server gave counts until the service is started again. A tool that it
    later describes differently may have become another tool: it is not called any more. One that
    is missing is not offered until it is back, and one that is new is not offered at all.
    """

    def __init__(self, server: str, settings: Mcp, servers: Collection[str]) -> None:
        self._server = server
        self._settings = settings
        self._servers = servers
        self._pinned: Mapping[str, Offer] | None = None
        self._usable: frozenset[str] = frozenset()
        self._changed: frozenset[str] = frozenset()

    @property
    def listed(self) -> bool:
        """Whether the server ever gave a list."""
        return self._pinned is not None

    def usable(self) -> Sequence[ToolSpec]:
        """The tools that may be called."""
        pinned = (self._pinned or {}).values()
        return tuple(offer.spec for offer in pinned if offer.spec.name in self._usable)

    def known(self, name: str) -> bool:
        """Whether a tool of this name was ever offered."""
        return name in (self._pinned or {})

    def find(self, name: str) -> Offer | None:
        """The tool offered as `name`, if it may be called."""
        return (self._pinned or {}).get(name) if name in self._usable else None

    def wants(self, tool: str) -> bool:
        """Whether the settings let a tool of the server be offered."""
        return not self._settings.tools or tool in self._settings.tools

    def has_all(self, tools: Iterable[str]) -> bool:
        """Whether these are all tools that the settings let be offered."""
        return bool(self._settings.tools) and self._settings.tools.issubset(tools)

    def take(self, listing: Sequence[Listed]) -> None:
        """Take the list of a new connection. Not for the event loop: it checks every schema."""
        if self._pinned is None:
            self._pinned = self._pin(listing[:MOST_TOOLS])
            self._warn_of_unknown({offer.tool for offer in self._pinned.values()})
        pins = {self._name(one): _pin(one) for one in reversed(listing)}
        same = {name for name, offer in self._pinned.items() if pins.get(name) == offer.pin}
        changed = {name for name in self._pinned if name in pins} - same
        for name in sorted(changed - self._changed):
            log.warning("mcp.tool_changed", server=self._server, tool=name)
        self._changed |= changed
        self._usable = frozenset(same - self._changed)

    def _pin(self, listing: Iterable[Listed]) -> Mapping[str, Offer]:
        offers: dict[str, Offer] = {}
        for one in listing:
            try:
                offer = self._offer(one)
                if offer.spec.name in offers:
                    raise BadInput("there is another tool of this name")
            except BadInput as problem:
                tool = clean(one.name[:_LONGEST_LOGGED])
                reason = str(problem)
                log.warning("mcp.tool_left_out", server=self._server, tool=tool, reason=reason)
                continue
            offers[offer.spec.name] = offer
        return offers

    def _offer(self, one: Listed) -> Offer:
        settings = self._settings
        if len(_canonical(one.schema)) > _LONGEST_SCHEMA:
            raise BadInput(f"its schema is longer than {_LONGEST_SCHEMA} bytes")
        spec = ToolSpec(
            self._name(one),
            clean(one.description[:_LONGEST_DESCRIPTION]),
            one.schema,
            # What the server itself says of these is a stranger's word.
            idempotent=one.name in settings.idempotent,
            outward=one.name not in settings.inside,
            approval=one.name in settings.approval,
            timeout=settings.timeout,
            data=one.name in settings.data,
        )
        return Offer(spec, one.name, Arguments(one.schema), _pin(one))

    def _name(self, one: Listed) -> str:
        return offered_name(self._server, one.name, self._servers)

    def _warn_of_unknown(self, tools: Collection[str]) -> None:
        settings = self._settings
        named = settings.tools.union(
            settings.idempotent, settings.approval, settings.inside, settings.data
        )
        unknown = sorted(named.difference(tools))
        if unknown:
            log.warning("mcp.no_such_tools", server=self._server, tools=unknown)


def _pin(one: Listed) -> str:
    try:
        whole = f"{one.description}\0{_canonical(one.schema)}"
    except BadInput:
        return ""
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def _canonical(schema: Mapping[str, object]) -> str:
    try:
        return json.dumps(schema, sort_keys=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput("its schema is not plain JSON") from error
