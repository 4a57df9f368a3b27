"""Beginning a session: with an agent, with a composition, with voices put together on the spot."""

from __future__ import annotations

from typing import Any

from tests.browser.conversing import ask, said
from tests.browser.house import House, Houses
from tests.browser.page import Page

_DUO = """
[compositions.duo]
voices = [{ agent = "ann", name = "Ann" }, { agent = "bob", name = "Bob", rounds = 1 }]
mode = "conductor"
"""


async def test_with_an_agent_and_another_model(home: House, page: Page) -> None:
    """The agent brings its provider; the model may be another one of it."""
    home.model.play("story/other", "The other model speaks.")
    await home.enter(page)
    await page.click("link", "New")
    await page.choose("Agent", "ann")
    await page.reads("story · story/ann")
    await page.fill("Another model", "story/other")
    await page.click("button", "Begin")
    await page.find("textbox", "Message")
    await ask(page, "Hello")

    await page.reads("The other model speaks.")

    session = await current(home, page)
    assert (session["agent"], session["source"]) == ("ann", "manual")


async def test_with_a_composition(house_of: Houses, page: Page) -> None:
    """Its voices are shown before, and are configured afterwards."""
    home = await house_of(_DUO)
    await home.enter(page, "/console/sessions/new")
    await page.click("radio", "Composition")
    await page.choose("Composition", "duo")
    await page.reads("1 further round")
    await page.click("button", "Begin")
    await page.find("button", "Directed: pick a voice")

    session = await current(home, page)
    voices = [(one["name"], one["agent"], one["rounds"]) for one in session["voices"]]
    assert voices == [("Ann", "ann", 0), ("Bob", "bob", 1)]
    assert (session["composition"], session["mode"]) == ("duo", "conductor")


async def test_with_voices_put_together_on_the_spot(home: House, page: Page) -> None:
    """An agent beside a model with a prompt of its own; what is missing is said at its field."""
    home.model.play("story/ann", "Ann here.")
    home.model.play("story/critic", "I disagree.")
    await home.enter(page, "/console/sessions/new")
    await page.click("radio", "Several voices")
    first, second = await page.until(lambda: page.all("group"), "two voices")
    await page.choose("Agent", "ann", within=first)
    await page.choose("Agent", "Set up here …", within=second)
    await page.click("button", "Begin")
    await page.reads("Give the voice a name.")
    await page.write("Critic")
    await page.choose("Provider", "story", within=second)
    model = await page.find("textbox", "Model", within=second)
    await model.apply("function () { this.focus() }")
    await page.write("story/critic")
    await page.fill("System prompt", "Disagree with everybody.")
    await page.fill("Title", "A quarrel")
    await page.click("button", "Begin")
    await page.find("textbox", "Message")
    await ask(page, "Is it good?")
    await page.reads("Ann here.")
    await page.reads("I disagree.")

    assert sorted(await said(page)) == ["Ann here.", "I disagree.", "Is it good?"]
    assert "Disagree with everybody." in str(home.model.prompts["story/critic"])
    assert (await current(home, page))["title"] == "A quarrel"


async def test_an_agent_cannot_be_changed_afterwards(home: House, page: Page) -> None:
    """There is nothing to press for it, and the API refuses."""
    session = await home.session("Hello", agent="ann")
    await home.enter(page, f"/console/sessions/{session}")
    await page.click("button", "Menu of this session")
    items = await page.names("menuitem")
    refused = await page.js(
        f"fetch('/api/sessions/{session}', {{method: 'PATCH', "
        "headers: {'Content-Type': 'application/json'}, body: JSON.stringify({agent: 'bob'})})"
        ".then(async (answer) => [answer.status, await answer.text()])"
    )
    page.forgive("422")

    assert not [item for item in items if "gent" in item or "odel" in item]
    assert refused[0] == 422
    assert "life" in refused[1]


async def current(home: House, page: Page) -> dict[str, Any]:
    """The session whose page is open."""
    path: str = await page.js("location.pathname")
    found: dict[str, Any] = await home.call("GET", f"/api/sessions/{path.rsplit('/', 1)[-1]}")
    return found
