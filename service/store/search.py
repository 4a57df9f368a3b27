"""Full-text search over all messages: whole words, and the beginning of the last one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from service.core.model import Role, SessionId
from service.store.tables import messages, sessions

# The beginning of a word is looked for from this length on; of shorter ones there are too many.
_BEGINNING = 3
# From here on scripts are written without spaces, and two characters say much.
_IDEOGRAPHS = "\u2e80"
# PostgreSQL has no index by word and time. What is common is among the newest messages: so many are
# looked at, then as many as those promise. What is not common the index tells whole; where that is
# wrong it tells some of it, from about so many messages on.
_NEWEST, _MOST_NEWEST = 2_000, 50_000
_MOST_FOUND = 20_000
# Of an excerpt: what stands before the word, and all of it.
_BEFORE, _EXCERPT = 50, 200


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that holds what was looked for."""

    session: SessionId
    title: str | None
    number: int
    role: Role
    author: str
    excerpt: str
    at: datetime


def words_of(query: str) -> list[str]:
    """The words of a query, each once; everything else in it only parts them."""
    parted = "".join(one if one.isalnum() else " " for one in query)
    return list(dict.fromkeys(parted.lower().split()))


def find(
    conn: sa.Connection, words: Sequence[str], *, limit: int, reader: str | None = None
) -> list[Hit]:
    """The newest messages with all of these words; those of archived sessions are left out.

    The last word may be the beginning of one, unless there are enough with exactly that word. With
    `reader` those are left out, too, that are in projects of others.
    """
    if not words:
        return []
    search = _search_postgresql if conn.dialect.name == "postgresql" else _search_sqlite
    found = search(conn, words, "", limit, reader)
    if len(found) < limit and (len(words[-1]) >= _BEGINNING or words[-1] >= _IDEOGRAPHS):
        found = search(conn, words, "*", limit, reader)
    return _hits(conn, found, words)


def _hits(conn: sa.Connection, ids: Sequence[int], words: Sequence[str]) -> list[Hit]:
    rows = conn.execute(
        sa.select(messages, sessions.c.title)
        .join(sessions, sessions.c.id == messages.c.session_id)
        .where(messages.c.id.in_(list(ids)))
        .order_by(messages.c.id.desc())
    )
    return [
        Hit(
            SessionId(row.session_id),
            row.title,
            row.number,
            Role(row.role),
            row.author,
            excerpt(row.text, words),
            row.created_at,
        )
        for row in rows
    ]


# For everybody (False), and for somebody who sees what is theirs (True).
_SEEN = {
    False: "",
    True: (
        " AND (sessions.project_id IS NULL OR sessions.project_id IN"
        " (SELECT id FROM projects WHERE owner = :reader"
        " UNION SELECT project_id FROM project_members WHERE name = :reader))"
    ),
}


def _values(match: str, limit: int, reader: str | None) -> dict[str, object]:
    values: dict[str, object] = {"match": match, "limit": limit}
    return values if reader is None else {**values, "reader": reader}


# -- SQLite ---------------------------------------------------------------------------------------

# The index gives the newest first and is asked no further than to the last one needed.
_SQLITE = {
    own: sa.text(
        "SELECT messages.id FROM message_words"  # noqa: S608 - our own names
        " CROSS JOIN messages ON messages.id = message_words.rowid"
        " CROSS JOIN sessions ON sessions.id = messages.session_id"
        " WHERE message_words MATCH :match AND messages.role <> 'system'"
        f" AND sessions.archived_at IS NULL{seen}"
        " ORDER BY message_words.rowid DESC LIMIT :limit"
    )
    for own, seen in _SEEN.items()
}


def _search_sqlite(
    conn: sa.Connection, words: Sequence[str], last: str, limit: int, reader: str | None
) -> Sequence[int]:
    match = " ".join(f'"{word}"' for word in words) + last
    return conn.scalars(_SQLITE[reader is not None], _values(match, limit, reader)).all()


# -- PostgreSQL -----------------------------------------------------------------------------------

# Whatever the planner thinks of the words: it knows nothing of how they go together.
_PLAN = tuple(
    sa.text(f"SET LOCAL {setting}")
    for setting in ("enable_seqscan = off", "jit = off", f"gin_fuzzy_search_limit = {_MOST_FOUND}")
)
_MATCHES = "words @@ to_tsquery('pg_catalog.simple', CAST(:match AS text))"
_LISTED = (
    " JOIN sessions ON sessions.id = found.session_id"
    " WHERE found.role <> 'system' AND sessions.archived_at IS NULL"
)
_FIRST = " ORDER BY found.id DESC LIMIT :limit"
_AMONG_NEWEST = {
    own: sa.text(
        "SELECT found.id FROM (SELECT id, session_id, role, words FROM messages"  # noqa: S608 - our own names
        f" ORDER BY id DESC LIMIT :newest) AS found{_LISTED}{seen} AND found.{_MATCHES}{_FIRST}"
    )
    for own, seen in _SEEN.items()
}
_AMONG_ALL = {
    own: sa.text(
        "WITH found AS MATERIALIZED (SELECT id, session_id, role FROM messages"  # noqa: S608 - our own names
        f" WHERE {_MATCHES}) SELECT found.id FROM found{_LISTED}{seen}{_FIRST}"
    )
    for own, seen in _SEEN.items()
}


def _search_postgresql(
    conn: sa.Connection, words: Sequence[str], last: str, limit: int, reader: str | None
) -> Sequence[int]:
    beginning = ":*" if last else ""
    match = " & ".join(f"'{word}'" for word in words) + beginning
    values, own = _values(match, limit, reader), reader is not None
    found = conn.scalars(_AMONG_NEWEST[own], {**values, "newest": _NEWEST}).all()
    # Half as many again, so that there are enough of them more often than not.
    promising = _NEWEST * limit * 3 // (2 * len(found)) if found else _MOST_NEWEST + 1
    if len(found) < limit and promising <= _MOST_NEWEST:
        found = conn.scalars(_AMONG_NEWEST[own], {**values, "newest": promising}).all()
    if len(found) == limit:
        return found
    for setting in _PLAN:
        conn.execute(setting)
    return conn.scalars(_AMONG_ALL[own], values).all()


# -- excerpts -------------------------------------------------------------------------------------


def excerpt(text: str, words: Sequence[str]) -> str:
    """What stands around the first of these words, on one line."""
    line = " ".join(text.split())
    if len(line) <= _EXCERPT:
        return line
    found = re.search(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, words))})", line, re.IGNORECASE)
    start = max(0, found.start() - _BEFORE) if found else 0
    end = start + _EXCERPT
    # Whole words, unless they are endless.
    if start:
        start = max(line.find(" ", start, start + _BEFORE) + 1, start)
    if end < len(line):
        cut = line.rfind(" ", end - _BEFORE, end)
        end = cut if cut > 0 else end
    before, after = "…" if start else "", "…" if end < len(line) else ""
    return before + line[start:end].strip() + after
