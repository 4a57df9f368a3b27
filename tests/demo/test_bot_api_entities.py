"""How the local Bot API server measures, refuses, repairs and drops what a text is dressed in."""

from __future__ import annotations

from typing import Any

import pytest

from service.demo.bot_api.entities import Dressed, dressed, found
from service.demo.bot_api.refusal import Refused
from service.demo.bot_api.server import BotApi
from tests.demo.caller import ANN, Caller

FAMILY = "👨‍👩‍👧"
Entity = dict[str, Any]


def entity(type_: str, offset: int, length: int, **more: Any) -> Entity:
    """An entity as bots write it."""
    return {"type": type_, "offset": offset, "length": length, **more}


def shown(text: str, *entities: Entity) -> list[tuple[str, int, int]]:
    """What is left of entities when the text is shown."""
    kept = dressed({"text": text, "entities": list(entities)}).entities
    return [(one["type"], one["offset"], one["length"]) for one in kept]


def refused(params: dict[str, Any], **how: str) -> str:
    """The words in which a text is refused."""
    with pytest.raises(Refused) as caught:
        dressed(params, **how)
    assert caught.value.status == 400
    return caught.value.description


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "message text is empty"),
        ("", "message text is empty"),
        (" \n\t ", "text must be non-empty"),
        ("a" * 4097, "message is too long"),
        ("é" * 16_385, "text is too long"),
    ],
)
def test_texts_that_cannot_be(text: str | None, words: str) -> None:
    """There must be something to see, and not too much of it."""
    assert refused({"text": text}) == words


def test_length_counts_characters() -> None:
    """4096 characters are allowed, however many UTF-16 units they take."""
    assert dressed({"text": "😀" * 4096}).text == "😀" * 4096


async def test_an_edit_that_is_too_long_is_told_otherwise(api: BotApi, call: Caller) -> None:
    """The same mistake has another name in edits."""
    await call.say("Hi")
    sent = await call.say("a" * 4097)
    edited = await call.edit(1, "a" * 4097)

    assert sent.refusal == (400, "Bad Request: message is too long")
    assert edited.refusal == (400, "Bad Request: MESSAGE_TOO_LONG")


def test_marks_are_not_read() -> None:
    """Texts with marks would be shown with them: better to say so."""
    assert refused({"text": "*a*", "parse_mode": "MarkdownV2"}) == "unsupported parse_mode"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (entity("bold", -1, 2), "receive an entity with incorrect offset -1"),
        (entity("bold", 0, -2), "receive an entity with incorrect length -2"),
        (
            entity("bold", 2, 9),
            "entity beginning at UTF-16 offset 2 ends after the end of the text at UTF-16 offset 4",
        ),
        (entity("bold", 2, 1), "entity begins in a middle of a UTF-16 symbol at offset 2"),
        (
            entity("bold", 0, 2),
            "entity beginning at UTF-16 offset 0 ends in a middle of a UTF-16 symbol at offset 2",
        ),
        (entity("sparkling", 0, 1), "can't parse entities: unsupported entity type"),
        ({"type": "bold"}, "can't parse entities: type, offset and length are needed"),
        (7, "can't parse entities: expected an Object"),
    ],
)
def test_entities_that_cannot_be(wrong: Any, words: str) -> None:
    """Entities lie inside of the text and never cut a character; offsets count UTF-16 units."""
    assert refused({"text": "a😀b", "entities": [wrong]}) == words


def test_entities_must_be_a_list() -> None:
    """Anything else is no entities."""
    assert refused({"text": "a", "entities": {}}) == "can't parse entities JSON object"


def test_offsets_count_utf16_units() -> None:
    """A family of three takes eight units."""
    assert shown(f"{FAMILY} x", entity("bold", 9, 1)) == [("bold", 9, 1)]


def test_blanks_at_both_ends_are_trimmed() -> None:
    """Entities move along and end with the text; empty ones go."""
    text = dressed(
        {"text": "\n hi there \n", "entities": [entity("bold", 2, 9), entity("code", 11, 1)]}
    )

    assert text == Dressed("hi there", [entity("bold", 0, 8)], 0)


def test_dressed_blanks_at_the_start_stay() -> None:
    """Code may begin with blanks."""
    assert dressed({"text": "  x", "entities": [entity("pre", 0, 3)]}).text == "  x"


@pytest.mark.parametrize(
    ("entities", "expected"),
    [
        ([("bold", 0, 9), ("italic", 2, 3)], [("bold", 0, 9), ("italic", 2, 3)]),
        ([("bold", 0, 4), ("bold", 4, 2)], [("bold", 0, 6)]),
        ([("bold", 0, 9), ("code", 3, 2)], [("bold", 0, 3), ("code", 3, 2), ("bold", 5, 4)]),
        ([("bold", 3, 2), ("pre", 0, 9)], [("pre", 0, 9)]),
        ([("code", 0, 4), ("pre", 0, 4)], [("pre", 0, 4)]),
        ([("code", 0, 4), ("pre", 2, 4)], [("code", 0, 4)]),
        ([("code", 0, 4), ("code", 4, 4)], [("code", 0, 4), ("code", 4, 4)]),
        ([("blockquote", 0, 9), ("blockquote", 2, 3)], [("blockquote", 0, 9)]),
        ([("blockquote", 0, 9), ("code", 2, 3)], [("blockquote", 0, 9), ("code", 2, 3)]),
        ([("bold", 0, 0)], []),
        ([("mention", 0, 4)], []),
    ],
)
def test_entities_that_cannot_be_together_are_repaired(
    entities: list[tuple[str, int, int]], expected: list[tuple[str, int, int]]
) -> None:
    """Code is never dressed, quotes do not nest, of two that exclude each other one goes."""
    assert shown("some text", *(entity(*one) for one in entities)) == expected


def test_code_inside_of_a_link_wins() -> None:
    """On the same words the link is lost."""
    link = entity("text_link", 0, 5, url="https://example.com/run")

    assert shown("run()", link, entity("code", 0, 5)) == [("code", 0, 5)]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://example.com", True),
        ("tg://user?id=1", True),
        ("http://localhost/x", False),
        ("docs/readme.md", False),
        ("javascript:alert(1)", False),
    ],
)
def test_links_that_cannot_be_opened_lose_their_address(url: str, kept: bool) -> None:
    """The words stay, the link goes, and nobody is told."""
    assert bool(shown("here", entity("text_link", 0, 4, url=url))) == kept


async def test_more_than_a_hundred_are_dropped_and_counted(api: BotApi, call: Caller) -> None:
    """People see a hundred; the transcript tells how many they did not see."""
    bold = [entity("bold", 2 * n, 1) for n in range(150)]
    answer = await call.say("a " * 150, entities=bold)

    [message] = api.transcript(ANN)
    assert len(answer.result["entities"]) == 100
    assert message.versions[0].dropped_entities == 50


def test_what_people_write_is_searched() -> None:
    """Commands and mentions of the bot are found, measured in UTF-16 units."""
    assert found("/new coder", "demo_bot") == [entity("bot_command", 0, 4)]
    assert found("😀 @demo_bot hi", "demo_bot") == [entity("mention", 3, 9)]
    assert found("mail me@demo_bot", "demo_bot") == []
