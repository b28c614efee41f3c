# pragma version 0.4.3
# @license MIT
"""
@title WeirdTwin
@notice The second address of a WeirdToken: the same balances under another contract. For tests only.
"""

interface WeirdToken:
    def held(account: address) -> uint256: view
    def decimals() -> uint8: view
    def twin_transfer(owner: address, to: address, amount: uint256): nonpayable


token: public(immutable(address))
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(token_: address):
    token = token_


@external
@view
def decimals() -> uint8:
    return staticcall WeirdToken(token).decimals()


@external
@view
def balanceOf(account: address) -> uint256:
    return staticcall WeirdToken(token).held(account)


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True


@external
def transfer(to: address, amount: uint256) -> bool:
    extcall WeirdToken(token).twin_transfer(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    self.allowance[owner][msg.sender] -= amount
    extcall WeirdToken(token).twin_transfer(owner, to, amount)
    return True
