"""People who sign in at the console, and the sign-ins of people and tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from service.core.access import OPERATOR, UserRole
from service.errors import BadInput
from service.store.sql import insert_new
from service.store.tables import api_tokens, sign_ins, users

SHORTEST, LONGEST = 8, 1024
"""Characters of a password."""
# So much activity later a sign-in is written anew; between, reading it costs no write.
_SLIDE = timedelta(minutes=1)
# Who the service itself is written down as, and whoever holds a token of its configuration.
_OURS = frozenset({OPERATOR, "housekeeping", "ringback"})
_NAME = re.compile(r"[a-z0-9][a-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a password."""

    name: str
    role: UserRole
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a sign-in is: a person's, an issued token's, or a configured token's."""

    kind: str
    """`user`, `token` or `config`."""
    name: str
    """Of the person or the token; of a configured token the beginning of its digest."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in that holds."""

    digest: bytes
    holder: Holder
    role: UserRole
    expires_at: datetime


# -- passwords ------------------------------------------------------------------------------------


def is_name(name: str) -> bool:
    """Whether somebody can be called that."""
    return _NAME.fullmatch(name) is not None and name not in _OURS


def check_name(name: str) -> str:
    """Return `name`. Raises BadInput when nobody can be called that."""
    if not is_name(name):
        raise BadInput(
            f"NAME: {name!r} cannot be used; take up to 64 of a-z, 0-9, _ . @ and -, "
            "beginning with a letter or digit"
        )
    return name


def check_password(password: str) -> str:
    """Return `password`. Raises BadInput when it is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise BadInput(f"the password needs {SHORTEST} to {LONGEST} characters")
    return password


def hashed(password: str) -> str:
    """The argon2id hash to store; it takes a while and much memory, so call it in a thread."""
    # Most commands and most services never see a password.
    from argon2 import PasswordHasher

    return PasswordHasher().hash(_normal(password))


def matches(password: str, stored: str) -> bool:
    """Whether `password` is the one that was hashed; as slow as `hashed`."""
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return PasswordHasher().verify(stored, _normal(password))
    except (Argon2Error, InvalidHashError):
        return False


def _normal(password: str) -> bytes:
    """The same bytes whichever way a keyboard composes its accents."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


# -- people ---------------------------------------------------------------------------------------


def add(conn: sa.Connection, name: str, password: str, role: UserRole, *, at: datetime) -> bool:
    """Store a new person with a hashed password; False when the name is taken."""
    row = {"name": name, "password": password, "role": role.value, "created_at": at}
    return conn.scalar(insert_new(conn, users, users.c.name).values(row)) is not None


def everybody(conn: sa.Connection) -> list[User]:
    """All people by name."""
    rows = conn.execute(sa.select(users).order_by(users.c.name))
    return [User(row.name, UserRole(row.role), row.created_at) for row in rows]


def password_of(conn: sa.Connection, name: str) -> str | None:
    """The hash of somebody's password, None for whom we do not know."""
    return conn.scalar(sa.select(users.c.password).where(users.c.name == name))


def change_password(conn: sa.Connection, name: str, password: str) -> bool:
    """Store another hash and end the person's sign-ins; False when there is no such person."""
    changed = conn.execute(users.update().where(users.c.name == name).values(password=password))
    end_all(conn, Holder("user", name))
    return changed.rowcount > 0


def remove(conn: sa.Connection, name: str) -> bool:
    """Forget a person and end the sign-ins; False when there is no such person."""
    gone = conn.execute(users.delete().where(users.c.name == name)).rowcount
    end_all(conn, Holder("user", name))
    return gone > 0


# -- sign-ins -------------------------------------------------------------------------------------


def digest(value: str) -> bytes:
    """How the value of a cookie is stored."""
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()


def begin_user(
    conn: sa.Connection, name: str, password: str, *, at: datetime, lasts: timedelta
) -> tuple[str, UserRole] | None:
    """Sign a person in whose stored hash is still `password`; the value of the cookie, the role.

    None when the person was removed or got another password since the hash was read.
    """
    query = sa.select(users.c.role).where(users.c.name == name, users.c.password == password)
    role = conn.scalar(query.with_for_update())
    if role is None:
        return None
    value = begin(conn, Holder("user", name), UserRole(role), at=at, lasts=lasts)
    return value, UserRole(role)


def begin(
    conn: sa.Connection, holder: Holder, role: UserRole, *, at: datetime, lasts: timedelta
) -> str:
    """Sign in; return the value of the cookie, of which only the digest is stored."""
    conn.execute(sign_ins.delete().where(sign_ins.c.expires_at <= at))
    value = secrets.token_urlsafe(32)
    row = {
        "digest": digest(value),
        "name": str(holder),
        "role": role.value,
        "created_at": at,
        "expires_at": at + lasts,
    }
    conn.execute(sign_ins.insert(), [row])
    return value


def find(conn: sa.Connection, digest_: bytes, *, at: datetime) -> SignIn | None:
    """The sign-in with this digest; None when it is unknown, over, or its holder is gone.

    Whether a configured token is still configured, the caller has to know.
    """
    query = sa.select(sign_ins).where(sign_ins.c.digest == digest_, sign_ins.c.expires_at > at)
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    kind, _, name = row.name.partition(":")
    found = SignIn(row.digest, Holder(kind, name), UserRole(row.role), row.expires_at)
    return found if _is_there(conn, found.holder) else None


def slide(conn: sa.Connection, digest_: bytes, *, at: datetime, lasts: timedelta) -> None:
    """Let a sign-in last from now on."""
    statement = sign_ins.update().where(sign_ins.c.digest == digest_)
    conn.execute(statement.values(expires_at=at + lasts))


def is_due(sign_in: SignIn, *, at: datetime, lasts: timedelta) -> bool:
    """Whether it is worth a write to let it last from now on."""
    return sign_in.expires_at < at + lasts - min(_SLIDE, lasts / 2)


def end(conn: sa.Connection, digest_: bytes) -> None:
    """End one sign-in."""
    conn.execute(sign_ins.delete().where(sign_ins.c.digest == digest_))


def end_all(conn: sa.Connection, holder: Holder) -> None:
    """End every sign-in of somebody."""
    conn.execute(sign_ins.delete().where(sign_ins.c.name == str(holder)))


def alive(conn: sa.Connection, digests: list[bytes], *, at: datetime) -> set[bytes]:
    """Those of these digests, of sign-ins and of issued tokens, that still let somebody in."""
    held = sa.select(sign_ins.c.digest).where(
        sign_ins.c.digest.in_(digests), sign_ins.c.expires_at > at
    )
    issued = sa.select(api_tokens.c.digest).where(api_tokens.c.digest.in_(digests))
    return {*conn.scalars(held), *conn.scalars(issued)}


def _is_there(conn: sa.Connection, holder: Holder) -> bool:
    # They are ended with their holder; this is for one that began at that very moment.
    match holder.kind:
        case "user":
            found = sa.select(users.c.name).where(users.c.name == holder.name)
        case "token":
            found = sa.select(api_tokens.c.name).where(api_tokens.c.name == holder.name)
        case _:
            return True
    return conn.scalar(found.limit(1)) is not None
