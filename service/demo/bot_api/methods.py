"""What the bot can call, and what each call does to the chats."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from service.demo.bot_api.chats import (
    Chat,
    Chats,
    Message,
    Version,
    open_topic,
    open_topic_or_general,
)
from service.demo.bot_api.entities import dressed
from service.demo.bot_api.files import Files
from service.demo.bot_api.flood import Family
from service.demo.bot_api.keyboards import inline_keyboard
from service.demo.bot_api.params import flag, integer, mapping
from service.demo.bot_api.people import Queries
from service.demo.bot_api.refusal import Json, Refused
from service.demo.bot_api.webhook import Webhook

_NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same "
    "as a current content and reply markup of the message"
)
_ACTIONS = frozenset(
    {
        *("typing", "upload_photo", "record_video", "upload_video", "record_voice"),
        *("upload_voice", "upload_document", "choose_sticker", "find_location", "cancel"),
        *("record_video_note", "upload_video_note"),
    }
)
_DELETABLE = timedelta(hours=48)
_MOST_COMMANDS = 100
_COMMAND = re.compile(r"[a-z0-9_]{1,32}")
_LONGEST_DESCRIPTION = 256
_LONGEST_ANSWER = 200


@dataclass(frozen=True, slots=True)
class Method:
    """What a method does, and against which limits it counts."""

    run: Callable[[Json], Any]
    family: Family | None = None


class Methods:
    """The bot's side of its chats. Names of methods do not know upper and lower case."""

    def __init__(
        self, me: Json, chats: Chats, queries: Queries, webhook: Webhook, files: Files
    ) -> None:
        self._me = me
        self._chats = chats
        self._queries = queries
        self.menus: dict[str, list[Json]] = {}
        """The commands that clients offer, by scope and language; the usual ones are at ""."""
        self._table: Mapping[str, Method] = {
            "getme": Method(self._get_me),
            "getfile": Method(files.find),
            "sendmessage": Method(self._send_message, Family.MESSAGE),
            "editmessagetext": Method(self._edit_text, Family.MESSAGE),
            "editmessagereplymarkup": Method(self._edit_markup, Family.MESSAGE),
            "deletemessage": Method(self._delete_message, Family.MESSAGE),
            "sendchataction": Method(self._chat_action, Family.ACTION),
            "setmessagereaction": Method(self._react),
            "answercallbackquery": Method(self._answer_query),
            "createforumtopic": Method(self._create_topic),
            "editforumtopic": Method(self._edit_topic),
            "closeforumtopic": Method(self._close_topic),
            "reopenforumtopic": Method(self._reopen_topic),
            "deleteforumtopic": Method(self._delete_topic),
            "setmycommands": Method(self._set_commands),
            "getmycommands": Method(self._get_commands),
            "deletemycommands": Method(self._delete_commands),
            "setwebhook": Method(webhook.set, Family.WEBHOOK),
            "deletewebhook": Method(webhook.delete),
            "getwebhookinfo": Method(webhook.info),
        }

    def find(self, name: str) -> Method:
        """The method with this name. Raises Refused."""
        method = self._table.get(name.lower())
        if method is None:
            raise Refused(404, "Not Found: method not found")
        return method

    def _get_me(self, _: Json) -> Json:
        return self._me

    # -- messages ----------------------------------------------------------------------------

    def _send_message(self, params: Json) -> Json:
        chat = self._chats.reachable(params)
        topic = open_topic(chat, params)
        reply_to = _answered(chat, params)
        text = dressed(params)
        message = self._chats.add(
            chat,
            self._me,
            text.text,
            text.entities,
            dropped_entities=text.dropped,
            reply_markup=inline_keyboard(params),
            topic=topic,
            reply_to=reply_to,
            silent=flag(params, "disable_notification"),
            link_preview=mapping(params, "link_preview_options"),
        )
        return self._chats.as_json(message)

    def _edit_text(self, params: Json) -> Json:
        message = self._own(params)
        text = dressed(params, too_long="MESSAGE_TOO_LONG")
        markup = inline_keyboard(params)
        if (text.text, text.entities, markup) == _content(message):
            raise Refused(400, _NOT_MODIFIED)
        return self._edited(
            message, Version(text.text, self._chats.clock(), text.entities, markup, text.dropped)
        )

    def _edit_markup(self, params: Json) -> Json:
        message = self._own(params)
        markup = inline_keyboard(params)
        if markup == message.reply_markup:
            raise Refused(400, _NOT_MODIFIED)
        changed = replace(message.versions[-1], reply_markup=markup, at=self._chats.clock())
        return self._edited(message, changed)

    def _edited(self, message: Message, version: Version) -> Json:
        message.versions.append(version)
        return self._chats.as_json(message)

    def _delete_message(self, params: Json) -> bool:
        chat = self._chats.reachable(params)
        message = chat.shown(integer(params, "message_id"))
        if message is None:
            raise Refused(400, "message to delete not found")
        too_old = self._chats.clock() - message.versions[0].at > _DELETABLE
        foreign = not message.sender["is_bot"] and chat.type != "private"
        if too_old or foreign:
            raise Refused(400, "message can't be deleted")
        chat.deleted.append(message.id)
        return True

    def _own(self, params: Json) -> Message:
        """The message of the bot that a call names. Raises Refused."""
        chat = self._chats.reachable(params)
        number = integer(params, "message_id")
        if number is None:
            raise Refused(400, "message identifier is not specified")
        message = chat.shown(number)
        if message is None:
            raise Refused(400, "message to edit not found")
        if not message.sender["is_bot"] or message.event:
            raise Refused(400, "message can't be edited")
        return message

    def _chat_action(self, params: Json) -> bool:
        chat = self._chats.reachable(params)
        open_topic_or_general(chat, params)
        action = str(params.get("action") or "")
        if action not in _ACTIONS:
            raise Refused(400, "wrong parameter action in request")
        chat.actions.append(action)
        return True

    def _react(self, params: Json) -> bool:
        message = self._chats.reachable(params).shown(integer(params, "message_id"))
        if message is None:
            raise Refused(400, "message to react not found")
        reactions = params.get("reaction") or []
        # A bot may show one.
        if not isinstance(reactions, list) or len(reactions) > 1:
            raise Refused(400, "REACTION_INVALID")
        message.reactions = reactions
        return True

    def _answer_query(self, params: Json) -> bool:
        if len(str(params.get("text") or "")) > _LONGEST_ANSWER:
            raise Refused(400, "MESSAGE_TOO_LONG")
        self._queries.answer(str(params.get("callback_query_id")))
        return True

    # -- topics ------------------------------------------------------------------------------

    def _create_topic(self, params: Json) -> Json:
        chat = self._chats.reachable(params)
        name = str(params.get("name") or "")
        if not name:
            raise Refused(400, "TOPIC_TITLE_EMPTY")
        if not chat.forum and chat.type != "private":
            raise Refused(400, "the chat is not a forum")
        topic = {"name": name, "icon_color": 7322096}
        message = self._chats.add(chat, self._me, "", event={"forum_topic_created": topic})
        message.topic = message.id
        chat.topics.add(message.id, name)
        return {"message_thread_id": message.id, **topic}

    def _edit_topic(self, params: Json) -> bool:
        topic = self._chats.reachable(params).topics.find(integer(params, "message_thread_id"))
        name = str(params.get("name") or topic.name)
        if name == topic.name:
            raise Refused(400, "TOPIC_NOT_MODIFIED")
        topic.name = name
        return True

    def _close_topic(self, params: Json) -> bool:
        return self._set_closed(params, closed=True)

    def _reopen_topic(self, params: Json) -> bool:
        return self._set_closed(params, closed=False)

    def _set_closed(self, params: Json, *, closed: bool) -> bool:
        topic = self._chats.reachable(params).topics.find(integer(params, "message_thread_id"))
        if topic.closed == closed:
            raise Refused(400, "TOPIC_NOT_MODIFIED")
        topic.closed = closed
        return True

    def _delete_topic(self, params: Json) -> bool:
        chat = self._chats.reachable(params)
        number = integer(params, "message_thread_id")
        chat.topics.find(number)
        chat.topics.by_id = {key: one for key, one in chat.topics.by_id.items() if key != number}
        chat.deleted += [one.id for one in chat.messages.values() if one.topic == number]
        return True

    # -- commands ----------------------------------------------------------------------------

    def _set_commands(self, params: Json) -> bool:
        commands = params.get("commands")
        if not isinstance(commands, list):
            raise Refused(400, "can't parse commands list JSON object")
        if len(commands) > _MOST_COMMANDS:
            raise Refused(400, "BOT_COMMANDS_TOO_MUCH")
        self.menus[_menu(params)] = [_command(one) for one in commands]
        return True

    def _get_commands(self, params: Json) -> list[Json]:
        return self.menus.get(_menu(params), [])

    def _delete_commands(self, params: Json) -> bool:
        self.menus.pop(_menu(params), None)
        return True


def _answered(chat: Chat, params: Json) -> int | None:
    """The message that a call answers. Raises Refused when it has to be there and is not."""
    reply = mapping(params, "reply_parameters")
    number = integer(reply, "message_id")
    if number is None or chat.shown(number) is not None:
        return number
    if flag(reply, "allow_sending_without_reply"):
        return None
    raise Refused(400, "message to be replied not found")


def _content(message: Message) -> tuple[str, list[Json], Json | None]:
    return message.text, message.entities, message.reply_markup


def _menu(params: Json) -> str:
    """Where commands are kept: their scope and language."""
    scope = mapping(params, "scope")
    if scope.get("type", "default") == "default":
        scope = {}
    language = str(params.get("language_code") or "")
    return f"{json.dumps(scope, sort_keys=True)} {language}" if scope or language else ""


def _command(command: object) -> Json:
    told = command if isinstance(command, dict) else {}
    name, description = str(told.get("command", "")), str(told.get("description", ""))
    if not _COMMAND.fullmatch(name.removeprefix("/")):
        raise Refused(400, "BOT_COMMAND_INVALID")
    if not 0 < len(description) <= _LONGEST_DESCRIPTION:
        raise Refused(400, "BOT_COMMAND_DESCRIPTION_INVALID")
    return {"command": name.removeprefix("/"), "description": description}
