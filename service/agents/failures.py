"""What went wrong at a provider: our errors, with sentences for people and without keys."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelServerError,
    ModelUnavailableError,
    UnexpectedModelBehavior,
    UserError,
)

from service.errors import (
    ProviderBusy,
    ProviderError,
    ProviderGone,
    ProviderRefused,
    ProviderTimeout,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_WHY_LENGTH = 200
_LONGEST_WAIT = 86_400.0
_TIMED_OUT = 408
_TOO_LONG = 413
# The service may answer the same request later: a conflict, or it is too early.
_PASSING = (409, 425)


@dataclass(frozen=True, slots=True)
class Failures:
    """Translates what the client of one provider raises; the key never gets into a text."""

    provider: str
    key: str | None = field(repr=False)

    def translate(self, error: Exception, *, model: str) -> ProviderError:
        """Return the error of ours that says whether asking again can help."""
        if _timed_out(error):
            return ProviderTimeout(f"The provider {self.provider} did not answer in time.")
        match error:
            case ModelQuotaExceededError():
                return self._refused("has no credit left for this account", error)
            case ModelRateLimitError():
                text = f"The provider {self.provider} is busy and asks us to slow down."
                return ProviderBusy(text, _retry_after(error))
            case ModelContextWindowExceededError():
                return self._refused(f"finds this conversation too long for {model}", error)
            case ModelNotFoundError():
                return self._not_found(error, model)
            case ModelAuthenticationError():
                return self._not_allowed(error)
            case ModelServerError() | ModelUnavailableError():
                return self._gone("failed inside", error)
            case ModelHTTPError():
                return self._by_status(error)
            case ModelConnectionError():
                return self._gone("cannot be reached, or broke off in mid-answer")
            case UserError() | NotImplementedError():
                text = f"The provider {self.provider} cannot be asked for {model}. {error}"
                return ProviderRefused(_shortened(self._without_key(text)))
            case ModelAPIError() | UnexpectedModelBehavior():
                return self._gone("sent an answer that is broken or breaks off", error)
            case _:
                # Nobody foresaw it: a stream of nonsense, or a mistake of ours. Its text may quote
                # the answer, so that only who asks for debugging sees it.
                kind = type(error).__name__
                log.warning("agents.unreadable", provider=self.provider, error=kind)
                log.debug("agents.unreadable", provider=self.provider, exc_info=error)
                return self._gone("sent an answer that cannot be read")

    def _by_status(self, error: ModelHTTPError) -> ProviderError:
        if error.status_code == _TIMED_OUT:
            return ProviderTimeout(f"The provider {self.provider} took too long.")
        if error.status_code == _TOO_LONG:
            return self._refused("finds this conversation too long", error)
        if error.status_code in _PASSING:
            return self._gone(f"answered with status {error.status_code}", error)
        return self._refused(f"did not accept the request (status {error.status_code})", error)

    def _not_found(self, error: ModelAPIError, model: str) -> ProviderError:
        if _message(error.body) is None:
            return self._refused("is not at this address: check its base_url")
        return self._refused(f"does not know the model {model}", error)

    def _not_allowed(self, error: ModelAPIError) -> ProviderError:
        if isinstance(error, ModelHTTPError) and error.status_code == 403:
            return self._refused("does not allow this", error)
        return self._refused("does not accept the API key", error)

    def _refused(self, what: str, error: ModelAPIError | None = None) -> ProviderRefused:
        return ProviderRefused(self._sentence(what, error))

    def _gone(self, what: str, error: Exception | None = None) -> ProviderGone:
        return ProviderGone(self._sentence(what, error))

    def _sentence(self, what: str, error: Exception | None) -> str:
        """Say it, with the provider's own words where it has some."""
        why = _message(error.body) if isinstance(error, ModelAPIError) else None
        if why is None:
            return f"The provider {self.provider} {what}."
        why = _shortened(self._without_key(why))
        return f"The provider {self.provider} {what}. It says: {why}"

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


def _timed_out(error: Exception) -> bool:
    # By the cause at the bottom: the transport calls a connection that was closed a timeout, too.
    return any(isinstance(one, TimeoutError) for one in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _retry_after(error: ModelAPIError) -> timedelta | None:
    """How long the provider asks us to wait: seconds, also with a fraction, or until a date."""
    seconds = error.retry_after
    if seconds is None and isinstance(error, ModelHTTPError):
        seconds = _number((error.headers or {}).get("retry-after", ""))
    return None if seconds is None else timedelta(seconds=min(seconds, _LONGEST_WAIT))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _message(body: object) -> str | None:
    """The sentence in an error object, if it has one: they all have the same shape."""
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    message = inner.get("message") if isinstance(inner, Mapping) else inner
    if not isinstance(message, str) or message.lstrip().startswith("<"):
        # Some client libraries put the page of a proxy there.
        return None
    return message if message.strip() else None


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    if len(words) > _WHY_LENGTH:
        return words[: _WHY_LENGTH - 1].rstrip() + "…"
    return words if words.endswith((".", "!", "?")) else words + "."
