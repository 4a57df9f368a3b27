"""The cron channel: asks the scheduler what is due, sleeps until something will be."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from service.config import Task as Settings
from service.core.model import Address, Begins, Binding, Cast
from service.core.schedule import Schedule
from service.engine.scheduler import Scheduler
from service.engine.tasks import Task
from service.errors import StoreError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_AFTER_ERROR = timedelta(seconds=1)


def compile_task(
    name: str,
    settings: Settings,
    binding: Binding,
    answer_to: tuple[Address, ...],
    cast: Cast | None = None,
    begins: Begins | None = None,
) -> Task:
    """Make a task of its settings. Raises BadInput when its schedule cannot be."""
    return Task(
        name=name,
        schedule=Schedule.parse(settings.cron, settings.timezone),
        binding=binding,
        prompt=settings.prompt,
        sticky=settings.sticky_session,
        catch_up=settings.catch_up,
        overlap=settings.overlap,
        enabled=settings.enabled,
        answer_to=answer_to,
        cast=cast,
        begins=begins or Begins(),
    )


async def tick(scheduler: Scheduler) -> None:
    """Ring what is due, for ever; an outage of the database only delays it."""
    while True:
        try:
            pause = await scheduler.ring_due()
        except StoreError as error:
            log.warning("scheduler.failed", error=str(error))
            pause = _AFTER_ERROR
        await asyncio.sleep(pause.total_seconds())
