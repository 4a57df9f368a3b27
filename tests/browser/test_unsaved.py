"""What was written and not sent or saved is not lost by a slip of the hand."""

from __future__ import annotations

import pytest

from service.core.access import UserRole
from tests.browser.conversing import begin
from tests.browser.house import House
from tests.browser.page import Page, Person

_DRAFT = "document.querySelector('.composer textarea').value"


async def test_a_message_outlives_loading_the_page_anew(home: House, page: Page) -> None:
    """Until it is sent; whoever signs out leaves nothing behind in the browser."""
    home.model.play("story/ann", "Here you are.")
    await begin(home, page)
    await page.fill("Message", "Not sent yet")
    await page.reload()
    await page.becomes(f"{_DRAFT} === 'Not sent yet'")
    await page.becomes("document.activeElement.ariaLabel === 'Message'")
    await page.press("Enter")
    await page.reads("Here you are.")
    await page.reload()
    await page.reads("Here you are.")
    sent = await page.js(_DRAFT)
    await page.fill("Message", "Never sent")
    kept = await page.js("sessionStorage.length")
    await page.click("button", "operator, admin: account and theme")
    await page.click("menuitem", "Sign out")
    await page.find("button", "Sign in")

    assert sent == ""
    assert kept == 1
    assert await page.js("sessionStorage.length") == 0


async def test_a_form_is_not_left_without_being_asked(home: House, page: Page) -> None:
    """By a link and by going back; Cancel means it, and what was saved is left freely."""
    await home.enter(page, "/console/projects")
    await page.find("heading", "Projects")
    await page.js("document.querySelector('.page-head .primary').click()")
    await page.fill("Name", "Half a project")
    await page.click("link", "Tasks")
    await page.find("dialog", "Leave without saving?")
    await page.press("Escape")
    await page.gone("dialog")
    stayed = await page.js("location.pathname")
    await page.js("history.back()")
    dialog = await page.find("dialog", "Leave without saving?")
    await page.click("button", "Cancel", within=dialog)
    await page.gone("dialog")
    still = await page.js("[location.pathname, document.querySelector('main input').value]")
    await page.js("history.back()")
    dialog = await page.find("dialog", "Leave without saving?")
    await page.click("button", "Leave", within=dialog)
    await page.find("heading", "Projects")
    await page.js("history.forward()")
    await page.fill("Name", "Again")
    await page.click("link", "Cancel")
    await page.find("heading", "Projects")

    assert stayed == "/console/projects/new"
    assert still == ["/console/projects/new", "Half a project"]


async def test_a_template_is_not_left_without_being_asked(home: House, page: Page) -> None:
    """Also by a link of the console, as long as it is not saved."""
    await home.enter(page, "/console/templates?new")
    await page.fill("Source of the template", "# Kept\n\nFor long.")
    await page.click("link", "Tasks")
    dialog = await page.find("dialog", "Leave without saving?")
    await page.click("button", "Cancel", within=dialog)
    await page.click("button", "Save")
    await page.find("heading", "Kept")
    await page.click("link", "Tasks")

    await page.find("heading", "Tasks")

    await home.call("DELETE", "/api/templates/Kept")


async def test_a_dialog_closes_by_a_press_beside_it_alone(home: House, page: Page) -> None:
    """Words that are selected with the pointer, out over its edge, leave it open."""
    await begin(home, page)
    await page.click("button", "Menu of this session")
    await page.click("menuitem", "Rename")
    dialog = await page.find("dialog", "Rename session")
    await page.fill("Title", "A long title of mine")
    left, x, y = await dialog.apply(
        "function () { const at = this.querySelector('input').getBoundingClientRect();"
        " return [this.getBoundingClientRect().left, at.x + 20, at.y + 10]; }"
    )
    await _drag(page, (x, y), (left - 60, y))
    selected = await page.names("dialog")
    await _drag(page, (left + 6, y), (left + 8, y))
    pressed = await page.names("dialog")
    await _drag(page, (left - 60, y), (left - 58, y))
    await page.gone("dialog")

    assert selected == pressed == ["Rename session"]


async def test_a_refused_dialog_keeps_the_focus(home: House, page: Page) -> None:
    """Its button can be pressed again; a switch keeps it, too."""
    await begin(home, page)
    await page.js(
        """import("/console/static/js/dialog.js").then(({ open }) => {
          const run = () => new Promise((went) => setTimeout(() => went(false), 20));
          const actions = [{ label: "Try", value: 1, primary: true, run }];
          open({ title: "Trial", body: "Nothing", actions });
        })"""
    )
    await page.find("dialog", "Trial")
    await page.press("Enter")
    await page.becomes("document.querySelector('dialog .primary').ariaDisabled === 'true'")
    during = await page.js("document.activeElement.innerText")
    await page.becomes("!document.querySelector('dialog .primary').ariaDisabled")
    after = await page.js("document.activeElement.innerText")
    await page.press("Escape")
    await page.gone("dialog")

    assert (during, after) == ("Try", "Try")


@pytest.mark.parametrize(
    "path", ["sessions/new", "projects/new", "compositions?new", "templates?new"]
)
async def test_those_who_only_look_are_offered_nothing_to_make(
    home: House, visitor: Person, path: str
) -> None:
    """Neither a way there, nor a form that would be refused in the end."""
    name = f"looks-{path.partition('?')[0].replace('/', '-')}"
    await home.person(name, "a-long-password", UserRole.VIEWER)
    page = await visitor.page(f"{home.url}/console/signin?next=/console/{path}")
    await page.fill("Name", name)
    await page.fill("Password", "a-long-password")
    await page.press("Enter")
    await page.reads("You cannot make a")
    await page.reads("Ask an administrator for the role operator")

    assert "New" not in await page.names("link")
    assert await page.all("textbox", "Name") == []


async def test_a_page_that_cannot_be_loaded_says_what_to_do(home: House, page: Page) -> None:
    """Not in the words of the browser; trying again shows it."""
    await home.enter(page)
    await page.offline(True)
    await page.click("link", "Usage")
    await page.reads("The service does not answer")
    shown = await page.js("document.querySelector('main').innerText")
    await page.offline(False)
    await page.click("button", "Try again", within=await page.find("main"))
    await page.find("heading", "Usage")
    page.problems.clear()

    assert "module" not in shown


async def _drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press at one place, and let go at another."""
    for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
        event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
        await page.call("Input.dispatchMouseEvent", **event)
