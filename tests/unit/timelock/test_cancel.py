from typing import Any

import pytest

from tests.support.world import (
    ALICE,
    BOB,
    DAY,
    DELAY,
    FEE_RECIPIENT,
    GUARDIAN,
    KEEPER,
    OWNER,
    STRANGER,
    STRATEGIST,
    reverts,
)
from tests.unit.timelock.support import Desk

CHANGE = ("set_oracle", BOB)


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN])
def test_drops_the_change_and_says_so(desk: Desk, caller: str) -> None:
    desk.queue(*CHANGE)
    before = desk.state()
    desk.cancel(*CHANGE, sender=caller)
    (event,) = desk.evm.events()
    assert (event.address.lower(), event.name) == (desk.timelock.address.lower(), "Cancelled")
    assert event.fields == {"id": desk.id_of(*CHANGE), "by": caller}
    assert desk.ready_at(*CHANGE) == 0
    assert desk.state() == before
    desk.sleep(DELAY)
    with reverts("not queued"):
        desk.execute(*CHANGE)


@pytest.mark.parametrize("caller", [STRATEGIST, KEEPER, STRANGER, FEE_RECIPIENT])
def test_by_others_reverts(desk: Desk, caller: str) -> None:
    desk.queue(*CHANGE)
    with reverts("not admin or guardian"):
        desk.cancel(*CHANGE, sender=caller)


@pytest.mark.parametrize("caller", [OWNER, GUARDIAN])
def test_of_what_was_not_queued_reverts(desk: Desk, caller: str) -> None:
    with reverts("not queued"):
        desk.cancel(*CHANGE, sender=caller)
    desk.queue(*CHANGE)
    desk.cancel(*CHANGE, sender=caller)
    with reverts("not queued"):
        desk.cancel(*CHANGE, sender=caller)


@pytest.mark.parametrize("wait", [DELAY, DELAY + 14 * DAY, DELAY + 15 * DAY])
def test_of_a_ready_or_expired_change_works(desk: Desk, wait: int) -> None:
    desk.queue(*CHANGE)
    desk.sleep(wait)
    desk.cancel(*CHANGE, sender=GUARDIAN)
    assert desk.ready_at(*CHANGE) == 0


def test_it_waits_anew_when_it_is_queued_again(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.sleep(DELAY)
    desk.cancel(*CHANGE, sender=GUARDIAN)
    desk.queue(*CHANGE)
    assert desk.ready_at(*CHANGE) == desk.evm.now + DELAY


def test_leaves_other_changes(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.queue("set_oracle", ALICE)
    desk.cancel(*CHANGE)
    assert desk.ready_at("set_oracle", ALICE) == desk.evm.now + DELAY


@pytest.mark.parametrize(
    "change",
    [
        ("set_fee", 200, FEE_RECIPIENT),
        ("set_bands", [400] * 3, [2_000] * 3),
        ("set_limits", [0] * 3, [10_000] * 3),
        ("remove_asset", BOB),
        ("unpause",),
        ("set_delay", 3 * DAY),
        ("transfer_admin", ALICE),
        ("set_role", ALICE, 4),  # a new guardian
        ("set_role", KEEPER, 0),
        ("set_role", STRATEGIST, 6),
        ("set_targets", [5_000, 3_000, 2_000]),
    ],
)
def test_a_guardian_vetoes_any_other_change(desk: Desk, change: tuple[Any, ...]) -> None:
    desk.queue(*change)
    desk.cancel(*change, sender=GUARDIAN)


@pytest.mark.parametrize("roles", range(8))
def test_of_a_guardian_that_only_loses_roles_by_a_guardian_reverts(desk: Desk, roles: int) -> None:
    desk.delayed("set_role", ALICE, 4 | 1)  # another guardian, and a keeper
    for account, old in ((GUARDIAN, 4), (ALICE, 5)):
        for guardian in (GUARDIAN, ALICE):
            desk.queue("set_role", account, roles)
            if roles & ~old:
                desk.cancel("set_role", account, roles, sender=guardian)  # it gains one
                continue
            with reverts("no veto on a guardian's removal"):
                desk.cancel("set_role", account, roles, sender=guardian)
            desk.cancel("set_role", account, roles, sender=OWNER)


def test_an_admin_who_is_a_guardian_too_cancels_anything(desk: Desk) -> None:
    desk.delayed("set_role", OWNER, 4)
    desk.queue("set_role", GUARDIAN, 0)
    desk.cancel("set_role", GUARDIAN, 0)


def test_by_a_former_guardian_reverts(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.delayed("set_role", GUARDIAN, 1 | 2)
    with reverts("not admin or guardian"):
        desk.cancel(*CHANGE, sender=GUARDIAN)


def test_by_another_vaults_admin_or_guardian_reverts(desk: Desk) -> None:
    desk.queue(*CHANGE)
    desk.give(STRANGER, desk.seed, spender=desk.factory.address)
    config = list(desk.config)
    config[5] = config[7] = STRANGER
    desk.factory.call("create_vault", config, desk.seed, b"\x01" * 32, sender=STRANGER)
    with reverts("not admin or guardian"):
        desk.cancel(*CHANGE, sender=STRANGER)


def test_a_contract_that_claims_roles_cancels_only_its_own(desk: Desk) -> None:
    """Whoever asks, the id names the vault: here a clone that nobody has initialised."""
    desk.queue(*CHANGE)
    desk.timelock.call("register", STRANGER, DELAY, sender=STRANGER)
    with reverts("not queued"):
        desk.timelock.call("cancel", STRANGER, desk.calldata(*CHANGE), sender=STRANGER)
    assert desk.ready_at(*CHANGE) > 0
