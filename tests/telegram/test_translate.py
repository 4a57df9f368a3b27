"""What raw updates mean: who, where, which words, and whether the bot is meant."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.telegram.spot import Spot, parse_spot
from handlers.telegram.translate import (
    Called,
    Me,
    Moved,
    Other,
    Pressed,
    Said,
    Unreadable,
    translate,
    update_id,
)
from service.core.access import TelegramPerson
from service.core.model import Address, Channel, NewAttachment
from service.errors import BadInput
from tests.telegram.updates import (
    ANN,
    BOT,
    TEAM,
    USERNAME,
    Raw,
    document,
    group,
    mention,
    message,
    photo,
    press,
    private,
    user,
)

ME = Me(BOT, USERNAME)
HERE = Spot(str(BOT), ANN)
TEAM_SPOT = Spot(str(BOT), TEAM)


def said(raw: Raw) -> Said:
    update = translate(raw, ME)
    assert isinstance(update, Said), update
    return update


def test_words_in_private_are_meant_for_the_bot() -> None:
    """A private chat needs no mention."""
    update = translate(message("Hello"), ME)

    assert Said(HERE, TelegramPerson(ANN, ANN), "Hello", 12, addressed=True) == update


def test_words_in_a_group_are_meant_for_somebody_else() -> None:
    """Without a mention or a reply the bot only listens."""
    assert not said(message("Hello", chat=group())).addressed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@test_bot what is up", "what is up"),
        ("😀 hey @Test_Bot!", "😀 hey !"),
        ("hi @test_bot and @other_bot", "hi  and @other_bot"),
    ],
)
def test_a_mention_calls_the_bot_and_is_taken_out(text: str, words: str) -> None:
    """The agent reads what was said to it, not its own name."""
    name = "@Test_Bot" if "@Test_Bot" in text else "@test_bot"
    update = said(message(text, chat=group(), entities=[mention(text, name)]))

    assert (words, True) == (update.text, update.addressed)


def test_a_mention_of_another_bot_is_not_for_us() -> None:
    """Names are compared whole."""
    text = "@test_bot_two hello"
    entities = [mention(text, "@test_bot_two")]

    assert not said(message(text, chat=group(), entities=entities)).addressed


def test_a_mention_by_number_calls_the_bot() -> None:
    """Clients may mention a bot without writing its name."""
    entities = [{"type": "text_mention", "offset": 0, "length": 3, "user": user(BOT)}]

    assert said(message("Bot, hi", chat=group(), entities=entities)).addressed


def test_a_reply_to_the_bot_calls_it() -> None:
    """Answering the bot's message goes on with the conversation."""
    target = {"message_id": 3, "from": user(BOT, is_bot=True), "text": "My answer"}
    update = said(message("Go on", chat=group(), reply_to_message=target))

    assert (update.text, update.addressed) == ("Go on", True)


def test_the_first_message_of_a_topic_is_no_reply() -> None:
    """In topics clients make everything a reply to the topic's first message."""
    target = {"message_id": 7, "from": user(BOT, is_bot=True)}
    raw = message(
        "Hi all",
        chat=group(),
        reply_to_message=target,
        message_thread_id=7,
        is_topic_message=True,
    )

    assert not said(raw).addressed


def test_a_reply_to_somebody_else_brings_their_words_along() -> None:
    """The agent sees what is pointed at, marked as not the writer's own."""
    target = {"message_id": 3, "from": user(ANN), "text": "one\ntwo"}
    update = said(message("Is that so?", reply_to_message=target))

    assert update.text == "In reply to:\n> one\n> two\n\nIs that so?"


def test_a_quote_comes_before_the_whole_message() -> None:
    """What was selected is what is meant."""
    target = {"message_id": 3, "from": user(BOT, is_bot=True), "text": "a long answer"}
    raw = message("This?", reply_to_message=target, quote={"text": "long", "position": 2})

    assert said(raw).text == "In reply to:\n> long\n\nThis?"


def test_forwarded_words_are_marked() -> None:
    """Words of a third party are data, and the agent is told so."""
    raw = message("Send me money", forward_origin={"type": "hidden_user", "date": 1})

    assert said(raw).text == "Forwarded message:\nSend me money"


def test_a_topic_is_a_place_of_its_own() -> None:
    """Topics have sessions; threads of replies do not."""
    in_topic = said(message("Hi", chat=group(), message_thread_id=7, is_topic_message=True))
    in_thread = said(message("Hi", chat=group(), message_thread_id=7))

    assert (in_topic.spot.topic, in_thread.spot.topic) == (7, None)


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("/new", "new", ""),
        ("/new coder", "new", "coder"),
        ("/New@Test_Bot  coder ", "new", "coder"),
        ("/start payload", "start", "payload"),
    ],
)
def test_a_command_has_a_name_and_an_argument(text: str, name: str, argument: str) -> None:
    """The bot's own name behind a command is taken off."""
    update = translate(message(text), ME)

    assert Called(HERE, TelegramPerson(ANN, ANN), name, argument, 12, addressed=True) == update


def test_a_command_for_another_bot_is_ignored() -> None:
    """A group may have several bots."""
    update = translate(message("/new@other_bot", chat=group()), ME)

    assert Other("the command is for another bot") == update


def test_a_bare_command_in_a_group_may_be_for_any_bot() -> None:
    """It is a command of ours only if we know it; the translation leaves that open."""
    update = translate(message("/new", chat=group()), ME)

    assert isinstance(update, Called)
    assert not update.addressed


def test_no_more_than_the_name_asks_for_help() -> None:
    """Mentioning the bot without a word is a question too."""
    update = translate(message("@test_bot", chat=group(), entities=[mention("@test_bot")]), ME)

    assert isinstance(update, Called)
    assert update.name == "help"


def test_a_pressed_button_says_who_and_where() -> None:
    """And under which message the button is."""
    update = translate(press("stop:1"), ME)

    person = TelegramPerson(ANN, ANN)
    assert Pressed(HERE, person, "4382bf", "stop:1", "User 501", message=3) == update


@pytest.mark.parametrize(
    "markup",
    [None, {}, {"inline_keyboard": [[{"text": "x", "callback_data": "q:2:yes"}], 7, [None]]}],
)
def test_a_press_names_no_message_that_has_not_its_button(markup: object) -> None:
    """It is forged, or Telegram does not tell what the message is like any more."""
    update = translate(press("q:1:yes", reply_markup=markup), ME)

    assert isinstance(update, Pressed)
    assert update.message is None


@pytest.mark.parametrize("raw", [press(None), press("x") | {"callback_query": {"id": "1"}}])
def test_a_button_that_is_none_of_ours_is_ignored(raw: Raw) -> None:
    """Games and inline messages have buttons without data or message."""
    assert isinstance(translate(raw, ME), Other)


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "file"),
    [
        ({"photo": photo()}, NewAttachment("photo.jpg", "image/jpeg", None, "photo-1000", 1000)),
        (
            {"document": document()},
            NewAttachment("plan.pdf", "application/pdf", None, "document", 2000),
        ),
        (
            {"document": document(mime_type=None)},
            NewAttachment("plan.pdf", "application/pdf", None, "document", 2000),
        ),
        (
            {"document": {"file_id": "f"}},
            NewAttachment("file", "application/octet-stream", None, "f"),
        ),
        ({"voice": {"file_id": "v"}}, NewAttachment("voice.ogg", "audio/ogg", None, "v")),
        (
            {"audio": {"file_id": "a", "file_name": "Song.M4A", "mime_type": "Audio/MP4; x=y"}},
            NewAttachment("Song.M4A", "audio/mp4", None, "a"),
        ),
    ],
)
def test_a_file_comes_with_its_name_and_type(content: Raw, file: NewAttachment) -> None:
    """Its bytes stay with Telegram until somebody needs them; words are not needed."""
    update = said(message(**content))

    assert (file, "", True) == (update.file, update.text, update.addressed)


def test_a_caption_is_what_was_said() -> None:
    """With the reply it is and without the bot's name, like other words."""
    caption = "@test_bot what is this?"
    update = said(
        message(
            document=document(),
            chat=group(),
            caption=caption,
            caption_entities=[mention(caption)],
            media_group_id="77",
            reply_to_message={"message_id": 3, "from": user(ANN), "caption": "Look"},
        )
    )

    words = "In reply to:\n> Look\n\nwhat is this?"
    assert (words, True, "77") == (update.text, update.addressed, update.album)


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ((100, 2000, 900), 2000),
        ((100, 9_000_000, 11_000_000), 9_000_000),
        ((12_000_000, 11_000_000), 11_000_000),
    ],
)
def test_the_largest_size_of_a_photo_that_may_be_taken_is(
    sizes: tuple[int, ...], chosen: int
) -> None:
    """When none may, the smallest is named, which then is refused."""
    update = said(message(photo=photo(*sizes)))

    assert update.file is not None
    assert chosen == update.file.size


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\x.pdf", "x.pdf"),
        ("a\nb\u202etxt.exe", "abtxt.exe"),
        ("x" * 500 + ".pdf", "x" * 196 + ".pdf"),
        (7, "file"),
        ("\x00", "file"),
    ],
)
def test_a_file_name_is_only_a_name(name: object, kept: str) -> None:
    """No way to it, nothing invisible, not without end."""
    update = said(message(document=document(file_name=name)))

    assert update.file is not None
    assert kept == update.file.name


@pytest.mark.parametrize("told", ["x", "a/b c", "text/plain\r\nX: y", "é/é", "/", 7])
def test_a_type_that_is_none_is_not_believed(told: object) -> None:
    """Neither we nor a provider meet it."""
    update = said(message(document=document(mime_type=told, file_name="x")))

    assert update.file is not None
    assert update.file.media_type == "application/octet-stream"


@pytest.mark.parametrize(
    "content", [{"photo": []}, {"photo": "x"}, {"photo": [{}]}, {"document": {}}, {"voice": 7}]
)
def test_a_file_that_cannot_be_had_is_bad_input(content: Raw) -> None:
    """It is kept for people to look at."""
    with pytest.raises(BadInput):
        translate(message(**content), ME)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"video": {}, "caption": "see"}, "videos"),
        ({"animation": {}, "document": {}}, "animations"),
        ({"sticker": {"emoji": "👍"}}, "stickers"),
        ({"video_note": {}}, "video messages"),
        ({"location": {}}, "locations"),
    ],
)
def test_what_holds_no_words_is_named(content: Raw, kind: str) -> None:
    """People are told what it was that cannot be read."""
    update = translate(message(**content), ME)

    assert Unreadable(HERE, TelegramPerson(ANN, ANN), kind, 12, None, addressed=True) == update


@pytest.mark.parametrize(
    "raw",
    [
        message("hi", chat={"id": TEAM, "type": "channel"}),
        {"update_id": 1, "edited_message": message("hi")["message"]},
        {"update_id": 1, "my_chat_member": {}},
        {"update_id": 1, "channel_post": {}},
        {"update_id": 1, "something_new": 7},
        {"update_id": 1},
        message(new_chat_members=[user(ANN)], chat=group()),
        message("hi", is_automatic_forward=True, chat=group()),
    ],
)
def test_what_nobody_wants_answered_is_ignored(raw: Raw) -> None:
    """Edits, service messages, channels and kinds we do not know start nothing."""
    assert isinstance(translate(raw, ME), Other)


def test_other_bots_are_ignored() -> None:
    """Two bots that answer each other would never stop."""
    raw = message("hi")
    raw["message"]["from"]["is_bot"] = True

    assert Other("other bots are not answered") == translate(raw, ME)


def test_an_anonymous_admin_writes_in_the_name_of_the_group() -> None:
    """Telegram's own bots stand in for such people; the group is who counts."""
    raw = message("@test_bot hi", chat=group(), sender_chat=group())
    raw["message"]["from"] = user(1087968824, is_bot=True)

    assert TelegramPerson(TEAM, TEAM) == said(raw).person


def test_a_group_that_became_a_supergroup_says_its_new_number() -> None:
    """Telegram itself says so, in the old one."""
    update = translate(message(chat=group(-55), migrate_to_chat_id=TEAM), ME)

    assert Moved(Spot(str(BOT), -55), Spot(str(BOT), TEAM)) == update


@pytest.mark.parametrize(
    "damage",
    [
        {"message": None},
        {"message": []},
        {"message": {}},
        {"message": {"chat": {"id": "501"}, "message_id": 1}},
        {"message": {"chat": {"id": True}, "message_id": 1}},
        {"message": {"chat": {"id": 1}, "from": 7, "message_id": 1, "text": "x"}},
        {"message": {"chat": {"id": 1}, "from": {"id": 1}, "text": "x"}},
        message("x", entities={})["message"] | {"message": 1},
        {"callback_query": []},
        {"callback_query": {"id": 7}},
    ],
)
def test_a_malformed_update_is_told_from_an_unwanted_one(damage: Raw) -> None:
    """What breaks Telegram's own rules is for people to look at."""
    with pytest.raises(BadInput):
        translate({"update_id": 1, **damage}, ME)


@pytest.mark.parametrize("raw", [None, "text", 7, [], {}, {"update_id": "7"}, {"update_id": True}])
def test_an_update_without_a_number_has_none(raw: Any) -> None:
    """Only a whole number can be confirmed."""
    assert update_id(raw) is None


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside of `value`."""
    if isinstance(value, dict):
        return [path, *(one for key in value for one in paths(value[key], (*path, key)))]
    if isinstance(value, list):
        return [path, *(one for place, x in enumerate(value) for one in paths(x, (*path, place)))]
    return [path]


WHOLE = [
    message(
        "@test_bot hi",
        chat=group(),
        entities=[mention("@test_bot hi")],
        reply_to_message={"message_id": 3, "from": user(ANN), "text": "x"},
        quote={"text": "q", "position": 0},
        sender_chat=group(),
        message_thread_id=7,
        is_topic_message=True,
    ),
    message("/new x"),
    message(
        photo=photo(),
        media_group_id="7",
        caption="@test_bot c",
        caption_entities=[mention("@test_bot c")],
    ),
    message(document=document()),
    message(voice={"file_id": "v", "mime_type": "audio/ogg", "file_size": 9}),
    press("stop:1"),
]
ODD = st.sampled_from(
    [None, True, -1, 0, 2**70, 1.5, "", "x", "\ud83d", [], {}, [None], {"id": None}, float("nan")]
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_whatever_is_damaged_only_bad_input_is_raised(data: st.DataObject) -> None:
    """One odd value anywhere must not take the reader of all updates down."""
    raw = copy.deepcopy(data.draw(st.sampled_from(WHOLE)))
    *way, last = data.draw(st.sampled_from([path for path in paths(raw) if path]))
    place = raw
    for step in way:
        place = place[step]
    place[last] = data.draw(ODD)

    with suppress(BadInput):
        translate(raw, ME)


@pytest.mark.parametrize("text", ["7:501", "7:-100:9"])
def test_a_spot_reads_what_it_wrote(text: str) -> None:
    """Addresses survive the database."""
    spot = parse_spot(text)

    assert (text, Address(Channel.TELEGRAM, text), f"telegram:{text}") == (
        str(spot),
        spot.address,
        spot.session_key,
    )


@pytest.mark.parametrize("text", ["", "7", "7:x", ":5", "7:1:2:3", "7::"])
def test_a_broken_spot_is_refused(text: str) -> None:
    """Nothing is sent to half an address."""
    with pytest.raises(BadInput):
        parse_spot(text)


def test_private_chats_are_told_from_groups() -> None:
    """Groups have negative numbers."""
    assert (HERE.private, TEAM_SPOT.private) == (True, False)
    assert private()["id"] == ANN
