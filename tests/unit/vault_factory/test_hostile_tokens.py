"""Tokens that cheat, fail or call back while the factory takes the seeds."""

import pytest

from tests.support.evm import Contract, Reverted
from tests.support.venue import call_data
from tests.support.world import DAY, OWNER, WAD, asset, reverts
from tests.unit.vault_factory.conftest import Factory, HookFactory

SILENT, FALSE_ON_FAILURE, GARBAGE, SHORT, LONG, FEE, LIES = (1 << i for i in range(7))
PAUSED, BURNS_GAS, BALANCE_REVERTS, BALANCE_SHORT = 512, 1024, 4096, 16_384


@pytest.fixture
def cash(world: Factory) -> Contract:
    """A WeirdToken of 6 decimals at 1 USD; OWNER has much and lets the factory take it."""
    token = world.deploy("WeirdToken", 6, 0)
    world.oracle.call("set_feed", token.address, world.feeds[0].address, DAY, 1, 2**128 - 1)
    token.call("mint", OWNER, 10**12)
    world.evm.call(OWNER, token.address, call_data(token, "approve", world.factory.address, 10**12))
    return token


def create(world: Factory, token: Contract, seed: int = 500_000 * 10**6) -> Contract:
    assets = [asset(token.address, 5_000), *world.config[2][1:]]
    return world.create(assets=assets, seed=[seed, *world.seed[1:]])


@pytest.mark.parametrize("weird", [0, SILENT, LONG])
def test_a_token_that_moves_is_accepted(world: Factory, cash: Contract, weird: int) -> None:
    cash.call("set_weird", weird)
    vault = create(world, cash)
    assert cash.call("held", vault.address) == 500_000 * 10**6
    assert vault.call("totalSupply") == 1_000_000 * WAD


@pytest.mark.parametrize(
    ("weird", "reason"),
    [
        (FEE, "received less than asked"),
        (LIES, "received less than asked"),
        (LIES | SILENT, "received less than asked"),
        (FALSE_ON_FAILURE | PAUSED, "transfer failed"),
        (PAUSED, "paused token"),
        (BALANCE_REVERTS, "no balance"),
        (GARBAGE, "0x"),
        (SHORT, "0x"),
        (BALANCE_SHORT, "0x"),
    ],
)
def test_a_token_that_does_not_move_reverts(world: Factory, cash: Contract, weird: int, reason: str) -> None:
    cash.call("set_weird", weird)
    with reverts(reason):
        create(world, cash)
    cash.call("set_weird", 0)
    create(world, cash)


def test_a_token_that_loses_one_unit_reverts(world: Factory, cash: Contract) -> None:
    cash.call("set_weird", FEE)
    with reverts("received less than asked"):
        create(world, cash, seed=100)
    create(world, cash, seed=99)  # a hundredth of it is nothing


def test_a_token_whose_vault_has_some_already_must_still_bring_the_seed(
    world: Factory, cash: Contract
) -> None:
    snapshot = world.evm.snapshot()
    address = create(world, cash).address
    world.evm.revert(snapshot)
    cash.call("mint", address, 10**12)
    cash.call("set_weird", LIES)
    with reverts("received less than asked"):
        create(world, cash)


def test_a_token_that_burns_all_gas_fails(world: Factory, cash: Contract) -> None:
    cash.call("set_weird", BURNS_GAS)
    with pytest.raises((Reverted, RuntimeError)):
        create(world, cash)
    assert world.factory.call("vault_count") == 1


@pytest.mark.parametrize("i", [0, 1, 2])
def test_a_token_cannot_create_a_vault_meanwhile(hooks: HookFactory, i: int) -> None:
    """It has the seeds and may do so at any other time."""
    token, factory = hooks.tokens[i], hooks.factory
    for other in hooks.tokens:
        other.call("set_balance", token.address, 10**30)
        token.call("set_call", other.address, call_data(other, "approve", factory.address, 2**255))
        token.call("transfer", OWNER, 0, sender=OWNER)
        assert token.call("succeeded")
    data = call_data(factory, "create_vault", hooks.config, hooks.seed, b"\x09" * 32)
    token.call("set_call", factory.address, data)
    hooks.create()
    assert (token.call("succeeded"), token.call("answer")) == (False, b"")
    assert factory.call("vault_count") == 2
    token.call("set_call", factory.address, data)
    token.call("transfer", OWNER, 0, sender=OWNER)
    assert factory.call("vault_count") == 3


def test_a_token_sees_the_vault_registered_and_empty_of_shares(hooks: HookFactory) -> None:
    """What another contract could ask in the middle of the creation."""
    snapshot = hooks.evm.snapshot()
    vault = hooks.create()
    hooks.evm.revert(snapshot)
    token = hooks.tokens[2]
    for target, name, args, answer in [
        (vault, "totalSupply", (), 0),
        (vault, "pending_fee_shares", (), 0),
        (vault, "head", (), 0),
        (hooks.factory, "is_vault", (vault.address,), 1),
    ]:
        snapshot = hooks.evm.snapshot()
        token.call("set_call", target.address, call_data(target, name, *args))
        hooks.create()
        assert token.call("succeeded")
        assert int.from_bytes(token.call("answer"), "big") == answer
        hooks.evm.revert(snapshot)


@pytest.mark.parametrize(("mover", "moved"), [(2, 0), (2, 1), (1, 0)])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_token_that_moves_a_seed_that_is_there_reverts(
    hooks: HookFactory, mover: int, moved: int, change: int
) -> None:
    """An earlier asset's seed changes again while a later one's comes."""
    snapshot = hooks.evm.snapshot()
    vault = hooks.create()
    hooks.evm.revert(snapshot)
    token, other = hooks.tokens[mover], hooks.tokens[moved]
    amount = hooks.seed[moved] + change
    token.call("set_call", other.address, call_data(other, "set_balance", vault.address, amount))
    with reverts("seed did not stay"):
        hooks.create()
    token.call("set_call", other.address, call_data(other, "set_balance", vault.address, amount - change))
    assert hooks.create().address == vault.address
    assert token.call("succeeded")


def test_the_factory_keeps_nothing_that_is_sent_to_it(world: Factory) -> None:
    world.tokens[0].call("set_balance", world.factory.address, 7)
    vault = world.create()
    assert world.balances(world.factory.address)[0] == 7
    assert world.balances(vault.address) == world.seed
