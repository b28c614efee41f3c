"""What the vault gets to answer with when a view asks what it is worth."""

import pyrevm
import pytest
from eth_abi import decode, encode

from tests.support.venue import call_data
from tests.support.world import GUARDIAN, WAD
from tests.unit.exact_gas import call_with, tells_gas
from tests.unit.teller.stage import CASH, COIN, Desk

APPRAISE_GAS = 5_000_000
SECOND_PRICE = 128  # the byte where it begins in what an oracle answers


def test_the_vault_gets_5_000_000() -> None:
    """The oracle that is asked for prices sees as much as where the vault is asked with so much gas."""
    desk = Desk()  # of its own: code that is put in place is not undone
    world = desk.world
    world.tokens[COIN].call("set_balance", world.vault.address, 10**21)  # a unit of its price shows in cash
    answer = encode(["uint256[]", "uint256[]"], [[WAD] * 3, [0] * 3])
    tells_gas(world.evm, world.oracle, answer, SECOND_PRICE)
    data = call_data(world.vault, "appraise", world.tokens[CASH].address)
    alone, less = (
        decode(["uint256"] * 8, call_with(world.evm, world.vault, data, gas))[0]
        for gas in (APPRAISE_GAS, APPRAISE_GAS - 1)
    )
    cash = 10**12
    assert desk.call("totalAssets") == alone // cash != less // cash


@pytest.mark.parametrize("gas", [200_000, 1_000_000, 5_000_000])
def test_a_paused_vault_needs_no_five_million(desk: Desk, gas: int) -> None:
    """It refuses at once and leaves most of the gas: too little for an appraisal is enough for what was seen."""
    seen = desk.call("totalAssets")
    desk.world.at_once("pause", sender=GUARDIAN)
    answer = call_with(desk.evm, desk.tellers[CASH], call_data(desk.tellers[CASH], "totalAssets"), gas)
    assert int.from_bytes(answer, "big") == seen


def test_a_vault_that_burns_all_it_gets_is_no_caller_that_gave_too_little() -> None:
    """It got all of the five million, of little more (a proxy keeps a 64th): what was seen is told."""
    desk = Desk()
    seen = desk.call("totalAssets")
    invalid = b"\xfe"
    desk.evm._evm.insert_account_info(desk.vault.address, pyrevm.AccountInfo(code=invalid))
    teller = desk.tellers[CASH]
    answer = call_with(desk.evm, teller, call_data(teller, "totalAssets"), 5_300_000)
    assert int.from_bytes(answer, "big") == seen
    with pytest.raises(RuntimeError):
        call_with(desk.evm, teller, call_data(teller, "totalAssets"), 5_200_000)
