"""The client: every failure becomes ours, and the token stays inside."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from handlers.telegram.client import (
    AnotherPoller,
    Client,
    EntitiesRefused,
    MessageGone,
    TokenRefused,
    TopicGone,
)
from handlers.telegram.markup import Rich, render
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
from tests.telegram.server import TOKEN, Server
from tests.telegram.updates import ANN, BOT, TEAM, USERNAME

SPOT = Spot(str(BOT), ANN)
WORDS = Rich("Hello")


@pytest.mark.parametrize(
    ("status", "description", "error"),
    [
        (400, "chat not found", AddressGone),
        (400, "not enough rights to send text messages to the chat", AddressGone),
        (400, "message thread not found", TopicGone),
        (400, "TOPIC_CLOSED", TopicGone),
        (400, "can't parse entities: byte offset 7", EntitiesRefused),
        (400, "message is too long", ChannelError),
        (401, "Unauthorized", TokenRefused),
        (403, "bot was blocked by the user", AddressGone),
        (403, "user is deactivated", AddressGone),
        (404, "Not Found", TokenRefused),
        (429, "Too Many Requests: retry after 3", ChannelBusy),
        (500, "Internal Server Error", ChannelDown),
        (502, "Bad Gateway", ChannelDown),
    ],
)
async def test_a_refusal_says_what_can_be_done(
    server: Server, client: Client, status: int, description: str, error: type[ChannelError]
) -> None:
    """Each answer of the Bot API has one meaning for those who send."""
    server.fail("sendMessage", status, description)

    with pytest.raises(ChannelError) as caught:
        await client.send(SPOT, WORDS)

    assert error is type(caught.value)


@pytest.mark.parametrize("parameters", [{"retry_after": 7}, {}])
async def test_the_time_to_wait_is_exact(
    server: Server, client: Client, parameters: dict[str, int]
) -> None:
    """It is taken from the parameters, or from the words when there are none."""
    server.fail("sendMessage", 429, "Too Many Requests: retry after 7", **parameters)

    with pytest.raises(ChannelBusy) as caught:
        await client.send(SPOT, WORDS)

    assert timedelta(seconds=7) == caught.value.retry_after


async def test_a_moved_group_is_followed(server: Server, client: Client) -> None:
    """The error carries the new address as the channel writes it."""
    server.fail("sendMessage", 400, "upgraded", migrate_to_chat_id=TEAM)

    with pytest.raises(AddressMoved) as caught:
        await client.send(Spot(str(BOT), -5, 7), WORDS)

    assert f"{BOT}:{TEAM}" == caught.value.spot


@pytest.mark.parametrize("applied", [True, False])
async def test_a_cut_connection_leaves_doubt(server: Server, client: Client, applied: bool) -> None:
    """Whoever sent cannot know whether it arrived."""
    server.drop("sendMessage", applied=applied)

    with pytest.raises(ChannelUncertain):
        await client.send(SPOT, WORDS)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"ok": true, "result": {}}'])
async def test_an_answer_that_makes_no_sense_leaves_doubt(
    server: Server, client: Client, body: bytes
) -> None:
    """A broken 200 may hide a message that was sent."""
    server.answer_with("sendMessage", body)

    with pytest.raises(ChannelUncertain):
        await client.send(SPOT, WORDS)


async def test_nobody_there_is_certain(client: Client) -> None:
    """A connection that was refused carried nothing."""
    nowhere = Client(TOKEN, api_base_url="http://127.0.0.1:1")

    with pytest.raises(ChannelDown):
        await nowhere.send(SPOT, WORDS)
    await nowhere.close()


async def test_an_edit_that_changes_nothing_succeeded(server: Server, client: Client) -> None:
    """That is how a repeated edit ends."""
    message = await client.send(SPOT, WORDS)
    await client.edit(SPOT, message, WORDS)

    assert server.texts() == ["Hello"]


async def test_a_message_that_is_gone_is_told_apart(client: Client) -> None:
    """Editing it is refused, deleting it again is not."""
    await client.delete(SPOT, "7")

    with pytest.raises(MessageGone):
        await client.edit(SPOT, "7", WORDS)


async def test_text_travels_with_entities_and_without_previews(
    server: Server, client: Client
) -> None:
    """No parse mode: nothing in a text can be misread by the server."""
    await client.send(SPOT, render("**Hi** [x](https://ex.com)"), reply_to=5)

    [sent] = server.of("sendMessage")
    assert sent["entities"] == [
        {"type": "bold", "offset": 0, "length": 2},
        {"type": "text_link", "offset": 3, "length": 1, "url": "https://ex.com"},
    ]
    assert "parse_mode" not in sent
    assert sent["link_preview_options"] == {"is_disabled": True}
    assert sent["reply_parameters"] == {"message_id": 5, "allow_sending_without_reply": True}


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, TokenRefused), (404, TokenRefused), (409, AnotherPoller), (502, ChannelDown)],
)
async def test_fetching_fails_in_our_words(
    server: Server, client: Client, status: int, error: type[ChannelError]
) -> None:
    """The poll loop reads the same errors as those who send."""
    server.fail("getUpdates", status, "no")

    with pytest.raises(error):
        await client.updates(offset=None, wait=timedelta())


async def test_the_bot_knows_itself(client: Client) -> None:
    """Number and name come from Telegram."""
    assert Me(BOT, USERNAME) == await client.me()


async def test_the_token_shows_nowhere(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in logs nor in errors nor in what a debugger prints."""
    caplog.set_level(logging.INFO)
    secret = TOKEN.partition(":")[2]
    seen = [repr(client), str(client)]
    await client.me()
    server.drop("sendMessage", applied=False)
    server.fail("sendMessage", 401, "Unauthorized")
    for _ in range(2):
        with pytest.raises(ChannelError) as caught:
            await client.send(SPOT, WORDS)
        seen += [repr(caught.value), repr(caught.value.__cause__), str(caught.value)]
    stranger = Client(f"{BOT}:{'B' * 35}", api_base_url=server.url)
    with pytest.raises(TokenRefused) as refused:
        await stranger.me()
    await stranger.close()

    assert secret not in " ".join([*seen, caplog.text])
    assert "B" * 35 not in repr(refused.value) + caplog.text
