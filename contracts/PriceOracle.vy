# pragma version 0.4.3
# @license MIT
"""
@title PriceOracle
@notice USD prices of tokens from Chainlink feeds, many in one call, each with a status.
        Trusted: the owner, who chooses feeds, heartbeats and bounds, and the feeds themselves: an answer that is fresh
        and within its bounds is believed. Not trusted: that a feed exists, answers, is cheap or tells the format
        right. Nothing a feed does makes `prices` revert; its status is then not OK and its price 0.
        A caller who gives too little gas can turn a status into CALL_FAILED, never a price into another price.
@custom:kill The owner removes a feed with `set_feed(asset, empty, 0, 0, 0)`: what depends on its price stops.
"""

from interfaces import IAggregatorV3
from interfaces import IPriceOracle
from contracts.modules import ownable

implements: IPriceOracle
initializes: ownable
exports: (
    ownable.owner,
    ownable.pending_owner,
    ownable.transfer_ownership,
    ownable.accept_ownership,
)


event FeedSet:
    asset: indexed(address)
    feed: indexed(address)
    decimals: uint256
    heartbeat_seconds: uint256
    min_price: uint256
    max_price: uint256


struct Feed:
    feed: address
    decimals: uint256  # of the feed's answers
    heartbeat_seconds: uint256  # an older answer is stale
    min_price: uint256  # WAD, inclusive
    max_price: uint256  # WAD, inclusive


OK: constant(uint256) = 0
NO_FEED: constant(uint256) = 1
CALL_FAILED: constant(uint256) = 2  # reverted, has no code or returned too little
BAD_ANSWER: constant(uint256) = 3  # not positive, or outside the bounds
BAD_ROUND: constant(uint256) = 4  # incomplete, or from the future
STALE: constant(uint256) = 5  # older than the heartbeat

MAX_ASSETS: constant(uint256) = 16
PRICE_DECIMALS: constant(uint256) = 18
MAX_PRICE: constant(uint256) = 2**128 - 1
MAX_HEARTBEAT: constant(uint256) = 30 * 86400  # seconds
FEED_GAS: constant(uint256) = 200_000  # for one feed; a Chainlink proxy uses some 20,000
ROUND_SIZE: constant(uint256) = 5 * 32  # bytes that latestRoundData returns

# Two words an asset: feed (160 bits) | decimals << 160 | heartbeat << 168, and min_price | max_price << 128.
packed_feeds: HashMap[address, uint256[2]]


@deploy
def __init__():
    ownable.__init__()


@external
@view
def prices(assets: DynArray[address, MAX_ASSETS]) -> (DynArray[uint256, MAX_ASSETS], DynArray[uint256, MAX_ASSETS]):
    """
    @notice Prices of `assets`; never reverts.
    @return prices USD per whole token, 18 decimals; 0 where the status is not 0
    @return statuses 0 OK, 1 NO_FEED, 2 CALL_FAILED, 3 BAD_ANSWER, 4 BAD_ROUND, 5 STALE
    """
    all_prices: DynArray[uint256, MAX_ASSETS] = []
    statuses: DynArray[uint256, MAX_ASSETS] = []
    for asset: address in assets:
        price: uint256 = 0
        status: uint256 = 0
        price, status = self._price(asset)
        all_prices.append(price)
        statuses.append(status)
    return all_prices, statuses


@external
@view
def feeds(asset: address) -> Feed:
    """
    @notice How `asset` is priced; all zero when it has no feed.
    """
    packed: uint256[2] = self.packed_feeds[asset]
    return Feed(
        feed=convert(packed[0] & convert(max_value(uint160), uint256), address),
        decimals=(packed[0] >> 160) & 255,
        heartbeat_seconds=packed[0] >> 168,
        min_price=packed[1] & MAX_PRICE,
        max_price=packed[1] >> 128,
    )


@external
def set_feed(asset: address, feed: address, heartbeat_seconds: uint256, min_price: uint256, max_price: uint256):
    """
    @notice Price `asset` by `feed`; a zero `feed` removes it.
    @param heartbeat_seconds Age above which an answer is stale: the feed's own heartbeat and a margin
    @param min_price Lowest believable price, WAD
    @param max_price Highest believable price, WAD
    """
    ownable._check_owner()
    assert asset != empty(address), "zero asset"
    decimals: uint256 = 0
    if feed == empty(address):
        assert heartbeat_seconds == 0 and min_price == 0 and max_price == 0, "no feed to set"
    else:
        assert feed.is_contract, "feed has no code"
        assert heartbeat_seconds > 0 and heartbeat_seconds <= MAX_HEARTBEAT, "bad heartbeat"
        assert min_price > 0 and min_price <= max_price and max_price <= MAX_PRICE, "bad bounds"
        decimals = convert(staticcall IAggregatorV3(feed).decimals(), uint256)
        assert decimals <= PRICE_DECIMALS, "feed decimals > 18"
    self.packed_feeds[asset] = [
        convert(feed, uint256) | (decimals << 160) | (heartbeat_seconds << 168),
        min_price | (max_price << 128),
    ]
    log FeedSet(
        asset=asset,
        feed=feed,
        decimals=decimals,
        heartbeat_seconds=heartbeat_seconds,
        min_price=min_price,
        max_price=max_price,
    )


@internal
@view
def _price(asset: address) -> (uint256, uint256):
    config: uint256 = self.packed_feeds[asset][0]
    if config == 0:
        return 0, NO_FEED

    success: bool = False
    response: Bytes[ROUND_SIZE] = b""
    success, response = raw_call(
        convert(config & convert(max_value(uint160), uint256), address),
        method_id("latestRoundData()"),
        max_outsize=ROUND_SIZE,
        gas=FEED_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    if not success or len(response) < ROUND_SIZE:
        return 0, CALL_FAILED

    # The round ids are read as whole words: a narrower type would revert on a feed that returns more bits.
    round_id: uint256 = 0
    answer: int256 = 0
    started_at: uint256 = 0
    updated_at: uint256 = 0
    answered_in_round: uint256 = 0
    round_id, answer, started_at, updated_at, answered_in_round = abi_decode(
        response, (uint256, int256, uint256, uint256, uint256)
    )

    if answer <= 0 or convert(answer, uint256) > MAX_PRICE:
        return 0, BAD_ANSWER
    price: uint256 = convert(answer, uint256) * 10 ** (PRICE_DECIMALS - ((config >> 160) & 255))
    bounds: uint256 = self.packed_feeds[asset][1]
    if price < bounds & MAX_PRICE or price > bounds >> 128:
        return 0, BAD_ANSWER
    if updated_at == 0 or updated_at > block.timestamp or answered_in_round < round_id:
        return 0, BAD_ROUND
    if block.timestamp - updated_at > config >> 168:
        return 0, STALE
    return price, OK
