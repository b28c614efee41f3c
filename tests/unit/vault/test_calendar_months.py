"""The calendar's months are Python's, on the first and the last second of each from 1970 to 2399."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.support.world import World


def test_slots_change_with_the_month() -> None:
    anchor = datetime(1971, 5, 17, tzinfo=UTC)
    world = World(calendar_anchor=int(anchor.timestamp()), calendar_every=1, calendar_unit=1)
    rules = world.vault.call("settings")[1]
    for month in range(1, 12 * 428):
        first = datetime(1971 + (4 + month) // 12, (4 + month) % 12 + 1, 1, tzinfo=UTC)
        for second, slot in ((-1, month), (0, month + 1)):
            world.evm.set_time(int(first.timestamp()) + second)
            session = world.rule_book.call("first_session", rules)
            assert session >> 112 & 2**40 - 1 == slot, first
