"""The one authorisation rule: who may ring. Nobody, unless they are named by number or token."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from service.core.model import Refusal, RefusalReason


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever proved to hold one of the service's own tokens; may do everything."""

    name: str = "operator"


@dataclass(frozen=True, slots=True)
class TelegramPerson:
    """Somebody who writes or presses a button in a Telegram chat, by the ids Telegram vouches for.

    User names are left out on purpose: they change hands.
    """

    user: int
    """The person, or the chat in whose name an anonymous one writes."""
    chat: int

    @property
    def name(self) -> str:
        """How this person is written down as an author."""
        return f"telegram:{self.user}"

    @property
    def private(self) -> bool:
        """Whether the chat is this person's own with the bot."""
        return self.user == self.chat > 0


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody who proved nothing."""

    name: str = "stranger"


Principal = Operator | TelegramPerson | Stranger


def authorise(principal: Principal, *, allow: Collection[int]) -> Refusal | None:
    """Return why `principal` may not ring, None when it may.

    `allow` holds people and groups. A listed person may use the private chat with the bot; a
    listed group may be used by everybody who is in it. A listed person in a group that is not
    listed is refused: what the agent says there would be read by people nobody named.
    """
    match principal:
        case Operator():
            return None
        case TelegramPerson(chat=chat) if chat in allow:
            return None
        case TelegramPerson(user=user, private=True):
            return _refused(f"the person {user} is not in telegram.allow")
        case TelegramPerson(chat=chat):
            return _refused(f"the group {chat} is not in telegram.allow")
        case Stranger():
            return _refused("a token is needed")


def identify(token: str | None, *, tokens: Iterable[str]) -> Operator | Stranger:
    """Return who shows `token`; the time taken does not tell how much of it was right."""
    shown = (token or "").encode("utf-8", "surrogatepass")
    known = [hmac.compare_digest(shown, one.encode()) for one in tokens if one]
    return Operator() if any(known) else Stranger()


def _refused(detail: str) -> Refusal:
    return Refusal(RefusalReason.IGNORED, detail)
