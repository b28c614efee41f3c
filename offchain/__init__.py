"""Evenkeel off chain: policy, planner, chain access, keeper, audit, demo and command line."""

__version__ = "0.1.0"

__all__ = ["__version__"]
