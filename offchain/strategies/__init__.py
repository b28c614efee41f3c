"""Target weights from history, knowing nothing later than now (docs/strategies.md).

strategy = make("min-variance", {"covariance": "oas"}, Constraints(max_weights=0.3))
targets = walk(strategy, market, every="month", lookback=252)   # (T, n), NaN rows between, for Policy(targets=targets)
"""

from offchain.strategies.base import Strategy
from offchain.strategies.causal import Causality, check_causal
from offchain.strategies.constraints import PROFILES, QUESTIONS, Constraints, risk_profile
from offchain.strategies.errors import LookAheadError, StrategyError
from offchain.strategies.forecast import Forecast, TorchForecast
from offchain.strategies.genetic import Genetic
from offchain.strategies.kinds import (
    HRP,
    BlackLitterman,
    CorrelationAware,
    Equal,
    Fixed,
    MaxSharpe,
    MeanVariance,
    MinVariance,
    RiskParity,
    VolatilityTarget,
)
from offchain.strategies.load import KINDS, NAMES, make
from offchain.strategies.tax import Book, Lot
from offchain.strategies.walk import EVERY, walk

__all__ = [
    "EVERY",
    "HRP",
    "KINDS",
    "NAMES",
    "PROFILES",
    "QUESTIONS",
    "BlackLitterman",
    "Book",
    "Causality",
    "Constraints",
    "CorrelationAware",
    "Equal",
    "Fixed",
    "Forecast",
    "Genetic",
    "LookAheadError",
    "Lot",
    "MaxSharpe",
    "MeanVariance",
    "MinVariance",
    "RiskParity",
    "Strategy",
    "StrategyError",
    "TorchForecast",
    "VolatilityTarget",
    "check_causal",
    "make",
    "risk_profile",
    "walk",
]
