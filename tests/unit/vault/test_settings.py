from tests.support.world import DAY, GUARDIAN, STRANGER, World
from tests.unit.vault.support import OpenWorld


def word_of(asset: tuple[object, ...]) -> int:
    """portfolio.vy, written out."""
    token, decimals, *bps = asset
    assert isinstance(token, str) and isinstance(decimals, int)
    word = int(token, 16) | decimals << 160
    for offset, field in zip((168, 182, 196, 210, 224, 238), bps, strict=True):
        assert isinstance(field, int)
        word |= field << offset
    return word


def test_is_what_the_timelock_may_change(world: World) -> None:
    world.at_once("set_targets", [4_900, 3_100, 2_000])
    world.at_once("pause", sender=GUARDIAN)
    words, rules, session, loss, speed, oracle, paused_until = world.vault.call("settings", sender=STRANGER)
    assert list(words) == [word_of(asset) for asset in world.vault.call("basket")]
    fields = world.rules
    assert rules & 3 == fields["mode"]
    assert rules >> 124 & (2**13 - 1) == fields["max_slippage_bps"]
    assert rules >> 195 == fields["speed_refill_bps_per_day"]
    assert session == world.vault.call("session")[3] << 112
    assert loss == 0
    assert speed == 200 * 10**14 | world.evm.now << 128
    assert oracle == world.oracle.address.lower()
    assert paused_until == world.evm.now + 14 * DAY


def test_has_the_quarantine_in_the_rules(world: World) -> None:
    world.at_once("quarantine", world.tokens[1].address, sender=GUARDIAN)
    rules = world.vault.call("settings")[1]
    assert (rules >> 211 & 31, rules >> 216) == (2, world.evm.now + 14 * DAY)
    assert world.vault.call("rules") == tuple(world.rules.values())


def test_round_trips_through_configure(open_world: OpenWorld) -> None:
    settings = open_world.vault.call("settings")
    open_world.as_timelock("configure", "nothing", b"", settings)
    assert open_world.vault.call("settings") == settings


def test_keeps_the_greatest_session_and_loss(open_world: OpenWorld) -> None:
    """They share a word: every field at its end, and the loss budget at the greatest capacity."""
    words, rules, _, _, speed, oracle, paused_until = open_world.vault.call("settings")
    session = (2**32 - 1) | (2**40 - 1) << 32 | (2**40 - 1) << 72 | (2**40 - 1) << 112 | 1 << 152
    for loss in (8_191 * 10**14 | open_world.evm.now << 128, (2**40 - 1) << 128, 2**60 - 1, 0):
        given = (words, rules, session, loss, speed, oracle, paused_until)
        open_world.as_timelock("configure", "extreme", b"", given)
        assert open_world.vault.call("settings") == given
        given = (words, rules, 0, loss, speed, oracle, paused_until)
        open_world.as_timelock("configure", "extreme", b"", given)
        assert open_world.vault.call("settings") == given
    open_world.as_timelock(
        "configure", "extreme", b"", (words, rules, 0, 8_191 * 10**14 | open_world.evm.now << 128, *given[4:])
    )
    assert open_world.vault.call("loss_budget_used") == 8_191 * 10**14


def test_sixteen_assets_and_back_to_two(open_world: OpenWorld) -> None:
    """The first word tells how many there are; what a longer basket left behind is not read."""
    settings = open_world.vault.call("settings")
    many = [word | i for i, word in enumerate([settings[0][0] & ~15] * 16)]
    for words in (many, many[:2], many[:15], list(settings[0])):
        open_world.as_timelock("configure", "count", b"", (words, *settings[1:]))
        assert list(open_world.vault.call("settings")[0]) == words
        assert len(open_world.vault.call("assets")) == len(words)
