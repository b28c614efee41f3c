"""Signed permits of a vault's shares, and what a thief does with one."""

from __future__ import annotations

from eth_abi import encode
from eth_account import Account
from eth_utils import keccak

from tests.support.evm import Contract, Reverted
from tests.support.world import OWNER, WAD, World

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1
VICTIM = Account.from_key(b"\x11" * 32)
THIEF = "0x" + "bb" * 20
SHARES = 1_000 * WAD  # the victim's
SIGNED = 100 * WAD  # what it signs
Signature = tuple[int, bytes, bytes]


def stock(world: World) -> None:
    world.vault.call("transfer", VICTIM.address, SHARES, sender=OWNER)


def sign(
    vault: Contract, deadline: int, nonce: int = 0, chain_id: int = 1, spender: str = THIEF
) -> Signature:
    """The victim's permit of SIGNED to the spender."""
    domain = encode(
        ["bytes32", "bytes32", "bytes32", "uint256", "address"],
        [
            keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
            keccak(text=vault.call("name")),
            keccak(text="1"),
            chain_id,
            vault.address,
        ],
    )
    permit = encode(
        ["bytes32", "address", "address", "uint256", "uint256", "uint256"],
        [
            keccak(text="Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
            *(VICTIM.address, spender, SIGNED, nonce, deadline),
        ],
    )
    signed = Account.unsafe_sign_hash(keccak(b"\x19\x01" + keccak(domain) + keccak(permit)), VICTIM.key)
    return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def steal(
    vault: Contract,
    signature: Signature,
    deadline: int,
    spender: str = THIEF,
    owner: str = VICTIM.address,
    amount: int = SIGNED,
) -> int:
    """Use the permit and take the shares: how many the spender got."""
    before = vault.call("balanceOf", spender)
    try:
        vault.call("permit", owner, spender, amount, deadline, *signature, sender=spender)
        vault.call("transferFrom", owner, spender, amount, sender=spender)
    except Reverted as refusal:
        if refusal.reason not in ("invalid signature", "permit expired"):
            raise
    return int(vault.call("balanceOf", spender) - before)
