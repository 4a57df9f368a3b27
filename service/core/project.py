"""Who may see and change a project, and with it the sessions in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto
from functools import partial
from typing import Any

from service.core.model import ProjectId
from service.core.text import clean
from service.errors import BadInput


class Share(StrEnum):
    """What somebody has to do with a project."""

    OWNER = auto()
    EDITOR = auto()  # may do what the owner may, except to interrupt others and to delete it
    VIEWER = auto()  # looks


@dataclass(frozen=True, slots=True)
class Project:
    """A project as it is stored."""

    id: ProjectId
    name: str
    owner: str
    created_at: datetime
    updated_at: datetime
    domain: str = ""
    description: str = ""
    prompt: str = ""
    """What every agent of the project is told first."""
    tools: tuple[str, ...] | None = None
    """Those of the agents' tools that are used here; None is all of them."""
    agent: str | None = None
    """Who answers in new sessions, unless they name somebody else."""
    private_to: str | None = None
    """The person whose own it is."""
    template: str | None = None
    """What it was made from."""
    members: Mapping[str, Share] = field(default_factory=dict)
    """Editors and viewers by name; the owner is none of them."""

    def share_of(self, name: str) -> Share | None:
        """What somebody has to do with it; None when it is nothing of theirs."""
        return Share.OWNER if name == self.owner else self.members.get(name)

    def may_see(self, name: str) -> bool:
        """Whether somebody may read it and its sessions."""
        return self.share_of(name) is not None

    def may_change(self, name: str) -> bool:
        """Whether somebody may write in it and its sessions."""
        return self.share_of(name) in (Share.OWNER, Share.EDITOR)


# -- what people want a project to be -------------------------------------------------------------

MOST_MEMBERS = 100
LONGEST_NAME = 120
LONGEST_TEXTS: Mapping[str, int] = {"domain": 120, "description": 4000, "prompt": 20_000}
_FIELDS = ("name", *LONGEST_TEXTS, "tools", "agent", "members", "owner")


def read(
    given: Mapping[str, Any], *, owner: str, tools: Collection[str], agents: Collection[str]
) -> dict[str, Any]:
    """The fields of a project that are given, checked. Raises BadInput with every problem.

    `owner` is whose it is unless `given` says otherwise; `tools` and `agents` are those there are.
    """
    reader = _Reader(given)
    for name in sorted(set(given) - set(_FIELDS)):
        reader.problems.append(f"{name}: a project has {', '.join(_FIELDS)}, nothing else")
    reader.take("name", _called)
    for name, most in LONGEST_TEXTS.items():
        reader.take(name, partial(_text, most=most))
    reader.take("tools", partial(_tools, known=tools))
    reader.take("agent", partial(_agent, known=agents))
    reader.take("owner", _called)
    reader.take("members", partial(_members, owner=reader.found.get("owner", owner)))
    if reader.problems:
        raise BadInput("\n".join(reader.problems))
    return reader.found


def read_share(given: object) -> Share:
    """What a member may do. Raises BadInput."""
    if given not in (Share.EDITOR.value, Share.VIEWER.value):
        raise BadInput("share: takes editor or viewer")
    return Share(str(given))


def read_name(name: object, value: str = "name") -> str:
    """What a person or project is called. Raises BadInput."""
    try:
        return _called(name)
    except BadInput as error:
        raise BadInput(f"{value}: {error}") from error


class _Reader:
    """Takes field by field, and remembers what was wrong with each."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self.found: dict[str, Any] = {}
        self.problems: list[str] = []

    def take(self, name: str, read: Callable[[object], object]) -> None:
        """Take a field if it is given."""
        if name not in self._given:
            return
        try:
            self.found[name] = read(self._given[name])
        except BadInput as error:
            self.problems += [
                line if line.startswith(f"{name}.") else f"{name}: {line}"
                for line in str(error).splitlines()
            ]


def _called(given: object) -> str:
    if not isinstance(given, str) or not 1 <= len(given) <= LONGEST_NAME:
        raise BadInput(f"a text of 1 to {LONGEST_NAME} characters is needed")
    if given != given.strip() or not given.isprintable():
        raise BadInput("write it on one line, without white space around it")
    return given


def _text(given: object, *, most: int) -> str:
    if not isinstance(given, str) or len(given) > most:
        raise BadInput(f"a text of at most {most} characters is needed")
    return clean(given)


def _tools(given: object, *, known: Collection[str]) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise BadInput("a list of names is needed, or null for all")
    unknown = [one for one in dict.fromkeys(given) if one not in known]
    if unknown:
        there = ", ".join(sorted(known)) or "none"
        raise BadInput("\n".join(f"no agent has {one!r}; there are: {there}" for one in unknown))
    return tuple(dict.fromkeys(given))


def _agent(given: object, *, known: Collection[str]) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or given not in known:
        raise BadInput(f"there is no {given!r}; there are: {', '.join(known)}")
    return given


def _members(given: object, *, owner: str) -> dict[str, Share]:
    if not isinstance(given, list):
        raise BadInput("a list of {name, share} is needed")
    if len(given) > MOST_MEMBERS:
        raise BadInput(f"at most {MOST_MEMBERS}")
    found: dict[str, Share] = {}
    problems = []
    for place, one in enumerate(given):
        try:
            name, share = _member(one)
            if name == owner:
                raise BadInput("name: the owner is no member besides")
            if name in found:
                raise BadInput("name: somebody is named twice")
            found[name] = share
        except BadInput as error:
            problems.append(f"members.{place}.{error}")
    if problems:
        raise BadInput("\n".join(problems))
    return found


def _member(given: object) -> tuple[str, Share]:
    one = given if isinstance(given, Mapping) else {}
    return read_name(one.get("name")), read_share(one.get("share"))
