"""The terms are fixed at deployment; terms that cannot work are refused."""

import pytest
from eth_abi import encode

from tests.support.evm import Evm, artifact
from tests.unit.auction.stage import DAY, HOUR


def deploy_reason(*terms: int) -> str:
    """Why the constructor reverts; pyrevm shows its output as hex."""
    with pytest.raises(RuntimeError) as refusal:
        Evm().deploy(artifact("Auction"), *terms)
    reasons = ["decay 0", "start too high"]
    return next(r for r in reasons if encode(["string"], [r]).hex() in str(refusal.value))


def test_keeps_its_terms() -> None:
    auction = Evm().deploy(artifact("Auction"), HOUR, DAY, 1_000)
    assert auction.call("grace_seconds") == HOUR
    assert auction.call("decay_seconds") == DAY
    assert auction.call("start_bps") == 1_000


def test_takes_no_grace_and_no_premium() -> None:
    auction = Evm().deploy(artifact("Auction"), 0, 1, 0)
    assert [auction.call(name) for name in ("grace_seconds", "decay_seconds", "start_bps")] == [0, 1, 0]


def test_its_decision_reads_auction_fill() -> None:
    auction = Evm().deploy(artifact("Auction"), HOUR, DAY, 100)
    assert auction.call("DECISION") == b"auction fill".ljust(32, b"\0")


def test_reverts_without_a_decay() -> None:
    assert deploy_reason(HOUR, 0, 100) == "decay 0"


def test_reverts_with_a_start_above_ten_percent() -> None:
    assert deploy_reason(HOUR, DAY, 1_001) == "start too high"
