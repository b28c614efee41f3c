"""I8: whatever is queued, made, cancelled and waited for, in any order, nothing happens sooner than its delay.

A Python model of the queue runs beside the Timelock through random episodes: it predicts every outcome, and what the
vault's terms are then. Every refusal must be reached.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from tests.support.evm import Reverted
from tests.support.world import ALICE, BOB, DAY, FEE_RECIPIENT, GUARDIAN, OWNER, STRANGER, ZERO
from tests.unit.timelock.support import Desk

EPISODES = 25
STEPS = 100
EXPIRY = 14 * DAY
Change = tuple[Any, ...]
CHANGES: tuple[Change, ...] = (
    ("set_delay", 2 * DAY),
    ("set_delay", 3 * DAY),
    ("set_delay", 30 * DAY),
    ("set_role", ALICE, 1),
    ("set_role", ALICE, 4),
    ("set_role", ALICE, 0),
    ("set_fee", 200, FEE_RECIPIENT),
    ("set_fee", 300, BOB),
    ("set_fee", 0, FEE_RECIPIENT),
    ("transfer_admin", ALICE),
    ("transfer_admin", OWNER),
    ("transfer_admin", ZERO),
    ("unpause",),
)
CALLERS = (OWNER, ALICE, GUARDIAN, STRANGER)
WAITS = (1, 60, DAY, 2 * DAY - 1, 2 * DAY, 3 * DAY, EXPIRY, EXPIRY + 1, 30 * DAY)
REASONS = {
    "",
    "not admin",
    "not admin or guardian",
    "not guardian",
    "not pending admin",
    "already queued",
    "not queued",
    "not ready",
    "expired",
    "needs the delay",
    "no veto on a guardian's removal",
    "too soon after the last",
}


class Episode:
    """One vault, and the model of its terms."""

    def __init__(self, pick: random.Random) -> None:
        self.pick = pick
        self.desk = Desk(fee_bps=100)
        self.ids = {change: self.desk.id_of(*change) for change in CHANGES}
        self.ready: dict[Change, int] = {}
        self.queued: dict[Change, tuple[int, int]] = {}  # when, and the delay then
        self.admin, self.pending, self.delay = OWNER, ZERO, 2 * DAY
        self.roles = {GUARDIAN: 4, ALICE: 0}
        self.fee = (100, FEE_RECIPIENT)
        self.paused_until = 0
        self.reached: Counter[str] = Counter()
        self.made = 0

    # What the model says

    def refuses_queue(self, change: Change, caller: str) -> str:
        if caller != self.admin:
            return "not admin"
        waiting = change in self.ready and self.desk.evm.now <= self.ready[change] + EXPIRY
        return "already queued" if waiting else ""

    def refuses_execute(self, change: Change, caller: str) -> str:
        now = self.desk.evm.now
        if caller != self.admin:
            return "not admin"
        if change not in self.ready:
            return "not queued"
        if now < self.ready[change]:
            return "not ready"
        return "expired" if now > self.ready[change] + EXPIRY else ""

    def refuses_cancel(self, change: Change, caller: str) -> str:
        if caller != self.admin:
            if not self.roles.get(caller, 0) & 4:
                return "not admin or guardian"
            old = self.roles[change[1]] if change[0] == "set_role" else 0
            if old & 4 and not change[2] & ~old:
                return "no veto on a guardian's removal"
        return "" if change in self.ready else "not queued"

    def refuses_at_once(self, change: Change, caller: str) -> str:
        if change[0] == "set_fee" and change[1] <= self.fee[0] and change[2] == self.fee[1]:
            return "" if caller == self.admin else "not admin"
        return "needs the delay"

    def refuses_pause(self, caller: str) -> str:
        if not self.roles.get(caller, 0) & 4:
            return "not guardian"
        too_soon = self.paused_until and self.desk.evm.now < self.paused_until + 7 * DAY
        return "too soon after the last" if too_soon else ""

    def make(self, change: Change) -> None:
        name, *args = change
        if name == "set_delay":
            self.delay = args[0]
        elif name == "set_role":
            self.roles[args[0]] = args[1]
        elif name == "set_fee":
            self.fee = (args[0], args[1])
        elif name == "transfer_admin":
            self.pending = args[0]
        else:
            self.paused_until = min(self.paused_until, self.desk.evm.now)

    # What anyone may try

    def tries(self, refusal: str, verb: str, *args: Any, sender: str) -> bool:
        """Whether it was done, as the model says."""
        reason = ""
        try:
            getattr(self.desk, verb)(*args, sender=sender)
        except Reverted as reverted:
            reason = reverted.reason
        assert reason == refusal, (verb, args, sender)
        self.reached[reason] += 1
        return reason == ""

    def queue(self, change: Change, caller: str) -> None:
        if self.tries(self.refuses_queue(change, caller), "queue", *change, sender=caller):
            self.ready[change] = self.desk.evm.now + self.delay
            self.queued[change] = (self.desk.evm.now, self.delay)

    def execute(self, change: Change, caller: str) -> None:
        if self.tries(self.refuses_execute(change, caller), "execute", *change, sender=caller):
            at, delay = self.queued[change]
            assert at + delay <= self.desk.evm.now <= at + delay + EXPIRY  # I8
            del self.ready[change]
            self.make(change)
            self.made += 1

    def cancel(self, change: Change, caller: str) -> None:
        if self.tries(self.refuses_cancel(change, caller), "cancel", *change, sender=caller):
            del self.ready[change]

    def at_once(self, change: Change, caller: str) -> None:
        if self.tries(self.refuses_at_once(change, caller), "at_once", *change, sender=caller):
            self.make(change)

    def accept_admin(self, caller: str) -> None:
        refusal = "" if caller == self.pending else "not pending admin"
        if self.tries(refusal, "at_once", "accept_admin", sender=caller):
            self.admin, self.pending = caller, ZERO

    def pause(self, caller: str) -> None:
        if self.tries(self.refuses_pause(caller), "at_once", "pause", sender=caller):
            self.paused_until = self.desk.evm.now + EXPIRY

    def step(self) -> None:
        """Mostly something that is waiting, by whoever may."""
        pick = self.pick
        change = pick.choice(list(self.ready) if self.ready and pick.random() < 0.7 else CHANGES)
        caller = self.admin if pick.random() < 0.6 else pick.choice(CALLERS)
        verb = pick.choices(
            (self.queue, self.execute, self.cancel, self.at_once, self.accept_admin, self.pause, self.wait),
            (6, 6, 2, 2, 1, 1, 6),
        )[0]
        if verb == self.wait:
            self.wait()
        elif verb in (self.queue, self.at_once):
            verb(pick.choice(CHANGES), caller)
        elif verb in (self.execute, self.cancel):
            verb(change, caller)
        else:
            verb(pick.choice((*CALLERS, self.pending)) if self.pending != ZERO else caller)
        self.agrees()

    def wait(self) -> None:
        """For some time, or until a change is ready, or a second less."""
        later = [ready for ready in self.ready.values() if ready > self.desk.evm.now]
        if later and self.pick.random() < 0.6:
            self.desk.evm.set_time(max(self.pick.choice(later) - self.pick.randint(0, 1), self.desk.evm.now))
        else:
            self.desk.sleep(self.pick.choice(WAITS))

    def agrees(self) -> None:
        desk, vault = self.desk, self.desk.vault
        assert desk.timelock.call("terms", vault.address) == (self.admin, self.delay)
        assert desk.timelock.call("pending_admin", vault.address) == self.pending
        assert {account: vault.call("roles", account) for account in self.roles} == self.roles
        assert (vault.call("fee_bps"), vault.call("fee_recipient")) == self.fee
        assert vault.call("paused_until") == self.paused_until
        change = self.pick.choice(CHANGES)
        assert desk.timelock.call("ready_at", self.ids[change]) == self.ready.get(change, 0)


def test_nothing_happens_before_its_delay() -> None:
    reached: Counter[str] = Counter()
    made = 0
    for seed in range(EPISODES):
        episode = Episode(random.Random(seed))
        for _ in range(STEPS):
            episode.step()
        reached += episode.reached
        made += episode.made
    assert set(reached) == REASONS
    assert made > EPISODES
