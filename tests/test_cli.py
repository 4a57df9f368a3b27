"""The `ringback` command, in processes of its own: what it says, where, and its exit codes."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.client import lock_of
from service.store import control
from service.store.database import Database

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0
NO_FILE = f"{os.strerror(errno.ENOENT)}\n"
NO_TOKEN = "ringback: Unauthorized: send an operator's token: Authorization: Bearer …"
AGENTS = "".join(
    f'[agents.{name}]\nprovider = "offline"\nmodel = "echo"\ntools = ["prompt_user"]\n'
    for name in ("assistant", "coder")
)
TASK = '[tasks.morning]\ncron = "0 8 * * *"\nagent = "assistant"\nprompt = "Good morning"\n'
TURN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\n")


@dataclass(frozen=True)
class Outcome:
    """What became of one command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Folder:
    """A folder to run commands in, with or without a `ringback.toml`."""

    path: Path

    def configure(self, text: str) -> Path:
        """Write the file that is taken by default."""
        file = self.path / "ringback.toml"
        file.write_text(text, "utf-8")
        return file

    def run(
        self, *arguments: str, given: bytes = b"", environ: Mapping[str, str] | None = None
    ) -> Outcome:
        """Run one command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=self.path,
            env=_environ(environ),
            input=given,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    @property
    def lock(self) -> Path:
        """Where the process that holds the database says how it is reached."""
        return self.path / "ringback.db.lock"


def _environ(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    left_out = ("RINGBACK_", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **(extra or {})}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty folder."""
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A folder in which a service runs."""
    folder = Folder(tmp_path_factory.mktemp("served"))
    folder.configure(f"[server]\nport = 0\n{AGENTS}{TASK}")
    with (folder.path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve"],
            cwd=folder.path,
            env=_environ(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while control.find(folder.lock) is None:
            assert process.poll() is None, (folder.path / "log").read_text()
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.02)
        yield folder
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


# -- help and versions ----------------------------------------------------------------------------


def _cpu_seconds(*arguments: str) -> float:
    """The least processor time that a process took in three runs."""
    return min(_cpu_seconds_once(arguments) for _ in range(3))


def _cpu_seconds_once(arguments: Sequence[str]) -> float:
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=_environ(), stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_help_answers_at_once() -> None:
    """It costs little more than the library that prints it: 0.3 s of CPU, or three times that."""
    bare = _cpu_seconds("-c", "import typer")

    assert _cpu_seconds("-m", "service", "--help") < max(0.3, 3 * bare)


def test_help_imports_nothing_heavy() -> None:
    """Whatever the machine: no library of the service is loaded to print a page of text."""
    script = (
        "import sys; from service.__main__ import main; sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "except SystemExit: print('HEAVY', sorted({'aiohttp', 'sqlalchemy', 'pydantic', "
        "'structlog', 'telegram', 'alembic', 'pydantic_ai', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=_environ(), capture_output=True, check=True
    )

    assert done.stdout.decode().splitlines()[-1] == "HEAVY []"


def test_help_names_every_command(folder: Folder) -> None:
    """A newcomer sees what there is."""
    said = folder.run("--help").out

    commands = ["serve", "demo", "sample", "check-config", "migrate", "chat", "send"]
    commands += ["sessions", "tasks", "token", "user"]
    assert [one for one in commands if not re.search(rf"^  {one} +\S", said, re.MULTILINE)] == []


def test_the_version_is_one_line(folder: Folder) -> None:
    """Scripts and bug reports need nothing else, also where nothing was installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert folder.run("--version") == Outcome(0, f"{project['version']}\n", "")


def test_a_misspelt_command_is_a_usage_error(folder: Folder) -> None:
    """Exit code 2, and the help is named."""
    said = folder.run("serv")

    assert (said.code, said.out, "--help" in said.err) == (2, "", True)


# -- the standard streams -------------------------------------------------------------------------


def _redirected(folder: Folder, command: str) -> Outcome:
    """Run a command as the shell is told to, with its output in blocks like in a pipe."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m service {command}', sys.executable],
        cwd=folder.path,
        env=_environ({"PYTHONUNBUFFERED": ""}),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("command", ["--help", "check-config"])
def test_who_has_enough_of_the_output_sees_no_traceback(folder: Folder, command: str) -> None:
    """`| head -1` ends a command in silence, also when it had said all."""
    said = _redirected(folder, f"{command} 2>said | :; cat said >&2")

    assert (said.code, said.err) == (0, "")


@pytest.mark.parametrize("command", ["--help", "check-config", "send Hello"])
def test_an_output_that_is_full_is_one_line(folder: Folder, command: str) -> None:
    """It names what is wrong; exit code 1."""
    said = _redirected(folder, f"{command} >/dev/full")

    reason = os.strerror(errno.ENOSPC)
    assert said == Outcome(1, "", f"ringback: the output cannot be written: {reason}\n")


@pytest.mark.parametrize("command", ["chat <&-", "send Hello <&-", "send Hello >&-"])
def test_streams_that_are_closed_are_empty(folder: Folder, command: str) -> None:
    """As when a program that needs none of them starts a command."""
    said = _redirected(folder, command)

    assert (said.code, said.err) == (0, "")


# -- configuration --------------------------------------------------------------------------------


def test_without_a_file_the_defaults_are_good(folder: Folder) -> None:
    """Nothing has to be set up, and looking makes nothing."""
    said = folder.run("check-config")

    assert (said.code, said.err) == (0, "")
    assert "Agents: 1, webhooks: 0, tasks: 0, Telegram: off." in said.out
    assert list(folder.path.iterdir()) == []


def test_every_problem_of_a_file_is_listed(folder: Folder) -> None:
    """One line each, with its place in the file; exit code 2 and no traceback."""
    folder.configure(
        "[server]\nprot = 1\n[agents.assistant]\nprovider = 'nowhere'\nmodel = 'x'\n"
        "[tasks.morning]\ncron = 'never'\nagent = 'assistant'\nprompt = 'hi'\n"
    )

    said = folder.run("check-config")

    lines = said.err.splitlines()
    assert (said.code, said.out) == (2, "")
    assert all(line.startswith("ringback: ") for line in lines), lines
    for place in ("server.prot", "tasks.morning"):
        assert any(place in line for line in lines), lines


def test_an_agent_in_python_is_found_beside_its_configuration(folder: Folder) -> None:
    """Wherever the command is run; one that cannot be loaded is a problem with its place."""
    place = folder.path / "etc"
    place.mkdir()
    (place / "my_agents.py").write_text(
        "from service.agents.definition import Agent\nnotes = Agent('notes')\n", "utf-8"
    )
    section = '[agents.notes]\nprovider = "offline"\nmodel = "echo"\npython = "my_agents:{}"\n'
    (place / "good.toml").write_text(section.format("notes"), "utf-8")
    (place / "bad.toml").write_text(section.format("nodes"), "utf-8")

    good = folder.run("check-config", "--config", "etc/good.toml")
    bad = folder.run("check-config", "--config", "etc/bad.toml")

    assert (good.code, good.err) == (0, "")
    assert bad.code == 2
    assert bad.err.startswith("ringback: agents.notes.python: ")
    assert "nodes" in bad.err


@pytest.mark.parametrize("command", ["serve", "sessions"])
def test_a_file_that_is_not_there_is_a_problem_of_the_configuration(
    folder: Folder, command: str
) -> None:
    """Exit code 2, whatever was to be done with it."""
    said = folder.run(command, "--config", "nowhere.toml")

    assert (said.code, said.out) == (2, "")
    assert said.err == "ringback: nowhere.toml: cannot be read: " + NO_FILE


def test_the_file_may_be_named_by_the_environment(folder: Folder) -> None:
    """RINGBACK_CONFIG is what --config would say."""
    said = folder.run("check-config", environ={"RINGBACK_CONFIG": "other.toml"})

    assert (said.code, said.err) == (2, "ringback: other.toml: cannot be read: " + NO_FILE)


# -- the database ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "problem"), [("there", "exists already"), ("no/there", "cannot be written")]
)
def test_a_sample_that_cannot_be_written_is_a_usage_error(
    folder: Folder, file: str, problem: str
) -> None:
    """What is there stays; exit code 2, and no traceback."""
    (folder.path / "there").touch()

    said = folder.run("sample", file)

    assert (said.code, said.out, (folder.path / "there").stat().st_size) == (2, "", 0)
    assert f"{file} {problem}" in said.err
    assert "Traceback" not in said.err


def test_migrate_makes_the_schema_and_says_so(folder: Folder) -> None:
    """A second time there is nothing to do."""
    first, again = folder.run("migrate"), folder.run("migrate")

    assert (first.code, first.err) == (0, "")
    assert first == again
    assert (folder.path / "ringback.db").exists()


def test_migrate_leaves_a_file_in_use_alone(served: Folder) -> None:
    """The process that holds it is to be stopped first."""
    said = served.run("migrate")

    assert (said.code, said.out) == (1, "")
    assert re.fullmatch(r"ringback: .* is in use by another Ringback process; .*\n", said.err)


def test_a_token_is_all_that_is_printed(folder: Folder) -> None:
    """`TOKEN=$(ringback token create ci)` works, also on a database that is not there yet."""
    made, listed = folder.run("token", "create", "ci"), folder.run("token", "list")

    assert (made.code, made.err, listed.err) == (0, "", "")
    assert re.fullmatch(r"rba_[\w-]{40,}\n", made.out)
    assert re.fullmatch(r"ci  \d{4}-\d\d-\d\d \d\d:\d\d UTC\n", listed.out)


@pytest.mark.parametrize("name", ["", "a\nb", "telegram:11111111", "operator"])
def test_a_token_is_called_like_a_person(folder: Folder, name: str) -> None:
    """What is done with it is written down under that name: neither none nor another's."""
    said = folder.run("token", "create", name)

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"ringback: NAME: {name!r} cannot be used; take up to 64 of a-z")


def test_a_person_is_added_with_a_password_from_the_input(folder: Folder) -> None:
    """It is neither shown nor stored as it is; the second of a name is refused."""
    added = folder.run("user", "add", "ann", "--role", "viewer", given=b"correct horse\n")
    again = folder.run("user", "add", "ann", given=b"another password\n")
    listed = folder.run("user", "list")

    assert (added.code, added.out, added.err) == (0, "ann may sign in as viewer.\n", "")
    assert (again.code, again.out) == (1, "")
    assert "there is a user 'ann' already" in again.err
    assert re.fullmatch(r"ann  viewer  \d{4}-\d\d-\d\d \d\d:\d\d UTC\n", listed.out)
    assert b"correct horse" not in (folder.path / "ringback.db").read_bytes()


def test_a_person_is_removed(folder: Folder) -> None:
    """Then there is nobody of that name."""
    folder.run("user", "add", "ann", given=b"correct horse\n")

    changed = folder.run("user", "password", "ann", given=b"another password\n")
    removed = folder.run("user", "remove", "ann")
    missing = [
        folder.run("user", "remove", "ann"),
        folder.run("user", "password", "ann", given=b"another password\n"),
    ]

    assert (changed.out, removed.out) == ("ann has another password.\n", "Removed ann.\n")
    assert [one.code for one in missing] == [1, 1]
    nobody = "ringback: there is no user 'ann'; see: ringback user list\n"
    assert [one.err for one in missing] == [nobody] * 2


@pytest.mark.parametrize(
    ("name", "password", "problem"),
    [
        ("ann", b"short\n", "the password needs 8 to 1024 characters"),
        ("ann", b"", "the password needs 8 to 1024 characters"),
        ("Ann", b"correct horse\n", "NAME: 'Ann' cannot be used"),
        ("a b", b"correct horse\n", "NAME: 'a b' cannot be used"),
        ("operator", b"correct horse\n", "NAME: 'operator' cannot be used"),
    ],
)
def test_a_person_that_cannot_be_added(
    folder: Folder, name: str, password: bytes, problem: str
) -> None:
    """The reason says what to give; nothing is stored."""
    said = folder.run("user", "add", name, given=password)

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"ringback: {problem}")
    assert not (folder.path / "ringback.db").exists()


# -- without a service ----------------------------------------------------------------------------


def test_send_answers_without_a_service(folder: Folder) -> None:
    """The answer goes to the output and nothing else does; the next command goes on from there."""
    first = folder.run("send", "-", given="Grüße 😀".encode() + b"\xff")
    second = folder.run("send", "two", "--json")

    assert (first.code, first.err) == (0, "")
    assert "> Grüße 😀\ufffd" in first.out
    assert first.out.endswith("\n")
    assert json.loads(second.out)["state"] == "succeeded"
    assert "You wrote once before." in json.loads(second.out)["text"]


def test_commands_at_the_same_moment_take_turns(folder: Folder) -> None:
    """One of them holds the file; the other reaches it or waits."""
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(folder.run, ("send", "send"), ("one", "two")))

    assert [(one.code, one.err) for one in said] == [(0, "")] * 2


# -- with a service -------------------------------------------------------------------------------


def test_a_command_finds_the_service_that_runs_here(served: Folder) -> None:
    """The file that it holds says where it is; what strangers wrote cannot steer the terminal."""
    sent = served.run("send", "-", "--session", "found", given="\x1b]0;owned\x07 \u202eb".encode())
    listed = served.run("sessions")

    assert (sent.code, sent.err, listed.code) == (0, "", 0)
    assert "> \ufffd]0;owned\ufffd \ufffdb" in sent.out
    assert re.search(r"^[0-9a-f-]{36}  assistant  console .*owned", listed.out, re.MULTILINE)
    assert not {"\x1b", "\x07", "\u202e"} & set(sent.out + listed.out)


def test_the_file_is_found_where_the_database_puts_it() -> None:
    """Both sides agree on its name."""
    urls = ["ringback.db", "/var/lib/ringback.db", "a%20b.db", "data/x.db?timeout=5"]
    urls = [f"sqlite+aiosqlite:///{url}" for url in urls]

    assert [lock_of(url) for url in urls] == [Database(url).lock_path for url in urls]


def test_who_does_not_wait_gets_the_id_of_the_turn(served: Folder) -> None:
    """Only that: the turn is stored, and answered without anybody looking."""
    said = served.run("send", "hello", "--no-wait", "--session", "ids")

    assert (said.code, said.err) == (0, "")
    assert TURN.fullmatch(said.out)


def test_a_failed_turn_is_told_without_a_traceback(served: Folder) -> None:
    """The reason goes to the errors, the exit code is 1."""
    said = served.run("send", "fail refused", "--session", "fail")

    assert (said.code, said.out) == (1, "")
    assert said.err == "[failed: The offline provider refused, as you asked.]\n"


def test_a_session_is_bound_to_its_agent(served: Folder) -> None:
    """Another agent is not put in its place in silence."""
    served.run("send", "hi", "--agent", "coder", "--session", "agents")

    said = served.run("send", "hi", "--agent", "assistant", "--session", "agents")

    assert (said.code, said.out) == (1, "")
    assert "'agents' is bound to the agent 'coder' for good" in said.err


def test_a_token_lets_in_from_anywhere(served: Folder, folder: Folder) -> None:
    """Made beside the running service, it works at once, until it is revoked."""
    environ = {
        "RINGBACK_URL": _url(served),
        "RINGBACK_TOKEN": served.run("token", "create", "far").out.strip(),
    }

    before = folder.run("tasks", "list", environ=environ)
    revoked = served.run("token", "revoke", "far")
    after = folder.run("tasks", "list", environ=environ)
    again = served.run("token", "revoke", "far")

    assert re.search(r"^morning  0 8 \* \* \*  UTC +assistant  True", before.out, re.MULTILINE)
    assert revoked.out == "Revoked 1.\n"
    assert (after.code, after.err.partition(";")[0]) == (1, NO_TOKEN)
    assert again.err == "ringback: there is no token 'far'; see: ringback token list\n"


def test_a_person_signs_in_at_a_running_service(served: Folder) -> None:
    """Added beside it, it is known at once; removed, its sign-in is over."""
    served.run("user", "add", "ann", given=b"correct horse\n")
    form = urlencode({"name": "ann", "password": "correct horse"})
    own = {"Origin": _url(served), "Content-Type": "application/x-www-form-urlencoded"}

    with closing(HTTPConnection(urlsplit(_url(served)).netloc, timeout=PATIENCE)) as browser:
        browser.request("POST", "/signin", form, own)
        signed_in = browser.getresponse()
        signed_in.read()
        cookie = {"Cookie": signed_in.headers["Set-Cookie"].partition(";")[0]}
        browser.request("GET", "/api/me", headers=cookie)
        me = json.load(browser.getresponse())
        served.run("user", "remove", "ann")
        browser.request("GET", "/api/me", headers=cookie)
        refused = browser.getresponse()
        refused.read()

    assert (signed_in.status, refused.status) == (303, 401)
    assert (me["name"], me["role"]) == ("ann", "operator")


def test_a_task_is_run_and_its_answer_shown(served: Folder) -> None:
    """Whatever its schedule says."""
    said = served.run("tasks", "run", "morning")

    assert (said.code, said.err) == (0, "")
    assert "> Good morning" in said.out


def test_a_task_nobody_configured_is_named(served: Folder) -> None:
    """What is typed is a name, never a part of an address."""
    said = served.run("tasks", "run", "../a/b?c#d")

    assert (said.code, said.out) == (1, "")
    assert said.err == "ringback: Not found: there is no task '../a/b?c#d'\n"


def test_a_question_is_answered_in_the_chat(served: Folder) -> None:
    """The next line is the answer, and the reply goes on."""
    said = served.run("chat", "--session", "asked", given=b"ask me, choose A or B\nB\n")

    assert said.code == 0
    assert "  - A\n  - B" in said.err
    assert "The tool says **B**." in said.out


def test_send_leaves_a_question_for_the_next_message(served: Folder) -> None:
    """It says so with a code of its own; the answer is just another message, also much later."""
    asked = served.run("send", "ask me, choose A or B", "--session", "left")
    asked_again = served.run("send", "A", "--session", "left")

    assert asked.code == 3
    assert "What you send next is the answer." in asked.err
    assert asked_again.code == 0
    assert "The tool says **A**." in asked_again.out


def test_a_long_message_comes_back_whole(served: Folder) -> None:
    """One event may be longer than any buffer."""
    words = "x" * 199_000

    said = served.run("send", "-", "--session", "long", given=words.encode())

    assert (said.code, said.err, words in said.out) == (0, "", True)


def test_chat_reads_lines_from_a_pipe(served: Folder) -> None:
    """Each line is a message; the last one needs no end."""
    said = served.run("chat", "--session", "pipe", given=b"one\n\n   \ntwo")

    assert (said.code, said.err) == (0, "")
    assert ("> one" in said.out, "> two" in said.out) == (True, True)
    assert "You wrote once before." in said.out


@pytest.mark.parametrize("url", ["ftp://x", "http://[::1", "http://a:99999", "http://a/api", ""])
def test_an_address_that_is_none_is_one_line(folder: Folder, url: str) -> None:
    """It shows how one is written."""
    said = folder.run("sessions", "--url", url)

    wanted = "--url: write an address such as http://127.0.0.1:8080, and nothing behind it"
    assert said == Outcome(1, "", f"ringback: {wanted}\n")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("127.0.0.1:8080", "--url"),
        ("http://127.0.0.1:1", f"cannot be reached: {os.strerror(errno.ECONNREFUSED)}\n"),
    ],
)
def test_a_service_that_cannot_be_reached_is_one_line(folder: Folder, url: str, word: str) -> None:
    """No traceback, exit code 1, and no database is made instead."""
    said = folder.run("sessions", "--url", url)

    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert word in said.err
    assert list(folder.path.iterdir()) == []


async def test_a_lost_answer_is_told_on_a_line_of_its_own(folder: Folder) -> None:
    """Not behind the words that came before, which nobody ended."""
    server = TestServer(_losing_its_answer())
    async with server:
        url = str(server.make_url("")).rstrip("/")
        said = await asyncio.to_thread(folder.run, "send", "Hello", "--url", url)

    assert said == Outcome(1, "You said\n", "ringback: Not found: there is no such turn\n")


def _losing_its_answer() -> web.Application:
    """A service that breaks off in mid-answer, and afterwards knows nothing of it."""
    app = web.Application()
    app.router.add_post("/api/sessions", _its_session)
    app.router.add_post("/api/sessions/s/messages", _its_turn)
    app.router.add_get("/api/sessions/s/events", _its_events)
    return app


async def _its_session(_: web.Request) -> web.Response:
    return web.json_response({"session": "s", "agent": "assistant"})


async def _its_turn(_: web.Request) -> web.Response:
    return web.json_response({"session": "s", "turn": "t", "number": 1})


async def _its_events(request: web.Request) -> web.Response:
    if request.query["after"] == "0":
        return web.Response(text='id: 1\nevent: text\ndata: {"text": "You said"}\n\n')
    gone = {"title": "Not found", "detail": "there is no such turn"}
    return web.json_response(gone, status=404)


def test_with_postgresql_a_token_is_needed(folder: Folder) -> None:
    """The service may run anywhere: the options that say where are named."""
    folder.configure('[database]\nurl = "postgresql+asyncpg://nobody@127.0.0.1:1/none"\n')

    said = folder.run("sessions")

    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert [word in said.err for word in ("--token", "--url", "RINGBACK_TOKEN")] == [True] * 3


# -- at the keyboard ------------------------------------------------------------------------------


class Keyboard:
    """Somebody at a terminal, who waits for words before doing the next thing."""

    def __init__(self, folder: Folder, *arguments: str) -> None:
        self._screen, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service", *arguments],
            cwd=folder.path,
            env=_environ({"TERM": "dumb"}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""
        self._unread = ""

    def __enter__(self) -> Keyboard:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def until(self, words: str) -> None:
        """Wait until these words come after those waited for before."""
        deadline = time.monotonic() + PATIENCE
        while words not in self._unread:
            assert time.monotonic() < deadline, f"{words!r} did not come: {self.seen}"
            if select.select([self._screen], [], [], 0.1)[0]:
                new = os.read(self._screen, 4096).decode("utf-8", "replace")
                self._unread += new
                self.seen += new
        self._unread = self._unread.partition(words)[2]

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._screen, line.encode() + b"\n")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def over(self) -> int:
        """Wait for the end; return the exit code."""
        return self._process.wait(PATIENCE)


def test_a_password_is_typed_twice_and_not_shown(folder: Folder) -> None:
    """A slip of the finger locks nobody out, and nobody reads along."""
    with Keyboard(folder, "user", "add", "ann") as keyboard:
        keyboard.until("Password of ann: ")
        keyboard.type("correct horse")
        keyboard.until("Repeat for confirmation: ")
        keyboard.type("correct horse")
        keyboard.until("ann may sign in as operator.")

        assert keyboard.over() == 0
    assert "correct" not in keyboard.seen


def test_ctrl_c_stops_the_answer_and_then_leaves(served: Folder) -> None:
    """The first one keeps the conversation, the one at the prompt ends it."""
    with Keyboard(served, "chat", "--session", "stop") as keyboard:
        keyboard.until("> ")
        keyboard.type("slowly for 20 s")
        keyboard.until("You said")
        keyboard.interrupt()
        keyboard.until("[stopped]")
        keyboard.until("> ")
        keyboard.interrupt()

        assert keyboard.over() == 130
    assert "Traceback" not in keyboard.seen


def test_ctrl_c_stops_what_send_waits_for(served: Folder) -> None:
    """The turn itself is stopped, not only the looking at it; that is no success."""
    with Keyboard(served, "send", "slowly for 20 s", "--session", "stop-send") as keyboard:
        keyboard.until("You said")
        keyboard.interrupt()
        keyboard.until("[stopped]")

        assert keyboard.over() == 1
    assert "Traceback" not in keyboard.seen


def test_the_end_of_the_input_ends_the_chat(served: Folder) -> None:
    """Ctrl-D at the prompt is a way to say goodbye."""
    with Keyboard(served, "chat", "--session", "end") as keyboard:
        keyboard.until("> ")
        keyboard.type("\x04")

        assert keyboard.over() == 0


def _url(served: Folder) -> str:
    running = control.find(served.lock)
    assert running is not None
    return running.url
