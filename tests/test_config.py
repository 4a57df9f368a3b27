"""The configuration: every problem at once, secrets only by reference, the example complete."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from service.app import check
from service.config import Auth, Secret, Settings, load
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
    """A line that shows a default shows the one the code has."""
    text = EXAMPLE.read_text("utf-8")
    shown = tomllib.loads(re.sub(r"(?m)^#: ", "", text))

    defaults = Settings()

    for section in ("server", "database", "log", "limits"):
        for key, value in shown[section].items():
            if key in ("public_url", "tokens"):
                continue
            assert (section, key, _plain(getattr(getattr(defaults, section), key))) == (
                section,
                key,
                _plain_text(value),
            )
    limits = defaults.agents["assistant"].limits
    for key, value in shown["agents"]["assistant"]["limits"].items():
        assert (key, _plain(getattr(limits, key))) == (key, _plain_text(value))


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


def test_a_secret_in_the_file_is_refused_and_not_shown(tmp_path: Path) -> None:
    """Secrets are references; the message does not repeat what was written."""
    found = problems_of(tmp_path, '[server]\ntokens = ["hunter2-hunter2"]')

    assert any(one.startswith("server.tokens") and "by reference" in one for one in found)
    assert "hunter2" not in "".join(found)


def test_a_missing_variable_is_named_once(tmp_path: Path) -> None:
    """The variable is what the reader must set; nothing else is complained about."""
    found = problems_of(tmp_path, '[server]\ntokens = ["env:NOT_THERE"]')

    assert found == ["server.tokens: the environment variable NOT_THERE is not set"]


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
        inner = [one for value in values for one in (value.values() if named else [value])]
        for one in _models_in(field.annotation):
            _collect(one, inner, shown)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _plain_text(value: Any) -> Any:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", value) if isinstance(value, str) else None
    return int(match[1]) * units[match[2]] if match else value
