"""The fast backtest engine beside vectorbt, bt, a plain numpy loop and a bare numba loop, on one job in one run.

    make bench-backtest     its environment, then this: prints tables, writes reports/benchmarks/backtest.{json,png}

The job: 20 S&P 500 stocks, 8,313 closes, equal weight, 1,000,000 to start with, 10 bps of what is traded, back to
target when a weight is off by τ or on the first row of a quarter. Engines take turns in one process, best of rounds.
The bare loop computes the final value and nothing else, ours what a `Result` holds. vectorbt is what its users call,
`from_order_func` with compiled callbacks, the value series not yet asked for; bt runs once. Final values differ by
accounting: vectorbt lets the largest buy absorb all fees, bt charges the fee inside each order.

The sweep: 1,000 τ from 0.2 % to 10 %, each engine in a process of its own, memory as the peak above what the process
held before; vectorbt in chunks of 50. Growth: random prices, ours against the bare loop, up to 1,000 assets and 10⁶
rows, 8 GB of prices, where the machine has 12 GB free.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from offchain.backtest import Costs, Job, Market, Policy, simulate, sweep  # noqa: E402

REPORT = ROOT / "reports" / "benchmarks" / "backtest.json"
PICTURE = REPORT.with_suffix(".png")
FEE = 0.001
TAUS = np.linspace(0.002, 0.1, 1_000)
CHUNK = 50  # of τ in one vectorbt call
SIZES = [(rows, n) for n in (10, 100, 1_000) for rows in (10**4, 10**5, 10**6)]
BYTES = 12  # of memory a price, with room to spare: 8 for it, the rest for series, trades and others
ROUNDS = {"ours": 600, "all features": 600, "bare numba loop": 600, "vectorbt": 8, "numpy": 4}
Array = np.ndarray


def stocks() -> tuple[Any, Array, Array]:
    """Prices as a frame and as an array, and the first row of each new quarter."""
    from skfolio.datasets import load_sp500_dataset

    frame = load_sp500_dataset()
    quarter = (frame.index.year * 4 + frame.index.quarter).to_numpy()
    return frame, np.ascontiguousarray(frame.to_numpy(float)), np.r_[False, quarter[1:] != quarter[:-1]]


# ---------------------------------------------------------------- the peers


@njit
def bare(prices: Array, quarter: Array, tau: float) -> tuple[float, int]:
    """Final value and number of rebalances, exact, as directly as it can be written."""
    rows, n = prices.shape
    target, value, count = 1.0 / n, 1e6 / (1 + FEE), 1
    units = np.empty(n)
    for i in range(n):
        units[i] = value * target / prices[0, i]
    for row in range(1, rows):
        value = 0.0
        for i in range(n):
            value += units[i] * prices[row, i]
        go = quarter[row]
        if not go:
            for i in range(n):
                if abs(units[i] * prices[row, i] - target * value) >= tau * value:
                    go = True
                    break
        if go:
            count += 1
            after = value
            for _ in range(50):
                traded = 0.0
                for i in range(n):
                    traded += abs(target * after - units[i] * prices[row, i])
                before, after = after, value - FEE * traded
                if abs(after - before) <= 1e-16 * value:
                    break
            value = after
            for i in range(n):
                units[i] = target * value / prices[row, i]
    return value, count


def plain(prices: Array, quarter: Array, tau: float) -> tuple[float, int]:
    """The same with numpy, row by row."""
    n = prices.shape[1]
    target, value, count = 1.0 / n, 1e6 / (1 + FEE), 1
    units = value * target / prices[0]
    for row in range(1, len(prices)):
        held = units * prices[row]
        value = held.sum()
        if quarter[row] or (np.abs(held - target * value) >= tau * value).any():
            count += 1
            after = value
            for _ in range(50):
                before, after = after, value - FEE * np.abs(target * after - held).sum()
                if abs(after - before) <= 1e-16 * value:
                    break
            value = after
            units = target * value / prices[row]
    return float(value), count


def vectorbt_engine(prices: Array, quarter: Array) -> Callable[[Array], Array]:
    """Final values by vectorbt of some τ, one group of columns each."""
    import vectorbt as vbt
    from vectorbt.portfolio import nb
    from vectorbt.portfolio.enums import Direction, SizeType

    percent, long = int(SizeType.TargetPercent), int(Direction.LongOnly)

    @njit
    def begin(c):  # type: ignore[no-untyped-def]
        n = c.group_len
        return np.empty(n), np.full(n, percent), np.full(n, long), np.empty(n)

    @njit
    def decide(c, size, kinds, directions, order_value, taus, quarter):  # type: ignore[no-untyped-def]
        value = c.last_cash[c.group]
        for col in range(c.from_col, c.to_col):
            c.last_val_price[col] = c.close[c.i, col]
            value += c.last_position[col] * c.close[c.i, col]
        go = c.i == 0 or quarter[c.i]
        for col in range(c.from_col, c.to_col):
            away = c.last_position[col] * c.close[c.i, col] / value - 1.0 / c.group_len
            go = go or abs(away) >= taus[c.group]
        size[:] = 1.0 / c.group_len if go else np.nan
        if go:
            nb.sort_call_seq_nb(c, size, kinds, directions, order_value, False)
        return (size,)

    @njit
    def order(c, size):  # type: ignore[no-untyped-def]
        wanted = size[c.call_seq_now[c.call_idx]]
        if np.isnan(wanted):
            return nb.order_nothing_nb()
        return nb.order_nb(
            size=wanted, price=c.close[c.i, c.col], size_type=percent, direction=long, fees=FEE
        )

    def simulate_all(taus: Array, values: bool = True) -> Array:
        n = prices.shape[1]
        portfolio = vbt.Portfolio.from_order_func(
            np.tile(prices, len(taus)),
            order,
            init_cash=1e6,
            cash_sharing=True,
            group_by=np.repeat(np.arange(len(taus)), n),
            pre_group_func_nb=begin,
            pre_segment_func_nb=decide,
            pre_segment_args=(taus, quarter),
            freq="D",
        )
        return np.atleast_1d(portfolio.final_value()) if values else np.empty(0)

    return simulate_all


def bt_engine(frame: Any, quarter: Array, tau: float) -> float:
    """Final value by bt."""
    import bt

    class Off(bt.Algo):
        def __call__(self, target: Any) -> bool:
            if target.now == frame.index[0] or target.now in days:
                return True
            total, share = target.value, 1 / frame.shape[1]
            return any(abs(child.value / total - share) >= tau for child in target.children.values())

    days = set(frame.index[quarter])
    algos = [Off(), bt.algos.SelectAll(), bt.algos.WeighEqually(), bt.algos.Rebalance()]
    test = bt.Backtest(
        bt.Strategy("job", algos),
        frame,
        initial_capital=1e6,
        commissions=lambda quantity, price: abs(quantity) * price * FEE,
        integer_positions=False,
        progress_bar=False,
    )
    test.run()
    return float(test.strategy.values.iloc[-1])


# ---------------------------------------------------------------- ours


def policy(n: int, tau: float) -> Policy:
    return Policy(np.full(n, 1 / n), bands=tau)


def everything(market: Market) -> tuple[Job, Policy]:
    """All features on, each with an effect."""
    rows, n = market.shape
    dividends = np.zeros((rows, n))
    dividends[::63] = 0.005 * market.prices[::63]
    in_kind, by_route = np.zeros(rows), np.zeros(rows)
    in_kind[21::21], by_route[63::63] = 1_000.0, -500.0
    full = Market(market.dates, market.prices, market.names, dividends, in_kind, by_route)
    costs = Costs(
        10, 5.0, 1.0, 1.0, np.full((rows, n), 0.02), np.full((rows, n), 1e10), np.full((rows, n), 1e10)
    )
    more = Policy(np.full(n, 1 / n), bands=0.05, fee_bps=50, cooldown_seconds=86_400, gain_over_cost=0.01)
    return Job.of(full, costs), more


# ---------------------------------------------------------------- measuring


def timed(task: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = task()
    return time.perf_counter() - start, found


def best_of(
    tasks: dict[str, Callable[[], Any]], rounds: dict[str, int]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of each task at its best, and its answer; the tasks take turns."""
    best, answers = dict.fromkeys(tasks, np.inf), {}
    for task in tasks.values():
        task()  # compile
    gc.disable()
    for turn in range(max(rounds[name] for name in tasks)):
        for name, task in tasks.items():
            if turn < rounds[name]:
                seconds, answers[name] = timed(task)
                best[name] = min(best[name], seconds)
    gc.enable()
    return best, answers


def job_part() -> dict[str, Any]:
    """The anchors' job at both τ."""
    frame, prices, quarter = stocks()
    market = Market.of(frame)
    peer = vectorbt_engine(prices, quarter)
    found: dict[str, Any] = {}
    for tau in (0.05, 0.01):
        job, mine = Job.of(market, Costs(proportional_bps=10)), policy(20, tau)
        full_job, full = everything(market)
        tasks: dict[str, Callable[[], Any]] = {
            "ours": lambda job=job, mine=mine: simulate(job, mine),
            "all features": lambda job=full_job, full=full: simulate(job, full),
            "bare numba loop": lambda tau=tau: bare(prices, quarter, tau),
            "vectorbt": lambda tau=tau: peer(np.array([tau]), False),
            "numpy": lambda tau=tau: plain(prices, quarter, tau),
        }
        best, answers = best_of(tasks, ROUNDS)
        best["bt"], value = timed(lambda tau=tau: bt_engine(frame, quarter, tau))
        values = {
            "ours": answers["ours"].final_value,
            "all features": answers["all features"].final_value,
            "bare numba loop": answers["bare numba loop"][0],
            "vectorbt": float(peer(np.array([tau]))[0]),
            "numpy": answers["numpy"][0],
            "bt": value,
        }
        found[f"{tau:.0%}"] = {
            "seconds": best,
            "values": values,
            "rebalances": (answers["ours"].rebalances, answers["bare numba loop"][1]),
        }
    return found


def sweep_part(engine: str) -> dict[str, Any]:
    """1,000 τ by one engine: seconds, sum of final values, peak memory above the start's."""
    frame, prices, quarter = stocks()
    market, costs = Market.of(frame), Costs(proportional_bps=10)
    tasks: dict[str, Callable[[Array], float]] = {
        "ours": lambda taus: sweep(market, [policy(20, tau) for tau in taus], costs).final_value.sum(),
        "ours, one thread": lambda taus: sweep(
            market, [policy(20, tau) for tau in taus], costs, workers=1
        ).final_value.sum(),
        "bare numba loop": lambda taus: sum(bare(prices, quarter, tau)[0] for tau in taus),
    }
    if engine == "vectorbt":
        peer = vectorbt_engine(prices, quarter)
        tasks["vectorbt"] = lambda taus: sum(
            float(peer(part).sum()) for part in np.array_split(taus, -(-len(taus) // CHUNK))
        )
    task = tasks[engine]
    task(TAUS[:40])  # compile, import
    gc.collect()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    runs = [timed(lambda: task(TAUS)) for _ in range(1 if engine == "vectorbt" else 5)]
    return {
        "seconds": min(seconds for seconds, _ in runs),
        "sum": runs[0][1],
        "memory": memory("VmHWM") - before,
    }


def available() -> int:
    """Bytes of memory that can be had without swapping."""
    return memory("MemAvailable", "/proc/meminfo")


def memory(name: str, where: str = "/proc/self/status") -> int:
    """Bytes, of this process unless it says otherwise."""
    lines = Path(where).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def growth_part() -> list[dict[str, Any]]:
    """Ours and the bare loop on random prices of many sizes."""
    found = []
    for rows, n in SIZES:
        if available() < BYTES * rows * n:
            print(
                f"{rows:,} × {n:,} left out: {available() / 1e9:.1f} GB of memory are free", file=sys.stderr
            )
            continue
        prices = random_prices(rows, n)
        dates = np.datetime64("1990-01-01", "s") + np.arange(rows) * np.timedelta64(86_400, "s")
        market = Market(dates, prices)
        job, mine = Job.of(market, Costs(proportional_bps=10)), policy(n, 1 / n)
        months = dates.astype("datetime64[M]").astype(int) // 3
        quarter = np.r_[False, months[1:] != months[:-1]]
        tasks: dict[str, Callable[[], Any]] = {
            "ours": lambda job=job, mine=mine: simulate(job, mine),
            "bare numba loop": lambda p=prices, q=quarter, n=n: bare(p, q, 1 / n),
        }
        rounds = max(3, 30_000_000 // (rows * n))
        best, answers = best_of(tasks, dict.fromkeys(tasks, min(rounds, 100)))
        value = answers["ours"].final_value
        if abs(value / answers["bare numba loop"][0] - 1) > 1e-9:
            raise SystemExit(f"{rows} × {n}: {value} is not {answers['bare numba loop'][0]}")
        found.append(
            {"rows": rows, "assets": n, "value": value, "rebalances": answers["ours"].rebalances} | best
        )
    return found


def random_prices(rows: int, n: int) -> Array:
    """Logarithms that wander about 0, 2 % a row."""
    from scipy.signal import lfilter

    rng, prices = np.random.default_rng(n), np.empty((rows, n))
    for i in range(0, n, 8):  # a cache line of columns at a time
        columns = prices[:, i : i + 8]
        columns[:] = np.exp(lfilter([0.02], [1, -0.999], rng.standard_normal(columns.T.shape))).T
    return prices


# ---------------------------------------------------------------- report


def part(*arguments: str) -> Any:
    """A part in a process of its own."""
    command = [sys.executable, __file__, "--part", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if sys.argv[1:2] == ["--part"]:
        name, *rest = sys.argv[2:]
        print(json.dumps({"job": job_part, "sweep": sweep_part, "growth": growth_part}[name](*rest)))
        return
    from rich.console import Console

    console = Console(width=118)
    rows: list[dict[str, Any]] = []
    jobs = part("job")
    for tau, found in jobs.items():
        rows += job_rows(tau, found)
    sweeps = {
        engine: part("sweep", engine)
        for engine in ("ours", "ours, one thread", "bare numba loop", "vectorbt")
    }
    rows += sweep_rows(sweeps)
    growth = part("growth")
    for size in growth:
        name = f"{size['assets']:,} assets, {size['rows']:,} rows"
        times = (size["ours"], "bare numba loop", size["bare numba loop"])
        rows.append(row("one backtest", name, *times, None, size["value"]))
    console.print(table("Backtests", rows))
    console.print(values_table(jobs, sweeps))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(rows, indent=1) + "\n")
    draw(growth)


def row(
    name: str,
    size: str,
    ours: float,
    anchor_name: str,
    anchor: float,
    goal: float | None,
    value: float | None = None,
) -> dict[str, Any]:
    """One line of the report: milliseconds, but memory in MB."""
    scale = 1e-6 if "memory" in name else 1e3
    return {
        "name": name,
        "size": size,
        "ours": ours * scale,
        "anchor": anchor * scale,
        "anchor_name": anchor_name,
        "ratio": ours / anchor,
        "goal": goal,
        "final_value": value,
    }


def job_rows(tau: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    seconds, size, value = found["seconds"], f"20 assets, 8,313 rows, τ = {tau}", found["values"]["ours"]
    goals = {"bare numba loop": 1.5, "vectorbt": 1 / 50, "bt": None, "numpy": None}
    lines = [
        row("anchors' job", size, seconds["ours"], peer, seconds[peer], goal, value)
        for peer, goal in goals.items()
    ]
    full, bare_loop = seconds["all features"], seconds["bare numba loop"]
    if tau == "5%":
        more = row(
            "all features on", size, full, "bare numba loop", bare_loop, 1.5, found["values"]["all features"]
        )
        lines.append(more)
    return lines


def sweep_rows(sweeps: dict[str, Any]) -> list[dict[str, Any]]:
    size, ours, peer = "1,000 τ", sweeps["ours"], sweeps["vectorbt"]
    single, bare_loop = sweeps["ours, one thread"], sweeps["bare numba loop"]
    return [
        row("sweep", size, ours["seconds"], "vectorbt", peer["seconds"], 1 / 100, ours["sum"]),
        row("sweep, memory in MB", size, ours["memory"], "vectorbt", peer["memory"], 1 / 10),
        row("sweep", size, ours["seconds"], "bare numba loop", bare_loop["seconds"], None, ours["sum"]),
        row(
            "sweep, one thread",
            size,
            single["seconds"],
            "bare numba loop",
            bare_loop["seconds"],
            None,
            single["sum"],
        ),
        row("sweep, one thread", size, single["seconds"], "vectorbt", peer["seconds"], None, single["sum"]),
    ]


def table(title: str, rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    shown = Table(title=title)
    for name in ("what", "size", "ours, ms", "peer", "peer's, ms", "ratio", "goal", "final value"):
        shown.add_column(
            name,
            justify="right" if name in ("ours, ms", "peer's, ms", "ratio", "goal", "final value") else "left",
        )
    for r in rows:
        goal = "" if r["goal"] is None else f"{r['goal']:.3g}"
        value = "" if r["final_value"] is None else f"{r['final_value']:,.3f}"
        cells = (r["name"], r["size"], f"{r['ours']:,.3f}", r["anchor_name"], f"{r['anchor']:,.3f}")
        shown.add_row(*cells, f"{r['ratio']:.4f}", goal, value)
    return shown


def values_table(jobs: dict[str, Any], sweeps: dict[str, Any]) -> Any:
    from rich.table import Table

    shown = Table(title="Final values; sum of the sweep's")
    columns = ("engine", "τ = 5 %", "τ = 1 %", "sweep")
    for name in columns:
        shown.add_column(name, justify="left" if name == "engine" else "right")
    for engine in ("ours", "bare numba loop", "numpy", "vectorbt", "bt"):
        values = [f"{found['values'][engine]:,.3f}" for found in jobs.values()]
        total = f"{sweeps[engine]['sum']:,.0f}" if engine in sweeps else ""
        shown.add_row(engine, *values, total)
    return shown


def draw(growth: list[dict[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for color, n in zip(("C0", "C1", "C2"), (10, 100, 1_000), strict=True):
        sizes = [size for size in growth if size["assets"] == n]
        rows = [size["rows"] for size in sizes]
        axes.plot(rows, [1e3 * size["ours"] for size in sizes], "o-", color=color, label=f"{n:,} assets")
        axes.plot(rows, [1e3 * size["bare numba loop"] for size in sizes], "x:", color=color)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="rows",
        ylabel="ms a backtest",
        title="Ours (dots), bare numba loop (crosses)",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    main()
