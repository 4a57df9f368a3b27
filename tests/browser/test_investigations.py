"""Projects, their sessions and what they come to; templates; charts and long tables."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from service.core.access import UserRole
from tests.browser.house import Calls, Gate, House, house
from tests.browser.page import Node, Page, Person

_QUERY = "SELECT region, change FROM sales ORDER BY change"
_SHOP = """
[data.shop]
url = "sqlite:///{folder}/shop.db"
description = "Sales of the shop."
[agents.analyst]
provider = "story"
model = "story/analyst"
tools = ["data:shop"]
[agents.brief]
provider = "story"
model = "story/brief"
tools = ["data:shop"]
limits = {{ iterations = 2 }}
"""
_SCHEMA = {"verdict": "CONFIRMED|REFUTED", "loss": "optional Number"}
_TITLES = "[...document.querySelectorAll('.investigation')].map((one) => one.dataset.title)"
# A table of ten thousand rows, drawn for the first time.
_LONG = """(async () => {
  const { DataTable } = await import("/console/static/js/table.js");
  const columns = ["id", "customer", "amount"];
  const row = (n) => [n, `Customer ${n * 7919 % 10007}`, n % 7 ? n / 4 - 900 : null];
  const rows = Array.from({ length: 10000 }, (_, n) => row(n));
  const table = new DataTable({ columns, rows }, { caption: "Orders" });
  document.querySelector("main").replaceChildren(table.node);
  await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
})()"""
_SEEN = """(() => {
  const box = document.querySelector(".data-scroll").getBoundingClientRect();
  return [...document.querySelectorAll(".data-table tbody tr:not(.spacer)")]
    .filter((one) => { const at = one.getBoundingClientRect();
      return at.top >= box.top + 30 && at.bottom <= box.bottom + 1; })
    .map((one) => one.cells[0].innerText);
})()"""
# A chart of rows that are given here: how it is named, its marks, its labels, what it says.
_DRAWN = """(async (spec, table) => {
  const { chart } = await import("/console/static/js/chart.js");
  const host = document.querySelector("main");
  host.replaceChildren(chart(spec, table));
  await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
  const all = (selector) => [...host.querySelectorAll(selector)];
  const box = host.querySelector("svg")?.getBoundingClientRect();
  return { name: host.querySelector("svg")?.getAttribute("aria-label"), text: host.innerText,
    told: host.querySelector(".visually-hidden")?.textContent, spots: all(".spot title").length,
    marks: all(".mark").map((one) => [+one.getAttribute("y"), +one.getAttribute("height")]),
    odd: all("img, script").length, broken: host.innerHTML.includes("NaN"),
    wide: box ? Math.ceil(box.width) - host.clientWidth : 0 };
})(%s, %s)"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lasting_shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[House]:
    """A service whose analyst reads a database of sales."""
    folder = tmp_path_factory.mktemp("shop")
    with sqlite3.connect(folder / "shop.db") as database:
        database.execute("CREATE TABLE sales (region TEXT, change REAL)")
        rows = [("North", -812.5), ("South & <b>East</b>", 120.0), ("West", 44.25)]
        database.executemany("INSERT INTO sales VALUES (?, ?)", rows)
    database.close()
    url = f"sqlite+aiosqlite:///{folder}/ringback.db"
    async with house(folder, url, _SHOP.format(folder=folder)) as home:
        yield home


@pytest_asyncio.fixture(loop_scope="session")
async def shop(lasting_shop: House) -> House:
    """The same without a project."""
    for one in (await lasting_shop.call("GET", "/api/projects"))["projects"]:
        query = "?sessions=delete" if one["sessions"] else ""
        await lasting_shop.call("DELETE", f"/api/projects/{one['project']}{query}")
    await lasting_shop.clear()
    return lasting_shop


async def test_an_investigation_comes_to_a_result(shop: House, page: Page) -> None:
    """From a new project to a chart, a confirmed disposition, and what waited for it."""
    shop.model.play(
        "story/analyst",
        [Calls("shop_query", {"sql": _QUERY})],
        [Calls("promote_result", _promoted)],
        [Calls("set_disposition", {"verdict": "CONFIRMED", "loss": 812.5})],
        "The North lost most.",
    )
    await shop.enter(page, "/console/projects")
    await _make_project(page)
    await _make_sessions(page)
    await page.click("link", "What did it cost?")
    await page.reads("It waits for")
    waiting = await page.find("button", "Start session")
    await page.click("link", "Which regions lost sales?", await page.find("region", "Not started"))
    await page.click("button", "Prompt preview")
    dialog = await page.find("dialog", "Prompt preview")
    await page.until(lambda: _reads(dialog, "verdict"), "the preview")
    await page.click("button", "Close", within=dialog)
    await page.click("button", "Start session")

    # It comes to a chart, a table and a disposition while we look.
    await page.reads("The North lost most.")
    await page.find("image", "Change by region: Bar chart of change by region")
    await page.find("table", "Change by region: 3 rows")
    cells: list[str] = await page.js(
        "[...document.querySelectorAll('.data-table td')].map((one) => one.innerText)"
    )
    await page.click("radio", "Table")
    await page.gone("image", "Change by region: Bar chart of change by region")
    await page.click("button", "Confirm")
    await page.reads("Confirmed by operator")

    await _set_again(page)
    (project,) = (await shop.call("GET", "/api/projects"))["projects"]
    told = await shop.call("GET", f"/api/projects/{project['project']}")

    assert waiting.states.get("disabled")
    assert cells == ["North", "-812.50", "West", "44.25", "South & <b>East</b>", "120.00"]
    assert told["investigations"][0]["disposition"] == {"verdict": "REFUTED", "loss": 812.5}
    assert told["investigations"][0]["stale"]
    assert told["investigations"][1]["dependencies"][0]["value"] == "CONFIRMED"


async def test_sessions_are_put_in_order_and_deleted(shop: House, page: Page) -> None:
    """By keys and by dragging; whoever depends on a deleted one is named first."""
    project, sessions = await _project(shop, "one", "two", "three", "four")
    dependencies = {"dependencies": [{"session": sessions[0]}]}
    await shop.call("PUT", f"/api/sessions/{sessions[3]}/dependencies", dependencies)
    await shop.enter(page, f"/console/projects/{project}")
    await page.find("button", "Move one")
    await page.js("document.querySelector('[data-title=one] .handle').focus()")
    await page.press(" ", "ArrowDown", "ArrowDown", "Escape")
    cancelled = await page.js(_TITLES)
    await page.press(" ", "ArrowDown", "ArrowDown")
    said = await page.js("document.querySelector('[aria-live=assertive]').textContent")
    await page.press("Enter")
    await page.until(lambda: _ordered(shop, project, "two", "three", "one", "four"), "by keys")
    focused = await page.js("document.activeElement.ariaLabel")
    await _drag(page, "four", onto="two")
    await page.until(lambda: _ordered(shop, project, "four", "two", "three", "one"), "by dragging")
    await page.reload()
    await page.find("button", "Move one")
    kept = await page.js(_TITLES)

    await page.click("button", "More about one")
    warned = await _delete_though_needed(page)
    await page.reads("“one” was deleted; edit the dependencies")
    page.forgive("409")
    await page.click("button", "More about this project")
    await page.click("menuitem", "Delete")
    dialog = await page.find("dialog", "Delete this project?")
    await page.fill("Type “Orders” to delete it", "Orders")
    await page.click("button", "Delete", within=dialog)
    await page.reads("No projects yet")

    assert cancelled == ["one", "two", "three", "four"]
    assert said == "one, position 3 of 4"
    assert focused == "Move one"
    assert kept == ["four", "two", "three", "one"]
    assert "“four” waits for it" in warned


async def test_a_list_also_names_who_needs_what_is_deleted(shop: House, page: Page) -> None:
    """Wherever a session of a project is deleted, what depends on it is told first."""
    shop.model.play("story/analyst", "Well.")
    project, (one, two) = await _project(shop, "one", "two")
    await shop.call(
        "PUT", f"/api/sessions/{two}/dependencies", {"dependencies": [{"session": one}]}
    )
    await shop.call("POST", f"/api/sessions/{one}/start", {})
    await shop.enter(page, "/console/")
    await page.click("button", "Menu of one")
    warned = await _delete_though_needed(page)
    await page.reads("“one” is deleted")
    page.forgive("409")
    await page.gone("button", "Menu of one")
    told = await shop.call("GET", f"/api/projects/{project}")

    assert "“two” waits for it" in warned
    assert [left["title"] for left in told["investigations"]] == ["two"]


async def test_a_question_is_asked_at_once(shop: House, page: Page) -> None:
    """In one's private project, which is made for the first one; its steps are counted."""
    shop.model.play("story/ann", "Forty-two.")
    await shop.enter(page, "/console/projects")
    await page.fill("Ask a question", "How many orders are open?")
    await page.press("Enter")
    await page.find("textbox", "Message")
    await page.find("navigation", "Where this is")
    session = (await page.js("location.pathname")).split("/")[-1]
    await page.reads("How many orders are open?")
    await page.reads("This session is not asked for a disposition")
    await page.js("document.querySelector('.crumb').click()")
    await page.reads("private")
    (project,) = (await shop.call("GET", "/api/projects"))["projects"]
    told = await shop.call("GET", f"/api/projects/{project['project']}")

    assert project["private"]
    assert [one["session"] for one in told["investigations"]] == [session]


async def test_whose_session_it_is_decides_on_more_steps(shop: House, page: Page) -> None:
    """An editor is told why not; the owner gets them, and is told how many are used."""
    shop.model.play("story/brief", [Calls("shop_query", {"sql": _QUERY})])
    project, (session,) = await _project(shop, "one", agent="brief")
    await shop.call("POST", f"/api/sessions/{session}/start", {})
    await shop.person("eddi", "a-long-password", UserRole.OPERATOR)
    await shop.call("PUT", f"/api/projects/{project}/members/eddi", {"share": "editor"})
    await _sign_in(shop, page, "eddi", f"/console/sessions/{session}")
    await page.reads("1 of 2 steps used: there is none left")
    await page.click("button", "Allow 35 more")
    await page.reads("Only operator, who owns this session, and admins may")
    page.forgive("403")
    await page.js("document.querySelector('.candidates-fold').open = true")
    await page.click("button", "Promote")
    dialog = await page.find("dialog", "Promote to key result")
    await page.fill("Title", "Regions")
    await page.choose("Chart", "Slices", dialog)
    await page.click("button", "Promote", within=dialog)
    await page.reads("a pie shows no negative numbers")
    await page.choose("Chart", "Bars", dialog)
    await page.click("button", "Promote", within=dialog)
    await page.find("image", "Regions: Bar chart of change by region")
    page.forgive("42")
    await page.click("button", "More about Regions")
    await page.click("menuitem", "Remove")
    await page.reads("is a candidate again")
    await _sign_out(shop, page)
    await shop.enter(page, f"/console/sessions/{session}")
    await page.click("button", "Allow 35 more")
    await page.reads("1 of 37 steps used")


async def test_a_circle_and_a_strangers_interruption_are_refused(shop: House, page: Page) -> None:
    """An editor is told why, where it was tried; nothing changes."""
    gate = Gate()
    shop.model.play("story/analyst", ["So far", gate, " so good."])
    project, (one, two) = await _project(shop, "one", "two")
    dependencies = {"dependencies": [{"session": one}]}
    await shop.call("PUT", f"/api/sessions/{two}/dependencies", dependencies)
    await shop.person("eddi", "a-long-password", UserRole.OPERATOR)
    await shop.call("PUT", f"/api/projects/{project}/members/eddi", {"share": "editor"})
    await _sign_in(shop, page, "eddi", f"/console/projects/{project}/sessions/{one}")
    await page.click("button", "Add a dependency")
    await page.click("button", "Save")
    await page.reads("they would go round in a circle: “one” → “two” → “one”")
    page.forgive("422")
    await shop.call("POST", f"/api/sessions/{one}/start", {})
    await gate.reached()
    await page.open(f"{shop.url}/console/sessions/{one}")
    await page.click("button", "Interrupt")
    await page.reads("Only operator, who owns this session, and admins may")
    page.forgive("403")
    gate.open()
    await page.reads("So far so good.")
    told = await shop.call("GET", f"/api/sessions/{one}/dependencies")

    assert told["dependencies"] == []


async def test_a_condition_that_lost_its_field_is_kept_until_it_is_changed(
    shop: House, page: Page
) -> None:
    """Saving a new title does not open the gate."""
    project, (one, two) = await _project(shop, "one", "two", schema=_SCHEMA)
    condition = {"session": one, "field": "verdict", "value": "CONFIRMED"}
    await shop.call("PUT", f"/api/sessions/{two}/dependencies", {"dependencies": [condition]})
    schema = {"schema": {"verdict": "YES|NO"}}
    await shop.call("PATCH", f"/api/sessions/{one}/investigation", schema)
    await shop.enter(page, f"/console/projects/{project}/sessions/{two}")
    await page.fill("Title", "deux")
    await page.click("button", "Save")
    await page.find("heading", "deux")
    told = await shop.call("GET", f"/api/sessions/{two}/dependencies")
    await page.open(f"{shop.url}/console/projects/{project}/sessions/{two}")
    await page.reads("verdict = CONFIRMED, which its schema lacks now")
    await page.choose("What it has to come to", "verdict = NO")
    await page.click("button", "Save")
    await page.find("heading", "deux")
    changed = await shop.call("GET", f"/api/sessions/{two}/dependencies")

    (kept,), (new,) = told["dependencies"], changed["dependencies"]
    assert (kept["field"], kept["value"]) == ("verdict", "CONFIRMED")
    assert (new["field"], new["value"]) == ("verdict", "NO")


async def test_viewers_look_and_others_see_nothing(
    shop: House, page: Page, visitor: Person
) -> None:
    """A viewer of a project has no control that writes; who is no member finds no project."""
    shop.model.play("story/analyst", "Well.")
    project, (session, *_) = await _project(shop, "one", "two", schema=_SCHEMA)
    await shop.call("POST", f"/api/sessions/{session}/start", {})
    for name in ("vera", "otto"):
        await shop.person(name, "a-long-password", UserRole.OPERATOR)
    await shop.call("PUT", f"/api/projects/{project}/members/vera", {"share": "viewer"})
    await _sign_in(shop, page, "vera", f"/console/projects/{project}")
    await page.find("link", "one")
    on_project = await page.names("button") + await page.names("link")
    await page.open(f"{shop.url}/console/sessions/{session}")
    await page.reads("You can read along")
    await page.reads("Not set yet.")
    on_session = await page.names("button")
    await page.open(f"{shop.url}/console/projects/{project}/new")
    await page.reads("You can look at this project, not change it.")
    await page.open(f"{shop.url}/console/projects/{project}/edit")
    await page.reads("You can look at this project, not change it.")
    await _sign_out(shop, page)
    await _sign_in(shop, page, "otto", "/console/projects")
    await page.reads("No projects yet")
    await page.open(f"{shop.url}/console/projects/{project}")
    await page.reads("This page could not be shown")
    page.forgive("404")

    writing = re.compile(
        r"^(New session|Edit|Move|More about|Start|Add|Remove|Set it|Confirm|Promote)"
    )
    assert [one for one in on_project + on_session if writing.match(one)] == []


async def test_long_tables_and_all_charts(home: House, page: Page) -> None:
    """Of many rows those are drawn that are seen; charts take any data, and draw it as text."""
    await page.looks(1280, 900)
    await home.enter(page, "/console/more")
    await page.find("heading", "More")
    await page.js(_LONG)
    there = await page.js("document.querySelectorAll('.data-table tbody tr').length")
    await page.js("document.querySelector('.data-scroll').focus()")
    await page.press("End")
    await page.becomes(f"{_SEEN}.at(-1) === '9999'")
    await page.until(lambda: _paged_up(page), "the page before")
    await page.click("button", "amount")
    await page.press("Home")
    await page.js("document.querySelector('.data-scroll').scrollTop = 0")
    await page.becomes(f"{_SEEN}[0] === '1'")
    await page.click("button", "amount")
    await page.becomes(f"{_SEEN}[0] === '9999'")
    sorting = await page.js("document.querySelectorAll('th')[2].ariaSort")
    right = await page.js("getComputedStyle(document.querySelector('td.number')).textAlign")

    evil = "<img src=x onerror=alert(1)> " * 4
    rows: list[list[Any]] = [["a", 5], [evil, -20], [None, None], ["d", 40]]
    bar = await _drawn(page, {"kind": "bar", "x": "x", "y": ["y"], "title": "T"}, rows)
    many = [[f"2020-01-{n}", n % 100, -n] for n in range(5000)]
    line = await _drawn(page, {"kind": "line", "x": "x", "y": ["y", "z"]}, many)
    huge = [["a", 1.7e308], ["b", -1.7e308], ["c", 5e-324]]
    area = await _drawn(page, {"kind": "area", "x": "x", "y": ["y"]}, huge)
    pie = await _drawn(page, {"kind": "pie", "x": "x", "y": ["y"]}, [["only", 3], ["none", 0]])
    none = await _drawn(page, {"kind": "bar", "x": "x", "y": ["gone"]}, rows)
    await page.looks(360, 700)
    phone = await _drawn(page, {"kind": "bar", "x": "x", "y": ["y"]}, rows)

    # As many as are seen and a few: that is why ten thousand take no longer to draw.
    assert there < 60
    assert (sorting, right) == ("descending", "right")
    charts = (bar, line, area, pie, phone)
    assert [(one["odd"], one["broken"], one["wide"]) for one in charts] == [(0, False, 0)] * 5
    assert bar["name"] == "T: Bar chart of y by x"
    assert "lowest -20" in bar["told"]
    assert [height for _, height in bar["marks"]][1] > bar["marks"][0][1]
    assert line["spots"] < 1300
    assert "of 5,000 points are drawn" in line["text"]
    assert "1 value is not above zero" in pie["text"]
    assert "The data has no column gone." in none["text"]


async def test_templates_are_written_checked_and_used(
    shop: House, page: Page, downloads: Path, tmp_path: Path
) -> None:
    """A project is saved as one; what is wrong stands beside its line; it makes a project again."""
    project, _ = await _project(shop, "one", "two", schema=_SCHEMA)
    await shop.enter(page, f"/console/projects/{project}")
    await page.click("button", "More about this project")
    await page.click("menuitem", "Save as template")
    dialog = await page.find("dialog", "Save as template")
    await page.fill("Name", "Review")
    await page.click("button", "Save", within=dialog)
    await page.click("button", "Open")
    await page.find("heading", "Review")
    await page.reads("No problems")
    source: str = await page.js("document.querySelector('.editor-text').value")
    lines = source.split("\n")
    wrong = next(at for at, line in enumerate(lines) if "CONFIRMED|REFUTED" in line)
    broken = [
        *lines[:wrong],
        lines[wrong].replace("CONFIRMED|REFUTED", "CONFIRMED"),
        *lines[wrong + 1 :],
    ]
    await page.fill("Source of the template", "\n".join(broken))
    await page.reads("1 problem")
    await page.js("document.querySelector('.editor-text').setSelectionRange(0, 0)")
    told = await page.js("document.querySelector('.editor-problem').innerText")
    await page.js("document.querySelector('.editor-problem').click()")
    chosen: str = await page.js(
        "(({ value, selectionStart: from, selectionEnd: to }) => value.slice(from, to))"
        "(document.activeElement)"
    )
    await page.fill("Source of the template", source.replace("Review", "Audit", 1) + "\n\n\n\n")
    await page.reads("It can be saved, as “Audit”")
    await page.click("button", "Reformat")
    await page.becomes("!document.querySelector('.editor-text').value.endsWith('\\n\\n\\n')")
    await page.click("button", "Save")
    await page.find("heading", "Audit")
    await page.click("radio", "Read")
    await page.reads("two")
    await page.click("button", "New project from Audit")
    dialog = await page.find("dialog", "New project from Audit")
    await page.fill("Name of the project", "Audit of May")
    await page.click("button", "Make project", within=dialog)
    await page.find("heading", "Audit of May")
    made = await page.js(_TITLES)

    await _export_and_import(shop, page, downloads, tmp_path)
    left = [one["template"] for one in (await shop.call("GET", "/api/templates"))["templates"]]

    assert f"Line {wrong + 1}" in told
    assert chosen == broken[wrong]
    assert made == ["one", "two"]
    assert sorted(left) == ["Audit", "Review"]


async def _make_project(page: Page) -> None:
    """Fill in the form of a new project, once in vain."""
    await page.reads("No projects yet")
    await page.until(lambda: _press_first(page, "link", "New project"), "a link")
    await page.find("textbox", "Name")
    await page.click("button", "Make project")
    await page.reads("Give the project a name.")
    await page.fill("Name", "Sales drop")
    await page.fill("Domain", "Sales", role="combobox")
    await page.choose("Agent", "analyst · story/analyst")
    await page.click("button", "Make project")
    await page.reads("No sessions yet")


async def _make_sessions(page: Page) -> None:
    """Save a session with a schema, and one that waits for what it comes to."""
    # The first session: with a schema, saved without starting.
    await page.until(lambda: _press_first(page, "link", "New session"), "a link")
    await page.fill("Request", "Which regions lost sales?")
    await page.click("switch", "Ask for a disposition")
    await page.fill("Name of the field", "verdict")
    await page.fill("Its values, with | between them", "CONFIRMED | REFUTED")
    await page.click("button", "Add a field")
    await page.write("loss")
    kinds = await page.all("combobox", "What it holds")
    await kinds[1].apply(
        "function () { this.value = 'Number'; this.dispatchEvent(new Event('change')); }"
    )
    await page.js("document.querySelectorAll('.schema-more input')[2].click()")
    await page.click("button", "Save without starting")
    await page.reads("(Not started)")
    # The second one waits for it to be confirmed.
    await page.click("link", "New session")
    await page.fill("Request", "What did it cost?")
    await page.click("button", "Add a dependency")
    await page.choose("What it has to come to", "verdict = CONFIRMED")
    await page.click("button", "Save without starting")
    await page.reads("has no disposition yet")


async def _set_again(page: Page) -> None:
    """Edit the disposition, which confirms it no more; then its schema, which makes it stale."""
    await page.click("button", "Edit", await page.find("region", "Disposition"))
    dialog = await page.find("dialog", "Edit disposition")
    await page.choose("verdict", "REFUTED", dialog)
    await page.click("button", "Save", within=dialog)
    await page.lacks("Confirmed by")
    await page.click("link", "Edit session")
    await page.find("textbox", "Request")
    values = await page.all("textbox", "Its values, with | between them")
    await values[0].apply("function () { this.value = 'CONFIRMED | REFUTED | OPEN'; }")
    await page.click("button", "Save")
    await page.reads("The fields have changed since it was set")
    await page.click("link", "Sales drop")
    await page.reads("stale")
    rows: list[str] = await page.js(
        "[...document.querySelectorAll('.investigation')].map((one) => one.innerText)"
    )

    begun, waiting = rows
    assert all(words in begun for words in ("Updated", "1 key result"))
    assert "(Not started)" not in begun
    assert all(words in waiting for words in ("Updated", "(Not started)"))
    assert "key result" not in waiting


async def _export_and_import(home: House, page: Page, downloads: Path, folder: Path) -> None:
    """Take a template out as a file, bring it in again under another name, and delete that."""
    await page.open(f"{home.url}/console/templates/Audit")
    await page.click("button", "More about this template")
    await page.click("menuitem", "Export as a file")
    file = await page.until(lambda: _downloaded(downloads), "the file")
    copy = folder / "copy.md"
    copy.write_text(file.read_text("utf-8").replace("Audit", "Copy", 1), "utf-8")
    await page.open(f"{home.url}/console/templates")
    await (await page.css(".import input")).choose_files(copy)
    await page.reads("It can be saved, as “Copy”")
    await page.click("button", "Save")
    await page.find("heading", "Copy")
    await page.click("button", "More about this template")
    await page.click("menuitem", "Delete")
    dialog = await page.find("dialog", "Delete Copy?")
    await page.click("button", "Delete", within=dialog)
    await page.find("heading", "Templates")


def _promoted(told: str) -> dict[str, Any]:
    """Promote the result that the model was told of last."""
    found = re.search(r"\[Result (\w+)\.", told)
    assert found is not None, told
    chart = {"kind": "bar", "x": "region", "y": ["change"]}
    return {
        "result": found[1],
        "title": "Change by region",
        "chart": {**chart, "title": "Change by region"},
    }


async def _project(home: House, *titles: str, **given: object) -> tuple[str, list[str]]:
    """Make a project with sessions of these titles by the API."""
    made = await home.call("POST", "/api/projects", {"name": "Orders", "agent": "analyst"})
    project: str = made["project"]
    sessions = []
    for title in titles:
        body = {"title": title, "request": f"What of {title}?", **given}
        one = await home.call("POST", f"/api/projects/{project}/sessions", body)
        sessions.append(one["session"])
    return project, sessions


async def _ordered(home: House, project: str, *titles: str) -> bool:
    found = await home.call("GET", f"/api/projects/{project}")
    return [one["title"] for one in found["investigations"]] == list(titles)


async def _drag(page: Page, title: str, *, onto: str) -> None:
    """Take a session by its handle and let it go above another one."""
    at = "(({x, y, width, height}) => [x + width / 2, y + height / 2])(%s.getBoundingClientRect())"
    row = "document.querySelector('[data-title=%s]')"
    x, y = await page.js(at % (f"{row % title}.querySelector('.handle')"))
    _, top = await page.js(at % (row % onto))
    mouse = {"button": "left", "buttons": 1, "x": x}
    await page.call("Input.dispatchMouseEvent", type="mousePressed", y=y, clickCount=1, **mouse)
    for step in (0.3, 0.7, 1.0):
        way = y + (top - 20 - y) * step
        await page.call("Input.dispatchMouseEvent", type="mouseMoved", y=way, **mouse)
    await page.call("Input.dispatchMouseEvent", type="mouseReleased", y=top - 20, **mouse)


async def _paged_up(page: Page) -> bool:
    await page.press("PageUp")
    found: bool = await page.js(f"{_SEEN}.at(-1) < '9999'")
    return found


async def _drawn(page: Page, spec: dict[str, Any], rows: list[list[Any]]) -> dict[str, Any]:
    table = {"columns": ["x", "y", "z"][: len(rows[0])], "rows": rows}
    found: dict[str, Any] = await page.js(_DRAWN % (json.dumps(spec), json.dumps(table)))
    return found


async def _delete_though_needed(page: Page) -> str:
    """Delete the session whose menu is open, and again after the warning; what that said."""
    await page.click("menuitem", "Delete")
    dialog = await page.find("dialog", "Delete this session?")
    await page.click("button", "Delete", within=dialog)
    dialog = await page.find("dialog", "Others depend on it")
    warned: str = await dialog.text()
    await page.click("button", "Delete anyway", within=dialog)
    return warned


async def _sign_in(home: House, page: Page, name: str, path: str) -> None:
    await page.open(f"{home.url}/console/signin?next={quote(path)}")
    await page.fill("Name", name)
    await page.fill("Password", "a-long-password")
    await page.press("Enter")
    await page.find("navigation", "Console")


async def _sign_out(home: House, page: Page) -> None:
    await page.open(f"{home.url}/console/more")
    await page.click("button", "Sign out")
    await page.find("button", "Sign in")


async def _press_first(page: Page, role: str, name: str) -> bool:
    found = await page.all(role, name)
    return bool(found) and await found[0].pressed()


async def _reads(node: Node, words: str) -> bool:
    return words in await node.text()


async def _downloaded(folder: Path) -> Path | None:
    found = await asyncio.to_thread(lambda: sorted(folder.glob("*.md")))
    return found[0] if found else None
