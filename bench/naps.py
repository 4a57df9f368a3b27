"""An agent with a tool that sleeps, to be stopped in the middle of it."""

from __future__ import annotations

import asyncio

from service.agents.definition import Agent, Context

agent = Agent("napper")


@agent.tool
async def nap(_context: Context) -> str:
    """Sleep for a minute."""
    await asyncio.sleep(60)
    return "Slept."
