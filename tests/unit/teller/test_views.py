"""`totalAssets` and `convertTo*` never revert: live where the vault can be priced, else what was last seen."""

from __future__ import annotations

import pytest
from eth_abi import encode

from tests.support.evm import Contract, Evm, Function, Reverted, artifact
from tests.support.world import ALICE, BOB, GUARDIAN, WAD, ZERO
from tests.unit.teller.stage import (
    BALANCE_BURNS_GAS,
    BURN,
    CASH,
    COIN,
    HOOK,
    STOCK,
    USD,
    Desk,
    call,
    reverts,
)

K = 1_000 * USD[CASH]
VIEWS = (("totalAssets",), ("convertToShares", K), ("convertToAssets", 10**21))
MAXIMA = ("maxDeposit", "maxMint", "maxWithdraw", "maxRedeem")
PREVIEWS = ("previewDeposit", "previewMint", "previewWithdraw", "previewRedeem")


def answers(desk: Desk) -> list[int]:
    return [desk.call(*view) for view in VIEWS]


def last_seen(desk: Desk) -> list[float]:
    """A million USD at 1 USD, and so a share at 1 USD, to a part in a billion."""
    return [pytest.approx(x, rel=1e-9) for x in (1_000 * K, 10**21, K)]


def calldata(teller: Contract, name: str, *args) -> bytes:
    entry = next(e for e in teller.abi if e.get("name") == name and len(e["inputs"]) == len(args))
    return Function(entry).encode(*args)


def test_say_what_the_vault_is_worth_in_the_asset(desk: Desk):
    assert desk.call("totalAssets") == 10**12
    assert desk.call("totalAssets", teller=COIN) == 20 * 10**8
    assert desk.call("totalAssets", teller=STOCK) == 500 * 10**18
    assert desk.call("convertToAssets", 10**18, teller=STOCK) == 5 * 10**14
    assert desk.call("convertToShares", 5 * 10**14, teller=STOCK) == 10**18


def test_are_live(desk: Desk):
    desk.world.set_price(STOCK, 4_000 * WAD)
    assert answers(desk) == [1_200 * K, 10**21 * 1_000 // 1_200, K * 1_200 // 1_000]


def test_include_no_fee(desk: Desk):
    assert desk.call("convertToShares", K) > desk.call("previewDeposit", K)
    assert desk.call("convertToAssets", 10**21) > desk.call("previewRedeem", 10**21)


def test_the_seen_is_that_of_the_last_flow(desk: Desk):
    desk.world.set_price(STOCK, 4_000 * WAD)
    desk.call("deposit", K, ALICE)
    live = answers(desk)
    desk.world.set_price(STOCK, 8_000 * WAD)
    desk.world.at_once("pause", sender=GUARDIAN)
    assert answers(desk) == [pytest.approx(x, rel=1e-9) for x in live]
    assert all(got <= real for got, real in zip(answers(desk)[:1], live[:1], strict=True))  # rounded down


@pytest.mark.parametrize("name", ["deposit", "mint", "withdraw", "redeem"])
def test_every_flow_remembers_what_it_left(desk: Desk, name: str):
    desk.world.mint(ALICE, 10**23)
    desk.world.set_price(STOCK, 4_000 * WAD)
    people = (ALICE,) if name in ("deposit", "mint") else (ALICE, ALICE)
    desk.call(name, 10**10 if name in ("deposit", "withdraw") else 10**22, *people)
    live = answers(desk)
    desk.world.at_once("pause", sender=GUARDIAN)
    assert answers(desk) == [pytest.approx(x, rel=1e-9) for x in live]


class Stopped:
    """Ways in which a vault cannot be priced."""

    @staticmethod
    def paused(desk: Desk) -> None:
        desk.world.at_once("pause", sender=GUARDIAN)

    @staticmethod
    def quarantined(desk: Desk) -> None:
        desk.world.at_once("quarantine", desk.world.tokens[STOCK].address, sender=GUARDIAN)

    @staticmethod
    def stale(desk: Desk) -> None:
        desk.world.sleep(31 * 86_400)

    @staticmethod
    def without_oracle(desk: Desk) -> None:
        desk.evm._evm.insert_account_info(desk.world.oracle.address, _empty())

    @staticmethod
    def token_reverts(desk: Desk) -> None:
        desk.world.tokens[STOCK].call("set_balance", desk.vault.address, 2**256 - 1)  # overflows

    @staticmethod
    def without_vault(desk: Desk) -> None:
        desk.evm._evm.insert_account_info(desk.vault.address, _empty())


def _empty():
    import pyrevm

    return pyrevm.AccountInfo()


@pytest.mark.parametrize("bits", range(100, 257, 12))
@pytest.mark.parametrize("teller", [CASH, COIN, STOCK])
def test_round_trips_of_any_amount_gain_nothing(teller: int, bits: int):
    """Also where amount times price is no number."""
    desk = Desk(floor=0, surcharge=0)
    amount = 2**bits - 12_346
    shares = desk.call("convertToShares", amount, teller=teller)
    assert desk.call("convertToAssets", shares, teller=teller) <= amount
    assets = desk.call("convertToAssets", amount, teller=teller)
    assert desk.call("convertToShares", assets, teller=teller) <= amount


WAYS = [name for name in vars(Stopped) if not name.startswith("_")]


@pytest.mark.parametrize("way", WAYS)
def test_never_revert(way: str):
    desk = Desk()
    desk.world.mint(ALICE, 10**22)
    getattr(Stopped, way)(desk)
    assert answers(desk) == last_seen(desk)
    assert desk.call("convertToShares", 2**256 - 1) == 2**256 - 1
    assert [desk.call(name, ALICE) for name in MAXIMA] == [0] * 4
    for name in PREVIEWS:
        with pytest.raises(Reverted):
            desk.call(name, K)


def test_previews_say_why(desk: Desk):
    desk.world.at_once("pause", sender=GUARDIAN)
    for name in PREVIEWS:
        desk.refuses("paused", name, K)


def test_the_implementation_answers(desk: Desk):
    teller = desk.world.teller_implementation
    assert [call(teller, *view) for view in VIEWS] == [0, 0, 0]
    assert [call(teller, name, ALICE) for name in MAXIMA] == [0] * 4


# Inside somebody else's transaction


@pytest.fixture
def onlooker(weird_desk: Desk) -> Contract:
    return weird_desk.evm.deploy(artifact("Onlooker"))


def look(desk: Desk, onlooker: Contract, token: int, name: str, *args) -> None:
    """Whenever the token moves from now on, the onlooker calls the teller in cash."""
    weird = desk.world.tokens[token]
    teller = desk.tellers[CASH]
    entry = next(e for e in onlooker.abi if e.get("name") == "look")
    weird.call("set_weird", HOOK)
    data = Function(entry).encode(teller.address, calldata(teller, name, *args))
    weird.call("set_call", onlooker.address, data)


@pytest.mark.parametrize("view", VIEWS)
def test_never_revert_inside_the_vaults_transaction(weird_desk: Desk, onlooker: Contract, view: tuple):
    weird_desk.world.mint(ALICE, 10**22)
    expected = last_seen(weird_desk)[VIEWS.index(view)]
    weird_desk.world.set_price(STOCK, 4_000 * WAD)
    look(weird_desk, onlooker, CASH, *view)
    weird_desk.world.redeem(ALICE, 10**21)
    assert onlooker.call("looks") == 1
    assert onlooker.call("success")
    assert int.from_bytes(onlooker.call("answer"), "big") == expected


@pytest.mark.parametrize("view", VIEWS)
def test_tell_what_was_last_seen_while_a_deposit_is_on_its_way(
    weird_desk: Desk, onlooker: Contract, view: tuple
):
    """The tokens have come and no share is issued yet: a live price would be too high."""
    look(weird_desk, onlooker, CASH, *view)
    weird_desk.call("deposit", 100 * K, ALICE)
    assert onlooker.call("looks") == 1
    assert onlooker.call("success")
    assert int.from_bytes(onlooker.call("answer"), "big") == last_seen(weird_desk)[VIEWS.index(view)]


@pytest.mark.parametrize("name", MAXIMA)
def test_maxima_are_zero_while_a_deposit_is_on_its_way(weird_desk: Desk, onlooker: Contract, name: str):
    look(weird_desk, onlooker, CASH, name, ALICE)
    weird_desk.call("deposit", 100 * K, ALICE)
    assert onlooker.call("success")
    assert int.from_bytes(onlooker.call("answer"), "big") == 0


@pytest.mark.parametrize("name", PREVIEWS)
def test_previews_revert_while_a_deposit_is_on_its_way(weird_desk: Desk, onlooker: Contract, name: str):
    look(weird_desk, onlooker, CASH, name, K)
    weird_desk.call("deposit", 100 * K, ALICE)
    assert onlooker.call("looks") == 1
    assert not onlooker.call("success")
    assert b"locked" in onlooker.call("answer")


# Gas


def with_gas(evm: Evm, teller: Contract, gas: int) -> bytes | None:
    """totalAssets, or None when it fails."""
    try:
        return bytes(evm._evm.message_call(ALICE, teller.address, calldata(teller, "totalAssets"), gas=gas))
    except RuntimeError:
        return None


def test_a_token_that_burns_all_gas_costs_five_million(weird_desk: Desk):
    weird_desk.world.tokens[STOCK].call("set_weird", BALANCE_BURNS_GAS)
    assert answers(weird_desk) == last_seen(weird_desk)
    assert 4_500_000 < weird_desk.evm.gas_used < 5_200_000
    assert with_gas(weird_desk.evm, weird_desk.tellers[CASH], 5_300_000) is not None
    assert with_gas(weird_desk.evm, weird_desk.tellers[CASH], 4_000_000) is None


def test_nobody_chooses_the_old_price_by_the_gas(desk: Desk):
    desk.world.set_price(STOCK, 4_000 * WAD)
    live = desk.call("totalAssets").to_bytes(32, "big")
    got = [with_gas(desk.evm, desk.tellers[CASH], gas) for gas in range(22_000, 150_000, 250)]
    assert set(got) == {None, live}


def test_too_little_gas_is_said(weird_desk: Desk):
    teller = weird_desk.tellers[CASH]
    weird_desk.world.tokens[STOCK].call("set_weird", BALANCE_BURNS_GAS)
    with reverts("too little gas"):
        try:
            weird_desk.evm._evm.message_call(
                ALICE, teller.address, calldata(teller, "totalAssets"), gas=2_000_000
            )
        except RuntimeError as error:
            text = str(error)
            raise Reverted(bytes.fromhex(text[text.index("0x") + 2 :].split('"')[0].split(" ")[0])) from None


# The rest


def test_supports_erc_7575_and_erc_165(desk: Desk):
    for interface, supported in (("2f0a18c5", True), ("01ffc9a7", True), ("ffffffff", False)):
        assert desk.call("supportsInterface", bytes.fromhex(interface)) is supported


def test_shares_are_the_vaults(desk: Desk):
    assert desk.call("share") == desk.vault.address


def test_the_price_rises_as_fees_are_due(desk: Desk):
    desk.call("deposit", 100 * K, BOB)
    start = desk.call("convertToAssets", 10**24)
    desk.world.sleep(BURN // 2)
    middle = desk.call("convertToAssets", 10**24)
    desk.world.sleep(BURN)
    end = desk.call("convertToAssets", 10**24)
    assert start < middle < end
    assert end - middle == pytest.approx(middle - start, rel=0.01)


def test_take_no_long_reason_of_an_oracle_for_an_appraisal(desk: Desk):
    """The vault hands on what its oracle reverts with: here 256 bytes, as long as an appraisal."""
    oracle = desk.world.deploy("ScriptedPool", ZERO, ZERO)
    oracle.call("set_response", encode(["uint256[]", "uint256[]"], [desk.world.prices, [0] * 3]))
    desk.world.delayed("set_oracle", oracle.address)
    desk.call("deposit", 10**9, ALICE)
    seen = desk.call("totalAssets")
    oracle.call("set_response", b"\x01" * 256)
    oracle.call("set_mode", 4)  # revert with that
    assert desk.call("maxDeposit", ALICE) == 0
    assert desk.call("totalAssets") == seen
