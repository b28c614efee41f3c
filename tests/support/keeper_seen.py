"""What a keeper would have seen: a vault, outcomes of looks, a clock to turn, a journal with transactions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from offchain.chain.fees import Fees
from offchain.chain.sender import SignedCall
from offchain.chain.vault import BlockRef, Snapshot
from offchain.keeper.journal import Journal, Mined, Status
from offchain.keeper.loop import Outcome
from offchain.keeper.watch import AccountSeen, NodeSeen, Watch
from offchain.policy import WAD, Asset, Mode, Rules, Session, VaultState

VAULT, OTHER = "0x" + "a" * 40, "0x" + "b" * 40
CASH, STOCK, ORACLE, ACCOUNT = ("0x" + digit * 40 for digit in "123c")
NOW = 1_700_000_000
E18 = 10**18
RULES = Rules(Mode.THRESHOLD, 0, 30, NOW - 86_400, 3_600, 3_600, 100, 200, 1_000, 50, 0, 0)


@dataclass
class Clock:
    """Two clocks that are turned by hand."""

    now: float = NOW

    def monotonic(self) -> float:
        return self.now - NOW + 1_000

    def wall(self) -> float:
        return self.now


def snapshot(stock: int = 60, vault: str = VAULT, **changes: object) -> Snapshot:
    """`stock` thousand USD of STOCK and the rest of a hundred thousand of CASH; targets half and half, bands 5 %."""
    assets = tuple(Asset(token, 18, 5_000, 500, 2_500, 0, 10_000, 10) for token in (CASH, STOCK))
    state = VaultState(
        assets=assets,
        rules=RULES,
        session=Session(slot=1),
        balances=((100 - stock) * 1_000 * E18, stock * 1_000 * E18),
        prices=(WAD, WAD),
        statuses=(0, 0),
        supply=100_000 * E18,
        time=NOW,
        vault=vault,
        oracle=ORACLE,
    )
    block = BlockRef(7, "0x" + "77" * 32, NOW)
    return Snapshot(1, block, vault, replace(state, **changes), "0x" + "00" * 32)  # type: ignore[arg-type]


def outcome(
    status: Status = Status.SKIPPED,
    reason: str = "no trigger",
    vault: str = VAULT,
    seen: Snapshot | None = None,
) -> Outcome:
    return Outcome(status, reason, vault, 1, 7, 1, snapshot=seen or snapshot(vault=vault))


def watched(clock: Clock, **options: int) -> Watch:
    """A watch that has looked, whose node answers and whose account is full."""
    watch = Watch(clock=clock.monotonic, wall=clock.wall, **options)  # type: ignore[arg-type]
    watch.beat()
    watch.looked(VAULT, outcome())
    node(watch, clock)
    watch.note(database=True, kill_switch="", sends=True)
    watch.note(account=AccountSeen(1, ACCOUNT, E18))
    return watch


def node(watch: Watch, clock: Clock, answers: bool = True, chain_id: int = 1, behind: int = 0) -> None:
    """The node is asked."""
    seen = NodeSeen(True, chain_id, 7, int(clock.now) - behind, 10**9) if answers else NodeSeen(False)
    watch.note(node=seen)


def sent(journal: Journal, nonce: int = 5, vault: str = VAULT, time: int = NOW) -> int:
    """A run whose transaction waits since `time`."""
    run = journal.plan(vault, 1, 10, 3, "threshold", "0x" + "01" * 32, "{}", NOW + 600)
    journal.reserve(run, ACCOUNT, nonce, nonce)
    signed = SignedCall(f"0x{nonce:064x}", nonce, "0x02", ACCOUNT, 500_000, Fees(2, 1))
    journal.sent(run, signed, 10, time)
    return run


def mined(journal: Journal, nonce: int = 5, gas_wei: int = E18 // 4, time: int = NOW) -> None:
    """The transaction with that nonce is in a block."""
    (attempt,) = journal.attempts(1, ACCOUNT, nonce)
    journal.mined(attempt, Mined(11, f"0x{11:064x}", time, gas_wei), Status.CONFIRMED)
