import pytest
from brownie import ZERO_ADDRESS, chain, reverts

from tests.unit.vault.deployment import DAY, NAV, assert_recorded


def test_stores_fee_and_recipient(vault, owner, receiver):
    vault.set_fee(300, receiver, {"from": owner})
    assert (vault.fee_bps(), vault.fee_recipient()) == (300, receiver)


def test_owes_the_past_at_the_old_rate(vault, owner, receiver):
    chain.sleep(365 * DAY)
    tx = vault.set_fee(0, receiver, {"from": owner})
    owed = vault.pending_fee_shares()
    assert owed in (NAV * 100 * 365 // 3_650_000, NAV * 100 * 366 // 3_650_000)
    chain.sleep(365 * DAY)
    chain.mine()
    assert vault.pending_fee_shares() == owed
    assert tx.timestamp < chain.time()


def test_records_the_fee(vault, owner, receiver):
    before = vault.head()
    tx = vault.set_fee(50, receiver, {"from": owner})
    assert_recorded(vault, tx, "set_fee", ["uint256", "address"], [50, receiver.address], before)


@pytest.mark.parametrize("caller", ["keeper", "guardian", "strategist", "fee_recipient", "stranger"])
def test_by_others_reverts(vault, receiver, caller, request):
    with reverts("not owner"):
        vault.set_fee(50, receiver, {"from": request.getfixturevalue(caller)})


def test_above_the_cap_reverts(vault, owner, receiver):
    with reverts("fee above cap"):
        vault.set_fee(301, receiver, {"from": owner})


def test_to_nobody_or_the_vault_reverts(vault, owner):
    for recipient in (ZERO_ADDRESS, vault):
        with reverts("fee recipient not allowed"):
            vault.set_fee(50, recipient, {"from": owner})
