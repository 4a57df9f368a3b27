"""What the API says about sessions, messages, tasks and occurrences: the stored to JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.core.model import Message
from service.engine.scheduler import TaskView
from service.store.occurrences import Occurrence
from service.store.sessions import Session


def session_json(session: Session) -> dict[str, Any]:
    """A session as the API tells it."""
    return {
        "session": session.id,
        "key": session.key,
        "agent": session.agent,
        "title": session.title,
        "source": session.source.value,
        "origin": session.origin.value,
        "sticky": session.sticky,
        "archived": session.archived,
        "last_event": session.last_event,
        "created_at": _iso(session.created_at),
        "active_at": _iso(session.active_at),
    }


def message_json(message: Message) -> dict[str, Any]:
    """A message as the API tells it."""
    return {
        "number": message.number,
        "role": message.role.value,
        "author": message.author,
        "text": message.text,
        "status": message.status,
        "turn": message.turn,
        "at": _iso(message.at),
    }


def task_json(view: TaskView) -> dict[str, Any]:
    """A task, its next instant and its last occurrence."""
    task = view.task
    return {
        "task": task.name,
        "cron": task.schedule.expression,
        "timezone": task.schedule.zone.key,
        "agent": task.binding.agent,
        "prompt": task.prompt,
        "enabled": task.enabled,
        "next_at": _iso(view.next_at),
        "last": occurrence_json(view.last) if view.last else None,
    }


def occurrence_json(one: Occurrence) -> dict[str, Any]:
    """A due instant of a task and what became of it."""
    return {
        "occurrence": one.id,
        "scheduled_at": _iso(one.scheduled_at),
        "manual": one.manual,
        "state": one.state.value,
        "reason": one.reason,
        "turn": one.turn,
        "session": one.session,
        "finished_at": _iso(one.finished_at),
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
