"""The service put together: configuration to objects, start order, stop order."""

from __future__ import annotations

from datetime import timedelta

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_DELIVERIES_AT_ONCE = 64
# After the turns have ended or were handed over, their last words get this long to leave.
_LAST_WORDS = timedelta(seconds=5)
