"""What a server answered to a call, in words for the model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.agents.mcp.connection import Answer
from service.agents.mcp.values import cleaned
from service.core.text import clean

if TYPE_CHECKING:
    from mcp_types import (
        BlobResourceContents,
        CallToolResult,
        ContentBlock,
        TextResourceContents,
    )

_LONGEST_TEXT = 50_000
_LONGEST_DATA = 256 * 1024
_CUT = "\n[cut: the answer had {} characters]"
_DATA_LEFT_OUT = "[structured content that is too long or no plain JSON, left out]"


def answer(result: CallToolResult) -> Answer:
    """The result in one text and, if the tool gave structured content, as plain data."""
    parts = [_words(block) for block in result.content]
    data, shown = _data(result.structured_content)
    if shown is None:
        parts.append(_DATA_LEFT_OUT)
    elif not parts and data is not None:
        parts.append(shown)
    text = clean("\n".join(parts)) or "(The tool said nothing.)"
    return Answer(_cut(text), result.is_error, data)


def _words(block: ContentBlock) -> str:
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            return _left_out(block.type, block.data)
        case "resource_link":
            return f"[resource: {block.name} {block.uri}]"
        case "resource":
            return _file(block.resource)


def _file(file: TextResourceContents | BlobResourceContents) -> str:
    # By its attribute: the class would have to be imported.
    blob = getattr(file, "blob", None)
    return getattr(file, "text", "") if blob is None else _left_out("file", blob)


def _left_out(kind: str, base64: str) -> str:
    return f"[{kind}, {len(base64.rstrip('=')) * 3 // 4} bytes, left out]"


def _data(content: Any) -> tuple[Any, str | None]:
    """The structured content and its JSON; None twice when it cannot be kept."""
    if content is None:
        return None, ""
    data = cleaned(content)
    try:
        shown = json.dumps(data, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return None, None
    return (data, shown) if len(shown) <= _LONGEST_DATA else (None, None)


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    note = _CUT.format(len(text))
    return text[: _LONGEST_TEXT - len(note)] + note
