"""One log for everything: structured, in UTC, with secrets hidden at the sink."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO, cast
from urllib.parse import quote

import structlog

from service.config import Log

_HIDDEN = "***"
# Shorter ones would hide ordinary words.
_SHORTEST = 6
_DEEPEST = 8
_PATTERNS = re.compile(
    r"\d+(?::|%3[Aa])[A-Za-z0-9_-]{30,}"  # a Telegram bot token, alone or in a URL
    r"|whsec_[A-Za-z0-9+/=_-]+"
    r"|rbt_[A-Za-z0-9_-]+|rba_[A-Za-z0-9_-]+"
    r"|\bsk-[A-Za-z0-9_-]{8,}"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{6,}"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user:password@ in a URL
)
_NAMED = re.compile(
    r"((?:\bauthorization|\bcookie|secret-token|api[_-]key|password)['\"]?\s*[:=,]\s*['\"]?"
    r"(?:(?:basic|bearer|digest|token)\s+)?)[^\s'\"&;,})]+",
    re.IGNORECASE,
)
_SECRET_KEYS = frozenset(
    {
        "api-key",
        "authorization",
        "cookie",
        "password",
        "proxy-authorization",
        "secret",
        "set-cookie",
        "token",
        "x-api-key",
        "x-telegram-bot-api-secret-token",
    }
)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_NOISY = (
    "aiohttp.access",
    "alembic",
    "httpx",
    "httpcore",
    "openai",
    "telegram",
    "sqlalchemy",
    "httpx2",
    "pydantic_ai",
)


class Redactor:
    """Replaces secrets in every string of a log entry, and makes every value plain.

    A structlog processor. What comes out is text, numbers, booleans, lists and dicts of them:
    whatever was logged, the renderer after it cannot fail.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {form for one in secrets if len(one) >= _SHORTEST for form in _forms(one)}
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def __call__(
        self, _logger: object, _method: str, entry: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Clean one entry."""
        return self._clean_dict(entry, 0)

    def text(self, text: str) -> str:
        """Hide secrets in one string."""
        if self._known is not None:
            text = self._known.sub(_HIDDEN, text)
        return _NAMED.sub(rf"\1{_HIDDEN}", _PATTERNS.sub(_HIDDEN, text))

    def _clean(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        if isinstance(value, (int, float, bool, type(None))):
            return value
        if depth > _DEEPEST:
            # Also where something that holds itself ends.
            return f"<{type(value).__name__}>"
        if isinstance(value, dict):
            return self._clean_dict(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._clean(inner, depth + 1) for inner in value]
        return self.text(_text_of(value))

    def _clean_dict(self, value: MutableMapping[Any, Any], depth: int) -> dict[str, Any]:
        cleaned = {}
        for key, inner in value.items():
            name = key if isinstance(key, str) else _text_of(key)
            secret = name.lower().replace("_", "-") in _SECRET_KEYS
            hide = secret and isinstance(inner, (str, bytes))
            cleaned[self.text(name)] = _HIDDEN if hide else self._clean(inner, depth + 1)
        return cleaned


class _Sink:
    """A text stream that loses a line rather than stop the service."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        """What the text will be written as."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether a person is looking."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def write(self, text: str) -> None:
        """Write what can be written."""
        if self._stream is None:
            return
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            plain = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
            self.write(plain)
        except (OSError, ValueError):
            return

    def flush(self) -> None:
        """Flush what can be flushed."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


def setup(settings: Log, secrets: Iterable[str], *, stream: TextIO | None = None) -> None:
    """Send every log, our own and the libraries', to `stream` (stderr when None)."""
    sink = _Sink(stream or sys.stderr)
    out = cast(TextIO, sink)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        Redactor(secrets),
        _renderer(settings, sink),
    ]
    level = _LEVELS[settings.level]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *shared,
            ],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(max(level, logging.INFO))
    logging.raiseExceptions = False
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # A stranger's broken HTTP is answered with 400 and is no news; what fails in a handler of ours
    # is logged where it is answered.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def _renderer(settings: Log, sink: _Sink) -> Any:
    if settings.format == "console" or (settings.format == "auto" and sink.isatty()):
        return structlog.dev.ConsoleRenderer(colors=sink.isatty())
    # Few encodings know every character; JSON has escapes of its own for the others.
    unicode = sink.encoding.lower().startswith("utf")
    return structlog.processors.JSONRenderer(ensure_ascii=not unicode)


def _forms(secret: str) -> tuple[str, ...]:
    """A secret as it looks as it is, in a URL, in JSON and in Python's own notation."""
    return (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1])


def _text_of(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
