"""A tab, used as a person uses it: by roles and names, with keys and a pointer.

Things are found in the accessibility tree that screen readers get, and waited for. Everything that
went wrong is kept (`Page.problems`): errors in the console, violations of the content security
policy, dialogs.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.browser.chrome import Browser, Json, ProtocolError

_PATIENCE_SECONDS = 40.0
_LOOK_SECONDS = 5.0
_PLAIN = ("InlineTextBox", "StaticText", "ListMarker")
_LOAD_SECONDS = 30.0
_POLL_SECONDS = 0.03
_DOMAINS = ("Page", "Runtime", "Log", "Audits", "DOM", "Network", "Inspector")
_KEYS = (
    {"Enter": 13, "Escape": 27, "Tab": 9, "Backspace": 8, "Delete": 46, " ": 32, "F2": 113}
    | {name: code for code, name in enumerate(("PageUp", "PageDown", "End", "Home"), start=33)}
    | {f"Arrow{name}": code for code, name in enumerate(("Left", "Up", "Right", "Down"), start=37)}
)
_MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}
# Where to press: the middle of what is really there, neither covered nor moving out of sight.
_SPOT = """function () {
  const at = () => { const b = this.getBoundingClientRect();
    return [b.left + b.width / 2, b.top + b.height / 2, b.width, b.height]; };
  let [x, y, w, h] = at();
  if (!w || !h || this.disabled) return null;
  if (x < 0 || y < 0 || x > innerWidth || y > innerHeight) {
    this.scrollIntoView({block: "center", inline: "center", behavior: "instant"}); [x, y] = at(); }
  const top = this.getRootNode().elementFromPoint(x, y);
  const label = top && top.closest("label");
  return top && (this.contains(top) || (label && label.control === this)) ? [x, y] : null; }"""


_CHOOSE = """function (words) {
  this.value = [...this.options].find((one) => one.text === words).value;
  this.dispatchEvent(new Event("change", {bubbles: true})); }"""

T = TypeVar("T")


@asynccontextmanager
async def person(browser: Browser, downloads: Path) -> AsyncGenerator[Person]:
    """Somebody who never used this browser: no cookies, no storage, no cache of anybody else."""
    made = await browser.call("Target.createBrowserContext", disposeOnDetach=True)
    context: str = made["browserContextId"]
    await browser.call(
        "Browser.setDownloadBehavior",
        behavior="allow",
        browserContextId=context,
        downloadPath=str(downloads),
    )
    try:
        yield Person(browser, context)
    finally:
        await browser.call("Target.disposeBrowserContext", browserContextId=context)


class Person:
    """Somebody with tabs of their own."""

    def __init__(self, browser: Browser, context: str) -> None:
        self._browser = browser
        self._context = context
        self.pages: list[Page] = []

    async def page(self, url: str | None = None) -> Page:
        """Open a tab."""
        page = Page(self._browser, self._context)
        await page.start()
        self.pages.append(page)
        if url is not None:
            await page.open(url)
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Browser, context: str) -> None:
        self._browser = browser
        self._context = context
        self._session = ""
        self._loaded = asyncio.Event()
        self._closing: set[asyncio.Task[Json]] = set()
        self.problems: list[str] = []
        """What went wrong: console errors, policy violations, exceptions, dialogs."""
        self.requests: list[str] = []
        """Every address that was asked for."""

    async def start(self) -> None:
        """Open the tab."""
        made = await self._browser.call(
            "Target.createTarget",
            url="about:blank",
            browserContextId=self._context,
            newWindow=True,  # a tab behind another one draws nothing
        )
        self._session = await self._browser.attach(made["targetId"], self.hear)
        for domain in _DOMAINS:
            await self.call(f"{domain}.enable")

    async def call(self, method: str, **params: object) -> Json:
        """Call a method of the protocol for this tab."""
        return await self._browser.call(method, self._session, **params)

    async def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        self._loaded.clear()
        told = await self.call("Page.navigate", url=url)
        assert "errorText" not in told, f"{url}: {told.get('errorText')}"
        if "loaderId" in told:
            await self._load()

    async def reload(self) -> None:
        """Load the page anew."""
        self._loaded.clear()
        await self.call("Page.reload")
        await self._load()

    async def js(self, expression: str) -> Any:
        """The value of an expression, awaited when it is a promise."""
        told = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        return _value(told)

    async def until(self, probe: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Wait until a probe finds something; fail with what the page shows instead."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        refused: Exception | None = None
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    found = await probe()
            except (ProtocolError, TimeoutError) as error:
                # The page went elsewhere, or the thing was drawn anew, while we looked.
                refused = error
            else:
                if found:
                    return found
            await asyncio.sleep(_POLL_SECONDS)
        shown = await self.js("document.body.innerText")
        there = ", ".join(await self.outline())
        told = f"not there: {what} {refused!r} {self.problems}; shown:\n{shown}\n\nnamed: {there}"
        raise AssertionError(told)

    async def outline(self) -> list[str]:
        """Roles and names of everything there is, as a screen reader gets it."""
        told = await self.call("Accessibility.getFullAXTree")
        named = (
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in told["nodes"]
            if not node["ignored"]
        )
        return [f"{role} {name!r}" for role, name in named if name and role not in _PLAIN]

    async def becomes(self, expression: str) -> Any:
        """Wait until an expression of JavaScript is true; its value."""
        return await self.until(lambda: self.js(expression), expression)

    async def reads(self, text: str) -> None:
        """Wait until the page shows these words."""
        await self.becomes(f"document.body.innerText.includes({json.dumps(text)})")

    async def lacks(self, text: str) -> None:
        """Wait until the page does not show these words."""
        await self.becomes(f"!document.body.innerText.includes({json.dumps(text)})")

    async def all(
        self, role: str, name: str | None = None, within: Node | None = None
    ) -> list[Node]:
        """What is there now of a role, in the order of the page; by its whole name, or any."""
        place: dict[str, object] | None = (
            {"backendNodeId": within.number} if within else await self._document()
        )
        if place is None:
            return []
        named = {} if name is None else {"accessibleName": name}
        told = await self.call("Accessibility.queryAXTree", **place, role=role, **named)
        return [
            Node(
                self, node["backendDOMNodeId"], node.get("name", {}).get("value", ""), _states(node)
            )
            for node in told["nodes"]
            if not node["ignored"] and "backendDOMNodeId" in node
        ]

    async def _document(self) -> dict[str, object] | None:
        """The document, once it is loaded: before that, looking at its names can crash Chromium."""
        told = await self.call(
            "Runtime.evaluate", expression="document.readyState === 'complete' ? document : null"
        )
        found = told["result"].get("objectId")
        return {"objectId": found} if found else None

    async def find(self, role: str, name: str | None = None, within: Node | None = None) -> Node:
        """Wait for the one thing of this role and name."""

        async def one() -> Node | None:
            found = await self.all(role, name, within)
            return found[0] if len(found) == 1 else None

        return await self.until(one, f"one {role} {name!r}")

    async def css(self, selector: str) -> Node:
        """Wait for what has no role, such as a hidden field for files."""

        async def one() -> Node | None:
            root = await self.call("DOM.getDocument", depth=0)
            told = await self.call(
                "DOM.querySelector", nodeId=root["root"]["nodeId"], selector=selector
            )
            if not told["nodeId"]:
                return None
            described = await self.call("DOM.describeNode", nodeId=told["nodeId"])
            return Node(self, described["node"]["backendNodeId"], "", {})

        return await self.until(one, selector)

    async def names(self, role: str, within: Node | None = None) -> list[str]:
        """The names of everything of a role."""
        return [node.name for node in await self.all(role, None, within)]

    async def gone(self, role: str, name: str | None = None) -> None:
        """Wait until there is no such thing."""

        async def none() -> bool:
            return not await self.all(role, name)

        await self.until(none, f"no {role} {name!r}")

    async def click(self, role: str, name: str, within: Node | None = None, times: int = 1) -> None:
        """Press something with the pointer."""
        await self.until(
            lambda: self._clicked(role, name, within, times), f"{role} {name!r} to press"
        )

    async def _clicked(self, role: str, name: str, within: Node | None, times: int) -> bool:
        found = await self.all(role, name, within)
        return len(found) == 1 and await found[0].pressed(times)

    @asynccontextmanager
    async def pressing(self, role: str, name: str) -> AsyncGenerator[None]:
        """Press something with the pointer, and let go of it at the end of the block."""
        node = await self.find(role, name)
        x, y = await node.apply(_SPOT)
        event = {"x": x, "y": y, "button": "left", "clickCount": 1}
        await self.call("Input.dispatchMouseEvent", type="mousePressed", **event)
        yield
        await self.call("Input.dispatchMouseEvent", type="mouseReleased", **event)

    async def fill(self, name: str, text: str, *, role: str = "textbox") -> None:
        """Put words into a field in place of what it holds."""
        node = await self.find(role, name)
        await node.apply("function () { this.focus(); this.select && this.select(); }")
        await self.write(text)

    async def choose(self, name: str, option: str, within: Node | None = None) -> None:
        """Choose an option of a list by its words."""
        node = await self.find("combobox", name, within)
        await node.apply(_CHOOSE, option)

    async def write(self, text: str) -> None:
        """Type words where the focus is."""
        await self.call("Input.insertText", text=text)

    async def press(self, *keys: str) -> None:
        """Press keys one after the other: "Enter", "Shift+Enter", "Control+k"."""
        for chord in keys:
            *held, key = chord.split("+")
            text = "\r" if key == "Enter" else key if len(key) == 1 and not held else ""
            event = {
                "key": key,
                "code": key if len(key) > 1 else f"Key{key.upper()}",
                "modifiers": sum(_MODIFIERS[name] for name in held),
                "windowsVirtualKeyCode": _KEYS.get(key) or ord(key.upper()),
            }
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            await self.call("Input.dispatchKeyEvent", **event, **down)
            await self.call("Input.dispatchKeyEvent", **event, type="keyUp")

    async def offline(self, off: bool) -> None:
        """Take the network away, or give it back."""
        speeds = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await self.call("Network.emulateNetworkConditions", offline=off, **speeds)

    async def looks(self, width: int, height: int, *, scheme: str = "light") -> None:
        """Give the screen a size in pixels and a colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, path: Path) -> None:
        """Keep a picture of what is seen."""
        told = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(told["data"]))

    def forgive(self, words: str) -> None:
        """Take out the problems that a test brought about on purpose; there has to be one."""
        kept = [problem for problem in self.problems if words not in problem]
        assert kept != self.problems, f"no problem with {words!r} in {self.problems}"
        self.problems = kept

    def hear(self, method: str, params: Json) -> None:
        """Take an event of the protocol."""
        match method, params:
            case "Page.loadEventFired", _:
                self._loaded.set()
            case "Network.requestWillBeSent", {"request": {"url": str(url)}}:
                self.requests.append(url)
            case "Inspector.targetCrashed", _:
                self.problems.append("the page crashed")
            case "Page.javascriptDialogOpening", {"message": message, "type": kind}:
                self.problems.append(f"dialog {kind}: {message}")
                closing = self.call("Page.handleJavaScriptDialog", accept=True)
                task = asyncio.create_task(closing)
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            case "Log.entryAdded", {"entry": {"level": "error" | "warning", "text": text} as entry}:
                self.problems.append(f"{entry['source']}: {text} {entry.get('url', '')}")
            case "Runtime.exceptionThrown", {"exceptionDetails": details}:
                self.problems.append(f"exception: {_thrown(details)}")
            case "Runtime.consoleAPICalled", {"type": "error" | "assert", "args": args}:
                self.problems.append(f"console: {[one.get('value') for one in args]}")
            case "Audits.issueAdded", {"issue": {"code": "ContentSecurityPolicyIssue", **issue}}:
                self.problems.append(f"policy: {issue['details']}")

    async def _load(self) -> None:
        async with asyncio.timeout(_LOAD_SECONDS):
            await self._loaded.wait()


class Node:
    """Something in a page, with the name it had when it was found."""

    def __init__(self, page: Page, number: int, name: str, states: Json) -> None:
        self._page = page
        self.number = number
        self.name = name
        self.states = states
        """What assistive technology is told: disabled, checked, pressed, selected, expanded ..."""

    async def apply(self, function: str, *arguments: object) -> Any:
        """Call a function of JavaScript with this element as `this`."""
        told = await self._page.call("DOM.resolveNode", backendNodeId=self.number)
        called = await self._page.call(
            "Runtime.callFunctionOn",
            objectId=told["object"]["objectId"],
            functionDeclaration=function,
            arguments=[{"value": value} for value in arguments],
            returnByValue=True,
            awaitPromise=True,
        )
        return _value(called)

    async def text(self) -> str:
        """The words that are seen in it."""
        shown: str = await self.apply("function () { return this.innerText ?? this.data; }")
        return shown

    async def pressed(self, times: int = 1) -> bool:
        """Press it where it is; whether it could be reached."""
        spot: Sequence[float] | None = await self.apply(_SPOT)
        if spot is None:
            return False
        point = {"x": spot[0], "y": spot[1]}
        await self._page.call("Input.dispatchMouseEvent", type="mouseMoved", **point)
        for count in range(1, times + 1):
            event = {**point, "button": "left", "clickCount": count}
            await self._page.call("Input.dispatchMouseEvent", type="mousePressed", **event)
            await self._page.call("Input.dispatchMouseEvent", type="mouseReleased", **event)
        return True

    async def choose_files(self, *paths: Path) -> None:
        """Choose files in a file field."""
        files = [str(path) for path in paths]
        await self._page.call("DOM.setFileInputFiles", backendNodeId=self.number, files=files)


def _states(node: Json) -> dict[str, Any]:
    return {one["name"]: one["value"].get("value") for one in node.get("properties", ())}


def _thrown(details: Json) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])


def _value(told: Json) -> Any:
    if details := told.get("exceptionDetails"):
        raise ProtocolError(_thrown(details))
    return told["result"].get("value")
