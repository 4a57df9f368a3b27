"""Tools of MCP servers: child processes on their standard streams, or servers over HTTP.

What a server says is a stranger's word: lists, schemas, results and floods are all bounded, and a
server that is absent, dead or hanging costs its own tools and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from service.agents.mcp.naming import prefix
from service.agents.mcp.server import Server
from service.config import Mcp
from service.errors import ConfigError
from service.ports import ToolCall, ToolResult, ToolSpec

_OPENING_SECONDS = 3.0
_CLOSING_SECONDS = 1.6
_LAST_SECONDS = 0.3


class McpServers:
    """The configured servers; each is connected to, watched and connected to again by itself."""

    def __init__(self, servers: Mapping[str, Mcp]) -> None:
        """Raises ConfigError when the package for MCP is not installed."""
        if servers and find_spec("mcp") is None:
            raise ConfigError([f"mcp.{name}: install ringback[mcp]" for name in servers])
        names = frozenset(servers)
        self._servers = {name: Server(name, one, names) for name, one in servers.items()}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def names(self) -> frozenset[str]:
        """The configured servers."""
        return frozenset(self._servers)

    async def open(self) -> None:
        """Start to connect; wait a moment for the first lists of tools, not for a dead server."""
        servers = self._servers.values()
        self._tasks = [asyncio.create_task(server.run()) for server in servers]
        try:
            async with asyncio.timeout(_OPENING_SECONDS):
                for server in servers:
                    await server.settled.wait()
        except TimeoutError:
            return

    def tools(self, server: str) -> Sequence[ToolSpec]:
        """What the server offers. Nothing before its first list; the last list in an outage."""
        return self._servers[server].tools() if server in self._servers else ()

    def owns(self, tool: str) -> bool:
        """Whether `tool` is, or may turn out to be, one of a server's."""
        return self._owner(tool) is not None

    async def call(self, call: ToolCall) -> ToolResult:
        """Check the arguments and call the server; whatever it does wrong is a result.

        It ends by the server's own timeout. Being cancelled asks the server to stop.
        """
        owner = self._owner(call.tool)
        if owner is None:
            return ToolResult(call.id, call.tool, f"There is no tool {call.tool!r}.", failed=True)
        return await owner.call(call)

    async def close(self) -> None:
        """End every connection and child process, within two seconds."""
        for seconds in (_CLOSING_SECONDS, _LAST_SECONDS):
            running = [task for task in self._tasks if not task.done()]
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=seconds)

    def _owner(self, tool: str) -> Server | None:
        for server in self._servers.values():
            if server.offers(tool):
                return server
        for name, server in self._servers.items():
            if not server.listed and tool.startswith(prefix(name)):
                return server
        return None
