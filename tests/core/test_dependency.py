"""What sessions wait for: never a circle, never another project, and reasons people can act on."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from service.core.dependency import Dependency, Upstream, check, in_order, unmet
from service.core.disposition import Schema
from service.core.model import SessionId
from service.errors import BadInput

A, B, C, D = (SessionId(name) for name in "abcd")
VERDICT = Schema.parse({"verdict": "FRAUD|FINE", "score": "Number"})


def test_a_chain_and_a_diamond_are_no_circles() -> None:
    """Several ways to one session are fine."""
    check(D, [_on(B), _on(C)], siblings=_siblings(), edges={B: [A], C: [A]})


@pytest.mark.parametrize(
    ("edges", "wanted", "told"),
    [
        ({B: [A]}, [B], "“A” → “B” → “A”"),
        ({B: [A], C: [B], D: [C]}, [D], "“A” → “D” → “C” → “B” → “A”"),
        ({B: [A], C: [D]}, [C, B], "“A” → “B” → “A”"),
    ],
)
def test_a_circle_is_refused_with_its_way(
    edges: Mapping[SessionId, Collection[SessionId]], wanted: list[SessionId], told: str
) -> None:
    """However long it is, it names whom it leads past."""
    with pytest.raises(BadInput, match=told):
        check(A, [_on(one) for one in wanted], siblings=_siblings(), edges=edges)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ([Dependency(A)], "dependencies.0: a session cannot depend on itself"),
        ([Dependency(SessionId("x"))], "dependencies.0: there is no such session in this project"),
        ([Dependency(B), Dependency(B)], "dependencies.1: this session is named twice"),
        ([Dependency(C, "verdict", "FRAUD")], "“C” has no disposition schema with a field"),
        ([Dependency(B, "mood", "GOOD")], "“B” has no field 'mood'"),
        ([Dependency(B, "score", "3")], "“B” has no field 'score' of the kind A|B|C"),
        ([Dependency(B, "verdict", "MAYBE")], "takes one of FRAUD, FINE, not 'MAYBE'"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(wanted: list[Dependency], told: str) -> None:
    """With the place in the list and what would be taken."""
    with pytest.raises(BadInput) as refused:
        check(A, wanted, siblings=_siblings(), edges={})

    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("dependency", "upstream", "told"),
    [
        (Dependency(A, title="Old"), None, "“Old” was deleted"),
        (Dependency(A), Upstream(A, "A"), "is not complete"),
        (Dependency(A, "verdict", "FRAUD"), Upstream(A, "A"), "has no disposition yet"),
        (
            Dependency(A, "verdict", "FRAUD"),
            Upstream(A, "A", True, VERDICT, {"verdict": "FRAUD"}, stale=True),
            "is stale",
        ),
        (
            Dependency(A, "verdict", "FRAUD"),
            Upstream(A, "A", True, VERDICT, {"verdict": "FINE"}),
            "came to verdict = FINE; verdict = FRAUD is needed",
        ),
    ],
)
def test_what_does_not_hold_yet_says_why(
    dependency: Dependency, upstream: Upstream | None, told: str
) -> None:
    """So that people know what to do about it."""
    reason = unmet(dependency, upstream)

    assert reason is not None
    assert told in reason


@pytest.mark.parametrize("dependency", [Dependency(A), Dependency(A, "verdict", "FRAUD")])
def test_what_holds_has_no_reason(dependency: Dependency) -> None:
    """A complete session, and a disposition with the value that is asked for."""
    assert unmet(dependency, Upstream(A, "A", True, VERDICT, {"verdict": "FRAUD"})) is None


def test_upstream_comes_first_and_the_rest_keeps_its_order() -> None:
    """A scan begins its sessions like this."""
    assert in_order({A: [C], B: [], C: [D], D: []}) == [D, C, A, B]


def _on(upstream: SessionId) -> Dependency:
    return Dependency(upstream)


def _siblings() -> dict[SessionId, Upstream]:
    return {
        one: Upstream(one, one.upper(), schema=VERDICT if one == B else None)
        for one in (A, B, C, D)
    }
