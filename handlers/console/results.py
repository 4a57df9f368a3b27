"""Calls on key results: list, look, save, promote, change how they are shown, take back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web

from handlers.console.calls import Context, Routes, bad, checked, missing, session_id
from handlers.console.gate import VISITOR
from handlers.console.shapes_investigations import result_json, whole_result_json
from handlers.forms import as_download
from handlers.http import HttpProblem
from handlers.turns import refused
from service.core.model import SessionId
from service.core.tabular import csv_of
from service.engine.investigating import Investigations, Told

_ALL = "/api/sessions/{session}/results"
_ONE = f"{_ALL}/{{result}}"
_NAME = re.compile(r"[0-9a-z]{1,64}")
# It is opened as a page of its own by nobody who is not asked to.
_AS_IS = {
    "Content-Type": "application/json",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-store",
}


@dataclass(frozen=True, slots=True)
class Resulting:
    """Shows key results, and lets people decide which there are."""

    context: Context
    investigations: Investigations

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("GET", _ALL, self.list_all),
            ("GET", _ONE, self.one),
            ("PATCH", _ONE, self.show),
            ("DELETE", _ONE, self.hide),
            ("GET", f"{_ONE}/data", self.data),
            ("GET", f"{_ONE}/csv", self.csv),
        ]

    async def list_all(self, request: web.Request) -> web.Response:
        """The key results as they were promoted; with ?all=1 candidates, too."""
        session = (await self.context.session(request)).id
        given = request.query.get("all", "0")
        if given not in ("0", "1"):
            raise bad("all takes 1, for candidates, too, or 0")
        found = await self.investigations.results(session, candidates=given == "1")
        return web.json_response({"results": [result_json(one) for one in found]})

    async def one(self, request: web.Request) -> web.Response:
        """One of them with its data."""
        return web.json_response(whole_result_json(await self._told(request)))

    async def data(self, request: web.Request) -> web.Response:
        """The data of a result, byte for byte as it is stored."""
        session, name = _place(request)
        found = await self.investigations.data(session, name)
        if found is None:
            raise _no_result()
        return web.Response(body=found.encode(), headers=_AS_IS)

    async def csv(self, request: web.Request) -> web.Response:
        """A result that is a table, to be saved for a spreadsheet."""
        told = await self._told(request)
        if told.table is None:
            raise HttpProblem(409, "Conflict", "this result is no table; save its data instead")
        headers = as_download(_file_name(told), "text/csv")
        headers["Content-Type"] = "text/csv; charset=utf-8"
        return web.Response(body=csv_of(told.table).encode(), headers=headers)

    async def show(self, request: web.Request) -> web.Response:
        """Promote a candidate, or show a key result in another way."""
        session, name = _place(request)
        body = await self.context.object(request)
        by = request[VISITOR].name
        refusal = await checked(self.investigations.show(session, name, body, by=by))
        if refusal is not None:
            return refused(refusal)
        return web.json_response(result_json(await self._told(request)))

    async def hide(self, request: web.Request) -> web.Response:
        """Make a key result a candidate again: 204; its data stays."""
        session, name = _place(request)
        refusal = await self.investigations.hide(session, name, by=request[VISITOR].name)
        return web.Response(status=204) if refusal is None else refused(refusal)

    async def _told(self, request: web.Request) -> Told:
        session, name = _place(request)
        found = await self.investigations.result(session, name)
        if found is None:
            raise _no_result()
        return found


def _place(request: web.Request) -> tuple[SessionId, str]:
    """The session and the name of the path. Raises HttpProblem 404."""
    session, name = session_id(request), request.match_info["result"]
    if not _NAME.fullmatch(name):
        raise _no_result()
    return session, name


def _no_result() -> HttpProblem:
    return missing("result in this session")


def _file_name(told: Told) -> str:
    # A slash would end a folder.
    title = (told.result.title or told.result.name).replace("/", "-").replace("\\", "-")
    return f"{title}.csv"
