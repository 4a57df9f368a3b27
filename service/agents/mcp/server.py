"""One server: connected to, watched, and connected to again whenever that is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from importlib import import_module

import structlog

from service.agents.mcp.connection import Answer, Broken, Connection, Listed, Rejected
from service.agents.mcp.offers import MOST_TOOLS, Offer, Offers
from service.config import Mcp
from service.errors import BadInput
from service.ports import ToolCall, ToolResult, ToolSpec

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SESSION = "service.agents.mcp.session"
_LISTING_SECONDS = 10.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
_HEALTHY_SECONDS = 60.0


class Server:
    """Keeps a connection to one server, in the task that runs `run`."""

    def __init__(self, name: str, settings: Mcp, servers: Collection[str]) -> None:
        self._name = name
        self._settings = settings
        self._offers = Offers(name, settings, servers)
        self._connection: Connection | None = None
        self._connected_at: float | None = None
        self.settled = asyncio.Event()
        """Set once the first attempt to connect has led to something, good or bad."""

    @property
    def listed(self) -> bool:
        """Whether the server ever said what tools it has."""
        return self._offers.listed

    def tools(self) -> Sequence[ToolSpec]:
        """The tools to offer; those of the last list while there is no connection."""
        return self._offers.usable()

    def offers(self, tool: str) -> bool:
        """Whether the server offers, or once offered, a tool of this name."""
        return self._offers.known(tool)

    async def run(self) -> None:
        """Connect, and connect again after every end, until cancelled."""
        # The SDK's task groups have to be left in the task that entered them: this one.
        pause = _FIRST_PAUSE
        while True:
            reason = await self._run_once()
            if _is_cancelled():
                return
            if self._was_healthy():
                pause = _FIRST_PAUSE
            self.settled.set()
            log.warning("mcp.down", server=self._name, reason=reason, again_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def call(self, call: ToolCall) -> ToolResult:
        """Call one of the tools; see `McpServers.call`."""
        answer = await self._answer(call)
        return ToolResult(call.id, call.tool, answer.text, answer.failed, answer.data)

    async def _answer(self, call: ToolCall) -> Answer:
        offer = self._offers.find(call.tool)
        if offer is None:
            return _failed(f"{_unavailable(call.tool)} {self._why_not(call.tool)}")
        try:
            arguments = offer.arguments.read(call.arguments)
        except BadInput as error:
            return _failed(str(error))
        connection = self._connection
        if connection is None:
            return _failed(f"{_unavailable(call.tool)} its server is being connected to.")
        return await self._ask(connection, call.tool, offer, arguments)

    async def _ask(
        self, connection: Connection, name: str, offer: Offer, arguments: dict[str, object]
    ) -> Answer:
        seconds = self._settings.timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                return await connection.call(offer.tool, arguments, data=offer.spec.data)
        except TimeoutError:
            connection.doubt()
            return _failed(
                f"{name} did not answer within {seconds:g} s; whether it took effect is unknown."
            )
        except Broken as error:
            connection.doubt()
            return _failed(f"{name} broke off ({error}); whether it took effect is unknown.")
        except Rejected as error:
            return _failed(f"{name} failed: {error}")
        except Exception as error:
            log.exception("mcp.call_failed", server=self._name, tool=name)
            connection.doubt()
            return _failed(f"{name} failed inside: {type(error).__name__}")

    def _why_not(self, tool: str) -> str:
        if not self._offers.listed:
            return "its server is being connected to."
        if self._offers.known(tool):
            return "its server does not offer it any more, or describes it differently now."
        return "its server has no such tool."

    async def _run_once(self) -> str:
        """Connect and stay connected; return why that ended."""
        self._connected_at = None
        try:
            await self._stay_connected()
        except Broken as error:
            return str(error)
        except Exception as error:
            log.exception("mcp.failed", server=self._name)
            return type(error).__name__
        return "the connection ended"

    async def _stay_connected(self) -> None:
        # The SDK takes a second to import, too long for the event loop.
        session = await asyncio.to_thread(import_module, _SESSION)
        async with session.connect(self._name, self._settings) as connection:
            await self._list(connection)
            self._connected_at = asyncio.get_running_loop().time()
            self._connection = connection
            try:
                self.settled.set()
                log.info("mcp.up", server=self._name, tools=len(self.tools()))
                await connection.watch()
            finally:
                self._connection = None

    async def _list(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(_LISTING_SECONDS):
                listing = await self._listing(connection)
        except TimeoutError as error:
            raise Broken(f"did not list its tools within {_LISTING_SECONDS:g} s") from error
        except Rejected as error:
            raise Broken(f"did not list its tools: {error}") from error
        await asyncio.to_thread(self._offers.take, listing)

    async def _listing(self, connection: Connection) -> list[Listed]:
        listing: list[Listed] = []
        async for page in connection.pages():
            listing += (one for one in page if self._offers.wants(one.name))
            if len(listing) > MOST_TOOLS:
                log.warning("mcp.tools_cut", server=self._name, kept=MOST_TOOLS)
                break
            if self._offers.has_all(one.name for one in listing):
                break
        return listing[:MOST_TOOLS]

    def _was_healthy(self) -> bool:
        if self._connected_at is None:
            return False
        return asyncio.get_running_loop().time() - self._connected_at >= _HEALTHY_SECONDS


def _is_cancelled() -> bool:
    """Whether this task was cancelled, even if a task group that failed swallowed the error."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _unavailable(tool: str) -> str:
    return f"The tool {tool} is unavailable just now:"


def _failed(text: str) -> Answer:
    return Answer(text, failed=True)
