"""Tokens are sent to the vault to shift what shares are worth, a mint that is on its way, or a trade.

What is donated belongs to all holders at once. The attacker's gain is at most its own part of it: a loss.
"""

import pytest

from tests.support.world import ALICE, BOB, OWNER, STRANGER, WAD, World, reverts
from tests.unit.attacks.wealth import value, wealth
from tests.unit.stage import ON_TARGET, K, Stage, usd


def donate(world: World, amounts: list[int], donor: str = STRANGER) -> None:
    for token, amount in zip(world.tokens, amounts, strict=True):
        token.call("transfer", world.vault.address, amount, sender=donor)


@pytest.mark.parametrize("part", [1, 10, 99])
def test_a_holder_gets_back_no_more_than_its_part(part):
    """The attacker holds `part` % of the shares and gives 100,000 USD: it loses the rest of that."""
    world = World()
    supply = world.vault.call("totalSupply")
    world.vault.call("transfer", ALICE, supply * part // 100, sender=OWNER)
    gift = [amount // 10 for amount in world.seed]
    world.give(ALICE, gift)
    before = wealth(world, ALICE)
    donate(world, gift, ALICE)
    world.redeem(ALICE, world.vault.call("balanceOf", ALICE))
    lost = value(world, gift) * (100 - part) // 100
    assert -lost - 10**15 <= wealth(world, ALICE) - before <= -lost


def test_a_mint_on_its_way_pays_no_more_than_its_maximum():
    """A donation before it makes it dearer: the depositor's maximum refuses, and a wider one pays for what it gets."""
    world = World()
    shares = 100 * WAD
    quoted = world.vault.call("preview_mint_in_kind", shares)
    world.give(BOB, [10 * amount for amount in quoted], spender=world.vault.address)
    gift = [amount // 100 for amount in world.seed]
    world.give(STRANGER, gift)
    donate(world, gift)
    with reverts("amount above maximum"):
        world.vault.call("mint_in_kind", shares, quoted, BOB, sender=BOB)

    wide = [amount * 102 // 100 for amount in quoted]
    before = wealth(world, BOB)
    world.vault.call("mint_in_kind", shares, wide, BOB, sender=BOB)
    assert 0 <= before - wealth(world, BOB) <= 3 * 10**14  # rounding: a unit of each token


@pytest.mark.parametrize("token", [0, 1, 2])
@pytest.mark.parametrize("units", [1, 1_000])
def test_dust_before_a_trade_does_not_block_it(stage: Stage, token, units):
    """The keeper's payload pays fixed amounts, exactly to target: the tolerance takes up what came in between."""
    executor = stage.deploy("BadExecutor")
    bought = usd(0, 50 * K, 50 * K)
    stage.give(executor.address, bought)
    executor.call("set_payout", [token.address for token in stage.tokens], bought)
    dust = [units * 10**11 if i == token == 2 else units * (i == token) for i in range(3)]
    stage.give(STRANGER, dust)
    donate(stage, dust)
    stage.rebalance([], sells=usd(100 * K, 0, 0), executor=executor.address, payload=b"")
    after = [amount + more for amount, more in zip(ON_TARGET, dust, strict=True)]
    assert stage.balances()[1:] == after[1:]
    assert 0 <= stage.balances()[0] - after[0] <= units  # of the dust, half belongs in cash


def test_it_opens_a_session_only_by_giving_the_drift_away(stage: Stage):
    """To lift cash to its band's edge takes a gift of a tenth of NAV; to trade it back can lose 1 % of half of it."""
    stage.set_balances(ON_TARGET)
    with reverts("no trigger"):
        stage.open_session()
    stage.give(STRANGER, usd(111_112 * 10**6, 0, 0))
    donate(stage, usd(111_111 * 10**6, 0, 0))
    with reverts("no trigger"):
        stage.open_session()
    donate(stage, usd(1 * 10**6, 0, 0))
    stage.open_session()
    before = value(stage, stage.balances())
    stage.refuses("loss above slippage", usd(556 * K, 333 * K, 221_560 * 10**6))
    stage.rebalance(usd(556 * K, 333 * K, 221_561 * 10**6))
    lost = before - value(stage, stage.balances())
    assert lost == 551 * WAD  # 1 % of the 55,112 USD sold: of 111,112 given
    assert sum(stage.balances(STRANGER)) == 0
