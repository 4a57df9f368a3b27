"""Signatures of webhooks over raw bytes: verified inbound, made outbound."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from service.errors import BadSignature

TOLERANCE = timedelta(minutes=5)

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_PREFIX = "whsec_"
_SHORTEST_KEY = 16
# A header with more signatures than any sender rotates through is an attack on our time.
_SIGNATURES = 16


def verify(
    scheme: str,
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
) -> str | None:
    """Check a request against any of `secrets`; return the sender's delivery id, if it has one.

    `headers` must not care about case. `none` checks nothing. Raises BadSignature for everything
    that is wrong, whatever the bytes; the text is for the operator's log and names no secret.
    """
    match scheme:
        case "none":
            return None
        case "bearer":
            _verify_bearer(secrets, headers)
            return None
        case "github":
            return _verify_github(secrets, headers, body)
        case "standard-webhooks":
            return _verify_standard(secrets, headers, body, now)
    raise BadSignature(f"unknown scheme {scheme!r}")


def sign_standard(secret: str, id_: str, at: datetime, body: bytes) -> dict[str, str]:
    """The Standard Webhooks headers for a body that is sent as delivery `id_`."""
    timestamp = str(int(at.timestamp()))
    return {
        "webhook-id": id_,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + _standard_mac(_standard_key(secret), id_, timestamp, body),
    }


def check_secret(scheme: str, secret: str) -> str | None:
    """What is wrong with a secret for this scheme, without showing it; None when nothing is."""
    if not secret:
        return "is empty"
    if scheme != "standard-webhooks":
        return None
    if not secret.startswith(_PREFIX):
        return f"must be {_PREFIX} followed by base64"
    try:
        key = _standard_key(secret)
    except (binascii.Error, ValueError):
        return f"must be {_PREFIX} followed by base64"
    if len(key) < _SHORTEST_KEY:
        return f"is too short: {len(key)} bytes, at least 24 are usual"
    return None


def same(given: str, expected: str) -> bool:
    """Compare in a time that does not depend on where they differ; takes any characters."""
    return hmac.compare_digest(_bytes(given), _bytes(expected))


def _verify_bearer(secrets: Iterable[str], headers: Mapping[str, str]) -> None:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise BadSignature("no bearer token")
    _require_any([same(token.strip(), secret) for secret in secrets], "the token is wrong")


def _verify_github(secrets: Iterable[str], headers: Mapping[str, str], body: bytes) -> str | None:
    given = headers.get("X-Hub-Signature-256", "")
    if not given.startswith("sha256="):
        raise BadSignature("no X-Hub-Signature-256 header")
    macs = [_mac(_bytes(secret), body).hex() for secret in secrets]
    _require_any([same(given, f"sha256={mac}") for mac in macs], "the signature is wrong")
    return headers.get("X-GitHub-Delivery") or None


def _verify_standard(
    secrets: Iterable[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> str:
    id_ = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not id_:
        raise BadSignature("no webhook-id header")
    if "." in id_:
        # Dots separate what is signed: with one in the id, a body could pass for a timestamp.
        raise BadSignature("webhook-id has a dot in it")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise BadSignature("webhook-timestamp is no number of seconds")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise BadSignature("webhook-timestamp is more than five minutes away from now")
    given = [
        mac
        for version, _, mac in (
            one.partition(",") for one in headers.get("webhook-signature", "").split(" ")
        )
        if version == "v1" and mac
    ][:_SIGNATURES]
    macs = [_standard_mac(_standard_key(secret), id_, timestamp, body) for secret in secrets]
    equal = [same(one, mac) for one in given for mac in macs]
    _require_any(equal, "the signature is wrong")
    return id_


def _require_any(equal: Sequence[bool], reason: str) -> None:
    if not any(equal):
        raise BadSignature(reason)


@lru_cache(maxsize=64)
def _standard_key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)


def _standard_mac(key: bytes, id_: str, timestamp: str, body: bytes) -> str:
    signed = _bytes(f"{id_}.{timestamp}.") + body
    return base64.b64encode(_mac(key, signed)).decode()


def _mac(key: bytes, message: bytes) -> bytes:
    # Not hmac.digest: that lets go of the interpreter lock even for a few bytes, and then waits
    # for whichever thread took it.
    mac = _keyed(key).copy()
    mac.update(message)
    return mac.digest()


@lru_cache(maxsize=64)
def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod=hashlib.sha256)


def _bytes(text: str) -> bytes:
    # Headers may hold what was no UTF-8; it must compare as different, not break.
    return text.encode("utf-8", "surrogatepass")
