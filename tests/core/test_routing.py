"""Which session a post belongs to."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.prompt import Prompt
from service.core.routing import session_key
from service.errors import BadInput

BY_REPO = Prompt.parse("{{ payload.repo }}")


def key(repo: object) -> str | None:
    return session_key("issues", BY_REPO, {"payload": {"repo": repo}})


def test_new_asks_for_a_session_of_its_own() -> None:
    """No key, no sharing."""
    assert session_key("issues", "new", {}) is None


def test_fixed_is_one_session_for_the_webhook() -> None:
    """Every post goes on in the same conversation."""
    assert session_key("issues", "fixed", {}) == "hook:issues"


def test_a_template_makes_one_session_for_each_value() -> None:
    """The value is hashed: it may be long, and people see keys."""
    digest = hashlib.sha256(b"owner/repo").hexdigest()

    assert f"hook:issues:{digest}" == key("owner/repo")


def test_space_around_a_value_makes_no_difference() -> None:
    """Templates over several lines end with one."""
    assert key("a") == key(" a\n")


def test_webhooks_do_not_share_sessions() -> None:
    """The name is part of the key."""
    values = {"payload": {"repo": "a"}}

    assert session_key("one", BY_REPO, values) != session_key("two", BY_REPO, values)


HOSTILE = ["a", "a:", ":a", "a/b", "a\0", "é", "e\u0301", "\ud800", "\ud801", "fixed", "new", "１"]


def test_values_that_look_alike_stay_apart() -> None:
    """Separators, look-alikes and halves of pairs included."""
    keys = {key(value) for value in HOSTILE}

    assert len(HOSTILE) == len(keys)


@given(st.text(alphabet=st.characters(codec=None), min_size=1).filter(str.strip))
def test_no_post_leaves_the_room_of_its_webhook(value: str) -> None:
    """Whatever a sender writes, the key is the webhook's name and a digest."""
    made = key(value)

    assert made is not None
    assert made.startswith("hook:issues:")
    assert len(made) == len("hook:issues:") + 64


@pytest.mark.parametrize("value", ["", "  \n", None])
def test_an_empty_key_is_a_mistake(value: object) -> None:
    """All posts without a value would otherwise meet in one session."""
    with pytest.raises(BadInput, match="session: the key template made an empty key"):
        key(value)


def test_a_missing_field_is_a_mistake() -> None:
    """It is named, so that the operator can mend the template."""
    with pytest.raises(BadInput, match="repo"):
        session_key("issues", BY_REPO, {"payload": {}})
