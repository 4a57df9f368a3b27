"""Several voices in one session: broadcast, conductor, rounds, stopping one of them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.browser.conversing import ask, begin, said
from tests.browser.house import Calls, Fails, Gate, House, Houses
from tests.browser.page import Page

_PATIENT = """
[agents.patient]
provider = "story"
model = "story/patient"
python = "tests.browser.patient:agent"
"""
_BOTH: list[dict[str, Any]] = [{"agent": "ann", "name": "Ann"}, {"agent": "bob", "name": "Bob"}]


async def test_two_voices_speak_at_the_same_time(home: House, page: Page) -> None:
    """Each with its own words and status; nobody waits for the other."""
    ann, bob = Gate(), Gate()
    home.model.play("story/ann", ["Ann begins", ann, " and ends."])
    home.model.play("story/bob", ["Bob begins", bob, " and ends."])
    await begin(home, page, voices=_BOTH)
    await ask(page, "Hello both")
    await page.reads("Ann begins")
    await page.reads("Bob begins")
    await page.until(lambda: statuses(page, Ann="Answering", Bob="Answering"), "both answer")
    bob.open()
    await page.reads("Bob begins and ends.")
    await page.until(lambda: statuses(page, Ann="Answering", Bob="Done"), "one is done")
    ann.open()
    await page.reads("Ann begins and ends.")
    await page.until(lambda: statuses(page, Ann="Done", Bob="Done"), "both are done")

    assert sorted(await said(page)) == [
        "Ann begins and ends.",
        "Bob begins and ends.",
        "Hello both",
    ]


async def test_one_voice_fails_and_the_other_comes_to_its_end(home: House, page: Page) -> None:
    """What went wrong stands at the voice and in the talk."""
    home.model.play("story/ann", [Fails()])
    home.model.play("story/bob", "Bob is fine.")
    await begin(home, page, voices=_BOTH)
    await ask(page, "Hello both")
    await page.reads("Bob is fine.")
    await page.until(lambda: statuses(page, Ann="Failed", Bob="Done"), "one failed")

    failed = await page.find("article", "Ann")
    assert "on strike" in await failed.text()


async def test_stopping_one_voice_leaves_the_other_alone(home: House, page: Page) -> None:
    """There is a Stop beside each voice that speaks, and only then."""
    ann, bob = Gate(), Gate()
    home.model.play("story/ann", ["Ann begins", ann, " and ends."])
    home.model.play("story/bob", ["Bob begins", bob, " and ends."])
    await begin(home, page, voices=_BOTH)
    await page.gone("button", "Stop Ann")
    await ask(page, "Hello both")
    await page.reads("Ann begins")
    await page.reads("Bob begins")
    await page.click("button", "Stop Ann")
    await page.gone("button", "Stop Ann")
    bob.open()
    await page.reads("Bob begins and ends.")
    await page.gone("button", "Stop Bob")

    stopped = await page.find("article", "Ann")
    assert "Ann begins" in await stopped.text()
    assert "Stopped here" in await stopped.text()
    assert len(await said(page)) == 3


async def test_a_conductor_directs_a_message_to_one_voice(home: House, page: Page) -> None:
    """By picking it in the panel or by @; the others do not answer but read along."""
    home.model.play("story/ann", "Ann here.")
    home.model.play("story/bob", "Bob here.")
    await begin(home, page, voices=_BOTH)
    await page.gone("button", "Directed: pick a voice")
    await page.click("radio", "Conductor")
    await page.find("button", "Directed: pick a voice")
    await pick(page, "Bob")
    await page.find("button", "Directed to Bob")
    await ask(page, "Only you")
    await page.reads("Bob here.")
    await page.fill("Message", "@")
    options = await page.names("option", await page.find("listbox", "Voices"))
    await page.press("ArrowDown", "ArrowUp", "Enter")
    await page.write("what did Bob say?")
    await page.find("button", "Directed to Ann")
    await page.press("Enter")
    await page.reads("Ann here.")
    await page.until(lambda: picked(page, "Ann"), "the highlight moved")

    assert [name.split()[0] for name in options] == ["Ann", "Bob"]
    assert await said(page) == ["Only you", "Bob here.", "@Ann what did Bob say?", "Ann here."]
    known = str(home.model.prompts["story/ann"][0])
    assert "Only you" in known
    assert "Bob here." in known


async def test_a_name_written_by_hand_counts_more_than_the_picked_voice(
    home: House, page: Page
) -> None:
    """The badge says so while one writes; afterwards the picked one is as it was."""
    home.model.play("story/ann", "Ann here.")
    home.model.play("story/bob", "Bob here.")
    await begin(home, page, voices=_BOTH, mode="conductor")
    await pick(page, "Ann")
    await page.find("button", "Directed to Ann")
    await page.fill("Message", "Not mail@bob but, @bob: who are you?")
    await page.find("button", "Directed to Bob")
    await page.press("Enter")
    await page.reads("Bob here.")
    await page.find("button", "Directed to Ann")

    assert await said(page) == ["Not mail@bob but, @bob: who are you?", "Bob here."]
    assert await picked(page, "Ann")


async def test_nothing_is_sent_to_nobody(home: House, page: Page) -> None:
    """In conductor mode a message without a target says what to do and is kept."""
    await begin(home, page, voices=_BOTH, mode="conductor")
    await ask(page, "Who answers?")
    await page.find("alert")

    assert await page.js("document.activeElement.value") == "Who answers?"
    assert await said(page) == []


async def test_voices_go_on_by_themselves_in_rounds(home: House, page: Page) -> None:
    """With a divider for each round, two for the one and none for the other."""
    home.model.play("story/ann", "Ann one.", "Ann two.", "Ann three.")
    home.model.play("story/bob", "Bob one.")
    await begin(home, page, voices=[{**_BOTH[0], "rounds": 2}, _BOTH[1]], continuation="auto")
    await ask(page, "Discuss")
    await page.reads("Ann three.")
    await page.gone("button", "Stop")
    live = await dividers(page)
    await page.reload()
    await page.reads("Ann three.")

    assert len(await said(page)) == 5
    assert live == await dividers(page) == ["Round 1", "Round 2", "Round 3"]
    assert "Bob one." in str(home.model.prompts["story/ann"][1])


async def test_rounds_are_set_in_the_settings_of_a_voice(home: House, page: Page) -> None:
    """They count from the next message on."""
    home.model.play("story/ann", "Ann one.", "Ann two.")
    home.model.play("story/bob", "Bob one.")
    session = await begin(home, page, voices=_BOTH, continuation="auto")
    await page.click("button", "Settings of Ann")
    await page.click("radio", "1")
    await page.until(lambda: _rounds(home, session, 1), "it is stored")
    await ask(page, "Discuss")

    await page.reads("Ann two.")

    await page.reads("Round 2")


async def test_a_resting_voice_does_not_answer(home: House, page: Page) -> None:
    """It says that it rests, and can be woken."""
    home.model.play("story/bob", "Bob here.")
    await begin(home, page, voices=_BOTH)
    await page.click("button", "Settings of Ann")
    await page.click("switch", "Ann takes part")
    await page.until(lambda: statuses(page, Ann="Rests"), "it rests")
    await ask(page, "Who is there?")
    await page.reads("Bob here.")
    await page.gone("button", "Stop")

    assert await said(page) == ["Who is there?", "Bob here."]
    assert home.model.prompts.get("story/ann", []) == []


async def test_a_stop_in_the_second_round_stops_one_voice(home: House, page: Page) -> None:
    """The other goes on in that round."""
    ann, bob = Gate(), Gate()
    home.model.play("story/ann", "Ann one.", ["Ann again", ann])
    home.model.play("story/bob", "Bob one.", ["Bob again", bob, " to the end."])
    voices = [{**one, "rounds": 1} for one in _BOTH]
    await begin(home, page, voices=voices, continuation="auto")
    await ask(page, "Discuss")
    await page.reads("Ann again")
    await page.reads("Bob again")
    await page.click("button", "Stop Ann")
    await page.gone("button", "Stop Ann")
    bob.open()
    await page.reads("Bob again to the end.")
    await page.gone("button", "Stop Bob")

    stopped = await page.find("article", "Ann, round 2")
    assert "Stopped here" in await stopped.text()


async def test_a_tool_strip_opens_and_follows_the_call(home: House, page: Page) -> None:
    """Name, input and result."""
    gate = Gate()
    home.model.play(
        "story/ann",
        ["I roll. ", Calls("dice", {"sides": 6})],
        [gate, "There you are."],
    )
    await begin(home, page)
    await ask(page, "Roll")
    await gate.reached()
    await page.becomes("document.querySelector('details.tool')?.innerText.includes('Done')")
    await page.js("document.querySelector('details.tool summary').click()")
    strip = await page.css("details.tool")
    opened = await strip.text()
    gate.open()
    await page.reads("There you are.")

    assert all(word in opened for word in ("dice", "Input", '"sides": 6', "Result", "Took"))
    assert await page.js("document.querySelector('details.tool').open") is True


async def test_a_tool_strip_tells_that_its_call_still_runs(house_of: Houses, page: Page) -> None:
    """What it was given can be read meanwhile; the result comes into the open strip."""
    home = await house_of(_PATIENT)
    home.model.play("story/patient", [Calls("brew", {"what": "Tea"})], "Here you are.")
    await begin(home, page, agent="patient")
    await ask(page, "Tea, please")
    await page.becomes("document.querySelector('details.tool .badge')?.innerText === 'Running'")
    await page.js("document.querySelector('details.tool summary').click()")
    running = await (await page.css("details.tool")).text()
    await asyncio.to_thread((home.folder / "go").touch)
    await page.becomes("document.querySelector('details.tool .badge').innerText === 'Done'")
    await page.reads("Here you are.")

    done = await (await page.css("details.tool")).text()
    assert ('"what": "Tea"' in running, "Result" in running) == (True, False)
    assert "Tea is ready" in done
    assert await page.js("document.querySelector('details.tool').open") is True


async def pick(page: Page, name: str) -> None:
    """Press a voice in the panel."""
    voices = await page.find("complementary", "Voices")

    async def pressed() -> bool:
        found = [one for one in await page.all("button", None, voices) if name in one.name]
        return await found[0].pressed()

    await page.until(pressed, f"the voice {name}")


async def picked(page: Page, name: str) -> bool:
    """Whether a voice of the panel is highlighted."""
    voices = await page.find("complementary", "Voices")
    found = await page.all("button", None, voices)
    return [one.name.split()[0] for one in found if one.states.get("pressed") == "true"] == [name]


async def dividers(page: Page) -> list[str]:
    """The lines between rounds."""
    shown: list[str] = await page.js(
        "[...document.querySelectorAll('[role=separator]')].map((one) => one.innerText)"
    )
    return [one.split("\n")[0] for one in shown]


async def statuses(page: Page, **wanted: str) -> bool:
    """Whether the panel shows these statuses of voices."""
    shown: dict[str, str] = await page.js(
        "Object.fromEntries([...document.querySelectorAll('aside[aria-label=Voices] .voice-name')]"
        ".map((one) => [one.innerText, one.nextSibling.innerText]))"
    )
    return shown | wanted == shown


async def _rounds(home: House, session: str, count: int) -> bool:
    found = await home.call("GET", f"/api/sessions/{session}")
    return bool(found["voices"][0]["rounds"] == count)
