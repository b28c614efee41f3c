"""What a unit of gas is offered: EIP-1559 fees from what recent blocks paid, with limits; more for a replacement."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median_low

from web3 import Web3
from web3.exceptions import Web3Exception
from web3.types import TxParams, Wei

from offchain.chain.errors import TransactionError

__all__ = ["FeeLimits", "Fees", "fees_now", "raised"]

BLOCKS = 20  # how many recent blocks are asked for what they paid
GWEI = 10**9


@dataclass(frozen=True, slots=True)
class FeeLimits:
    """Never offer more than this. wei a gas unit; None: no limit."""

    most: int | None = None  # setting max_fee_gwei
    tip: int | None = None  # setting max_tip_gwei


@dataclass(frozen=True, slots=True)
class Fees:
    """An offer. wei a gas unit."""

    most: int  # maxFeePerGas; the gas price where there is no base fee
    tip: int | None  # maxPriorityFeePerGas; None where there is no base fee

    def fields(self) -> TxParams:
        """As a transaction has them."""
        if self.tip is None:
            return {"gasPrice": Wei(self.most)}
        return {"maxFeePerGas": Wei(self.most), "maxPriorityFeePerGas": Wei(self.tip)}


def fees_now(web3: Web3, limits: FeeLimits, percentile: int) -> Fees:
    """What gets into a block soon: twice the next base fee (room for six full blocks) plus a tip as others pay.

    The tip is the median, over recent blocks that held something, of each block's `percentile` by gas. TransactionError
    when the price is above the limit.
    """
    base = web3.eth.get_block("latest").get("baseFeePerGas")
    if base is None:
        return Fees(_within(int(web3.eth.gas_price), limits), None)
    following, paid = _history(web3, percentile)
    tip = int(web3.eth.max_priority_fee if paid is None else paid)
    if limits.tip is not None:
        tip = min(tip, limits.tip)
    following = following or int(base)
    _within(following + tip, limits)
    most = 2 * following + tip
    return Fees(most if limits.most is None else min(most, limits.most), tip)


def raised(old: Fees, now: Fees, limits: FeeLimits) -> Fees | None:
    """An offer that nodes take in place of `old`: an eighth more on both fees, or today's where they are higher.

    None where that is above a limit.
    """
    most, tip = _eighth_more(old.most), None
    if old.tip is not None:
        tip = _eighth_more(old.tip)
        if limits.tip is not None and tip > limits.tip:
            return None
        tip = max(tip, now.tip or 0)
        tip = tip if limits.tip is None else min(tip, limits.tip)
    if limits.most is not None and most > limits.most:
        return None
    most = max(most, now.most)
    most = most if limits.most is None else min(most, limits.most)
    return Fees(most, None if tip is None else min(tip, most))


def _eighth_more(fee: int) -> int:
    return max(-(-fee * 9 // 8), fee + 1)


def _history(web3: Web3, percentile: int) -> tuple[int | None, int | None]:
    """The next block's base fee and the usual tip; None where the node does not tell, or all blocks were empty."""
    try:
        found = web3.eth.fee_history(BLOCKS, "latest", [percentile])
    except Web3Exception:  # an old node: what it says of itself will do
        return None, None
    used = found.get("gasUsedRatio") or []
    rewards = [row[0] for row, share in zip(found.get("reward") or [], used, strict=False) if row and share]
    bases = found.get("baseFeePerGas") or []
    return (bases[-1] if bases else None), (median_low(rewards) if rewards else None)


def _within(price: int, limits: FeeLimits) -> int:
    if limits.most is not None and price > limits.most:
        raise TransactionError(
            f"max_fee_gwei: gas costs {price / GWEI:.3f} gwei now, above the limit {limits.most / GWEI:.3f}"
        )
    return price
