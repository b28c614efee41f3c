# pragma version 0.4.3
# @license MIT
"""
@title ScriptedTeller
@notice Remembers what the Timelock sets in a teller, and lets anyone use its right to the vault; for tests only.
"""

from interfaces import ITeller

implements: ITeller


creator: public(address)
vault: public(address)
asset: public(address)
floor_bps: public(uint256)
surcharge_bps: public(uint256)
burn_seconds: public(uint256)


@external
def initialize(vault: address, asset: address, floor_bps: uint256, surcharge_bps: uint256, burn_seconds: uint256):
    assert self.creator == empty(address), "already initialized"
    self.creator = msg.sender
    self.vault = vault
    self.asset = asset
    self.floor_bps = floor_bps
    self.surcharge_bps = surcharge_bps
    self.burn_seconds = burn_seconds


@external
def set_fees(floor_bps: uint256, surcharge_bps: uint256):
    assert msg.sender == self.creator, "not timelock"
    self.floor_bps = floor_bps
    self.surcharge_bps = surcharge_bps


@external
def forward(data: Bytes[4096]):
    """
    @notice Call the vault as its teller.
    """
    raw_call(self.vault, data)
