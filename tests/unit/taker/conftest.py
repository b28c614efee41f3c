"""The auction's stage, with a session whose price has fallen all the way."""

from tests.unit.auction.conftest import _stage, isolation, open_stage, stage

__all__ = ["_stage", "isolation", "open_stage", "stage"]
