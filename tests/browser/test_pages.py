"""The other pages: tasks, triggers, deliveries, compositions, usage."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import web

from tests.browser.conversing import ask
from tests.browser.house import House, Houses, house
from tests.browser.page import Node, Page
from tests.webhook.site import listening

_TASK = """
[tasks.morning]
cron = "0 8 * * *"
timezone = "Europe/Berlin"
agent = "assistant"
prompt = "What is on today?"
"""
_CALLING_BACK = """
[webhooks.alerts]
agent = "assistant"
auth = "none"
reply = "callback"
callback = {{ url = "{url}", allow_private = true }}
"""
_HOOK = """
[webhooks.alerts]
agent = "assistant"
auth = {{ scheme = "bearer", secret = "file:{folder}/token" }}
prompt = "Alert: {prompt}"
"""


@dataclass
class Receiver:
    """Who is called back: refuses until it is told otherwise."""

    url: str = ""
    status: int = 410
    heard: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Take a callback."""
        self.heard.append(await request.text())
        later = {"Retry-After": "5400"} if self.status == 503 else {}
        return web.Response(status=self.status, headers=later)


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncGenerator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/", receiver.answer)
    async with listening(application) as port:
        receiver.url = f"http://127.0.0.1:{port}/"
        yield receiver


# -- tasks ----------------------------------------------------------------------------------------


async def test_a_task_runs_at_once_and_tells_how_it_went(house_of: Houses, page: Page) -> None:
    """Its page shows what it does, when it is due next, and what became of each run."""
    home = await house_of(_TASK)
    await home.enter(page, "/console/tasks")
    await page.click("link", "morning")
    await page.find("heading", "Next runs")
    await page.reads("It has not run yet")
    await page.click("button", "Run morning now")
    await page.becomes("document.querySelector('tbody')?.innerText.includes('done')")
    shown = await page.js("document.querySelector('tbody').innerText")
    await page.click("link", "Open")
    await page.find("article", "assistant")

    await page.reads("What is on today?")

    assert "by hand" in shown


async def test_a_task_is_turned_off_and_on(house_of: Houses, page: Page) -> None:
    """It says that it is not scheduled; the service knows at once."""
    home = await house_of(_TASK)
    await home.enter(page, "/console/tasks")
    await page.find("switch", "Task morning is on")
    await page.js("document.querySelector('[role=switch]').focus()")
    await page.press("Enter")
    await page.reads("Not scheduled")
    off = await home.call("GET", "/api/tasks/morning")
    # The keyboard keeps its place.
    await page.becomes("!document.activeElement.hasAttribute('aria-disabled')")
    await page.press("Enter")
    await page.lacks("Not scheduled")
    on = await home.call("GET", "/api/tasks/morning")

    assert (off["enabled"], on["enabled"]) == (False, True)


async def test_a_task_is_made_and_deleted(home: House, page: Page) -> None:
    """With a schedule that is told in words; what is wrong with it is told, too."""
    await home.enter(page, "/console/tasks")
    await page.reads("No tasks yet")
    await page.until(lambda: _press_first(page, "New task"), "a button")
    await page.fill("Prompt", "Water the plants")
    await page.fill("Name", "plants")
    await page.fill("Schedule (cron)", "61 * * * *")
    await page.click("button", "Make task")
    wrong = await (await page.find("alert")).text()
    await page.fill("Schedule (cron)", "0 9 * * 1")
    await page.click("button", "Make task")
    await page.find("heading", "plants")
    page.forgive("400")
    await page.click("button", "Delete")
    dialog = await page.find("dialog", "Delete plants?")
    await page.click("button", "Delete", within=dialog)
    await page.reads("No tasks yet")

    assert "cron" in wrong


# -- triggers -------------------------------------------------------------------------------------


async def test_a_webhook_is_rung_for_trial(house_of: Houses, page: Page, tmp_path: Path) -> None:
    """Its address and how it is secured are shown, its secret is not; the answer comes back."""
    home = await house_of(_HOOK.format(folder=tmp_path, prompt="{{ payload.disk }}"))
    await home.enter(page, "/console/triggers")
    await page.reads("/hooks/alerts")
    await page.reads("bearer token")
    await page.click("button", "Test ring of alerts")
    dialog = await page.find("dialog", "Test ring of alerts")
    await page.fill("Body", '{"disk": "full"}')
    await page.click("button", "Ring", within=dialog)
    await page.until(lambda: _reads(dialog, "Alert: full"), "the answer")
    await page.fill("Body", "{")
    await page.click("button", "Ring", within=dialog)
    await page.until(lambda: _reads(dialog, "This is no JSON"), "what is wrong")

    told = await page.js("fetch('/api/triggers').then((answer) => answer.text())")
    assert "the-operators-token" not in told


# -- deliveries -----------------------------------------------------------------------------------


async def test_a_failed_delivery_is_sent_again(
    house_of: Houses, page: Page, receiver: Receiver
) -> None:
    """With what the receiver said; after that it has arrived."""
    home = await house_of(_CALLING_BACK.format(url=receiver.url))
    await home.call("POST", "/hooks/alerts", {"disk": "full"})
    await page.until(lambda: _states(home, "failed"), "it failed")
    receiver.status = 200
    await home.enter(page, "/console/deliveries")
    await page.reads("410")
    await page.click("button", "Send again")
    await page.reads("sent again")
    await page.until(lambda: _states(home, "failed", "sent"), "it arrived")
    await page.reload()

    await page.reads("arrived")

    assert len(receiver.heard) == 2


async def test_a_delivery_that_waits_tells_when_it_is_tried_again(
    house_of: Houses, page: Page, receiver: Receiver
) -> None:
    """As the receiver has asked."""
    receiver.status = 503
    home = await house_of(_CALLING_BACK.format(url=receiver.url))
    await home.call("POST", "/hooks/alerts", {"disk": "full"})
    await page.until(lambda: _refused(home), "it was refused")
    await home.enter(page, "/console/deliveries")

    await page.reads("the receiver answered 503")

    await page.reads("Next try in 1 h")


async def test_a_quarantined_ring_is_tried_again_after_mending(
    page: Page, tmp_path: Path, sqlite_url: str
) -> None:
    """Until its template is mended it stays, with the reason; afterwards it rings once."""
    broken = _HOOK.format(folder=tmp_path, prompt="{{ payload.issue.title }}")
    async with house(tmp_path, sqlite_url, broken) as home:
        await home.ring("alerts", {"disk": "full"})
        await home.enter(page, "/console/deliveries?view=quarantine")
        await page.reads("Webhook alerts")
        await page.click("button", "Try again")
        await page.reads("It is still in quarantine")
        page.forgive("422")
        await page.open("about:blank")
    mended = _HOOK.format(folder=tmp_path, prompt="{{ payload.disk }}")
    async with house(tmp_path, sqlite_url, mended) as home:
        await page.open(f"{home.url}/console/deliveries?view=quarantine")
        await page.click("button", "Try again")
        await page.click("button", "Open session")
        await page.reads("Alert: full")
        await page.open(f"{home.url}/console/deliveries?view=quarantine")

        await page.reads("Nothing in quarantine")

        await page.open("about:blank")


# -- compositions ---------------------------------------------------------------------------------


async def test_a_composition_is_made_and_used(house_of: Houses, page: Page) -> None:
    """Of agents and of models with a prompt, in an order of one's own."""
    home = await house_of("")
    home.model.play("story/ann", "Ann here.")
    home.model.play("story/critic", "I disagree.")
    await home.enter(page, "/console/compositions")
    await page.reads("No compositions yet")
    await page.open(f"{home.url}/console/compositions?new")
    await page.click("button", "Save")
    await page.becomes("document.activeElement.ariaInvalid === 'true'")
    page.forgive("400")
    await page.write("panel")
    await page.choose("Agent", "ann")
    await page.click("button", "Model with a prompt")
    await page.write("Critic")
    await page.choose("Provider", "story")
    await page.fill("Model", "story/critic")
    await page.fill("Prompt", "Disagree with everybody.")
    await page.click("button", "Move voice 2 up")
    await page.click("button", "Save")
    await page.find("heading", "panel")
    made = await home.call("GET", "/api/compositions/panel")
    await page.click("button", "Begin a session with panel")
    await page.find("textbox", "Message")
    await ask(page, "Hello")
    await page.reads("Ann here.")
    await page.reads("I disagree.")

    assert [one["name"] for one in made["voices"]] == ["Critic", "assistant"]
    assert made["voices"][0]["prompt"] == "Disagree with everybody."


async def test_a_composition_is_archived_and_deleted(house_of: Houses, page: Page) -> None:
    """Sessions that were begun with it keep their voices."""
    home = await house_of("")
    made = {"name": "duo", "voices": [{"agent": "ann"}, {"agent": "bob"}]}
    await home.call("POST", "/api/compositions", made)
    session = await home.session(composition="duo")
    await home.enter(page, "/console/compositions/duo")
    await page.click("button", "More")
    await page.click("menuitem", "Archive")
    await page.click("link", "Archived")
    await page.click("link", "duo")
    await page.reads("It is archived")
    await page.click("button", "More")
    await page.click("menuitem", "Delete")
    dialog = await page.find("dialog", "Delete duo?")
    await page.click("button", "Delete", within=dialog)
    await page.reads("No compositions yet")

    kept = await home.call("GET", f"/api/sessions/{session}")
    assert [one["name"] for one in kept["voices"]] == ["ann", "bob"]


# -- usage ----------------------------------------------------------------------------------------


async def test_usage_is_drawn_and_told_in_numbers(house_of: Houses, page: Page) -> None:
    """A bar for each day with an agent's share; the table says the same."""
    home = await house_of("")
    await home.session("Count me", agent="ann")
    await home.session("Me too", agent="assistant")
    await home.enter(page, "/console/usage")
    await page.find("image", "Tokens per day; the table below says the same")
    bars: list[str] = await page.js(
        "[...document.querySelectorAll('svg .bar title')].map((one) => one.textContent)"
    )
    await page.click("radio", "Turns")
    await page.find("image", "Turns per day; the table below says the same")
    await page.click("radio", "7 days")
    await page.becomes("new URLSearchParams(location.search).get('days') === '7'")

    assert len(bars) == 30
    assert "ann: 10" in bars[-1]
    table = await page.find("table", "What each agent took on each day, the newest first")
    assert "ann" in await table.text()


async def test_an_unused_service_says_what_would_be_shown(house_of: Houses, page: Page) -> None:
    """Empty pages are no blank pages."""
    home = await house_of("")
    await home.enter(page, "/console/usage")
    await page.reads("Nothing was used yet")
    for path, words in (
        ("tasks", "No tasks yet"),
        ("triggers", "No webhooks"),
        ("deliveries", "Nothing was sent yet"),
        ("compositions", "No compositions yet"),
        ("nowhere", "There is no page here"),
    ):
        await page.open(f"{home.url}/console/{path}")
        await page.reads(words)


async def _press_first(page: Page, name: str) -> bool:
    found = await page.all("button", name)
    return bool(found) and await found[0].pressed()


async def _reads(node: Node, words: str) -> bool:
    return words in await node.text()


async def _states(home: House, *states: str) -> bool:
    found: dict[str, Any] = await home.call("GET", "/api/deliveries")
    return sorted(one["state"] for one in found["deliveries"]) == sorted(states)


async def _refused(home: House) -> bool:
    (one,) = (await home.call("GET", "/api/deliveries"))["deliveries"] or [{"error": None}]
    return one["error"] is not None
