"""Tokens by name, amounts in whole tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Names"]

SYMBOL_LENGTH = 12  # characters; a token may call itself anything


@dataclass(frozen=True, slots=True)
class Names:
    """Symbols and decimals of the tokens of a plan, by lower-case address."""

    symbol: Mapping[str, str]
    decimals: Mapping[str, int]

    @staticmethod
    def of(tokens: Sequence[tuple[str, str, int]]) -> Names:
        """From (address, symbol, decimals); what a terminal could not show is left out of a symbol."""
        symbols = {
            token.lower(): "".join(c for c in symbol if c.isprintable())[:SYMBOL_LENGTH] or token[:8]
            for token, symbol, _ in tokens
        }
        return Names(symbols, {token.lower(): decimals for token, _, decimals in tokens})

    def of_token(self, token: str) -> str:
        """Its symbol."""
        return self.symbol[token.lower()]

    def amount(self, token: str, units: int) -> str:
        """In whole tokens: no decimals from a million on, two from a thousand, four from one, else six."""
        whole = Decimal(units).scaleb(-self.decimals[token.lower()])
        places = next(n for least, n in ((10**6, 0), (10**3, 2), (1, 4), (0, 6)) if whole >= least)
        text = f"{whole:,.{places}f}"
        return "<0.000001" if units and not text.strip("0.,") else text

    def said(self, text: str) -> str:
        """The text with every address replaced by its symbol."""
        known = re.compile("|".join(map(re.escape, self.symbol)), re.IGNORECASE | re.ASCII)
        return known.sub(lambda found: self.symbol[found[0].lower()], text)
