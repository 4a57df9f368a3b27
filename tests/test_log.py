"""The log: one line per event, whatever was logged, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from service.config import Log, Secret
from service.log import Redactor, setup

SECRET = "correct-horse-battery"
BOT_TOKEN = "123456:" + "Az09_-x" * 5
CALMED = (
    "aiohttp.access",
    "pydantic_ai",
    "alembic",
    "httpcore",
    "httpx",
    "openai",
    "sqlalchemy",
    "telegram",
)
log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Terminal(io.StringIO):
    """A stream in front of which somebody sits."""

    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


class Unprintable:
    """A value that cannot even say what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Puts the logging of this process back."""
    root = logging.getLogger()
    handlers, raising = root.handlers[:], logging.raiseExceptions
    levels = {one: one.level for one in (root, *map(logging.getLogger, CALMED))}
    yield
    root.handlers[:] = handlers
    for one, level in levels.items():
        one.setLevel(level)
    logging.raiseExceptions = raising
    structlog.reset_defaults()


@pytest.fixture
def out() -> io.StringIO:
    """Where a JSON log with one known secret is written to."""
    stream = io.StringIO()
    setup(Log(format="json"), [SECRET], stream=stream)
    return stream


def entries(out: io.StringIO) -> list[dict[str, Any]]:
    """What was logged."""
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_entry_is_one_line_of_json_with_its_time_in_utc(out: io.StringIO) -> None:
    """Event, level, time and values."""
    before = datetime.now(UTC)

    log.info("turn.settled", turn="t1", took=0.5)

    entry = entries(out)[0]
    at = datetime.fromisoformat(entry.pop("timestamp"))
    assert entry == {"event": "turn.settled", "level": "info", "turn": "t1", "took": 0.5}
    assert before <= at <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("format_", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("console", io.StringIO, False),
    ],
)
def test_auto_is_console_for_people_and_json_for_programs(
    format_: Any, stream: type[io.StringIO], is_json: bool
) -> None:
    """Unless the configuration says which."""
    out = stream()
    setup(Log(format=format_), [], stream=out)

    log.info("started")

    assert out.getvalue().startswith("{") is is_json


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_known_secret_is_hidden_wherever_it_stands(format_: Any) -> None:
    """Event, values, keys, nested ones, bytes, objects, tracebacks and other people's loggers."""
    out = io.StringIO()
    setup(Log(format=format_), [SECRET], stream=out)
    nested = {"a": [{SECRET: (SECRET, {SECRET})}], "b": SECRET.encode(), "c": ValueError(SECRET)}

    log.info(f"with {SECRET} inside", value=SECRET, nested=nested)
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("ours")
        logging.getLogger("theirs").exception("with %s", SECRET)

    text = out.getvalue()
    assert SECRET not in text
    assert text.count("Traceback") == 2
    assert "***" in text


@pytest.mark.parametrize("secret", ['quo"te and\ttab', "per%cent/slash+plus", "ünïcödé-secret"])
def test_a_secret_is_hidden_in_every_notation(out: io.StringIO, secret: str) -> None:
    """As it is, in a URL, in JSON within a string, and as Python shows it."""
    setup(Log(format="json"), [secret], stream=out)

    log.info("x", plain=secret, json=json.dumps({"a": secret}), shown=[repr(secret)])

    assert [entry["plain"] for entry in entries(out)] == ["***"]
    assert [entry["json"] for entry in entries(out)] == ['{"a": "***"}']
    assert [entry["shown"] for entry in entries(out)] == [["'***'"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOT_TOKEN, "***"),
        (f"1:{'A' * 35}", "***"),
        (
            f"POST https://api.telegram.org/bot{BOT_TOKEN}/getMe",
            "POST https://api.telegram.org/bot***/getMe",
        ),
        (f"/file/bot{BOT_TOKEN.replace(':', '%3A')}/photo", "/file/bot***/photo"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic dTpw'}", "{'Authorization': 'Basic ***'}"),
        ("('authorization', 'dTpw')", "('authorization', '***')"),
        ("key sk-proj-abcdefgh12345678 was refused", "key *** was refused"),
        ("whsec_c2VjcmV0LWtleQ==", "***"),
        ("postgresql+asyncpg://bot:hunter2@db/bot", "postgresql+asyncpg://***@db/bot"),
        ("host=db password=hunter2 user=bot", "host=db password=*** user=bot"),
        ("https://x.example/?api_key=abc&page=2", "https://x.example/?api_key=***&page=2"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, expected: str) -> None:
    """Also when nobody registered it."""
    cleaned = Redactor([]).text(text)

    assert cleaned == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a quite ordinary sentence: 12:30, see https://example.org/a:b?c=d",
        "2026-11-21T07:00:00.000000Z",
        "0193a6b2-7c11-7c44-a1a8-5d0b3f6d3d7e",
        "http://127.0.0.1:8080/api/sessions",
        "someone@example.org",
        "task-sk-1",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Redaction that hides the story would be switched off."""
    cleaned = Redactor([SECRET]).text(text)

    assert cleaned == text


def test_values_under_a_telling_name_are_hidden(out: io.StringIO) -> None:
    """However they look; what is no text there is no secret."""
    headers = {"Authorization": "x", "X-Telegram-Bot-Api-Secret-Token": "y", "Host": "z"}

    log.info("x", headers=headers, api_key="k", token=None)

    entry = entries(out)[0]
    assert entry["headers"] == {
        "Authorization": "***",
        "X-Telegram-Bot-Api-Secret-Token": "***",
        "Host": "z",
    }
    assert (entry["api_key"], entry["token"]) == ("***", None)


def test_a_short_secret_does_not_eat_the_log(out: io.StringIO) -> None:
    """Five characters stand in too many words."""
    setup(Log(format="json"), ["event", ""], stream=out)

    log.info("events are eventful")

    assert entries(out)[0]["event"] == "events are eventful"


def test_the_type_for_secrets_hides_itself(out: io.StringIO) -> None:
    """Whether it was registered or not."""
    log.info("x", one=Secret("unregistered"))

    assert entries(out)[0]["one"] == "Secret(***)"


@pytest.mark.parametrize("format_", ["json", "console"])
@pytest.mark.parametrize(
    "value",
    [
        Unprintable(),
        {(1, 2): 3, None: 4, b"k": {5}},
        float("nan"),
        "\ud800 and \x00",
        10**400,
        b"\xff\xfe",
        object(),
        [[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]],
    ],
    ids=lambda one: type(one).__name__,
)
def test_any_value_can_be_logged(format_: Any, value: Any) -> None:
    """What JSON has no word for is shown as text."""
    out = io.StringIO()
    setup(Log(format=format_), [], stream=out)

    log.info("x", value=value)

    assert out.getvalue().count("\n") == 1


def test_a_value_that_holds_itself_ends(out: io.StringIO) -> None:
    """It is cut where it gets too deep."""
    loop: dict[str, Any] = {}
    loop["me"] = loop

    log.info("x", loop=loop)

    assert "<dict>" in out.getvalue()


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_broken_stream_does_not_stop_the_service(format_: Any) -> None:
    """A closed pipe, a closed file, or none at all loses lines, nothing else."""
    closed = io.StringIO()
    closed.close()

    for stream in (Broken(), closed):
        setup(Log(format=format_), [], stream=stream)
        log.info("ours")
        logging.getLogger("theirs").warning("theirs")

    assert logging.raiseExceptions is False


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_every_character_can_be_written(encoding: str) -> None:
    """Also a lone surrogate, also to a stream that knows few characters: the JSON stays whole."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding)
    setup(Log(format="json"), [], stream=stream)
    text = "naïve ☎ 🔔 \ud800"

    log.info(text)

    assert json.loads(raw.getvalue().decode(encoding))["event"] == text


def test_libraries_log_through_the_same_sink_and_are_calmed(out: io.StringIO) -> None:
    """Their warnings arrive with their name; the chatter of the noisy ones does not."""
    logging.getLogger("some.library").info("told %s", "plainly")
    logging.getLogger("some.library").debug("too much")
    for noisy in CALMED:
        logging.getLogger(f"{noisy}.part").info("chatter")
        logging.getLogger(f"{noisy}.part").warning("matters")

    told = [(entry["logger"], entry["level"], entry["event"]) for entry in entries(out)]
    assert told == [
        ("some.library", "info", "told plainly"),
        *((f"{noisy}.part", "warning", "matters") for noisy in CALMED),
    ]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_is_the_least_that_is_shown(level: Any) -> None:
    """For our own log exactly."""
    out = io.StringIO()
    setup(Log(format="json", level=level), [], stream=out)
    levels = ["debug", "info", "warning", "error"]

    for one in levels:
        getattr(log, one)("x")

    assert [entry["level"] for entry in entries(out)] == levels[levels.index(level) :]


def test_a_record_with_wrong_arguments_harms_nobody(out: io.StringIO) -> None:
    """A mistake in somebody's log call is not worth a crash."""
    wrong = ("one",)

    logging.getLogger("theirs").warning("%d of %d", *wrong)
    logging.getLogger("theirs").log(25, "a level of its own")

    assert entries(out)[-1]["event"] == "a level of its own"
