"""The configuration: every problem at once, secrets only by reference, the example complete."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from service.app import check
from service.config import (
    Agent,
    AgentLimits,
    Auth,
    Composition,
    Data,
    DatabaseSettings,
    LimitsSettings,
    Log,
    Mcp,
    Provider,
    Secret,
    Server,
    Settings,
    Task,
    Telegram,
    Webhook,
    load,
)
from service.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"
WHSEC = "whsec_" + "c2VjcmV0IG9mIHRoZSBkZW1v" * 2
ENVIRON = {
    "RINGBACK_TOKEN": "t" * 32,
    "OPENROUTER_API_KEY": "or-key",
    "TELEGRAM_BOT_TOKEN": "123456:" + "A" * 35,
    "TELEGRAM_WEBHOOK_SECRET": "hook-secret",
    "GITHUB_WEBHOOK_SECRET": "gh",
    "CALLBACK_SECRET": WHSEC,
    "NEW_TOKEN": "new",
    "OLD_TOKEN": "old",
    "SPACED": "with spaces",
    "FILES_TOKEN": "files",
    "SEARCH_AUTHORIZATION": "Bearer search",
}

MODELS: dict[str, type[BaseModel]] = {
    "server": Server,
    "database": DatabaseSettings,
    "log": Log,
    "limits": LimitsSettings,
    "providers": Provider,
    "agents": Agent,
    "agents.limits": AgentLimits,
    "mcp": Mcp,
    "data": Data,
    "telegram": Telegram,
    "webhooks": Webhook,
    "tasks": Task,
    "compositions": Composition,
}


def problems_of(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with a configuration."""
    path = tmp_path / "ringback.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return list(caught.value.problems)


def test_the_example_starts_as_it_is() -> None:
    """No key, no network: the example's active part is a configuration that works."""
    settings = load(EXAMPLE, {})

    check(settings)

    assert settings.telegram is None
    assert list(settings.webhooks) == ["echo"]


def test_the_whole_example_loads(tmp_path: Path) -> None:
    """With every commented line taken in it is still a good configuration."""
    path = tmp_path / "whole.toml"
    path.write_text(re.sub(r"(?m)^#: ", "", EXAMPLE.read_text("utf-8")), "utf-8")

    settings = load(path, ENVIRON)
    check(settings)

    assert settings.webhooks["rotating"].auth.secrets == (Secret("new"), Secret("old"))
    assert settings.tasks["hourly"].deliver is not None
    assert settings.tasks["hourly"].deliver.telegram == "11111111"


def test_the_example_names_every_key() -> None:
    """Each key of each section stands in the example, and no other."""
    text = re.sub(r"(?m)^#: ", "", EXAMPLE.read_text("utf-8"))

    shown: dict[type[BaseModel], set[str]] = {}
    _collect(Settings, [tomllib.loads(text)], shown)

    assert {model.__name__: set(model.model_fields) - keys for model, keys in shown.items()} == {
        model.__name__: set() for model in shown
    }


def test_the_documented_defaults_are_the_defaults() -> None:
    """A line shows the default, or says after "default:" which one the code has."""
    documented: dict[tuple[str, str], Any] = {}
    in_code: dict[tuple[str, str], Any] = {}

    for section, line in _lines(EXAMPLE.read_text("utf-8")):
        ((key, value),) = tomllib.loads(line).items()
        default = MODELS[section].model_fields[key].get_default(call_default_factory=True)
        if default is None or default is PydanticUndefined:
            continue
        told = re.search(r"# default: (.+?)(?:;|$)", line)
        value = tomllib.loads(f"value = {told[1]}")["value"] if told else value
        documented[section, key] = _plain_text(value)
        in_code[section, key] = _plain(default)

    assert documented == in_code
    assert len(documented) > 30


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    """Each with the path in the file; a near miss is named."""
    found = problems_of(
        tmp_path,
        """
        [server]
        prot = 1
        drain = "soon"
        [agents.a]
        provider = "nobody"
        model = "m"
        [webhooks.w]
        agent = "nobody"
        [tasks.t]
        cron = "61 * * * *"
        agent = "a"
        prompt = "p"
        """,
    )

    assert "server.prot: unknown key; did you mean port?" in found
    assert any(one.startswith("server.drain: write a duration") for one in found)
    assert "webhooks.w.auth: is missing; it has no default" in found
    assert any(one.startswith("tasks.t.cron: the minute field: 61") for one in found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[server]\nhost = "0.0.0.0"', "server.tokens: host is not a loopback address"),
        (
            '[telegram]\ntoken = "env:TELEGRAM_BOT_TOKEN"\nagent = "assistant"\nmode = "webhook"',
            "telegram.secret: needed for mode",
        ),
        (
            '[telegram]\ntoken = "env:TELEGRAM_BOT_TOKEN"\nagent = "assistant"\nmode = "webhook"\n'
            'secret = "env:TELEGRAM_WEBHOOK_SECRET"',
            "server.public_url: mode",
        ),
        ('[telegram]\ntoken = "env:NEW_TOKEN"\nagent = "assistant"', "telegram.token: this is no"),
        ('[webhooks.w]\nagent = "assistant"', "webhooks.w.auth: is missing"),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = { scheme = "github" }',
            'webhooks.w.auth.secret: scheme "github" needs one',
        ),
        (
            '[webhooks.w]\nagent = "assistant"\n'
            'auth = { scheme = "standard-webhooks", secret = "env:OLD_TOKEN" }',
            "webhooks.w.auth.secret: must be whsec_",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\nreply = "callback"',
            'webhooks.w.callback: reply = "callback" needs',
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\n'
            'callback = { url = "http://ci.example.org/x" }',
            "webhooks.w.callback.url: use https://",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\ndeliver = { telegram = 5 }',
            "webhooks.w.deliver.telegram: there is no [telegram] section",
        ),
        ('[providers.p]\nkind = "openai"', "providers.p.api_key: a provider of kind"),
        ('[providers."a/b"]\nkind = "offline"', "providers: the name 'a/b'"),
        ('[database]\nurl = "mysql://x"', "database.url: write"),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\n'
            'callback = { url = "https://ci.example.org/x", secret = "env:OLD_TOKEN" }',
            "webhooks.w.callback.secret: must be whsec_",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\n'
            'callback = { url = "https://[::1/x" }',
            "webhooks.w.callback.url: write a URL",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\n'
            'callback = { url = "https://me:hunter2@ci.example.org/x" }',
            "webhooks.w.callback.url: must not hold a user",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\n'
            'callback = { url = "https://ci.example.org:99999/x" }',
            "webhooks.w.callback.url: write a URL",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "open"',
            'webhooks.w.auth: write auth = { scheme = "bearer"',
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\nwait = "2h"',
            "webhooks.w.wait: at most 60s",
        ),
        (
            '[telegram]\ntoken = "env:TELEGRAM_BOT_TOKEN"\nagent = "assistant"\n'
            'secret = "env:SPACED"',
            "telegram.secret: Telegram takes",
        ),
        (
            '[telegram]\ntoken = "env:TELEGRAM_BOT_TOKEN"\nagent = "assistant"\n'
            'allow = ["@somebody"]',
            "telegram.allow.0: write a whole number",
        ),
        (
            '[telegram]\ntoken = "env:TELEGRAM_BOT_TOKEN"\nagent = "assistant"\n'
            'api_base_url = "localhost"',
            "telegram.api_base_url: write a URL",
        ),
        ('[server]\nhost = ""', "server.tokens: host is not a loopback address"),
        ('[server]\nhost = "0.0.0.0"\ntokens = []', "server.tokens: host is not a loopback"),
        ('[server]\npublic_url = "bot.example.org"', "server.public_url: write a URL"),
        ('[server]\ntrusted_proxies = "10.0.0.1"', "server.trusted_proxies: write a list"),
        ('[server]\ntrusted_proxies = ["localhost"]', "server.trusted_proxies.0: write the IP"),
        ('[server]\ntrusted_proxies = ["::1", 7]', "server.trusted_proxies.1: write the IP"),
        ('[server]\ntrusted_proxies = ["10.0.0.1/8"]', "server.trusted_proxies.0: write the IP"),
        ('[server]\ntrusted_proxies = ["0.0.0.0/0"]', "server.trusted_proxies.0: write the IP"),
        ('[server]\ndrain = "999999999999999d"', "server.drain: write a duration of at most"),
        ('[server]\ndrain = "٣s"', "server.drain: write a duration with its unit"),
        ('[limits]\nbody_read = "0s"', 'limits.body_read: must be longer than "0s"'),
        ('[providers.p]\nkind = "offlin"', "providers.p.kind: must be 'offline', "),
        (
            '[providers.p]\nkind = "openai"\napi_key = "env:OLD_TOKEN"',
            "agents: there is none; write [agents.NAME]",
        ),
        (
            '[agents.a]\nprovider = "nobody"\nmodel = "m"',
            "agents.a.provider: there is no 'nobody'; there are: offline",
        ),
        ('[database]\nurl = "sqlite+aiosqlite:///:memory:"', "database.url: name a file"),
        (
            '[tasks.t]\ncron = "0 * * * *"\ntimezone = "Mars/X"\nagent = "assistant"\nprompt = "p"',
            "tasks.t.timezone: 'Mars/X'",
        ),
        (
            '[webhooks.w]\nauth = "none"',
            "webhooks.w.agent: give an agent, a composition of several, a template to be",
        ),
        (
            '[tasks.t]\ncron = "0 * * * *"\nprompt = "p"',
            "tasks.t.agent: give an agent, a composition of several, a template to be",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\ncomposition = "c"\nauth = "none"\n'
            '[compositions.c]\nvoices = [{ agent = "assistant" }]',
            "webhooks.w.composition: give either agent or composition, not both",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\ntemplate = "t"\nauth = "none"',
            "webhooks.w.template: give either agent or template, not both",
        ),
        (
            '[webhooks.w]\nproject = "p"\nauth = "none"',
            "webhooks.w.investigation: a project needs the title of one of its sessions",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\nowner = "ada"',
            "webhooks.w.owner: only a template needs one",
        ),
        (
            '[webhooks.w]\ntemplate = "t"\nauth = "none"\ndisposition = { verdict = "A|B" }',
            "webhooks.w.disposition: only new sessions of an agent or composition get one",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\nauth = "none"\ndisposition = { verdict = "A" }',
            "webhooks.w.disposition: verdict: write A|B|C for one of several values",
        ),
        (
            '[tasks.t]\ncron = "0 * * * *"\nprompt = "p"\ncomposition = "nobody"',
            "tasks.t.composition: there is no 'nobody'; there are: none",
        ),
        ("[compositions.c]", "compositions.c.voices: is missing"),
        ("[compositions.c]\nvoices = []", "compositions.c.voices: "),
        (
            '[compositions.c]\nvoices = [{ agent = "nobody" }]',
            "compositions.c.voices.0.agent: there is no 'nobody'; there are: assistant",
        ),
        (
            '[compositions.c]\nvoices = [{ provider = "p", model = "m", name = "A" }]',
            "compositions.c.voices.0.provider: there is no 'p'; there are: offline",
        ),
        (
            '[compositions.c]\nvoices = [{ provider = "offline", model = "echo" }]',
            "compositions.c.voices.0.name: needed with a provider",
        ),
        (
            '[compositions.c]\nvoices = [{ agent = "assistant", rounds = 4 }]',
            "compositions.c.voices.0.rounds: ",
        ),
        (
            '[compositions.c]\nvoices = [{ agent = "assistant" }, '
            '{ provider = "offline", model = "echo", name = "Assistant" }]',
            "compositions.c.voices.1.name: 'Assistant' is what voices.0 is called already",
        ),
        (
            '[compositions.c]\nvoices = [{ agent = "assistant", name = "a@b" }]',
            "compositions.c.voices.0.name: write a name on one line",
        ),
        ('[data.d]\nurl = "mysql://host/name"', "data.d.url: write"),
        ('[data.d]\nurl = "sqlite:///:memory:"', "data.d.url: write"),
        ('[data.d]\nurl = "sqlite:///d.db"\nbytes = 5000000', "data.d.bytes: must be"),
        ('[data.d]\nurl = "sqlite:///d.db"\nschemas = []', "data.d.schemas:"),
        (f'[data.{"d" * 58}]\nurl = "sqlite:///d.db"', f"data: the name '{'d' * 58}' must be at"),
        (
            '[agents.assistant]\nprovider = "offline"\nmodel = "echo"\ntools = ["data:d"]',
            "agents.assistant.tools: there is no 'd'",
        ),
        ("server = 1", "server: write a table"),
        ("[server]\nport = 70000", "server.port:"),
        ('[server]\nport = "80"', "server.port:"),
    ],
)
def test_unsafe_and_impossible_settings_do_not_start(
    tmp_path: Path, text: str, problem: str
) -> None:
    """What would be open to everybody, or cannot work, is refused with the way out."""
    found = problems_of(tmp_path, text, ENVIRON)

    assert [one for one in found if one.startswith(problem)], found


def test_a_broken_section_does_not_hide_the_others(tmp_path: Path) -> None:
    """What is wrong between sections is told although one of them cannot be read."""
    found = problems_of(
        tmp_path,
        """
        [server]
        host = "0.0.0.0"
        port = "eighty"
        [telegram]
        agent = "nobody"
        [webhooks.Big]
        agent = "nobody"
        auth = "none"
        """,
    )

    assert {one.partition(": ")[0] for one in found} == {
        "server.port",
        "server.tokens",
        "telegram.agent",
        "telegram.token",
        "webhooks",
        "webhooks.Big.agent",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[webhook.w]", "webhook: unknown key; did you mean webhooks?"),
        ("[agents.a.limits]\nstal = 1", "agents.a.limits.stal: unknown key; did you mean stall?"),
        (
            '[webhooks.w]\ncallback = { urll = "x" }',
            "webhooks.w.callback.urll: unknown key; did you mean url?",
        ),
        (
            "[tasks.t]\ndeliver = { telegramm = 1 }",
            "tasks.t.deliver.telegramm: unknown key; did you mean telegram?",
        ),
        ("[log]\nfile = 1", "log.file: unknown key; there are: level, format"),
        (
            '[compositions.c]\nvoices = [{ agent = "assistant", round = 1 }]',
            "compositions.c.voices.0.round: unknown key; did you mean rounds?",
        ),
    ],
)
def test_an_unknown_key_is_answered_with_the_known_ones(
    tmp_path: Path, text: str, problem: str
) -> None:
    """The nearest of the same table, at every depth."""
    found = problems_of(tmp_path, text)

    assert problem in found


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('[server]\ntokens = ["hunter2-hunter2"]', "server.tokens"),
        ('[telegram]\ntoken = "123456:hunter2"', "telegram.token"),
        ('[telegram]\nsecret = "hunter2"', "telegram.secret"),
        ("[providers.p]\nkind = 'openai'\napi_key = 'hunter2'", "providers.p.api_key"),
        (
            '[webhooks.w]\nauth = { scheme = "bearer", secret = "hunter2" }',
            "webhooks.w.auth.secret",
        ),
        (
            '[webhooks.w]\nauth = { scheme = "bearer", secrets = ["whsec_:hunter2"] }',
            "webhooks.w.auth.secrets",
        ),
        (
            '[webhooks.w]\ncallback = { url = "https://a.example", secret = "env:hunter2"}',
            "webhooks.w.callback.secret",
        ),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_shown(
    tmp_path: Path, text: str, path: str
) -> None:
    """Secrets are references; the message says where and how, not what was written."""
    found = problems_of(tmp_path, text)

    told = [one for one in found if one.startswith(f"{path}: ")]
    assert len(told) == 1
    if "env:" not in text:
        assert "by reference" in told[0]
        assert "hunter2" not in "".join(found)


def test_the_password_of_the_database_is_a_secret_too(tmp_path: Path) -> None:
    """It does not stand in the file; by reference it is known to the log and not shown."""
    url = "postgresql+asyncpg://bot:hunter%402@db.example/bot"
    path = tmp_path / "ringback.toml"

    written = problems_of(tmp_path, f'[database]\nurl = "{url}"')
    path.write_text('[database]\nurl = "env:DATABASE_URL"\n', "utf-8")
    settings = load(path, {"DATABASE_URL": url})

    assert [one.partition(";")[0] for one in written] == ["database.url: must not hold a password"]
    assert settings.database.url == url
    assert set(settings.secrets()) == {"hunter%402", "hunter@2"}
    assert "hunter" not in repr(settings) + "".join(written)


def test_the_password_of_data_is_a_secret_too(tmp_path: Path) -> None:
    """As it is with our own database, also when it stands among the parameters."""
    url = "postgresql://reader@db.example/sales?password=hunter%402"
    path = tmp_path / "ringback.toml"

    written = problems_of(tmp_path, f'[data.sales]\nurl = "{url}"')
    path.write_text('[data.sales]\nurl = "env:SALES"\n', "utf-8")
    settings = load(path, {"SALES": url})

    assert [one.partition(";")[0] for one in written] == [
        "data.sales.url: must not hold a password"
    ]
    assert settings.data["sales"].url == url
    assert set(settings.secrets()) == {"hunter@2", "hunter%402"}
    assert "hunter" not in repr(settings) + "".join(written)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[server]\ntokens = ["env:NOT_THERE"]',
            "server.tokens: the environment variable NOT_THERE is not set",
        ),
        (
            '[webhooks.w]\nagent = "assistant"\n'
            'auth = { scheme = "standard-webhooks", secrets = ["env:NOT_THERE"] }',
            "webhooks.w.auth.secrets: the environment variable NOT_THERE is not set",
        ),
        (
            '[telegram]\ntoken = "env:NOT_THERE"\nagent = "assistant"',
            "telegram.token: the environment variable NOT_THERE is not set",
        ),
        (
            '[database]\nurl = "env:NOT_THERE"',
            "database.url: the environment variable NOT_THERE is not set",
        ),
        (
            '[server]\ntokens = ["file:/not/there"]',
            "server.tokens: the file /not/there cannot be read as UTF-8 text",
        ),
        (
            '[server]\ntokens = ["credential:name"]',
            "server.tokens: CREDENTIALS_DIRECTORY is not set; systemd does it for LoadCredential=",
        ),
        (
            f'[server]\ntokens = ["file:{os.devnull}"]',
            f"server.tokens: the file {os.devnull} is empty",
        ),
    ],
)
def test_a_missing_secret_is_named_once(tmp_path: Path, text: str, problem: str) -> None:
    """The variable or file is what the reader must see to; nothing else is complained about."""
    found = problems_of(tmp_path, text)

    assert found == [problem]


def test_secrets_come_from_files_and_credentials(tmp_path: Path) -> None:
    """A file's line end is not part of the secret; credentials come from systemd's folder."""
    (tmp_path / "token").write_text("from-file\n", "utf-8")
    path = tmp_path / "ringback.toml"
    path.write_text(f'[server]\ntokens = ["file:{tmp_path}/token", "credential:token"]\n', "utf-8")

    settings = load(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert settings.server.tokens == (Secret("from-file"), Secret("from-file"))
    assert list(settings.secrets()) == ["from-file", "from-file"]


@pytest.mark.parametrize("text", ["[server", "\ufeff[server]", "a = \x00"])
def test_a_file_that_is_not_toml_says_where(tmp_path: Path, text: str) -> None:
    """The path and the parser's words, no traceback."""
    found = problems_of(tmp_path, text)

    assert len(found) == 1
    assert "is not TOML" in found[0]


def test_a_secret_never_prints() -> None:
    """Neither as text nor inside a model."""
    secret = Secret("hunter2")

    shown = f"{secret} {secret!r} {load(EXAMPLE, {})!r}"

    assert "hunter2" not in shown


def _collect(
    model: type[BaseModel], tables: list[Any], shown: dict[type[BaseModel], set[str]]
) -> None:
    """Note which keys of each model are shown anywhere."""
    keys = shown.setdefault(model, {"secrets"} if model is Auth else set())
    for name, field in model.model_fields.items():
        values = [table[name] for table in tables if isinstance(table, dict) and name in table]
        if not values:
            continue
        keys.add(name)
        named = get_origin(field.annotation) is dict
        inner = [one for value in values for one in (value.values() if named else _each(value))]
        for one in _models_in(field.annotation):
            _collect(one, inner, shown)


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """The lines that set a key, each with its section without the name it has there."""
    section = ""
    for line in text.splitlines():
        if header := re.match(r"(?:#: )?\[(\w+)(?:\.\w+)?(\.\w+)?\]", line):
            section = header[1] + (header[2] or "")
        elif key := re.match(r"(?:#: )?(\w+ = .*)", line):
            yield section, key[1]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, frozenset)):
        return list(value)
    return value.total_seconds() if isinstance(value, timedelta) else value


def _plain_text(value: Any) -> Any:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", value) if isinstance(value, str) else None
    return int(match[1]) * units[match[2]] if match else value
