"""The service put together: configuration to objects, start order, stop order."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from handlers.console.api import Api
from handlers.console.gate import Gate, Place
from handlers.console.outside import Bot, Outside
from handlers.console.pages import Pages
from handlers.console.rings import abilities_of
from handlers.cron.clock import compile_task, tick
from handlers.health import Health
from handlers.http import BodyLimits, careful_headers, problems_middleware
from handlers.webhook.by_hand import ByHand
from handlers.webhook.callback import CallbackSender
from handlers.webhook.hook import Hook, callback_address, compile_hook
from handlers.webhook.receive import Webhooks
from service import config, systemd
from service.agents import schedule, send_message
from service.agents.catalog import Catalog
from service.agents.data import DataSources
from service.agents.mcp import McpServers
from service.agents.tools import Tool
from service.config import Callback, Deliver, Settings
from service.core.access import Policy
from service.core.model import Address, Begins, Binding, Cast, Channel, SessionId, TurnId, VoiceId
from service.egress import Egress
from service.engine import scanning
from service.engine.allowed import Allowed
from service.engine.compositions import Compositions
from service.engine.controls import Controls
from service.engine.feed import Feed
from service.engine.hints import Hints
from service.engine.holds import uptime
from service.engine.housekeeping import Housekeeping
from service.engine.intake import Intake
from service.engine.leases import Leases
from service.engine.metrics import Metrics
from service.engine.outbox import Outbox
from service.engine.replays import Replays, Retry
from service.engine.results import Results
from service.engine.scanning import Scans
from service.engine.scheduler import Scheduler
from service.engine.tasks import Task
from service.engine.tokens import TurnTokens
from service.engine.turns import Turns
from service.engine.workers import Workers
from service.errors import BadInput, ConfigError, StoreError
from service.ports import Files, Sender
from service.store import control, schema
from service.store.database import Database

if TYPE_CHECKING:
    from handlers.telegram.channel import TelegramChannel

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_DELIVERIES_AT_ONCE = 64
# After the turns have ended or were handed over, their last words get this long to leave.
_LAST_WORDS = timedelta(seconds=5)
# A connection may say nothing for so long, also in the middle of a request's head; proxies keep
# theirs for one or two minutes, and should be the ones that close it.
_SILENT_SECONDS = 150.0
# A loop that has not come round for this long is not ready for work.
_STALE_SECONDS = 60.0


class App:
    """One process of the service. Everything is made in `__init__` order and used by `start`."""

    def __init__(self, settings: Settings, *, channels: bool) -> None:
        self.settings = settings
        self.token = secrets.token_urlsafe(32)
        self.url = ""
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        limits = settings.limits
        self.database = Database(settings.database.url, pool_size=settings.database.pool_size)
        self.metrics = Metrics()
        self.mcp = McpServers(settings.mcp)
        self.data = DataSources(settings.data)
        self.catalog = Catalog(
            settings.providers,
            settings.agents,
            mcp=self.mcp,
            data=self.data,
            # They are made before what they use, and use it when they are called.
            extra={schedule.NAME: schedule.schedule_tools(lambda: self.scheduler)},
            own=self._sending(),
        )
        self._agents = self.catalog.bindings()
        self.feed = Feed(self.database, hint=self._changed)
        self.results = Results(self.database, self.feed)
        self.leases = Leases(self.database, owner=owner)
        self.intake = Intake(
            self.database,
            self.feed,
            self.metrics,
            queue_limit=limits.queue_per_session,
            wake=self._wake_lanes,
        )
        live = frozenset({Channel.TELEGRAM})
        self.controls = Controls(
            self.database,
            self.feed,
            self.catalog,
            self.metrics,
            live=live,
            stopping=self._stop,
            stopping_voice=self._stop_voice,
            wake=self._wake,
        )
        self.allowed = Allowed(self.database)
        self.compositions = Compositions(
            self.database, settings.compositions, self._agents, settings.providers
        )
        self.egress = Egress()
        self.telegram = self._telegram() if channels and settings.telegram else None
        self.outbox = Outbox(
            self.database,
            self.feed,
            self._senders() if channels else {},
            self.metrics,
            owner=owner,
        )
        self.posts = Workers(
            "outbox",
            claim=self.outbox.claim,
            work=self.outbox.work,
            renew=self.outbox.renew,
            at_once=_DELIVERIES_AT_ONCE,
        )
        self.turns = Turns(
            self.database,
            self.feed,
            self.catalog,
            self.metrics,
            owner=owner,
            live=live,
            wake=self._wake,
            policies=self._policies(),
            files=self._files(),
            attachment_bytes=limits.attachment_bytes,
            scans=Scans(self.database, self.intake.accept, self._agents),
        )
        self.lanes = Workers(
            "lanes",
            claim=self.turns.claim,
            work=self.turns.work,
            renew=self.turns.renew,
            at_once=limits.turns_at_once,
        )
        self.hints = Hints(
            self.database,
            owner=owner,
            feed=self.feed.poke,
            work=self._wake_here,
            stop=self.lanes.stop,
            stop_voice=self.turns.stop_voice,
        )
        self.housekeeping = Housekeeping(
            self.database,
            self.turns,
            self.metrics,
            attempts=limits.turn_attempts,
            keep_events=limits.keep_events,
            keep_bodies=limits.keep_bodies,
            archive_after=limits.archive_after,
            wake=self._wake,
            announce=self.feed.announce,
        )
        self.scheduler = Scheduler(
            self.database,
            self.intake,
            self.metrics,
            self._tasks(),
            self._agents,
            refused=self.telegram.refused if self.telegram is not None else None,
        )
        self.health = Health(
            {
                "database": self._check_database,
                "claims": partial(self._check_beat, "claims"),
                "scheduler": partial(self._check_beat, "scheduler"),
            },
            self.metrics.registry,
        )
        self._channels = channels
        self._hooks = self._webhooks()
        self._background: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None

    # -- start and stop ----------------------------------------------------------------------

    async def start(self, port: int) -> None:
        """Open the database, take over what a dead process left, then let rings in."""
        await self.database.open()
        await schema.migrate(self.database)
        await self.catalog.open()
        await self.mcp.open()
        await self.data.open()
        await self.housekeeping.take_over()
        await self.scheduler.define()
        tokens = await TurnTokens.load(self.database)
        self.lanes.start()
        self.posts.start()
        self.hints.start()
        self._spawn("housekeeping", self.housekeeping.run())
        if self._channels:
            self._spawn("scheduler", tick(self.scheduler))
        await self._listen(port, tokens)
        if self.telegram is not None:
            await self.telegram.start()
        self._tell_what_is_open()
        control.announce(self.database.lock_path, url=self.url, token=self.token)
        log.info("service.ready", url=self.url, database=self.database.url.get_backend_name())

    async def stop(self) -> None:
        """Let nothing more in, end or hand over what runs, send last words, close."""
        log.info("service.draining")
        self.health.draining = True
        if self.telegram is not None:
            await self.telegram.stop()
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await self.intake.drain()
        await self.lanes.drain(grace=self.settings.server.drain)
        await self.posts.drain(grace=_LAST_WORDS)
        if self._runner is not None:
            await self._runner.cleanup()
        if self.telegram is not None:
            await self.telegram.close()
        await self.hints.close()
        await self.egress.close()
        await self.catalog.close()
        await self.mcp.close()
        await self.data.close()
        await self.database.close()
        log.info("service.stopped")

    async def _listen(self, port: int, tokens: TurnTokens) -> None:
        settings = self.settings
        limits = BodyLimits(
            bytes=settings.limits.body_bytes,
            depth=settings.limits.body_depth,
            read=settings.limits.body_read,
            file_bytes=settings.limits.attachment_bytes,
            files=settings.limits.attachments_per_message,
        )
        gate = self._gate()
        application = web.Application(middlewares=[problems_middleware])
        webhooks = Webhooks(
            self._hooks,
            self.intake,
            self.feed,
            self.results,
            tokens,
            limits,
            settings.server.public_url,
            controls=self.controls,
        )
        api = Api(
            self.database,
            self.intake,
            self.controls,
            self.feed,
            self.results,
            self.scheduler,
            self._agents,
            gate,
            limits,
            abilities_of(self.catalog, self._agents),
            compositions=self.compositions,
            catalog=self.catalog,
            outside=self._outside(limits),
        )
        health = self.health.routes(gate.require_operator_or_here)
        application.add_routes([*health, *webhooks.routes(), *api.routes()])
        application.add_routes(Pages(gate.knows).routes())
        application.on_response_prepare.append(careful_headers)
        application.on_shutdown.append(api.sockets.close)
        if self.telegram is not None:
            application.add_routes(self.telegram.routes())
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=2.0,
            handle_signals=False,
            keepalive_timeout=_SILENT_SECONDS,
            # What was refused unread is not read for long.
            lingering_time=1.0,
        )
        await self._runner.setup()
        host = settings.server.host
        site = web.TCPSite(self._runner, host, port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(
                [f"server.port: cannot listen on {host}:{port}: {error.strerror or error}"]
            ) from error
        bound = self._runner.addresses[0][1]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - only compared
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}"

    def _tell_what_is_open(self) -> None:
        for hook in self._hooks.values():
            if hook.scheme == "none":
                log.warning("webhook.open", webhook=hook.name, reason='auth = "none"')

    def _spawn(self, name: str, work: Coroutine[None, None, None]) -> None:
        self._background.append(asyncio.create_task(work, name=name))

    # -- wiring ------------------------------------------------------------------------------

    def _gate(self) -> Gate:
        server = self.settings.server
        configured = tuple(secret.reveal() for secret in server.tokens)
        place = Place(
            server.public_url, loopback=server.loopback, trusted_proxies=server.trusted_proxies
        )
        return Gate(self.database, (*configured, self.token), place, lasts=server.sign_in)

    def _telegram(self) -> TelegramChannel | None:
        if self.settings.telegram is None:
            return None
        # 30 MB and 0.4 s of imports that a service without Telegram does not need.
        from handlers.telegram.channel import TelegramChannel

        return TelegramChannel(
            self.settings.telegram,
            agents=self._agents,
            intake=self.intake,
            controls=self.controls,
            leases=self.leases,
            public_url=self.settings.server.public_url,
            attachment_bytes=self.settings.limits.attachment_bytes,
            allowed=self.allowed.ids,
            compositions=self.compositions,
        )

    def _outside(self, limits: BodyLimits) -> Outside:
        """What the console can do about the other channels."""
        by_hand = ByHand(self._hooks, self.intake, limits, self.controls)
        retries: dict[Channel, Retry] = {Channel.WEBHOOK: by_hand.retry}
        if self.telegram is not None:
            retries[Channel.TELEGRAM] = self.telegram.retry
        return Outside(
            by_hand.ring,
            Replays(self.database, retries, wake=self._wake),
            self.allowed,
            webhooks=self.settings.webhooks,
            telegram=self.settings.telegram,
            agents=self.settings.agents,
            public_url=self.settings.server.public_url,
            bot=self._bot(),
        )

    def _bot(self) -> Bot | None:
        if self.telegram is None:
            return None
        from handlers.telegram.strangers import stranger

        return Bot(self.telegram.identity, stranger)

    def _senders(self) -> Mapping[str, Sender]:
        targets: dict[str, Callback] = {}
        for kind, named in (("webhook", self.settings.webhooks), ("task", self.settings.tasks)):
            for name, trigger in named.items():
                callback = getattr(trigger, "callback", None) or _callback(trigger.deliver)
                if callback is not None:
                    targets[callback_address(kind, name).spot] = callback
        senders: dict[str, Sender] = {
            Channel.WEBHOOK: CallbackSender(targets, self.egress, self.results)
        }
        if self.telegram is not None:
            senders[Channel.TELEGRAM] = self.telegram.sender
        return senders

    def _sending(self) -> dict[str, dict[str, tuple[Tool, ...]]]:
        """The tool of each agent that may write to somebody on its own."""
        found: dict[str, dict[str, tuple[Tool, ...]]] = {}
        for name, agent in self.settings.agents.items():
            places = {to: self._chat(place.telegram) for to, place in agent.send_to.items()}
            if places:
                tool = send_message.send_message_tool(lambda: self.controls, places)
                found[name] = {send_message.NAME: (tool,)}
        return found

    def _chat(self, spot: str) -> Address:
        # That there is a bot was checked when the configuration was read.
        bot = self.settings.telegram.bot if self.settings.telegram else ""
        return Address(Channel.TELEGRAM, f"{bot}:{spot}")

    def _policies(self) -> dict[tuple[Channel, str], Policy]:
        """What turns of each trigger may do that nobody is present at."""
        triggers = [
            *((Channel.WEBHOOK, name, one) for name, one in self.settings.webhooks.items()),
            *((Channel.CRON, name, one) for name, one in self.settings.tasks.items()),
        ]
        return {
            (channel, name): Policy(one.permit, one.approve, one.ask == "wait")
            for channel, name, one in triggers
        }

    def _files(self) -> dict[Channel, Files]:
        return {} if self.telegram is None else {Channel.TELEGRAM: self.telegram.files}

    def _tasks(self) -> dict[str, Task]:
        return {
            name: self._task(name, task, self._addresses("task", name, task.deliver))
            for name, task in self.settings.tasks.items()
        }

    def _task(self, name: str, settings: config.Task, addresses: tuple[Address, ...]) -> Task:
        binding, cast = self._answering(settings)
        return compile_task(name, settings, binding, addresses, cast, begins_of(settings))

    def _answering(self, trigger: config.Webhook | config.Task) -> tuple[Binding, Cast | None]:
        """Who answers a trigger: an agent, or the voices of a composition, the first one ahead.

        Nobody answers for a scan, and the session of an investigation is bound already.
        """
        if trigger.template is not None or trigger.project is not None:
            return scanning.BINDING, None
        if trigger.composition is None:
            return self._agents[trigger.agent or ""], None
        cast = self.compositions.configured(trigger.composition)
        return cast.voices[0].binding, cast

    def _webhooks(self) -> dict[str, Hook]:
        hooks, problems = {}, []
        for name, webhook in self.settings.webhooks.items():
            addresses = self._addresses("webhook", name, webhook.deliver, webhook.callback)
            try:
                binding, cast = self._answering(webhook)
                hooks[name] = compile_hook(
                    name, webhook, binding, addresses, cast, begins_of(webhook)
                )
            except BadInput as error:
                problems.append(f"webhooks.{name}.{error}")
        problems += self.catalog.problems()
        if problems:
            raise ConfigError(problems)
        return hooks

    def _addresses(
        self, kind: str, name: str, deliver: Deliver | None, callback: Callback | None = None
    ) -> tuple[Address, ...]:
        addresses = []
        if callback is not None or _callback(deliver) is not None:
            addresses.append(callback_address(kind, name))
        if deliver is not None and deliver.telegram is not None:
            addresses.append(self._chat(deliver.telegram))
        return tuple(addresses)

    # -- signals between the parts -----------------------------------------------------------

    def _changed(self, session: SessionId) -> None:
        self.hints.changed(session)

    def _wake(self) -> None:
        self._wake_here()
        self.hints.wanted()

    def _wake_lanes(self) -> None:
        self.lanes.wake()
        self.hints.wanted()

    def _wake_here(self) -> None:
        self.lanes.wake()
        self.posts.wake()

    def _stop(self, turn: TurnId) -> None:
        self.lanes.stop(turn)
        self.hints.stopping(turn)

    def _stop_voice(self, turn: TurnId, voice: VoiceId) -> None:
        self.turns.stop_voice(turn, voice)
        self.hints.stopping_voice(turn, voice)

    # -- readiness ---------------------------------------------------------------------------

    async def _check_database(self) -> str | None:
        try:
            revision = await schema.current(self.database)
        except StoreError as error:
            return str(error)
        return None if revision == schema.head() else f"the schema is at {revision}"

    async def _check_beat(self, name: str) -> str | None:
        at = {"claims": self.lanes.claimed_at, "scheduler": self.scheduler.checked_at}[name]
        if name == "scheduler" and not self._channels:
            return None
        if name == "claims" and self.settings.limits.turns_at_once == 0:
            return None
        if uptime() - at < _STALE_SECONDS:
            return None
        return f"the {name} loop has not come round for {_STALE_SECONDS:g} s"


def begins_of(trigger: config.Webhook | config.Task) -> Begins:
    """What a trigger begins besides a conversation."""
    named = None
    if trigger.project is not None and trigger.investigation is not None:
        named = (trigger.project, trigger.investigation)
    return Begins(trigger.disposition, trigger.template, named, trigger.owner)


def _callback(deliver: Deliver | None) -> Callback | None:
    return deliver.callback if deliver is not None else None


@asynccontextmanager
async def open_app(
    settings: Settings, *, port: int | None = None, channels: bool = True
) -> AsyncGenerator[App]:
    """Run the service inside this process: ready inside the block, drained after it.

    Without `channels` nothing comes in by cron and Telegram and nothing is sent out, but rings
    of the API are answered. Raises ConfigError or StoreError when it cannot start.
    """
    app = App(settings, channels=channels)
    try:
        await app.start(settings.server.port if port is None else port)
        yield app
    finally:
        await app.stop()


async def serve(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT; then drain."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, asked.set)
    async with open_app(settings):
        # Here it may be off, and never need look at what the start has made.
        gc.freeze()
        gc.enable()
        systemd.notify("READY=1")
        watchdog = asyncio.create_task(systemd.watchdog(), name="watchdog")
        await asked.wait()
        systemd.notify("STOPPING=1")
        watchdog.cancel()


def check(settings: Settings) -> None:
    """Compile everything the configuration holds without opening anything. Raises ConfigError."""
    App(settings, channels=False)
