"""An agent makes, lists, switches and removes tasks of the person it talks with, of nobody else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, pairwise
from typing import Any

import pytest

from service.agents.schedule import schedule_tools
from service.agents.tools import Tool
from service.core.model import Origin, SessionId
from service.ports import ToolResult
from service.store.database import Database
from tests.agents.callers import caller, run
from tests.engine.engine import BINDING, CHAT, Engine
from tests.engine.test_made_tasks import idle, replica
from tests.engine.test_scheduler import task

_numbers = count(1)


@dataclass(frozen=True)
class Planner:
    """The tools over an engine, and a conversation to use them in."""

    engine: Engine
    tools: dict[str, Tool]
    session: SessionId

    async def call(self, name: str, arguments: dict[str, Any], **fields: Any) -> ToolResult:
        """Call a tool as Ann, or as the fields say."""
        mine = {"session": self.session, "key": f"call-{next(_numbers)}"}
        return await run(self.tools[name], arguments, caller(**{**mine, **fields}))

    async def add(self, name: str = "plants", **fields: Any) -> ToolResult:
        """Let the agent be told every morning to remind of the plants."""
        arguments = {"name": name, "cron": "30 8 * * *", "prompt": "Remind of the plants."}
        return await self.call("schedule_add", {**arguments, **fields})


@pytest.fixture
async def planner(database: Database) -> Planner:
    """Tools in a chat of Ann's, beside one configured task."""
    engine = idle(database)
    scheduler = replica(engine, task(prompt="Secret words."), agents={BINDING.agent: BINDING})
    await scheduler.define()
    chat = await engine.accept(home=CHAT)
    return Planner(
        engine, {one.spec.name: one for one in schedule_tools(lambda: scheduler)}, chat.session
    )


async def test_a_task_is_made_and_its_times_are_told(planner: Planner) -> None:
    """The next three, by the clocks of its zone."""
    made = await planner.add(timezone="Asia/Tokyo")

    assert not made.failed
    told = [datetime.fromisoformat(at) for at in made.data["next"]]
    assert [at.strftime("%H:%M %z") for at in told] == ["08:30 +0900"] * 3
    assert {after - before for before, after in pairwise(told)} == {timedelta(days=1)}
    assert all(at in made.text for at in made.data["next"])
    assert made.text.startswith("Made plants (30 8 * * *, Asia/Tokyo; next ")


async def test_a_reminder_tells_its_only_time(planner: Planner) -> None:
    """There is no second one."""
    made = await planner.add(once=True)

    assert len(made.data["next"]) == 1
    assert "(once, UTC; next " in made.text


async def test_the_same_call_makes_one_task(planner: Planner) -> None:
    """Run again after a crash it answers as it did."""
    asked = {"name": "plants", "cron": "30 8 * * *", "prompt": "x"}

    first, again = [await planner.call("schedule_add", asked, key="call-x") for _ in range(2)]
    listed = await planner.call("schedule_list", {})

    assert again == first
    assert [one["name"] for one in listed.data["tasks"]] == ["plants"]


async def test_the_list_shows_ones_own(planner: Planner) -> None:
    """Of other people's tasks nothing; of configured ones the name, but not the words."""
    await planner.add("mine")
    others = await planner.call("schedule_list", {}, author="telegram:8")
    mine = await planner.call("schedule_list", {})

    assert others.text == "There are no tasks.\nTasks of the configuration: greet."
    assert "- mine (30 8 * * *, UTC; next " in mine.text
    assert mine.text.endswith("Remind of the plants.\nTasks of the configuration: greet.")
    assert "Secret" not in json.dumps(mine.data)


async def test_others_who_read_along_see_what_was_made_there(planner: Planner) -> None:
    """In a group what the same person made elsewhere stays private."""
    await planner.add("private")
    group = (await planner.engine.accept(session_key="telegram:1:-5")).session
    there: dict[str, Any] = {"session": group, "origin": Origin.GROUP}
    added = {"name": "shared", "cron": "@daily", "prompt": "x"}
    await planner.call("schedule_add", added, **there)

    listed = await planner.call("schedule_list", {}, **there)

    assert [one["name"] for one in listed.data["tasks"]] == ["shared"]


async def test_a_task_is_turned_off_and_on(planner: Planner) -> None:
    """Off it has no next time."""
    await planner.add()

    off = await planner.call("schedule_enable", {"name": "plants", "enabled": False})
    on = await planner.call("schedule_enable", {"name": "plants", "enabled": True})

    assert (off.data["next"], len(on.data["next"])) == ([], 3)
    assert off.text == "Turned off plants (30 8 * * *, UTC; off)."


async def test_a_task_is_removed(planner: Planner) -> None:
    """After that there is none."""
    await planner.add()

    removed = await planner.call("schedule_remove", {"name": "plants"})
    again = await planner.call("schedule_remove", {"name": "plants"})

    assert removed.text == "Removed plants."
    assert (again.failed, again.text) == (
        True,
        "There is no task 'plants'. See schedule_list.",
    )


@pytest.mark.parametrize(
    ("tool", "more"), [("schedule_remove", {}), ("schedule_enable", {"enabled": False})]
)
@pytest.mark.parametrize("name", ["theirs", "greet", "nothing", "\0", "\ud800"])
async def test_only_ones_own_can_be_changed(
    planner: Planner, tool: str, more: dict[str, Any], name: str
) -> None:
    """Not another person's, not a configured one, and what is no name is no task."""
    added = {"name": "theirs", "cron": "@daily", "prompt": "x"}
    await planner.call("schedule_add", added, author="telegram:8")

    refused = await planner.call(tool, {"name": name, **more})

    assert refused.failed
    assert "See schedule_list." in refused.text


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"cron": "tomorrow at 9"}, "cron: "),
        ({"cron": "0 9 30 2 *"}, "cron: "),
        ({"timezone": "CEST/Berlin"}, "timezone: "),
        ({"prompt": " "}, "prompt: "),
        ({"prompt": ""}, "prompt: "),
        ({"prompt": "x" * 10_001}, "prompt: "),
        ({"once": "yes"}, "once: "),
        ({"deliver": "elsewhere"}, "deliver"),
    ],
)
async def test_a_mistake_names_its_field(
    planner: Planner, wrong: dict[str, Any], named: str
) -> None:
    """So that the model can mend it."""
    refused = await planner.add(**wrong)

    assert refused.failed
    assert named in refused.text


async def test_the_fifty_first_is_refused(planner: Planner) -> None:
    """The sentence says what to do."""
    for number in range(50):
        await planner.add(f"plants {number}")

    refused = await planner.add()

    assert refused.failed
    assert refused.text == ("You have made 50 tasks already; remove one first. See schedule_list.")


def test_what_changes_something_says_so(planner: Planner) -> None:
    """All may run again after a crash; all but the list act beyond their session."""
    traits = {
        name: (tool.spec.idempotent, tool.spec.outward) for name, tool in planner.tools.items()
    }

    assert traits == {
        "schedule_list": (True, False),
        "schedule_add": (True, True),
        "schedule_remove": (True, True),
        "schedule_enable": (True, True),
    }
