"""Shared by all tests. `tests/unit` runs under brownie, everything else with `pytest -p no:pytest-brownie`."""
