"""Runs and what they cost: the journal as it was before it had versions.

Makes only what is missing, so that a journal of that time, or of the time before the cost ledger, is taken over.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
DECIMALS = sa.String(80)


def upgrade() -> None:
    """Runs, costs, their indexes."""
    existing = sa.inspect(op.get_bind()).get_table_names()
    if "runs" not in existing:
        op.create_table(
            "runs",
            sa.Column("id", ID, primary_key=True),
            sa.Column("vault", sa.String(42), nullable=False),
            sa.Column("chain_id", ID, nullable=False),
            sa.Column("block", ID, nullable=False),
            sa.Column("session", ID, nullable=False),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("reason", sa.Text, nullable=False),
            sa.Column("tx_hash", sa.String(66)),
            sa.Column("nonce", ID),
            sa.Column("raw_tx", sa.Text),
            sa.Column("sender", sa.String(42)),
            sa.Column("deadline", ID),
            sa.Column("decision", sa.String(66)),
            sa.Column("record", sa.Text),
            sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
            sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        )
        op.create_index("ix_runs_status", "runs", ["status"])
        op.create_index("ix_runs_vault", "runs", ["vault"])
    if "costs" not in existing:
        op.create_table(
            "costs",
            sa.Column("run", ID, sa.ForeignKey("runs.id"), primary_key=True, autoincrement=False),
            sa.Column("block", ID, nullable=False),
            sa.Column("block_hash", sa.Text, nullable=False),
            sa.Column("time", ID, nullable=False),
            sa.Column("reverted", sa.Boolean, nullable=False),
            sa.Column("nav", DECIMALS, nullable=False),
            sa.Column("predicted_fee", DECIMALS, nullable=False),
            sa.Column("predicted_impact", DECIMALS, nullable=False),
            sa.Column("predicted_tax", DECIMALS, nullable=False),
            sa.Column("predicted_gas", DECIMALS),
            sa.Column("predicted_gas_used", ID, nullable=False),
            sa.Column("predicted_drift", DECIMALS, nullable=False),
            sa.Column("fee", DECIMALS, nullable=False),
            sa.Column("impact", DECIMALS, nullable=False),
            sa.Column("tax", DECIMALS, nullable=False),
            sa.Column("gas", DECIMALS),
            sa.Column("gas_used", ID, nullable=False),
            sa.Column("gas_wei", DECIMALS, nullable=False),
            sa.Column("drift", DECIMALS, nullable=False),
            sa.Column("native_price", DECIMALS),
            sa.Column("why", sa.Text, nullable=False),
        )
