"""What a keeper's process needs, imported once; each keeper is a fork of the process that imported this."""

from __future__ import annotations

from offchain.planner import plan
from tests.faults import keeper as keeper
from tests.support.market import random_problem

for number in range(2, 5):  # the first ones load the solver
    plan(random_problem(number))
