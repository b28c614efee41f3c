"""The admin, a role, or a stranger tries to make a change that needs the delay before the delay is over.

What could be gained is everything: an oracle of one's own prices the basket away, given a keeper. Two days is the
least notice that holders get; every change here waits it out, is made once, and lets no other pass with it.
"""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi import encode

from tests.support.evm import Contract, Reverted
from tests.support.venue import call_data
from tests.support.world import (
    ALICE,
    DAY,
    DELAY,
    GUARDIAN,
    GUARDIAN_ROLE,
    HEARTBEAT,
    KEEPER,
    KEEPER_ROLE,
    OWNER,
    STRANGER,
    STRATEGIST,
    WAD,
    World,
    asset,
    reverts,
)

EXPIRY = 14 * DAY
ATTACKER = "0x" + "bb" * 20
TERMS = (50, 120, 6 * 3_600, 1_000, 1_000, False)  # of a teller
DELAYED = [
    *(
        "set_rules",
        "set_fee",
        "set_bands",
        "set_limits",
        "add_asset",
        "remove_asset",
        "set_oracle",
        "set_role",
    ),
    *("unpause", "add_teller", "set_teller", "set_delay", "transfer_admin"),
]


class Target(World):
    """A world in which each delayed change works once its time has come: paused, with a teller, an asset to remove."""

    def __init__(self) -> None:
        super().__init__((5_000, 4_999, 1), fee_bps=10)
        self.at_once("set_targets", [5_000, 5_000, 0])
        self.delayed("add_teller", self.tokens[0].address, *TERMS)
        self.teller = self.evm.events("TellerAdded")[0].fields["teller"]
        self.dishonest = self.deploy("ScriptedOracle")
        self.dishonest.call("set_prices", [price * 2 for price in self.prices], [0] * 3)
        self.fourth = self.deploy("ScriptedToken", 18)
        feed = self.deploy("TestFeed", 18, "USD", WAD)
        self.oracle.call("set_feed", self.fourth.address, feed.address, HEARTBEAT, 1, 2**128 - 1)

    def arguments(self, name: str) -> tuple[Any, ...]:
        """Of a change that hurts, without the vault."""
        looser = tuple((self.rules | {"loss_capacity_bps": 8_000, "max_slippage_bps": 1_000}).values())
        found: dict[str, tuple[Any, ...]] = {
            "set_rules": (looser,),
            "set_fee": (300, ATTACKER),
            "set_bands": ([9_000] * 3, [9_000] * 3),
            "set_limits": ([0] * 3, [9_999, 10_000, 10_000]),
            "add_asset": (asset(self.fourth.address, 0),),
            "remove_asset": (self.tokens[2].address,),
            "set_oracle": (self.dishonest.address,),
            "set_role": (ATTACKER, KEEPER_ROLE),
            "unpause": (),
            "add_teller": (self.tokens[1].address, 0, 0, 3_600, 10_000, 10_000, True),
            "set_teller": (self.teller, 0, 0, 10_000, 10_000, True),
            "set_delay": (3 * DAY,),
            "transfer_admin": (ATTACKER,),
        }
        return found[name]

    def data(self, name: str) -> bytes:
        return self.calldata(name, *self.arguments(name))

    def queue(self, data: bytes, sender: str = OWNER, vault: str = "") -> None:
        self.timelock.call("queue", vault or self.vault.address, data, sender=sender)

    def execute(self, data: bytes, sender: str = OWNER, vault: str = "") -> None:
        self.timelock.call("execute", vault or self.vault.address, data, sender=sender)

    def cancel(self, data: bytes, sender: str, vault: str = "") -> None:
        self.timelock.call("cancel", vault or self.vault.address, data, sender=sender)

    def state(self) -> tuple[Any, ...]:
        """All that a change could change."""
        vault, timelock = self.vault, self.timelock
        return (
            *(vault.call(name) for name in ("head", "settings", "fee_bps", "fee_recipient")),
            *(vault.call("roles", account) for account in (ATTACKER, OWNER, GUARDIAN, KEEPER, STRATEGIST)),
            timelock.call("terms", vault.address),
            timelock.call("pending_admin", vault.address),
            vault.call("flow_room", self.teller),
        )


@pytest.fixture
def target() -> Target:
    return Target()


# At once


@pytest.mark.parametrize("name", DELAYED)
def test_nobody_makes_it_directly(target: Target, name):
    for sender in (OWNER, GUARDIAN, STRATEGIST, KEEPER, STRANGER):
        with reverts("needs the delay"):
            target.at_once(name, *target.arguments(name), sender=sender)


@pytest.mark.parametrize("sender", [OWNER, GUARDIAN, STRATEGIST, KEEPER, STRANGER])
def test_the_vaults_own_doors_obey_nobody_else(target: Target, sender):
    settings = target.vault.call("settings")
    calls = {
        "configure": ("set_oracle", b"", settings),
        "set_fee": (0, STRANGER),
        "set_role": (sender, 7),
        "set_teller": (sender, 10_000, 10_000),
    }
    before = target.state()
    for name, arguments in calls.items():
        with reverts("not timelock"):
            target.vault.call(name, *arguments, sender=sender)
    assert target.state() == before


@pytest.mark.parametrize("sender", [OWNER, STRANGER])
def test_a_tellers_fees_obey_nobody_else(target: Target, sender):
    with reverts("not timelock"):
        target.at("Teller", target.teller).call("set_fees", 0, 0, sender=sender)


# Early, twice, late


@pytest.mark.parametrize("name", DELAYED)
def test_it_waits_the_whole_delay_and_is_made_once(target: Target, name):
    data, before = target.data(name), target.state()
    with reverts("not queued"):
        target.execute(data)
    target.queue(data)
    with reverts("already queued"):
        target.queue(data)
    for early in (0, DELAY - 1):
        target.sleep(early)
        with reverts("not ready"):
            target.execute(data)
    target.sleep(1)
    target.refresh()
    assert target.state() == before
    target.execute(data)
    assert target.state() != before
    with reverts("not queued"):
        target.execute(data)


@pytest.mark.parametrize("name", DELAYED)
def test_a_vetoed_change_is_gone(target: Target, name):
    data, before = target.data(name), target.state()
    target.queue(data)
    target.sleep(DELAY)
    target.cancel(data, GUARDIAN)
    with reverts("not queued"):
        target.execute(data)
    target.queue(data)  # announced again, it waits again
    target.sleep(DELAY - 1)
    with reverts("not ready"):
        target.execute(data)
    assert target.state() == before


def test_a_change_of_long_ago_is_gone(target: Target):
    """Else a stock of ready changes could be held for the day when nobody looks."""
    data = target.data("set_oracle")
    target.queue(data)
    target.sleep(DELAY + EXPIRY + 1)
    target.refresh()
    with reverts("expired"):
        target.execute(data)
    target.queue(data)
    target.sleep(DELAY + EXPIRY)
    target.refresh()
    target.execute(data)


# Under another's name


@pytest.mark.parametrize("sender", [GUARDIAN, STRATEGIST, KEEPER, STRANGER])
def test_only_the_admin_announces_and_makes(target: Target, sender):
    data = target.data("set_role")
    with reverts("not admin"):
        target.queue(data, sender)
    target.queue(data)
    target.sleep(DELAY)
    with reverts("not admin"):
        target.execute(data, sender)
    if sender != GUARDIAN:
        with reverts("not admin or guardian"):
            target.cancel(data, sender)
    target.execute(data)


@pytest.fixture
def fake(target: Target) -> Contract:
    """A contract that says it is a vault; its admin is the attacker, whom it gives every role."""
    fake = target.deploy("AttackVault")
    fake.call("register", target.timelock.address, target.vault.address, DELAY, sender=ATTACKER)
    return fake


def of(target: Target, vault: Contract, name: str) -> bytes:
    """The change of `name`, of another vault."""
    return call_data(target.timelock, name, vault.address, *target.arguments(name))


@pytest.mark.parametrize("name", DELAYED)
def test_another_vaults_admin_gets_nowhere(target: Target, fake: Contract, name):
    """Neither by a call that names the true vault, queued for the fake one, nor the other way round."""
    data, before = target.data(name), target.state()
    with reverts("wrong vault"):
        target.queue(data, ATTACKER, fake.address)
    with reverts("not admin"):
        target.queue(data, ATTACKER)
    with reverts("not admin"):
        target.queue(of(target, fake, name), ATTACKER)
    with reverts("wrong vault"):
        target.queue(of(target, fake, name), OWNER)
    target.queue(data)
    target.sleep(DELAY)
    with reverts("not queued"):
        target.execute(data, ATTACKER, fake.address)
    with reverts("not admin"):
        target.execute(data, ATTACKER)
    with reverts("not queued"):
        target.cancel(data, ATTACKER, fake.address)
    assert target.state() == before


@pytest.mark.parametrize("name", ["set_bands", "set_fee", "set_role"])
@pytest.mark.parametrize("inner", ["set_oracle", "set_role", "set_delay", "pause", "execute", "cancel"])
def test_a_change_of_a_fake_vault_reaches_no_other(target: Target, fake: Contract, name, inner):
    """The timelock calls the fake vault in the middle of a change; what that calls back is nobody to the true one."""
    ready = target.data("set_oracle")
    target.queue(ready)
    target.refresh()
    calls = {
        "pause": target.calldata("pause"),
        "execute": call_data(target.timelock, "execute", target.vault.address, ready),
        "cancel": call_data(target.timelock, "cancel", target.vault.address, ready),
    }
    fake.call("set_call", target.timelock.address, calls.get(inner) or target.data(inner))
    data = of(target, fake, name)
    target.queue(data, ATTACKER, fake.address)
    target.sleep(DELAY)
    before = target.state()
    target.execute(data, ATTACKER, fake.address)
    assert fake.call("calls") == 1
    assert not fake.call("succeeded")
    assert target.state() == before
    target.execute(ready)


def test_a_fake_vault_has_no_right_to_a_true_ones_teller(target: Target, fake: Contract):
    data = call_data(target.timelock, "set_teller", fake.address, *target.arguments("set_teller"))
    target.queue(data, ATTACKER, fake.address)
    target.sleep(DELAY)
    with reverts("not a teller"):
        target.execute(data, ATTACKER, fake.address)


def test_a_vault_that_is_not_there_yet_has_no_admin(target: Target):
    """Its address is known before it is made: nothing can be queued ahead."""
    before = target.evm.snapshot()
    target.give(OWNER, target.seed, spender=target.factory.address)
    salt = b"\x02" * 32
    future = target.factory.call("create_vault", target.config, target.seed, salt, sender=OWNER)
    target.evm.revert(before)
    data = call_data(target.timelock, "set_oracle", future, target.dishonest.address)
    with reverts("not admin"):
        target.queue(data, OWNER, future)
    assert target.timelock.call("terms", future)[0] == "0x" + "00" * 20


def test_a_vault_registers_once(target: Target, fake: Contract):
    """Else it could change its admin, or drop its delay."""
    with reverts("already registered"):
        fake.call("register", target.timelock.address, target.vault.address, DELAY, sender=STRANGER)
    for bad in (0, DELAY - 1, 30 * DAY + 1):
        with reverts("delay out of range"):
            target.deploy("AttackVault").call("register", target.timelock.address, fake.address, bad)


# By the timelock's own hand


@pytest.mark.parametrize("outer", ["execute", "queue", "cancel"])
def test_the_timelock_is_not_its_own_admin(target: Target, outer):
    """A queued call may be a call of `execute` itself: the timelock then asks itself, and is no admin."""
    inner = target.data("set_oracle")
    data = call_data(target.timelock, outer, target.vault.address, inner)
    target.queue(data)
    if outer != "queue":
        target.queue(inner)
    target.sleep(DELAY)
    with reverts("not admin or guardian" if outer == "cancel" else "not admin"):
        target.execute(data)


def test_the_timelock_as_admin_shortens_nothing(target: Target):
    """The admin hands over to the timelock, hoping that it then obeys itself: it obeys nobody."""
    target.delayed("transfer_admin", target.timelock.address)
    target.delayed("accept_admin")
    assert target.timelock.call("terms", target.vault.address)[0] == target.timelock.address.lower()
    before = target.state()
    for sender in (OWNER, ATTACKER, GUARDIAN):
        for name in ("queue", "execute"):
            with reverts("not admin"):
                target.timelock.call(name, target.vault.address, target.data("set_oracle"), sender=sender)
    assert target.state() == before


def test_registering_by_the_timelocks_hand_is_harmless(target: Target):
    """`register` takes an admin where others take the vault: queued, it makes the vault admin of the timelock."""
    data = call_data(target.timelock, "register", target.vault.address, DELAY)
    before = target.state()
    target.queue(data)
    target.sleep(DELAY)
    target.execute(data)
    assert target.state() == before
    assert target.timelock.call("terms", target.timelock.address) == (target.vault.address.lower(), DELAY)


# Odd data


@pytest.mark.parametrize("size", [0, 3, 4, 35])
def test_data_without_a_vault_is_refused(target: Target, size):
    with pytest.raises(Reverted) as refusal:
        target.queue(target.data("set_oracle")[:size])
    assert refusal.value.reason == "wrong vault"


def test_a_vault_with_dirt_above_it_is_refused(target: Target):
    data = target.data("set_oracle")
    with pytest.raises(Reverted):
        target.queue(data[:4] + b"\x01" + data[5:])


def test_more_bytes_make_another_change(target: Target):
    """The same call with a tail is announced, waits and is vetoed on its own."""
    data = target.data("set_oracle")
    target.queue(data)
    target.sleep(DELAY)
    with reverts("not queued"):
        target.execute(data + b"\0")
    target.queue(data + b"\0")
    with reverts("not ready"):
        target.execute(data + b"\0")
    target.cancel(data + b"\0", GUARDIAN)
    target.cancel(data, GUARDIAN)
    for each in (data, data + b"\0"):
        with reverts("not queued"):
            target.execute(each)


# The delay itself


def test_shortening_the_delay_takes_the_longer_one(target: Target):
    """From ten days to two: the hostile change comes ten days after its announcement, however it is arranged."""
    target.delayed("set_delay", 10 * DAY)
    announced = target.evm.now
    target.queue(target.calldata("set_delay", DELAY))
    target.queue(target.data("set_oracle"))
    target.sleep(DELAY)
    for data in (target.calldata("set_delay", DELAY), target.data("set_oracle")):
        with reverts("not ready"):
            target.execute(data)
    target.evm.set_time(announced + 10 * DAY)
    target.refresh()
    target.execute(target.calldata("set_delay", DELAY))
    late = target.data("set_role")
    target.queue(late)
    target.sleep(DELAY - 1)
    with reverts("not ready"):
        target.execute(late)
    target.sleep(1)
    target.execute(late)
    assert target.evm.now == announced + 12 * DAY


@pytest.mark.parametrize("seconds", [0, DELAY - 1, 30 * DAY + 1])
def test_the_delay_has_a_floor(target: Target, seconds):
    data = target.calldata("set_delay", seconds)
    target.queue(data)
    target.sleep(DELAY)
    with reverts("delay out of range"):
        target.execute(data)


# What is allowed at once, over and over


def test_safer_rules_reset_nothing(target: Target):
    """Set ten times in a block, they neither refill the loss budget nor the speed budget, nor can they go back."""
    target.at_once("set_targets", [4_800, 5_200, 0], sender=STRATEGIST)
    speed = target.vault.call("speed_budget_used")
    assert speed > 0
    for capacity in range(199, 189, -1):
        target.at_once("set_rules", tuple((target.rules | {"loss_capacity_bps": capacity}).values()))
    assert target.vault.call("speed_budget_used") == speed
    with reverts("needs the delay"):
        target.at_once("set_rules", tuple(target.rules.values()))


@pytest.mark.parametrize("sender", [OWNER, STRATEGIST])
def test_targets_to_and_fro_use_up_their_speed(target: Target, sender):
    """Path length, not distance: 1,000 bps in a block, 2 of them for the set-up, then 100 a day."""
    moved = 0
    for first in (4_800, 5_000, 4_800):
        target.at_once("set_targets", [first, 10_000 - first, 0], sender=sender)
        moved += 400
        if moved + 400 > 998:
            break
    with reverts("targets move too fast"):
        target.at_once("set_targets", [4_700, 5_300, 0], sender=sender)
    target.sleep(DAY)
    target.at_once("set_targets", [4_950, 5_050, 0], sender=sender)


# The guardian


def test_a_guardian_cannot_veto_its_own_removal(target: Target):
    data = target.calldata("set_role", GUARDIAN, 0)
    target.queue(data)
    target.sleep(DELAY)
    with reverts("no veto on a guardian's removal"):
        target.cancel(data, GUARDIAN)
    target.execute(data)
    assert target.vault.call("roles", GUARDIAN) == 0
    other = target.data("set_oracle")
    target.queue(other)
    with reverts("not admin or guardian"):
        target.cancel(other, GUARDIAN)


def test_a_guardian_cannot_veto_another_guardians_removal(target: Target):
    target.delayed("set_role", ALICE, GUARDIAN_ROLE)
    for removed, vetoer in ((GUARDIAN, ALICE), (ALICE, GUARDIAN)):
        data = target.calldata("set_role", removed, 0)
        target.queue(data)
        with reverts("no veto on a guardian's removal"):
            target.cancel(data, vetoer)


def test_a_hostile_guardian_is_replaced_in_two_delays(target: Target):
    """It vetoes its successor while it is there; it cannot veto that it goes."""
    successor = target.calldata("set_role", ALICE, GUARDIAN_ROLE)
    target.queue(successor)
    target.cancel(successor, GUARDIAN)
    target.delayed("set_role", GUARDIAN, 0)
    target.delayed("set_role", ALICE, GUARDIAN_ROLE)
    assert target.vault.call("roles", ALICE) == GUARDIAN_ROLE


def test_a_guardian_only_vetoes(target: Target, fake: Contract):
    """It announces and makes nothing, and vetoes in no other vault."""
    for name in ("queue", "execute"):
        with reverts("not admin"):
            target.timelock.call(name, target.vault.address, target.data("set_role"), sender=GUARDIAN)
    theirs = of(target, fake, "set_bands")
    target.queue(theirs, ATTACKER, fake.address)
    with reverts("not queued"):
        target.cancel(theirs, GUARDIAN)


@pytest.mark.parametrize("stop", ["pause", "quarantine"])
def test_a_guardians_stop_cannot_be_made_lasting(target: Target, stop):
    """14 of 21 days at most, over a hundred days of trying every day."""
    arguments = (target.tokens[2].address,) if stop == "quarantine" else ()
    start, stops = target.evm.now, []
    for _ in range(100):
        try:
            target.at_once(stop, *arguments, sender=GUARDIAN)
            stops.append((target.evm.now - start) // DAY)
        except Reverted as refusal:
            if refusal.reason != "too soon after the last":
                raise
        target.sleep(DAY)
    assert stops == [0, 21, 42, 63, 84]


def test_a_disguised_change_of_a_guardians_roles_changes_no_other(target: Target):
    """What cannot be vetoed names one account, a guardian's, and sets its roles: nothing else fits in."""
    data = target.calldata("set_role", GUARDIAN, 0) + encode(["address", "uint256"], [ATTACKER, 7])
    target.queue(data)
    with reverts("no veto on a guardian's removal"):
        target.cancel(data, GUARDIAN)
    target.sleep(DELAY)
    target.execute(data)
    assert target.vault.call("roles", ATTACKER) == 0
