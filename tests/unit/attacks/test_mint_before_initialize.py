"""A token of the basket is called while the factory seeds the new vault, before `initialize`.

The clone has no assets yet, so that any number of shares would cost nothing: minted now, they would be a claim on the
creator's seed. Nothing works on a clone before `initialize`, which sets the supply from nothing and succeeds once.
"""

import pytest

from tests.support.evm import Contract
from tests.support.venue import call_data
from tests.support.world import OWNER, WAD, World, reverts

ATTACKER = "0x" + "bb" * 20
SALT = b"\x01" * 32
NOT_INITIALIZED = "not initialized"


class HostileWorld(World):
    def make_token(self, decimals: int) -> Contract:
        return self.deploy("HookToken", decimals)


@pytest.fixture
def world() -> HostileWorld:
    made = HostileWorld()
    made.give(OWNER, made.seed, spender=made.factory.address)
    return made


def create(world: HostileWorld) -> Contract:
    return world.at("Vault", world.factory.call("create_vault", world.config, world.seed, SALT, sender=OWNER))


def predict(world: HostileWorld) -> Contract:
    """The vault that `create` will make."""
    snapshot = world.evm.snapshot()
    vault = create(world)
    world.evm.revert(snapshot)
    return vault


@pytest.mark.parametrize("i", [0, 1, 2])
@pytest.mark.parametrize("shares", [1, 1_000_000 * WAD, 2**111])
def test_gets_nothing(world: HostileWorld, i: int, shares: int) -> None:
    vault = predict(world)
    token = world.tokens[i]
    token.call("set_call", vault.address, call_data(vault, "mint_in_kind", shares, [], ATTACKER))
    assert create(world).address == vault.address
    assert (token.call("calls"), token.call("succeeded")) == (1, False)
    assert NOT_INITIALIZED.encode() in token.call("answer")
    assert vault.call("balanceOf", ATTACKER) == 0
    assert vault.call("totalSupply") == 1_000_000 * WAD
    assert vault.call("balanceOf", OWNER) == 999_999 * WAD


def test_every_seeded_token_together_get_nothing(world: HostileWorld) -> None:
    vault = predict(world)
    for token in world.tokens:
        token.call("set_call", vault.address, call_data(vault, "mint_in_kind", WAD, [], ATTACKER))
    create(world)
    assert [token.call("calls") for token in world.tokens] == [1, 1, 1]
    assert (vault.call("balanceOf", ATTACKER), vault.call("totalSupply")) == (0, 1_000_000 * WAD)


def test_initialising_it_first_stops_the_creation(world: HostileWorld) -> None:
    """The attacker as the creator of all shares, with every role: the creator keeps the seed, and nothing is left."""
    vault = predict(world)
    setup = ("Mine", "MINE", world.vault.call("settings"), ATTACKER, 2 * 86_400, ATTACKER, ATTACKER, [ATTACKER], 300,
             ATTACKER, b"\0" * 32)  # fmt: skip
    had = world.balances(OWNER)
    # by the last token: the seed is there, and its value is enough to initialise
    world.tokens[2].call("set_call", vault.address, call_data(vault, "initialize", setup, ATTACKER))
    with reverts("already initialized"):
        create(world)
    assert world.balances(OWNER) == had
    assert world.evm.code(vault.address) == b""
    world.tokens[2].call("set_call", vault.address, b"")
    assert create(world).call("balanceOf", ATTACKER) == 0


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("redeem_in_kind", (1, ATTACKER, ATTACKER, [], 0)),
        ("transfer", (ATTACKER, 1)),
        ("open_session", ()),
        ("issue", (ATTACKER, WAD, 0, 0, ATTACKER, 0)),
        ("set_role", (ATTACKER, 7)),
    ],
)
def test_nothing_else_works_either(world: HostileWorld, name: str, args: tuple[object, ...]) -> None:
    vault = predict(world)
    world.tokens[2].call("set_call", vault.address, call_data(vault, name, *args))
    create(world)
    assert not world.tokens[2].call("succeeded")
    assert vault.call("totalSupply") == vault.call("balanceOf", OWNER) + WAD == 1_000_000 * WAD


def test_collecting_the_fee_changes_nothing(world: HostileWorld) -> None:
    """It succeeds, and has nothing to collect."""
    vault = predict(world)
    world.tokens[2].call("set_call", vault.address, call_data(vault, "collect_fee"))
    create(world)
    assert world.tokens[2].call("succeeded")
    assert vault.call("totalSupply") == 1_000_000 * WAD
    assert (vault.call("pending_fee_shares"), vault.call("flow_sequence")) == (0, 0)
