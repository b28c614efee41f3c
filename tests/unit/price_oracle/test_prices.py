import pytest
from brownie import chain
from eth_abi import encode

OK, NO_FEED, CALL_FAILED, BAD_ANSWER, BAD_ROUND, STALE = range(6)
WAD = 10**18
HEARTBEAT = 3_600


@pytest.fixture
def broken(oracle, token, bad_feed, owner):
    """The oracle with a feed that answers what the test says."""
    oracle.set_feed(token, bad_feed, HEARTBEAT, WAD, 1_000 * WAD, {"from": owner})
    return oracle


def round_data(answer=100 * 10**8, updated_at=None, round_id=1, answered_in_round=1):
    now = chain[-1].timestamp if updated_at is None else updated_at
    return encode(
        ["uint256", "int256", "uint256", "uint256", "uint256"],
        [round_id, answer, now, now, answered_in_round],
    )


def status(oracle, token):
    prices, statuses = oracle.prices([token])
    assert prices[0] > 0 if statuses[0] == OK else prices[0] == 0
    return statuses[0]


@pytest.mark.parametrize(
    ("decimals", "answer"), [(0, 7), (6, 7_123_456), (8, 712_345_678), (18, 7 * 10**18 + 1)]
)
def test_scales_the_answer_to_18_decimals(oracle, token, owner, TestFeed, decimals, answer):
    feed = owner.deploy(TestFeed, decimals, "X / USD", answer)
    oracle.set_feed(token, feed, HEARTBEAT, 1, 2**128 - 1, {"from": owner})
    assert oracle.prices([token]) == ([answer * 10 ** (18 - decimals)], [OK])


def test_of_no_assets_is_empty(oracle):
    assert oracle.prices([]) == ([], [])


def test_keeps_order_and_repeats(priced, token, owner):
    assert priced.prices([owner, token, token]) == ([0, 100 * WAD, 100 * WAD], [NO_FEED, OK, OK])


def test_of_16_assets(priced, token):
    assert priced.prices([token] * 16) == ([100 * WAD] * 16, [OK] * 16)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (10**8, OK),
        (10**8 - 1, BAD_ANSWER),
        (1_000 * 10**8, OK),
        (1_000 * 10**8 + 1, BAD_ANSWER),
        (0, BAD_ANSWER),
        (-1, BAD_ANSWER),
        (2**255 - 1, BAD_ANSWER),
        (-(2**255), BAD_ANSWER),
    ],
)
def test_believes_answers_within_the_bounds_only(priced, token, feed, owner, answer, expected):
    feed.set_answer(answer, {"from": owner})
    assert status(priced, token) == expected


def test_is_stale_after_the_heartbeat(priced, token, feed, owner):
    feed.set_answer(100 * 10**8, {"from": owner})
    updated_at = chain[-1].timestamp
    chain.mine(timestamp=updated_at + HEARTBEAT)
    assert status(priced, token) == OK
    chain.mine(timestamp=updated_at + HEARTBEAT + 1)
    assert status(priced, token) == STALE


def test_refuses_a_round_from_the_future(priced, token, feed, owner):
    feed.set_answer_at(100 * 10**8, chain[-1].timestamp + 86_400, {"from": owner})
    assert status(priced, token) == BAD_ROUND


def test_refuses_a_round_that_is_not_complete(priced, token, feed, owner):
    feed.set_answer_at(100 * 10**8, 0, {"from": owner})
    assert status(priced, token) == BAD_ROUND


def test_refuses_an_answer_of_an_older_round(priced, token, feed, owner):
    feed.set_answer(100 * 10**8, {"from": owner})
    assert status(priced, token) == OK
    feed.set_answered_in_round(1, {"from": owner})
    assert status(priced, token) == BAD_ROUND


@pytest.mark.parametrize(
    ("size", "expected"), [(0, CALL_FAILED), (32, CALL_FAILED), (159, CALL_FAILED), (160, OK)]
)
def test_needs_all_five_words(broken, token, bad_feed, owner, size, expected):
    bad_feed.set_response(round_data()[:size], {"from": owner})
    assert status(broken, token) == expected


def test_takes_words_wider_than_their_types(broken, token, bad_feed, owner):
    bad_feed.set_response(round_data(round_id=2**256 - 1, answered_in_round=2**256 - 1), {"from": owner})
    assert status(broken, token) == OK


def test_takes_any_times(broken, token, bad_feed, owner):
    bad_feed.set_response(round_data(updated_at=2**256 - 1), {"from": owner})
    assert status(broken, token) == BAD_ROUND


@pytest.mark.parametrize("mode", [1, 2, 3], ids=["reverts", "burns all gas", "answers 64,000 bytes"])
def test_does_not_revert_and_prices_the_others(broken, token, bad_feed, feed, owner, TestToken, mode):
    other = owner.deploy(TestToken, "Other", "OTH", 18)
    broken.set_feed(other, feed, HEARTBEAT, WAD, 1_000 * WAD, {"from": owner})
    bad_feed.set_response(round_data(), {"from": owner})
    bad_feed.set_mode(mode, {"from": owner})
    prices, statuses = broken.prices([token, other], {"gas": 1_000_000})
    assert prices == [0, 100 * WAD]
    assert statuses[0] in (CALL_FAILED, BAD_ANSWER)
    assert statuses[1] == OK


def test_of_four_feeds_costs_little(priced, TestToken, TestFeed, owner):
    tokens = []
    for i in range(4):
        tokens.append(owner.deploy(TestToken, "T", "T", 18))
        feed = owner.deploy(TestFeed, 8, "T / USD", (i + 1) * 10**8)
        priced.set_feed(tokens[i], feed, HEARTBEAT, WAD, 1_000 * WAD, {"from": owner})
    cost = priced.prices.estimate_gas(tokens, {"from": owner}) - priced.prices.estimate_gas(
        [], {"from": owner}
    )
    assert cost < 4 * 20_000  # cold: 2 words of settings, the feed's account and its 4 words
