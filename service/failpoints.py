"""Named points at which a test may have this process killed; else they cost a comparison."""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("RINGBACK_KILL_AT", "")
_name, _, _times = _ARMED.partition("*")
_left = int(_times or 1)


def reach(point: str) -> None:
    """Die on the spot, as by `kill -9`, when RINGBACK_KILL_AT names this point.

    `name*3` means the third time.
    """
    global _left
    if point != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
