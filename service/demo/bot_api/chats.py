"""The chats of the local Bot API server: messages, and everything they ever said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from service.demo.bot_api.params import integer
from service.demo.bot_api.refusal import Json, Refused

_GENERAL = 1
_LOWEST_GROUP = -1_000_000_000_000


@dataclass(frozen=True, slots=True)
class Version:
    """What a message said from one instant on."""

    text: str
    at: datetime
    entities: list[Json] = field(default_factory=list)
    reply_markup: Json | None = None
    dropped_entities: int = 0
    """How many entities did not fit into a message; people never saw them."""


@dataclass
class Message:
    """One message and everything it ever said."""

    id: int
    chat: int
    sender: Json
    versions: list[Version]
    topic: int | None = None
    reply_to: int | None = None
    silent: bool = False
    link_preview: Json = field(default_factory=dict)
    event: Json = field(default_factory=dict)
    """What a service message tells, such as that a topic was made."""
    content: Json = field(default_factory=dict)
    """The file that it brings; its text is the caption then."""
    reactions: list[Json] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What people read now."""
        return self.versions[-1].text

    @property
    def entities(self) -> list[Json]:
        """How that is dressed."""
        return self.versions[-1].entities

    @property
    def reply_markup(self) -> Json | None:
        """The buttons under it now."""
        return self.versions[-1].reply_markup

    @property
    def history(self) -> list[str]:
        """Every text it had, oldest first; the last one is what people read now."""
        return [one.text for one in self.versions]

    @property
    def markups(self) -> list[bool]:
        """Whether it had buttons, beside each text of the history."""
        return [one.reply_markup is not None for one in self.versions]


@dataclass
class Topic:
    """A topic of a forum."""

    name: str
    closed: bool = False


@dataclass
class Topics:
    """The topics of one chat by their numbers; General is not one of them."""

    by_id: dict[int, Topic] = field(default_factory=dict)

    def add(self, topic: int, name: str = "") -> None:
        """Make a topic; one that is there stays as it is."""
        self.by_id.setdefault(topic, Topic(name or f"Topic {topic}"))

    def find(self, topic: int | None) -> Topic:
        """The topic with this number. Raises Refused."""
        if topic is None or topic not in self.by_id:
            raise Refused(400, "message thread not found")
        return self.by_id[topic]


@dataclass
class Chat:
    """One chat: people are positive numbers, groups negative ones."""

    id: int
    title: str = ""
    forum: bool = False
    topics: Topics = field(default_factory=Topics)
    blocked: bool = False
    moved_to: int | None = None
    messages: dict[int, Message] = field(default_factory=dict)
    deleted: list[int] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    last_id: int = 0

    @property
    def type(self) -> str:
        """The kind of chat, which its number tells."""
        if self.id > 0:
            return "private"
        return "supergroup" if self.id < _LOWEST_GROUP else "group"

    def as_json(self) -> Json:
        """The chat as the API tells it."""
        if self.type == "private":
            return {"id": self.id, "type": "private", "first_name": self.title or "Ann"}
        chat: Json = {"id": self.id, "type": self.type, "title": self.title or "Team"}
        return {**chat, "is_forum": True} if self.forum else chat

    def shown(self, message: int | None) -> Message | None:
        """A message that people can see; None when it was deleted or never was."""
        return None if message is None or message in self.deleted else self.messages.get(message)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Chats:
    """Every chat the bot was ever in."""

    bot: Json
    by_id: dict[int, Chat] = field(default_factory=dict)
    clock: Callable[[], datetime] = _now

    def open(self, chat: int, **fields: Any) -> Chat:
        """The chat, made when somebody writes in it for the first time."""
        if chat not in self.by_id:
            self.by_id[chat] = Chat(chat, **fields)
        return self.by_id[chat]

    def reachable(self, params: Json) -> Chat:
        """The chat a call names. Raises Refused when the bot cannot write there."""
        if params.get("chat_id") in (None, ""):
            raise Refused(400, "chat_id is empty")
        try:
            chat = self.by_id[int(params["chat_id"])]
        except (KeyError, TypeError, ValueError):
            raise Refused(400, "chat not found") from None
        if chat.moved_to is not None:
            raise Refused(
                400,
                "group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=chat.moved_to,
            )
        if chat.blocked:
            raise Refused(403, _why_blocked(chat))
        return chat

    def add(
        self,
        chat: Chat,
        sender: Json,
        text: str,
        entities: Sequence[Json] = (),
        *,
        reply_markup: Json | None = None,
        dropped_entities: int = 0,
        **fields: Any,
    ) -> Message:
        """Put a message at the end of a chat."""
        chat.last_id += 1
        said = Version(text, self.clock(), list(entities), reply_markup, dropped_entities)
        message = Message(chat.last_id, chat.id, sender, [said], **fields)
        chat.messages[message.id] = message
        return message

    def transcript(self, chat: int, topic: int | None = None) -> list[Message]:
        """What people see in a chat, top to bottom."""
        if chat not in self.by_id:
            return []
        place = self.by_id[chat]
        shown = [one for key, one in sorted(place.messages.items()) if key not in place.deleted]
        return [one for one in shown if topic is None or one.topic == topic]

    def said(self, chat: int, topic: int | None = None) -> list[str]:
        """What the bot says in a chat now, top to bottom."""
        shown = self.transcript(chat, topic)
        return [one.text for one in shown if one.sender["is_bot"] and not one.event]

    def notified(self, chat: int) -> list[str]:
        """What phones showed when they rang: the first words of messages that are not silent."""
        place = self.by_id.get(chat)
        messages: Iterable[Message] = place.messages.values() if place else ()
        return [
            one.history[0]
            for one in messages
            if one.sender["is_bot"] and not one.event and not one.silent
        ]

    def as_json(self, message: Message) -> Json:
        """The message as the API tells it."""
        chat = self.by_id[message.chat]
        told: Json = {
            "message_id": message.id,
            "from": message.sender,
            "chat": chat.as_json(),
            "date": int(message.versions[0].at.timestamp()),
            **message.event,
            **message.content,
        }
        if message.text:
            told["caption" if message.content else "text"] = message.text
        if message.entities:
            told["caption_entities" if message.content else "entities"] = message.entities
        if message.topic is not None:
            told |= {"message_thread_id": message.topic, "is_topic_message": True}
        answered = chat.messages.get(message.reply_to or 0)
        if answered is not None:
            # One level deep: the message that is answered does not tell what it answers.
            told["reply_to_message"] = _without(self.as_json(answered), "reply_to_message")
        if message.reply_markup is not None:
            told["reply_markup"] = message.reply_markup
        if message.link_preview:
            told["link_preview_options"] = message.link_preview
        if len(message.versions) > 1:
            told["edit_date"] = int(message.versions[-1].at.timestamp())
        return told


def open_topic(chat: Chat, params: Json) -> int | None:
    """The topic a call wants to write in; None outside topics and in General. Raises Refused."""
    topic = integer(params, "message_thread_id")
    if topic is not None and chat.topics.find(topic).closed:
        raise Refused(400, "TOPIC_CLOSED")
    return topic


def open_topic_or_general(chat: Chat, params: Json) -> int | None:
    """The topic an action is shown in; only actions know General by a number."""
    if chat.forum and integer(params, "message_thread_id") == _GENERAL:
        return _GENERAL
    return open_topic(chat, params)


def _why_blocked(chat: Chat) -> str:
    if chat.type == "private":
        return "bot was blocked by the user"
    return f"bot was kicked from the {chat.type} chat"


def _without(told: Json, name: str) -> Json:
    return {key: value for key, value in told.items() if key != name}
