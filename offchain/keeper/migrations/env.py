"""What alembic runs: the steps that are missing, on the connection and in the transaction that it is given."""

from __future__ import annotations

from alembic import context

from offchain.keeper.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
)
context.run_migrations()
