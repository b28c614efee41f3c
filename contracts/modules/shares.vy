# pragma version 0.4.3
"""
@title Vault shares: ERC-20 with permit, and a streaming fee
@license MIT
@notice The ledger keeps supply, pending fee, day of the last accrual and the number of flows in one storage
        word. The supply includes the pending fee in every read. The fee accrues in whole UTC days and saturates,
        so that nothing here can revert for arithmetic when shares are redeemed. Tellers' fees are shares of nobody
        that melt out of the supply.
"""
from ethereum.ercs import IERC20


interface IERC1271:
    def isValidSignature(digest: bytes32, signature: Bytes[65]) -> bytes4: view


struct Ledger:
    supply: uint256  # 112 bits, pending fee included
    pending_fee: uint256  # 92 bits, shares
    day: uint256  # 20 bits, days since 1970 of the last accrual
    flow_sequence: uint256  # 31 bits, number of flows so far
    melts: bool  # fee shares of nobody are in the stored supply
    melted: uint256  # how many of them are gone: not stored


decimals: public(constant(uint8)) = 18
MAX_SUPPLY: public(constant(uint256)) = 2**112 - 1
MAX_PENDING: constant(uint256) = 2**92 - 1
MAX_DAY: constant(uint256) = 2**20 - 1
MAX_SEQUENCE: constant(uint256) = 2**31 - 1
MAX_FEE_BPS: constant(uint256) = 300  # 3 % a year
FEE_YEAR: constant(uint256) = 365 * 10**4  # days * bps

PERMIT_TYPEHASH: constant(bytes32) = keccak256(
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)
DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
MALLEABILITY_LIMIT: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
ERC1271_MAGIC: constant(bytes4) = 0x1626ba7e

_name: bytes32[2]  # padded with zeros; the second word is written for names longer than 32 bytes
_label: uint256  # symbol 128, padded with zeros | length of the name 8 | of the symbol 8
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])
_fee: uint256  # recipient 160 | bps a year
_ledger: uint256
_melting: uint256  # fee shares 112 | since 40 | seconds from then until none are left


# ERC-20


@external
@view
def name() -> String[64]:
    return self._get_name()


@external
@view
def symbol() -> String[16]:
    label: uint256 = self._label
    return convert(slice(convert(label, bytes32), 0, label & 255), String[16])


@external
@nonreentrant
def transfer(receiver: address, amount: uint256) -> bool:
    self._transfer(msg.sender, receiver, amount)
    return True


@external
@nonreentrant
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    self._spend_allowance(owner, msg.sender, amount)
    self._transfer(owner, receiver, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    self._approve(msg.sender, spender, amount)
    return True


@external
@view
@nonreentrant
def totalSupply() -> uint256:
    return self._current().supply


# ERC-2612


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    """
    @notice Approve by signature: an account's (ECDSA) or a contract's (ERC-1271, given r, s, v in 65 bytes).
    """
    assert block.timestamp <= deadline, "permit expired"
    nonce: uint256 = self.nonces[owner]
    self.nonces[owner] = nonce + 1
    digest: bytes32 = keccak256(
        concat(
            b"\x19\x01",
            self._domain_separator(),
            keccak256(abi_encode(PERMIT_TYPEHASH, owner, spender, amount, nonce, deadline)),
        )
    )
    assert owner != empty(address) and self._signed(owner, digest, v, r, s), "invalid signature"
    self._approve(owner, spender, amount)


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return self._domain_separator()


# Fee


@external
@view
def fee_bps() -> uint256:
    """
    @return A year.
    """
    return self._fee >> 160


@external
@view
def fee_recipient() -> address:
    return self._recipient()


@external
@view
@nonreentrant
def pending_fee_shares() -> uint256:
    return self._current().pending_fee


@external
@nonreentrant
def collect_fee() -> uint256:
    """
    @notice Pay the pending fee shares to the recipient. Anyone may call it; the supply does not change.
    """
    return self._collect_fee()


@external
@view
@nonreentrant
def melting() -> (uint256, uint256):
    """
    @return Tellers' fees: shares of nobody that are still in the supply, and the seconds until none are.
    """
    word: uint256 = self._melting
    ends: uint256 = ((word >> 112) & (2**40 - 1)) + (word >> 152)
    return (word & MAX_SUPPLY) - self._melted(), max(ends, block.timestamp) - block.timestamp


@external
@view
@nonreentrant
def flow_sequence() -> uint256:
    return self._current().flow_sequence


# Internal


@internal
def _set_name(name: String[64], symbol: String[16]):
    padded: Bytes[128] = concat(convert(name, Bytes[64]), empty(bytes32), empty(bytes32))
    self._name[0] = extract32(padded, 0)
    if len(name) > 32:
        self._name[1] = extract32(padded, 32)
    label: bytes32 = extract32(concat(convert(symbol, Bytes[16]), empty(bytes32)), 0)
    self._label = convert(label, uint256) | (len(name) << 8) | len(symbol)


@internal
@view
def _get_name() -> String[64]:
    return convert(slice(concat(self._name[0], self._name[1]), 0, (self._label >> 8) & 255), String[64])


@internal
def _set_fee(bps: uint256, recipient: address):
    assert bps <= MAX_FEE_BPS, "fee above cap"
    assert recipient not in [empty(address), self], "fee recipient not allowed"
    self._collect_fee()  # what has accrued so far is owed at the old rate, to the old recipient
    self._fee = convert(recipient, uint256) | (bps << 160)


@internal
@view
def _recipient() -> address:
    return convert(self._fee & (2**160 - 1), address)


@internal
def _collect_fee() -> uint256:
    ledger: Ledger = self._current()
    shares: uint256 = ledger.pending_fee
    ledger.pending_fee = 0
    self._store(ledger)
    if shares > 0:
        recipient: address = self._recipient()
        self.balanceOf[recipient] += shares
        log IERC20.Transfer(sender=empty(address), receiver=recipient, value=shares)
    return shares


@internal
@view
def _current() -> Ledger:
    """
    @dev The ledger with the fee accrued up to today. Rounds the fee down: for the holders.
    """
    word: uint256 = self._ledger
    ledger: Ledger = Ledger(
        supply=word & MAX_SUPPLY,
        pending_fee=(word >> 112) & MAX_PENDING,
        day=(word >> 204) & MAX_DAY,
        flow_sequence=(word >> 224) & MAX_SEQUENCE,
        melts=word >> 255 == 1,
        melted=0,
    )
    if ledger.melts:
        ledger.melted = self._melted()
        ledger.supply -= ledger.melted
    today: uint256 = min(block.timestamp // 86400, MAX_DAY)
    if today > ledger.day:
        fee: uint256 = min(
            ledger.supply * (self._fee >> 160) * (today - ledger.day) // FEE_YEAR,
            min(MAX_SUPPLY - ledger.supply - ledger.melted, MAX_PENDING - ledger.pending_fee),
        )
        ledger.supply += fee
        ledger.pending_fee += fee
        ledger.day = today
    return ledger


@internal
@view
def _entry_supply(ledger: Ledger) -> uint256:
    """
    @return The supply without fee shares that are still melting: who enters pays as if they were gone.
    """
    if not ledger.melts:
        return ledger.supply
    return ledger.supply - ((self._melting & MAX_SUPPLY) - ledger.melted)


@internal
@view
def _melted() -> uint256:
    """
    @return Fee shares that the stored supply still counts and that are no more. Rounded down.
    """
    word: uint256 = self._melting
    shares: uint256 = word & MAX_SUPPLY
    left: uint256 = word >> 152
    elapsed: uint256 = block.timestamp - ((word >> 112) & (2**40 - 1))
    if elapsed >= left:
        return shares
    return shares * elapsed // left


@internal
def _melt(ledger: Ledger, fee: uint256, seconds: uint256) -> Ledger:
    """
    @dev Add a fee in shares of nobody, which leave the supply linearly: every price of a share, in kind or not, follows
         it by the second, so there is no moment to step in for. A fee beside what is left of old ones: together for
         their mean remaining time, weighted by shares, so that dust delays nothing.
    @return The ledger with the fee in its supply; the caller stores it.
    """
    if fee == 0 and not ledger.melts:
        return ledger
    word: uint256 = self._melting
    rest: uint256 = (word & MAX_SUPPLY) - ledger.melted
    ends: uint256 = ((word >> 112) & (2**40 - 1)) + (word >> 152)
    left: uint256 = max(ends, block.timestamp) - block.timestamp
    if rest + fee > 0:
        left = (rest * left + fee * seconds) // (rest + fee)  # down: never longer
    self._melting = (rest + fee) | (block.timestamp << 112) | (left << 152)
    grown: Ledger = ledger
    grown.supply += fee
    grown.melts = rest + fee > 0
    grown.melted = 0
    return grown


@internal
def _store(ledger: Ledger):
    self._ledger = (
        (ledger.supply + ledger.melted)
        | (ledger.pending_fee << 112)
        | (ledger.day << 204)
        | ((ledger.flow_sequence & MAX_SEQUENCE) << 224)
        | (convert(ledger.melts, uint256) << 255)
    )


@internal
def _mint(ledger: Ledger, receiver: address, shares: uint256):
    """
    @dev Write `ledger`, `shares` larger. The caller has made the ledger current.
    """
    self._check_receiver(receiver)
    assert shares <= MAX_SUPPLY - ledger.supply - ledger.melted, "supply above cap"
    grown: Ledger = ledger
    grown.supply += shares
    self._store(grown)
    self.balanceOf[receiver] += shares
    log IERC20.Transfer(sender=empty(address), receiver=receiver, value=shares)


@internal
def _burn(ledger: Ledger, owner: address, shares: uint256):
    """
    @dev Write `ledger`, `shares` smaller. The caller has made the ledger current.
    """
    balance: uint256 = self.balanceOf[owner]
    assert balance >= shares, "balance too low"
    self.balanceOf[owner] = balance - shares
    shrunk: Ledger = ledger
    shrunk.supply -= shares
    self._store(shrunk)
    log IERC20.Transfer(sender=owner, receiver=empty(address), value=shares)


@internal
def _transfer(owner: address, receiver: address, amount: uint256):
    self._check_receiver(receiver)
    balance: uint256 = self.balanceOf[owner]
    assert balance >= amount, "balance too low"
    self.balanceOf[owner] = balance - amount
    self.balanceOf[receiver] += amount
    log IERC20.Transfer(sender=owner, receiver=receiver, value=amount)


@internal
@view
def _check_receiver(receiver: address):
    assert receiver != empty(address) and receiver != self, "receiver not allowed"


@internal
def _approve(owner: address, spender: address, amount: uint256):
    self.allowance[owner][spender] = amount
    log IERC20.Approval(owner=owner, spender=spender, value=amount)


@internal
def _spend_allowance(owner: address, spender: address, amount: uint256):
    allowed: uint256 = self.allowance[owner][spender]
    if allowed != max_value(uint256):
        assert allowed >= amount, "allowance too low"
        self.allowance[owner][spender] = allowed - amount


@internal
@view
def _signed(owner: address, digest: bytes32, v: uint8, r: bytes32, s: bytes32) -> bool:
    if convert(s, uint256) <= MALLEABILITY_LIMIT and ecrecover(digest, v, r, s) == owner:
        return True
    if not owner.is_contract:
        return False
    signature: Bytes[65] = concat(r, s, convert(v, bytes1))
    return staticcall IERC1271(owner).isValidSignature(digest, signature) == ERC1271_MAGIC


@internal
@view
def _domain_separator() -> bytes32:
    return keccak256(
        abi_encode(DOMAIN_TYPEHASH, keccak256(self._get_name()), keccak256("1"), chain.id, self)
    )
