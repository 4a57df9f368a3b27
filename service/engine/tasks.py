"""What a task is, of the configuration or made while the service runs, and how it rings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Literal

from service.core.model import (
    Address,
    Begins,
    Binding,
    Busy,
    Cast,
    Channel,
    OccurrenceId,
    Origin,
    Ring,
    Role,
    SessionId,
    Source,
)
from service.core.schedule import Schedule
from service.core.text import clean
from service.errors import BadInput
from service.store.occurrences import Occurrence
from service.store.tasks import Definition, StoredTask

LONGEST_NAME = 48
LONGEST_PROMPT = 10_000

_CATCH_UP = timedelta(hours=1)
# Nothing comes after it: a reminder that is late is better than none.
_CATCH_UP_ONCE = timedelta(days=1)
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Task:
    """A cron trigger, compiled from the configuration or from what is stored."""

    name: str
    schedule: Schedule
    binding: Binding
    prompt: str
    sticky: bool
    catch_up: timedelta
    overlap: Literal["skip", "queue"]
    enabled: bool
    """What the configuration says; of a made task it is the switch."""
    answer_to: tuple[Address, ...] = ()
    made_by: str | None = None
    """Who made it while the service ran; None when it is one of the configuration."""
    session: SessionId | None = None
    """The session it rings into; None is one by `session_key`, or one of its own each time."""
    session_key: str | None = None
    once: bool = False
    """Whether its first due instant is its only one."""
    cast: Cast | None = None
    """The voices of its sessions, when it has a composition."""
    begins: Begins = Begins()
    problem: str | None = None
    """Why it cannot ring, if so: its instants are recorded as skipped with these words."""

    def is_of(self, new: NewTask) -> bool:
        """Whether it is the one that was wanted, whatever it is called."""
        return (
            (self.schedule, self.prompt) == (schedule_of(new), clean(new.prompt.strip()))
            and (self.session, self.once) == (new.made_in, new.once)
            and new.agent in (None, self.binding.agent)
        )

    @property
    def origin(self) -> Literal["config", "made"]:
        """Where it is defined."""
        return "config" if self.made_by is None else "made"

    def ring(self, occurrence: OccurrenceId, at: datetime, *, manual: bool) -> Ring:
        """The ring of an occurrence: the same one however often it is made."""
        instant = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        own_key = f"task:{self.name}" if self.sticky else None
        return Ring(
            channel=Channel.CRON,
            source=self.name,
            event_key=f"manual:{occurrence}" if manual else instant,
            text=self.prompt,
            binding=self.binding,
            author=self.made_by or f"task:{self.name}",
            session=self.session,
            session_key=self.session_key or own_key,
            session_source=Source.SCHEDULED,
            role=Role.EVENT,
            answer_to=self.answer_to,
            sticky=self.sticky,
            title=self.name,
            occurrence=occurrence,
            origin=Origin.SCHEDULE,
            # Nobody is there who could want to cut in.
            busy=Busy.QUEUE,
            cast=self.cast,
            schema=self.begins.schema,
            scan=self.begins.scan,
            investigation=self.begins.investigation,
            owner=self.begins.owner,
        )


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as people see it."""

    task: Task
    enabled: bool
    """Whether it rings by itself: a configured one needs the configuration and the switch."""
    next_at: datetime | None
    last: Occurrence | None


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task about to be made."""

    cron: str
    prompt: str
    author: str
    timezone: str = "UTC"
    name: str | None = None
    """What to call it; None takes the first words of the prompt."""
    agent: str | None = None
    """None is the agent of the session it is made in, or else the first one configured."""
    made_in: SessionId | None = None
    deliver: Address | None = None
    """Where to say the answer; None is the chat it is made in, if any."""
    session_key: str | None = None
    """The key of the session to ring into; None is the one it is made in, if any."""
    once: bool = False
    key: str | None = None
    """Names the call that makes it: the same author's second one with it makes nothing."""


def schedule_of(new: NewTask) -> Schedule:
    """Check everything that can be checked without the database. Raises BadInput."""
    if not 0 < len(new.prompt.strip()) <= LONGEST_PROMPT:
        raise BadInput(f"prompt: a text of 1 to {LONGEST_PROMPT} characters is needed")
    return Schedule.parse(new.cron, new.timezone)


def definition_of(
    new: NewTask, schedule: Schedule, *, agent: str, home: Address | None
) -> Definition:
    """What is stored of a new task; `home` is the chat it is made in."""
    return Definition(
        cron=schedule.expression,
        timezone=schedule.zone.key,
        agent=agent,
        prompt=clean(new.prompt.strip()),
        deliver=new.deliver or home,
        session=new.session_key,
        once=new.once,
        key=new.key,
    )


def compile_made(row: StoredTask, agents: Mapping[str, Binding]) -> Task | None:
    """The task of a row; None when it is not one that was made while the service ran."""
    definition = row.definition
    if definition is None:
        return None
    binding = agents.get(definition.agent)
    schedule, problem = _schedule(definition)
    if binding is None:
        problem = f"the agent {definition.agent!r} is not configured any more"
    return Task(
        name=row.name,
        schedule=schedule,
        binding=binding or Binding(definition.agent, "", "", ""),
        prompt=definition.prompt,
        sticky=False,
        catch_up=_CATCH_UP_ONCE if definition.once else _CATCH_UP,
        overlap="queue" if definition.once else "skip",
        enabled=row.enabled,
        answer_to=(definition.deliver,) if definition.deliver else (),
        made_by=row.made_by or "",
        session=None if definition.session else row.made_in,
        session_key=definition.session,
        once=definition.once,
        problem=problem,
    )


def free_name(wanted: str, taken: Container[str]) -> str:
    """A name made of `wanted` that is not taken: `-2` and so on comes after one that is."""
    return next(name for name in _names(_slug(wanted)) if name not in taken)


def _schedule(definition: Definition) -> tuple[Schedule, str | None]:
    try:
        return Schedule.parse(definition.cron, definition.timezone), None
    except BadInput as error:
        # It was fine when it was stored: this machine does not know the zone any more.
        return Schedule.parse("@yearly", "UTC"), str(error)


def _names(slug: str) -> Iterator[str]:
    yield slug
    for number in count(2):
        suffix = f"-{number}"
        yield slug[: LONGEST_NAME - len(suffix)].rstrip("-") + suffix


def _slug(text: str) -> str:
    """The first words of a text as a name of the configuration would be written."""
    plain = unicodedata.normalize("NFKD", text[:1000]).encode("ascii", "ignore").decode()
    slug = _NOT_IN_NAMES.sub("-", plain.lower()).strip("-_")
    if len(slug) > LONGEST_NAME:
        slug = slug[: LONGEST_NAME + 1].rpartition("-")[0] or slug
    return slug[:LONGEST_NAME].strip("-_") or "task"
