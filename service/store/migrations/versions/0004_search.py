"""Lists and a search over every message that stay quick, however much there is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.store.sql import Instant

revision = "0004"
down_revision = "0003"

# What parts words besides white space. PostgreSQL's own parser would take addresses, paths and
# compounds for one word each, SQLite's never does.
_MARKS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~“”‘’„‚«»‹›–—…·•¡¿、。，！？：；「」（）"
# PostgreSQL refuses rows whose words take more than a megabyte.
_LONGEST_SEARCHED = 100_000
_COLUMNS = (
    "session_id, number, turn_number, turn_id, role, author, voice_id, round, text, status,"
    " created_at"
)
_ROLES = "role IN ('user', 'event', 'voice', 'system')"
_STATUSES = "status IN ('complete', 'partial', 'error')"
_LISTED = sa.text("archived_at IS NULL")
_ARCHIVED = sa.text("archived_at IS NOT NULL")
_EMPTY = sa.text("archived_at IS NULL AND last_message = 0")
_OF_TASK = sa.text("task IS NOT NULL")


def upgrade() -> None:
    """Apply it; there is no way back but a backup."""
    extend_sessions()
    index_references()
    if op.get_bind().dialect.name == "sqlite":
        rebuild_messages()
        index_words_sqlite()
    else:
        number_messages()
        index_words_postgresql()


def extend_sessions() -> None:
    """One index for each list; the tasks that sessions of old were made by."""
    op.add_column("sessions", sa.Column("left_key", sa.Text))
    op.execute(
        "UPDATE sessions SET task = (SELECT min(occurrences.task) FROM occurrences"
        " WHERE occurrences.session_id = sessions.id)"
        " WHERE source = 'scheduled' AND task IS NULL"
    )
    op.drop_index("ix_sessions_active_at", "sessions")
    for name, columns, where in (
        ("active", ["sticky", "active_at", "id"], _LISTED),
        ("empty", ["id"], _EMPTY),
        ("archived", ["archived_at", "id"], _ARCHIVED),
        ("task", [sa.text("task"), sa.text("id DESC")], _OF_TASK),
    ):
        op.create_index(
            f"ix_sessions_{name}",
            "sessions",
            columns,
            postgresql_where=where,
            sqlite_where=where,
        )


def index_references() -> None:
    """Find what refers to a session that is deleted without looking through everything."""
    op.create_index("ix_questions_session_id", "questions", ["session_id"])
    op.create_index("ix_questions_turn_id", "questions", ["turn_id"])
    op.create_index("ix_deliveries_session_id", "deliveries", ["session_id"])
    op.create_index("ix_occurrences_session_id", "occurrences", ["session_id", "scheduled_at"])


# -- numbers over all sessions --------------------------------------------------------------------


def rebuild_messages() -> None:
    """SQLite: give messages a number of their own. VACUUM renumbers rows that have none."""
    op.create_table(
        "messages_numbered",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("session_id", sa.String(36), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("turn_number", sa.BigInteger, nullable=False),
        sa.Column("turn_id", sa.String(36)),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("voice_id", sa.String(36)),
        sa.Column("round", sa.Integer),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.CheckConstraint(_ROLES, name=op.f("ck_messages_role")),
        sa.CheckConstraint(_STATUSES, name=op.f("ck_messages_status")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_messages_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.UniqueConstraint("session_id", "number", name=op.f("uq_messages_session_id_number")),
    )
    op.execute(
        f"INSERT INTO messages_numbered ({_COLUMNS}) SELECT {_COLUMNS} FROM messages"  # noqa: S608 - our own names
        " ORDER BY created_at, session_id, number"
    )
    op.drop_table("messages")
    op.rename_table("messages_numbered", "messages")
    op.create_index("ix_messages_conversation", "messages", ["session_id", "turn_number", "number"])


def number_messages() -> None:
    """PostgreSQL: the same in place."""
    op.execute("ALTER TABLE messages DROP CONSTRAINT pk_messages")
    op.execute("ALTER TABLE messages ADD COLUMN id bigserial")
    op.create_primary_key("pk_messages", "messages", ["id"])
    op.create_unique_constraint(
        "uq_messages_session_id_number", "messages", ["session_id", "number"]
    )


# -- words ----------------------------------------------------------------------------------------


def index_words_sqlite() -> None:
    """An index beside the table, which triggers keep. Whoever rebuilds the table makes them anew.

    It holds no text of its own; to forget a message it is told what the message was.
    """
    op.execute(
        """
        CREATE VIRTUAL TABLE message_words USING fts5(
            text, content='messages', content_rowid='id',
            tokenize='unicode61 remove_diacritics 0'
        )
        """
    )
    op.execute("INSERT INTO message_words (message_words) VALUES ('rebuild')")
    learn = "INSERT INTO message_words (rowid, text) VALUES (new.id, new.text);"
    forget = (
        "INSERT INTO message_words (message_words, rowid, text)"
        " VALUES ('delete', old.id, old.text);"
    )
    for name, event, steps in (
        ("learnt", "INSERT", learn),
        ("forgotten", "DELETE", forget),
        ("changed", "UPDATE OF id, text", f"{forget} {learn}"),
    ):
        op.execute(
            f"CREATE TRIGGER messages_words_{name} AFTER {event} ON messages BEGIN {steps} END"
        )


def index_words_postgresql() -> None:
    """A column that follows the text by itself, and its index."""
    marks = _MARKS.replace("'", "''")
    text = f"translate(left(text, {_LONGEST_SEARCHED}), '{marks}', '{' ' * len(_MARKS)}')"
    op.execute(
        "ALTER TABLE messages ADD COLUMN words tsvector GENERATED ALWAYS AS"
        f" (to_tsvector('pg_catalog.simple', lower({text}{_any_case()}))) STORED"
    )
    # New words are kept in a list until there are so many kilobytes of them. Whoever adds the last
    # ones sorts all of them in, and waits for it.
    op.execute(
        "CREATE INDEX ix_messages_words ON messages USING gin (words)"
        " WITH (gin_pending_list_limit = 1024)"
    )


def _any_case() -> str:
    """A collation that knows capitals beyond ASCII, which those of many servers do not."""
    found = op.get_bind().execute(
        sa.text(
            "SELECT collname FROM pg_collation WHERE collname IN ('und-x-icu', 'pg_c_utf8')"
            " AND collnamespace = 'pg_catalog'::regnamespace ORDER BY collname DESC LIMIT 1"
        )
    )
    name = found.scalar()
    return f' COLLATE "{name}"' if name else ""
