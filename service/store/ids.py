"""Identifiers that sort by the time they were made (UUID version 7, RFC 9562)."""

from __future__ import annotations

import os
import time

_SEQUENCE_BITS = 12
_last = 0


def new_id() -> str:
    """Return a fresh UUIDv7 as text; ids made by one process sort in the order they were made."""
    global _last
    stamp = (time.time_ns() // 1_000_000) << _SEQUENCE_BITS
    _last = stamp if stamp > _last else _last + 1
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    milliseconds, sequence = _last >> _SEQUENCE_BITS, _last & 0xFFF
    value = (milliseconds << 80) | (0x7 << 76) | (sequence << 64) | (0b10 << 62) | random
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
