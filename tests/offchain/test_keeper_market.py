"""What a plan depends on: gas in dollars, pairs of tokens, and what is left out is said."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from web3.exceptions import MethodUnavailable, Web3RPCError

from offchain.chain.pools import PoolSource
from offchain.chain.vault import BlockRef, Snapshot
from offchain.keeper import market
from offchain.keeper.market import GasPrice, Hub, Sources, make_problem, pairs, priced, read_gas_price
from offchain.policy import WAD, Asset, Mode, Rules, Session, VaultState

A, B, C, D, EXECUTOR = ("0x" + digit * 40 for digit in "abcde")
NOW = 1_700_000_000
GWEI = 10**9


def state(**changes: Any) -> VaultState:
    rules = Rules(Mode.THRESHOLD, 0, 30, NOW, 3_600, 3_600, 120, 200, 1_000, 50, 0, 0)
    assets = tuple(Asset(token, 18, 3_000, 500, 2_500, 0, 10_000, 10) for token in (A, B, C))
    base = VaultState(assets, rules, Session(), (WAD,) * 3, (WAD,) * 3, (0,) * 3, WAD, NOW)
    return replace(base, **changes)


def snapshot(**changes: Any) -> Snapshot:
    return Snapshot(1, BlockRef(7, "0x77", NOW), "0x" + "1" * 40, state(**changes), "0x00")


def sources(**changes: Any) -> Sources:
    return replace(Sources(PoolSource(), EXECUTOR), **changes)


class Node:
    """A node that knows a base fee, a tip and an old-fashioned price."""

    def __init__(self, base: int | None = 30 * GWEI, tip: object = 2 * GWEI) -> None:
        self.base, self.tip = base, tip
        self.gas_price = 25 * GWEI
        self.eth = self

    def get_block(self, number: int) -> dict[str, int]:
        assert number == 7  # the block that was observed
        return {} if self.base is None else {"baseFeePerGas": self.base}

    @property
    def max_priority_fee(self) -> object:
        if isinstance(self.tip, Exception):
            raise self.tip
        return self.tip


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The vault's oracle: says `answer` to every question."""
    oracle = SimpleNamespace(answer=(2_000 * WAD, 0), asked=[])

    def read(_web3: object, _oracle: str, tokens: list[str], block: int) -> list[tuple[int, int]]:
        oracle.asked.append((tokens, block))
        if isinstance(oracle.answer, Exception):
            raise oracle.answer
        return [oracle.answer]

    monkeypatch.setattr(market, "read_prices", read)
    return oracle


def gas(node: Node, **changes: Any) -> GasPrice:
    return read_gas_price(node, snapshot(), sources(**changes))  # type: ignore[arg-type]


# ---------------------------------------------------------------- gas


def test_a_unit_of_gas_in_dollars_is_rounded_up() -> None:
    assert priced(20 * GWEI, 3_000 * WAD, "oracle", None).usd == 20 * GWEI * 3_000
    assert priced(1, 1, "oracle", None).usd == 1  # not 0: that would leave gas out


def test_gas_is_base_fee_and_tip_at_the_oracles_price(oracle: SimpleNamespace) -> None:
    found = gas(Node(), native_token=D)
    assert found == GasPrice(32 * GWEI * 2_000, 32 * GWEI, 2_000 * WAD, "oracle")
    assert oracle.asked == [([D], 7)]


def test_gas_on_a_chain_without_a_base_fee(oracle: SimpleNamespace) -> None:
    assert gas(Node(base=None), native_token=D).wei == 25 * GWEI


def test_gas_at_the_settings_price_where_the_oracle_has_none(oracle: SimpleNamespace) -> None:
    oracle.answer = (0, 1)
    found = gas(Node(), native_token=D, native_price=1_500 * WAD)
    assert (found.usd, found.source, found.note) == (32 * GWEI * 1_500, "native_price_usd", "")


def test_the_oracles_price_comes_first(oracle: SimpleNamespace) -> None:
    assert gas(Node(), native_token=D, native_price=1_500 * WAD).source == "oracle"


def test_gas_is_capped_and_said_so() -> None:
    found = priced(50 * GWEI, 2_000 * WAD, "oracle", 40 * GWEI)
    assert (found.wei, found.usd) == (40 * GWEI, 40 * GWEI * 2_000)
    assert found.note.startswith("gas costs 50 gwei now, above max_fee_gwei 40")
    assert priced(40 * GWEI, 2_000 * WAD, "oracle", 40 * GWEI).note == ""


def test_without_settings_gas_is_left_out_with_the_setting_to_fix(oracle: SimpleNamespace) -> None:
    found = gas(Node())
    assert (found.usd, found.wei) == (0, 0)
    assert found.note == "gas is left out: set native_token or native_price_usd, so that it counts"
    assert oracle.asked == []


def test_an_unusable_price_leaves_gas_out(oracle: SimpleNamespace) -> None:
    oracle.answer = (2_000 * WAD, 5)
    found = gas(Node(), native_token=D)
    assert found.usd == 0
    assert "no usable price for native_token (STALE); set native_price_usd" in found.note


@pytest.mark.parametrize(
    "trouble",
    [
        MethodUnavailable("no such method"),
        Web3RPCError("internal error"),
        requests.Timeout("slow"),
        ConnectionError("gone"),
    ],
)
def test_a_node_that_does_not_say_stops_no_plan(oracle: SimpleNamespace, trouble: Exception) -> None:
    for node, answer in ((Node(tip=trouble), oracle.answer), (Node(), trouble)):
        oracle.answer = answer
        found = gas(node, native_token=D)
        assert found.usd == 0
        assert (
            found.note == f"gas is left out: the node does not say what it costs ({type(trouble).__name__})"
        )


# ---------------------------------------------------------------- the problem


def test_pairs_are_all_of_the_basket_and_the_hub() -> None:
    assert pairs(state(), D) == [(A, B), (A, C), (A, D), (B, C), (B, D), (C, D)]
    assert pairs(state(), "") == pairs(state(), B.upper().replace("0X", "0x")) == [(A, B), (A, C), (B, C)]


def test_pairs_leave_out_what_is_in_quarantine() -> None:
    assert pairs(state(aside=1, aside_until=NOW + 1), B) == [(A, C)]
    assert pairs(state(aside=1, aside_until=NOW), B) == [(A, B), (A, C), (B, C)]


def test_the_problem_has_what_was_read() -> None:
    found = make_problem(
        snapshot(), (), sources(hub=D), Hub(6, 2 * WAD), GasPrice(usd=7, wei=1, native_price=1)
    )
    assert (found.hub, found.hub_decimals, found.hub_price, found.gas_price) == (D, 6, 2 * WAD, 7)
    assert (found.executor, found.now, found.pool_limit_bps) == (EXECUTOR, NOW, 120)


def test_a_hub_without_a_price_is_used_and_not_compared(
    oracle: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle.answer = (0, 1)
    monkeypatch.setattr(market, "read_pools", lambda _web3, asked, *_: tuple(asked))
    seen = market.observe(Node(), snapshot(), sources(hub=D))  # type: ignore[arg-type]
    assert seen.problem.hub_price == 0
    assert (A, D) in seen.problem.pools
    assert any(
        note.startswith(f"hub: the vault's oracle has no usable price for {D} (NO_FEED)")
        for note in seen.notes
    )
