"""The JSON Schemas of what the API takes and tells, by name."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from service.core.findings import Display
from service.core.model import Busy, Channel, Ended, QuestionKind, Role, Source, TurnKind
from service.core.project import Share
from service.core.rounds import MOST_ROUNDS, Continuation, Mode
from service.core.states import (
    DeliveryState,
    InboxState,
    OccurrenceState,
    ReplyState,
    TurnState,
)
from service.core.tabular import ChartKind

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
YES_OR_NO: Schema = {"type": "boolean"}
ID: Schema = {"type": "string", "pattern": "^[0-9a-f-]{36}$"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
OBJECT: Schema = {"type": "object"}
ANY: Schema = {}
TEXTS: Schema = {"type": "array", "items": TEXT}


def kinds(enum: type[StrEnum]) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": [one.value for one in enum]}


def maybe(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    """A list of them."""
    return {"type": "array", "items": schema}


def the(name: str) -> Schema:
    """The schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def told(**fields: Schema) -> Schema:
    """An object that we tell: it has all of these fields and no others."""
    return {**taken(tuple(fields), **fields), "additionalProperties": False}


def taken(needed: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    """An object that we take: fields may be left out unless they are needed."""
    required = {"required": list(needed)} if needed else {}
    return {"type": "object", **required, "properties": fields}


def page(name: str, of: str) -> Schema:
    """A page of a list, with the cursor of the next one."""
    return told(**{name: many(the(of)), "next": maybe(TEXT)})


_ME: Mapping[str, Schema] = {
    "name": TEXT,
    "role": {"type": "string", "enum": ["viewer", "operator", "admin"]},
}
_SESSION: Mapping[str, Schema] = {
    "session": ID,
    "key": maybe(TEXT),
    "agent": TEXT,
    "title": maybe(TEXT),
    "titled": YES_OR_NO,
    "owner": TEXT,
    "busy": kinds(Busy),
    "mode": kinds(Mode),
    "continuation": kinds(Continuation),
    "composition": maybe(TEXT),
    "task": maybe(TEXT),
    "project": maybe(ID),
    "scan": maybe(TEXT),
    "investigated": YES_OR_NO,
    "target": maybe(ID),
    "unread": YES_OR_NO,
    "last_message": COUNT,
    "source": kinds(Source),
    "origin": kinds(Channel),
    "sticky": YES_OR_NO,
    "archived": YES_OR_NO,
    "last_event": COUNT,
    "created_at": INSTANT,
    "active_at": INSTANT,
}
_LISTED: Mapping[str, Schema] = {
    **_SESSION,
    "state": maybe(kinds(TurnState)),
    "run": maybe(the("LastRun")),
}
_PROJECT: Mapping[str, Schema] = {
    "project": ID,
    "name": TEXT,
    "domain": TEXT,
    "description": TEXT,
    "prompt": TEXT,
    "tools": maybe(TEXTS),
    "agent": maybe(TEXT),
    "owner": TEXT,
    "share": maybe(kinds(Share)),
    "private": YES_OR_NO,
    "template": maybe(TEXT),
    "created_at": INSTANT,
    "updated_at": INSTANT,
    "members": many(the("Member")),
    "sessions": COUNT,
    "results": COUNT,
    "active_at": INSTANT,
}
_TEMPLATE: Mapping[str, Schema] = {
    "template": TEXT,
    "made_by": TEXT,
    "updated_at": INSTANT,
    "sessions": COUNT,
    "description": TEXT,
}
_PROJECT_SESSION: Mapping[str, Schema] = {
    "session": ID,
    "title": maybe(TEXT),
    "owner": TEXT,
    "agent": TEXT,
    "position": maybe(COUNT),
    "state": {"type": "string", "enum": ["not_started", "queued", "running", "waiting", "idle"]},
    "complete": YES_OR_NO,
    "updated_at": INSTANT,
    "results": COUNT,
    "request": maybe(TEXT),
    "schema": maybe(OBJECT),
    "disposition": maybe(OBJECT),
    "disposition_by": maybe(TEXT),
    "disposition_at": maybe(INSTANT),
    "confirmed_by": maybe(TEXT),
    "confirmed_at": maybe(INSTANT),
    "stale": YES_OR_NO,
    "dependencies": many(the("Dependency")),
    "ready": YES_OR_NO,
    "iterations": told(used=COUNT, limit=COUNT),
    "archived": YES_OR_NO,
}
_RESULT: Mapping[str, Schema] = {
    "result": TEXT,
    "title": maybe(TEXT),
    "description": TEXT,
    "chart": maybe(the("Chart")),
    "display": kinds(Display),
    "tool": TEXT,
    "arguments": TEXT,
    "turn": ID,
    "created_at": INSTANT,
    "promoted_at": maybe(INSTANT),
    "promoted_by": maybe(TEXT),
    "columns": maybe(TEXTS),
    "rows": maybe(COUNT),
    "bytes": COUNT,
}
_OCCURRENCE: Mapping[str, Schema] = {
    "occurrence": ID,
    "scheduled_at": INSTANT,
    "manual": YES_OR_NO,
    "state": kinds(OccurrenceState),
    "reason": maybe(TEXT),
    "turn": maybe(ID),
    "session": maybe(ID),
    "finished_at": maybe(INSTANT),
}
_RECEIPT: Mapping[str, Schema] = {
    "turn": ID,
    "session": ID,
    "number": COUNT,
    "duplicate": YES_OR_NO,
    "answered": YES_OR_NO,
    "status_url": TEXT,
    "events_url": TEXT,
}
_TURN: Mapping[str, Schema] = {
    "turn": ID,
    "session": ID,
    "kind": kinds(TurnKind),
    "state": kinds(TurnState),
    "ended": maybe(kinds(Ended)),
    "interrupted_by": maybe(TEXT),
    "text": TEXT,
    "error": maybe(TEXT),
    "created_at": INSTANT,
    "started_at": maybe(INSTANT),
    "finished_at": maybe(INSTANT),
    "processing_ms": COUNT,
    "usage": the("Usage"),
    "questions": many(the("Question")),
}
_COME_TO: Mapping[str, Schema] = {
    "disposition": maybe(told(values=OBJECT, stale=YES_OR_NO, confirmed_by=maybe(TEXT))),
    "results": many(OBJECT),
}
_MORE_OF_TURN: Mapping[str, Schema] = {
    "replies": many(
        told(
            voice=ID,
            name=TEXT,
            round=COUNT,
            state=kinds(ReplyState),
            text=TEXT,
            error=maybe(TEXT),
        )
    ),
    **_COME_TO,
    "scan": told(
        project=maybe(ID),
        sessions=many(
            told(session=ID, title=TEXT, state=TEXT, reason=maybe(TEXT), **_COME_TO),
        ),
    ),
}
_VOICE: Mapping[str, Schema] = {
    "agent": maybe(TEXT),
    "provider": maybe(TEXT),
    "model": maybe(TEXT),
    "prompt": TEXT,
    "name": maybe(TEXT),
    "rounds": {"type": "integer", "minimum": 0, "maximum": MOST_ROUNDS},
}

SCHEMAS: Mapping[str, Schema] = {
    "Problem": {
        **taken(
            ("status", "title"),
            status=WHOLE,
            title=TEXT,
            detail=TEXT,
            errors=many(the("LineError")),
        ),
        "description": "What went wrong and what to do about it (RFC 9457).",
    },
    "LineError": told(line={**WHOLE, "minimum": 1}, message=TEXT),
    "Me": told(**_ME, limits=told(attachment_bytes=COUNT, attachments_per_message=COUNT)),
    "SignedIn": told(**_ME),
    "Member": told(name=TEXT, share=kinds(Share)),
    "NewProject": taken(
        ("name",),
        name={**TEXT, "maxLength": 120},
        domain={**TEXT, "maxLength": 120},
        description={**TEXT, "maxLength": 4000},
        prompt={**TEXT, "maxLength": 20_000},
        tools=maybe(TEXTS),
        agent=maybe(TEXT),
        members=many(the("Member")),
    ),
    "Project": told(**_PROJECT),
    "WholeProject": told(
        **_PROJECT,
        investigations=many(the("ProjectSession")),
        may_write=YES_OR_NO,
        may_own=YES_OR_NO,
        available_tools=TEXTS,
    ),
    "Dependency": told(
        session=ID, title=TEXT, field=maybe(TEXT), value=maybe(TEXT), unmet=maybe(TEXT)
    ),
    "NewDependency": taken(("session",), session=ID, field=maybe(TEXT), value=maybe(TEXT)),
    "ProjectSession": told(**_PROJECT_SESSION),
    "Investigation": told(**_PROJECT_SESSION, project=maybe(ID)),
    "Disposition": told(
        values=maybe(OBJECT),
        schema=maybe(OBJECT),
        stale=YES_OR_NO,
        by=maybe(TEXT),
        at=maybe(INSTANT),
        confirmed_by=maybe(TEXT),
        confirmed_at=maybe(INSTANT),
    ),
    "Chart": taken(("kind", "x", "y"), kind=kinds(ChartKind), x=TEXT, y=TEXTS, title=TEXT),
    "Result": {
        **told(**_RESULT),
        "description": "A candidate while it has no title; columns and rows of tables only.",
    },
    "WholeResult": told(
        **_RESULT, table=maybe(told(columns=TEXTS, rows=many(many(ANY)))), text=maybe(TEXT)
    ),
    "Preview": told(sections=many(told(title=TEXT, text=TEXT)), whole=TEXT, request=maybe(TEXT)),
    "NewProjectSession": taken(
        (),
        title=maybe(TEXT),
        request=maybe(TEXT),
        schema=maybe(OBJECT),
        dependencies=maybe(many(the("NewDependency"))),
        agent=maybe(TEXT),
        start=YES_OR_NO,
    ),
    "MadeProjectSession": {
        **taken(tuple(_PROJECT_SESSION), **_PROJECT_SESSION, unstarted=TEXT),
        "additionalProperties": False,
        "description": "unstarted says why it could not begin, if it was to.",
    },
    "Template": told(**_TEMPLATE),
    "WholeTemplate": told(**_TEMPLATE, source=TEXT),
    "Session": told(**_SESSION),
    "ListedSession": told(**_LISTED),
    "WholeSession": told(
        **_LISTED,
        processing_ms=COUNT,
        usage=the("Usage"),
        questions=COUNT,
        voices=many(the("Voice")),
        tasks=TEXTS,
    ),
    "LastRun": told(
        occurrence=ID,
        scheduled_at=INSTANT,
        started_at=maybe(INSTANT),
        finished_at=maybe(INSTANT),
        state=kinds(OccurrenceState),
        duration_ms=maybe(COUNT),
        manual=YES_OR_NO,
    ),
    "Voice": told(
        voice=ID,
        name=TEXT,
        agent=TEXT,
        provider=TEXT,
        model=TEXT,
        active=YES_OR_NO,
        rounds=COUNT,
        status=kinds(ReplyState),
        error=maybe(TEXT),
    ),
    "NewVoice": {
        **taken((), **_VOICE),
        "description": "An agent, or a provider with a model, prompt and name.",
    },
    "Usage": told(input_tokens=COUNT, output_tokens=COUNT, requests=COUNT, cost_micros=COUNT),
    "Message": told(
        number=COUNT,
        role=kinds(Role),
        author=TEXT,
        text=TEXT,
        status={"type": "string", "enum": ["complete", "partial", "error"]},
        turn=maybe(ID),
        voice=maybe(ID),
        round=maybe(COUNT),
        at=INSTANT,
        attachments=many(the("Attachment")),
    ),
    "Attachment": told(
        attachment=ID,
        name=TEXT,
        media_type=TEXT,
        size=COUNT,
        problem=maybe(TEXT),
        url=TEXT,
    ),
    "Hit": told(
        session=ID,
        title=maybe(TEXT),
        number=COUNT,
        role=kinds(Role),
        author=TEXT,
        excerpt=TEXT,
        at=INSTANT,
    ),
    "Event": {
        **taken(("turn", "at"), turn=maybe(ID), at=INSTANT),
        "description": "The data of one entry of a session's feed. The id of the frame is its "
        "number, without gaps; the event of the frame is its kind, which says what else is in it.",
    },
    "Receipt": told(**_RECEIPT),
    "Turn": {
        **taken(tuple(_TURN), **_TURN, **_MORE_OF_TURN),
        "additionalProperties": False,
        "description": "replies of several voices only; disposition and results where a session "
        "is to come to something; scan of a template's.",
    },
    "AskedReceipt": told(**_RECEIPT, project=ID),
    "ReceiptOrTurn": {
        "anyOf": [the("Receipt"), taken(("turn", "state"), **_TURN, **_MORE_OF_TURN)]
    },
    "Question": {
        **taken(
            ("question", "kind", "text", "choices", "asked_of", "expires_at"),
            question=ID,
            kind=kinds(QuestionKind),
            text=TEXT,
            choices=TEXTS,
            asked_of=TEXT,
            expires_at=INSTANT,
            tool=TEXT,
            arguments=ANY,
        ),
        "additionalProperties": False,
        "description": "tool and arguments only where the use of a tool is to be approved.",
    },
    "Knob": told(
        knob=TEXT,
        description=TEXT,
        default=ANY,
        takes=TEXT,
        schema=OBJECT,
        momentary=YES_OR_NO,
        model_may_set=YES_OR_NO,
    ),
    "TurnedKnob": told(
        knob=TEXT,
        description=TEXT,
        value=ANY,
        default=ANY,
        takes=TEXT,
        momentary=YES_OR_NO,
        model_may_set=YES_OR_NO,
    ),
    "Memory": told(state=OBJECT, knobs=many(the("TurnedKnob")), summary=maybe(TEXT)),
    "Agent": told(
        agent=TEXT,
        provider=TEXT,
        model=TEXT,
        tools=TEXTS,
        busy=kinds(Busy),
        attachments=TEXTS,
        knobs=many(the("Knob")),
        limits=maybe(OBJECT),
    ),
    "Task": told(
        task=TEXT,
        cron=TEXT,
        timezone=TEXT,
        agent=TEXT,
        prompt=TEXT,
        enabled=YES_OR_NO,
        once=YES_OR_NO,
        origin=TEXT,
        made_by=maybe(TEXT),
        made_in=maybe(ID),
        next_at=maybe(INSTANT),
        last=maybe(the("Occurrence")),
    ),
    "Occurrence": told(**_OCCURRENCE),
    "Run": told(**_OCCURRENCE, started_at=maybe(INSTANT), duration_ms=maybe(COUNT)),
    "Delivery": told(
        delivery=ID,
        turn=maybe(ID),
        replayed_as=maybe(ID),
        session=maybe(ID),
        channel=kinds(Channel),
        address=TEXT,
        state=kinds(DeliveryState),
        attempt=COUNT,
        error=maybe(TEXT),
        text=maybe(TEXT),
        due_at=INSTANT,
        created_at=INSTANT,
    ),
    "Received": told(
        channel=kinds(Channel),
        source=TEXT,
        event_key=TEXT,
        state=kinds(InboxState),
        reason=maybe(TEXT),
        turn=maybe(ID),
        bytes=COUNT,
        received_at=INSTANT,
    ),
    "Composition": told(
        name=TEXT,
        voices=many(the("NewVoice")),
        mode=kinds(Mode),
        continuation=kinds(Continuation),
        origin={"type": "string", "enum": ["config", "made"]},
        archived=YES_OR_NO,
        updated_at=maybe(INSTANT),
        problems=TEXTS,
    ),
    "NewComposition": taken(
        ("voices",),
        name=TEXT,
        voices=many(the("NewVoice")),
        mode=kinds(Mode),
        continuation=kinds(Continuation),
        archived=YES_OR_NO,
    ),
    "Webhook": told(
        name=TEXT,
        url=TEXT,
        auth=TEXT,
        agent=maybe(TEXT),
        composition=maybe(TEXT),
        reply=TEXT,
        session=maybe(TEXT),
        prompt=maybe(TEXT),
        callback=YES_OR_NO,
        telegram=maybe(TEXT),
        permit=TEXTS,
        approve=TEXTS,
        ask=TEXT,
        rings=COUNT,
        last_ring_at=maybe(INSTANT),
    ),
    "Telegram": told(
        bot=TEXT,
        username=maybe(TEXT),
        healthy=YES_OR_NO,
        mode=TEXT,
        agent=TEXT,
        groups=TEXT,
        allow=many(the("Allowed")),
        pending=many(the("Pending")),
    ),
    "Allowed": told(id=WHOLE, origin={"type": "string", "enum": ["config", "made"]}),
    "Pending": told(
        id=WHOLE,
        kind={"type": "string", "enum": ["person", "group"]},
        name=maybe(TEXT),
        username=maybe(TEXT),
        title=maybe(TEXT),
        text=maybe(TEXT),
        at=INSTANT,
        line=TEXT,
    ),
    "Spent": told(
        day={"type": "string", "format": "date"},
        agent=TEXT,
        turns=COUNT,
        requests=COUNT,
        input_tokens=COUNT,
        output_tokens=COUNT,
        cost_usd=NUMBER,
        processing_ms=COUNT,
    ),
    "Entry": told(
        entry=ID,
        at=INSTANT,
        principal=TEXT,
        action=TEXT,
        session=maybe(ID),
        allowed=YES_OR_NO,
        detail=OBJECT,
    ),
}
