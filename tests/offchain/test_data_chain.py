"""Chainlink's rounds and Uniswap's events from a real node, and how little is asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offchain.backtest import BacktestError
from offchain.data import Loaded, data_settings, load
from offchain.demo.localchain import LocalChain
from offchain.demo.uniswap import FOREVER, Uniswap, Venue, deploy_uniswap
from tests.support.evm import artifact
from tests.support.node import anvil, fussy

DAY = 86_400
FIRST = 1_700_006_400  # 2023-11-15, midnight
NOW = FIRST + 60 * DAY  # when the chain begins
HOUR = 3_600


@pytest.fixture(scope="module")
def chain() -> Iterator[LocalChain]:
    with anvil(NOW) as local:
        yield local


def chainlink(url: str, cache: Path, feed: str, **more: Any) -> dict[str, Any]:
    values = {"start": "2023-11-20", "end": "2023-12-20", "confirmations": 0, "allow_jumps": True}
    return {"source": "chain", "rpc_url": url, "cache": cache, "feeds": {"ETH": feed}} | values | more


def read(**settings: Any) -> Loaded:
    return load(data_settings(settings))


# ---------------------------------------------------------------- Chainlink


class Feed:
    """A proxy of three aggregators, and what it should say."""

    def __init__(self, chain: LocalChain) -> None:
        rng = np.random.default_rng(1)
        self.chain = chain
        self.proxy = self.deploy()
        self.phases: list[list[tuple[int, int]]] = []  # (updated at, answer); 0: never answered
        for begin, count in (
            (-10 * 24, 500),
            (9 * 24, 330),
            (22 * 24, 700),
        ):  # hours; the second begins in the first
            times = FIRST + HOUR * (begin + np.arange(count)) + rng.integers(0, HOUR, count)
            rounds = [
                (int(t), int(x)) for t, x in zip(times, 10**8 * rng.uniform(1_800, 2_200, count), strict=True)
            ]
            rounds[count // 3] = (0, 0)
            aggregator = self.deploy()
            self.add(aggregator, rounds)
            chain.send(chain.accounts[0], self.proxy.functions.add_phase(aggregator.address))
            self.phases.append(rounds)
        self.last = aggregator

    def deploy(self) -> Any:
        found = artifact("RoundsFeed")
        return self.chain.deploy_code(self.chain.accounts[0], found["abi"], found["bytecode"], 8)

    def add(self, aggregator: Any, rounds: list[tuple[int, int]]) -> None:
        for i in range(0, len(rounds), 150):
            part = rounds[i : i + 150]
            call = aggregator.functions.add_rounds([x for _, x in part], [t for t, _ in part])
            self.chain.send(self.chain.accounts[0], call)

    def at(self, time: int) -> float:
        """The newest answer by then; a phase ends where the next begins."""
        begins = [min(t for t, _ in rounds if t) for rounds in self.phases]
        found = [
            (updated, answer)
            for i, rounds in enumerate(self.phases)
            for updated, answer in rounds
            if 0 < updated <= time and all(updated < begin for begin in begins[i + 1 :])
        ]
        return max(found)[1] / 1e8


@pytest.fixture(scope="module")
def feed(chain: LocalChain) -> Feed:
    return Feed(chain)


def test_rounds_are_known_at_each_row_across_phases(feed: Feed, chain: LocalChain, tmp_path: Path) -> None:
    found = read(**chainlink(chain.url, tmp_path, feed.proxy.address, every="1h"))
    assert found.market.names == ("ETH",)
    assert found.market.times[0] == FIRST + 5 * DAY and len(found.market.times) == 31 * 24
    assert found.market.prices[:, 0].tolist() == [feed.at(int(t)) for t in found.market.times]


def test_phases_are_searched_where_the_proxy_does_not_name_them(chain: LocalChain, tmp_path: Path) -> None:
    hidden = Feed(chain)
    for rounds in hidden.phases:  # so that no number is missing where the search looks
        assert 0 not in [t for t, _ in rounds[:64]]
    chain.send(chain.accounts[0], hidden.proxy.functions.hide_phases())
    found = read(**chainlink(chain.url, tmp_path, hidden.proxy.address))
    assert found.market.prices[:, 0].tolist() == [hidden.at(int(t)) for t in found.market.times]


def test_a_later_call_asks_only_for_new_rounds(feed: Feed, chain: LocalChain, tmp_path: Path) -> None:
    with fussy(chain.url) as node:
        first = read(**chainlink(node.url, tmp_path, feed.proxy.address))
        asked = node.count("eth_call")
        again = read(**chainlink(node.url, tmp_path, feed.proxy.address))
        more = node.count("eth_call") - asked
        assert again.fingerprint == first.fingerprint
        assert asked > 1_000 and more <= 6  # decimals, the latest round, each older phase's last
        new = [(FIRST + 55 * DAY, 123 * 10**8), (FIRST + 55 * DAY + 9, 124 * 10**8)]
        feed.add(feed.last, new)
        feed.phases[-1] += new
        longer = read(**chainlink(node.url, tmp_path, feed.proxy.address, end="2024-01-10"))
        assert node.count("eth_call") - asked - more <= 6 + 2
        assert longer.market.prices[-1, 0] == 124.0
        earlier = read(**chainlink(node.url, tmp_path, feed.proxy.address, start="2023-11-08"))
        assert earlier.market.prices[:, 0].tolist() == [feed.at(int(t)) for t in earlier.market.times]


def test_a_small_batch_and_a_busy_node_are_put_up_with(feed: Feed, chain: LocalChain, tmp_path: Path) -> None:
    plain = read(**chainlink(chain.url, tmp_path / "a", feed.proxy.address))
    with fussy(chain.url, most_calls=7, busy=2) as node:
        found = read(**chainlink(node.url, tmp_path / "b", feed.proxy.address))
    assert found.fingerprint == plain.fingerprint
    with fussy(chain.url, most_calls=0) as node:  # no batches at all
        found = read(**chainlink(node.url, tmp_path / "c", feed.proxy.address, start="2023-12-15"))
    assert (found.market.prices == plain.market.prices[-6:]).all()


def test_a_crash_half_way_leaves_no_half_file(feed: Feed, chain: LocalChain, tmp_path: Path) -> None:
    with fussy(chain.url) as node:
        plain = read(**chainlink(node.url, tmp_path / "a", feed.proxy.address))
        asked = node.count("eth_call")
    with (
        fussy(chain.url, breaks_after=14) as node,
        pytest.raises(BacktestError, match=r"data\.(feeds|rpc_url)"),
    ):
        read(**chainlink(node.url, tmp_path / "b", feed.proxy.address))
    assert not list(tmp_path.glob("**/*.half"))
    assert list((tmp_path / "b").glob("chainlink*/*.parquet"))
    with fussy(chain.url) as node:
        found = read(**chainlink(node.url, tmp_path / "b", feed.proxy.address))
        assert node.count("eth_call") < asked - 400  # a part was kept
    assert found.fingerprint == plain.fingerprint


def test_rounds_of_unconfirmed_blocks_are_not_read(chain: LocalChain, tmp_path: Path) -> None:
    feed = Feed(chain)
    before = chain.web3.eth.block_number
    feed.add(feed.last, [(FIRST + 58 * DAY, 77 * 10**8)])
    settings = chainlink(chain.url, tmp_path, feed.proxy.address, start="2024-01-10", end="2024-01-13")
    now = read(**settings)
    then = read(**settings | {"confirmations": chain.web3.eth.block_number - before, "cache": tmp_path / "b"})
    assert now.market.prices[-1, 0] == 77.0
    assert then.market.prices[-1, 0] == feed.at(FIRST + 59 * DAY) != 77.0


def test_answers_that_are_no_price_are_left_out_and_said(chain: LocalChain, tmp_path: Path) -> None:
    feed = Feed(chain)
    feed.add(feed.last, [(FIRST + 57 * DAY, -5)])
    found = read(**chainlink(chain.url, tmp_path, feed.proxy.address, start="2024-01-10", end="2024-01-12"))
    assert found.market.prices[-1, 0] == feed.at(FIRST + 58 * DAY) > 0
    assert any("1 rounds with answers of 0 or below" in text for text in found.warnings)


def test_what_is_no_feed_is_refused(chain: LocalChain, tmp_path: Path) -> None:
    nobody = chain.accounts[5].address
    with pytest.raises(BacktestError, match=r"data\.feeds\.ETH: 0x\w+ does not answer as a Chainlink feed"):
        read(**chainlink(chain.url, tmp_path, nobody))
    with pytest.raises(BacktestError, match=r"data\.end: .* is not before .* the newest block"):
        read(**chainlink(chain.url, tmp_path, nobody, end="2030-01-01"))
    with pytest.raises(BacktestError, match=r"data\.rpc_url: the node: cannot be reached"):
        read(**chainlink("http://127.0.0.1:9", tmp_path, nobody))


def test_a_feed_that_begins_later_names_its_first_row(feed: Feed, chain: LocalChain, tmp_path: Path) -> None:
    young = feed.deploy()
    feed.add(young, [(FIRST + (20 + i) * DAY - 60, (5 + i) * 10**8) for i in range(20)])
    both = {"feeds": {"ETH": feed.proxy.address, "NEW": young.address}}
    with pytest.raises(BacktestError, match=r'NEW begins there.*start = "2023-12-05" or "common"'):
        read(**chainlink(chain.url, tmp_path, "") | both)
    found = read(**chainlink(chain.url, tmp_path, "") | both | {"start": "2023-12-05"})
    assert found.market.prices[:, 1].tolist() == [5.0 + i for i in range(16)]


# ---------------------------------------------------------------- Uniswap


class Pools:
    """A V2 pair and a V3 pool of a coin of 18 decimals against a dollar of 6, traded over some days."""

    def __init__(self, chain: LocalChain) -> None:
        self.chain, self.owner = chain, chain.accounts[1]
        self.uniswap: Uniswap = deploy_uniswap(chain, self.owner)
        token = artifact("TestToken")

        def made(name: str, decimals: int) -> Any:
            contract = chain.deploy_code(self.owner, token["abi"], token["bytecode"], name, name, decimals)
            chain.send(self.owner, contract.functions.mint(self.owner.address, 10**12 * 10**decimals))
            for spender in (self.uniswap.v2_router, self.uniswap.v3_positions, self.uniswap.v3_router):
                chain.send(self.owner, contract.functions.approve(spender.address, 2**255))
            return contract

        self.coin, self.dollar = made("COIN", 18), made("USD", 6)
        amounts = 1_000 * 10**18, 2_000_000 * 10**6
        addresses = self.coin.address, self.dollar.address
        self.v2: Venue = self.uniswap.add_v2(self.owner, *addresses, *amounts)
        self.v3: Venue = self.uniswap.add_v3(self.owner, *addresses, *amounts, 3_000, 4.0)
        self.begin = chain.now
        rng = np.random.default_rng(2)
        for _ in range(20):
            self.sleep(int(rng.integers(1_000, 30_000)))
            self.trade(int(rng.integers(1, 20)), bool(rng.integers(2)))
        self.end = chain.now
        eth = chain.web3.eth
        self.stamps = [eth.get_block(block)["timestamp"] for block in range(eth.block_number + 1)]

    def sleep(self, seconds: int) -> None:
        self.chain._rpc("evm_setNextBlockTimestamp", [self.chain.now + seconds])

    def trade(self, coins: int, sell: bool) -> None:
        amount = coins * 10**18 if sell else coins * 2_000 * 10**6
        path = (self.coin, self.dollar) if sell else (self.dollar, self.coin)
        tokens = [token.address for token in path]
        v2 = self.uniswap.v2_router.functions.swapExactTokensForTokens
        self.chain.send(self.owner, v2(amount, 0, tokens, self.owner.address, FOREVER))
        v3 = self.uniswap.v3_router.functions.exactInputSingle
        self.chain.send(self.owner, v3((*tokens, 3_000, self.owner.address, FOREVER, amount, 0, 0)))

    def block_at(self, time: int) -> int:
        """By looking at each."""
        return max(block for block, stamp in enumerate(self.stamps) if stamp <= time)

    def v2_price(self, block: int) -> tuple[float, float]:
        """Of a coin in dollars, and the dollars on that side, as the contract says."""
        reserves = self.v2.pool.functions.getReserves().call(block_identifier=block)
        coin, dollar = reserves[:2] if self.v2.token0 == self.coin.address else (reserves[1], reserves[0])
        return dollar / 1e6 / (coin / 1e18), dollar / 1e6

    def v3_price(self, block: int) -> float:
        sqrt_price = self.v3.pool.functions.slot0().call(block_identifier=block)[0]
        price = (sqrt_price / 2**96) ** 2
        return price * 1e12 if self.v3.token0 == self.coin.address else 1e12 / price


@pytest.fixture(scope="module")
def pools(chain: LocalChain) -> Pools:
    return Pools(chain)


def uniswap(url: str, cache: Path, pools: Pools, sources: Any = None, **more: Any) -> dict[str, Any]:
    coin = pools.coin.address
    values: dict[str, Any] = {
        "start": str(np.datetime64(pools.begin + 1_000, "s")),
        "every": "1h",
        "confirmations": 0,
        "stale_rows": 0,
        "pools": {
            "V2": {"address": pools.v2.pool.address, "token": coin},
            "V3": {"address": pools.v3.pool.address, "token": coin},
        },
    }
    if sources is not None:
        values["pools"] = sources
    return {"source": "chain", "rpc_url": url, "cache": cache} | values | more


def test_pool_prices_are_the_contracts_own_at_each_row(
    pools: Pools, chain: LocalChain, tmp_path: Path
) -> None:
    settings = uniswap(chain.url, tmp_path, pools)
    with pytest.raises(BacktestError, match="V3 begins there"):  # its first price is its first trade
        read(**settings)
    found = read(**settings | {"start": str(np.datetime64(pools.begin + 40_000, "s"))})
    assert len(found.market.times) > 24 and found.market.times[-1] <= pools.end
    blocks = [pools.block_at(int(time)) for time in found.market.times]
    v2 = [pools.v2_price(block) for block in blocks]
    np.testing.assert_allclose(found.market.prices[:, 0], [price for price, _ in v2], rtol=1e-14)
    np.testing.assert_allclose(
        found.market.prices[:, 1], [pools.v3_price(block) for block in blocks], rtol=1e-13
    )
    assert found.pool_depth is not None
    np.testing.assert_allclose(found.pool_depth[:, 0], [depth for _, depth in v2], rtol=1e-14)
    liquidity = pools.v3.pool.functions.liquidity().call()
    virtual = liquidity * np.sqrt(found.market.prices[:, 1] / 1e12) / 1e6  # dollars, as if over all prices
    np.testing.assert_allclose(found.pool_depth[:, 1], virtual, rtol=1e-12)


def test_the_other_side_and_a_quote_in_another_asset(pools: Pools, chain: LocalChain, tmp_path: Path) -> None:
    later = {"start": str(np.datetime64(pools.begin + 40_000, "s"))}
    plain = read(**uniswap(chain.url, tmp_path, pools, **later))
    v2 = {"address": pools.v2.pool.address, "token": pools.dollar.address, "quote": "COIN"}
    v3 = {"address": pools.v3.pool.address, "token": pools.coin.address}
    turned = read(
        **uniswap(chain.url, tmp_path, pools, sources={"USD2": v2, "COIN": v3}, assets=["USD2"], **later)
    )
    assert turned.market.names == ("USD2",)
    expected = plain.market.prices[:, 1] / plain.market.prices[:, 0]
    np.testing.assert_allclose(turned.market.prices[:, 0], expected, rtol=1e-13)
    with pytest.raises(BacktestError, match=r"pools.USD2.quote: goes in a circle: USD2 in COIN in USD2"):
        read(**uniswap(chain.url, tmp_path, pools, sources={"USD2": v2, "COIN": v3 | {"quote": "USD2"}}))
    with pytest.raises(BacktestError, match=r"pools.USD2.quote: 'COIN' is neither USD nor one of"):
        read(**uniswap(chain.url, tmp_path, pools, sources={"USD2": v2}))
    with pytest.raises(BacktestError, match=r"pools.V.token: the pool 0x\w+ is of"):
        read(**uniswap(chain.url, tmp_path, pools, sources={"V": v3 | {"token": pools.v2.pool.address}}))


@pytest.mark.parametrize(
    "rules",
    [{"most_blocks": 3}, {"most_logs": 2}, {"slow_blocks": 20, "slow_seconds": 1.5}],
    ids=["range too large", "too many results", "too slow"],
)
def test_ranges_shrink_where_the_node_refuses(
    pools: Pools, chain: LocalChain, tmp_path: Path, rules: dict[str, Any]
) -> None:
    later = {"start": str(np.datetime64(pools.begin + 40_000, "s")), "rpc_timeout_seconds": 0.7}
    plain = read(**uniswap(chain.url, tmp_path / "a", pools, **later))
    shares: list[tuple[str, float]] = []
    with fussy(chain.url, **rules) as node:
        settings = data_settings(uniswap(node.url, tmp_path / "b", pools, **later))
        found = load(settings, lambda name, share: shares.append((name, share)))
    assert found.fingerprint == plain.fingerprint
    assert shares[-1] == ("V3", 1.0) and len(shares) > 2
    assert [share for name, share in shares if name == "V2"] == sorted(
        s for name, s in shares if name == "V2"
    )


def test_a_single_block_that_is_refused_ends_it_with_the_nodes_words(
    pools: Pools, chain: LocalChain, tmp_path: Path
) -> None:
    with (
        fussy(chain.url, most_blocks=0) as node,
        pytest.raises(BacktestError, match=r"data.rpc_url: eth_getLogs of block \d+: block range too large"),
    ):
        read(**uniswap(node.url, tmp_path, pools))


def test_events_that_are_kept_are_not_asked_for_again(
    pools: Pools, chain: LocalChain, tmp_path: Path
) -> None:
    begin = pools.begin + 40_000
    whole = {"start": str(np.datetime64(begin, "s"))}
    with fussy(chain.url) as node:
        part = read(
            **uniswap(node.url, tmp_path, pools, **whole, end=str(np.datetime64(begin + 90_000, "s")))
        )
        before = len(node.asked)
        found = read(**uniswap(node.url, tmp_path, pools, **whole))
        ranges = [p[0] for name, p in node.asked[before:] if name == "eth_getLogs"]
        first = pools.block_at(int(part.market.times[-1])) + 1
        assert {int(wanted["fromBlock"], 16) for wanted in ranges} == {first}
        before = len(node.asked)
        again = read(**uniswap(node.url, tmp_path, pools, **whole))
        assert not [1 for name, _ in node.asked[before:] if name == "eth_getLogs"]
    rows = len(part.market.times)
    assert (found.market.prices[:rows] == part.market.prices).all()
    assert again.fingerprint == found.fingerprint


def test_a_broken_file_of_the_cache_is_named(pools: Pools, chain: LocalChain, tmp_path: Path) -> None:
    settings = uniswap(chain.url, tmp_path, pools, start=str(np.datetime64(pools.begin + 40_000, "s")))
    read(**settings)
    victim = next(tmp_path.glob("uniswap-v2*/*.parquet"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(BacktestError, match=r"data.cache: .*parquet cannot be read: delete it"):
        read(**settings)
    victim.unlink()
    read(**settings)
