"""What operators ring with, and the sessions they ring in: for the HTTP and the Python API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from handlers.forms import described
from service.core.access import OPERATOR
from service.core.disposition import Schema
from service.core.knobs import Knob
from service.core.model import (
    Binding,
    Busy,
    Cast,
    Channel,
    Json,
    Line,
    NewAttachment,
    Origin,
    Ring,
    SessionId,
    Source,
    TurnKind,
    Voice,
    VoiceId,
)
from service.engine import scanning
from service.ports import Agents
from service.store import investigations, sessions
from service.store.database import Database
from service.store.ids import new_id
from service.store.investigations import Investigation
from service.store.sessions import NewSession, Session

SOURCE = "api"
_SAMPLES = {"image": "image/png", "pdf": "application/pdf", "audio": "audio/mpeg"}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an agent takes besides words."""

    knobs: Mapping[str, Knob] = field(default_factory=dict)
    attachments: tuple[str, ...] = ()
    """Kinds of files that its model is shown: image, pdf, audio."""


def abilities_of(agents: Agents, bindings: Mapping[str, Binding]) -> dict[str, Abilities]:
    """What each configured agent takes besides words, by its name."""
    found = {}
    for name, one in bindings.items():
        voice = Voice(VoiceId(""), name, one.agent, one.provider, one.model, one.prompt, one.tools)
        kinds = tuple(kind for kind, type_ in _SAMPLES.items() if agents.takes(voice, type_))
        found[name] = Abilities(agents.knobs(voice), kinds)
    return found


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants of a session: that it hears something, goes on, or sums up."""

    text: str = ""
    kind: TurnKind = TurnKind.MESSAGE
    busy: Busy | None = None
    attachments: tuple[NewAttachment, ...] = ()
    knobs: Json = field(default_factory=dict)
    target: VoiceId | None = None
    """The voice that is to answer alone."""
    before: tuple[Line, ...] = ()
    """What was said elsewhere before."""

    def ring(
        self,
        session: SessionId,
        binding: Binding,
        *,
        author: str = OPERATOR,
        admin: bool = True,
        key: str | None = None,
    ) -> Ring:
        """The ring for it; the same `key` makes the same turn, and takes no other wish."""
        return Ring(
            channel=Channel.CONSOLE,
            source=SOURCE,
            # Of this session only: elsewhere the same key and text is another message.
            event_key=f"key:{session}:{key}" if key else str(uuid.uuid4()),
            text=self.text,
            binding=binding,
            author=author,
            session=session,
            body=self._body(),
            strict_body=key is not None,
            origin=Origin.PERSON,
            kind=self.kind,
            busy=self.busy,
            attachments=self.attachments,
            knobs=self.knobs,
            target=self.target,
            before=self.before,
            operator=True,
            admin=admin,
        )

    def _body(self) -> bytes:
        """What is kept as received; the bytes of files are kept elsewhere."""
        others: dict[str, Any] = {
            "kind": self.kind.value if self.kind is not TurnKind.MESSAGE else None,
            "busy": self.busy.value if self.busy else None,
            "knobs": dict(self.knobs),
            "target": self.target,
            "attachments": [described(one) for one in self.attachments],
            "before": [[one.role.value, one.text] for one in self.before],
        }
        said = {name: value for name, value in others.items() if value}
        if not said:
            return self.text.encode()
        return json.dumps({"text": self.text, **said}, sort_keys=True).encode()


def scan_of(template: str, text: str, *, by: str, key: str | None = None) -> Ring:
    """The ring that has the sessions of a template run, in a project of whoever rings.

    The same `key` makes the same scan, and takes no other text.
    """
    return Ring(
        channel=Channel.CONSOLE,
        source=SOURCE,
        event_key=f"scan:{template}:{key}" if key else str(uuid.uuid4()),
        text=text,
        binding=scanning.BINDING,
        author=by,
        session_source=Source.MANUAL,
        body=text.encode(),
        strict_body=key is not None,
        title=template,
        origin=Origin.PERSON,
        scan=template,
        operator=True,
    )


async def open_session(database: Database, key: str, binding: Binding) -> tuple[Session, bool]:
    """Get the session with a key, or make it; whether it was made. Raises LookupError.

    LookupError: it was removed at this very moment.
    """
    return await begin_session(database, binding, key=key)


async def begin_session(
    database: Database,
    binding: Binding,
    *,
    owner: str = OPERATOR,
    key: str | None = None,
    cast: Cast | None = None,
    title: str | None = None,
    busy: Busy | None = None,
    schema: Schema | None = None,
) -> tuple[Session, bool]:
    """Begin a session, or get the one that has the key; whether it is new. Raises LookupError.

    With a `schema` a new one is to come to a disposition.

    LookupError: it was removed at this very moment.
    """
    new = NewSession(
        id=SessionId(new_id()),
        binding=binding,
        owner=owner,
        source=Source.MANUAL,
        origin=Channel.CONSOLE,
        key=None if key is None else f"api:{key}",
        title=title,
        titled=title is not None,
        busy=busy or binding.busy,
        cast=cast,
        investigated=schema is not None,
    )
    made = await database.write(_insert, new, schema)
    if new.key is None:
        found = await database.read(sessions.get, new.id)
    else:
        found = await database.read(sessions.by_key, new.key)
    if found is None:
        raise LookupError("the session was just removed; try again")
    return found, made


def _insert(conn: sa.Connection, new: NewSession, schema: Schema | None) -> bool:
    made = bool(sessions.insert(conn, [new], at=datetime.now(UTC), last_event=0))
    if made and schema is not None:
        investigations.insert(conn, Investigation(new.id, schema=schema))
    return made
