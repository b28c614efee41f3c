"""The auction counts the loss budget's refill as the vault does: to the unit, over a year of 365 days."""

from tests.unit.auction.stage import BPS, Stage

YEAR = 365 * 86_400


def test_what_came_back_is_room_again(stage: Stage) -> None:
    stage.open()
    words, rules, session, _, *rest = stage.settings()
    assert stage.rules["loss_refill_bps_per_year"] == 100

    def sold(level_bps: int, since: int) -> int:
        stage.configure([words, rules, session, level_bps * BPS | (stage.evm.now - since) << 128, *rest])
        return int(stage.quote(0, 1)[1])

    now = sold(497, since=0)
    assert now > 10**9  # so that a second in the year shows
    assert sold(577, since=YEAR * 8 // 10) == now
