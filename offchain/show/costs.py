"""`evenkeel costs`: the ledger's entries, predicted against realised by cause, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from offchain.chain.errors import ConfigError
from offchain.keeper.costs import Entry
from offchain.keeper.journal import Journal, Run
from offchain.policy import WAD

__all__ = ["Line", "costs_json", "lines", "print_costs", "read_ledger", "totals"]

CAUSES = {"fee": "fees", "impact": "impact", "gas": "gas", "tax": "tax"}
BPS = 10_000
WORDS = (
    "Predicted by the plan, realised on chain, both at the oracle's prices. Fees: what the pools keep. Impact: the "
    "rest of the value lost, price impact and the pools' distance from the oracle's prices; below 0 it is a gain. "
    "bps: of NAV, 0.01 %; in the totals they are added up."
)
NO_PRICE = "no price of the native token was set when they were planned (native_token, native_price_usd)"


@dataclass(frozen=True, slots=True)
class Line:
    """One cause, of one rebalance or of several together. None: not known."""

    predicted: int | None  # USD WAD
    realised: int | None
    predicted_bps: Fraction | None  # of the NAV; of several rebalances the sum
    realised_bps: Fraction | None

    @property
    def difference(self) -> int | None:
        """Realised less predicted, USD WAD."""
        return None if self.predicted is None or self.realised is None else self.realised - self.predicted

    @property
    def difference_bps(self) -> Fraction | None:
        """The same in bps of NAV."""
        if self.predicted_bps is None or self.realised_bps is None:
            return None
        return self.realised_bps - self.predicted_bps


def read_ledger(place: Path | str, vault: str, chain_id: int | None = None) -> Sequence[tuple[Run, Entry]]:
    """The vault's entries in the journal, oldest first; ConfigError where that is not one ledger.

    `place`: a file, or a database's address.
    """
    if isinstance(place, Path) and not place.is_file():
        raise ConfigError(f"journal: no such file: {place} (the keeper makes it; name it with --journal)")
    journal = Journal(place)
    try:
        ledger = journal.costs(vault, chain_id)
    finally:
        journal.close()
    chains = sorted({run.chain_id for run, _ in ledger})
    if len(chains) > 1:
        known = ", ".join(map(str, chains))
        raise ConfigError(f"--chain-id: the journal has {vault} on chains {known}; name one of them")
    return ledger


def lines(entry: Entry) -> dict[str, Line]:
    """The line of each cause, and their `total`; gas that has no price is in none of them."""
    found = {}
    for cause in CAUSES:
        predicted, realised = getattr(entry, f"predicted_{cause}"), getattr(entry, cause)
        if predicted is None or realised is None:
            predicted = realised = None
        found[cause] = Line(predicted, realised, _share(predicted, entry.nav), _share(realised, entry.nav))
    return found | {"total": _sum(found.values())}


def totals(entries: Iterable[Entry]) -> dict[str, Line]:
    """The same of all entries together."""
    found = [lines(entry) for entry in entries]
    return {cause: _sum(one[cause] for one in found) for cause in (*CAUSES, "total")}


def costs_json(vault: str, ledger: Sequence[tuple[Run, Entry]], last: int) -> dict[str, Any]:
    """The totals, and the `last` entries. Integers are decimal strings in the unit that their name ends with."""
    entries = [entry for _, entry in ledger]
    return {
        "vault": vault,
        "chain_id": str(ledger[0][0].chain_id) if ledger else None,
        "rebalances": str(sum(not entry.reverted for entry in entries)),
        "reverted": str(sum(entry.reverted for entry in entries)),
        "without_gas_price": str(sum(entry.gas is None for entry in entries)),
        "totals": {cause: _line_json(line) for cause, line in totals(entries).items()},
        "entries": [_entry_json(run, entry) for run, entry in _latest(ledger, last)],
    }


def print_costs(vault: str, ledger: Sequence[tuple[Run, Entry]], last: int, console: Console) -> None:
    """A table each for the `last` entries, then one for all."""
    entries = [entry for _, entry in ledger]
    if not entries:
        _say(console, f"No costs of {vault} are in the journal yet: they are noted with each rebalance.")
        return
    _say(console, f"Costs of {vault}", "bold")
    for run, entry in _latest(ledger, last):
        _print_entry(run, entry, console)
    reverted = sum(entry.reverted for entry in entries)
    title = f"All: {_count(len(entries) - reverted, 'rebalance')}"
    if reverted:
        title += f", {_count(reverted, 'reverted transaction')}"
    if len(ledger) > last:
        title += f"; shown: the last {last}"
    console.print()
    console.print(_table(title, totals(entries)))
    unknown = sum(entry.gas is None for entry in entries)
    if unknown:
        _say(console, f"Gas of {unknown} of {len(entries)} transactions is left out: {NO_PRICE}.")
    _say(console, WORDS, "dim")


def _print_entry(run: Run, entry: Entry, console: Console) -> None:
    time = f"{datetime.fromtimestamp(entry.time, UTC):%Y-%m-%d %H:%M} UTC"
    nav = f"NAV {entry.nav / WAD:,.2f} USD"
    what = "REVERTED" if entry.reverted else "rebalance"
    console.print()
    console.print(_table(f"{time}, session {run.session}: {what}, {nav}", lines(entry)))
    _say(console, f"transaction {run.tx_hash}, block {entry.block}")
    planned = "" if entry.reverted else f" ({entry.predicted_gas_used:,} planned)"
    paid = f"{entry.gas_wei / WAD:.6g} of the native token"
    _say(console, f"gas: {entry.gas_used:,} units used{planned}, {paid}")
    if not entry.reverted:
        _say(
            console,
            f"drift left: {entry.drift / 1e16:.4f} points, predicted {entry.predicted_drift / 1e16:.4f}",
        )
    for reason in entry.why.splitlines():
        _say(console, f"- {reason}")


def _table(title: str, found: dict[str, Line]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("cause", no_wrap=True)
    for unit in ("USD", "bps"):
        for what in ("predicted", "realised", "difference"):
            table.add_column(f"{what}\n{unit}", justify="right", no_wrap=True)
    for cause, name in CAUSES.items():
        if cause != "tax" or found[cause].predicted or found[cause].realised:
            table.add_row(name, *_cells(found[cause]))
    table.add_section()
    table.add_row("total", *_cells(found["total"]))
    return table


def _cells(line: Line) -> list[str]:
    usd = [line.predicted, line.realised, line.difference]
    bps = [line.predicted_bps, line.realised_bps, line.difference_bps]
    return [
        *("-" if x is None else f"{x / WAD:,.{4 if abs(x) < 1_000 * WAD else 2}f}" for x in usd),
        *("-" if x is None else f"{float(x):,.3f}" for x in bps),
    ]


def _entry_json(run: Run, entry: Entry) -> dict[str, Any]:
    return {
        "transaction": run.tx_hash,
        "run": str(run.id),
        "session": str(run.session),
        "block": str(entry.block),
        "block_hash": entry.block_hash,
        "time_seconds": str(entry.time),
        "reverted": entry.reverted,
        "reason": run.reason,
        "nav_usd_wad": str(entry.nav),
        "costs": {cause: _line_json(line) for cause, line in lines(entry).items()},
        "predicted_drift_wad": str(entry.predicted_drift),
        "drift_wad": str(entry.drift),
        "predicted_gas_units": str(entry.predicted_gas_used),
        "gas_units": str(entry.gas_used),
        "gas_wei": str(entry.gas_wei),
        "native_price_usd_wad": _text(entry.native_price),
        "why": entry.why.splitlines(),
    }


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "predicted_usd_wad": _text(line.predicted),
        "realised_usd_wad": _text(line.realised),
        "difference_usd_wad": _text(line.difference),
        "predicted_bps": _number(line.predicted_bps),
        "realised_bps": _number(line.realised_bps),
        "difference_bps": _number(line.difference_bps),
    }


def _sum(found: Iterable[Line]) -> Line:
    """All that is known, added up; None where nothing is."""
    known = [line for line in found if line.predicted is not None]
    if not known:
        return Line(None, None, None, None)
    return Line(
        sum(line.predicted or 0 for line in known),
        sum(line.realised or 0 for line in known),
        sum((line.predicted_bps or Fraction(0) for line in known), Fraction(0)),
        sum((line.realised_bps or Fraction(0) for line in known), Fraction(0)),
    )


def _share(amount: int | None, nav: int) -> Fraction | None:
    """Bps of NAV; nothing is lost of nothing."""
    return None if amount is None else Fraction(amount * BPS, nav) if nav else Fraction(0)


def _latest(ledger: Sequence[tuple[Run, Entry]], last: int) -> Sequence[tuple[Run, Entry]]:
    return ledger[max(len(ledger) - last, 0) :]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _number(share: Fraction | None) -> float | None:
    return None if share is None else float(share)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style))
