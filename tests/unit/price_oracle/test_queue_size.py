"""queue(): a change of up to 4,096 bytes."""

import pytest

from tests.support.evm import Reverted
from tests.unit.price_oracle.support import NEW_GUARDIAN, OWNER, Desk


def test_of_4096_bytes_and_not_of_one_more(desk: Desk) -> None:
    data = desk.data("set_guardian", NEW_GUARDIAN).ljust(4_096, b"\0")
    desk.oracle.call("queue", data, sender=OWNER)
    (event,) = desk.evm.events("Queued")
    assert event.fields["data"] == data
    with pytest.raises(Reverted, match=r"^0x$"):
        desk.oracle.call("queue", data + b"\0", sender=OWNER)
