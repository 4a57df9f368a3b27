"""The `ringback` command. Imports stay inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, TypeVar

try:
    import typer
except KeyboardInterrupt:
    # Nothing has begun that could be told about.
    raise SystemExit(130) from None

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.client import Client
    from service.config import Settings

T = TypeVar("T")
_TRIES = 20
_PAUSE_SECONDS = 0.5

app = typer.Typer(
    help="Something rings: a Telegram message, a webhook, a cron tick. An agent answers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
tasks = typer.Typer(help="Show tasks and run them.", no_args_is_help=True, rich_markup_mode=None)
token = typer.Typer(
    help="Make, list and revoke API tokens.", no_args_is_help=True, rich_markup_mode=None
)
user = typer.Typer(
    help="Let people sign in at the console.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(tasks, name="tasks")
app.add_typer(token, name="token")
app.add_typer(user, name="user")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="RINGBACK_CONFIG",
        help="The TOML file; default: ringback.toml in this folder, if there is one.",
    ),
]
Url = Annotated[
    str | None, typer.Option(envvar="RINGBACK_URL", help="Where a running service answers.")
]
Token = Annotated[
    str | None, typer.Option("--token", envvar="RINGBACK_TOKEN", help="An API token for it.")
]
Key = Annotated[str, typer.Option("--session", help="The key of the session; same key, same one.")]
Agent = Annotated[str | None, typer.Option(help="The agent of a new session.")]
Role = Annotated[
    Literal["viewer", "operator", "admin"],
    typer.Option(help="Look; also talk and steer; also read the audit."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from service import release

    _say(release())
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Hold the options that belong to no command."""


@app.command()
def serve(config: Config = None) -> None:
    """Run the service until it is told to stop."""
    # What a start makes stays: to look for garbage in it would be an eighth of the time.
    gc.disable()
    from service.log import setup

    settings = _settings(config)
    setup(settings.log, settings.secrets())
    from service.app import serve as run

    _run(run(settings), fast=True)


@app.command()
def demo() -> None:
    """Ring a real service by Telegram, webhook and cron, all on this machine."""
    from service.demo.run import run

    raise typer.Exit(_run(run(), fast=True))


@app.command()
def sample(
    file: Annotated[Path, typer.Argument(help="The SQLite file to make.")],
) -> None:
    """Make a data set to investigate: the invoices of an invented company."""
    from service.demo import ledger

    try:
        rows = ledger.write(file)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="FILE") from error
    _say(f'{file}: {rows} rows. Configure it: [data.ledger] url = "sqlite:///{file}"')


@app.command("check-config")
def check_config(config: Config = None) -> None:
    """Read the configuration and report every problem."""
    settings = _quietly(config)
    from service.app import check

    check(settings)
    _say(
        f"The configuration is good. Agents: {len(settings.agents)}, webhooks: "
        f"{len(settings.webhooks)}, tasks: {len(settings.tasks)}, "
        f"Telegram: {'on' if settings.telegram else 'off'}."
    )


@app.command()
def migrate(config: Config = None) -> None:
    """Bring the database to this release's schema."""
    settings = _quietly(config)
    revision = _run(_migrate(settings.database.url))
    _say(f"The schema is at {revision}.")


@app.command()
def chat(
    config: Config = None,
    agent: Agent = None,
    session: Key = "terminal",
    url: Url = None,
    api_token: Token = None,
) -> None:
    """Talk to an agent in the terminal."""
    from service.terminal import Terminal

    work = _call(config, url, api_token, lambda client: Terminal(client).chat(session, agent))
    raise typer.Exit(work)


@app.command()
def send(
    text: Annotated[str, typer.Argument(help="What to say; - reads it from the input.")],
    config: Config = None,
    agent: Agent = None,
    session: Key = "terminal",
    wait: Annotated[bool, typer.Option(help="Show the answer; else only the turn's id.")] = True,
    as_json: AsJson = False,
    url: Url = None,
    api_token: Token = None,
) -> None:
    """Send one message and show the answer; exit code 1 when it failed."""
    from service.terminal import Terminal

    words = sys.stdin.buffer.read().decode("utf-8", "replace") if text == "-" else text
    code = _call(
        config,
        url,
        api_token,
        lambda client: Terminal(client).send(
            words, key=session, agent=agent, wait=wait, as_json=as_json
        ),
        again=True,
    )
    raise typer.Exit(code)


@app.command()
def sessions(
    config: Config = None, as_json: AsJson = False, url: Url = None, api_token: Token = None
) -> None:
    """List sessions, the most recently active first."""
    found = _call(config, url, api_token, lambda client: client.get("/api/sessions"))
    _table(
        found["sessions"],
        ("session", "agent", "origin", "active_at", "title"),
        as_json=as_json,
        empty="There are no sessions yet.",
    )


@tasks.command("list")
def list_tasks(
    config: Config = None, as_json: AsJson = False, url: Url = None, api_token: Token = None
) -> None:
    """List tasks with their next instants."""
    found = _call(config, url, api_token, lambda client: client.get("/api/tasks"))
    _table(
        found["tasks"],
        ("task", "cron", "timezone", "agent", "enabled", "next_at"),
        as_json=as_json,
        empty="The configuration has no tasks.",
    )


@tasks.command("run")
def run_task(name: str, config: Config = None, url: Url = None, api_token: Token = None) -> None:
    """Run a task now and show the answer; exit code 1 when it failed."""
    from service.terminal import Terminal

    code = _call(config, url, api_token, lambda client: Terminal(client).run_task(name))
    raise typer.Exit(code)


@token.command("create")
def create_token(name: str, config: Config = None) -> None:
    """Make a token for the API; it is shown once."""
    from datetime import UTC, datetime

    from service.store import tokens, users

    made = partial(tokens.issue, name=users.check_name(name), at=datetime.now(UTC))
    _say(_run(_on_database(_quietly(config), made)))


@token.command("list")
def list_tokens(config: Config = None) -> None:
    """List the names of the tokens."""
    from service.store import tokens

    for name, made in _run(_on_database(_quietly(config), tokens.names)):
        _say(f"{name}  {made:%Y-%m-%d %H:%M} UTC")


@token.command("revoke")
def revoke_token(name: str, config: Config = None) -> None:
    """Make every token of this name useless."""
    from service.store import tokens

    gone = _run(_on_database(_quietly(config), partial(tokens.revoke, name=name)))
    if not gone:
        _fail([f"there is no token {name!r}; see: ringback token list"], code=1)
    _say(f"Revoked {gone}.")


@user.command("add")
def add_user(
    name: str,
    role: Role = "operator",
    config: Config = None,
) -> None:
    """Let somebody sign in; the password is asked for, or read from the input."""
    from datetime import UTC, datetime

    from service.core.access import UserRole
    from service.store import users

    stored = users.hashed(_password(users.check_name(name)))
    given, now = UserRole(role), datetime.now(UTC)
    made = partial(users.add, name=name, password=stored, role=given, at=now)
    if not _run(_on_database(_quietly(config), made)):
        _fail([f"there is a user {name!r} already; see: ringback user password"], code=1)
    _say(f"{name} may sign in as {role}.")


@user.command("list")
def list_users(config: Config = None) -> None:
    """List who may sign in, and their roles."""
    from service.store import users

    for one in _run(_on_database(_quietly(config), users.everybody)):
        _say(f"{one.name}  {one.role}  {one.created_at:%Y-%m-%d %H:%M} UTC")


@user.command("password")
def change_password(name: str, config: Config = None) -> None:
    """Give somebody another password; who is signed in with the old one is signed out."""
    from service.store import users

    stored = users.hashed(_password(users.check_name(name)))
    changed = partial(users.change_password, name=name, password=stored)
    if not _run(_on_database(_quietly(config), changed)):
        _no_user(name)
    _say(f"{name} has another password.")


@user.command("remove")
def remove_user(name: str, config: Config = None) -> None:
    """Let somebody sign in no more, and sign them out."""
    from service.store import users

    if not _run(_on_database(_quietly(config), partial(users.remove, name=name))):
        _no_user(name)
    _say(f"Removed {name}.")


# -- shared -----------------------------------------------------------------------------------


def _password(name: str) -> str:
    """The password that is typed twice, or the first line of the input. Raises BadInput."""
    from service.store import users

    if sys.stdin.isatty():
        return users.check_password(
            typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True)
        )
    line = sys.stdin.buffer.readline().decode("utf-8", "replace")
    return users.check_password(line.rstrip("\r\n"))


def _no_user(name: str) -> None:
    _fail([f"there is no user {name!r}; see: ringback user list"], code=1)


def _settings(path: Path | None) -> Settings:
    from service.config import load

    default = Path("ringback.toml")
    file = path or (default if default.exists() else None)
    settings = load(file)
    if file is not None and any(agent.python for agent in settings.agents.values()):
        # Agents written in Python are looked for beside the configuration that names them.
        sys.path.append(str(file.resolve().parent))
    return settings


def _quietly(path: Path | None) -> Settings:
    """The configuration for a command whose output is the answer: only errors are logged."""
    from service.config import Log
    from service.log import setup

    settings = _settings(path)
    setup(Log(level="error"), settings.secrets())
    return settings


def _call(
    config: Path | None,
    url: str | None,
    api_token: str | None,
    work: Callable[[Client], Coroutine[Any, Any, Any]],
    *,
    again: bool = False,
) -> Any:
    """Do something at the service; with `again` anew should it stop before it took anything."""
    tries = _TRIES if again and url is None else 1
    return _run(_connected(_settings(config), url, api_token, work, tries))


async def _connected(
    settings: Settings,
    url: str | None,
    api_token: str | None,
    work: Callable[[Client], Coroutine[Any, Any, Any]],
    tries: int,
) -> Any:
    import uuid

    from service.client import ServiceLeft, connect

    key = str(uuid.uuid4())
    while True:
        try:
            async with connect(settings, url=url, token=api_token, key=key) as client:
                return await work(client)
        except ServiceLeft:
            tries -= 1
            if not tries:
                raise
        # It was that of another command, which is over.
        await asyncio.sleep(_PAUSE_SECONDS)


async def _migrate(url: str) -> str:
    from service.store import schema
    from service.store.database import Database

    database = Database(url)
    await database.open()
    try:
        return await schema.migrate(database)
    finally:
        await database.close()


async def _on_database(settings: Settings, work: Callable[[Connection], T]) -> T:
    """Do one small thing; a SQLite file in use is shared by its write-ahead log."""
    from service.store.database import Database

    await _ensure_schema(settings.database.url)
    database = Database(settings.database.url)
    await database.open(shared=True)
    try:
        return await database.write(work)
    finally:
        await database.close()


async def _ensure_schema(url: str) -> None:
    from service.errors import DatabaseBusy

    try:
        await _migrate(url)
    except DatabaseBusy:
        # The service that holds the file has migrated it.
        return


def _run(work: Coroutine[Any, Any, Any], *, fast: bool = False) -> Any:
    if not fast:
        return asyncio.run(work)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _table(
    rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool, empty: str
) -> None:
    if as_json:
        import json

        _say(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not rows:
        _say(empty)
        return
    from service.terminal import printable

    cells = [
        list(columns),
        *([printable(str(row[name] or "")) for name in columns] for row in rows),
    ]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        _say("  ".join(padded).rstrip())


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _fail(problems: list[str], *, code: int) -> None:
    for problem in problems:
        sys.stderr.write(f"ringback: {problem}\n")
    raise SystemExit(code)


def main() -> None:
    """Run a command; expected errors end in one line each, without a traceback."""
    _open_streams()
    try:
        try:
            _command()
        finally:
            # What is still to be written when the interpreter ends, nobody can tell about.
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads the output has enough of it.
        os._exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stderr.write(f"ringback: the output cannot be written: {error.strerror}\n")
        os._exit(1)


def _open_streams() -> None:
    """See to it that there are three streams, and that the output takes every character."""
    # A closed one would be None, and its number the next file's that is opened.
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # An answer may hold what this terminal's encoding does not.
            stream.reconfigure(errors="replace")


def _nowhere(mode: Literal["r", "w"]) -> TextIO:
    return Path(os.devnull).open(mode, encoding="utf-8")


def _command() -> None:
    """Run what the command line says. Raises SystemExit with the exit code."""
    from service.errors import ConfigError, RingbackError

    try:
        app(prog_name="ringback")
    except ConfigError as error:
        _fail(list(error.problems), code=2)
    except RingbackError as error:
        _fail([str(error)], code=1)
    except KeyboardInterrupt:
        _fail(["interrupted"], code=130)


if __name__ == "__main__":
    main()
