"""Rules and assets in a word: every field in its place, at both ends, beside neighbours at the other end."""

from __future__ import annotations

import pytest

from tests.support.world import World
from tests.unit.vault.support import OpenWorld

# offset and bits of the fields of Rules and of Asset, in order: packing.vy, portfolio.vy
RULES = (
    (0, 2),
    (2, 2),
    (4, 16),
    (20, 40),
    (60, 32),
    (92, 32),
    (124, 13),
    (137, 13),
    (150, 16),
    (166, 13),
    (179, 16),
    (195, 16),
)
ASSET = ((0, 160), (160, 8), (168, 14), (182, 14), (196, 14), (210, 14), (224, 14), (238, 8))


def words(layout: tuple[tuple[int, int], ...]) -> list[tuple[int, tuple[int, ...]]]:
    """Words and their fields: one field full and the others empty, and the other way round."""
    full = [(1 << bits) - 1 for _, bits in layout]
    found = []
    for one in range(len(layout)):
        for is_full in (True, False):
            fields = tuple(most if (i == one) is is_full else 0 for i, most in enumerate(full))
            word = sum(field << offset for field, (offset, _) in zip(fields, layout, strict=True))
            found.append((word, fields))
    return found


@pytest.mark.parametrize(("word", "fields"), words(RULES))
def test_rules_are_read_from_their_places(open_world: OpenWorld, word: int, fields: tuple[int, ...]) -> None:
    settings = list(open_world.vault.call("settings"))
    settings[1] = word
    open_world.as_timelock("configure", "x", b"", settings)
    assert open_world.vault.call("rules") == fields


@pytest.mark.parametrize(("word", "fields"), words(ASSET))
def test_assets_are_read_from_their_places(world: World, word: int, fields: tuple[int, ...]) -> None:
    (asset,) = world.rule_book.call("unpack_assets", [word])
    assert (int(asset[0], 16), *asset[1:]) == fields


def asset(token: str, **fields: int) -> tuple[object, ...]:
    """Every field 0 but those given."""
    names = ("decimals", "target", "points", "relative", "minimum", "maximum", "error")
    return (token, *(fields.get(name, 0) for name in names))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"points": 10_000},
        {"points": 9_999},
        {"relative": 10_000},
        {"relative": 9_999},
        {"maximum": 10_000},
        {"maximum": 9_999},
        {"target": 9_999, "maximum": 9_999},
        {"target": 10_000, "minimum": 10_000, "maximum": 10_000},
        {"error": 255},
        {"points": 1, "relative": 1, "target": 1, "minimum": 1, "maximum": 1, "error": 1},
    ],
)
def test_an_asset_comes_back_as_it_was_packed(world: World, fields: dict[str, int]) -> None:
    token = world.tokens[1]
    given = asset(token.address, **fields)
    word = world.rule_book.call("pack_asset", given)
    expected = (token.address.lower(), 8, *given[2:])
    assert world.rule_book.call("unpack_assets", [word]) == (expected,)
    places = zip(expected[1:], (offset for offset, _ in ASSET[1:]), strict=True)
    assert word == int(token.address, 16) + sum(int(str(field)) << offset for field, offset in places)


ENDS = (
    3,
    1,
    2**16 - 1,
    2**40 - 1,
    2**32 - 1,
    2**32 - 1,
    8_191,
    8_191,
    2**16 - 1,
    8_191,
    2**16 - 1,
    2**16 - 1,
)
LEAST = (1, 0, 1, 0, 1, 0, 60, 100, 0, 0, 0, 0)  # a threshold vault that may have no tolerance


@pytest.mark.parametrize("one", range(12))
def test_rules_are_packed_into_their_places(world: World, one: int) -> None:
    """A field at its end beside fields that are as small as they may be."""
    fields = [ENDS[i] if i == one else least for i, least in enumerate(LEAST)]
    fields[9] = max(fields[9], int(fields[0] != 1))
    assets = [
        world.rule_book.call("pack_asset", asset(token.address, target=target, maximum=10_000, error=25))
        for token, target in zip(world.tokens, (5_000, 3_000, 2_000), strict=True)
    ]
    if one == 6:
        fields[7] = 8_191  # a loss budget that allows such slippage
    word = world.rule_book.call("pack_rules", fields, assets)
    assert word == sum(field << offset for field, (offset, _) in zip(fields, RULES, strict=True))
