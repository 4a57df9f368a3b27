"""Tasks with a composition: the voices of the sessions they ring in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from handlers.cron.clock import compile_task
from service import config
from service.core.model import Accepted, OccurrenceId
from service.engine.compositions import Compositions
from service.store import sessions
from service.store.database import Database
from service.store.ids import new_id
from tests.engine.engine import BINDING, running
from tests.engine.test_voices import Ensemble, says

VOICE = config.CompositionVoice(provider="offline", model="echo", name="Bob", rounds=1)
DUO = config.Composition(
    voices=(config.CompositionVoice(agent="assistant", name="Ada"), VOICE),
    continuation="prompt",
)


@pytest.mark.parametrize("sticky", [True, False])
async def test_all_voices_of_a_composition_answer_a_task(database: Database, sticky: bool) -> None:
    """Nobody is there to ask about further rounds: those go on that are set to."""
    compositions = Compositions(database, {"duo": DUO}, {"assistant": BINDING}, ("offline",))
    cast = compositions.configured("duo")
    settings = config.Task(
        composition="duo", cron="0 * * * *", prompt="Well?", sticky_session=sticky
    )
    task = compile_task("hourly", settings, cast.voices[0].binding, (), cast)
    ring = task.ring(OccurrenceId(new_id()), datetime.now(UTC), manual=False)

    async with running(database, Ensemble(Ada=says("A1"), Bob=says("B1", "B2"))) as engine:
        accepted = await engine.intake.accept(ring)
        assert isinstance(accepted, Accepted)
        result = await engine.result(accepted.turn)
        session = await database.read(sessions.get, accepted.session)

    said = [(one["name"], one["round"], one["text"]) for one in result.as_json()["replies"]]
    assert sorted(said) == [("Ada", 1, "A1"), ("Bob", 1, "B1"), ("Bob", 2, "B2")]
    assert session is not None
    assert (session.composition, session.task, session.agent) == ("duo", "hourly", "assistant")
