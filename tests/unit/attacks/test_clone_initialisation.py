"""A vault is a clone: whoever initialises it first owns it, and a clock that starts at 1970 owes 53 years of fees.

A hostile token of the basket is called between the clone's making and its `initialize`, and there it initialises the
vault itself, with its own admin, oracle and keeper, over the creator's whole seed. The creation then fails as a whole.
"""

import pytest

from tests.support.evm import Contract, Reverted
from tests.support.venue import call_data
from tests.support.world import DAY, DELAY, FEE_RECIPIENT, OWNER, STRANGER, World, reverts

ATTACKER = "0x" + "bb" * 20
SALT = b"\x01" * 32
SEED_USD = 1_000_000


class HostileWorld(World):
    def make_token(self, decimals: int) -> Contract:
        return self.deploy("HookToken", decimals)


def hostile_setup(world: World) -> tuple:
    """The same basket under the attacker, as the factory would write it."""
    assets, rules = world.config[2], world.config[3]
    words = [world.rule_book.call("pack_asset", each) for each in assets]
    packed = world.rule_book.call("pack_rules", rules, words)
    session = world.rule_book.call("first_session", packed)
    settings = (words, packed, session, 0, 0, world.oracle.address, 0)
    people = (ATTACKER, DELAY, ATTACKER, ATTACKER, [ATTACKER])
    return ("Evil", "EVIL", settings, *people, 300, ATTACKER, bytes(32))


def create(world: World, sender: str = OWNER) -> str:
    return str(world.factory.call("create_vault", world.config, world.seed, SALT, sender=sender))


def predict(world: World) -> Contract:
    before = world.evm.snapshot()
    vault = world.at("Vault", create(world))
    world.evm.revert(before)
    return vault


@pytest.mark.parametrize("index", [0, 1, 2])
def test_taking_over_the_clone_undoes_its_creation(index):
    world = HostileWorld()
    world.give(OWNER, world.seed, spender=world.factory.address)
    vault = predict(world)
    hook = world.tokens[index]
    data = call_data(vault, "initialize", hostile_setup(world), ATTACKER)
    hook.call("set_call", vault.address, data)
    with reverts("already initialized"):
        create(world)
    assert world.balances(OWNER) == world.seed
    assert not world.factory.call("is_vault", vault.address)

    hook.call("set_call", "0x" + "00" * 20, b"")
    assert create(world).lower() == vault.address.lower()
    assert world.timelock.call("terms", vault.address)[0] == OWNER
    assert vault.call("balanceOf", ATTACKER) == 0


@pytest.mark.parametrize("sender", [ATTACKER, OWNER])
def test_a_vault_is_initialised_once(sender):
    world = World()
    with reverts("already initialized"):
        world.vault.call("initialize", hostile_setup(world), ATTACKER, sender=sender)
    assert world.vault.call("roles", ATTACKER) == 0


def test_the_implementation_cannot_be_initialised():
    world = World()
    with reverts("already initialized"):
        world.implementation.call("initialize", hostile_setup(world), ATTACKER, sender=ATTACKER)


def test_nobody_takes_the_address_of_anothers_vault():
    """The same config and salt by somebody else make another vault, paid for by whoever made it."""
    world = World()
    for account in (OWNER, ATTACKER):
        world.give(account, world.seed, spender=world.factory.address)
    expected = predict(world).address
    theirs = create(world, ATTACKER)
    assert theirs.lower() != expected.lower()
    assert create(world).lower() == expected.lower()
    assert world.balances(ATTACKER) == [0, 0, 0]
    with pytest.raises(Reverted):
        create(world)


def test_the_fee_starts_at_the_creation():
    """At 3 % a year since 1970, 161 % of the supply would be owed at once; owed is nothing, then a day's."""
    world = World(fee_bps=300, seed_usd=SEED_USD)
    supply = SEED_USD * 10**18
    assert world.vault.call("totalSupply") == supply
    assert world.vault.call("pending_fee_shares") == 0
    assert world.vault.call("collect_fee", sender=STRANGER) == 0
    world.sleep(DAY)
    assert world.vault.call("pending_fee_shares") == supply * 300 // (365 * 10_000)
    world.vault.call("collect_fee", sender=STRANGER)
    assert world.vault.call("balanceOf", FEE_RECIPIENT) == supply * 300 // (365 * 10_000)
    assert world.vault.call("pending_fee_shares") == 0


def test_a_raised_fee_starts_at_its_raise():
    """What has gone by is owed at the old rate: a raise after a year does not reach back."""
    world = World(fee_bps=0)
    world.sleep(300 * DAY)
    world.delayed("set_fee", 300, ATTACKER)
    assert world.vault.call("pending_fee_shares") == 0
    assert world.vault.call("balanceOf", ATTACKER) == 0
