"""A notepad: an agent written in Python, with state its model sees and knobs people may turn."""

from __future__ import annotations

from service.agents.definition import Agent, Context, SectionContext
from service.core.knobs import Select, Toggle

agent = Agent("notepad", prompt="You keep a notepad for the person you talk with.")

agent.knob(
    Select(
        name="style",
        description="How notes are listed.",
        options=("numbered", "bulleted"),
        default="numbered",
    )
)
agent.knob(Toggle(name="hidden", description="Hide the notes for this one turn.", momentary=True))


@agent.tool
def add_note(context: Context, text: str) -> str:
    """Write a note on the notepad.

    Args:
        text: What to write down.
    """
    pages = [*context.state.get("pages", []), text]
    context.state["pages"] = pages
    return f"Noted as number {len(pages)}."


@agent.tool(idempotent=True)
def read_note(context: Context, number: int) -> str:
    """Read one note aloud.

    Args:
        number: Its number, from 1.
    """
    pages = context.state.get("pages", [])
    return pages[number - 1] if 0 < number <= len(pages) else f"There is no note {number}."


@agent.section("Notepad")
def notepad(context: SectionContext) -> str | None:
    """Show the notes, unless they are hidden."""
    if context.knobs["hidden"]:
        return None
    numbered = context.knobs["style"] == "numbered"
    pages = enumerate(context.state.get("pages", []), start=1)
    return "\n".join(f"{number}. {text}" if numbered else f"- {text}" for number, text in pages)
