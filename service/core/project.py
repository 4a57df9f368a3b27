"""Who may see and change a project, and with it the sessions in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto

from service.core.model import ProjectId


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
