# pragma version 0.4.3
# @license MIT
"""
@title ScriptedWallet
@notice ERC-1271 signer that approves one digest, or answers badly; for tests only.
"""

MAGIC: constant(bytes4) = 0x1626ba7e

digest: bytes32
breaks: bool


@external
def approve_digest(digest: bytes32):
    self.digest = digest


@external
def set_breaks(breaks: bool):
    self.breaks = breaks


@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[65]) -> bytes4:
    assert not self.breaks, "broken wallet"
    return MAGIC if digest == self.digest and len(signature) == 65 else 0xffffffff
