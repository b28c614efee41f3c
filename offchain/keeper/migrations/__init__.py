"""The journal's schema, step by step (alembic). `offchain.keeper.database` runs what is missing at start."""
