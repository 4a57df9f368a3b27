"""The tools of one database: ask it, list its tables, find what a table may be called."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from service.agents.data import describe
from service.agents.data.source import Source
from service.agents.data.table import told
from service.agents.tools import Arguments, Outcome, Tool
from service.config import Data
from service.ports import Caller, ToolSpec

_SQL = {
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL; times are UTC",
}
# What is left to end a query, and to tell so, after its own time is up.
_GRACE = timedelta(seconds=10)
_LONGEST_WORDS = 200


class Toolset:
    """Makes the tools of a database, and is what they do."""

    def __init__(self, name: str, settings: Data, source: Source) -> None:
        self._name = name
        self._settings = settings
        self._source = source

    def tools(self) -> tuple[Tool, ...]:
        """NAME_query, NAME_tables and NAME_search."""
        about = f" {text}" if (text := self._settings.description.strip()) else ""
        dialect = _SQL[self._source.dialect]
        return (
            Tool(
                self._spec(
                    "query",
                    f"Read the database {self._name} with one SELECT statement ({dialect}).{about} "
                    f"A result has at most {self._settings.rows:,} rows; let the database count, "
                    "filter and aggregate.",
                    {"sql": {"type": "string", "description": "One SELECT or WITH … SELECT"}},
                    required="sql",
                    data=True,
                ),
                self._query,
            ),
            Tool(
                self._spec(
                    "tables",
                    f"List the tables of the database {self._name} with their columns.{about}",
                    {"table": {"type": "string", "description": "Only this one, in detail"}},
                ),
                self._tables,
            ),
            Tool(
                self._spec(
                    "search",
                    f"Find tables and columns of the database {self._name} by words in their "
                    "names and comments.",
                    {"words": {"type": "string", "maxLength": _LONGEST_WORDS}},
                    required="words",
                ),
                self._search,
            ),
        )

    def _spec(
        self,
        verb: str,
        description: str,
        properties: Mapping[str, Any],
        *,
        required: str | None = None,
        data: bool = False,
    ) -> ToolSpec:
        return ToolSpec(
            f"{self._name}_{verb}",
            description,
            {
                "type": "object",
                "properties": properties,
                "required": [required] if required else [],
                "additionalProperties": False,
            },
            idempotent=True,
            timeout=self._settings.timeout + _GRACE,
            data=data,
        )

    async def _query(self, arguments: Arguments, _: Caller) -> Outcome:
        # It may take a while: to parse, and to put much into words.
        sql = await asyncio.to_thread(self._checked, arguments["sql"])
        found = await self._source.query(sql)
        return Outcome(await asyncio.to_thread(told, found), found.data())

    async def _tables(self, arguments: Arguments, _: Caller) -> str:
        tables = await self._source.tables()
        if wanted := arguments.get("table"):
            return describe.one_table(tables, wanted)
        return describe.all_tables(tables, self._name)

    async def _search(self, arguments: Arguments, _: Caller) -> str:
        return describe.search(await self._source.tables(), arguments["words"])

    def _checked(self, sql: str) -> str:
        # The parser takes 0.7 s to import; a service without databases goes without.
        from service.agents.data.check import check

        return check(
            sql,
            dialect=self._source.dialect,
            schemas=self._settings.schemas,
            name=self._name,
        )
