"""Somebody on whose behalf a tool runs in a test."""

from __future__ import annotations

import json
from typing import Any

from service.agents.tools import Tool
from service.core.model import Origin, SessionId, TurnId, Voice, VoiceId
from service.core.state import State
from service.ports import Caller, ToolCall, ToolResult


def voice(
    *,
    agent: str = "assistant",
    provider: str = "offline",
    model: str = "echo",
    tools: tuple[str, ...] = (),
) -> Voice:
    """A voice of a session."""
    return Voice(VoiceId("v1"), "Assistant", agent, provider, model, "", tools)


def caller(**fields: Any) -> Caller:
    """A person's turn; every field can be set."""
    values: dict[str, Any] = {
        "session": SessionId("s1"),
        "turn": TurnId("t1"),
        "voice": voice(),
        "origin": Origin.PERSON,
        "author": "telegram:7",
        "key": "t1.1.0",
        "state": State(),
        "knobs": State(),
        **fields,
    }
    return Caller(**values)


async def run(tool: Tool, arguments: Any = None, on_behalf_of: Caller | None = None) -> ToolResult:
    """Call a tool, with these arguments as a model would write them."""
    call = ToolCall("call-1", tool.spec.name, json.dumps(arguments or {}))
    return await tool.run(call, on_behalf_of or caller())
