"""Where in Telegram: a bot's chat, or one topic of it, as the text that addresses carry."""

from __future__ import annotations

from dataclasses import dataclass

from service.core.access import TelegramPerson
from service.core.model import Address, Channel
from service.errors import BadInput


@dataclass(frozen=True, slots=True)
class Spot:
    """One conversation of a bot."""

    bot: str
    chat: int
    topic: int | None = None

    def __str__(self) -> str:
        topic = "" if self.topic is None else f":{self.topic}"
        return f"{self.bot}:{self.chat}{topic}"

    @property
    def address(self) -> Address:
        """The address of this conversation."""
        return Address(Channel.TELEGRAM, str(self))

    @property
    def session_key(self) -> str:
        """The key of the session that lives here."""
        return f"telegram:{self}"

    @property
    def private(self) -> bool:
        """Whether one person alone reads along: groups have negative numbers."""
        return self.chat > 0


def parse_spot(text: str) -> Spot:
    """Read `bot:chat` or `bot:chat:topic`. Raises BadInput."""
    bot, *numbers = text.split(":")
    try:
        chat, *topic = (int(number) for number in numbers)
    except ValueError:
        raise BadInput(f"{text!r} is not bot:chat or bot:chat:topic") from None
    if not bot or len(topic) > 1:
        raise BadInput(f"{text!r} is not bot:chat or bot:chat:topic")
    return Spot(bot, chat, *topic)


def author_at(author: str, home: Address | None) -> TelegramPerson | None:
    """Who `author` is, in the chat `home` or in their own; None for one of another channel."""
    channel, _, number = author.partition(":")
    if channel != Channel.TELEGRAM or not number.removeprefix("-").isdecimal():
        return None
    if home is None or home.channel is not Channel.TELEGRAM:
        return TelegramPerson(int(number), int(number))
    return TelegramPerson(int(number), parse_spot(home.spot).chat)
