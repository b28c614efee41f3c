# pragma version 0.4.3
"""
@title The basket: assets in one storage word each, their weights and drifts
@license MIT
@notice Pure. Units and rounding in docs/spec.md. `aside` is the index of the asset in quarantine, or NO_ASSET: it counts
        for nothing, and the other targets grow in proportion.
"""
from interfaces import IVault

WAD: constant(uint256) = 10**18
BPS: constant(uint256) = 10**14  # one basis point as a WAD
MAX_BPS: constant(uint256) = 10**4  # 100 %
MAX_DECIMALS: constant(uint256) = 24
MAX_ERROR_BPS: constant(uint256) = 255
MIN_BAND: constant(uint256) = 25 * BPS
MASK: constant(uint256) = 2**14 - 1  # a field of basis points
NO_ASSET: constant(uint256) = 16

# token 160 | decimals 8 | target 14 | points 14 | relative 14 | min 14 | max 14 | error 8
# In the vault's storage the first word holds the number of assets as well.
DECIMALS: constant(uint256) = 160
TARGET: constant(uint256) = 168
POINTS: constant(uint256) = 182
RELATIVE: constant(uint256) = 196
MINIMUM: constant(uint256) = 210
MAXIMUM: constant(uint256) = 224
ERROR: constant(uint256) = 238
COUNT: constant(uint256) = 246
WORD: constant(uint256) = 2**246 - 1


@internal
@pure
def _check(asset: IVault.Asset):
    assert asset.decimals <= MAX_DECIMALS, "too many decimals"
    assert asset.target_bps >= asset.min_target_bps and asset.target_bps <= asset.max_target_bps, "target outside limits"
    assert asset.max_target_bps <= MAX_BPS, "limit above 100%"
    assert asset.band_points_bps <= MAX_BPS and asset.band_relative_bps <= MAX_BPS, "band above 100%"
    assert asset.price_error_bps <= MAX_ERROR_BPS, "price error too large"


@internal
@pure
def _pack(asset: IVault.Asset) -> uint256:
    self._check(asset)
    return (
        convert(asset.token, uint256)
        | (asset.decimals << DECIMALS)
        | (asset.target_bps << TARGET)
        | (asset.band_points_bps << POINTS)
        | (asset.band_relative_bps << RELATIVE)
        | (asset.min_target_bps << MINIMUM)
        | (asset.max_target_bps << MAXIMUM)
        | (asset.price_error_bps << ERROR)
    )


@internal
@pure
def _unpack(word: uint256) -> IVault.Asset:
    return IVault.Asset(
        token=self._token(word),
        decimals=(word >> DECIMALS) & 255,
        target_bps=(word >> TARGET) & MASK,
        band_points_bps=(word >> POINTS) & MASK,
        band_relative_bps=(word >> RELATIVE) & MASK,
        min_target_bps=(word >> MINIMUM) & MASK,
        max_target_bps=(word >> MAXIMUM) & MASK,
        price_error_bps=word >> ERROR,
    )


@internal
@pure
def _with(word: uint256, offset: uint256, bps: uint256) -> uint256:
    """
    @return The word with the field at `offset` set to `bps`.
    """
    assert bps <= MAX_BPS, "above 100%"
    return (word & ~(MASK << offset)) | (bps << offset)


@internal
@pure
def _token(word: uint256) -> address:
    return convert(word & (2**160 - 1), address)


@internal
@pure
def _scale(word: uint256) -> uint256:
    return 10 ** ((word >> DECIMALS) & 255)


@internal
@pure
def _value(word: uint256, price: uint256, balance: uint256) -> uint256:
    return balance * price // self._scale(word)  # down


@internal
@pure
def _target(word: uint256) -> uint256:
    return ((word >> TARGET) & MASK) * BPS


@internal
@pure
def _whole(words: DynArray[uint256, 16], aside: uint256) -> uint256:
    """
    @return WAD less the target of the asset in quarantine: what the other targets sum to.
    """
    return WAD - self._target(words[aside]) if aside < len(words) else WAD


@internal
@pure
def _share(word: uint256, whole: uint256, is_aside: bool) -> uint256:
    """
    @return The target as a share of `whole`, rounded down: at most WAD together.
    """
    if is_aside:
        return 0
    return self._target(word) if whole == WAD else self._target(word) * WAD // whole


@internal
@pure
def _band(word: uint256, target: uint256) -> uint256:
    """
    @return WAD, rounded down: trades start, and sessions close, sooner.
    """
    points: uint256 = ((word >> POINTS) & MASK) * BPS
    relative: uint256 = ((word >> RELATIVE) & MASK) * target // MAX_BPS
    return max(MIN_BAND, min(points, relative))


@internal
@pure
def _tolerance(band: uint256, tolerance_bps: uint256) -> uint256:
    return min(tolerance_bps * BPS, band // 4)


@internal
@pure
def _price_error(word: uint256) -> uint256:
    return word >> ERROR


@internal
@pure
def _excess(word: uint256, price: uint256, nav: uint256, held: uint256, target: uint256) -> uint256:
    """
    @return Amount of an overweight asset above its target, rounded down; 0 when it is not overweight.
    """
    wanted: uint256 = (nav * target + WAD - 1) // WAD  # up: sell less
    if held <= wanted:
        return 0
    return (held - wanted) * self._scale(word) // price  # down: sell less


@internal
@pure
def _drift(weight: uint256, target: uint256) -> uint256:
    return weight - target if weight > target else target - weight
