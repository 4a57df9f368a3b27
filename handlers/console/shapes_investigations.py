"""What the API says about investigations and their key results, to JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handlers.console.calls import instant
from service.core import briefing
from service.core.briefing import Section
from service.engine.investigating import Told
from service.engine.investigations import Need, View


def investigation_json(view: View) -> dict[str, Any]:
    """A session of a project, or one that is to come to something by itself."""
    return {
        "session": view.session,
        "title": view.title,
        "owner": view.owner,
        "agent": view.agent,
        "position": view.position,
        "state": view.state.value,
        "complete": view.complete,
        "updated_at": instant(view.updated_at),
        "results": view.results,
        "request": view.request,
        "schema": view.schema.as_json() if view.schema else None,
        "disposition": None if view.disposition is None else dict(view.disposition),
        "disposition_by": view.disposition_by,
        "disposition_at": instant(view.disposition_at),
        "confirmed_by": view.confirmed_by,
        "confirmed_at": instant(view.confirmed_at),
        "stale": view.stale,
        "dependencies": [need_json(one) for one in view.dependencies],
        "ready": view.ready,
        "iterations": {"used": view.iterations.used, "limit": view.iterations.limit},
        "archived": view.archived,
    }


def need_json(need: Need) -> dict[str, Any]:
    """Something that has to come first."""
    return {
        "session": need.session,
        "title": need.title,
        "field": need.field,
        "value": need.value,
        "unmet": need.unmet,
    }


def preview_json(sections: Sequence[Section], request: str | None) -> dict[str, Any]:
    """What a session is told before the conversation, and its request."""
    return {
        "sections": [{"title": one.title, "text": one.text} for one in sections],
        "whole": briefing.whole(sections),
        "request": request,
    }


def result_json(told: Told) -> dict[str, Any]:
    """A key result or candidate without its data."""
    one = told.result
    return {
        "result": one.name,
        "title": one.title,
        "description": one.description,
        "chart": None if one.chart is None else dict(one.chart),
        "display": one.display,
        "tool": one.tool,
        "arguments": one.arguments,
        "turn": one.turn,
        "created_at": instant(one.created_at),
        "promoted_at": instant(one.promoted_at),
        "promoted_by": one.promoted_by,
        "columns": None if told.table is None else list(told.table.columns),
        "rows": None if told.table is None else len(told.table.rows),
        "bytes": told.size,
    }


def whole_result_json(told: Told) -> dict[str, Any]:
    """The same with its data as people are shown it."""
    table = told.table
    shown = None if table is None else {"columns": list(table.columns), "rows": list(table.rows)}
    return {**result_json(told), "table": shown, "text": told.text}
