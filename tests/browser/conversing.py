"""What tests do in a talk all the time."""

from __future__ import annotations

from tests.browser.house import House
from tests.browser.page import Page


async def begin(home: House, page: Page, **given: object) -> str:
    """Open a new session in the console; unless told otherwise with the voice ann alone."""
    session = await home.session(**(given or {"agent": "ann"}))
    await home.enter(page, f"/console/sessions/{session}")
    await page.find("textbox", "Message")
    return session


async def ask(page: Page, text: str) -> None:
    """Write a message and send it with Enter."""
    await page.fill("Message", text)
    await page.press("Enter")


async def said(page: Page) -> list[str]:
    """What was said in the talk, one entry for each message and answer."""
    words: list[str] = await page.js(
        "[...document.querySelectorAll('.said-text, .reply-body')]"
        ".map((one) => one.innerText.trim())"
    )
    return words
