"""Paces and waiting times for tests: as the real ones, but in milliseconds."""

from __future__ import annotations

from datetime import timedelta

from handlers.telegram.send import SendTimes
from service.core.pacing import Pace

MOMENT = timedelta(milliseconds=10)
EAGER = Pace(
    refill=timedelta(milliseconds=1),
    burst=100,
    edit=MOMENT,
    slowest_edit=MOMENT * 2,
    worthwhile=(1, 1, 1),
    patience=MOMENT,
    cool_down=MOMENT,
)
TIMES = SendTimes(
    grace=MOMENT * 2,
    typing=MOMENT * 5,
    patience=timedelta(seconds=2),
    first_retry=MOMENT,
    last_retry=MOMENT * 3,
)
