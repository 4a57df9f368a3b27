"""The configuration: one TOML file to frozen models; every problem at once, with its path."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from service.core.forwarding import Network, network
from service.core.rounds import MOST_ROUNDS
from service.errors import ConfigError

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_LONGEST = timedelta(days=36_500)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TELEGRAM_TOKEN = re.compile(r"[0-9]+:[A-Za-z0-9_-]{20,}")
_TELEGRAM_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
_SHOULD = re.compile("(?:Input|String|Tuple) should")
_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SPOT = re.compile(r"-?[0-9]+(:[0-9]+)?")
MOST_VOICES = 8
"""Of one session."""
LONGEST_CALLED_NAME = 40
"""Of a voice, or of a composition that is made while the service runs."""
LONGEST_VOICE_PROMPT = 20_000
MOST_DATA = 4_194_304
"""Bytes that a data tool may find at once."""
_SQLITE_FILE = "sqlite:///"
# So that no tool of a database has a name that is too long for a provider.
_LONGEST_DATA_NAME = 57


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
    return PydanticCustomError("config", text)


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _problem('write a duration with its unit, such as "500ms", "30s", "10m", "2h", "30d"')
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise _problem(f'write a duration of at most "{_LONGEST.days}d"')
    return timedelta(seconds=seconds)


def _lasting(value: timedelta) -> timedelta:
    if not value:
        raise _problem('must be longer than "0s": nothing would ever be in time')
    return value


_BY_REFERENCE = (
    'give the secret by reference: "env:NAME", "file:/path" or "credential:NAME"; '
    "never write it into this file"
)


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    raise _problem(_BY_REFERENCE)


def _web_url(value: str) -> str:
    """Check that somebody can be called at `value`; a mistake in it is not repeated."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _problem("write a URL that begins with https:// or http:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise _problem("must not hold a user or password: secrets have keys of their own")
    return value


def _proxy(value: object) -> Network:
    if isinstance(value, Network):
        return value
    try:
        return network(value if isinstance(value, str) else "")
    except ValueError:
        raise _problem(
            'write the IP address of a proxy, or a network such as "10.0.0.0/8" with nothing '
            "behind its prefix; names are not looked up, and all addresses are too many"
        ) from None


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Timeout = Annotated[Duration, AfterValidator(_lasting)]
WebUrl = Annotated[str, AfterValidator(_web_url)]
SecretValue = Annotated[Secret, BeforeValidator(_secret)]
Proxy = Annotated[Network, BeforeValidator(_proxy)]
Positive = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
NameSet = Annotated[frozenset[str], Field(strict=False)]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # who imports a type from here does not pay for its validator
    )


class Server(_Section):
    """Where the service listens and who may use its API."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    public_url: WebUrl | None = None
    tokens: Annotated[tuple[SecretValue, ...], Field(strict=False)] = ()
    trusted_proxies: Annotated[tuple[Proxy, ...], Field(strict=False)] = ()
    sign_in: Timeout = timedelta(hours=12)
    drain: Duration = timedelta(seconds=20)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return _is_loopback(self.host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class DatabaseSettings(_Section):
    """Where everything is stored."""

    url: Annotated[str, Field(repr=False)] = "sqlite+aiosqlite:///ringback.db"
    pool_size: Positive = 10

    @model_validator(mode="after")
    def _known(self) -> DatabaseSettings:
        if not self.url.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
            raise _problem(
                'url: write "sqlite+aiosqlite:///file.db" or "postgresql+asyncpg://user@host/name"'
            )
        file = self.url.removeprefix("sqlite+aiosqlite:///").partition("?")[0]
        if file in ("", ":memory:"):
            raise _problem("url: name a file; a database in memory forgets what was accepted")
        return self


class Log(_Section):
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class LimitsSettings(_Section):
    """What one sender, one session and one process may take."""

    body_bytes: Positive = 1_048_576
    body_depth: Positive = 64
    body_read: Timeout = timedelta(seconds=10)
    queue_per_session: Positive = 100
    turns_at_once: Annotated[int, Field(ge=0)] = 64
    turn_attempts: Positive = 3
    keep_events: Duration = timedelta(days=30)
    keep_bodies: Duration = timedelta(days=30)
    archive_after: Duration = timedelta(days=30)
    attachment_bytes: Positive = 10_485_760
    attachments_per_message: Positive = 10


class Provider(_Section):
    """A service that thinks."""

    kind: Literal["offline", "openai", "openrouter", "anthropic", "google", "ollama"]
    base_url: WebUrl | None = None
    api_key: SecretValue | None = None
    api: Literal["chat", "responses"] = "chat"

    @model_validator(mode="after")
    def _whole(self) -> Provider:
        free = self.kind in ("offline", "ollama") or self.base_url is not None
        if self.api_key is None and not free:
            raise _problem(
                f'api_key: a provider of kind "{self.kind}" needs one, as api_key = "env:NAME"'
            )
        if self.api == "responses" and self.kind != "openai":
            raise _problem('api: only kind = "openai" has the responses API; leave it out')
        return self


Dollars = Annotated[float, Field(gt=0, strict=False)]


class AgentLimits(_Section):
    """What an agent may take: time, tokens, money; and how often its model is asked again."""

    first_token: Timeout = timedelta(seconds=60)
    stall: Timeout = timedelta(seconds=45)
    total: Timeout = timedelta(minutes=10)
    retries: Annotated[int, Field(ge=0)] = 3
    retry_budget: Duration = timedelta(seconds=60)
    iterations: Positive = 35
    iterations_per: Literal["turn", "session"] = "turn"
    history_characters: Positive = 200_000
    output_tokens: Positive | None = None
    turn_cost: Dollars | None = None
    day_cost: Dollars | None = None
    answer_within: Timeout = timedelta(days=1)


class Price(_Section):
    """What a model's tokens cost, in US dollars per million."""

    input: Annotated[float, Field(ge=0, strict=False)]
    output: Annotated[float, Field(ge=0, strict=False)]


def _spot(value: object) -> str:
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not _SPOT.fullmatch(text):
        raise _problem('write a numeric chat id, or "chat:topic"')
    return text


Spot = Annotated[str, BeforeValidator(_spot)]


class Place(_Section):
    """Where an agent may send a message on its own."""

    telegram: Spot


class Agent(_Section):
    """A named set-up that answers."""

    provider: str
    model: str
    prompt: str = ""
    tools: Names = ()
    python: str | None = None
    attachments: Annotated[
        frozenset[Literal["image", "pdf", "audio"]] | None, Field(strict=False)
    ] = None
    price: Price | None = None
    send_to: dict[str, Place] = Field(default_factory=dict)
    busy: Literal["queue", "steer", "interrupt"] = "queue"
    limits: AgentLimits = Field(default_factory=AgentLimits)

    @model_validator(mode="after")
    def _whole(self) -> Agent:
        if self.python is not None and not _OBJECT.fullmatch(self.python):
            raise _problem('python: write "module:object", such as "my_agents.notes:agent"')
        return self


class Mcp(_Section):
    """A server whose tools agents may use: a command to run, or a URL to ask."""

    command: Names = ()
    url: WebUrl | None = None
    env: dict[str, SecretValue] = Field(default_factory=dict)
    headers: dict[str, SecretValue] = Field(default_factory=dict)
    tools: NameSet = frozenset()
    idempotent: NameSet = frozenset()
    approval: NameSet = frozenset()
    inside: NameSet = frozenset()
    data: NameSet = frozenset()
    timeout: Timeout = timedelta(seconds=60)

    @model_validator(mode="after")
    def _whole(self) -> Mcp:
        if bool(self.command) == (self.url is not None):
            raise _problem("command: give either command or url")
        if self.headers and self.url is None:
            raise _problem("headers: only a server with a url has them")
        if self.env and not self.command:
            raise _problem("env: only a server with a command has one")
        return self


class Data(_Section):
    """A database that agents may read with SQL."""

    url: Annotated[str, Field(repr=False)]
    timeout: Timeout = timedelta(seconds=15)
    rows: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    bytes: Annotated[int, Field(ge=1024, le=MOST_DATA)] = 1_048_576
    schemas: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("public",)
    description: Annotated[str, Field(max_length=1000)] = ""

    @property
    def file(self) -> Path | None:
        """The file of SQLite; None when it is PostgreSQL."""
        if not self.url.startswith(_SQLITE_FILE):
            return None
        return Path(self.url.removeprefix(_SQLITE_FILE).partition("?")[0])

    @model_validator(mode="after")
    def _known(self) -> Data:
        file = self.url.removeprefix(_SQLITE_FILE).partition("?")[0]
        # The URL is not repeated: there may be a password in it.
        if file in ("", ":memory:") or not _is_database(self.url):
            raise _problem('url: write "sqlite:///file.db" or "postgresql://user@host/name"')
        return self


def _is_database(url: str) -> bool:
    if url.startswith(_SQLITE_FILE):
        return True
    try:
        parts = urlsplit(url)
        return parts.scheme in ("postgresql", "postgres") and parts.port != 0
    except ValueError:
        return False


class Telegram(_Section):
    """One bot."""

    token: SecretValue
    mode: Literal["polling", "webhook"] = "polling"
    secret: SecretValue | None = None
    api_base_url: WebUrl = "https://api.telegram.org"
    agent: str
    allow: Annotated[frozenset[int], Field(strict=False)] = frozenset()
    groups: Literal["mention", "all"] = "mention"

    @property
    def bot(self) -> str:
        """The bot's numeric id, which its token begins with."""
        return self.token.reveal().partition(":")[0]

    @model_validator(mode="after")
    def _whole(self) -> Telegram:
        token, secret = self.token.reveal(), self.secret.reveal() if self.secret else ""
        if token and not _TELEGRAM_TOKEN.fullmatch(token):
            raise _problem("token: this is no bot token; BotFather gives one like 123456:ABC-DEF…")
        if self.mode == "webhook" and self.secret is None:
            raise _problem('secret: needed for mode = "webhook", so that only Telegram can post')
        if secret and not _TELEGRAM_SECRET.fullmatch(secret):
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
        if not isinstance(value, (dict, Auth)):
            raise _problem(
                'write auth = { scheme = "bearer", secret = "env:NAME" }, with scheme bearer, '
                'github or standard-webhooks; auth = "none" lets everybody ring'
            )
        if isinstance(value, dict) and "secret" in value:
            if "secrets" in value:
                raise _problem("give either secret or secrets, not both")
            value = dict(value)
            value["secrets"] = (value.pop("secret"),)
        return value

    @model_validator(mode="after")
    def _whole(self) -> Auth:
        if self.scheme != "none" and not self.secrets:
            raise _problem(f'secret: scheme "{self.scheme}" needs one, as secret = "env:NAME"')
        if self.scheme == "none" and self.secrets:
            raise _problem('secret: scheme "none" has no use for one')
        for secret in self.secrets:
            _check_secret(self.scheme, secret)
        return self


def _check_secret(scheme: str, secret: Secret) -> None:
    """Raise unless the secret can be used; an empty one was complained about when it was read."""
    from service.core.signature import check_secret

    if secret.reveal() and (problem := check_secret(scheme, secret.reveal())):
        raise _problem(f"secret: {problem}")


class Callback(_Section):
    """A URL that is told how a turn ended."""

    url: WebUrl
    secret: SecretValue | None = None
    allow_private: bool = False

    @model_validator(mode="after")
    def _safe(self) -> Callback:
        if not self.url.startswith("https:") and not self.allow_private:
            raise _problem("url: use https://, or set allow_private = true for your own network")
        if self.secret is not None:
            _check_secret("standard-webhooks", self.secret)
        return self


class Deliver(_Section):
    """Where an answer is also said."""

    telegram: Spot | None = None
    callback: Callback | None = None


class _Trigger(_Section):
    """Who answers, and what turns that nobody is present at may do."""

    agent: str | None = None
    composition: str | None = None
    template: str | None = None
    project: str | None = None
    investigation: str | None = None
    disposition: dict[str, str] | None = None
    owner: str | None = None
    permit: NameSet = frozenset()
    approve: NameSet = frozenset()
    ask: Literal["never", "wait"] = "never"

    @model_validator(mode="after")
    def _answered(self) -> Self:
        given = [one for one in _ANSWERING if getattr(self, one) is not None]
        if not given:
            raise _problem(
                "agent: give an agent, a composition of several, a template to be run, "
                "or a project with the title of an investigation"
            )
        if len(given) > 1:
            raise _problem(f"{given[1]}: give either {given[0]} or {given[1]}, not both")
        if (self.project is None) != (self.investigation is None):
            raise _problem("investigation: a project needs the title of one of its sessions")
        if self.disposition is not None:
            _check_disposition(self.disposition, answered=given[0])
        if self.owner is not None and self.template is None:
            raise _problem("owner: only a template needs one: whoever the projects belong to")
        return self


_ANSWERING = ("agent", "composition", "template", "project")


def _check_disposition(schema: Mapping[str, str], *, answered: str) -> None:
    from service.core.disposition import Schema
    from service.errors import BadInput

    if answered not in ("agent", "composition"):
        raise _problem("disposition: only new sessions of an agent or composition get one")
    try:
        Schema.parse(schema)
    except BadInput as error:
        told = str(error).replace("schema.", "").replace("schema: ", "")
        raise _problem(f"disposition: {told}") from error


class Webhook(_Trigger):
    """A URL that rings an agent."""

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


class Task(_Trigger):
    """A cron trigger."""

    cron: str
    timezone: str = "UTC"
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


def _voice_name(value: str) -> str:
    """Check that people and models can call somebody by this name."""
    if value != value.strip() or not value.isprintable() or any(one in value for one in "@[]/"):
        raise _problem(
            "write a name on one line, without white space around it, and without @, [, ] and /"
        )
    return value


CalledName = Annotated[
    str, Field(min_length=1, max_length=LONGEST_CALLED_NAME), AfterValidator(_voice_name)
]


class CompositionVoice(_Section):
    """One voice of a composition: an agent, or a model with words of its own."""

    agent: str | None = None
    provider: str | None = None
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    prompt: Annotated[str, Field(max_length=LONGEST_VOICE_PROMPT)] = ""
    name: CalledName | None = None
    rounds: Annotated[int, Field(ge=0, le=MOST_ROUNDS)] = 0

    @property
    def called(self) -> str:
        """What the others call it."""
        return self.name or self.agent or ""

    @model_validator(mode="after")
    def _whole(self) -> CompositionVoice:
        if self.agent is not None:
            if self.provider is not None or self.model is not None or self.prompt:
                raise _problem("agent: an agent brings its provider, model and prompt; leave them")
            _check_called(self.called)
            return self
        if self.provider is None:
            raise _problem("agent: give an agent, or a provider with a model, prompt and name")
        if self.model is None:
            raise _problem("model: needed with a provider")
        if self.name is None:
            raise _problem("name: needed with a provider; the others call it so")
        return self


def _check_called(name: str) -> None:
    if len(name) > LONGEST_CALLED_NAME:
        raise _problem(f"name: the agent's is too long; give one of 1 to {LONGEST_CALLED_NAME}")


class Composition(_Section):
    """Voices to begin a session with."""

    voices: Annotated[
        tuple[CompositionVoice, ...],
        Field(strict=False, min_length=1, max_length=MOST_VOICES),
    ]
    mode: Literal["broadcast", "conductor"] = "broadcast"
    continuation: Literal["none", "prompt", "auto"] = "none"


def _default_providers() -> dict[str, Provider]:
    return {"offline": Provider(kind="offline")}


def _default_agents() -> dict[str, Agent]:
    return {
        "assistant": Agent(
            provider="offline",
            model="echo",
            prompt="You are a helpful assistant.",
            tools=("clock", "dice", "notes", "prompt_user"),
        )
    }


class Settings(_Section):
    """The whole configuration."""

    server: Server = Field(default_factory=Server)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    log: Log = Field(default_factory=Log)
    limits: LimitsSettings = Field(default_factory=LimitsSettings)
    providers: dict[str, Provider] = Field(default_factory=_default_providers)
    agents: dict[str, Agent] = Field(default_factory=_default_agents)
    mcp: dict[str, Mcp] = Field(default_factory=dict)
    data: dict[str, Data] = Field(default_factory=dict)
    telegram: Telegram | None = None
    webhooks: dict[str, Webhook] = Field(default_factory=dict)
    tasks: dict[str, Task] = Field(default_factory=dict)
    compositions: dict[str, Composition] = Field(default_factory=dict)

    def secrets(self) -> Iterator[str]:
        """Every secret value, for the log to hide."""
        yield from (secret.reveal() for secret in _secrets_in(self))
        for url in (self.database.url, *(one.url for one in self.data.values())):
            yield from _passwords_in(url)


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the configuration; None means the defaults. Raises ConfigError with every problem."""
    problems: list[str] = []
    document = _parse(path)
    problems += _across(document)
    document = _References(environ, problems).resolved(document)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        known = {problem.partition(": ")[0] for problem in problems}
        found = [_sentence(one) for one in error.errors(include_url=False, include_input=False)]
        problems += [one for one in found if one.partition(": ")[0] not in known]
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def composition_of(
    given: Mapping[str, Any], *, agents: Iterable[str], providers: Iterable[str]
) -> Composition:
    """Read a composition that comes from elsewhere, as strictly as one of the file.

    Raises ConfigError with every problem, each with its path in what was given.
    """
    problems = _voices_known("", given, dict.fromkeys(agents), dict.fromkeys(providers))
    composition: Composition | None = None
    try:
        composition = Composition.model_validate(dict(given))
    except ValidationError as error:
        root = ("compositions", "")
        known = {problem.partition(": ")[0] for problem in problems}
        for one in error.errors(include_url=False, include_input=False):
            one["loc"] = (*root, *one["loc"])
            told = _sentence(one).removeprefix(f"{'.'.join(root)}.")
            problems += [told] if told.partition(": ")[0] not in known else []
    if problems or composition is None:
        raise ConfigError(problems)
    return composition


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
_DATABASE_URL = ("database", "url")


@dataclass(frozen=True, slots=True)
class _References:
    """Puts secrets, and the URL of the database, where references to them stand.

    What cannot be found is noted in `problems`, and an empty secret stands in for it.
    """

    environ: Mapping[str, str]
    problems: list[str]

    def resolved(self, value: Any, path: tuple[str, ...] = ()) -> Any:
        """The same document with secrets in it."""
        if isinstance(value, dict):
            return {key: self.resolved(inner, (*path, key)) for key, inner in value.items()}
        if path == _DATABASE_URL or _is_data_url(path):
            url = self._found(value, path)
            return value if url is None else url.reveal()
        if not _is_secret(path):
            return value
        if isinstance(value, list):
            return [self._secret(one, path) for one in value]
        return self._secret(value, path)

    def _secret(self, value: object, path: tuple[str, ...]) -> Secret:
        found = self._found(value, path)
        return self._missing(path, _BY_REFERENCE) if found is None else found

    def _found(self, value: object, path: tuple[str, ...]) -> Secret | None:
        """What `value` refers to; None when it is no reference."""
        kind, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
        if not name:
            return None
        if kind == "env":
            found = self.environ.get(name)
            missing = f"the environment variable {name} is not set"
            return Secret(found) if found else self._missing(path, missing)
        if kind == "file":
            return self._read(Path(name), path)
        if kind == "credential":
            folder = self.environ.get("CREDENTIALS_DIRECTORY")
            missing = "CREDENTIALS_DIRECTORY is not set; systemd does it for LoadCredential="
            return self._read(Path(folder, name), path) if folder else self._missing(path, missing)
        return None

    def _read(self, file: Path, path: tuple[str, ...]) -> Secret:
        try:
            found = file.read_text("utf-8").strip()
        except (OSError, ValueError):
            return self._missing(path, f"the file {file} cannot be read as UTF-8 text")
        return Secret(found) if found else self._missing(path, f"the file {file} is empty")

    def _missing(self, path: tuple[str, ...], reason: str) -> Secret:
        self.problems.append(f"{'.'.join(path)}: {reason}")
        return Secret("")


def _is_data_url(path: tuple[str, ...]) -> bool:
    return len(path) == 3 and path[0] == "data" and path[2] == "url"


def _is_secret(path: tuple[str, ...]) -> bool:
    if not path:
        return False
    of_mcp = len(path) == 4 and path[0] == "mcp" and path[2] in ("env", "headers")
    return of_mcp or path[-1] in _SECRET_KEYS


def _passwords_in(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    fields = (field.partition("=") for field in parts.query.split("&"))
    given = [parts.password or "", *(value for name, _, value in fields if name == "password")]
    yield from {form for one in given for form in (one, unquote(one)) if form}


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

_WANTED = {
    "bool_type": "write true or false",
    "dict_type": "write a table",
    "frozen_set_type": "write a list, in brackets",
    "int_type": "write a whole number",
    "model_type": "write a table",
    "string_too_short": "must not be empty",
    "string_type": "write a text, in quotes",
    "too_short": "must not be empty",
    "tuple_type": "write a list, in brackets",
}


def _sentence(error: ErrorDetails) -> str:
    where = tuple(str(part) for part in error["loc"])
    path = ".".join(where)
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_hint(where)}"
    if error["type"] == "missing":
        return f"{path}: is missing; it has no default"
    text = _WANTED.get(error["type"]) or _SHOULD.sub("must", error["msg"], count=1)
    # Checks of a whole section name the key themselves.
    if error["type"] == "config" and (named := re.match(r"([a-z_]+): ", text)):
        return f"{path}.{named[1]}: {text[named.end() :]}"
    return f"{path}: {text[:1].lower()}{text[1:]}"


def _hint(where: tuple[str, ...]) -> str:
    import difflib

    model = _model_at(where[:-1])
    known = list(model.model_fields) if model else []
    close = difflib.get_close_matches(where[-1], known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are: {', '.join(known)}" if known else "; take it out"


def _model_at(where: Iterable[str]) -> type[BaseModel] | None:
    """The model of the table at a path of the file."""
    annotation: Any = Settings
    for part in where:
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
            continue
        if part.isdigit() and get_origin(annotation) is tuple:
            annotation = get_args(annotation)[0]
            continue
        model = _model_in(annotation)
        if model is None or part not in model.model_fields:
            return None
        annotation = model.model_fields[part].annotation
    return _model_in(annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _across(document: Mapping[str, Any]) -> list[str]:
    """Problems between sections.

    Looks at what the file says, not at models: it must tell them also when a section is broken.
    """
    problems = _names(document) + _providers_known(document)
    server, database = _table(document, "server"), _table(document, "database")
    if not _is_loopback(str(server.get("host", "127.0.0.1"))) and not server.get("tokens"):
        problems.append(
            "server.tokens: host is not a loopback address, so the API needs a token; "
            'set tokens = ["env:NAME"]'
        )
    urls = {"database.url": database.get("url")}
    urls |= {f"data.{name}.url": one.get("url") for name, one in _tables(document, "data")}
    problems += [
        f'{path}: must not hold a password; write url = "env:NAME" for the whole URL, '
        "or leave the password to PGPASSWORD or ~/.pgpass"
        for path, url in urls.items()
        if _has_password(url)
    ]
    agents = document.get("agents", {"assistant": None})
    compositions = document.get("compositions", {})
    for section in ("webhooks", "tasks"):
        for name, one in _tables(document, section):
            path = f"{section}.{name}"
            problems += _known(f"{path}.agent", one.get("agent"), agents)
            problems += _known(f"{path}.composition", one.get("composition"), compositions)
            if "telegram" in _table(one, "deliver"):
                problems += _bot_known(document, f"{path}.deliver.telegram")
    for name, agent in _tables(document, "agents"):
        for to in _table(agent, "send_to"):
            problems += _bot_known(document, f"agents.{name}.send_to.{to}.telegram")
    problems += _servers_known(document, "mcp") + _servers_known(document, "data")
    providers = document.get("providers", {"offline": None})
    for name, composition in _tables(document, "compositions"):
        problems += _voices_known(f"compositions.{name}.", composition, agents, providers)
    telegram = _table(document, "telegram")
    problems += _known("telegram.agent", telegram.get("agent"), agents)
    public = str(server.get("public_url", ""))
    if telegram.get("mode") == "webhook" and not public.startswith("https://"):
        problems.append(
            'server.public_url: mode = "webhook" needs the https:// address '
            "under which Telegram reaches this service"
        )
    return problems


def _names(document: Mapping[str, Any]) -> list[str]:
    return [
        f"{section}: the name {name!r} must be 1 to 64 of a-z, 0-9, _ and -, beginning with "
        "a letter or digit"
        for section in ("providers", "agents", "mcp", "data", "webhooks", "tasks", "compositions")
        for name in _table(document, section)
        if not _NAME.fullmatch(name)
    ] + [
        f"data: the name {name!r} must be at most {_LONGEST_DATA_NAME} characters long"
        for name in _table(document, "data")
        if len(name) > _LONGEST_DATA_NAME
    ]


def _providers_known(document: Mapping[str, Any]) -> list[str]:
    providers = document.get("providers", {"offline": None})
    if "agents" not in document and isinstance(providers, dict) and "offline" not in providers:
        return ["agents: there is none; write [agents.NAME] with one of your providers and a model"]
    return [
        problem
        for name, agent in _tables(document, "agents")
        for problem in _known(f"agents.{name}.provider", agent.get("provider"), providers)
    ]


def _bot_known(document: Mapping[str, Any], path: str) -> list[str]:
    if "telegram" in document:
        return []
    return [f"{path}: there is no [telegram] section; add one with token and agent"]


def _servers_known(document: Mapping[str, Any], section: str) -> list[str]:
    """Tools of agents such as "mcp:NAME" that name no table of that section."""
    servers, prefix = document.get(section, {}), f"{section}:"
    return [
        problem
        for name, agent in _tables(document, "agents")
        for tool in agent.get("tools", ())
        if isinstance(tool, str) and tool.startswith(prefix)
        for problem in _known(f"agents.{name}.tools", tool.removeprefix(prefix), servers)
    ]


def _voices_known(
    path: str, composition: Mapping[str, Any], agents: object, providers: object
) -> list[str]:
    """Voices that nobody can speak as, and those that are called the same."""
    given = composition.get("voices")
    voices = given if isinstance(given, list) else []
    problems: list[str] = []
    taken: dict[str, int] = {}
    for number, voice in enumerate(voices):
        if not isinstance(voice, dict):
            continue
        at = f"{path}voices.{number}"
        problems += _known(f"{at}.agent", voice.get("agent"), agents)
        problems += _known(f"{at}.provider", voice.get("provider"), providers)
        name = voice.get("name") or voice.get("agent")
        if not isinstance(name, str):
            continue
        first = taken.setdefault(name.casefold(), number)
        if first != number:
            problems.append(
                f"{at}.name: {name!r} is what voices.{first} is called already; "
                "capital letters make no difference"
            )
    return problems


def _known(path: str, name: object, among: object) -> list[str]:
    if not isinstance(name, str) or not isinstance(among, dict) or name in among:
        return []
    return [f"{path}: there is no {name!r}; there are: {', '.join(sorted(among)) or 'none'}"]


def _has_password(url: object) -> bool:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return False
    return parts is not None and bool(parts.password or "password=" in parts.query)


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table under `key`; empty when there is none, or something else."""
    inner = table.get(key)
    return inner if isinstance(inner, dict) else {}


def _tables(table: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, one) for name, one in _table(table, key).items() if isinstance(one, dict)]
