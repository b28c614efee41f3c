# pragma version 0.4.3
# @license MIT
"""
@title Zap
@notice In and out of a vault with one token, in one transaction: swaps by the executor, mints or redeems in kind. The
        flow pays its own trading and no oracle prices a share.
        Trusted by its callers with an allowance, so it moves tokens and shares of nobody but `msg.sender`. It holds
        neither tokens nor allowances between transactions. The caller chooses vault, tokens and payload and answers
        for them: pools can be moved by others before the transaction is mined, and code that the payload or a token
        calls can take what the executor holds at that moment; minimum and deadline bound both.
        Tokens that someone sent here by mistake go to whoever zaps next.
@custom:kill Nothing to stop: it has no owner; holders can always redeem in kind at the vault.
"""

from ethereum.ercs import IERC20


interface Vault:
    def assets() -> DynArray[address, MAX_ASSETS]: view
    def balances() -> DynArray[uint256, MAX_ASSETS]: view
    def totalSupply() -> uint256: view
    def melting() -> (uint256, uint256): view
    def preview_mint_in_kind(shares: uint256) -> DynArray[uint256, MAX_ASSETS]: view
    def mint_in_kind(
        shares: uint256, max_amounts: DynArray[uint256, MAX_ASSETS], receiver: address
    ) -> DynArray[uint256, MAX_ASSETS]: nonpayable
    def redeem_in_kind(
        shares: uint256, receiver: address, owner: address, min_amounts: DynArray[uint256, MAX_ASSETS], skip: uint256
    ) -> DynArray[uint256, MAX_ASSETS]: nonpayable


interface Executor:
    def execute(payload: Bytes[MAX_PAYLOAD]) -> bytes4: nonpayable
    def sweep(tokens: DynArray[address, MAX_SWEEP]): nonpayable


# Events


event ZappedIn:
    vault: indexed(address)
    caller: indexed(address)
    receiver: indexed(address)
    token: address
    amount: uint256  # token units, taken from the caller
    shares: uint256


event ZappedOut:
    vault: indexed(address)
    caller: indexed(address)
    receiver: indexed(address)
    token: address
    shares: uint256
    amount: uint256  # token units, that the receiver got


# Constants

MAX_ASSETS: constant(uint256) = 16
MAX_SWEEP: constant(uint256) = 17  # the executor's bound
MAX_VIA: constant(uint256) = 8  # tokens that a route passes through
MAX_TOKENS: constant(uint256) = 25  # the assets, the caller's token and those
MAX_PAYLOAD: constant(uint256) = 8192  # bytes

executor: public(immutable(address))


@deploy
def __init__(executor_: address):
    assert executor_.is_contract, "executor has no code"
    executor = executor_


# In


@external
@nonreentrant
def zap_in(
    vault: address,
    token: address,
    amount: uint256,
    payload: Bytes[MAX_PAYLOAD],
    via: DynArray[address, MAX_VIA],
    min_shares: uint256,
    receiver: address,
    deadline: uint256,
) -> uint256:
    """
    @notice Mint shares of `vault` with `amount` of `token`, which the caller has approved to this contract.
    @param payload What the executor does with the tokens; what it leaves at the executor comes here as well
    @param via Other tokens of the route, so that what is left of them is returned too
    @param min_shares Fewest shares to accept
    @param receiver Who gets the shares; leftovers go to the caller
    @param deadline Seconds, UTC
    @return shares minted: as many as the assets allow
    """
    return self._zap_in(vault, token, amount, payload, via, min_shares, receiver, deadline)


@external
@nonreentrant
def zap_in_with_permit(
    vault: address,
    token: address,
    amount: uint256,
    payload: Bytes[MAX_PAYLOAD],
    via: DynArray[address, MAX_VIA],
    min_shares: uint256,
    receiver: address,
    deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
) -> uint256:
    """
    @notice `zap_in` with the caller's ERC-2612 permit of `amount` of `token`, with the same deadline.
    """
    self._permit(token, amount, deadline, v, r, s)
    return self._zap_in(vault, token, amount, payload, via, min_shares, receiver, deadline)


# Out


@external
@nonreentrant
def zap_out(
    vault: address,
    shares: uint256,
    skip: uint256,
    token: address,
    payload: Bytes[MAX_PAYLOAD],
    via: DynArray[address, MAX_VIA],
    min_amount: uint256,
    receiver: address,
    deadline: uint256,
) -> uint256:
    """
    @notice Redeem `shares` of `vault`, which the caller has approved to this contract, into `token`.
    @param skip Bitmask of assets to leave to the other holders: they are not called at all
    @param payload What the executor does with the vault's assets; what it leaves at the executor comes here as well
    @param via Other tokens of the route, so that what is left of them is returned too
    @param min_amount Least of `token` that the receiver must get
    @param receiver Who gets `token`; other leftovers go to the caller
    @param deadline Seconds, UTC
    @return amount of `token` that the receiver got
    """
    return self._zap_out(vault, shares, skip, token, payload, via, min_amount, receiver, deadline)


@external
@nonreentrant
def zap_out_with_permit(
    vault: address,
    shares: uint256,
    skip: uint256,
    token: address,
    payload: Bytes[MAX_PAYLOAD],
    via: DynArray[address, MAX_VIA],
    min_amount: uint256,
    receiver: address,
    deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
) -> uint256:
    """
    @notice `zap_out` with the caller's ERC-2612 permit of `shares`, with the same deadline.
    """
    self._permit(vault, shares, deadline, v, r, s)
    return self._zap_out(vault, shares, skip, token, payload, via, min_amount, receiver, deadline)


# Internal


@internal
def _zap_in(
    vault: address,
    token: address,
    amount: uint256,
    payload: Bytes[MAX_PAYLOAD],
    via: DynArray[address, MAX_VIA],
    min_shares: uint256,
    receiver: address,
    deadline: uint256,
) -> uint256:
    self._check(vault, receiver, deadline)
    assets: DynArray[address, MAX_ASSETS] = staticcall Vault(vault).assets()
    assert extcall IERC20(token).transferFrom(msg.sender, executor, amount, default_return_value=True), "transfer failed"
    self._execute(payload, assets, token, via)

    shares: uint256 = self._affordable_shares(vault, assets)
    assert shares > 0 and shares >= min_shares, "too few shares"
    amounts: DynArray[uint256, MAX_ASSETS] = staticcall Vault(vault).preview_mint_in_kind(shares)
    for i: uint256 in range(len(assets), bound=MAX_ASSETS):
        if amounts[i] > 0:
            self._approve(assets[i], vault, amounts[i])
    extcall Vault(vault).mint_in_kind(shares, amounts, receiver)
    for asset: address in assets:
        if staticcall IERC20(asset).allowance(self, vault) > 0:
            self._approve(asset, vault, 0)

    self._return_leftovers(assets, token, via)
    log ZappedIn(vault=vault, caller=msg.sender, receiver=receiver, token=token, amount=amount, shares=shares)
    return shares


@internal
def _zap_out(
    vault: address,
    shares: uint256,
    skip: uint256,
    token: address,
    payload: Bytes[MAX_PAYLOAD],
    via: DynArray[address, MAX_VIA],
    min_amount: uint256,
    receiver: address,
    deadline: uint256,
) -> uint256:
    self._check(vault, receiver, deadline)
    assets: DynArray[address, MAX_ASSETS] = staticcall Vault(vault).assets()
    no_minima: DynArray[uint256, MAX_ASSETS] = []
    redeemed: DynArray[address, MAX_ASSETS] = []
    for i: uint256 in range(len(assets), bound=MAX_ASSETS):
        no_minima.append(0)
        if (skip >> i) & 1 == 0:
            redeemed.append(assets[i])
    extcall Vault(vault).redeem_in_kind(shares, executor, msg.sender, no_minima, skip)
    self._execute(payload, redeemed, token, via)

    # measured at the receiver: the token may take a fee
    before: uint256 = staticcall IERC20(token).balanceOf(receiver)
    self._send_all(token, receiver)
    after: uint256 = staticcall IERC20(token).balanceOf(receiver)
    assert after - before >= min_amount, "too little paid"
    self._return_leftovers(redeemed, token, via)
    log ZappedOut(
        vault=vault, caller=msg.sender, receiver=receiver, token=token, shares=shares, amount=after - before
    )
    return after - before


@internal
@view
def _check(vault: address, receiver: address, deadline: uint256):
    assert block.timestamp <= deadline, "deadline passed"
    # what these hold belongs to whoever comes next
    assert receiver not in [empty(address), self, executor, vault], "receiver not allowed"


@internal
def _permit(token: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    permitted: bool = raw_call(
        token,
        abi_encode(
            msg.sender,
            self,
            amount,
            deadline,
            v,
            r,
            s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        revert_on_failure=False,
    )
    # It fails when somebody has used the permit first; then the allowance is there.
    if not permitted:
        assert staticcall IERC20(token).allowance(msg.sender, self) >= amount, "permit failed"


@internal
def _execute(
    payload: Bytes[MAX_PAYLOAD],
    assets: DynArray[address, MAX_ASSETS],
    token: address,
    via: DynArray[address, MAX_VIA],
):
    extcall Executor(executor).execute(payload)
    # whatever the payload left at the executor: anyone could take it afterwards
    tokens: DynArray[address, MAX_SWEEP] = []
    for asset: address in assets:
        tokens.append(asset)
    tokens.append(token)
    extcall Executor(executor).sweep(tokens)
    if len(via) > 0:
        extcall Executor(executor).sweep(via)


@internal
@view
def _affordable_shares(vault: address, assets: DynArray[address, MAX_ASSETS]) -> uint256:
    # The most shares with ceil(held_i · shares / supply) <= balance_i for every asset i: rounds down.
    # who enters pays as if the fee shares that melt were gone
    supply: uint256 = staticcall Vault(vault).totalSupply() - (staticcall Vault(vault).melting())[0]
    held: DynArray[uint256, MAX_ASSETS] = staticcall Vault(vault).balances()
    shares: uint256 = max_value(uint256)
    for i: uint256 in range(len(assets), bound=MAX_ASSETS):
        if held[i] > 0:
            shares = min(shares, staticcall IERC20(assets[i]).balanceOf(self) * supply // held[i])
    return shares


@internal
def _return_leftovers(
    assets: DynArray[address, MAX_ASSETS], token: address, via: DynArray[address, MAX_VIA]
):
    for asset: address in assets:
        self._send_all(asset, msg.sender)
    self._send_all(token, msg.sender)
    for other: address in via:
        self._send_all(other, msg.sender)


@internal
def _send_all(token: address, to: address):
    balance: uint256 = staticcall IERC20(token).balanceOf(self)
    if balance > 0:
        assert extcall IERC20(token).transfer(to, balance, default_return_value=True), "transfer failed"


@internal
def _approve(token: address, spender: address, amount: uint256):
    assert extcall IERC20(token).approve(spender, amount, default_return_value=True), "approve failed"
