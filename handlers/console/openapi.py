"""What can be called, as OpenAPI 3.1: one row for each route."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aiohttp import web

from handlers.console.schemas import (
    ANY,
    COUNT,
    ID,
    INSTANT,
    OBJECT,
    SCHEMAS,
    TEXT,
    TEXTS,
    WHOLE,
    YES_OR_NO,
    Schema,
    kinds,
    many,
    maybe,
    page,
    taken,
    the,
    told,
)
from service import release
from service.core.access import least_role
from service.core.findings import Display
from service.core.model import Busy, Channel
from service.core.rounds import Continuation, Mode
from service.core.states import DeliveryState, InboxState
from service.store.lists import View

_EVENTS = "text/event-stream"
_JSON = "application/json"
# What these hold, whatever the same call tells as JSON.
_ALWAYS: Mapping[str, Schema] = {
    _EVENTS: the("Event"),
    **dict.fromkeys(("text/csv", "text/markdown", "text/plain"), TEXT),
}
_PARAMETER = re.compile(r"\{(\w+)\}")
_IDS = frozenset({"session", "turn", "voice", "attachment", "delivery", "project"})
_SOCKET = """\
JSON in text frames. The client says {"do": …}: follow {session, after?}, unfollow {session},
send {session, text, target?, busy?, knobs?, key?}, stop {session, voice?},
interrupt {session, text?}, answer {session, question, answer}, ping; with "id" of its choice.
The service says {"event": {session, number, kind, turn, at, data}}, {"done": …} or
{"error": {do, id, status, detail}} for each message, {"pong": true}, and
{"session": ListedSession} whenever one changed. The same "key" makes a repeated send harmless.
Close codes: 1001 the service stops, 1008 signed out, 1009 a message above 256 KiB, 1013 too slow:
come back and follow after the last number you have.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One route."""

    method: str
    path: str
    summary: str
    answer: Schema | None = None
    """None when there is nothing to say but the status."""
    body: Schema | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    status: int = 200
    also: tuple[int, ...] = ()
    """Other statuses that come with the same answer."""
    media: tuple[str, ...] = (_JSON,)
    description: str = ""
    open: bool = False
    """Whether it takes no credential of the API."""


_PAGE: Mapping[str, Schema] = {
    "limit": {**COUNT, "maximum": 200, "default": 50},
    "cursor": {**TEXT, "description": 'What "next" of the page before said.'},
}
_AFTER: Mapping[str, Schema] = {"after": {**COUNT, "default": 0}}
_BEFORE: Mapping[str, Schema] = {
    "before": {**COUNT, "minimum": 1, "description": "A number: the last ones before it."}
}
_WAIT: Mapping[str, Schema] = {
    "wait": {**COUNT, "maximum": 60, "default": 0, "description": "Seconds to wait for the end."}
}
_RUNG = "202, or the whole turn with Prefer: wait=N, or its events with Accept: text/event-stream."
_SET_UP: Mapping[str, Schema] = {
    "mode": kinds(Mode),
    "continuation": kinds(Continuation),
    "busy": kinds(Busy),
}
_ONE = "/api/sessions/{session}"
_PROJECT = "/api/projects/{project}"
_TEMPLATE = "/api/templates/{template}"
_FILE = "The body may also be the file itself, as text/markdown."


def _rings(path: str, summary: str, body: Schema | None) -> Call:
    answer = the("ReceiptOrTurn")
    media = (_JSON, _EVENTS)
    return Call("POST", path, summary, answer, body, {}, 202, (200,), media, _RUNG)


def _keeps(what: str, summary: str) -> Call:
    return Call("POST", f"{_ONE}/{what}", summary, the("ListedSession"))


CALLS: Sequence[Call] = (
    Call("GET", "/api/me", "Who asks.", the("Me")),
    Call("GET", "/api/people", "Who signs in with a password, by name.", told(people=TEXTS)),
    Call("GET", "/api/openapi.json", "This document.", OBJECT),
    Call(
        "GET",
        "/api/ws",
        "A WebSocket: follow and steer any number of sessions.",
        status=101,
        description=_SOCKET,
    ),
    # -- sessions
    Call(
        "GET",
        "/api/sessions",
        "Sessions of a list, page by page.",
        page("sessions", "ListedSession"),
        query={"view": kinds(View), "q": {**TEXT, "maxLength": 200}, "project": ID, **_PAGE},
    ),
    Call(
        "POST",
        "/api/sessions",
        "Begin a session, or get the one that has the key.",
        the("Session"),
        taken(
            (),
            key=TEXT,
            title=TEXT,
            agent=TEXT,
            model=TEXT,
            composition=TEXT,
            voices=many(the("NewVoice")),
            schema=maybe(OBJECT),
            **_SET_UP,
        ),
        status=201,
        also=(200,),
    ),
    Call("GET", _ONE, "One session.", the("WholeSession")),
    Call(
        "PATCH",
        _ONE,
        "Name a session, or change how it takes messages.",
        the("ListedSession"),
        taken((), title=TEXT, target=maybe(ID), **_SET_UP),
    ),
    Call(
        "DELETE",
        _ONE,
        "Delete a session for good; one that others depend on with dependants=keep.",
        query={"dependants": {"type": "string", "enum": ["keep"]}},
        status=204,
    ),
    _keeps("archive", "Put a session away, to be read only."),
    _keeps("restore", "Bring a session back from the archive."),
    _keeps("pin", "Keep a session on top of its list, and out of the archive."),
    _keeps("unpin", "Let go of a pinned session."),
    _keeps("read", "Note that everything in a session was looked at."),
    Call(
        "GET",
        f"{_ONE}/export",
        "Everything that was said, to be saved.",
        told(session=the("Session"), messages=many(the("Message"))),
        query={"format": {"type": "string", "enum": ["markdown", "json", "text"]}},
        media=("text/markdown", _JSON, "text/plain"),
    ),
    Call(
        "GET",
        "/api/search",
        "The newest messages that hold every word.",
        told(hits=many(the("Hit"))),
        query={
            "q": {**TEXT, "minLength": 2, "maxLength": 200},
            "limit": {**COUNT, "maximum": 50, "default": 20},
        },
    ),
    Call(
        "GET",
        f"{_ONE}/messages",
        "Messages after a number, or the last ones before one; oldest first.",
        told(messages=many(the("Message"))),
        query={**_AFTER, **_BEFORE, "limit": {**COUNT, "maximum": 200, "default": 100}},
    ),
    _rings(
        f"{_ONE}/messages",
        "Say something.",
        taken(
            (),
            text=TEXT,
            target=maybe(TEXT),
            busy=maybe(kinds(Busy)),
            knobs=OBJECT,
            attachments=many(taken(("name", "data"), name=TEXT, data=TEXT, media_type=TEXT)),
        ),
    ),
    _rings(f"{_ONE}/render", "Let the session go on without a word.", taken((), knobs=OBJECT)),
    _rings(f"{_ONE}/compact", "Have the history summed up.", None),
    Call("POST", f"{_ONE}/clear", "Let what the model is told begin anew.", status=204),
    Call(
        "POST",
        f"{_ONE}/stop",
        "Stop what runs and what waits, or one voice.",
        told(stopped=COUNT),
        taken((), voice=maybe(TEXT)),
    ),
    Call(
        "POST",
        f"{_ONE}/interrupt",
        "Have what runs pause and ask how to go on; with text, go on with that.",
        {"anyOf": [told(interrupt=TEXT), the("ReceiptOrTurn")]},
        taken((), text=TEXT),
        also=(202,),
    ),
    Call(
        "GET",
        f"{_ONE}/questions",
        "The open questions, oldest first.",
        told(questions=many(the("Question"))),
    ),
    Call(
        "POST",
        f"{_ONE}/answer",
        "Answer a question, once.",
        told(question=ID, turn=ID, status_url=TEXT),
        taken(("question", "answer"), question=ID, answer=TEXT),
    ),
    Call(
        "GET",
        f"{_ONE}/events",
        "The events after a number, without end; with turn, to the end of that turn.",
        the("Event"),
        query={**_AFTER, "turn": ID},
        media=(_EVENTS,),
    ),
    Call("GET", f"{_ONE}/state", "State, knobs and summary.", the("Memory")),
    Call(
        "PATCH",
        f"{_ONE}/state",
        "Merge into state and knobs; null takes away.",
        the("Memory"),
        taken((), state=OBJECT, knobs=OBJECT),
    ),
    Call("GET", f"{_ONE}/voices", "Voices in their order.", told(voices=many(the("Voice")))),
    Call(
        "POST",
        f"{_ONE}/voices",
        "Let a further voice take part.",
        told(voices=many(the("Voice"))),
        the("NewVoice"),
        status=201,
    ),
    Call(
        "PATCH",
        f"{_ONE}/voices/{{voice}}",
        "Let a voice rest or speak, or set its further rounds.",
        told(voices=many(the("Voice"))),
        taken((), active=YES_OR_NO, rounds=COUNT),
    ),
    # -- investigations
    Call(
        "GET", f"{_ONE}/investigation", "What it is to come to, and came to.", the("Investigation")
    ),
    Call(
        "PATCH",
        f"{_ONE}/investigation",
        "Change title and schema, and before it started its request.",
        the("Investigation"),
        taken((), title=TEXT, request=maybe(TEXT), schema=maybe(OBJECT)),
    ),
    Call(
        "GET",
        f"{_ONE}/preview",
        "What its agent would be told before the conversation.",
        the("Preview"),
    ),
    _rings(f"{_ONE}/start", "Begin a session with its request, once.", None),
    Call("POST", f"{_ONE}/extend", "Allow 35 further iterations.", the("Investigation")),
    Call(
        "GET",
        f"{_ONE}/dependencies",
        "What has to come first.",
        told(dependencies=many(the("Dependency"))),
    ),
    Call(
        "PUT",
        f"{_ONE}/dependencies",
        "Let a session depend on these and no others.",
        told(dependencies=many(the("Dependency"))),
        taken(("dependencies",), dependencies=many(the("NewDependency"))),
    ),
    Call("GET", f"{_ONE}/disposition", "What it came to.", the("Disposition")),
    Call(
        "PUT",
        f"{_ONE}/disposition",
        "Set the disposition, or correct it.",
        the("Disposition"),
        taken(("values",), values=OBJECT),
    ),
    Call(
        "POST",
        f"{_ONE}/disposition/confirm",
        "Agree to the disposition there is.",
        the("Disposition"),
    ),
    Call(
        "GET",
        f"{_ONE}/results",
        "The key results as they were promoted; with all=1 candidates, too.",
        told(results=many(the("Result"))),
        query={"all": {"type": "string", "enum": ["0", "1"], "default": "0"}},
    ),
    Call("GET", f"{_ONE}/results/{{result}}", "A result with its data.", the("WholeResult")),
    Call(
        "PATCH",
        f"{_ONE}/results/{{result}}",
        "Promote a result, or show it in another way.",
        the("Result"),
        taken(
            (),
            title=TEXT,
            description=TEXT,
            chart=maybe(the("Chart")),
            display=kinds(Display),
        ),
    ),
    Call(
        "DELETE",
        f"{_ONE}/results/{{result}}",
        "Make a key result a candidate again; its data stays.",
        status=204,
    ),
    Call("GET", f"{_ONE}/results/{{result}}/data", "What the tool gave, byte for byte.", ANY),
    Call(
        "GET",
        f"{_ONE}/results/{{result}}/csv",
        "A result that is a table, for a spreadsheet.",
        TEXT,
        media=("text/csv",),
    ),
    # -- turns, agents, files
    Call("GET", "/api/turns/{turn}", "One turn's result.", the("Turn"), query=_WAIT),
    Call(
        "POST",
        "/api/turns/{turn}/stop",
        "Stop one turn, also one that waits in line; 0 when it was over.",
        told(stopped=COUNT),
    ),
    Call("GET", "/api/agents", "The agents.", told(agents=many(the("Agent")))),
    Call(
        "GET",
        "/api/attachments/{attachment}",
        "The bytes of a file.",
        ANY,
        media=("*/*",),
    ),
    # -- compositions
    Call(
        "GET",
        "/api/compositions",
        "Sets of voices to begin sessions with.",
        told(compositions=many(the("Composition")), providers=TEXTS),
    ),
    Call(
        "POST",
        "/api/compositions",
        "Make a composition.",
        the("Composition"),
        the("NewComposition"),
        status=201,
    ),
    Call("GET", "/api/compositions/{composition}", "One composition.", the("Composition")),
    Call(
        "PUT",
        "/api/compositions/{composition}",
        "Replace, rename or put away one that was made.",
        the("Composition"),
        the("NewComposition"),
    ),
    Call("DELETE", "/api/compositions/{composition}", "Remove one that was made.", status=204),
    # -- projects
    Call(
        "GET",
        "/api/projects",
        "The projects one may see, the most recently active first.",
        told(projects=many(the("Project"))),
    ),
    Call("POST", "/api/projects", "Make a project.", the("Project"), the("NewProject"), status=201),
    Call("GET", _PROJECT, "One project with its sessions.", the("WholeProject")),
    Call(
        "PATCH",
        _PROJECT,
        "Change a project; owner hands it over, members are all there are then.",
        the("Project"),
        taken(
            (),
            name=TEXT,
            domain=TEXT,
            description=TEXT,
            prompt=TEXT,
            tools=maybe(TEXTS),
            agent=maybe(TEXT),
            owner=TEXT,
            members=many(the("Member")),
        ),
    ),
    Call(
        "DELETE",
        _PROJECT,
        "Delete a project for good; one that has sessions only with them.",
        query={"sessions": {"type": "string", "enum": ["delete"]}},
        status=204,
    ),
    Call(
        "PUT",
        f"{_PROJECT}/members/{{name}}",
        "Let somebody edit or see a project.",
        the("Project"),
        taken(("share",), share=TEXT),
    ),
    Call(
        "DELETE",
        f"{_PROJECT}/members/{{name}}",
        "Let somebody see a project no more.",
        status=204,
    ),
    Call(
        "PUT",
        f"{_PROJECT}/order",
        "Put the sessions of a project in another order.",
        None,
        taken(("sessions",), sessions=many(ID)),
        status=204,
    ),
    Call(
        "POST",
        f"{_PROJECT}/sessions",
        "Make a session in a project, and begin it with start.",
        the("MadeProjectSession"),
        the("NewProjectSession"),
        status=201,
    ),
    Call(
        "POST",
        f"{_PROJECT}/preview",
        "What the agent of such a session would be told; nothing is kept.",
        the("Preview"),
        the("NewProjectSession"),
    ),
    Call(
        "POST",
        "/api/ask",
        "Begin a session in one's own project, which is made for the first.",
        {"anyOf": [the("AskedReceipt"), the("ReceiptOrTurn")]},
        taken(("text",), text=TEXT),
        status=202,
        also=(200,),
        media=(_JSON, _EVENTS),
        description=_RUNG,
    ),
    # -- templates
    Call(
        "POST",
        f"{_PROJECT}/template",
        "Save a project as a template, without what came of it.",
        the("WholeTemplate"),
        taken(("name",), name=TEXT),
        status=201,
        also=(200,),
    ),
    Call(
        "GET",
        "/api/templates",
        "The files that projects are made from.",
        told(templates=many(the("Template"))),
    ),
    Call(
        "POST",
        "/api/templates/check",
        "Say what is wrong with a file, and how it would be laid out.",
        told(errors=many(the("LineError")), formatted=maybe(TEXT), name=maybe(TEXT)),
        taken(("source",), source=TEXT),
        description=_FILE,
    ),
    Call("GET", _TEMPLATE, "One template with its file.", the("WholeTemplate")),
    Call(
        "PUT",
        _TEMPLATE,
        "Store a file under the name in it, in place of the one there is.",
        the("WholeTemplate"),
        taken(("source",), source=TEXT),
        status=201,
        also=(200,),
        description=_FILE,
    ),
    Call("DELETE", _TEMPLATE, "Remove a template.", status=204),
    Call("GET", f"{_TEMPLATE}/file", "The file, to be saved.", TEXT, media=("text/markdown",)),
    Call(
        "POST",
        f"{_TEMPLATE}/instantiate",
        "Make a project of a template.",
        the("Project"),
        taken((), name=TEXT),
        status=201,
    ),
    _rings(
        f"{_TEMPLATE}/scan",
        "Run the sessions of a template, in a project made for it, as their dependencies allow.",
        taken((), text=TEXT),
    ),
    # -- tasks
    Call("GET", "/api/tasks", "The tasks.", told(tasks=many(the("Task")))),
    Call(
        "POST",
        "/api/tasks",
        "Make a task.",
        the("Task"),
        taken(
            ("cron", "prompt"),
            cron=TEXT,
            timezone=TEXT,
            prompt=TEXT,
            name=TEXT,
            agent=TEXT,
            session=maybe(ID),
            once=YES_OR_NO,
        ),
        status=201,
    ),
    Call("GET", "/api/tasks/{task}", "One task.", the("Task")),
    Call("DELETE", "/api/tasks/{task}", "Remove a task that was made.", status=204),
    Call("POST", "/api/tasks/{task}/run", "Run a task now.", the("Receipt"), status=202),
    Call("POST", "/api/tasks/{task}/enable", "Turn a task on.", the("Task")),
    Call("POST", "/api/tasks/{task}/disable", "Turn a task off.", the("Task")),
    Call(
        "GET",
        "/api/tasks/{task}/occurrences",
        "The newest occurrences, and the next few instants.",
        told(occurrences=many(the("Run")), upcoming=many(INSTANT)),
        query={"limit": _PAGE["limit"]},
    ),
    # -- the ways in
    Call(
        "GET",
        "/api/triggers",
        "The webhooks, and the Telegram bot.",
        told(webhooks=many(the("Webhook")), telegram=maybe(the("Telegram"))),
    ),
    Call(
        "POST",
        "/api/webhooks/{webhook}/ring",
        "Try a webhook.",
        the("Receipt"),
        taken((), body=ANY, text=TEXT),
        status=202,
        also=(200,),
    ),
    Call(
        "POST",
        "/api/telegram/allow",
        "Let a person or group write to the bot.",
        the("Allowed"),
        taken(("id",), id=WHOLE),
        status=201,
        also=(200,),
    ),
    Call("DELETE", "/api/telegram/allow/{id}", "Let somebody write no longer.", status=204),
    # -- what went wrong
    Call(
        "GET",
        "/api/deliveries",
        "The newest deliveries.",
        page("deliveries", "Delivery"),
        query={"state": kinds(DeliveryState), **_PAGE},
    ),
    Call(
        "POST",
        "/api/deliveries/{delivery}/replay",
        "Send a failed or uncertain delivery again.",
        told(delivery=ID, replaces=ID),
        taken((), confirm=YES_OR_NO),
        status=202,
    ),
    Call(
        "GET",
        "/api/inbox",
        "The newest things received.",
        told(inbox=many(the("Received"))),
        query={"state": kinds(InboxState), "limit": _PAGE["limit"]},
    ),
    Call(
        "POST",
        "/api/inbox/replay",
        "Try again what is in quarantine.",
        told(state=kinds(InboxState), reason=maybe(TEXT), turn=maybe(ID)),
        taken(
            ("channel", "source", "event_key"), channel=kinds(Channel), source=TEXT, event_key=TEXT
        ),
    ),
    # -- figures
    Call(
        "GET",
        "/api/usage",
        "What agents took on each of the last days.",
        told(since={"type": "string", "format": "date"}, usage=many(the("Spent"))),
        query={"days": {**COUNT, "minimum": 1, "maximum": 366, "default": 30}},
    ),
    Call("GET", "/api/audit", "Who tried what.", page("audit", "Entry"), query=_PAGE),
    # -- without the API's credentials
    Call(
        "POST",
        "/signin",
        "Take a token, or a name and password; answer with a cookie.",
        the("SignedIn"),
        taken((), token=TEXT, name=TEXT, password=TEXT),
        description="From our own pages only. A form is answered with 303.",
        open=True,
    ),
    Call(
        "POST",
        "/signout",
        "End the sign-in of the cookie.",
        told(name=maybe(TEXT), role=maybe(TEXT)),
        description="From our own pages only. A form is answered with 303.",
        open=True,
    ),
    Call(
        "POST",
        "/hooks/{name}",
        "Ring a webhook; what it takes and how it answers is configured.",
        OBJECT,
        ANY,
        status=202,
        also=(200,),
        media=(_JSON, _EVENTS),
        open=True,
    ),
    Call(
        "GET",
        "/hooks/{name}/turns/{turn}",
        "The result of a turn, with its own token.",
        the("Turn"),
        query=_WAIT,
        open=True,
    ),
    Call(
        "GET",
        "/hooks/{name}/turns/{turn}/events",
        "The events of a turn, with its own token.",
        the("Event"),
        query=_AFTER,
        media=(_EVENTS,),
        open=True,
    ),
)


async def show(_request: web.Request) -> web.Response:
    """The document."""
    return web.json_response(document())


@cache
def document() -> Mapping[str, Any]:
    """All of it."""
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ringback", "version": release()},
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "sign-in": {"type": "apiKey", "in": "cookie", "name": "__Host-ringback"},
            },
        },
        "security": [{"token": []}, {"sign-in": []}],
    }


def _operation(call: Call) -> Mapping[str, Any]:
    parameters = [
        *(_parameter(name, "path", ID if name in _IDS else TEXT) for name in _names(call.path)),
        *(_parameter(name, "query", schema) for name, schema in call.query.items()),
    ]
    success = _response("Done.", call.answer, call.media)
    return {
        "operationId": _operation_id(call),
        "summary": call.summary,
        **({"description": call.description} if call.description else {}),
        **({"security": []} if call.open else {"x-role": least_role(call.method, call.path).value}),
        "parameters": parameters,
        **(
            {} if call.body is None else {"requestBody": {"content": _content(call.body, (_JSON,))}}
        ),
        "responses": {
            **{str(status): success for status in sorted({call.status, *call.also})},
            "default": _response("No.", the("Problem"), ("application/problem+json",)),
        },
    }


def _parameter(name: str, where: str, schema: Schema) -> Mapping[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _response(description: str, answer: Schema | None, media: Sequence[str]) -> Mapping[str, Any]:
    content = {} if answer is None else {"content": _content(answer, media)}
    return {"description": description, **content}


def _content(schema: Schema, media: Sequence[str]) -> Mapping[str, Any]:
    return {type_: {"schema": _ALWAYS.get(type_, schema)} for type_ in media}


def _names(path: str) -> list[str]:
    return _PARAMETER.findall(path)


def _operation_id(call: Call) -> str:
    words = [word.strip("{}") for word in call.path.replace(".", "/").split("/") if word != "api"]
    return "_".join([call.method.lower(), *filter(None, words)])
