"""Talking in the terminal: lines in, answers as they stream, Ctrl-C to stop them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import aiohttp

from service.client import Client, Receipt
from service.errors import RingbackError

LEFT = 130
"""The exit code of a command that was left with Ctrl-C."""
UNANSWERED = 3
"""The exit code of a command whose agent asks something and has nobody to answer."""

_CHUNK = 65_536
# Characters that steer a terminal or turn its text around: what agents and strangers write must
# only be shown.
_STEERING = (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN: dict[int, str | None] = {
    **dict.fromkeys(_STEERING, "\N{REPLACEMENT CHARACTER}"),
    ord("\n"): "\n",
    ord("\t"): "\t",
    ord("\r"): None,
}


def printable(text: str) -> str:
    """Return `text` without anything that steers the terminal."""
    return text.translate(_SHOWN)


class Terminal:
    """One command that talks. Answers go to the output, everything about them to the errors.

    Ctrl-C stops the answer that is being shown; when none is, or it was pressed before, it leaves.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._showing: str | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def chat(self, key: str, agent: str | None) -> int:
        """Answer line by line until the input ends; return the exit code."""
        return await self._until_left(self._chat(key, agent))

    async def send(
        self, text: str, *, key: str, agent: str | None, wait: bool, as_json: bool
    ) -> int:
        """Send one message and show what comes of it; return the exit code."""
        return await self._until_left(self._send(text, key, agent, wait=wait, as_json=as_json))

    async def run_task(self, name: str) -> int:
        """Run a task and show its answer; return the exit code."""
        return await self._until_left(self._run_task(name))

    async def _chat(self, key: str, agent: str | None) -> int:
        session = await self._client.session(key, agent)
        lines = _Lines()
        while (line := await lines.next()) is not None:
            if line.strip():
                await self._show(await self._client.send(session, line), lines)
        return 0

    async def _send(
        self, text: str, key: str, agent: str | None, *, wait: bool, as_json: bool
    ) -> int:
        session = await self._client.session(key, agent)
        receipt = await self._client.send(session, text)
        if not wait:
            _say(_as_json(receipt) if as_json else f"{receipt['turn']}\n")
            return 0
        if not as_json:
            return await self._show(receipt, _Lines() if sys.stdin.isatty() else None)
        self._showing = session
        result = await self._client.result(receipt)
        _say(_as_json(result))
        if result["state"] == "waiting":
            return UNANSWERED
        return 0 if result["state"] == "succeeded" else 1

    async def _run_task(self, name: str) -> int:
        return await self._show(await self._client.run_task(name))

    async def _show(self, receipt: Receipt, lines: _Lines | None = None) -> int:
        """Stream one answer; return 0 when it succeeded.

        What the agent asks on the way is answered with the next of `lines`. Without them the
        command ends there: the next message of the session is the answer.
        """
        self._showing = receipt["session"]
        state, ended = "", True
        try:
            async for kind, data in self._client.events(receipt):
                if words := _about(kind, data):
                    _say("" if ended else "\n")
                    _note(words)
                    ended = True
                if text := _words(kind, data):
                    _say(printable(text))
                    ended = text.endswith("\n")
                if kind == "question.asked" and not await self._answer(receipt, data, lines):
                    return UNANSWERED
                if kind == "turn.finished":
                    state = data["state"]
        except (RingbackError, aiohttp.ClientError):
            # What is told of it begins a line.
            _say("" if ended else "\n")
            raise
        _say("" if ended else "\n")
        await self._stopped()
        self._showing = None
        return 0 if state == "succeeded" else 1

    async def _answer(self, receipt: Receipt, data: dict[str, Any], lines: _Lines | None) -> bool:
        """Answer a question with the next line; False when there is none."""
        line = await lines.next() if lines is not None else None
        if line is None:
            _note("[It waits. What you send next is the answer.]")
            return False
        await self._client.answer(receipt["session"], data["question"], line)
        return True

    # -- Ctrl-C --------------------------------------------------------------------------------

    async def _until_left(self, work: Coroutine[Any, Any, int]) -> int:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
        loop.add_signal_handler(signal.SIGINT, self._pressed, task)
        try:
            await asyncio.wait({task})
        finally:
            loop.remove_signal_handler(signal.SIGINT)
        if not task.cancelled():
            return task.result()
        await self._stopped()
        _say("\n")
        return LEFT

    def _pressed(self, task: asyncio.Task[int]) -> None:
        if self._showing is None or self._stopping is not None:
            task.cancel()
            return
        self._stopping = asyncio.create_task(self._stop(self._showing))

    async def _stopped(self) -> None:
        if self._stopping is not None:
            await self._stopping
            self._stopping = None

    async def _stop(self, session: str) -> None:
        # Whoever asked sees by the answer whether it stops, and can still leave.
        with suppress(RingbackError, aiohttp.ClientError):
            await self._client.stop(session)


class _Lines:
    """The lines of the standard input."""

    def __init__(self) -> None:
        self._rest = b""
        self._over = False

    async def next(self) -> str | None:
        """The next line without its end; None when there is none any more."""
        if sys.stdin.isatty():
            _say("> ")
        while b"\n" not in self._rest and not self._over:
            chunk = await _read()
            self._rest += chunk
            self._over = not chunk
        if not self._rest:
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "replace")


async def _read() -> bytes:
    """What the standard input has next; empty at its end.

    In a thread that nobody waits for: nothing can interrupt a read, and Ctrl-C must leave. From
    the descriptor, because the interpreter cannot end while a thread is inside `sys.stdin`.
    """
    loop = asyncio.get_running_loop()
    chunk: asyncio.Future[bytes] = loop.create_future()
    threading.Thread(target=_read_into, args=(loop, chunk), daemon=True).start()
    return await chunk


def _read_into(loop: asyncio.AbstractEventLoop, chunk: asyncio.Future[bytes]) -> None:
    try:
        read = os.read(sys.stdin.fileno(), _CHUNK)
    except OSError:
        read = b""
    # The loop is closed when the command was left meanwhile.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, chunk, read)


def _settle(chunk: asyncio.Future[bytes], read: bytes) -> None:
    if not chunk.done():
        chunk.set_result(read)


def _words(kind: str, data: dict[str, Any]) -> str:
    """The words of the answer that an event brings; after a reset they begin anew."""
    text: str = data["text"] if kind in ("text", "reply.reset") else ""
    return text


def _about(kind: str, data: dict[str, Any]) -> str | None:
    """What an event says to a person, besides the words of the answer."""
    match kind:
        case "tool.started":
            return f"[{data['tool']}]"
        case "reply.reset":
            return "[interrupted; once more]"
        case "turn.retrying":
            return f"[{data['reason']} Trying again in {data['wait_seconds']:g} s.]"
        case "question.asked":
            return _question(data)
        case "turn.finished" if data.get("error"):
            return f"[failed: {data['error']}]"
        case "turn.finished" if data["state"] == "stopped":
            return "[stopped]"
    return None


def _question(data: dict[str, Any]) -> str:
    choices = "".join(f"\n  - {choice}" for choice in data["choices"])
    if data["kind"] == "approval":
        choices = f"\n  {data['arguments']}\n  yes, or no and why"
    return f"[{data['text']}]{choices}"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()
