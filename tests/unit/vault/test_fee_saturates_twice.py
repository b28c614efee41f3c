"""A pending fee that is at its cap and written down stays there, whatever accrues later."""

from tests.support.world import BOB, DAY, FEE_RECIPIENT, World
from tests.unit.vault.support import SHARES, SUPPLY

MAX_PENDING = 2**92 - 1


def test_a_full_fee_takes_nothing_more(world: World) -> None:
    supply = 2**111
    world.mint(BOB, supply - SUPPLY - SHARES)
    world.evm.set_time((world.evm.now // DAY + 1) * DAY)
    world.redeem(BOB, 1)  # writes the fee of the day down
    world.sleep(400 * DAY)
    assert world.vault.call("pending_fee_shares") == MAX_PENDING
    assert world.vault.call("totalSupply") == supply + MAX_PENDING - 1
    assert world.vault.call("collect_fee") == MAX_PENDING
    assert world.vault.call("balanceOf", FEE_RECIPIENT) == MAX_PENDING
