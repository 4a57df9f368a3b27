"""The one authorisation rule: who may ring, who may interrupt, and what a turn may do.

Nobody may ring who is not named by number or token. What a turn may do is fixed by where it came
from, before a model has read a word of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum, auto

from service.core.model import Origin, Refusal, RefusalReason


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


# -- what a turn may do ---------------------------------------------------------------------------

OPERATOR = "operator"
"""How whoever holds a token of the service is written down."""


class Verdict(StrEnum):
    """Whether a tool may run."""

    ALLOWED = auto()
    ASK = auto()  # if a person agrees to this very call
    DENIED = auto()


@dataclass(frozen=True, slots=True)
class Policy:
    """What a trigger lets its turns do, whose words nobody vouches for."""

    permit: frozenset[str] = frozenset()
    """Tools that may act outward as if a person had asked for it."""
    approve: frozenset[str] = frozenset()
    """Tools that need no approval here."""
    ask: bool = False
    """Whether to wait for an operator where a person has to be asked."""


NOBODY = Policy()


def present(origin: Origin, policy: Policy) -> bool:
    """Whether there is somebody to ask: who writes in a chat or at the console reads there, too."""
    return origin in (Origin.PERSON, Origin.GROUP) or policy.ask


def permission(
    origin: Origin, policy: Policy, *, tool: str, outward: bool, approval: bool
) -> Verdict:
    """Whether a turn of this origin may run a tool.

    What stays inside of the session may always run. What acts outward needs an origin that speaks
    for itself (a person, or the operator's own task), the trigger's permit, or somebody's approval
    of the very call. A tool marked for approval needs it whoever asks.
    """
    trusted = origin in (Origin.PERSON, Origin.SCHEDULE) or tool in policy.permit
    needs_approval = approval and tool not in policy.approve
    if not needs_approval and (trusted or not outward):
        return Verdict.ALLOWED
    return Verdict.ASK if present(origin, policy) else Verdict.DENIED


def may_interrupt(principal: str, *, owner: str, operator: bool = False) -> bool:
    """Whether somebody may interrupt a session, or steer what it does by an interruption.

    `operator` says that the console let them act in sessions of others.
    """
    return operator or principal in (owner, OPERATOR)


def may_archive(principal: str, *, owner: str) -> bool:
    """Whether somebody in a chat may put its session away."""
    return principal in (owner, OPERATOR)


def may_answer(principal: str, *, asked_of: str, operator: bool = False) -> bool:
    """Whether somebody may answer a question."""
    return operator or principal in (asked_of, OPERATOR)


# -- who may use the console and the API ----------------------------------------------------------


class UserRole(StrEnum):
    """What somebody may do at the console and with the API."""

    VIEWER = auto()  # look
    OPERATOR = auto()  # also talk, steer, make and remove
    ADMIN = auto()  # also people and what was written down about them


_RANK = {UserRole.VIEWER: 0, UserRole.OPERATOR: 1, UserRole.ADMIN: 2}
_ADMINS_ONLY = ("/api/users", "/api/audit")


def least_role(method: str, path: str) -> UserRole:
    """The least role that may call `method` on a route."""
    if any(path == area or path.startswith(f"{area}/") for area in _ADMINS_ONLY):
        return UserRole.ADMIN
    return UserRole.VIEWER if method in ("GET", "HEAD") else UserRole.OPERATOR


def may_call(role: UserRole, method: str, path: str) -> bool:
    """Whether somebody with this role may call `method` on a route."""
    return _RANK[role] >= _RANK[least_role(method, path)]
