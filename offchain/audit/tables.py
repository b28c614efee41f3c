"""The index's tables. What is in them comes from the chain: another layout needs no migration, but a new index."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text

__all__ = ["LAYOUT", "blocks", "logs", "meta", "metadata", "vaults"]

LAYOUT = 1  # of these tables; counted up when they change

metadata = MetaData()
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

meta = Table("audit_meta", metadata, Column("layout", Integer, primary_key=True, autoincrement=False))
vaults = Table(
    "audit_vaults",
    metadata,
    Column("chain_id", _NUMBER, primary_key=True, autoincrement=False),
    Column("vault", String(42), primary_key=True),
    Column("first_block", _NUMBER, nullable=False),  # it was created there, or later
    Column("next_block", _NUMBER, nullable=False),  # the first that is not indexed
    Column("facts", Text),  # JSON: what the logs do not say; none before the creation was seen
)
blocks = Table(  # with logs, and the last of each range: what a reorganisation shows in
    "audit_blocks",
    metadata,
    Column("chain_id", _NUMBER, primary_key=True, autoincrement=False),
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("hash", String(66), nullable=False),
    Column("time", _NUMBER, nullable=False),  # timestamp
)
logs = Table(  # the vaults' own, and transfers of their tokens to and from them
    "audit_logs",
    metadata,
    Column("chain_id", _NUMBER, primary_key=True, autoincrement=False),
    Column("vault", String(42), primary_key=True),
    Column("block", _NUMBER, primary_key=True, autoincrement=False),
    Column("log_index", _NUMBER, primary_key=True, autoincrement=False),
    Column("address", String(42), nullable=False),  # of the contract that logged it
    Column("tx_hash", String(66), nullable=False),
    Column("topics", Text, nullable=False),  # hex, spaced
    Column("data", Text, nullable=False),  # hex
)
