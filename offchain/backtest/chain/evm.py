"""The EVM engine's chain: the real bytecode in process (pyrevm). Every number of a result is read from it.

Ours comes from `offchain/chain/artifacts`: vault, rule book, timelock, factory, lens, price oracle, executor, and the
test token, feed, feed board and arbitrageur that `evenkeel demo` uses. Uniswap's comes from its npm packages, which are
not ours to pass on: `make install` in a clone of the repository brings them.

A replay makes a new EVM: pyrevm remembers all that was ever changed in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils.abi import collapse_if_tuple
from eth_utils.crypto import keccak

from offchain.backtest.chain.addresses import (
    CHAIN_ID,
    CREATOR,
    DELAY,
    DEPLOYER,
    GUARDIAN,
    KEEPER,
    SALT,
    STRATEGIST,
    TRADER,
)
from offchain.backtest.chain.arbitrage import Move
from offchain.backtest.chain.ledger import FIRST_BLOCK, NO_HASH
from offchain.backtest.chain.scenario import MAX_TIME, Scenario
from offchain.backtest.errors import BacktestError
from offchain.chain.contracts import ZERO, load_artifact
from offchain.chain.errors import ConfigError
from offchain.chain.vault import BlockRef, Snapshot
from offchain.demo.localchain import node_modules
from offchain.keeper.decide import Decision
from offchain.planner.pools import Pool, V2Pool, V3Pool
from offchain.policy import DAY, NO_ASSET, Asset, Rules, Session, VaultState

__all__ = ["GAS", "EvmChain"]

GAS = 30_000_000  # limit of a call
PLENTY = 2**120  # token units
MAX_UINT256 = 2**256 - 1
HEARTBEAT = 30 * DAY  # the feeds answer in every row
ERROR_STRING = keccak(text="Error(string)")[:4]
UNISWAP = {
    "UniswapV2Factory": "v2-core/build/UniswapV2Factory.json",
    "UniswapV2Pair": "v2-core/build/UniswapV2Pair.json",
    "UniswapV3Factory": "v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json",
    "UniswapV3Pool": "v3-core/artifacts/contracts/UniswapV3Pool.sol/UniswapV3Pool.json",
    "NonfungiblePositionManager": (
        "v3-periphery/artifacts/contracts/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"
    ),
}
Call = tuple[str, str, bytes]  # sender, to, data
Step = Call | tuple[bytes] | Any  # a call, a deployment, a new block's pyrevm.BlockEnv


class EvmChain:
    """A vault and its pools. The same methods as `ledger.Ledger`.

    `steps`: a list that all that the EVM is asked to do is appended to, so that it can be done again without us.
    """

    def __init__(self, scenario: Scenario, steps: list[Step] | None = None) -> None:
        self._evm = new_evm()
        self._scenario, self._places, self._steps = scenario, scenario.places, steps
        self._number = FIRST_BLOCK - 2
        self._new_block(scenario.state.time)
        self._deploy_contracts()
        self._make_pools()
        self._make_vault()
        self._set_answers, self._read_state = _prepared(self)
        self._read_pools = [_pool_reads(pool) for pool in scenario.pools]
        self._basket: tuple[bytes, tuple[Asset, ...]] = (b"", ())
        self._rules: tuple[bytes, Rules] = (b"", scenario.state.rules)
        self._session: tuple[bytes, Session] = (b"", scenario.state.session)

    # ------------------------------------------------------------ from outside

    def move(self, now: int, answers: Sequence[int]) -> None:
        """A new block at `now`; the feeds answer."""
        self._new_block(now)
        data = self._set_answers + b"".join(
            answer.to_bytes(32, "big") for answer in answers[: self._scenario.n]
        )
        self._send(TRADER, self._places.board, data)

    def arbitrage(self, moves: Sequence[Move]) -> None:
        """The trader brings the pools to the market's prices, in one transaction."""
        if moves:
            legs = [
                _words(m.version, m.pool, m.token_in, m.amount_in, m.zero_for_one, m.limit) for m in moves
            ]
            data = _selector("Arbitrageur", "trade") + _words(32, len(legs)) + b"".join(legs)
            self._send(TRADER, self._places.arbitrageur, data)

    @property
    def depositors(self) -> int:
        """Shares that they hold."""
        return self._number_of(self._vault, _encoded("Vault", "balanceOf", CREATOR))

    def mint(self, shares: int) -> None:
        """A depositor mints in kind."""
        self._call(
            CREATOR, self._vault, "Vault", "mint_in_kind", shares, [PLENTY] * self._scenario.n, CREATOR
        )

    def redeem(self, shares: int) -> None:
        """A depositor redeems in kind."""
        least = [0] * self._scenario.n
        self._call(CREATOR, self._vault, "Vault", "redeem_in_kind", shares, CREATOR, CREATOR, least, 0)

    def set_targets(self, targets_bps: Sequence[int]) -> None:
        """The strategist moves the targets."""
        timelock = self._places.timelock
        self._call(STRATEGIST, timelock, "Timelock", "set_targets", self._vault, list(targets_bps))

    # ------------------------------------------------------------ the keeper

    def pools(self) -> tuple[Pool, ...]:
        """As they are now."""
        return tuple(
            _pool_after(pool, [self._send(TRADER, pool.address, data) for data in reads])
            for pool, reads in zip(self._scenario.pools, self._read_pools, strict=True)
        )

    def snapshot(self) -> Snapshot:
        """The vault as `chain.vault.read_vault` reads it, in one call of the lens."""
        output = self._send(TRADER, self._places.lens, self._read_state)
        n, at = self._scenario.n, _Lens
        if _word(output, at.UNREADABLE):
            raise BacktestError("evm: a token of the vault does not answer")
        aside_until = _word(output, at.ASIDE_UNTIL)
        state = VaultState(
            assets=self._assets(_items(output, at.BASKET, 8 * n)),
            rules=self._rules_of(output[at.RULES : at.SESSION]),
            session=self._session_of(output[at.SESSION : at.LOSS]),
            balances=_numbers(_items(output, at.BALANCES, n)),
            prices=_numbers(_items(output, at.PRICES, n)),
            statuses=_numbers(_items(output, at.STATUSES, n)),
            supply=_word(output, at.SUPPLY),
            time=self._now,
            pending_fee_shares=_word(output, at.PENDING),
            fee_bps=_word(output, at.FEE),
            fee_accrued_at=self._now,
            loss_used=_word(output, at.LOSS),
            loss_time=self._now,
            speed_used=_word(output, at.SPEED),
            speed_time=self._now,
            paused_until=_word(output, at.PAUSED_UNTIL),
            aside=_word(output, at.ASIDE) if aside_until else NO_ASSET,
            aside_until=aside_until,
            vault=self._vault,
            oracle=self._places.oracle,
        )
        return Snapshot(
            CHAIN_ID,
            BlockRef(self._number, NO_HASH, self._now),
            self._vault,
            state,
            "0x" + output[at.HEAD : at.HEAD + 32].hex(),
        )

    def rebalance(self, decision: Decision, executor: str, deadline: int) -> None:
        """The keeper's transaction."""
        plan = decision.plan
        assert plan is not None
        arguments = (list(plan.sells), executor, plan.payload, decision.commitment, plan.session, deadline)
        self._call(KEEPER, self._vault, "Vault", "rebalance", *arguments)

    # decoded anew only when they have changed

    def _assets(self, raw: bytes) -> tuple[Asset, ...]:
        if raw != self._basket[0]:
            rows = [raw[i : i + 256] for i in range(0, len(raw), 256)]
            self._basket = raw, tuple(Asset("0x" + row[12:32].hex(), *_numbers(row[32:])) for row in rows)
        return self._basket[1]

    def _rules_of(self, raw: bytes) -> Rules:
        if raw != self._rules[0]:
            self._rules = raw, Rules(*_numbers(raw))
        return self._rules[1]

    def _session_of(self, raw: bytes) -> Session:
        if raw != self._session[0]:
            number, opened, closed, slot, by_calendar = _numbers(raw)
            self._session = raw, Session(number, opened, closed, slot, by_calendar == 1)
        return self._session[1]

    # ------------------------------------------------------------ making it

    @property
    def _vault(self) -> str:
        return self._scenario.state.vault

    def _deploy_contracts(self) -> None:
        """In the order of `addresses.Places`."""
        s, at = self._scenario, self._places
        for i, decimals in enumerate(s.decimals):
            self._deploy("TestToken", f"Token {i}", f"T{i}", decimals)
        feed_decimals = len(str(s.feed_scale)) - 1
        for answer in s.answers[0][: s.n]:
            self._deploy("TestFeed", feed_decimals, "USD", answer)
        self._deploy("FeedBoard")
        self._deploy("PriceOracle", GUARDIAN, DELAY, ZERO, 0)
        self._deploy("RuleBook")
        self._deploy("Timelock", at.rule_book, ZERO)  # no tellers here
        self._deploy("Vault", at.rule_book, at.timelock)
        self._deploy("VaultFactory", at.implementation, at.rule_book)
        self._deploy("VaultLens")
        self._deploy("Executor")
        self._deploy("Arbitrageur")
        self._deploy("UniswapV2Factory", DEPLOYER)
        self._deploy("UniswapV3Factory")
        last = self._deploy("NonfungiblePositionManager", at.v3_factory, DEPLOYER, DEPLOYER)
        if last != at.v3_positions:
            raise BacktestError(
                f"evm: contracts stand elsewhere than expected: {last}, not {at.v3_positions}"
            )
        for token, feed in zip(at.tokens, at.feeds, strict=True):
            self._call(DEPLOYER, at.oracle, "PriceOracle", "set_feed", token, feed, HEARTBEAT, 1, 2**128 - 1)
        for token in {*at.tokens, at.hub}:
            for account in (CREATOR, DEPLOYER, at.arbitrageur):
                self._call(DEPLOYER, token, "TestToken", "mint", account, PLENTY)

    def _make_pools(self) -> None:
        at = self._places
        for token in {*at.tokens, at.hub}:
            self._call(DEPLOYER, token, "TestToken", "approve", at.v3_positions, MAX_UINT256)
        amounts = self._scenario.pool_amounts
        for pool, (amount0, amount1) in zip(self._scenario.pools, amounts, strict=True):
            tokens = pool.token0, pool.token1
            if isinstance(pool, V2Pool):
                self._call(DEPLOYER, at.v2_factory, "UniswapV2Factory", "createPair", *tokens)
                for token, amount in zip(tokens, (amount0, amount1), strict=True):
                    self._call(DEPLOYER, token, "TestToken", "transfer", pool.address, amount)
                self._call(DEPLOYER, pool.address, "UniswapV2Pair", "mint", DEPLOYER)
            else:
                name, fee = "NonfungiblePositionManager", pool.fee
                first = (*tokens, fee, pool.sqrt_price_x96)
                self._call(DEPLOYER, at.v3_positions, name, "createAndInitializePoolIfNecessary", *first)
                low, high = pool.ticks[0][0], pool.ticks[-1][0]
                place = (*tokens, fee, low, high, amount0, amount1, 0, 0, DEPLOYER, MAX_TIME)
                self._call(DEPLOYER, at.v3_positions, name, "mint", place)

    def _make_vault(self) -> None:
        s, at = self._scenario, self._places
        for token in at.tokens:
            self._call(CREATOR, token, "TestToken", "approve", at.factory, MAX_UINT256)
            self._call(CREATOR, token, "TestToken", "approve", self._vault, MAX_UINT256)
        arguments = (s.config, list(s.state.balances), SALT)
        made = self._call(CREATOR, at.factory, "VaultFactory", "create_vault", *arguments)
        if "0x" + made[12:32].hex() != self._vault:
            raise BacktestError("evm: the vault stands elsewhere than expected")

    # ------------------------------------------------------------ the EVM

    def _new_block(self, now: int) -> None:
        self._number, self._now = self._number + 1, now
        block = _block(self._number, now)
        if self._steps is not None:
            self._steps.append(block)
        self._evm.set_block_env(block)

    def _deploy(self, name: str, *arguments: Any) -> str:
        constructors = [e for e in _artifact(name)["abi"] if e["type"] == "constructor"]
        types = [collapse_if_tuple(item) for e in constructors for item in e["inputs"]]
        code = bytes.fromhex(_artifact(name)["bytecode"].removeprefix("0x")) + encode(types, arguments)
        if self._steps is not None:
            self._steps.append((code,))
        address: str = self._evm.deploy(DEPLOYER, code)
        return address.lower()

    def _call(self, sender: str, to: str, name: str, function: str, *arguments: Any) -> bytes:
        return self._send(sender, to, _encoded(name, function, *arguments), f"{name}.{function}")

    def _send(self, sender: str, to: str, data: bytes, what: str = "") -> bytes:
        """The output of a transaction; BacktestError with the revert string when it fails."""
        if self._steps is not None:
            self._steps.append((sender, to, data))
        try:
            output: bytes = self._evm.message_call(sender, to, data, gas=GAS)
            return output
        except RuntimeError as error:
            raise BacktestError(f"evm: {what or to} at {self._now}: {_reason(error)}") from None

    def _number_of(self, to: str, data: bytes) -> int:
        return int.from_bytes(self._send(TRADER, to, data)[:32], "big")


class _Lens:
    """Where the lens's answer has what, in bytes: a word of offset, then the struct."""

    BASKET, BALANCES, PRICES, STATUSES, UNREADABLE, ASIDE, ASIDE_UNTIL, PAUSED_UNTIL, RULES = range(
        64, 352, 32
    )
    SESSION = RULES + 12 * 32
    LOSS, SPEED, SUPPLY, PENDING, FEE, _FLOWS, _ORACLE, HEAD = range(SESSION + 160, SESSION + 416, 32)


def _word(output: bytes, at: int) -> int:
    return int.from_bytes(output[at : at + 32], "big")


def _items(output: bytes, at: int, words: int) -> bytes:
    """The list whose offset is at `at`, without its length."""
    start = 64 + _word(output, at)
    return output[start : start + 32 * words]


def _numbers(raw: bytes) -> tuple[int, ...]:
    return tuple([int.from_bytes(raw[i : i + 32], "big") for i in range(0, len(raw), 32)])


def new_evm() -> Any:
    """An EVM with nothing in it."""
    try:
        import pyrevm
    except ImportError:
        raise BacktestError("engine: 'evm' needs the package pyrevm: pip install '.[backtest]'") from None
    return pyrevm.EVM(gas_limit=100 * GAS, spec_id="MERGE")


def _block(number: int, now: int) -> Any:
    import pyrevm

    return pyrevm.BlockEnv(number=number, timestamp=now, gas_limit=100 * GAS)


# ---------------------------------------------------------------- codecs


@cache
def _artifact(name: str) -> dict[str, Any]:
    """Of ours, or of Uniswap's npm packages; V2 keeps the bytecode deeper and without 0x."""
    if name not in UNISWAP:
        return load_artifact(name)
    try:
        found: dict[str, Any] = json.loads((node_modules() / "@uniswap" / UNISWAP[name]).read_text())
    except (ConfigError, OSError):
        raise BacktestError(
            f"engine: 'evm' needs Uniswap's compiled contracts, and {name} is not there: "
            "run `make install` in a clone of the repository and start from there, or take engine 'integer'"
        ) from None
    if "evm" in found:
        found["bytecode"] = found["evm"]["bytecode"]["object"]
    return found


@cache
def _function(name: str, function: str) -> tuple[bytes, list[str]]:
    """Selector and argument types; of overloads the first."""
    entry = next(e for e in _artifact(name)["abi"] if e["type"] == "function" and e["name"] == function)
    types = [collapse_if_tuple(item) for item in entry["inputs"]]
    return keccak(text=f"{function}({','.join(types)})")[:4], types


def _selector(name: str, function: str) -> bytes:
    return _function(name, function)[0]


def _encoded(name: str, function: str, *arguments: Any) -> bytes:
    selector, types = _function(name, function)
    return selector + encode(types, arguments)


def _words(*values: int | str) -> bytes:
    """Numbers and addresses in words."""
    return b"".join(_address(v) if isinstance(v, str) else int(v).to_bytes(32, "big") for v in values)


@cache
def _address(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x")).rjust(32, b"\0")


def _prepared(chain: EvmChain) -> tuple[bytes, bytes]:
    """The part of `set_answers` before the answers, and the whole call of the lens."""
    at, n = chain._places, chain._scenario.n
    board = _words(64, 64 + 32 * (n + 1), n, *at.feeds, n)
    return _selector("FeedBoard", "set_answers") + board, _encoded("VaultLens", "state", chain._vault)


def _pool_reads(pool: Pool) -> list[bytes]:
    """The calls that tell where the pool stands."""
    if isinstance(pool, V2Pool):
        return [_encoded("UniswapV2Pair", "getReserves")]
    return [_encoded("UniswapV3Pool", "slot0"), _encoded("UniswapV3Pool", "liquidity")]


def _pool_after(pool: Pool, answers: list[bytes]) -> Pool:
    """The pool with the state that it answers; what never changes is taken as it was made."""
    first = answers[0]
    if isinstance(pool, V2Pool):
        reserves = int.from_bytes(first[:32], "big"), int.from_bytes(first[32:64], "big")
        return V2Pool(pool.address, pool.token0, pool.token1, pool.fee_bps, *reserves)
    return V3Pool(
        pool.address,
        pool.token0,
        pool.token1,
        pool.fee,
        pool.tick_spacing,
        int.from_bytes(first[:32], "big"),
        int.from_bytes(first[32:64], "big", signed=True),
        int.from_bytes(answers[1][:32], "big"),
        pool.ticks,
    )


def _reason(error: RuntimeError) -> str:
    """The revert string inside pyrevm's message, else the message."""
    text = str(error)
    start = text.find("0x08c379a0")
    if start < 0:
        return text
    digits = text[start + 2 :].split('"')[0].split(",")[0].strip(" )}")
    data = bytes.fromhex(digits[: len(digits) // 2 * 2])
    return str(decode(["string"], data[4:])[0]) if data[:4] == ERROR_STRING else text
