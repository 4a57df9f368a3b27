"""One log for everything: structured, in UTC, with secrets hidden at the sink."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog

from service.config import Log

_HIDDEN = "***"
_SHORTEST = 6
_PATTERNS = re.compile(
    r"\d{5,}:[A-Za-z0-9_-]{30,}"  # a Telegram bot token, alone or in a URL
    r"|whsec_[A-Za-z0-9+/=_-]+"
    r"|rbt_[A-Za-z0-9_-]+|rba_[A-Za-z0-9_-]+"
    r"|\bsk-[A-Za-z0-9_-]{8,}"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{6,}"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user:password@ in a URL
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
    "aiosqlite",
)


class Redactor:
    """Replaces secrets in every string of a log entry."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({one for one in secrets if len(one) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(
        self, _logger: object, _method: str, entry: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Be a structlog processor."""
        return {key: self._clean(value) for key, value in entry.items()}

    def text(self, text: str) -> str:
        """Hide secrets in one string."""
        if self._known is not None:
            text = self._known.sub(_HIDDEN, text)
        return _PATTERNS.sub(_HIDDEN, text)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (int, float, bool, type(None))):
            return value
        if isinstance(value, dict):
            return {self._clean(key): self._clean(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._clean(inner) for inner in value]
        return self.text(_text_of(value))


def setup(settings: Log, secrets: Iterable[str], *, stream: TextIO | None = None) -> None:
    """Send every log, our own and the libraries', to `stream` (stderr when None)."""
    out = stream or sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer(colors=out.isatty())
    if as_json:
        renderer = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        Redactor(secrets),
        renderer,
    ]
    level = _LEVELS[settings.level]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shared],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(max(level, logging.INFO))
    logging.raiseExceptions = False
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _text_of(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
