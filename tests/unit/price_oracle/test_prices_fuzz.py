"""Feeds, sequencer and pool answer anything; `prices` never reverts and says what the model says."""

import random
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.evm import Contract, artifact
from tests.unit.price_oracle.reference import second_price
from tests.unit.price_oracle.support import (
    BAD_ANSWER,
    BAD_ROUND,
    CALL_FAILED,
    DEVIATES,
    NO_SECOND_SOURCE,
    OK,
    OWNER,
    SEQUENCER_DOWN,
    STALE,
    START,
    WINDOW,
    Desk,
    open_desk,
)

GRACE = 3_600
HEARTBEAT = 86_400
DEVIATION = 300  # bps
LOW, HIGH = 10**16, 10**24  # bounds, WAD
LAST_TICK = 887_272
EDGES = [0, 1, 2, 64, 2**55, 2**55 - 1, 2**128 - 1, 2**128, 2**255 - 1, 2**255, 2**256 - 1]


@dataclass
class Feed:
    """What a hostile feed answers: words, cut to a number of bytes."""

    contract: Contract
    words: list[int]
    size: int

    def show(self) -> None:
        data = b"".join(word.to_bytes(32, "big") for word in self.words)[: self.size]
        self.contract.call("set_response", data)


def signed(word: int) -> int:
    return word - 2**256 if word >> 255 else word


def judge_round(feed: Feed, now: int) -> tuple[int, int]:
    """Price and status of a feed of 8 decimals."""
    if feed.size < 160:
        return 0, CALL_FAILED
    id, answer, _, updated, answered_in = feed.words
    price = signed(answer) * 10**10
    if signed(answer) <= 0 or answer >= 2**128 or not LOW <= price <= HIGH:
        return 0, BAD_ANSWER
    if not 0 < updated <= now or answered_in < id:
        return 0, BAD_ROUND
    return (0, STALE) if now - updated > HEARTBEAT else (price, OK)


def judge_sequencer(feed: Feed, now: int) -> bool:
    _, answer, started, _, _ = feed.words
    return feed.size >= 160 and answer == 0 and 0 < started <= now and now - started > GRACE


def judge_pool(pool: Feed, quote: tuple[int, int], price: int) -> int:
    """Whether the pool lets the price pass; the asset, of 18 decimals, is its token0, the quote has 6."""
    then, now = signed(pool.words[3]), signed(pool.words[4])
    if quote[1] != OK or pool.size < 256 or pool.words[0] != 64 or pool.words[2] != 2:
        return NO_SECOND_SOURCE
    if not (-(2**55) <= then < 2**55 and -(2**55) <= now < 2**55 and abs(now - then) <= LAST_TICK * WINDOW):
        return NO_SECOND_SOURCE
    second = second_price((now - then) // WINDOW, quote[0], 18, 6)
    return DEVIATES if abs(second - price) * 10_000 > price * DEVIATION else OK


class Sources:
    """An oracle of which all is hostile: the sequencer's feed, two feeds and a pool."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        desk = open_desk()
        evm = desk.evm
        uptime, asset_feed, quote_feed = (evm.deploy(artifact("BadFeed")) for _ in range(3))
        self.desk: Desk = open_desk(uptime.address, GRACE, evm=evm)
        asset, quote = self.desk.token(18).address, self.desk.token(6).address
        self.assets = [asset, quote]
        pool = evm.deploy(artifact("ScriptedPool"), asset, quote)
        self.sequencer = Feed(uptime, [1, 0, START - 2 * GRACE, START, 1], 160)
        self.asset = Feed(asset_feed, self.round(100), 160)
        self.quote = Feed(quote_feed, self.round(1), 160)
        self.pool = Feed(pool, self.observed(-230_270), 256)
        for token, feed in ((asset, asset_feed), (quote, quote_feed)):
            self.desk.oracle.call("set_feed", token, feed.address, HEARTBEAT, LOW, HIGH, sender=OWNER)
        data = self.desk.data("set_second_source", asset, pool.address, quote, WINDOW, DEVIATION)
        self.desk.oracle.call("queue", data, sender=OWNER)
        self.desk.wait(2 * 86_400)
        self.good()
        self.desk.oracle.call("execute", data, sender=OWNER)

    @property
    def all(self) -> list[Feed]:
        return [self.sequencer, self.asset, self.quote, self.pool]

    def round(self, price: int) -> list[int]:
        return [1, price * 10**8, START, self.desk.evm.now, 1]

    def observed(self, tick: int) -> list[int]:
        start = self.rng.randint(-(10**12), 10**12)
        words = [64, 160, 2, start, start + tick * WINDOW, 2, 0, 0]
        return [word % 2**256 for word in words]

    def good(self) -> None:
        """Everything up, fresh, and the pool within a few percent of the feed."""
        self.sequencer.words = [1, 0, START - 2 * GRACE, START, 1]
        self.asset.words, self.quote.words = self.round(100), self.round(1)
        # 100 USD: 1.0001**tick = 100 * 10**6 / 10**18
        self.pool.words = self.observed(-230_270 + self.rng.randint(-600, 600))
        for feed in self.all:
            feed.size = 32 * len(feed.words)
            feed.show()

    def spoil(self) -> None:
        """Change a word or two, or the length of an answer, a little or wildly."""
        for _ in range(self.rng.randint(0, 2)):
            feed = self.rng.choice(self.all)
            if self.rng.random() < 0.15:
                feed.size = self.rng.choice([0, 31, feed.size - 1])
            else:
                at = self.rng.randrange(len(feed.words))
                now = self.desk.evm.now
                near = [now, now + 1, now - GRACE, now - GRACE - 1, now - HEARTBEAT, now - HEARTBEAT - 1]
                near += [feed.words[at] + 1, feed.words[at] - 1, self.rng.getrandbits(256)]
                feed.words[at] = self.rng.choice(EDGES + near) % 2**256
            feed.show()

    def expected(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        now = self.desk.evm.now
        if not judge_sequencer(self.sequencer, now):
            return (0, 0), (SEQUENCER_DOWN, SEQUENCER_DOWN)
        price, status = judge_round(self.asset, now)
        quote = judge_round(self.quote, now)
        if status == OK:
            status = judge_pool(self.pool, quote, price)
        return (price if status == OK else 0, quote[0]), (status, quote[1])


@pytest.mark.parametrize("seed", range(4))
def test_prices_are_the_models_whatever_the_sources_say(seed):
    sources = Sources(seed)
    seen: set[Any] = set()
    for _ in range(400):
        sources.good()
        sources.spoil()
        found = sources.desk.oracle.call("prices", sources.assets)
        assert found == sources.expected()
        seen.add(found[1][0])
    assert seen == {CALL_FAILED, BAD_ANSWER, BAD_ROUND, STALE, SEQUENCER_DOWN, DEVIATES, NO_SECOND_SOURCE, OK}
