"""An agent whose tool runs for as long as a test wants it to."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from service.agents.definition import Agent

agent = Agent("patient", prompt="Do as you are told.")


@agent.tool
async def brew(what: str) -> str:
    """Brew something, until there is a file `go` beside the effects."""
    go = Path(os.environ["EFFECTS"]).with_name("go")
    while not await asyncio.to_thread(go.exists):
        await asyncio.sleep(0.02)
    return f"{what} is ready"
