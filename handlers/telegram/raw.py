"""Reading raw updates: what must be there is there, or it is bad input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.errors import BadInput

Raw = Mapping[str, Any]


def mapping(value: object, name: str) -> Raw:
    """The value as an object. Raises BadInput with its name."""
    if not isinstance(value, Mapping):
        raise BadInput(f"{name} is not an object")
    return value


def whole(of: Raw, name: str) -> int:
    """The whole number that `of` holds under the last part of a name. Raises BadInput."""
    value = of.get(name.rpartition(".")[2])
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInput(f"{name} is not a whole number")
    return value
