"""Raw updates as Telegram sends them, for tests."""

from __future__ import annotations

from typing import Any

BOT = 7000000001
USERNAME = "test_bot"
ANN = 501
BOB = 502
TEAM = -1001234567890

Raw = dict[str, Any]


def user(id_: int, **more: Any) -> Raw:
    """A person, or with `is_bot` a bot."""
    return {"id": id_, "is_bot": False, "first_name": f"User {id_}", **more}


def private(id_: int = ANN) -> Raw:
    """The chat of one person with the bot."""
    return {"id": id_, "first_name": f"User {id_}", "type": "private"}


def group(id_: int = TEAM) -> Raw:
    """A supergroup."""
    return {"id": id_, "title": "Team", "type": "supergroup"}


def message(
    text: str | None = None, *, sender: int = ANN, chat: Raw | None = None, **more: Any
) -> Raw:
    """An update with a message; by default from a private chat."""
    update = {
        "message_id": 12,
        "from": user(sender),
        "chat": chat or private(sender),
        "date": 1790000000,
        **more,
    }
    if text is not None:
        update["text"] = text
        if text.startswith("/") and "entities" not in more:
            update["entities"] = [command(text)]
    return {"update_id": 900001, "message": update}


def command(text: str) -> Raw:
    """The entity that Telegram puts on a command."""
    return {"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}


def mention(text: str, name: str = f"@{USERNAME}") -> Raw:
    """The entity that Telegram puts on a mention in `text`."""
    before = text[: text.index(name)].encode("utf-16-le")
    return {"type": "mention", "offset": len(before) // 2, "length": len(name)}


def photo(*sizes: int) -> list[Raw]:
    """A photo in sizes of so many bytes, by default in one."""
    return [
        {"file_id": f"photo-{size}", "width": size, "height": 1, "file_size": size}
        for size in sizes or (1000,)
    ]


def document(**more: Any) -> Raw:
    """A PDF file."""
    told = {"file_name": "plan.pdf", "mime_type": "application/pdf", "file_size": 2000}
    return {"file_id": "document", **told, **more}


def press(data: str | None, *, sender: int = ANN, chat: Raw | None = None, **more: Any) -> Raw:
    """An update with a pressed button under a message of the bot, which has that button."""
    button = {"text": "Button", "callback_data": data}
    markup = {"inline_keyboard": [[button]]}
    place = chat or private(sender)
    under = {"message_id": 3, "date": 0, "chat": place, "reply_markup": markup, **more}
    query = {"id": "4382bf", "from": user(sender), "message": under, "chat_instance": "1"}
    if data is not None:
        query["data"] = data
    return {"update_id": 900002, "callback_query": query}
