import pytest
import vyper
from brownie import ZERO_ADDRESS, Contract, chain, reverts, web3
from eth_abi import encode
from eth_account import Account
from vyper.compiler.settings import Settings

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1
SIGNER = Account.from_key("0x" + "11" * 32)
WALLET = """
# pragma version 0.4.3
approved: bytes32
@external
def approve_digest(digest: bytes32):
    self.approved = digest
@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[65]) -> bytes4:
    return 0x1626ba7e if digest == self.approved and len(signature) == 65 else 0xffffffff
"""


@pytest.fixture
def deadline():
    return chain.time() + 600


def digest(vault, owner, spender, amount, nonce, deadline) -> bytes:
    """EIP-712, written out."""
    domain = encode(
        ["bytes32", "bytes32", "bytes32", "uint256", "address"],
        [
            web3.keccak(
                text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
            ),
            web3.keccak(text="Evenkeel Balanced"),
            web3.keccak(text="1"),
            web3.eth.chain_id,
            vault.address,
        ],
    )
    permit = encode(
        ["bytes32", "address", "address", "uint256", "uint256", "uint256"],
        [
            web3.keccak(
                text="Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
            ),
            owner,
            spender,
            amount,
            nonce,
            deadline,
        ],
    )
    assert vault.DOMAIN_SEPARATOR() == "0x" + web3.keccak(domain).hex().removeprefix("0x")
    return bytes(web3.keccak(b"\x19\x01" + web3.keccak(domain) + web3.keccak(permit)))


def sign(vault, spender, amount, deadline, nonce=0):
    signed = Account.unsafe_sign_hash(
        digest(vault, SIGNER.address, spender.address, amount, nonce, deadline), SIGNER.key
    )
    return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def test_approves(vault, stranger, receiver, deadline):
    signature = sign(vault, receiver, 7, deadline)
    tx = vault.permit(SIGNER.address, receiver, 7, deadline, *signature, {"from": stranger})
    assert vault.allowance(SIGNER.address, receiver) == 7
    assert vault.nonces(SIGNER.address) == 1
    assert [list(log.values()) for log in tx.events["Approval"]] == [[SIGNER.address, receiver, 7]]


def test_replayed_reverts(vault, stranger, receiver, deadline):
    signature = sign(vault, receiver, 7, deadline)
    vault.permit(SIGNER.address, receiver, 7, deadline, *signature, {"from": stranger})
    with reverts("invalid signature"):
        vault.permit(SIGNER.address, receiver, 7, deadline, *signature, {"from": stranger})
    signature = sign(vault, receiver, 8, deadline, nonce=1)
    vault.permit(SIGNER.address, receiver, 8, deadline, *signature, {"from": stranger})
    assert vault.allowance(SIGNER.address, receiver) == 8


def test_expired_reverts(vault, stranger, receiver):
    late = chain.time() - 10
    with reverts("permit expired"):
        vault.permit(SIGNER.address, receiver, 7, late, *sign(vault, receiver, 7, late), {"from": stranger})


def test_with_the_other_s_reverts(vault, stranger, receiver, deadline):
    v, r, s = sign(vault, receiver, 7, deadline)
    flipped = (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")
    with reverts("invalid signature"):
        vault.permit(SIGNER.address, receiver, 7, deadline, 55 - v, r, flipped, {"from": stranger})
    assert vault.nonces(SIGNER.address) == 0


@pytest.mark.parametrize("field", ["owner", "spender", "amount", "deadline"])
def test_of_something_else_reverts(vault, stranger, receiver, deadline, field):
    told = {"owner": SIGNER.address, "spender": receiver, "amount": 7, "deadline": deadline}
    signature = sign(vault, receiver, 7, deadline)
    other = {"owner": stranger, "spender": stranger, "amount": 8, "deadline": deadline + 1}
    with reverts("invalid signature"):
        vault.permit(*(told | {field: other[field]}).values(), *signature, {"from": stranger})


def test_for_nobody_reverts(vault, stranger, receiver, deadline):
    with reverts("invalid signature"):  # ecrecover answers the zero address
        vault.permit(ZERO_ADDRESS, receiver, 7, deadline, 0, bytes(32), bytes(32), {"from": stranger})


def test_by_a_contract_approves_what_it_says(vault, stranger, receiver, deadline):
    code = vyper.compile_code(
        WALLET, output_formats=["abi", "bytecode"], settings=Settings(evm_version="paris")
    )
    address = stranger.transfer(data=code["bytecode"]).contract_address
    wallet = Contract.from_abi("Wallet", address, code["abi"])
    call = (wallet, receiver, 7, deadline, 27, b"\x01" * 32, b"\xff" * 32)
    with reverts("invalid signature"):
        vault.permit(*call, {"from": stranger})
    wallet.approve_digest(digest(vault, wallet.address, receiver.address, 7, 0, deadline), {"from": stranger})
    vault.permit(*call, {"from": stranger})
    assert vault.allowance(wallet, receiver) == 7
    with reverts("invalid signature"):  # the nonce moved
        vault.permit(*call, {"from": stranger})
