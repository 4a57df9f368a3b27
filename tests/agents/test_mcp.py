"""MCP servers: their tools work, and nothing that a server does harms the service."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shlex
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from aiohttp import web
from structlog.testing import capture_logs

from service.agents.mcp import McpServers
from service.agents.mcp.naming import offered_name
from service.config import Mcp, Secret
from service.errors import ConfigError
from service.ports import ToolCall, ToolResult, ToolSpec
from tests import mcp_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

_CHILD = (sys.executable, str(Path(mcp_server.__file__)))
_SECRET = "s3cret-of-the-server"
_PATIENCE = 60.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncGenerator[McpServers]:
    """A server that behaves, one that does not, and one that does not exist."""
    settings = {
        "good": Mcp(
            command=(*_CHILD, "sdk"),
            env={"TOKEN": Secret(_SECRET)},
            approval=frozenset({"refuse"}),
            idempotent=frozenset({"echo"}),
            inside=frozenset({"echo"}),
            timeout=timedelta(seconds=2),
        ),
        "raw": Mcp(command=(*_CHILD, "raw"), timeout=timedelta(seconds=60)),
        "absent": Mcp(command=("no-such-command-anywhere",)),
    }
    async with _opened(settings, absent={"absent"}) as servers:
        yield servers


# -- what works ---------------------------------------------------------------------------------


async def test_a_tool_of_a_child_process_answers(shared: McpServers) -> None:
    """With its words, and with the structured content as data."""
    result = await _call(shared, "good_echo", words="hi", times=2)

    assert result == ToolResult("1", "good_echo", "hi hi", data={"said": "hi hi"})


async def test_what_a_tool_may_do_is_told_by_the_settings(shared: McpServers) -> None:
    """The hints of the server, which calls all of its tools harmless, are not believed."""
    specs = _specs(shared, "good")

    assert _told(specs["good_echo"]) == (False, False, True)
    assert _told(specs["good_refuse"]) == (True, True, False)
    assert _told(specs["good_look"]) == (True, False, False)
    assert specs["good_look"].timeout == timedelta(seconds=2)
    assert specs["good_look"].description == "Show a picture."


async def test_a_picture_is_told_of_but_not_passed_on(shared: McpServers) -> None:
    """The words around it stay."""
    result = await _call(shared, "good_look")

    assert result.text == "A picture:\n[image, 5 bytes, left out]"


async def test_a_failure_that_the_tool_tells_is_a_failed_result(shared: McpServers) -> None:
    """In the tool's own words."""
    result = await _call(shared, "good_refuse")

    assert result == ToolResult("1", "good_refuse", "I will not.", failed=True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"words": NaN}', "NaN is no JSON number"),
        ("{}", "'words' is a required property"),
        ('{"words": "a", "times": 0}', "times: 0 is less than the minimum of 1"),
        ('{"words": "a", "more": 1}', "'more' was unexpected"),
    ],
)
async def test_wrong_arguments_do_not_reach_the_server(
    shared: McpServers, arguments: str, problem: str
) -> None:
    """The model is told what to mend."""
    result = await shared.call(ToolCall("1", "good_echo", arguments))

    assert result.failed
    assert problem in result.text


async def test_text_that_cannot_be_stored_is_mended_on_the_way(shared: McpServers) -> None:
    """Half a surrogate pair and U+0000 reach neither the server nor the database."""
    result = await shared.call(ToolCall("1", "good_echo", '{"words": "a\\u0000b\\ud800"}'))

    assert result.text == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"


async def test_a_child_sees_little_of_the_environment(shared: McpServers) -> None:
    """What it needs to run, and what is configured for it; never the service's own secrets."""
    result = await _call(shared, "good_environment")
    # Python itself sets the last one in a C locale.
    allowed = {"PATH", "HOME", "LANG", "TOKEN", "LC_CTYPE"}
    environment = json.loads(result.text)

    assert "PYTEST_CURRENT_TEST" in os.environ
    assert set(environment) <= allowed
    assert environment["TOKEN"] == _SECRET


async def test_a_call_that_hangs_ends_and_is_taken_back(shared: McpServers) -> None:
    """The server hears of it, and the session with it goes on."""
    before = int((await _call(shared, "good_cancelled")).text)

    result = await _call(shared, "good_hang")
    after = int((await _call(shared, "good_cancelled")).text)

    assert result.failed
    assert result.text == (
        "good_hang did not answer within 2 s; whether it took effect is unknown."
    )
    assert after == before + 1


async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(shared: McpServers) -> None:
    """So that it does not work on for nobody."""
    before = int((await _call(shared, "good_cancelled")).text)
    call = asyncio.create_task(_call(shared, "good_hang"))
    await _call(shared, "good_echo", words="the other call is on its way")

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    after = int((await _call(shared, "good_cancelled")).text)

    assert after == before + 1


async def test_calls_run_at_the_same_time(shared: McpServers) -> None:
    """One that hangs keeps no other from its answer."""
    hanging = asyncio.create_task(_call(shared, "good_hang"))
    results = await asyncio.gather(*(_call(shared, "good_echo", words=str(n)) for n in range(20)))

    assert [result.text for result in results] == [str(n) for n in range(20)]
    assert (await hanging).failed


# -- names --------------------------------------------------------------------------------------


async def test_names_are_mended_and_stay_apart(shared: McpServers) -> None:
    """Two tools whose names look the same once mended are two tools, and each can be called."""
    mended = [name for name in _specs(shared, "good") if name.startswith("good_bad_name_")]

    texts = {(await _call(shared, name)).text for name in mended}

    assert texts == {"bad.name was called", "bad name was called"}


async def test_a_name_says_whose_tool_it_is() -> None:
    """The server, the tool; nothing else when that is clear."""
    assert offered_name("files", "read", {"files", "web"}) == "files_read"


@pytest.mark.parametrize(
    ("server", "tool"), [("a", "x" * 100), ("a", "b_c"), ("a.b", "c"), ("a", "ü"), ("a", "")]
)
async def test_an_unfit_or_ambiguous_name_is_mended_with_a_digest(server: str, tool: str) -> None:
    """It fits every provider and is nobody else's."""
    name = offered_name(server, tool, {"a", "a_b", "a.b"})

    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert len(name) <= 64
    assert name != offered_name("a_b", "c", {"a", "a_b", "a.b"}) == "a_b_c"


async def test_tools_are_owned_also_before_their_server_is_there(shared: McpServers) -> None:
    """A call for a server that never answered says so, instead of that there is no such tool."""
    owned = [shared.owns(name) for name in ("good_echo", "absent_tool", "good_tool", "clock")]
    result = await _call(shared, "absent_tool")

    assert owned == [True, True, False, False]
    assert shared.tools("absent") == ()
    assert shared.tools("unheard-of") == ()
    assert result.failed
    assert result.text == (
        "The tool absent_tool is unavailable just now: its server is being connected to."
    )


# -- what a stranger may send -------------------------------------------------------------------


async def test_an_endless_list_of_tools_is_cut(shared: McpServers) -> None:
    """Every tool of it has a bounded name, description and schema."""
    specs = _specs(shared, "raw")

    assert 100 < len(specs) <= 128
    assert max(len(name) for name in specs) == 64
    assert max(len(spec.description) for spec in specs.values()) == 1024
    assert max(len(json.dumps(spec.parameters)) for spec in specs.values()) < 64 * 1024


async def test_tools_with_an_unusable_schema_are_left_out(shared: McpServers) -> None:
    """One that is too long, one that is none."""
    left_out = {"raw_huge_schema", "raw_broken_schema"}

    assert not left_out & set(_specs(shared, "raw"))


async def test_a_slow_regular_expression_is_not_run(shared: McpServers) -> None:
    """The schema is a stranger's; the server itself may check it."""
    result = await _call(shared, "raw_slow_pattern", x="a" * 60 + "!")

    assert result.text == "done"


async def test_a_schema_that_multiplies_itself_is_given_up(shared: McpServers) -> None:
    """Also when it declares another draft of JSON Schema than ours."""
    async with asyncio.timeout(_PATIENCE):
        result = await _call(shared, "raw_slow_references", x="a")

    assert result.failed
    assert "takes too long" in result.text


async def test_a_schema_fetches_nothing(shared: McpServers) -> None:
    """A reference out of it is no reason to ask anybody."""
    result = await _call(shared, "raw_far_reference", x="a")

    assert result.failed
    assert "schema cannot be used" in result.text


async def test_a_long_text_is_cut(shared: McpServers) -> None:
    """And says so at its end."""
    result = await _call(shared, "raw_long_text")

    assert len(result.text) == 50_000
    assert result.text.endswith("é\n[cut: the answer had 60000 characters]")


@pytest.mark.parametrize("tool", ["raw_long_data", "raw_nan"])
async def test_data_that_cannot_be_kept_is_left_out(shared: McpServers, tool: str) -> None:
    """Too much of it, or no JSON; the words are there."""
    result = await _call(shared, tool)

    assert not result.failed
    assert result.data is None
    assert result.text.splitlines() == [
        "done",
        "[structured content that is too long or no plain JSON, left out]",
    ]


async def test_noise_around_the_messages_is_ignored(shared: McpServers) -> None:
    """Lines that are no messages, notifications, and words on stderr; some of it is logged."""
    with capture_logs() as logs:
        result = await _call(shared, "raw_noise")

    assert result.text == "done"
    assert {entry["event"] for entry in logs} <= {"mcp.stdout", "mcp.stderr"}
    assert {entry["log_level"] for entry in logs} == {"debug"}
    assert len(logs) <= 100


async def test_an_answer_that_is_none_fails_the_call_alone(shared: McpServers) -> None:
    """As does an error of the protocol, in the server's words."""
    nonsense = await _call(shared, "raw_nonsense")
    error = await _call(shared, "raw_error")

    assert nonsense.failed
    assert nonsense.text == (
        "raw_nonsense failed: the server's answer is not what the protocol asks for"
    )
    assert error.failed
    assert error.text == "raw_error failed: wrong \N{REPLACEMENT CHARACTER} arguments"


async def test_a_server_is_given_nothing_but_signs_of_life(shared: McpServers) -> None:
    """No sampling of our models, no questions to people, no folders."""
    result = await _call(shared, "raw_asks")

    assert json.loads(result.text) == {
        "ping": True,
        "sampling/createMessage": False,
        "elicitation/create": False,
        "roots/list": False,
    }


# -- what goes wrong ----------------------------------------------------------------------------


async def test_a_server_that_dies_comes_back_with_the_tools_it_had(tmp_path: Path) -> None:
    """A tool that is described differently then is another tool: nobody agreed to that one."""
    starts = str(tmp_path / "starts")
    settings = Mcp(command=(*_CHILD, "sdk", starts), timeout=timedelta(seconds=60))
    async with _opened({"s": settings}) as servers:
        before = set(_specs(servers, "s"))
        hanging = asyncio.create_task(_call(servers, "s_hang"))
        await _call(servers, "s_echo", words="the other call is on its way")
        died = await _call(servers, "s_die")
        offered_meanwhile = set(_specs(servers, "s"))
        out = await _call(servers, "s_echo", words="hi")

        with capture_logs() as logs:
            await _until_back(servers, "s_echo", words="hi")
        changed = await _call(servers, "s_rug")
        gone = await _call(servers, "s_gone")
        new = await _call(servers, "s_new")

    broke_off = " broke off (the server's process ended); whether it took effect is unknown."
    assert (died.failed, died.text) == (True, "s_die" + broke_off)
    assert (await hanging).text == "s_hang" + broke_off
    assert out.failed
    assert "unavailable just now" in out.text
    assert offered_meanwhile == before
    assert set(_specs(servers, "s")) == before - {"s_rug", "s_gone"}
    assert [log["tool"] for log in logs if log["event"] == "mcp.tool_changed"] == ["s_rug"]
    for result in (changed, gone):
        assert result.failed
        assert "does not offer it any more, or describes it differently" in result.text
    assert (new.failed, new.text) == (True, "There is no tool 's_new'.")


async def test_a_server_that_hangs_or_floods_is_started_again() -> None:
    """The service meanwhile goes on as if nothing was; its memory does not grow."""
    settings = Mcp(command=(*_CHILD, "raw"), timeout=timedelta(seconds=2))
    async with _opened({"a": settings, "b": settings, "c": settings}) as servers:
        memory = _memory()
        ticks = asyncio.create_task(_longest_work())
        flood, freeze, line = await asyncio.gather(
            _call(servers, "a_flood"), _call(servers, "b_freeze"), _call(servers, "c_long_line")
        )
        await _until_back(servers, "a_nan")
        await _until_back(servers, "b_nan")
        await _until_back(servers, "c_nan")
        ticks.cancel()

    assert flood.text.startswith("a_flood did not answer within 2 s")
    assert freeze.text.startswith("b_freeze did not answer within 2 s")
    assert line.text.startswith("c_long_line broke off (the server sent more than 4194304 bytes")
    assert await ticks < 1.0
    assert _memory() - memory < 80_000_000


async def test_a_server_that_appears_later_is_found(tmp_path: Path) -> None:
    """Its absence keeps neither the service nor another server from starting."""
    command = tmp_path / "server"
    began = time.monotonic()
    settings = {"late": Mcp(command=(str(command),))}
    async with _opened(settings, absent=settings) as servers:
        opening = time.monotonic() - began
        absent = servers.tools("late")
        _install(command)
        await _until(lambda: bool(servers.tools("late")))
        result = await _call(servers, "late_nan")

    assert opening < 30
    assert absent == ()
    assert not result.failed


async def test_only_the_tools_that_are_asked_for_are_offered() -> None:
    """A name that the server does not know is told of: it may be mistyped."""
    settings = Mcp(
        command=(*_CHILD, "raw"), tools=frozenset({"nan", "t2_7"}), approval=frozenset({"nam"})
    )
    with capture_logs() as logs:
        async with _opened({"s": settings}) as servers:
            names = set(_specs(servers, "s"))
            other = await _call(servers, "s_noise")

    unknown = [log["tools"] for log in logs if log["event"] == "mcp.no_such_tools"]
    assert names == {"s_nan", "s_t2_7"}
    assert other.failed
    assert unknown == [["nam"]]


async def test_closing_leaves_no_process_and_no_call() -> None:
    """Not a server that ignores that it should end, none that it started; a call just fails."""
    settings = Mcp(command=(*_CHILD, "raw"), timeout=timedelta(seconds=60))
    async with _opened({"s": settings}) as servers:
        pids = (await _call(servers, "s_processes")).data["pids"]
        running = [_is_alive(pid) for pid in pids]
        call = asyncio.create_task(_call(servers, "s_freeze"))
        await asyncio.sleep(0)
        began = time.monotonic()
    closing = time.monotonic() - began
    result = await call

    assert running == [True, True]
    assert closing < 30
    await _until(lambda: not any(_is_alive(pid) for pid in pids))
    assert result.failed
    assert "whether it took effect is unknown" in result.text


# -- over HTTP ----------------------------------------------------------------------------------


async def test_a_server_over_http_is_used_directly_and_with_its_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Never over a proxy that the environment names: that would be given the headers, too."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    app = _Recording(mcp_server.server().streamable_http_app())
    with capture_logs() as logs:
        async with _uvicorn(app) as port, _opened({"web": _web(port)}) as servers:
            result = await _call(servers, "web_echo", words="hi")
            refused = await _call(servers, "web_refuse")

    assert result == ToolResult("1", "web_echo", "hi", data={"said": "hi"})
    assert (refused.failed, refused.text) == (True, "I will not.")
    assert app.tokens == {_SECRET}
    assert _SECRET not in str(logs)


async def test_a_server_over_http_that_restarts_is_found_again() -> None:
    """It forgot the session; the first call tells, and a new session is made."""
    async with _uvicorn(mcp_server.server().streamable_http_app()) as port:
        servers = McpServers({"web": _web(port)})
        await servers.open()
        await _until(lambda: bool(servers.tools("web")))
        first = await _call(servers, "web_echo", words="hi")
    try:
        down = await _call(servers, "web_echo", words="hi")
        async with _uvicorn(mcp_server.server().streamable_http_app(), port):
            await _until_back(servers, "web_echo", words="hi")
    finally:
        await servers.close()

    assert first.text == "hi"
    assert down.failed
    assert down.text == ("web_echo broke off (ConnectError); whether it took effect is unknown.")


async def test_a_call_over_http_that_hangs_ends() -> None:
    """And is taken back at the server."""
    async with (
        _uvicorn(mcp_server.server().streamable_http_app()) as port,
        _opened({"web": _web(port, timedelta(seconds=2))}) as servers,
    ):
        result = await _call(servers, "web_hang")
        await _until_said(servers, "web_cancelled", "1")

    assert result.failed
    assert result.text.startswith("web_hang did not answer within 2 s")


async def test_answers_over_http_are_bounded() -> None:
    """One without an end, one that unpacks to a huge one; another call is not harmed by either."""
    memory = _memory()
    async with (
        _rough() as port,
        _opened({"web": _web(port), "hasty": _web(port, timedelta(seconds=2))}) as servers,
    ):
        ticks = asyncio.create_task(_longest_work())
        flood = await _call(servers, "hasty_flood")
        endless = await _call(servers, "web_endless")
        packed = await _call(servers, "web_packed")
        status = await _call(servers, "web_status")
        fine = [await _call(servers, tool) for tool in ("web_fine", "hasty_fine")]
        ticks.cancel()

    assert [one.failed for one in (flood, endless, packed, status)] == [True] * 4
    assert [one.failed for one in fine] == [False, False]
    assert flood.text.startswith("hasty_flood did not answer within 2 s")
    assert "Failed to parse JSON response: it is longer than 4194304 bytes" in endless.text
    assert "the server sends compressed answers" in packed.text
    assert "web_status broke off (HTTP 500)" in status.text
    assert await ticks < 1.0
    assert _memory() - memory < 80_000_000


# -- the package --------------------------------------------------------------------------------


async def test_without_the_package_a_configured_server_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The text says what to install; without servers nothing is needed."""
    monkeypatch.setitem(sys.modules, "mcp", None)
    McpServers({})

    with pytest.raises(ConfigError) as caught:
        McpServers({"files": Mcp(command=("files",))})

    assert caught.value.problems == ("mcp.files: install ringback[mcp]",)


async def test_nothing_is_imported_before_a_server_is_opened() -> None:
    """The SDK takes a second; nobody pays for what is not configured."""
    code = (
        "import sys; from service.agents.mcp import McpServers; McpServers({})\n"
        "heavy = {'mcp', 'mcp_types', 'anyio', 'httpx2', 'jsonschema'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(_PATIENCE):
        printed, _ = await process.communicate()

    assert (process.returncode, printed) == (0, b"[]\n")


# -- how ----------------------------------------------------------------------------------------


@asynccontextmanager
async def _opened(
    settings: Mapping[str, Mcp], *, absent: Collection[str] = ()
) -> AsyncGenerator[McpServers]:
    """Servers that are up: on a busy machine the service does not wait for that."""
    servers = McpServers(settings)
    try:
        async with asyncio.timeout(_PATIENCE):
            await servers.open()
        await _until(lambda: all(servers.tools(one) for one in settings if one not in absent))
        yield servers
    finally:
        await servers.close()


async def _call(servers: McpServers, tool: str, **arguments: Any) -> ToolResult:
    async with asyncio.timeout(_PATIENCE):
        return await servers.call(ToolCall("1", tool, json.dumps(arguments)))


def _specs(servers: McpServers, server: str) -> dict[str, ToolSpec]:
    return {spec.name: spec for spec in servers.tools(server)}


def _told(spec: ToolSpec) -> tuple[bool, bool, bool]:
    return spec.outward, spec.approval, spec.idempotent


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not is_so():
            await asyncio.sleep(0.01)


async def _until_back(servers: McpServers, tool: str, **arguments: Any) -> None:
    async with asyncio.timeout(_PATIENCE):
        while (await _call(servers, tool, **arguments)).failed:
            await asyncio.sleep(0.05)


async def _until_said(servers: McpServers, tool: str, text: str) -> None:
    async with asyncio.timeout(_PATIENCE):
        while (await _call(servers, tool)).text != text:
            await asyncio.sleep(0.02)


async def _longest_work() -> float:
    """The most time that the loop's thread worked without coming round, until cancelled."""
    longest, last = 0.0, time.thread_time()
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0.01)
            now = time.thread_time()
            longest, last = max(longest, now - last), now
    return longest


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _install(command: Path) -> None:
    draft = command.with_suffix(".draft")
    draft.write_text("#!/bin/sh\nexec " + shlex.join((*_CHILD, "raw")) + "\n")
    draft.chmod(0o755)
    draft.rename(command)


def _web(port: int, timeout: timedelta = timedelta(seconds=60)) -> Mcp:
    return Mcp(
        url=f"http://127.0.0.1:{port}/mcp", headers={"x-token": Secret(_SECRET)}, timeout=timeout
    )


class _Recording:
    """An app that notes the tokens it is sent."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.tokens: set[str | None] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            token = dict(scope["headers"]).get(b"x-token")
            self.tokens.add(token and token.decode())
        await self._app(scope, receive, send)


@asynccontextmanager
async def _uvicorn(app: Any, port: int = 0) -> AsyncGenerator[int]:
    """Serve the app; yield the port."""
    config = uvicorn.Config(
        app, port=port, log_config=None, ws="none", lifespan="on", timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await _until(lambda: server.started or serving.done())
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        async with asyncio.timeout(_PATIENCE):
            await serving


@asynccontextmanager
async def _rough() -> AsyncGenerator[int]:
    """Serve tools over HTTP that answer as no server should; yield the port."""
    app = web.Application()
    app.router.add_post("/mcp", _answer_roughly)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _answer_roughly(request: web.Request) -> web.StreamResponse:
    message = await request.json()
    method, params = message["method"], message.get("params", {})
    match params.get("name"):
        case "endless":
            return await _endless(request, "application/json", b" " * 65_536)
        case "flood":
            said = {"jsonrpc": "2.0", "method": "notifications/message", "params": {}}
            event = f"data: {json.dumps(said)}\n\n".encode()
            return await _endless(request, "text/event-stream", event * 100)
        case "packed":
            packed = gzip.compress(b" " * 50_000_000)
            headers = {"content-encoding": "gzip", "content-type": "application/json"}
            return web.Response(body=packed, headers=headers)
        case "status":
            return web.Response(status=500)
    who = {"name": "rough", "version": "1"}
    tools = ("endless", "flood", "packed", "status", "fine")
    results: dict[str, Any] = {
        "initialize": {
            "protocolVersion": params.get("protocolVersion"),
            "capabilities": {},
            "serverInfo": who,
        },
        "tools/list": {
            "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in tools]
        },
        "tools/call": {"content": []},
        "ping": {},
    }
    if "id" not in message:
        return web.Response(status=202)
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": results[method]})


async def _endless(request: web.Request, kind: str, data: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": kind})
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(data)
    return response
