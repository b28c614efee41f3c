# pragma version 0.4.3
# @license MIT
"""
@title WeirdVault
@notice Answers the Zap as a vault would, and then does what a hostile one might; for tests only.
"""

from ethereum.ercs import IERC20


assets_: DynArray[address, 16]
balances_: DynArray[uint256, 16]
totalSupply: public(uint256)
allowance: public(HashMap[address, HashMap[address, uint256]])
asks: DynArray[uint256, 16]  # what a mint asks for
takes: DynArray[uint256, 16]  # what it then takes
target: address
data: Bytes[4096]
called: public(bool)  # the call succeeded


@external
def set_answers(
    assets: DynArray[address, 16], balances: DynArray[uint256, 16], supply: uint256, asks: DynArray[uint256, 16]
):
    self.assets_ = assets
    self.balances_ = balances
    self.totalSupply = supply
    self.asks = asks


@external
@view
def melting() -> (uint256, uint256):
    return 0, 0


@external
def set_takes(takes: DynArray[uint256, 16]):
    self.takes = takes


@external
def set_allowance(owner: address, spender: address, amount: uint256):
    self.allowance[owner][spender] = amount


@external
def set_call(target: address, data: Bytes[4096]):
    """
    @notice A mint and a redemption make this call.
    """
    self.target = target
    self.data = data


@external
def make_call():
    self._make_call()


@external
def take(token: address, owner: address, amount: uint256):
    """
    @notice Use an allowance to this contract.
    """
    assert extcall IERC20(token).transferFrom(owner, self, amount, default_return_value=True), "transfer failed"


@external
@view
def assets() -> DynArray[address, 16]:
    return self.assets_


@external
@view
def balances() -> DynArray[uint256, 16]:
    return self.balances_


@external
@view
def preview_mint_in_kind(shares: uint256) -> DynArray[uint256, 16]:
    return self.asks


@external
def mint_in_kind(shares: uint256, max_amounts: DynArray[uint256, 16], receiver: address) -> DynArray[uint256, 16]:
    self._make_call()
    for i: uint256 in range(len(self.takes), bound=16):
        assert extcall IERC20(self.assets_[i]).transferFrom(
            msg.sender, self, self.takes[i], default_return_value=True
        ), "transfer failed"
    return self.takes


@external
def redeem_in_kind(
    shares: uint256, receiver: address, owner: address, min_amounts: DynArray[uint256, 16], skip: uint256
) -> DynArray[uint256, 16]:
    self._make_call()
    return []


@internal
def _make_call():
    if self.target != empty(address):
        self.called = raw_call(self.target, self.data, revert_on_failure=False)
