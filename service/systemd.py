"""Tells systemd how the service is: ready, alive, stopping (the sd_notify protocol)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping


def notify(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send one state such as `READY=1`; nothing happens when systemd did not start us."""
    path = environ.get("NOTIFY_SOCKET")
    if not path:
        return
    # A leading @ stands for the abstract namespace.
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.sendall(state.encode())
        except OSError:
            # A missing listener must not stop the service from serving.
            return


async def watchdog(environ: Mapping[str, str] = os.environ) -> None:
    """Say twice per watchdog period that the event loop turns; return when nobody asked."""
    period = environ.get("WATCHDOG_USEC", "")
    if not period.isdigit() or int(period) == 0:
        return
    while True:
        notify("WATCHDOG=1", environ)
        await asyncio.sleep(int(period) / 2_000_000)
