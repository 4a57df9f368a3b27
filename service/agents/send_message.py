"""The tool with which an agent tells something to one of the places the operator named for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.agents.tools import Arguments, Outcome, Tool
from service.core.model import Address, Channel
from service.engine.controls import Controls
from service.errors import BadInput
from service.ports import Caller, ToolSpec

NAME = "send_message"
"""Of the tool, also in the configuration."""
LONGEST = 4000

# In the inbox, whose keys are unique within channel and source: no caller of the API can take one.
_SOURCE = "tool"


def send_message_tool(controls: Callable[[], Controls], addresses: Mapping[str, Address]) -> Tool:
    """Make the tool of an agent that may write to `addresses`, by name, of which it has some.

    A message is stored once for each call, also when the call is made again after a crash; from
    then on the outbox brings it there. The controls are asked for when the tool is called: they
    are made after the agents.
    """
    spec = ToolSpec(
        NAME,
        "Send a message, written in Markdown, to one of the places you may write to: "
        f"{', '.join(addresses)}. The answer you give here is told here anyway: do not send it.",
        {
            "type": "object",
            "properties": {
                "to": {"type": "string", "enum": list(addresses)},
                # Its length is checked below: a schema's complaint would quote all of it.
                "text": {"type": "string", "description": f"1 to {LONGEST} characters."},
            },
            "required": ["to", "text"],
            "additionalProperties": False,
        },
        idempotent=True,
        outward=True,
    )
    return Tool(spec, _Send(controls, addresses))


@dataclass(frozen=True, slots=True)
class _Send:
    controls: Callable[[], Controls]
    addresses: Mapping[str, Address]

    async def __call__(self, arguments: Arguments, caller: Caller) -> Outcome:
        to, text = arguments["to"], arguments["text"].strip()
        if not 0 < len(text) <= LONGEST:
            raise BadInput(f"text: write 1 to {LONGEST} characters; these are {len(text)}")
        async with self.controls().command(
            channel=Channel.CONSOLE, source=_SOURCE, event_key=caller.key, body=text.encode()
        ) as command:
            # Without a command this very call stored its message before a crash.
            if command is not None:
                await command.notice(self.addresses[to], text)
        return Outcome(f"The message to {to} is on its way.", {"to": to})
