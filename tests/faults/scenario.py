"""What happens in a run, drawn from its number: who keeps what, and which faults, when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.proxy import FAULTS

KINDS = (
    "kill",
    "kill at a request",
    "RPC",
    "reorganisation",
    "full disk",
    "clock",
    "database",
    "freeze",
    "mixed",
)
CREWS = (
    "one keeper",
    "two accounts",  # a journal each
    "one account, shared journal",  # on PostgreSQL
    "one account, a journal each",  # two that know nothing of each other
)
STEPS = 8  # commits and sendings that a first look takes, and a little more


@dataclass(frozen=True)
class Fault:
    """At a moment of a keeper's process something happens to it, or to the world while it stands still."""

    act: str  # "kill", "freeze", "full disk", "clock", "kill at a request"
    what: str = ""  # while it stands still: "chain goes on", "reorganisation", "lock", "restart", "blocks"
    moment: int = 1
    when: str = "after"
    amount: int = 0


@dataclass(frozen=True)
class Scenario:
    """A run."""

    number: int
    kind: str
    crew: str
    vaults: int
    faults: tuple[Fault, ...]  # of the first keeper, one life after the other
    trouble: tuple[str, ...]  # of the nodes
    rate: float
    most: int


def draw(number: int, kinds: Sequence[str] = KINDS, postgres: bool = True) -> Scenario:
    """The scenario of that number."""
    rng = random.Random(number)
    kind = kinds[number % len(kinds)]
    crew = rng.choices(CREWS, (4, 2, 3, 2))[0]
    if not postgres and crew == CREWS[2]:
        crew = CREWS[1]
    faults, trouble, rate, most = _faults(rng, kind, kinds), (), 0.0, 0
    if postgres and any(fault.what == "restart" for fault in faults):
        crew = CREWS[2]  # a server is restarted
    if crew == CREWS[2] and any(fault.act == "full disk" for fault in faults):
        crew = CREWS[0]  # the disk is that of a journal in a file
    if kind == "RPC":
        trouble = tuple(rng.sample(FAULTS, rng.choice((1, 2, len(FAULTS)))))
        rate, most = rng.choice((0.03, 0.1, 0.3)), rng.choice((5, 15, 30))
    elif kind == "mixed":
        trouble, rate, most = tuple(FAULTS), 0.05, 10
    return Scenario(number, kind, crew, rng.choice((1, 1, 2)), faults, trouble, rate, most)


def _faults(rng: random.Random, kind: str, kinds: Sequence[str]) -> tuple[Fault, ...]:
    if kind == "mixed":
        each = [one for one in kinds if one != "mixed"] or [one for one in KINDS[:-1] if one != "full disk"]
        return tuple(_fault(rng, rng.choice(each)) for _ in range(rng.randint(2, 4)))
    lives = rng.choice((1, 1, 2, 3)) if kind in ("kill", "kill at a request") else 1
    return tuple(_fault(rng, kind) for _ in range(lives))


def _fault(rng: random.Random, kind: str) -> Fault:
    moment, when = rng.randint(1, STEPS), rng.choice(("before", "after"))
    late = rng.choice((5, 6, 6, 7))  # it has been sent
    if kind == "kill":
        return Fault("kill", "", moment, when)
    if kind in ("kill at a request", "RPC"):
        return Fault("kill at a request", "", rng.randint(1, 120), when)
    if kind == "reorganisation":
        return Fault("freeze", "reorganisation", late, "after", rng.randint(1, 5))
    if kind == "full disk":
        return Fault("full disk", "", moment, when)
    if kind == "clock":
        if rng.random() < 0.3:
            return Fault("clock", "", moment, "after", rng.choice((-86_400, -3_600, 3_600, 86_400)))
        return Fault("freeze", "time", moment, when, rng.choice((60, 1_300, 3_600, 7_200)))
    if kind == "database":
        return Fault("freeze", rng.choice(("lock", "restart")), moment, "after")
    return Fault("freeze", rng.choice(("chain goes on", "stuck")), moment, when, rng.randint(2, 40))
