"""Sessions with several voices, lists that people keep, and people who sign in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.store.sql import Instant, Json

revision = "0003"
down_revision = "0002"

_ROLES = "role IN ('viewer', 'operator', 'admin')"


def upgrade() -> None:
    """Apply it; there is no way back but a backup."""
    extend_sessions()
    extend_voices()
    create_compositions()
    create_users()


def extend_sessions() -> None:
    """Who speaks in a session, and what people have seen of it."""
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(
            sa.Column("titled", sa.Boolean, nullable=False, server_default=sa.false())
        )
        sessions.add_column(sa.Column("mode", sa.Text, nullable=False, server_default="broadcast"))
        sessions.add_column(
            sa.Column("continuation", sa.Text, nullable=False, server_default="none")
        )
        sessions.add_column(sa.Column("composition", sa.Text))
        sessions.add_column(sa.Column("task", sa.Text))
        sessions.add_column(sa.Column("target_id", sa.String(36)))
        for name in ("last_message", "read_to"):
            sessions.add_column(sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
        sessions.create_check_constraint(
            op.f("ck_sessions_mode"), sa.text("mode IN ('broadcast', 'conductor')")
        )
        sessions.create_check_constraint(
            op.f("ck_sessions_continuation"),
            sa.text("continuation IN ('none', 'prompt', 'auto')"),
        )
    # Everything there is counts as seen.
    op.execute(
        "UPDATE sessions SET last_message = coalesce((SELECT max(number) FROM messages"
        " WHERE messages.session_id = sessions.id), 0)"
    )
    op.execute("UPDATE sessions SET read_to = last_message")


def extend_voices() -> None:
    """Voices that rest or go on by themselves; rounds; directed messages."""
    # Not rebuilt: that would lose the trigger which binds voices for life.
    op.add_column(
        "voices", sa.Column("active", sa.Boolean, nullable=False, server_default=sa.true())
    )
    op.add_column("voices", sa.Column("rounds", sa.Integer, nullable=False, server_default="0"))
    op.add_column("messages", sa.Column("round", sa.Integer))
    op.add_column(
        "replies",
        sa.Column("stop_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.add_column("replies", sa.Column("usage", Json))
    op.add_column("turns", sa.Column("voices", Json))
    op.add_column(
        "turns", sa.Column("directed", sa.Boolean, nullable=False, server_default=sa.false())
    )


def create_compositions() -> None:
    """Sets of voices to begin sessions with."""
    op.create_table(
        "compositions",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("definition", Json, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_compositions")),
    )


def create_users() -> None:
    """People, and what their cookies stand for."""
    op.create_table(
        "users",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("password", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.CheckConstraint(_ROLES, name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_users")),
    )
    op.create_table(
        "sign_ins",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.CheckConstraint(_ROLES, name=op.f("ck_sign_ins_role")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sign_ins")),
    )
    op.create_index("ix_sign_ins_expires_at", "sign_ins", ["expires_at"])
