"""Nonces are reserved, and a run may have several signed transactions: they move out of `runs`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
DECIMALS = sa.String(80)


def upgrade() -> None:
    """Two tables, filled from the runs that had a transaction; then `runs.raw_tx` goes."""
    op.create_table(
        "nonces",
        sa.Column("chain_id", ID, primary_key=True, autoincrement=False),
        sa.Column("sender", sa.String(42), primary_key=True),
        sa.Column("nonce", ID, primary_key=True, autoincrement=False),
        sa.Column("run", ID, sa.ForeignKey("runs.id")),
        sa.Column("state", sa.String(16), nullable=False),
    )
    op.create_index("ix_nonces_state", "nonces", ["state"])
    op.create_table(
        "attempts",
        sa.Column("id", ID, primary_key=True),
        sa.Column("chain_id", ID, nullable=False),
        sa.Column("sender", sa.String(42), nullable=False),
        sa.Column("nonce", ID, nullable=False),
        sa.Column("run", ID, sa.ForeignKey("runs.id")),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("tx_hash", sa.String(66), nullable=False),
        sa.Column("raw", sa.Text, nullable=False),
        sa.Column("gas", ID, nullable=False),
        sa.Column("max_fee", DECIMALS, nullable=False),
        sa.Column("tip", DECIMALS),
        sa.Column("sent_block", ID, nullable=False),
        sa.Column("sent_time", ID, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("block", ID),
        sa.Column("block_hash", sa.String(66)),
        sa.Column("block_time", ID),
        sa.Column("gas_wei", DECIMALS),
        sa.ForeignKeyConstraint(
            ["chain_id", "sender", "nonce"], ["nonces.chain_id", "nonces.sender", "nonces.nonce"]
        ),
    )
    op.create_index("ix_attempts_nonce", "attempts", ["chain_id", "sender", "nonce"])
    op.create_index("ix_attempts_tx_hash", "attempts", ["chain_id", "tx_hash"], unique=True)
    op.create_index("ix_attempts_run", "attempts", ["run"])
    op.create_index("ix_attempts_block", "attempts", ["block"])
    # The newest run of a nonce is the one that counts: an older one with the same nonce lost it.
    # What is not known to be mined may still be waiting somewhere: live, and the keeper finds out.
    last = (
        "select max(id) from runs where tx_hash is not null and raw_tx is not null and sender is not null "
        "and nonce is not null group by chain_id, sender, nonce"
    )
    op.execute(
        "insert into nonces (chain_id, sender, nonce, run, state) "
        "select chain_id, sender, nonce, id, case when status = 'confirmed' or exists "
        "(select 1 from costs where costs.run = runs.id) then 'used' else 'live' end "
        f"from runs where id in ({last})"
    )
    # Gas and fees stand in the raw transaction; 0 here.
    op.execute(
        "insert into attempts (chain_id, sender, nonce, run, purpose, tx_hash, raw, gas, max_fee, tip, sent_block, "
        "sent_time, note, block, block_hash, block_time, gas_wei) "
        "select r.chain_id, r.sender, r.nonce, r.id, 'call', r.tx_hash, r.raw_tx, 0, '0', null, r.block, 0, '', "
        "c.block, c.block_hash, c.time, c.gas_wei from runs r left join costs c on c.run = r.id "
        f"where r.id in ({last})"
    )
    op.execute(
        "update runs set status = 'failed', reason = 'another transaction took its nonce' "
        f"where status = 'sent' and id not in ({last})"
    )
    op.drop_column("runs", "raw_tx")
