"""The Telegram channel put together: updates in by polling or webhook, answers out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog
from aiohttp import web

from handlers.telegram.client import Client
from handlers.telegram.commands import MENU
from handlers.telegram.media import LARGEST
from handlers.telegram.poll import Poller, PollTimes
from handlers.telegram.receive import AllowedIds, Receiver, Rules
from handlers.telegram.send import SendTimes, TelegramSender
from handlers.telegram.translate import Me
from handlers.telegram.webhook import Webhook
from service.config import Telegram
from service.core.model import Address, Binding, Refusal
from service.core.pacing import GROUP, PRIVATE, Pace
from service.engine.compositions import Compositions
from service.engine.controls import Controls
from service.engine.intake import Intake
from service.engine.leases import Leases
from service.errors import BadInput, ChannelBusy, ChannelError, ConfigError
from service.ports import Files, Sender

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class TelegramChannel:
    """One bot. Telegram being out of reach stops neither the start nor anything else.

    Stop order: `stop` first, so that nothing more comes in; then the outbox sends its last words
    through `sender`; then `close`.
    """

    def __init__(
        self,
        settings: Telegram,
        *,
        agents: Mapping[str, Binding],
        intake: Intake,
        controls: Controls,
        leases: Leases,
        public_url: str | None,
        attachment_bytes: int = LARGEST,
        allowed: AllowedIds | None = None,
        compositions: Compositions | None = None,
        path: str = "/telegram",
        private: Pace = PRIVATE,
        group: Pace = GROUP,
        send_times: SendTimes | None = None,
        poll_times: PollTimes | None = None,
        answer_within: timedelta = timedelta(seconds=20),
    ) -> None:
        self.bot = settings.bot
        self._client = Client(
            settings.token.reveal(),
            api_base_url=settings.api_base_url,
            answer_within=answer_within,
        )
        self._sender = TelegramSender(
            self._client, bot=self.bot, private=private, group=group, times=send_times
        )
        rules = Rules(settings.allow, settings.groups, settings.agent, agents, attachment_bytes)
        self._receiver = Receiver(
            rules,
            bot=self.bot,
            intake=intake,
            controls=controls,
            answer=self._client.answer,
            edit=self._client.edit,
            allowed=allowed,
            compositions=compositions,
        )
        self._me: Me | None = None
        self._times = poll_times or PollTimes()
        self._poller: Poller | None = None
        self._webhook: Webhook | None = None
        self._task: asyncio.Task[None] | None = None
        self._path = f"{path}/{self.bot}"
        self._registered = False
        if settings.mode == "polling":
            self._poller = Poller(
                self._client,
                self._receiver,
                leases,
                bot=self.bot,
                identify=self._identify,
                times=self._times,
            )
            return
        if settings.secret is None or public_url is None:
            missing = "telegram.secret" if settings.secret is None else "server.public_url"
            raise ConfigError([f'{missing}: needed for telegram.mode = "webhook"'])
        self._secret = settings.secret.reveal()
        self._url = public_url.rstrip("/") + self._path
        self._webhook = Webhook(self._receiver, secret=self._secret, me=self._who)

    def __repr__(self) -> str:
        return f"TelegramChannel(bot={self.bot})"

    @property
    def sender(self) -> Sender:
        """Brings deliveries to this bot's chats."""
        return self._sender

    @property
    def files(self) -> Files:
        """Fetches what people sent to this bot."""
        return self._client

    @property
    def healthy(self) -> bool:
        """Whether updates come in, or wait for another replica that takes them."""
        if self._poller is not None:
            polling = self._task is not None and not self._task.done()
            return polling and self._poller.trouble is None
        return self._registered

    def identity(self) -> tuple[str | None, bool]:
        """What the bot is called, None as long as Telegram has not told; and whether it is well."""
        return (self._me.username if self._me else None), self.healthy

    async def refused(self, author: str, home: Address | None) -> Refusal | None:
        """Why somebody may not ring here any more, if the author is one of Telegram's people."""
        return await self._receiver.refused(author, home)

    async def retry(self, source: str, key: str, body: bytes) -> str:
        """Try a quarantined update again; return the key it is stored under this time.

        Raises BadInput when it still cannot be understood.
        """
        if source != self.bot:
            raise BadInput(f"it came to the bot {source}, which is not configured any more")
        if self._me is None:
            raise BadInput("the bot does not know its own name yet; try again in a moment")
        return await self._receiver.retry(key, body, self._me)

    def routes(self) -> list[web.RouteDef]:
        """Where Telegram posts to; nowhere when we fetch."""
        if self._webhook is None:
            return []
        return [web.post(self._path, self._webhook.post)]

    async def start(self) -> None:
        """Begin to take updates; return at once."""
        loop = self._register() if self._poller is None else self._poller.run()
        self._task = asyncio.create_task(loop, name="telegram")
        self._task.add_done_callback(_report)

    async def stop(self) -> None:
        """Take no more updates; what was fetched is stored and confirmed when this returns."""
        if self._task is not None:
            if self._poller is not None:
                self._poller.stop()
            else:
                self._task.cancel()
            await asyncio.wait({self._task})
        await self._receiver.close()

    async def close(self) -> None:
        """Close the connections; nothing can be sent any more."""
        await self._client.close()

    def _who(self) -> Me | None:
        return self._me

    async def _identify(self) -> Me:
        """Ask Telegram who the bot is, and tell it what the bot can do."""
        me = await self._client.me()
        await self._client.set_menu(MENU)
        self._me = me
        log.info("telegram.identified", bot=self.bot, username=me.username)
        return me

    async def _register(self) -> None:
        """Have updates posted to us; try until it works."""
        wait = self._times.first_retry
        while not self._registered:
            try:
                await self._identify()
                await self._client.set_webhook(self._url, secret=self._secret)
                self._registered = True
            except ChannelError as error:
                pause = error.retry_after if isinstance(error, ChannelBusy) else wait
                log.warning("telegram.webhook_not_set", reason=str(error))
                await asyncio.sleep(pause.total_seconds())
                wait = min(wait * 2, self._times.last_retry)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("telegram.stopped", error=type(error).__name__, exc_info=error)
