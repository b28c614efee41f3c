# pragma version 0.4.3
# @license MIT
"""
@title InKindVault
@notice The in-kind half of a vault and nothing else, so that the Zap is tested by itself. For tests only.
"""

from ethereum.ercs import IERC20

tokens: DynArray[address, 16]
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
takes_less: bool  # a hostile vault: leaves allowances behind
target: address  # a hostile vault: makes this call while it mints
data: Bytes[1024]
called: public(bool)  # the call succeeded


@deploy
def __init__(tokens: DynArray[address, 16], supply: uint256):
    """
    @param supply Shares of the deployer; the assets behind them are sent here afterwards
    """
    self.tokens = tokens
    self.totalSupply = supply
    self.balanceOf[msg.sender] = supply


@external
def set_takes_less(takes_less: bool):
    self.takes_less = takes_less


@external
def set_call(target: address, data: Bytes[1024]):
    self.target = target
    self.data = data


@external
def make_call():
    self._make_call()


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    self.allowance[owner][msg.sender] -= amount
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount
    return True


@external
def mint_in_kind(shares: uint256, max_amounts: DynArray[uint256, 16], receiver: address) -> DynArray[uint256, 16]:
    if self.target != empty(address):
        self._make_call()
    amounts: DynArray[uint256, 16] = self._amounts(shares)
    for i: uint256 in range(len(amounts), bound=16):
        assert amounts[i] <= max_amounts[i], "above maximum"
        if self.takes_less:
            amounts[i] //= 2
        assert extcall IERC20(self.tokens[i]).transferFrom(msg.sender, self, amounts[i], default_return_value=True)
    self.totalSupply += shares
    self.balanceOf[receiver] += shares
    return amounts


@external
def redeem_in_kind(
    shares: uint256, receiver: address, owner: address, min_amounts: DynArray[uint256, 16], skip: uint256
) -> DynArray[uint256, 16]:
    assert owner == msg.sender, "not owner"
    amounts: DynArray[uint256, 16] = []
    for i: uint256 in range(len(self.tokens), bound=16):
        amount: uint256 = staticcall IERC20(self.tokens[i]).balanceOf(self) * shares // self.totalSupply
        assert amount >= min_amounts[i], "below minimum"
        amounts.append(amount)
        assert extcall IERC20(self.tokens[i]).transfer(receiver, amount, default_return_value=True)
    self.totalSupply -= shares
    self.balanceOf[owner] -= shares
    return amounts


@external
@view
def assets() -> DynArray[address, 16]:
    return self.tokens


@external
@view
def balances() -> DynArray[uint256, 16]:
    held: DynArray[uint256, 16] = []
    for token: address in self.tokens:
        held.append(staticcall IERC20(token).balanceOf(self))
    return held


@external
@view
def preview_mint_in_kind(shares: uint256) -> DynArray[uint256, 16]:
    return self._amounts(shares)


@internal
def _make_call():
    self.called = raw_call(self.target, self.data, revert_on_failure=False)


@internal
@view
def _amounts(shares: uint256) -> DynArray[uint256, 16]:
    amounts: DynArray[uint256, 16] = []
    for token: address in self.tokens:
        held: uint256 = staticcall IERC20(token).balanceOf(self)
        amounts.append((held * shares + self.totalSupply - 1) // self.totalSupply)
    return amounts
