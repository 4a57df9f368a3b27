"""What a server answered to a call, in words for the model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.agents.mcp.connection import Answer
from service.config import MOST_DATA
from service.core.text import clean, cleaned

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


def answer(result: CallToolResult, *, data: bool = False) -> Answer:
    """The result in one text and, if the tool gave structured content, as plain data.

    The `data` of a tool that is to find some may be longer, and be in its words instead.
    """
    parts = [_words(block) for block in result.content]
    content, shown = _data(result.structured_content, MOST_DATA if data else _LONGEST_DATA)
    if data and content is None and not result.is_error:
        content = _data_in("\n".join(parts))
    if shown is None:
        parts.append(_DATA_LEFT_OUT)
    elif not parts and content is not None:
        parts.append(shown)
    text = clean("\n".join(parts)) or "(The tool said nothing.)"
    return Answer(_cut(text), result.is_error, content)


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


def _data(content: Any, longest: int) -> tuple[Any, str | None]:
    """The structured content and its JSON; None twice when it cannot be kept."""
    if content is None:
        return None, ""
    data = cleaned(content)
    try:
        shown = json.dumps(data, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return None, None
    return (data, shown) if len(shown) <= longest else (None, None)


def _data_in(text: str) -> Any:
    """The object or list that the text is; None when it is none."""
    try:
        data = json.loads(text, parse_constant=_no_constant)
        return cleaned(data) if isinstance(data, (dict, list)) else None
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    note = _CUT.format(len(text))
    return text[: _LONGEST_TEXT - len(note)] + note
