"""Agents that ask, remember and can be interrupted; files; what it all costs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.store.sql import Instant, Json

revision = "0002"
down_revision = "0001"

_KINDS = "kind IN ('message', 'render', 'compact')"
_ORIGINS = "origin IN ('person', 'group', 'schedule', 'event')"
_ENDED = "ended IN ('interrupted', 'asked', 'iterations', 'length', 'cost')"
_TOOL_STATES = "state IN ('running', 'waiting', 'done', 'error', 'unknown', 'cancelled')"
_OPEN = sa.text("state = 'open'")


def upgrade() -> None:
    """Apply it; there is no way back but a backup."""
    extend_sessions()
    extend_turns()
    extend_tasks()
    create_questions()
    create_state()
    create_attachments()
    create_accounts()


def extend_sessions() -> None:
    """Where a session's context begins, and what it waits for."""
    op.add_column(
        "sessions", sa.Column("context_from", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column("sessions", sa.Column("summary", sa.Text))
    op.add_column("sessions", sa.Column("question_id", sa.String(36)))


def extend_turns() -> None:
    """Origin, interruption, steering; and the new states of tool calls."""
    with op.batch_alter_table("turns") as turns:
        turns.add_column(sa.Column("origin", sa.Text, nullable=False, server_default="event"))
        turns.add_column(sa.Column("interrupt_requested_at", Instant))
        turns.add_column(sa.Column("interrupt_by", sa.Text))
        turns.add_column(sa.Column("joined_id", sa.String(36)))
        turns.add_column(sa.Column("ended", sa.Text))
        turns.drop_constraint(op.f("ck_turns_kind"), type_="check")
        turns.create_check_constraint(op.f("ck_turns_kind"), sa.text(_KINDS))
        turns.create_check_constraint(op.f("ck_turns_origin"), sa.text(_ORIGINS))
        turns.create_check_constraint(op.f("ck_turns_ended"), sa.text(_ENDED))
    op.add_column("iterations", sa.Column("added", Json, nullable=False, server_default="[]"))
    with op.batch_alter_table("tool_calls") as calls:
        calls.add_column(sa.Column("data", Json))
        calls.drop_constraint(op.f("ck_tool_calls_state"), type_="check")
        calls.create_check_constraint(op.f("ck_tool_calls_state"), sa.text(_TOOL_STATES))


def extend_tasks() -> None:
    """Tasks that were made while the service ran."""
    op.add_column("tasks", sa.Column("definition", Json))
    op.add_column("tasks", sa.Column("made_by", sa.Text))
    op.add_column("tasks", sa.Column("made_in", sa.String(36)))
    # From now on it is a switch people turn; it used to repeat the configuration.
    op.execute(sa.text("UPDATE tasks SET enabled = true"))


def create_questions() -> None:
    """What waiting turns need to know."""
    op.create_table(
        "questions",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("session_id", sa.String(36), nullable=False),
        sa.Column("turn_id", sa.String(36), nullable=False),
        sa.Column("reply_id", sa.String(36), nullable=False),
        sa.Column("iteration", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("choices", Json, nullable=False),
        sa.Column("tool", sa.Text),
        sa.Column("arguments", sa.Text),
        sa.Column("asked_of", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("answered_by", sa.Text),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("closed_at", Instant),
        sa.CheckConstraint("kind IN ('question', 'approval')", name=op.f("ck_questions_kind")),
        sa.CheckConstraint(
            "state IN ('open', 'answered', 'expired', 'cancelled')",
            name=op.f("ck_questions_state"),
        ),
        _of_session("questions"),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name=op.f("fk_questions_turn_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_questions")),
        sa.UniqueConstraint(
            "reply_id",
            "iteration",
            "ordinal",
            name=op.f("uq_questions_reply_id_iteration_ordinal"),
        ),
    )
    for name, column in (("ix_questions_open", "turn_id"), ("ix_questions_expiring", "expires_at")):
        op.create_index(name, "questions", [column], postgresql_where=_OPEN, sqlite_where=_OPEN)


def create_state() -> None:
    """What sessions remember between their turns."""
    op.create_table(
        "session_state",
        sa.Column("session_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", Json, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.CheckConstraint("kind IN ('state', 'knob')", name=op.f("ck_session_state_kind")),
        _of_session("session_state"),
        sa.PrimaryKeyConstraint("session_id", "kind", "name", name=op.f("pk_session_state")),
    )


def create_attachments() -> None:
    """Files of messages; each content once."""
    op.create_table(
        "blobs",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blobs")),
    )
    op.create_table(
        "attachments",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("session_id", sa.String(36), nullable=False),
        sa.Column("message_number", sa.BigInteger, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary),
        sa.Column("remote", sa.Text),
        sa.Column("problem", sa.Text),
        sa.Column("created_at", Instant, nullable=False),
        _of_session("attachments"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
        sa.UniqueConstraint(
            "session_id",
            "message_number",
            "position",
            name=op.f("uq_attachments_session_id_message_number_position"),
        ),
    )
    op.create_index("ix_attachments_digest", "attachments", ["digest"])


def create_accounts() -> None:
    """What agents took by day, and who did what."""
    op.create_table(
        "spending",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("turns", sa.BigInteger, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_micros", sa.BigInteger, nullable=False),
        sa.Column("processing_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("day", "agent", "slot", name=op.f("pk_spending")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("session_id", sa.String(36)),
        sa.Column("allowed", sa.Boolean, nullable=False),
        sa.Column("detail", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"])


def _of_session(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["session_id"],
        ["sessions.id"],
        name=op.f(f"fk_{table}_session_id"),
        ondelete="CASCADE",
    )
