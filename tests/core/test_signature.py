"""Signatures: the public vectors, rotation, replay, and whatever bytes a stranger sends."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.signature import check_secret, same, sign_standard, verify
from service.errors import BadSignature

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures/signatures.json").read_text("utf-8")
)
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NOW = datetime.fromtimestamp(1_700_000_000, UTC)
TEXT = st.text(max_size=60)


def headers_of(vector: dict[str, Any]) -> dict[str, str]:
    """The headers a vector stands for."""
    if vector["scheme"] == "github":
        return {"X-Hub-Signature-256": vector["header"], "X-GitHub-Delivery": "d-1"}
    return {
        "webhook-id": vector.get("msg_id") or vector["id"],
        "webhook-timestamp": str(vector["timestamp"]),
        "webhook-signature": vector["header"],
    }


@pytest.mark.parametrize(
    "vector",
    [one for one in VECTORS if one["scheme"] in ("github", "standard-webhooks")],
    ids=lambda one: str(one.get("id", one["scheme"])),
)
def test_the_public_vectors_verify(vector: dict[str, Any]) -> None:
    """As other implementations made them, also when any of several secrets fits."""
    now = datetime.fromtimestamp(vector.get("timestamp", 0), UTC)
    secrets = vector.get("secrets") or [vector["secret"]]
    body = vector["body"].encode()

    for secret in secrets:
        found = verify(vector["scheme"], ["d3Jvbmc=", secret], headers_of(vector), body, now=now)
        assert found

    with pytest.raises(BadSignature):
        verify(vector["scheme"], secrets, headers_of(vector), body + b" ", now=now)


def test_what_we_sign_verifies() -> None:
    """Our callbacks follow the scheme our webhooks check."""
    headers = sign_standard(SECRET, "msg_1", NOW, b"{}")

    found = verify("standard-webhooks", [SECRET], headers, b"{}", now=NOW)

    assert found == "msg_1"


@pytest.mark.parametrize("seconds", [-301, 301, 10**9])
def test_an_old_signature_is_refused(seconds: int) -> None:
    """A recorded request cannot be played back after five minutes."""
    headers = sign_standard(SECRET, "msg_1", NOW, b"{}")

    with pytest.raises(BadSignature, match="five minutes"):
        verify("standard-webhooks", [SECRET], headers, b"{}", now=NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "v1",
        "v1,",
        "v1,,",
        "v1,not base64",
        "v2,GOOD",
        "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,GOOD ",
        "  ",
        "v1,é",
        "\udcff",
        "v1,GOOD"[:-1],
    ],
)
def test_a_malformed_signature_is_a_bad_one(signature: str) -> None:
    """Never another exception; the right code under an unknown version does not count."""
    good = sign_standard(SECRET, "msg_1", NOW, b"{}")["webhook-signature"]
    headers = {
        **sign_standard(SECRET, "msg_1", NOW, b"{}"),
        "webhook-signature": signature.replace("GOOD", good[3:]),
    }
    if signature == "v1,GOO":
        headers["webhook-signature"] = good[:-1]

    with pytest.raises(BadSignature):
        verify("standard-webhooks", [SECRET], headers, b"{}", now=NOW)


@pytest.mark.parametrize("timestamp", ["", "abc", "-1", "1700000000.5", "٣", "9" * 13, " 1"])
def test_a_malformed_time_is_refused(timestamp: str) -> None:
    """Only a whole number of seconds is a time."""
    headers = {**sign_standard(SECRET, "m", NOW, b""), "webhook-timestamp": timestamp}

    with pytest.raises(BadSignature):
        verify("standard-webhooks", [SECRET], headers, b"", now=NOW)


def test_a_body_cannot_pass_for_a_timestamp() -> None:
    """What was signed once must not be cut into id, time and body at another dot."""
    old = NOW - timedelta(days=1)
    later = str(int(NOW.timestamp()))
    signed = sign_standard(SECRET, "m", old, f"{later}.{{}}".encode())
    headers = {
        "webhook-id": f"m.{signed['webhook-timestamp']}",
        "webhook-timestamp": later,
        "webhook-signature": signed["webhook-signature"],
    }

    with pytest.raises(BadSignature, match="dot"):
        verify("standard-webhooks", [SECRET], headers, b"{}", now=NOW)


@given(scheme=st.sampled_from(["bearer", "github", "standard-webhooks"]), values=st.lists(TEXT))
@settings(max_examples=200, deadline=None)
def test_no_headers_break_the_check(scheme: str, values: list[str]) -> None:
    """Whatever text stands in them, the answer is that the signature is bad."""
    names = (
        "Authorization",
        "X-Hub-Signature-256",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    )
    headers = dict(zip(names, values, strict=False))

    with pytest.raises(BadSignature):
        verify(scheme, [SECRET], headers, b"", now=NOW)


@given(st.binary(max_size=200), st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_is_noticed(body: bytes, place: int) -> None:
    """Any flipped bit of the body makes the signature wrong."""
    headers = sign_standard(SECRET, "m", NOW, body)
    changed = bytearray(body or b"\x00")
    changed[place % len(changed)] ^= 1

    with pytest.raises(BadSignature):
        verify("standard-webhooks", [SECRET], headers, bytes(changed), now=NOW)


@pytest.mark.parametrize(
    ("header", "good"),
    [
        ("Bearer s3cret", True),
        ("bearer  s3cret", True),
        ("Basic s3cret", False),
        ("Bearer x", False),
    ],
)
def test_bearer(header: str, good: bool) -> None:
    """The scheme's name in any case; any of the tokens."""
    if good:
        assert verify("bearer", ["old", "s3cret"], {"Authorization": header}, b"", now=NOW) is None
        return
    with pytest.raises(BadSignature):
        verify("bearer", ["old", "s3cret"], {"Authorization": header}, b"", now=NOW)


@pytest.mark.parametrize(
    ("scheme", "secret", "problem"),
    [
        ("bearer", "x", None),
        ("github", "", "is empty"),
        ("standard-webhooks", SECRET, None),
        ("standard-webhooks", "plain!", "followed by base64"),
        ("standard-webhooks", "QmFzZTY0IGJ5IGFjY2lkZW50Li4u", "followed by base64"),
        ("standard-webhooks", "whsec_AAEC", "too short"),
    ],
)
def test_a_secret_that_cannot_be_is_named(scheme: str, secret: str, problem: str | None) -> None:
    """At start, and without showing it."""
    found = check_secret(scheme, secret)

    assert (found is None) == (problem is None)
    assert problem is None or (found is not None and problem in found)


def test_same_takes_any_characters() -> None:
    """What is no UTF-8 compares as different."""
    assert same("é\udcff", "é\udcff")
    assert not same("\udcff", "x")
