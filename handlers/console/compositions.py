"""Calls on compositions: sets of voices to begin sessions with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from handlers.console.calls import Context, Routes, instant, missing
from handlers.console.gate import VISITOR
from handlers.turns import refused
from service.core.model import Refusal
from service.engine.compositions import Compositions, CompositionView


@dataclass(frozen=True, slots=True)
class Composing:
    """Lists, makes, changes and removes compositions; those of the configuration only show."""

    context: Context
    compositions: Compositions

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("GET", "/api/compositions", self.list_all),
            ("POST", "/api/compositions", self.make),
            ("GET", "/api/compositions/{composition}", self.one),
            ("PUT", "/api/compositions/{composition}", self.change),
            ("DELETE", "/api/compositions/{composition}", self.remove),
        ]

    async def list_all(self, _request: web.Request) -> web.Response:
        """All compositions, those of the configuration first, and the providers there are."""
        found = await self.compositions.all()
        shown = [composition_json(one) for one in found]
        providers = self.compositions.providers
        return web.json_response({"compositions": shown, "providers": providers})

    async def make(self, request: web.Request) -> web.Response:
        """Make one: 201. Every problem of it is told at once."""
        body = await self.context.object(request)
        made = await self.compositions.make(body, by=request[VISITOR].name)
        if isinstance(made, Refusal):
            return refused(made)
        return web.json_response(composition_json(made), status=201)

    async def one(self, request: web.Request) -> web.Response:
        """One composition."""
        found = await self.compositions.get(request.match_info["composition"])
        if found is None:
            raise missing("composition")
        return web.json_response(composition_json(found))

    async def change(self, request: web.Request) -> web.Response:
        """Replace a made one, rename it with `name`, put it away with `archived`."""
        name = request.match_info["composition"]
        body = await self.context.object(request)
        changed = await self.compositions.change(name, body, by=request[VISITOR].name)
        if isinstance(changed, Refusal):
            return refused(changed)
        return web.json_response(composition_json(changed))

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a made one; sessions that were begun with it stay as they are."""
        name = request.match_info["composition"]
        refusal = await self.compositions.remove(name, by=request[VISITOR].name)
        return web.Response(status=204) if refusal is None else refused(refusal)


def composition_json(view: CompositionView) -> dict[str, Any]:
    """A composition as the API tells it."""
    return {
        "name": view.name,
        **view.definition,
        "origin": view.origin,
        "archived": view.archived,
        "updated_at": instant(view.updated_at),
        "problems": list(view.problems),
    }
