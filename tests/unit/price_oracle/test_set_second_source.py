import pytest

from tests.support.evm import Reverted, artifact
from tests.unit.price_oracle.support import (
    BAD_MODES,
    DELAY,
    DEVIATES,
    DEVIATION,
    GUARDIAN,
    HEARTBEAT,
    OK,
    OWNER,
    STRANGER,
    WAD,
    WINDOW,
    ZERO,
    observed,
)

SETTING = (WINDOW, DEVIATION)


def test_lets_a_pool_veto_a_price_after_the_delay(priced, token, quote, pool):
    pool.call("set_response", observed(0, 0))  # says 1 USD, the feed says 100
    data = priced.data("set_second_source", token, pool.address, quote, *SETTING)
    priced.oracle.call("queue", data, sender=OWNER)
    priced.wait(DELAY - 1)
    with pytest.raises(Reverted, match=r"^not ready$"):
        priced.oracle.call("execute", data, sender=OWNER)
    assert priced.status(token) == OK
    priced.wait(1)
    priced.oracle.call("execute", data, sender=OWNER)
    assert priced.status(token) == DEVIATES


def test_emits_the_setting(priced, token, quote, pool):
    priced.change("set_second_source", token, pool.address, quote, *SETTING)
    (event,) = priced.evm.events("SecondSourceSet")
    assert event.fields == {
        "asset": token,
        "pool": pool.address,
        "quote": quote,
        "window_seconds": WINDOW,
        "max_deviation_bps": DEVIATION,
    }


def test_replaces_the_pool(doubled, token, quote):
    other = doubled.evm.deploy(artifact("ScriptedPool"), quote, token)
    other.call("set_response", observed(0, 0))
    doubled.change("set_second_source", token, other.address, quote, 600, 5)
    found = doubled.oracle.call("second_sources", token)
    assert found == (other.address, quote, 600, 5, 6, 6, False)


def test_of_zero_ends_the_veto(doubled, token, pool, feed):
    pool.call("set_response", observed(0, 0))
    assert doubled.status(token) == DEVIATES
    doubled.change("set_second_source", token, ZERO, ZERO, 0, 0)
    (event,) = doubled.evm.events("SecondSourceSet")
    assert event.fields == {
        "asset": token,
        "pool": ZERO,
        "quote": ZERO,
        "window_seconds": 0,
        "max_deviation_bps": 0,
    }
    assert doubled.oracle.call("second_sources", token) == (ZERO, ZERO, 0, 0, 0, 0, False)
    assert doubled.price(token) == (100 * WAD, OK)
    assert doubled.oracle.call("feeds", token)[0] == feed.address


@pytest.mark.parametrize("sender", [OWNER, GUARDIAN, STRANGER])
def test_reverts_outside_the_queue(priced, token, quote, pool, sender):
    with pytest.raises(Reverted, match=r"^not queued$"):
        priced.oracle.call("set_second_source", token, pool.address, quote, *SETTING, sender=sender)


@pytest.mark.parametrize(
    ("window", "deviation", "reason"),
    [
        (299, DEVIATION, "bad window"),
        (86_401, DEVIATION, "bad window"),
        (0, DEVIATION, "bad window"),
        (2**256 - 1, DEVIATION, "bad window"),
        (WINDOW, 0, "bad deviation"),
        (WINDOW, 5_001, "bad deviation"),
    ],
)
def test_reverts_on_a_setting_out_of_range(priced, token, quote, pool, window, deviation, reason):
    with pytest.raises(Reverted, match=f"^{reason}$"):
        priced.change("set_second_source", token, pool.address, quote, window, deviation)


def test_reverts_on_a_pool_without_code(priced, token, quote):
    with pytest.raises(Reverted, match=r"^pool has no code$"):
        priced.change("set_second_source", token, STRANGER, quote, *SETTING)


def test_reverts_on_an_asset_without_a_feed(priced, token, quote):
    other = priced.token(6).address
    pool = priced.evm.deploy(artifact("ScriptedPool"), other, quote)
    pool.call("set_response", observed(0, 0))
    with pytest.raises(Reverted, match=r"^asset has no feed$"):
        priced.change("set_second_source", other, pool.address, quote, *SETTING)


@pytest.mark.parametrize(
    "tokens",
    [("other", "quote"), ("token", "other"), ("token", "token"), ("quote", "quote"), ("other", "other")],
)
def test_reverts_on_a_pool_of_other_tokens(priced, token, quote, tokens):
    of = {"token": token, "quote": quote, "other": STRANGER}
    pool = priced.evm.deploy(artifact("ScriptedPool"), of[tokens[0]], of[tokens[1]])
    pool.call("set_response", observed(0, 0))
    with pytest.raises(Reverted, match=r"^not a pool of these tokens$"):
        priced.change("set_second_source", token, pool.address, quote, *SETTING)


@pytest.mark.parametrize(
    ("asset_decimals", "quote_decimals", "reason"),
    [
        (1, 6, "bad decimals"),
        (25, 6, "bad decimals"),
        (6, 1, "bad decimals"),
        (6, 25, "bad decimals"),
        (2, 24, None),
        (24, 2, None),
    ],
)
def test_needs_2_to_24_decimals(priced, feed, asset_decimals, quote_decimals, reason):
    asset, quote = priced.token(asset_decimals).address, priced.token(quote_decimals).address
    for each in (asset, quote):
        priced.oracle.call("set_feed", each, feed.address, HEARTBEAT, WAD, 1_000 * WAD, sender=OWNER)
    pool = priced.evm.deploy(artifact("ScriptedPool"), asset, quote)
    pool.call("set_response", observed(0, 0))
    setting = (asset, pool.address, quote, *SETTING)
    if reason is None:
        priced.change("set_second_source", *setting)
        assert priced.oracle.call("second_sources", asset)[4:6] == (asset_decimals, quote_decimals)
    else:
        with pytest.raises(Reverted, match=f"^{reason}$"):
            priced.change("set_second_source", *setting)


@pytest.mark.parametrize("mode", BAD_MODES.values(), ids=BAD_MODES.keys())
def test_reverts_on_a_pool_that_cannot_be_read(priced, token, quote, pool, mode):
    pool.call("set_mode", mode)
    with pytest.raises(Reverted, match=r"^pool not readable$"):
        priced.change("set_second_source", token, pool.address, quote, *SETTING)


def test_reverts_on_a_quote_without_a_price(priced, token, quote, pool):
    priced.change("set_feed", quote, ZERO, 0, 0, 0)
    with pytest.raises(Reverted, match=r"^pool not readable$"):
        priced.change("set_second_source", token, pool.address, quote, *SETTING)


@pytest.mark.parametrize("setting", [("quote", 0, 0), (ZERO, WINDOW, 0), (ZERO, 0, DEVIATION)])
def test_reverts_on_settings_for_no_pool(doubled, token, quote, setting):
    setting = (quote if setting[0] == "quote" else setting[0], *setting[1:])
    with pytest.raises(Reverted, match=r"^no pool to set$"):
        doubled.change("set_second_source", token, ZERO, *setting)


def test_reverts_on_removing_what_is_not_there(priced, token):
    with pytest.raises(Reverted, match=r"^no pool to remove$"):
        priced.change("set_second_source", token, ZERO, ZERO, 0, 0)
