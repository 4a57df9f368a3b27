"""The search over messages: what is found, what is not, and that nothing breaks it."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from service.core.model import Binding, Channel, SessionId, Source
from service.store import lists, migrations, schema, search, sessions, tables
from service.store.database import Database
from service.store.ids import new_id
from service.store.search import Hit
from service.store.sessions import NewSession
from service.store.sql import insert_many

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BINDING = Binding("assistant", "offline", "echo", "Be brief.")
_numbers = count(1)


def _begin(conn: sa.Connection, *said: str, title: str | None = None) -> SessionId:
    """A session in which this was said."""
    new = NewSession(
        id=SessionId(new_id()),
        binding=BINDING,
        owner="operator",
        source=Source.MANUAL,
        origin=Channel.CONSOLE,
        title=title,
    )
    sessions.insert(conn, [new], at=NOW, last_event=0)
    _say(conn, new.id, *said)
    return new.id


def _say(conn: sa.Connection, session: SessionId, *said: str, role: str = "user") -> None:
    rows = [_row(session, text, role) for text in said]
    insert_many(conn, tables.messages, rows)


def _row(session: SessionId, text: str, role: str) -> dict[str, Any]:
    number = next(_numbers)
    return {
        "session_id": session,
        "number": number,
        "turn_number": number,
        "role": role,
        "author": "operator",
        "text": text,
        "status": "complete",
        "created_at": NOW + timedelta(seconds=number),
    }


async def _hits(database: Database, query: str, limit: int = 50) -> list[Hit]:
    return await database.read(search.find, search.words_of(query), limit=limit)


async def _found(database: Database, query: str, limit: int = 50) -> list[str]:
    return [hit.excerpt for hit in await _hits(database, query, limit)]


# -- what is found --------------------------------------------------------------------------------


async def test_the_newest_messages_come_first(database: Database) -> None:
    """Whichever session they are in, and no more than asked for."""
    first = await database.write(_begin, "a red apple", "a pear")
    await database.write(_begin, "a green apple")
    await database.write(_say, first, "an apple a day")

    assert await _found(database, "apple") == ["an apple a day", "a green apple", "a red apple"]
    assert await _found(database, "apple", 2) == ["an apple a day", "a green apple"]


async def test_a_hit_says_where_it_is(database: Database) -> None:
    """Enough to show it and to go there."""
    session = await database.write(_begin, "hello world", title="Greetings")

    hit = (await _hits(database, "world"))[0]

    assert (hit.session, hit.title, hit.author) == (session, "Greetings", "operator")
    assert (hit.role.value, hit.excerpt) == ("user", "hello world")
    assert hit.at == NOW + timedelta(seconds=hit.number)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("fox brown", True),
        ("fox fox", True),
        ("FOX", True),
        ("qui", True),
        ("fox jum", True),
        ("fox wolf", False),
        ("ox", False),
        ("qu", False),
        ("jum fox", False),
    ],
)
async def test_every_word_has_to_be_there(database: Database, query: str, expected: bool) -> None:
    """In any order and case; of the last one, from three letters on, the beginning will do."""
    await database.write(_begin, "The quick brown Fox jumps")

    assert bool(await _found(database, query)) is expected


async def test_enough_with_the_very_word_need_no_beginnings(database: Database) -> None:
    """Only when there are too few of them, longer words are looked at."""
    await database.write(_begin, "the plan", "planet earth")

    assert await _found(database, "plan", 1) == ["the plan"]
    assert await _found(database, "plan", 2) == ["planet earth", "the plan"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("see https://example.com/some/path?x=1", "path"),
        ("mail ann@example.org now", "example.org"),
        ("a snake_case name", "case"),
        ("a well-known fact", "known"),
        ("it's here", "it's"),
        ("version 3.14.15", "3.14"),
        ("“quoted”—and dashed", "dashed"),
        ("<b>bold</b>", "bold"),
        ("ids 01a1fdbb-d6c1", "d6c1"),
        ("a\tb\nline", "line"),
    ],
)
async def test_words_end_where_letters_and_digits_do(
    database: Database, text: str, query: str
) -> None:
    """In addresses, paths, names and between quotes as in sentences."""
    await database.write(_begin, text)

    assert len(await _found(database, query)) == 1


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Größe", "größe"),
        ("ÜBER ALLES", "über"),
        ("Привет, мир", "привет"),
        ("naïve", "naïve"),
        ("東京タワー", "東京"),
        ("مرحبا بالعالم", "مرحبا"),
        ("deploy 🚀 done", "🚀 done"),
    ],
)
async def test_other_scripts_are_found(database: Database, text: str, query: str) -> None:
    """Capitals make no difference there either."""
    await database.write(_begin, text)

    assert len(await _found(database, query)) == 1


async def test_accents_make_a_difference(database: Database) -> None:
    """The same on both databases."""
    await database.write(_begin, "naïve")

    assert await _found(database, "naive") == []


# -- what is not ----------------------------------------------------------------------------------


async def test_archived_sessions_are_left_out(database: Database) -> None:
    """Until they are restored."""
    session = await database.write(_begin, "hidden treasure")
    await database.write(lists.archive, [session], at=NOW)
    meanwhile = await _found(database, "treasure")
    await database.write(lists.restore, session)

    assert (meanwhile, await _found(database, "treasure")) == ([], ["hidden treasure"])


async def test_what_the_service_said_is_no_hit(database: Database) -> None:
    """Dividers and the like are nobody's words."""
    session = await database.write(_begin, "a line")
    await database.write(_say, session, "another line", role="system")

    assert await _found(database, "line") == ["a line"]


async def test_what_is_deleted_or_changed_is_forgotten(database: Database) -> None:
    """Only that; on SQLite the index and its table agree, also after it was rewritten."""
    gone = await database.write(_begin, "apple pie")
    await database.write(_begin, "apple cake", "apple tart")
    changed = tables.messages.update().where(tables.messages.c.text == "apple tart")
    await database.write(_execute, changed.values(text="plum tart"))
    await database.write(_execute, tables.messages.update().values(turn_number=7))
    await database.write(lists.delete, gone)

    assert await _found(database, "apple") == ["apple cake"]
    assert await _found(database, "tart") == ["plum tart"]
    if database.is_sqlite:
        await database.write(
            _execute,
            sa.text(
                "INSERT INTO message_words (message_words, rank) VALUES ('integrity-check', 1)"
            ),
        )


async def test_sqlite_finds_the_same_after_a_vacuum(sqlite_url: str) -> None:
    """VACUUM numbers the rows of some tables anew; not those the index knows by number."""
    database = Database(sqlite_url)
    await database.open()
    gone = await database.write(_begin, "zero", "one")
    await database.write(_begin, "two apples", "three pears")
    await database.write(lists.delete, gone)
    await database.close()
    with sa.create_engine(f"sqlite:///{database.url.database}").connect() as conn:
        conn.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("VACUUM"))
    await database.open()

    found = [await _found(database, word) for word in ("apples", "pears", "one")]
    await database.close()

    assert found == [["two apples"], ["three pears"], []]


# -- much of it -----------------------------------------------------------------------------------


async def test_what_is_rare_is_found_however_old(database: Database) -> None:
    """Also when thousands of messages came since, and some of those have the word."""
    session = await database.write(_begin, "needle one", "needle two")
    await database.write(_say, session, *(f"hay {number}" for number in range(2_500)))
    await database.write(_say, session, "needle three")

    found = await _found(database, "needle")
    hay = await _found(database, "hay", 3)

    assert found == ["needle three", "needle two", "needle one"]
    assert hay == ["hay 2499", "hay 2498", "hay 2497"]


@pytest.mark.parametrize("share", [3, 30, 300])
async def test_the_newest_are_found_however_common(database: Database, share: int) -> None:
    """In whichever way they are looked for."""
    session = await database.write(_begin)
    said = [f"apple {n}" if n % share == 0 else f"pear {n}" for n in range(6_000)]
    await database.write(_say, session, *said)

    expected = [one for one in reversed(said) if one.startswith("apple")][:20]
    assert await _found(database, "apple", 20) == expected


async def test_endless_messages_are_kept(database: Database) -> None:
    """However many different words are in them; the first hundred thousand letters are found."""
    words = " ".join(f"w{number}" for number in range(250_000))
    await database.write(_begin, f"first {words}", "x" * 2_000_000)

    assert len(await _found(database, "first w7")) == 1


# -- hostile queries ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        "''",
        '"',
        '"unbalanced',
        "'; DROP TABLE messages; --",
        "a AND b",
        "OR",
        "NOT apple",
        "NEAR(apple pie)",
        "apple NEAR/2 pie",
        "apple*",
        "*",
        "^apple",
        "text:apple",
        "-apple",
        "(apple",
        "apple)",
        "apple & | ! <-> :*",
        "'apple':*A",
        "\\",
        "apple\\",
        "\x00",
        "a\x00b",
        "\ud800",
        "%_%",
        "\u0301",
        "²",
        "x²",
        "İ",
        "ß",
        "\u202eelppa",
        "a" * 200,
        "a " * 100,
        "🚀" * 200,
        "字" * 200,
        "\U0001e900\U000105c0 ab\u1e9ecd",
        ":match",
        "$1",
        "{apple}",
        "apple\n\r\tpie",
    ],
)
async def test_no_query_is_an_error(database: Database, query: str) -> None:
    """Whatever somebody types; and everything that was said is still there."""
    await database.write(_begin, "apple pie")

    await _hits(database, query)

    assert await _found(database, "apple") == ["apple pie"]


async def test_no_noise_is_an_error(database: Database) -> None:
    """A few hundred queries of whatever there is, each also as a message that is then found."""
    dice = random.Random(4)
    alphabet = string.printable + "äÖßłñЖя字かكि\u0301²½Ⅷ🚀—“”\u200b\u00ad"
    queries = ["".join(dice.choices(alphabet, k=dice.randint(1, 40))) for _ in range(150)]
    await database.write(_begin, *queries)

    for query in queries:
        await _hits(database, query)


# -- words and excerpts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", []),
        ("?!", []),
        ("One two ONE", ["one", "two"]),
        ("it's-me", ["it", "s", "me"]),
        ("a_b", ["a", "b"]),
    ],
)
def test_words_are_what_letters_and_digits_make(query: str, words: Sequence[str]) -> None:
    """Everything else only parts them."""
    assert search.words_of(query) == words


def test_short_messages_are_shown_whole() -> None:
    """On one line."""
    assert search.excerpt("one\n\n two\tthree ", ["two"]) == "one two three"


def test_of_long_ones_what_stands_around_the_word() -> None:
    """From a whole word on, and with what says that there is more."""
    text = "alpha " * 50 + "the NEEDLE is here " + "omega " * 50

    shown = search.excerpt(text, ["needle"])

    assert shown.startswith("…alpha alpha ")
    assert shown.endswith("omega…")
    assert "the NEEDLE is here" in shown
    assert len(shown) <= 202


def test_an_excerpt_begins_where_the_text_does() -> None:
    """Also when the word is not in it, or the text has no spaces."""
    assert search.excerpt("x" * 500, ["needle"]) == "x" * 200 + "…"
    assert search.excerpt("x" * 500 + " needle", ["needle"]) == "…needle"


# -- migration ------------------------------------------------------------------------------------


async def test_what_was_said_before_the_search_is_found(database: Database) -> None:
    """In the order in which it was said, with nothing lost."""
    await database.write(_go_back)
    await database.write(_begin_of_old)

    await schema.migrate(database)

    assert await _found(database, "apple") == ["a second apple", "a first apple"]
    session = await database.write(_begin, "a third apple")
    assert [hit.session for hit in await _hits(database, "third")] == [session]


def _go_back(conn: sa.Connection) -> None:
    """The schema as it was before there was a search."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("DROP SCHEMA public CASCADE"))
        conn.execute(sa.text("CREATE SCHEMA public"))
    else:
        tables.metadata.drop_all(conn)
        conn.execute(sa.text("DROP TABLE alembic_version"))
        conn.execute(sa.text("DROP TABLE message_words"))
    config = Config()
    config.set_main_option("script_location", next(iter(migrations.__path__)))
    config.attributes["connection"] = conn
    command.upgrade(config, "0003")


def _begin_of_old(conn: sa.Connection) -> None:
    at = {"created_at": NOW, "active_at": NOW}
    columns = {"agent": "a", "source": "manual", "origin": "console", "owner": "o"}
    session = {"id": "s1", "sticky": False, "last_event": 9, **columns, **at}
    insert_many(conn, tables.sessions, [session])
    rows = [_row(SessionId("s1"), text, "user") for text in ("a first apple", "a second apple")]
    insert_many(conn, tables.messages, rows)


def _execute(conn: sa.Connection, statement: sa.Executable) -> None:
    conn.execute(statement)
