"""What is held, by lot: for limits on turnover and on realised gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offchain.strategies.errors import StrategyError

__all__ = ["Book", "Lot"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lot:
    """A purchase."""

    asset: str
    units: float
    cost: float  # paid a unit, in the prices' money

    @staticmethod
    def of(value: Lot | Mapping[str, Any]) -> Lot:
        """From a table of the settings."""
        if isinstance(value, Lot):
            lot = value
        elif isinstance(value, Mapping) and set(value) == {"asset", "units", "cost"}:
            lot = Lot(str(value["asset"]), value["units"], value["cost"])
        else:
            raise StrategyError(f"lots: {value!r} is not {{asset, units, cost}}")
        for name in ("units", "cost"):
            number = getattr(lot, name)
            if not isinstance(number, (int, float)) or not 0 <= number < np.inf:
                raise StrategyError(f"lots: {lot.asset}: {name} {number!r} is not a number of at least 0")
        return lot


class Book:
    """Lots of each asset (n columns). Sells those that cost most first: of all orders it realises the least gain."""

    def __init__(self, n: int) -> None:
        self.lots: list[list[tuple[float, float]]] = [[] for _ in range(n)]  # (cost, units), ascending cost

    @staticmethod
    def of(lots: Sequence[Lot], columns: Sequence[str]) -> Book:
        """From a person's lots; an asset that is no column is refused."""
        book, place = Book(len(columns)), {str(name): i for i, name in enumerate(columns)}
        for lot in lots:
            if lot.asset not in place:
                raise StrategyError(f"lots: {lot.asset!r} is not an asset of the data")
            book.lots[place[lot.asset]].append((lot.cost, lot.units))
        for held in book.lots:
            held.sort()
        return book

    @staticmethod
    def of_weights(weights: Any, prices: Any) -> Book:
        """A value of 1, bought at these prices."""
        book = Book(len(prices))
        book.trade(np.asarray(weights, dtype=np.float64), np.asarray(prices, dtype=np.float64))
        return book

    def units(self) -> Floats:
        """(n,) held."""
        return np.array([sum(units for _, units in held) for held in self.lots])

    def weights(self, prices: Floats) -> Floats | None:
        """(n,) of the value; None if nothing is held."""
        values = self.units() * prices
        return values / values.sum() if values.sum() > 0 else None

    def gains(self, prices: Floats) -> list[tuple[int, float, float]]:
        """(asset, weight of the value, unrealised gain of it as a fraction of what it sells for) of each lot."""
        total = float(self.units() @ prices)
        return [
            (i, units * prices[i] / total, 1 - cost / prices[i])
            for i, held in enumerate(self.lots)
            for cost, units in held
        ]

    def trade(self, weights: Floats, prices: Floats) -> float:
        """Sells and buys to the weights at the prices, free of cost; the gain realised, losses not offset."""
        total = float(self.units() @ prices) or 1.0
        realised = 0.0
        for i, held in enumerate(self.lots):
            change = weights[i] * total / prices[i] - sum(units for _, units in held)
            if change > 0:
                held.append((float(prices[i]), float(change)))
                held.sort()
            while change < 0 and held:
                cost, units = held.pop()
                sold = min(units, -change)
                realised += max(prices[i] - cost, 0.0) * sold
                change += sold
                if sold < units:
                    held.append((cost, units - sold))
                    break
        return realised / total
