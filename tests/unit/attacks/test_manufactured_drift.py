"""Flash deposit, fill, redeem: the attacker makes the drift itself, fills the trade that corrects it, and leaves.

It is a keeper, or fills the auction at its lowest price, so that it gets the whole slippage, 120 bps of what is sold.
Making drift must cost more than that: by a deposit in one asset, the teller's surcharge, which must be at least the
slippage, on all that moves away from target; by `skip` or a gift, the tokens themselves. In kind makes none.
"""

import pytest

from tests.support.evm import Contract
from tests.support.world import DELAY, KEEPER, MANY, OWNER, STRANGER, WAD, World, reverts
from tests.unit.attacks.wealth import value, wealth
from tests.unit.teller.stage import call

NAV = 1_000_000  # USD
SLIPPAGE = 120  # bps, of World
FLOOR, SURCHARGE = 50, 120  # bps: the least that the timelock admits without the flag
BURN = 6 * 3_600
ATTACKER = KEEPER


class Scene(World):
    """Cash, coin and stock, a million USD on target; only bands trigger."""

    def __init__(self) -> None:
        super().__init__(mode=1, seed_usd=NAV)

    def take(self, sold: int) -> None:
        """The attacker's fill: `sold` of cash, at all the slippage, for coin and stock in proportion to what they lack.

        It pays from its own tokens, and keeps what is left.
        """
        cash, coin, stock = self.balances()
        sold = min(sold, cash - value(self, self.balances()) // 2 // 10**12)
        paid = sold * 10**12 * (10_000 - SLIPPAGE) // 10_000 + 10**15  # USD WAD; no dust less than is allowed
        nav = value(self, [cash, coin, stock])
        lacks = [nav * 3 // 10 - value(self, [0, coin, 0]), nav * 2 // 10 - value(self, [0, 0, stock])]
        parts = [paid * max(lack, 0) // sum(max(each, 0) for each in lacks) for lack in lacks]
        pays = [0, parts[0] * 10**8 // self.prices[1] + 1, parts[1] * WAD // self.prices[2] + 1]
        thief = self.deploy("BadExecutor")
        thief.call("set_payout", [token.address for token in self.tokens], pays)
        for token, amount in zip(self.tokens, pays, strict=True):
            token.call("transfer", thief.address, amount, sender=ATTACKER)
        self.rebalance([], sells=[sold, 0, 0], executor=thief.address, payload=b"")
        gained = self.tokens[0].call("balanceOf", thief.address)
        for account, amount in ((thief.address, 0), (ATTACKER, self.balances(ATTACKER)[0] + gained)):
            self.tokens[0].call("set_balance", account, amount)


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.give(ATTACKER, [50 * amount for amount in scene.seed], spender=scene.vault.address)
    return scene


def teller(scene: Scene, *fees: int, arbitrageable: bool = False) -> Contract:
    """Priced flows in cash, as many as the whole supply a day."""
    cash = scene.tokens[0]
    scene.delayed("add_teller", cash.address, *fees, BURN, 10_000, 10_000, arbitrageable)
    made = scene.at("Teller", scene.evm.events("TellerAdded")[0].fields["teller"])
    cash.call("approve", made.address, MANY, sender=ATTACKER)
    return made


def by_deposit(scene: Scene, desk: Contract, usd: int) -> int:
    """Profit of: deposit cash, fill what that triggers, redeem in kind."""
    before = wealth(scene, ATTACKER)
    shares = call(desk, "deposit", usd * 10**6, ATTACKER, sender=ATTACKER)
    scene.take(usd * 10**6)
    scene.redeem(ATTACKER, shares)
    return wealth(scene, ATTACKER) - before


@pytest.mark.parametrize("usd", [120_000, 200_000, 500_000, 900_000])
def test_a_deposit_in_one_asset_costs_more_than_its_drift_pays(scene: Scene, usd):
    """Free of fees, the same attack pays: the fees are what stops it."""
    desk = teller(scene, FLOOR, SURCHARGE)
    assert by_deposit(scene, desk, usd) < 0


def test_without_fees_it_would_pay(scene: Scene):
    """The flag that admits such a teller says so; the attack above can succeed, so that its test can fail."""
    free = teller(scene, 0, 0, arbitrageable=True)
    assert by_deposit(scene, free, 200_000) > 500 * WAD


@pytest.mark.parametrize(
    ("fees", "reason"),
    [((49, 120), "floor below price errors"), ((50, 119), "surcharge below slippage")],
)
def test_lower_fees_need_the_flag(scene: Scene, fees, reason):
    data = scene.calldata("add_teller", scene.tokens[0].address, *fees, BURN, 10_000, 10_000, False)
    scene.at_once("queue", data)
    scene.sleep(DELAY)
    with reverts(reason):
        scene.at_once("execute", data)
    teller(scene, FLOOR, SURCHARGE)


@pytest.mark.parametrize("multiple", [1, 10, 40])
def test_in_kind_makes_no_drift(scene: Scene, multiple):
    """A flash deposit of the vault's own proportions triggers nothing, however large."""
    supply = scene.vault.call("totalSupply")
    amounts = scene.vault.call("preview_mint_in_kind", multiple * supply)
    scene.vault.call("mint_in_kind", multiple * supply, amounts, ATTACKER, sender=ATTACKER)
    with reverts("no trigger"):
        scene.vault.call("open_session", sender=STRANGER)


@pytest.mark.parametrize("multiple", [0, 1, 10])
def test_a_flash_deposit_does_not_enlarge_what_others_lose(scene: Scene, multiple):
    """The basket is out of its band by itself. The fill is larger by the deposit, its loss in points of NAV is not."""
    scene.set_balances([amount * part // 100 for amount, part in zip(scene.seed, (130, 80, 55), strict=True)])
    others = wealth(scene, OWNER)
    if multiple:
        shares = multiple * scene.vault.call("totalSupply")
        amounts = scene.vault.call("preview_mint_in_kind", shares)
        scene.vault.call("mint_in_kind", shares, amounts, ATTACKER, sender=ATTACKER)
    excess = scene.balances()[0] - value(scene, scene.balances()) // 2 // 10**12
    before = wealth(scene, ATTACKER)
    scene.take(excess)
    if multiple:
        scene.redeem(ATTACKER, shares)
    lost = others - wealth(scene, OWNER)
    nav = value(scene, scene.seed)
    assert 0 < lost <= nav * 16 * SLIPPAGE // 100 // 10_000  # 15.5 % of NAV is sold, whoever else is there
    assert wealth(scene, ATTACKER) - before <= lost + WAD // 100  # the dead share bears its part


@pytest.mark.parametrize("multiple", [1, 10])
def test_drift_by_skipping_is_paid_for(scene: Scene, multiple):
    """In kind in, and out but for the cash: that is left to the others, and is far more than the fill of it pays."""
    shares = multiple * scene.vault.call("totalSupply")
    before, others = wealth(scene, ATTACKER), wealth(scene, OWNER)
    amounts = scene.vault.call("preview_mint_in_kind", shares)
    scene.vault.call("mint_in_kind", shares, amounts, ATTACKER, sender=ATTACKER)
    scene.redeem(ATTACKER, shares, skip=1)
    left = value(scene, [amounts[0], 0, 0])
    scene.take(50_000 * 10**6)
    profit = wealth(scene, ATTACKER) - before
    assert profit <= 50_000 * WAD * SLIPPAGE // 10_000 + WAD - left < 0
    assert wealth(scene, OWNER) > others
