"""API tokens by their digest, and the key that poster tokens are derived from."""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import datetime

import sqlalchemy as sa

from service.store import users
from service.store.ids import new_id
from service.store.sql import insert_new
from service.store.tables import api_tokens, settings

PREFIX = "rba_"
_TURN_KEY = "turn_token_key"


def turn_key(conn: sa.Connection) -> bytes:
    """The secret key of this database; made at the first call."""
    fresh = base64.b64encode(secrets.token_bytes(32)).decode()
    conn.execute(insert_new(conn, settings), [{"key": _TURN_KEY, "value": fresh}])
    stored = conn.scalar(sa.select(settings.c.value).where(settings.c.key == _TURN_KEY))
    return base64.b64decode(str(stored))


def digest(token: str) -> bytes:
    """How a token is stored."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def issue(conn: sa.Connection, *, name: str, at: datetime) -> str:
    """Make an API token and return it; only its digest is stored."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = {"id": new_id(), "name": name, "digest": digest(token), "created_at": at}
    conn.execute(api_tokens.insert(), [row])
    return token


def names(conn: sa.Connection) -> list[tuple[str, datetime]]:
    """The names of all tokens and when each was made, oldest first."""
    rows = conn.execute(
        sa.select(api_tokens.c.name, api_tokens.c.created_at).order_by(api_tokens.c.id)
    )
    return [(row.name, row.created_at) for row in rows]


def revoke(conn: sa.Connection, name: str) -> int:
    """Drop the tokens of this name and end their sign-ins; return how many tokens there were."""
    users.end_all(conn, users.Holder("token", name))
    return conn.execute(api_tokens.delete().where(api_tokens.c.name == name)).rowcount


def name_of(conn: sa.Connection, token: str) -> str | None:
    """The name a token was made for, None when it is unknown."""
    query = sa.select(api_tokens.c.name).where(api_tokens.c.digest == digest(token))
    return conn.scalar(query)
