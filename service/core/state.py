"""What a session remembers between its turns: JSON values by name, and which of them changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from service.core.text import clean, cleaned
from service.errors import BadInput

LONGEST_KEY = 200
MOST_BYTES = 256 * 1024


class State(MutableMapping[str, Any]):
    """JSON values by name; notes what has changed since it was last stored.

    Only assignments count as changes: values come out as copies, so that changing one in place
    does nothing. None takes a value away. Raises BadInput for what cannot be stored.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = dict(values or {})
        self._changed: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        return copy.deepcopy(self._values[key])

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY:
            raise BadInput(f"state: a name has 1 to {LONGEST_KEY} characters")
        if key != clean(key):
            # Replaced, two names could become one.
            raise BadInput("state: a name must not hold U+0000 or half of a surrogate pair")
        if value is None:
            if self._values.pop(key, None) is not None:
                self._changed.add(key)
            return
        plain = _plain(key, value)
        if key not in self._values or self._values[key] != plain:
            self._values[key] = plain
            self._changed.add(key)

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._changed.add(key)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"State({', '.join(sorted(self._values))})"

    @property
    def changed(self) -> bool:
        """Whether something is not stored yet."""
        return bool(self._changed)

    def changes(self) -> dict[str, Any | None]:
        """The changed values by name, None for those that are gone; they stay changed."""
        return {key: self._values.get(key) for key in sorted(self._changed)}

    def stored(self, values: Mapping[str, Any]) -> None:
        """Take over what the database holds, once the changes are part of it."""
        self._values = dict(values)
        self._changed.clear()


def _plain(key: str, value: Any) -> Any:
    """`value` as it will come back from the database."""
    try:
        text = json.dumps(value, allow_nan=False)
        plain = cleaned(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"state.{key}: only plain JSON can be kept ({error})") from error
    if len(text) > MOST_BYTES:
        raise BadInput(f"state.{key}: at most {MOST_BYTES // 1024} KiB can be kept under one name")
    return plain
