"""Nonces that are so deep in the chain that they stay used are not looked at again: those of before are marked."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

DEEP = 64  # blocks


def upgrade() -> None:
    """Used by a transaction that is that much deeper than the newest one."""
    op.execute(
        f"""
        update nonces set state = 'final' where state = 'used' and exists (
            select 1 from attempts a where a.chain_id = nonces.chain_id and a.sender = nonces.sender
            and a.nonce = nonces.nonce
            and a.block < (select max(b.block) from attempts b where b.chain_id = a.chain_id) - {DEEP}
        )
        """
    )
