"""The tools with which an agent makes tasks for later: reminders once, or again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.agents.tools import Arguments, Outcome, Tool
from service.core.model import Origin, Refusal
from service.engine.scheduler import Scheduler
from service.engine.tasks import LONGEST_PROMPT, NewTask, Task, TaskView
from service.errors import BadInput
from service.ports import Caller, ToolSpec

NAME = "schedule"
"""Stands for all of these tools in the configuration."""

_INSTANTS = 3
_LONGEST_WORD = 255


def schedule_tools(scheduler: Callable[[], Scheduler]) -> Sequence[Tool]:
    """Make the tools. A task belongs to the author of the turn that made it.

    The scheduler is asked for when a tool is called: it is made after the agents it rings.
    """
    mine = _Tasks(scheduler)
    return (
        Tool(_LIST, mine.list),
        Tool(_ADD, mine.add),
        Tool(_REMOVE, mine.remove),
        Tool(_ENABLE, mine.enable),
    )


@dataclass(frozen=True, slots=True)
class _Tasks:
    scheduler: Callable[[], Scheduler]

    async def list(self, _: Arguments, caller: Caller) -> Outcome:
        """The caller's tasks; of the configured ones nothing but the names."""
        views = await self.scheduler().tasks()
        now = datetime.now(UTC)
        mine = [_told(view, now) for view in views if _may_see(view.task, caller)]
        configured = [view.task.name for view in views if view.task.origin == "config"]
        lines = [f"- {_line(one)}: {one['prompt']}" for one in mine] or ["There are no tasks."]
        if configured:
            lines.append(f"Tasks of the configuration: {', '.join(configured)}.")
        return Outcome("\n".join(lines), {"tasks": mine, "configured": configured})

    async def add(self, arguments: Arguments, caller: Caller) -> Outcome:
        """Make a task, once for each call, also when the call is made again after a crash."""
        made = await self.scheduler().add(
            NewTask(
                cron=arguments["cron"],
                prompt=arguments["prompt"],
                author=caller.author,
                timezone=arguments.get("timezone", "UTC"),
                name=arguments["name"],
                made_in=caller.session,
                once=arguments.get("once", False),
                key=caller.key,
            )
        )
        return _outcome("Made", _possible(made))

    async def remove(self, arguments: Arguments, caller: Caller) -> Outcome:
        """Forget one of the caller's tasks."""
        name = arguments["name"]
        refusal = await self.scheduler().remove(name, by=caller.author)
        if refusal is not None:
            raise _mendable(refusal)
        return Outcome(f"Removed {name}.", {"removed": name})

    async def enable(self, arguments: Arguments, caller: Caller) -> Outcome:
        """Turn one of the caller's tasks on or off."""
        name, on = arguments["name"], arguments["enabled"]
        changed = await self.scheduler().enable(name, on=on, by=caller.author)
        return _outcome("Turned on" if on else "Turned off", _possible(changed))


def _may_see(task: Task, caller: Caller) -> bool:
    """Whether the words of a task may be told here, where others may read along."""
    if task.made_by != caller.author:
        return False
    return caller.origin is Origin.PERSON or task.session == caller.session


def _possible(outcome: TaskView | Refusal) -> TaskView:
    if isinstance(outcome, Refusal):
        raise _mendable(outcome)
    return outcome


def _mendable(refusal: Refusal) -> BadInput:
    return BadInput(f"{refusal.detail[0].upper()}{refusal.detail[1:]}. See schedule_list.")


def _outcome(done: str, view: TaskView) -> Outcome:
    told = _told(view, datetime.now(UTC))
    return Outcome(f"{done} {_line(told)}.", told)


def _told(view: TaskView, now: datetime) -> dict[str, Any]:
    task = view.task
    return {
        "name": task.name,
        "cron": task.schedule.expression,
        "timezone": task.schedule.zone.key,
        "once": task.once,
        "enabled": view.enabled,
        "prompt": task.prompt,
        "next": [at.isoformat(timespec="minutes") for at in _instants(view, now)],
    }


def _instants(view: TaskView, now: datetime) -> list[datetime]:
    """When it rings next, by the clocks of its zone."""
    schedule, at = view.task.schedule, now
    instants: list[datetime] = []
    while view.enabled and len(instants) < (1 if view.task.once else _INSTANTS):
        at = schedule.after(at)
        instants.append(at.astimezone(schedule.zone))
    return instants


def _line(told: dict[str, Any]) -> str:
    often = "once" if told["once"] else told["cron"]
    due = f"next {', '.join(told['next'])}" if told["next"] else "off"
    return f"{told['name']} ({often}, {told['timezone']}; {due})"


def _spec(
    name: str, description: str, properties: dict[str, Any], required: Sequence[str]
) -> ToolSpec:
    """How all of them are declared: doing the same again does no harm, all but the list change."""
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    outward = name != "schedule_list"
    return ToolSpec(name, description, parameters, idempotent=True, outward=outward)


_TEXT = {"type": "string", "minLength": 1, "maxLength": _LONGEST_WORD}
_ONE = {**_TEXT, "description": "The task's name, as schedule_list tells it."}

_LIST = _spec("schedule_list", "List the tasks that were made for this person.", {}, ())
_ADD = _spec(
    "schedule_add",
    "Make a task: at its times you are given the prompt in this conversation, and your answer is "
    "told here. For a reminder at one time, write a cron expression with that minute, hour, day "
    "and month, and set once.",
    {
        "name": {**_TEXT, "description": "A few words to call it by."},
        "cron": {
            **_TEXT,
            "description": "Five fields: minute hour day-of-month month day-of-week.",
        },
        "prompt": {
            "type": "string",
            "description": "What you are to do then; it must make sense by itself. At most "
            f"{LONGEST_PROMPT} characters.",
        },
        "timezone": {**_TEXT, "description": "IANA name of the person's zone; default UTC."},
        "once": {"type": "boolean", "description": "Whether the first time is the only one."},
    },
    ("name", "cron", "prompt"),
)
_REMOVE = _spec("schedule_remove", "Remove a task for good.", {"name": _ONE}, ("name",))
_ENABLE = _spec(
    "schedule_enable",
    "Turn a task off, or on again.",
    {"name": _ONE, "enabled": {"type": "boolean"}},
    ("name", "enabled"),
)
