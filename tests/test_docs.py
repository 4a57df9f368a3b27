"""The documents say what the code does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.core import states

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("systemd/*.md")])


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
