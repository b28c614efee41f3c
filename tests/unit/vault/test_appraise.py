import pytest

from tests.support.world import DAY, GUARDIAN, HEARTBEAT, STRANGER, WAD, World, reverts
from tests.unit.vault.support import NONE

FIELDS = ("nav", "supply", "held", "target", "price", "scale", "balance", "entry_supply")


def appraise(world: World, i: int = 0) -> dict[str, int]:
    return dict(zip(FIELDS, world.vault.call("appraise", world.tokens[i].address), strict=True))


@pytest.mark.parametrize("i", [0, 1, 2])
def test_tells_what_a_flow_is_priced_by(odd_world: World, i: int) -> None:
    world = odd_world
    world.set_price(2, 1_999 * WAD + 123_456_789)
    balances = world.balances()
    values = [
        balance * price // 10**decimals
        for balance, price, decimals in zip(balances, world.prices, world.decimals, strict=True)
    ]
    supply = world.vault.call("totalSupply")
    assert world.vault.call("pending_fee_shares") > 0
    assert appraise(world, i) == {
        "nav": sum(values),
        "supply": supply,
        "entry_supply": supply,
        "held": values[i],
        "target": [5_000, 3_000, 2_000][i] * 10**14,
        "price": world.prices[i],
        "scale": 10 ** world.decimals[i],
        "balance": balances[i],
    }


def test_of_a_paused_vault_reverts(world: World) -> None:
    world.at_once("pause", sender=GUARDIAN)
    world.sleep(14 * DAY - 1)
    with reverts("paused"):
        appraise(world)
    world.sleep(1)
    assert appraise(world)["nav"] > 0


@pytest.mark.parametrize("i", [0, 1])
def test_in_a_quarantine_reverts(world: World, i: int) -> None:
    world.at_once("quarantine", world.tokens[1].address, sender=GUARDIAN)
    world.sleep(14 * DAY - 1)
    with reverts("quarantined"):
        appraise(world, i)
    world.sleep(1)
    assert appraise(world, i)["nav"] > 0


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_without_every_price_reverts(world: World, broken: int) -> None:
    world.feeds[broken].call("set_answer", 0)
    for i in range(3):
        with reverts("price not usable"):
            appraise(world, i)


def test_of_a_stale_price_reverts(world: World) -> None:
    world.sleep(HEARTBEAT)
    assert appraise(world)["nav"] > 0
    world.sleep(1)
    with reverts("price not usable"):
        appraise(world)


def test_of_another_token_reverts(world: World) -> None:
    for other in (STRANGER, world.vault.address):
        with reverts("not an asset"):
            world.vault.call("appraise", other)


def test_of_nothing_reverts(world: World) -> None:
    world.set_balances(NONE)
    with reverts("no value"):
        appraise(world)
    world.set_balances([1, 0, 0])
    assert appraise(world)["nav"] == 10**12
