"""What the API says about what is stored: sessions, messages, agents, tasks, figures, to JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from handlers.console.rings import Abilities
from handlers.turns import Receipt
from service import config
from service.core.knobs import Knob
from service.core.model import Accepted, Attachment, Binding, Message, Reply, Usage, Voice
from service.engine.memory import KnobView, Memory
from service.engine.tasks import TaskView
from service.store.audit import Entry
from service.store.lists import Listed, Run
from service.store.occurrences import Occurrence
from service.store.search import Hit
from service.store.sessions import Session
from service.store.spending import Spent


def session_json(session: Session) -> dict[str, Any]:
    """A session as the API tells it."""
    return {
        "session": session.id,
        "key": session.key,
        "agent": session.agent,
        "title": session.title,
        "owner": session.owner,
        "busy": session.busy.value,
        "mode": session.mode.value,
        "continuation": session.continuation.value,
        "composition": session.composition,
        "task": session.task,
        "project": session.project,
        "scan": session.scan,
        "investigated": session.investigated,
        "titled": session.titled,
        "target": session.target,
        "unread": session.last_message > session.read_to,
        "last_message": session.last_message,
        "source": session.source.value,
        "origin": session.origin.value,
        "sticky": session.sticky,
        "archived": session.archived,
        "last_event": session.last_event,
        "created_at": _iso(session.created_at),
        "active_at": _iso(session.active_at),
    }


def whole_session_json(
    session: Session, processing: timedelta, usage: Usage, questions: int
) -> dict[str, Any]:
    """The same with what has to be summed up over its turns."""
    return {
        **session_json(session),
        "processing_ms": _milliseconds(processing),
        "usage": asdict(usage),
        "questions": questions,
    }


def listed_json(listed: Listed) -> dict[str, Any]:
    """A session as it stands in a list."""
    return {
        **session_json(listed.session),
        "state": listed.state.value if listed.state else None,
        "run": _run(listed.run) if listed.run else None,
    }


def _run(run: Run) -> dict[str, Any]:
    """The last time a task rang in its session."""
    duration = run.duration
    return {
        "occurrence": run.occurrence,
        "scheduled_at": _iso(run.scheduled_at),
        "started_at": _iso(run.started_at),
        "finished_at": _iso(run.finished_at),
        "state": run.state.value,
        "duration_ms": None if duration is None else _milliseconds(duration),
        "manual": run.manual,
    }


def hit_json(hit: Hit) -> dict[str, Any]:
    """A message that was found."""
    return {
        "session": hit.session,
        "title": hit.title,
        "number": hit.number,
        "role": hit.role.value,
        "author": hit.author,
        "excerpt": hit.excerpt,
        "at": _iso(hit.at),
    }


def voice_json(voice: Voice, newest: Reply | None) -> dict[str, Any]:
    """A voice, and where its newest reply is."""
    return {
        "voice": voice.id,
        "name": voice.name,
        "agent": voice.agent,
        "provider": voice.provider,
        "model": voice.model,
        "active": voice.active,
        "rounds": voice.rounds,
        "status": newest.state.value if newest else "waiting",
        "error": newest.error if newest else None,
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
        "voice": message.voice,
        "round": message.round,
        "at": _iso(message.at),
        "attachments": [attachment_json(one) for one in message.attachments],
    }


def attachment_json(file: Attachment) -> dict[str, Any]:
    """A file of a message, and where its bytes are."""
    return {
        "attachment": file.id,
        "name": file.name,
        "media_type": file.media_type,
        "size": file.size,
        "problem": file.problem,
        "url": f"/api/attachments/{file.id}",
    }


def agent_json(name: str, binding: Binding, abilities: Abilities) -> dict[str, Any]:
    """A configured agent and what it takes."""
    return {
        "agent": name,
        "provider": binding.provider,
        "model": binding.model,
        "tools": binding.tools,
        "busy": binding.busy.value,
        "attachments": list(abilities.attachments),
        "knobs": [_knob(one) for one in abilities.knobs.values()],
    }


def memory_json(memory: Memory) -> dict[str, Any]:
    """What a session remembers."""
    return {
        "state": dict(memory.state),
        "knobs": [_knob_view(one) for one in memory.knobs],
        "summary": memory.summary,
    }


def receipt_of(accepted: Accepted) -> Receipt:
    """What an operator is told of an accepted ring."""
    status_url = f"/api/turns/{accepted.turn}"
    body = {
        "turn": accepted.turn,
        "session": accepted.session,
        "number": accepted.number,
        "duplicate": accepted.duplicate,
        "answered": accepted.answered,
        "status_url": status_url,
        "events_url": f"/api/sessions/{accepted.session}/events"
        f"?turn={accepted.turn}&after={accepted.number - 1}",
    }
    headers = {
        "X-Ringback-Turn": accepted.turn,
        "X-Ringback-Session": accepted.session,
        "Location": status_url,
    }
    return Receipt(accepted, body, headers)


def task_json(view: TaskView) -> dict[str, Any]:
    """A task, where it is defined, its next instant and its last occurrence."""
    task = view.task
    return {
        "task": task.name,
        "cron": task.schedule.expression,
        "timezone": task.schedule.zone.key,
        "agent": task.binding.agent,
        "prompt": task.prompt,
        "enabled": view.enabled,
        "once": task.once,
        "origin": task.origin,
        "made_by": task.made_by,
        "made_in": task.session,
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


def run_json(one: Occurrence, started_at: datetime | None) -> dict[str, Any]:
    """The same with how long its turn took."""
    took = one.finished_at - started_at if one.finished_at and started_at else None
    return {
        **occurrence_json(one),
        "started_at": _iso(started_at),
        "duration_ms": _milliseconds(took) if took is not None else None,
    }


def upcoming(view: TaskView, most: int) -> list[str | None]:
    """The next few instants of a task."""
    instants = [view.next_at] if view.next_at is not None else []
    while instants and not view.task.once and len(instants) < most:
        instants.append(view.task.schedule.after(instants[-1]))
    return [_iso(one) for one in instants]


def limits_json(limits: config.AgentLimits) -> dict[str, Any]:
    """What an agent may take, durations in milliseconds."""
    return {
        name: _milliseconds(value) if isinstance(value, timedelta) else value
        for name, value in limits
    }


def spent_json(spent: Spent) -> dict[str, Any]:
    """What an agent took on a day."""
    return {
        "day": spent.day.isoformat(),
        "agent": spent.agent,
        "turns": spent.turns,
        "requests": spent.usage.requests,
        "input_tokens": spent.usage.input_tokens,
        "output_tokens": spent.usage.output_tokens,
        "cost_usd": spent.usage.cost_micros / 1_000_000,
        "processing_ms": _milliseconds(spent.processing),
    }


def entry_json(entry: Entry) -> dict[str, Any]:
    """Who tried what."""
    return {
        "entry": entry.id,
        "at": _iso(entry.at),
        "principal": entry.principal,
        "action": entry.action,
        "session": entry.session,
        "allowed": entry.allowed,
        "detail": dict(entry.detail),
    }


def _knob(knob: Knob) -> dict[str, Any]:
    return {
        "knob": knob.name,
        "description": knob.description,
        "default": knob.default,
        "takes": knob.takes,
        "schema": knob.schema,
        "momentary": knob.momentary,
        "model_may_set": knob.model_may_set,
    }


def _knob_view(knob: KnobView) -> dict[str, Any]:
    return {
        "knob": knob.name,
        "description": knob.description,
        "value": knob.value,
        "default": knob.default,
        "takes": knob.takes,
        "momentary": knob.momentary,
        "model_may_set": knob.model_may_set,
    }


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def _iso(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
