"""Tools that read databases: one SELECT at a time, on SQLite and PostgreSQL, and never a write.

A statement meets three walls: a parser that refuses everything it does not know to be harmless
(`check`), a connection that cannot write (`sqlite`, `postgresql`), and caps on time, rows and bytes
while its result is fetched (`table`). Whatever goes wrong tells the model what to change, and
nothing of where the database is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from importlib import import_module

from service.agents.data.source import Source
from service.agents.data.toolset import Toolset
from service.agents.tools import Tool
from service.config import Data

_CHECK = "service.agents.data.check"


class DataSources:
    """The configured databases; each is connected to when it is asked something."""

    def __init__(self, settings: Mapping[str, Data]) -> None:
        self._sources = {name: _source(name, one) for name, one in settings.items()}
        self._tools = {
            name: Toolset(name, settings[name], source).tools()
            for name, source in self._sources.items()
        }

    @property
    def names(self) -> frozenset[str]:
        """The configured databases."""
        return frozenset(self._sources)

    def tools(self, name: str) -> Sequence[Tool]:
        """NAME_query, NAME_tables and NAME_search; nothing for a database that is not there."""
        return self._tools.get(name, ())

    async def open(self) -> None:
        """Import now what no query should wait for. No database needs to be there yet."""
        if self._sources:
            await asyncio.to_thread(import_module, _CHECK)

    async def close(self) -> None:
        """End what runs, and close every connection."""
        for source in self._sources.values():
            await source.close()


def _source(name: str, settings: Data) -> Source:
    if settings.file is not None:
        from service.agents.data.sqlite import Sqlite

        return Sqlite(name, settings.file, settings)
    from service.agents.data.postgresql import Postgresql

    return Postgresql(name, settings)
