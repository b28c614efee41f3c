# pragma version 0.4.3
# @license MIT
"""
@title WeirdToken
@notice ERC-20 that is as odd as a test asks, from the start or from some later moment; for tests only. Anyone can mint
        and change it. `held` tells the truth about balances, whatever `balanceOf` says.
"""

flag Weird:
    SILENT  # 1: transfer, transferFrom and approve return nothing
    FALSE_ON_FAILURE  # 2: they return false where others revert
    GARBAGE  # 4: they return the number 2
    SHORT  # 8: they return 31 bytes
    LONG  # 16: they return true and then 64,000 bytes
    FEE  # 32: 1 % of what is transferred is lost
    LIES  # 64: a transfer returns true and moves nothing
    NO_ZERO  # 128: a transfer or an approval of 0 reverts
    ZERO_FIRST  # 256: an allowance must be 0 before it is set to something else
    PAUSED  # 512: transfers fail
    BURNS_GAS  # 1024: transfers use up all gas
    HOOK  # 2048: a transfer makes the call that the test chose
    BALANCE_REVERTS  # 4096
    BALANCE_BURNS_GAS  # 8192
    BALANCE_SHORT  # 16384: balanceOf returns 31 bytes
    BALANCE_HUGE  # 32768: balanceOf returns 2**256 - 1
    APPROVE_FALSE  # 65536: approve returns false


WAD: constant(uint256) = 10**18
FEE_DIVISOR: constant(uint256) = 100
MAX_ANSWER: constant(uint256) = 64_032
DOMAIN_TYPEHASH: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
PERMIT_TYPEHASH: constant(bytes32) = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")

name: public(constant(String[5])) = "Weird"
decimals: public(uint8)
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])
weird: public(Weird)
index: public(uint256)  # WAD: token units for each part
blocked: public(HashMap[address, bool])
twin: public(address)  # a second address for the same balances
calls: public(uint256)  # of HOOK
successes: public(uint256)  # of those
parts: HashMap[address, uint256]
target: address
data: Bytes[4096]


@deploy
def __init__(decimals: uint8, weird: Weird):
    self.decimals = decimals
    self.weird = weird
    self.index = WAD


# What a test arranges


@external
def set_weird(weird: Weird):
    self.weird = weird


@external
def set_index(index: uint256):
    """
    @notice Rebase: every balance is multiplied by the change of `index`.
    """
    self.index = index


@external
def set_blocked(account: address, blocked: bool):
    self.blocked[account] = blocked


@external
def set_twin(twin: address):
    self.twin = twin


@external
def set_call(target: address, data: Bytes[4096]):
    self.target = target
    self.data = data


@external
def mint(to: address, amount: uint256):
    self.parts[to] += amount * WAD // self.index


@external
def seize(account: address, amount: uint256):
    self.parts[account] -= amount * WAD // self.index


@external
@view
def held(account: address) -> uint256:
    return self._held(account)


# ERC-20, as far as it goes


@external
@view
@raw_return
def balanceOf(account: address) -> Bytes[32]:
    weird: Weird = self.weird
    assert Weird.BALANCE_REVERTS not in weird, "no balance"
    assert Weird.BALANCE_BURNS_GAS not in weird, UNREACHABLE  # the invalid instruction takes all gas
    if Weird.BALANCE_HUGE in weird:
        return abi_encode(max_value(uint256))
    if Weird.BALANCE_SHORT in weird:
        return slice(abi_encode(self._held(account)), 0, 31)
    return abi_encode(self._held(account))


@external
@raw_return
def approve(spender: address, amount: uint256) -> Bytes[MAX_ANSWER]:
    assert Weird.NO_ZERO not in self.weird or amount > 0, "zero approval"
    if Weird.ZERO_FIRST in self.weird:
        assert amount == 0 or self.allowance[msg.sender][spender] == 0, "allowance is not 0"
    self.allowance[msg.sender][spender] = amount
    return self._answer(Weird.APPROVE_FALSE not in self.weird)


@external
@raw_return
def transfer(to: address, amount: uint256) -> Bytes[MAX_ANSWER]:
    return self._answer(self._transfer(msg.sender, to, amount))


@external
@raw_return
def transferFrom(owner: address, to: address, amount: uint256) -> Bytes[MAX_ANSWER]:
    allowed: uint256 = self.allowance[owner][msg.sender]
    if allowed < amount:
        assert Weird.FALSE_ON_FAILURE in self.weird, "insufficient allowance"
        return self._answer(False)
    self.allowance[owner][msg.sender] = allowed - amount
    return self._answer(self._transfer(owner, to, amount))


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    assert block.timestamp <= deadline, "permit expired"
    domain: bytes32 = keccak256(abi_encode(DOMAIN_TYPEHASH, keccak256(name), keccak256("1"), chain.id, self))
    words: bytes32 = keccak256(
        abi_encode(PERMIT_TYPEHASH, owner, spender, amount, self.nonces[owner], deadline)
    )
    assert ecrecover(keccak256(concat(b"\x19\x01", domain, words)), v, r, s) == owner, "invalid signature"
    self.nonces[owner] += 1
    self.allowance[owner][spender] = amount


# The second address


@external
def twin_transfer(owner: address, to: address, amount: uint256):
    assert msg.sender == self.twin, "not the twin"
    self._move(owner, to, amount)


# Internal


@internal
@view
def _held(account: address) -> uint256:
    return self.parts[account] * self.index // WAD


@internal
def _transfer(owner: address, to: address, amount: uint256) -> bool:
    weird: Weird = self.weird
    assert Weird.BURNS_GAS not in weird, UNREACHABLE  # the invalid instruction takes all gas
    problem: String[32] = ""
    if Weird.PAUSED in weird:
        problem = "paused token"
    elif self.blocked[owner] or self.blocked[to]:
        problem = "blocked"
    elif Weird.NO_ZERO in weird and amount == 0:
        problem = "zero transfer"
    elif self._held(owner) < amount:
        problem = "insufficient balance"
    if problem != "":
        assert Weird.FALSE_ON_FAILURE in weird, problem
        return False
    if Weird.LIES not in weird:
        self._move(owner, to, amount)
    if Weird.HOOK in weird:
        self.calls += 1
        success: bool = raw_call(self.target, self.data, revert_on_failure=False)
        if success:
            self.successes += 1
    return True


@internal
def _move(owner: address, to: address, amount: uint256):
    parts: uint256 = amount * WAD // self.index  # down, so that a rebased token moves a unit less than asked
    self.parts[owner] -= parts
    if Weird.FEE in self.weird:
        parts -= parts // FEE_DIVISOR
    self.parts[to] += parts


@internal
@view
def _answer(answer: bool) -> Bytes[MAX_ANSWER]:
    weird: Weird = self.weird
    word: Bytes[32] = abi_encode(answer)
    if Weird.SILENT in weird:
        return b""
    if Weird.GARBAGE in weird:
        return abi_encode(convert(2, uint256))
    if Weird.SHORT in weird:
        return slice(word, 0, 31)
    if Weird.LONG in weird:
        zeros: bytes32[2000] = empty(bytes32[2000])
        return concat(word, slice(abi_encode(zeros), 0, 64_000))
    return word
