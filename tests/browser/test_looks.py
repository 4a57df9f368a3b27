"""How the console looks and feels: colours, small screens, keys only."""

from __future__ import annotations

import pytest

from tests.browser.conversing import ask, said
from tests.browser.house import TOKEN, House
from tests.browser.page import Page

_PAGES = (
    "/console/",
    "/console/sessions/new",
    "/console/projects",
    "/console/projects/new",
    "/console/templates",
    "/console/templates?new",
    "/console/tasks",
    "/console/triggers",
    "/console/deliveries",
    "/console/deliveries?view=quarantine",
    "/console/usage",
    "/console/compositions",
    "/console/compositions?new",
    "/console/agents",
    "/console/more",
)
# Of a colour as the browser computes it: how bright it looks, from 0 to 1.
_BRIGHT = """(() => {
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = getComputedStyle(document.body).backgroundColor;
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
})()"""
_WIDER = "document.documentElement.scrollWidth - innerWidth"
_TEXT = (
    "A long_word_" + "without_an_end_" * 20 + "\n\n```\n" + "code " * 60 + "\n```\n\n"
    "| "
    + " | ".join(f"column {n}" for n in range(12))
    + " |\n"
    + "|---" * 12
    + "|\n"
    + "| cell " * 12
    + "|\n\nhttps://example.org/"
    + "path/" * 40
)


async def test_colours_follow_the_system_until_they_are_chosen(home: House, page: Page) -> None:
    """Light and dark; the choice stays over a reload, and can be taken back."""
    await home.enter(page)
    await page.looks(1280, 900, scheme="dark")
    dark = await page.js(_BRIGHT)
    await page.looks(1280, 900, scheme="light")
    light = await page.js(_BRIGHT)
    await choose_theme(page, "Dark")
    chosen = await page.js(_BRIGHT)
    await page.reload()
    await page.find("navigation", "Console")
    kept = await page.js(_BRIGHT)
    await choose_theme(page, "As the system")

    assert dark < 0.2
    assert light > 0.8
    assert chosen == kept == dark
    assert await page.js(_BRIGHT) == light


@pytest.mark.parametrize(("width", "height"), [(360, 700), (1280, 900)])
async def test_no_page_is_wider_than_the_screen(
    home: House, page: Page, width: int, height: int
) -> None:
    """Phones and desks; long words, code and tables scroll inside of themselves."""
    home.model.play("story/ann", _TEXT)
    session = await home.session("x" * 400, agent="ann")
    await page.looks(width, height)
    await home.enter(page)
    wider = {}
    for path in (*_PAGES, f"/console/sessions/{session}"):
        await page.open(home.url + path)
        await page.becomes("document.querySelector('main .screen')?.childElementCount > 0")
        wider[path] = await page.js(_WIDER)
    await page.reads("column 11")

    assert {path: pixels for path, pixels in wider.items() if pixels > 0} == {}
    assert await page.js(_WIDER) <= 0


async def test_a_talk_on_a_phone(home: House, page: Page) -> None:
    """The list and the talk each have the whole screen, with a way back."""
    home.model.play("story/ann", "Hello, phone.")
    await home.session("Talk on the phone", agent="ann")
    await page.looks(360, 700)
    await home.enter(page)
    await page.becomes("document.querySelector('.session-link') !== null")
    await page.js("document.querySelector('.session-link').click()")
    await page.reads("Hello, phone.")
    await ask(page, "And again")
    await page.until(lambda: _said(page, 4), "the answer")
    await page.click("link", "Back to the list")

    await page.find("heading", "Sessions")

    assert await page.js("location.pathname") == "/console/"


async def test_everything_by_keyboard(home: House, page: Page) -> None:
    """From the sign-in to an answer, a rename and a deletion without a pointer."""
    home.model.play("story/ann", "Typed, I see.")
    await page.open(home.url)
    await page.find("button", "Sign in")
    await page.press("Shift+Tab", "ArrowRight", "Tab")
    await page.write(TOKEN)
    await page.press("Enter")
    await page.find("navigation", "Console")
    await page.press("n")
    await page.find("heading", "New session")
    await tab_to(page, "Agent")
    await page.press("a", "n")
    await tab_to(page, "Begin")
    await page.press("Enter")
    await page.find("textbox", "Message")
    await page.becomes("document.activeElement.ariaLabel === 'Message'")
    await page.write("By keys alone")
    await page.press("Enter")
    await page.reads("Typed, I see.")
    await page.becomes("document.querySelector('.session-title')?.innerText === 'By keys alone'")
    await page.press("Escape", "j", "F2")
    await page.find("textbox", "Title")
    await page.write("Renamed by keys")
    await page.press("Enter")
    await page.find("button", "Menu of Renamed by keys")
    await page.press("Tab", "Enter")
    await page.find("menuitem", "Delete")
    await page.press("End", "Enter")
    await page.find("dialog", "Delete this session?")
    await tab_to(page, "Delete")
    await page.press("Enter")

    await page.reads("No sessions yet")


async def test_the_focus_is_always_seen(home: House, page: Page) -> None:
    """Whatever Tab reaches has an outline or a ring."""
    await home.session("Hello", agent="ann")
    await home.enter(page)
    await page.reads("Hello")
    unseen = []
    for _ in range(25):
        await page.press("Tab")
        told = await page.js(
            "(() => { const one = document.activeElement; const look = getComputedStyle(one);"
            " return [one.outerHTML.slice(0, 80), look.outlineStyle !== 'none' ||"
            " look.boxShadow !== 'none']; })()"
        )
        unseen += [] if told[1] or told[0].startswith("<body") else [told[0]]

    assert unseen == []


async def test_buttons_and_fields_have_names(home: House, page: Page) -> None:
    """So that screen readers can say what they are."""
    session = await home.session("Hello", agent="ann")
    await home.enter(page)
    nameless = []
    for path in (*_PAGES, f"/console/sessions/{session}"):
        await page.open(home.url + path)
        await page.becomes("document.querySelector('main .screen')?.childElementCount > 0")
        for role in ("button", "link", "textbox", "combobox", "checkbox", "switch", "radio"):
            nameless += [(path, role) for name in await page.names(role) if not name]

    assert nameless == []


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until something of this name has the focus."""
    for _ in range(40):
        focused = [node for node in await _focusable(page) if node[1]]
        if [one for one in focused if one[0] == name]:
            return
        await page.press("Tab")
    raise AssertionError(f"Tab does not reach {name!r}")


async def _focusable(page: Page) -> list[tuple[str, bool]]:
    roles = ("button", "combobox", "textbox", "link")
    found = [node for role in roles for node in await page.all(role)]
    return [(node.name, bool(node.states.get("focused"))) for node in found]


async def choose_theme(page: Page, words: str) -> None:
    """Choose the colours in the menu of the account."""
    await page.click("button", "operator, admin: account and theme")
    items = await page.until(lambda: page.names("menuitem"), "the menu")
    await page.click("menuitem", next(item for item in items if item.startswith(words)))


async def _said(page: Page, count: int) -> bool:
    return len(await said(page)) == count
