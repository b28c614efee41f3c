from eth_account import Account

from tests.support.world import BOB
from tests.unit.teller.stage import CASH, USD, Desk

SIGNER = Account.from_key(b"\x11" * 32)
AMOUNT = 1_000 * USD[CASH]
FIELDS = [("owner", "address"), ("spender", "address"), ("value", "uint256"), ("nonce", "uint256")]
TYPES = {"Permit": [{"name": n, "type": t} for n, t in (*FIELDS, ("deadline", "uint256"))]}


def permit(desk: Desk, amount: int = AMOUNT, deadline: int = 2**64) -> tuple[int, int, bytes, bytes]:
    """The signer's, for the teller in cash: deadline, v, r, s."""
    token = desk.world.tokens[CASH]
    token.call("set_balance", SIGNER.address, 10 * AMOUNT)
    domain = {"name": "Weird", "version": "1", "chainId": 1, "verifyingContract": token.address}
    teller = desk.tellers[CASH].address
    words = {"owner": SIGNER.address, "spender": teller, "value": amount, "nonce": 0}
    signed = SIGNER.sign_typed_data(domain, TYPES, words | {"deadline": deadline})
    return deadline, signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def test_deposits_by_signature(weird_desk: Desk):
    shares = weird_desk.call("previewDeposit", AMOUNT)
    signature = permit(weird_desk)
    got = weird_desk.call("deposit_with_permit", AMOUNT, BOB, shares, *signature, sender=SIGNER.address)
    (event,) = weird_desk.evm.events("Deposit")
    assert got == weird_desk.shares(BOB) == shares
    assert event.fields["sender"].lower() == SIGNER.address.lower()


def test_deposits_when_somebody_has_used_the_permit_before(weird_desk: Desk):
    signature = permit(weird_desk)
    token, teller = weird_desk.world.tokens[CASH], weird_desk.tellers[CASH].address
    token.call("permit", SIGNER.address, teller, AMOUNT, *signature, sender=BOB)
    weird_desk.call("deposit_with_permit", AMOUNT, BOB, 0, *signature, sender=SIGNER.address)
    assert weird_desk.shares(BOB) > 0


def test_reverts_on_somebody_elses_permit(weird_desk: Desk):
    signature = permit(weird_desk)
    stranger = "0x" + "5e" * 20
    weird_desk.world.tokens[CASH].call("set_balance", stranger, AMOUNT)
    weird_desk.refuses("permit failed", "deposit_with_permit", AMOUNT, BOB, 0, *signature, sender=stranger)


def test_reverts_on_an_old_permit(weird_desk: Desk):
    signature = permit(weird_desk, deadline=weird_desk.evm.now - 1)
    weird_desk.refuses(
        "permit failed", "deposit_with_permit", AMOUNT, BOB, 0, *signature, sender=SIGNER.address
    )


def test_reverts_below_the_minimum(weird_desk: Desk):
    shares = weird_desk.call("previewDeposit", AMOUNT)
    signature = permit(weird_desk)
    weird_desk.refuses(
        "too few shares",
        "deposit_with_permit",
        AMOUNT,
        BOB,
        shares + 1,
        *signature,
        sender=SIGNER.address,
    )
