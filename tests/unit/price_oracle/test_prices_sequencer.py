"""Prices on a rollup: the sequencer's uptime feed vetoes them all."""

import pytest
from eth_abi import encode

from tests.support.evm import Contract, Evm, artifact
from tests.unit.price_oracle.support import (
    BAD_MODES,
    HEARTBEAT,
    MAX,
    MIN,
    OK,
    OWNER,
    SEQUENCER_DOWN,
    START,
    STRANGER,
    WAD,
    Desk,
    open_desk,
)

GRACE = 3_600
UP, DOWN = 0, 1


@pytest.fixture
def uptime_evm() -> Evm:
    return Evm(START)


@pytest.fixture
def uptime(uptime_evm) -> Contract:
    return uptime_evm.deploy(artifact("BadFeed"))


@pytest.fixture
def rollup(uptime_evm, uptime) -> Desk:
    """An oracle behind a sequencer that has been up for a day."""
    desk = open_desk(uptime.address, GRACE, evm=uptime_evm)
    uptime.call("set_response", status(UP, START))
    desk.wait(86_400)
    return desk


@pytest.fixture
def asset(rollup) -> str:
    asset = rollup.token().address
    rollup.oracle.call("set_feed", asset, rollup.feed().address, HEARTBEAT, MIN, MAX, sender=OWNER)
    return asset


def status(answer: int, started_at: int) -> bytes:
    """What an uptime feed returns; it never has a fresh `updated_at`."""
    return encode(
        ["uint256", "int256", "uint256", "uint256", "uint256"], [1, answer, started_at, started_at, 1]
    )


def test_are_believed_while_it_is_up(rollup, asset):
    assert rollup.price(asset) == (100 * WAD, OK)


def test_are_believed_however_long_it_has_been_up(rollup, asset):
    rollup.wait(29 * 86_400)
    assert rollup.price(asset) == (100 * WAD, OK)


def test_are_vetoed_while_it_is_down(rollup, asset, uptime):
    uptime.call("set_response", status(DOWN, START))
    answer = rollup.oracle.call("prices", [asset, STRANGER, asset])
    assert answer == ((0, 0, 0), (SEQUENCER_DOWN,) * 3)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, SEQUENCER_DOWN), (GRACE, SEQUENCER_DOWN), (GRACE + 1, OK)]
)
def test_are_vetoed_until_the_grace_is_over(rollup, asset, uptime, seconds, expected):
    uptime.call("set_response", status(UP, rollup.evm.now))
    rollup.wait(seconds)
    assert rollup.status(asset) == expected


@pytest.mark.parametrize(
    ("answer", "started_at"),
    [(2, START), (-1, START), (2**255 - 1, START), (UP, 0), (UP, 2**256 - 1), (UP, START + 86_401)],
)
def test_are_vetoed_by_an_answer_that_cannot_be(rollup, asset, uptime, answer, started_at):
    uptime.call("set_response", status(answer, started_at))
    assert rollup.status(asset) == SEQUENCER_DOWN


@pytest.mark.parametrize(
    ("size", "expected"), [(0, SEQUENCER_DOWN), (96, SEQUENCER_DOWN), (159, SEQUENCER_DOWN), (160, OK)]
)
def test_need_all_five_words(rollup, asset, uptime, size, expected):
    uptime.call("set_response", status(UP, START)[:size])
    assert rollup.status(asset) == expected


@pytest.mark.parametrize("mode", BAD_MODES.values(), ids=BAD_MODES.keys())
def test_are_vetoed_by_a_feed_that_does_not_tell(rollup, asset, uptime, mode):
    uptime.call("set_mode", mode)
    prices, statuses = rollup.oracle.call("prices", [asset] * 16)
    assert (prices, statuses) == ((0,) * 16, (SEQUENCER_DOWN,) * 16)
    assert rollup.evm.gas_used < 300_000


def test_are_vetoed_by_a_feed_whose_code_is_gone(rollup, asset, uptime):
    rollup.erase(uptime)
    assert rollup.status(asset) == SEQUENCER_DOWN


def test_of_no_assets_is_empty(rollup, uptime):
    uptime.call("set_response", status(DOWN, START))
    assert rollup.oracle.call("prices", []) == ((), ())
