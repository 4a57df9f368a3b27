"""Forms of projects that look ahead: who is known, what the model would be told; a scan by hand."""

from __future__ import annotations

from service.core.access import UserRole
from tests.browser.house import Gate, House
from tests.browser.page import Page

_AUDIT = """\
# Audit

## Sessions

### Look

- Agent: ann

What is it?
"""


async def test_a_prompt_is_previewed_before_anything_is_saved(home: House, page: Page) -> None:
    """With what stands in the form now; what is wrong with it is said in its place."""
    given = {"name": "Previews", "agent": "ann", "prompt": "Cite what you find."}
    project = (await home.call("POST", "/api/projects", given))["project"]
    await home.enter(page, f"/console/projects/{project}/new")
    await page.click("button", "Prompt preview")
    await page.reads("Say what is to be found out.")
    await page.fill("Request", "Why did it fall?")
    await page.click("button", "Prompt preview")
    dialog = await page.find("dialog", "Prompt preview")
    await page.reads("Cite what you find.")
    shown = await dialog.text()
    await page.click("button", "Close", within=dialog)
    await page.gone("dialog")
    focused = await page.js("document.activeElement.innerText")
    found = await home.call("GET", f"/api/projects/{project}")
    await page.click("link", "Cancel")
    await page.find("heading", "Previews")

    assert "Why did it fall?" in shown
    assert focused == "Prompt preview"
    assert found["investigations"] == []

    await home.call("DELETE", f"/api/projects/{project}")


async def test_names_of_people_are_suggested(home: House, page: Page) -> None:
    """Of those who are in the project already not."""
    for name in ("mia", "noah"):
        await home.person(name, "a-long-password", UserRole.OPERATOR)
    project = (await home.call("POST", "/api/projects", {"name": "People"}))["project"]
    await home.call("PUT", f"/api/projects/{project}/members/mia", {"share": "viewer"})
    await home.enter(page, f"/console/projects/{project}")
    await page.find("combobox", "Name of a new member")
    await page.becomes("document.querySelector('.add-person datalist').options.length > 0")

    names = await page.js(
        "[...document.querySelector('.add-person input').list.options].map((one) => one.value)"
    )

    assert "noah" in names
    assert not {"mia", "operator"} & set(names)

    await home.call("DELETE", f"/api/projects/{project}")


async def test_a_template_is_run_as_a_scan(home: House, page: Page) -> None:
    """In a project of whoever presses it; its session tells what becomes of it."""
    gate = Gate()
    home.model.play("story/ann", ["It is", gate, " nothing."])
    await home.call("PUT", "/api/templates/Audit", {"source": _AUDIT})
    await home.enter(page, "/console/templates/Audit")
    await page.click("button", "Run as a scan")
    dialog = await page.find("dialog", "Run Audit as a scan?")
    words = await dialog.text()
    await page.click("button", "Run", within=dialog)
    await gate.reached()
    # It waits for its session, and asks nobody anything.
    busy = "[...document.querySelectorAll('.session-flag')].map(one => one.innerText.trim())"
    await page.becomes(f"JSON.stringify({busy}) === JSON.stringify(['It answers', 'It answers'])")
    gate.open()
    await page.reads("0 of 1 sessions came to a result.")
    where = await page.js("location.pathname")
    (project,) = (await home.call("GET", "/api/projects"))["projects"]

    await page.click("button", "Project")
    await page.becomes(f"location.pathname === '/console/projects/{project['project']}'")
    await page.find("heading", project["name"])

    assert "It begins 1 session in a new project of yours" in words
    assert where.startswith("/console/sessions/")
    assert (project["owner"], project["sessions"]) == ("operator", 1)

    await home.call("DELETE", f"/api/projects/{project['project']}?sessions=delete")
    await home.call("DELETE", "/api/templates/Audit")
