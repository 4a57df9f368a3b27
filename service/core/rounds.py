"""Who speaks when a session has several voices: targets, mentions, rounds and their end."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MOST_ROUNDS = 3
"""Further rounds after the first one that a voice may be set to."""


class Mode(StrEnum):
    """To whom a message of a session goes."""

    BROADCAST = "broadcast"  # to every active voice
    CONDUCTOR = "conductor"  # to one voice, which somebody names


class Continuation(StrEnum):
    """Whether voices go on by themselves after a round."""

    NONE = "none"  # only those set to further rounds by themselves
    PROMPT = "prompt"  # a person is asked before each further round
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice as far as the rules of rounds know it."""

    id: str
    name: str
    active: bool = True
    rounds: int = 0
    """Further rounds after its first answer, 0 to 3."""


@dataclass(frozen=True, slots=True)
class Spoke:
    """How a voice came out of a round."""

    speaker: Speaker
    text: str
    well: bool
    """Whether it came to its end: neither stopped nor failed."""


def mentioned(text: str, speakers: Iterable[Speaker]) -> Speaker | None:
    """The active voice that `text` calls by `@name` first.

    A mention stands at the start or after white space, and before white space, the end or one of
    , . ! ? : in small or capital letters; names may hold spaces, and the longest one counts.
    """
    best: tuple[int, int] | None = None
    found = None
    for speaker in speakers:
        if not speaker.active:
            continue
        pattern = rf"(?:^|(?<=\s))@{re.escape(speaker.name)}(?=[\s,.!?:]|$)"
        match = re.search(pattern, text, re.IGNORECASE)
        if match is None:
            continue
        place = (match.start(), -len(speaker.name))
        if best is None or place < best:
            best, found = place, speaker
    return found


def first_round(
    speakers: Sequence[Speaker], *, mode: Mode, target: str | None, text: str
) -> list[Speaker]:
    """The voices that answer a message; none when it is directed and nobody is named.

    A mention directs the message whatever the mode; then the voice picked as `target` counts.
    """
    named = mentioned(text, speakers)
    if named is not None:
        return [named]
    active = [one for one in speakers if one.active]
    picked = [one for one in active if one.id == target]
    if picked:
        return picked
    if mode is Mode.CONDUCTOR and len(active) != 1:
        return []
    return active


def next_round(
    number: int,
    spoke: Sequence[Spoke],
    *,
    policy: Continuation,
    directed: bool,
    reached: Collection[str] = (),
) -> list[Speaker]:
    """The voices that go on after round `number`, in their order.

    Those whose own number of further rounds is not used up, and who came to their end. When one of
    the answers calls voices by name, only those of them; `reached` are voices that were called so
    before, after which the chain ends. A directed message goes on only if the policy is not none.
    """
    if number > MOST_ROUNDS or (directed and policy is Continuation.NONE) or reached:
        return []
    left = [one.speaker for one in spoke if one.well and one.speaker.rounds >= number]
    if policy is not Continuation.AUTO:
        return left
    names = called(spoke)
    return [one for one in left if one.id in names] if names else left


def called(spoke: Sequence[Spoke]) -> set[str]:
    """The voices that others called by name in a round."""
    found = set()
    for one in spoke:
        others = [other.speaker for other in spoke if other.speaker.id != one.speaker.id]
        named = mentioned(one.text, others)
        if named is not None:
            found.add(named.id)
    return found


def roster(speaker: Speaker, speakers: Sequence[Speaker], mode: Mode) -> str:
    """What a voice is told of the company it is in; empty when it is alone."""
    others = [one.name for one in speakers if one.active and one.id != speaker.id]
    if not others:
        return ""
    rules = (
        "Speak only when you are addressed, and hand no work to the others."
        if mode is Mode.CONDUCTOR
        else "All of you answer at the same time; you see what the others said afterwards."
    )
    return (
        f"You are {speaker.name}. In this conversation there are also: {', '.join(others)}. "
        f"What they say comes to you as [Name]: words; write your own words without a name "
        f"before them. {rules}"
    )


def names_of(speakers: Iterable[Speaker]) -> Mapping[str, str]:
    """Names by id."""
    return {one.id: one.name for one in speakers}
