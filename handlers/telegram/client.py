"""The Bot API as we use it: some typed calls whose failures are our own errors.

The token stays in here: it is in every URL, so no foreign error text leaves this module unread.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import httpx
from telegram import (
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    LinkPreviewOptions,
    Message,
    MessageEntity,
    ReplyParameters,
)
from telegram.constants import ChatAction
from telegram.error import (
    BadRequest,
    ChatMigrated,
    EndPointNotFound,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
)
from telegram.ext import ExtBot
from telegram.request import HTTPXRequest

from handlers.telegram.buttons import Keyboard
from handlers.telegram.markup import Rich
from handlers.telegram.spot import Spot
from handlers.telegram.translate import Me
from service.errors import (
    AddressGone,
    AddressMoved,
    ChannelBusy,
    ChannelDown,
    ChannelError,
    ChannelUncertain,
)

ALLOWED_UPDATES = ("message", "edited_message", "callback_query", "my_chat_member")

# The library returns durations as timedelta only when it finds this.
os.environ.setdefault("PTB_TIMEDELTA", "1")

_Answer = TypeVar("_Answer")

_DOWNLOAD_SECONDS = 60.0
_NOT_MODIFIED = "message is not modified"
_MESSAGE_GONE = ("message to edit not found", "message can't be edited", "message_id_invalid")
_DELETED = ("message to delete not found", "message can't be deleted")
_TOPIC_GONE = ("message thread not found", "topic_closed", "topic_deleted")
_ADDRESS_GONE = (
    "chat not found",
    "user not found",
    "user is deactivated",
    "peer_id_invalid",
    "not enough rights to send",
    "have no rights to send",
    "chat_write_forbidden",
    "group chat was deactivated",
)
_ENTITIES = ("can't parse entities", "entity", "entities")
_RETRY_AFTER = re.compile(r"retry after (\d+)", re.IGNORECASE)
# Failures of the transport before a byte of the request was written.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class MessageGone(ChannelError):
    """The message cannot be changed: somebody deleted it, or it is too old."""


class TopicGone(ChannelError):
    """The topic is closed or deleted; the chat is still there."""


class EntitiesRefused(ChannelError):
    """Telegram does not like how the text is dressed; it would take it plain."""


class TokenRefused(ChannelError):
    """The bot token is wrong or was revoked: only the operator can help."""

    permanent = False


class AnotherPoller(ChannelError):
    """Somebody else fetches the updates of this bot, or has a webhook set."""

    permanent = False


class Client:
    """One bot at one Bot API server."""

    def __init__(
        self,
        token: str,
        *,
        api_base_url: str,
        answer_within: timedelta = timedelta(seconds=20),
        connections: int = 32,
    ) -> None:
        # Their INFO lines hold whole URLs.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        base = api_base_url.rstrip("/")
        seconds = answer_within.total_seconds()
        # Idle connections live 5 s, the default. Longer, and more sends would meet one that the
        # server has just closed: then nobody knows whether the words arrived.
        self._request = HTTPXRequest(
            connection_pool_size=connections,
            connect_timeout=min(seconds, 10.0),
            read_timeout=seconds,
            write_timeout=seconds,
            pool_timeout=min(seconds, 10.0),
        )
        self._bot: ExtBot[None] = ExtBot(
            token,
            base_url=f"{base}/bot",
            base_file_url=f"{base}/file/bot",
            request=self._request,
            get_updates_request=self._request,
        )
        self._updates_url = f"{base}/bot{token}/getUpdates"
        self._files_url = f"{base}/file/bot{token}/"
        self._answer_seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return "Client()"

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        await self._request.shutdown()
        if self._session is not None:
            await self._session.close()

    async def me(self) -> Me:
        """Who the bot is."""
        user = await _asked(self._bot.get_me())
        return Me(user.id, user.username or "")

    async def send(
        self,
        spot: Spot,
        rich: Rich,
        *,
        keyboard: Keyboard = (),
        reply_to: int | None = None,
    ) -> str:
        """Send a message and return its id. Never repeated here: it has no idempotency key."""
        message = await _asked(
            self._bot.send_message(
                spot.chat,
                rich.text,
                entities=_entities(rich),
                message_thread_id=spot.topic,
                reply_markup=_markup(keyboard),
                reply_parameters=_reply(reply_to),
                link_preview_options=LinkPreviewOptions(is_disabled=True),
            ),
            spot,
        )
        return str(message.message_id)

    async def edit(self, spot: Spot, message: str, rich: Rich, *, keyboard: Keyboard = ()) -> None:
        """Make a message say `rich`; it is no failure when it says that already."""
        try:
            await _asked(self._edited(spot, message, rich, keyboard), spot)
        except _NotModified:
            return

    async def delete(self, spot: Spot, message: str) -> None:
        """Take a message away; it is no failure when it is gone already."""
        try:
            await _asked(self._bot.delete_message(spot.chat, int(message)), spot)
        except MessageGone:
            return

    async def typing(self, spot: Spot) -> None:
        """Show for some five seconds that the bot is typing."""
        await _asked(
            self._bot.send_chat_action(spot.chat, ChatAction.TYPING, message_thread_id=spot.topic),
            spot,
        )

    async def answer(self, query: str, text: str) -> None:
        """Answer a pressed button; Telegram shows `text` for a moment."""
        await _asked(self._bot.answer_callback_query(query, text=text))

    async def set_menu(self, commands: Mapping[str, str]) -> None:
        """Set the commands that clients offer."""
        await _asked(self._bot.set_my_commands(list(commands.items())))

    async def set_webhook(self, url: str, *, secret: str) -> None:
        """Have updates posted to `url`; pending ones come too."""
        await _asked(
            self._bot.set_webhook(
                url,
                secret_token=secret,
                allowed_updates=ALLOWED_UPDATES,
                drop_pending_updates=False,
            )
        )

    async def delete_webhook(self) -> None:
        """Let updates wait to be fetched; pending ones stay."""
        await _asked(self._bot.delete_webhook(drop_pending_updates=False))

    async def updates(self, *, offset: int | None, wait: timedelta, limit: int = 100) -> bytes:
        """The answer of getUpdates as it came. Everything below `offset` is confirmed by it."""
        payload: dict[str, object] = {
            "timeout": int(wait.total_seconds()),
            "limit": limit,
            "allowed_updates": ALLOWED_UPDATES,
        }
        if offset is not None:
            payload["offset"] = offset
        timeout = aiohttp.ClientTimeout(total=wait.total_seconds() + 10, sock_connect=10)
        try:
            async with self._http().post(
                self._updates_url, json=payload, timeout=timeout
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise ChannelDown(f"getUpdates failed: {type(error).__name__}") from None
        if response.status != HTTPStatus.OK:
            raise _poll_error(response.status, body)
        return body

    async def fetch(self, remote: str, *, limit: int) -> bytes:
        """The bytes of a file somebody sent, by its id; see `ports.Files`."""
        try:
            found = await _asked(self._bot.get_file(remote))
        except ChannelUncertain as error:
            # Asking changes nothing, so it may be asked again.
            raise ChannelDown(str(error)) from None
        if (found.file_size or 0) > limit:
            raise _too_large(limit)
        url = found.file_path or ""
        if not url.startswith(self._files_url):
            # A Bot API server that runs with --local keeps files on its own disk.
            raise ChannelError("the Bot API server does not offer its files over HTTP")
        return await self._read(url, limit)

    async def _read(self, url: str, limit: int) -> bytes:
        timeout = aiohttp.ClientTimeout(
            total=_DOWNLOAD_SECONDS, sock_connect=10, sock_read=self._answer_seconds
        )
        try:
            async with self._http().get(
                url,
                timeout=timeout,
                allow_redirects=False,
                headers={"Accept-Encoding": "identity"},
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise _download_error(response.status, response.headers.get("Retry-After"))
                return await _bounded(response, limit)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # What it says may hold the URL, and with it the token.
            name = type(error).__name__
        raise ChannelDown(f"the file could not be fetched: {name}")

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession()
        return self._session

    def _edited(
        self, spot: Spot, message: str, rich: Rich, keyboard: Keyboard
    ) -> Awaitable[Message | bool]:
        return self._bot.edit_message_text(
            rich.text,
            chat_id=spot.chat,
            message_id=int(message),
            entities=_entities(rich),
            reply_markup=_markup(keyboard),
            link_preview_options=LinkPreviewOptions(is_disabled=True),
        )


class _NotModified(ChannelError):
    """The message says that already."""


async def _asked(call: Awaitable[_Answer], spot: Spot | None = None) -> _Answer:
    """Wait for a call and turn its failure into one of ours.

    Chained to nothing: what the library raises may print the URL.
    """
    try:
        return await call
    except TelegramError as error:
        failure = _failure(error, spot)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # An answer came that is not what the Bot API promises.
        failure = ChannelUncertain(f"Telegram's answer made no sense ({type(error).__name__})")
    raise failure from None


def _failure(error: TelegramError, spot: Spot | None) -> ChannelError:
    """What an error of the library means. BadRequest and TimedOut are NetworkErrors there."""
    match error:
        case RetryAfter():
            return ChannelBusy("Telegram asked us to slow down", _duration(error.retry_after))
        case ChatMigrated():
            return _moved(error.new_chat_id, spot)
        case Forbidden():
            return AddressGone(str(error))
        case InvalidToken() | EndPointNotFound():
            return TokenRefused("Telegram does not know the bot token")
        case BadRequest():
            return _refusal(str(error))
        case NetworkError():
            return _network(error)
    return ChannelUncertain("Telegram's answer could not be read")


def _duration(value: float | timedelta) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


def _moved(chat: int, spot: Spot | None) -> ChannelError:
    if spot is None:
        return ChannelError("the chat has moved")
    # Topics and message ids do not move along.
    return AddressMoved(f"the group became {chat}", str(Spot(spot.bot, chat)))


def _refusal(text: str) -> ChannelError:
    said = text.lower()
    if _NOT_MODIFIED in said:
        return _NotModified(text)
    if any(one in said for one in (*_MESSAGE_GONE, *_DELETED)):
        return MessageGone(text)
    if any(one in said for one in _TOPIC_GONE):
        return TopicGone(text)
    if any(one in said for one in _ADDRESS_GONE):
        return AddressGone(text)
    if any(one in said for one in _ENTITIES):
        return EntitiesRefused(text)
    return ChannelError(f"Telegram refused it: {text}")


def _network(error: NetworkError) -> ChannelError:
    cause = error.__cause__
    if isinstance(cause, _NOT_SENT):
        return ChannelDown(f"Telegram cannot be reached ({type(cause).__name__})")
    if cause is not None and not isinstance(cause, TelegramError):
        return ChannelUncertain(f"no answer from Telegram ({type(cause).__name__})")
    asked = _RETRY_AFTER.search(str(error))
    if asked:
        seconds = timedelta(seconds=int(asked[1]))
        return ChannelBusy("Telegram asked us to slow down", seconds)
    words = str(error).partition(". Parsing the server")[0]
    return ChannelDown(f"Telegram failed: {words[:200]}")


def _poll_error(status: int, body: bytes) -> ChannelError:
    text = body[:2000].decode("utf-8", "replace")
    if status == HTTPStatus.CONFLICT:
        return AnotherPoller("another process or a webhook takes the updates of this bot")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND):
        return TokenRefused("Telegram does not know the bot token")
    asked = _RETRY_AFTER.search(text)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        seconds = int(asked[1]) if asked else 1
        return ChannelBusy("Telegram asked us to slow down", timedelta(seconds=seconds))
    return ChannelDown(f"getUpdates was answered with {status}")


async def _bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, of which no more is read than may be."""
    if (response.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> ChannelError:
    return ChannelError(f"the file has more than {limit} bytes")


def _download_error(status: int, retry_after: str | None) -> ChannelError:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        seconds = int(retry_after) if retry_after and retry_after.isdecimal() else 1
        return ChannelBusy("Telegram asked us to slow down", timedelta(seconds=seconds))
    if status == HTTPStatus.UNAUTHORIZED:
        return TokenRefused("Telegram does not know the bot token")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ChannelDown(f"the file could not be fetched: status {status}")
    return ChannelError(f"the file is not there: status {status}")


def _entities(rich: Rich) -> Sequence[MessageEntity]:
    return [
        MessageEntity(one.type, one.offset, one.length, url=one.url, language=one.language)
        for one in rich.entities
    ]


def _markup(keyboard: Keyboard) -> InlineKeyboardMarkup | None:
    if not keyboard:
        return None
    return InlineKeyboardMarkup(
        [
            [InlineKeyboardButton(one.text, callback_data=one.data) for one in row]
            for row in keyboard
        ]
    )


def _reply(message: int | None) -> ReplyParameters | None:
    if message is None:
        return None
    return ReplyParameters(message, allow_sending_without_reply=True)
