"""An agent in Python for the tests of the catalog."""

from __future__ import annotations

from service.agents.definition import Agent, Context, SectionContext
from service.core.knobs import Number, Select, Toggle
from service.core.state import State

agent = Agent("notepad", prompt="Keep notes.")
clashing = Agent("clashing")
plain = Agent("plain")

agent.knob(Toggle(name="brief", description="Say little."))
agent.knob(
    Select(name="tone", description="How to say it.", default="dry", options=("dry", "warm"))
)
agent.knob(Number(name="level", description="How loud.", default=3, maximum=9, model_may_set=False))


@agent.tool(idempotent=True)
def note(context: Context, text: str) -> str:
    """Write down a note."""
    context.state["noted"] = [*context.state.get("noted", []), text]
    return f"Noted for {context.agent}."


@agent.section("Noted")
def noted(state: State) -> str | None:
    """Show the notes; to change the state here is no change of it."""
    state["shown"] = True
    return ", ".join(state.get("noted", []))


@agent.section("Broken")
def broken(context: SectionContext) -> str:
    """Fail when asked to."""
    return "" if not context.state.get("break") else str(1 // 0)


@agent.section("Odd")
def odd(state: State) -> str | None:
    """Show whatever is there."""
    return state.get("odd")


@clashing.tool
def dice() -> str:
    """Take the name of a built-in tool."""
    return "mine"


@clashing.tool
def set_knob() -> str:
    """Take the name of the tool that comes with knobs."""
    return "mine"


clashing.knob(Toggle(name="brief", description="Say little."))
