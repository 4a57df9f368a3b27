"""A hostile model writes Markdown: nothing of it runs, nothing is fetched, links stay harmless."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.browser.house import House
from tests.browser.page import Page
from tests.webhook.site import listening

_CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "hostile_markdown.json").read_text("utf-8")
)
_LOOK = (Path(__file__).parent / "hostile.js").read_text("utf-8")
_WRONG = "[...document.querySelectorAll('main .md')].flatMap((one) => hostile.wrong(one))"
_STEPS = 120
_TALKS = 4


@dataclass
class Canary:
    """A server that nobody may ask for anything."""

    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Remember who asked."""
        self.asked.append(request.path)
        return web.Response(text="window.canary=1", content_type="text/javascript")

    def text(self, case: Mapping[str, Any]) -> str:
        """What the model says in a case."""
        parts = case.get("parts") or [[case["text"], 1]]
        return "".join(part * times for part, times in parts).replace("{canary}", self.url)


@pytest_asyncio.fixture(loop_scope="session")
async def canary() -> AsyncGenerator[Canary]:
    """A canary that listens."""
    canary = Canary()
    application = web.Application()
    application.router.add_get("/{path:.*}", canary.answer)
    async with listening(application) as port:
        canary.url = f"http://127.0.0.1:{port}"
        yield canary


async def test_the_canary_would_sing(page: Page, canary: Canary) -> None:
    """Where nobody takes care, what these cases try does happen."""
    for case in ("a script tag with an address", "an HTML image", "an HTML image that fails"):
        text = canary.text(next(one for one in _CASES if one["name"] == case))
        drawn = json.dumps(f"<body>{text}")
        await page.js(f"document.open(), document.write({drawn}), document.close()")
        await page.becomes(
            "window.canary === 1 || document.images.length && document.images[0].complete"
        )
        await page.js("delete window.canary")

    assert canary.asked == ["/x.js", "/i.png"]
    page.problems.clear()


async def test_half_written_words_are_as_harmless_as_whole_ones(
    home: House, page: Page, canary: Canary
) -> None:
    """Every case is looked at after every few letters, with the nodes it became."""
    await page.open(f"{home.url}/console/signin")
    await page.js(f"window.hostile = {_LOOK}, 0")
    failures = []
    for case in _CASES:
        text = canary.text(case)
        told = await page.js(f"hostile.stream({json.dumps(text)}, {_STEPS})")
        if told["wrong"] or told["canary"] or told["links"] != case.get("links", told["links"]):
            failures.append((case["name"], told))
        missing = [words for words in case.get("shows", ()) if words not in told["text"]]
        failures += [(case["name"], f"does not show {missing}")] if missing else []

    assert failures == []
    assert canary.asked == []
    assert _foreign(page, home) == []


@pytest.mark.parametrize("talk", range(_TALKS))
async def test_a_hostile_model_in_a_session(
    home: House, page: Page, canary: Canary, talk: int
) -> None:
    """It says all of it while somebody looks on, and again when the page is loaded anew."""
    cases = _CASES[talk::_TALKS]
    texts = [canary.text(case) for case in cases]
    home.model.play(
        "story/ann",
        *([*_pieces(text), f"\n\nEnd of {place}."] for place, text in enumerate(texts)),
    )
    session = await home.session(agent="ann")
    await home.enter(page, f"/console/sessions/{session}")
    await page.js(f"window.hostile = {_LOOK}, 0")
    for place in range(len(cases)):
        await home.say(session, f"Case {place}")
        await page.reads(f"End of {place}.")
    live = await page.js(_WRONG)
    await page.reload()
    await page.reads(f"End of {len(cases) - 1}.")
    await page.js(f"window.hostile = {_LOOK}, 0")

    assert await page.js("window.canary ?? null") is None
    assert live == await page.js(_WRONG) == []
    assert canary.asked == []
    assert _foreign(page, home) == []


def _pieces(text: str) -> list[str]:
    """A text as a model says it: in pieces that know nothing of tags."""
    size = max(5, len(text) // 40)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _foreign(page: Page, home: House) -> list[str]:
    """What was asked of others than the service."""
    ours = (home.url, home.url.replace("http", "ws"), "data:", "about:")
    return [url for url in page.requests if not url.startswith(ours)]
