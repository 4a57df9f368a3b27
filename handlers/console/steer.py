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
    only,
    session_id,
    text_of,
    unfit,
)
from handlers.console.gate import VISITOR, Visitor
from handlers.console.rights import forbidden
from handlers.console.rings import Abilities, Wish
from handlers.console.shapes import receipt_of
from handlers.console.voices import Voicing
from handlers.forms import check_files, is_form, new_file, parse_form
from handlers.http import HttpProblem, idempotency_key, parse_json, read_body
from handlers.turns import Telling, refused
from service.core.access import UserRole
from service.core.knobs import check_all
from service.core.model import (
    Accepted,
    Binding,
    Busy,
    NewAttachment,
    QuestionId,
    Refusal,
    SessionId,
    TurnId,
    TurnKind,
)
from service.core.text import clean
from service.engine.controls import Controls
from service.engine.intake import Intake
from service.engine.questions import views
from service.engine.steering import Answering, Interrupting
from service.errors import BadInput
from service.store import sessions, turns
from service.store.sessions import Session

# All files of one message together may be as large as this many largest ones.
_WORTH = 4
_MESSAGE = "message"
_OF_A_MESSAGE = ("text", "busy", "knobs", "target")
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
    voicing: Voicing

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("POST", "/api/sessions/{session}/messages", self.send),
            ("POST", "/api/sessions/{session}/render", self.render),
            ("POST", "/api/sessions/{session}/compact", self.compact),
            ("POST", "/api/sessions/{session}/stop", self.stop),
            ("POST", "/api/turns/{turn}/stop", self.stop_turn),
            ("POST", "/api/sessions/{session}/interrupt", self.interrupt),
            ("POST", "/api/sessions/{session}/answer", self.answer),
            ("GET", "/api/sessions/{session}/questions", self.questions),
        ]

    # -- rings -------------------------------------------------------------------------------

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Say something: as JSON, or as a form with a JSON part `message` and files."""
        session = session_id(request)
        body, files = await self._message(request)
        return await self.rung(request, session, await self.said(session, body, files))

    async def render(self, request: web.Request) -> web.StreamResponse:
        """Let the agent go on without a word from anybody."""
        session = session_id(request)
        body = await self.context.object_or_nothing(request, "knobs")
        wish = Wish(kind=TurnKind.RENDER, knobs=await self._knobs(session, body))
        return await self.rung(request, session, wish)

    async def compact(self, request: web.Request) -> web.StreamResponse:
        """Have the history summed up."""
        return await self.rung(request, session_id(request), Wish(kind=TurnKind.COMPACT))

    async def said(
        self, session: SessionId, body: Mapping[str, Any], files: Sequence[NewAttachment] = ()
    ) -> Wish:
        """What somebody wants who says `body`. Raises HttpProblem."""
        # A picture says enough by itself.
        text = text_of(body, "text", most=LONGEST_TEXT) if "text" in body or not files else ""
        return Wish(
            clean(text),
            busy=_busy(body),
            attachments=tuple(files),
            knobs=await self._knobs(session, body),
            target=await self.voicing.target(session, body.get("target")),
        )

    async def ring(
        self, session: SessionId, wish: Wish, *, by: Visitor, key: str | None = None
    ) -> Accepted | Refusal:
        """Let a session hear a wish; the same `key` again makes no other turn.

        Raises HttpProblem 403 for an interruption that only the owner of the session may do.
        """
        if wish.busy is Busy.INTERRUPT:
            await self._require_interrupting(session, by)
        admin = by.role is UserRole.ADMIN
        ring = wish.ring(session, self._any_agent, author=by.name, admin=admin, key=key)
        return await self.intake.accept(ring)

    @property
    def _any_agent(self) -> Binding:
        # The session there is has its own.
        return next(iter(self.agents.values()))

    async def rung(
        self, request: web.Request, session: SessionId, wish: Wish
    ) -> web.StreamResponse:
        """Let a session hear a wish of whoever calls, and tell them what comes of it."""
        key = idempotency_key(request)
        outcome = await self.ring(session, wish, by=request[VISITOR], key=key)
        if isinstance(outcome, Refusal):
            return refused(outcome)
        return await self.telling.tell(request, receipt_of(outcome))

    async def _message(
        self, request: web.Request
    ) -> tuple[Mapping[str, Any], Sequence[NewAttachment]]:
        type_ = request.headers.get("Content-Type", "")
        if is_form(type_):
            return await self._form(request, type_)
        body = await self.context.object(request, *_OF_A_MESSAGE, "attachments")
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
        return only(as_object(value, _MESSAGE), *_OF_A_MESSAGE), form.files

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
        """Stop what runs and what waits in a session; with `voice`, that voice alone."""
        session = await self.context.session(request)
        body = await self.context.object_or_nothing(request, "voice")
        stopped = await self.stopped(session.id, body, by=request[VISITOR].name)
        return web.json_response({"stopped": stopped})

    async def stopped(self, session: SessionId, body: Mapping[str, Any], *, by: str) -> int:
        """How many turns, or voices if `body` names one, are stopped. Raises HttpProblem."""
        if body.get("voice") is not None:
            return int(await self.stop_voice(session, body["voice"], by=by))
        async with self.controls.steps() as command:
            return await command.stop_session(session, by=by)

    async def stop_turn(self, request: web.Request) -> web.Response:
        """Stop one turn, which runs or waits in line; the others of its session go on."""
        given = request.match_info["turn"]
        found = await self.context.database.read(turns.get, TurnId(given)) if is_id(given) else None
        if found is None:
            raise missing("turn")
        async with self.controls.steps() as command:
            stopped = await command.stop_turn(found.id, by=request[VISITOR].name)
        return web.json_response({"stopped": int(stopped)})

    async def stop_voice(self, session: SessionId, given: Any, *, by: str) -> bool:
        """Stop one voice of what runs; False when it does not speak. Raises HttpProblem."""
        voice = await self.voicing.target(session, given)
        assert voice is not None
        async with self.controls.steps() as command:
            return await command.stop_voice(session, voice, by=by)

    async def interrupt(self, request: web.Request) -> web.StreamResponse:
        """Have what runs pause and ask how to go on; with `text`, go on with that."""
        session = await self.context.session(request)
        body = await self.context.object_or_nothing(request, "text")
        if "text" in body:
            return await self.rung(request, session.id, interruption(body))
        outcome = await self.pause(session, by=request[VISITOR])
        return web.json_response({"interrupt": outcome.value})

    async def pause(self, session: Session, *, by: Visitor) -> Interrupting:
        """Have what runs in a session pause and ask how to go on. Raises HttpProblem 403."""
        operator = by.role is UserRole.ADMIN or session.project is None
        async with self.controls.steps() as command:
            outcome = await command.interrupt(session.id, by=by.name, operator=operator)
        if outcome is Interrupting.NOT_OWNER:
            raise forbidden(
                f"only {session.owner}, who owns this session, and admins may interrupt it"
            )
        return outcome

    async def _require_interrupting(self, session: SessionId, by: Visitor) -> None:
        if by.role is UserRole.ADMIN:
            return
        found = await self.context.database.read(sessions.get, session)
        if found is not None and found.project is not None and found.owner != by.name:
            # It is refused, and the attempt written down.
            await self.pause(found, by=by)

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
        body = await self.context.object(request, "question", "answer")
        asked, turn = await self.answered(session.id, body, by=request[VISITOR].name)
        where = {"Location": f"/api/turns/{turn}"}
        shown = {"question": asked, "turn": turn, "status_url": where["Location"]}
        return web.json_response(shown, headers=where)

    async def answered(
        self, session: SessionId, body: Mapping[str, Any], *, by: str
    ) -> tuple[QuestionId, TurnId]:
        """Answer a question of a session; which one, and the turn that goes on.

        Raises HttpProblem.
        """
        question = text_of(body, "question", most=_LONGEST_NAME)
        words = text_of(body, "answer", most=LONGEST_TEXT)
        if not is_id(question):
            raise missing("question in this session")
        asked = QuestionId(question)
        async with self.controls.steps() as command:
            found = await command.question(asked)
            if found is None or found.session != session:
                raise missing("question in this session")
            outcome = await command.answer(asked, words, by=by, operator=True)
        if outcome is Answering.OVER:
            raise HttpProblem(409, "Conflict", "it was answered, expired or withdrawn before")
        if outcome is not Answering.ANSWERED:
            raise missing("question in this session")
        return asked, found.turn


def interruption(body: Mapping[str, Any]) -> Wish:
    """What somebody wants who interrupts with words."""
    return Wish(clean(text_of(body, "text", most=LONGEST_TEXT)), busy=Busy.INTERRUPT)


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
