"""Many vaults at once answer what the integer rules answer for each."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain import policy
from offchain.errors import PolicyError
from offchain.policy import BPS_IN_WAD, DAY, NO_ASSET, WAD, Asset, Rules, Session, VaultState, many

NOW = 1_768_478_400  # 15 January 2026
TOKENS = [f"0x{i:040x}" for i in range(1, 17)]
moments = st.one_of(
    st.just(0), st.integers(NOW - 3, NOW + 3), st.integers(NOW - 400 * DAY, NOW + 400 * DAY), st.just(2**40 - 1)
)  # fmt: skip
seconds = st.one_of(st.integers(0, 3), st.integers(0, 400 * DAY), st.just(2**32 - 1))


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    number = draw(st.sampled_from((0, 1, 7, 2**32 - 2)))
    closed = draw(st.one_of(st.just(0), moments))
    return Session(
        number, draw(moments), closed, draw(st.sampled_from((0, 1, 5, 9, 13, 400))), draw(st.booleans())
    )


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    return Rules(
        mode=draw(st.integers(0, 3)),
        calendar_unit=draw(st.integers(0, 1)),
        calendar_every=draw(st.sampled_from((1, 3, 12, 90, 2**16 - 1))),
        calendar_anchor=draw(moments),
        window_seconds=draw(seconds.map(lambda s: s or 1)),
        cooldown_seconds=draw(seconds),
        max_slippage_bps=100,
        loss_capacity_bps=200,
        loss_refill_bps_per_year=400,
        tolerance_bps=50,
        speed_capacity_bps=1_000,
        speed_refill_bps_per_day=100,
    )


@st.composite
def states(draw: st.DrawFn) -> VaultState:
    """Vaults near their targets or anywhere; one asset of some lies within a few units of value of its band's edge."""
    count = draw(st.integers(2, 5) | st.just(16))
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=count - 1, max_size=count - 1)))
    targets = [b - a for a, b in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    assets = tuple(
        Asset(
            TOKENS[i],
            draw(st.integers(0, 24)),
            target,
            draw(st.sampled_from((0, 25, 500, 10_000))),
            draw(st.sampled_from((0, 1, 2_500, 10_000))),
            0,
            10_000,
            10,
        )
        for i, target in enumerate(targets)
    )
    size = draw(st.sampled_from((1, 10**6, 10**13, 10**20, 10**26, 2**127)))  # of balances
    price = draw(st.sampled_from((1, 10**9, WAD, 10**24, 2**128 - 1)))
    made = VaultState(
        assets=assets,
        rules=draw(rules()),
        session=draw(sessions()),
        balances=tuple(draw(st.one_of(st.just(0), st.integers(0, size))) for _ in assets),
        prices=tuple(draw(st.one_of(st.just(price), st.integers(0, price))) for _ in assets),
        statuses=tuple(draw(st.sampled_from((0, 0, 0, 0, 0, 0, 0, 0, 5))) for _ in assets),
        supply=WAD,
        time=draw(st.sampled_from((NOW, NOW - DAY))),
        paused_until=draw(st.one_of(st.just(0), moments)),
        aside=draw(st.sampled_from((NO_ASSET, 0, count - 1))),
        aside_until=draw(st.one_of(st.just(0), moments)),
    )
    return at_the_edge(made, draw(st.integers(-3, 3))) if draw(st.booleans()) else made


def at_the_edge(state: VaultState, units: int) -> VaultState:
    """The same with the first two assets alone, WAD a unit, in a vault of some 1e26 value; the first's drift is its
    band and so many units of value."""
    assets = tuple(
        replace(a, decimals=18, target_bps=t) for a, t in zip(state.assets[:2], (6_000, 4_000), strict=True)
    )
    nav = 10**26
    edge = (6_000 * BPS_IN_WAD + policy.band(assets[0])) * nav // WAD + units
    return replace(
        state, assets=assets, balances=(edge, nav - edge), prices=(WAD, WAD), statuses=(0, 0), aside=NO_ASSET
    )  # fmt: skip


def has_weights(state: VaultState) -> bool:
    try:
        return bool(policy.weights(replace(state, time=NOW)) and policy.targets(replace(state, time=NOW)))
    except PolicyError:
        return False


@settings(max_examples=60)
@given(st.lists(states(), min_size=1, max_size=4))
def test_answers_what_the_integer_rules_answer(vaults: list[VaultState]) -> None:
    worth = [state for state in vaults if has_weights(state)]
    assert many.triggers(worth, NOW) == [policy.trigger(state, NOW) for state in worth]
    assert many.next_sessions(worth, NOW) == [policy.next_session(state, NOW) for state in worth]
    for state, reason in zip(vaults, many.waiting_reasons(vaults, NOW), strict=True):
        assert reason == why(state)


def why(state: VaultState) -> str:
    """In the integer rules' words."""
    try:
        refusal = policy.next_session(state, NOW)[1]
    except PolicyError as error:
        return str(error)
    return f"{refusal}: {policy.trigger(state, NOW).reason}" if refusal == "no trigger" else refusal


@given(st.integers(-40, 40), st.sampled_from((2, 3, 16)))
def test_answers_exactly_at_the_edge_of_a_band(units: int, count: int) -> None:
    """A vault of 1e26 value: a unit of it is 1e-8 of a drift's, far below what floating point tells apart."""
    assets = tuple(Asset(token, 18, 10_000 // count, 500, 2_500, 0, 10_000, 10) for token in TOKENS[:count])
    nav, target = 10**26, 10_000 // count * BPS_IN_WAD
    first = (target + policy.band(assets[0])) * nav // WAD + units
    rest = (nav - first) // (count - 1)
    balances = (first, *[rest] * (count - 2), nav - first - rest * (count - 2))
    rules = Rules(1, 0, 1, NOW, DAY, DAY, 100, 200, 400, 50, 1_000, 100)
    prices, statuses = (WAD,) * count, (0,) * count
    state = VaultState(assets, rules, Session(), balances, prices, statuses, WAD, NOW)
    assert many.triggers([state], NOW) == [policy.trigger(state, NOW)]
    assert (TOKENS[0] in policy.trigger(state, NOW).reason) == (units >= 0)


@pytest.mark.parametrize("mode", range(4))
def test_answers_exactly_at_the_edges_of_time(mode: int) -> None:
    """A window, a cooldown, a pause, a quarantine, a calendar's slot: a second before, at and after each end."""
    assets = tuple(
        Asset(TOKENS[i], 18, bps, 500, 2_500, 0, 10_000, 10) for i, bps in enumerate((3_333, 3_334, 3_333))
    )
    held, ones, window, cooldown = (WAD, 4 * WAD, 2 * WAD), (WAD,) * 3, 5_000, 700
    found = []
    for late, unit, shape in itertools.product((-1, 0, 1), (0, 1), range(5)):
        end = NOW + late
        rules = Rules(mode, unit, 2, end, window, cooldown, 100, 200, 400, 50, 1_000, 100)
        base = VaultState(assets, rules, Session(slot=1), held, ones, (0, 0, 0), WAD, NOW)
        found.append(
            [
                replace(base, session=Session(4, end - window, 0, 0)),
                replace(base, session=Session(4, end - window - cooldown, 0, 0)),
                replace(base, session=Session(4, 1, end - cooldown, 0)),
                replace(base, paused_until=end),
                replace(base, aside=1, aside_until=end, session=Session()),
            ][shape]
        )
    assert many.next_sessions(found, NOW) == [policy.next_session(state, NOW) for state in found]
    assert many.triggers(found, NOW) == [policy.trigger(state, NOW) for state in found]


def test_one_vault_without_targets_does_not_disturb_the_others() -> None:
    assets = tuple(
        Asset(token, 18, bps, 500, 2_500, 0, 10_000, 10)
        for token, bps in zip(TOKENS, (10_000, 0), strict=False)
    )
    rules = Rules(1, 0, 1, NOW, DAY, DAY, 100, 200, 400, 50, 1_000, 100)
    well = VaultState(assets, rules, Session(), (WAD, 0), (WAD, WAD), (0, 0), WAD, NOW)
    bare = replace(well, balances=(WAD, WAD), aside=0, aside_until=NOW + 1)
    without, whole = many.waiting_reasons([bare, well], NOW)
    assert without == "targets: the only asset with a target is in quarantine, so no other has one"
    assert whole == "no trigger: every asset is in its band"


def test_no_vaults_have_no_answers() -> None:
    assert many.next_sessions([], NOW) == many.triggers([], NOW) == many.waiting_reasons([], NOW) == []
