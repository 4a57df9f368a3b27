"""Group commit: what arrives while one transaction runs is written by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import sqlalchemy as sa

from service.errors import StoreDown
from service.store.database import Database

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_LARGEST = 200


class Groups(Generic[Item, Answer]):
    """Writes items of many callers in one transaction and answers each after its commit.

    `write` stores a group in the order it was submitted and returns one answer per item. When a
    group fails its items are tried one by one, so that only the one at fault fails.
    """

    def __init__(
        self,
        database: Database,
        write: Callable[[sa.Connection, Sequence[Item]], Sequence[Answer]],
    ) -> None:
        self._database = database
        self._write = write
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """Return the answer for `item` once it is committed."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="group-commit")
        return await future

    async def drain(self) -> None:
        """Return when everything submitted so far is written."""
        while self._running is not None:
            await asyncio.wait({self._running})

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = (
                    self._waiting[:_LARGEST],
                    self._waiting[_LARGEST:],
                )
                await self._commit(group)
        finally:
            self._running = None

    async def _commit(self, group: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._database.write(self._write, [item for item, _ in group])
        except Exception as error:
            # One by one would fare no better when the database itself is out.
            if len(group) > 1 and not isinstance(error, StoreDown):
                for one in group:
                    await self._commit([one])
                return
            for _, future in group:
                _fail(future, error)
            return
        for (_, future), answer in zip(group, answers, strict=True):
            if not future.done():
                future.set_result(answer)


def _fail(future: asyncio.Future[Answer], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        # Whoever submitted it may be gone; that is no news for the loop.
        future.exception()
