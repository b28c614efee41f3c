import pytest
from brownie import reverts

from tests.unit.vault.deployment import HEARTBEAT, assert_recorded


@pytest.fixture
def other(PriceOracle, tokens, feeds, owner):
    """An oracle that prices all but the last asset."""
    made = owner.deploy(PriceOracle)
    for token, feed in list(zip(tokens, feeds, strict=True))[:-1]:
        made.set_feed(token, feed, HEARTBEAT, 1, 10**30, {"from": owner})
    return made


@pytest.fixture
def complete(other, tokens, feeds, owner):
    other.set_feed(tokens[-1], feeds[-1], HEARTBEAT, 1, 10**30, {"from": owner})
    return other


def test_stores_and_records_the_oracle(vault, complete, owner):
    before = vault.head()
    tx = vault.set_oracle(complete, {"from": owner})
    assert vault.oracle() == complete
    assert_recorded(vault, tx, "set_oracle", ["address"], [complete.address], before)


@pytest.mark.parametrize("caller", ["keeper", "guardian", "strategist", "stranger"])
def test_by_others_reverts(vault, complete, caller, request):
    with reverts("not owner"):
        vault.set_oracle(complete, {"from": request.getfixturevalue(caller)})


def test_that_lacks_a_price_reverts(vault, other, oracle, owner):
    with reverts("price not usable"):
        vault.set_oracle(other, {"from": owner})
    assert vault.oracle() == oracle


@pytest.mark.parametrize(
    ("prices", "statuses"),
    [([1, 1], [0, 0]), ([1, 1, 1], [0, 0]), ([1, 1, 1], [0, 0, 5]), ([1, 0, 1], [0, 0, 0])],
)
def test_that_answers_nonsense_reverts(vault, ScriptedOracle, owner, prices, statuses):
    scripted = owner.deploy(ScriptedOracle)
    scripted.set_prices(prices, statuses, {"from": owner})
    with reverts("price not usable"):
        vault.set_oracle(scripted, {"from": owner})
    scripted.set_prices([1, 1, 1], [0, 0, 0], {"from": owner})
    vault.set_oracle(scripted, {"from": owner})


def test_that_is_no_contract_reverts(vault, stranger, oracle, owner):
    with reverts():
        vault.set_oracle(stranger, {"from": owner})
    assert vault.oracle() == oracle
