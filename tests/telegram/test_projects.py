"""Projects, key results and dispositions in a chat: people see theirs, and literally."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.telegram.client import Client
from handlers.telegram.markup import Rich, render
from handlers.telegram.spot import Spot
from handlers.telegram.tables import WIDEST, width
from service.core.model import Channel, SessionId, Source
from service.core.project import Share
from service.store import sessions
from service.store.database import Database
from service.store.sessions import NewSession
from tests.fakes import ScriptedAgents
from tests.telegram.conversing import asked, conversing, press, until_text
from tests.telegram.findings import AT, CHAT, SCHEMA, Cabinet
from tests.telegram.server import Server
from tests.telegram.station import AGENTS, Station
from tests.telegram.test_voices import Talk
from tests.telegram.updates import ANN, BOB, BOT, TEAM, group, message
from tests.telegram.updates import press as pressed

HOSTILE = "**[x](http://evil.example)** <b>`_*~|# $a$ \u202egnp"
LITERAL = "**[x](http://evil.example)** <b>`_*~|# $a$ gnp"
ALONE = "Who else reads along here may not see your projects. Write to me alone."
TABLE = {"columns": ["vendor", "total"], "rows": [["Acme", 12.5], ["Zürich AG", None]]}


@pytest.fixture
def talk(database: Database) -> Talk:
    station = Station(database)
    return Talk(station, station.receiver())


@pytest.fixture
def cabinet(database: Database) -> Cabinet:
    return Cabinet(database)


async def shown(talk: Talk, text: str) -> Rich:
    """What a chat shows after somebody wrote this."""
    return render(await talk.say(text))


def blocks(rich: Rich) -> list[str]:
    """The monospaced blocks of a text."""
    units = rich.text.encode("utf-16-le")
    return [
        units[2 * one.offset : 2 * one.end].decode("utf-16-le")
        for one in rich.entities
        if one.type == "pre"
    ]


async def investigate(cabinet: Cabinet, **options: Any) -> SessionId:
    """A session of no project that lives in the chat."""
    return await cabinet.session(spot=CHAT, **options)


# -- projects -------------------------------------------------------------------------------------


async def test_a_project_is_opened_by_its_button(
    database: Database, server: Server, client: Client, cabinet: Cabinet
) -> None:
    """The list has a button for each; a press shows its sessions in a message of their own."""
    project = await cabinet.project(telegram_501=Share.VIEWER)
    await cabinet.session("Duplicates", project=project, begun=False)

    async with conversing(database, server, client, ScriptedAgents()):
        await server.push(message("/projects"))
        listed = await asked(server, "• Invoices: 1 session, 0 key results, ")
        await press(server, listed, "Invoices")
        await until_text(server, "Invoices\n\n• Duplicates: (Not started)")

    assert listed.text.endswith("Tap one, or write /projects and its name, to see its sessions.")


async def test_only_projects_of_the_person_are_listed(talk: Talk, cabinet: Cabinet) -> None:
    """Whoever is a stranger to all of them is told how to get into one, and can open none."""
    other = await cabinet.project("Payroll", telegram_502=Share.EDITOR)

    listed = await talk.say("/projects")
    named = await talk.say("/projects payroll")
    await talk.take(pressed(f"project:{other}"))
    await talk.take(pressed("project:nonsense"))

    stranger = "You are in no project. Its owner can add you to one as `telegram:501`."
    assert [listed, named] == [stranger, stranger]
    assert [words for _, words in talk.station.answers] == [
        "This button does nothing any more."
    ] * 2
    assert len(await talk.station.notices()) == 2


async def test_a_project_of_others_is_as_if_it_were_not_there(talk: Talk, cabinet: Cabinet) -> None:
    """Its name is answered like one that nobody has."""
    await cabinet.project("Mine", telegram_501=Share.EDITOR)
    await cabinet.project("Payroll")

    told = [await talk.say(f"/projects {name}") for name in ("Payroll", "Nothing")]
    buttons = await talk.buttons("/projects")

    assert told == [
        f"You are in no project `{name}`. /projects lists yours." for name in ("Payroll", "Nothing")
    ]
    assert list(buttons) == ["Mine"]


async def test_the_sessions_of_a_project_tell_what_they_came_to(
    talk: Talk, cabinet: Cabinet
) -> None:
    """In their manual order, with state, key results and disposition; candidates do not count."""
    project = await cabinet.project(telegram_501=Share.VIEWER)
    await cabinet.session("Later", project=project, begun=False, schema=SCHEMA)
    done = await cabinet.session("Duplicates", project=project, schema=SCHEMA)
    await cabinet.disposition(done, {"verdict": "FRAUD", "vendors": ["Acme", "Bolt"]})
    for title in ("One", "Two", "Three", None):
        await cabinet.result(done, title, TABLE)
    stale = await cabinet.session("Limits", project=project, schema=SCHEMA, archived=True)
    await cabinet.disposition(stale, {"verdict": "FINE"})
    await cabinet.schema(stale, {"verdict": "GOOD|BAD"})

    told = await shown(talk, "/projects INVOICES")

    assert told.text.splitlines() == [
        "Invoices",
        "",
        "• Later: (Not started)",
        "• Duplicates: idle, 3 key results, verdict = FRAUD, vendors = Acme, Bolt",
        "• Limits: idle, archived, verdict = FINE (stale)",
    ]


async def test_projects_are_told_to_nobody_in_a_group(talk: Talk, cabinet: Cabinet) -> None:
    """Neither for the command nor for a press, which must be forged."""
    project = await cabinet.project(telegram_501=Share.EDITOR)
    for text in ("/projects", "/projects Invoices"):
        await talk.take(message(text, chat=group()))
    await talk.take(pressed(f"project:{project}", chat=group()))

    told = [(spot, words) for spot, words, _ in await talk.station.notices()]

    assert told == [(f"{BOT}:{TEAM}", ALONE)] * 2
    assert [words for _, words in talk.station.answers] == [ALONE]


async def test_long_lists_are_cut(talk: Talk, cabinet: Cabinet) -> None:
    """A project of hundreds of sessions fills no chat, nor do hundreds of projects."""
    project = await cabinet.project("Many", telegram_501=Share.VIEWER)
    for number in range(53):
        await cabinet.session(f"S{number}", project=project)
    for number in range(24):
        await cabinet.project(f"P{number}", telegram_501=Share.VIEWER)

    listed = await talk.say("/projects")
    buttons = await talk.buttons("/projects")
    opened = await talk.say("/projects Many")

    assert "… and 5 more projects" in listed.splitlines()
    assert len(buttons) == 20
    assert opened.splitlines()[-2:] == ["- **S49**: idle", "… and 3 more sessions"]


async def test_names_and_titles_are_plain_text(talk: Talk, cabinet: Cabinet) -> None:
    """Whatever mark-up is in them, and whatever turns text around."""
    project = await cabinet.project(HOSTILE, telegram_501=Share.VIEWER)
    session = await cabinet.session(HOSTILE, project=project, schema={"why": "String"})
    await cabinet.disposition(session, {"why": HOSTILE})

    listed = await shown(talk, "/projects")
    opened = await shown(talk, f"/projects {HOSTILE}")

    assert listed.text.startswith(f"• {LITERAL}: 1 session")
    assert opened.text == f"{LITERAL}\n\n• {LITERAL}: idle, why = {LITERAL}"
    assert {one.type for one in (*listed.entities, *opened.entities)} == {"bold"}


# -- key results ----------------------------------------------------------------------------------


async def test_results_are_shown_with_their_tables(
    database: Database, server: Server, client: Client, cabinet: Cabinet
) -> None:
    """Title, description and first rows; numbers stand at the right, and null is a dash."""
    session = await investigate(cabinet)
    await cabinet.result(session, "Totals", TABLE, description="By\nvendor.")

    async with conversing(database, server, client, ScriptedAgents()):
        await server.push(message("/results"))
        table = "vendor   |total\n---------+-----\nAcme     | 12.5\nZürich AG|    –"
        await until_text(server, f"1. Totals\n\nBy vendor.\n\n{table}")


async def test_results_of_many_rows_and_columns_are_cut(talk: Talk, cabinet: Cabinet) -> None:
    """Ten rows and eight columns in a list, forty rows when one is asked for; it fits a phone."""
    session = await investigate(cabinet)
    columns = [f"column number {number}" for number in range(200)]
    rows = [[f"cell {row} of {column}" for column in columns] for row in range(10_000)]
    await cabinet.result(session, "Wide", {"columns": columns, "rows": rows})

    listed = await shown(talk, "/results")
    one = await shown(talk, "/results 1")

    drawn = [blocks(listed)[0].splitlines(), blocks(one)[0].splitlines()]
    assert [len(lines) for lines in drawn] == [12, 42]
    assert {max(map(width, lines)) for lines in drawn} == {WIDEST}
    assert {lines[0].count("|") for lines in drawn} == {7}
    assert listed.text.endswith("… and 9,990 more rows\n… and 192 more columns")
    assert one.text.endswith("… and 9,960 more rows\n… and 192 more columns")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, "1. Odd\n\nIts data is not stored any more."),
        ({"columns": ["a"], "rows": []}, "1. Odd\n\na\n-\n\nIt has no rows."),
        ([], "1. Odd\n\n[]"),
        ("Just\nwords", "1. Odd\n\nJust\nwords"),
        ({"total": None}, '1. Odd\n\n{\n  "total": null\n}'),
        ([{"a": 1}, {"b": [True, None]}], "1. Odd\n\na|b\n-+------------\n1|–\n–|[true, null]"),
        (list(range(12)), "\n\n… and 4 more lines"),
    ],
)
async def test_data_of_any_shape_is_shown(
    talk: Talk, cabinet: Cabinet, data: object, expected: str
) -> None:
    """A list of objects is a table, too; what is none is text, and what is gone is told."""
    session = await investigate(cabinet)
    await cabinet.result(session, "Odd", data)

    told = await shown(talk, "/results")

    assert told.text.endswith(expected)


async def test_results_are_plain_text(talk: Talk, cabinet: Cabinet) -> None:
    """No title ends its line, no description begins a list, and no cell ends its block."""
    session = await investigate(cabinet)
    fence = {"columns": ["`````", HOSTILE], "rows": [["`````\n# Big", None], ["````", "\x00a"]]}
    await cabinet.result(session, HOSTILE, fence, description=f"1. {HOSTILE}")

    told = await shown(talk, "/results")

    assert told.text.startswith(f"1. {LITERAL}\n\n1. {LITERAL}\n\n")
    assert sorted({one.type for one in told.entities}) == ["bold", "pre"]
    assert len(blocks(told)[0].splitlines()) == 4
    assert "````" in blocks(told)[0].splitlines()[3]


async def test_results_beyond_the_fifth_are_asked_for(talk: Talk, cabinet: Cabinet) -> None:
    """The list says how; a number that no result has is answered with the last one."""
    session = await investigate(cabinet)
    for number in range(7):
        await cabinet.result(session, f"R{number}", TABLE, description="x" * 2000)

    listed = await talk.say("/results")
    sixth = await talk.say("/results 6")
    beyond = await talk.say("/results 8")

    assert listed.count("x") == 5 * 299
    assert listed.endswith("… and 2 more key results: /results 6")
    assert sixth.startswith("**6.** **R5**")
    assert sixth.count("x") == 2000
    assert beyond == "There is no key result 8; the last one is 7."


@pytest.mark.parametrize("words", ["0", "-1", "²", "one", "1 2", "9" * 5000])
async def test_what_is_no_number_shows_no_result(talk: Talk, cabinet: Cabinet, words: str) -> None:
    """It says how the command is written."""
    await investigate(cabinet)

    assert await talk.say(f"/results {words}") == (
        "Write /results, or /results and the number of one."
    )


async def test_candidates_are_no_key_results(talk: Talk, cabinet: Cabinet) -> None:
    """Until somebody gives them a title."""
    session = await investigate(cabinet)
    await cabinet.result(session, None, TABLE)

    told = [await talk.say("/results"), await talk.say("/results 1")]

    assert told == ["This session has no key results yet."] * 2


@pytest.mark.parametrize("command", ["/results", "/results 1", "/disposition"])
async def test_a_stranger_to_the_project_sees_nothing_of_its_session(
    talk: Talk, cabinet: Cabinet, command: str
) -> None:
    """Though it is the session of their chat; a viewer of the project sees it."""
    project = await cabinet.project("Payroll", telegram_502=Share.VIEWER)
    for person in (ANN, BOB):
        session = await cabinet.session(project=project, spot=Spot(str(BOT), person))
        await cabinet.result(session, "Secret", TABLE)
        await cabinet.disposition(session, {"verdict": "Secret"})
    talk.receiver = talk.station.receiver(allow=frozenset({ANN, BOB}))

    stranger = await talk.say(command)
    await talk.take(message(command, sender=BOB))
    viewer = (await talk.station.notices())[-1][1]

    assert stranger == (
        "This session is in a project that you are not in. Its owner can add you as `telegram:501`."
    )
    assert "Secret" in viewer


# -- dispositions ---------------------------------------------------------------------------------


async def test_a_disposition_is_shown_field_by_field(talk: Talk, cabinet: Cabinet) -> None:
    """With who set it and who agreed to it; a field without a value has a dash."""
    session = await investigate(cabinet, schema=SCHEMA)
    await cabinet.disposition(
        session, {"verdict": "FRAUD", "vendors": ["Acme", HOSTILE]}, confirmed_by="telegram:501"
    )

    told = await shown(talk, "/disposition")

    assert told.text.splitlines() == [
        "• verdict: FRAUD",
        "• amount: –",
        f"• vendors: Acme, {LITERAL}",
        "",
        "Set by Ada, 0 s ago.",
        "Confirmed by you.",
    ]
    assert {one.type for one in told.entities} == {"bold"}


async def test_a_stale_disposition_says_so(talk: Talk, cabinet: Cabinet) -> None:
    """What the schema does not have any more is still shown."""
    session = await investigate(cabinet, schema={"verdict": "A|B", "old": "Number"})
    await cabinet.disposition(session, {"verdict": "A", "old": 7}, by="telegram:501")
    await cabinet.schema(session, {"verdict": "A|B", "new": "optional Number"})

    told = await shown(talk, "/disposition")

    assert told.text.splitlines() == [
        "• verdict: A",
        "• new: –",
        "• old: 7 (no longer in the schema)",
        "",
        "Set by you, 0 s ago.",
        "Nobody has confirmed it.",
        "It is stale: the schema has changed since. It has to be set again.",
    ]


async def test_a_schema_without_a_disposition_is_shown(talk: Talk, cabinet: Cabinet) -> None:
    """People see what is to come."""
    await investigate(cabinet, schema=SCHEMA)

    told = await shown(talk, "/disposition")

    assert told.text.splitlines() == [
        "No disposition yet. It is to have:",
        "• verdict: FRAUD|FINE",
        "• amount: optional Number",
        "• vendors: list of String",
    ]


async def test_a_long_disposition_is_cut(talk: Talk, cabinet: Cabinet) -> None:
    """Thirty texts of thousands of characters are not for a chat."""
    session = await investigate(cabinet, schema={"why": "String", "all": "list of String"})
    await cabinet.disposition(session, {"why": "x" * 4000, "all": ["y" * 4000] * 100})

    told = await talk.say("/disposition")

    assert told.splitlines()[:2] == [f"- **why**: {'x' * 599}…", f"- **all**: {'y' * 599}…"]


async def test_a_session_that_investigates_nothing_says_so(talk: Talk, database: Database) -> None:
    """Any conversation is one; a chat without a session has none."""
    without = [await talk.say(command) for command in ("/results", "/disposition")]
    new = NewSession(
        SessionId("plain"),
        AGENTS["assistant"],
        owner="telegram:501",
        source=Source.TRIGGER,
        origin=Channel.TELEGRAM,
        key=CHAT.session_key,
    )
    await database.write(sessions.insert, [new], at=AT, last_event=0)

    told = [await talk.say(command) for command in ("/results", "/disposition")]

    assert without == ["No session yet. Write something to start one."] * 2
    assert told == [
        "This session has no key results yet.",
        "This session is to come to no disposition: it has no schema.",
    ]
