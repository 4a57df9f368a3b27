"""Calls about who speaks in a session: begin one, its voices, its mode, the voice picked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from handlers.console.calls import (
    Context,
    Routes,
    bad,
    is_id,
    missing,
    only,
    text_of,
    unfit,
    writable,
)
from handlers.console.gate import VISITOR
from handlers.console.rings import begin_session
from handlers.console.shapes import session_json, voice_json
from handlers.http import HttpProblem
from service.core.disposition import Schema
from service.core.model import Binding, Busy, Cast, SessionId, VoiceId
from service.core.rounds import Continuation, Mode
from service.core.text import clean
from service.engine.compositions import Compositions
from service.engine.controls import Controls
from service.engine.voicing import SetUp
from service.errors import BadInput
from service.store import replies, sessions

_LONGEST_KEY = 255
_LONGEST_TITLE = 200
_LONGEST_MODEL = 200
_OF_AGENT = ("provider", "prompt", "tools")
_OF_A_SESSION = (
    "agent",
    "model",
    "composition",
    "voices",
    "mode",
    "continuation",
    "title",
    "busy",
    "schema",
    "key",
)


@dataclass(frozen=True, slots=True)
class Voicing:
    """Begins sessions, and says who speaks in them."""

    context: Context
    controls: Controls
    compositions: Compositions
    agents: Mapping[str, Binding]

    def routes(self) -> Routes:
        """The calls to serve."""
        return [
            ("POST", "/api/sessions", self.begin),
            ("GET", "/api/sessions/{session}/voices", self.list_voices),
            ("POST", "/api/sessions/{session}/voices", self.add),
            ("PATCH", "/api/sessions/{session}/voices/{voice}", self.change),
        ]

    # -- sessions ----------------------------------------------------------------------------

    async def begin(self, request: web.Request) -> web.Response:
        """Begin a session: 201; with a `key` that one has already, that one: 200."""
        body = await self.context.object(request)
        if given := [name for name in _OF_AGENT if name in body]:
            # Left out in silence, the session would be bound for life to what nobody asked for.
            raise unfit(f"{given[0]}: comes with the agent; or put a voice together in voices")
        only(body, *_OF_A_SESSION)
        key = text_of(body, "key", most=_LONGEST_KEY) if "key" in body else None
        if key is not None and key != clean(key):
            # Replaced, two keys could become one and share a session.
            raise bad("key: must not hold U+0000 or half of a surrogate pair")
        title = text_of(body, "title", most=_LONGEST_TITLE) if body.get("title") else None
        cast = await self._cast(body)
        binding = cast.voices[0].binding if cast else self._binding(body)
        try:
            found, made = await begin_session(
                self.context.database,
                binding,
                owner=request[VISITOR].name,
                key=key,
                cast=cast,
                title=" ".join(clean(title).split()) if title else None,
                busy=_one_of(body, "busy", Busy),
                schema=_schema(body.get("schema")),
            )
        except LookupError as error:
            raise HttpProblem(409, "Conflict", str(error)) from error
        return web.json_response(session_json(found), status=201 if made else 200)

    def _binding(self, body: Mapping[str, Any]) -> Binding:
        """The agent of a session with one voice; its model may be another one, the rest not."""
        agent = body.get("agent", next(iter(self.agents), None))
        binding = self.agents.get(agent) if isinstance(agent, str) else None
        if binding is None:
            raise bad(f"agent: there is no {agent!r}; there are: {', '.join(self.agents)}")
        if not body.get("model"):
            return binding
        model = text_of(body, "model", most=_LONGEST_MODEL)
        return Binding(
            binding.agent,
            binding.provider,
            clean(model),
            binding.prompt,
            binding.tools,
            binding.busy,
        )

    async def _cast(self, body: Mapping[str, Any]) -> Cast | None:
        """The voices that are asked for, of a composition or one by one."""
        wanted = body.get("composition", body.get("voices"))
        if wanted is None:
            return None
        if "composition" in body and "voices" in body:
            raise bad("voices: give either these or a composition")
        if not isinstance(wanted, (str, list)):
            raise bad("composition takes a name, voices a list")
        try:
            cast = await self.compositions.resolve(wanted)
        except BadInput as error:
            raise unfit(str(error)) from error
        mode = _one_of(body, "mode", Mode)
        continuation = _one_of(body, "continuation", Continuation)
        return Cast(
            cast.voices, mode or cast.mode, continuation or cast.continuation, cast.composition
        )

    def changes(self, body: Mapping[str, Any]) -> SetUp:
        """What of a session's set-up somebody wants changed. Raises HttpProblem."""
        target = body.get("target")
        if target is not None and not is_id(target):
            raise unfit("target: the session has no such voice")
        return SetUp(
            mode=_one_of(body, "mode", Mode),
            continuation=_one_of(body, "continuation", Continuation),
            busy=_one_of(body, "busy", Busy),
            target=VoiceId(target) if target is not None else None,
            untarget="target" in body and target is None,
        )

    # -- voices ------------------------------------------------------------------------------

    async def list_voices(self, request: web.Request) -> web.Response:
        """The voices of a session in their order, and what each is doing."""
        session = await self.context.session(request)
        return web.json_response({"voices": await self.voices(session.id)})

    async def voices(self, session: SessionId) -> list[dict[str, Any]]:
        """The voices of a session as the API tells them."""
        found = await self.context.database.read(sessions.voices_of, session)
        newest = await self.context.database.read(replies.newest_of_voices, session)
        return [voice_json(one, newest.get(one.id)) for one in found]

    async def add(self, request: web.Request) -> web.Response:
        """Let a further voice take part: 201."""
        session = writable(await self.context.session(request))
        body = await self.context.object(request)
        try:
            cast = await self.compositions.resolve([dict(body)])
            async with self.controls.steps() as command:
                by = request[VISITOR].name
                voice = await command.add_voice(session.id, cast.voices[0], by=by)
        except BadInput as error:
            raise unfit(str(error)) from error
        if voice is None:
            raise missing("session")
        return web.json_response({"voices": await self.voices(session.id)}, status=201)

    async def change(self, request: web.Request) -> web.Response:
        """Let a voice rest or speak, or set its further rounds; nothing else ever changes."""
        session = writable(await self.context.session(request))
        voice = request.match_info["voice"]
        body = await self.context.object(request)
        active, rounds = body.get("active"), body.get("rounds")
        if others := sorted(set(body) - {"active", "rounds"}):
            raise unfit(f"{others[0]}: a voice is bound for life; only active and rounds change")
        if active is not None and not isinstance(active, bool):
            raise bad("active takes true or false")
        if rounds is not None and (not isinstance(rounds, int) or isinstance(rounds, bool)):
            raise bad("rounds takes a whole number from 0 to 3")
        if not is_id(voice):
            raise missing("voice in this session")
        try:
            async with self.controls.steps() as command:
                changed = await command.set_voice(
                    session.id, VoiceId(voice), active=active, rounds=rounds
                )
        except BadInput as error:
            raise unfit(str(error)) from error
        if not changed:
            raise missing("voice in this session")
        return web.json_response({"voices": await self.voices(session.id)})

    async def target(self, session: SessionId, given: Any) -> VoiceId | None:
        """The voice that is to answer alone, named by id or name. Raises HttpProblem."""
        if given is None:
            return None
        found = await self.context.database.read(sessions.voices_of, session)
        wanted = given.strip().lower() if isinstance(given, str) else ""
        for one in found:
            if one.active and wanted in (one.id, one.name.lower()):
                return one.id
        names = ", ".join(one.name for one in found if one.active)
        raise unfit(f"target: there is no such voice that speaks; there are: {names}")


def _schema(given: Any) -> Schema | None:
    try:
        return None if given is None else Schema.parse(given)
    except BadInput as error:
        raise unfit(str(error)) from error


def _one_of(body: Mapping[str, Any], name: str, kinds: Any) -> Any:
    given = body.get(name)
    if given is None:
        return None
    if given not in [kind.value for kind in kinds]:
        raise bad(f"{name} takes one of {', '.join(kinds)}")
    return kinds(given)
