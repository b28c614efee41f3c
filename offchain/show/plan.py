"""`evenkeel plan` for people: tables as wide as the terminal, 80 characters at least."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from offchain import policy
from offchain.keeper.preview import Preview, Theory, pool_fee
from offchain.keeper.rehearsal import Simulation
from offchain.planner import Pool, V2Pool
from offchain.policy import WAD
from offchain.show.names import Names

__all__ = ["print_plan"]

WORDS = (
    "NAV: the vault's value at the oracle's prices. bps: 0.01 %. Drift: the distances from target together, in points. "
    "More: docs/glossary.md."
)


def print_plan(
    found: Preview, names: Names, simulation: Simulation | None, *, explain: bool, console: Console
) -> None:
    """The plan as tables."""
    _print_heading(found, names, console)
    if found.plan.trades:
        console.print(_legs_table(found, names))
        console.print(_costs_table(found))
    if found.nav:
        console.print(_assets_table(found, names))
    if found.plan.trades:
        _print_quality(found, console)
    if found.quotes:
        console.print(_quotes_table(found, names))
        _line(console, f"Chosen: {names.said(found.choice)}.")
    if explain:
        console.print(_reasons_table(found, names))
        _print_assumptions(found, console)
    for note in found.notes:
        _line(console, f"Note: {names.said(note)}.")
    _line(console, WORDS, "dim")
    if simulation is not None:
        _line(console, _simulation_says(found, simulation))


def _print_heading(found: Preview, names: Names, console: Console) -> None:
    snapshot, state, plan = found.snapshot, found.problem.state, found.plan
    _line(console, f"Plan for {snapshot.vault}", "bold")
    _line(
        console,
        f"block {snapshot.block.number}, {_time(found.problem.now)}, NAV {found.nav / WAD:,.2f} USD",
    )
    if found.possible:
        _line(console, f"Session {plan.session}: {_session_says(found, names)}.")
    else:
        _line(console, "NOT NOW: the vault refuses every rebalance at this block.", "bold yellow")
        for wait in found.waits:
            until = f"; until {_time(wait.until)} at the latest" if wait.until else ""
            _line(console, f"- {names.said(wait.reason)}{until}")
        if plan.trades:
            _line(console, f"Below is what would be traded if session {plan.session} were open now.")
    if not plan.trades and policy.next_session(state, found.problem.now)[1] == "":
        would = "Nothing to trade" if found.possible else "Nothing would be traded in a session now"
        _line(console, f"{would}: {names.said(plan.reason)}.")


def _session_says(found: Preview, names: Names) -> str:
    state, now = found.snapshot.state, found.problem.now
    if policy.session_is_open(state, now):
        end = state.session.opened_at + state.rules.window_seconds
        return f"open since {_time(state.session.opened_at)}, until {_time(end)} at the latest"
    trigger = policy.trigger(state, now)
    rows = zip(state.assets, policy.drifts(state), policy.bands(state), strict=True)
    outside = [names.of_token(asset.token) for asset, d, b in rows if d >= b]
    why = [f"calendar slot {trigger.slot} is due"] if "calendar" in trigger.kind else []
    if "threshold" in trigger.kind:
        why.append(f"outside {'its band' if len(outside) == 1 else 'their bands'}: {', '.join(outside)}")
    return f"a trade opens it; {' and '.join(why)}"


def _legs_table(found: Preview, names: Names) -> Table:
    table = _table("Swaps", ["", ">sold", "", ">expected", "", ">at least", "pool", "then"])
    for number, planned in enumerate(found.plan.legs, start=1):
        token_in, token_out = planned.leg.token_in, planned.token_out
        on = found.sold_on(planned)
        _row(
            table,
            str(number),
            names.amount(token_in, planned.amount_in),
            names.of_token(token_in),
            names.amount(token_out, planned.expected_out),
            names.of_token(token_out),
            names.amount(token_out, planned.min_out),
            _pool_says(found.pool(planned)),
            f"sold in {', '.join(map(str, on))}" if on else "to vault",
        )
    _call_rows(found, table, names)
    return table


def _costs_table(found: Preview) -> Table:
    plan, nav = found.plan, found.nav
    table = _table("Costs", ["cause", ">USD", ">bps of NAV", ""])
    if plan.costs is None:  # the optimiser failed and the single-pool plan stands in: only the sum is known
        _row(table, "fees, price impact", *_usd(found.total_cost, nav), "")
        return table
    units = found.gas_units(plan)
    gas = f"{units:,} units at {found.gas.wei / 1e9:.4g} gwei" if found.gas.usd else "left out: see the note"
    for cause, cost, words in (
        ("pool fees", plan.costs.fee, ""),
        ("price impact", plan.costs.impact, "off the oracle's price; below 0: a gain"),
        ("gas", plan.costs.gas, gas),
        ("tax", plan.costs.tax, "" if found.problem.tax_per_token else "not counted: no tax lots"),
    ):
        _row(table, cause, *_usd(cost, nav), words)
    table.add_section()
    _row(table, "total", *_usd(found.total_cost, nav), "")
    return table


def _assets_table(found: Preview, names: Names) -> Table:
    state, plan = found.problem.state, found.plan
    table = _table("Weights, % of NAV", ["asset", ">now", ">target", ">band ±", ">after", ">traded, USD"])
    before, after = found.weights(state.balances), found.weights(plan.balances_after)
    held, then_held = policy.values(state), policy.values(state, plan.balances_after)
    moved = [b - a for a, b in zip(held, then_held, strict=True)]
    rows = zip(state.assets, before, policy.targets(state), policy.bands(state), after, moved, strict=True)
    for i, (asset, now, target, band, then, usd) in enumerate(rows):
        if i == policy.aside(state):
            _row(table, names.of_token(asset.token), "-", "-", "-", "-", "in quarantine")
            continue
        cells = [f"{weight / 1e16:.2f}" for weight in (now, target, band, then)]
        _row(table, names.of_token(asset.token), *cells, f"{usd / 1e18:+,.2f}" if usd else "-")
    table.add_section()
    first, last = (sum(found.drifts(balances)) for balances in (state.balances, plan.balances_after))
    _row(table, "drift", f"{first / 1e16:.2f}", "", "", f"{last / 1e16:.2f}", "")
    return table


def _print_quality(found: Preview, console: Console) -> None:
    state, verdict = found.problem.state, found.plan.verdict
    used = policy.loss_budget_used(state, found.problem.now) + (verdict.charge if verdict else 0)
    closes = "closes" if verdict and verdict.closed else "stays open"
    room = state.rules.loss_capacity_bps / 100
    _line(
        console,
        f"After it the session {closes}, and {used / 1e16:.3f} of {room:.2f} % of the loss budget are used.",
    )
    if found.keeper_plan is not None:
        more = found.measure(found.plan) - found.measure(found.keeper_plan)
        _line(
            console,
            "This goes all the way to the targets; the keeper stops where going further costs more than it saves. By "
            "its measure, what trading costs and what the drift that is left is expected to cost, this is "
            f"{more / WAD:,.2f} USD worse than its own plan.",
        )
    else:
        _line(console, _proof_says(found))


def _proof_says(found: Preview) -> str:
    proof = found.plan.certificate
    if proof is None and any(quote.used for quote in found.quotes):
        return "No proof of optimality: venues outside carry out a part, and what else they could offer nobody knows."
    if proof is None:
        return "No proof: the optimiser failed, and the plan through each asset's best single pool stands in."
    how = (
        "The plan weighs all assets and pools at once."
        if found.plan.method == "joint"
        else "The plan takes each asset through its best single pool: here that is no worse than splitting."
    )
    return (
        "Proof: what it costs and what the drift that is left is expected to cost come to "
        f"{proof.objective / WAD:,.4f} USD. No plan can come below {proof.bound / WAD:,.4f} USD, so at most "
        f"{proof.gap / WAD:,.4f} USD ({proof.gap * 10_000 / found.nav:.5f} bps of NAV) could be saved. {how}"
    )


def _call_rows(found: Preview, table: Table, names: Names) -> None:
    """The exchanges that venues outside carry out."""
    for quote in (quote for quote in found.quotes if quote.used):
        _row(
            table,
            "",
            names.amount(quote.token_in, quote.amount_in),
            names.of_token(quote.token_in),
            names.amount(quote.token_out, quote.amount_out),
            names.of_token(quote.token_out),
            names.amount(quote.token_out, quote.min_out),
            quote.venue,
            "to vault",
        )


def _quotes_table(found: Preview, names: Names) -> Table:
    table = _table("Outside quotes", ["venue", ">sold", "", ">offered", "", ">own route", ""])
    for quote in found.quotes:
        _row(
            table,
            quote.venue,
            names.amount(quote.token_in, quote.amount_in),
            names.of_token(quote.token_in),
            names.amount(quote.token_out, quote.amount_out) if quote.amount_out else "-",
            names.of_token(quote.token_out),
            names.amount(quote.token_out, quote.own_out),
            "used" if quote.used else quote.reason or "not used",
        )
    return table


def _reasons_table(found: Preview, names: Names) -> Table:
    table = _table("Why", ["", ""], header=False)
    sentences = found.plan.explanations or ("no reason is known: the optimiser failed",) * len(found.theories)
    rows = zip(found.problem.state.assets, sentences, found.theories, strict=True)
    for asset, reason, theory in rows:
        text = _sentence(names.said(reason))
        if theory is not None:
            text += "\n" + _theory_says(theory)
        _row(table, names.of_token(asset.token), text)
    return table


def _theory_says(theory: Theory) -> str:
    best = theory.band
    width, stop, closes = (100 * x for x in (best.half_width, best.stop, theory.closes_within))
    back = (
        "the edge of that"
        if best.stop == best.half_width
        else "the target"
        if best.stop == 0
        else f"{stop:.2f} points from it"
    )
    text = (
        f"On its own: waiting is cheaper than trading within {width:.2f} points of the target; from further out, "
        f"trade back to {back}."
    )
    if best.stop > theory.closes_within:
        text += f" But a session closes only when it is within {closes:.2f} points."
    if theory.edge_cost is not None and theory.target_cost is not None:
        text += (
            f" That costs {theory.edge_cost * 10_000:.2f} bps of NAV a year, "
            f"going to the target each time {theory.target_cost * 10_000:.2f}."
        )
    return text


def _print_assumptions(found: Preview, console: Console) -> None:
    fees = [theory.fee for theory in found.theories if theory is not None]
    if not fees:
        return
    least = "" if min(fees) == max(fees) else f"{100 * min(fees):g} to "
    years = (
        ""
        if any(t and t.edge_cost for t in found.theories)
        else "; --volatility-percent adds its cost a year"
    )
    _line(
        console,
        f"'On its own' is the theory of one asset at a time (docs/planner.md), for a risk aversion of "
        f"{found.risk_aversion:g}, each asset's cheapest pool fee ({least}{100 * max(fees):g} %) and "
        f"gas as above. The widths hold for any volatility{years}. The plan weighs all assets together and only this "
        "trade, so it may stop elsewhere.",
    )


def _simulation_says(found: Preview, simulation: Simulation) -> str:
    if not simulation.refusal:
        planned = f", planned with {found.gas_units(found.plan):,}" if found.gas.usd else ""
        return f"Dry run: the vault would accept it from {simulation.caller} (gas {simulation.gas or 0:,}{planned})."
    hint = " That account lacks the keeper role of this vault." if simulation.refusal == "not keeper" else ""
    return f"Dry run: the vault refuses it from {simulation.caller}: {simulation.refusal}.{hint}"


# ---------------------------------------------------------------- parts


def _table(title: str, columns: Sequence[str], *, header: bool = True) -> Table:
    """Columns whose name begins with > hold numbers, which are never folded."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
        show_header=header,
    )  # fmt: skip
    for name in columns:
        right = name.startswith(">")
        justify: JustifyMethod = "right" if right else "left"
        table.add_column(Text(name.lstrip(">")), justify=justify, no_wrap=right, overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    """A row of plain text: a token's symbol may hold what rich takes for markup."""
    table.add_row(*(Text(cell) for cell in cells))


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _time(timestamp: int) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M} UTC"


def _usd(amount: int, nav: int) -> tuple[str, str]:
    return f"{amount / WAD:,.2f}", f"{amount * 10_000 / nav:.3f}"


def _pool_says(pool: Pool) -> str:
    return f"{'V2' if isinstance(pool, V2Pool) else 'V3'} {100 * pool_fee(pool):g} %"
