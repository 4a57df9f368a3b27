"""The list of sessions: views, titles, pins, the archive, search."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from tests.browser.conversing import ask, begin
from tests.browser.house import House, Houses
from tests.browser.page import Page, Person
from tests.browser.wire import wire

_WEBHOOK = """
[webhooks.alerts]
agent = "assistant"
auth = "none"
[tasks.morning]
cron = "0 8 * * *"
agent = "assistant"
prompt = "What is on today?"
"""


# What is pointed at is so for a moment only.
_NOTE_WHAT_IS_POINTED_AT = """new MutationObserver((changes) => {
  for (const { target } of changes)
    if (target.matches("article.pointed")) window.pointedAt = target.innerText;
}).observe(document.body, { subtree: true, attributeFilter: ["class"] })"""
# A session of the list changes, and everything is drawn that is drawn of it.
_CHANGED = """new Promise((drawn) => {{
  document.dispatchEvent(new CustomEvent("session-changed", {{ detail: {session} }}));
  requestAnimationFrame(() => requestAnimationFrame(() => drawn()));
}})"""


async def test_the_first_message_becomes_the_title(home: House, page: Page) -> None:
    """At about sixty characters, between two words."""
    await begin(home, page)
    await ask(
        page, "Please tell me everything you know about the history of the telephone, at length"
    )

    await page.until(lambda: titled(page, "Please tell me everything"), "a title")

    (title,) = await titles(page)
    assert 40 < len(title) <= 61
    assert "telephone, at length" not in title


async def test_a_double_click_renames_and_nothing_overwrites_it(home: House, page: Page) -> None:
    """Not the next message, not a reload."""
    session = await home.session("First words", agent="ann")
    await home.enter(page, f"/console/sessions/{session}")
    await page.until(lambda: titled(page, "First words"), "a title")
    await page.click("link", await row(page), times=2)
    await page.fill("Title", "My own title")
    await page.press("Enter")
    await page.until(lambda: titled(page, "My own title"), "the title")
    await home.say(session, "More words")
    await page.reload()
    await page.reads("More words")

    assert await titles(page) == ["My own title"]


async def test_a_press_outlasts_a_change_of_the_list(home: House, page: Page) -> None:
    """What is told between the press and the click is shown after it."""
    session = await home.session("First words", agent="ann")
    await home.enter(page)
    await page.until(lambda: titled(page, "First words"), "a title")
    told = await home.call("GET", f"/api/sessions/{session}")
    told["title"] = "Other words"

    async with page.pressing("link", await row(page)):
        await page.js(_CHANGED.format(session=json.dumps(told)))
    await page.until(lambda: titled(page, "Other words"), "the change")

    await page.becomes(f"location.pathname === '/console/sessions/{session}'")


async def test_escape_leaves_the_title_as_it_was(home: House, page: Page) -> None:
    """F2 is a double click for keyboards."""
    await home.session("First words", agent="ann")
    await home.enter(page)
    await page.until(lambda: titled(page, "First words"), "a title")
    await page.press("j", "F2")
    await page.write("Another")
    await page.press("Escape")

    await page.gone("textbox", "Title")

    assert await titles(page) == ["First words"]


async def test_pinned_sessions_come_first_and_cannot_be_archived(home: House, page: Page) -> None:
    """With a mark; unpinned they are among the others again."""
    for title in ("Older", "Newer"):
        await home.session(title, agent="ann")
    await home.enter(page)
    await choose(page, "Older", "Pin")
    await page.find("heading", "Pinned")

    assert await titles(page) == ["Older", "Newer"]
    await page.click("button", "Menu of Older")
    archive = await page.find("menuitem", "Archive It is pinned. Unpin it first.")
    assert archive.states["disabled"]
    await page.click("menuitem", "Unpin")
    await page.gone("heading", "Pinned")
    assert await titles(page) == ["Newer", "Older"]


async def test_an_archived_session_can_only_be_read(home: House, page: Page) -> None:
    """It is under Archived, without a field to write in; restored it is as before."""
    await home.session("A finished talk", agent="ann")
    await home.enter(page)
    await choose(page, "A finished talk", "Archive")
    await page.reads("is archived")
    assert await titles(page) == []
    await page.click("tab", "Archived")
    await page.click("link", await row(page))
    await page.find("article", "ann")
    await page.gone("textbox", "Message")
    # The list is still the one it was picked from.
    await page.reload()
    await page.until(lambda: titled(page, "A finished talk"), "it is listed")
    await page.click("button", "Restore to active")
    await page.find("textbox", "Message")
    await page.click("tab", "Active")

    await page.until(lambda: titled(page, "A finished talk"), "it is back")


async def test_archiving_can_be_taken_back_at_once(home: House, page: Page) -> None:
    """By the message that tells of it."""
    await home.session("A finished talk", agent="ann")
    await home.enter(page)
    await choose(page, "A finished talk", "Archive")
    await page.click("button", "Undo")

    await page.until(lambda: titled(page, "A finished talk"), "it is back")


async def test_deleting_asks_first(home: House, page: Page) -> None:
    """Cancelled nothing happens; agreed to it is gone for good, pinned or not."""
    session = await home.session("A talk to forget", agent="ann")
    await home.call("POST", f"/api/sessions/{session}/pin")
    await home.enter(page)
    await choose(page, "A talk to forget", "Delete")
    await page.find("dialog", "Delete this session?")
    await page.click("button", "Cancel")
    await page.gone("dialog", "Delete this session?")
    assert await titles(page) == ["A talk to forget"]
    await choose(page, "A talk to forget", "Delete")
    await page.click("button", "Delete")
    await page.reads("No sessions yet")

    left = await home.call("GET", "/api/sessions?view=active")
    assert left["sessions"] == []


async def test_nothing_is_told_of_a_deleted_session(home: House, page: Page) -> None:
    """Not even that it was read, if it goes while what came last is in sight."""
    session = await home.session("A talk to forget", agent="ann")
    await home.enter(page, f"/console/sessions/{session}")
    await page.until(lambda: unread(page), "it is read")
    told = page.requests.count(f"{home.url}/api/sessions/{session}/read")
    await page.js(
        f"""(() => {{ const tell = (kind, detail) =>
              document.dispatchEvent(new CustomEvent(kind, {{detail}}));
            tell("session-changed", {{session: "{session}", unread: true}});
            tell("session-gone", "{session}"); }})()"""
    )
    await page.becomes("location.pathname === '/console/'")
    await page.js("fetch('/api/me').then((one) => one.text())")

    assert page.requests.count(f"{home.url}/api/sessions/{session}/read") == told


async def test_a_row_is_renamed_from_its_menu(home: House, page: Page) -> None:
    """Which holds all that can be done with a session; the field is ready to be written in."""
    await home.session("First words", agent="ann")
    await home.enter(page)
    await page.click("button", "Menu of First words")
    items = await page.until(lambda: page.names("menuitem"), "the menu")
    await page.click("menuitem", "Rename")
    await page.find("textbox", "Title")
    await page.write("My own title")
    await page.press("Enter")

    await page.until(lambda: titled(page, "My own title"), "the title")

    assert items == ["Rename", "Pin", "Archive", "Delete"]


async def test_active_sessions_are_grouped_by_day(home: House, page: Page) -> None:
    """By when they were used last, under the days of the browser's calendar."""
    noon = datetime.now().astimezone().replace(hour=12, minute=0)
    for title, days in (("Now", 0), ("A day ago", 1), ("Two days ago", 2), ("A year ago", 365)):
        session = await home.session(title, agent="ann")
        if days:
            await home.stored(session, active_at=noon - timedelta(days=days))
    await home.enter(page)

    await page.until(lambda: titled(page, "A year ago"), "the list")

    shown = await page.js(
        "[...document.querySelectorAll('#session-list section')].map((one) =>"
        " [one.querySelector('h3'), ...one.querySelectorAll('.session-title')]"
        ".map((part) => part.textContent))"
    )
    assert shown == [
        ["Today", "Now"],
        ["Yesterday", "A day ago"],
        ["Older", "Two days ago", "A year ago"],
    ]


async def test_empty_sessions_are_hidden_except_the_newest(home: House, page: Page) -> None:
    """No ghosts of sessions that somebody began and left."""
    await home.session("Some words", agent="ann")
    for title in ("Ghost", "Newest"):
        await home.session(agent="ann", title=title)
    await home.enter(page)

    await page.until(lambda: titled(page, "Some words"), "the list")

    assert sorted(await titles(page)) == ["Newest", "Some words"]


async def test_what_was_not_read_yet_has_a_dot(home: House, page: Page) -> None:
    """Until it is opened; also when the answer comes while another session is open."""
    first = await home.session("Unread talk", agent="ann")
    second = await home.session("Other talk", agent="ann")
    await home.enter(page)
    await page.until(lambda: unread(page, first, second), "two dots")
    await page.click("link", await row(page, "Unread talk"))
    await page.until(lambda: unread(page, second), "the open one is read")
    await page.click("link", await row(page, "Other talk"))
    await page.until(lambda: unread(page), "both are read")
    await home.say(first, "Once more")

    await page.until(lambda: unread(page, first), "a dot for what came since")


async def test_sessions_show_where_they_came_from(house_of: Houses, page: Page) -> None:
    """A task's a gear, a chat's Telegram's plane, a webhook's a hook; one's own nothing."""
    home = await house_of(_WEBHOOK)
    await home.session("By hand", agent="ann")
    chat = await home.session("From a chat", agent="ann")
    await home.stored(chat, source="trigger", origin="telegram")
    await home.call("POST", "/hooks/alerts", {"disk": "full"})
    await home.call("POST", "/api/tasks/morning/run")
    await home.enter(page)

    await page.until(lambda: titled(page, "morning"), "all of them")

    marks = await page.names("image")
    assert sorted(mark for mark in marks if mark) == [
        "From Telegram",
        "From a webhook",
        "Made by a task",
    ]


async def test_scheduled_sessions_are_grouped_by_task(house_of: Houses, page: Page) -> None:
    """With when they ran and how long; the view stays when a session of it is opened."""
    home = await house_of(_WEBHOOK)
    for _ in range(2):
        ran = await home.call("POST", "/api/tasks/morning/run")
        await home.call("GET", f"/api/turns/{ran['turn']}?wait=60")
    await home.session("By hand", agent="ann")
    await home.enter(page)
    await page.click("tab", "Scheduled")
    group = await page.find("region", "morning")

    await page.until(lambda: titled(page, "morning"), "its sessions")

    assert len(await titles(page)) == 2
    assert "by hand" in await group.text()
    assert "Today" in await group.text()


async def test_search_finds_words_and_opens_their_message(home: House, page: Page) -> None:
    """The words found are marked; Escape brings the list back."""
    home.model.play("story/ann", "The capital of Peru is Lima.", "Anything else?")
    wanted = await home.session("A question", "Thanks", agent="ann")
    await home.session("Something else", agent="bob")
    await home.enter(page)
    await page.press("/")
    await page.write("Lima")
    await page.reads("1 hit")
    found = [name for name in await page.names("link") if "Lima" in name]
    await page.js(_NOTE_WHAT_IS_POINTED_AT)
    await page.click("link", found[0])
    await page.becomes("window.pointedAt?.includes('Lima')")

    assert await page.js("location.pathname") == f"/console/sessions/{wanted}"
    assert await page.js("document.querySelector('.hit mark').textContent") == "Lima"
    await page.press("/", "Escape")
    await page.until(lambda: titled(page, "Something else"), "the list")


async def test_a_search_without_a_hit_says_so(home: House, page: Page) -> None:
    """And what was searched."""
    await home.session("A question", agent="ann")
    await home.enter(page)
    await page.fill("Search in all sessions", "unheard-of", role="searchbox")

    await page.reads("Nothing found")


async def test_another_browser_sees_the_list_change(home: House, visitor: Person) -> None:
    """A new session, its title and its archiving come by themselves."""
    first, second = await visitor.page(), await visitor.page()
    await home.enter(first)
    await second.open(f"{home.url}/console/")
    await second.reads("No sessions yet")
    session = await home.session("Hello", agent="ann")
    await second.until(lambda: titled(second, "Hello"), "the new session")
    await first.until(lambda: titled(first, "Hello"), "the new session")
    await home.call("PATCH", f"/api/sessions/{session}", {"title": "Renamed"})
    await second.until(lambda: titled(second, "Renamed"), "the new title")
    await choose(first, "Renamed", "Archive")

    await second.reads("No sessions yet")


async def test_a_long_list_is_whole_after_a_lost_line(home: House, page: Page) -> None:
    """What came meanwhile moves the others on; none of them falls out between two pages."""
    for number in range(51):
        await home.session(f"Talk {number:02}", agent="assistant")
    async with wire(home.url) as line:
        await home.enter(page, url=line.url)
        await page.until(lambda: titled(page, "Talk 50"), "the first page")
        await page.js("document.querySelector('#session-list').scrollTop = 1e6")
        await page.until(lambda: titled(page, "Talk 00"), "the second page")
        line.cut()
        await page.reads("No connection")
        await home.session("Meanwhile", agent="assistant")
        line.mend()
        await page.until(lambda: titled(page, "Meanwhile"), "what was said meanwhile")
        await page.becomes("document.querySelectorAll('#session-list .session-title').length > 51")
        page.forgive("ERR_")

        told = await titles(page)

    assert told == ["Meanwhile", *(f"Talk {number:02}" for number in reversed(range(51)))]


async def choose(page: Page, title: str, item: str) -> None:
    """Choose something in the menu of a row."""
    await page.click("button", f"Menu of {title}")
    await page.click("menuitem", item)


async def titles(page: Page) -> list[str]:
    """The titles in the list from top to bottom."""
    shown: list[str] = await page.js(
        "[...document.querySelectorAll('#session-list .session-title')].map((one) => one.innerText)"
    )
    return shown


async def titled(page: Page, title: str) -> bool:
    """Whether a title of the list begins so."""
    return any(one.startswith(title) for one in await titles(page))


async def row(page: Page, title: str = "") -> str:
    """The whole name of the link of a session in the list."""

    async def found() -> str | None:
        menus = [name for name in await page.names("button") if name.startswith(f"Menu of {title}")]
        if not menus:
            return None
        wanted = menus[0].removeprefix("Menu of ")
        return next((name for name in await page.names("link") if wanted in name), None)

    return await page.until(found, f"a row {title!r}")


async def unread(page: Page, *sessions: str) -> bool:
    """Whether exactly these sessions have a dot, and the service says so, too."""
    shown: list[str] = await page.js(
        "[...document.querySelectorAll('.session-row:has(.dot)')].map((one) => one.dataset.session)"
    )
    told = await page.js("fetch('/api/sessions').then((answer) => answer.json())")
    kept = [one["session"] for one in told["sessions"] if one["unread"]]
    return sorted(shown) == sorted(kept) == sorted(sessions)
