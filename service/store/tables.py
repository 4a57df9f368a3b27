"""Every table, its columns and the constraints that do the thinking."""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from service.core.model import Ended, Origin, QuestionKind, TurnKind
from service.core.rounds import Continuation, Mode
from service.core.states import (
    DeliveryState,
    InboxState,
    OccurrenceState,
    QuestionState,
    ReplyState,
    ToolState,
    TurnState,
)
from service.store.sql import Instant, Json, OrderedJson

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = sa.String(36)


def _states(column: str, states: type[StrEnum]) -> sa.CheckConstraint:
    allowed = ", ".join(f"'{state.value}'" for state in states)
    return sa.CheckConstraint(f"{column} IN ({allowed})", name=column)


def _session(*, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(
        "session_id",
        Id,
        sa.ForeignKey("sessions.id", ondelete="CASCADE"),
        nullable=nullable,
    )


sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    # The key moves to a fresh session when this one is left or archived; then it is null here.
    sa.Column("key", sa.Text, unique=True),
    # The key it had when it was archived; restoring gives it back unless it is taken.
    sa.Column("left_key", sa.Text),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("title", sa.Text),
    # Whether a person chose the title; then nothing else changes it.
    sa.Column("titled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    # "channel spot" of the chat this session lives in, kept when the key moves on.
    sa.Column("home", sa.Text),
    sa.Column("sticky", sa.Boolean, nullable=False),
    sa.Column("archived_at", Instant),
    sa.Column("completion", sa.Text, nullable=False, server_default="open"),
    sa.Column("busy", sa.Text, nullable=False, server_default="queue"),
    sa.Column("mode", sa.Text, nullable=False, server_default="broadcast"),
    sa.Column("continuation", sa.Text, nullable=False, server_default="none"),
    sa.Column("composition", sa.Text),
    # The task that made it.
    sa.Column("task", sa.Text),
    # Null outside of projects; `investigated` says whether there is a row of investigations. A
    # project goes after its sessions.
    sa.Column("project_id", Id),
    sa.Column("investigated", sa.Boolean, nullable=False, server_default=sa.false()),
    # The template whose sessions it sees through, one after the other.
    sa.Column("scan", sa.Text),
    # The voice that messages go to until another one is picked.
    sa.Column("target_id", Id),
    # The number of the newest message, and of the newest one that somebody has looked at.
    sa.Column("last_message", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("read_to", sa.BigInteger, nullable=False, server_default="0"),
    # What the model is told begins after the turn with this number, with the summary of what was
    # before it.
    sa.Column("context_from", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("summary", sa.Text),
    # The open question that the next message of its person answers.
    sa.Column("question_id", Id),
    # The number of the newest event; taken and advanced by whoever appends, under this row's lock.
    sa.Column("last_event", sa.BigInteger, nullable=False),
    # Events up to this number are gone.
    sa.Column("pruned_to", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("active_at", Instant, nullable=False),
    sa.CheckConstraint("completion IN ('open', 'complete')", name="completion"),
    sa.CheckConstraint("busy IN ('queue', 'steer', 'interrupt')", name="busy"),
    _states("mode", Mode),
    _states("continuation", Continuation),
    # One for each list that people look at, in its order.
    sa.Index(
        "ix_sessions_active",
        "sticky",
        "active_at",
        "id",
        postgresql_where=sa.text("archived_at IS NULL"),
        sqlite_where=sa.text("archived_at IS NULL"),
    ),
    sa.Index(
        "ix_sessions_empty",
        "id",
        postgresql_where=sa.text("archived_at IS NULL AND last_message = 0"),
        sqlite_where=sa.text("archived_at IS NULL AND last_message = 0"),
    ),
    sa.Index(
        "ix_sessions_archived",
        "archived_at",
        "id",
        postgresql_where=sa.text("archived_at IS NOT NULL"),
        sqlite_where=sa.text("archived_at IS NOT NULL"),
    ),
    sa.Index("ix_sessions_home", "home"),
)

sa.Index(
    "ix_sessions_task",
    sessions.c.task,
    sessions.c.id.desc(),
    postgresql_where=sa.text("task IS NOT NULL"),
    sqlite_where=sa.text("task IS NOT NULL"),
)

sa.Index(
    "ix_sessions_project_id",
    sessions.c.project_id,
    postgresql_where=sa.text("project_id IS NOT NULL"),
    sqlite_where=sa.text("project_id IS NOT NULL"),
)

# A trigger of the migrations refuses to change agent, provider, model or prompt of a voice.
voices = sa.Table(
    "voices",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _session(),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("tools", Json, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False, server_default=sa.true()),
    # Further rounds it goes on for by itself, 0 to 3.
    sa.Column("rounds", sa.Integer, nullable=False, server_default="0"),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("session_id", "position"),
)

# Triggers (SQLite) and a column (PostgreSQL) of the migrations keep what searches read.
messages = sa.Table(
    "messages",
    metadata,
    # In the order they came in, over all sessions.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    _session(),
    # The number of its message.added event.
    sa.Column("number", sa.BigInteger, nullable=False),
    # The number of the turn it belongs to: a question and its answer stay together, whatever
    # arrived between them.
    sa.Column("turn_number", sa.BigInteger, nullable=False),
    sa.Column("turn_id", Id),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("voice_id", Id),
    sa.Column("round", sa.Integer),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("session_id", "number"),
    sa.CheckConstraint("role IN ('user', 'event', 'voice', 'system')", name="role"),
    sa.CheckConstraint("status IN ('complete', 'partial', 'error')", name="status"),
    sa.Index("ix_messages_conversation", "session_id", "turn_number", "number"),
)

turns = sa.Table(
    "turns",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _session(),
    # The number of its turn.queued event: the order of a session's turns.
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, server_default="message"),
    sa.Column("origin", sa.Text, nullable=False, server_default="event"),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("trigger_name", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("busy", sa.Text, nullable=False, server_default="queue"),
    # [[channel, spot], …]
    sa.Column("answer_to", Json, nullable=False),
    sa.Column("occurrence_id", Id),
    # How often somebody began it; a hand-over at shutdown gives its attempt back.
    sa.Column("attempt", sa.Integer, nullable=False),
    # Grows with every claim and every rescue; a writer with an older one is fenced.
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("lease_until", Instant),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("stop_requested_at", Instant),
    sa.Column("stop_by", sa.Text),
    sa.Column("interrupt_requested_at", Instant),
    sa.Column("interrupt_by", sa.Text),
    # The running turn that took its message up; that one's reply answers both.
    sa.Column("joined_id", Id),
    # The voices that answer it first, and whether one of them was named.
    sa.Column("voices", Json),
    sa.Column("directed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("ended", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("processing_ms", sa.BigInteger, nullable=False),
    sa.Column("usage", Json),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("started_at", Instant),
    sa.Column("finished_at", Instant),
    sa.UniqueConstraint("session_id", "number"),
    _states("state", TurnState),
    _states("kind", TurnKind),
    _states("origin", Origin),
    _states("ended", Ended),
    sa.Index(
        "uq_turns_running",
        "session_id",
        unique=True,
        postgresql_where=sa.text("state = 'running'"),
        sqlite_where=sa.text("state = 'running'"),
    ),
    sa.Index(
        "ix_turns_active",
        "session_id",
        "number",
        postgresql_where=sa.text("state IN ('queued', 'running', 'waiting')"),
        sqlite_where=sa.text("state IN ('queued', 'running', 'waiting')"),
    ),
    sa.Index(
        "ix_turns_queued",
        "due_at",
        postgresql_where=sa.text("state = 'queued'"),
        sqlite_where=sa.text("state = 'queued'"),
    ),
    sa.Index(
        "ix_turns_leased",
        "lease_until",
        postgresql_where=sa.text("state = 'running'"),
        sqlite_where=sa.text("state = 'running'"),
    ),
)

replies = sa.Table(
    "replies",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("turn_id", Id, sa.ForeignKey("turns.id", ondelete="CASCADE"), nullable=False),
    sa.Column("voice_id", Id, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    # What is safe at the last boundary; while a model writes, the feed is ahead of it.
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    # Somebody wants this voice alone to stop.
    sa.Column("stop_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("usage", Json),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    sa.UniqueConstraint("turn_id", "round", "voice_id"),
    _states("state", ReplyState),
)

iterations = sa.Table(
    "iterations",
    metadata,
    sa.Column("reply_id", Id, sa.ForeignKey("replies.id", ondelete="CASCADE"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("thinking", sa.Text, nullable=False),
    # What the adapter wants back with the next request.
    sa.Column("metadata", Json, nullable=False),
    sa.Column("usage", Json, nullable=False),
    # What people said while it ran.
    sa.Column("added", Json, nullable=False, server_default="[]"),
    sa.Column("created_at", Instant, nullable=False),
    sa.PrimaryKeyConstraint("reply_id", "number"),
)

tool_calls = sa.Table(
    "tool_calls",
    metadata,
    sa.Column("reply_id", Id, sa.ForeignKey("replies.id", ondelete="CASCADE"), nullable=False),
    sa.Column("iteration", sa.Integer, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    # The provider's own id of the call, to answer it with.
    sa.Column("call_id", sa.Text, nullable=False),
    sa.Column("tool", sa.Text, nullable=False),
    sa.Column("arguments", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("result", sa.Text),
    # The result as JSON, when the tool gave more than words: the very bytes that key results show.
    sa.Column("data", sa.Text),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    sa.PrimaryKeyConstraint("reply_id", "iteration", "ordinal"),
    _states("state", ToolState),
)

questions = sa.Table(
    "questions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _session(),
    sa.Column("turn_id", Id, sa.ForeignKey("turns.id", ondelete="CASCADE"), nullable=False),
    sa.Column("reply_id", Id, nullable=False),
    sa.Column("iteration", sa.Integer, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("choices", Json, nullable=False),
    sa.Column("tool", sa.Text),
    # Exactly what will run when it is approved.
    sa.Column("arguments", sa.Text),
    sa.Column("asked_of", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("answer", sa.Text),
    sa.Column("answered_by", sa.Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("closed_at", Instant),
    sa.UniqueConstraint("reply_id", "iteration", "ordinal"),
    _states("kind", QuestionKind),
    _states("state", QuestionState),
    sa.Index("ix_questions_session_id", "session_id"),
    sa.Index("ix_questions_turn_id", "turn_id"),
    sa.Index(
        "ix_questions_open",
        "turn_id",
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    ),
    sa.Index(
        "ix_questions_expiring",
        "expires_at",
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    ),
)

# What a session remembers between its turns; written in the transactions of its turns.
session_state = sa.Table(
    "session_state",
    metadata,
    _session(),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("value", Json, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.PrimaryKeyConstraint("session_id", "kind", "name"),
    sa.CheckConstraint("kind IN ('state', 'knob')", name="kind"),
)

# Bytes of attachments, each content once.
blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

attachments = sa.Table(
    "attachments",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _session(),
    sa.Column("message_number", sa.BigInteger, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    # Null while the bytes are still where the channel keeps them, under `remote`.
    sa.Column("digest", sa.LargeBinary),
    sa.Column("remote", sa.Text),
    # Why the bytes could not be had.
    sa.Column("problem", sa.Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("session_id", "message_number", "position"),
    sa.Index("ix_attachments_digest", "digest"),
)

# Sets of voices to begin sessions with, made while the service runs.
compositions = sa.Table(
    "compositions",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("definition", Json, nullable=False),
    sa.Column("archived", sa.Boolean, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
)

# Where investigations are kept together.
projects = sa.Table(
    "projects",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("domain", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    # What every agent of the project is told first.
    sa.Column("prompt", sa.Text, nullable=False),
    # Those of the agents' tools that are used here; null is all of them.
    sa.Column("tools", OrderedJson),
    # Who answers in new sessions, unless they name somebody else.
    sa.Column("agent", sa.Text),
    sa.Column("owner", sa.Text, nullable=False),
    # The person whose own it is, where the one-box start puts sessions.
    sa.Column("private_to", sa.Text, unique=True),
    sa.Column("template", sa.Text),
    # The turn of the scan that made it.
    sa.Column("scan_id", Id, unique=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
)

project_members = sa.Table(
    "project_members",
    metadata,
    sa.Column("project_id", Id, sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("share", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("project_id", "name"),
    sa.CheckConstraint("share IN ('editor', 'viewer')", name="share"),
    sa.Index("ix_project_members_name", "name"),
)

# Blueprints of projects, each as the Markdown people read and write.
templates = sa.Table(
    "templates",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
)

# What a session has that is to come to a determination, in a project or not.
investigations = sa.Table(
    "investigations",
    metadata,
    sa.Column(
        "session_id",
        Id,
        sa.ForeignKey("sessions.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    # Its place in its project, counted from 0; null outside of projects.
    sa.Column("position", sa.Integer),
    # What it begins with; null when whatever is said first does.
    sa.Column("request", sa.Text),
    # {field: type}, in the order people gave; null when no determination is wanted.
    sa.Column("schema", OrderedJson),
    sa.Column("disposition", OrderedJson),
    sa.Column("disposition_by", sa.Text),
    sa.Column("disposition_at", Instant),
    # Who agreed to it, since it was last set.
    sa.Column("confirmed_by", sa.Text),
    sa.Column("confirmed_at", Instant),
    # Whether the schema has changed since it was set.
    sa.Column("stale", sa.Boolean, nullable=False, server_default=sa.false()),
    # Iterations its owner allowed beyond its agent's limit.
    sa.Column("iterations_added", sa.Integer, nullable=False, server_default="0"),
    # The turn of the scan that it is part of.
    sa.Column("scan_id", Id),
    sa.Index("ix_investigations_scan_id", "scan_id"),
)

# No reference upstream: what was depended on may be gone, and then holds the session back.
dependencies = sa.Table(
    "dependencies",
    metadata,
    _session(),
    sa.Column("upstream_id", Id, nullable=False),
    # How it was called last.
    sa.Column("upstream_title", sa.Text, nullable=False),
    # The one field of its disposition that has to have one value; null waits for its completion.
    sa.Column("field", sa.Text),
    sa.Column("value", sa.Text),
    sa.PrimaryKeyConstraint("session_id", "upstream_id"),
    sa.CheckConstraint("(field IS NULL) = (value IS NULL)", name="condition"),
    sa.Index("ix_dependencies_upstream_id", "upstream_id"),
)

# Tool results worth keeping: candidates until they have a title. Their data is the tool call's own.
key_results = sa.Table(
    "key_results",
    metadata,
    _session(),
    # How the model calls it.
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("turn_id", Id, nullable=False),
    sa.Column("reply_id", Id, nullable=False),
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
    sa.PrimaryKeyConstraint("session_id", "name"),
    sa.ForeignKeyConstraint(
        ["reply_id", "iteration", "ordinal"],
        ["tool_calls.reply_id", "tool_calls.iteration", "tool_calls.ordinal"],
        ondelete="CASCADE",
    ),
    sa.CheckConstraint("display IN ('chart', 'table', 'both')", name="display"),
    sa.Index("ix_key_results_reply_id", "reply_id", "iteration", "ordinal"),
)

# People who sign in at the console.
users = sa.Table(
    "users",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    # argon2id, with its parameters.
    sa.Column("password", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role"),
)

sign_ins = sa.Table(
    "sign_ins",
    metadata,
    # SHA-256 of what the cookie holds.
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role"),
    sa.Index("ix_sign_ins_expires_at", "expires_at"),
)

# What agents took, by day. Split into slots so that turns that end together seldom wait for each
# other; the sum counts.
spending = sa.Table(
    "spending",
    metadata,
    sa.Column("day", sa.String(10), nullable=False),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("turns", sa.BigInteger, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_micros", sa.BigInteger, nullable=False),
    sa.Column("processing_ms", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("day", "agent", "slot"),
)

# Who did, or tried to do, what to somebody's session.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    # No reference: it outlives what it tells of.
    sa.Column("session_id", Id),
    sa.Column("allowed", sa.Boolean, nullable=False),
    sa.Column("detail", Json, nullable=False),
    sa.Index("ix_audit_at", "at"),
)

events = sa.Table(
    "events",
    metadata,
    _session(),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("turn_id", Id),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("data", Json, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.PrimaryKeyConstraint("session_id", "number"),
    sa.Index("ix_events_at", "at"),
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("event_key", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("turn_id", Id),
    # SHA-256 of the body, to tell a repeat from another post under the same key.
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("received_at", Instant, nullable=False),
    sa.PrimaryKeyConstraint("channel", "source", "event_key"),
    _states("state", InboxState),
    sa.Index("ix_inbox_received_at", "received_at"),
    # What a session received goes with it.
    sa.Index("ix_inbox_turn_id", "turn_id"),
)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    # Schedule and zone as they were when next_at was computed; another one recomputes it.
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("next_at", Instant),
    # Switched while the service runs; a task that the configuration disables stays so.
    sa.Column("enabled", sa.Boolean, nullable=False),
    # Of a task that was made while the service ran; null for one of the configuration.
    sa.Column("definition", Json),
    sa.Column("made_by", sa.Text),
    sa.Column("made_in", Id),
)

occurrences = sa.Table(
    "occurrences",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("scheduled_at", Instant, nullable=False),
    sa.Column("manual", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("turn_id", Id),
    sa.Column("session_id", Id),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    _states("state", OccurrenceState),
    sa.Index(
        "uq_occurrences_instant",
        "task",
        "scheduled_at",
        unique=True,
        postgresql_where=sa.text("NOT manual"),
        sqlite_where=sa.text("NOT manual"),
    ),
    sa.Index("ix_occurrences_task", "task", "state"),
    sa.Index("ix_occurrences_session_id", "session_id", "scheduled_at"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _session(nullable=True),
    sa.Column("turn_id", Id, sa.ForeignKey("turns.id", ondelete="CASCADE")),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("spot", sa.Text, nullable=False),
    # Deliveries of one lane go out one after the other; null waits for nobody.
    sa.Column("lane", sa.Text),
    sa.Column("text", sa.Text),
    sa.Column("options", Json, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("lease_until", Instant),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("receipt", Json),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("first_attempt_at", Instant),
    sa.Column("finished_at", Instant),
    sa.UniqueConstraint("turn_id", "channel", "spot"),
    _states("state", DeliveryState),
    sa.Index("ix_deliveries_session_id", "session_id"),
    sa.Index(
        "ix_deliveries_due",
        "due_at",
        postgresql_where=sa.text("state = 'pending'"),
        sqlite_where=sa.text("state = 'pending'"),
    ),
    sa.Index(
        "ix_deliveries_lane",
        "lane",
        "id",
        postgresql_where=sa.text("state IN ('pending', 'sending')"),
        sqlite_where=sa.text("state IN ('pending', 'sending')"),
    ),
)

delivery_parts = sa.Table(
    "delivery_parts",
    metadata,
    sa.Column(
        "delivery_id",
        Id,
        sa.ForeignKey("deliveries.id", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("number", sa.Integer, nullable=False),
    # Null: asked for, and never heard of again.
    sa.Column("external_id", sa.Text),
    sa.PrimaryKeyConstraint("delivery_id", "number"),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("lease_until", Instant, nullable=False),
)

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", Json, nullable=False),
)

api_tokens = sa.Table(
    "api_tokens",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    # SHA-256 of the token, which is shown once and never stored.
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("created_at", Instant, nullable=False),
)
