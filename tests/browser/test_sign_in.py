"""Signing in and out, as somebody at a browser sees it."""

from __future__ import annotations

from tests.browser.house import TOKEN, House
from tests.browser.page import Page

_PASSWORD = "a horse, a battery and a staple"
_KEEP_ASKING = """
  import("/console/static/js/api.js").then(({ get }) =>
    setInterval(() => get("/api/sessions").catch(() => {}), 1))
"""


async def test_a_token_lets_in(home: House, page: Page) -> None:
    """Whoever opens the console is asked to sign in, and is then where they wanted to be."""
    await page.open(f"{home.url}/console/usage")
    await page.click("radio", "API token")
    await page.fill("API token", TOKEN)
    await page.press("Enter")

    await page.find("heading", "Usage")

    assert await page.js("location.pathname") == "/console/usage"


async def test_a_name_and_password_let_in(home: House, page: Page) -> None:
    """With the pointer as with the keys."""
    await home.person("ann", _PASSWORD)
    await page.open(home.url)
    await page.fill("Name", "ann")
    await page.fill("Password", _PASSWORD)
    await page.click("button", "Sign in")

    await page.find("navigation", "Console")

    assert await page.js("location.pathname") == "/console/"


async def test_a_wrong_password_is_told_and_another_may_be_tried(home: House, page: Page) -> None:
    """Without saying whether there is such a person; what was typed is selected to be replaced."""
    await home.person("ann", _PASSWORD)
    await page.open(home.url)
    await page.fill("Name", "ann")
    await page.fill("Password", "guessed")
    await page.press("Enter")
    told = await page.find("alert")
    assert "password" in await told.text()
    page.forgive("401")
    await page.write(_PASSWORD)
    await page.press("Enter")

    await page.find("navigation", "Console")


async def test_nothing_is_sent_without_a_password(home: House, page: Page) -> None:
    """What is missing is named and has the focus."""
    await page.open(home.url)
    await page.fill("Name", "ann")
    await page.press("Enter")

    await page.reads("Enter your password")

    assert await page.js("document.activeElement.name") == "password"
    assert not [url for url in page.requests if url.endswith("/signin") and "console" not in url]


async def test_signing_out_leads_back(home: House, page: Page) -> None:
    """And the way back into the console is closed; what is under way ends without a refusal."""
    session = await home.session("Hello")
    await home.enter(page, f"/console/sessions/{session}")
    await page.click("button", "operator, admin: account and theme")
    await page.js(_KEEP_ASKING)
    await page.click("menuitem", "Sign out")
    await page.find("button", "Sign in")

    await page.open(f"{home.url}/console/")

    await page.find("button", "Sign in")


async def test_who_could_not_sign_out_goes_on(home: House, page: Page) -> None:
    """It is said, and the page works on when the service is there again."""
    session = await home.session("Hello")
    await home.enter(page, f"/console/sessions/{session}")
    await page.find("textbox", "Message")
    await page.offline(True)
    await page.click("button", "operator, admin: account and theme")
    await page.click("menuitem", "Sign out")
    await page.reads("You are still signed in")
    await page.offline(False)
    await home.say(session, "Are you there?")

    await page.reads("Are you there?")
    await page.click("link", "Agents")
    await page.find("heading", "Agents")
    page.forgive("ERR_INTERNET_DISCONNECTED")
