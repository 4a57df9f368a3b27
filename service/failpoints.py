"""What tests may do to this process: have it killed at a named point, or its leases end sooner.

Without them a point costs a comparison.
"""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("RINGBACK_KILL_AT", "")
_name, _, _times = _ARMED.partition("*")
_left = int(_times or 1)

LEASE_SECONDS = float(os.environ.get("RINGBACK_LEASE_SECONDS", "30"))
"""How long a lease lasts; a test that waits for its end has all processes agree on less."""


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
