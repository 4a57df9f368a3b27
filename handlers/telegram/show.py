"""What a reader of a turn sees in Telegram, while it grows and when it is over."""

from __future__ import annotations

from collections.abc import Iterator

from handlers.telegram.literal import plain
from handlers.telegram.markup import Rich, italic, joined, render, render_unfinished
from service.core.reply import ReplyView, TurnView
from service.core.states import ReplyState, ToolState, TurnState
from service.core.text import clean

PLACEHOLDER = Rich("…")

_EMPTY = "The answer is empty."
_FAILED = "The agent failed."
_WAITING = "⏳ Waiting for an answer…"


def growing(view: TurnView) -> Rich:
    """The words so far, and below them what the agent is busy with; may be blank."""
    return joined(render_unfinished(_words(view)), Rich(_busy(view)))


def paused(view: TurnView) -> Rich:
    """The words so far of a reply that waits for a person; blank when there are none."""
    words = render_unfinished(_words(view))
    return joined(words, Rich(_WAITING)) if words.text else words


def ended(view: TurnView) -> Rich:
    """The whole reply with how it ended, if that was not well; never blank."""
    words = render(_words(view))
    match view.state:
        case TurnState.STOPPED:
            return joined(words, italic("(stopped)"))
        case TurnState.FAILED if not _named(view):
            return joined(words, Rich(f"⚠️ {clean(view.error or _FAILED)}"))
    return words if words.text else italic(_EMPTY)


def steps(view: TurnView) -> int:
    """How many tool calls have begun or ended."""
    tools = [tool for reply in view.replies for tool in reply.tools]
    return len(tools) + sum(tool.state is not ToolState.RUNNING for tool in tools)


def _words(view: TurnView) -> str:
    if len(view.replies) == 1:
        return view.replies[0].text
    return "\n\n".join(_paragraphs(view))


def _paragraphs(view: TurnView) -> Iterator[str]:
    """What each voice said under its name, the rounds divided from each other."""
    shown = 1
    for reply in view.replies:
        words = _of_voice(reply)
        if not words:
            continue
        if reply.round > shown:
            shown = reply.round
            yield f"— Round {shown} —"
        yield f"**{plain(reply.name)}**\n\n{words}"


def _of_voice(reply: ReplyView) -> str:
    error = f"⚠️ {plain(reply.error or _FAILED)}" if reply.state is ReplyState.ERROR else ""
    return "\n\n".join(filter(None, (reply.text, error)))


def _named(view: TurnView) -> bool:
    """Whether it can be read already at the voices why it failed."""
    failed = any(reply.state is ReplyState.ERROR for reply in view.replies)
    return len(view.replies) > 1 and failed


def _busy(view: TurnView) -> str:
    names = [
        tool.tool
        for reply in view.replies
        for tool in reply.tools
        if tool.state is ToolState.RUNNING
    ]
    return f"⚙ {', '.join(dict.fromkeys(names))}…" if names else ""
