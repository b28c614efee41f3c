"""Shared by all tests. `tests/brownie` runs under brownie, everything else with `pytest -p no:pytest-brownie`."""
