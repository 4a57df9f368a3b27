"""From one raw update to what it means for us; pure, and strict about what it builds on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from handlers.telegram.media import LARGEST, attached
from handlers.telegram.raw import Raw, mapping, whole
from handlers.telegram.spot import Spot
from service.core.access import TelegramPerson
from service.core.model import NewAttachment
from service.errors import BadInput

# Telegram shows a reply's target; the agent gets its beginning.
_QUOTE_LENGTH = 1000

# Content we cannot read, with the word people use for it.
_UNREADABLE = {
    "video": "videos",
    "video_note": "video messages",
    "animation": "animations",
    "sticker": "stickers",
    "location": "locations",
    "venue": "locations",
    "contact": "contacts",
    "poll": "polls",
    "dice": "dice",
    "game": "games",
    "story": "stories",
    "checklist": "checklists",
    "paid_media": "paid media",
    "rich_message": "rich messages",
}


@dataclass(frozen=True, slots=True)
class Me:
    """The bot itself."""

    id: int
    username: str


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody wrote words, or sent a file with or without them."""

    spot: Spot
    person: TelegramPerson
    text: str
    message: int
    addressed: bool
    """Whether it is meant for the bot: always in private, by mention or reply in groups."""
    file: NewAttachment | None = None
    album: str | None = None
    """What the messages have in common that were sent together, each with a file."""


@dataclass(frozen=True, slots=True)
class Called:
    """Somebody gave a command to this bot."""

    spot: Spot
    person: TelegramPerson
    name: str
    argument: str
    message: int
    addressed: bool
    """Whether it named this bot, or there is no other it could mean."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """Somebody pressed a button under a message of this bot."""

    spot: Spot
    person: TelegramPerson
    query: str
    """Telegram waits for an answer to this id."""
    data: str
    name: str
    """What people call whoever pressed; they choose it themselves."""
    message: int | None = None
    """The message the button is under, unless that is gone or the press is forged."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Somebody sent something that holds no words for an agent."""

    spot: Spot
    person: TelegramPerson
    kind: str
    """What it is, in the plural, for people."""
    message: int
    album: str | None
    addressed: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """A group became a supergroup, which has a number of its own."""

    spot: Spot
    to: Spot


@dataclass(frozen=True, slots=True)
class Other:
    """Nothing that anybody wants answered."""

    reason: str


Update = Said | Called | Pressed | Unreadable | Moved | Other


def update_id(raw: object) -> int | None:
    """The number of an update; None when it has no usable one."""
    number = raw.get("update_id") if isinstance(raw, Mapping) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def translate(raw: object, me: Me, *, most_bytes: int = LARGEST) -> Update:
    """Return what a raw update means. Raises BadInput for one that breaks Telegram's own rules.

    Of the sizes of a photo the largest is taken that has at most `most_bytes`.
    """
    update = mapping(raw, "the update")
    if "message" in update:
        return _message(mapping(update["message"], "message"), me, most_bytes)
    if "callback_query" in update:
        return _pressed(mapping(update["callback_query"], "callback_query"), me)
    kinds = sorted(name for name in map(str, update) if name != "update_id")
    return Other(f"updates of the kind {', '.join(kinds) or 'nothing'} are not answered")


def _message(message: Raw, me: Me, most_bytes: int) -> Update:
    chat = mapping(message.get("chat"), "message.chat")
    spot = Spot(str(me.id), whole(chat, "message.chat.id"), _topic(message))
    number = whole(message, "message.message_id")
    if chat.get("type") == "channel":
        return Other("posts of channels are not answered")
    if "migrate_to_chat_id" in message:
        return Moved(spot, Spot(spot.bot, whole(message, "message.migrate_to_chat_id")))
    sender = message.get("from")
    if sender is None and "sender_chat" not in message:
        return Other("nobody wrote it")
    person = _person(message, spot)
    if person is None:
        return Other("other bots are not answered")
    if message.get("is_automatic_forward") is True:
        return Other("posts forwarded from a channel are not answered")
    entities = _entities(message.get("entities"))
    if isinstance(message.get("text"), str):
        return _words(message, message["text"], entities, spot, person, me, number)
    caption = str(message.get("caption") or "")
    marks = _entities(message.get("caption_entities"))
    meant = _is_addressed(message, caption, marks, spot, me)
    album = str(message["media_group_id"]) if message.get("media_group_id") else None
    for key, kind in _UNREADABLE.items():
        if key in message:
            return Unreadable(spot, person, kind, number, album, meant)
    file = attached(message, most_bytes)
    if file is None:
        return Other("it is about the chat, not for the bot")
    words = _without_mentions(caption.encode("utf-16-le", "surrogatepass"), marks, me)
    text = (_context(message, me) + words.strip()).strip()
    return Said(spot, person, text, number, meant, file, album)


def _words(
    message: Raw,
    text: str,
    entities: Sequence[Raw],
    spot: Spot,
    person: TelegramPerson,
    me: Me,
    number: int,
) -> Update:
    data = text.encode("utf-16-le", "surrogatepass")
    if entities and entities[0].get("type") == "bot_command" and entities[0].get("offset") == 0:
        length = whole(entities[0], "message.entities[0].length")
        command = data[2 : 2 * length].decode("utf-16-le", "replace")
        rest = data[2 * length :].decode("utf-16-le", "replace").strip()
        return _called(command, rest, spot, person, me, number)
    addressed = _is_addressed(message, text, entities, spot, me)
    words = _without_mentions(data, entities, me).strip()
    if not words:
        return Other("it says nothing") if not addressed else _greeting(spot, person, number)
    return Said(spot, person, _context(message, me) + words, number, addressed)


def _greeting(spot: Spot, person: TelegramPerson, number: int) -> Called:
    """Somebody said no more than the bot's name."""
    return Called(spot, person, "help", "", number, addressed=True)


def _called(
    command: str, rest: str, spot: Spot, person: TelegramPerson, me: Me, number: int
) -> Update:
    name, at, bot = command.partition("@")
    if at and bot.lower() != me.username.lower():
        return Other("the command is for another bot")
    addressed = bool(at) or spot.private
    return Called(spot, person, name.lower(), rest, number, addressed)


def _pressed(query: Raw, me: Me) -> Update:
    key = query.get("id")
    if not isinstance(key, str):
        raise BadInput("callback_query.id is not a text")
    message = query.get("message")
    data = query.get("data")
    if message is None or not isinstance(data, str):
        return Other("the button is none of ours")
    message = mapping(message, "callback_query.message")
    chat = mapping(message.get("chat"), "callback_query.message.chat")
    spot = Spot(str(me.id), whole(chat, "callback_query.message.chat.id"), _topic(message))
    sender = mapping(query.get("from"), "callback_query.from")
    user = whole(sender, "callback_query.from.id")
    return Pressed(
        spot,
        TelegramPerson(user, spot.chat),
        key,
        data,
        name=str(sender.get("first_name") or "Somebody"),
        message=_bearer(message, data),
    )


def _bearer(message: Raw, data: str) -> int | None:
    """The number of the message if it has a button with this data: who presses can forge that."""
    match message:
        case {"message_id": int(number), "reply_markup": {"inline_keyboard": list(rows)}}:
            buttons = [one for row in rows if isinstance(row, list) for one in row]
            has_it = any(
                isinstance(one, Mapping) and one.get("callback_data") == data for one in buttons
            )
            return number if has_it else None
    return None


# -- who and where ------------------------------------------------------------------------------


def _person(message: Raw, spot: Spot) -> TelegramPerson | None:
    """Who wrote it; None for another bot. Anonymous ones write in the name of a chat."""
    if "sender_chat" in message:
        chat = mapping(message["sender_chat"], "message.sender_chat")
        return TelegramPerson(whole(chat, "message.sender_chat.id"), spot.chat)
    sender = mapping(message.get("from"), "message.from")
    if sender.get("is_bot") is True:
        return None
    return TelegramPerson(whole(sender, "message.from.id"), spot.chat)


def _topic(message: Raw) -> int | None:
    # A thread of replies has a thread id too; only topics are places of their own.
    if message.get("is_topic_message") is not True:
        return None
    return whole(message, "message.message_thread_id")


def _is_addressed(message: Raw, text: str, entities: Sequence[Raw], spot: Spot, me: Me) -> bool:
    if spot.private or _is_reply_to(message, me):
        return True
    data = text.encode("utf-16-le", "surrogatepass")
    return any(_is_mention(data, one, me) for one in entities)


def _is_reply_to(message: Raw, me: Me) -> bool:
    target = message.get("reply_to_message")
    if not isinstance(target, Mapping):
        return False
    # In a topic, clients make everything a reply to the topic's first message.
    if target.get("message_id") == message.get("message_thread_id"):
        return False
    sender = target.get("from")
    return isinstance(sender, Mapping) and sender.get("id") == me.id


def _is_mention(data: bytes, entity: Raw, me: Me) -> bool:
    if entity.get("type") == "text_mention":
        user = entity.get("user")
        return isinstance(user, Mapping) and user.get("id") == me.id
    if entity.get("type") != "mention":
        return False
    return _covered(data, entity).lower() == f"@{me.username}".lower()


def _without_mentions(data: bytes, entities: Sequence[Raw], me: Me) -> str:
    kept, cursor = [], 0
    for entity in entities:
        if entity.get("type") == "mention" and _is_mention(data, entity, me):
            start = 2 * entity["offset"]
            kept.append(data[cursor:start])
            cursor = start + 2 * entity["length"]
    return b"".join((*kept, data[cursor:])).decode("utf-16-le", "surrogatepass")


def _covered(data: bytes, entity: Raw) -> str:
    start = 2 * whole(entity, "message.entities[].offset")
    length = 2 * whole(entity, "message.entities[].length")
    return data[start : start + length].decode("utf-16-le", "replace")


# -- what else the agent should know ------------------------------------------------------------


def _context(message: Raw, me: Me) -> str:
    """The words somebody points at, marked as not the writer's own."""
    quoted = _pointed_at(message, me)
    context = f"In reply to:\n{_as_quote(quoted)}\n\n" if quoted else ""
    return context + ("Forwarded message:\n" if "forward_origin" in message else "")


def _pointed_at(message: Raw, me: Me) -> str:
    quote = message.get("quote")
    if isinstance(quote, Mapping) and isinstance(quote.get("text"), str):
        return str(quote["text"])
    target = message.get("reply_to_message")
    # What the bot itself said is in the session already.
    if not isinstance(target, Mapping) or _is_reply_to(message, me):
        return ""
    text = target.get("text") or target.get("caption")
    return text if isinstance(text, str) else ""


def _as_quote(text: str) -> str:
    short = text if len(text) <= _QUOTE_LENGTH else text[:_QUOTE_LENGTH] + "…"
    return "\n".join(f"> {line}" for line in short.splitlines())


def _entities(value: object) -> Sequence[Raw]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadInput("message.entities is not a list")
    return [mapping(one, "message.entities[]") for one in value]
