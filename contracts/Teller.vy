# pragma version 0.4.3
"""
@title Evenkeel teller
@license MIT
@notice Priced entry of one vault in one asset: ERC-4626's functions with the shares in `share()`, the vault
        (ERC-7575). Shares are issued and burnt at NAV less a fee: a floor on every flow, at least the feeds' combined
        error, and a surcharge on the part that moves the asset away from its target. The fee is shares of
        nobody, which leave the vault's supply over `burn_seconds`, to the gain of all holders, second by second, so
        that nobody can step in to take it.
        The path: deposit -> vault.issue; redeem -> vault.release. The vault keeps the tokens and the flow limit.
        Trusted: the vault and its oracle, within each feed's declared error. Not trusted: what a token's transfer
        returns or calls. Formulas and rounding, always for the vault: docs/spec.md.
@custom:kill The guardian's pause of the vault, a quarantine or a price that is not usable stop all flows here;
        the Timelock ends a teller's right by a flow limit of 0. Shares can be redeemed in kind at the vault meanwhile.
"""
from ethereum.ercs import IERC20
from interfaces import IVault
from interfaces import ITeller

implements: ITeller


event Deposit:
    sender: indexed(address)
    owner: indexed(address)
    assets: uint256
    shares: uint256


event Withdraw:
    sender: indexed(address)
    receiver: indexed(address)
    owner: indexed(address)
    assets: uint256
    shares: uint256


event FeesSet:
    floor_bps: uint256
    surcharge_bps: uint256


WAD: constant(uint256) = 10**18
MAX_BPS: constant(uint256) = 10**4  # 100 %
MAX_FEE_BPS: constant(uint256) = 2000  # floor and surcharge together
MIN_BURN: constant(uint256) = 3600  # seconds
MAX_BURN: constant(uint256) = 30 * 86400
MAX_SUPPLY: constant(uint256) = 2**112 - 1  # of the vault's shares
APPRAISE_GAS: constant(uint256) = 5_000_000  # for a view's call of the vault; 16 assets with two sources use 2,000,000
APPRAISAL_SIZE: constant(uint256) = 8 * 32
FLOOR: constant(uint256) = 160  # where a field of the terms begins
SURCHARGE: constant(uint256) = 174
BURN: constant(uint256) = 188
PULLING: constant(uint256) = 1  # a flag of the book
ASSETS: constant(uint256) = 1  # and where its fields begin
SUPPLY: constant(uint256) = 144
MAX_ASSETS: constant(uint256) = 2**143 - 1
MASK: constant(uint256) = 2**14 - 1  # a field of basis points
ERC165: constant(bytes4) = 0x01ffc9a7
ERC7575: constant(bytes4) = 0x2f0a18c5

asset: public(address)
# vault 160 | floor in bps 14 | surcharge in bps 14 | burn_seconds 22
_terms: uint256
# pulling 1: a token is on its way: no flow may begin, no live price may be read
# assets 143, supply 112: what so many shares were last seen to be worth in the asset
_book: uint256


@deploy
def __init__():
    self._terms = 1 << BURN  # locked: only clones can be initialised


@external
def initialize(vault: address, asset: address, floor_bps: uint256, surcharge_bps: uint256, burn_seconds: uint256):
    """
    @notice By the vault's Timelock, which makes the clone, in the same transaction.
    """
    assert self._terms == 0, "already initialized"
    assert msg.sender == staticcall IVault(vault).timelock(), "not timelock"
    assert burn_seconds >= MIN_BURN and burn_seconds <= MAX_BURN, "burn time out of range"
    self.asset = asset
    self._set_terms(vault, floor_bps, surcharge_bps, burn_seconds)
    appraisal: IVault.Appraisal = staticcall IVault(vault).appraise(asset)
    self._remember(appraisal)


# In


@external
def deposit(assets: uint256, receiver: address, min_shares: uint256 = 0) -> uint256:
    """
    @notice Pay `assets` for shares at NAV less the fee.
    @return shares
    """
    return self._deposit(assets, receiver, min_shares)


@external
def deposit_with_permit(
    assets: uint256,
    receiver: address,
    min_shares: uint256,
    deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
) -> uint256:
    """
    @notice `deposit` with the asset's ERC-2612 permit. A permit that fails, because somebody has used it before, is no
            harm: the allowance decides.
    """
    permitted: bool = raw_call(
        self.asset,
        abi_encode(
            msg.sender,
            self,
            assets,
            deadline,
            v,
            r,
            s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        revert_on_failure=False,
    )
    assert permitted or staticcall IERC20(self.asset).allowance(msg.sender, self) >= assets, "permit failed"
    return self._deposit(assets, receiver, min_shares)


@external
def mint(shares: uint256, receiver: address, max_assets: uint256 = max_value(uint256)) -> uint256:
    """
    @notice Get exactly `shares` for the fewest assets whose deposit is worth them.
    @return assets
    """
    terms: uint256 = self._terms
    self._check_open()
    assets: uint256 = self._mint_assets(terms, self._appraise(terms), shares)
    assert assets <= max_assets, "too many assets"
    before: IVault.Appraisal = self._pull(terms, assets)
    worth: uint256 = 0
    fee: uint256 = 0
    worth, fee = self._deposit_shares(terms, before, assets)
    assert worth >= shares, "too few shares"  # the pull has changed the price
    self._issue(terms, before, receiver, assets, shares, fee)
    return assets


# Out


@external
def withdraw(assets: uint256, receiver: address, owner: address, max_shares: uint256 = max_value(uint256)) -> uint256:
    """
    @notice Send exactly `assets` to `receiver` for the owner's shares, which the caller owns or was allowed to spend.
    @return shares
    """
    terms: uint256 = self._terms
    self._check_open()
    now: IVault.Appraisal = self._appraise(terms)
    shares: uint256 = self._withdraw_shares(terms, now, assets)
    assert shares <= max_shares, "too many shares"
    self._release(terms, now, receiver, owner, assets, shares)
    return shares


@external
def redeem(shares: uint256, receiver: address, owner: address, min_assets: uint256 = 0) -> uint256:
    """
    @notice Burn the owner's `shares`, which the caller owns or was allowed to spend, for assets at NAV less the fee.
    @return assets
    """
    terms: uint256 = self._terms
    self._check_open()
    now: IVault.Appraisal = self._appraise(terms)
    assets: uint256 = self._redeem_assets(terms, now, shares)
    assert assets >= min_assets, "too few assets"
    self._release(terms, now, receiver, owner, assets, shares)
    return assets


# Fees


@external
def set_fees(floor_bps: uint256, surcharge_bps: uint256):
    terms: uint256 = self._terms
    vault: address = self._vault(terms)
    assert vault != empty(address) and msg.sender == staticcall IVault(vault).timelock(), "not timelock"
    self._set_terms(vault, floor_bps, surcharge_bps, terms >> BURN)


# Views that never revert. Where the vault cannot be priced now (paused, in quarantine, a stale price, inside one of its
# own transactions) they tell what it was last seen to be worth.


@external
@view
def share() -> address:
    """
    @return The ERC-20 of the shares: the vault.
    """
    return self._vault(self._terms)


@external
@view
def fees() -> (uint256, uint256, uint256):
    """
    @return floor and surcharge in bps, and the seconds over which fee shares are burnt.
    """
    terms: uint256 = self._terms
    return self._floor(terms), self._surcharge(terms), terms >> BURN


@external
@view
def totalAssets() -> uint256:
    """
    @return What the whole vault is worth, in units of this asset, rounded down.
    """
    seen: IVault.Appraisal = self._seen()
    return self._ratio(seen.nav, seen.scale, seen.price)


@external
@view
def convertToShares(assets: uint256) -> uint256:
    seen: IVault.Appraisal = self._seen()
    return self._ratio(self._ratio(assets, seen.price, seen.scale), seen.supply, seen.nav)  # down: ERC-4626


@external
@view
def convertToAssets(shares: uint256) -> uint256:
    seen: IVault.Appraisal = self._seen()
    return self._ratio(self._ratio(shares, seen.nav, seen.supply), seen.scale, seen.price)  # down: ERC-4626


@external
@view
def maxDeposit(receiver: address) -> uint256:
    return self._max_deposit(receiver)


@external
@view
def maxMint(receiver: address) -> uint256:
    assets: uint256 = self._max_deposit(receiver)
    if assets == 0:
        return 0
    terms: uint256 = self._terms
    return self._deposit_shares(terms, self._appraise(terms), assets)[0]


@external
@view
def maxWithdraw(owner: address) -> uint256:
    shares: uint256 = self._max_redeem(owner)
    if shares == 0:
        return 0
    terms: uint256 = self._terms
    return self._redeem_assets(terms, self._appraise(terms), shares)


@external
@view
def maxRedeem(owner: address) -> uint256:
    return self._max_redeem(owner)


@external
@pure
def supportsInterface(interface_id: bytes4) -> bool:
    return interface_id in [ERC165, ERC7575]


# Views of a flow now: they revert where the flow would


@external
@view
def previewDeposit(assets: uint256) -> uint256:
    self._check_open()
    terms: uint256 = self._terms
    return self._deposit_shares(terms, self._appraise(terms), assets)[0]


@external
@view
def previewMint(shares: uint256) -> uint256:
    self._check_open()
    terms: uint256 = self._terms
    return self._mint_assets(terms, self._appraise(terms), shares)


@external
@view
def previewWithdraw(assets: uint256) -> uint256:
    self._check_open()
    terms: uint256 = self._terms
    return self._withdraw_shares(terms, self._appraise(terms), assets)


@external
@view
def previewRedeem(shares: uint256) -> uint256:
    self._check_open()
    terms: uint256 = self._terms
    return self._redeem_assets(terms, self._appraise(terms), shares)


# Flows


@internal
def _deposit(assets: uint256, receiver: address, min_shares: uint256) -> uint256:
    terms: uint256 = self._terms
    self._check_open()
    before: IVault.Appraisal = self._pull(terms, assets)
    shares: uint256 = 0
    fee: uint256 = 0
    shares, fee = self._deposit_shares(terms, before, assets)
    assert shares >= min_shares, "too few shares"
    self._issue(terms, before, receiver, assets, shares, fee)
    return shares


@internal
def _pull(terms: uint256, assets: uint256) -> IVault.Appraisal:
    """
    @dev Bring the assets from the caller to the vault, and price only then: a token that calls somebody on its way
         finds this teller closed, and a flow through any other door, at prices that the tokens on their way distort,
         undoes the deposit. Credited is what was asked, never more, so that nothing is counted twice.
    @return The vault as it was before the assets came.
    """
    token: address = self.asset
    supply: uint256 = staticcall IERC20(self._vault(terms)).totalSupply()
    balance: uint256 = staticcall IERC20(token).balanceOf(self._vault(terms))
    if assets > 0:
        self._book |= PULLING
        assert extcall IERC20(token).transferFrom(
            msg.sender, self._vault(terms), assets, default_return_value=True
        ), "transfer failed"
    now: IVault.Appraisal = staticcall IVault(self._vault(terms)).appraise(token)
    assert now.supply == supply, "shares changed"
    assert now.balance >= balance + assets, "received less than asked"
    held: uint256 = (now.balance - assets) * now.price // now.scale  # down, as the vault values it
    now.nav -= now.held - held
    now.held = held
    assert now.nav > 0, "no value"
    return now


@internal
def _issue(
    terms: uint256,
    before: IVault.Appraisal,
    receiver: address,
    assets: uint256,
    shares: uint256,
    fee: uint256,
):
    assert receiver != self, "receiver not allowed"  # nobody could redeem them
    after: IVault.Appraisal = before
    after.nav += assets * before.price // before.scale  # down
    after.supply += shares + fee
    self._remember(after)
    extcall IVault(self._vault(terms)).issue(receiver, shares, fee, terms >> BURN, self.asset, assets)
    log Deposit(sender=msg.sender, owner=receiver, assets=assets, shares=shares)


@internal
def _release(
    terms: uint256,
    now: IVault.Appraisal,
    receiver: address,
    owner: address,
    assets: uint256,
    shares: uint256,
):
    assert owner != self, "owner not allowed"
    leaving: uint256 = 0
    fee: uint256 = 0
    leaving, fee = self._out(terms, now, assets)
    fee = fee * now.supply // now.nav  # down: what is over is burnt at once, for the holders
    after: IVault.Appraisal = now
    after.nav -= min(leaving, now.nav)
    after.supply -= shares - fee
    self._remember(after)
    extcall IVault(self._vault(terms)).release(
        msg.sender, owner, shares, fee, terms >> BURN, self.asset, assets, receiver
    )
    log Withdraw(sender=msg.sender, receiver=receiver, owner=owner, assets=assets, shares=shares)


# What a flow is worth, by an appraisal of the moment before it


@internal
@pure
def _fee(terms: uint256, amount: uint256, gap: uint256) -> uint256:
    """
    @return floor * amount + surcharge * max(0, amount - gap), rounded up: for the vault. USD WAD.
    """
    return self._div_up(self._floor(terms) * amount + self._surcharge(terms) * (max(amount, gap) - gap), MAX_BPS)


@internal
@pure
def _gap_in(a: IVault.Appraisal) -> uint256:
    """
    @return The value that can come in before the asset is at its target, (t V - b) / (1 - t), rounded down: charge more.
            Exactly the value that came in less afterwards, so that a flow in parts pays the same.
    """
    wanted: uint256 = a.target * a.nav
    if a.target == WAD:
        return max_value(uint256)  # the only asset that is wanted: nothing moves it away
    return (max(wanted, a.held * WAD) - a.held * WAD) // (WAD - a.target)


@internal
@pure
def _gap_out(a: IVault.Appraisal) -> uint256:
    """
    @return The value that can go out before the asset is at its target, (b - t V) / (1 - t), rounded down: charge more.
    """
    wanted: uint256 = a.target * a.nav
    if a.target == WAD:
        return max_value(uint256)
    return (max(wanted, a.held * WAD) - wanted) // (WAD - a.target)


@internal
@pure
def _deposit_shares(terms: uint256, a: IVault.Appraisal, assets: uint256) -> (uint256, uint256):
    """
    @dev Fee shares that still melt are the holders': who enters pays as if they were gone, and what that is more than
         the present worth of a share melts as well, so that the deposit itself changes no price of a share.
    @return shares for the depositor, and as the fee.
    """
    paid: uint256 = assets * a.price // a.scale  # down: credit less
    fee: uint256 = self._fee(terms, paid, self._gap_in(a))
    shares: uint256 = (paid - fee) * a.entry_supply // a.nav  # down: issue less
    return shares, paid * a.supply // a.nav - shares  # down: issue less


@internal
@pure
def _mint_assets(terms: uint256, a: IVault.Appraisal, shares: uint256) -> uint256:
    """
    @return The fewest assets whose deposit, less its fee, is worth `shares`.
    """
    net: uint256 = self._div_up(shares * a.nav, a.entry_supply) * MAX_BPS
    gap: uint256 = self._gap_in(a)
    rate: uint256 = MAX_BPS - self._floor(terms)
    paid: uint256 = self._div_up(net, rate)
    if paid > gap:
        paid = self._div_up(net - self._surcharge(terms) * gap, rate - self._surcharge(terms))
    return self._div_up(paid * a.scale, a.price)  # up, all three: ask more


@internal
@pure
def _out(terms: uint256, a: IVault.Appraisal, assets: uint256) -> (uint256, uint256):
    """
    @return The value that goes out with `assets`, rounded up, and the fee on it. USD WAD.
    """
    leaving: uint256 = self._div_up(assets * a.price, a.scale)
    return leaving, self._fee(terms, leaving, self._gap_out(a))


@internal
@pure
def _withdraw_shares(terms: uint256, a: IVault.Appraisal, assets: uint256) -> uint256:
    leaving: uint256 = 0
    fee: uint256 = 0
    leaving, fee = self._out(terms, a, assets)
    return self._div_up((leaving + fee) * a.supply, a.nav)  # up: burn more


@internal
@pure
def _redeem_assets(terms: uint256, a: IVault.Appraisal, shares: uint256) -> uint256:
    """
    @return The most assets whose withdrawal, with its fee, costs no more than `shares`.
    """
    worth: uint256 = shares * a.nav // a.supply * MAX_BPS
    gap: uint256 = self._gap_out(a)
    rate: uint256 = MAX_BPS + self._floor(terms)
    leaving: uint256 = worth // rate
    if leaving > gap:
        leaving = (worth + self._surcharge(terms) * gap) // (rate + self._surcharge(terms))
    return leaving * a.scale // a.price  # down, all three: pay less


# What can flow


@internal
@view
def _max_deposit(receiver: address) -> uint256:
    terms: uint256 = self._terms
    usable: bool = False
    a: IVault.Appraisal = empty(IVault.Appraisal)
    usable, a = self._try_appraise(terms)
    if not usable or receiver in [empty(address), self._vault(terms), self]:
        return 0
    room: uint256 = (staticcall IVault(self._vault(terms)).flow_room(self))[0]
    shares: uint256 = min(room * a.supply // WAD, MAX_SUPPLY - a.supply)  # fee included; down
    return self._ratio(self._ratio(shares, a.nav, a.supply), a.scale, a.price)  # down


@internal
@view
def _max_redeem(owner: address) -> uint256:
    terms: uint256 = self._terms
    usable: bool = False
    a: IVault.Appraisal = empty(IVault.Appraisal)
    usable, a = self._try_appraise(terms)
    if not usable or owner == self:
        return 0
    room: uint256 = (staticcall IVault(self._vault(terms)).flow_room(self))[1]
    all_held: uint256 = a.held + self._fee(terms, a.held, self._gap_out(a))
    return min(
        min(staticcall IERC20(self._vault(terms)).balanceOf(owner), room * a.supply // WAD),  # down
        self._ratio(all_held, a.supply, a.nav),  # down: no more assets than the vault holds
    )


# Pricing


@internal
@view
def _appraise(terms: uint256) -> IVault.Appraisal:
    """
    @return The vault now.
    """
    return staticcall IVault(self._vault(terms)).appraise(self.asset)


@internal
@view
def _try_appraise(terms: uint256) -> (bool, IVault.Appraisal):
    """
    @dev Never reverts, but where a caller gives so little gas that a vault in order could not answer: nobody chooses
         by the gas whether a live price or an old one is read.
    """
    if self._book & PULLING > 0:
        return False, empty(IVault.Appraisal)
    gas_before: uint256 = msg.gas
    success: bool = False
    response: Bytes[APPRAISAL_SIZE] = b""
    success, response = raw_call(
        self._vault(terms),
        abi_encode(self.asset, method_id=method_id("appraise(address)")),
        max_outsize=APPRAISAL_SIZE,
        gas=APPRAISE_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    if success and len(response) == APPRAISAL_SIZE:
        a: IVault.Appraisal = abi_decode(response, IVault.Appraisal)
        return True, a
    # a call that ran out of gas leaves a 64th at each of a few levels
    assert msg.gas > gas_before // 16 or gas_before > APPRAISE_GAS + APPRAISE_GAS // 32, "too little gas"
    return False, empty(IVault.Appraisal)


@internal
@view
def _seen() -> IVault.Appraisal:
    """
    @return The vault now or, where it cannot be priced, as it was last seen, valued in units of the asset.
    """
    book: uint256 = self._book
    usable: bool = False
    a: IVault.Appraisal = empty(IVault.Appraisal)
    usable, a = self._try_appraise(self._terms)
    if usable:
        return a
    return IVault.Appraisal(
        nav=(book >> ASSETS) & MAX_ASSETS,
        supply=book >> SUPPLY,
        held=0,
        target=0,
        price=1,
        scale=1,
        balance=0,
        entry_supply=0,
    )


@internal
@pure
def _div_up(a: uint256, b: uint256) -> uint256:
    return (a + b - 1) // b


@internal
@pure
def _ratio(a: uint256, b: uint256, c: uint256) -> uint256:
    """
    @return a * b / c, rounded down, without reverting; where a * b is no number, a // c * b, which is never more, or the
            greatest number; 0 where c is 0.
    """
    if c == 0:
        return 0
    if a == 0 or b <= max_value(uint256) // a:
        return a * b // c
    whole: uint256 = a // c  # down
    return whole * b if whole <= max_value(uint256) // b else max_value(uint256)


# What is in a word


@internal
def _remember(a: IVault.Appraisal):
    """
    @dev What the vault is worth after a flow, which is over.
    """
    total: uint256 = min(self._ratio(a.nav, a.scale, a.price), MAX_ASSETS)
    self._book = (total << ASSETS) | (a.supply << SUPPLY)


@internal
@view
def _check_open():
    assert self._book & PULLING == 0, "locked"


@internal
@pure
def _vault(terms: uint256) -> address:
    return convert(terms & (2**160 - 1), address)


@internal
@pure
def _floor(terms: uint256) -> uint256:
    return (terms >> FLOOR) & MASK


@internal
@pure
def _surcharge(terms: uint256) -> uint256:
    return (terms >> SURCHARGE) & MASK


@internal
def _set_terms(vault: address, floor_bps: uint256, surcharge_bps: uint256, burn_seconds: uint256):
    assert floor_bps <= MAX_FEE_BPS, "fees above cap"
    assert surcharge_bps <= MAX_FEE_BPS - floor_bps, "fees above cap"
    self._terms = (
        convert(vault, uint256) | (floor_bps << FLOOR) | (surcharge_bps << SURCHARGE) | (burn_seconds << BURN)
    )
    log FeesSet(floor_bps=floor_bps, surcharge_bps=surcharge_bps)
