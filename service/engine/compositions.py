"""Sets of voices to begin sessions with, of the configuration or made while the service runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from service.config import (
    LONGEST_CALLED_NAME,
    Composition,
    CompositionVoice,
    composition_of,
)
from service.core.model import Binding, Cast, NewVoice, Refusal, RefusalReason
from service.core.rounds import Continuation, Mode
from service.core.text import clean
from service.errors import BadInput, ConfigError
from service.store import audit
from service.store import compositions as store
from service.store.compositions import StoredComposition
from service.store.database import Database

MOST = 500
"""Compositions that can be made while the service runs."""


@dataclass(frozen=True, slots=True)
class CompositionView:
    """A composition as people see it."""

    name: str
    definition: Mapping[str, Any]
    """Voices, mode and continuation as plain JSON."""
    origin: Literal["config", "made"]
    archived: bool = False
    updated_at: datetime | None = None
    problems: tuple[str, ...] = ()
    """Why nothing can be begun with it, such as an agent that is not configured any more."""


class Compositions:
    """Keeps compositions and makes casts of them; those of the configuration cannot be changed.

    A cast is a copy: what becomes of its composition does not concern the session it began.
    """

    def __init__(
        self,
        database: Database,
        configured: Mapping[str, Composition],
        agents: Mapping[str, Binding],
        providers: Collection[str],
    ) -> None:
        self._database = database
        self._configured = configured
        self._agents = agents
        self._providers = providers

    @property
    def providers(self) -> list[str]:
        """The providers that voices may name."""
        return sorted(self._providers)

    async def all(self) -> list[CompositionView]:
        """Those of the configuration, then those that were made, each by name."""
        made = await self._database.read(store.every)
        return [
            *(self._of_configuration(name) for name in sorted(self._configured)),
            *(self._made(one) for one in made if one.name not in self._configured),
        ]

    async def get(self, name: str) -> CompositionView | None:
        """One of them; None when there is none."""
        if name in self._configured:
            return self._of_configuration(name)
        # What cannot be stored cannot have been: PostgreSQL refuses some characters.
        found = None if name != clean(name) else await self._database.read(store.get, name)
        return self._made(found) if found else None

    async def make(self, given: Mapping[str, Any], *, by: str) -> CompositionView | Refusal:
        """Make one of `name`, `voices`, `mode` and `continuation`. Raises BadInput with all."""
        new = self._read(given, archived=False)
        refusal = await self._database.write(self._insert, new, by)
        return refusal or self._made(new)

    async def change(
        self, name: str, given: Mapping[str, Any], *, by: str
    ) -> CompositionView | Refusal:
        """Replace a made one; `name` renames it, `archived` stays when it is not given."""
        found = await self.get(name)
        if (refusal := _fixed(found, name)) is not None or found is None:
            return refusal or _unknown(name)
        new = self._read({"name": name, **given}, archived=found.archived)
        refusal = await self._database.write(self._replace, name, new, by)
        return refusal or self._made(new)

    async def remove(self, name: str, *, by: str) -> Refusal | None:
        """Remove a made one; what was begun with it stays as it is."""
        found = await self.get(name)
        if (refusal := _fixed(found, name)) is not None:
            return refusal
        return await self._database.write(_delete, name, by)

    async def resolve(self, wanted: str | Sequence[object]) -> Cast:
        """The cast for a session: of the composition of this name, or of voices listed here.

        A voice is an object: {agent, name?, rounds?} or {provider, model, prompt, name, rounds?}.
        Raises BadInput with every problem.
        """
        if not isinstance(wanted, str):
            return self._cast(self._checked({"voices": list(wanted)}))
        found = await self.get(wanted)
        if found is None:
            raise BadInput(f"composition: there is no {wanted!r}; see GET /api/compositions")
        if found.archived:
            raise BadInput(f"composition: {wanted!r} is archived; restore it first")
        try:
            return self._cast(self._checked(found.definition), composition=wanted)
        except BadInput as error:
            raise BadInput(f"composition: {wanted!r} cannot be used: {error}") from error

    def configured(self, name: str) -> Cast:
        """The cast of a composition of the configuration, which must be there."""
        return self._cast(self._configured[name], composition=name)

    # -- reading -----------------------------------------------------------------------------

    def _read(self, given: Mapping[str, Any], *, archived: bool) -> StoredComposition:
        """What somebody wants a composition to be. Raises BadInput with every problem."""
        rest = {key: value for key, value in given.items() if key not in ("name", "archived")}
        name = given.get("name")
        archived = given.get("archived", archived)
        problems = _name_problems(name)
        if not isinstance(archived, bool):
            problems.append("archived: write true or false")
        try:
            definition = self._checked(rest)
        except BadInput as error:
            problems.append(str(error))
        if problems:
            raise BadInput("\n".join(problems))
        return StoredComposition(str(name), _as_json(definition), archived, datetime.now(UTC))

    def _checked(self, definition: Mapping[str, Any]) -> Composition:
        try:
            return composition_of(definition, agents=self._agents, providers=self._providers)
        except ConfigError as error:
            raise BadInput(str(error)) from error

    def _cast(self, definition: Composition, *, composition: str | None = None) -> Cast:
        voices = tuple(
            NewVoice(one.called, self._binding(one), one.rounds) for one in definition.voices
        )
        continuation = Continuation(definition.continuation)
        return Cast(voices, Mode(definition.mode), continuation, composition)

    def _binding(self, voice: CompositionVoice) -> Binding:
        if voice.agent is not None:
            return self._agents[voice.agent]
        provider, model = voice.provider or "", clean(voice.model or "")
        # No agent can have this name, so none lends it tools or limits; what it takes is counted
        # under it.
        return Binding(f"{provider}/{model}", provider, model, clean(voice.prompt))

    # -- as people see them ------------------------------------------------------------------

    def _of_configuration(self, name: str) -> CompositionView:
        return CompositionView(name, _as_json(self._configured[name]), "config")

    def _made(self, stored: StoredComposition) -> CompositionView:
        problems: tuple[str, ...] = ()
        try:
            self._checked(stored.definition)
        except BadInput as error:
            problems = tuple(str(error).splitlines())
        return CompositionView(
            stored.name, stored.definition, "made", stored.archived, stored.updated_at, problems
        )

    # -- transactions ------------------------------------------------------------------------

    def _insert(self, conn: sa.Connection, new: StoredComposition, by: str) -> Refusal | None:
        if self._is_taken(conn, new.name):
            refusal: Refusal | None = _taken(new.name)
        elif store.count(conn) >= MOST:
            refusal = Refusal(RefusalReason.FORBIDDEN, f"at most {MOST} can be made; remove some")
        else:
            refusal = None if store.insert(conn, new) else _taken(new.name)
        _note(conn, by, "composition.make", new.name, refusal)
        return refusal

    def _replace(
        self, conn: sa.Connection, name: str, new: StoredComposition, by: str
    ) -> Refusal | None:
        if new.name != name and self._is_taken(conn, new.name, besides=name):
            refusal: Refusal | None = _taken(new.name)
        else:
            refusal = None if store.replace(conn, name, new) else _unknown(name)
        _note(conn, by, "composition.change", name, refusal, to=new.name, archived=new.archived)
        return refusal

    def _is_taken(self, conn: sa.Connection, name: str, *, besides: str | None = None) -> bool:
        names = {*self._configured, *(one.name for one in store.every(conn))} - {besides}
        return name.casefold() in {one.casefold() for one in names if one is not None}


def _delete(conn: sa.Connection, name: str, by: str) -> Refusal | None:
    refusal = None if store.delete(conn, name) else _unknown(name)
    _note(conn, by, "composition.remove", name, refusal)
    return refusal


def _note(
    conn: sa.Connection, by: str, action: str, name: str, refusal: Refusal | None, **detail: object
) -> None:
    """Write down who did, or tried to do, this; what voices are told is nobody else's business."""
    at, allowed = datetime.now(UTC), refusal is None
    audit.note(conn, by, action, session=None, allowed=allowed, at=at, composition=name, **detail)


def _as_json(composition: Composition) -> dict[str, Any]:
    shown = composition.model_dump(mode="json", exclude_none=True)
    shown["voices"] = [_voice_json(one) for one in composition.voices]
    return shown


def _voice_json(voice: CompositionVoice) -> dict[str, Any]:
    if voice.agent is not None:
        return {"name": voice.called, "agent": voice.agent, "rounds": voice.rounds}
    return {
        "name": voice.called,
        "provider": voice.provider,
        "model": clean(voice.model or ""),
        "prompt": clean(voice.prompt),
        "rounds": voice.rounds,
    }


def _name_problems(name: object) -> list[str]:
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_CALLED_NAME:
        return [f"name: a text of 1 to {LONGEST_CALLED_NAME} characters is needed"]
    if name != name.strip() or not name.isprintable() or "/" in name or name in (".", ".."):
        return ["name: write it on one line, without / and without white space around it"]
    return []


def _fixed(found: CompositionView | None, name: str) -> Refusal | None:
    if found is None:
        return _unknown(name)
    if found.origin == "config":
        detail = f"{name!r} is one of the configuration; change it there"
        return Refusal(RefusalReason.FORBIDDEN, detail)
    return None


def _taken(name: str) -> Refusal:
    detail = f"name: there is a composition {name!r} already; capital letters make no difference"
    return Refusal(RefusalReason.FORBIDDEN, detail)


def _unknown(name: str) -> Refusal:
    return Refusal(RefusalReason.UNKNOWN, f"there is no composition {name!r}")
