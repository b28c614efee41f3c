# pragma version 0.4.3
"""
@title Auction: a keeper that anyone can operate
@license MIT
@notice For when a vault's keeper is silent. In a session that is older than the grace period anyone may buy what the
        vault has too much of, with what it has too little of: open_session (at the vault) -> quote -> fill. The price
        is the live oracle's, first `start_bps` better for the vault, falling to its maximum slippage; nothing is stored
        between fills. A vault lets the auction in by giving it the keeper's role, and knows nothing else of it.
        Trusted by vaults with a keeper's power at most: they check every trade themselves. Trusted by fillers with
        their allowances: only who calls `fill` is charged, at most `max_pay`, and only while that call runs. Not
        trusted: vaults (anything can pose as one; the caller chooses it), their oracles and tokens, fillers.
        Formulas and rounding: docs/spec.md.
@custom:kill It has no owner. A vault stops it by dropping its role, or by a pause; a filler by revoking its allowance.
"""
from ethereum.ercs import IERC20
from interfaces import IFiller
from interfaces import IPriceOracle
from interfaces import IVault
from contracts.modules import bucket
from contracts.modules import portfolio
from contracts.modules import packing


interface Vault:
    def rebalance(
        sells: DynArray[uint256, MAX_ASSETS],
        executor: address,
        payload: Bytes[MAX_PAYLOAD],
        decision: bytes32,
        session: uint256,
        deadline: uint256,
    ): nonpayable


event Filled:
    vault: indexed(address)
    filler: indexed(address)
    session: uint256
    sell: address
    buy: address
    sold: uint256
    paid: uint256
    receiver: address


struct Order:  # what the vault hands back to `execute`
    vault: address
    filler: address
    receiver: address
    sell: address
    sold: uint256
    buy: address
    owed: uint256
    data: Bytes[MAX_DATA]


struct Offer:  # what can be filled now
    session: uint256
    assets: uint256  # their number
    sell_index: uint256
    sold: uint256  # units of the sold token
    owed: uint256  # units of the bought token


struct Side:  # one asset of the exchange
    index: uint256
    price: uint256  # USD WAD per whole token
    scale: uint256  # 10**decimals
    target: uint256  # WAD
    held: uint256  # USD WAD
    error: uint256  # bps


# Constants

MAX_ASSETS: constant(uint256) = 16
MAX_DATA: constant(uint256) = 4096
MAX_PAYLOAD: constant(uint256) = 4448  # an Order, ABI-encoded
WAD: constant(uint256) = 10**18
BPS: constant(uint256) = 10**14  # one basis point as a WAD
YEAR: constant(uint256) = 365 * 86400
MAX_START: constant(uint256) = 1000  # bps
WEIGHT_UNIT: constant(uint256) = 1  # WAD: the vault rounds a weight and a gain down, together by less than two
DUST: constant(uint256) = 100  # WAD of weight: below, the vault's own rounding decides whether drift fell
DECISION: public(constant(bytes32)) = 0x61756374696f6e2066696c6c0000000000000000000000000000000000000000  # "auction fill"
EXECUTED: constant(bytes4) = method_id("execute(bytes)", output_type=bytes4)
FILLED: constant(bytes4) = method_id(
    "on_fill(address,uint256,address,uint256,bytes)", output_type=bytes4
)
NOTHING: constant(bytes32) = 0x0000000000000000000000000000000000000000000000000000000000000001  # not 0: costs less

# Storage

grace_seconds: public(immutable(uint256))  # from the session's start, for the vault's own keepers
decay_seconds: public(immutable(uint256))  # from the first price to the last
start_bps: public(immutable(uint256))  # of the first price, in the vault's favour

expected: bytes32  # hash of the order that may be executed now


@deploy
def __init__(grace_seconds_: uint256, decay_seconds_: uint256, start_bps_: uint256):
    assert decay_seconds_ > 0, "decay 0"
    assert start_bps_ <= MAX_START, "start too high"
    grace_seconds = grace_seconds_
    decay_seconds = decay_seconds_
    start_bps = start_bps_
    self.expected = NOTHING


# Permissionless


@external
@nonreentrant
def fill(
    vault: address,
    session: uint256,
    sell: address,
    buy: address,
    max_sell: uint256,
    max_pay: uint256,
    receiver: address,
    data: Bytes[MAX_DATA],
    deadline: uint256,
) -> (uint256, uint256):
    """
    @notice Buy up to `max_sell` of `sell` from the vault at the auction's price. The caller has approved `buy` to this
            contract. More than there is to sell is no error: the fill is as large as the vault can accept.
    @dev The caller answers for `vault`: an impostor can take `max_pay` and give nothing, from nobody else.
    @param session The vault's open session; in another the vault refuses
    @param sell What the vault gives, an asset above its target
    @param buy What the vault gets, an asset below its target
    @param max_pay Most of `buy` to pay
    @param receiver Who gets `sell`
    @param data If not empty, the caller's `on_fill` is called with it before the payment is pulled
    @param deadline Seconds, UTC
    @return What was sold and what was paid for it
    """
    assert receiver not in [empty(address), self, vault], "receiver not allowed"
    offer: Offer = self._offer(vault, sell, buy, max_sell)
    assert offer.owed <= max_pay, "pays above maximum"

    sells: DynArray[uint256, MAX_ASSETS] = []
    for i: uint256 in range(offer.assets, bound=MAX_ASSETS):
        sells.append(offer.sold if i == offer.sell_index else 0)
    payload: Bytes[MAX_PAYLOAD] = abi_encode(
        Order(
            vault=vault,
            filler=msg.sender,
            receiver=receiver,
            sell=sell,
            sold=offer.sold,
            buy=buy,
            owed=offer.owed,
            data=data,
        )
    )
    self.expected = keccak256(payload)
    extcall Vault(vault).rebalance(sells, self, payload, DECISION, session, deadline)
    # else an impostor could keep the order and charge the caller whenever it likes
    assert self.expected == NOTHING, "vault did not trade"

    log Filled(
        vault=vault,
        filler=msg.sender,
        session=session,
        sell=sell,
        buy=buy,
        sold=offer.sold,
        paid=offer.owed,
        receiver=receiver,
    )
    return offer.sold, offer.owed


@external
def execute(payload: Bytes[MAX_PAYLOAD]) -> bytes4:
    """
    @notice The vault's call while a fill runs: pass on what it sold, and take for it what the filler owes.
    @dev Only the order of the running fill, from its vault, once.
    """
    assert keccak256(payload) == self.expected, "not the running fill"
    order: Order = abi_decode(payload, Order)
    assert msg.sender == order.vault, "not the vault"
    self.expected = NOTHING

    balance: uint256 = staticcall IERC20(order.sell).balanceOf(order.receiver)
    assert extcall IERC20(order.sell).transfer(order.receiver, order.sold, default_return_value=True), "transfer failed"
    assert staticcall IERC20(order.sell).balanceOf(order.receiver) >= balance + order.sold, "received less than asked"

    if len(order.data) > 0:
        assert extcall IFiller(order.filler).on_fill(
            order.sell, order.sold, order.buy, order.owed, order.data
        ) == FILLED, "filler did not answer"

    balance = staticcall IERC20(order.buy).balanceOf(order.vault)
    assert extcall IERC20(order.buy).transferFrom(
        order.filler, order.vault, order.owed, default_return_value=True
    ), "transfer failed"
    assert staticcall IERC20(order.buy).balanceOf(order.vault) >= balance + order.owed, "received less than asked"
    return EXECUTED


# Views


@external
@view
@nonreentrant
def quote(vault: address, sell: address, buy: address, max_sell: uint256) -> (uint256, uint256, uint256):
    """
    @notice What `fill` would do now; it reverts where `fill` would.
    @return The session, the amount of `sell` that would be sold, and the amount of `buy` owed for it
    """
    offer: Offer = self._offer(vault, sell, buy, max_sell)
    return offer.session, offer.sold, offer.owed


# How much, and for how much


@internal
@view
def _offer(vault: address, sell: address, buy: address, max_sell: uint256) -> Offer:
    settings: IVault.Settings = staticcall IVault(vault).settings()  # locked while a trade runs
    rules: IVault.Rules = packing._unpack_rules(settings.rules)
    session: IVault.Session = packing._unpack_session(settings.session)
    assert block.timestamp >= settings.paused_until, "paused"
    assert (
        session.id > 0 and session.closed_at == 0 and block.timestamp < session.opened_at + rules.window_seconds
    ), "no session"
    factor: uint256 = self._price_factor(session.opened_at, rules.max_slippage_bps)

    nav: uint256 = 0
    s: Side = empty(Side)
    b: Side = empty(Side)
    nav, s, b = self._sides(vault, settings.words, packing._aside(settings.rules), settings.oracle, sell, buy)

    # USD WAD, rounded down like all that limits the fill
    value: uint256 = min(self._surplus(s, nav, factor), self._gap(b, nav, factor))
    used: uint256 = bucket._level(settings.loss, packing._loss_refill(settings.rules), YEAR)
    value = min(value, self._affordable(s, b, nav, factor, rules.loss_capacity_bps * BPS, used))
    sold: uint256 = min(max_sell, value * s.scale // s.price)  # down: sell less
    value = self._ceil_div(sold * s.price, s.scale)  # up: charge more, as is each of the next two
    assert value * WAD > DUST * nav, "nothing to fill"
    owed: uint256 = self._ceil_div(self._ceil_div(value * factor, WAD) * b.scale, b.price)
    return Offer(
        session=session.id, assets=len(settings.words), sell_index=s.index, sold=sold, owed=owed
    )


@internal
@view
def _price_factor(opened_at: uint256, max_slippage_bps: uint256) -> uint256:
    """
    @return WAD of the oracle's price that the filler pays.
    """
    starts_at: uint256 = opened_at + grace_seconds
    assert block.timestamp >= starts_at, "grace not over"
    elapsed: uint256 = min(block.timestamp - starts_at, decay_seconds)
    fall: uint256 = (start_bps + max_slippage_bps) * BPS * elapsed // decay_seconds  # down: a higher price
    return WAD + start_bps * BPS - fall


@internal
@view
def _sides(
    vault: address,
    words: DynArray[uint256, MAX_ASSETS],
    aside: uint256,
    oracle: address,
    sell: address,
    buy: address,
) -> (uint256, Side, Side):
    """
    @return The NAV, and what is known of the sold and of the bought asset.
    """
    tokens: DynArray[address, MAX_ASSETS] = []
    for word: uint256 in words:
        tokens.append(portfolio._token(word))
    prices: DynArray[uint256, MAX_ASSETS] = []
    statuses: DynArray[uint256, MAX_ASSETS] = []
    prices, statuses = staticcall IPriceOracle(oracle).prices(tokens)
    assert len(prices) == len(words) and len(statuses) == len(words), "price not usable"
    whole: uint256 = portfolio._whole(words, aside)

    nav: uint256 = 0
    s: Side = empty(Side)
    b: Side = empty(Side)
    for i: uint256 in range(len(words), bound=MAX_ASSETS):
        if i == aside:
            assert tokens[i] not in [sell, buy], "quarantined"
            continue
        assert statuses[i] == 0 and prices[i] > 0, "price not usable"
        held: uint256 = portfolio._value(words[i], prices[i], staticcall IERC20(tokens[i]).balanceOf(vault))
        nav += held
        if tokens[i] in [sell, buy]:
            side: Side = Side(
                index=i,
                price=prices[i],
                scale=portfolio._scale(words[i]),
                target=portfolio._share(words[i], whole, False),
                held=held,
                error=portfolio._price_error(words[i]),
            )
            if tokens[i] == sell:
                s = side
            else:
                b = side
    assert s.scale > 0 and b.scale > 0, "not an asset"
    return nav, s, b


@internal
@pure
def _surplus(s: Side, nav: uint256, factor: uint256) -> uint256:
    """
    @return What may be sold before the asset is down to its target, of the NAV as it is after the fill.
    """
    wanted: uint256 = self._ceil_div(nav * (s.target + WEIGHT_UNIT), WAD)  # up: sell less
    if s.held <= wanted:
        return 0
    gained: uint256 = max(factor, WAD) - WAD  # part of what is sold; up, below: sell less
    return (s.held - wanted) * WAD // (WAD + self._ceil_div(s.target * gained, WAD))


@internal
@pure
def _gap(b: Side, nav: uint256, factor: uint256) -> uint256:
    """
    @return What may be sold before the payment lifts the bought asset to its target, of the NAV as it is after the
            fill: held + factor * x <= target * (nav - x + factor * x).
    """
    wanted: uint256 = nav * b.target // WAD  # down: buy less
    filled: uint256 = b.held + self._rounding(b)
    if wanted <= filled:
        return 0
    return (wanted - filled) * WAD // (b.target + self._ceil_div((WAD - b.target) * factor, WAD))


@internal
@pure
def _affordable(s: Side, b: Side, nav: uint256, factor: uint256, capacity: uint256, used: uint256) -> uint256:
    """
    @return What may be sold before the vault's loss budget is used up: it charges what is lost, and the prices'
            errors on both sides.
    """
    cost: uint256 = (  # WAD of what is sold; up: sell less
        WAD - min(factor, WAD) + s.error * BPS + self._ceil_div(b.error * BPS * factor, WAD)
    )
    room: uint256 = (max(capacity, used + 1) - used - 1) * nav  # the vault rounds two charges up: by less than 2
    room -= min(room, b.error * BPS * self._rounding(b))
    return room // cost if cost > 0 else max_value(uint256)


@internal
@pure
def _rounding(b: Side) -> uint256:
    """
    @return By how much rounding up may raise the value of the payment.
    """
    return self._ceil_div(b.price, b.scale) + 1


@internal
@pure
def _ceil_div(x: uint256, y: uint256) -> uint256:
    return (x + y - 1) // y
