"""`rules`: every field from its place in the word, full beside empty neighbours and the other way round."""

import pytest

from tests.unit.vault.support import OpenWorld
from tests.unit.vault.test_rule_book_alone import RULE_BITS, ends, word


@pytest.mark.parametrize("fields", ends(RULE_BITS))
def test_rules_are_read_from_their_places(open_world: OpenWorld, fields: tuple[int, ...]) -> None:
    settings = list(open_world.vault.call("settings"))
    settings[1] = word(fields, RULE_BITS)
    open_world.as_timelock("configure", "x", b"", settings)
    assert open_world.vault.call("rules") == fields
