"""Calls that move a session: send, render, compact, stop, interrupt, and answer its questions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from handlers.console.calls import (
    LONGEST_TEXT,
    Context,
    Routes,
    as_object,
    bad,
    is_id,
    missing,
    session_id,
    text_of,
    unfit,
)
from handlers.console.rings import Abilities, Wish
from handlers.console.shapes import receipt_of
from handlers.forms import check_files, is_form, new_file, parse_form
from handlers.http import HttpProblem, idempotency_key, parse_json, read_body
from handlers.turns import Telling, refused
from service.core.access import OPERATOR
from service.core.knobs import check_all
from service.core.model import (
    Binding,
    Busy,
    NewAttachment,
    QuestionId,
    Refusal,
    SessionId,
    TurnKind,
)
from service.core.text import clean
from service.engine.controls import Controls
from service.engine.intake import Intake
from service.engine.questions import views
from service.engine.steering import Answering
from service.errors import BadInput
from service.store import sessions

# All files of one message together may be as large as this many largest ones.
_WORTH = 4
_MESSAGE = "message"
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Steering:
    """Everything that makes a session do something, or stop doing it."""

    context: Context
    intake: Intake
    controls: Controls
    telling: Telling
    agents: Mapping[str, Binding]
    abilities: Mapping[str, Abilities]

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("POST", "/api/sessions/{session}/messages", self.send),
            ("POST", "/api/sessions/{session}/render", self.render),
            ("POST", "/api/sessions/{session}/compact", self.compact),
            ("POST", "/api/sessions/{session}/stop", self.stop),
            ("POST", "/api/sessions/{session}/interrupt", self.interrupt),
            ("POST", "/api/sessions/{session}/answer", self.answer),
            ("GET", "/api/sessions/{session}/questions", self.questions),
        ]

    # -- rings -------------------------------------------------------------------------------

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Say something: as JSON, or as a form with a JSON part `message` and files."""
        session = session_id(request)
        body, files = await self._message(request)
        # A picture says enough by itself.
        text = text_of(body, "text", most=LONGEST_TEXT) if "text" in body or not files else ""
        wish = Wish(
            clean(text),
            busy=_busy(body),
            attachments=tuple(files),
            knobs=await self._knobs(session, body),
        )
        return await self._ring(request, session, wish)

    async def render(self, request: web.Request) -> web.StreamResponse:
        """Let the agent go on without a word from anybody."""
        session = session_id(request)
        body = await self.context.object_or_nothing(request)
        wish = Wish(kind=TurnKind.RENDER, knobs=await self._knobs(session, body))
        return await self._ring(request, session, wish)

    async def compact(self, request: web.Request) -> web.StreamResponse:
        """Have the history summed up."""
        return await self._ring(request, session_id(request), Wish(kind=TurnKind.COMPACT))

    async def _ring(
        self, request: web.Request, session: SessionId, wish: Wish
    ) -> web.StreamResponse:
        ring = wish.ring(session, next(iter(self.agents.values())), key=idempotency_key(request))
        outcome = await self.intake.accept(ring)
        if isinstance(outcome, Refusal):
            return refused(outcome)
        return await self.telling.tell(request, receipt_of(outcome))

    async def _message(
        self, request: web.Request
    ) -> tuple[Mapping[str, Any], Sequence[NewAttachment]]:
        type_ = request.headers.get("Content-Type", "")
        if is_form(type_):
            return await self._form(request, type_)
        body = await self.context.object(request)
        files = _files(body.get("attachments"))
        check_files(files, self.context.limits)
        return body, files

    async def _form(
        self, request: web.Request, type_: str
    ) -> tuple[Mapping[str, Any], Sequence[NewAttachment]]:
        limits = self.context.limits
        raw = await read_body(request, limits.with_files(_WORTH))
        form = parse_form(type_, raw, limits, texts={_MESSAGE})
        if [name for name, _ in form.fields] != [_MESSAGE]:
            raise bad(f"{_MESSAGE}: the form needs one part of this name with JSON, and files")
        value = parse_json(form.fields[0][1].encode(), limits)
        return as_object(value, _MESSAGE), form.files

    async def _knobs(self, session: SessionId, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The knobs to turn, as they are kept. Raises HttpProblem with what they take."""
        given = as_object(body.get("knobs") or {}, "knobs")
        if not given:
            return {}
        found = await self.context.database.read(sessions.get, session)
        if found is None:
            raise missing("session")
        try:
            return check_all(self.abilities.get(found.agent, Abilities()).knobs, given)
        except BadInput as error:
            raise unfit(str(error)) from error

    # -- what runs ---------------------------------------------------------------------------

    async def stop(self, request: web.Request) -> web.Response:
        """Stop what runs and what waits in a session."""
        session = await self.context.session(request)
        async with self.controls.steps() as command:
            stopped = await command.stop_session(session.id, by=OPERATOR)
        return web.json_response({"stopped": stopped})

    async def interrupt(self, request: web.Request) -> web.StreamResponse:
        """Have what runs pause and ask how to go on; with `text`, go on with that."""
        session = await self.context.session(request)
        body = await self.context.object_or_nothing(request)
        if "text" in body:
            text = clean(text_of(body, "text", most=LONGEST_TEXT))
            return await self._ring(request, session.id, Wish(text, busy=Busy.INTERRUPT))
        async with self.controls.steps() as command:
            outcome = await command.interrupt(session.id, by=OPERATOR, operator=True)
        return web.json_response({"interrupt": outcome.value})

    # -- questions ---------------------------------------------------------------------------

    async def questions(self, request: web.Request) -> web.Response:
        """The open questions of a session, oldest first."""
        session = await self.context.session(request)
        async with self.controls.steps() as command:
            found = await command.questions(session.id)
        return web.json_response({"questions": views(found)})

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a question, once; its turn goes on."""
        session = await self.context.session(request)
        body = await self.context.object(request)
        question = text_of(body, "question", most=_LONGEST_NAME)
        words = text_of(body, "answer", most=LONGEST_TEXT)
        if not is_id(question):
            raise missing("question in this session")
        asked = QuestionId(question)
        async with self.controls.steps() as command:
            found = await command.question(asked)
            if found is None or found.session != session.id:
                raise missing("question in this session")
            outcome = await command.answer(asked, words, by=OPERATOR, operator=True)
        if outcome is Answering.OVER:
            raise HttpProblem(409, "Conflict", "it was answered, expired or withdrawn before")
        if outcome is not Answering.ANSWERED:
            raise missing("question in this session")
        where = {"Location": f"/api/turns/{found.turn}"}
        shown = {"question": asked, "turn": found.turn, "status_url": where["Location"]}
        return web.json_response(shown, headers=where)


def _busy(body: Mapping[str, Any]) -> Busy | None:
    given = body.get("busy")
    if given is None:
        return None
    if given not in [one.value for one in Busy]:
        raise bad(f"busy takes one of {', '.join(Busy)}, or null for the session's own")
    return Busy(given)


def _files(given: Any) -> list[NewAttachment]:
    """Small files inside of the JSON, each with its bytes in base64."""
    if given is None:
        return []
    if not isinstance(given, list):
        raise bad("attachments: a list is needed")
    return [_file(one, f"attachments[{place}]") for place, one in enumerate(given)]


def _file(given: Any, where: str) -> NewAttachment:
    one = as_object(given, where)
    for name in ("name", "data"):
        if not isinstance(one.get(name), str):
            raise bad(f"{where}.{name}: a text is needed")
    type_ = one.get("media_type", "")
    if not isinstance(type_, str):
        raise bad(f"{where}.media_type: a text such as image/png is needed, or nothing")
    try:
        data = base64.b64decode(one["data"], validate=True)
    except (binascii.Error, ValueError):
        raise bad(f"{where}.data: the bytes of the file in base64 are needed") from None
    return new_file(one["name"], type_, data)
