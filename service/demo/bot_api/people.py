"""What people do in their chats, each time an update for the bot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from service.demo.bot_api.chats import Chat, Chats, Message
from service.demo.bot_api.entities import found
from service.demo.bot_api.files import Files
from service.demo.bot_api.refusal import Json, Refused
from service.demo.bot_api.updates import Updates

_TOO_OLD = timedelta(seconds=60)


@dataclass
class Query:
    """A pressed button that waits for the bot's answer."""

    asked: datetime
    answered: bool = False


class Queries:
    """The pressed buttons; each can be answered once, and not for long."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._ids = count(1001)
        self._by_id: dict[str, Query] = {}

    def ask(self) -> str:
        """A new query; return its id."""
        query = str(next(self._ids))
        self._by_id[query] = Query(self._clock())
        return query

    def answer(self, query: str) -> None:
        """Note that the bot answered. Raises Refused."""
        asked = self._by_id.get(query)
        if asked is None or asked.answered or self._clock() - asked.asked > _TOO_OLD:
            raise Refused(
                400, "query is too old and response timeout expired or query ID is invalid"
            )
        asked.answered = True


class People:
    """Everybody who talks with the bot. A `user` who is not named is the one of the chat."""

    def __init__(
        self, me: Json, chats: Chats, updates: Updates, queries: Queries, files: Files
    ) -> None:
        self._me = me
        self._chats = chats
        self._updates = updates
        self._queries = queries
        self._files = files

    def send_text(
        self,
        text: str,
        *,
        chat: int,
        user: int | None = None,
        topic: int | None = None,
        reply_to: int | None = None,
    ) -> int:
        """Write in a chat, in a topic that is made when it is missing."""
        return self._say(text, chat, user, topic, reply_to=reply_to)

    def send_file(
        self,
        kind: str,
        data: bytes,
        *,
        chat: int,
        name: str = "",
        media_type: str = "",
        caption: str = "",
        album: str | None = None,
        user: int | None = None,
        topic: int | None = None,
    ) -> int:
        """Send a photo, a document, a voice message or an audio file."""
        content = self._files.send(kind, data, name=name, media_type=media_type)
        if album is not None:
            content["media_group_id"] = album
        return self._say(caption, chat, user, topic, content=content)

    def edit_text(self, message: int, text: str, *, chat: int) -> int:
        """Change what one has written."""
        edited = self._chats.by_id[chat].messages[message]
        version = replace(
            edited.versions[-1], text=text, entities=self._found(text), at=self._chats.clock()
        )
        edited.versions.append(version)
        return self._tell("edited_message", edited)

    def delete(self, message: int, *, chat: int) -> None:
        """Take a message away; bots are not told."""
        self._chats.by_id[chat].deleted.append(message)

    def press(self, message: int, data: str, *, chat: int, user: int | None = None) -> str:
        """Press a button under a message, also under one that is gone; return the query's id."""
        place = self._chats.open(chat)
        shown = place.shown(message)
        inaccessible = {"chat": place.as_json(), "message_id": message, "date": 0}
        query = self._queries.ask()
        self._updates.add(
            {
                "callback_query": {
                    "id": query,
                    "from": _person(user or chat),
                    "message": self._chats.as_json(shown) if shown else inaccessible,
                    "chat_instance": str(-chat),
                    "data": data,
                }
            }
        )
        return query

    def block(self, chat: int, *, user: int | None = None) -> int:
        """Block the bot, or throw it out of a group."""
        return self._change_member(chat, user, blocked=True)

    def unblock(self, chat: int, *, user: int | None = None) -> int:
        """Let the bot in again."""
        return self._change_member(chat, user, blocked=False)

    def migrate(self, chat: int, new: int) -> None:
        """Turn a group into a supergroup with another number."""
        old = self._chats.open(chat)
        place = self._chats.open(new, title=old.title)
        for where, event in (
            (old, {"migrate_to_chat_id": new}),
            (place, {"migrate_from_chat_id": chat}),
        ):
            self._happens(where, _person(501), event)
        old.moved_to = new

    def open_topic(self, chat: int, name: str, *, user: int | None = None) -> int:
        """Make a topic; return its number."""
        place = self._chats.open(chat)
        place.forum = place.type != "private"
        topic = place.last_id + 1
        place.topics.add(topic, name)
        event = {"forum_topic_created": {"name": name, "icon_color": 7322096}}
        self._happens(place, _person(user or chat), event, topic)
        return topic

    def close_topic(self, chat: int, topic: int) -> None:
        """Let nobody write in a topic."""
        place = self._chats.by_id[chat]
        place.topics.find(topic).closed = True
        self._happens(place, _person(501), {"forum_topic_closed": {}}, topic)

    def reopen_topic(self, chat: int, topic: int) -> None:
        """Let people write in a topic again."""
        place = self._chats.by_id[chat]
        place.topics.find(topic).closed = False
        self._happens(place, _person(501), {"forum_topic_reopened": {}}, topic)

    def delete_topic(self, chat: int, topic: int) -> None:
        """Take a topic away with everything in it; bots are not told."""
        place = self._chats.by_id[chat]
        del place.topics.by_id[topic]
        place.deleted += [one.id for one in place.messages.values() if one.topic == topic]

    def _say(self, text: str, chat: int, user: int | None, topic: int | None, **fields: Any) -> int:
        place = self._chats.open(chat)
        if topic is not None:
            place.forum = place.type != "private"
            place.topics.add(topic)
        message = self._chats.add(
            place, _person(user or chat), text, self._found(text), topic=topic, **fields
        )
        return self._tell("message", message)

    def _happens(self, chat: Chat, sender: Json, event: Json, topic: int | None = None) -> None:
        message = self._chats.add(chat, sender, "", event=event, topic=topic)
        self._tell("message", message)

    def _change_member(self, chat: int, user: int | None, *, blocked: bool) -> int:
        place = self._chats.open(chat)
        place.blocked = blocked
        out = {"user": self._me, "status": "kicked", "until_date": 0}
        inside = {"user": self._me, "status": "member"}
        before, after = (inside, out) if blocked else (out, inside)
        return self._updates.add(
            {
                "my_chat_member": {
                    "chat": place.as_json(),
                    "from": _person(user or chat),
                    "date": int(self._chats.clock().timestamp()),
                    "old_chat_member": before,
                    "new_chat_member": after,
                }
            }
        )

    def _tell(self, kind: str, message: Message) -> int:
        return self._updates.add({kind: self._chats.as_json(message)})

    def _found(self, text: str) -> list[Json]:
        return found(text, str(self._me["username"]))


def _person(user: int) -> Json:
    # A group that is nobody's chat gives its number; people are positive.
    return {"id": abs(user), "is_bot": False, "first_name": "Ann", "language_code": "en"}
