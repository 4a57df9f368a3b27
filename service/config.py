"""The configuration: one TOML file to frozen models; every problem at once, with its path."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from service.errors import ConfigError

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TELEGRAM_TOKEN = re.compile(r"\d+:[A-Za-z0-9_-]{20,}")
_TELEGRAM_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
_SPOT = re.compile(r"-?\d+(:\d+)?")


class Secret:
    """A value that never shows itself; only `reveal` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself: for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def _problem(text: str) -> PydanticCustomError:
    return PydanticCustomError("config", text.replace("{", "{{").replace("}", "}}"))


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _problem('write a duration with its unit, such as "500ms", "30s", "10m", "2h", "30d"')
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    raise _problem(
        'a secret is given by reference: "env:NAME", "file:/path" or "credential:NAME"; '
        "never write it into this file"
    )


def _names(value: object) -> object:
    if isinstance(value, dict):
        for name in value:
            if not _NAME.fullmatch(name):
                raise _problem(
                    f"the name {name!r} must be 1 to 64 of a-z, 0-9, _ and -, beginning with "
                    "a letter or digit"
                )
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
SecretValue = Annotated[Secret, BeforeValidator(_secret)]
Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True
    )


class Server(_Section):
    """Where the service listens and who may use its API."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    public_url: str | None = None
    tokens: Annotated[tuple[SecretValue, ...], Field(strict=False)] = ()
    drain: Duration = timedelta(seconds=20)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


class DatabaseSettings(_Section):
    """Where everything is stored."""

    url: str = "sqlite+aiosqlite:///ringback.db"
    pool_size: Positive = 10

    @model_validator(mode="after")
    def _known(self) -> DatabaseSettings:
        if not self.url.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
            raise _problem(
                'url: write "sqlite+aiosqlite:///file.db" or "postgresql+asyncpg://user@host/name"'
            )
        return self


class Log(_Section):
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class LimitsSettings(_Section):
    """What one sender, one session and one process may take."""

    body_bytes: Positive = 1_048_576
    body_depth: Positive = 64
    body_read: Duration = timedelta(seconds=10)
    queue_per_session: Positive = 100
    turns_at_once: Annotated[int, Field(ge=0)] = 64
    turn_attempts: Positive = 3
    keep_events: Duration = timedelta(days=30)
    keep_bodies: Duration = timedelta(days=30)


class Provider(_Section):
    """A service that thinks."""

    kind: Literal["offline", "openai", "openrouter", "ollama"]
    base_url: str | None = None
    api_key: SecretValue | None = None

    @model_validator(mode="after")
    def _whole(self) -> Provider:
        if self.kind in ("openai", "openrouter") and self.api_key is None and not self.base_url:
            raise _problem(f'api_key: a provider of kind "{self.kind}" needs one')
        if self.base_url is not None and urlsplit(self.base_url).scheme not in ("http", "https"):
            raise _problem("base_url: write a URL that begins with http:// or https://")
        return self


class AgentLimits(_Section):
    """How long an agent's model may take and how often it is asked again."""

    first_token: Duration = timedelta(seconds=60)
    stall: Duration = timedelta(seconds=45)
    total: Duration = timedelta(minutes=10)
    retries: Annotated[int, Field(ge=0)] = 3
    retry_budget: Duration = timedelta(seconds=60)
    iterations: Positive = 35
    history_characters: Positive = 200_000


class Agent(_Section):
    """A named set-up that answers."""

    provider: str
    model: str
    prompt: str = ""
    tools: Annotated[tuple[str, ...], Field(strict=False)] = ()
    limits: AgentLimits = AgentLimits()


class Telegram(_Section):
    """One bot."""

    token: SecretValue
    mode: Literal["polling", "webhook"] = "polling"
    secret: SecretValue | None = None
    api_base_url: str = "https://api.telegram.org"
    agent: str
    allow: Annotated[frozenset[int], Field(strict=False)] = frozenset()
    groups: Literal["mention", "all"] = "mention"

    @property
    def bot(self) -> str:
        """The bot's numeric id, which its token begins with."""
        return self.token.reveal().partition(":")[0]

    @model_validator(mode="after")
    def _whole(self) -> Telegram:
        if not _TELEGRAM_TOKEN.fullmatch(self.token.reveal()):
            raise _problem("token: this is no bot token; BotFather gives one like 123456:ABC-DEF…")
        if self.mode == "webhook" and self.secret is None:
            raise _problem('secret: needed for mode = "webhook", so that only Telegram can post')
        if self.secret is not None and not _TELEGRAM_SECRET.fullmatch(self.secret.reveal()):
            raise _problem("secret: Telegram takes 1 to 256 of A-Z, a-z, 0-9, _ and -")
        return self


class Auth(_Section):
    """How a webhook's posters prove who they are."""

    scheme: Literal["bearer", "github", "standard-webhooks", "none"]
    secrets: Annotated[tuple[SecretValue, ...], Field(strict=False)] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if value == "none":
            return {"scheme": "none"}
        if isinstance(value, dict) and "secret" in value:
            if "secrets" in value:
                raise _problem("give either secret or secrets, not both")
            value = dict(value)
            value["secrets"] = (value.pop("secret"),)
        return value

    @model_validator(mode="after")
    def _whole(self) -> Auth:
        if self.scheme != "none" and not self.secrets:
            raise _problem(f'secret: scheme "{self.scheme}" needs one')
        if self.scheme == "none" and self.secrets:
            raise _problem('secret: scheme "none" has no use for one')
        from service.core.signature import check_secret

        for secret in self.secrets:
            if problem := check_secret(self.scheme, secret.reveal()):
                raise _problem(f"secret: {problem}")
        return self


class Callback(_Section):
    """A URL that is told how a turn ended."""

    url: str
    secret: SecretValue | None = None
    allow_private: bool = False

    @model_validator(mode="after")
    def _safe(self) -> Callback:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _problem("url: write a URL that begins with https://")
        if parts.scheme == "http" and not self.allow_private:
            raise _problem("url: use https://, or set allow_private = true for your own network")
        if parts.username or parts.password:
            raise _problem("url: must not hold a password; use secret to sign instead")
        return self


def _spot(value: object) -> str:
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not _SPOT.fullmatch(text):
        raise _problem('write a numeric chat id, or "chat:topic"')
    return text


class Deliver(_Section):
    """Where an answer is also said."""

    telegram: Annotated[str, BeforeValidator(_spot)] | None = None
    callback: Callback | None = None


class Webhook(_Section):
    """A URL that rings an agent."""

    agent: str
    auth: Auth
    prompt: str = "{{ body }}"
    session: str = "new"
    reply: Literal["ack", "wait", "stream", "callback"] = "ack"
    wait: Duration = timedelta(seconds=30)
    callback: Callback | None = None
    deliver: Deliver | None = None

    @model_validator(mode="after")
    def _whole(self) -> Webhook:
        if self.reply == "callback" and self.callback is None:
            raise _problem('callback: reply = "callback" needs callback = { url = … }')
        if self.wait > timedelta(minutes=1):
            raise _problem("wait: at most 60s; longer answers are better fetched or called back")
        return self


class Task(_Section):
    """A cron trigger."""

    cron: str
    timezone: str = "UTC"
    agent: str
    prompt: str
    sticky_session: bool = False
    catch_up: Duration = timedelta(hours=1)
    overlap: Literal["skip", "queue"] = "skip"
    enabled: bool = True
    deliver: Deliver | None = None

    @model_validator(mode="after")
    def _due_some_day(self) -> Task:
        from service.core.schedule import Schedule
        from service.errors import BadInput

        try:
            Schedule.parse(self.cron, self.timezone)
        except BadInput as error:
            raise _problem(str(error)) from error
        return self


def _default_providers() -> dict[str, Provider]:
    return {"offline": Provider(kind="offline")}


def _default_agents() -> dict[str, Agent]:
    return {
        "assistant": Agent(
            provider="offline",
            model="echo",
            prompt="You are a helpful assistant.",
            tools=("clock", "dice"),
        )
    }


class Settings(_Section):
    """The whole configuration."""

    server: Server = Server()
    database: DatabaseSettings = DatabaseSettings()
    log: Log = Log()
    limits: LimitsSettings = LimitsSettings()
    providers: Annotated[dict[str, Provider], BeforeValidator(_names)] = Field(
        default_factory=_default_providers
    )
    agents: Annotated[dict[str, Agent], BeforeValidator(_names)] = Field(
        default_factory=_default_agents
    )
    telegram: Telegram | None = None
    webhooks: Annotated[dict[str, Webhook], BeforeValidator(_names)] = Field(default_factory=dict)
    tasks: Annotated[dict[str, Task], BeforeValidator(_names)] = Field(default_factory=dict)

    def secrets(self) -> Iterator[str]:
        """Every secret value, for the log to hide."""
        yield from (secret.reveal() for secret in _secrets_in(self))


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the configuration; None means the defaults. Raises ConfigError with every problem."""
    problems: list[str] = []
    document = _resolved(_parse(path), (), environ, problems)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        hidden = {problem.partition(": ")[0] for problem in problems}
        found = [_sentence(one) for one in error.errors(include_url=False, include_input=False)]
        problems += [one for one in found if one.partition(": ")[0] not in hidden]
    if settings is not None:
        problems += _across(settings)
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def _parse(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from error


# -- secrets --------------------------------------------------------------------------------------

_SECRET_KEYS = frozenset({"token", "tokens", "secret", "secrets", "api_key"})


def _resolved(
    value: Any, path: tuple[str, ...], environ: Mapping[str, str], problems: list[str]
) -> Any:
    """Replace the references of secret keys by secrets."""
    if isinstance(value, dict):
        return {
            key: _resolved(inner, (*path, str(key)), environ, problems)
            for key, inner in value.items()
        }
    if not path or path[-1] not in _SECRET_KEYS:
        return value
    if isinstance(value, list):
        return [_reference(one, path, environ, problems) for one in value]
    return _reference(value, path, environ, problems)


def _reference(
    value: object, path: tuple[str, ...], environ: Mapping[str, str], problems: list[str]
) -> object:
    if not isinstance(value, str):
        return value
    kind, _, name = value.partition(":")
    if kind == "env" and name:
        found = environ.get(name)
        if not found:
            problems.append(f"{'.'.join(path)}: the environment variable {name} is not set")
            return Secret("")
        return Secret(found)
    if kind in ("file", "credential") and name:
        return _from_file(kind, name, path, environ, problems)
    return value


def _from_file(
    kind: str, name: str, path: tuple[str, ...], environ: Mapping[str, str], problems: list[str]
) -> Secret:
    file = Path(name)
    if kind == "credential":
        folder = environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            problems.append(
                f"{'.'.join(path)}: credentials come from systemd (LoadCredential=); "
                "CREDENTIALS_DIRECTORY is not set"
            )
            return Secret("")
        file = Path(folder) / name
    try:
        found = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        problems.append(f"{'.'.join(path)}: the file {file} cannot be read")
        return Secret("")
    if not found:
        problems.append(f"{'.'.join(path)}: the file {file} is empty")
    return Secret(found)


def _secrets_in(value: object) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets_in(getattr(value, name))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _secrets_in(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _secrets_in(inner)


# -- problems -------------------------------------------------------------------------------------

_KEYS: Mapping[str, type[BaseModel]] = {
    "": Settings,
    "server": Server,
    "database": DatabaseSettings,
    "log": Log,
    "limits": LimitsSettings,
    "providers": Provider,
    "agents": Agent,
    "telegram": Telegram,
    "webhooks": Webhook,
    "tasks": Task,
}


def _sentence(error: ErrorDetails) -> str:
    where = tuple(str(part) for part in error["loc"])
    path = ".".join(where)
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_hint(where)}"
    if error["type"] == "missing":
        return f"{path}: is missing; it has no default"
    text = error["msg"]
    # Checks of a whole section name the key themselves.
    if error["type"] == "config" and (named := re.match(r"([a-z_]+): ", text)):
        return f"{path}.{named[1]}: {text[named.end() :]}"
    return f"{path}: {text[:1].lower()}{text[1:]}"


def _hint(where: tuple[str, ...]) -> str:
    model = _KEYS.get(where[0] if len(where) > 1 else "")
    if where[-2:-1] == ("limits",) and len(where) > 2:
        model = AgentLimits
    known = list(model.model_fields) if model else []
    close = difflib.get_close_matches(where[-1], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _across(settings: Settings) -> list[str]:
    """Problems between sections."""
    problems = []
    if not settings.server.loopback and not settings.server.tokens:
        problems.append(
            "server.tokens: host is not a loopback address, so the API needs a token; "
            'set tokens = ["env:NAME"]'
        )
    for name, agent in settings.agents.items():
        problems += _known(f"agents.{name}.provider", agent.provider, settings.providers)
    rung: list[tuple[str, str, Deliver | None]] = [
        (f"webhooks.{name}", one.agent, one.deliver) for name, one in settings.webhooks.items()
    ]
    rung += [(f"tasks.{name}", one.agent, one.deliver) for name, one in settings.tasks.items()]
    for path, agent_name, deliver in rung:
        problems += _known(f"{path}.agent", agent_name, settings.agents)
        if deliver is not None and deliver.telegram is not None and settings.telegram is None:
            problems.append(f"{path}.deliver.telegram: there is no [telegram] section")
    telegram = settings.telegram
    if telegram is not None:
        problems += _known("telegram.agent", telegram.agent, settings.agents)
        public = settings.server.public_url or ""
        if telegram.mode == "webhook" and not public.startswith("https://"):
            problems.append(
                'server.public_url: mode = "webhook" needs the https:// address '
                "under which Telegram reaches this service"
            )
    return problems


def _known(path: str, name: str, among: Mapping[str, object]) -> list[str]:
    if name in among:
        return []
    return [f"{path}: there is no {name!r}; there are: {', '.join(sorted(among)) or 'none'}"]
