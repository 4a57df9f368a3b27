"""Every example of docs/python.md is a program that runs, and prints what stands below it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(match[1], match[2], id=f"line-{text.count(chr(10), 0, match.start()) + 1}")
    for text in [(ROOT / "docs/python.md").read_text("utf-8")]
    for match in BLOCK.finditer(text)
]


def test_every_example_is_found() -> None:
    """A block that is written in another way would go untested."""
    text = (ROOT / "docs/python.md").read_text("utf-8")

    assert len(EXAMPLES) == text.count("```python") > 0


@pytest.mark.parametrize(("program", "printed"), EXAMPLES)
def test_an_example_runs(program: str, printed: str | None, tmp_path: Path) -> None:
    """On an empty folder, without a key and without a network."""
    file = tmp_path / "example.py"
    file.write_text(program, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}

    done = subprocess.run(
        [sys.executable, file.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, printed), done.stderr
