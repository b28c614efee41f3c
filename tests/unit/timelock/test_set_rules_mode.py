"""No bit of the rules that were is left in the rules that are."""

from __future__ import annotations

from tests.support.world import RULES
from tests.unit.timelock.support import Desk


def test_from_every_bit_to_few(desk: Desk) -> None:
    full, few = (tuple((RULES | {"mode": mode}).values()) for mode in (3, 0))
    desk.delayed("set_rules", full)
    assert desk.vault.call("rules") == full
    desk.delayed("set_rules", few)
    assert desk.vault.call("rules") == few
