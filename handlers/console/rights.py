"""Who may see and change what is in projects; everything else is everybody's."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext

from aiohttp import web

from handlers.console.calls import is_id, missing, no_task
from handlers.console.gate import SAFE, Visitor
from handlers.console.watch import Watch
from handlers.http import HttpProblem
from service.core.access import UserRole
from service.core.model import ProjectId
from service.core.project import Project, Share
from service.store import projects, tasks
from service.store.database import Database

# What of a path says which project it is about; the first one that is there.
_TELLING = ("project", "session", "turn", "attachment", "delivery", "task")
_PARTED = "\n"


def reader_of(visitor: Visitor) -> str | None:
    """Whose projects a visitor sees; None sees all."""
    return None if visitor.role is UserRole.ADMIN else visitor.name


def require_owner(visitor: Visitor, project: Project) -> None:
    """Raise HttpProblem 403 unless a project is the visitor's own."""
    if not may_own(visitor, project):
        raise forbidden(f"only {project.owner}, who owns this project, and admins may do that")


def may_own(visitor: Visitor, project: Project) -> bool:
    """Whether a visitor may delete a project and say who is in it."""
    return visitor.role is UserRole.ADMIN or visitor.name == project.owner


def may_write(visitor: Visitor, project: Project) -> bool:
    """Whether a visitor may change a project and what is in it."""
    if visitor.role is UserRole.VIEWER:
        return False
    return visitor.role is UserRole.ADMIN or project.may_change(visitor.name)


def forbidden(detail: str) -> HttpProblem:
    """They may not."""
    return HttpProblem(403, "Forbidden", detail)


def _can_be(kind: str, given: str) -> bool:
    return tasks.is_name(given) if kind == "task" else is_id(given)


class Rights:
    """Asks the one question before every call and every command about something in a project."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watch = Watch(self._holding)

    async def check(self, request: web.Request, visitor: Visitor) -> ProjectId | None:
        """Let a visitor call this; the project it is about. Raises HttpProblem 403 or 404."""
        kind = next((one for one in _TELLING if one in request.match_info), None)
        if kind is None:
            return None
        return await self.require(
            visitor, kind, request.match_info[kind], write=request.method not in SAFE
        )

    async def require(
        self, visitor: Visitor, kind: str, given: str, *, write: bool
    ) -> ProjectId | None:
        """Let a visitor see or change a thing; its project. Raises HttpProblem 403 or 404.

        What there is not is for others to say.
        """
        if visitor.role is UserRole.ADMIN or not _can_be(kind, given):
            return None
        found = await self._database.read(projects.standing, visitor.name, kind, given)
        if found is None:
            return None
        if found.share is None:
            raise no_task(given) if kind == "task" else missing(kind)
        if write and found.share is Share.VIEWER:
            raise forbidden("you only look at this project; its owner may let you edit it")
        return found.project

    async def readable(self, ids: Collection[ProjectId]) -> dict[ProjectId, Project]:
        """These projects, to ask each who may see it."""
        return await self._database.read(projects.of_many, ids) if ids else {}

    def watched(
        self, project: ProjectId | None, visitor: Visitor, end: Callable[[], object]
    ) -> AbstractContextManager[object]:
        """Call `end` should the visitor see the project no more inside of the block."""
        if project is None or visitor.role is UserRole.ADMIN:
            return nullcontext()
        return self._watch.over(f"{project}{_PARTED}{visitor.name}".encode(), end)

    async def _holding(self, keys: Collection[bytes]) -> Collection[bytes]:
        parted = {key: key.decode().partition(_PARTED) for key in keys}
        ids = {ProjectId(project) for project, _, _ in parted.values()}
        found = await self.readable(ids)
        return [
            key
            for key, (project, _, name) in parted.items()
            if ProjectId(project) in found and found[ProjectId(project)].may_see(name)
        ]
