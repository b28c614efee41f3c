"""The executor, or a token with a hook, calls the vault while the vault waits for it.

It may do everything: keeper, strategist, guardian, teller, shares, tokens, allowances, even the timelock's doors. To
redeem while its own trade is under way would pay it from tokens that are not counted; every door that moves value or
changes a rule is locked.
"""

import pytest

from tests.support.evm import Contract
from tests.support.venue import call_data
from tests.support.world import KEEPER
from tests.unit.attacks.doors import FLOWS, OPEN, REENTER, Den
from tests.unit.stage import NOTHING, Stage

BANDS = ([400] * 3, [2_000] * 3)


@pytest.mark.parametrize("transaction", ["rebalance", "redeem_in_kind", "mint_in_kind", "release"])
@pytest.mark.parametrize("door", FLOWS)
def test_the_door_is_locked(door, transaction):
    den = Den()
    den.prepare(door)
    assert den.works()
    assert den.works_within(transaction) == (door in OPEN)


# The same by way of the real timelock, of which the intruder is admin


@pytest.fixture
def intruder(stage: Stage) -> Contract:
    intruder = stage.deploy("BadExecutor")
    intruder.call("set_mode", REENTER)
    stage.delayed("set_role", intruder.address, 7)
    stage.at_once("queue", stage.calldata("set_bands", *BANDS))
    stage.delayed("transfer_admin", intruder.address)
    intruder.call("set_call", stage.timelock.address, stage.calldata("accept_admin"))
    intruder.call("execute", b"")
    assert intruder.call("called")
    return intruder


def call_of(stage: Stage, name: str) -> bytes:
    safer = tuple((stage.rules | {"max_slippage_bps": 90}).values())
    arguments = {
        "pause": (),
        "quarantine": (stage.tokens[2].address,),
        "drop_role": (KEEPER,),
        "set_targets": ([5_100, 2_900, 2_000],),
        "set_rules": (safer,),
        "set_fee": (0, stage.vault.call("fee_recipient")),
        "execute": (stage.calldata("set_bands", *BANDS),),
    }
    return call_data(stage.timelock, name, stage.vault.address, *arguments[name])


@pytest.mark.parametrize(
    "name", ["pause", "quarantine", "drop_role", "set_targets", "set_rules", "set_fee", "execute"]
)
def test_the_timelock_finds_the_door_locked(stage: Stage, intruder: Contract, name):
    intruder.call("set_call", stage.timelock.address, call_of(stage, name))
    stage.rebalance([], sells=NOTHING, executor=intruder.address, payload=b"")
    assert not intruder.call("called")
    intruder.call("execute", b"")  # the same call when no trade is under way
    assert intruder.call("called")


def test_the_intruder_has_every_power(stage: Stage, intruder: Contract):
    assert stage.timelock.call("terms", stage.vault.address)[0] == intruder.address.lower()
    assert stage.vault.call("roles", intruder.address) == 7
