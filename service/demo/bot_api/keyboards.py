"""The buttons under a message: what the server refuses."""

from __future__ import annotations

from service.demo.bot_api.refusal import Json, Refused

_LONGEST_DATA = 64
_ACTIONS = frozenset(
    {
        *("callback_data", "url", "copy_text", "web_app", "login_url", "pay", "callback_game"),
        *("switch_inline_query", "switch_inline_query_current_chat", "disabled"),
        "switch_inline_query_chosen_chat",
    }
)


def inline_keyboard(params: Json) -> Json | None:
    """The inline keyboard of a call; None when there are no buttons. Raises Refused."""
    markup = params.get("reply_markup")
    if markup is None:
        return None
    if not isinstance(markup, dict):
        raise Refused(400, "object expected as reply markup")
    rows = markup.get("inline_keyboard")
    if not rows:
        # Other keyboards belong to the chat, not to the message.
        return None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise Refused(400, "can't parse reply keyboard markup JSON object")
    for row in rows:
        for button in row:
            _check(button)
    return {"inline_keyboard": rows}


def _check(button: object) -> None:
    if not isinstance(button, dict) or not button.get("text"):
        raise Refused(400, "can't parse inline keyboard button: text is needed")
    if not _ACTIONS & button.keys():
        raise Refused(400, "Text buttons are unallowed in the inline keyboard")
    data = button.get("callback_data")
    if data is not None and not 0 < len(str(data).encode()) <= _LONGEST_DATA:
        raise Refused(400, "BUTTON_DATA_INVALID")
