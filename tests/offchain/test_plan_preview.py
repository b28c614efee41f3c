"""Why not now, what a session would be, how far theory lets an asset stray, and how it reads. Without a chain."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from offchain import policy
from offchain.chain.pools import PoolSource
from offchain.chain.vault import BlockRef, Snapshot
from offchain.keeper.market import GasPrice, Hub, Observed, Sources, make_problem
from offchain.keeper.preview import Preview, Quote, as_if_open, next_slot, preview, theory, waits
from offchain.planner import Pool, V2Pool
from offchain.planner.bands import Drift, edge_width
from offchain.policy import DAY, WAD, Asset, CalendarUnit, Mode, Rules, Session, VaultState
from offchain.show.names import Names
from offchain.show.plan import print_plan
from offchain.show.plan_json import plan_json

CASH, STOCK, EXECUTOR, VAULT = ("0x" + digit * 40 for digit in "1239")
NOW = int(datetime(2026, 5, 20, tzinfo=UTC).timestamp())
E18 = 10**18
RULES = Rules(
    mode=Mode.THRESHOLD,
    calendar_unit=CalendarUnit.DAYS,
    calendar_every=30,
    calendar_anchor=NOW - 10 * DAY,
    window_seconds=3_600,
    cooldown_seconds=7_200,
    max_slippage_bps=100,
    loss_capacity_bps=200,
    loss_refill_bps_per_year=1_000,
    tolerance_bps=50,
    speed_capacity_bps=0,
    speed_refill_bps_per_day=0,
)


def state(stock: int = 60, **changes: Any) -> VaultState:
    """`stock` USD of STOCK and 100 - `stock` of CASH, a thousand times; the target is half and half, ± 5 points."""
    assets = tuple(Asset(token, 18, 5_000, 500, 2_500, 0, 10_000, 10) for token in (CASH, STOCK))
    balances = ((100 - stock) * 1_000 * E18, stock * 1_000 * E18)
    rules = replace(RULES, **{name: changes.pop(name) for name in list(changes) if hasattr(RULES, name)})
    base = VaultState(
        assets, rules, Session(slot=1), balances, (WAD, WAD), (0, 0), 100_000 * E18, NOW, vault=VAULT
    )
    return replace(base, **changes)


def seen(stock: int = 60, gas: int = 0, pools: tuple[Pool, ...] | None = None, **changes: Any) -> Preview:
    snapshot = Snapshot(1, BlockRef(7, "0x77", NOW), VAULT, state(stock, **changes), "0x00")
    depth = 10_000_000 * E18
    pool = V2Pool("0x" + "8" * 40, CASH, STOCK, 30, depth, depth)
    problem = make_problem(
        snapshot,
        (pool,) if pools is None else pools,
        Sources(PoolSource(), EXECUTOR),
        Hub(),
        GasPrice(usd=gas),
    )
    return preview(snapshot, Observed(problem, GasPrice(usd=gas, wei=1)))


NAMES = Names.of([(CASH, "USD", 18), (STOCK, "[red]ACME[/]", 18)])


def text_of(found: Preview, width: int = 80, explain: bool = True) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_plan(found, NAMES, None, explain=explain, console=console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


# ---------------------------------------------------------------- why not now


def reasons(found: VaultState) -> list[tuple[str, int | None]]:
    return [(wait.reason, wait.until) for wait in waits(found, NOW)]


def test_nothing_to_wait_for_at_the_trigger_or_in_a_session() -> None:
    assert reasons(state(60)) == []
    assert reasons(state(50, session=Session(4, NOW - 10, 0, 1))) == []


def test_pause_and_cooldown_are_said_together() -> None:
    late = state(60, paused_until=NOW + 5, session=Session(3, NOW - 100, NOW - 50, 1))
    assert reasons(late) == [("trades are paused", NOW + 5), ("cooldown after session 3", NOW - 50 + 7_200)]


def test_cooldown_of_a_session_that_ran_out_counts_from_its_window() -> None:
    ((_, until),) = reasons(state(60, session=Session(3, NOW - 3_700, 0, 1)))
    assert until == NOW - 3_700 + 3_600 + 7_200


@pytest.mark.parametrize("seconds", [-1, 0])
def test_waits_end_when_the_rules_say_so(seconds: int) -> None:
    late = state(60, session=Session(3, NOW - 100, NOW - 50, 1))
    (wait,) = waits(late, NOW)
    assert wait.until is not None
    then = wait.until + seconds
    assert (
        bool(waits(replace(late, time=then), then))
        == bool(policy.next_session(late, then)[1])
        == (seconds < 0)
    )


def test_inside_the_bands_the_nearest_is_named() -> None:
    ((reason, until),) = reasons(state(53))
    assert reason.startswith("every asset is inside its band (the nearest to its edge: ")
    assert "3.00 of 5.00 points" in reason
    assert until is None


def test_a_used_slot_lasts_until_the_next() -> None:
    assert reasons(state(60, mode=Mode.CALENDAR)) == [("the calendar's slot 1 is used", NOW + 20 * DAY)]
    ((reason, until),) = reasons(state(53, mode=Mode.EITHER))
    assert reason.startswith("the calendar's slot 1 is used, and every asset is inside its band")
    assert until == NOW + 20 * DAY


def test_both_says_what_is_missing() -> None:
    assert reasons(state(60, mode=Mode.BOTH)) == [("the calendar's slot 1 is used", NOW + 20 * DAY)]
    ((reason, until),) = reasons(state(53, mode=Mode.BOTH, session=Session(slot=0)))
    assert reason.startswith("every asset is inside its band")
    assert until is None


def test_an_unusable_price_is_named_with_its_status() -> None:
    assert reasons(state(60, statuses=(0, 5))) == [
        (f"the oracle has no usable price for {STOCK} (STALE)", None)
    ]


def test_the_price_of_an_asset_in_quarantine_does_not_matter() -> None:
    aside = state(60, statuses=(0, 5), prices=(WAD, 0), aside=1, aside_until=NOW + 1)
    assert not any("usable price" in reason for reason, _ in reasons(aside))


@pytest.mark.parametrize(
    ("anchor", "every", "now", "expected"),
    [
        ("2026-01-15", 3, "2026-02-01", "2026-04-01"),  # slots of months begin with the month
        ("2026-01-15", 3, "2026-04-01", "2026-07-01"),
        ("2026-11-01", 1, "2026-12-31", "2027-01-01"),
        ("2026-01-15", 24, "2026-02-01", "2028-01-01"),
        ("2026-01-15", 3, "2025-12-01", "2026-01-15"),  # not begun
    ],
)
def test_next_slot_of_months(anchor: str, every: int, now: str, expected: str) -> None:
    at = {
        name: int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
        for name, day in (("anchor", anchor), ("now", now), ("expected", expected))
    }
    rules = replace(
        RULES, calendar_unit=CalendarUnit.MONTHS, calendar_every=every, calendar_anchor=at["anchor"]
    )
    found = next_slot(rules, at["now"])
    assert found == at["expected"]
    slot = policy.calendar_slot(rules, at["now"])
    assert (policy.calendar_slot(rules, found - 1), policy.calendar_slot(rules, found)) == (slot, slot + 1)


# ---------------------------------------------------------------- as if a session were open


@pytest.mark.parametrize(
    ("mode", "stock", "by_calendar"),
    [
        (Mode.THRESHOLD, 53, False),
        (Mode.CALENDAR, 60, True),
        (Mode.BOTH, 60, True),
        (Mode.EITHER, 53, True),
        (Mode.EITHER, 60, False),
    ],
)
def test_the_session_is_of_the_kind_that_the_mode_suggests(mode: Mode, stock: int, by_calendar: bool) -> None:
    late = state(stock, mode=mode, paused_until=NOW + 9, session=Session(3, NOW - 100, NOW - 50, 1))
    open_now = as_if_open(late, NOW)
    assert policy.next_session(open_now, NOW) == (4, "")
    assert open_now.session.by_calendar is by_calendar


def test_a_plan_that_is_not_for_now_is_what_the_session_would_trade() -> None:
    waiting = seen(60, session=Session(3, NOW - 100, NOW - 50, 1))
    acting = seen(60, session=Session(3, NOW - 10_000, NOW - 9_000, 1))
    assert not waiting.possible and acting.possible
    assert waiting.plan.sells == acting.plan.sells and any(waiting.plan.sells)
    assert waiting.snapshot.state.session.id == 3  # what was read is not changed


# ---------------------------------------------------------------- theory


def test_widths_do_not_depend_on_the_volatility() -> None:
    problem = seen(60, gas=10**12).problem
    calm, wild = theory(problem, 1, volatility=0.1), theory(problem, 1, volatility=1.0)
    assert calm is not None and wild is not None
    assert calm.band.half_width == pytest.approx(wild.band.half_width)
    assert calm.band.stop == pytest.approx(wild.band.stop)
    assert calm.edge_cost is not None and wild.edge_cost is not None
    assert wild.edge_cost == pytest.approx(100 * calm.edge_cost)  # the cost a year goes with the variance


def test_without_gas_the_edge_is_best_and_the_target_dearer() -> None:
    found = theory(seen(60).problem, 1, volatility=0.6)
    assert found is not None and found.edge_cost is not None and found.target_cost is not None
    assert found.band.stop == pytest.approx(found.band.half_width)
    assert found.band.half_width == pytest.approx(edge_width(Drift.of(0.5, 0.6, 5.0, 0.003)))
    assert found.target_cost / found.edge_cost == pytest.approx(1.26, abs=0.01)  # 2 ** (1/3)


def test_dear_gas_moves_the_stop_inside() -> None:
    found = theory(seen(60, gas=10**15).problem, 1)
    assert found is not None
    assert found.band.stop < found.band.half_width / 2


def test_no_theory_where_there_is_no_trade() -> None:
    assert theory(seen(60, pools=()).problem, 1) is None
    assert theory(seen(60, statuses=(0, 5)).problem, 1) is None


# ---------------------------------------------------------------- how it reads


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "found",
    [
        seen(60),
        seen(60, gas=10**12),
        seen(53),
        seen(60, paused_until=NOW + 9),
        seen(60, statuses=(0, 5)),
        seen(60, pools=()),
        seen(60, balances=(0, 0)),
        seen(90, loss_used=2 * WAD // 100, loss_time=NOW),
    ],
    ids=["plain", "gas", "in band", "paused", "stale", "no pool", "empty", "no budget"],
)
def test_tables_fit_and_symbols_stay_as_they_are(found: Preview, width: int) -> None:
    text = text_of(found, width)
    assert max(map(len, text.splitlines())) <= width
    if found.nav:
        assert "[red]ACME[/]" in text  # a token's symbol is no markup
    assert STOCK not in text
    json.dumps(plan_json(found, NAMES, None))


def test_large_amounts_and_long_symbols_lose_nothing() -> None:
    depth = 10**10 * E18
    pool = V2Pool("0x" + "8" * 40, CASH, STOCK, 30, depth, depth)
    found = seen(60, pools=(pool,), balances=(40_000_000 * E18, 60_000_000 * E18))
    console = Console(file=io.StringIO(), width=80, highlight=False)
    names = Names.of([(CASH, "wstUSDCvault", 18), (STOCK, "LONGSYMBOL12", 18)])
    print_plan(found, names, None, explain=False, console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    (leg,) = found.plan.legs
    assert f" {leg.amount_in // E18:,} " in text and f" {leg.min_out // E18:,} " in text
    assert max(map(len, text.splitlines())) <= 80


def test_columns_are_aligned() -> None:
    lines = text_of(seen(60)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(" cause"))
    rows = [line for line in lines[start + 2 : start + 8] if line.strip()]
    assert len(rows) == 5
    end = lines[start].index("USD") + len("USD")
    assert all(row[end - 1].isdigit() and row[end] == " " for row in rows)


def test_not_now_comes_first() -> None:
    lines = text_of(seen(60, session=Session(3, NOW - 100, NOW - 50, 1))).splitlines()
    assert lines[2] == "NOT NOW: the vault refuses every rebalance at this block."
    assert lines[3] == "- cooldown after session 3; until 2026-05-20 01:59 UTC at the latest"
    assert lines[4] == "Below is what would be traded if session 4 were open now."


def test_a_vault_that_holds_nothing_is_no_error() -> None:
    text = text_of(seen(60, balances=(0, 0)))
    assert "- the vault holds nothing of value" in text


def test_outside_quotes_have_their_place() -> None:
    offer = Quote("0x", STOCK, CASH, 5 * E18, 49 * E18 // 10, 48 * E18 // 10, 48 * E18 // 10, used=True)
    none = Quote("1inch", STOCK, CASH, 5 * E18, 0, 0, 48 * E18 // 10, used=False, reason="did not answer")
    found = replace(seen(60), quotes=(offer, none))
    text = " ".join(text_of(found).split())
    assert "0x 5.0000 [red]ACME[/] 4.9000 USD 4.8000 used" in text
    assert "1inch 5.0000 [red]ACME[/] - USD 4.8000 did not answer" in text
    assert [quote["offered_units"] for quote in plan_json(found, NAMES, None)["quotes"]] == [
        str(49 * E18 // 10),
        "0",
    ]


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (0, "0.000000"),
        (1, "<0.000001"),
        (10**12, "0.000001"),
        (E18 // 8, "0.125000"),
        (E18, "1.0000"),
        (12_345 * E18 + E18 // 2, "12,345.50"),
        (1_234_567 * E18 + E18 // 5, "1,234,567"),
    ],
)
def test_amounts_in_whole_tokens(units: int, expected: str) -> None:
    assert NAMES.amount(STOCK, units) == expected


def test_addresses_are_said_as_symbols() -> None:
    names = Names.of([("0x" + "aB" * 20, "İX", 18), (STOCK, "ACME", 18)])
    text = f"outside the band: 0x{'AB' * 20}, {STOCK}, 0x{'ab' * 20}, {EXECUTOR}"
    assert names.said(text) == f"outside the band: İX, ACME, İX, {EXECUTOR}"


def test_symbols_that_a_terminal_cannot_show() -> None:
    names = Names.of([(CASH, "a\x1b[31m\n" + "b" * 40, 18), (STOCK, "\x00", 18)])
    assert names.of_token(CASH) == "a[31mbbbbbbb"
    assert names.of_token(STOCK) == STOCK[:8]
