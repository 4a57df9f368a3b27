"""The chats of the local Bot API server: messages, their texts and entities, as people see them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

LONGEST_TEXT = 4096
_MOST_ENTITIES = 100
_LONGEST_DATA = 64
_ENTITY_TYPES = frozenset(
    {
        *("mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number"),
        *("bold", "italic", "underline", "strikethrough", "spoiler", "code", "pre"),
        *("blockquote", "expandable_blockquote", "text_link", "text_mention", "custom_emoji"),
    }
)


class Refused(Exception):
    """The server says no: the status, the description after its prefix, and parameters."""

    def __init__(self, status: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.parameters = parameters


@dataclass
class Message:
    """One message and everything it ever said."""

    id: int
    chat: int
    sender: Json
    text: str
    date: int
    entities: list[Json] = field(default_factory=list)
    topic: int | None = None
    reply_to: int | None = None
    reply_markup: Json | None = None
    edited: int | None = None
    history: list[str] = field(default_factory=list)
    """Every text it had, oldest first; the last one is what people read now."""
    markups: list[bool] = field(default_factory=list)
    """Whether it had buttons, beside each text of the history."""


@dataclass
class Chat:
    """One chat: people are positive numbers, groups negative ones."""

    id: int
    title: str = ""
    forum: bool = False
    topics: set[int] = field(default_factory=set)
    blocked: bool = False
    moved_to: int | None = None
    messages: dict[int, Message] = field(default_factory=dict)
    deleted: list[int] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    last_id: int = 0

    @property
    def private(self) -> bool:
        """Whether it is one person's chat with the bot."""
        return self.id > 0

    def as_json(self) -> Json:
        """The chat as the API tells it."""
        if self.private:
            return {"id": self.id, "type": "private", "first_name": self.title or "Ann"}
        chat: Json = {"id": self.id, "type": "supergroup", "title": self.title or "Team"}
        return {**chat, "is_forum": True} if self.forum else chat


@dataclass
class Chats:
    """Every chat the bot may write to."""

    bot: Json
    by_id: dict[int, Chat] = field(default_factory=dict)

    def open(self, chat: int, **fields: Any) -> Chat:
        """The chat, made when somebody writes in it for the first time."""
        if chat not in self.by_id:
            self.by_id[chat] = Chat(chat, **fields)
        return self.by_id[chat]

    def reachable(self, params: Mapping[str, Any]) -> Chat:
        """The chat a call names. Raises Refused when the bot cannot write there."""
        if params.get("chat_id") in (None, ""):
            raise Refused(400, "chat_id is empty")
        try:
            chat = self.by_id[int(params["chat_id"])]
        except (KeyError, ValueError):
            raise Refused(400, "chat not found") from None
        if chat.moved_to is not None:
            raise Refused(
                400,
                "group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=chat.moved_to,
            )
        if chat.blocked:
            who = "by the user" if chat.private else "from the group chat"
            raise Refused(403, f"bot was {'blocked' if chat.private else 'kicked'} {who}")
        topic = params.get("message_thread_id")
        if topic is not None and int(topic) not in chat.topics:
            raise Refused(400, "message thread not found")
        return chat

    def add(
        self,
        chat: Chat,
        sender: Json,
        text: str,
        entities: Sequence[Json] = (),
        **fields: Any,
    ) -> Message:
        """Put a message at the end of a chat."""
        chat.last_id += 1
        message = Message(
            chat.last_id, chat.id, sender, text, int(time.time()), list(entities), **fields
        )
        message.history.append(text)
        message.markups.append(message.reply_markup is not None)
        chat.messages[message.id] = message
        return message

    def as_json(self, message: Message) -> Json:
        """The message as the API tells it."""
        chat = self.by_id[message.chat]
        told: Json = {
            "message_id": message.id,
            "from": message.sender,
            "chat": chat.as_json(),
            "date": message.date,
            "text": message.text,
        }
        if message.entities:
            told["entities"] = message.entities
        if message.topic is not None:
            told |= {"message_thread_id": message.topic, "is_topic_message": True}
        if message.reply_to in chat.messages:
            told["reply_to_message"] = self.as_json(chat.messages[message.reply_to])
        if message.reply_markup and "inline_keyboard" in message.reply_markup:
            told["reply_markup"] = message.reply_markup
        if message.edited is not None:
            told["edit_date"] = message.edited
        return told


def checked_text(params: Mapping[str, Any], *, edit: bool = False) -> tuple[str, list[Json]]:
    """Text and entities as they will be shown. Raises Refused as the real server does."""
    text = str(params.get("text") or "")
    if not text.strip():
        raise Refused(400, "message text is empty")
    units = utf16_length(text)
    if units > LONGEST_TEXT:
        raise Refused(400, "MESSAGE_TOO_LONG" if edit else "message is too long")
    entities = params.get("entities") or []
    if not isinstance(entities, list):
        raise Refused(400, "can't parse entities: an array is expected")
    return text, [_checked_entity(one, units) for one in entities[:_MOST_ENTITIES]]


def checked_markup(params: Mapping[str, Any]) -> Json | None:
    """The keyboard of a call. Raises Refused when a button cannot be."""
    markup = params.get("reply_markup")
    if not isinstance(markup, dict) or not markup.get("inline_keyboard"):
        return None
    for row in markup["inline_keyboard"]:
        for button in row:
            data = str(button.get("callback_data", ""))
            if "url" not in button and not 0 < len(data.encode()) <= _LONGEST_DATA:
                raise Refused(400, "BUTTON_DATA_INVALID")
    return markup


def utf16_length(text: str) -> int:
    """The length Telegram counts: UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _checked_entity(entity: Json, units: int) -> Json:
    if entity.get("type") not in _ENTITY_TYPES:
        raise Refused(400, "can't parse entities: unknown entity type")
    offset, length = int(entity.get("offset", -1)), int(entity.get("length", -1))
    if offset < 0 or length <= 0 or offset + length > units:
        raise Refused(400, f"entity beginning at UTF-16 offset {offset} ends after the end of text")
    return entity
