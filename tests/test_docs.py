"""The documents say what the code does."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

import pytest

from handlers.telegram.commands import MENU
from service import app
from service.agents import schedule, send_message
from service.agents.catalog import Catalog
from service.agents.definition import Agent as PythonAgent
from service.config import Agent, AgentLimits, Provider, load
from service.core import states
from service.core.access import NOBODY, Policy, permission
from service.core.model import Address, Channel, Origin, Voice, VoiceId
from service.demo import notepad

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("systemd/*.md")])
AGENTS = ROOT / "docs/agents.md"
INVESTIGATIONS = ROOT / "docs/investigations.md"
RUNBOOK = ROOT / "docs/runbook.md"
# Origins of turns whose trigger is in the configuration, and may have a policy of its own.
WITH_POLICY = (Origin.SCHEDULE, Origin.EVENT)
# The columns of the table of origins: does it act outward, is it marked for approval?
CLASSES = ((False, False), (True, False), (False, True), (True, True))
VERDICTS = {"allowed": "allowed", "asked": "ask", "denied": "denied"}
SECRETS = {
    "AUDIT_SECRET": "audit-0123456789abcdef0123456789",
    "OPENROUTER_API_KEY": "sk-or-1234567890",
    "TELEGRAM_BOT_TOKEN": "123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
}

# -- states, files, commands ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "moves"),
    [
        ("Turn", states.TURN_MOVES),
        ("Delivery", states.DELIVERY_MOVES),
        ("Occurrence", states.OCCURRENCE_MOVES),
    ],
)
def test_the_state_tables_are_those_of_the_code(title: str, moves: Mapping[Any, Any]) -> None:
    """Every legal move stands in docs/states.md, and no other."""
    text = (ROOT / "docs/states.md").read_text("utf-8")
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]

    documented = set(re.findall(r"^\| (\w+) \| (\w+) \|", section, re.MULTILINE)) - {("from", "to")}

    assert documented == {(old.value, new.value) for old in moves for new in moves[old]}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_documents_name_exist(document: Path) -> None:
    """A path in backticks or a link leads somewhere."""
    text = document.read_text("utf-8")
    named = re.findall(r"`((?:service|handlers|tests|docs|bench|systemd)/[\w./-]+)`", text)
    linked = [one for one in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in one]

    missing = [one for one in named if not (ROOT / one).exists()]
    missing += [one for one in linked if not (document.parent / one).exists()]

    assert missing == []


def test_every_make_target_of_the_readme_exists() -> None:
    """Nobody types a command that is not there."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")

    targets = set(re.findall(r"`make (\w+)`|^make (\w+)", readme, re.MULTILINE))

    for pair in targets:
        name = pair[0] or pair[1]
        assert f"\n{name}:" in makefile


def test_the_readme_names_every_command_of_the_bot() -> None:
    """And none that Telegram's menu does not show."""
    readme = (ROOT / "README.md").read_text("utf-8")
    about = readme.split("\n**Telegram.** ")[1].split("\n\n")[0]

    assert set(re.findall(r"`/([a-z]+)`", about)) == set(MENU)


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", AGENTS, INVESTIGATIONS], ids=lambda path: path.name
)
def test_the_configurations_that_documents_show_work(document: Path, tmp_path: Path) -> None:
    """Whoever copies one has nothing to mend."""
    file = tmp_path / "ringback.toml"
    for block in _blocks(document, "toml"):
        file.write_text(block, "utf-8")

        app.check(load(file, SECRETS))


# -- agents ---------------------------------------------------------------------------------------


def test_every_limit_of_an_agent_is_explained() -> None:
    """docs/agents.md has each key of AgentLimits, and its default as one writes it."""
    rows = {row[0].strip("`"): row[1].strip("`") for row in _table(AGENTS, "limit")}
    written = {name: _toml(default) for name, default in rows.items() if default != "none"}

    assert set(rows) == set(AgentLimits.model_fields)
    assert AgentLimits.model_validate(written) == AgentLimits()
    assert {name for name in rows if name not in written} == {
        name for name, field in AgentLimits.model_fields.items() if field.default is None
    }


def test_the_built_in_tools_are_those_an_agent_can_have() -> None:
    """docs/agents.md lists every one, under its name in the configuration, with its traits."""
    documented = {
        (row[0].strip("`"), row[1].strip("`"), row[3] == "outward", row[4] == "yes")
        for row in _table(AGENTS, "in `tools`")
    }

    assert documented == set(_offered())


def test_the_table_of_origins_is_the_rule() -> None:
    """Every combination of origin, policy and tool has one row, which says what happens."""
    documented = defaultdict(list)
    for row in _table(AGENTS, "origin", "in `permit`"):
        for combination in _combinations(row):
            documented[combination].append(tuple(VERDICTS[one] for one in row[4:]))

    assert documented == {
        (origin, policy): [_verdicts(origin, policy)]
        for origin in Origin
        for policy in (_policies() if origin in WITH_POLICY else [NOBODY])
    }


def test_the_agent_that_is_shown_is_one() -> None:
    """The Python of docs/agents.md can be copied."""
    [block] = _blocks(AGENTS, "python")
    names: dict[str, Any] = {"__name__": "my_agents"}

    exec(compile(f"from __future__ import annotations\n{block}", "docs/agents.md", "exec"), names)

    agent = names["agent"]
    assert isinstance(agent, PythonAgent)
    assert (list(agent.tools), list(agent.knobs)) == (["add_item", "order"], ["short"])


# -- the log --------------------------------------------------------------------------------------


def test_the_log_lines_of_the_runbook_are_written() -> None:
    """Each event that docs/runbook.md names is in the code, at the level it says."""
    logged = _logged()
    areas = {event.partition(".")[0] for event in logged}
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", RUNBOOK.read_text("utf-8")))
    levels = {
        (event, row[1])
        for row in _table(RUNBOOK, "event", "level")
        for event in re.findall(r"`([^`]+)`", row[0])
    }

    assert {one for one in named if one.partition(".")[0] in areas} - set(logged) == set()
    assert {one for one in levels if one[1] not in logged.get(one[0], ())} == set()


def _logged() -> Mapping[str, set[str]]:
    """Every event of the log with its levels; those of worker pools under each pool's name."""
    pools = re.findall(r'Workers\(\s*"(\w+)"', (ROOT / "service/app.py").read_text("utf-8"))
    found = defaultdict(set)
    for source in [*ROOT.glob("service/**/*.py"), *ROOT.glob("handlers/**/*.py")]:
        text = source.read_text("utf-8")
        for level, event in re.findall(r'\blog\.(\w+)\(\s*f?"([^"]+)"', text):
            for pool in pools if "{" in event else [""]:
                name = event.replace("{self._name}", pool)
                found[name].add("error" if level == "exception" else level)
        for event in re.findall(r'\bmurmur\.note\("([^"]+)"', text):
            found[event].add("debug")
    return found


# -- reading documents ----------------------------------------------------------------------------


def _blocks(document: Path, language: str) -> list[str]:
    """The blocks of code of one language."""
    text = document.read_text("utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def _table(document: Path, *first: str) -> list[list[str]]:
    """The rows of the one table whose heading begins with these cells."""
    heading = f"| {' | '.join(first)} |"
    [table] = [
        block
        for block in document.read_text("utf-8").split("\n\n")
        if block.lstrip("\n").startswith(heading)
    ]
    rows = table.strip("\n").splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def _toml(value: str) -> Any:
    return tomllib.loads(f"value = {value}")["value"]


def _combinations(row: Sequence[str]) -> Iterator[tuple[Origin, Policy]]:
    """What a row of the table of origins stands for."""
    origin, *cells = row[:4]
    words = ((("no", "yes"),) * 2) + (("never", "wait"),)
    chosen = [
        [False, True] if cell == "any" else [bool(cell) and bool(both.index(cell))]
        for cell, both in zip(cells, words, strict=True)
    ]
    for permit, approve, ask in product(*chosen):
        yield Origin(origin), _policy(permit, approve, ask)


def _policies() -> list[Policy]:
    return [_policy(*one) for one in product((False, True), repeat=3)]


def _policy(permit: bool, approve: bool, ask: bool) -> Policy:
    tool = frozenset({"tool"})
    return Policy(tool if permit else frozenset(), tool if approve else frozenset(), ask)


def _verdicts(origin: Origin, policy: Policy) -> tuple[str, ...]:
    return tuple(
        permission(origin, policy, tool="tool", outward=outward, approval=approval).value
        for outward, approval in CLASSES
    )


def _offered() -> Iterator[tuple[str, str, bool, bool]]:
    """Each tool with its name in the configuration, and whether it acts outward and may repeat."""
    address = Address(Channel.TELEGRAM, "1:1")
    catalog = Catalog(
        {"offline": Provider(kind="offline")},
        {
            "other": Agent(provider="offline", model="echo", tools=("missing",)),
            "python": Agent(provider="offline", model="echo", python="service.demo.notepad:agent"),
        },
        extra={schedule.NAME: schedule.schedule_tools(_never)},
        own={
            "other": {send_message.NAME: [send_message.send_message_tool(_never, {"a": address})]}
        },
    )
    [problem] = catalog.problems()
    for name in problem.rpartition("there are: ")[2].split(", "):
        for spec in catalog.tools(_voice("other", name)):
            yield name, spec.name, spec.outward, spec.idempotent
    for spec in catalog.tools(_voice("python")):
        if spec.name not in notepad.agent.tools:
            yield "(its knobs)", spec.name, spec.outward, spec.idempotent


def _voice(agent: str, *tools: str) -> Voice:
    return Voice(VoiceId("v"), agent, agent, "offline", "echo", "", tools)


def _never() -> NoReturn:
    raise AssertionError("no tool is called here")
