import pytest

from tests.support.evm import Contract
from tests.support.venue import call_data
from tests.support.world import DAY, GUARDIAN, STRANGER, WAD, asset, reverts
from tests.unit.timelock.support import BPS, Desk

# floor 25 + 25 bps, surcharge 120 bps: the least; a day's burn; 5 % of the supply, 1 % back a day
TERMS = {
    "floor_bps": 50,
    "surcharge_bps": 120,
    "burn_seconds": DAY,
    "capacity_bps": 500,
    "refill_bps_per_day": 100,
    "arbitrageable": False,
}


def terms(desk: Desk, i: int = 0, **fields: int) -> tuple[object, ...]:
    return (desk.tokens[i].address, *(TERMS | fields).values())


def added(desk: Desk) -> Contract:
    """The teller that the last transaction made."""
    (event,) = desk.evm.events("TellerAdded")
    return desk.at("ScriptedTeller", event.fields["teller"])


def refuses(desk: Desk, change: tuple[object, ...], reason: str) -> None:
    desk.queue("add_teller", *change)
    desk.sleep(2 * DAY)
    with reverts(reason):
        desk.execute("add_teller", *change)


@pytest.mark.parametrize("i", [0, 1, 2])
def test_needs_the_delay_and_makes_a_teller(desk: Desk, i: int) -> None:
    desk.assert_needs_the_delay("add_teller", *terms(desk, i, burn_seconds=7_777))
    teller = added(desk)
    values = [teller.call(view) for view in ("vault", "asset", "floor_bps", "surcharge_bps", "burn_seconds")]
    assert values == [desk.vault.address.lower(), desk.tokens[i].address.lower(), 50, 120, 7_777]
    assert teller.call("creator") == desk.timelock.address.lower()
    assert desk.timelock.call("vault_of", teller.address) == desk.vault.address.lower()
    assert desk.vault.call("flow_room", teller.address) == (500 * BPS, 500 * BPS)
    target = desk.teller_implementation.address[2:].lower()
    assert (
        desk.evm.code(teller.address).hex() == f"363d3d373d3d3d363d73{target}5af43d82803e903d91602b57fd5bf3"
    )


def test_says_so_and_is_recorded(desk: Desk) -> None:
    before = desk.head()
    desk.delayed("add_teller", *terms(desk))
    executed, recorded, was_set, was_added = desk.evm.events()
    teller = was_added.fields["teller"]
    assert (executed.name, recorded.name) == ("Executed", "RuleChanged")
    assert (was_set.name, was_set.address.lower()) == ("TellerSet", desk.timelock.address.lower())
    assert was_set.fields == {"teller": teller, "floor_bps": 50, "surcharge_bps": 120, "arbitrageable": False}
    assert (was_added.name, was_added.address.lower()) == ("TellerAdded", desk.timelock.address.lower())
    assert was_added.fields == {
        "vault": desk.vault.address.lower(),
        "teller": teller,
        "asset": desk.tokens[0].address.lower(),
    }
    desk.assert_recorded(before, "set_teller", ["address", "uint256", "uint256"], [teller, 500, 100])


def test_gives_it_the_right(desk: Desk) -> None:
    desk.delayed("add_teller", *terms(desk))
    teller = added(desk)
    issue = call_data(desk.vault, "issue", STRANGER, WAD, 0, 0, desk.tokens[0].address, 0)
    teller.call("forward", issue)
    assert desk.vault.call("balanceOf", STRANGER) == WAD
    with reverts("not teller"):
        desk.evm.call(STRANGER, desk.vault.address, issue)


def test_makes_another_each_time(desk: Desk) -> None:
    desk.delayed("add_teller", *terms(desk))
    first = added(desk)
    desk.delayed("add_teller", *terms(desk))
    assert added(desk).address != first.address
    assert desk.vault.call("flow_room", first.address) == (500 * BPS, 500 * BPS)


def test_of_another_token_reverts(desk: Desk) -> None:
    refuses(desk, (STRANGER, *TERMS.values()), "not an asset")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"floor_bps": 49}, "floor below price errors"),
        ({"floor_bps": 0}, "floor below price errors"),
        ({"surcharge_bps": 119}, "surcharge below slippage"),
        ({"surcharge_bps": 0}, "surcharge below slippage"),
        ({"capacity_bps": 10_001}, "flow limit above 100%"),
        ({"refill_bps_per_day": 10_001}, "flow limit above 100%"),
    ],
)
def test_out_of_range_reverts(desk: Desk, fields: dict[str, int], reason: str) -> None:
    refuses(desk, terms(desk, **fields), reason)


@pytest.mark.parametrize(("floor", "surcharge"), [(0, 0), (49, 120), (50, 119)])
def test_fees_below_the_floors_need_the_flag(desk: Desk, floor: int, surcharge: int) -> None:
    desk.delayed("add_teller", *terms(desk, floor_bps=floor, surcharge_bps=surcharge, arbitrageable=True))
    (event,) = desk.evm.events("TellerSet")
    assert event.fields["arbitrageable"] is True
    assert (event.fields["floor_bps"], event.fields["surcharge_bps"]) == (floor, surcharge)


@pytest.mark.parametrize(("i", "least"), [(0, 50), (1, 80), (2, 70)])
def test_the_floor_is_the_assets_error_and_the_worst(i: int, least: int) -> None:
    """Errors of 10, 40 and 30 bps: the vault's value errs by the worst at most, the price by the asset's own."""
    desk = Desk()
    desk.give("0x" + "a1" * 20, desk.seed, spender=desk.factory.address)
    config = list(desk.config)
    config[2] = [
        asset(token.address, bps, price_error_bps=error)
        for token, bps, error in zip(desk.tokens, (5_000, 3_000, 2_000), (10, 40, 30), strict=True)
    ]
    address = desk.factory.call("create_vault", config, desk.seed, b"\x01" * 32, sender="0x" + "a1" * 20)
    desk.vault = desk.at("Vault", address)
    refuses(desk, terms(desk, i, floor_bps=least - 1), "floor below price errors")
    desk.delayed("add_teller", *terms(desk, i, floor_bps=least))


def test_the_surcharge_is_the_slippage_of_the_time(desk: Desk) -> None:
    change = terms(desk)
    desk.queue("add_teller", *change)
    raised = tuple((desk.rules | {"max_slippage_bps": 121}).values())
    desk.delayed("set_rules", raised)
    with reverts("surcharge below slippage"):
        desk.execute("add_teller", *change)
    desk.delayed("add_teller", *terms(desk, surcharge_bps=121))


def test_may_be_vetoed(desk: Desk) -> None:
    desk.queue("add_teller", *terms(desk))
    desk.cancel("add_teller", *terms(desk), sender=GUARDIAN)
