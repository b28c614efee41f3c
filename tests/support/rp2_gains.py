"""RP2's gains and losses, by `python -m tests.support.rp2_gains < jobs.json`.

In a process of its own, since RP2 sets the precision of all decimals, which Vyper forbids, and makes a log file where
it is imported. A job is {"methods": {"2024": "fifo", …}, "transactions": [[id, time, quantity, money, fee], …]}, of
purchases (id begins with "b") and sales; it is answered by [[sale, lot, quantity, gain, basis, long], …].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

RP2_INI = """
[general]
assets = X
exchanges = a
holders = me
[in_header]
timestamp = 0
[out_header]
timestamp = 0
[intra_header]
timestamp = 0
"""


def main() -> None:
    jobs = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("rp2.ini").write_text(RP2_INI)
        print(json.dumps([gains(job) for job in jobs]))
        os.chdir("/")


def gains(job: dict[str, Any]) -> list[Any]:
    from prezzemolo.avl_tree import AVLTree
    from rp2.accounting_engine import AccountingEngine
    from rp2.configuration import Configuration
    from rp2.in_transaction import InTransaction
    from rp2.input_data import InputData
    from rp2.out_transaction import OutTransaction
    from rp2.plugin.country.us import US
    from rp2.rp2_decimal import RP2Decimal as D
    from rp2.tax_engine import compute_tax
    from rp2.transaction_set import TransactionSet

    configuration = Configuration("rp2.ini", US())
    sets = {kind: TransactionSet(configuration, kind, "X") for kind in ("IN", "OUT", "INTRA")}
    for row, (id, time, *amounts) in enumerate(job["transactions"], 1):
        quantity, money, fee = (D(amount) for amount in amounts)
        shared: Any = (configuration, time, "X", "a", "me")
        numbered: Any = {"row": row, "unique_id": id}
        price = money / quantity
        if id.startswith("b"):
            paid: Any = {"fiat_in_no_fee": money, "fiat_in_with_fee": money + fee, "fiat_fee": fee}
            sets["IN"].add_entry(InTransaction(*shared, "BUY", price, quantity, **paid, **numbered))
        else:
            sets["OUT"].add_entry(
                OutTransaction(*shared, "SELL", price, quantity, D("0"), fiat_out_no_fee=money, **numbered)
            )
    chosen: Any = AVLTree()
    for year, method in job["methods"].items():
        chosen.insert_node(
            int(year), import_module(f"rp2.plugin.accounting_method.{method}").AccountingMethod()
        )
    data = InputData("X", sets["IN"], sets["OUT"], sets["INTRA"])
    found = compute_tax(configuration, AccountingEngine(chosen), data).gain_loss_set
    return [
        [
            g.taxable_event.unique_id,
            g.acquired_lot.unique_id,
            str(g.crypto_amount),
            str(g.fiat_gain),
            str(g.fiat_cost_basis),
            g.is_long_term_capital_gains(),
        ]
        for g in found
    ]


if __name__ == "__main__":
    main()
