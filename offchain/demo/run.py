"""The demo: deposits, a year of real prices, three policies side by side, a dishonest keeper, exits, the audit.

`run_demo` is the story from top to bottom; each step is a function below it.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxParams, Wei

from offchain import policy
from offchain.audit import verify_vault
from offchain.chain.errors import ConfigError
from offchain.chain.sender import Sender
from offchain.chain.vault import KEEPER_ROLE
from offchain.demo import report
from offchain.demo.chart import draw
from offchain.demo.localchain import local_chain
from offchain.demo.market import CASH, TRADING_DAYS, Day, history
from offchain.demo.report import Attempt, Exit, VaultRun
from offchain.demo.world import TOKENS, World, build_world
from offchain.errors import EvenkeelError
from offchain.keeper.journal import Journal, Status
from offchain.keeper.loop import Keeper, Outcome
from offchain.planner.payload import Call, Leg, encode
from offchain.policy import DAY, WAD, Mode, VaultState

__all__ = ["DemoError", "run_demo"]

OUT = Path("reports/demo")
VAULTS = (
    (Mode.CALENDAR, "Calendar", "ekCAL"),
    (Mode.THRESHOLD, "Threshold", "ekTHR"),
    (Mode.EITHER, "Hybrid", "ekHYB"),
)
IN_KIND_SHARES = 80_000 * WAD  # of each vault; 1 share = 1 USD on the first day
ZAP_USD = 60_000  # into each vault
LOOK_EVERY_DAYS = 21  # the keeper looks at the chain at least that often, due or not
WIDTH = 118  # characters
REBALANCE_GAS = 3_000_000  # limit; one uses some 500,000
ROUNDING = 10**12  # USD WAD: what rounding may cost a depositor, a millionth of a dollar


class DemoError(EvenkeelError):
    """The demo did not go as it must: the message says where; this is a bug."""


class DemoSender(Sender):
    """A sender that does not estimate gas: Ganache takes as long for it as for two hundred calls."""

    def prepare(self, call: ContractFunction) -> TxParams:
        """With a limit that is enough for the demo's vaults; the keeper has simulated the call before."""
        data = HexBytes(call._encode_transaction_data())
        return {"to": call.address, "data": data, "value": Wei(0), "gas": REBALANCE_GAS}


def run_demo(days: int = TRADING_DAYS, out: Path = OUT, keep_chain: bool = False) -> dict[str, Any]:
    """Run it all on a local chain of its own, print what happens, write chart and report to `out`; the report."""
    console, started = _console(), time.monotonic()
    _make_folder(out)
    market = history(days)
    with _ended_by_sigterm(), _keeper_log(out / "keeper.log"), local_chain(market[0].timestamp) as chain:
        console.print(f"[bold]Evenkeel demo[/]: {days} trading days from {market[0].date} on {chain.url}")
        with console.status("deploying Evenkeel, Uniswap V2 and V3, tokens and feeds"):
            world = build_world(chain, market[0])
        console.print(f"deployed: factory {world.factory.address}, {len(world.venues)} Uniswap pools")
        with _journal(out) as journal:
            runs = [_create(world, journal, market[0], *vault) for vault in VAULTS]
            alice, bob = chain.accounts[5:7]
            with console.status("two depositors come in"):
                deposits = _deposit(world, runs, market[0], alice, bob)
            console.print(
                f"Alice {alice.address} brought the tokens in kind, Bob {bob.address} only {CASH.symbol}, zapped"
            )
            attempts = _replay(console, world, runs, market, thief=chain.accounts[7])
            for run in runs:
                run.costs = [entry for _, entry in journal.costs(run.contract.address)]
        exits = _leave(world, runs, market[-1], deposits)
        for run in runs:
            run.audit = verify_vault(chain.web3, run.contract.address)
        draw(runs, out / "chart.png")
        result = _result(world, runs, market, attempts, exits, time.monotonic() - started)
        report.write_json(out / "demo.json", result)
        _print(console, runs, attempts, exits)
        _check(runs, attempts, exits)
        console.print(
            f"chart: {out / 'chart.png'}   report: {out / 'demo.json'}   keeper's log: {out / 'keeper.log'}"
        )
        console.print(f"done in {time.monotonic() - started:.0f} s")
        if keep_chain:
            _wait_for_interrupt(console, world, runs, out)
    return result


# ---------------------------------------------------------------- before


def _create(world: World, journal: Journal, day: Day, mode: Mode, name: str, symbol: str) -> VaultRun:
    vault = world.create_vault(mode, f"Evenkeel {name}", symbol, day)
    keeper = Keeper(
        web3=world.chain.web3,
        vault=vault.address,
        executor=world.executor.address,
        hub=world.cash.address,
        pools=world.pool_source,
        sender=DemoSender(world.chain.web3, world.keeper, poll_seconds=0.02),
        journal=journal,
        lens=world.lens.address,
    )
    state = world.state(vault)
    return VaultRun(name, vault, keeper, state, state)


def _deposit(
    world: World, runs: list[VaultRun], day: Day, alice: LocalAccount, bob: LocalAccount
) -> list[tuple[str, LocalAccount, VaultRun, str, int]]:
    """Alice comes in kind, Bob with cash; (name, account, vault, way in, USD WAD paid) of each deposit."""
    world.mint(alice.address, len(runs) * IN_KIND_SHARES * 2 // WAD, day)
    world.mint(bob.address, len(runs) * ZAP_USD, day, only=[CASH])
    world.approve(bob, world.zap.address, only=[CASH])
    deposits = []
    for run in runs:
        vault = run.contract
        amounts = vault.functions.preview_mint_in_kind(IN_KIND_SHARES).call()
        world.approve(alice, vault.address)
        world.chain.send(alice, vault.functions.mint_in_kind(IN_KIND_SHARES, amounts, alice.address))
        deposits.append(("Alice", alice, run, "in kind", policy.nav(run.state, amounts)))
        before = world.cash.functions.balanceOf(bob.address).call()
        world.zap_in(bob, vault, ZAP_USD * CASH.scale)
        paid = before - world.cash.functions.balanceOf(bob.address).call()
        deposits.append(("Bob", bob, run, "zap", paid * WAD // CASH.scale))
    for run in runs:
        run.first = run.state = world.state(run.contract)
        run.add_point(day)
    return deposits


# ---------------------------------------------------------------- the market moves, the keeper keeps


def _replay(
    console: Console, world: World, runs: list[VaultRun], market: list[Day], thief: LocalAccount
) -> list[Attempt]:
    """Every day: new prices, arbitrage, then the keeper looks at each vault; what the dishonest keeper tried."""
    victim = runs[-1]
    hire: ContractFunction | None = world.announce(victim.contract, "set_role", thief.address, KEEPER_ROLE)
    attempts: list[Attempt] = []
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(market) - 1)
        for number, day in enumerate(market[1:], start=1):
            world.chain.set_time(day.timestamp)
            world.set_market(day)
            if hire is not None and not world.chain.refusal(world.deployer, hire):  # the delay is over
                world.chain.send(world.deployer, hire)
                hire = None
            if hire is None and not attempts and _due(victim, day, world.chain.now):
                attempts = _cheat(world, victim, day, thief)
            now = world.chain.now
            for run in runs:
                if number % LOOK_EVERY_DAYS == 0 or _due(run, day, now):
                    _look(world, run, day)
                    now = world.chain.now
                run.add_point(day)
            progress.update(task, advance=1, description=_headline(day, runs))
            if not console.is_terminal and day.date.month != market[number - 1].date.month:
                console.print(_headline(day, runs))  # no bar there: a line a month
    return attempts


def _due(run: VaultRun, day: Day, now: int) -> bool:
    """Whether a look can lead to a rebalance: the keeper's own question, asked of the state as last read.

    A full look reads the vault anew, a quarter of a second on Ganache, too long for every vault on every day.
    """
    return policy.next_session(run.at(day, now), now)[1] == ""


def _look(world: World, run: VaultRun, day: Day) -> None:
    outcome = run.keeper.once()
    if outcome.failed:
        raise DemoError(f"{run.name} on {day.date}: the keeper failed: {outcome.reason}")
    if outcome.status == Status.CONFIRMED:
        run.rebalances.append(_row(run, day, outcome))
    seen = outcome.snapshot if outcome.status == Status.SKIPPED else None  # nothing was sent: it is still so
    run.state = seen.state if seen else world.state(run.contract)


def _row(run: VaultRun, day: Day, outcome: Outcome) -> report.Rebalance:
    if outcome.receipt is None or outcome.decision is None:
        raise DemoError(f"{run.name} on {day.date}: a confirmed rebalance without a receipt")
    event = run.contract.events.Rebalanced().process_receipt(outcome.receipt, errors=DISCARD)[0]
    return report.rebalance_from(event, run, day, outcome.decision.trigger, int(outcome.receipt["gasUsed"]))


def _headline(day: Day, runs: list[VaultRun]) -> str:
    counts = "  ".join(
        f"{run.name} {run.points[-1].share_price / 1e16:.1f} ({len(run.rebalances)})" for run in runs
    )
    return f"{day.date}  {counts}"


# ---------------------------------------------------------------- the dishonest keeper


def _cheat(world: World, run: VaultRun, day: Day, thief: LocalAccount) -> list[Attempt]:
    """What a keeper with the role and a due session can try; each transaction must be mined and reverted."""
    state = world.state(run.contract)
    over = [
        i for i, (w, t) in enumerate(zip(policy.weights(state), policy.targets(state), strict=True)) if w > t
    ]
    over.sort(key=lambda i: policy.drifts(state)[i], reverse=True)
    sells = policy.clip_sells(state, [state.balances[i] if i == over[0] else 0 for i in range(len(TOKENS))])
    symbol = TOKENS[over[0]].symbol
    tries: list[tuple[str, list[Leg]]] = [
        (f"sells {symbol}, keeps the tokens", [_steal(world, over[0], sells, thief)])
    ]
    if len(over) > 1:
        what = f"sells {symbol}, buys {TOKENS[over[1]].symbol}, which is overweight"
        tries.append((what, _swap(world, over[0], over[1], sells)))
    return [_attempt(world, run, day, thief, state, sells, what, legs) for what, legs in tries]


def _attempt(
    world: World,
    run: VaultRun,
    day: Day,
    thief: LocalAccount,
    state: VaultState,
    sells: list[int],
    what: str,
    legs: list[Leg],
) -> Attempt:
    chain = world.chain
    session, _ = policy.next_session(state, chain.now)
    call: ContractFunction = run.contract.functions.rebalance(
        sells, world.executor.address, encode(legs), bytes(32), session, chain.now + DAY
    )
    reason = chain.refusal(thief, call)
    receipt = chain.send_unchecked(thief, call)
    if receipt["status"] == 1 or not reason:
        raise DemoError(f"{run.name} on {day.date}: the vault accepted a keeper that {what}")
    return Attempt(day.date, run.name, what, reason, receipt["transactionHash"].to_0x_hex())


def _steal(world: World, index: int, sells: list[int], thief: LocalAccount) -> Leg:
    token = world.tokens[index]
    call = token.functions.transfer(thief.address, sells[index])
    return Call(token.address, bytes.fromhex(call._encode_transaction_data().removeprefix("0x")))


def _swap(world: World, sold: int, bought: int, sells: list[int]) -> list[Leg]:
    """Swap the sold tokens into `bought`, through cash unless one of them is cash."""
    token, cash, other = world.tokens[sold], world.cash, world.tokens[bought]
    if cash.address in (token.address, other.address):
        return [world.swap_leg(token, other, sells[sold], to_caller=True)]
    first = world.swap_leg(token, cash, sells[sold], to_caller=False)
    return [first, world.swap_leg(cash, other, first.min_out, to_caller=True)]


# ---------------------------------------------------------------- after


def _leave(
    world: World, runs: list[VaultRun], day: Day, deposits: list[tuple[str, LocalAccount, VaultRun, str, int]]
) -> list[Exit]:
    """Every depositor redeems all shares in kind; no price is asked."""
    exits = []
    for name, account, run, way_in, usd_in in deposits:
        vault = run.contract.functions
        shares = vault.balanceOf(account.address).call()
        least = vault.preview_redeem_in_kind(shares, 0).call()
        before = [token.functions.balanceOf(account.address).call() for token in world.tokens]
        redeem = vault.redeem_in_kind(shares, account.address, account.address, least, 0)
        receipt = world.chain.send(account, redeem)
        after = [token.functions.balanceOf(account.address).call() for token in world.tokens]
        amounts = [a - b for a, b in zip(after, before, strict=True)]
        by_symbol = {token.symbol: amount for token, amount in zip(TOKENS, amounts, strict=True)}
        usd_out = policy.nav(run.at(day, world.chain.now), amounts)
        transaction = receipt["transactionHash"].to_0x_hex()
        exits.append(Exit(name, run.name, way_in, usd_in, shares, by_symbol, usd_out, transaction))
    return exits


def _result(
    world: World,
    runs: list[VaultRun],
    market: list[Day],
    attempts: list[Attempt],
    exits: list[Exit],
    seconds: float,
) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 1),
        "chain": {
            "id": world.chain.web3.eth.chain_id,
            "rpc_url": world.chain.url,
            "block": world.chain.web3.eth.block_number,
        },
        "addresses": {
            "factory": world.factory.address,
            "implementation": world.implementation.address,
            "rule_book": world.rule_book.address,
            "oracle": world.oracle.address,
            "executor": world.executor.address,
            "zap": world.zap.address,
            "auction": world.auction.address,
            "lens": world.lens.address,
            "timelock": world.timelock.address,
            "uniswap_v2_factory": world.uniswap.v2_factory.address,
            "uniswap_v3_factory": world.uniswap.v3_factory.address,
            "keeper": world.keeper.address,
            "tokens": {token.symbol: c.address for token, c in zip(TOKENS, world.tokens, strict=True)},
            "feeds": {token.symbol: c.address for token, c in zip(TOKENS, world.feeds, strict=True)},
        },
        "days": [
            {"date": day.date, "timestamp": day.timestamp, "prices_8_decimals": day.prices} for day in market
        ],
        "vaults": [report.vault_json(run) for run in runs],
        "attempts": [vars(attempt) for attempt in attempts],
        "exits": [vars(row) for row in exits],
    }


def _print(console: Console, runs: list[VaultRun], attempts: list[Attempt], exits: list[Exit]) -> None:
    for run in runs:
        console.print(report.rebalance_table(run))
    console.print(report.result_table(runs))
    if attempts:
        console.print(report.attempts_table(attempts))
    console.print(report.exits_table(exits))
    console.print(report.audit_table(runs))


def _check(runs: list[VaultRun], attempts: list[Attempt], exits: list[Exit]) -> None:
    """The demo is a test, too: what it shows must be so."""
    for run in runs:
        if run.audit is None or not run.audit.ok:
            raise DemoError(f"{run.name}: the audit head does not follow from the events")
        lost = [row.nav_before - row.nav_after for row in run.rebalances]
        if lost != [entry.fee + entry.impact for entry in run.costs]:
            raise DemoError(f"{run.name}: the cost ledger is not what the events say")
        if any(entry.why or entry.fee != entry.predicted_fee for entry in run.costs):
            raise DemoError(f"{run.name}: nobody trades between plan and rebalance here, yet costs differ")
    for row in exits:
        run = next(run for run in runs if run.name == row.vault)
        fair = run.points[-1].nav * row.shares // run.state.supply
        if abs(fair - row.usd_out) > ROUNDING + fair // 10**9:
            raise DemoError(
                f"{row.vault}: {row.depositor} left with {row.usd_out}, a fair part is {fair} (USD WAD)"
            )
    if any(run.rebalances for run in runs[1:]) and not attempts:
        raise DemoError("no dishonest keeper tried anything")


def _wait_for_interrupt(console: Console, world: World, runs: list[VaultRun], out: Path) -> None:
    console.print(f"\n[bold]the chain stays up at {world.chain.url}[/] until Ctrl-C; for example:")
    console.print(f"  evenkeel status {runs[0].contract.address} --rpc-url {world.chain.url}")
    console.print(f"  evenkeel audit verify {runs[0].contract.address} --rpc-url {world.chain.url}")
    console.print(f"  evenkeel costs {runs[1].contract.address} --journal {out / 'keeper.sqlite'}")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("stopped")


# ---------------------------------------------------------------- surroundings


def _make_folder(out: Path) -> None:
    """Make `out`, and see that it can be written, before anything else."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "keeper.log").touch()
    except OSError as error:
        raise ConfigError(f"--out: cannot write in {out}: {error.strerror}") from None


def _console() -> Console:
    """As wide as the terminal; wide enough for the tables where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=WIDTH, highlight=False)


@contextmanager
def _journal(out: Path) -> Iterator[Journal]:
    """The keeper's journal, empty: the local chain is new each time and its addresses repeat."""
    file = out / "keeper.sqlite"
    file.unlink(missing_ok=True)
    journal = Journal(file)
    try:
        yield journal
    finally:
        journal.close()


@contextmanager
def _keeper_log(file: Path) -> Iterator[None]:
    """Send the keeper's log lines to a file, so that they do not run through the progress bar."""
    with file.open("w") as lines:
        structlog.configure(
            processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.PrintLoggerFactory(lines),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.reset_defaults()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that the local chain is ended, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop: Callable[..., Any] = lambda *_: sys.exit(128 + signal.SIGTERM)  # noqa: E731
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
