"""Strategies that peek, each written as someone would write it, and the honest ones beside them that must pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skfolio.datasets import load_sp500_dataset

from offchain import strategies
from offchain.backtest import Market
from offchain.strategies import LookAheadError, Strategy, StrategyError, check_causal, make, walk
from offchain.strategies.causal import _lean, _resampled
from offchain.strategies.walk import copied


@cache
def closes() -> pd.DataFrame:
    return load_sp500_dataset().iloc[-620:, :8]


def market() -> Market:
    return Market.of(closes())


def at(row: int) -> tuple[pd.DataFrame, pd.Timestamp]:
    history = closes().iloc[: row + 1].copy()
    return history, history.index[-1]


HEADER = """
import gc, inspect, sys
import numpy as np, pandas as pd
from offchain.strategies import Strategy

def best(returns):
    return {returns.idxmax(): 1.0}
"""


def peeker(folder: Path, body: str, name: str = "Peek", **settings: object) -> Strategy:
    """A user's file with one class, loaded as the command line would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.py"
    path.write_text(HEADER + body)
    return make(f"{path}:{name}", settings)


def refused(strategy: object, **more: object) -> str:
    options: dict[str, object] = {"every": 5, "lookback": 100, **more}
    with pytest.raises(LookAheadError) as error:
        walk(strategy, market(), **options)
    return str(error.value)


# ---------------------------------------------------------------- asking for what is not there


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("history.loc[now + pd.Timedelta(days=1)]", "asks for"),
        ("history.loc[str((now + pd.Timedelta(days=1)).date())]", "asks for"),
        ("history.loc[now:now + pd.Timedelta(days=9)].iloc[-1]", "asks for"),
        ("history[now:now + pd.Timedelta(days=9)].iloc[-1]", "asks for"),
        ("history[history.columns[0]].loc[now + pd.Timedelta(days=1)]", "asks for"),
        ("history[history.columns[0]][now + pd.Timedelta(days=1)]", "asks for"),
        ("history.at[now + pd.Timedelta(days=1), history.columns[0]]", "asks for"),
        ("history.xs(now + pd.Timedelta(days=1))", "asks for"),
        ("history.pct_change().loc[now + pd.Timedelta(days=1)]", "asks for"),
        ("history.reindex(pd.date_range(now, periods=5)).iloc[-1]", "asks for"),
        ("history.loc[[now, now + pd.Timedelta(days=1)]].iloc[-1]", "asks for"),
        ("history.iloc[len(history)]", "asks for a row beyond the last"),
        ("history.iat[len(history), 0]", "asks for row 100"),
        ("history.to_numpy()[len(history)]", "asks for row 100"),
        ("history.index[len(history)]", "asks for row 100"),
        ("history.pct_change().shift(-1).iloc[-1].idxmax()", "shifts later rows onto now"),
        ("history.to_numpy().base.base[len(history)]", None),
    ],
)
def test_a_request_for_a_later_row_is_refused_and_named(expression: str, said: str | None) -> None:
    class Peek(Strategy):
        def target_weights(self, history, now):
            found = eval(expression)
            return {history.columns[0]: 1.0} if isinstance(found, (str, pd.DataFrame)) else best_of(found)

    def best_of(row: pd.Series) -> dict[str, float]:
        return {row.idxmax(): 1.0}

    history, now = at(99)
    with pytest.raises(StrategyError) as error:
        Peek().target_weights(history, now)
    message = str(error.value)
    assert message.startswith(f"Peek: at {now.date()}")
    if said is not None:
        assert isinstance(error.value, LookAheadError)
        assert said in message
    if said == "asks for":
        assert message.endswith(": later than now")


def test_the_message_names_strategy_date_and_now() -> None:
    class Tomorrow(Strategy):
        def target_weights(self, history, now):
            return best(history.loc["2022-01-04"])

    history = closes().loc[:"2022-01-03"]
    with pytest.raises(
        LookAheadError, match=r"^Tomorrow: at 2022-01-03 it asks for 2022-01-04: later than now$"
    ):
        Tomorrow().target_weights(history, "2022-01-03")


def test_a_shift_that_ends_in_no_number_is_a_look_ahead_and_without_it_an_error() -> None:
    class Shifted(Strategy):
        shift = -1

        def target_weights(self, history, now):
            row = history.pct_change().shift(self.shift).iloc[-1]
            return row / row.sum()

    history, now = at(99)
    with pytest.raises(LookAheadError, match="shifts later rows onto now"):
        Shifted().target_weights(history, now)
    honest = Shifted()
    honest.shift = 1000
    with pytest.raises(StrategyError, match="nan is not at least 0") as error:
        honest.target_weights(history, now)
    assert not isinstance(error.value, LookAheadError)


def test_a_negative_shift_that_only_makes_training_targets_is_allowed() -> None:
    class Trains(Strategy):
        def target_weights(self, history, now):
            moves = history.pct_change()
            pairs = moves.shift(-1).iloc[1:-1].mean()  # the last row, which is not known, left out
            return best(pairs)

    history, now = at(99)
    assert Trains().target_weights(history, now).sum() == 1


def test_a_refusal_that_the_strategy_swallows_still_fails_the_decision() -> None:
    class Quiet(Strategy):
        def target_weights(self, history, now):
            try:
                return best(history.loc[now + pd.Timedelta(days=1)])
            except Exception:
                return {history.columns[0]: 1.0}

    with pytest.raises(LookAheadError, match="later than now"):
        Quiet().target_weights(*at(99))


def test_a_history_past_now_is_refused_for_every_kind() -> None:
    history, now = at(99)
    for name, settings in {"equal": {}, "min-variance": {}, "genetic": {}, "hrp": {}}.items():
        strategy = make(name, settings)
        with pytest.raises(LookAheadError, match=f"history goes to {now.date()}, past now"):
            strategy.target_weights(history, history.index[-2])


def test_what_the_strategy_gets_is_a_copy_of_the_rows_up_to_now_and_nothing_hangs_on_it() -> None:
    seen = []

    class Looks(Strategy):
        def target_weights(self, history, now):
            array = history.to_numpy()
            sizes = [array.shape[0]]
            for start in (array, history.index.to_numpy(), history._mgr.blocks[0].values):
                part = start
                while part is not None:
                    sizes.append(max(part.shape) if isinstance(part, np.ndarray) else 0)
                    part = getattr(part, "base", None)
            seen.append((len(history), max(sizes), history.index[-1] <= now, bool(history.attrs)))
            history.iloc[:] = 1.0  # must not reach the market
            return {history.columns[0]: 1.0}

    before = closes().to_numpy().copy()
    walk(Looks(), market(), every=50, lookback=100, check=False)
    assert {item[1] for item in seen} == {100}
    assert all(rows == 100 and known and not attributes for rows, _, known, attributes in seen)
    assert (market().prices == before).all()


# ---------------------------------------------------------------- knowing it from elsewhere

TOMORROW = """
        later = full.loc[full.index > now]
        return best(later.iloc[0] / full.loc[now]) if len(later) else {history.columns[0]: 1.0}
"""


def test_reading_the_csv_while_deciding(tmp_path: Path) -> None:
    closes().to_csv(tmp_path / "prices.csv")
    strategy = peeker(
        tmp_path,
        f"""
class Peek(Strategy):
    def target_weights(self, history, now):
        full = pd.read_csv(r"{tmp_path}/prices.csv", index_col=0, parse_dates=True)
        {TOMORROW}
""",
    )
    assert "prices.csv: a strategy knows only its history" in refused(strategy)


def test_reading_the_csv_when_it_is_made_or_imported(tmp_path: Path) -> None:
    closes().to_csv(tmp_path / "prices.csv")
    made = peeker(
        tmp_path / "made",
        f"""
class Peek(Strategy):
    def __init__(self):
        self.full = pd.read_csv(r"{tmp_path}/prices.csv", index_col=0, parse_dates=True)
    def target_weights(self, history, now):
        full = self.full
        {TOMORROW}
""",
    )
    imported = peeker(
        tmp_path / "imported",
        f"""
full = pd.read_csv(r"{tmp_path}/prices.csv", index_col=0, parse_dates=True)
class Peek(Strategy):
    def target_weights(self, history, now):
        {TOMORROW}
""",
    )
    for strategy in (made, imported):
        said = refused(strategy)
        assert said.startswith("Peek: ")
        assert "foretell" in said
        assert "z = " in said


def test_closing_over_the_frame_given_to_its_constructor(tmp_path: Path) -> None:
    strategy = peeker(
        tmp_path,
        f"""
class Peek(Strategy):
    def __init__(self, full):
        self.full = full
    def target_weights(self, history, now):
        full = self.full
        {TOMORROW}
""",
        full=closes(),
    )
    assert "foretell" in refused(strategy)


def test_the_data_set_of_skfolio(tmp_path: Path) -> None:
    body = """
from skfolio.datasets import load_sp500_dataset
class Peek(Strategy):
    {}
    def target_weights(self, history, now):
        full = {}[history.columns]
        {}
"""
    during = peeker(tmp_path / "during", body.format("", "load_sp500_dataset()", TOMORROW))
    assert "sp500" in refused(during)
    before = peeker(tmp_path / "before", body.format("full = load_sp500_dataset()", "self.full", TOMORROW))
    assert "foretell" in refused(before)


def test_a_class_that_does_not_inherit_is_examined_too() -> None:
    class Peek:
        def target_weights(self, history, now):
            later = closes().loc[closes().index > now]
            return best(later.iloc[0] / closes().loc[now]) if len(later) else {"AAPL": 1.0}

    assert "from resampled prices" in refused(Peek()) or "as no history can" in refused(Peek())


def test_a_subclass_of_our_own_that_overrides_it() -> None:
    class MinVariance(strategies.MinVariance):
        def target_weights(self, history, now):
            later = closes().loc[closes().index > now]
            return (
                best(later.iloc[0] / closes().loc[now])
                if len(later)
                else super().target_weights(history, now)
            )

    assert "foretell" in refused(MinVariance())


def test_a_subclass_that_overrides_an_inner_part() -> None:
    class Sure(strategies.MeanVariance):
        def mean_of(self, returns):
            row = np.flatnonzero(np.isclose(closes().pct_change().iloc[:, 0].to_numpy(), returns[-1, 0]))
            row = int(row[0]) if len(row) else 100
            return 100 * closes().pct_change().to_numpy()[min(row + 1, 619)]

    assert "as no history can" in refused(Sure())


def test_a_peeker_inside_the_volatility_target() -> None:
    frame = closes().assign(CASH=1.0)

    class Peek(Strategy):
        def target_weights(self, history, now):
            later = closes().loc[closes().index > now]
            return best(later.iloc[0] / closes().loc[now]) if len(later) else {"AAPL": 1.0}

    with pytest.raises(LookAheadError, match="foretell"):
        walk(strategies.VolatilityTarget(of=Peek(), cash="CASH"), frame, every=5, lookback=100)


def test_one_that_recognises_the_real_prices_and_is_honest_on_others() -> None:
    full = closes().to_numpy()

    class Matches(Strategy):
        def target_weights(self, history, now):
            row = np.flatnonzero((np.abs(full - history.to_numpy()[-1]) < 1e-9).all(axis=1))
            if len(row) and row[0] + 1 < len(full):
                return np.eye(8)[(full[row[0] + 1] / full[row[0]]).argmax()]
            return np.full(8, 1 / 8)

    assert "as no history can" in refused(Matches())


def test_a_peek_that_only_tilts_equal_weights_a_little() -> None:
    class Tilts(Strategy):
        def target_weights(self, history, now):
            later = closes().loc[closes().index > now]
            w = np.full(8, 1 / 8)
            if len(later):
                gain = (later.iloc[0] / closes().loc[now]).to_numpy()
                w[gain.argmax()] += 0.01
                w[gain.argmin()] -= 0.01
            return w

    assert "foretell" in refused(Tilts())


def test_a_peek_of_a_week_and_of_a_period() -> None:
    class Week(Strategy):
        def __init__(self, rows):
            self.rows = rows

        def target_weights(self, history, now):
            row = closes().index.get_loc(now)
            later = closes().iloc[min(row + self.rows, 619)]
            return best(later / closes().iloc[row])

    assert "foretell" in refused(Week(5))
    assert "foretell" in refused(Week(20), every="month")


@pytest.mark.parametrize("peeks", [lambda row: row > 560, lambda row: row % 8 == 0])
def test_a_peek_from_some_row_on_or_now_and_then(peeks: Callable[[int], bool]) -> None:
    class Seldom(Strategy):
        def target_weights(self, history, now):
            row = closes().index.get_loc(now)
            if not peeks(row) or row == 619:
                return np.full(8, 1 / 8)
            return best(closes().iloc[row + 1] / closes().iloc[row])

    assert "foretell" in refused(Seldom(), every=1)


def test_a_peek_that_remembers_an_earlier_run() -> None:
    class Remembers(Strategy):
        seen: dict[pd.Timestamp, np.ndarray] = {}  # noqa: RUF012

        def target_weights(self, history, now):
            self.seen[now] = np.array(history)[-1]
            later = sorted(day for day in self.seen if day > now)
            if not later:
                return np.full(8, 1 / 8)
            return np.eye(8)[(self.seen[later[0]] / self.seen[now]).argmax()]

    with pytest.raises(StrategyError, match="keep nothing between runs in a class or a module"):
        walk(Remembers(), market(), every=5, lookback=100)


def test_looking_into_the_memory_of_the_program(tmp_path: Path) -> None:
    ways = {
        "gc.get_objects": "gc.get_objects()",
        "gc.get_referrers": "gc.get_referrers(history)",
        "sys._getframe": "inspect.stack()",
        "sys._getframe ": "inspect.currentframe().f_back",
        "sys._getframe  ": "sys._getframe(1)",
        "sys._current_frames": "sys._current_frames()",
    }
    for event, expression in ways.items():
        strategy = peeker(
            tmp_path,
            f"""
class Peek(Strategy):
    def target_weights(self, history, now):
        {expression}
        return {{history.columns[0]: 1.0}}
""",
        )
        assert f"looks into the program that runs it ({event.strip()})" in refused(strategy)


def test_a_frame_reached_by_an_exception(tmp_path: Path) -> None:
    strategy = peeker(
        tmp_path,
        """
class Peek(Strategy):
    def target_weights(self, history, now):
        try:
            raise ValueError
        except ValueError as error:
            frame = error.__traceback__.tb_frame
        while frame is not None:
            track = frame.f_locals.get("track")
            if track is not None and hasattr(track, "prices"):
                row = list(track.dates).index(np.datetime64(now))
                if row + 1 < len(track.prices):
                    return np.eye(8)[(track.prices[row + 1] / track.prices[row]).argmax()]
            frame = frame.f_back
        return np.full(8, 1 / 8)
""",
    )
    assert refused(strategy).startswith("Peek: ")


def test_the_network(tmp_path: Path) -> None:
    strategy = peeker(
        tmp_path,
        """
import socket
class Peek(Strategy):
    def target_weights(self, history, now):
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=0.1)
        except OSError:
            pass
        return {history.columns[0]: 1.0}
""",
    )
    assert "asks the network" in refused(strategy)


def test_a_factory_that_is_given_the_market_is_replayed_on_a_cut_one() -> None:
    class Whole(Strategy):
        def __init__(self, given):
            self.scale = given.prices.max(axis=0)  # the highest price there will ever be

        def target_weights(self, history, now):
            w = self.scale / history.to_numpy()[-1]
            return w / w.sum()

    with pytest.raises(LookAheadError, match="gives other weights where the data end at"):
        check_causal(Whole, closes(), every=20, lookback=100)


def test_random_weights_without_a_seed_are_told_apart_from_peeking() -> None:
    class Dice(Strategy):
        def target_weights(self, history, now):
            return np.random.dirichlet(np.ones(8))

    with pytest.raises(
        StrategyError, match="gives other weights each time: seed its random numbers"
    ) as error:
        walk(Dice(), market(), every=5, lookback=100)
    assert not isinstance(error.value, LookAheadError)


def test_one_that_fails_on_other_prices_is_refused() -> None:
    class Table(Strategy):
        def target_weights(self, history, now):
            if not np.isclose(closes().loc[now].to_numpy(), history.to_numpy()[-1]).all():
                raise KeyError("unknown prices")
            return np.full(8, 1 / 8)

    with pytest.raises(StrategyError, match="on resampled prices: a strategy must decide from any history"):
        walk(Table(), market(), every=5, lookback=100)


# ---------------------------------------------------------------- the honest


class Momentum(Strategy):
    def target_weights(self, history, now):
        growth = (history.iloc[-1] / history.iloc[0]).clip(lower=0)
        return growth / growth.sum()


class Reversal(Strategy):
    def target_weights(self, history, now):
        return best(-(history.iloc[-1] / history.iloc[-2]))


class Seasonal(Strategy):
    def target_weights(self, history, now):
        return {history.columns[now.month % 8]: 0.6, history.columns[(now.month + 3) % 8]: 0.4}


class Counts(Strategy):
    """Keeps state from decision to decision."""

    def __init__(self):
        self.calls = 0

    def target_weights(self, history, now):
        self.calls += 1
        return np.eye(8)[self.calls % 8]


def best(row: pd.Series) -> dict[str, float]:
    return {row.idxmax(): 1.0}


@pytest.mark.parametrize("kind", [Momentum, Reversal, Seasonal, Counts])
def test_honest_strategies_pass(kind: type[Strategy]) -> None:
    strategy = kind()
    targets = walk(strategy, market(), every=5, lookback=100)
    assert np.isfinite(targets[:, 0]).sum() == 1 + 1 + len(range(100, 620, 5))
    assert getattr(strategy, "calls", 0) == 0  # the walk uses a copy
    seen = check_causal(kind, closes(), every=5, lookback=100, targets=targets)
    assert seen.placebo < 4
    assert seen.replayed > 100


def test_honest_strategies_on_prices_that_trend_or_swing_by_a_rule_pass() -> None:
    t = np.arange(600)[:, None]
    trend = np.exp(0.002 * t * np.array([1, 0.5, 0, -0.5])) * (1 + 0.001 * np.sin(t))
    dates = pd.date_range("2020-01-01", periods=600)
    walk(Momentum(), pd.DataFrame(trend, dates, list("abcd")), every=5, lookback=100)


@pytest.mark.parametrize(
    "name", ["min-variance", "risk-parity", "hrp", "correlation-aware", "max-sharpe", "forecast"]
)
def test_our_own_pass_the_same_examination(name: str) -> None:
    strategy = make(name, {})
    seen = check_causal(lambda: copied(strategy), closes().iloc[:240], every=40, lookback=120, decisions=24)
    assert seen.placebo < 4


def test_no_honest_statistic_reaches_the_limit_in_a_thousand_draws() -> None:
    rng = np.random.default_rng(7)
    real = closes().pct_change().dropna().to_numpy()[:250]
    zs = [_lean(rng.dirichlet(np.ones(8), size=250), real).z for _ in range(1000)]
    rare = [
        _lean(np.eye(8)[rng.integers(8, size=250)] * (rng.random((250, 1)) < 0.1), real).z
        for _ in range(1000)
    ]
    assert max(zs + rare) < 4
    assert np.std(zs) == pytest.approx(1, abs=0.1)


def test_the_placebo_keeps_dates_and_volatility_and_nothing_of_the_order() -> None:
    real = closes().to_numpy()
    other = _resampled(real, 1)
    a, b = np.diff(np.log(real), axis=0), np.diff(np.log(other), axis=0)
    assert other.shape == real.shape
    assert np.std(b) == pytest.approx(np.std(a), rel=0.2)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05


def test_weights_do_not_depend_on_later_rows_to_the_bit() -> None:
    for name in ("min-variance", "hrp", "mean-variance", "correlation-aware"):
        whole = walk(make(name), closes().iloc[:300], every=30, lookback=100)
        changed = closes().iloc[:300].copy()
        changed.iloc[200:, ::2] *= np.linspace(1, 3, 100)[:, None]  # half of them rise
        cut = walk(make(name), changed, every=30, lookback=100)
        assert (np.nan_to_num(whole[:200]) == np.nan_to_num(cut[:200])).all()
        assert (np.nan_to_num(whole[200:]) != np.nan_to_num(cut[200:])).any()
