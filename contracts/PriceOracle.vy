# pragma version 0.4.3
# @license MIT
"""
@title PriceOracle
@notice USD prices of tokens from Chainlink feeds, many in one call, each with a status. On a rollup the sequencer's
        uptime feed can veto all of them; for an asset with a second source, a Uniswap V3 pool's time-weighted price
        can veto its own. Only a feed's price is ever returned.
        Trusted: the feeds: an answer that is fresh, within its bounds and not vetoed is believed. The owner chooses
        an asset's first feed at once; all that comes later waits `delay_seconds` in the open, and the guardian can
        cancel it. Not trusted: that a feed or a pool exists, answers, is cheap or tells the format right. Nothing
        they do makes `prices` revert; the status is then not OK and the price 0.
        Can be manipulated: a pool, by trading in it for the whole window, to veto a price, never to make one.
        A caller who gives too little gas can turn a status into another that is not OK, never a price into another.
@custom:kill The owner queues `set_feed(asset, empty, 0, 0, 0)`, which removes a feed: what depends on its price stops.
             A feed that must stop sooner is a matter of the vaults: their guardians pause or quarantine.
"""

from ethereum.ercs import IERC20Detailed
from interfaces import IAggregatorV3
from interfaces import IPriceOracle
from contracts.modules import ownable
from contracts.modules import queue as changes

implements: IPriceOracle
initializes: ownable
initializes: changes
exports: (
    ownable.owner,
    ownable.pending_owner,
    ownable.transfer_ownership,
    ownable.accept_ownership,
    changes.ready_at,
)


interface UniswapV3Pool:
    def token0() -> address: view
    def token1() -> address: view


event FeedSet:
    asset: indexed(address)
    feed: indexed(address)
    decimals: uint256
    heartbeat_seconds: uint256
    min_price: uint256
    max_price: uint256

event SecondSourceSet:
    asset: indexed(address)
    pool: indexed(address)
    quote: indexed(address)
    window_seconds: uint256
    max_deviation_bps: uint256

event GuardianSet:
    guardian: indexed(address)


struct Feed:
    feed: address
    decimals: uint256  # of the feed's answers
    heartbeat_seconds: uint256  # an older answer is stale
    min_price: uint256  # WAD, inclusive; 8 digits of it, rounded up
    max_price: uint256  # WAD, inclusive; 8 digits of it, rounded down

struct SecondSource:
    pool: address  # Uniswap V3, of the asset and `quote`
    quote: address  # a token with a feed of its own here
    window_seconds: uint256  # the pool's price is a mean over it
    max_deviation_bps: uint256  # of the feed's price, inclusive
    asset_decimals: uint256
    quote_decimals: uint256
    asset_is_token0: bool


OK: constant(uint256) = 0
NO_FEED: constant(uint256) = 1
CALL_FAILED: constant(uint256) = 2  # reverted, has no code or returned too little
BAD_ANSWER: constant(uint256) = 3  # not positive, or outside the bounds
BAD_ROUND: constant(uint256) = 4  # incomplete, or from the future
STALE: constant(uint256) = 5  # older than the heartbeat
SEQUENCER_DOWN: constant(uint256) = 6  # or not known to be up, or back for no longer than the grace
DEVIATES: constant(uint256) = 7  # the second source says otherwise
NO_SECOND_SOURCE: constant(uint256) = 8  # there is one, but it cannot be read

DAY: constant(uint256) = 86400  # seconds
MAX_BPS: constant(uint256) = 10**4  # 100 %
MAX_ASSETS: constant(uint256) = 16
PRICE_DECIMALS: constant(uint256) = 18
MAX_PRICE: constant(uint256) = 2**128 - 1
MAX_HEARTBEAT: constant(uint256) = 30 * DAY
FEED_GAS: constant(uint256) = 200_000  # for one feed; a Chainlink proxy uses some 20,000
ROUND_SIZE: constant(uint256) = 5 * 32  # bytes that latestRoundData returns
MAX_GRACE: constant(uint256) = DAY
MIN_DELAY: constant(uint256) = 2 * DAY
MAX_DELAY: constant(uint256) = 30 * DAY

POOL_GAS: constant(uint256) = 300_000  # for one pool; with 65,535 observations it searches 16 steps of 2 cold words
OBSERVE_SIZE: constant(uint256) = 8 * 32  # bytes that `observe` returns for two points in time
FIRST_ARRAY: constant(uint256) = 64  # where the first of two returned arrays begins
MIN_WINDOW: constant(uint256) = 300  # seconds
MAX_WINDOW: constant(uint256) = DAY
MAX_DEVIATION_BPS: constant(uint256) = 5_000
MIN_DECIMALS: constant(uint256) = 2
MAX_DECIMALS: constant(uint256) = 24
MAX_TICK: constant(int256) = 887272  # Uniswap V3's; |tick| < 2**20
MAX_CUMULATIVE: constant(int256) = 2**55  # what an int56 holds
MAX_SECOND_PRICE: constant(uint256) = 2**176  # stands for all above it

# A mantissa m in [2**127, 2**128) and an exponent e stand for m * 2**(e - 127).
ONE: constant(uint256) = 2**127
TICK_UP: constant(uint256) = 2**127 * 10001 // 10000  # 1.0001, e = 0; down
TICK_DOWN: constant(uint256) = 2**128 * 10000 // 10001  # 1 / 1.0001, e = -1; down
CUT: constant(uint256) = 80  # bits of the mantissa that are dropped before a price is multiplied

ADDRESS: constant(uint256) = 2**160 - 1
DECIMALS_AT: constant(uint256) = 160
DECIMALS: constant(uint256) = 2**5 - 1
HEARTBEAT_AT: constant(uint256) = 165
HEARTBEAT: constant(uint256) = 2**22 - 1
MIN_PRICE_AT: constant(uint256) = 187
MAX_PRICE_AT: constant(uint256) = 220
BOUND: constant(uint256) = 2**33 - 1  # digits 27 bits | exponent 6 bits: digits * 10**exponent
EXPONENT_AT: constant(uint256) = 27
DIGITS: constant(uint256) = 2**27 - 1  # 8 digits and more
HAS_SECOND: constant(uint256) = 1 << 254  # the asset has a second source
HAD_FEED: constant(uint256) = 1 << 255  # the asset's feed was removed: the next one waits too

WINDOW_AT: constant(uint256) = 160
DEVIATION_AT: constant(uint256) = 192
ASSET_DECIMALS_AT: constant(uint256) = 208
QUOTE_DECIMALS_AT: constant(uint256) = 216
TOKEN0_AT: constant(uint256) = 224

delay_seconds: public(immutable(uint256))
sequencer_feed: public(immutable(address))  # Chainlink's uptime feed; zero: none
grace_seconds: public(immutable(uint256))

guardian: public(address)  # may cancel what is queued; zero: nobody
# feed 160 | decimals 5 | heartbeat 22 | least price 33 | greatest price 33 | flags
packed_feeds: HashMap[address, uint256]
# Read only when the flag says so: pool (160 bits) | window | deviation | decimals | order, and quote.
packed_second_sources: HashMap[address, uint256[2]]


@deploy
def __init__(guardian: address, delay_seconds_: uint256, sequencer_feed_: address, grace_seconds_: uint256):
    """
    @param guardian May cancel queued changes; zero for nobody
    @param delay_seconds_ 2 to 30 days from the announcement of a change to the change
    @param sequencer_feed_ The rollup's uptime feed; zero where there is no sequencer
    @param grace_seconds_ How long the sequencer must be back before prices are believed; at most a day
    """
    assert delay_seconds_ >= MIN_DELAY and delay_seconds_ <= MAX_DELAY, "bad delay"
    if sequencer_feed_ == empty(address):
        assert grace_seconds_ == 0, "no sequencer"
    else:
        assert sequencer_feed_.is_contract, "feed has no code"
        assert grace_seconds_ > 0 and grace_seconds_ <= MAX_GRACE, "bad grace"
    ownable.__init__()
    delay_seconds = delay_seconds_
    sequencer_feed = sequencer_feed_
    grace_seconds = grace_seconds_
    self._set_guardian(guardian)


# Views


@external
@view
def prices(assets: DynArray[address, MAX_ASSETS]) -> (DynArray[uint256, MAX_ASSETS], DynArray[uint256, MAX_ASSETS]):
    """
    @notice Prices of `assets`; never reverts.
    @return prices USD per whole token, 18 decimals; 0 where the status is not 0
    @return statuses 0 OK, 1 NO_FEED, 2 CALL_FAILED, 3 BAD_ANSWER, 4 BAD_ROUND, 5 STALE, 6 SEQUENCER_DOWN,
            7 DEVIATES, 8 NO_SECOND_SOURCE
    """
    all_prices: DynArray[uint256, MAX_ASSETS] = []
    statuses: DynArray[uint256, MAX_ASSETS] = []
    up: bool = sequencer_feed == empty(address) or self._sequencer_is_up()
    for asset: address in assets:
        price: uint256 = 0
        status: uint256 = SEQUENCER_DOWN
        if up:
            config: uint256 = self.packed_feeds[asset]
            price, status = self._feed_price(config)
            if status == OK and config & HAS_SECOND != 0:
                price, status = self._checked_price(asset, price)
        all_prices.append(price)
        statuses.append(status)
    return all_prices, statuses


@external
@view
def feeds(asset: address) -> Feed:
    """
    @notice How `asset` is priced; all zero when it has no feed.
    """
    config: uint256 = self.packed_feeds[asset]
    return Feed(
        feed=convert(config & ADDRESS, address),
        decimals=(config >> DECIMALS_AT) & DECIMALS,
        heartbeat_seconds=(config >> HEARTBEAT_AT) & HEARTBEAT,
        min_price=self._bound(config >> MIN_PRICE_AT),
        max_price=self._bound(config >> MAX_PRICE_AT),
    )


@external
@view
def second_sources(asset: address) -> SecondSource:
    """
    @notice What can veto the price of `asset`; all zero when nothing can.
    """
    return self._second_source(asset)


@external
@view
def second_price(asset: address) -> (bool, uint256):
    """
    @notice What the second source of `asset` says now. For people who watch; nothing is priced by it.
    @return readable False when there is no second source, or its pool or its quote's feed cannot be read
    @return price USD per whole token, 18 decimals, capped far above any price of a feed
    """
    return self._second_price(self._second_source(asset))


# Changes: the owner announces, the delay passes, the owner makes it


@external
def queue(data: Bytes[changes.MAX_DATA]) -> bytes32:
    """
    @notice Announce a change.
    @param data Calldata of `set_feed`, `set_second_source` or `set_guardian`
    @return Its id, keccak256(abi_encode(this contract, data))
    """
    ownable._check_owner()
    assert self._selector(data) in [
        method_id("set_feed(address,address,uint256,uint256,uint256)", output_type=bytes4),
        method_id("set_second_source(address,address,address,uint256,uint256)", output_type=bytes4),
        method_id("set_guardian(address)", output_type=bytes4),
    ], "not a change"
    return changes._queue(self, data, delay_seconds)


@external
def execute(data: Bytes[changes.MAX_DATA]):
    """
    @notice Make a change whose delay has passed, within 14 days.
    """
    ownable._check_owner()
    changes._take(self, data)
    raw_call(self, data)


@external
def cancel(data: Bytes[changes.MAX_DATA]):
    """
    @notice Drop a queued change: the owner any, the guardian any but a change of guardian, or it could never go.
    """
    if msg.sender != ownable.owner:
        assert msg.sender == self.guardian, "not owner or guardian"
        assert self._selector(data) != method_id("set_guardian(address)", output_type=bytes4), "own removal"
    changes._cancel(self, data)


@external
def set_feed(asset: address, feed: address, heartbeat_seconds: uint256, min_price: uint256, max_price: uint256):
    """
    @notice Price `asset` by `feed`; a zero `feed` removes it and its second source. The owner sets an asset's first
            feed at once; every later one goes through the queue.
    @param heartbeat_seconds Age above which an answer is stale: the feed's own heartbeat and a margin
    @param min_price Lowest believable price, WAD. Of both bounds 8 digits are kept; more are rounded so that less is
           believed.
    @param max_price Highest believable price, WAD
    """
    config: uint256 = self.packed_feeds[asset]
    if msg.sender != self:
        ownable._check_owner()
        assert config == 0, "not queued"
    assert asset != empty(address), "zero asset"
    flags: uint256 = config & HAS_SECOND
    decimals: uint256 = 0
    least: uint256 = 0
    greatest: uint256 = 0
    if feed == empty(address):
        assert heartbeat_seconds == 0 and min_price == 0 and max_price == 0, "no feed to set"
        assert config & ADDRESS != 0, "no feed to remove"
        if flags != 0:
            self._set_second_source(asset, empty(SecondSource))
        flags = HAD_FEED
    else:
        assert feed.is_contract, "feed has no code"
        assert heartbeat_seconds > 0 and heartbeat_seconds <= MAX_HEARTBEAT, "bad heartbeat"
        assert min_price > 0 and min_price <= max_price and max_price <= MAX_PRICE, "bad bounds"
        least = self._pack_bound(min_price, 9)  # up
        greatest = self._pack_bound(max_price, 0)  # down
        assert self._bound(least) <= self._bound(greatest), "bad bounds"
        decimals = convert(staticcall IAggregatorV3(feed).decimals(), uint256)
        assert decimals <= PRICE_DECIMALS, "feed decimals > 18"
    self.packed_feeds[asset] = (
        convert(feed, uint256)
        | (decimals << DECIMALS_AT)
        | (heartbeat_seconds << HEARTBEAT_AT)
        | (least << MIN_PRICE_AT)
        | (greatest << MAX_PRICE_AT)
        | flags
    )
    log FeedSet(
        asset=asset,
        feed=feed,
        decimals=decimals,
        heartbeat_seconds=heartbeat_seconds,
        min_price=self._bound(least),
        max_price=self._bound(greatest),
    )


@external
def set_second_source(
    asset: address, pool: address, quote: address, window_seconds: uint256, max_deviation_bps: uint256
):
    """
    @notice Let `pool` veto the price of `asset`; a zero `pool` ends that. Through the queue only.
    @param pool A Uniswap V3 pool of `asset` and `quote` that remembers at least the window
    @param quote A token that has a feed here
    @param window_seconds 5 minutes to a day: what the pool's price is the mean of
    @param max_deviation_bps Farthest that the pool's price may be from the feed's, in parts of the feed's
    """
    assert msg.sender == self, "not queued"
    if pool == empty(address):
        assert quote == empty(address) and window_seconds == 0 and max_deviation_bps == 0, "no pool to set"
        assert self.packed_feeds[asset] & HAS_SECOND != 0, "no pool to remove"
        self._set_second_source(asset, empty(SecondSource))
        return

    assert self.packed_feeds[asset] & ADDRESS != 0, "asset has no feed"
    assert pool.is_contract, "pool has no code"
    assert window_seconds >= MIN_WINDOW and window_seconds <= MAX_WINDOW, "bad window"
    assert max_deviation_bps > 0 and max_deviation_bps <= MAX_DEVIATION_BPS, "bad deviation"
    token0: address = staticcall UniswapV3Pool(pool).token0()
    token1: address = staticcall UniswapV3Pool(pool).token1()
    assert (token0 == asset and token1 == quote) or (token0 == quote and token1 == asset), "not a pool of these tokens"
    second: SecondSource = SecondSource(
        pool=pool,
        quote=quote,
        window_seconds=window_seconds,
        max_deviation_bps=max_deviation_bps,
        asset_decimals=convert(staticcall IERC20Detailed(asset).decimals(), uint256),
        quote_decimals=convert(staticcall IERC20Detailed(quote).decimals(), uint256),
        asset_is_token0=token0 == asset,
    )
    for decimals: uint256 in [second.asset_decimals, second.quote_decimals]:
        assert decimals >= MIN_DECIMALS and decimals <= MAX_DECIMALS, "bad decimals"
    assert self._second_price(second)[0], "pool not readable"
    self._set_second_source(asset, second)


@external
def set_guardian(account: address):
    """
    @notice Through the queue only; zero for nobody.
    """
    assert msg.sender == self, "not queued"
    self._set_guardian(account)


# Internal


@internal
def _set_guardian(account: address):
    self.guardian = account
    log GuardianSet(guardian=account)


@internal
def _set_second_source(asset: address, second: SecondSource):
    """
    @dev All zero: none.
    """
    config: uint256 = self.packed_feeds[asset] & ~HAS_SECOND
    if second.pool != empty(address):
        config |= HAS_SECOND
    self.packed_feeds[asset] = config
    self.packed_second_sources[asset] = [
        convert(second.pool, uint256)
        | (second.window_seconds << WINDOW_AT)
        | (second.max_deviation_bps << DEVIATION_AT)
        | (second.asset_decimals << ASSET_DECIMALS_AT)
        | (second.quote_decimals << QUOTE_DECIMALS_AT)
        | (convert(second.asset_is_token0, uint256) << TOKEN0_AT),
        convert(second.quote, uint256),
    ]
    log SecondSourceSet(
        asset=asset,
        pool=second.pool,
        quote=second.quote,
        window_seconds=second.window_seconds,
        max_deviation_bps=second.max_deviation_bps,
    )


@internal
@pure
def _selector(data: Bytes[changes.MAX_DATA]) -> bytes4:
    assert len(data) >= 4, "not a change"
    return convert(slice(data, 0, 4), bytes4)


@internal
@pure
def _pack_bound(price: uint256, rounding: uint256) -> uint256:
    """
    @param rounding 9 to round up, 0 to round down: to 8 digits or, while they are few enough, 9
    """
    digits: uint256 = price
    exponent: uint256 = 0
    for _: uint256 in range(31):  # as many digits are dropped of MAX_PRICE
        if digits <= DIGITS:
            break
        digits = (digits + rounding) // 10
        exponent += 1
    return digits | (exponent << EXPONENT_AT)


@internal
@pure
def _bound(packed: uint256) -> uint256:
    """
    @param packed Its lowest 33 bits
    """
    bound: uint256 = packed & BOUND
    return (bound & DIGITS) * 10 ** (bound >> EXPONENT_AT)


@internal
@view
def _second_source(asset: address) -> SecondSource:
    packed: uint256[2] = self.packed_second_sources[asset]
    return SecondSource(
        pool=convert(packed[0] & ADDRESS, address),
        quote=convert(packed[1], address),
        window_seconds=(packed[0] >> WINDOW_AT) & (2**32 - 1),
        max_deviation_bps=(packed[0] >> DEVIATION_AT) & (2**16 - 1),
        asset_decimals=(packed[0] >> ASSET_DECIMALS_AT) & 255,
        quote_decimals=(packed[0] >> QUOTE_DECIMALS_AT) & 255,
        asset_is_token0=(packed[0] >> TOKEN0_AT) == 1,
    )


@internal
@view
def _checked_price(asset: address, price: uint256) -> (uint256, uint256):
    """
    @dev The feed's price, unless the second source vetoes it. Compared without division: nothing is rounded.
    """
    second: SecondSource = self._second_source(asset)
    readable: bool = False
    second_price: uint256 = 0
    readable, second_price = self._second_price(second)
    if not readable:
        return 0, NO_SECOND_SOURCE
    deviation: uint256 = max(price, second_price) - min(price, second_price)
    if deviation * MAX_BPS > price * second.max_deviation_bps:
        return 0, DEVIATES
    return price, OK


@internal
@view
def _feed_price(config: uint256) -> (uint256, uint256):
    """
    @dev What the feed in a word of `packed_feeds` answers.
    """
    if config & ADDRESS == 0:
        return 0, NO_FEED

    success: bool = False
    response: Bytes[ROUND_SIZE] = b""
    success, response = raw_call(
        convert(config & ADDRESS, address),
        method_id("latestRoundData()"),
        max_outsize=ROUND_SIZE,
        gas=FEED_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    if not success or len(response) < ROUND_SIZE:
        return 0, CALL_FAILED

    # Read as whole, unsigned words: a narrower type would revert on a feed that returns more bits, and a negative
    # answer is a huge one.
    round_id: uint256 = 0
    answer: uint256 = 0
    started_at: uint256 = 0
    updated_at: uint256 = 0
    answered_in_round: uint256 = 0
    round_id, answer, started_at, updated_at, answered_in_round = abi_decode(
        response, (uint256, uint256, uint256, uint256, uint256)
    )

    if answer > MAX_PRICE:  # 0 is below all bounds
        return 0, BAD_ANSWER
    price: uint256 = answer * 10 ** (PRICE_DECIMALS - ((config >> DECIMALS_AT) & DECIMALS))
    if price < self._bound(config >> MIN_PRICE_AT) or price > self._bound(config >> MAX_PRICE_AT):
        return 0, BAD_ANSWER
    if updated_at == 0 or updated_at > block.timestamp or answered_in_round < round_id:
        return 0, BAD_ROUND
    if block.timestamp - updated_at > (config >> HEARTBEAT_AT) & HEARTBEAT:
        return 0, STALE
    return price, OK


@internal
@view
def _sequencer_is_up() -> bool:
    """
    @dev The uptime feed answers 0 for up, 1 for down, since `started_at`; 0 there means that it has not begun.
         It is updated when that changes, so it has no heartbeat.
    """
    success: bool = False
    response: Bytes[ROUND_SIZE] = b""
    success, response = raw_call(
        sequencer_feed,
        method_id("latestRoundData()"),
        max_outsize=ROUND_SIZE,
        gas=FEED_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    if not success or len(response) < ROUND_SIZE:
        return False
    round_id: uint256 = 0
    answer: uint256 = 0
    started_at: uint256 = 0
    round_id, answer, started_at = abi_decode(slice(response, 0, 96), (uint256, uint256, uint256))
    if answer != 0 or started_at == 0 or started_at > block.timestamp:
        return False
    return block.timestamp - started_at > grace_seconds


@internal
@view
def _second_price(second: SecondSource) -> (bool, uint256):
    """
    @dev The mean tick over the window, as a price, times the quote's own price:
         USD/asset = USD/quote * 1.0001**tick * 10**asset_decimals / 10**quote_decimals, rounded down, and 2**-46 of
         it below the exact figure at most. A mean tick is whole: that loses up to 1 bp more. Only compared.
    """
    if second.pool == empty(address):
        return False, 0
    quote_price: uint256 = 0
    status: uint256 = 0
    quote_price, status = self._feed_price(self.packed_feeds[second.quote])
    if status != OK:
        return False, 0
    readable: bool = False
    tick: int256 = 0
    readable, tick = self._mean_tick(second.pool, second.window_seconds)
    if not readable:
        return False, 0

    mantissa: uint256 = 0
    exponent: int256 = 0
    mantissa, exponent = self._power(tick if second.asset_is_token0 else -tick)
    # Below 2**128 * 10**24 * 2**48 < 2**256.
    scaled: uint256 = quote_price * 10**second.asset_decimals * (mantissa >> CUT)
    places: int256 = exponent - 127 + convert(CUT, int256)
    if places < 0:
        scaled = scaled >> convert(-places, uint256)  # down
    elif scaled > max_value(uint256) >> convert(places, uint256):
        return True, MAX_SECOND_PRICE  # the price is at least 2**256 / 10**24 > 2**176
    else:
        scaled = scaled << convert(places, uint256)
    return True, min(scaled // 10**second.quote_decimals, MAX_SECOND_PRICE)  # down


@internal
@view
def _mean_tick(pool: address, window_seconds: uint256) -> (bool, int256):
    """
    @dev The mean over the window up to now, rounded down (towards minus infinity), as Uniswap's own library does.
    @return False when the pool does not tell, or tells what cannot be
    @return The mean tick
    """
    ago: DynArray[uint256, 2] = [window_seconds, 0]
    success: bool = False
    response: Bytes[OBSERVE_SIZE] = b""
    success, response = raw_call(
        pool,
        abi_encode(ago, method_id=method_id("observe(uint32[])")),
        max_outsize=OBSERVE_SIZE,
        gas=POOL_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    if not success or len(response) < OBSERVE_SIZE:
        return False, 0
    # Words are read where a pool puts them: two arrays of two, of which only the first matters.
    if extract32(response, 0, output_type=uint256) != FIRST_ARRAY:
        return False, 0
    if extract32(response, 64, output_type=uint256) != 2:
        return False, 0
    then: int256 = extract32(response, 96, output_type=int256)
    now: int256 = extract32(response, 128, output_type=int256)
    for cumulative: int256 in [then, now]:
        if cumulative < -MAX_CUMULATIVE or cumulative >= MAX_CUMULATIVE:
            return False, 0
    window: int256 = convert(window_seconds, int256)
    above_least: int256 = now - then + MAX_TICK * window  # so that the division is of what is not negative
    if above_least < 0 or above_least > 2 * MAX_TICK * window:
        return False, 0
    return True, above_least // window - MAX_TICK  # down


@internal
@pure
def _power(tick: int256) -> (uint256, int256):
    """
    @dev 1.0001**tick by repeated squaring; |tick| <= MAX_TICK. Each product is rounded down; some 20 of them, doubled
         at each squaring, leave a relative error below 2**-100.
    @return mantissa m in [2**127, 2**128)
    @return exponent e: the power is m * 2**(e - 127)
    """
    base: uint256 = TICK_UP
    base_exponent: int256 = 0
    if tick < 0:
        base = TICK_DOWN
        base_exponent = -1
    mantissa: uint256 = ONE
    exponent: int256 = 0
    bits: uint256 = convert(abs(tick), uint256)
    for _: uint256 in range(20):
        if bits == 0:
            break
        if bits & 1 == 1:
            mantissa, exponent = self._product(mantissa, exponent, base, base_exponent)
        base, base_exponent = self._product(base, base_exponent, base, base_exponent)
        bits = bits >> 1
    return mantissa, exponent


@internal
@pure
def _product(a: uint256, a_exponent: int256, b: uint256, b_exponent: int256) -> (uint256, int256):
    """
    @dev Rounded down.
    """
    product: uint256 = (a * b) >> 127  # in [2**127, 2**129)
    exponent: int256 = a_exponent + b_exponent
    if product >> 128 == 0:
        return product, exponent
    return product >> 1, exponent + 1
