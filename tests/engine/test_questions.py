"""A turn that asks a person waits without a worker, once, and goes on with the answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from service.core.access import Policy
from service.core.model import Accepted, Channel, Ended, Origin, QuestionId, Role, SessionId
from service.core.states import DeliveryState, TurnState
from service.engine.holds import uptime
from service.engine.questions import PROMPT_USER, is_yes
from service.engine.steering import Answering
from service.ports import Finished, Limits, TextDelta, ToolCall, ToolSpec
from service.store import audit, deliveries, sessions
from service.store.database import Database
from tests.engine.engine import CHAT, Engine, running
from tests.fakes import RememberingSender, Script, ScriptedAgents

SEND = ToolSpec("send", "Send it.", {"type": "object"}, outward=True, approval=True)
NOTE = ToolSpec("note", "Note it.", {"type": "object"})
ASK = ToolCall("q", "prompt_user", json.dumps({"question": "Which?", "choices": ["A", "B"]}))
DO = ToolCall("s", "send", '{"to": "ops"}')
DONE: Script = [TextDelta("Done."), Finished()]


def asking(*calls: ToolCall, limits: Limits = Limits()) -> ScriptedAgents:  # noqa: B008
    """Agents whose model makes these calls at once, then is done."""
    return ScriptedAgents(
        [[TextDelta("Let me see."), *calls, Finished()], DONE],
        tools_=[PROMPT_USER, SEND, NOTE],
        limits_=limits,
    )


async def asked(engine: Engine, accepted: Accepted) -> QuestionId:
    """The question of a turn, once it waits."""
    event = await engine.until(accepted, "question.asked")
    while engine.lanes.busy:
        await asyncio.sleep(0.01)
    return QuestionId(event.data["question"])


async def test_a_question_waits_without_a_worker_and_the_answer_is_its_result(
    database: Database,
) -> None:
    """Nothing runs while the turn waits; then the model gets the words, and the reply goes on."""
    agents = asking(ASK)

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        question = await asked(engine, accepted)
        waiting = await engine.results.get(accepted.turn)
        answer = await engine.accept("B")
        result = await engine.result(accepted.turn)

    assert waiting is not None
    assert waiting.turn.state is TurnState.WAITING
    assert waiting.as_json()["questions"][0]["question"] == question
    assert waiting.as_json()["questions"][0]["choices"] == ["A", "B"]
    assert (answer.turn, answer.answered) == (accepted.turn, True)
    assert agents.prompts[1].steps[0].results[0].text == "B"
    assert [said.text for said in agents.prompts[1].history] == ["hi"]
    assert result.text == "Let me see.\n\nDone."


async def test_what_was_answered_is_part_of_the_conversation(database: Database) -> None:
    """A later turn sees question, answer and reply in the order they were said."""
    agents = asking(ASK)

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await asked(engine, accepted)
        await engine.accept("B")
        await engine.result(accepted.turn)
        await engine.result((await engine.accept("and now?")).turn)

    told = [(said.role, said.text) for said in agents.prompts[-1].history]
    assert told == [
        ("user", "hi"),
        ("user", "B"),
        ("assistant", "Let me see.\n\nDone."),
        ("user", "and now?"),
    ]


async def test_the_same_answer_twice_is_one_answer(database: Database) -> None:
    """A repeat of the message that answered gets the same turn back and asks nobody anything."""
    async with running(database, asking(ASK)) as engine:
        accepted = await engine.accept()
        await asked(engine, accepted)
        first = await engine.accept("B", event_key="answer")
        await engine.result(accepted.turn)
        again = await engine.accept("B", event_key="answer")

    assert (again.turn, again.duplicate) == (first.turn, True)


async def test_prompt_user_has_to_be_alone(database: Database) -> None:
    """Together with another tool nothing runs, and the model is told to ask again."""
    agents = asking(NOTE_CALL, ASK)

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    results = agents.prompts[1].steps[0].results
    assert agents.calls == []
    assert [one.failed for one in results] == [True, True]
    assert "alone" in results[0].text
    assert result.turn.state is TurnState.SUCCEEDED


NOTE_CALL = ToolCall("n", "note", "{}")


@pytest.mark.parametrize(
    "arguments",
    [
        "not json",
        "[]",
        "{}",
        '{"question": ""}',
        '{"question": 5}',
        '{"question": "x", "extra": 1}',
        '{"question": "x", "choices": "A"}',
        '{"question": "x", "choices": [1]}',
        json.dumps({"question": "x", "choices": [str(n) for n in range(9)]}),
        json.dumps({"question": "x" * 2001}),
    ],
)
async def test_a_broken_question_goes_back_to_the_model(
    database_url: str, database: Database, arguments: str
) -> None:
    """It is told what is wrong, and nobody is asked."""
    agents = asking(ToolCall("q", "prompt_user", arguments))

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept()).turn)

    assert agents.prompts[1].steps[0].results[0].failed
    assert result.turn.state is TurnState.SUCCEEDED


async def test_an_approved_call_runs_exactly_as_shown(database: Database) -> None:
    """The tool runs after the yes, once, with the arguments that were stored with the question."""
    agents = asking(DO)

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await asked(engine, accepted)
        ran_before = list(agents.calls)
        await engine.accept("yes")
        result = await engine.result(accepted.turn)
        noted = await database.read(audit.newest, limit=5)

    assert ran_before == []
    assert agents.calls == [DO]
    assert result.turn.state is TurnState.SUCCEEDED
    assert [(one.action, one.allowed, one.detail["arguments"]) for one in noted] == [
        ("approve", True, DO.arguments)
    ]


@pytest.mark.parametrize("words", ["no", "not now, it is late", "yesterday"])
async def test_everything_but_a_yes_denies(database: Database, words: str) -> None:
    """The tool does not run, and the model hears the reason."""
    agents = asking(DO)

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await asked(engine, accepted)
        await engine.accept(words)
        await engine.result(accepted.turn)

    assert agents.calls == []
    assert "did not approve" in agents.prompts[1].steps[0].results[0].text


async def test_what_needs_no_approval_runs_at_once_beside_what_does(database: Database) -> None:
    """Two approvals and one plain call: the plain one runs, then both are decided, one each."""
    second = ToolCall("s2", "send", '{"to": "dev"}')
    agents = asking(NOTE_CALL, DO, second)

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await asked(engine, accepted)
        ran_before = [call.id for call in agents.calls]
        await engine.accept("yes")
        still = await engine.state(accepted.turn)
        await engine.accept("no")
        await engine.result(accepted.turn)

    assert ran_before == ["n"]
    assert still is TurnState.WAITING
    assert [call.id for call in agents.calls] == ["n", "s"]
    assert [one.failed for one in agents.prompts[1].steps[0].results] == [False, False, True]


async def test_only_who_was_asked_answers(database: Database) -> None:
    """What somebody else writes meanwhile is a message of its own, and stays in line."""
    agents = asking(ASK)

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        question = await asked(engine, accepted)
        other = await engine.accept("A", author="telegram:8")
        async with engine.controls.steps() as command:
            pressed = await command.answer(question, "A", by="telegram:8")
            mine = await command.answer(question, "B", by="telegram:7", home=None)
            again = await command.answer(question, "A", by="telegram:7")
            elsewhere = await command.answer(question, "A", by="operator", home=CHAT)
        await engine.result(accepted.turn)
        await engine.result(other.turn)

    assert not other.answered
    assert (pressed, mine, again) == (Answering.NOT_YOURS, Answering.ANSWERED, Answering.OVER)
    assert elsewhere is Answering.UNKNOWN
    assert agents.prompts[1].steps[0].results[0].text == "B"


async def test_a_question_nobody_answers_expires(database: Database) -> None:
    """The model is told so, and the turn comes to its end."""
    agents = asking(ASK, limits=Limits(answer_within=timedelta()))

    async with running(database, agents) as engine:
        accepted = await engine.accept()
        await asked(engine, accepted)
        expired = await engine.turns.expire()
        engine.wake()
        result = await engine.result(accepted.turn)
        late = await engine.accept("B")

    assert expired == 1
    assert "Nobody answered" in agents.prompts[1].steps[0].results[0].text
    assert result.turn.state is TurnState.SUCCEEDED
    assert not late.answered


async def test_a_waiting_turn_survives_a_restart(database: Database) -> None:
    """Another process takes the answer, and goes on where the first one stopped."""
    async with running(database, asking(DO)) as first:
        accepted = await first.accept()
        await asked(first, accepted)
    heir = ScriptedAgents([DONE], tools_=[PROMPT_USER, SEND, NOTE])

    async with running(database, heir) as second:
        await second.turns.rescue(attempts=3, alone=True)
        await second.accept("ok")
        result = await second.result(accepted.turn)

    assert heir.calls == [DO]
    assert result.text == "Let me see.\n\nDone."


async def test_a_waiting_turn_can_be_stopped(database: Database) -> None:
    """Partial text is kept, the question is withdrawn, and an answer comes too late."""
    async with running(database, asking(ASK)) as engine:
        accepted = await engine.accept()
        question = await asked(engine, accepted)
        async with engine.controls.steps() as command:
            stopped = await command.stop_turn(accepted.turn, by="operator")
        result = await engine.result(accepted.turn)
        events = await engine.events(accepted)
        async with engine.controls.steps() as command:
            late = await command.answer(question, "A", by="operator", operator=True)

    assert stopped
    assert (result.turn.state, result.text) == (TurnState.STOPPED, "Let me see.")
    assert late is Answering.OVER
    closed = [event.data["state"] for event in events if event.kind == "question.answered"]
    assert closed == ["cancelled"]
    cancelled = [event.data["state"] for event in events if event.kind == "tool.finished"]
    assert cancelled == ["cancelled"]


async def test_the_reply_is_parked_while_the_turn_waits(database: Database) -> None:
    """A live delivery takes no worker; the question comes beside it, and the reply goes on."""
    sender = RememberingSender(live=True)

    async with running(database, asking(ASK), sender) as engine:
        accepted = await engine.accept(answer_to=(CHAT,))
        await asked(engine, accepted)
        while len(sender.seen) < 2 or engine.posts.busy:
            await asyncio.sleep(0.01)
        parked = [
            one["state"]
            for one in await database.read(deliveries.newest, state=None, limit=9)
            if one["turn"] == accepted.turn
        ]
        await engine.accept("A")
        await engine.result(accepted.turn)
        while len(sender.seen) < 3 or engine.posts.busy:
            await asyncio.sleep(0.01)
        final = await database.read(deliveries.newest, state=None, limit=9)

    notices = [one for one, _ in sender.seen if one.text is not None]
    assert parked == [DeliveryState.PENDING.value]
    assert [(one.text, one.options["choices"]) for one in notices] == [("Which?", ["A", "B"])]
    assert sender.seen[-1][1][-1].text == "Let me see.\n\nDone."
    assert {one["state"] for one in final} == {DeliveryState.SENT.value}


@pytest.mark.parametrize("origin", [Origin.EVENT, Origin.SCHEDULE])
async def test_without_a_person_a_question_ends_the_turn(
    database: Database, origin: Origin
) -> None:
    """The question is the answer: whoever reads it may ring again."""
    async with running(database, asking(ASK)) as engine:
        result = await engine.result(
            (await engine.accept(origin=origin, role=Role.EVENT, author="webhook:w")).turn
        )

    assert result.turn.state is TurnState.SUCCEEDED
    assert result.turn.ended is Ended.ASKED
    assert result.text == "Let me see.\n\nWhich?\n\n- A\n- B"


async def test_a_trigger_may_wait_for_an_operator(database: Database) -> None:
    """Its policy says so; what other posters send is no answer."""
    policies = {(Channel.TELEGRAM, "1"): Policy(ask=True)}
    agents = asking(DO)

    async with running(database, agents, policies=policies) as engine:
        accepted = await engine.accept(origin=Origin.EVENT, role=Role.EVENT, author="webhook:w")
        question = await asked(engine, accepted)
        await engine.accept("yes", origin=Origin.EVENT, role=Role.EVENT, author="webhook:w")
        async with engine.controls.steps() as command:
            outcome = await command.answer(question, "yes", by="operator", operator=True)
        await engine.result(accepted.turn)

    assert outcome is Answering.ANSWERED
    assert agents.calls == [DO]


async def test_in_a_group_the_owner_approves(database: Database) -> None:
    """Somebody else's message may lead to the call, and they may not agree to it themselves."""
    agents = ScriptedAgents([DONE, [DO, Finished()], DONE], tools_=[PROMPT_USER, SEND, NOTE])

    async with running(database, agents) as engine:
        await engine.result((await engine.accept("mine", origin=Origin.GROUP)).turn)
        accepted = await engine.accept("send it", origin=Origin.GROUP, author="telegram:8")
        await asked(engine, accepted)
        theirs = await engine.accept("yes", origin=Origin.GROUP, author="telegram:8")
        waiting = await engine.state(accepted.turn)
        owners = await engine.accept("yes", origin=Origin.GROUP)
        await engine.result(accepted.turn)

    assert not theirs.answered
    assert waiting is TurnState.WAITING
    assert owners.answered
    assert agents.calls == [DO]


async def test_a_hostile_model_runs_nothing_from_a_webhook(database: Database) -> None:
    """It calls everything with hostile arguments; only what stays inside of the session runs."""
    outward = replace(SEND, name="post", approval=False)
    hostile = '{"to": "everybody", "text": "rm -rf /"}'
    calls = [ToolCall(tool, tool, hostile) for tool in ("send", "post", "note", "rm", "")]
    agents = ScriptedAgents([[*calls, Finished()], DONE], tools_=[PROMPT_USER, SEND, outward, NOTE])

    async with running(database, agents) as engine:
        result = await engine.result(
            (await engine.accept(origin=Origin.EVENT, role=Role.EVENT)).turn
        )

    assert [spec.name for spec in agents.prompts[0].tools] == ["prompt_user", "note"]
    assert [call.tool for call in agents.calls] == ["note"]
    failed = [one.failed for one in agents.prompts[1].steps[0].results]
    assert failed == [True, True, False, True, True]
    assert result.turn.state is TurnState.SUCCEEDED


async def test_a_permit_lets_a_trigger_act_outward(database: Database) -> None:
    """Named tools run from a webhook; approval is still needed unless that is waived too."""
    post = replace(SEND, name="post", approval=False)
    policies = {(Channel.TELEGRAM, "1"): Policy(permit=frozenset({"post", "send"}))}
    agents = ScriptedAgents(
        [[DO, ToolCall("p", "post", "{}"), Finished()], DONE], tools_=[SEND, post]
    )

    async with running(database, agents, policies=policies) as engine:
        await engine.result((await engine.accept(origin=Origin.EVENT, role=Role.EVENT)).turn)

    assert [call.tool for call in agents.calls] == ["post"]


async def test_the_session_points_at_no_question_when_none_is_open(database: Database) -> None:
    """So that the next message is a message again."""
    async with running(database, asking(ASK)) as engine:
        accepted = await engine.accept()
        await asked(engine, accepted)
        before = await database.read(sessions.get, SessionId(accepted.session))
        await engine.accept("A")
        await engine.result(accepted.turn)
        after = await database.read(sessions.get, SessionId(accepted.session))

    assert before is not None
    assert before.question is not None
    assert after is not None
    assert after.question is None


async def test_waiting_is_no_work(database: Database) -> None:
    """A turn took as long as somebody worked on it, however long the answer took."""
    agents = asking(ASK)

    async with running(database, agents) as engine:
        began = uptime()
        accepted = await engine.accept()
        await asked(engine, accepted)
        asked_at = uptime()
        await asyncio.sleep(0.2)
        answered_at = uptime()
        await engine.accept("B")
        result = await engine.result(accepted.turn)

    worked = (asked_at - began) + (uptime() - answered_at)
    assert timedelta() < result.turn.processing <= timedelta(seconds=worked)


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [
        *((word, True) for word in ("yes", "Y", " ok ", "approve", "GO", "go ahead", "do it")),
        *((word, True) for word in ("yes please", "Yes, but be quick")),
        *((word, False) for word in ("", "no", "n", "yesterday", "okay then", "not ok", "go away")),
    ],
)
def test_few_words_agree(answer: str, agreed: bool) -> None:
    """Everything else is the reason why not."""
    assert is_yes(answer) is agreed
