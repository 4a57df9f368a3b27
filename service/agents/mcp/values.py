"""Plain JSON values from models and servers, made fit for sending and storage."""

from __future__ import annotations

from typing import Any

from service.core.text import clean


def cleaned(value: Any) -> Any:
    """Return the value with every text in it, also of keys, cleaned."""
    match value:
        case str():
            return clean(value)
        case list():
            return [cleaned(one) for one in value]
        case dict():
            return {clean(key): cleaned(one) for key, one in value.items()}
        case _:
            return value
