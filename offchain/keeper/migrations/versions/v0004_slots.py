"""What of a schedule was done last, so that a restart knows what it missed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """One table, empty."""
    op.create_table(
        "slots",
        sa.Column("chain_id", ID, primary_key=True, autoincrement=False),
        sa.Column("vault", sa.String(42), primary_key=True),
        sa.Column("job", sa.String(16), primary_key=True),
        sa.Column("done_at", ID, nullable=False),
    )
