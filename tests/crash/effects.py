"""An agent whose tools leave a line in a file for every time they really run."""

from __future__ import annotations

import os
from pathlib import Path

from service.agents.definition import Agent, Context
from service.core.state import State

agent = Agent("effects", prompt="Do as you are told.")


@agent.tool(idempotent=True)
def look(context: Context, step: int) -> str:
    """Look at something; looking again does no harm."""
    return _leave(context, "look", step)


@agent.tool
def act(context: Context, step: int) -> str:
    """Do something that must not be done twice."""
    context.state["acted"] = [*context.state.get("acted", []), step]
    return _leave(context, "act", step)


@agent.tool(approval=True)
def launch(context: Context, step: int) -> str:
    """Do something that a person has to agree to."""
    return _leave(context, "launch", step)


@agent.section("Acted")
def acted(state: State) -> str:
    """Show what has been done."""
    return " ".join(map(str, state.get("acted", ())))


def _leave(context: Context, tool: str, step: int) -> str:
    with Path(os.environ["EFFECTS"]).open("a", encoding="utf-8") as file:
        file.write(f"{tool} {step} {context.key}\n")
    return f"{tool} {step} done"
