"""What one person allows: bounds, groups, exclusions, turnover, positions, risk, tax. It holds for every strategy.

The optimisers of `kinds` know bounds and groups while they search. Whatever a strategy then answers is moved to the
nearest weights that keep everything:

    minimise ½ ‖w − wanted‖² + tax_aversion · tax(w)   subject to   Σ w = 1 and all of the constraints

(a quadratic program, Clarabel). Where a position is either nothing or at least `min_position`, or `max_assets` counts
them, the assets to hold are first chosen by least Σ|w − wanted| (a mixed-integer linear program, HiGHS). Constraints
that contradict each other are refused, with a smallest set of them that does.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offchain.strategies.errors import StrategyError
from offchain.strategies.tax import Book, Lot

__all__ = ["PROFILES", "QUESTIONS", "Constraints", "risk_profile"]

Floats = NDArray[np.float64]
KEPT = 1e-7  # how far weights may lie outside a constraint
DUST = 1e-9  # a solver's zero

PROFILES: Mapping[str, float] = {  # profile: volatility target, a year
    "conservative": 0.04,
    "cautious": 0.07,
    "balanced": 0.10,
    "growth": 0.14,
    "aggressive": 0.20,
}
QUESTIONS: Mapping[str, Sequence[str]] = {  # answers from 0 points up
    "horizon": ("below 2 years", "2 to 5 years", "5 to 10 years", "10 to 20 years", "above 20 years"),
    "loss": ("sell all", "sell some", "wait", "buy some", "buy much"),  # after a fall of 20 %
    "income": ("uncertain", "somewhat uncertain", "steady", "secure", "not needed from this money"),
    "experience": ("none", "savings", "funds", "shares", "derivatives"),
    "goal": ("keep", "beat inflation", "balance", "grow", "grow most"),
}


def risk_profile(answers: Mapping[str, int]) -> tuple[str, float]:
    """(profile, volatility target a year) of a questionnaire: QUESTIONS answered by the option's place, 0 to 4.

    The lower of two: the average of all answers (what one would like), and the lowest of horizon, loss and income (what
    one can bear), one step up. A short horizon is so never outvoted by a brave temper.
    """
    for question, options in QUESTIONS.items():
        answer = answers.get(question)
        if not isinstance(answer, int) or not 0 <= answer < len(options):
            raise StrategyError(
                f"risk_answers: {question}: {answer!r} is not a number from 0 to {len(options) - 1}"
            )
    unknown = set(answers) - set(QUESTIONS)
    if unknown:
        raise StrategyError(
            f"risk_answers: {min(unknown)!r} is no question; there are {', '.join(QUESTIONS)}"
        )
    wanted = sum(answers[question] for question in QUESTIONS) / len(QUESTIONS)
    bearable = min(answers[question] for question in ("horizon", "loss", "income")) + 1
    level = min(int(wanted + 0.5), bearable, len(PROFILES) - 1)
    name = list(PROFILES)[level]
    return name, PROFILES[name]


@dataclass(frozen=True)
class Constraints:
    """Fractions of the portfolio's value. Assets are named as in the data's columns."""

    min_weights: float | Mapping[str, float] = 0.0  # of all assets, or by name (the others: 0)
    max_weights: float | Mapping[str, float] = 1.0  # (the others: 1)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)  # name: its assets
    min_groups: Mapping[str, float] = field(default_factory=dict)
    max_groups: Mapping[str, float] = field(default_factory=dict)
    exclude: Sequence[str] = ()  # assets or groups: an ethical list
    max_turnover: float | None = None  # Σ|w − held| of one decision, sells plus buys
    min_position: float = 0.0  # a weight is 0 or at least this
    max_assets: int | None = None  # held at once
    max_volatility: float | None = None  # a year, of the covariance of `volatility_half_life`
    risk_profile: str = ""  # one of PROFILES, instead of max_volatility
    risk_answers: Mapping[str, int] = field(default_factory=dict)  # to QUESTIONS, instead of risk_profile
    volatility_half_life: float = 63.0  # rows
    rows_per_year: float = 252.0
    lots: Sequence[Any] = ()  # Lot, or {asset, units, cost}: what is held
    tax_rate: float = 0.0  # on a gain
    tax_aversion: float = (
        0.1  # squared weight per unit of tax; 0.1: at 25 % tax, 40 % gain a lot may stay 1 % too large
    )
    max_gains: float | None = None  # realised in one decision, as a fraction of the value

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_turnover", 0, 2),
            ("min_position", 0, 1),
            ("max_assets", 1, np.inf),
            ("max_volatility", 0, np.inf),
            ("volatility_half_life", 1, np.inf),
            ("rows_per_year", 1, np.inf),
            ("tax_rate", 0, 1),
            ("tax_aversion", 0, np.inf),
            ("max_gains", 0, np.inf),
        ):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and low <= value <= high):
                raise StrategyError(f"{name}: {value!r} is not a number between {low:g} and {high:g}")
        if isinstance(self.exclude, str):
            raise StrategyError(f"exclude: {self.exclude!r}: needs a list of names")
        object.__setattr__(self, "lots", tuple(Lot.of(lot) for lot in self.lots))
        self._read_risk()
        for name in ("min_groups", "max_groups"):
            unknown = set(getattr(self, name)) - set(self.groups)
            if unknown:
                raise StrategyError(
                    f"{name}: {min(unknown)!r} is no group; groups are {', '.join(self.groups) or 'none'}"
                )

    def _read_risk(self) -> None:
        given = [
            name for name in ("max_volatility", "risk_profile", "risk_answers") if getattr(self, name) or None
        ]
        if len(given) > 1:
            raise StrategyError(f"{given[0]} and {given[1]}: give one of them")
        profile = self.risk_profile
        if self.risk_answers:
            profile = risk_profile(self.risk_answers)[0]
        if profile:
            if profile not in PROFILES:
                raise StrategyError(f"risk_profile: {profile!r} is none of {', '.join(PROFILES)}")
            object.__setattr__(self, "max_volatility", PROFILES[profile])

    @staticmethod
    def of(settings: Mapping[str, Any]) -> Constraints:
        """From a table of a backtest's file."""
        known = [f.name for f in fields(Constraints)]
        for name in settings:
            if name not in known:
                raise StrategyError(f"constraints: {name!r} is no setting; settings are {', '.join(known)}")
        return Constraints(**settings)

    # ------------------------------------------------------------ over the columns of the data

    @property
    def follows_a_book(self) -> bool:
        """Whether what is held matters."""
        return (
            self.max_turnover is not None
            or bool(self.lots)
            or self.tax_rate > 0
            or self.max_gains is not None
        )

    def bounds(self, columns: Sequence[str]) -> tuple[Floats, Floats]:
        """(n,) least and most weight, exclusions included."""
        low = _by_asset("min_weights", self.min_weights, columns, 0.0)
        high = _by_asset("max_weights", self.max_weights, columns, 1.0)
        high[self._excluded(columns)] = 0.0
        return low, high

    def group_rows(self, columns: Sequence[str]) -> tuple[Floats, Floats]:
        """A (k, n) and b (k,) of A w <= b: the groups' limits."""
        rows, most = [np.zeros(len(columns))], [1.0]  # 0 <= 1, so that there is always a row
        for name, sign in (("min_groups", -1.0), ("max_groups", 1.0)):
            for group, limit in getattr(self, name).items():
                rows.append(sign * self._members(group, columns))
                most.append(sign * limit)
        return np.array(rows), np.array(most)

    def nearest(
        self, wanted: Floats, columns: Sequence[str], prices: Floats, book: Book | None = None
    ) -> Floats:
        """The weights (n,) nearest to `wanted` that keep the constraints; `wanted` itself if it does.

        `prices` (T, n) up to now. `book`: what is held; None: `lots`, if there are any.
        """
        if self == Constraints():
            return wanted
        if book is None and self.lots:
            book = Book.of(self.lots, columns)
        problem = _Problem(self, list(columns), prices, book)
        if problem.kept_by(wanted) and not problem.taxed(wanted):
            return wanted
        return problem.nearest(wanted)

    def _excluded(self, columns: Sequence[str]) -> NDArray[np.bool_]:
        out = np.zeros(len(columns), dtype=np.bool_)
        for name in self.exclude:
            if name in self.groups:
                out |= self._members(name, columns) > 0
            elif name in columns:
                out[list(columns).index(name)] = True
            else:
                raise StrategyError(f"exclude: {name!r} is neither an asset nor a group")
        return out

    def _members(self, group: str, columns: Sequence[str]) -> Floats:
        place = {str(name): i for i, name in enumerate(columns)}
        members = np.zeros(len(columns))
        for name in self.groups[group]:
            if name not in place:
                raise StrategyError(f"groups: {group}: {name!r} is not an asset of the data")
            members[place[name]] = 1.0
        return members


def _by_asset(name: str, value: Any, columns: Sequence[str], default: float) -> Floats:
    given = value if isinstance(value, Mapping) else dict.fromkeys(columns, value)
    out = np.full(len(columns), default)
    for asset, limit in given.items():
        if asset not in columns:
            raise StrategyError(f"{name}: {asset!r} is not an asset of the data")
        if not isinstance(limit, (int, float)) or not 0 <= limit <= 1:
            raise StrategyError(f"{name}: {asset}: {limit!r} is not between 0 and 1")
        out[list(columns).index(asset)] = limit
    return out


class _Problem:
    """The constraints over n columns, at one moment."""

    def __init__(self, c: Constraints, columns: list[str], prices: Floats, book: Book | None) -> None:
        self.c, self.columns, self.n = c, columns, len(columns)
        self.low, self.high = c.bounds(columns)
        self.rows, self.most = c.group_rows(columns)
        self.held = None if book is None else book.weights(prices[-1])
        lots = [] if book is None or self.held is None else book.gains(prices[-1])
        self.lots = [lot for lot in lots if lot[1] > 0]
        self.root = None if c.max_volatility is None else _volatility_root(c, prices)
        self.whole = c.max_assets is not None or c.min_position > 0

    def kept_by(self, w: Floats) -> bool:
        c, held = self.c, w > DUST
        positions = w[held]
        return bool(
            (w >= self.low - KEPT).all()
            and (w <= self.high + KEPT).all()
            and abs(w.sum() - 1) <= KEPT
            and (self.rows @ w <= self.most + KEPT).all()
            and (c.max_assets is None or held.sum() <= c.max_assets)
            and (positions >= c.min_position - KEPT).all()
            and (c.max_turnover is None or self.held is None or self._turnover(w) <= c.max_turnover + KEPT)
            and (c.max_gains is None or self._gains(w) <= c.max_gains + KEPT)
            and (self.root is None or np.linalg.norm(self.root @ w) <= (c.max_volatility or 0) + KEPT)
        )

    def taxed(self, w: Floats) -> bool:
        return self.c.tax_rate * self.c.tax_aversion > 0 and self._gains(w) > DUST

    def _turnover(self, w: Floats) -> float:
        return 0.0 if self.held is None else float(np.abs(w - self.held).sum())

    def _gains(self, w: Floats) -> float:
        """Realised by going to w, as a fraction of the value: lots that cost most are sold first."""
        if self.held is None:
            return 0.0
        left, total = np.maximum(self.held - w, 0.0), 0.0
        for asset, weight, gain in sorted(self.lots, key=lambda lot: lot[2]):
            sold = min(weight, left[asset])
            left[asset] -= sold
            total += sold * max(gain, 0.0)
        return total

    # ------------------------------------------------------------ solving

    def nearest(self, wanted: Floats) -> Floats:
        support = None
        if self.whole:
            found = self._solve(wanted, self._names(), whole=True)
            if found is None:
                raise self._contradiction(wanted)
            support = found > max(0.5 * self.c.min_position, DUST)
        found = self._solve(wanted, self._names(), support=support)
        if found is None:
            raise self._contradiction(wanted)
        return self._tidy(found, support)

    def _names(self) -> list[str]:
        """The constraints there are, as messages name them."""
        c = self.c
        names = {
            "min_weights": self.low.any(),
            "max_weights": (_by_asset("max_weights", c.max_weights, self.columns, 1.0) < 1).any(),
            f"exclude ({', '.join(c.exclude)})": bool(c.exclude),
            f"max_turnover ({c.max_turnover})": c.max_turnover is not None and self.held is not None,
            f"max_gains ({c.max_gains})": c.max_gains is not None and bool(self.lots),
            f"min_position ({c.min_position})": c.min_position > 0,
            f"max_assets ({c.max_assets})": c.max_assets is not None,
            f"max_volatility ({c.max_volatility})": self.root is not None,
        }
        groups = [f"min_groups ({group} {limit})" for group, limit in c.min_groups.items()]
        groups += [f"max_groups ({group} {limit})" for group, limit in c.max_groups.items()]
        return [name for name, there in names.items() if there] + groups

    def _solve(
        self, wanted: Floats, names: list[str], whole: bool = False, support: NDArray[np.bool_] | None = None
    ) -> Floats | None:
        """The weights nearest to wanted under the constraints named; None if there are none."""
        cp: Any = importlib.import_module("cvxpy")

        c = self.c
        have = {name.split(" ")[0] for name in names}
        w = cp.Variable(self.n)
        rules: list[Any] = [cp.sum(w) == 1, w >= 0]
        high = np.ones(self.n)
        if "max_weights" in have:
            high = _by_asset("max_weights", c.max_weights, self.columns, 1.0)
        if "exclude" in have:
            high[c._excluded(self.columns)] = 0.0
        low = self.low if "min_weights" in have else np.zeros(self.n)
        if whole:
            z = cp.Variable(self.n, boolean=True)
            least = np.maximum(low, c.min_position if "min_position" in have else 0.0)
            rules += [w <= cp.multiply(high, z), w >= cp.multiply(least, z), w >= low]
            rules += [cp.sum(z) <= c.max_assets] if "max_assets" in have else []
        else:
            if support is not None:
                low = np.where(support, np.maximum(low, c.min_position), low)
                high = np.where(support, high, 0.0)
            rules += [w >= low, w <= high]
        for name, sign in (("min_groups", -1.0), ("max_groups", 1.0)):
            for group, limit in getattr(c, name).items():
                if f"{name} ({group} {limit})" in names:
                    rules.append(sign * c._members(group, self.columns) @ w <= sign * limit)
        if "max_turnover" in have:
            rules.append(cp.norm1(w - self.held) <= c.max_turnover)
        if "max_volatility" in have and not whole:
            rules.append(cp.norm2(self.root @ w) <= c.max_volatility)
        tax = 0.0
        if self.lots and (c.tax_rate or "max_gains" in have):
            realised, sold = self._realised(cp, w)
            rules += sold
            rules += [realised <= c.max_gains] if "max_gains" in have else []
            tax = c.tax_rate * c.tax_aversion * realised
        distance = cp.norm1(w - wanted) if whole else 0.5 * cp.sum_squares(w - wanted)
        problem = cp.Problem(cp.Minimize(distance + tax), rules)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": _tidy checks the answer
            if whole:
                problem.solve(solver=cp.SCIPY)
            else:
                problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        return None if w.value is None else np.asarray(w.value, dtype=np.float64)

    def _realised(self, cp: Any, w: Any) -> tuple[Any, list[Any]]:
        sold = cp.Variable(len(self.lots), nonneg=True)
        owner = np.zeros((self.n, len(self.lots)))
        for k, (asset, _, _) in enumerate(self.lots):
            owner[asset, k] = 1.0
        gain = np.array([max(gain, 0.0) for _, _, gain in self.lots])
        rules = [sold <= np.array([weight for _, weight, _ in self.lots]), self.held - w <= owner @ sold]
        return gain @ sold, rules

    def _tidy(self, w: Floats, support: NDArray[np.bool_] | None) -> Floats:
        """The solver's rounding out: bounds exactly, dust to 0, the sum to 1 by those strictly inside their bounds."""
        low = (
            self.low
            if support is None
            else np.where(support, np.maximum(self.low, self.c.min_position), self.low)
        )
        high = self.high if support is None else np.where(support, self.high, 0.0)
        w = np.clip(np.where(w < DUST, 0.0, w), low, high)
        for _ in range(3):
            error = 1.0 - w.sum()
            room = (high - w if error > 0 else w - low) * (w > 0)
            if error == 0 or room.sum() < abs(error):
                break
            w = np.clip(w + error * room / room.sum(), low, high)
        if not self.kept_by(w):
            raise StrategyError(
                "constraints: the solver's weights do not keep them: widen the tightest one a little"
            )
        return np.asarray(w, dtype=np.float64)

    def _contradiction(self, wanted: Floats) -> StrategyError:
        """A smallest set of constraints without weights: take away whatever is not needed for that."""
        needed = self._names()
        for name in list(needed):
            fewer = [other for other in needed if other != name]
            if (
                self._solve(wanted, fewer, whole=self.whole) is None
                or self._continuous(wanted, fewer) is None
            ):
                needed = fewer
        more = ""
        if any(name.startswith("max_volatility") for name in needed):
            more = (
                f"; the least volatile of the weights allowed has {self._least_volatility(needed):.4f} a year"
            )
        return StrategyError(f"constraints: no weights keep {' and '.join(needed)} (and sum to 1){more}")

    def _continuous(self, wanted: Floats, names: list[str]) -> Floats | None:
        """Without whole positions, with volatility."""
        return self._solve(wanted, [name for name in names if not name.startswith(("min_pos", "max_assets"))])

    def _least_volatility(self, names: list[str]) -> float:
        cp: Any = importlib.import_module("cvxpy")

        w = cp.Variable(self.n)
        have = {name.split(" ")[0] for name in names}
        rules = [cp.sum(w) == 1, w >= 0]
        rules += [w <= self.high] if have & {"max_weights", "exclude"} else []
        rules += [w >= self.low] if "min_weights" in have else []
        rules += [self.rows @ w <= self.most] if have & {"min_groups", "max_groups"} else []
        rules += [cp.norm1(w - self.held) <= self.c.max_turnover] if "max_turnover" in have else []
        return float(cp.Problem(cp.Minimize(cp.norm2(self.root @ w)), rules).solve(solver=cp.CLARABEL))


def _volatility_root(c: Constraints, prices: Floats) -> Floats | None:
    """R (k, n) with ‖R w‖ the volatility a year, returns weighted by their age; None before there are returns."""
    if len(prices) < 3:
        return None
    returns = prices[1:] / prices[:-1] - 1
    weight = 0.5 ** (np.arange(len(returns))[::-1] / c.volatility_half_life)
    root = np.linalg.qr(returns * np.sqrt(weight / weight.sum() * c.rows_per_year)[:, None], mode="r")
    return np.asarray(root, dtype=np.float64)
