"""What was received is found by its turn, so that it can go with it."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply it; there is no way back but a backup."""
    op.create_index("ix_inbox_turn_id", "inbox", ["turn_id"])
