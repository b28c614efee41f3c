"""From a vault's state and pool snapshots to the trades that its rules accept."""

from offchain.planner.payload import Call, Leg, SwapV2, SwapV3, Sweep, decode, encode
from offchain.planner.plan import plan
from offchain.planner.pools import Pool, V2Pool, V3Pool
from offchain.planner.problem import Certificate, Costs, Plan, PlannedLeg, Problem
from offchain.planner.single_pool import single_pool_plan

__all__ = [
    "Call",
    "Certificate",
    "Costs",
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
    "single_pool_plan",
]
