"""The Executor's payload: packed legs, big endian (docs/spec.md, "Executor")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from offchain.errors import PayloadError
from offchain.planner.pools import V2Pool, same, zero_for_one

if TYPE_CHECKING:  # the router needs a compiler, the payload does not
    from offchain.planner.route import Route

MAX_PAYLOAD = 8_192  # bytes, the executor's bound
CALL, SWAP_V2, SWAP_V3, SWEEP = 0, 1, 2, 3
ZERO_FOR_ONE, TO_CALLER, WHOLE_BALANCE = 1, 2, 4  # flags


@dataclass(frozen=True, slots=True)
class Call:
    """Any call by the executor."""

    target: str
    data: bytes


@dataclass(frozen=True, slots=True)
class SwapV2:
    """Sell `token_in` to a V2 pair; reverts when it pays less than min_out / amount_in a unit."""

    pool: str
    token_in: str
    amount_in: int  # token units
    min_out: int  # token units
    fee_bps: int
    zero_for_one: bool  # token_in is token0
    to_caller: bool = False  # else to the executor
    whole_balance: bool = False  # sell all that the executor holds


@dataclass(frozen=True, slots=True)
class SwapV3:
    """Sell `token_in` to a V3 pool; fields as in SwapV2, the pool knows its fee."""

    pool: str
    token_in: str
    amount_in: int
    min_out: int
    zero_for_one: bool
    to_caller: bool = False
    whole_balance: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """The executor's whole balance of `token` goes to the caller."""

    token: str


Leg = Call | SwapV2 | SwapV3 | Sweep


def encode(legs: tuple[Leg, ...] | list[Leg]) -> bytes:
    """The payload that makes the executor run these legs in order."""
    packed = b"".join(_encode_leg(leg) for leg in legs)
    if len(packed) > MAX_PAYLOAD:
        raise PayloadError(f"payload of {len(packed)} bytes is above the executor's {MAX_PAYLOAD}")
    return packed


def from_route(
    route: Route, tolerance_bps: int, *, to_caller: bool = True, whole: bool = True
) -> tuple[SwapV2 | SwapV3, ...]:
    """The route as legs, in its order: the executor must hold `route.amount_in` of token_in, which may be split.

    Each leg reverts when it pays a unit less than its prediction less the tolerance. `whole`: the last leg that sells
    an intermediate token sells all that the executor holds of it, so that nothing stays behind; leave it off where
    other legs need that token too. `to_caller`: what the route pays goes to the caller, else it stays for later legs.
    """
    if not 0 <= tolerance_bps <= 10_000:
        raise PayloadError(f"tolerance_bps: {tolerance_bps} is not between 0 and 10000")
    sold = [leg.token_in.lower() for leg in route.legs]
    paid = {leg.token_out.lower() for leg in route.legs}
    legs: list[SwapV2 | SwapV3] = []
    for place, leg in enumerate(route.legs):
        token = leg.token_in.lower()
        min_out = leg.amount_out * (10_000 - tolerance_bps) // 10_000
        last = whole and token in paid and token not in sold[place + 1 :]
        out = to_caller and not any(same(leg.token_out, other.token_in) for other in route.legs)
        swap = (leg.pool.address, leg.token_in, leg.amount_in, min_out)
        down = zero_for_one(leg.pool, leg.token_in)
        if isinstance(leg.pool, V2Pool):
            legs.append(SwapV2(*swap, leg.pool.fee_bps, down, out, last))
        else:
            legs.append(SwapV3(*swap, down, out, last))
    return tuple(legs)


def decode(payload: bytes) -> tuple[Leg, ...]:
    """The legs of a payload; PayloadError when it is malformed."""
    reader = _Reader(payload)
    legs: list[Leg] = []
    while not reader.done:
        legs.append(_decode_leg(reader))
    return tuple(legs)


def _encode_leg(leg: Leg) -> bytes:
    if isinstance(leg, Call):
        return bytes([CALL]) + _address(leg.target) + _uint(len(leg.data), 2) + leg.data
    if isinstance(leg, Sweep):
        return bytes([SWEEP]) + _address(leg.token)
    flags = ZERO_FOR_ONE * leg.zero_for_one | TO_CALLER * leg.to_caller | WHOLE_BALANCE * leg.whole_balance
    swap = (
        bytes([flags])
        + _address(leg.pool)
        + _address(leg.token_in)
        + _uint(leg.amount_in, 16)
        + _uint(leg.min_out, 16)
    )
    if isinstance(leg, SwapV2):
        return bytes([SWAP_V2]) + swap + _uint(leg.fee_bps, 2)
    return bytes([SWAP_V3]) + swap


def _decode_leg(reader: _Reader) -> Leg:
    kind = reader.uint(1)
    if kind == CALL:
        target = reader.address()
        return Call(target, reader.take(reader.uint(2)))
    if kind == SWEEP:
        return Sweep(reader.address())
    if kind not in (SWAP_V2, SWAP_V3):
        raise PayloadError(f"payload: leg kind {kind} is not known")
    flags = reader.uint(1)
    if flags > ZERO_FOR_ONE | TO_CALLER | WHOLE_BALANCE:
        raise PayloadError(f"payload: flags {flags} are not known")
    pool, token_in, amount_in, min_out = (
        reader.address(),
        reader.address(),
        reader.uint(16),
        reader.uint(16),
    )
    on = (
        bool(flags & ZERO_FOR_ONE),
        bool(flags & TO_CALLER),
        bool(flags & WHOLE_BALANCE),
    )
    if kind == SWAP_V2:
        return SwapV2(pool, token_in, amount_in, min_out, reader.uint(2), *on)
    return SwapV3(pool, token_in, amount_in, min_out, *on)


def _address(address: str) -> bytes:
    try:
        raw = bytes.fromhex(address.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise PayloadError(f"{address!r} is not an address")
    return raw


def _uint(number: int, size: int) -> bytes:
    if not 0 <= number < 1 << (8 * size):
        raise PayloadError(f"{number} does not fit {size} bytes")
    return number.to_bytes(size, "big")


class _Reader:
    """Takes fields off the front of a payload."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._payload)

    def take(self, size: int) -> bytes:
        piece = self._payload[self._at : self._at + size]
        if len(piece) < size:
            raise PayloadError(f"payload ends inside a leg, at byte {self._at}")
        self._at += size
        return piece

    def uint(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def address(self) -> str:
        return "0x" + self.take(20).hex()
