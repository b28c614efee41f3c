# pragma version 0.4.3
# @license MIT
"""
@title RoundsFeed
@notice A Chainlink aggregator whose rounds anyone can add, and a proxy of such aggregators by phase. For tests only.
"""

from interfaces import IAggregatorV3

implements: IAggregatorV3


interface Aggregator:
    def latestRound() -> uint256: view
    def getRoundData(round: uint80) -> (uint80, int256, uint256, uint256, uint80): view


struct Round:
    answer: int256
    updated_at: uint256


decimals: public(immutable(uint8))
description: public(String[64])
rounds: DynArray[Round, 10000]
phases: DynArray[address, 16]  # of a proxy, from phase 1 on
hides_phases: bool


@deploy
def __init__(decimals_: uint8):
    decimals = decimals_


@external
def add_rounds(answers: DynArray[int256, 250], updated_at: DynArray[uint256, 250]):
    """
    @param updated_at 0: a round that was never answered
    """
    for i: uint256 in range(len(answers), bound=250):
        self.rounds.append(Round(answer=answers[i], updated_at=updated_at[i]))


@external
def add_phase(aggregator: address):
    self.phases.append(aggregator)


@external
def hide_phases():
    """
    @notice `phaseAggregators` reverts from now on.
    """
    self.hides_phases = True


@external
@view
def phaseAggregators(phase: uint16) -> address:
    assert not self.hides_phases, "hidden"
    if phase == 0 or convert(phase, uint256) > len(self.phases):
        return empty(address)
    return self.phases[phase - 1]


@external
@view
def latestRound() -> uint256:
    return len(self.rounds)


@external
@view
def latestRoundData() -> (uint80, int256, uint256, uint256, uint80):
    phase: uint256 = len(self.phases)
    if phase == 0:
        return self._round(convert(len(self.rounds), uint80))
    last: uint256 = staticcall Aggregator(self.phases[phase - 1]).latestRound()
    return self._round_of_phase(phase, convert(last, uint80))


@external
@view
def getRoundData(round: uint80) -> (uint80, int256, uint256, uint256, uint80):
    if len(self.phases) == 0:
        return self._round(round)
    id: uint256 = convert(round, uint256)
    return self._round_of_phase(id >> 64, convert(id & (2**64 - 1), uint80))


@internal
@view
def _round_of_phase(phase: uint256, round: uint80) -> (uint80, int256, uint256, uint256, uint80):
    assert phase > 0 and phase <= len(self.phases), "No data present"
    id: uint80 = 0
    answer: int256 = 0
    started: uint256 = 0
    updated: uint256 = 0
    carried: uint80 = 0
    id, answer, started, updated, carried = staticcall Aggregator(self.phases[phase - 1]).getRoundData(round)
    id = convert((phase << 64) | convert(id, uint256), uint80)
    return id, answer, started, updated, id


@internal
@view
def _round(round: uint80) -> (uint80, int256, uint256, uint256, uint80):
    assert round > 0 and convert(round, uint256) <= len(self.rounds), "No data present"
    found: Round = self.rounds[convert(round, uint256) - 1]
    return round, found.answer, found.updated_at, found.updated_at, round
