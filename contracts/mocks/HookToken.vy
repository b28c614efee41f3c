# pragma version 0.4.3
# @license MIT
"""
@title HookToken
@notice ERC-20 whose balances anyone can set and whose transfers make a call that a test chose; for tests only.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256


decimals: public(immutable(uint8))
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
calls: public(uint256)  # that the hook has made
succeeded: public(bool)  # the last one
answer: public(Bytes[256])  # to the last one, the beginning of it
target: address
data: Bytes[4096]


@deploy
def __init__(decimals_: uint8):
    decimals = decimals_


@external
def set_balance(account: address, amount: uint256):
    self.balanceOf[account] = amount


@external
def set_call(target: address, data: Bytes[4096]):
    self.target = target
    self.data = data


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def transfer(to: address, amount: uint256) -> bool:
    self._transfer(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    self.allowance[owner][msg.sender] -= amount
    self._transfer(owner, to, amount)
    return True


@internal
def _transfer(owner: address, to: address, amount: uint256):
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount
    log Transfer(sender=owner, receiver=to, value=amount)
    if self.target != empty(address):
        self.calls += 1
        succeeded: bool = False
        answer: Bytes[256] = b""
        succeeded, answer = raw_call(self.target, self.data, max_outsize=256, revert_on_failure=False)
        self.succeeded = succeeded
        self.answer = answer
