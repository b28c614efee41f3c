"""The executor calls the vault while the vault waits for it: every door that moves value is locked."""

import pytest

from tests.unit.stage import DECISION, OUT_OF_BAND, Stage

REENTER, REENTER_OR_REVERT = 3, 4
SHARE = 10**18


@pytest.fixture(scope="module")
def intruder(stage: Stage, BadExecutor, accounts):
    """An executor that is the keeper, guardian and owner at once, has shares, tokens and allowances."""
    intruder = BadExecutor.deploy({"from": stage.stranger})
    stage.vault.transfer(intruder, 10 * SHARE, {"from": stage.owner})
    stage.vault.approve(intruder, 10 * SHARE, {"from": stage.owner})
    stage.vault.set_role(intruder, 7, {"from": stage.owner})
    stage.executor.set_balances(intruder, stage.tokens, [10**24] * 3, {"from": stage.stranger})
    for token in stage.tokens:
        intruder.approve(token, stage.vault, 2**256 - 1, {"from": stage.stranger})
    return intruder


CALLS = {
    "mint": lambda s, i: s.vault.mint_in_kind.encode_input(SHARE, [2**255] * 3, i),
    "redeem": lambda s, i: s.vault.redeem_in_kind.encode_input(SHARE, i, i, [0] * 3, 0),
    "transfer": lambda s, i: s.vault.transfer.encode_input(s.keeper, SHARE),
    "transfer_from": lambda s, i: s.vault.transferFrom.encode_input(s.owner, i, SHARE),
    "collect_fee": lambda s, i: s.vault.collect_fee.encode_input(),
    "pause": lambda s, i: s.vault.pause.encode_input(),
    "drop_role": lambda s, i: s.vault.drop_role.encode_input(s.strategist),
    "rebalance": lambda s, i: s.vault.rebalance.encode_input(
        [0] * 3, s.executor, s.payload(OUT_OF_BAND), DECISION, 1, 2**64
    ),
    "total_supply": lambda s, i: s.vault.totalSupply.encode_input(),
    "balances": lambda s, i: s.vault.balances.encode_input(),
    "session": lambda s, i: s.vault.session.encode_input(),
    "preview_mint": lambda s, i: s.vault.preview_mint_in_kind.encode_input(SHARE),
    "preview_redeem": lambda s, i: s.vault.preview_redeem_in_kind.encode_input(SHARE, 0),
}


@pytest.mark.parametrize("door", CALLS)
def test_the_door_is_locked(stage: Stage, intruder, door):
    intruder.set_call(stage.vault, CALLS[door](stage, intruder), {"from": stage.stranger})
    intruder.set_mode(REENTER, {"from": stage.stranger})
    stage.rebalance(OUT_OF_BAND, executor=intruder, sells=[0] * 3)
    assert not intruder.called()
    intruder.execute(b"", {"from": stage.stranger})  # the same call when no trade is under way
    assert intruder.called()


def test_a_view_that_moves_nothing_is_not_locked(stage: Stage, intruder):
    """The mock reports a call that works."""
    intruder.set_call(stage.vault, stage.vault.rules.encode_input(), {"from": stage.stranger})
    intruder.set_mode(REENTER, {"from": stage.stranger})
    stage.rebalance(OUT_OF_BAND, executor=intruder, sells=[0] * 3)
    assert intruder.called()
