"""While a token moves, nothing that moves value, and no view that prices it, can be used.

The last asset's token makes the call, in every entry point. It is a teller of the vault and anyone may speak as the
vault's timelock, so that only the lock can refuse: the same call goes through in a transfer outside the vault.
"""

import pytest

from tests.support.evm import Contract
from tests.support.venue import call_data
from tests.support.world import ALICE, BOB, WAD
from tests.unit.vault.support import ANY, NONE, SHARES, TELLER, OpenWorld

LAST = 2
LOCKED_VIEWS = {
    "totalSupply": (),
    "pending_fee_shares": (),
    "melting": (),
    "flow_sequence": (),
    "session": (),
    "balances": (),
    "preview_mint_in_kind": (WAD,),
    "preview_redeem_in_kind": (WAD, 0),
    "loss_budget_used": (),
    "settings": (),
    "appraise": ("token",),
    "flow_room": ("token",),
}
LOCKED = {
    "mint_in_kind": (1, ANY, BOB),
    "redeem_in_kind": (1, BOB, "token", NONE, 0b100),
    "transfer": (BOB, 1),
    "transferFrom": (ALICE, BOB, 1),
    "collect_fee": (),
    "issue": (BOB, 1, 0, 0, "token", 0),
    "release": (ALICE, ALICE, 1, 0, 0, "token", 0, BOB),
    "open_session": (),
}
TIMELOCKED = {
    "configure": ("x", b"", "settings"),
    "set_fee": (0, BOB),
    "set_role": (BOB, 1),
    "set_teller": (BOB, 1, 1),
}
OPEN = {
    "approve": (BOB, 1),
    "name": (),
    "decimals": (),
    "balanceOf": (ALICE,),
    "allowance": (ALICE, BOB),
    "nonces": (ALICE,),
    "DOMAIN_SEPARATOR": (),
    "fee_bps": (),
    "fee_recipient": (),
    "assets": (),
    "basket": (),
    "rules": (),
    "roles": (ALICE,),
    "oracle": (),
    "head": (),
    "paused_until": (),
    "speed_budget_used": (),
    "timelock": (),
}
ENTRIES = ["mint_in_kind", "redeem_in_kind", "release"]


class LockWorld(OpenWorld):
    def make_token(self, decimals: int) -> Contract:
        return self.deploy("HookToken", decimals)


@pytest.fixture
def world() -> LockWorld:
    """The token holds shares and tokens, has approved the vault, and ALICE's shares are approved to it."""
    made = LockWorld(fee_bps=100)
    hook = made.tokens[LAST]
    for teller in (hook.address, TELLER):
        made.as_timelock("set_teller", teller, 500, 100)
    made.mint(ALICE, 2 * SHARES)
    made.vault.call("transfer", hook.address, SHARES, sender=ALICE)
    made.vault.call("approve", hook.address, 2**255, sender=ALICE)
    made.give(ALICE, made.balances(), spender=made.vault.address)
    for token in made.tokens:
        token.call("set_balance", hook.address, 10**24)
        hook.call("set_call", token.address, call_data(token, "approve", made.vault.address, 2**255))
        enter(made, "elsewhere")
    made.set_price(0, 3 * WAD)  # a session may open
    return made


def arrange(world: LockWorld, name: str, args: tuple[object, ...]) -> None:
    """The token's next transfer makes this call of the vault."""
    token, vault = world.tokens[LAST], world.vault
    known = {"token": token.address, "settings": vault.call("settings")}
    given = [known.get(arg, arg) if isinstance(arg, str) else arg for arg in args]
    data = call_data(vault, name, *given)
    if name in TIMELOCKED:
        token.call(
            "set_call", world.timelock.address, call_data(world.timelock, "forward", vault.address, data)
        )
    else:
        token.call("set_call", vault.address, data)


def enter(world: LockWorld, entry: str) -> None:
    """What moves the token: the call happens inside."""
    if entry == "mint_in_kind":
        world.vault.call("mint_in_kind", WAD, ANY, ALICE, sender=ALICE)
    elif entry == "redeem_in_kind":
        world.vault.call("redeem_in_kind", WAD, ALICE, ALICE, NONE, 0, sender=ALICE)
    elif entry == "release":
        world.as_teller("release", ALICE, ALICE, WAD, 0, 0, world.tokens[LAST].address, 1, ALICE)
    else:
        world.tokens[LAST].call("transfer", BOB, 1, sender=ALICE)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", [*LOCKED, *LOCKED_VIEWS, *TIMELOCKED])
def test_locked(world: LockWorld, name: str, entry: str) -> None:
    calls = world.tokens[LAST].call("calls")
    arrange(world, name, (LOCKED | LOCKED_VIEWS | TIMELOCKED)[name])
    enter(world, entry)
    assert world.tokens[LAST].call("calls") == calls + 1
    assert not world.tokens[LAST].call("succeeded")
    assert world.tokens[LAST].call("answer") == b""  # the lock has no reason


@pytest.mark.parametrize("name", [*LOCKED, *LOCKED_VIEWS, *TIMELOCKED])
def test_the_same_call_elsewhere_succeeds(world: LockWorld, name: str) -> None:
    arrange(world, name, (LOCKED | LOCKED_VIEWS | TIMELOCKED)[name])
    enter(world, "elsewhere")
    assert world.tokens[LAST].call("succeeded")


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", OPEN)
def test_not_locked(world: LockWorld, name: str, entry: str) -> None:
    arrange(world, name, OPEN[name])
    enter(world, entry)
    assert world.tokens[LAST].call("succeeded")


def test_every_function_is_in_a_list(world: LockWorld) -> None:
    elsewhere = {"initialize", "rebalance", "permit", "symbol", "implementation", "rule_book"}
    functions = {entry["name"] for entry in world.vault.abi if entry["type"] == "function"}
    assert functions == {*LOCKED, *LOCKED_VIEWS, *TIMELOCKED, *OPEN, *elsewhere}


def test_initialize_and_rebalance_are_locked_too(world: LockWorld) -> None:
    """Both would be refused anyway, with a reason; the lock has none."""
    setup = ("", "", world.vault.call("settings"), BOB, 0, BOB, BOB, [], 0, BOB, b"\0" * 32)
    for name, args in {
        "initialize": (setup, BOB),
        "rebalance": ([], BOB, b"", b"\0" * 32, 1, 0),
    }.items():
        arrange(world, name, args)
        enter(world, "elsewhere")
        assert world.tokens[LAST].call("answer") != b""
        for entry in ENTRIES:
            enter(world, entry)
            assert world.tokens[LAST].call("answer") == b""
