"""The engine as this channel meets it, on a real database, and what was stored in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from handlers.telegram.channel import TelegramChannel
from handlers.telegram.markup import Rich
from handlers.telegram.poll import PollTimes
from handlers.telegram.receive import Receiver, Rules
from handlers.telegram.spot import Spot
from handlers.telegram.translate import Me
from service.config import Composition, CompositionVoice, Secret, Telegram
from service.core.model import Binding
from service.engine.compositions import Compositions
from service.engine.leases import Leases
from service.engine.scheduler import Refused, Scheduler
from service.store import tables
from service.store.database import Database
from tests.engine.engine import Engine
from tests.fakes import RememberingSender, ScriptedAgents
from tests.telegram.hurry import EAGER, TIMES
from tests.telegram.server import TOKEN
from tests.telegram.updates import ANN, BOT, TEAM, USERNAME, Raw

ME = Me(BOT, USERNAME)
AGENTS = {
    "assistant": Binding("assistant", "offline", "echo", "Be brief."),
    "coder": Binding("coder", "offline", "code*r", "Write code."),
}
COMPOSITIONS = {
    "duo": Composition(
        voices=(
            CompositionVoice(agent="assistant", name="Ada"),
            CompositionVoice(provider="offline", model="echo", prompt="Doubt it.", name="Bob"),
        )
    )
}
POLL = PollTimes(
    answer=timedelta(seconds=1),
    beat=timedelta(milliseconds=30),
    standby=timedelta(milliseconds=20),
    first_retry=timedelta(milliseconds=10),
    last_retry=timedelta(milliseconds=40),
    goodbye=timedelta(seconds=1),
)
SECRET = "webhook-secret"


class Station:
    """An engine whose workers do not run: what is stored stays as it was stored."""

    def __init__(self, database: Database, *, owner: str = "one") -> None:
        self.database = database
        self.engine = Engine(database, ScriptedAgents(), RememberingSender(live=True))
        self.leases = Leases(database, owner=owner)
        self.compositions = Compositions(database, COMPOSITIONS, AGENTS, ("offline",))
        self.answers: list[tuple[str, str]] = []
        self.edits: list[tuple[str, str, str]] = []

    def receiver(self, **rules: Any) -> Receiver:
        """A receiver with rules that differ from the usual ones as told."""
        values = {"allow": frozenset({ANN, TEAM}), "groups": "mention", **rules}
        return Receiver(
            Rules(agent="assistant", agents=AGENTS, **values),
            bot=str(BOT),
            intake=self.engine.intake,
            controls=self.engine.controls,
            answer=self.answer,
            edit=self.edit,
            compositions=self.compositions,
        )

    def scheduler(self, *, refused: Refused | None = None) -> Scheduler:
        """A scheduler of tasks that are made."""
        engine = self.engine
        return Scheduler(
            engine.database, engine.intake, engine.metrics, {}, AGENTS, refused=refused
        )

    async def answer(self, query: str, words: str) -> None:
        """Note the answer to a pressed button."""
        self.answers.append((query, words))

    async def edit(self, spot: Spot, message: str, rich: Rich) -> None:
        """Note what a message says from now on."""
        self.edits.append((str(spot), message, rich.text))

    def settings(self, url: str, **settings: Any) -> Telegram:
        """The configuration of a bot at a Bot API server."""
        values = {"mode": "polling", "allow": frozenset({ANN, TEAM}), **settings}
        return Telegram(token=Secret(TOKEN), api_base_url=url, agent="assistant", **values)

    def channel(
        self, url: str, *, public_url: str = "https://bot.example.org", **settings: Any
    ) -> TelegramChannel:
        """The channel at a Bot API server."""
        return TelegramChannel(
            self.settings(url, **settings),
            agents=AGENTS,
            intake=self.engine.intake,
            controls=self.engine.controls,
            leases=self.leases,
            compositions=self.compositions,
            public_url=public_url,
            private=EAGER,
            group=EAGER,
            send_times=TIMES,
            poll_times=POLL,
            answer_within=timedelta(seconds=1),
        )

    async def inbox(self) -> list[tuple[str, str | None]]:
        """What became of each update, in the order of their keys."""
        query = sa.select(tables.inbox.c.state, tables.inbox.c.reason)
        rows = await self._rows(query.order_by(tables.inbox.c.event_key))
        return [(row.state, row.reason) for row in rows]

    async def bodies(self) -> list[bytes]:
        """The raw updates as stored."""
        query = sa.select(tables.inbox.c.body).order_by(tables.inbox.c.event_key)
        return [row.body for row in await self._rows(query)]

    async def said(self) -> list[str]:
        """The words of people, in order."""
        query = sa.select(tables.messages.c.text).order_by(
            tables.messages.c.session_id, tables.messages.c.number
        )
        return [row.text for row in await self._rows(query)]

    async def notices(self) -> list[tuple[str, str, Raw]]:
        """What we want to tell people: where, what, and how."""
        table = tables.deliveries
        query = sa.select(table.c.spot, table.c.text, table.c.options).where(
            table.c.text.is_not(None)
        )
        return [(row.spot, row.text, row.options) for row in await self._rows(query)]

    async def files(self) -> list[tuple[str, str, str, int]]:
        """The files of messages: name, type, what they are fetched by, bytes."""
        table = tables.attachments
        columns = (table.c.name, table.c.media_type, table.c.remote, table.c.size)
        query = sa.select(*columns).order_by(table.c.session_id, table.c.message_number)
        return [tuple(row) for row in await self._rows(query)]

    async def rung(self) -> list[tuple[str, str, str]]:
        """The kind, the origin and what is done when it is busy, of each turn."""
        table = tables.turns
        query = sa.select(table.c.kind, table.c.origin, table.c.busy).order_by(table.c.id)
        return [tuple(row) for row in await self._rows(query)]

    async def audited(self) -> list[tuple[str, str, bool]]:
        """Who tried what, and whether they might."""
        table = tables.audit
        query = sa.select(table.c.principal, table.c.action, table.c.allowed).order_by(table.c.id)
        return [tuple(row) for row in await self._rows(query)]

    async def turns(self) -> list[tuple[str, str]]:
        """The state and the author of each turn."""
        query = sa.select(tables.turns.c.state, tables.turns.c.author)
        rows = await self._rows(query.order_by(tables.turns.c.id))
        return [(row.state, row.author) for row in rows]

    async def sessions(self) -> list[Any]:
        """Every session."""
        return list(await self._rows(sa.select(tables.sessions).order_by(tables.sessions.c.id)))

    async def change(self, change: sa.Update) -> None:
        """Let something be so that takes long to come about."""
        await self.database.write(_execute, change)

    async def _rows(self, query: sa.Select[Any]) -> Sequence[Any]:
        return await self.database.read(_fetch, query)


def _fetch(conn: sa.Connection, query: sa.Select[Any]) -> Sequence[Any]:
    return conn.execute(query).all()


def _execute(conn: sa.Connection, change: sa.Update) -> None:
    conn.execute(change)
