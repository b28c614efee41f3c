"""Several vaults on several chains in one table: what a wealth platform asks of Evenkeel's API (docs/api.md).

One `evenkeel serve` answers for one chain, so the platform asks one after another:

    python examples/wealth_platform.py http://localhost:8080 https://base.example --account 0xYourAddress

Amounts come as decimal strings of integers and stay integers until they are printed. A number that could not be read
is null and shown as "?", never as 0; a chain that does not answer has a line that says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WAD = Decimal(10**18)
WIDTH = 140  # characters, where there is no terminal


@dataclass(frozen=True)
class Row:
    """A vault, as the platform shows it; None: not known."""

    chain: str
    block: str
    vault: str
    nav_usd: Decimal | None
    share_usd: Decimal | None
    drift_of_band: Decimal | None  # 1: an asset is at the edge of its band
    held_usd: Decimal | None  # by the account
    state: str


def rows_of(client: httpx.Client, server: str, account: str | None) -> Iterator[Row]:
    """A line a vault of one server; one line with the reason where it cannot be asked."""
    try:
        config = ask(client, f"{server}/v1/config")
        chain = str(config["chain_id"])
        cursor = None
        while True:
            page = ask(client, f"{server}/v1/vaults", {"limit": 200} | ({"cursor": cursor} if cursor else {}))
            block = str(page["block"]["number"])
            for vault in page["vaults"]:
                yield row_of(client, server, chain, block, vault, account)
            cursor = page["next_cursor"]
            if cursor is None:
                return
    except (httpx.HTTPError, ValueError) as error:
        yield Row(server, "?", "?", None, None, None, None, f"not asked: {error}")


def row_of(
    client: httpx.Client, server: str, chain: str, block: str, vault: dict[str, Any], account: str | None
) -> Row:
    """One vault's line."""
    if not vault["readable"]:
        return Row(chain, block, vault["vault"], None, None, None, None, vault["reason"])
    held = None
    if account:
        own = ask(client, f"{server}/v1/vaults/{vault['vault']}/accounts/{account}")
        held = usd(own["value_usd_wad"])
    of_band = vault["max_drift_of_band_bps"]
    state = "paused" if vault["paused"] else "rebalancing" if vault["session_open"] else "on watch"
    return Row(
        chain,
        block,
        f"{vault['name']} ({vault['symbol']})",
        usd(vault["nav_usd_wad"]),
        usd(vault["share_price_usd_wad"]),
        None if of_band is None else Decimal(of_band) / 10_000,
        held,
        state if vault["prices_usable"] else "a price is not usable",
    )


def ask(client: httpx.Client, url: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer; ValueError with the problem's words where it is none."""
    answer = client.get(url, params=params)
    body: dict[str, Any] = answer.json()
    if answer.is_success:
        return body
    raise ValueError(f"{body.get('code')}: {body.get('detail')} (request {body.get('request_id')})")


def usd(wad: str | None) -> Decimal | None:
    """From 18 decimals."""
    return None if wad is None else Decimal(wad) / WAD


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a server could not be asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("servers", nargs="+", help="addresses of `evenkeel serve`, one a chain")
    parser.add_argument("--account", help="whose holdings to add up")
    chosen = parser.parse_args(arguments)
    table = Table("chain", "block", "vault")
    for name in ("NAV USD", "share USD", "drift of band", "held USD"):
        table.add_column(name, justify="right")
    table.add_column("state")
    with httpx.Client(timeout=30) as client:
        found = [
            row for server in chosen.servers for row in rows_of(client, server.rstrip("/"), chosen.account)
        ]
    for row in found:
        table.add_row(
            row.chain,
            row.block,
            escape(row.vault),
            shown(row.nav_usd, ",.2f"),
            shown(row.share_usd, ",.4f"),
            shown(row.drift_of_band, ".0%"),
            shown(row.held_usd, ",.2f") if chosen.account else "",
            escape(row.state),
        )
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    console.print(table)
    known = [row.held_usd for row in found if row.held_usd is not None]
    if chosen.account:
        complete = len(known) == len(found)
        console.print(
            f"held in all: {sum(known, Decimal(0)):,.2f} USD{'' if complete else ', and what is not known'}"
        )
    return 1 if any(row.state.startswith("not asked") for row in found) else 0


def shown(number: Decimal | None, form: str) -> str:
    """The number, or a question mark."""
    return "?" if number is None else format(number, form)


if __name__ == "__main__":
    sys.exit(main())
