"""Attack: the filler's callback, or a token's transfer hook, calls back into auction and vault while a fill runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.evm import Contract, Reverted
from tests.unit.auction.stage import DRIFTED, GRACE, MANY, OWNER, RECEIVER, STRANGER, Stage, calldata

SOLD = 10_000 * 10**6
CALLS: dict[str, Any] = {
    "fill": lambda s, f: (s.auction, "fill", *s.arguments(0, 2, SOLD)),
    "quote": lambda s, f: (
        s.auction,
        "quote",
        s.vault.address,
        s.tokens[0].address,
        s.tokens[2].address,
        MANY,
    ),
    "execute": lambda s, f: (s.auction, "execute", b""),
    "rebalance": lambda s, f: (s.vault, "rebalance", [0] * 3, f.address, b"", bytes(32), 1, MANY),
    "redeem": lambda s, f: (s.vault, "redeem_in_kind", 10**18, f.address, f.address, [0] * 3, 0),
    "mint": lambda s, f: (s.vault, "mint_in_kind", 10**18, [MANY] * 3, f.address),
    "settings": lambda s, f: (s.vault, "settings"),
    "balances": lambda s, f: (s.vault, "balances"),
}
NEVER = ("execute", "rebalance")  # the intruder has no order to execute, and is no executor


@pytest.fixture
def intruder(open_stage: Stage) -> Contract:
    """A filler that is a keeper too, with shares, tokens and allowances: only locks can stop it."""
    stage = open_stage
    intruder = stage.deploy("Filler")
    for token in stage.tokens:
        token.call("set_balance", intruder.address, 10**30)
        for spender in (stage.auction, stage.vault):
            intruder.call("approve", token.address, spender.address, MANY)
    stage.as_timelock("set_role", intruder.address, 1)
    stage.vault.call("transfer", intruder.address, 100 * 10**18, sender=OWNER)
    return intruder


@pytest.mark.parametrize("door", CALLS)
def test_the_door_is_locked_during_the_callback(open_stage: Stage, intruder: Contract, door: str) -> None:
    stage = open_stage
    target, *call = CALLS[door](stage, intruder)
    intruder.call("set_call", target.address, calldata(target, *call))
    pair = (stage.tokens[0].address, stage.tokens[1].address)
    arguments = (stage.auction.address, stage.vault.address, 1, *pair, SOLD, MANY, RECEIVER)
    sold, owed = intruder.call("fill", *arguments, b"call", sender=STRANGER)
    assert (sold, owed) == (SOLD, 99 * 10**8)
    assert not intruder.call("called")
    intruder.call("make_call")  # the same call when no fill runs
    assert intruder.call("called") == (door not in NEVER)


@pytest.mark.parametrize("door", ["fill", "quote", "execute"])
@pytest.mark.parametrize("hooked", [0, 1])
def test_the_door_is_locked_during_a_transfer_hook(door: str, hooked: int) -> None:
    """Of the sold token, on its two ways, and of the bought one."""
    stage = Stage()
    tokens = list(stage.tokens)
    tokens[hooked] = stage.deploy("HookToken", (6, 8)[hooked])
    stage = Stage(tokens=tokens, evm=stage.evm)
    stage.hold(DRIFTED)
    stage.open(GRACE)
    target, *call = CALLS[door](stage, None)
    token = stage.tokens[hooked]
    token.call("set_call", target.address, calldata(target, *call))
    count = token.call("calls")
    stage.fill(0, 1, SOLD)
    assert token.call("calls") > count
    assert not token.call("succeeded")
    with pytest.raises(Reverted):
        stage.auction.call("execute", b"")
