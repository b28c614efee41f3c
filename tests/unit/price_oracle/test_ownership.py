from brownie import ZERO_ADDRESS, reverts


def test_deployer_owns(oracle, owner):
    assert oracle.owner() == owner
    assert oracle.pending_owner() == ZERO_ADDRESS


def test_transfer_takes_effect_when_accepted(oracle, owner, non_owner):
    started = oracle.transfer_ownership(non_owner, {"from": owner})
    assert oracle.owner() == owner
    assert oracle.pending_owner() == non_owner
    assert dict(started.events["OwnershipTransferStarted"]) == {
        "previous_owner": owner,
        "new_owner": non_owner,
    }

    accepted = oracle.accept_ownership({"from": non_owner})
    assert oracle.owner() == non_owner
    assert oracle.pending_owner() == ZERO_ADDRESS
    assert dict(accepted.events["OwnershipTransferred"]) == {"previous_owner": owner, "new_owner": non_owner}


def test_an_offer_can_be_withdrawn(oracle, owner, non_owner):
    oracle.transfer_ownership(non_owner, {"from": owner})
    oracle.transfer_ownership(ZERO_ADDRESS, {"from": owner})
    with reverts("not pending owner"):
        oracle.accept_ownership({"from": non_owner})


def test_transfer_reverts_when_not_owner(oracle, non_owner):
    with reverts("not owner"):
        oracle.transfer_ownership(non_owner, {"from": non_owner})


def test_accept_reverts_when_not_offered(oracle, owner, non_owner):
    oracle.transfer_ownership(non_owner, {"from": owner})
    with reverts("not pending owner"):
        oracle.accept_ownership({"from": owner})
