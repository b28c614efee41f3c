# pragma version 0.4.3
# pragma optimize codesize
"""
@title Evenkeel vault
@license MIT
@notice Holds a basket of tokens, issues shares in kind and accepts a keeper's trades only where they move the
        basket towards its target weights at a fair price. The path: mint_in_kind -> (trigger) -> rebalance ->
        redeem_in_kind; every rebalance and rule change extends `head`, the audit chain.
        Trusted: the oracle for prices (within each asset's declared error), the owner for the rules. Not trusted:
        keeper, strategist, executor, tokens' return values. Formulas, rounding and revert order: docs/spec.md.
@custom:kill The guardian's `pause` stops trades for 14 days. Nothing stops `redeem_in_kind`.
"""
from ethereum.ercs import IERC20
from interfaces import IVault
from interfaces import IPriceOracle
from interfaces import IExecutor
from interfaces import IRuleBook
from contracts.modules import shares
from contracts.modules import portfolio
from contracts.modules import bucket
from contracts.modules import rulebook

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


# Constants

MAX_ASSETS: constant(uint256) = 16
MAX_PAYLOAD: constant(uint256) = 8192
WAD: constant(uint256) = 10**18
BPS: constant(uint256) = 10**14  # one basis point as a WAD
MAX_BPS: constant(uint256) = 10**4  # 100 %
DAY: constant(uint256) = 86400
YEAR: constant(uint256) = 365 * DAY
PAUSE: constant(uint256) = 14 * DAY
PAUSE_GAP: constant(uint256) = 7 * DAY  # between the end of a pause and the next
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

head: public(bytes32)
owner: public(address)
pending_owner: public(address)
oracle: public(address)
paused_until: public(uint256)
roles: public(HashMap[address, Role])
_words: DynArray[uint256, MAX_ASSETS]  # portfolio.vy
_rules: uint256  # rulebook.vy
_session: uint256  # rulebook.vy
_loss: uint256  # bucket.vy: NAV lost and at risk in trades
_speed: uint256  # bucket.vy: path length of the targets


@deploy
def __init__(rule_book_: address):
    implementation = self
    rule_book = rule_book_
    self.head = keccak256("implementation")  # locked: only clones can be initialised


@external
@nonreentrant
def initialize(setup: IVault.Setup, seed_amounts: DynArray[uint256, MAX_ASSETS], creator: address):
    """
    @notice Set the rules, take the seed from the caller (the factory) and mint its NAV in shares: 1 share = 1 USD.
            MIN_SEED of them are dead, so that the supply never returns to zero.
    """
    assert self.head == empty(bytes32), "already initialized"
    genesis: Bytes[128] = abi_encode(chain.id, self, implementation.codehash, setup.config_hash)
    self.head = keccak256(genesis)
    raw_log([CREATED], genesis)

    shares.name = setup.name
    shares.symbol = setup.symbol
    self.owner = setup.owner
    self.roles[setup.keeper] |= Role.KEEPER
    self.roles[setup.strategist] |= Role.STRATEGIST
    self.roles[setup.guardian] |= Role.GUARDIAN
    self.roles[empty(address)] = empty(Role)
    shares._set_fee(setup.fee_bps, setup.fee_recipient)
    self.oracle = setup.oracle
    self._words = setup.words
    self._rules = setup.rules
    self._session = staticcall IRuleBook(rule_book).renumber(setup.rules, setup.rules, 0)

    for i: uint256 in range(len(setup.words), bound=MAX_ASSETS):
        self._pull(portfolio._token(setup.words[i]), 0, seed_amounts[i])
    nav: uint256 = staticcall IRuleBook(rule_book).nav(
        setup.words, self._prices(setup.words), self._balances(setup.words)
    )
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
    words: DynArray[uint256, MAX_ASSETS] = self._words
    assert len(max_amounts) == len(words), "wrong length"
    ledger: shares.Ledger = shares._current()
    amounts: DynArray[uint256, MAX_ASSETS] = []
    for i: uint256 in range(len(words), bound=MAX_ASSETS):
        token: address = portfolio._token(words[i])
        balance: uint256 = staticcall IERC20(token).balanceOf(self)
        needed: uint256 = self._mint_amount(balance, amount, ledger.supply)
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
    assert receiver not in [empty(address), self], "receiver not allowed"
    words: DynArray[uint256, MAX_ASSETS] = self._words
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


# The one door for trades


@external
@nonreentrant
def open_session() -> uint256:
    """
    @notice Open a session while the trigger holds. Anyone may.
    @return The session's id.
    """
    assert block.timestamp >= self.paused_until, "paused"
    words: DynArray[uint256, MAX_ASSETS] = self._words
    prices: DynArray[uint256, MAX_ASSETS] = self._prices(words)
    balances: DynArray[uint256, MAX_ASSETS] = self._balances(words)
    session: IVault.Session = self._enter(
        words, prices, balances, [], rulebook._unpack_session(self._session).id + 1
    ).session
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
        prices,
        balances,
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
    assert block.timestamp >= self.paused_until, "paused"
    words: DynArray[uint256, MAX_ASSETS] = self._words
    assert len(sells) == len(words), "wrong length"
    assert executor not in [self, self.oracle], "executor not allowed"
    for word: uint256 in words:
        assert executor != portfolio._token(word), "executor not allowed"

    prices: DynArray[uint256, MAX_ASSETS] = self._prices(words)
    balances_before: DynArray[uint256, MAX_ASSETS] = self._balances(words)
    entered: IRuleBook.Entered = self._enter(words, prices, balances_before, sells, session)

    for i: uint256 in range(len(words), bound=MAX_ASSETS):
        self._push(portfolio._token(words[i]), executor, entered.sends[i])
    assert extcall IExecutor(executor).execute(payload) == EXECUTED, "executor did not answer"

    balances_after: DynArray[uint256, MAX_ASSETS] = self._balances(words)
    settled: IRuleBook.Settled = staticcall IRuleBook(rule_book).settle(
        words, self._rules, entered.session, prices, balances_before, entered.sends, balances_after, self._loss_used()
    )
    self._loss = bucket._pack(settled.loss_used)
    if settled.closes:
        session_: uint256 = self._session | (block.timestamp << rulebook.CLOSED_AT)
        self._session = session_
        log SessionClosed(session=entered.session.id)

    ledger: shares.Ledger = shares._current()
    entry: Bytes[2592] = abi_encode(
        self.head,
        REBALANCE,
        entered.session.id,
        block.timestamp,
        ledger.supply,
        ledger.flow_sequence,
        prices,
        balances_before,
        balances_after,
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
def assets() -> DynArray[address, MAX_ASSETS]:
    return self._tokens(self._words)


@external
@view
def basket() -> DynArray[IVault.Asset, MAX_ASSETS]:
    return staticcall IRuleBook(rule_book).unpack_assets(self._words)


@external
@view
def rules() -> IVault.Rules:
    return rulebook._unpack_rules(self._rules)


@external
@view
@nonreentrant
def session() -> IVault.Session:
    return rulebook._unpack_session(self._session)


@external
@view
@nonreentrant
def balances() -> DynArray[uint256, MAX_ASSETS]:
    return self._balances(self._words)


@external
@view
@nonreentrant
def preview_mint_in_kind(amount: uint256) -> DynArray[uint256, MAX_ASSETS]:
    supply: uint256 = shares._current().supply
    amounts: DynArray[uint256, MAX_ASSETS] = []
    balances: DynArray[uint256, MAX_ASSETS] = self._balances(self._words)
    for balance: uint256 in balances:
        amounts.append(self._mint_amount(balance, amount, supply))
    return amounts


@external
@view
@nonreentrant
def preview_redeem_in_kind(amount: uint256, skip: uint256) -> DynArray[uint256, MAX_ASSETS]:
    supply: uint256 = shares._current().supply
    words: DynArray[uint256, MAX_ASSETS] = self._words
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
    return self._loss_used()


@external
@view
def speed_budget_used() -> uint256:
    return self._speed_used()


# Who may change what


@external
@nonreentrant
def set_targets(targets_bps: DynArray[uint256, MAX_ASSETS]):
    """
    @notice Move the targets, within each asset's limits and the speed limit, which bind the owner too.
    """
    assert msg.sender == self.owner or Role.STRATEGIST in self.roles[msg.sender], "not owner or strategist"
    old: DynArray[uint256, MAX_ASSETS] = self._words
    self._set_field(portfolio.TARGET, targets_bps)
    path: uint256 = 0
    for i: uint256 in range(len(old), bound=MAX_ASSETS):
        before: uint256 = portfolio._target(old[i])
        after: uint256 = targets_bps[i] * BPS
        path += max(before, after) - min(before, after)
    rules: IVault.Rules = rulebook._unpack_rules(self._rules)
    level: uint256 = self._speed_used() + path
    assert level <= rules.speed_capacity_bps * BPS, "targets move too fast"
    self._speed = bucket._pack(level)
    self._pack_rules(rules)
    self._record("set_targets", abi_encode(targets_bps))


@external
@nonreentrant
def set_bands(points_bps: DynArray[uint256, MAX_ASSETS], relative_bps: DynArray[uint256, MAX_ASSETS]):
    self._check_owner()
    self._set_field(portfolio.POINTS, points_bps)
    self._set_field(portfolio.RELATIVE, relative_bps)
    self._pack_rules(rulebook._unpack_rules(self._rules))
    self._record("set_bands", abi_encode(points_bps, relative_bps))


@external
@nonreentrant
def set_limits(min_bps: DynArray[uint256, MAX_ASSETS], max_bps: DynArray[uint256, MAX_ASSETS]):
    """
    @notice Set the least and the greatest target of each asset; the present targets must lie within.
    """
    self._check_owner()
    self._set_field(portfolio.MINIMUM, min_bps)
    self._set_field(portfolio.MAXIMUM, max_bps)
    self._pack_rules(rulebook._unpack_rules(self._rules))
    self._record("set_limits", abi_encode(min_bps, max_bps))


@external
@nonreentrant
def set_rules(rules: IVault.Rules):
    self._check_owner()
    # what the buckets hold now was refilled at the old rates
    self._loss = bucket._pack(self._loss_used())
    self._speed = bucket._pack(self._speed_used())
    old: uint256 = self._rules
    self._pack_rules(rules)
    self._session = staticcall IRuleBook(rule_book).renumber(old, self._rules, self._session)
    self._record("set_rules", abi_encode(rules))


@external
@nonreentrant
def set_fee(fee_bps: uint256, fee_recipient: address):
    self._check_owner()
    shares._set_fee(fee_bps, fee_recipient)
    self._record("set_fee", abi_encode(fee_bps, fee_recipient))


@external
@nonreentrant
def set_oracle(oracle: address):
    self._check_owner()
    self.oracle = oracle
    self._prices(self._words)  # every asset can be priced
    self._record("set_oracle", abi_encode(oracle))


@external
@nonreentrant
def set_role(account: address, roles: Role):
    self._check_owner()
    assert account != empty(address), "no account"
    self._set_role(account, roles)


@external
@nonreentrant
def drop_role(account: address):
    """
    @notice Take the keeper's and strategist's roles from `account`.
    """
    assert msg.sender == self.owner or Role.GUARDIAN in self.roles[msg.sender], "not owner or guardian"
    self._set_role(account, self.roles[account] & Role.GUARDIAN)


@external
@nonreentrant
def pause():
    """
    @notice Stop trades for 14 days; again only 7 days after that. In-kind flows go on.
    """
    assert Role.GUARDIAN in self.roles[msg.sender], "not guardian"
    assert self.paused_until == 0 or block.timestamp >= self.paused_until + PAUSE_GAP, "paused lately"
    self._set_pause(block.timestamp + PAUSE)


@external
@nonreentrant
def unpause():
    self._check_owner()
    self._set_pause(min(block.timestamp, self.paused_until))  # idle, it changes nothing


@external
@nonreentrant
def transfer_ownership(new_owner: address):
    self._check_owner()
    self.pending_owner = new_owner
    self._record("transfer_ownership", abi_encode(new_owner))


@external
@nonreentrant
def accept_ownership():
    assert msg.sender == self.pending_owner, "not pending owner"
    self.owner = msg.sender
    self.pending_owner = empty(address)
    self._record("accept_ownership", abi_encode(msg.sender))


# The rule book


@internal
def _enter(
    words: DynArray[uint256, MAX_ASSETS],
    prices: DynArray[uint256, MAX_ASSETS],
    balances: DynArray[uint256, MAX_ASSETS],
    sells: DynArray[uint256, MAX_ASSETS],
    id: uint256,
) -> IRuleBook.Entered:
    """
    @dev Join session `id`, or open it. Stored before anything is called that is not trusted.
    """
    entered: IRuleBook.Entered = staticcall IRuleBook(rule_book).enter(
        words, self._rules, self._session, prices, balances, sells, id
    )
    self._session = rulebook._pack_session(entered.session)
    return entered


@internal
@view
def _loss_used() -> uint256:
    return bucket._level(self._loss, rulebook._loss_refill(self._rules), YEAR)


@internal
@view
def _speed_used() -> uint256:
    return bucket._level(self._speed, rulebook._speed_refill(self._rules), DAY)


# Reading and moving tokens


@internal
@pure
def _tokens(words: DynArray[uint256, MAX_ASSETS]) -> DynArray[address, MAX_ASSETS]:
    tokens: DynArray[address, MAX_ASSETS] = []
    for word: uint256 in words:
        tokens.append(portfolio._token(word))
    return tokens


@internal
@view
def _prices(words: DynArray[uint256, MAX_ASSETS]) -> DynArray[uint256, MAX_ASSETS]:
    prices: DynArray[uint256, MAX_ASSETS] = []
    statuses: DynArray[uint256, MAX_ASSETS] = []
    prices, statuses = staticcall IPriceOracle(self.oracle).prices(self._tokens(words))
    assert len(prices) == len(words) and len(statuses) == len(words), "price not usable"
    for i: uint256 in range(len(words), bound=MAX_ASSETS):
        assert statuses[i] == 0 and prices[i] > 0, "price not usable"
    return prices


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


# Validate, store, record


@internal
@view
def _check_owner():
    assert msg.sender == self.owner, "not owner"


@internal
def _set_field(offset: uint256, bps: DynArray[uint256, MAX_ASSETS]):
    """
    @dev Write one field of every asset's word. `_pack_rules` then checks the words as a whole.
    """
    assert len(bps) == len(self._words), "wrong length"
    for i: uint256 in range(len(bps), bound=MAX_ASSETS):
        self._words[i] = portfolio._with(self._words[i], offset, bps[i])


@internal
def _pack_rules(rules: IVault.Rules):
    """
    @dev Check rules and assets together, and store the rules.
    """
    self._rules = staticcall IRuleBook(rule_book).pack_rules(rules, self._words)


@internal
def _set_role(account: address, roles: Role):
    self.roles[account] = roles
    self._record("set_role", abi_encode(account, roles))


@internal
def _set_pause(until: uint256):
    self.paused_until = until
    self._record("pause", abi_encode(until))


@internal
def _record(name: String[20], data: Bytes[1184]):
    entry: Bytes[1440] = abi_encode(self.head, RULE, name, block.timestamp, data)
    self.head = keccak256(entry)
    raw_log([RULE_CHANGED], entry)
