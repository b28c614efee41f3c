"""The operator's own checks before a trade: pure ones, an exchange on a local server, and the keeper on anvil."""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import isqrt
from pathlib import Path
from typing import Any, cast

import pytest
from eth_abi.abi import encode as abi_encode
from web3.contract import Contract

from offchain.chain.errors import ConfigError
from offchain.demo.world import World
from offchain.keeper.costs import Entry
from offchain.keeper.journal import Journal, Status
from offchain.keeper.sanity import (
    APPROVE,
    TRANSFER,
    Limits,
    NotTraded,
    Sanity,
    cost_of,
    gas_refusal,
    kind_of,
    market_refusal,
    payload_refusal,
    share_refusal,
    spend_refusal,
    spent_since,
)
from offchain.keeper.ticker import Ticker
from offchain.planner import Call, Leg, Plan, PlannedLeg, Problem, SwapV2, SwapV3, Sweep, V2Pool, encode
from offchain.planner.problem import Costs
from offchain.policy import DAY, WAD
from offchain.settings import load_settings
from tests.support.demo_vault import FIRST, funded_vault, make_keeper
from tests.support.evm import ROOT
from tests.support.keeper_seen import CASH, NOW, STOCK, VAULT, snapshot
from tests.support.market import address, v3_pool

EXECUTOR, ROUTER, SPENDER, STRANGER = ("0x" + digit * 40 for digit in "def9")
OTHER_TOKEN = "0x" + "4" * 40
PAIR = V2Pool(address("b2", 1), CASH, STOCK, 30, 1_000_000 * WAD, 1_000_000 * WAD)
PROBLEM = Problem(snapshot().state, (PAIR,), EXECUTOR, "", NOW)
SOLD = 10_000 * WAD
SWAP = SwapV2(PAIR.address, STOCK, SOLD, 0, 30, False, True)


def erc20(selector: bytes, who: str) -> bytes:
    return selector + abi_encode(["address", "uint256"], [who, SOLD])


def plan_of(problem: Problem = PROBLEM, amount: int = SOLD, **changes: Any) -> Plan:
    """Sell `amount` of STOCK to the first pool."""
    pool = problem.pools[0]
    paid = pool.amount_out(STOCK, amount)
    swap = SwapV2(pool.address, STOCK, amount, 0, 30, False, True)
    cash, stock = problem.state.balances
    found = Plan(
        (0, amount), encode([swap]), (PlannedLeg(swap, CASH, amount, paid, 0),), (cash + paid, stock - amount), 1, ""
    )  # fmt: skip
    return replace(found, **changes)


# ---------------------------------------------------------------- the payload


ROUTED: tuple[Leg, ...] = (
    Call(STOCK, erc20(APPROVE, SPENDER)),
    Call(ROUTER, b"\x12\x34\x56\x78 and what the venue wants"),
    Call(CASH, erc20(TRANSFER, VAULT)),
    Sweep(CASH),
)
NOT_HERE, VENUES = "which is not the vault", "which only venues are called with"
UNREADABLE = "arguments that cannot be read"
LISTED = Limits(allowed_targets=(ROUTER.upper().replace("0X", "0x"), SPENDER), allowed_tokens=(CASH, STOCK))


@pytest.mark.parametrize(
    ("legs", "limits", "refusal"),
    [
        ((SWAP,), Limits(), ""),
        ((SWAP,), LISTED, ""),
        ((SWAP,), replace(LISTED, allowed_targets=()), ""),
        ((replace(SWAP, pool=STRANGER),), Limits(), f"payload: {STRANGER} is none of the pools that were read"),
        ((SWAP,), replace(LISTED, allowed_tokens=(STOCK,)), f"allowed_tokens: {CASH} is not in the list"),
        ((SwapV3(STRANGER, STOCK, 1, 0, True),), LISTED, f"payload: {STRANGER} is none of the pools that were read"),
        (ROUTED, Limits(), ""),
        (ROUTED, LISTED, ""),
        (ROUTED, replace(LISTED, allowed_targets=(ROUTER,)), f"allowed_targets: {SPENDER} is not in the list"),
        (ROUTED, replace(LISTED, allowed_targets=(SPENDER,)), f"allowed_targets: {ROUTER} is not in the list"),
        (ROUTED, replace(LISTED, allowed_tokens=(CASH,)), f"allowed_tokens: {STOCK} is not in the list"),
        ((Sweep(OTHER_TOKEN),), LISTED, f"allowed_tokens: {OTHER_TOKEN} is not in the list"),
        ((Call(CASH, erc20(TRANSFER, STRANGER)),), Limits(), f"payload: it sends {CASH} to {STRANGER}, {NOT_HERE}"),
        ((Call(CASH, b"\x23\xb8\x72\xdd"),), Limits(), f"payload: it calls {CASH} with 0x23b872dd, {VENUES}"),
        ((Call(VAULT, b"\x12\x34\x56\x78"),), Limits(), f"payload: it calls {VAULT} with 0x12345678, {VENUES}"),
        ((Call(CASH, APPROVE + b"\xff" * 40),), Limits(), f"payload: it calls {CASH} with {UNREADABLE}"),
    ],
)  # fmt: skip
def test_only_what_is_allowed_is_in_the_payload(legs: tuple[Leg, ...], limits: Limits, refusal: str) -> None:
    assert payload_refusal(PROBLEM, encode(legs), limits) == refusal


# ---------------------------------------------------------------- size against liquidity


def test_a_leg_may_take_no_more_than_its_share_of_a_v2_pool() -> None:
    plan = plan_of()
    paid = plan.legs[0].expected_out
    share = -(-paid * 10_000 // PAIR.reserve0)  # of the reserve of what is bought, bps, up
    assert share_refusal(PROBLEM, plan, Limits(share)) == ""
    refusal = share_refusal(PROBLEM, plan, Limits(share - 1))
    assert refusal == (
        f"max_pool_share_bps: pool {PAIR.address} would pay {paid * 10_000 // PAIR.reserve0} bps of what it holds, "
        f"the limit is {share - 1}"
    )
    assert share_refusal(PROBLEM, plan, Limits(None)) == ""


def test_legs_through_one_pool_count_together() -> None:
    plan = plan_of()
    share = plan.legs[0].expected_out * 10_000 // PAIR.reserve0 + 1
    assert share_refusal(PROBLEM, plan, Limits(share)) == ""
    twice = replace(plan, legs=plan.legs * 2)
    assert share_refusal(PROBLEM, twice, Limits(share)).startswith("max_pool_share_bps: ")


@pytest.mark.parametrize("sold", [CASH, STOCK])
def test_a_v3_pool_holds_what_selling_all_it_takes_would_pay(sold: str) -> None:
    """The share is of the liquidity in the ticks that were read: the swap's own arithmetic is the witness."""
    root = isqrt(2**192)
    positions = [(-600, 600, 10**24), (-120, 60, 5 * 10**24), (300, 900, 10**24)]
    pool = v3_pool(address("b3", 1), CASH, STOCK, 3_000, root, 0, positions)
    problem = replace(PROBLEM, pools=(pool,))
    everything = pool.amount_out(sold, pool.capacity(sold))
    bought = STOCK if sold == CASH else CASH
    for part, limit, allowed in ((5_000, 5_001, True), (5_000, 4_998, False), (10_000, 10_000, True)):
        out = everything * part // 10_000
        swap = SwapV3(pool.address, sold, 1, 0, sold == CASH, True)
        plan = plan_of(legs=(PlannedLeg(swap, bought, 1, out, 0),))
        assert (share_refusal(problem, plan, Limits(limit)) == "") is allowed


# ---------------------------------------------------------------- what it costs


def test_gas_above_what_the_trade_is_worth_is_refused() -> None:
    plan = plan_of()
    assert gas_refusal(PROBLEM, plan) == ""  # no price of gas is known
    cheap = replace(PROBLEM, gas_price=WAD // 10**6)  # 0.32 USD in all
    assert gas_refusal(cheap, plan) == ""
    dear = replace(PROBLEM, gas_price=WAD)  # 320,000 USD
    assert gas_refusal(dear, plan).startswith("gas: it costs 320,000.00 USD and the trade is worth ")


def test_the_cost_is_nav_lost_and_gas() -> None:
    plan = plan_of()
    lost = SOLD - plan.legs[0].expected_out  # both at one dollar
    assert cost_of(PROBLEM, plan) == lost > 0
    assert cost_of(PROBLEM, replace(plan, costs=Costs(0, lost, 3 * WAD, 0))) == lost + 3 * WAD
    gains = replace(plan, balances_after=(plan.balances_after[0] + 2 * lost, plan.balances_after[1]))
    assert cost_of(PROBLEM, gains) == 0


def test_the_days_spending_has_a_limit() -> None:
    limits = Limits(daily_spend_usd=100 * WAD)
    assert spend_refusal(40 * WAD, 60 * WAD, limits) == ""
    assert spend_refusal(40 * WAD + 1, 60 * WAD, limits) == (
        "daily_spend_limit_usd: 60.00 USD were spent in 24 hours and this costs 40.00 USD, above the limit 100.00 USD"
    )
    assert spend_refusal(10**9 * WAD, 0, Limits()) == ""


def entry(time: int, fee: int, impact: int, gas: int | None) -> Entry:
    return Entry(
        1, "0x", time, False, 0, 0, 0, 0, 0, 0, 0, fee * WAD, impact * WAD, 0,
        None if gas is None else gas * WAD, 0, 0, 0, None, "",
    )  # fmt: skip


def test_spending_is_counted_over_all_of_the_day_and_no_more() -> None:
    since = NOW - DAY
    rows = [entry(since - 10, 1_000, 0, 1_000), entry(since, 1_000, 0, 0)]
    rows += [entry(since + 1 + i, 2, 1, 4) for i in range(100)]
    rows += [entry(NOW, 1, -50, 3), entry(NOW, 5, 0, None)]  # a gain makes no room; gas that has no price
    asked: list[int] = []

    def ledger(latest: int) -> list[Entry]:
        asked.append(latest)
        return rows[-latest:]

    assert spent_since(ledger, since) == (100 * 7 + 3 + 5) * WAD
    assert asked == [16, 32, 64, 128]  # no more than it takes


# ---------------------------------------------------------------- a second market source


@pytest.mark.parametrize(
    ("market", "limit", "refused"),
    [(1.03, 300, False), (1.03, 291, True), (0.98, 205, False), (0.98, 204, True), (1, 1, False)],
)  # fmt: skip
def test_oracle_and_market_may_be_so_far_apart(market: float, limit: int, refused: bool) -> None:
    price = int(Fraction(str(market)) * WAD)
    found = market_refusal(PROBLEM.state, {STOCK: price}, Limits(market_deviation_bps=limit), "somewhere")
    assert (found != "") is (abs(WAD - price) * 10_000 > limit * price) is refused
    assert not refused or found.startswith(
        f"market_deviation_bps: the oracle's price of {STOCK} is 1.00 USD, somewhere says "
    )


def test_an_asset_without_a_symbol_or_in_quarantine_is_not_compared() -> None:
    far = {STOCK: 2 * WAD, OTHER_TOKEN: 7 * WAD}
    assert market_refusal(PROBLEM.state, {OTHER_TOKEN: 7 * WAD}, Limits(), "x") == ""
    aside = replace(PROBLEM.state, aside=1, aside_until=NOW + 1)
    assert market_refusal(aside, far, Limits(), "x") == ""
    assert market_refusal(PROBLEM.state, far, Limits(), "x") != ""


@dataclass
class Exchange:
    """Bitstamp's interface, as far as ccxt needs it for a price."""

    url: str = ""
    tickers: dict[str, dict[str, Any]] = field(default_factory=dict)  # by market id
    down: bool = False
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> Any:
        self.asked.append(path)
        if path.endswith("/markets/"):
            return [
                {
                    "name": f"{base}/USD", "market_symbol": f"{base}usd".lower(), "base_currency": base,
                    "counter_currency": "USD", "base_decimals": 8, "counter_decimals": 2,
                    "minimum_order_value": "10 USD", "market_type": "SPOT", "trading": "Enabled",
                    "instant_and_market_orders": "Enabled", "description": f"{base} / USD",
                }
                for base in ("ETH", "BTC")
            ]  # fmt: skip
        return {"pair": "ETH/USD", "timestamp": str(NOW)} | self.tickers[path.strip("/").rpartition("/")[2]]


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    found = Exchange(tickers={"ethusd": {"bid": "3000.1", "ask": "3000.3", "last": "2500"}})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = b"down" if found.down else json.dumps(found.answer(self.path)).encode()
            self.send_response(503 if found.down else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    found.url = f"http://127.0.0.1:{http.server_address[1]}/api"
    yield found
    http.shutdown()
    http.server_close()


def settings_for(exchange: Exchange, symbols: dict[str, str] | None = None, **more: Any) -> Any:
    options = {"urls": {"api": {"public": exchange.url, "private": exchange.url}}, "rateLimit": 1}
    named = {"market_source": "bitstamp", "market_symbols": symbols or {STOCK: "ETH/USD"}}
    return load_settings(**{**named, "market_options": options, **more})


def ticker_for(exchange: Exchange, age: float = 0, **more: Any) -> Ticker:
    found = Ticker.from_settings(settings_for(exchange, **more))
    assert found is not None
    return replace(found, wall=lambda: NOW + age)


def test_the_price_is_between_bid_and_ask(exchange: Exchange) -> None:
    ticker = ticker_for(exchange)
    assert ticker.prices() == {STOCK: 30_002 * WAD // 10} and ticker.name == "bitstamp"
    exchange.tickers["ethusd"] = {"last": "2999.95"}
    assert ticker.prices() == {STOCK: 299_995 * WAD // 100}
    assert sum(path.endswith("/markets/") for path in exchange.asked) == 1  # once, not at each look


@pytest.mark.parametrize(
    ("said", "symbol", "age", "message"),
    [
        ({"last": "0"}, "ETH/USD", 0, "bitstamp gives no usable price of ETH/USD"),
        ({"bid": "3", "ask": "2"}, "ETH/USD", 0, "bitstamp gives no usable price of ETH/USD"),
        ({"last": "NaN"}, "ETH/USD", 0, "bitstamp gives no usable price of ETH/USD"),
        ({"last": "1"}, "ETH/USD", 301, "bitstamp's price of ETH/USD is 301 s old"),
        ({"last": "1"}, "ETH/EUR", 0, r"bitstamp has no ETH/EUR \(market_symbols\)"),
    ],
)
def test_what_is_no_price_is_none(
    exchange: Exchange, said: dict[str, str], symbol: str, age: float, message: str
) -> None:
    exchange.tickers["ethusd"] = said
    with pytest.raises(ConnectionError, match=message):
        ticker_for(exchange, age, symbols={STOCK: symbol}).prices()


AWAY = "market_source: bitstamp gives no price of ETH/USD (ExchangeNotAvailable); waiting, as market_when_away says"


@pytest.mark.parametrize(
    ("when_away", "refusal"),
    [
        ("wait", AWAY),
        ("trade", ""),
    ],
)  # fmt: skip
def test_a_source_that_is_down_is_waited_for_or_not(exchange: Exchange, when_away: str, refusal: str) -> None:
    exchange.down = True
    sanity = Sanity.from_settings(settings_for(exchange, market_when_away=when_away))
    assert sanity.refusal(snapshot(), PROBLEM, plan_of(), lambda _: []) == refusal
    exchange.down = False  # it is back and says another price than the oracle's 1 USD
    far = replace(sanity, market=ticker_for(exchange))
    assert far.refusal(snapshot(), PROBLEM, plan_of(), lambda _: []).startswith("market_deviation_bps: ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"market_source": "bitstmap"}, r"market_source: ccxt has no 'bitstmap', is 'bitstamp' meant\?"),
        (
            {"market_source": "bitstamp", "market_symbols": {}},
            "market_symbols: market_source is set, so name",
        ),
        (
            {"daily_spend_limit_usd": 5},
            "daily_spend_limit_usd: gas counts only with native_token or native_price",
        ),
    ],
)
def test_a_check_that_could_not_work_is_refused_at_the_start(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sanity.from_settings(load_settings(**{"market_symbols": {STOCK: "ETH/USD"}, **settings}))


def test_market_symbols_are_by_address() -> None:
    with pytest.raises(ConfigError, match=r"market_symbols: .*is not an address"):
        load_settings(market_symbols={"ETH": "ETH/USD"})


# ---------------------------------------------------------------- why there is no trade


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("no trigger: calendar slot 7 is used; every asset is in its band", NotTraded.NO_TRIGGER),
        ("cooldown not over", NotTraded.COOLDOWN),
        ("paused", NotTraded.PAUSED),
        ("price not usable", NotTraded.ORACLE),
        ("no value", NotTraded.ORACLE),
        ("pausing after 3 reverts on chain in a row, until 5", NotTraded.AFTER_REVERTS),
        ("flickering: its trigger has to hold for 3 blocks (trigger_blocks)", NotTraded.FLICKERING),
        ("no plan: pool 0x0 has no price", NotTraded.NO_PLAN),
        ("no trade is worth what it costs", NotTraded.NOT_WORTH_IT),
        ("no pool can trade the drift at a cost that it is worth", NotTraded.NO_POOL),
        ("the vault would refuse every size of the trade: loss budget exceeded", NotTraded.LOSS_BUDGET),
        ("the vault would refuse the plan: sold past target", NotTraded.VAULT_RULES),
        ("dry run, would rebalance: threshold: …", NotTraded.DRY_RUN),
        ("kill_switch: stop exists, so nothing is signed or sent, would rebalance: x", NotTraded.KILL_SWITCH),
        ("not simulated and not sent: no keystore and no simulate_as is named", NotTraded.DRY_RUN),
        ("another keeper is at work on 0x0", NotTraded.BUSY),
        ("something new", NotTraded.OTHER),
    ],
)
def test_a_reason_in_words_has_a_kind(reason: str, kind: NotTraded) -> None:
    assert kind_of(reason) == kind


# ---------------------------------------------------------------- the one function that sends


def test_transactions_leave_the_program_at_one_place() -> None:
    """`Sender.send`, which asks `_check` first: no other code has a method that gives a node a transaction.

    The demos' own chains are not the keeper's: their accounts are made by the nodes that they start.
    """
    ways = {
        "send_raw_transaction",
        "send_transaction",
        "transact",
        "eth_sendRawTransaction",
        "eth_sendTransaction",
    }
    found = set()
    for path in sorted((ROOT / "offchain").rglob("*.py")):
        if "demo" in str(path.relative_to(ROOT)):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ways:
                found.add((path.name, node.func.attr))
    assert found == {("sender.py", "send_raw_transaction")}
    tree = ast.parse((ROOT / "offchain" / "chain" / "sender.py").read_text())
    (sender,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Sender"]
    (send,) = [node for node in sender.body if isinstance(node, ast.FunctionDef) and node.name == "send"]
    assert ast.unparse(send.body[1]) == "self._check(tx_hash)"  # after its docstring, before anything else
    outside = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("relay.send")
    ]
    assert outside == ["relay.send(raw)"]  # in Sender.send, too


# ---------------------------------------------------------------- the keeper on anvil


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[World, Contract]]:
    with funded_vault() as (world, vault):
        prices = (FIRST.prices[0] * 160 // 100, *FIRST.prices[1:])
        world.chain.mine(world.chain.now + 3_600)
        world.set_market(replace(FIRST, prices=prices))  # far outside the band
        yield world, vault


@dataclass
class Fixed:
    """A second market source whose answer a test sets."""

    found: dict[str, int]
    name: str = "elsewhere"

    def prices(self) -> dict[str, int]:
        return self.found


def test_what_a_check_refuses_is_journalled_logged_and_not_sent(
    built: tuple[World, Contract], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, vault = built
    token = world.tokens[0].address
    oracle = cast(int, world.oracle.functions.prices([token]).call()[0][0])
    cases = [
        (Sanity(Limits(max_pool_share_bps=1)), NotTraded.POOL_SHARE),
        (Sanity(Limits(allowed_tokens=(token,))), NotTraded.PAYLOAD),
        (Sanity(Limits(daily_spend_usd=WAD // 100)), NotTraded.SPEND_LIMIT),
        (Sanity(market=Fixed({token: oracle * 9 // 10})), NotTraded.MARKET_DEVIATES),
    ]
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        for sanity, kind in cases:
            outcome = make_keeper(world, vault, journal, sanity=sanity).once()
            assert (outcome.status, kind_of(outcome.reason)) == (Status.SKIPPED, kind)
            assert journal.runs()[0].reason == outcome.reason
            said = capsys.readouterr()
            assert str(kind) in said.out + said.err
    assert world.chain.web3.eth.get_transaction_count(world.keeper.address) == 0


def test_within_the_limits_it_trades_and_what_was_spent_survives_a_restart(
    built: tuple[World, Contract], tmp_path: Path
) -> None:
    world, vault = built
    tokens = tuple(token.address for token in world.tokens)
    near: dict[str, int] = {
        token: price * 101 // 100
        for token, price in zip(tokens, world.oracle.functions.prices(tokens).call()[0], strict=True)
    }
    limits = Limits(5_000, (), tokens, 1_000 * WAD)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        keeper = make_keeper(
            world, vault, journal, sanity=Sanity(limits, Fixed(near)), native_price=3_000 * WAD
        )
        outcome = keeper.once()
        assert outcome.status == Status.CONFIRMED, outcome.reason
        assert outcome.snapshot is not None
    since = outcome.snapshot.block.time - DAY
    with closing(Journal(tmp_path / "journal.sqlite")) as again:
        rows = [cost for _, cost in again.costs(vault.address)]
        (made,) = rows
        spent = spent_since(lambda latest: rows[-latest:], since)
        assert made.gas and spent == max(made.fee + made.impact, 0) + made.gas
    assert spend_refusal(0, spent, Limits(daily_spend_usd=spent - 1)).startswith("daily_spend_limit_usd: ")
    assert spend_refusal(0, spent, Limits(daily_spend_usd=spent)) == ""
