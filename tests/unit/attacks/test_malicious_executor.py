"""The executor does what it likes with the 100 thousand USD that it is sent.

Beyond the slippage, 1 % of what is gone in the end, everything that it tries makes the trade revert as a whole.
"""

import pytest

from offchain.planner.payload import Call, encode
from tests.support.evm import Contract, Reverted
from tests.support.venue import call_data
from tests.support.world import KEEPER, OWNER, STRANGER, WAD, reverts
from tests.unit.attacks.market import Market
from tests.unit.stage import NOTHING, ON_TARGET, OUT_OF_BAND, K, Stage, usd

MANY = 2**255


@pytest.fixture
def executor(stage: Stage) -> Contract:
    """The shared one, which makes any call that its payload asks for."""
    return stage.deploy("Executor")


def run(stage: Stage, executor: Contract, *calls: tuple[Contract, str, tuple]) -> None:
    legs = [Call(target.address, call_data(target, name, *arguments)) for target, name, arguments in calls]
    stage.rebalance([], executor=executor.address, payload=encode(legs))


def settle(stage: Stage, after: list[int]) -> tuple:
    """What leaves the vault with these balances."""
    call = ([token.address for token in stage.tokens], after)
    return (stage.executor, "set_balances", (stage.vault.address, *call))


def test_keeping_everything_is_refused(stage: Stage, executor: Contract):
    with reverts("drift fell too little"):
        run(stage, executor, (stage.tokens[0], "transfer", (KEEPER, 100 * K)))
    assert stage.balances() == OUT_OF_BAND
    run(stage, executor, (stage.tokens[0], "transfer", (KEEPER, 100 * K)), settle(stage, ON_TARGET))


@pytest.mark.parametrize("token", [0, 1, 2])
def test_taking_by_an_allowance_is_refused(stage: Stage, executor: Contract, token):
    """The vault approves nobody, so there is nothing to take: not even a unit."""
    take = (stage.tokens[token], "transferFrom", (stage.vault.address, KEEPER, 1))
    with pytest.raises(Reverted):
        run(stage, executor, take, settle(stage, ON_TARGET))
    for spender in (executor.address, stage.executor.address, KEEPER):
        assert stage.tokens[token].call("allowance", stage.vault.address, spender) == 0


@pytest.mark.parametrize("token", [1, 2])
def test_a_balance_that_falls_by_magic_is_refused(stage: Stage, executor: Contract, token):
    """A token that its issuer lets the executor seize: nothing may fall that was not sent."""
    half_way = usd(550 * K, 275 * K, 175 * K)
    after = [*half_way]
    after[token] = OUT_OF_BAND[token] - 1
    with reverts("balance fell by more than sent"):
        run(stage, executor, settle(stage, after))
    run(stage, executor, settle(stage, half_way))


@pytest.mark.parametrize("feed", [0, 1, 2])
@pytest.mark.parametrize("factor", [2, 50, 200])
def test_moving_a_price_meanwhile_changes_nothing(stage: Stage, executor: Contract, feed, factor):
    """Prices are read once, before: the same theft is refused and the same trade accepted."""
    price = stage.prices[feed] * factor // 100
    move = (stage.feeds[feed], "set_answer", (price,))
    with reverts("loss above slippage"):
        run(stage, executor, move, settle(stage, usd(500 * K, 299 * K - 1, 200 * K)))
    run(stage, executor, move, settle(stage, usd(500 * K, 299 * K, 200 * K)))
    assert stage.vault.call("loss_budget_used") == 10**15 + 25 * (100_000 + 49_000 + 50_000) * 10**8


def test_a_dead_feed_meanwhile_changes_nothing(stage: Stage, executor: Contract):
    run(stage, executor, (stage.feeds[1], "set_answer", (0,)), settle(stage, ON_TARGET))
    assert stage.balances() == ON_TARGET


def test_using_up_all_gas_is_refused(stage: Stage):
    token = stage.deploy("WeirdToken", 18, 1024)  # BURNS_GAS, as any code may
    executor = stage.deploy("Executor")
    with pytest.raises((Reverted, RuntimeError)):
        run(stage, executor, (token, "transfer", (KEEPER, 0)))
    assert stage.balances() == OUT_OF_BAND


@pytest.mark.parametrize("name", ["rule_book", "timelock", "factory", "implementation", "oracle"])
def test_the_systems_own_contracts_do_not_answer(stage: Stage, name):
    """None of them runs a payload: sent tokens would stay there."""
    with pytest.raises(Reverted):
        stage.rebalance(ON_TARGET, executor=getattr(stage, name).address)
    assert stage.balances() == OUT_OF_BAND


@pytest.mark.parametrize("number", [1, 2, 3, 4, 9])
def test_a_precompile_does_not_answer(stage: Stage, number):
    """They have no code to look at and answer something: sha-256 even 32 bytes."""
    with pytest.raises(Reverted):
        stage.rebalance(ON_TARGET, executor=f"0x{number:040x}")
    assert stage.balances() == OUT_OF_BAND


def test_paying_with_the_vaults_own_shares_is_no_payment(stage: Stage, executor: Contract):
    """Shares are no asset, and the vault takes none."""
    stage.vault.call("transfer", executor.address, 1_000 * WAD, sender=OWNER)
    with reverts("0x"):  # the door of the shares is locked meanwhile
        run(stage, executor, (stage.vault, "transfer", (STRANGER, 1_000 * WAD)), settle(stage, ON_TARGET))
    stage.rebalance(OUT_OF_BAND, sells=NOTHING)


def test_a_payload_is_the_keepers_alone(stage: Stage, executor: Contract):
    """Between transactions the executor holds nothing, so that calling it oneself takes nothing."""
    run(stage, executor, (stage.tokens[0], "transfer", (STRANGER, 100 * K)), settle(stage, ON_TARGET))
    assert stage.balances(executor.address) == [0, 0, 0]


@pytest.mark.parametrize("token", [0, 1])
def test_an_allowance_planted_beforehand_takes_nothing(token):
    """Anyone may have made the shared executor approve him: that is of use only while the executor holds something.

    The trade's own legs leave nothing behind, and no code of the attacker runs in between.
    """
    market, clean = Market(), Market()
    approve = call_data(market.tokens[token], "approve", STRANGER, MANY)
    plant = encode([Call(market.tokens[token].address, approve)])
    market.router.call("execute", plant, sender=STRANGER)
    sold = market.excess
    for each in (market, clean):
        each.trade(sold, each.quote(sold), *each.tokens)
    assert market.balances() == clean.balances()
    with pytest.raises(Reverted):
        market.tokens[token].call("transferFrom", market.router.address, STRANGER, 1, sender=STRANGER)
