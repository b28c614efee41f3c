# pragma version 0.4.3
# @license MIT
"""
@title Vault lens
@notice The state of many vaults in one call, as of one block. Reads only, trusts nobody: a vault that cannot be read
        is reported as such and does not disturb the others, nor does a token that does not answer.
"""
from interfaces import IPriceOracle
from interfaces import IVault
from contracts.modules import packing


interface Vault:
    def basket() -> DynArray[IVault.Asset, MAX_ASSETS]: view
    def rules() -> IVault.Rules: view
    def session() -> IVault.Session: view
    def totalSupply() -> uint256: view
    def pending_fee_shares() -> uint256: view
    def flow_sequence() -> uint256: view
    def loss_budget_used() -> uint256: view
    def speed_budget_used() -> uint256: view
    def head() -> bytes32: view


struct State:
    vault: address
    basket: DynArray[IVault.Asset, MAX_ASSETS]
    balances: DynArray[uint256, MAX_ASSETS]  # token units; 0 where `unreadable` has the asset's bit
    prices: DynArray[uint256, MAX_ASSETS]  # USD WAD per whole token
    statuses: DynArray[uint256, MAX_ASSETS]  # PriceOracle's
    unreadable: uint256  # bitmask of assets whose token does not answer
    aside: uint256  # index of the asset last in quarantine, 16 where there never was one
    aside_until: uint256  # timestamp; the quarantine is over from then on
    paused_until: uint256  # timestamp, also of the last pause
    rules: IVault.Rules
    session: IVault.Session
    loss_used: uint256  # WAD of NAV
    speed_used: uint256  # WAD
    supply: uint256  # shares, pending fee included
    pending_fee_shares: uint256
    fee_bps: uint256  # a year
    flow_sequence: uint256
    oracle: address
    head: bytes32


MAX_ASSETS: constant(uint256) = 16
MAX_VAULTS: constant(uint256) = 128
STATE_SIZE: constant(uint256) = 8192  # bytes, at least what `state` returns encoded
STATE_GAS: constant(uint256) = 10_000_000  # for one vault
ENOUGH_GAS: constant(uint256) = STATE_GAS * 64 // 63 + 3_000_000  # a call gets 63/64, once memory has grown
BALANCE_GAS: constant(uint256) = 200_000  # for one token


@external
@view
def states(vaults: DynArray[address, MAX_VAULTS]) -> (DynArray[bool, MAX_VAULTS], DynArray[State, MAX_VAULTS]):
    """
    @notice Reverts where the gas is too little: what is answered does not depend on it. Ask for fewer vaults then.
    @return Whether each vault could be read, and its state: empty where it could not (no vault, or in use).
    """
    readable: DynArray[bool, MAX_VAULTS] = []
    found: DynArray[State, MAX_VAULTS] = []
    for vault: address in vaults:
        success: bool = False
        response: Bytes[STATE_SIZE] = b""
        assert msg.gas >= ENOUGH_GAS, "too little gas"
        success, response = raw_call(
            self,
            abi_encode(vault, method_id=method_id("state(address)")),
            max_outsize=STATE_SIZE,
            gas=STATE_GAS,
            is_static_call=True,
            revert_on_failure=False,
        )
        readable.append(success)
        found.append(abi_decode(response, State) if success else empty(State))
    return readable, found


@external
@view
def state(vault: address) -> State:
    """
    @notice One vault's; reverts when it cannot be read.
    """
    basket: DynArray[IVault.Asset, MAX_ASSETS] = staticcall Vault(vault).basket()
    settings: IVault.Settings = staticcall IVault(vault).settings()
    tokens: DynArray[address, MAX_ASSETS] = []
    balances: DynArray[uint256, MAX_ASSETS] = []
    unreadable: uint256 = 0
    for i: uint256 in range(len(basket), bound=MAX_ASSETS):
        success: bool = False
        balance: uint256 = 0
        success, balance = self._balance(basket[i].token, vault)
        if not success:
            unreadable |= 1 << i
        balances.append(balance)
        tokens.append(basket[i].token)
    prices: DynArray[uint256, MAX_ASSETS] = []
    statuses: DynArray[uint256, MAX_ASSETS] = []
    prices, statuses = staticcall IPriceOracle(settings.oracle).prices(tokens)
    return State(
        vault=vault,
        basket=basket,
        balances=balances,
        prices=prices,
        statuses=statuses,
        unreadable=unreadable,
        # without a quarantine the field holds 0: no index, and over
        aside=((settings.rules >> packing.ASIDE) & 31) - 1 if settings.rules >> packing.ASIDE > 0 else packing.NO_ASSET,
        aside_until=settings.rules >> packing.ASIDE_UNTIL,
        paused_until=settings.paused_until,
        rules=staticcall Vault(vault).rules(),
        session=staticcall Vault(vault).session(),
        loss_used=staticcall Vault(vault).loss_budget_used(),
        speed_used=staticcall Vault(vault).speed_budget_used(),
        supply=staticcall Vault(vault).totalSupply(),
        pending_fee_shares=staticcall Vault(vault).pending_fee_shares(),
        fee_bps=staticcall IVault(vault).fee_bps(),
        flow_sequence=staticcall Vault(vault).flow_sequence(),
        oracle=settings.oracle,
        head=staticcall Vault(vault).head(),
    )


@internal
@view
def _balance(token: address, vault: address) -> (bool, uint256):
    success: bool = False
    response: Bytes[32] = b""
    success, response = raw_call(
        token,
        abi_encode(vault, method_id=method_id("balanceOf(address)")),
        max_outsize=32,
        gas=BALANCE_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    if not success or len(response) < 32:
        return False, 0
    return True, abi_decode(response, uint256)
