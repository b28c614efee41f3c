"""From a vault and pools to the trades."""

from offchain.planner.problem import Plan, PlannedLeg, Problem
from offchain.planner.single_pool import single_pool_plan as plan

__all__ = ["Plan", "PlannedLeg", "Problem", "plan"]
