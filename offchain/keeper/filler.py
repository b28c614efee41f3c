"""Fills auctions of other people's vaults, where that pays: quote -> route -> simulate -> `Taker.take`.

What an auction sells is swapped through pools in the same transaction and the vault is paid from that, so no money of
one's own is needed, and the `Taker` reverts unless it gains at least `min_profit` on chain. What a fill gains is read
from its simulation, not from a prediction. Gas always counts. The account has no role of any vault; it owns the Taker.

Profit is valued at the prices of the vault's own oracle: name only vaults whose tokens and oracle you would trust. Of a
factory, where anybody can make a vault, only those are filled whose whole basket is in `allowed_tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any

import structlog
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import BadFunctionCallOutput, ContractLogicError, Web3RPCError

from offchain import policy
from offchain.chain.contracts import bind, load_artifact
from offchain.chain.errors import BusyError, ChainError, ConfigError
from offchain.chain.registry import vaults_of
from offchain.chain.sender import Sender, find_receipt, revert_reason
from offchain.chain.vault import Snapshot, deadline_after, latest_block, read_vault, symbols
from offchain.keeper.decide import canonical_json
from offchain.keeper.dispatch import Dispatch
from offchain.keeper.errand import Errand, caller_of, carry_out, settle
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Outcome, journal_of
from offchain.keeper.market import Sources, need_factories, observe
from offchain.keeper.sanity import Limits, basket_refusal
from offchain.planner import Pool, Sweep, encode
from offchain.planner.payload import from_route
from offchain.planner.route import Order, Route, route
from offchain.policy import WAD
from offchain.settings import Settings

__all__ = ["Fill", "Filler", "Offer", "best_size", "deploy_taker", "fillers"]

EVERYTHING = 2**255  # units: the auction sells what the vault can accept
STEPS = 18  # of the search for the best size: each leaves two thirds
TOLERANCE_BPS = 10_000  # of a leg: what counts is the minimum at the end
MAX_PAYLOAD = 3_968  # bytes that the Taker can pass on

log = structlog.get_logger("evenkeel.filler")


@dataclass(frozen=True, slots=True)
class Offer:
    """What an auction sells now: any part of `sold`, at one price."""

    session: int
    sell: int  # index of the asset that the vault gives
    buy: int  # of the asset that it gets
    sold: int  # units of `sell`, at most
    owed: int  # units of `buy`, for all of it


@dataclass(frozen=True, slots=True)
class Fill:
    """A part of an offer and how to pay for it."""

    offer: Offer
    amount: int  # units of `sell`
    route: Route

    @property
    def owed(self) -> int:
        """Units of `buy`, rounded up; the auction, which rounds more often, may ask for a little more."""
        return -(-self.offer.owed * self.amount // self.offer.sold)

    @property
    def profit(self) -> int:
        """Units of `buy`, net of the routes' gas, as predicted."""
        return self.route.net - self.owed


def best_size(offer: Offer, routed: Callable[[int], Route]) -> Fill:
    """The part of the offer that gains most. The gain is concave in the part: pools pay ever less for more."""

    def fill(amount: int) -> Fill:
        return Fill(offer, amount, routed(amount))

    low, high = 1, offer.sold
    best = fill(high)
    for _ in range(STEPS):
        third = (high - low) // 3
        if third == 0:
            break
        one, other = fill(low + third), fill(high - third)
        best = max(best, one, other, key=lambda found: found.profit)
        low, high = (low + third, high) if one.profit < other.profit else (low, high - third)
    return best


@dataclass(frozen=True)
class Filler:
    """Fills the auctions of one vault."""

    web3: Web3
    vault: str  # address
    auction: str  # address
    taker: str  # address
    executor: str  # address
    sources: Sources
    sender: Sender
    journal: Journal
    min_profit: int  # USD WAD, after gas
    deadline_seconds: int = 600
    simulate_as: str | None = None
    limits: Limits = field(default_factory=Limits)  # of the operator; here the tokens alone

    def once(self) -> Outcome:
        """Look once; fill if that pays."""
        chain_id = self.web3.eth.chain_id
        dispatch = Dispatch(self.web3, self.sender, self.journal)
        if still_open := settle(dispatch, self.vault, chain_id):
            run, fate = still_open
            return Outcome(fate.status, fate.reason, run.vault, chain_id, run.block, 0, fate.tx_hash)
        snapshot = read_vault(self.web3, self.vault, latest_block(self.web3))
        if refusal := self._closed(snapshot):
            return self._skip(snapshot, refusal)
        observed = observe(self.web3, snapshot, self.sources)
        if observed.gas.usd == 0:
            return self._skip(snapshot, observed.gas.note)
        fill = self._best(snapshot, observed.problem.pools, observed.gas.usd)
        if fill is None:
            return self._skip(snapshot, "no fill of the auction gains anything")
        return self._try(dispatch, snapshot, fill, observed.gas.usd)

    def tend(self) -> bool:
        """Follow what was sent, start nothing; whether there is something to follow later."""
        return Dispatch(self.web3, self.sender, self.journal).keep_moving(self.vault, self.web3.eth.chain_id)

    def _closed(self, snapshot: Snapshot) -> str:
        """Why there is nothing to fill, "" where there may be."""
        state = snapshot.state
        if refusal := basket_refusal(state, self.limits):
            return refusal
        if not policy.session_is_open(state, state.time):
            return "no session is open"
        grace = bind(self.web3, "Auction", self.auction).functions.grace_seconds().call()
        if state.time < (starts := state.session.opened_at + grace):
            return f"the keeper's grace period is not over: the auction starts at {starts}"
        return "" if policy.usable(state) else "price not usable"

    def _best(self, snapshot: Snapshot, pools: tuple[Pool, ...], gas_usd: int) -> Fill | None:
        """The fill that gains most by prediction, of all pairs of an asset above and one below its target."""
        state, fills = snapshot.state, []
        for offer in self._offers(snapshot):
            sell, buy = state.assets[offer.sell], state.assets[offer.buy]
            order = Order(
                sell.token,
                buy.token,
                0,
                pools,
                gas_price=gas_usd * buy.scale * WAD // state.prices[offer.buy],
            )
            fills.append(best_size(offer, partial(_routed, order)))
        worth = [fill for fill in fills if fill.profit > 0 and fill.route.amount_in == fill.amount]
        return max(worth, key=lambda fill: fill.profit * _unit(snapshot, fill.offer.buy), default=None)

    def _offers(self, snapshot: Snapshot) -> Iterator[Offer]:
        state, quote = snapshot.state, bind(self.web3, "Auction", self.auction).functions.quote
        weights, targets = policy.weights(state), policy.targets(state)
        rows = list(enumerate(zip(weights, targets, strict=True)))
        for i, (weight, target) in rows:
            for j, (other, wanted) in rows:
                if weight <= target or other >= wanted:
                    continue
                tokens = state.assets[i].token, state.assets[j].token
                try:
                    session, sold, owed = quote(self.vault, *tokens, EVERYTHING).call(
                        block_identifier=snapshot.block.number
                    )
                except (ContractLogicError, Web3RPCError) as error:
                    log.info("no offer", vault=self.vault, sell=i, buy=j, reason=revert_reason(error))
                    continue
                yield Offer(session, i, j, sold, owed)

    def _try(self, dispatch: Dispatch, snapshot: Snapshot, fill: Fill, gas_usd: int) -> Outcome:
        """Simulate it; send it where what is left after gas is enough, with that as the minimum on chain."""
        caller = caller_of(self.sender, self.simulate_as)
        if caller is None:
            return self._skip(snapshot, "not simulated: no keystore and no simulate_as is named")
        deadline = deadline_after(self.web3, snapshot.block, self.deadline_seconds)
        trial = self._call(fill, 0, deadline, snapshot)
        try:
            gained = int(trial.call({"from": caller}))
            gas = gas_usd * trial.estimate_gas({"from": caller})
        except (ContractLogicError, Web3RPCError) as error:
            return self._skip(snapshot, f"the fill reverts in simulation: {revert_reason(error)}")
        value = gained * _unit(snapshot, fill.offer.buy) // WAD
        told = f"gains {_usd(value)} before {_usd(gas)} of gas"
        if value - gas < self.min_profit:
            return self._skip(snapshot, f"a fill {told}: less than min_profit_usd {_usd(self.min_profit)}")
        least = -(-(gas + self.min_profit) * WAD // _unit(snapshot, fill.offer.buy))
        state = snapshot.state
        record = {
            "vault": snapshot.vault,
            "block": {"number": snapshot.block.number, "hash": snapshot.block.hash},
            "offer": fill.offer,
            "sell": state.assets[fill.offer.sell].token,
            "buy": state.assets[fill.offer.buy].token,
            "amount": fill.amount,
            "gained": gained,
            "least": least,
        }
        names = symbols(self.web3, [state.assets[i].token for i in (fill.offer.sell, fill.offer.buy)])
        errand = Errand(
            snapshot.vault,
            snapshot.chain_id,
            snapshot.block.number,
            f"buys {names[0]} for {names[1]} in session {fill.offer.session}: {told}",
            canonical_json(record),
            deadline,
        )
        try:
            fate = carry_out(dispatch, errand, self._call(fill, least, deadline, snapshot), caller)
        except BusyError as error:
            return self._skip(snapshot, str(error))
        reason = fate.reason or errand.reason
        log.info("fill", vault=snapshot.vault, status=str(fate.status), reason=reason, tx_hash=fate.tx_hash)
        return _outcome(snapshot, fate.status, reason, fate.tx_hash, fate.receipt)

    def _call(self, fill: Fill, least: int, deadline: int, snapshot: Snapshot) -> ContractFunction:
        state, offer = snapshot.state, fill.offer
        sell, buy = state.assets[offer.sell].token, state.assets[offer.buy].token
        payload = encode([*from_route(fill.route, TOLERANCE_BPS), Sweep(sell)])
        if len(payload) > MAX_PAYLOAD:
            raise ChainError(f"the fill's route has {len(payload)} bytes, the Taker passes on {MAX_PAYLOAD}")
        taker = bind(self.web3, "Taker", self.taker)
        return taker.functions.take(
            self.auction,
            self.vault,
            offer.session,
            sell,
            buy,
            fill.amount,
            fill.owed + fill.owed // 10_000 + 1,  # what protects is the least profit
            self.executor,
            payload,
            least,
            deadline,
        )

    def _skip(self, snapshot: Snapshot, reason: str) -> Outcome:
        self.journal.skip(snapshot.vault, snapshot.chain_id, snapshot.block.number, 0, reason)
        log.info("nothing to fill", vault=snapshot.vault, block=snapshot.block.number, reason=reason)
        return _outcome(snapshot, Status.SKIPPED, reason)


def _routed(order: Order, amount: int) -> Route:
    return route(replace(order, amount_in=amount))


def _unit(snapshot: Snapshot, asset: int) -> int:
    """USD WAD, times 1e18, that a unit of the asset is worth."""
    return snapshot.state.prices[asset] * WAD // snapshot.state.assets[asset].scale


def _usd(amount: int) -> str:
    return f"{amount / WAD:.2f} USD"


def _outcome(
    snapshot: Snapshot, status: Status, reason: str, tx_hash: str | None = None, receipt: Any = None
) -> Outcome:
    return Outcome(
        status,
        reason,
        snapshot.vault,
        snapshot.chain_id,
        snapshot.block.number,
        0,
        tx_hash,
        snapshot=snapshot,
        receipt=receipt,
    )


# ---------------------------------------------------------------- by the settings


@contextmanager
def fillers(settings: Settings, web3: Web3) -> Iterator[Sequence[Filler]]:
    """One a vault of the settings, with one account and one journal. ConfigError where a setting is wrong."""
    missing = [name for name in ("auction", "taker", "executor") if getattr(settings, name) is None]
    if not settings.kept() and settings.factory is None:
        missing.insert(0, "vaults or factory")
    if missing:
        names = ", ".join(missing)
        raise ConfigError(f"{names}: not set, and the filler needs it (in evenkeel.toml, or EVENKEEL_…)")
    need_factories(settings)
    if settings.native_token is None and settings.native_price_usd is None:
        raise ConfigError("native_token, native_price_usd: set one, a fill without its gas is no profit")
    kept, allowed = _kept(settings, web3), settings.allowed_tokens
    auction, taker, executor = settings.auction or "", settings.taker or "", settings.executor or ""
    sender = Sender.from_settings(web3, settings)
    _answer(web3, "auction", "Auction", auction, "grace_seconds")
    owner = _answer(web3, "taker", "Taker", taker, "owner")
    if sender.account is not None and owner != sender.account.address:
        raise ConfigError(f"taker: {taker} belongs to {owner}, not to {sender.account.address}")
    with journal_of(settings, kept) as journal:
        yield [
            Filler(
                web3,
                vault,
                auction,
                taker,
                executor,
                Sources.from_settings(settings),
                sender,
                journal,
                int(settings.min_profit_usd * Decimal(WAD)),
                settings.deadline_seconds,
                settings.simulate_as,
                Limits(allowed_tokens=None if allowed is None else tuple(allowed)),
            )
            for vault in kept
        ]


def _kept(settings: Settings, web3: Web3) -> list[str]:
    """Addresses of the vaults that are named, else of all that the factory has made up to now."""
    named = [table.address for table in settings.kept()]
    if named or settings.factory is None:
        return named
    needed = [
        name for name in ("allowed_tokens", "daily_gas_limit_native") if getattr(settings, name) is None
    ]
    if needed:
        raise ConfigError(
            f"{', '.join(needed)}: not set; with factory the filler needs both, for anybody can make a vault there,"
            " with any token and an oracle that makes dust look like a profit"
        )
    found = vaults_of(web3, settings.factory)
    if not found:
        raise ConfigError(f"factory: {settings.factory} has no vault yet")
    return found


def _answer(web3: Web3, setting: str, contract: str, address: str, name: str) -> Any:
    """What the view `name` of `contract` says at the setting's address. ConfigError if there is another contract."""
    try:
        return bind(web3, contract, address).get_function_by_name(name)().call()
    except (BadFunctionCallOutput, ContractLogicError) as error:
        raise ConfigError(f"{setting}: {address} does not answer {name}(): not the {contract}?") from error


def deploy_taker(web3: Web3, sender: Sender) -> tuple[str, str]:
    """Deploy a Taker that belongs to the sender's account: the transaction's hash and the contract's address."""
    if refusal := sender.refusal:
        raise ConfigError(refusal)
    assert sender.account is not None
    code = load_artifact("Taker")["bytecode"]
    gas = web3.eth.estimate_gas({"from": sender.account.address, "data": code})
    _, nonce = sender.counts()
    signed = sender.sign({"data": code, "value": 0, "gas": gas * 12 // 10}, nonce, sender.fees())  # type: ignore[typeddict-item]
    sender.send(signed.raw, signed.tx_hash)
    web3.eth.wait_for_transaction_receipt(signed.tx_hash, sender.receipt_timeout_seconds)  # type: ignore[arg-type]
    receipt = find_receipt(web3, signed.tx_hash)
    if receipt is None or receipt["status"] != 1 or receipt["contractAddress"] is None:
        raise ChainError(f"the Taker was not deployed: {signed.tx_hash}")
    return signed.tx_hash, str(receipt["contractAddress"])
