# pragma version 0.4.3
# pragma optimize codesize
# @license MIT
"""
@title Who may change what in a vault, and when
@notice Every vault obeys this contract and nobody else. A vault's admin makes a change safer at once; anything that
        could hurt a holder is announced by `queue`, waits the vault's delay and is made by `execute`, so that holders
        can leave before. A guardian stops things at once, for a limited time, and vetoes what is queued. A strategist
        moves targets within limits that bind the admin too. The table: docs/spec.md, Timelock.
        Nothing here moves a token, and nothing stops `redeem_in_kind`.
@custom:kill No owner and no switch. Without its admin a vault keeps its rules for ever.
"""
from ethereum.ercs import IERC20
from interfaces import IPriceOracle
from interfaces import IRuleBook
from interfaces import ITeller
from interfaces import ITimelock
from interfaces import IVault
from contracts.modules import bucket
from contracts.modules import portfolio
from contracts.modules import queue as changes
from contracts.modules import packing

implements: ITimelock
initializes: changes
exports: changes.ready_at


struct Terms:
    admin: address
    delay_seconds: uint256


event Registered:
    vault: indexed(address)
    admin: indexed(address)
    delay_seconds: uint256


event DelaySet:
    vault: indexed(address)
    delay_seconds: uint256


event AdminTransferStarted:
    vault: indexed(address)
    new_admin: indexed(address)


event AdminTransferred:
    vault: indexed(address)
    new_admin: indexed(address)


event TellerAdded:
    vault: indexed(address)
    teller: indexed(address)
    asset: indexed(address)


event TellerSet:
    teller: indexed(address)
    floor_bps: uint256
    surcharge_bps: uint256
    arbitrageable: bool


MAX_ASSETS: constant(uint256) = 16
MAX_BALANCE: constant(uint256) = 2**128 - 1  # what Vault.vy pays out of
BPS: constant(uint256) = 10**14  # one basis point as a WAD
MAX_BPS: constant(uint256) = 10**4  # 100 %
DAY: constant(uint256) = 86400
YEAR: constant(uint256) = 365 * DAY
MIN_DELAY: constant(uint256) = 2 * DAY
MAX_DELAY: constant(uint256) = 30 * DAY
STOP: constant(uint256) = 14 * DAY  # how long a pause and a quarantine last
STOP_GAP: constant(uint256) = 7 * DAY  # between the end of one and the next
STRATEGIST: constant(uint256) = 2  # roles of Vault.vy
GUARDIAN: constant(uint256) = 4
SET_ROLE: constant(bytes4) = method_id("set_role(address,address,uint256)", output_type=bytes4)

rule_book: public(immutable(address))
teller_implementation: public(immutable(address))

_terms: HashMap[address, uint256]  # by vault: admin 160 | delay in seconds
pending_admin: public(HashMap[address, address])  # by vault
vault_of: public(HashMap[address, address])  # by teller


@deploy
def __init__(rule_book_: address, teller_implementation_: address):
    rule_book = rule_book_
    teller_implementation = teller_implementation_


@external
def register(admin: address, delay_seconds: uint256):
    """
    @notice A vault places itself under this timelock, once.
    """
    assert self._terms[msg.sender] == 0, "already registered"
    assert admin != empty(address), "no owner"
    self._check_delay(delay_seconds)
    self._set_terms(msg.sender, admin, delay_seconds)
    log Registered(vault=msg.sender, admin=admin, delay_seconds=delay_seconds)


# Announce, wait, make


@external
def queue(vault: address, data: Bytes[changes.MAX_DATA]) -> bytes32:
    """
    @notice Announce a change. From the vault's delay on, and for 14 days, `execute` makes it.
    @param data A call of one of the functions below, with its arguments.
    """
    self._check_admin(vault)
    assert len(data) >= 36 and abi_decode(slice(data, 4, 32), address) == vault, "wrong vault"
    return changes._queue(vault, data, self._terms[vault] >> 160)


@external
def execute(vault: address, data: Bytes[changes.MAX_DATA]):
    self._check_admin(vault)
    changes._take(vault, data)
    raw_call(self, data)


@external
def cancel(vault: address, data: Bytes[changes.MAX_DATA]):
    """
    @notice Drop a queued change: the admin's second thoughts or a guardian's veto. A guardian's removal cannot be
            vetoed: else guardians could never be replaced.
    """
    if msg.sender != self._admin(vault):
        assert self._has(vault, GUARDIAN), "not admin or guardian"
        if convert(slice(data, 0, 4), bytes4) == SET_ROLE:
            account: address = abi_decode(slice(data, 36, 32), address)
            old: uint256 = staticcall IVault(vault).roles(account)
            new: uint256 = abi_decode(slice(data, 68, 32), uint256)
            assert old & GUARDIAN == 0 or new & ~old > 0, "no veto on a guardian's removal"
    changes._cancel(vault, data)


# At once: the strategist


@external
def set_targets(vault: address, targets_bps: DynArray[uint256, MAX_ASSETS]):
    """
    @notice Move the targets, within each asset's limits and the speed limit, which bind the admin too.
    """
    assert msg.sender == self._admin(vault) or self._has(vault, STRATEGIST), "not admin or strategist"
    settings: IVault.Settings = staticcall IVault(vault).settings()
    old: DynArray[uint256, MAX_ASSETS] = settings.words
    settings.words = self._with_field(old, portfolio.TARGET, targets_bps)
    path: uint256 = 0
    for i: uint256 in range(len(old), bound=MAX_ASSETS):
        before: uint256 = portfolio._target(old[i])
        after: uint256 = targets_bps[i] * BPS
        path += max(before, after) - min(before, after)
    rules: IVault.Rules = self._check_settings(settings)
    level: uint256 = self._speed_used(settings) + path
    assert level <= rules.speed_capacity_bps * BPS, "targets move too fast"
    settings.speed = bucket._pack(level)
    extcall IVault(vault).configure("set_targets", abi_encode(targets_bps), settings)


# At once: the guardian


@external
def pause(vault: address):
    """
    @notice Stop trades and priced flows for 14 days; again only 7 days after that. In-kind flows go on.
    """
    self._check_guardian(vault)
    settings: IVault.Settings = staticcall IVault(vault).settings()
    self._check_gap(settings.paused_until)
    self._set_pause(vault, settings, block.timestamp + STOP)


@external
def quarantine(vault: address, token: address):
    """
    @notice Set one asset aside for 14 days; again only 7 days after that. It leaves weights and trades and is not
            called; the other targets grow in proportion; priced flows stop; in kind goes on.
    """
    self._check_guardian(vault)
    settings: IVault.Settings = staticcall IVault(vault).settings()
    self._check_gap(settings.rules >> packing.ASIDE_UNTIL)
    index: uint256 = self._index(settings.words, token)
    until: uint256 = block.timestamp + STOP
    settings.rules = packing._with_aside(settings.rules, index, until)
    self._check_settings(settings)
    extcall IVault(vault).configure("quarantine", abi_encode(index, until), settings)


@external
def end_quarantine(vault: address):
    self._check_guardian(vault)
    settings: IVault.Settings = staticcall IVault(vault).settings()
    index: uint256 = packing._aside(settings.rules)
    assert index != portfolio.NO_ASSET, "no quarantine"
    settings.rules = packing._with_aside(settings.rules, index, block.timestamp)
    extcall IVault(vault).configure("quarantine", abi_encode(index, block.timestamp), settings)


@external
def drop_role(vault: address, account: address):
    """
    @notice Take the keeper's and strategist's roles from `account`.
    """
    assert msg.sender == self._admin(vault) or self._has(vault, GUARDIAN), "not admin or guardian"
    extcall IVault(vault).set_role(account, staticcall IVault(vault).roles(account) & GUARDIAN)


# Safer at once, anything else after the delay


@external
def set_rules(vault: address, rules: IVault.Rules):
    """
    @notice Lower slippage, loss budget or speed limit at once; any other change after the delay.
    """
    settings: IVault.Settings = staticcall IVault(vault).settings()
    old: IVault.Rules = packing._unpack_rules(settings.rules)
    if self._is_safer(old, rules):
        self._check_admin_or_delayed(vault)
    else:
        self._check_delayed()
    # what the buckets hold now was refilled at the old rates
    settings.loss = bucket._pack(bucket._level(settings.loss, packing._loss_refill(settings.rules), YEAR))
    settings.speed = bucket._pack(self._speed_used(settings))
    packed: uint256 = staticcall IRuleBook(rule_book).pack_rules(rules, settings.words)
    settings.session = staticcall IRuleBook(rule_book).renumber(settings.rules, packed, settings.session)
    settings.rules = packed | (settings.rules & packing.ASIDE_MASK)
    extcall IVault(vault).configure("set_rules", abi_encode(rules), settings)


@external
def set_fee(vault: address, fee_bps: uint256, fee_recipient: address):
    """
    @notice Lower the management fee at once; raise it or change who gets it after the delay.
    """
    same_recipient: bool = fee_recipient == staticcall IVault(vault).fee_recipient()
    if same_recipient and fee_bps <= staticcall IVault(vault).fee_bps():
        self._check_admin_or_delayed(vault)
    else:
        self._check_delayed()
    extcall IVault(vault).set_fee(fee_bps, fee_recipient)


# After the delay


@external
def set_bands(
    vault: address, points_bps: DynArray[uint256, MAX_ASSETS], relative_bps: DynArray[uint256, MAX_ASSETS]
):
    self._check_delayed()
    settings: IVault.Settings = staticcall IVault(vault).settings()
    settings.words = self._with_field(settings.words, portfolio.POINTS, points_bps)
    settings.words = self._with_field(settings.words, portfolio.RELATIVE, relative_bps)
    self._check_settings(settings)
    extcall IVault(vault).configure("set_bands", abi_encode(points_bps, relative_bps), settings)


@external
def set_limits(vault: address, min_bps: DynArray[uint256, MAX_ASSETS], max_bps: DynArray[uint256, MAX_ASSETS]):
    """
    @notice Set the least and the greatest target of each asset; the present targets must lie within.
    """
    self._check_delayed()
    settings: IVault.Settings = staticcall IVault(vault).settings()
    settings.words = self._with_field(settings.words, portfolio.MINIMUM, min_bps)
    settings.words = self._with_field(settings.words, portfolio.MAXIMUM, max_bps)
    self._check_settings(settings)
    extcall IVault(vault).configure("set_limits", abi_encode(min_bps, max_bps), settings)


@external
def add_asset(vault: address, asset: IVault.Asset):
    """
    @notice Append an asset with a target of 0; `set_targets` then moves into it.
    """
    self._check_delayed()
    settings: IVault.Settings = staticcall IVault(vault).settings()
    assert len(settings.words) < MAX_ASSETS, "too many assets"
    settings.words.append(staticcall IRuleBook(rule_book).pack_asset(asset))
    assert staticcall IERC20(asset.token).balanceOf(vault) <= MAX_BALANCE, "balance too large"
    self._check_settings(settings)
    self._check_prices(settings)
    extcall IVault(vault).configure("add_asset", abi_encode(asset), settings)


@external
def remove_asset(vault: address, token: address):
    """
    @notice Retire an asset with a target of 0 of which at most 1 bp of NAV is left. What is left belongs to nobody.
    """
    self._check_delayed()
    settings: IVault.Settings = staticcall IVault(vault).settings()
    index: uint256 = self._index(settings.words, token)
    assert portfolio._target(settings.words[index]) == 0, "target not 0"
    appraisal: IVault.Appraisal = staticcall IVault(vault).appraise(token)
    assert appraisal.held * MAX_BPS <= appraisal.nav, "still held"
    words: DynArray[uint256, MAX_ASSETS] = []
    for i: uint256 in range(len(settings.words), bound=MAX_ASSETS):
        if i != index:
            words.append(settings.words[i])
    settings.words = words
    self._check_settings(settings)
    extcall IVault(vault).configure("remove_asset", abi_encode(token), settings)


@external
def set_oracle(vault: address, oracle: address):
    self._check_delayed()
    settings: IVault.Settings = staticcall IVault(vault).settings()
    settings.oracle = oracle
    self._check_prices(settings)
    extcall IVault(vault).configure("set_oracle", abi_encode(oracle), settings)


@external
def set_role(vault: address, account: address, roles: uint256):
    """
    @param roles 1 keeper, 2 strategist, 4 guardian, added up.
    """
    self._check_delayed()
    extcall IVault(vault).set_role(account, roles)


@external
def unpause(vault: address):
    self._check_delayed()
    settings: IVault.Settings = staticcall IVault(vault).settings()
    self._set_pause(vault, settings, min(block.timestamp, settings.paused_until))


@external
def add_teller(
    vault: address,
    asset: address,
    floor_bps: uint256,
    surcharge_bps: uint256,
    burn_seconds: uint256,
    capacity_bps: uint256,
    refill_bps_per_day: uint256,
    arbitrageable: bool,
) -> address:
    """
    @notice Make a teller: priced deposits and withdrawals in one asset.
    @param burn_seconds Over which fees are burnt, for the holders.
    @param capacity_bps Of the supply: net flow that may go through it, refilled continuously.
    @param arbitrageable Admit fees too low to be safe from oracle arbitrage.
    """
    self._check_delayed()
    teller: address = create_minimal_proxy_to(teller_implementation)
    self.vault_of[teller] = vault
    extcall ITeller(teller).initialize(vault, asset, floor_bps, surcharge_bps, burn_seconds)
    self._set_teller(vault, teller, asset, floor_bps, surcharge_bps, capacity_bps, refill_bps_per_day, arbitrageable)
    log TellerAdded(vault=vault, teller=teller, asset=asset)
    return teller


@external
def set_teller(
    vault: address,
    teller: address,
    floor_bps: uint256,
    surcharge_bps: uint256,
    capacity_bps: uint256,
    refill_bps_per_day: uint256,
    arbitrageable: bool,
):
    """
    @notice Change a teller's fees and limit. A capacity of 0 ends its right.
    """
    self._check_delayed()
    assert self.vault_of[teller] == vault, "not a teller"
    extcall ITeller(teller).set_fees(floor_bps, surcharge_bps)
    asset: address = staticcall ITeller(teller).asset()
    self._set_teller(vault, teller, asset, floor_bps, surcharge_bps, capacity_bps, refill_bps_per_day, arbitrageable)


@external
def set_delay(vault: address, delay_seconds: uint256):
    self._check_delayed()
    self._check_delay(delay_seconds)
    self._set_terms(vault, self._admin(vault), delay_seconds)
    log DelaySet(vault=vault, delay_seconds=delay_seconds)


@external
def transfer_admin(vault: address, new_admin: address):
    """
    @notice Offer a vault's admin role; the zero address withdraws an offer.
    """
    self._check_delayed()
    self.pending_admin[vault] = new_admin
    log AdminTransferStarted(vault=vault, new_admin=new_admin)


@external
def accept_admin(vault: address):
    assert msg.sender == self.pending_admin[vault], "not pending admin"
    self._set_terms(vault, msg.sender, self._terms[vault] >> 160)
    self.pending_admin[vault] = empty(address)
    log AdminTransferred(vault=vault, new_admin=msg.sender)


@external
@view
def terms(vault: address) -> Terms:
    return Terms(admin=self._admin(vault), delay_seconds=self._terms[vault] >> 160)


# Who


@internal
@view
def _admin(vault: address) -> address:
    return convert(self._terms[vault] & (2**160 - 1), address)


@internal
def _set_terms(vault: address, admin: address, delay_seconds: uint256):
    self._terms[vault] = convert(admin, uint256) | (delay_seconds << 160)


@internal
@view
def _has(vault: address, role: uint256) -> bool:
    return staticcall IVault(vault).roles(msg.sender) & role != 0


@internal
@view
def _check_admin(vault: address):
    assert msg.sender == self._admin(vault), "not admin"


@internal
@view
def _check_guardian(vault: address):
    assert self._has(vault, GUARDIAN), "not guardian"


@internal
@view
def _check_delayed():
    """
    @dev The call comes from `execute`, which has compared its first argument, the vault, with the queue's.
    """
    assert msg.sender == self, "needs the delay"


@internal
@view
def _check_admin_or_delayed(vault: address):
    assert msg.sender in [self, self._admin(vault)], "not admin"


# What


@internal
@pure
def _is_safer(old: IVault.Rules, new: IVault.Rules) -> bool:
    """
    @return Whether slippage, loss budget and speed limit alone change, and none of them upwards.
    """
    same: IVault.Rules = old
    same.max_slippage_bps = min(old.max_slippage_bps, new.max_slippage_bps)
    same.loss_capacity_bps = min(old.loss_capacity_bps, new.loss_capacity_bps)
    same.loss_refill_bps_per_year = min(old.loss_refill_bps_per_year, new.loss_refill_bps_per_year)
    same.speed_capacity_bps = min(old.speed_capacity_bps, new.speed_capacity_bps)
    same.speed_refill_bps_per_day = min(old.speed_refill_bps_per_day, new.speed_refill_bps_per_day)
    return keccak256(abi_encode(same)) == keccak256(abi_encode(new))


@internal
@view
def _check_settings(settings: IVault.Settings) -> IVault.Rules:
    """
    @dev Rules and assets work together, and a quarantine leaves something to trade.
    """
    rules: IVault.Rules = packing._unpack_rules(settings.rules)
    assert staticcall IRuleBook(rule_book).pack_rules(rules, settings.words) > 0
    aside: uint256 = packing._aside(settings.rules)
    assert aside == portfolio.NO_ASSET or portfolio._target(settings.words[aside]) < MAX_BPS * BPS, "nothing left"
    return rules


@internal
@view
def _check_prices(settings: IVault.Settings):
    tokens: DynArray[address, MAX_ASSETS] = []
    for word: uint256 in settings.words:
        tokens.append(portfolio._token(word))
    prices: DynArray[uint256, MAX_ASSETS] = []
    statuses: DynArray[uint256, MAX_ASSETS] = []
    prices, statuses = staticcall IPriceOracle(settings.oracle).prices(tokens)
    assert len(prices) == len(tokens) and len(statuses) == len(tokens), "price not usable"
    aside: uint256 = packing._aside(settings.rules)
    for i: uint256 in range(len(tokens), bound=MAX_ASSETS):
        assert i == aside or (statuses[i] == 0 and prices[i] > 0), "price not usable"


@internal
@pure
def _check_delay(delay_seconds: uint256):
    assert delay_seconds >= MIN_DELAY and delay_seconds <= MAX_DELAY, "delay out of range"


@internal
@view
def _check_gap(last_until: uint256):
    assert last_until == 0 or block.timestamp >= last_until + STOP_GAP, "too soon after the last"


@internal
@view
def _speed_used(settings: IVault.Settings) -> uint256:
    return bucket._level(settings.speed, packing._speed_refill(settings.rules), DAY)


@internal
@pure
def _index(words: DynArray[uint256, MAX_ASSETS], token: address) -> uint256:
    for i: uint256 in range(len(words), bound=MAX_ASSETS):
        if portfolio._token(words[i]) == token:
            return i
    raise "not an asset"


@internal
@pure
def _with_field(
    words: DynArray[uint256, MAX_ASSETS], offset: uint256, bps: DynArray[uint256, MAX_ASSETS]
) -> DynArray[uint256, MAX_ASSETS]:
    """
    @return The words with one field of each replaced. `_check_settings` then checks them as a whole.
    """
    assert len(bps) == len(words), "wrong length"
    changed: DynArray[uint256, MAX_ASSETS] = []
    for i: uint256 in range(len(bps), bound=MAX_ASSETS):
        changed.append(portfolio._with(words[i], offset, bps[i]))
    return changed


@internal
def _set_pause(vault: address, settings: IVault.Settings, until: uint256):
    paused: IVault.Settings = settings
    paused.paused_until = until
    extcall IVault(vault).configure("pause", abi_encode(until), paused)


@internal
def _set_teller(
    vault: address,
    teller: address,
    asset: address,
    floor_bps: uint256,
    surcharge_bps: uint256,
    capacity_bps: uint256,
    refill_bps_per_day: uint256,
    arbitrageable: bool,
):
    if capacity_bps > 0:
        self._check_fees(vault, asset, floor_bps, surcharge_bps, arbitrageable)
    extcall IVault(vault).set_teller(teller, capacity_bps, refill_bps_per_day)
    log TellerSet(
        teller=teller, floor_bps=floor_bps, surcharge_bps=surcharge_bps, arbitrageable=arbitrageable
    )


@internal
@view
def _check_fees(vault: address, asset: address, floor_bps: uint256, surcharge_bps: uint256, arbitrageable: bool):
    settings: IVault.Settings = staticcall IVault(vault).settings()
    index: uint256 = self._index(settings.words, asset)
    error: uint256 = portfolio._price_error(settings.words[index])
    worst: uint256 = 0
    for word: uint256 in settings.words:
        worst = max(worst, portfolio._price_error(word))
    slippage: uint256 = packing._unpack_rules(settings.rules).max_slippage_bps
    assert arbitrageable or floor_bps >= error + worst, "floor below price errors"
    assert arbitrageable or surcharge_bps >= slippage, "surcharge below slippage"
