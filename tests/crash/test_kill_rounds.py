"""kill -9 between two rounds of several voices: what was said stays, and nobody speaks twice."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.crash.test_kill import expire_leases
from tests.crash.test_kill_reply import client_of, ring, write_config
from tests.process import service, service_again

ALL = [(name, number) for name in ("Ada", "Bob") for number in (1, 2, 3)]
SAID = "Say it."
DUO = """
[compositions.duo]
voices = [
  { provider = "offline", model = "echo", prompt = "You are Ada.", name = "Ada", rounds = 2 },
  { provider = "offline", model = "echo", prompt = "You are Bob.", name = "Bob", rounds = 2 },
]
"""


@pytest.mark.parametrize("point", ["rounds.ended", "rounds.began", "rounds.began*2"])
async def test_the_next_round_begins_once(database_url: str, tmp_path: Path, point: str) -> None:
    """All voices are heard once in every round, whichever side of it the process died on."""
    config = write_config(tmp_path, database_url, DUO)
    async with service(config, kill_at=point) as doomed:
        turn = await ring(await doomed.ready(), {"composition": "duo"}, SAID)
        assert await doomed.died() == -signal.SIGKILL
    await expire_leases(database_url)

    async with service_again(config) as running:
        result, messages = await _told(await running.ready(), turn)
        await running.stop()

    replies = [(one["name"], one["round"]) for one in result["replies"]]
    said = sorted(one["text"] for one in messages)
    assert result["state"] == "succeeded"
    assert sorted(replies) == ALL
    assert said == sorted([SAID, *(one["text"] for one in result["replies"])])
    assert all(one["text"] for one in result["replies"])


async def _told(url: str, turn: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result of a turn once it is over, and the messages of its session."""
    async with client_of(url) as client:
        async with client.get(f"/api/turns/{turn}", params={"wait": 60}) as got:
            result: dict[str, Any] = await got.json()
        async with client.get(f"/api/sessions/{result['session']}/messages") as read:
            return result, (await read.json())["messages"]
