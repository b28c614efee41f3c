"""`states` and `state`: everything about many vaults in one call, whatever is wrong with one of them."""

import pyrevm
import pytest

from tests.support.basket import Basket
from tests.support.evm import Reverted, artifact
from tests.support.world import ALICE, DAY, GUARDIAN, STRANGER, STRATEGIST, WAD, World

REVERTS, BURNS_GAS, SHORT = 4_096, 8_192, 16_384  # WeirdToken's balanceOf
FIELDS = [item["name"] for item in artifact("VaultLens")["abi"][0]["outputs"][1]["components"]]


@pytest.fixture
def world():
    made = World(fee_bps=100)
    made.mint(ALICE, 10 * WAD)
    return made


@pytest.fixture
def lens(world):
    return world.deploy("VaultLens")


def read(lens, *vaults):
    """By field, of the vaults that could be read; None for the others."""
    readable, states = lens.call("states", list(vaults))
    return [
        dict(zip(FIELDS, state, strict=True)) if ok else None
        for ok, state in zip(readable, states, strict=True)
    ]


def test_reads_what_the_vault_says(world, lens):
    world.sleep(3 * DAY)
    world.at_once("set_targets", [4_900, 3_100, 2_000], sender=STRATEGIST)
    (state,) = read(lens, world.vault.address)
    vault = world.vault
    assert state["vault"] == vault.address.lower()
    for name in ("basket", "balances", "rules", "session", "pending_fee_shares", "fee_bps", "flow_sequence"):
        assert state[name] == vault.call(name)
    assert state["supply"] == vault.call("totalSupply") > 1_000_010 * WAD
    assert state["loss_used"] == vault.call("loss_budget_used") == 0
    assert state["speed_used"] == vault.call("speed_budget_used") == 2 * WAD // 100
    assert state["head"] == vault.call("head")
    assert state["oracle"] == world.oracle.address.lower()
    assert list(state["prices"]) == world.prices
    assert list(state["statuses"]) == [0, 0, 0]
    assert (state["unreadable"], state["aside"], state["aside_until"], state["paused_until"]) == (0, 16, 0, 0)


def test_reads_quarantine_pause_and_stale_prices(world, lens):
    world.at_once("quarantine", world.tokens[1].address, sender=GUARDIAN)
    world.at_once("pause", sender=GUARDIAN)
    (state,) = read(lens, world.vault.address)
    until = world.evm.now + 14 * DAY
    assert (state["aside"], state["aside_until"], state["paused_until"]) == (1, until, until)
    world.sleep(31 * DAY)
    (state,) = read(lens, world.vault.address)
    assert (state["aside"], state["aside_until"]) == (1, until)  # it is over, which the time says
    assert list(state["statuses"]) == [5, 5, 5]
    assert list(state["prices"]) == [0, 0, 0]


def test_reports_a_token_that_does_not_answer_and_reads_the_rest(world, lens):
    before = world.balances()
    world.evm._evm.insert_account_info(world.tokens[2].address, pyrevm.AccountInfo(nonce=1, code=b""))
    (state,) = read(lens, world.vault.address)
    assert state["unreadable"] == 0b100
    assert list(state["balances"]) == [*before[:2], 0]


@pytest.mark.parametrize("weirdness", [REVERTS, BURNS_GAS, SHORT])
def test_reports_a_token_that_answers_badly_and_reads_the_rest(world, lens, weirdness):
    cash, weird = world.deploy("TestToken", "Cash", "CASH", 18), world.deploy("WeirdToken", 18, 0)
    vault = Basket(world.evm, [cash, weird], [WAD, WAD]).create([70 * WAD, 50 * WAD])
    assert read(lens, vault.address)[0]["unreadable"] == 0
    weird.call("set_weird", weirdness)
    first, second = read(lens, vault.address, world.vault.address)
    assert (first["unreadable"], first["balances"]) == (0b10, (70 * WAD, 0))
    assert second["balances"] == tuple(world.balances())


def test_reads_the_other_vaults_where_one_is_none(world, lens):
    first, second, third = read(lens, STRANGER, world.vault.address, world.oracle.address)
    assert first is None
    assert third is None
    assert second["vault"] == world.vault.address.lower()


def test_reads_128_vaults_and_no_more(world, lens):
    states = read(lens, *[world.vault.address] * 128)
    assert [state["head"] for state in states] == [world.vault.call("head")] * 128
    with pytest.raises(Reverted):
        lens.call("states", [world.vault.address] * 129)


def test_reads_no_vault(lens):
    assert read(lens) == []


def test_state_reverts_where_there_is_no_vault(lens):
    with pytest.raises(Reverted):
        lens.call("state", STRANGER)
