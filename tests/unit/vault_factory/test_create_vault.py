import pytest

from tests.support.world import DAY, OWNER, STRANGER, WAD, ZERO, World, asset, reverts
from tests.unit.vault.support import transfers
from tests.unit.vault_factory.conftest import Factory

TARGETS = [5_000, 3_000, 2_000]


def test_registers_the_vault(world: Factory) -> None:
    factory, first = world.factory, world.vault.address
    second, third = world.create().address, world.create(salt=b"\x02" * 32).address
    assert factory.call("vault_count") == 3
    assert [factory.call("vaults", i) for i in range(3)] == [one.lower() for one in (first, second, third)]
    assert all(factory.call("is_vault", one) for one in (first, second, third))
    assert not factory.call("is_vault", factory.address)
    assert not factory.call("is_vault", world.implementation.address)
    with reverts("0x"):
        factory.call("vaults", 3)


def test_names_its_parts(world: Factory) -> None:
    assert world.factory.call("implementation") == world.implementation.address.lower()
    assert world.factory.call("rule_book") == world.rule_book.address.lower()


def test_takes_the_seeds_and_keeps_nothing(world: Factory) -> None:
    had = world.balances(OWNER)
    vault = world.create()
    moved = [transfers(world.evm, token) for token in world.tokens]
    assert world.balances(OWNER) == [h - s for h, s in zip(had, world.seed, strict=True)]
    assert world.balances(vault.address) == world.seed
    assert world.balances(world.factory.address) == [0, 0, 0]
    assert moved == [[(OWNER, vault.address.lower(), seed)] for seed in world.seed]
    for token in world.tokens:
        assert token.call("allowance", world.factory.address, vault.address) == 0


def test_emits_the_config(world: Factory) -> None:
    vault = world.create()
    (event,) = world.evm.events("VaultCreated")
    assert event.address.lower() == world.factory.address.lower()
    config = list(world.config)
    config[2] = tuple((given[0].lower(), *given[1:]) for given in config[2])
    config[4] = config[4].lower()
    config[9] = tuple(config[9])
    assert event.fields == {"vault": vault.address.lower(), "creator": OWNER, "config": tuple(config)}


def test_makes_a_minimal_proxy(world: Factory) -> None:
    target = world.implementation.address[2:].lower()
    code = bytes.fromhex(f"363d3d373d3d3d363d73{target}5af43d82803e903d91602b57fd5bf3")
    assert world.evm.code(world.create().address) == code


def test_is_for_anyone_at_an_address_of_their_own(world: Factory) -> None:
    world.give(STRANGER, world.seed, spender=world.factory.address)
    theirs = world.create(sender=STRANGER)
    assert theirs.call("balanceOf", STRANGER) == 999_999 * WAD
    assert theirs.address != world.create().address


def test_twice_with_the_same_salt_and_config_reverts(world: Factory) -> None:
    world.create()
    with reverts("0x"):
        world.create()
    world.create(fee_bps=1)
    world.create(salt=bytes(31) + b"\x01")
    assert world.factory.call("vault_count") == 4


@pytest.mark.parametrize("count", [2, 16])
def test_holds_2_to_16_assets(count: int) -> None:
    bps = [10_000 - (count - 1) * (10_000 // count)] + [10_000 // count] * (count - 1)
    world = World(bps)
    assert world.vault.call("balances") == tuple(world.seed)
    assert world.vault.call("totalSupply") == pytest.approx(1_000_000 * WAD, rel=1e-6)
    assert len(world.vault.call("basket")) == count


def test_of_17_assets_reverts(world: Factory) -> None:
    more = [world.deploy("ScriptedToken", 18).address for _ in range(17)]
    assets = [asset(token, 588) for token in more[:-1]] + [asset(more[-1], 592)]
    with reverts("0x"):
        world.create(seed=[1] * 17, assets=assets)


@pytest.mark.parametrize("change", [-1, 1])
def test_with_a_wrong_number_of_seeds_reverts(world: Factory, change: int) -> None:
    with reverts("wrong length"):
        world.create(seed=[*world.seed, 1][: 3 + change])
    with reverts("wrong length"):
        world.create(seed=[])


@pytest.mark.parametrize("i", [0, 1, 2])
def test_without_a_seed_of_each_asset_reverts(world: Factory, i: int) -> None:
    seed = list(world.seed)
    seed[i] = 0
    with reverts("no seed of an asset"):
        world.create(seed=seed)
    seed[i] = 1
    world.create(seed=seed)


def test_with_a_seed_of_one_usd_reverts(world: Factory) -> None:
    # 0.999499 USD, 10**-8 BTC at 50,000 USD, and 5 * 10**-10 ETH at 2,000 USD
    seed = [999_499, 1, 5 * 10**8]
    with reverts("seed below 1 USD"):
        world.create(seed=seed)
    seed[2] += 1
    assert world.create(seed=seed).call("totalSupply") == WAD + 2_000


def test_without_the_tokens_or_the_approval_reverts(world: Factory) -> None:
    with reverts("0x"):  # the token's own, which has no reason
        world.create(sender=STRANGER)
    world.give(STRANGER, [amount - 1 for amount in world.seed], spender=world.factory.address)
    with reverts("0x"):
        world.create(sender=STRANGER)
    world.give(STRANGER, [1, 1, 1])
    world.create(sender=STRANGER)


@pytest.mark.parametrize("i", [0, 1, 2])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_target_bps": "target - 1"}, "target outside limits"),
        ({"min_target_bps": "target + 1"}, "target outside limits"),
        ({"max_target_bps": 10_001}, "limit above 100%"),
        ({"band_points_bps": 10_001}, "band above 100%"),
        ({"band_relative_bps": 10_001}, "band above 100%"),
        ({"price_error_bps": 256}, "price error too large"),
        ({"target_bps": "target + 1"}, "targets do not sum to 100%"),
        ({"target_bps": "target - 1"}, "targets do not sum to 100%"),
        ({"price_error_bps": 86}, "slippage below price errors"),  # 120 - 10 - 25 is the most
    ],
)
def test_with_a_bad_asset_reverts(world: Factory, i: int, fields: dict[str, int | str], reason: str) -> None:
    shift = {"target - 1": TARGETS[i] - 1, "target + 1": TARGETS[i] + 1}
    given = {key: shift[value] if isinstance(value, str) else value for key, value in fields.items()}
    target = given.pop("target_bps", TARGETS[i])
    assets = list(world.config[2])
    assets[i] = asset(world.tokens[i].address, target, **given)
    with reverts(reason):
        world.create(assets=assets)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_target_bps": 5_000},
        {"min_target_bps": 5_000},
        {"band_points_bps": 0, "band_relative_bps": 10_000},
        {"price_error_bps": 85},
        {"decimals": 99},  # ignored
    ],
)
def test_with_an_asset_at_the_edge_is_accepted(world: Factory, fields: dict[str, int]) -> None:
    assets = list(world.config[2])
    assets[0] = asset(world.tokens[0].address, TARGETS[0], **fields)
    basket = world.create(assets=assets).call("basket")
    expected = dict(zip(("band_points_bps", "band_relative_bps"), assets[0][3:5], strict=True))
    assert basket[0][1] == 6
    assert basket[0][3:] == (expected["band_points_bps"], expected["band_relative_bps"], *assets[0][5:])


def test_adds_up_the_two_worst_price_errors(world: Factory) -> None:
    """The slippage of 120 bps is at least 10 above the two worst."""
    tokens = [token.address for token in world.tokens]
    for errors, is_accepted in [
        ((60, 50, 50), True),
        ((60, 51, 0), False),
        ((0, 51, 60), False),
        ((51, 0, 60), False),
        ((55, 55, 55), True),
        ((0, 0, 110), True),
        ((0, 0, 111), False),
    ]:
        assets = [
            asset(token, bps, price_error_bps=error)
            for token, bps, error in zip(tokens, TARGETS, errors, strict=True)
        ]
        snapshot = world.evm.snapshot()
        if is_accepted:
            world.create(assets=assets)
        else:
            with reverts("slippage below price errors"):
                world.create(assets=assets)
        world.evm.revert(snapshot)


@pytest.mark.parametrize("count", [0, 1])
def test_with_fewer_than_two_assets_reverts(world: Factory, count: int) -> None:
    assets = [asset(world.tokens[0].address, 10_000)][:count]
    with reverts("fewer than 2 assets"):
        world.create(assets=assets, seed=world.seed[:count])


@pytest.mark.parametrize("twice", [(0, 1), (0, 2), (1, 2)])
def test_with_an_asset_twice_reverts(world: Factory, twice: tuple[int, int]) -> None:
    assets = list(world.config[2])
    assets[twice[1]] = (assets[twice[0]][0], *assets[twice[1]][1:])
    with reverts("asset twice"):
        world.create(assets=assets)


def test_with_no_token_reverts(world: Factory) -> None:
    with reverts("no token"):
        world.create(assets=[asset(ZERO, TARGETS[0]), *world.config[2][1:]])


def test_with_a_token_that_is_none_reverts(world: Factory) -> None:
    for other in (STRANGER, world.factory.address):
        with reverts("0x"):  # no `decimals`
            world.create(assets=[asset(other, TARGETS[0]), *world.config[2][1:]])


def test_with_too_many_decimals_reverts(world: Factory) -> None:
    fine, bad = (world.deploy("ScriptedToken", decimals) for decimals in (24, 25))
    feed = world.deploy("TestFeed", 18, "USD", WAD)
    for token in (fine, bad):
        world.oracle.call("set_feed", token.address, feed.address, DAY, 1, 2**128 - 1)
        token.call("set_balance", OWNER, 10**30)
        token.call("approve", world.factory.address, 10**30, sender=OWNER)
    seed = [10**24, *world.seed[1:]]
    with reverts("too many decimals"):
        world.create(assets=[asset(bad.address, TARGETS[0]), *world.config[2][1:]], seed=seed)
    world.create(assets=[asset(fine.address, TARGETS[0]), *world.config[2][1:]], seed=seed)


@pytest.mark.parametrize(
    ("field", "number", "reason"),
    [
        ("mode", 4, "unknown mode"),
        ("calendar_unit", 2, "unknown calendar unit"),
        ("calendar_every", 0, "calendar every 0"),
        ("window_seconds", 0, "window 0"),
        ("tolerance_bps", 0, "tolerance 0 with a calendar"),
        ("calendar_every", 2**16, "rule out of range"),
        ("calendar_anchor", 2**40, "rule out of range"),
        ("window_seconds", 2**32, "rule out of range"),
        ("cooldown_seconds", 2**32, "rule out of range"),
        ("max_slippage_bps", 2**13, "loss budget below one rebalance"),
        ("loss_capacity_bps", 2**13, "rule out of range"),
        ("loss_refill_bps_per_year", 2**16, "rule out of range"),
        ("tolerance_bps", 2**13, "rule out of range"),
        ("speed_capacity_bps", 2**16, "rule out of range"),
        ("speed_refill_bps_per_day", 2**16, "rule out of range"),
        ("max_slippage_bps", 59, "slippage below price errors"),  # 25 + 25 + 10
        ("loss_capacity_bps", 16, "loss budget below one rebalance"),  # 2 * 5 % * (120 + 50 bps)
    ],
)
def test_with_bad_rules_reverts(world: Factory, field: str, number: int, reason: str) -> None:
    with reverts(reason):
        world.create(rules=tuple((world.rules | {field: number}).values()))


def test_with_a_slippage_that_does_not_fit_reverts(world: Factory) -> None:
    rules = world.rules | {"max_slippage_bps": 2**13, "loss_capacity_bps": 2**13 - 1}
    with reverts("rule out of range"):
        world.create(rules=tuple(rules.values()))


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("mode", 0),
        ("mode", 3),
        ("calendar_unit", 0),
        ("calendar_every", 2**16 - 1),
        ("calendar_anchor", 0),
        ("calendar_anchor", 2**40 - 1),
        ("window_seconds", 1),
        ("window_seconds", 2**32 - 1),
        ("cooldown_seconds", 0),
        ("cooldown_seconds", 2**32 - 1),
        ("max_slippage_bps", 60),
        ("loss_capacity_bps", 17),
        ("loss_capacity_bps", 2**13 - 1),
        ("loss_refill_bps_per_year", 0),
        ("loss_refill_bps_per_year", 2**16 - 1),
        ("tolerance_bps", 2**13 - 1),
        ("speed_capacity_bps", 2**16 - 1),
        ("speed_refill_bps_per_day", 2**16 - 1),
    ],
)
def test_with_rules_at_the_edge_is_accepted(world: Factory, field: str, number: int) -> None:
    rules = tuple((world.rules | {field: number}).values())
    assert world.create(rules=rules).call("rules") == rules


def test_needs_a_loss_budget_for_the_widest_band(world: Factory) -> None:
    """The widest is the least of points and the relative part of the largest target; never below 25 bps."""
    for points, relative, capacity in [
        (1_000, 10_000, 34),
        (10_000, 1_000, 17),
        (10_000, 2_000, 34),
        (1, 1, 1),
    ]:
        assets = [
            asset(token.address, bps, band_points_bps=points, band_relative_bps=relative)
            for token, bps in zip(world.tokens, TARGETS, strict=True)
        ]
        snapshot = world.evm.snapshot()
        rules = world.rules | {"loss_capacity_bps": capacity}
        world.create(assets=assets, rules=tuple(rules.values()))
        world.evm.revert(snapshot)
        with reverts("loss budget below one rebalance"):
            world.create(assets=assets, rules=tuple((rules | {"loss_capacity_bps": capacity - 1}).values()))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"owner": ZERO}, "no owner"),
        ({"delay_seconds": 2 * DAY - 1}, "delay out of range"),
        ({"delay_seconds": 0}, "delay out of range"),
        ({"delay_seconds": 30 * DAY + 1}, "delay out of range"),
        ({"fee_bps": 301}, "fee above cap"),
        ({"fee_recipient": ZERO}, "fee recipient not allowed"),
        ({"oracle": STRANGER}, "0x"),  # no code
    ],
)
def test_with_bad_terms_reverts(world: Factory, fields: dict[str, object], reason: str) -> None:
    with reverts(reason):
        world.create(**fields)


def test_without_a_price_reverts(world: Factory) -> None:
    world.feeds[1].call("set_answer", 0)
    with reverts("price not usable"):
        world.create()


def test_with_an_oracle_that_answers_nonsense_reverts(world: Factory) -> None:
    scripted = world.deploy("ScriptedOracle")
    one = [WAD] * 3
    for prices, statuses in [
        (one[:2], [0, 0]),
        (one, [0, 0]),
        (one[:2], [0, 0, 0]),
        (one, [0, 0, 5]),
        ([WAD, 0, WAD], [0, 0, 0]),
        ([*one, WAD], [0] * 4),
    ]:
        scripted.call("set_prices", prices, statuses)
        with reverts("price not usable"):
            world.create(oracle=scripted.address)
    scripted.call("set_prices", one, [0, 0, 0])
    world.create(oracle=scripted.address)


def test_a_refused_vault_is_not_registered(world: Factory) -> None:
    with reverts("no owner"):
        world.create(owner=ZERO)
    assert world.factory.call("vault_count") == 1
    assert world.balances(OWNER) == [10 * amount for amount in world.seed]
    world.create()  # at the same address
