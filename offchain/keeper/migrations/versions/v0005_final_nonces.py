"""Nonces that are so deep in the chain that they stay used are not looked at again: those of before are marked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

DEEP = 64  # blocks


def upgrade() -> None:
    """Used by a transaction that is that much deeper than the newest one."""
    db = op.get_bind()
    # one by one: within the update each nonce would read all attempts again
    newest = db.execute(
        sa.text("select chain_id, max(block) from attempts where block is not null group by chain_id")
    )
    for chain_id, block in newest.all():
        db.execute(
            sa.text(
                "update nonces set state = 'final' where chain_id = :chain_id and state = 'used' and exists ("
                " select 1 from attempts a where a.chain_id = nonces.chain_id and a.sender = nonces.sender"
                " and a.nonce = nonces.nonce and a.block < :deep)"
            ),
            {"chain_id": chain_id, "deep": block - DEEP},
        )
