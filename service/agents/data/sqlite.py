"""SQLite files: opened for reading only, in threads of their own, ended when time is up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import TypeVar

import structlog

from service.agents.data import source
from service.agents.data.functions import FUNCTIONS
from service.agents.data.source import Column, Table
from service.agents.data.table import Found, Taking
from service.config import Data
from service.errors import BadInput

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_Result = TypeVar("_Result")

_AT_ONCE = 2
# Between two looks at the clock; some 0.1 ms.
_STEPS = 10_000
_LONGEST_VALUE = 1_000_000
_LONGEST_PATTERN = 1_000
_LONGEST_WAIT_FOR_WRITER = 2.0
_HARMLESS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})
_CATALOGUE = "sqlite_master"
# What full-text search asks for inside.
_HARMLESS_PRAGMAS = frozenset({"data_version"})
_FUNCTIONS = FUNCTIONS["sqlite"]


class Sqlite:
    """Implements `Source`. Every query has a connection of its own, so nothing stays behind."""

    dialect: source.Dialect = "sqlite"

    def __init__(self, name: str, file: Path, settings: Data) -> None:
        self._name = name
        self._uri = f"{file.absolute().as_uri()}?mode=ro"
        self._settings = settings
        self._seconds = settings.timeout.total_seconds()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"data-{name}")
        self._watches: set[_Watch] = set()

    async def query(self, sql: str) -> Found:
        """Implement `Source`."""
        return await self._run(lambda watch: self._queried(sql, watch))

    async def tables(self) -> Sequence[Table]:
        """Implement `Source`."""
        return await self._run(self._described)

    async def close(self) -> None:
        """Implement `Source`."""
        for watch in self._watches:
            watch.cancelled = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[_Watch], _Result]) -> _Result:
        """Run in a thread, which ends soon after nobody waits for it any more."""
        watch = _Watch(monotonic() + self._seconds)
        self._watches.add(watch)
        running = asyncio.get_running_loop().run_in_executor(self._threads, work, watch)
        try:
            # A function that takes long inside cannot be ended; nobody has to wait for it.
            async with asyncio.timeout(self._seconds + 0.5):
                return await running
        except TimeoutError as error:
            raise source.too_late(self._seconds) from error
        finally:
            watch.cancelled = True
            self._watches.discard(watch)

    # -- in a thread ------------------------------------------------------------------------------

    def _queried(self, sql: str, watch: _Watch) -> Found:
        guard = _Guard()
        with self._connection(watch, guard) as connection:
            cursor = connection.execute(sql)
            columns = [column[0] for column in cursor.description or ()]
            if len(columns) > source.MOST_COLUMNS:
                raise source.too_wide()
            taking = Taking(columns, rows=self._settings.rows, size=self._settings.bytes)
            for row in cursor:
                if not taking.add(row):
                    break
            found = taking.found()
        if found.truncated and not found.rows:
            raise source.too_large(1)
        return found

    def _described(self, watch: _Watch) -> Sequence[Table]:
        with self._connection(watch, None) as connection:
            listed = connection.execute(
                "SELECT name, type, sql LIKE '%WITHOUT%ROWID%' FROM main.sqlite_schema "
                "WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
                "ORDER BY name LIMIT ?",
                (source.MOST_TABLES,),
            ).fetchall()
            return [_table(connection, *one) for one in listed]

    @contextmanager
    def _connection(self, watch: _Watch, guard: _Guard | None) -> Iterator[sqlite3.Connection]:
        """Open the file; what the database says is put into words for the model."""
        try:
            with closing(self._opened()) as connection:
                if guard is not None:
                    connection.set_authorizer(guard)
                connection.set_progress_handler(watch, _STEPS)
                yield connection
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._problem(error, watch, guard) from error

    def _opened(self) -> sqlite3.Connection:
        wait = min(self._seconds, _LONGEST_WAIT_FOR_WRITER)
        connection = sqlite3.connect(self._uri, uri=True, timeout=wait, isolation_level=None)
        try:
            connection.text_factory = _text
            connection.setlimit(
                sqlite3.SQLITE_LIMIT_LENGTH, max(self._settings.bytes, _LONGEST_VALUE)
            )
            connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _LONGEST_PATTERN)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            connection.close()
            raise
        return connection

    def _problem(self, error: Exception, watch: _Watch, guard: _Guard | None) -> BadInput:
        if watch.over:
            return source.too_late(self._seconds)
        if guard is not None and guard.refused:
            return BadInput(f"The database refused it: {guard.refused} is not allowed here.")
        told = str(error)
        if told.startswith(("no such table", "no such column", "ambiguous column")):
            return source.unknown_name(self._name, told)
        if "too big" in told:
            return BadInput("A value of the query is too large. Take the beginning: substr(…).")
        code = getattr(error, "sqlite_errorcode", None)
        if code is None or code & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH):
            return BadInput(f"The database refused it: {told}. Correct the statement.")
        log.warning("data.unreachable", source=self._name, reason=told)
        return source.unreachable(self._name, told)


class _Watch:
    """Ends a query when its time is up, or nobody waits for it."""

    def __init__(self, until: float) -> None:
        self._until = until
        self.cancelled = False

    @property
    def over(self) -> bool:
        return self.cancelled or monotonic() > self._until

    def __call__(self) -> int:
        """Whether SQLite shall stop."""
        return int(self.over)


class _Guard:
    """SQLite's own word on what a statement does, whatever it looked like."""

    def __init__(self) -> None:
        self.refused = ""

    def __call__(
        self, action: int, first: str | None, second: str | None, _: str | None, __: str | None
    ) -> int:
        if _allowed(action, first or "", second or ""):
            return sqlite3.SQLITE_OK
        self.refused = self.refused or f"{second or first or 'what it does'!r}"
        return sqlite3.SQLITE_DENY


def _allowed(action: int, first: str, second: str) -> bool:
    match action:
        case sqlite3.SQLITE_READ:
            # Of a table that is made of a function, such as json_each, it looks for a row.
            inside = (first, second) == (_CATALOGUE, "ROWID")
            return inside or not first.lower().startswith("sqlite_")
        case sqlite3.SQLITE_UPDATE:
            # It pretends to make such a table. Nobody else gets through: the file is read-only.
            return first == _CATALOGUE
        case sqlite3.SQLITE_FUNCTION:
            return second.lower() in _FUNCTIONS
        case sqlite3.SQLITE_PRAGMA:
            return first.lower() in _HARMLESS_PRAGMAS
        case _:
            return action in _HARMLESS


def _text(stored: bytes) -> str:
    """SQLite does not check that texts are UTF-8."""
    return stored.decode("utf-8", "replace")


def _table(connection: sqlite3.Connection, name: str, kind: str, without_rowid: int) -> Table:
    view = kind == "view"
    quoted = name.replace('"', '""')
    foreign = {
        row[3]: f"{row[2]}.{row[4] or '(its key)'}"
        for row in connection.execute(f'PRAGMA main.foreign_key_list("{quoted}")')
    }
    columns = tuple(
        Column(row[1], row[2].lower() or "any", bool(row[3]), bool(row[5]), foreign.get(row[1]))
        for row in connection.execute(f'PRAGMA main.table_info("{quoted}")')
    )
    rows = None if view or without_rowid else _highest_row(connection, quoted)
    return Table(name, columns, view, rows)


def _highest_row(connection: sqlite3.Connection, quoted: str) -> int | None:
    """About how many rows there are: counting them would read the whole table."""
    try:
        row = connection.execute(f'SELECT max(rowid) FROM main."{quoted}"').fetchone()  # noqa: S608
    except sqlite3.OperationalError:
        return None
    return row[0] if isinstance(row[0], int) else 0
