"""What goes wrong on purpose: refusals, broken connections, silence, answers without sense."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.demo.bot_api.refusal import Json

ANY = "*"
BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head></html>"


@dataclass
class Fault:
    """What becomes of the next calls of a method instead of, or after, their effect."""

    status: int = 0
    description: str = ""
    parameters: Mapping[str, int] = field(default_factory=dict)
    apply: bool = False
    drop: bool = False
    stall: float = 0.0
    body: bytes | None = None
    times: int = 1
    chat: int | None = None
    """Only calls to this chat, when it is given."""


class Faults:
    """The faults to come, by method, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._by_method: dict[str, list[Fault]] = {}

    def add(self, method: str, fault: Fault) -> None:
        """Have something happen to the next calls of a method, or of any method ("*")."""
        self._by_method.setdefault(method.lower(), []).append(fault)

    def take(self, method: str, params: Json) -> Fault | None:
        """What happens to this call; None when nothing does."""
        for name in (method.lower(), ANY):
            for fault in self._by_method.get(name, []):
                if fault.chat is None or str(fault.chat) == str(params.get("chat_id")):
                    return self._used(name, fault)
        return None

    def clear(self) -> None:
        """Forget all faults to come."""
        self._by_method.clear()

    def _used(self, method: str, fault: Fault) -> Fault:
        fault.times -= 1
        if fault.times <= 0:
            self._by_method[method].remove(fault)
        return fault


class Done:
    """What is done already, so nobody has to await it: from another process one has to."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


DONE = Done()
