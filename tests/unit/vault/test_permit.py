import pytest
from eth_abi import encode
from eth_account import Account
from eth_utils import keccak

from tests.support.world import BOB, STRANGER, ZERO, World, reverts
from tests.unit.vault.support import bare_clone

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1
SIGNER = Account.from_key("0x" + "11" * 32)
OWNER = SIGNER.address
CHAIN_ID = 1


def domain(world: World, **fields: object) -> bytes:
    """EIP-712, written out."""
    given = {
        "name": keccak(text="Evenkeel Test"),
        "version": keccak(text="1"),
        "chain_id": CHAIN_ID,
        "contract": world.vault.address,
    }
    kind = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    return keccak(
        encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], [kind, *(given | fields).values()])
    )


def digest(world: World, owner: str, deadline: int, nonce: int, amount: int = 7, **fields: object) -> bytes:
    kind = keccak(text="Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
    permit = encode(
        ["bytes32", "address", "address", "uint256", "uint256", "uint256"],
        [kind, owner, BOB, amount, nonce, deadline],
    )
    return keccak(b"\x19\x01" + domain(world, **fields) + keccak(permit))


def sign(
    world: World, deadline: int, nonce: int = 0, amount: int = 7, **fields: object
) -> tuple[int, bytes, bytes]:
    """OWNER lets BOB have `amount`."""
    signed = Account.unsafe_sign_hash(digest(world, OWNER, deadline, nonce, amount, **fields), SIGNER.key)
    return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def permit(world: World, signature: tuple[int, bytes, bytes], until: int, **fields: object) -> None:
    given = {"owner": OWNER, "spender": BOB, "amount": 7, "deadline": until}
    world.vault.call("permit", *(given | fields).values(), *signature, sender=STRANGER)


@pytest.fixture
def deadline(world: World) -> int:
    return world.evm.now


def test_approves(world: World, deadline: int) -> None:
    permit(world, sign(world, deadline), deadline)
    (event,) = world.evm.events()
    assert (event.name, event.fields) == ("Approval", {"owner": OWNER.lower(), "spender": BOB, "value": 7})
    assert world.vault.call("allowance", OWNER, BOB) == 7
    assert world.vault.call("nonces", OWNER) == 1


def test_names_its_domain(world: World) -> None:
    assert world.vault.call("DOMAIN_SEPARATOR") == domain(world)
    assert bare_clone(world).call("DOMAIN_SEPARATOR") != domain(world)


def test_replayed_reverts(world: World, deadline: int) -> None:
    signature = sign(world, deadline)
    permit(world, signature, deadline)
    with reverts("invalid signature"):
        permit(world, signature, deadline)
    permit(world, sign(world, deadline, nonce=1, amount=8), deadline, amount=8)
    assert world.vault.call("allowance", OWNER, BOB) == 8


def test_of_a_later_nonce_reverts(world: World, deadline: int) -> None:
    with reverts("invalid signature"):
        permit(world, sign(world, deadline, nonce=1), deadline)


def test_expired_reverts(world: World, deadline: int) -> None:
    signature = sign(world, deadline)
    world.sleep(1)
    with reverts("permit expired"):
        permit(world, signature, deadline)


def test_with_the_other_s_reverts(world: World, deadline: int) -> None:
    v, r, s = sign(world, deadline)
    flipped = (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")
    with reverts("invalid signature"):
        permit(world, (55 - v, r, flipped), deadline)
    assert world.vault.call("nonces", OWNER) == 0
    permit(world, (v, r, s), deadline)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_with_a_wrong_v_reverts(world: World, deadline: int, v: int) -> None:
    _, r, s = sign(world, deadline)
    with reverts("invalid signature"):
        permit(world, (v, r, s), deadline)


@pytest.mark.parametrize(
    "other", [{"owner": STRANGER}, {"spender": STRANGER}, {"amount": 8}, {"deadline": 2**40}]
)
def test_of_something_else_reverts(world: World, deadline: int, other: dict[str, object]) -> None:
    signature = sign(world, deadline)
    with reverts("invalid signature"):
        permit(world, signature, deadline, **other)


@pytest.mark.parametrize(
    "other",
    [
        {"name": keccak(text="Other")},
        {"version": keccak(text="2")},
        {"chain_id": CHAIN_ID + 1},
        {"contract": STRANGER},
    ],
)
def test_for_another_domain_reverts(world: World, deadline: int, other: dict[str, object]) -> None:
    with reverts("invalid signature"):
        permit(world, sign(world, deadline, **other), deadline)


def test_for_nobody_reverts(world: World, deadline: int) -> None:
    with reverts("invalid signature"):  # ecrecover answers the zero address
        permit(world, (0, bytes(32), bytes(32)), deadline, owner=ZERO)


def test_by_a_contract_approves_what_it_says(world: World, deadline: int) -> None:
    wallet = world.deploy("ScriptedWallet")
    signature = (27, b"\x01" * 32, b"\xff" * 32)  # nobody's; an s above the limit is for the wallet to judge
    with reverts("invalid signature"):
        permit(world, signature, deadline, owner=wallet.address)
    wallet.call("approve_digest", digest(world, wallet.address, deadline, nonce=0))
    permit(world, signature, deadline, owner=wallet.address)
    assert world.vault.call("allowance", wallet.address, BOB) == 7
    with reverts("invalid signature"):  # the nonce moved
        permit(world, signature, deadline, owner=wallet.address)


def test_by_a_contract_that_breaks_reverts(world: World, deadline: int) -> None:
    wallet = world.deploy("ScriptedWallet")
    wallet.call("approve_digest", digest(world, wallet.address, deadline, nonce=0))
    wallet.call("set_breaks", True)
    with reverts("broken wallet"):
        permit(world, (27, bytes(32), bytes(32)), deadline, owner=wallet.address)
    with reverts("0x"):  # no isValidSignature
        permit(world, (27, bytes(32), bytes(32)), deadline, owner=world.tokens[0].address)
