"""Markdown as text and entities: the shared cases, and what must hold for every text."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.telegram.markup import Rich, render, render_unfinished, units
from handlers.telegram.split import LIMIT, MOST_ENTITIES, split

_FILE = Path(__file__).parent.parent / "fixtures" / "telegram_markdown_cases.json"
CASES: list[dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))

# The same words, laid out in another way than the case asks for; the entities are as shown.
LAID_OUT_OTHERWISE: dict[str, tuple[str, list[str]]] = {
    "M13": ("Before\nAfter", []),
    "M15": ("1. one\npara\nls -la\n2. two", ["pre"]),
    "M41": ("Log\n\nline 1\nline 2", ["bold", "bold"]),
}
EXACT = [case for case in CASES if case["id"] not in LAID_OUT_OTHERWISE]


def entities(rich: Rich) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in asdict(one).items() if value is not None}
        for one in rich.entities
    ]


def assert_sound(rich: Rich) -> None:
    """Nothing Telegram would refuse, drop or move."""
    data = rich.text.encode("utf-16-le")
    for one in rich.entities:
        assert one.length > 0
        assert one.offset >= 0
        assert one.end <= units(rich.text)
        data[2 * one.offset : 2 * one.end].decode("utf-16-le")
    assert sorted(rich.entities, key=lambda one: one.offset) == list(rich.entities)
    assert rich.text == rich.text.rstrip()


@pytest.mark.parametrize("case", EXACT, ids=[case["id"] for case in EXACT])
def test_a_case_is_rendered_exactly(case: dict[str, Any]) -> None:
    """Text and entities are those of the shared case."""
    rich = render(case["markdown"])

    wanted = [
        {key: value for key, value in one.items() if not key.startswith("_")}
        for one in case["entities"]
    ]
    assert (case["text"], wanted) == (rich.text, entities(rich))


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_every_beginning_of_a_case_is_sound(case: dict[str, Any]) -> None:
    """A reply may break off anywhere; what is shown of it is always valid."""
    for end in range(len(case["markdown"]) + 1):
        assert_sound(render(case["markdown"][:end]))
        assert_sound(render_unfinished(case["markdown"][:end]))


@pytest.mark.parametrize("id_", LAID_OUT_OTHERWISE)
def test_no_word_of_the_other_cases_is_lost(id_: str) -> None:
    """Where our layout differs, the words and what matters of their dress are there."""
    [case] = [case for case in CASES if case["id"] == id_]
    rich = render(case["markdown"])

    assert LAID_OUT_OTHERWISE[id_] == (rich.text, [one.type for one in rich.entities])


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("Here is **bo", "Here is bo"),
        ("`co", "co"),
        ("x **", "x"),
        ("so <deta", "so"),
        ("see [the docs](https://ex", "see the docs"),
        ("```py\ncode **x", "code **x"),
        ("a * b and 2 ** 3 = 8 ** ", "a * b and 2 ** 3 = 8 **"),
    ],
)
def test_a_mark_that_is_only_begun_is_not_shown(markdown: str, text: str) -> None:
    """While it grows, a reply does not flicker with half-typed marks."""
    assert text == render_unfinished(markdown).text


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("<div>\nhello\n</div>", "<div>\nhello\n</div>"),
        ("a <b>bold</b><br>word", "a bold\nword"),
        ("[x](javascript:alert(1))", "x"),
        ("[x](http://localhost:8080)", "x (http://localhost:8080)"),
        ("a\x1b[31mred\x1b[0m\x07", "ared"),
        ("lone \ud83d half", "lone \N{REPLACEMENT CHARACTER} half"),
        ("if a < b and c > d: __x__", "if a < b and c > d: __x__"),
    ],
)
def test_no_word_is_lost_to_what_telegram_cannot_show(markdown: str, text: str) -> None:
    """HTML, odd links, terminal colours and broken characters cost nothing but themselves."""
    assert text == render(markdown).text


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab *_`~[]()<>|#-.\n>1\\!&\U0001f600\ud83d", max_size=80))
def test_any_text_is_rendered_soundly(markdown: str) -> None:
    """Whatever a model writes, nothing raises and nothing is invalid."""
    assert_sound(render(markdown))
    for chunk in split(render_unfinished(markdown), limit=20):
        assert_sound(chunk)
        assert units(chunk.text) <= 20


def test_more_entities_than_a_message_holds_are_spread() -> None:
    """Telegram drops the hundred-and-first silently, so it goes into the next message."""
    rich = render(" ".join(f"**w{number}**" for number in range(150)))
    chunks = split(rich)

    assert sum(len(chunk.entities) for chunk in chunks) == 150
    assert max(len(chunk.entities) for chunk in chunks) <= MOST_ENTITIES


def test_a_long_block_of_code_goes_on_in_the_next_message() -> None:
    """Each message has its part as code of the same language, and the parts make the whole."""
    code = "\n".join(f"line {number:04} of the code" for number in range(420))
    chunks = split(render(f"```py\n{code}\n```"))

    assert code == "\n".join(chunk.text for chunk in chunks)
    assert [(one.type, one.language) for c in chunks for one in c.entities] == [("pre", "py")] * 3


@pytest.mark.parametrize("drawn", ["👨‍👩‍👧", "🇩🇪", "e\u0301", "👍🏽"])
@pytest.mark.parametrize("place", range(LIMIT - 8, LIMIT + 2))
def test_what_reads_as_one_character_is_never_cut(drawn: str, place: int) -> None:
    """Families, flags, skin colours and accents stay whole at the edge of a message."""
    text = "a" * place + drawn + "b" * 20
    chunks = split(Rich(text))

    assert text == "".join(chunk.text for chunk in chunks)
    assert any(drawn in chunk.text for chunk in chunks)


def test_a_text_is_cut_where_a_reader_pauses() -> None:
    """Between paragraphs rather than lines, between sentences rather than words."""
    paragraph = "One sentence here. " * 100
    chunks = split(render("\n\n".join([paragraph] * 5)))

    assert [paragraph.strip()] * 2 == chunks[0].text.split("\n\n")


def test_a_cut_stays_where_it_is_when_the_text_grows() -> None:
    """A message that was full does not change because the next one gets longer."""
    words = " ".join(f"word{number}" for number in range(2000))
    before = split(Rich(words[:6000]))
    after = split(Rich(words))

    assert before[0] == after[0]


def test_visible_characters_come_all_and_in_order() -> None:
    """Cutting loses blanks at the edges and nothing else."""
    source = "Some **bold** text, `code`; and\n\n- item *i*\n" * 400
    whole = render(source)
    chunks = split(whole)

    assert "".join(whole.text.split()) == "".join("".join(c.text for c in chunks).split())


def test_nothing_to_show_makes_no_message() -> None:
    """Blank text is no message at all."""
    assert split(render(" \n\n ")) == []
