"""Several voices in one session: who answers, in which round, and what they hear of each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from service.core.model import Binding, Busy, Cast, Channel, NewVoice, Usage, Voice
from service.core.rounds import Continuation, Mode
from service.core.states import ReplyState, TurnState
from service.engine import steering
from service.engine.holds import Interruption
from service.errors import ProviderRefused
from service.ports import Finished, Limits, ModelEvent, Prompt, TextDelta
from service.store import replies, sessions, spending
from service.store.database import Database
from tests.engine.engine import Engine, running
from tests.fakes import RememberingSender, Script, ScriptedAgents


class Ensemble(ScriptedAgents):
    """Agents whose model depends on the voice; scripts by voice name, the last one repeats."""

    def __init__(self, **scripts: list[Script]) -> None:
        super().__init__()
        self.by_name = scripts
        self.heard: dict[str, list[Prompt]] = {name: [] for name in scripts}

    def model(self, voice: Voice) -> _Part:  # type: ignore[override]
        """The part of one voice."""
        return _Part(self, voice.name)


class Budgeted(Ensemble):
    """An ensemble whose agents have limits of their own, by their name."""

    def __init__(self, limits: dict[str, Limits], **scripts: list[Script]) -> None:
        super().__init__(**scripts)
        self.by_agent = limits

    def limits(self, voice: Voice) -> Limits:
        """Those of the voice's agent."""
        return self.by_agent.get(voice.agent, Limits())


class _Part:
    def __init__(self, ensemble: Ensemble, name: str) -> None:
        self.ensemble = ensemble
        self.name = name

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        heard, scripts = self.ensemble.heard[self.name], self.ensemble.by_name[self.name]
        script = scripts[min(len(heard), len(scripts) - 1)]
        heard.append(prompt)
        for step in script:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                raise step
            else:
                yield step


def cast(
    *names: str,
    mode: Mode = Mode.BROADCAST,
    continuation: Continuation = Continuation.NONE,
    rounds: dict[str, int] | None = None,
) -> Cast:
    """Voices of these names."""
    voices = tuple(
        NewVoice(
            name,
            Binding(name.lower(), "offline", "echo", f"You are {name}."),
            (rounds or {}).get(name, 0),
        )
        for name in names
    )
    return Cast(voices, mode, continuation)


def says(*texts: str) -> list[Script]:
    """A model that says these things, one after the other."""
    return [[TextDelta(text), Finished()] for text in texts]


async def texts(engine: Engine, turn: str) -> list[tuple[int, str, str]]:
    """Round, state and words of a turn's replies."""
    found = await engine.database.read(replies.of_turn, turn)  # type: ignore[arg-type]
    return [(one.round, one.state.value, one.text) for one in found]


async def test_all_voices_answer_a_broadcast_at_the_same_time(database: Database) -> None:
    """Each from the same history; a voice that is done does not wait for the other."""
    gate = asyncio.Event()
    agents = Ensemble(Ada=says("I am Ada."), Bob=[[gate, TextDelta("I am Bob."), Finished()]])

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=cast("Ada", "Bob"))
        await engine.until(accepted, "reply.finished")
        midway = await texts(engine, accepted.turn)
        gate.set()
        result = await engine.result(accepted.turn)

    assert midway == [(1, "done", "I am Ada."), (1, "generating", "")]
    assert result.text == "I am Ada.\n\nI am Bob."
    assert [said.text for said in agents.heard["Bob"][0].history] == ["hi"]
    assert "there are also: Bob" in agents.heard["Ada"][0].system
    assert "You are Ada." in agents.heard["Ada"][0].system


async def test_voices_hear_each_other_the_next_time(database: Database) -> None:
    """Their own words as their own, those of others under their names."""
    agents = Ensemble(Ada=says("A1", "A2"), Bob=says("B1", "B2"))

    async with running(database, agents) as engine:
        await engine.result((await engine.accept("one", cast=cast("Ada", "Bob"))).turn)
        await engine.result((await engine.accept("two")).turn)

    told = [(said.role, said.text) for said in agents.heard["Ada"][1].history]
    assert ("assistant", "A1") in told
    assert ("user", "[Bob]: B1") in told
    assert told[-1] == ("user", "two")


async def test_one_voice_s_error_does_not_stop_the_other(database: Database) -> None:
    """The turn succeeds, and the error is named where it belongs."""
    agents = Ensemble(Ada=[[ProviderRefused("Ada is out of money.")]], Bob=says("Here."))

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=cast("Ada", "Bob"))
        result = await engine.result(accepted.turn)
        found = await database.read(replies.of_turn, accepted.turn)

    by_state = {one.state: one for one in found}
    assert result.turn.state is TurnState.SUCCEEDED
    assert by_state[ReplyState.ERROR].error == "Ada is out of money."
    assert by_state[ReplyState.DONE].text == "Here."


async def test_a_turn_fails_when_all_voices_do(database: Database) -> None:
    """With the reason of the first."""
    agents = Ensemble(Ada=[[ProviderRefused("no")]], Bob=[[ProviderRefused("no")]])

    async with running(database, agents) as engine:
        result = await engine.result((await engine.accept(cast=cast("Ada", "Bob"))).turn)

    assert (result.turn.state, result.turn.error) == (TurnState.FAILED, "no")


async def test_in_conductor_mode_only_the_named_voice_answers(database: Database) -> None:
    """The silent one knows the exchange when it speaks next."""
    agents = Ensemble(Ada=says("A1"), Bob=says("B1"))
    conducted = cast("Ada", "Bob", mode=Mode.CONDUCTOR)

    async with running(database, agents) as engine:
        first = await engine.accept("@Ada hello", cast=conducted)
        await engine.result(first.turn)
        nobody = await engine.result((await engine.accept("hello?")).turn)
        await engine.result((await engine.accept("and you, @bob?")).turn)

    assert await_free(nobody.turn.error).startswith("Nobody was addressed.")
    assert "Ada, Bob" in await_free(nobody.turn.error)
    assert len(agents.heard["Ada"]) == 1
    history = [said.text for said in agents.heard["Bob"][0].history]
    assert history[:2] == ["@Ada hello", "[Ada]: A1"]


def await_free(text: str | None) -> str:
    """A text that is there."""
    assert text is not None
    return text


async def test_a_mention_directs_also_in_broadcast_mode(database: Database) -> None:
    """Only that voice answers this message."""
    agents = Ensemble(Ada=says("A1"), Bob=says("B1"))

    async with running(database, agents) as engine:
        accepted = await engine.accept("say, @Bob, what now?", cast=cast("Ada", "Bob"))
        result = await engine.result(accepted.turn)

    assert result.text == "B1"
    assert agents.heard["Ada"] == []


async def test_continuation_goes_on_for_whom_it_is_set(database: Database) -> None:
    """Two further rounds for Ada, none for Bob: rounds 2 and 3 are Ada's alone."""
    agents = Ensemble(Ada=says("A1", "A2", "A3"), Bob=says("B1"))

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=cast("Ada", "Bob", rounds={"Ada": 2}))
        await engine.result(accepted.turn)
        events = await engine.events(accepted)
        messages = await database.read(sessions.history, accepted.session, after=0, limit=20)

    rounds = [event.data["round"] for event in events if event.kind == "round.started"]
    assert rounds == [1, 2, 3]
    said = [(one.round, one.author, one.text) for one in messages if one.voice]
    assert sorted(said) == [(1, "Ada", "A1"), (1, "Bob", "B1"), (2, "Ada", "A2"), (3, "Ada", "A3")]
    heard = [one.text for one in agents.heard["Ada"][1].history]
    assert "[Bob]: B1" in heard
    assert heard[-1].startswith("[Round 2.")


async def test_a_person_decides_about_further_rounds(database: Database) -> None:
    """With the policy prompt each round is asked for; no means that it is over."""
    agents = Ensemble(Ada=says("A1", "A2", "A3"), Bob=says("B1", "B2", "B3"))
    asked = cast("Ada", "Bob", continuation=Continuation.PROMPT, rounds={"Ada": 3, "Bob": 3})

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=asked)
        await engine.until(accepted, "question.asked")
        await engine.accept("Continue")
        while len(await database.read(replies.of_turn, accepted.turn)) < 4:
            await asyncio.sleep(0.01)
        while await engine.state(accepted.turn) is not TurnState.WAITING:
            await asyncio.sleep(0.01)
        await engine.accept("Enough")
        await engine.result(accepted.turn)
        found = await texts(engine, accepted.turn)

    assert sorted(one[0] for one in found) == [1, 1, 2, 2]


@pytest.mark.parametrize("author", ["telegram:7", "telegram:8"])
async def test_who_says_something_else_ends_the_chain_and_is_answered(
    database: Database, author: str
) -> None:
    """Only a yes or a no answers the question for another round, whoever it was asked of."""
    agents = Ensemble(Ada=says("A1", "A2"), Bob=says("B1", "B2"))
    asked = cast("Ada", "Bob", continuation=Continuation.PROMPT, rounds={"Ada": 3})

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=asked)
        await engine.until(accepted, "question.asked")
        other = await engine.accept("@Bob, what about Ada?", author=author)
        result = await engine.result(other.turn)
        first = await engine.result(accepted.turn)
        found = await texts(engine, accepted.turn)

    assert other.turn != accepted.turn
    assert result.text == "B2"
    assert (first.turn.state, {one[0] for one in found}) == (TurnState.SUCCEEDED, {1})
    assert first.questions == ()


async def test_a_new_message_ends_the_chain(database: Database) -> None:
    """At the end of the round; nobody talks on over a person."""
    gate = asyncio.Event()
    agents = Ensemble(Ada=[[gate, TextDelta("A1"), Finished()], *says("A2")], Bob=says("B1", "B2"))

    async with running(database, agents) as engine:
        accepted = await engine.accept(
            cast=cast("Ada", "Bob", continuation=Continuation.AUTO, rounds={"Ada": 3, "Bob": 3})
        )
        await engine.until(accepted, "reply.finished")
        await engine.accept("@Bob stop it")
        gate.set()
        await engine.result(accepted.turn)
        found = await texts(engine, accepted.turn)

    assert {one[0] for one in found} == {1}


async def test_a_voice_that_calls_another_narrows_the_next_round(database: Database) -> None:
    """In auto mode only the one who was called goes on, once; then the chain ends."""
    agents = Ensemble(Ada=says("Ask @Bob about it.", "A2"), Bob=says("B1", "B2 for you"))

    async with running(database, agents) as engine:
        accepted = await engine.accept(
            cast=cast("Ada", "Bob", continuation=Continuation.AUTO, rounds={"Ada": 3, "Bob": 3})
        )
        await engine.result(accepted.turn)
        found = await texts(engine, accepted.turn)

    assert sorted((one[0], one[2]) for one in found) == [
        (1, "Ask @Bob about it."),
        (1, "B1"),
        (2, "B2 for you"),
    ]


@pytest.mark.parametrize("done_first", [False, True])
async def test_one_voice_can_be_stopped_while_the_other_goes_on(
    database: Database, done_first: bool
) -> None:
    """Its words are kept, and it takes no part in the next round, whoever is done first."""
    hang, gate = asyncio.Event(), asyncio.Event()
    agents = Ensemble(
        Ada=[[TextDelta("Half"), hang], *says("A2")],
        Bob=[[gate, TextDelta("B1"), Finished()], [TextDelta("B2"), Finished()]],
    )

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=cast("Ada", "Bob", rounds={"Ada": 1, "Bob": 1}))
        await engine.until(accepted, "text", text="Half")
        if done_first:
            gate.set()
            await engine.until(accepted, "reply.finished")
        found = await database.read(sessions.voices_of, accepted.session)
        async with engine.controls.steps() as command:
            stopped = await command.stop_voice(accepted.session, found[0].id, by="operator")
            resting = await command.stop_voice(accepted.session, found[0].id, by="operator")
        await engine.until(accepted, "reply.finished")
        gate.set()
        result = await engine.result(accepted.turn)
        said = await texts(engine, accepted.turn)
        messages = await database.read(sessions.history, accepted.session, after=0, limit=9)

    heard = [one.text for one in agents.heard["Bob"][1].history]
    assert "[Ada]: Half\n\n[This answer was stopped before it was complete.]" in heard
    assert (stopped, resting) == (True, True)
    assert result.turn.state is TurnState.SUCCEEDED
    assert sorted(said) == [(1, "done", "B1"), (1, "done", "Half"), (2, "done", "B2")]
    assert {one.text: one.status for one in messages if one.voice}["Half"] == "partial"


async def test_a_voice_that_was_stopped_first_does_not_go_on(database: Database) -> None:
    """Also when the others speak longer than it did, and another process goes on for them."""
    hang = asyncio.Event()
    stuck = Ensemble(Ada=[[TextDelta("Half"), hang]], Bob=[[TextDelta("B"), hang]])
    async with running(database, stuck) as first:
        accepted = await first.accept(cast=cast("Ada", "Bob", rounds={"Ada": 2, "Bob": 1}))
        await first.until(accepted, "text", text="Half")
        await first.until(accepted, "text", text="B")
        ada = (await database.read(sessions.voices_of, accepted.session))[0].id
        async with first.controls.steps() as command:
            await command.stop_voice(accepted.session, ada, by="operator")
        await first.until(accepted, "reply.finished")
    heir = Ensemble(Ada=says("never"), Bob=says("B1", "B2"))

    async with running(database, heir) as second:
        await second.turns.rescue(attempts=3, alone=True)
        await second.result(accepted.turn)
        said = await texts(second, accepted.turn)

    assert sorted(said) == [(1, "done", "B1"), (1, "done", "Half"), (2, "done", "B2")]
    assert heir.heard["Ada"] == []


async def test_a_voice_stopped_before_a_crash_is_not_begun_again(database: Database) -> None:
    """Its process was gone before it could heed the stop."""
    hang = asyncio.Event()
    stuck = Ensemble(Ada=[[TextDelta("Half"), hang]], Bob=[[TextDelta("B"), hang]])
    async with running(database, stuck) as first:
        accepted = await first.accept(cast=cast("Ada", "Bob", rounds={"Ada": 1}))
        await first.until(accepted, "text", text="Half")
        ada = (await database.read(sessions.voices_of, accepted.session))[0].id
        await database.write(steering.stop_voice, accepted.session, ada, "operator")
    heir = Ensemble(Ada=says("never"), Bob=says("B1"))

    async with running(database, heir) as second:
        await second.turns.rescue(attempts=3, alone=True)
        await second.result(accepted.turn)
        said = await texts(second, accepted.turn)

    assert [one[:2] for one in said] == [(1, "done"), (1, "done")]
    assert heir.heard["Ada"] == []


async def test_a_crash_in_the_second_round_goes_on_there(database: Database) -> None:
    """What is over is not said again; what was cut is, and the order holds."""
    hang = asyncio.Event()
    stuck = Ensemble(Ada=[*says("A1"), [TextDelta("half"), hang]], Bob=says("B1"))
    async with running(database, stuck) as first:
        accepted = await first.accept(cast=cast("Ada", "Bob", rounds={"Ada": 1}))
        await first.until(accepted, "text", text="half")
    heir = Ensemble(Ada=says("A2"), Bob=says("never"))

    async with running(database, heir) as second:
        await second.turns.rescue(attempts=3, alone=True)
        result = await second.result(accepted.turn)
        said = await texts(second, accepted.turn)

    assert sorted(one[::2] for one in said) == [(1, "A1"), (1, "B1"), (2, "A2")]
    assert heir.heard["Bob"] == []
    assert "[Bob]: B1" in [one.text for one in heir.heard["Ada"][0].history]
    assert result.turn.state is TurnState.SUCCEEDED


@pytest.mark.parametrize(
    ("why", "state"),
    [(Interruption.DRAIN, TurnState.SUCCEEDED), (Interruption.STOP, TurnState.STOPPED)],
)
async def test_what_cuts_in_between_two_rounds_is_heeded(
    postgresql_url: str, why: Interruption, state: TurnState
) -> None:
    """A drain leaves the next round to the heir, who has nobody say anything again; a stop ends."""
    database = Database(postgresql_url)
    await database.open()
    gate = asyncio.Event()
    script: Script = [TextDelta("B1"), gate, Finished()]
    leaving = Engine(database, Ensemble(Ada=says("A1"), Bob=[script]), RememberingSender())
    accepted = await leaving.accept(cast=cast("Ada", "Bob", rounds={"Ada": 1}))
    [(claimed, hold)] = await leaving.turns.claim(1)
    working = asyncio.create_task(leaving.turns.work(claimed, hold))
    await leaving.until(accepted, "text", text="B1")
    await leaving.until(accepted, "reply.finished")
    async with database.transaction() as locked:
        await locked.run(_let_nobody_read_turns)
        gate.set()
        await _somebody_waits(database)
        hold.interrupt(why)
    await working
    heir = Ensemble(Ada=says("A2"), Bob=says("never"))

    async with running(database, heir) as engine:
        result = await engine.result(accepted.turn)
        said = await texts(engine, accepted.turn)
    await database.close()

    rounds = {1: {"A1", "B1"}} | ({2: {"A2"}} if why is Interruption.DRAIN else {})
    assert {n: {one[2] for one in said if one[0] == n} for n, _, _ in said} == rounds
    assert (result.turn.state, result.turn.attempt) == (state, 1)
    assert heir.heard["Bob"] == []


def _let_nobody_read_turns(conn: sa.Connection) -> None:
    conn.execute(sa.text("LOCK TABLE turns IN ACCESS EXCLUSIVE MODE"))


async def _somebody_waits(database: Database) -> None:
    """Return once a statement waits for a lock."""
    async with asyncio.timeout(60):
        while not await database.read(_waiting):
            await asyncio.sleep(0.01)


def _waiting(conn: sa.Connection) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'turns'::regclass"
    return int(conn.scalar(sa.text(query)) or 0)


async def test_a_resting_voice_says_nothing_until_it_is_woken(database: Database) -> None:
    """Active or not is a switch; agent and model stay what they are."""
    agents = Ensemble(Ada=says("A1"), Bob=says("B1"))

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=cast("Ada", "Bob"))
        await engine.result(accepted.turn)
        found = await database.read(sessions.voices_of, accepted.session)
        async with engine.controls.steps() as command:
            await command.set_voice(accepted.session, found[0].id, active=False, rounds=2)
        second = await engine.result((await engine.accept()).turn)

    assert second.text == "B1"


async def test_a_target_chosen_with_the_message_answers_alone(database: Database) -> None:
    """Whatever the mode; and a cast is only for a session that does not exist yet."""
    agents = Ensemble(Ada=says("A1"), Bob=says("B1"))

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=cast("Ada", "Bob"))
        await engine.result(accepted.turn)
        found = await database.read(sessions.voices_of, accepted.session)
        chosen = await engine.accept(target=found[1].id, busy=Busy.QUEUE, channel=Channel.CONSOLE)
        result = await engine.result(chosen.turn)

    assert result.text == "B1"
    assert result.turn.directed


# -- what they take -------------------------------------------------------------------------------

CENT = 10_000


def costs(cents: int, *texts: str) -> list[Script]:
    """A model that says these things, each at this price."""
    return [[TextDelta(text), Finished(Usage(10, 5, 0, cents * CENT))] for text in texts]


async def test_what_voices_take_counts_to_their_own_agents(database: Database) -> None:
    """Tokens and money; the turn and its time to the agent of the first voice."""
    agents = Ensemble(Ada=costs(1, "A1", "A2"), Bob=costs(2, "B1"))

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=cast("Ada", "Bob", rounds={"Ada": 1}))
        result = await engine.result(accepted.turn)
    rows = await database.read(spending.by_day, date(2020, 1, 1))

    assert result.turn.usage == Usage(30, 15, 3, 4 * CENT)
    assert [(row.agent, row.turns, row.usage) for row in rows] == [
        ("ada", 1, Usage(20, 10, 2, 2 * CENT)),
        ("bob", 0, Usage(10, 5, 1, 2 * CENT)),
    ]
    assert abs(rows[0].processing - result.turn.processing) < timedelta(milliseconds=5)
    assert rows[1].processing == timedelta()


async def test_a_voice_s_day_ends_when_the_money_of_its_agent_is_spent(database: Database) -> None:
    """Whichever voice it is; the others go on, and what they took does not count to it."""
    limits = {"ada": Limits(day_cost=0.9), "bob": Limits(day_cost=0.05)}
    agents = Budgeted(limits, Ada=costs(6, "A"), Bob=costs(3, "B"))

    async with running(database, agents) as engine:
        turns = [(await engine.accept(cast=cast("Ada", "Bob"))).turn for _ in range(3)]
        for turn in turns:
            await engine.result(turn)
        found = await database.read(replies.of_turn, turns[2])

    assert [(one.state.value, "today" in str(one.error)) for one in found] == [
        ("done", False),
        ("error", True),
    ]
    assert (len(agents.heard["Ada"]), len(agents.heard["Bob"])) == (3, 2)


async def test_each_voice_is_told_what_fits_into_its_own_budget(database: Database) -> None:
    """Whichever is the first one of the session."""
    limits = {"bob": Limits(history_characters=60)}
    agents = Budgeted(limits, Ada=says("A" * 50, "A2"), Bob=says("B" * 50, "B2"))

    async with running(database, agents) as engine:
        await engine.result((await engine.accept("one", cast=cast("Ada", "Bob"))).turn)
        await engine.result((await engine.accept("two")).turn)

    told = {name: {said.text for said in agents.heard[name][1].history} for name in agents.heard}
    assert told == {"Ada": {"one", "A" * 50, f"[Bob]: {'B' * 50}", "two"}, "Bob": {"two"}}


async def test_the_smallest_budget_decides_when_it_is_summed_up(database: Database) -> None:
    """Before anything has to be left out for one of them."""
    limits = {"bob": Limits(history_characters=400)}
    agents = Budgeted(limits, Ada=says("A" * 80), Bob=says("B" * 80))

    async with running(database, agents) as engine:
        for _ in range(3):
            accepted = await engine.accept("on", cast=cast("Ada", "Bob"))
            await engine.result(accepted.turn)
        # It waits behind the summing up.
        await engine.result((await engine.accept("on")).turn)
        found = await database.read(sessions.get, accepted.session)

    assert found is not None
    assert found.summary is not None


async def test_the_limit_of_a_turn_counts_all_its_rounds(database: Database) -> None:
    """Of the voices of one agent, not those of the others."""
    limits = {"ada": Limits(turn_cost=0.05), "bob": Limits(turn_cost=0.05)}
    agents = Budgeted(limits, Ada=costs(3, "A"), Bob=costs(1, "B"))

    async with running(database, agents) as engine:
        accepted = await engine.accept(cast=cast("Ada", "Bob", rounds={"Ada": 3, "Bob": 3}))
        await engine.result(accepted.turn)
        found = await database.read(replies.of_turn, accepted.turn)

    of_ada = [one for one in found if one.voice == found[0].voice]
    assert [one.state.value for one in of_ada] == ["done", "done", "error"]
    assert "cost limit" in str(of_ada[2].error)
    assert len(found) - len(of_ada) == 4
