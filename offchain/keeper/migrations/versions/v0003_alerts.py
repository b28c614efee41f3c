"""What alerts were sent, so that none is repeated after a restart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """One table, empty."""
    op.create_table(
        "alerts",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("since", ID, nullable=False),
        sa.Column("seen_at", ID, nullable=False),
        sa.Column("sent_at", ID),
        sa.Column("claimed_until", ID, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
