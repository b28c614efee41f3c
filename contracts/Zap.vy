# pragma version 0.4.3
# @license MIT
"""
@title Zap
@notice In and out of a vault with one token, in one transaction: swaps by the executor, mints or redeems in kind. The
        flow pays its own trading and no oracle prices a share.
        Trusted by nobody with anything: it holds neither tokens nor allowances between transactions, and acts only for
        its caller. The caller chooses vault, token and payload and answers for them; pools can be moved by others
        before the transaction is mined, which the minimum and the deadline bound. Tokens that someone sent here by
        mistake go to whoever zaps next.
@custom:kill Nothing to stop: it has no owner; holders can always redeem in kind at the vault.
"""

from ethereum.ercs import IERC20


interface Vault:
    def assets() -> DynArray[address, MAX_ASSETS]: view
    def balances() -> DynArray[uint256, MAX_ASSETS]: view
    def totalSupply() -> uint256: view
    def preview_mint_in_kind(shares: uint256) -> DynArray[uint256, MAX_ASSETS]: view
    def mint_in_kind(
        shares: uint256, max_amounts: DynArray[uint256, MAX_ASSETS], receiver: address
    ) -> DynArray[uint256, MAX_ASSETS]: nonpayable
    def redeem_in_kind(
        shares: uint256, receiver: address, owner: address, min_amounts: DynArray[uint256, MAX_ASSETS], skip: uint256
    ) -> DynArray[uint256, MAX_ASSETS]: nonpayable


interface Executor:
    def execute(payload: Bytes[MAX_PAYLOAD]) -> bytes4: nonpayable
    def sweep(tokens: DynArray[address, MAX_TOKENS]): nonpayable


event ZappedIn:
    vault: indexed(address)
    caller: indexed(address)
    receiver: indexed(address)
    token: address
    amount: uint256
    shares: uint256

event ZappedOut:
    vault: indexed(address)
    caller: indexed(address)
    receiver: indexed(address)
    token: address
    shares: uint256
    amount: uint256


MAX_ASSETS: constant(uint256) = 16
MAX_TOKENS: constant(uint256) = 17  # the assets and the caller's token
MAX_PAYLOAD: constant(uint256) = 8192  # bytes

executor: public(immutable(address))


@deploy
def __init__(executor_: address):
    assert executor_.is_contract, "executor has no code"
    executor = executor_


@external
@nonreentrant
def zap_in(
    vault: address,
    token: address,
    amount: uint256,
    payload: Bytes[MAX_PAYLOAD],
    min_shares: uint256,
    receiver: address,
    deadline: uint256,
) -> uint256:
    """
    @notice Mint shares of `vault` with `amount` of `token`, which the caller has approved to this contract.
    @param payload What the executor does with the tokens; it must send the vault's assets here
    @param min_shares Fewest shares to accept
    @param receiver Who gets the shares; leftovers go to the caller
    @param deadline Seconds, UTC
    @return shares minted: as many as the assets allow
    """
    self._check(receiver, deadline)
    assets: DynArray[address, MAX_ASSETS] = staticcall Vault(vault).assets()
    self._pull(token, executor, amount)
    self._execute(payload, self._with(assets, token))

    shares: uint256 = self._affordable_shares(vault, assets)
    assert shares > 0 and shares >= min_shares, "too few shares"
    amounts: DynArray[uint256, MAX_ASSETS] = staticcall Vault(vault).preview_mint_in_kind(shares)
    for i: uint256 in range(len(assets), bound=MAX_ASSETS):
        self._approve(assets[i], vault, amounts[i])
    extcall Vault(vault).mint_in_kind(shares, amounts, receiver)
    for asset: address in assets:
        if staticcall IERC20(asset).allowance(self, vault) > 0:
            self._approve(asset, vault, 0)

    self._return_leftovers(self._with(assets, token))
    log ZappedIn(vault=vault, caller=msg.sender, receiver=receiver, token=token, amount=amount, shares=shares)
    return shares


@external
@nonreentrant
def zap_out(
    vault: address,
    shares: uint256,
    token: address,
    payload: Bytes[MAX_PAYLOAD],
    min_amount: uint256,
    receiver: address,
    deadline: uint256,
) -> uint256:
    """
    @notice Redeem `shares` of `vault`, which the caller has approved to this contract, into `token`.
    @param payload What the executor does with the vault's assets; it must send `token` here
    @param min_amount Least of `token` to accept
    @param receiver Who gets `token`; other leftovers go to the caller
    @param deadline Seconds, UTC
    @return amount of `token` paid
    """
    self._check(receiver, deadline)
    assets: DynArray[address, MAX_ASSETS] = staticcall Vault(vault).assets()
    no_minimum: DynArray[uint256, MAX_ASSETS] = []
    for _: address in assets:
        no_minimum.append(0)
    self._pull(vault, self, shares)
    extcall Vault(vault).redeem_in_kind(shares, executor, self, no_minimum, 0)
    self._execute(payload, self._with(assets, token))

    amount: uint256 = staticcall IERC20(token).balanceOf(self)
    assert amount >= min_amount, "too little paid"
    if amount > 0:
        self._send(token, receiver, amount)
    self._return_leftovers(assets)
    log ZappedOut(vault=vault, caller=msg.sender, receiver=receiver, token=token, shares=shares, amount=amount)
    return amount


@internal
@view
def _check(receiver: address, deadline: uint256):
    assert block.timestamp <= deadline, "deadline passed"
    assert receiver != empty(address), "zero receiver"


@internal
@pure
def _with(assets: DynArray[address, MAX_ASSETS], token: address) -> DynArray[address, MAX_TOKENS]:
    tokens: DynArray[address, MAX_TOKENS] = []
    for asset: address in assets:
        tokens.append(asset)
    if token not in assets:
        tokens.append(token)
    return tokens


@internal
def _execute(payload: Bytes[MAX_PAYLOAD], tokens: DynArray[address, MAX_TOKENS]):
    # Whatever the payload leaves at the executor is taken back: anyone could take it afterwards.
    extcall Executor(executor).execute(payload)
    extcall Executor(executor).sweep(tokens)


@internal
@view
def _affordable_shares(vault: address, assets: DynArray[address, MAX_ASSETS]) -> uint256:
    # The most shares with ceil(held_i · shares / supply) <= balance_i for every asset i.
    supply: uint256 = staticcall Vault(vault).totalSupply()
    held: DynArray[uint256, MAX_ASSETS] = staticcall Vault(vault).balances()
    shares: uint256 = max_value(uint256)
    for i: uint256 in range(len(assets), bound=MAX_ASSETS):
        if held[i] > 0:
            shares = min(shares, staticcall IERC20(assets[i]).balanceOf(self) * supply // held[i])
    return shares


@internal
def _return_leftovers(tokens: DynArray[address, MAX_TOKENS]):
    for token: address in tokens:
        balance: uint256 = staticcall IERC20(token).balanceOf(self)
        if balance > 0:
            self._send(token, msg.sender, balance)


@internal
def _pull(token: address, to: address, amount: uint256):
    assert extcall IERC20(token).transferFrom(msg.sender, to, amount, default_return_value=True), "transfer failed"


@internal
def _send(token: address, to: address, amount: uint256):
    assert extcall IERC20(token).transfer(to, amount, default_return_value=True), "transfer failed"


@internal
def _approve(token: address, spender: address, amount: uint256):
    assert extcall IERC20(token).approve(spender, amount, default_return_value=True), "approve failed"
