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
# The words of what a screen reader is told is chosen, by the element that has the focus.
_ACTIVE = """(({ activeElement: one }) =>
  document.getElementById(one.getAttribute("aria-activedescendant"))?.innerText)(document)"""
# Labels that stick out of their chart.
_LABELS = """(async () => {
  const { chart } = await import("/console/static/js/chart.js");
  const names = ["A very long first label", "W".repeat(24), "中文标签".repeat(5), "South & <b>"];
  const rows = names.map((name, n) => [name, n - 2]);
  const host = document.querySelector("main");
  const out = [];
  for (const kind of ["bar", "line"]) for (const width of [260, 335, 520]) {
    const box = document.createElement("div");
    box.style.width = `${width}px`;
    host.replaceChildren(box);
    box.append(chart({ kind, x: "x", y: ["y"] }, { columns: ["x", "y"], rows }));
    await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
    const ground = box.querySelector("svg").getBoundingClientRect();
    for (const one of box.querySelectorAll("svg text")) {
      const at = one.getBoundingClientRect();
      const inside = at.left >= ground.left - 1 && at.right <= ground.right + 1;
      if (!inside || at.bottom > ground.bottom + 1) out.push([kind, width, one.textContent]);
    }
  }
  return out;
})()"""
# How much colours stand out from each other, and what is behind a node.
_EYES = """(() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const bright = (colour) => rgba(colour).slice(0, 3).map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, n) => sum + one * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (node) => {
    const { backgroundColor: own } = getComputedStyle(node);
    return rgba(own)[3] === 255 || !node.parentElement ? own : ground(node.parentElement);
  };
  const contrast = (one, other) => {
    const two = [bright(one), bright(other)].sort((a, b) => b - a);
    return (two[0] + 0.05) / (two[1] + 0.05);
  };
  const found = {};
  %s
  return found;
})()"""
# By the words.
_WORDS = (
    _EYES
    % """
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !node.checkVisibility({ opacityProperty: true })) continue;
    if (node.closest(".visually-hidden, .skip, noscript, svg, [disabled]")) continue;
    const name = `${node.className}: ${walk.currentNode.data}`;
    const seen = contrast(getComputedStyle(node).color, ground(node));
    found[name] = Math.min(found[name] ?? Infinity, seen);
  }"""
)
# By what is typed into or switched.
_FIELDS = (
    _EYES
    % """
  for (const node of document.querySelectorAll(".input, .switch, .composer-box")) {
    if (!node.checkVisibility() || node.matches(":focus, [aria-checked=true]")) continue;
    const name = node.name || node.ariaLabel || node.className;
    found[name] = contrast(getComputedStyle(node).borderTopColor, ground(node.parentElement));
  }"""
)
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


async def test_nothing_is_under_a_row_of_the_list_on_a_phone(home: House, page: Page) -> None:
    """The menu that is always there has a place of its own, beside the longest title."""
    await home.session("A very long first message " * 4, agent="assistant")
    await page.looks(360, 700)
    await home.enter(page)
    await page.becomes("document.querySelector('.session-link') !== null")

    free = await page.js(
        "document.querySelector('.session-menu').getBoundingClientRect().left"
        " - document.querySelector('.session-title').getBoundingClientRect().right"
    )

    assert await page.js("matchMedia('(hover: none)').matches")
    assert free >= 0


async def test_labels_of_charts_are_not_cut_off(home: House, page: Page) -> None:
    """However long or broad they are: a label ends in dots where there is no room for it."""
    await home.enter(page, "/console/more")
    await page.find("heading", "More")

    assert await page.js(_LABELS) == []


async def test_a_link_that_is_gone_leaves_the_focus_in_the_page(home: House, page: Page) -> None:
    """So a screen reader goes on there; the first page leaves it where the browser has it."""
    await home.enter(page, "/console/more")
    await page.find("heading", "More")
    first = await page.js("document.activeElement.tagName")
    await page.js("document.querySelector('main a').focus()")
    await page.press("Enter")
    await page.find("heading", "Deliveries")
    await page.becomes("document.activeElement.id === 'main'")

    assert first == "BODY"


async def test_the_voice_that_would_be_picked_is_told(home: House, page: Page) -> None:
    """While the focus stays in the message, as the arrows move."""
    session = await home.session(voices=[{"agent": "ann"}, {"agent": "bob"}])
    await home.enter(page, f"/console/sessions/{session}")
    await page.fill("Message", "@")
    await page.find("listbox", "Voices")
    first = await page.js(_ACTIVE)
    await page.press("ArrowDown")
    second = await page.js(_ACTIVE)
    await page.press("Escape")
    await page.gone("listbox")

    assert "ann" in first
    assert "bob" in second
    assert await page.js("document.activeElement.hasAttribute('aria-activedescendant')") is False


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_words_stand_out_from_their_ground(home: House, page: Page, scheme: str) -> None:
    """By at least 4.5 to 1, also in the row of the list that is chosen; fields by 3 to 1."""
    home.model.play("story/ann", "Hello.")
    session = await home.session("Hello", agent="ann")
    await page.looks(1280, 900, scheme=scheme)
    await home.enter(page, f"/console/sessions/{session}")
    await page.becomes("document.querySelector('.session-link[aria-current]') !== null")

    words, fields = await page.js(_WORDS), await page.js(_FIELDS)

    assert min(words.values()) >= 4.5, words
    assert min(fields.values()) >= 3, fields


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


async def test_a_talk_that_fits_does_not_scroll(home: House, page: Page) -> None:
    """What only screen readers hear takes no room below it."""
    session = await home.session("Short", agent="ann")
    await page.looks(1280, 800)
    await home.enter(page, f"/console/sessions/{session}")
    await page.becomes("document.querySelector('.feed-scroll .turn') !== null")

    over = await page.js(
        "(({scrollHeight, clientHeight}) => scrollHeight - clientHeight)"
        "(document.querySelector('.feed-scroll'))"
    )

    assert over == 0


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


async def test_the_first_tab_leads_past_the_navigation(home: House, page: Page) -> None:
    """What comes next by keyboard is in the content, on the same page."""
    await home.enter(page, "/console/more")
    await page.find("heading", "More")
    await page.press("Tab")
    first = await page.js("document.activeElement.innerText")
    await page.press("Enter", "Tab")

    assert first == "Skip to content"
    assert await page.js("document.querySelector('main').contains(document.activeElement)")
    assert await page.js("location.pathname") == "/console/more"


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
