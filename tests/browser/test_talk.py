"""A talk with one voice: writing, reading along, stopping, interrupting, losing the line."""

from __future__ import annotations

from tests.browser.conversing import ask, begin, said
from tests.browser.house import Fails, Gate, House
from tests.browser.page import Page, Person
from tests.browser.wire import wire

# Whether the foot of the talk tells of so many milliseconds.
_FOOT_TELLS = """(async (took) => {
  const { duration } = await import("/console/static/js/time.js");
  const told = `${duration(took)} of thinking · AI can make mistakes: check what matters.`;
  return document.querySelector(".composer-foot").textContent === told;
})(%d)"""


async def test_enter_sends_and_shift_enter_begins_a_line(home: House, page: Page) -> None:
    """The field is empty afterwards and keeps the focus; white space alone is not sent."""
    home.model.play("story/ann", "Two lines, I see.")
    await begin(home, page)
    await page.fill("Message", "one")
    await page.press("Shift+Enter")
    await page.write("two")
    await page.press("Enter")
    await page.reads("Two lines, I see.")
    await page.write("  ")
    await page.press("Enter")

    assert await said(page) == ["one\ntwo", "Two lines, I see."]
    assert home.model.prompts["story/ann"][0][-1]["content"] == "one\ntwo"
    assert len(home.model.prompts["story/ann"]) == 1
    assert await page.js("document.activeElement.ariaLabel") == "Message"


async def test_words_are_seen_while_the_model_still_speaks(home: House, page: Page) -> None:
    """As Markdown, and what is unfinished looks as if it went on well."""
    gate = Gate()
    home.model.play("story/ann", ["It is **ver", gate, "y** fine."])
    await begin(home, page)
    await ask(page, "How is it?")
    await gate.reached()
    await page.reads("It is ver")
    half = await page.js("document.querySelector('article strong').textContent")
    gate.open()
    await page.reads("It is very fine.")

    assert half == "ver"
    assert await page.js("document.querySelector('article strong').textContent") == "very"
    await page.gone("button", "Stop")


async def test_stop_keeps_what_was_said(home: House, page: Page) -> None:
    """There is a Stop only while somebody speaks; what was said until then stays, marked so."""
    gate = Gate()
    home.model.play("story/ann", ["Once upon a time", gate, " there was nothing."], "Go on.")
    await begin(home, page)
    await page.gone("button", "Stop")
    await ask(page, "Tell me a story")
    await page.reads("Once upon a time")
    await page.click("button", "Stop")
    await page.reads("Stopped here. What was said is kept.")
    await page.gone("button", "Stop")
    await page.reload()
    await page.reads("Once upon a time")
    await page.reads("Stopped here. What was said is kept.")
    await ask(page, "And then?")

    await page.reads("Go on.")


async def test_interrupt_lets_it_end_its_step_and_asks(home: House, page: Page) -> None:
    """It stands beside what goes on, and is there only while something does."""
    gate = Gate()
    home.model.play("story/ann", ["A long story", gate, " ends here."], "How shall I go on?")
    await begin(home, page)
    await page.gone("button", "Interrupt")
    await ask(page, "Tell me a story")
    await page.reads("A long story")
    await page.click("button", "Interrupt")
    await page.reads("Interrupting")
    gate.open()
    await page.reads("A long story ends here.")
    await page.gone("button", "Stop")

    assert await said(page) != []


async def test_words_that_interrupt_are_answered_next(home: House, page: Page) -> None:
    """Whoever writes while it answers may choose so."""
    gate = Gate()
    home.model.play("story/ann", ["A long story", gate, " ends here."], "You are right.")
    await begin(home, page)
    await ask(page, "Tell me a story")
    await page.reads("A long story")
    await page.click("radio", "Interrupt")
    await ask(page, "No, stop")
    await page.reads("No, stop")
    gate.open()

    await page.reads("You are right.")

    await page.gone("button", "Stop")


async def test_summing_up_can_be_stopped_and_not_interrupted(home: House, page: Page) -> None:
    """It has nothing to ask; stopped it leaves the talk as it was."""
    gate = Gate()
    home.model.play("story/ann", "Well.", ["They gr", gate, "eet."], "Hello again.")
    session = await begin(home, page)
    await ask(page, "Hello")
    await page.reads("Well.")
    await page.gone("button", "Stop")
    await home.call("POST", f"/api/sessions/{session}/compact", {})
    await gate.reached()
    await page.reads("They gr")
    await page.find("button", "Stop")
    there = await page.names("button")
    await page.click("button", "Stop")
    await page.gone("button", "Stop")
    await ask(page, "Hello?")
    await page.reads("Hello again.")

    heard = [
        one["content"] for one in home.model.prompts["story/ann"][-1] if one["role"] != "system"
    ]
    assert "Interrupt" not in there
    assert heard == ["Hello", "Well.", "Hello?"]


async def test_the_foot_tells_how_long_it_thought_in_all(home: House, page: Page) -> None:
    """Anew after each answer; and that it can be wrong, also before the first one."""
    home.model.play("story/ann", "One.", "Two.")
    session = await begin(home, page)
    at_first = await page.js("document.querySelector('.composer-foot').textContent")
    await ask(page, "one")
    await page.reads("One.")
    once = await _spent(home, session)
    await page.becomes(_FOOT_TELLS % once)
    await ask(page, "two")
    await page.reads("Two.")
    twice = await _spent(home, session)

    await page.becomes(_FOOT_TELLS % twice)

    assert at_first == "AI can make mistakes: check what matters."
    assert 0 < once < twice


async def test_a_message_waits_until_the_answer_before_it_is_there(home: House, page: Page) -> None:
    """It says that it waits, and is answered next."""
    gate = Gate()
    home.model.play("story/ann", ["First", gate, " answer."], "Second answer.")
    await begin(home, page)
    await ask(page, "one")
    await page.reads("First")
    await ask(page, "two")
    await page.reads("Queued: 1 before it")
    gate.open()
    await page.reads("Second answer.")

    await page.lacks("Queued")


async def test_a_long_talk_is_read_back_to_its_beginning(home: House, page: Page) -> None:
    """It opens with what was said last; what was before comes with scrolling up, each once."""
    session = await home.session(agent="assistant")
    path = f"/api/sessions/{session}/messages"
    sent = [await home.call("POST", path, {"text": f"Word {n:02}"}) for n in range(60)]
    await home.call("GET", f"/api/turns/{sent[-1]['turn']}?wait=60")
    await home.enter(page, f"/console/sessions/{session}")
    await page.reads("Word 59")
    shown = "[...document.querySelectorAll('.said-text')].map((one) => one.textContent)"
    at_first = await page.js(shown)
    scroller = "document.querySelector('.feed-scroll')"
    await page.becomes(f"({scroller}.scrollTop = 0, {shown}.includes('Word 00'))")

    assert "Word 00" not in at_first
    assert await page.js(shown) == [f"Word {n:02}" for n in range(60)]


async def test_a_failure_is_told_with_what_to_do(home: House, page: Page) -> None:
    """In the talk itself, and the next message is answered."""
    home.model.play("story/ann", [Fails()], "Better.")
    await begin(home, page)
    await ask(page, "Hello")
    await page.reads("on strike")
    await ask(page, "Again")

    await page.reads("Better.")


async def test_a_reload_in_mid_stream_loses_nothing_and_doubles_nothing(
    home: House, page: Page
) -> None:
    """What was said before stands there once, and the rest comes in live."""
    gates = [Gate(), Gate()]
    home.model.play("story/ann", ["alpha ", gates[0], "beta ", gates[1], "gamma"])
    await begin(home, page)
    await ask(page, "Count")
    await page.reads("alpha")
    await page.reload()
    await page.reads("alpha")
    gates[0].open()
    await page.reads("alpha beta")
    await page.reload()
    await page.reads("alpha beta")
    gates[1].open()
    await page.reads("alpha beta gamma")

    assert await said(page) == ["Count", "alpha beta gamma"]
    await page.reload()
    await page.reads("alpha beta gamma")
    assert await said(page) == ["Count", "alpha beta gamma"]


async def test_a_lost_line_is_told_and_comes_back_by_itself(home: House, page: Page) -> None:
    """What was said in the meantime is there then, once."""
    gates = [Gate(), Gate()]
    home.model.play("story/ann", ["alpha ", gates[0], "beta ", gates[1], "gamma"])
    session = await home.session(agent="ann")
    async with wire(home.url) as line:
        await home.enter(page, f"/console/sessions/{session}", url=line.url)
        await ask(page, "Count")
        await page.reads("alpha")
        line.cut()
        await page.reads("No connection")
        gates[0].open()
        await gates[1].reached()
        line.mend()
        await page.reads("alpha beta")
        await page.lacks("No connection")
        gates[1].open()
        await page.reads("alpha beta gamma")
        page.forgive("ERR_")

        assert await said(page) == ["Count", "alpha beta gamma"]


async def test_without_a_network_a_message_is_kept_until_it_can_be_sent(
    home: House, page: Page
) -> None:
    """It says that it was not sent; sending it again, once the network is back, sends it once."""
    home.model.play("story/ann", "There you are.")
    await begin(home, page)
    await page.offline(True)
    await ask(page, "Are you there?")
    await page.reads("Not sent.")
    await page.offline(False)
    await page.click("button", "Send again")
    await page.reads("There you are.")
    page.forgive("ERR_INTERNET_DISCONNECTED")

    assert await said(page) == ["Are you there?", "There you are."]
    assert len(home.model.prompts["story/ann"]) == 1


async def test_two_browsers_on_one_session_see_the_same(home: House, visitor: Person) -> None:
    """What one writes the other reads live; both may stop it."""
    gate = Gate()
    home.model.play("story/ann", ["Both of you ", gate, "listen."], "Yes.")
    session = await home.session(agent="ann")
    first, second = await visitor.page(), await visitor.page()
    await home.enter(first, f"/console/sessions/{session}")
    await second.open(f"{home.url}/console/sessions/{session}")
    await second.find("textbox", "Message")
    await ask(first, "Hello from the first")
    await second.reads("Hello from the first")
    await second.reads("Both of you")
    gate.open()
    await first.reads("Both of you listen.")
    await second.reads("Both of you listen.")
    await ask(second, "Hello from the second")
    await first.reads("Yes.")
    await second.reads("Yes.")

    assert await said(first) == await said(second)


async def _spent(home: House, session: str) -> int:
    """The milliseconds that all turns of a session took, once they are over."""
    messages = (await home.call("GET", f"/api/sessions/{session}/messages"))["messages"]
    turns = {one["turn"] for one in messages}
    over = [await home.call("GET", f"/api/turns/{one}?wait=60") for one in turns]
    return sum(one["processing_ms"] for one in over)
