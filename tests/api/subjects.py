"""Agents written in Python for the tests of the API."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from service.agents.definition import Agent, Context
from service.core.knobs import Number, Select

agent = Agent("worker", prompt="Work.")
agent.knob(Select(name="pace", description="How fast.", default="fast", options=("fast", "slow")))
agent.knob(Number(name="depth", description="How deep.", default=3, minimum=1, maximum=9))

inside: dict[str, asyncio.Event] = {}
let_go: dict[str, asyncio.Event] = {}


@agent.tool
async def note(context: Context, text: str) -> str:
    """Note something."""
    context.state["notes"] = [*context.state.get("notes", []), text]
    return "Noted."


@agent.tool(timeout=timedelta(seconds=30))
async def work(name: str) -> str:
    """Wait inside until the test lets go."""
    inside[name].set()
    await let_go[name].wait()
    return "Worked."


@agent.tool(approval=True, outward=True)
async def send(to: str) -> str:
    """Send something, if somebody agrees."""
    return f"Sent to {to}."
