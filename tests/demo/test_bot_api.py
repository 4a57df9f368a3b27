"""Messages, buttons, topics and commands on the local Bot API server."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from telegram import InlineKeyboardButton, InlineKeyboardMarkup, MessageEntity, ReplyParameters
from telegram.constants import ChatAction
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken
from telegram.ext import ExtBot

from service.demo.bot_api.server import BotApi
from tests.demo.caller import ANN, BOB, GROUP, TEAM, Caller, Clock, button
from tests.demo.conftest import bot_at

NOT_MODIFIED = (
    "Bad Request: message is not modified: specified new message content and reply markup are "
    "exactly the same as a current content and reply markup of the message"
)
STOP = InlineKeyboardButton("Stop", callback_data="stop:1")
THREAD_GONE = (400, "Bad Request: message thread not found")

# -- the client library --------------------------------------------------------------------------


async def test_the_library_meets_the_bot(api: BotApi, bot: ExtBot[None]) -> None:
    """The library asks who the bot is when it starts, and reads the answer."""
    assert (bot.id, bot.username) == (7000000001, "demo_bot")
    assert bot.bot.can_read_all_group_messages is False


async def test_the_library_sends_and_edits(api: BotApi, bot: ExtBot[None]) -> None:
    """A message with entities and buttons comes back as it was shown, then as it was changed."""
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Stop", callback_data="stop:1")]])
    bold = MessageEntity(MessageEntity.BOLD, 0, 5)
    sent = await bot.send_message(ANN, "Hello Ann", entities=[bold], reply_markup=keyboard)
    edited = await bot.edit_message_text("Hello!", ANN, sent.message_id)

    assert (sent.text, sent.entities, sent.reply_markup) == ("Hello Ann", (bold,), keyboard)
    assert isinstance(edited, type(sent))
    assert (edited.text, edited.reply_markup) == ("Hello!", None)
    assert edited.edit_date is not None
    assert api.said(ANN) == ["Hello!"]


async def test_every_version_of_a_message_is_kept(
    api: BotApi, bot: ExtBot[None], clock: Clock
) -> None:
    """The transcript tells what a message said, from when on, and whether it had buttons."""
    began = clock.now
    sent = await bot.send_message(ANN, "One", reply_markup=InlineKeyboardMarkup.from_button(STOP))
    clock.move(seconds=2)
    await bot.edit_message_text("One two", ANN, sent.message_id)

    [message] = api.transcript(ANN)
    assert [(one.text, one.at) for one in message.versions] == [
        ("One", began),
        ("One two", clock.now),
    ]
    assert (message.history, message.markups) == (["One", "One two"], [True, False])


async def test_the_library_changes_buttons_types_and_deletes(
    api: BotApi, bot: ExtBot[None]
) -> None:
    """The other calls about messages work too."""
    sent = await bot.send_message(ANN, "Hi", reply_markup=InlineKeyboardMarkup.from_button(STOP))
    await bot.edit_message_reply_markup(ANN, sent.message_id)
    shown = api.transcript(ANN)[0].reply_markup
    await bot.send_chat_action(ANN, ChatAction.TYPING)
    await bot.set_message_reaction(ANN, sent.message_id, "👀")
    reactions = api.transcript(ANN)[0].reactions
    await bot.delete_message(ANN, sent.message_id)

    assert shown is None
    assert api.chats.open(ANN).actions == ["typing"]
    assert [one["emoji"] for one in reactions] == ["👀"]
    assert api.said(ANN) == []


async def test_the_library_answers_a_message(api: BotApi, bot: ExtBot[None]) -> None:
    """The message that is answered comes along, one level deep."""
    await api.send_text("What time is it?", chat=ANN)
    first = await bot.send_message(ANN, "Noon.", reply_parameters=ReplyParameters(1))
    await bot.send_message(ANN, "About.", reply_parameters=ReplyParameters(first.message_id))

    assert first.reply_to_message is not None
    assert first.reply_to_message.text == "What time is it?"
    assert api.transcript(ANN)[2].reply_to == first.message_id


async def test_the_library_sets_commands(api: BotApi, bot: ExtBot[None]) -> None:
    """Commands are kept by scope and language, and deleted likewise."""
    await bot.set_my_commands([("start", "Begin"), ("stop", "Stop")])
    await bot.set_my_commands([("start", "Anfangen")], language_code="de")
    german = await bot.get_my_commands(language_code="de")
    await bot.delete_my_commands(language_code="de")

    assert [one["command"] for one in api.menu] == ["start", "stop"]
    assert [one.description for one in german] == ["Anfangen"]
    assert await bot.get_my_commands(language_code="de") == ()


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ([{"command": f"c{n}", "description": "x"} for n in range(101)], "BOT_COMMANDS_TOO_MUCH"),
        ([{"command": "Start", "description": "x"}], "BOT_COMMAND_INVALID"),
        ([{"command": "start", "description": ""}], "BOT_COMMAND_DESCRIPTION_INVALID"),
        ("start", "can't parse commands list JSON object"),
    ],
)
async def test_commands_that_cannot_be(call: Caller, commands: Any, words: str) -> None:
    """Names, descriptions and their number are checked."""
    answer = await call("setMyCommands", commands=commands)

    assert answer.refusal == (400, f"Bad Request: {words}")


# -- how calls may come --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"json": {"chat_id": ANN, "text": "Hi", "reply_markup": button("x")}},
        {"json": {"chat_id": str(ANN), "text": "Hi", "reply_markup": button("x"), "extra": 1}},
        {"data": {"chat_id": str(ANN), "text": "Hi"}},
        {"params": {"chat_id": str(ANN), "text": "Hi"}},
    ],
    ids=["json", "json with strings", "form", "query"],
)
async def test_parameters_come_in_every_form(api: BotApi, call: Caller, how: Any) -> None:
    """JSON, form and query say the same; what nobody knows is ignored."""
    answer = await call.post("sendMessage", **how)

    assert (answer.status, answer.result["text"], api.said(ANN)) == (200, "Hi", ["Hi"])


async def test_nested_values_come_as_json_in_a_multipart_form(api: BotApi, call: Caller) -> None:
    """A form holds strings, so keyboards are JSON inside one; files are told by their size."""
    form = aiohttp.FormData({"chat_id": str(ANN), "text": "Hi", "disable_notification": "true"})
    form.add_field("reply_markup", '{"inline_keyboard": [[{"text": "A", "url": "https://a.b"}]]}')
    form.add_field("file", b"1234", filename="a.txt")
    await call.post("sendMessage", data=form)

    [message] = api.transcript(ANN)
    assert message.reply_markup is not None
    assert message.silent
    assert api.called("sendMessage")[0]["file"] == {"file_name": "a.txt", "file_size": 4}


async def test_method_names_know_no_case(api: BotApi, call: Caller) -> None:
    """Methods can be written in any case, and be asked for with GET."""
    async with call.session.get(f"{call.base}/GETME") as response:
        body = await response.json()

    assert body["result"]["username"] == "demo_bot"


async def test_the_token_may_be_escaped(api: BotApi, call: Caller) -> None:
    """Libraries escape the colon of the token in some paths."""
    call.base = f"{api.url}/bot{api.token.replace(':', '%3A')}"

    assert (await call("getMe")).status == 200


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (f"7000000001:{'B' * 35}", "Unauthorized"),
        ("nonsense", "Unauthorized: invalid token specified"),
    ],
)
async def test_a_wrong_token_is_refused(api: BotApi, call: Caller, token: str, words: str) -> None:
    """Nobody calls without the token; not even unknown methods are told from known ones."""
    call.base = f"{api.url}/bot{token}"

    assert (await call("getMe")).refusal == (401, words)
    assert (await call("nonsense")).refusal == (401, words)


async def test_the_library_sees_a_wrong_token(api: BotApi) -> None:
    """The library does not even start with it."""
    stranger = bot_at(api.url, f"7000000001:{'B' * 35}")

    with pytest.raises(InvalidToken):
        await stranger.initialize()
    await stranger.shutdown()


async def test_what_does_not_exist_is_not_found(api: BotApi, call: Caller) -> None:
    """An unknown method catches typing errors; other paths are not found either."""
    unknown = await call("sendMesage")
    call.base = api.url
    elsewhere = await call("somewhere")

    assert unknown.refusal == (404, "Not Found: method not found")
    assert elsewhere.refusal == (404, "Not Found")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, "JSON object"),
        ({"data": b"[]", "headers": {"Content-Type": "application/json"}}, "JSON object"),
        (
            {"data": {"chat_id": str(ANN), "text": "a", "reply_markup": "{"}},
            "reply keyboard markup JSON object",
        ),
        ({"data": {"chat_id": str(ANN), "text": "a", "entities": "["}}, "entities JSON object"),
    ],
)
async def test_broken_json_is_refused(call: Caller, how: Any, words: str) -> None:
    """What cannot be parsed is named."""
    answer = await call.post("sendMessage", **how)

    assert answer.refusal == (400, f"Bad Request: can't parse {words}")


async def test_numbers_must_be_numbers(call: Caller) -> None:
    """A parameter of the wrong type is refused, not guessed."""
    answer = await call("editMessageText", chat_id=ANN, message_id="one", text="x")

    assert answer.refusal == (400, "Bad Request: message_id must be an integer")


async def test_every_call_is_recorded(api: BotApi, call: Caller) -> None:
    """Calls are kept with what they said and how they were answered."""
    await call.say("Hi")
    await call.say("")

    assert [(one.method, one.params["text"], one.status) for one in api.calls] == [
        ("sendMessage", "Hi", 200),
        ("sendMessage", "", 400),
    ]


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"text": "x"}, "chat_id is empty"),
        ({"chat_id": BOB, "text": "x"}, "chat not found"),
        ({"chat_id": "@nobody", "text": "x"}, "chat not found"),
        ({"chat_id": ANN, "text": "x", "message_thread_id": 9}, "message thread not found"),
        ({"chat_id": TEAM, "text": "x", "message_thread_id": 1}, "message thread not found"),
        (
            {"chat_id": ANN, "text": "x", "reply_parameters": {"message_id": 9}},
            "message to be replied not found",
        ),
        ({"chat_id": ANN, "text": "x", "reply_markup": "x"}, "object expected as reply markup"),
        ({"chat_id": ANN, "text": "x", "reply_markup": button("")}, "BUTTON_DATA_INVALID"),
        ({"chat_id": ANN, "text": "x", "reply_markup": button("é" * 33)}, "BUTTON_DATA_INVALID"),
        (
            {"chat_id": ANN, "text": "x", "reply_markup": {"inline_keyboard": [[{"text": "A"}]]}},
            "Text buttons are unallowed in the inline keyboard",
        ),
    ],
)
async def test_messages_that_cannot_be_sent(
    api: BotApi, call: Caller, params: dict[str, Any], words: str
) -> None:
    """The server says why, in the words of the real one, and shows nothing."""
    answer = await call("sendMessage", **params)

    assert answer.refusal == (400, f"Bad Request: {words}")
    assert (api.said(ANN), api.said(TEAM)) == ([], [])


async def test_an_answer_to_nothing_may_be_allowed(api: BotApi, call: Caller) -> None:
    """With the switch for it, a message that answers a deleted one is sent all the same."""
    reply = {"message_id": 9, "allow_sending_without_reply": True}
    answer = await call.say("Hi", reply_parameters=reply)

    assert "reply_to_message" not in answer.result


async def test_an_edit_must_change_something(call: Caller) -> None:
    """Text, entities and buttons are compared as they were shown."""
    bold = {"type": "bold", "offset": 0, "length": 2}
    sent = await call.say("Hi ", entities=[bold], reply_markup=button("a"))
    number = sent.result["message_id"]
    same = await call.edit(number, "Hi", entities=[bold], reply_markup=button("a"))
    markup = await call(
        "editMessageReplyMarkup", chat_id=ANN, message_id=number, reply_markup=button("a")
    )
    plainer = await call.edit(number, "Hi", reply_markup=button("a"))

    assert same.refusal == (400, NOT_MODIFIED)
    assert markup.refusal == (400, NOT_MODIFIED)
    assert plainer.status == 200


async def test_only_own_messages_that_are_there_can_be_edited(api: BotApi, call: Caller) -> None:
    """Nobody's words can be changed by the bot, and nothing that is gone."""
    await api.send_text("Hello", chat=ANN)
    foreign = await call.edit(1, "Bye")
    unknown = await call.edit(7, "Bye")
    sent = await call.say("Hi")
    await api.delete(sent.result["message_id"], chat=ANN)
    gone = await call.edit(sent.result["message_id"], "Bye")
    unnamed = await call("editMessageText", chat_id=ANN, text="Bye")

    assert foreign.refusal == (400, "Bad Request: message can't be edited")
    assert unknown.refusal == (400, "Bad Request: message to edit not found")
    assert gone.refusal == (400, "Bad Request: message to edit not found")
    assert unnamed.refusal == (400, "Bad Request: message identifier is not specified")


async def test_messages_are_deleted_once_and_in_time(
    api: BotApi, call: Caller, clock: Clock
) -> None:
    """A message is deleted once, within two days, and in groups only the bot's own."""
    await call.say("Hi")
    once = await call("deleteMessage", chat_id=ANN, message_id=1)
    twice = await call("deleteMessage", chat_id=ANN, message_id=1)
    await api.send_text("Hello", chat=TEAM, user=ANN)
    foreign = await call("deleteMessage", chat_id=TEAM, message_id=1)
    await call.say("Old")
    clock.move(hours=49)
    late = await call("deleteMessage", chat_id=ANN, message_id=2)

    assert once.result is True
    assert twice.refusal == (400, "Bad Request: message to delete not found")
    assert foreign.refusal == (400, "Bad Request: message can't be deleted")
    assert late.refusal == (400, "Bad Request: message can't be deleted")


async def test_actions_are_known_ones(call: Caller) -> None:
    """There is a list of what a bot can be seen doing."""
    answer = await call("sendChatAction", chat_id=ANN, action="thinking")

    assert answer.refusal == (400, "Bad Request: wrong parameter action in request")


async def test_reactions_need_a_message_and_are_single(call: Caller) -> None:
    """A bot shows one reaction on a message that is there."""
    emoji = {"type": "emoji", "emoji": "👍"}
    await call.say("Hi")
    nowhere = await call("setMessageReaction", chat_id=ANN, message_id=9, reaction=[emoji])
    two = await call("setMessageReaction", chat_id=ANN, message_id=1, reaction=[emoji, emoji])

    assert nowhere.refusal == (400, "Bad Request: message to react not found")
    assert two.refusal == (400, "Bad Request: REACTION_INVALID")


@pytest.mark.parametrize(
    ("chat", "words"),
    [
        (ANN, "bot was blocked by the user"),
        (GROUP, "bot was kicked from the group chat"),
        (TEAM, "bot was kicked from the supergroup chat"),
    ],
)
async def test_who_blocked_the_bot_cannot_be_reached(
    api: BotApi, call: Caller, chat: int, words: str
) -> None:
    """Every call is refused until they let the bot in again."""
    await api.open_chat(chat)
    await api.block(chat)
    blocked = await call.say("Hi", chat=chat)
    await api.unblock(chat)
    again = await call.say("Hi", chat=chat)

    assert blocked.refusal == (403, f"Forbidden: {words}")
    assert again.status == 200


async def test_the_library_sees_a_block_and_a_move(api: BotApi, bot: ExtBot[None]) -> None:
    """The library's own errors come out of these answers."""
    await api.block(ANN)
    await api.open_chat(GROUP)
    await api.migrate(GROUP, TEAM)

    with pytest.raises(Forbidden, match="bot was blocked by the user"):
        await bot.send_message(ANN, "Hi")
    with pytest.raises(ChatMigrated) as moved:
        await bot.send_message(GROUP, "Hi")
    with pytest.raises(BadRequest, match="Chat not found"):
        await bot.send_message(BOB, "Hi")
    assert moved.value.new_chat_id == TEAM


async def test_a_move_tells_the_new_number(api: BotApi, call: Caller) -> None:
    """The refusal carries the number of the supergroup, where message ids begin anew."""
    await api.open_chat(GROUP, title="Team")
    await call.say("Hi", chat=GROUP)
    await api.migrate(GROUP, -1_009_999_999_999)
    old = await call.say("Hi", chat=GROUP)
    new = await call.say("Hi", chat=-1_009_999_999_999)

    words = "Bad Request: group chat was upgraded to a supergroup chat"
    assert old.refusal == (400, words)
    assert old.body["parameters"] == {"migrate_to_chat_id": -1_009_999_999_999}
    assert new.result["chat"]["type"] == "supergroup"
    assert new.result["message_id"] == 2


# -- buttons, notifications, topics ----------------------------------------------------------


async def test_a_press_is_answered_once(api: BotApi, bot: ExtBot[None]) -> None:
    """The first answer is shown; a second one, a late one and a foreign one are too late."""
    await bot.send_message(ANN, "Sure?", reply_markup=InlineKeyboardMarkup.from_button(STOP))
    query = await api.press(1, "stop:1", chat=ANN)
    [update] = await bot.get_updates()
    await bot.answer_callback_query(query, text="Stopping.")

    assert update.callback_query is not None
    assert (update.callback_query.id, update.callback_query.data) == (query, "stop:1")
    assert update.callback_query.message is not None
    assert update.callback_query.message.message_id == 1
    for unknown in (query, "9"):
        with pytest.raises(BadRequest, match="Query is too old and response timeout expired"):
            await bot.answer_callback_query(unknown)


async def test_an_answer_can_come_too_late(api: BotApi, call: Caller, clock: Clock) -> None:
    """A press waits for its answer for a minute."""
    query = await api.press(1, "x", chat=ANN)
    clock.move(seconds=61)
    answer = await call("answerCallbackQuery", callback_query_id=query)

    words = "query is too old and response timeout expired or query ID is invalid"
    assert answer.refusal == (400, f"Bad Request: {words}")


async def test_a_press_under_a_message_that_is_gone(api: BotApi, bot: ExtBot[None]) -> None:
    """The message is told by its number only, dated 1970."""
    await api.press(77, "old", chat=ANN)
    [update] = await bot.get_updates()

    assert update.callback_query is not None
    assert update.callback_query.message is not None
    assert not update.callback_query.message.is_accessible


async def test_phones_show_the_first_words(api: BotApi, call: Caller) -> None:
    """A notification shows what a message said first; silent ones and edits make none."""
    await call.say("One")
    await call.say("Working", disable_notification=True)
    await call.edit(1, "One two")

    assert api.chats.notified(ANN) == ["One"]


async def test_topics_are_apart(api: BotApi, bot: ExtBot[None]) -> None:
    """Messages belong to their topic; what has none is in General."""
    await api.send_text("Build it", chat=TEAM, user=ANN, topic=7)
    sent = await bot.send_message(TEAM, "Built.", message_thread_id=7)
    await bot.send_message(TEAM, "Hello all")

    assert (sent.message_thread_id, sent.is_topic_message) == (7, True)
    assert api.said(TEAM, topic=7) == ["Built."]
    assert api.said(TEAM) == ["Built.", "Hello all"]


async def test_topics_close_and_go(api: BotApi, call: Caller) -> None:
    """Nothing is said in a closed topic, and a deleted one was never there."""
    topic = await api.open_topic(TEAM, "Builds", user=ANN)
    await api.close_topic(TEAM, topic)
    closed = await call.say("Hi", chat=TEAM, message_thread_id=topic)
    await api.reopen_topic(TEAM, topic)
    reopened = await call.say("Hi", chat=TEAM, message_thread_id=topic)
    await api.delete_topic(TEAM, topic)
    gone = await call.say("Hi", chat=TEAM, message_thread_id=topic)

    assert closed.refusal == (400, "Bad Request: TOPIC_CLOSED")
    assert reopened.status == 200
    assert gone.refusal == THREAD_GONE
    assert api.said(TEAM) == []


async def test_the_bot_manages_topics(api: BotApi, bot: ExtBot[None]) -> None:
    """A topic can be made, renamed, closed, opened and deleted by the bot."""
    made = await bot.create_forum_topic(TEAM, "New")
    topic = made.message_thread_id
    await bot.edit_forum_topic(TEAM, topic, name="Newer")
    await bot.close_forum_topic(TEAM, topic)
    with pytest.raises(BadRequest, match="Topic_closed"):
        await bot.send_message(TEAM, "Hi", message_thread_id=topic)
    await bot.reopen_forum_topic(TEAM, topic)
    with pytest.raises(BadRequest, match="Topic_not_modified"):
        await bot.reopen_forum_topic(TEAM, topic)
    name = api.chats.open(TEAM).topics.by_id[topic].name
    await bot.delete_forum_topic(TEAM, topic)

    assert (name, api.chats.open(TEAM).topics.by_id) == ("Newer", {})


async def test_only_typing_knows_general_by_number(call: Caller) -> None:
    """In General of a forum typing names thread 1, a message names none."""
    typing = await call("sendChatAction", chat_id=TEAM, action="typing", message_thread_id=1)
    saying = await call.say("Hi", chat=TEAM, message_thread_id=1)

    assert typing.result is True
    assert saying.refusal == THREAD_GONE


# -- files --------------------------------------------------------------------------------------


async def download(api: BotApi, path: str, *, token: str = "") -> tuple[int, bytes]:
    """Fetch a file as a bot does."""
    url = f"{api.url}/file/bot{token or api.token}/{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.read()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("document", {"file_name": "a.pdf", "mime_type": "application/pdf", "file_size": 4}),
        ("voice", {"mime_type": "audio/ogg", "file_size": 4}),
        ("audio", {"mime_type": "audio/mpeg", "file_size": 4}),
    ],
)
async def test_a_file_is_told_found_and_fetched(
    api: BotApi, call: Caller, kind: str, told: dict[str, object]
) -> None:
    """The message says what it is; getFile says where; there it lies, for this bot."""
    name, media_type = ("a.pdf", "application/pdf") if kind == "document" else ("", "")
    await api.send_file(
        kind, b"data", chat=ANN, name=name, media_type=media_type, caption="/see it", album="7"
    )
    [update] = (await call("getUpdates")).result
    message = update["message"]
    file = (await call("getFile", file_id=message[kind]["file_id"])).result

    assert told.items() <= message[kind].items()
    assert (message["caption"], message["media_group_id"]) == ("/see it", "7")
    assert message["caption_entities"][0]["type"] == "bot_command"
    assert "text" not in message
    assert await download(api, file["file_path"]) == (200, b"data")
    assert (await download(api, file["file_path"], token="7:x"))[0] == 401
    assert (await download(api, "photos/none"))[0] == 404


async def test_a_photo_comes_in_sizes(api: BotApi, call: Caller) -> None:
    """As a list, without a name."""
    await api.send_file("photo", b"data", chat=ANN)
    [update] = (await call("getUpdates")).result

    [size] = update["message"]["photo"]
    assert (size["file_size"], "caption" in update["message"]) == (4, False)


async def test_a_file_that_is_not_there_is_refused(api: BotApi, call: Caller) -> None:
    """Also one that is too big for bots."""
    await api.send_file("document", bytes(20 * 2**20 + 1), chat=ANN)
    [update] = (await call("getUpdates")).result
    large = await call("getFile", file_id=update["message"]["document"]["file_id"])
    unknown = await call("getFile", file_id="x")

    assert "file is too big" in large.body["description"]
    assert "wrong file_id" in unknown.body["description"]
