"""Projects, investigations with what they depend on and come to, and key results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.store.sql import Instant, OrderedJson

revision = "0005"
down_revision = "0004"

_OF_PROJECT = sa.text("project_id IS NOT NULL")


def upgrade() -> None:
    """Apply it; there is no way back but a backup."""
    create_projects()
    extend_sessions()
    keep_data_as_text()
    create_investigations()
    create_key_results()


def create_projects() -> None:
    """Where investigations are kept together, who may see them, and blueprints of them."""
    op.create_table(
        "projects",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("tools", OrderedJson),
        sa.Column("agent", sa.Text),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("private_to", sa.Text),
        sa.Column("template", sa.Text),
        sa.Column("scan_id", sa.String(36)),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
        sa.UniqueConstraint("private_to", name=op.f("uq_projects_private_to")),
        sa.UniqueConstraint("scan_id", name=op.f("uq_projects_scan_id")),
    )
    op.create_table(
        "project_members",
        sa.Column("project_id", sa.String(36), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("share", sa.Text, nullable=False),
        sa.CheckConstraint("share IN ('editor', 'viewer')", name=op.f("ck_project_members_share")),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_project_members_project_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_project_members")),
    )
    op.create_index("ix_project_members_name", "project_members", ["name"])
    op.create_table(
        "templates",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_templates")),
    )


def extend_sessions() -> None:
    """The project a session belongs to, and what it is part of."""
    # Not rebuilt, so without a reference: what its indexes are made of would be lost.
    op.add_column("sessions", sa.Column("project_id", sa.String(36)))
    op.add_column(
        "sessions",
        sa.Column("investigated", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.add_column("sessions", sa.Column("scan", sa.Text))
    op.create_index(
        "ix_sessions_project_id",
        "sessions",
        ["project_id"],
        postgresql_where=_OF_PROJECT,
        sqlite_where=_OF_PROJECT,
    )


def keep_data_as_text() -> None:
    """The data of tool results: the same bytes on both databases, in the order they came."""
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("tool_calls") as calls:
            calls.alter_column("data", type_=sa.Text)
    else:
        op.execute("ALTER TABLE tool_calls ALTER COLUMN data TYPE text USING data::text")


def create_investigations() -> None:
    """What sessions are to find out, and what they wait for."""
    op.create_table(
        "investigations",
        sa.Column("session_id", sa.String(36), nullable=False),
        sa.Column("position", sa.Integer),
        sa.Column("request", sa.Text),
        sa.Column("schema", OrderedJson),
        sa.Column("disposition", OrderedJson),
        sa.Column("disposition_by", sa.Text),
        sa.Column("disposition_at", Instant),
        sa.Column("confirmed_by", sa.Text),
        sa.Column("confirmed_at", Instant),
        sa.Column("stale", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("iterations_added", sa.Integer, nullable=False, server_default="0"),
        sa.Column("scan_id", sa.String(36)),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name=op.f("fk_investigations_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_investigations")),
    )
    op.create_index("ix_investigations_scan_id", "investigations", ["scan_id"])
    op.create_table(
        "dependencies",
        sa.Column("session_id", sa.String(36), nullable=False),
        sa.Column("upstream_id", sa.String(36), nullable=False),
        sa.Column("upstream_title", sa.Text, nullable=False),
        sa.Column("field", sa.Text),
        sa.Column("value", sa.Text),
        sa.CheckConstraint(
            "(field IS NULL) = (value IS NULL)", name=op.f("ck_dependencies_condition")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name=op.f("fk_dependencies_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", "upstream_id", name=op.f("pk_dependencies")),
    )
    op.create_index("ix_dependencies_upstream_id", "dependencies", ["upstream_id"])


def create_key_results() -> None:
    """Tool results worth keeping."""
    op.create_table(
        "key_results",
        sa.Column("session_id", sa.String(36), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("turn_id", sa.String(36), nullable=False),
        sa.Column("reply_id", sa.String(36), nullable=False),
        sa.Column("iteration", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("chart", OrderedJson),
        sa.Column("display", sa.Text, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("promoted_at", Instant),
        sa.Column("promoted_by", sa.Text),
        sa.CheckConstraint(
            "display IN ('chart', 'table', 'both')", name=op.f("ck_key_results_display")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name=op.f("fk_key_results_session_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["reply_id", "iteration", "ordinal"],
            ["tool_calls.reply_id", "tool_calls.iteration", "tool_calls.ordinal"],
            name=op.f("fk_key_results_reply_id_iteration_ordinal"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", "name", name=op.f("pk_key_results")),
    )
    op.create_index("ix_key_results_reply_id", "key_results", ["reply_id", "iteration", "ordinal"])
