# pragma version 0.4.3
# pragma optimize codesize
"""
@title Evenkeel vault
@license MIT
@notice Holds a basket of tokens, issues shares in kind and accepts a keeper's trades only where they move the
        basket towards its target weights at a fair price. The path: mint_in_kind -> (trigger) -> rebalance ->
        redeem_in_kind; every rebalance and rule change extends `head`, the audit chain.
        Trusted: the oracle for prices (within each asset's declared error), the Timelock, which decides who may change
        what and when, for the rules, the Tellers it made for priced flows. Not trusted: keeper, strategist, executor,
        tokens' return values. Formulas, rounding and revert order: docs/spec.md.
@custom:kill The guardian's `pause` stops trades for 14 days. Nothing stops `redeem_in_kind`.
"""
from ethereum.ercs import IERC20
from interfaces import IVault
from interfaces import IExecutor
from interfaces import IRuleBook
from interfaces import ITimelock
from contracts.modules import shares
from contracts.modules import portfolio
from contracts.modules import bucket
from contracts.modules import packing
from contracts.modules import flow

initializes: shares

exports: (
    shares.name,
    shares.symbol,
    shares.decimals,
    shares.balanceOf,
    shares.allowance,
    shares.nonces,
    shares.totalSupply,
    shares.transfer,
    shares.transferFrom,
    shares.approve,
    shares.permit,
    shares.DOMAIN_SEPARATOR,
    shares.fee_bps,
    shares.fee_recipient,
    shares.pending_fee_shares,
    shares.collect_fee,
    shares.melting,
    shares.flow_sequence,
)


flag Role:
    KEEPER  # may rebalance
    STRATEGIST  # may set targets within limits
    GUARDIAN  # may pause trades, drop keepers and strategists


# Events


# The data of the next four is what is hashed: head' = keccak256(data). Its first word is the head before.


event Created:
    chain_id: uint256
    vault: address
    codehash: bytes32  # of the implementation
    config_hash: bytes32  # VaultFactory's event has what it hashes


event SessionOpened:
    previous_head: bytes32
    kind: uint256
    session: uint256
    by_calendar: bool
    slot: uint256
    time: uint256
    supply: uint256
    flow_sequence: uint256
    prices: DynArray[uint256, MAX_ASSETS]
    balances: DynArray[uint256, MAX_ASSETS]


event Rebalanced:
    keeper: indexed(address)
    previous_head: bytes32
    kind: uint256
    session: uint256
    time: uint256
    supply: uint256
    flow_sequence: uint256
    prices: DynArray[uint256, MAX_ASSETS]
    balances_before: DynArray[uint256, MAX_ASSETS]
    balances_after: DynArray[uint256, MAX_ASSETS]
    sells: DynArray[uint256, MAX_ASSETS]
    executor: address
    payload_hash: bytes32
    decision: bytes32


event RuleChanged:
    previous_head: bytes32
    kind: uint256
    name: String[20]  # the setter's
    time: uint256
    data: Bytes[1184]  # its arguments, ABI-encoded


event SessionClosed:
    session: uint256


event MintedInKind:
    caller: indexed(address)
    receiver: indexed(address)
    shares: uint256
    amounts: DynArray[uint256, MAX_ASSETS]
    flow_sequence: uint256


event RedeemedInKind:
    caller: indexed(address)
    receiver: indexed(address)
    owner: indexed(address)
    shares: uint256
    amounts: DynArray[uint256, MAX_ASSETS]
    skip: uint256
    flow_sequence: uint256


event Issued:
    teller: indexed(address)
    receiver: indexed(address)
    shares: uint256
    fee: uint256  # shares that melt
    asset: address
    paid: uint256
    flow_sequence: uint256


event Released:
    teller: indexed(address)
    owner: indexed(address)
    receiver: indexed(address)
    shares: uint256
    fee: uint256
    asset: address
    paid: uint256
    flow_sequence: uint256


# Constants

MAX_ASSETS: constant(uint256) = 16
MAX_PAYLOAD: constant(uint256) = 8192
WAD: constant(uint256) = 10**18
DAY: constant(uint256) = 86400
YEAR: constant(uint256) = 365 * DAY
MIN_SEED: constant(uint256) = 10**18  # USD WAD, and so many shares are dead
DEAD: constant(address) = 0x000000000000000000000000000000000000dEaD
MAX_BALANCE: constant(uint256) = 2**128 - 1  # more is left to the other holders on redeeming: nothing overflows
# topics of the audit entries, which are logged as the bytes that are hashed
CREATED: constant(bytes32) = keccak256("Created(uint256,address,bytes32,bytes32)")
SESSION_OPENED: constant(bytes32) = keccak256(
    "SessionOpened(bytes32,uint256,uint256,bool,uint256,uint256,uint256,uint256,uint256[],uint256[])"
)
REBALANCED: constant(bytes32) = keccak256(
    "Rebalanced(address,bytes32,uint256,uint256,uint256,uint256,uint256,uint256[],uint256[],uint256[],uint256[],address,bytes32,bytes32)"
)
RULE_CHANGED: constant(bytes32) = keccak256("RuleChanged(bytes32,uint256,string,uint256,bytes)")
EXECUTED: constant(bytes4) = method_id("execute(bytes)", output_type=bytes4)

# kinds of audit entry
SESSION: constant(uint256) = 1
REBALANCE: constant(uint256) = 2
RULE: constant(uint256) = 3

# Storage

implementation: public(immutable(address))
rule_book: public(immutable(address))
timelock: public(immutable(address))

head: public(bytes32)
roles: public(HashMap[address, Role])
_oracle: uint256  # oracle 160 | paused until 40
_words: uint256[MAX_ASSETS]  # portfolio.vy: read by `_assets`
_rules: uint256  # packing.vy
_trading: uint256  # packing.vy: session, and NAV lost and at risk in trades
_speed: uint256  # bucket.vy: path length of the targets
_flows: HashMap[address, uint256]  # flow.vy: of each teller; 0: no teller


@deploy
def __init__(rule_book_: address, timelock_: address):
    implementation = self
    rule_book = rule_book_
    timelock = timelock_
    self.head = keccak256("implementation")  # locked: only clones can be initialised


@external
@nonreentrant
def initialize(setup: IVault.Setup, creator: address):
    """
    @notice Set the rules and mint the NAV of the seed, which is here already, in shares: 1 share = 1 USD. MIN_SEED of
            them are dead, so that the supply never returns to zero.
    """
    assert self.head == empty(bytes32), "already initialized"
    genesis: Bytes[128] = abi_encode(chain.id, self, implementation.codehash, setup.config_hash)
    self.head = keccak256(genesis)
    raw_log([CREATED], genesis)

    shares._set_name(setup.name, setup.symbol)
    self.roles[setup.guardian] |= Role.GUARDIAN
    self.roles[setup.strategist] |= Role.STRATEGIST
    for keeper: address in setup.keepers:
        self.roles[keeper] |= Role.KEEPER
    self.roles[empty(address)] = empty(Role)
    shares._set_fee(setup.fee_bps, setup.fee_recipient)
    self._set(setup.settings)
    extcall ITimelock(timelock).register(setup.owner, setup.delay_seconds)

    nav: uint256 = self._appraise(portfolio._token(setup.settings.words[0])).nav
    assert nav > MIN_SEED, "seed below 1 USD"
    shares._mint(shares._current(), DEAD, MIN_SEED)
    shares._mint(shares._current(), creator, nav - MIN_SEED)


# In kind: permissionless, exactly pro rata, no oracle


@external
@nonreentrant
def mint_in_kind(
    amount: uint256, max_amounts: DynArray[uint256, MAX_ASSETS], receiver: address
) -> DynArray[uint256, MAX_ASSETS]:
    """
    @notice Mint `amount` shares for the pro rata part of every asset, rounded up.
    @param max_amounts The most the caller will pay of each asset.
    """
    assert amount > 0, "zero shares"
    words: DynArray[uint256, MAX_ASSETS] = self._assets()
    assert len(max_amounts) == len(words), "wrong length"
    ledger: shares.Ledger = shares._current()
    assert ledger.supply > 0, "not initialized"
    entry: uint256 = shares._entry_supply(ledger)
    amounts: DynArray[uint256, MAX_ASSETS] = []
    for i: uint256 in range(len(words), bound=MAX_ASSETS):
        token: address = portfolio._token(words[i])
        balance: uint256 = staticcall IERC20(token).balanceOf(self)
        needed: uint256 = self._mint_amount(balance, amount, entry)
        assert needed <= max_amounts[i], "amount above maximum"
        self._pull(token, balance, needed)
        amounts.append(needed)
    ledger.flow_sequence += 1
    shares._mint(ledger, receiver, amount)
    log MintedInKind(
        caller=msg.sender, receiver=receiver, shares=amount, amounts=amounts, flow_sequence=ledger.flow_sequence
    )
    return amounts


@external
@nonreentrant
def redeem_in_kind(
    amount: uint256,
    receiver: address,
    owner: address,
    min_amounts: DynArray[uint256, MAX_ASSETS],
    skip: uint256,
) -> DynArray[uint256, MAX_ASSETS]:
    """
    @notice Burn `amount` shares for the pro rata part of every asset, rounded down. Nothing can pause it.
    @param min_amounts The least the receiver must be sent of each asset that is not skipped.
    @param skip Bitmask of assets to leave to the other holders: they are not called at all.
    """
    assert amount > 0, "zero shares"
    shares._check_receiver(receiver)
    words: DynArray[uint256, MAX_ASSETS] = self._assets()
    assert len(min_amounts) == len(words), "wrong length"
    if msg.sender != owner:
        shares._spend_allowance(owner, msg.sender, amount)
    ledger: shares.Ledger = shares._current()
    supply: uint256 = ledger.supply
    ledger.flow_sequence += 1
    shares._burn(ledger, owner, amount)
    amounts: DynArray[uint256, MAX_ASSETS] = []
    for i: uint256 in range(len(words), bound=MAX_ASSETS):
        paid: uint256 = 0
        if (skip >> i) & 1 == 0:
            token: address = portfolio._token(words[i])
            paid = self._redeem_amount(staticcall IERC20(token).balanceOf(self), amount, supply)
            assert paid >= min_amounts[i], "amount below minimum"
            self._push(token, receiver, paid)
        amounts.append(paid)
    log RedeemedInKind(
        caller=msg.sender,
        receiver=receiver,
        owner=owner,
        shares=amount,
        amounts=amounts,
        skip=skip,
        flow_sequence=ledger.flow_sequence,
    )
    return amounts


# Priced: only by a teller that the Timelock made, within its flow limit


@external
@nonreentrant
def issue(receiver: address, amount: uint256, fee: uint256, melt_seconds: uint256, asset: address, paid: uint256):
    """
    @notice Mint `amount` shares for the `paid` of `asset` that the teller has brought.
    @param fee Shares of nobody beside them, which melt over `melt_seconds`.
    """
    ledger: shares.Ledger = self._open_flow()
    self._charge(ledger.supply, amount + fee, True)
    shares._mint(shares._melt(ledger, fee, melt_seconds), receiver, amount)
    log Issued(
        teller=msg.sender,
        receiver=receiver,
        shares=amount,
        fee=fee,
        asset=asset,
        paid=paid,
        flow_sequence=ledger.flow_sequence,
    )


@external
@nonreentrant
def release(
    operator: address,
    owner: address,
    amount: uint256,
    fee: uint256,
    melt_seconds: uint256,
    asset: address,
    paid: uint256,
    receiver: address,
):
    """
    @notice Burn `amount` shares of `owner` on behalf of `operator` and send `paid` of `asset` for them.
    @param fee Of them, those that are not burnt at once but melt over `melt_seconds`.
    """
    shares._check_receiver(receiver)
    ledger: shares.Ledger = self._open_flow()
    assert fee <= amount, "fee above shares"
    if operator != owner:
        shares._spend_allowance(owner, operator, amount)
    self._charge(ledger.supply, amount, False)
    shares._burn(shares._melt(ledger, fee, melt_seconds), owner, amount)
    self._push(asset, receiver, paid)
    log Released(
        teller=msg.sender,
        owner=owner,
        receiver=receiver,
        shares=amount,
        fee=fee,
        asset=asset,
        paid=paid,
        flow_sequence=ledger.flow_sequence,
    )


@external
@view
@nonreentrant
def appraise(asset: address) -> IVault.Appraisal:
    """
    @notice What a teller prices a flow by. Reverts whenever priced flows stop.
    """
    self._check_not_paused()
    appraisal: IVault.Appraisal = self._appraise(asset)
    ledger: shares.Ledger = shares._current()
    appraisal.supply = ledger.supply
    appraisal.entry_supply = shares._entry_supply(ledger)
    return appraisal


@external
@view
@nonreentrant
def flow_room(teller: address) -> (uint256, uint256):
    """
    @return What `teller` may still issue, and release, WAD of the supply.
    """
    return flow._room(self._flows[teller])


# The one door for trades


@external
@nonreentrant
def open_session() -> uint256:
    """
    @notice Open a session while the trigger holds. Anyone may.
    @return The session's id.
    """
    self._check_not_paused()
    entered: IRuleBook.Entered = self._enter(self._assets(), [], (self._trading & packing.SESSION_ID) + 1)
    session: IVault.Session = packing._unpack_session(entered.trading)
    ledger: shares.Ledger = shares._current()
    entry: Bytes[1408] = abi_encode(
        self.head,
        SESSION,
        session.id,
        session.by_calendar,
        session.slot,
        block.timestamp,
        ledger.supply,
        ledger.flow_sequence,
        entered.prices,
        entered.balances,
    )
    self.head = keccak256(entry)
    raw_log([SESSION_OPENED], entry)
    return session.id


@external
@nonreentrant
def rebalance(
    sells: DynArray[uint256, MAX_ASSETS],
    executor: address,
    payload: Bytes[MAX_PAYLOAD],
    decision: bytes32,
    session: uint256,
    deadline: uint256,
):
    """
    @notice Send overweight assets to `executor`, run it, and accept the outcome only if every trade rule holds.
    @param sells The most to send of each asset; clipped to what the asset is above its target.
    @param payload What the executor is given.
    @param decision Hash of the keeper's record of why.
    @param session The open session's id, or the next one's, which this call then opens.
    """
    assert Role.KEEPER in self.roles[msg.sender], "not keeper"
    assert block.timestamp <= deadline, "deadline passed"
    self._check_not_paused()
    words: DynArray[uint256, MAX_ASSETS] = self._assets()
    assert len(sells) == len(words), "wrong length"
    assert executor not in [self, self._oracle_address()], "executor not allowed"
    for word: uint256 in words:
        assert executor != portfolio._token(word), "executor not allowed"

    entered: IRuleBook.Entered = self._enter(words, sells, session)
    for i: uint256 in range(len(words), bound=MAX_ASSETS):
        self._push(portfolio._token(words[i]), executor, entered.sends[i])
    assert extcall IExecutor(executor).execute(payload) == EXECUTED, "executor did not answer"

    settled: IRuleBook.Settled = staticcall IRuleBook(rule_book).settle(
        words,
        self._rules,
        entered.trading,
        entered.prices,
        entered.balances,
        entered.sends,
    )
    self._trading = settled.trading
    id: uint256 = settled.trading & packing.SESSION_ID
    if settled.closes:
        log SessionClosed(session=id)

    ledger: shares.Ledger = shares._current()
    entry: Bytes[2592] = abi_encode(
        self.head,
        REBALANCE,
        id,
        block.timestamp,
        ledger.supply,
        ledger.flow_sequence,
        entered.prices,
        entered.balances,
        settled.balances,
        sells,
        executor,
        keccak256(payload),
        decision,
    )
    self.head = keccak256(entry)
    raw_log([REBALANCED, convert(msg.sender, bytes32)], entry)


# Views


@external
@view
def oracle() -> address:
    return self._oracle_address()


@external
@view
def paused_until() -> uint256:
    """
    @return When the pause ends, or ended.
    """
    return self._oracle >> 160


@external
@view
def assets() -> DynArray[address, MAX_ASSETS]:
    tokens: DynArray[address, MAX_ASSETS] = []
    words: DynArray[uint256, MAX_ASSETS] = self._assets()
    for word: uint256 in words:
        tokens.append(portfolio._token(word))
    return tokens


@external
@view
def basket() -> DynArray[IVault.Asset, MAX_ASSETS]:
    return staticcall IRuleBook(rule_book).unpack_assets(self._assets())


@external
@view
def rules() -> IVault.Rules:
    return packing._unpack_rules(self._rules)


@external
@view
@nonreentrant
def session() -> IVault.Session:
    return packing._unpack_session(self._trading)


@external
@view
@nonreentrant
def balances() -> DynArray[uint256, MAX_ASSETS]:
    return self._balances(self._assets())


@external
@view
@nonreentrant
def preview_mint_in_kind(amount: uint256) -> DynArray[uint256, MAX_ASSETS]:
    supply: uint256 = shares._entry_supply(shares._current())
    amounts: DynArray[uint256, MAX_ASSETS] = []
    balances: DynArray[uint256, MAX_ASSETS] = self._balances(self._assets())
    for balance: uint256 in balances:
        amounts.append(self._mint_amount(balance, amount, supply))
    return amounts


@external
@view
@nonreentrant
def preview_redeem_in_kind(amount: uint256, skip: uint256) -> DynArray[uint256, MAX_ASSETS]:
    supply: uint256 = shares._current().supply
    words: DynArray[uint256, MAX_ASSETS] = self._assets()
    amounts: DynArray[uint256, MAX_ASSETS] = []
    for i: uint256 in range(len(words), bound=MAX_ASSETS):
        paid: uint256 = 0
        if (skip >> i) & 1 == 0:
            balance: uint256 = staticcall IERC20(portfolio._token(words[i])).balanceOf(self)
            paid = self._redeem_amount(balance, amount, supply)
        amounts.append(paid)
    return amounts


@external
@view
@nonreentrant
def loss_budget_used() -> uint256:
    return bucket._level(packing._loss_of(self._trading), packing._loss_refill(self._rules), YEAR)


@external
@view
def speed_budget_used() -> uint256:
    return bucket._level(self._speed, packing._speed_refill(self._rules), DAY)


# The Timelock's doors: it has checked who, what and when


@external
@view
@nonreentrant
def settings() -> IVault.Settings:
    return IVault.Settings(
        words=self._assets(),
        rules=self._rules,
        session=packing._session_of(self._trading),
        loss=packing._loss_of(self._trading),
        speed=self._speed,
        oracle=self._oracle_address(),
        paused_until=self._oracle >> 160,
    )


@external
@nonreentrant
def configure(name: String[20], data: Bytes[1184], settings: IVault.Settings):
    """
    @notice Replace the settings.
    @param name The Timelock's function, and `data` its ABI-encoded arguments but the vault: for the audit chain.
    """
    self._check_timelock()
    self._set(settings)
    self._record(name, data)


@external
@nonreentrant
def set_fee(fee_bps: uint256, fee_recipient: address):
    self._check_timelock()
    shares._set_fee(fee_bps, fee_recipient)
    self._record("set_fee", abi_encode(fee_bps, fee_recipient))


@external
@nonreentrant
def set_role(account: address, roles: Role):
    self._check_timelock()
    assert account != empty(address), "no account"
    self.roles[account] = roles
    self._record("set_role", abi_encode(account, roles))


@external
@nonreentrant
def set_teller(teller: address, capacity_bps: uint256, refill_bps_per_day: uint256):
    """
    @notice Let `teller` issue and release within a net flow in bps of the supply; a capacity of 0 ends its right.
    """
    self._check_timelock()
    self._flows[teller] = (
        flow._limit(self._flows[teller], capacity_bps, refill_bps_per_day) if capacity_bps > 0 else 0
    )
    self._record("set_teller", abi_encode(teller, capacity_bps, refill_bps_per_day))


# The rule book


@internal
def _enter(
    words: DynArray[uint256, MAX_ASSETS], sells: DynArray[uint256, MAX_ASSETS], id: uint256
) -> IRuleBook.Entered:
    """
    @dev Join session `id`, or open it. Stored before anything is called that is not trusted.
    """
    entered: IRuleBook.Entered = staticcall IRuleBook(rule_book).enter(
        words, self._rules, self._trading, self._oracle_address(), sells, id
    )
    self._trading = entered.trading
    return entered


@internal
@view
def _oracle_address() -> address:
    return convert(self._oracle & (2**160 - 1), address)


@internal
@view
def _appraise(asset: address) -> IVault.Appraisal:
    return staticcall IRuleBook(rule_book).appraise(self._assets(), self._rules, self._oracle_address(), asset)


# A teller's flow


@internal
def _open_flow() -> shares.Ledger:
    """
    @return The ledger, with the flow counted.
    """
    assert self._flows[msg.sender] > 0, "not teller"
    self._check_not_paused()
    assert packing._aside(self._rules) == portfolio.NO_ASSET, "quarantined"
    ledger: shares.Ledger = shares._current()
    ledger.flow_sequence += 1
    return ledger


@internal
def _charge(supply: uint256, amount: uint256, inward: bool):
    points: int256 = convert((amount * WAD + supply - 1) // supply, int256)  # up: charge more
    self._flows[msg.sender] = flow._charge(self._flows[msg.sender], points if inward else -points)


# Reading and moving tokens


@internal
@view
def _assets() -> DynArray[uint256, MAX_ASSETS]:
    """
    @return The basket's words. Their number is in the first: a word less to read.
    """
    words: DynArray[uint256, MAX_ASSETS] = []
    for i: uint256 in range(self._words[0] >> portfolio.COUNT, bound=MAX_ASSETS):
        words.append(self._words[i] & portfolio.WORD)
    return words


@internal
@view
def _balances(words: DynArray[uint256, MAX_ASSETS]) -> DynArray[uint256, MAX_ASSETS]:
    balances: DynArray[uint256, MAX_ASSETS] = []
    for word: uint256 in words:
        balances.append(staticcall IERC20(portfolio._token(word)).balanceOf(self))
    return balances


@internal
@pure
def _mint_amount(balance: uint256, amount: uint256, supply: uint256) -> uint256:
    return (balance * amount + supply - 1) // supply  # up: for the vault


@internal
@pure
def _redeem_amount(balance: uint256, amount: uint256, supply: uint256) -> uint256:
    return min(balance, MAX_BALANCE) * amount // supply  # down: for the vault


@internal
def _pull(token: address, balance: uint256, amount: uint256):
    """
    @dev Take `amount` from the caller into a vault that holds `balance`, and measure that it came.
    """
    if amount == 0:
        return
    assert extcall IERC20(token).transferFrom(msg.sender, self, amount, default_return_value=True), "transfer failed"
    assert staticcall IERC20(token).balanceOf(self) >= balance + amount, "received less than asked"


@internal
def _push(token: address, receiver: address, amount: uint256):
    if amount == 0:
        return
    assert extcall IERC20(token).transfer(receiver, amount, default_return_value=True), "transfer failed"


# Store, record


@internal
@view
def _check_timelock():
    assert msg.sender == timelock, "not timelock"


@internal
@view
def _check_not_paused():
    assert block.timestamp >= self._oracle >> 160, "paused"


@internal
def _set(settings: IVault.Settings):
    for i: uint256 in range(len(settings.words), bound=MAX_ASSETS):
        self._words[i] = settings.words[i]
    self._words[0] |= len(settings.words) << portfolio.COUNT
    self._rules = settings.rules
    self._trading = packing._pack_trading(settings.session, settings.loss)
    self._speed = settings.speed
    self._oracle = convert(settings.oracle, uint256) | (settings.paused_until << 160)


@internal
def _record(name: String[20], data: Bytes[1184]):
    entry: Bytes[1440] = abi_encode(self.head, RULE, name, block.timestamp, data)
    self.head = keccak256(entry)
    raw_log([RULE_CHANGED], entry)
