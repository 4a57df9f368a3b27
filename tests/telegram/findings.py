"""Projects, their sessions and what those came to, put into the database for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import sqlalchemy as sa

from handlers.telegram.spot import Spot
from service.core.disposition import Schema
from service.core.model import Channel, ProjectId, ReplyId, SessionId, Source, TurnId
from service.core.project import Project, Share
from service.core.states import ReplyState, ToolState, TurnState
from service.store import investigations, key_results, projects, sessions, tables
from service.store.database import Database
from service.store.ids import new_id
from service.store.investigations import Investigation
from service.store.key_results import KeyResult
from service.store.sessions import NewSession
from tests.telegram.station import AGENTS
from tests.telegram.updates import ANN, BOT

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
OWNER = "ada"
CHAT = Spot(str(BOT), ANN)
SCHEMA = {"verdict": "FRAUD|FINE", "amount": "optional Number", "vendors": "list of String"}
_positions = count()


@dataclass(frozen=True, slots=True)
class Cabinet:
    """Where findings are put."""

    database: Database

    async def project(self, name: str = "Invoices", **members: Share) -> ProjectId:
        """A project of somebody else's, with members such as `telegram_501`."""
        shares = {person.replace("_", ":"): share for person, share in members.items()}
        new = Project(ProjectId(new_id()), name, OWNER, AT, AT, members=shares)
        assert await self.database.write(projects.insert, new)
        return new.id

    async def session(
        self,
        title: str = "Duplicates",
        *,
        project: ProjectId | None = None,
        spot: Spot | None = None,
        schema: Mapping[str, str] | None = None,
        begun: bool = True,
        archived: bool = False,
    ) -> SessionId:
        """A session that investigates; it lives at `spot` if there is one."""
        new = NewSession(
            id=SessionId(new_id()),
            binding=AGENTS["assistant"],
            owner=OWNER,
            source=Source.MANUAL,
            origin=Channel.CONSOLE,
            key=None if spot is None else spot.session_key,
            title=title,
            project=project,
            investigated=True,
        )
        known = Investigation(
            new.id, next(_positions), schema=None if schema is None else Schema.parse(schema)
        )
        await self.database.write(_session, new, known, begun, archived)
        return new.id

    async def disposition(
        self,
        session: SessionId,
        values: Mapping[str, Any],
        *,
        by: str = "Ada",
        confirmed_by: str | None = None,
    ) -> None:
        """What a session came to."""
        await self.database.write(
            investigations.set_disposition, session, values, by=by, at=datetime.now(UTC)
        )
        if confirmed_by is not None:
            await self.database.write(investigations.confirm, session, by=confirmed_by, at=AT)

    async def schema(self, session: SessionId, schema: Mapping[str, str]) -> None:
        """Another schema for a session."""
        await self.database.write(investigations.set_schema, session, Schema.parse(schema))

    async def result(
        self, session: SessionId, title: str | None, data: object, *, description: str = ""
    ) -> None:
        """A result of a session; without a title it is a candidate."""
        stored = None if data is None else json.dumps(data)
        await self.database.write(_result, session, title, stored, description)


def _session(
    conn: sa.Connection, new: NewSession, known: Investigation, begun: bool, archived: bool
) -> None:
    sessions.insert(conn, [new], at=AT, last_event=0)
    investigations.insert(conn, known)
    values = {"last_message": int(begun), "archived_at": AT if archived else None}
    conn.execute(tables.sessions.update().where(tables.sessions.c.id == new.id).values(values))


def _result(
    conn: sa.Connection, session: SessionId, title: str | None, data: str | None, description: str
) -> None:
    turn, reply = TurnId(new_id()), ReplyId(new_id())
    number = next(_positions)
    conn.execute(
        tables.turns.insert().values(
            id=turn,
            session_id=session,
            number=number,
            state=TurnState.SUCCEEDED.value,
            channel=Channel.CONSOLE.value,
            trigger_name="console",
            author=OWNER,
            answer_to=[],
            attempt=1,
            epoch=1,
            due_at=AT,
            processing_ms=0,
            created_at=AT,
        )
    )
    voice = sessions.voices_of(conn, session)[0]
    conn.execute(
        tables.replies.insert().values(
            id=reply,
            turn_id=turn,
            voice_id=voice.id,
            round=1,
            state=ReplyState.DONE.value,
            text="Found.",
            started_at=AT,
        )
    )
    conn.execute(
        tables.tool_calls.insert().values(
            reply_id=reply,
            iteration=1,
            ordinal=1,
            call_id="call",
            tool="books_query",
            arguments="{}",
            state=ToolState.DONE.value,
            result="Found.",
            data=data,
            started_at=AT,
        )
    )
    name = f"r{number:010x}"
    key_results.add(conn, [KeyResult(session, name, turn, reply, 1, 1, "books_query", AT)])
    if title is not None:
        key_results.show(
            conn,
            session,
            name,
            title=title,
            description=description,
            chart=None,
            display="both",
            by="Ada",
            at=datetime.now(UTC),
        )
