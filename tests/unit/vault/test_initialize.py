import pytest
from eth_abi import encode
from eth_utils import keccak
from eth_utils.abi import collapse_if_tuple

from tests.support.evm import Contract
from tests.support.world import (
    DAY,
    DELAY,
    FEE_RECIPIENT,
    GUARDIAN,
    KEEPER,
    OWNER,
    RULES,
    START,
    STRANGER,
    STRATEGIST,
    WAD,
    ZERO,
    World,
    reverts,
)
from tests.unit.vault.support import ANY, DEAD, SUPPLY, OpenWorld, bare_clone, transfers

BOTH = "0x" + "b0" * 20


@pytest.fixture
def world() -> World:
    """The last transaction is the creation of the vault."""
    return World(fee_bps=100, keepers=(KEEPER, STRANGER))


def setup_of(world: World, **fields: object) -> tuple[object, ...]:
    """A `Setup` as the factory would make it of the vault's own settings."""
    settings = world.vault.call("settings")
    given = {
        "name": "Again",
        "symbol": "AGN",
        "settings": settings,
        "owner": OWNER,
        "delay_seconds": DELAY,
        "guardian": GUARDIAN,
        "strategist": STRATEGIST,
        "keepers": [KEEPER],
        "fee_bps": 100,
        "fee_recipient": FEE_RECIPIENT,
        "config_hash": b"\x01" * 32,
    }
    return tuple((given | fields).values())


def seeded(world: World, vault: Contract, fields: dict[str, object], usd: int = 100) -> dict[str, object]:
    """The same fields; the clone holds so many USD of cash."""
    world.tokens[0].call("set_balance", vault.address, usd * 10**6)
    return fields


def test_sets_what_the_config_says(world: World) -> None:
    vault = world.vault
    assert [vault.call(view) for view in ("name", "symbol", "decimals")] == ["Evenkeel Test", "EVEN", 18]
    assert vault.call("assets") == tuple(token.address.lower() for token in world.tokens)
    expected = [
        (given[0].lower(), decimals, *given[2:])
        for given, decimals in zip(world.config[2], world.decimals, strict=True)
    ]
    assert list(vault.call("basket")) == expected
    assert vault.call("rules") == tuple(RULES.values())
    for view, value in {
        "oracle": world.oracle.address.lower(),
        "fee_bps": 100,
        "fee_recipient": FEE_RECIPIENT,
        "paused_until": 0,
        "implementation": world.implementation.address.lower(),
        "rule_book": world.rule_book.address.lower(),
        "timelock": world.timelock.address.lower(),
        "loss_budget_used": 0,
        "speed_budget_used": 0,
        "flow_sequence": 0,
        "pending_fee_shares": 0,
    }.items():
        assert vault.call(view) == value, view


def test_places_the_vault_under_the_timelock(world: World) -> None:
    (event,) = world.evm.events("Registered")
    assert event.fields == {"vault": world.vault.address.lower(), "admin": OWNER, "delay_seconds": DELAY}
    assert world.timelock.call("terms", world.vault.address) == (OWNER, DELAY)


def test_gives_the_roles(world: World) -> None:
    roles = {KEEPER: 1, STRANGER: 1, STRATEGIST: 2, GUARDIAN: 4, OWNER: 0, FEE_RECIPIENT: 0, ZERO: 0}
    assert {account: world.vault.call("roles", account) for account in roles} == roles


def test_adds_up_the_roles_of_one_account() -> None:
    world = OpenWorld()
    vault = bare_clone(world)
    fields = {"guardian": BOTH, "strategist": BOTH, "keepers": [BOTH, BOTH]}
    vault.call("initialize", setup_of(world, **seeded(world, vault, fields)), OWNER)
    assert vault.call("roles", BOTH) == 7


def test_gives_no_role_to_nobody() -> None:
    world = OpenWorld()
    vault = bare_clone(world)
    nobody = {"guardian": ZERO, "strategist": ZERO, "keepers": [ZERO]}
    vault.call("initialize", setup_of(world, **seeded(world, vault, nobody)), OWNER)
    assert vault.call("roles", ZERO) == 0


@pytest.mark.parametrize(("unit", "every", "slot"), [(1, 1, 2), (0, 7, 5), (0, 31, 1)])
def test_counts_the_present_calendar_slot_as_used(unit: int, every: int, slot: int) -> None:
    world = World(calendar_unit=unit, calendar_every=every)  # the anchor is 30 days ago, a month before
    assert world.vault.call("session") == (0, 0, 0, slot, False)


def test_mints_the_seeds_value(world: World) -> None:
    assert transfers(world.evm, world.vault) == [
        (ZERO, DEAD, WAD),
        (ZERO, OWNER, SUPPLY - WAD),
    ]
    assert list(world.vault.call("balances")) == world.seed
    assert world.vault.call("totalSupply") == SUPPLY
    assert world.vault.call("balanceOf", DEAD) == WAD
    assert world.vault.call("balanceOf", OWNER) == SUPPLY - WAD


def test_starts_the_audit_chain(world: World) -> None:
    (event,) = world.evm.events("Created")
    inputs = next(e for e in world.factory.abi if e.get("name") == "create_vault")["inputs"]
    config_type = collapse_if_tuple(inputs[0])
    codehash = keccak(world.evm.code(world.implementation.address))
    config_hash = keccak(encode([config_type], [world.config]))
    chain_id = 1
    assert event.address.lower() == world.vault.address.lower()
    assert event.fields == {
        "chain_id": chain_id,
        "vault": world.vault.address.lower(),
        "codehash": codehash,
        "config_hash": config_hash,
    }
    genesis = encode(
        ["uint256", "address", "bytes32", "bytes32"],
        [chain_id, world.vault.address, codehash, config_hash],
    )
    assert event.data == genesis
    assert world.head() == keccak(genesis)


def test_starts_the_fee_at_the_day_of_creation(world: World) -> None:
    world.evm.set_time((START // DAY + 1) * DAY - 1)
    assert world.vault.call("pending_fee_shares") == 0
    world.sleep(1)
    assert world.vault.call("pending_fee_shares") == SUPPLY * 100 // (365 * 10_000)


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN, KEEPER, STRANGER])
def test_a_second_time_reverts(world: World, caller: str) -> None:
    before = world.head()
    with reverts("already initialized"):
        world.vault.call("initialize", setup_of(world), caller, sender=caller)
    assert world.head() == before


def test_of_the_implementation_reverts(world: World) -> None:
    with reverts("already initialized"):
        world.implementation.call("initialize", setup_of(world), STRANGER, sender=STRANGER)


def test_of_a_bare_clone_works_once(world: World) -> None:
    clone = bare_clone(world)
    setup = setup_of(world, **seeded(world, clone, {}))
    clone.call("initialize", setup, STRANGER, sender=STRANGER)
    assert clone.call("balanceOf", STRANGER) == 99 * WAD
    with reverts("already initialized"):
        clone.call("initialize", setup, STRANGER, sender=STRANGER)


def test_of_a_seed_of_one_usd_reverts(world: World) -> None:
    clone = bare_clone(world)
    setup = setup_of(world, **seeded(world, clone, {}, usd=1))
    with reverts("seed below 1 USD"):
        clone.call("initialize", setup, STRANGER)
    world.tokens[0].call("set_balance", clone.address, 10**6 + 1)
    clone.call("initialize", setup, STRANGER)
    assert clone.call("balanceOf", STRANGER) == WAD // 10**6


def test_without_a_seed_reverts(world: World) -> None:
    with reverts("no value"):
        bare_clone(world).call("initialize", setup_of(world), STRANGER)


def test_without_a_price_reverts(world: World) -> None:
    clone = bare_clone(world)
    setup = setup_of(world, **seeded(world, clone, {}))
    world.feeds[2].call("set_answer", 0)
    with reverts("price not usable"):
        clone.call("initialize", setup, STRANGER)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"fee_bps": 301}, "fee above cap"),
        ({"fee_recipient": ZERO}, "fee recipient not allowed"),
        ({"owner": ZERO}, "no owner"),
        ({"delay_seconds": 2 * DAY - 1}, "delay out of range"),
        ({"delay_seconds": 30 * DAY + 1}, "delay out of range"),
    ],
)
def test_of_what_is_out_of_range_reverts(world: World, fields: dict[str, object], reason: str) -> None:
    clone = bare_clone(world)
    with reverts(reason):
        clone.call("initialize", setup_of(world, **seeded(world, clone, fields)), STRANGER)


@pytest.mark.parametrize(
    "fields", [{"fee_bps": 300}, {"delay_seconds": 2 * DAY}, {"delay_seconds": 30 * DAY}]
)
def test_at_the_edge_is_accepted(world: World, fields: dict[str, object]) -> None:
    clone = bare_clone(world)
    clone.call("initialize", setup_of(world, **seeded(world, clone, fields)), STRANGER)
    assert clone.call("totalSupply") == 100 * WAD


def test_paying_the_fee_to_the_vault_reverts(world: World) -> None:
    clone = bare_clone(world)
    fields = {"fee_recipient": clone.address}
    with reverts("fee recipient not allowed"):
        clone.call("initialize", setup_of(world, **seeded(world, clone, fields)), STRANGER)


@pytest.mark.parametrize("receiver", [ZERO, "clone"])
def test_for_a_creator_who_cannot_hold_shares_reverts(world: World, receiver: str) -> None:
    clone = bare_clone(world)
    creator = clone.address if receiver == "clone" else receiver
    with reverts("receiver not allowed"):
        clone.call("initialize", setup_of(world, **seeded(world, clone, {})), creator)


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [
        ("mint_in_kind", (WAD, [], STRANGER), "not initialized"),
        ("mint_in_kind", (WAD, ANY, STRANGER), "wrong length"),
        ("redeem_in_kind", (1, STRANGER, STRANGER, [], 0), "balance too low"),
        ("transfer", (OWNER, 1), "balance too low"),
        ("issue", (STRANGER, WAD, 0, 0, ZERO, 0), "not teller"),
        ("rebalance", ([], STRANGER, b"", b"\0" * 32, 1, 2**64), "not keeper"),
        ("set_role", (STRANGER, 1), "not timelock"),
    ],
)
def test_nothing_works_before(world: World, name: str, args: tuple[object, ...], reason: str) -> None:
    with reverts(reason):
        bare_clone(world).call(name, *args, sender=STRANGER)
