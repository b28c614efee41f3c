"""From a vault's state and pool snapshots to the trades that its rules accept."""

from offchain.planner.payload import Call, Leg, SwapV2, SwapV3, Sweep, decode, encode
from offchain.planner.plan import Plan, PlannedLeg, Problem, plan
from offchain.planner.pools import Pool, V2Pool, V3Pool

__all__ = [
    "Call",
    "Leg",
    "Plan",
    "PlannedLeg",
    "Pool",
    "Problem",
    "SwapV2",
    "SwapV3",
    "Sweep",
    "V2Pool",
    "V3Pool",
    "decode",
    "encode",
    "plan",
]
