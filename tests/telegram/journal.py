"""A journal in memory that keeps its parts like the engine's, and loses its lease on demand."""

from __future__ import annotations

from collections.abc import Sequence

from service.core.model import Part
from service.errors import Fenced


class MemoryJournal:
    """What several attempts at one delivery have noted."""

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self._parts = {part.number: part for part in parts}
        self.history: list[tuple[str, int]] = []
        self.fenced = False

    @property
    def parts(self) -> Sequence[Part]:
        """The messages so far, by number."""
        return [self._parts[number] for number in sorted(self._parts)]

    def check(self) -> None:
        """Raise Fenced once the lease is lost."""
        if self.fenced:
            raise Fenced("the lease ran out")

    async def opening(self, number: int) -> None:
        """Note an intention."""
        self.check()
        self.history.append(("opening", number))
        self._parts.setdefault(number, Part(number, None))

    async def opened(self, number: int, external_id: str) -> None:
        """Note an id."""
        self.check()
        self.history.append(("opened", number))
        self._parts[number] = Part(number, external_id)

    async def forget(self, number: int) -> None:
        """Drop what was surely not opened."""
        self.check()
        self.history.append(("forget", number))
        self._parts.pop(number, None)
