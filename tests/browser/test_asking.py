"""What a talk needs people for: questions, approvals, settings, files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.browser.conversing import ask, begin
from tests.browser.house import Calls, House, Houses
from tests.browser.page import Page

_PYTHON = """
[agents.launcher]
provider = "story"
model = "story/launcher"
python = "tests.crash.effects:agent"
[agents.notepad]
provider = "offline"
model = "echo"
python = "service.demo.notepad:agent"
"""


async def test_a_question_is_answered_by_a_choice(home: House, page: Page) -> None:
    """The turn waits for it, also over a reload; afterwards the card says what was chosen."""
    await begin(home, page, agent="assistant")
    await ask(page, "Ask me to choose tea, coffee or water.")
    await page.find("button", "coffee")
    await page.reload()
    await page.find("region", "Question")
    await page.click("button", "coffee")
    await page.reads("Answered: coffee")

    await page.gone("button", "tea")

    await page.gone("button", "Stop")


async def test_an_approval_shows_exactly_what_would_run(house_of: Houses, page: Page) -> None:
    """It runs after Allow, once."""
    home = await house_of(_PYTHON)
    home.model.play("story/launcher", [Calls("launch", {"step": 7})], "Launched.")
    await begin(home, page, agent="launcher")
    await ask(page, "Go")
    card = await page.find("region", "Approval")
    shown = await card.text()
    await page.click("button", "Allow")
    await page.reads("Launched.")

    assert "May launch run?" in shown
    assert json.dumps({"step": 7}, indent=2) in shown
    assert [line.split()[:2] for line in await home.effects()] == [["launch", "7"]]


async def test_what_is_denied_does_not_run(house_of: Houses, page: Page) -> None:
    """The model hears that it was not wanted."""
    home = await house_of(_PYTHON)
    home.model.play("story/launcher", [Calls("launch", {"step": 7})], "Then not.")
    await begin(home, page, agent="launcher")
    await ask(page, "Go")
    await page.click("button", "Deny")
    await page.reads("Then not.")

    await page.reads("Denied")

    assert await home.effects() == []


async def test_settings_of_an_agent_are_changed(house_of: Houses, page: Page) -> None:
    """They are stored at once and stand there when the settings are opened again."""
    home = await house_of(_PYTHON)
    await begin(home, page, agent="notepad")
    await settings(page)
    await page.choose("style", "bulleted")
    await page.click("button", "Close")
    await page.gone("dialog", "Settings and memory")
    await page.reload()
    await settings(page)

    style = await page.find("combobox", "style")

    assert await style.apply("function () { return this.value }") == "bulleted"


async def test_a_file_goes_with_a_message(home: House, page: Page, tmp_path: Path) -> None:
    """It is shown before it is sent, can be left out, and can be saved afterwards."""
    for name in ("notes.txt", "other.txt"):
        (tmp_path / name).write_text(f"{name}: buy milk", "utf-8")
    await begin(home, page, agent="assistant")
    field = await page.css("input[type=file]")
    await field.choose_files(tmp_path / "notes.txt", tmp_path / "other.txt")
    await page.click("button", "Leave other.txt out")
    await ask(page, "See the file")
    saved = await page.until(lambda: page.names("link"), "a link")
    await page.until(lambda: _has(page, "link", "notes.txt"), "the file")

    assert not [name for name in saved if "other.txt" in name]
    assert (
        await page.js("fetch(document.querySelector('a.file').href).then((one) => one.text())")
        == "notes.txt: buy milk"
    )


async def test_a_file_that_does_not_fit_is_refused_at_once(
    home: House, page: Page, tmp_path: Path
) -> None:
    """With the reason and the limit; what was written stays."""
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(11_000_000)
    await begin(home, page)
    await page.fill("Message", "See the file")
    field = await page.css("input[type=file]")
    await field.choose_files(tmp_path / "large.bin")
    told = await page.find("alert")

    assert "large.bin" in await told.text()
    assert "10.5 MB" in await told.text()
    assert await page.js("document.querySelector('textarea').value") == "See the file"


async def test_the_limits_of_files_are_the_configured_ones(
    house_of: Houses, page: Page, tmp_path: Path
) -> None:
    """What the service would refuse is not even sent."""
    home = await house_of("[limits]\nattachment_bytes = 1000\nattachments_per_message = 1\n")
    for name, size in (("large.bin", 1001), ("one.bin", 1000), ("two.bin", 1000)):
        (tmp_path / name).write_bytes(b"x" * size)
    await begin(home, page)
    field = await page.css("input[type=file]")
    await field.choose_files(*(tmp_path / name for name in ("large.bin", "one.bin", "two.bin")))
    await page.reads("large.bin has")
    await page.reads("two.bin: at most 1 files go with one message.")

    assert not [url for url in page.requests if url.endswith("/messages")]


async def test_a_session_is_saved_as_a_file(home: House, page: Page, downloads: Path) -> None:
    """In three forms, each with everything that was said."""
    home.model.play("story/ann", "An answer to keep.")
    session = await home.session("A question to keep", agent="ann")
    await home.enter(page, f"/console/sessions/{session}")
    for form in ("Markdown", "JSON", "text"):
        await page.click("button", "Menu of this session")
        await page.click("menuitem", f"Save as {form}")
    found = await page.until(lambda: _three(downloads), "three files")

    assert sorted(path.suffix for path in found) == [".json", ".md", ".txt"]
    for path in found:
        text = path.read_text("utf-8")
        assert "A question to keep" in text
        assert "An answer to keep." in text


async def settings(page: Page) -> None:
    """Open the settings of the session."""
    await page.click("button", "Menu of this session")
    await page.click("menuitem", "Settings and memory")
    await page.find("dialog", "Settings and memory")


async def _has(page: Page, role: str, words: str) -> bool:
    return any(words in name for name in await page.names(role))


async def _three(folder: Path) -> list[Path] | None:
    found = await asyncio.to_thread(lambda: list(folder.iterdir()))
    done = [path for path in found if path.suffix != ".crdownload"]
    return done if len(done) == 3 else None
